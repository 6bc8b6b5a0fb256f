"""Reading the status of a database on a server."""

from datetime import datetime

from memctl.errors import SchemaError
from memctl.storage.migrations import step_name
from memctl.storage.postgresql import migrations
from memctl.storage.postgresql.database import Database
from memctl.storage.postgresql.lease import present_holder
from memctl.storage.postgresql.ledger import STATUS
from memctl.storage.postgresql.migrations import table_exists
from memctl.storage.postgresql.state import current_pause
from memctl.storage.postgresql.times import our_text
from memctl.storage.rows import DatabaseSize
from memctl.storage.status import JobStatus, RunningProcess, ServerStatus

NEWEST_RUNS = f"""
    SELECT job, run_id, {our_text("started_at")}, {STATUS}, duration_ms, error
    FROM memory_runs
    WHERE run_id IN (SELECT max(run_id) FROM memory_runs GROUP BY job)
    ORDER BY job
"""


def read_status(db: Database, size: DatabaseSize, *, now: datetime) -> ServerStatus:
    """Return the status of a database, which need not be migrated; reads only."""
    with db.one_view():
        pending, problem = [], None
        try:
            pending = [*map(step_name, migrations.pending(db))]
            migrations.require_utf8(db)
            if not pending:
                migrations.require_columns(db)
        except SchemaError as error:
            problem = str(error)
        holder = present_holder(db) if table_exists(db, "memory_leases") else None
        return ServerStatus(
            database=size,
            schema_step=migrations.schema_step(db),
            pending=pending,
            problem=problem,
            memories=_count_rows(db, "agent_memory"),
            archived=_count_rows(db, "archived_memories"),
            features=[],
            jobs=_newest_runs(db) if table_exists(db, "memory_runs") else [],
            paused=current_pause(db, now=now) if table_exists(db, "memory_state") else None,
            running=holder and RunningProcess(holder.job, holder.host, holder.pid),
        )


def _count_rows(db: Database, table: str) -> int | None:
    return int(db.value(f"SELECT count(*) FROM {table}")) if table_exists(db, table) else None


def _newest_runs(db: Database) -> list[JobStatus]:
    return [JobStatus(*row) for row in db.rows(NEWEST_RUNS)]
