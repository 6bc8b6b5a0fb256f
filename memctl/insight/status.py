"""What a database is: its schema, its memories, and how each job last went."""

from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection

from memctl.errors import SchemaError
from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.database import count_rows, table_exists
from memctl.storage.sqlite.features import FeatureStatus, read_features

NEWEST_RUN_OF_EACH_JOB = """
    SELECT job, max(run_id) AS run_id, started_at, status, duration_ms, error
    FROM memory_runs
    GROUP BY job
    ORDER BY job
"""


@dataclass(frozen=True)
class JobStatus:
    """The newest run of one job."""

    job: str
    run_id: int
    started_at: str
    status: str
    duration_ms: int | None
    error: str | None


@dataclass(frozen=True)
class Status:
    """The answer to `memctl status`."""

    database: str
    size_bytes: int
    version: int
    pending: list[str]
    problem: str | None
    memories: int | None
    archived: int | None
    features: list[FeatureStatus]
    jobs: list[JobStatus]


def read_status(db: Connection, path: Path) -> Status:
    """Describe a database, migrated or not; reads only."""
    present = migrations.applied(db)
    pending, problem = [], None
    try:
        pending = [f"{step.version:03}_{step.name}" for step in migrations.pending(db)]
        if present and not pending:
            migrations.require_current(db)
    except SchemaError as error:
        problem = str(error)
    jobs = []
    if table_exists(db, "memory_runs"):
        jobs = [JobStatus(*row) for row in db.execute(NEWEST_RUN_OF_EACH_JOB)]
    return Status(
        database=str(path),
        size_bytes=path.stat().st_size,
        version=present[-1].version if present else 0,
        pending=pending,
        problem=problem,
        memories=count_rows(db, "agent_memory"),
        archived=count_rows(db, "archived_memories"),
        features=read_features(db) if table_exists(db, "memory_state") else [],
        jobs=jobs,
    )
