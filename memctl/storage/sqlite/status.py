"""Reading the status of a SQLite database."""

from datetime import datetime
from pathlib import Path

from memctl.errors import SchemaError
from memctl.storage.migrations import step_name
from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.database import Connection, count_rows, one_view, table_exists
from memctl.storage.sqlite.features import read_features
from memctl.storage.sqlite.pause import current_pause
from memctl.storage.sqlite.run_summaries import newest_runs
from memctl.storage.sqlite.space import database_size
from memctl.storage.status import Status


def read_status(db: Connection, path: Path, *, now: datetime) -> Status:
    """Return the status of a database, which need not be migrated; reads only."""
    with one_view(db):
        present = migrations.applied(db)
        pending, problem = [], None
        try:
            pending = [*map(step_name, migrations.pending(db))]
            if present and not pending:
                migrations.require_current(db)
        except SchemaError as error:
            problem = str(error)
        has_state = table_exists(db, "memory_state")
        return Status(
            database=database_size(db, path),
            schema_step=migrations.schema_step(db),
            pending=pending,
            problem=problem,
            memories=count_rows(db, "agent_memory"),
            archived=count_rows(db, "archived_memories"),
            features=read_features(db) if has_state else [],
            jobs=newest_runs(db) if table_exists(db, "memory_runs") else [],
            paused=current_pause(db, now=now) if has_state else None,
        )
