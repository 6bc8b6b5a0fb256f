"""The status of a database: its schema, its memories, and the last run of each job."""

from dataclasses import dataclass
from pathlib import Path

from memctl.errors import SchemaError
from memctl.storage.migrations import step_name
from memctl.storage.rows import DatabaseSize
from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.database import Connection, count_rows, table_exists
from memctl.storage.sqlite.features import FeatureStatus, read_features
from memctl.storage.sqlite.run_summaries import JobStatus, newest_runs
from memctl.storage.sqlite.space import database_size


@dataclass(frozen=True)
class Status:
    """The result of `memctl status`."""

    database: DatabaseSize
    schema_step: int
    pending: list[str]
    problem: str | None
    memories: int | None
    archived: int | None
    features: list[FeatureStatus]
    jobs: list[JobStatus]


def read_status(db: Connection, path: Path) -> Status:
    """Return the status of a database, which need not be migrated; reads only."""
    present = migrations.applied(db)
    pending, problem = [], None
    try:
        pending = [*map(step_name, migrations.pending(db))]
        if present and not pending:
            migrations.require_current(db)
    except SchemaError as error:
        problem = str(error)
    return Status(
        database=database_size(db, path),
        schema_step=migrations.schema_step(db),
        pending=pending,
        problem=problem,
        memories=count_rows(db, "agent_memory"),
        archived=count_rows(db, "archived_memories"),
        features=read_features(db) if table_exists(db, "memory_state") else [],
        jobs=newest_runs(db) if table_exists(db, "memory_runs") else [],
    )
