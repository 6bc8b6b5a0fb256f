"""Rolling back steps of the schema, which keeps every active memory and their order.

The contents of memctl's own tables are kept in the backup that is always made first.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection

from sqlite_utils import Database

from memctl.errors import RefusedError, SchemaError, UsageError, counted
from memctl.storage.progress import NOBODY, Progress
from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.backup import back_up_before, opened_backup, remove_backup
from memctl.storage.sqlite.database import count_rows, table_exists, transaction
from memctl.storage.sqlite.migrate import schema_database
from memctl.storage.sqlite.migrations import Applied

# The write lock is held for 0.7 s at 100,000 memories, and for 9.4 s at 1,000,000.
MANY_MEMORIES = 100_000


@dataclass(frozen=True)
class RollbackResult:
    """The steps that were rolled back, and the backup that has the archived memories."""

    rolled_back: list[str]
    backup: str | None
    archived_in_backup: int


def roll_back(
    db: Connection,
    path: Path,
    *,
    now: datetime,
    to: int,
    confirmed: bool,
    progress: Progress = NOBODY,
) -> RollbackResult:
    """Roll back every step above version `to`, the newest first, in one transaction.

    The caller holds memctl's lock. Raises RefusedError, before anything is changed, if memories
    would be lost, or if the archive would leave the database or the lock would be long and
    `confirmed` is false.
    """
    migrations.pending(db)  # raises SchemaError for a changed or newer schema
    present = migrations.applied(db)
    if to < 0 or (present and to > present[-1].version):
        newest = present[-1].version if present else 0
        raise UsageError(f"cannot roll back to step {to}", f"the database is at step {newest}")
    steps = [record for record in reversed(present) if record.version > to]
    if not steps:
        return RollbackResult(rolled_back=[], backup=None, archived_in_backup=0)
    _refuse_to_lose_memories(db, steps)
    archived = count_rows(db, "archived_memories") or 0
    if not confirmed:
        _ask_to_confirm(db, steps, archived)
    copy = back_up_before("rollback", db, path, now=now, progress=progress)
    progress.phase("changing the schema")
    downs = {step.version: step.down for step in migrations.available()}
    schema = schema_database(db)
    try:
        with transaction(db):
            _refuse_to_lose_memories(db, steps)
            _require_same_archive(db, copy)
            for record in steps:
                if not record.baseline:
                    _take_back(schema, record, downs[record.version])
                schema.table("memctl_migrations").delete(record.version)
            if steps[-1] == present[0]:
                schema.table("memctl_migrations").drop()
    except BaseException:
        if migrations.applied(db) == present:
            remove_backup(copy)  # nothing was changed, so that it is not needed
        raise
    return RollbackResult(
        rolled_back=[f"{record.version:03}_{record.name}" for record in steps],
        backup=str(copy),
        archived_in_backup=archived,
    )


def _take_back(schema: Database, record: Applied, down: str) -> None:
    """Run a down file; DROP COLUMN parses every view and trigger of the database."""
    try:
        schema.executescript(down)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        raise SchemaError(
            f"step {record.version:03} cannot be rolled back: {error}",
            "another program created it and must change it first; nothing was changed",
        ) from error


def _refuse_to_lose_memories(db: Connection, steps: list[Applied]) -> None:
    if (
        any(record.version == 1 and not record.baseline for record in steps)
        and db.execute("SELECT 1 FROM agent_memory LIMIT 1").fetchone()
    ):
        raise RefusedError(
            "step 001 cannot be rolled back: agent_memory holds memories, and memctl created it",
            "`memctl rollback --to 1` rolls back the other steps; nothing was changed",
        )


def _ask_to_confirm(db: Connection, steps: list[Applied], archived: int) -> None:
    if all(record.baseline for record in steps):
        return  # only records are removed
    if archived:
        raise RefusedError(
            f"{counted(archived, 'archived memory')} would remain only in the backup made first",
            "confirm with --yes; nothing was changed",
        )
    memories = db.execute("SELECT count(*) FROM agent_memory").fetchone()[0]
    if memories > MANY_MEMORIES:
        raise RefusedError(
            f"rewriting {memories:,} memories would hold the write lock for seconds, and other"
            " writers could fail",
            "stop them and confirm with --yes; nothing was changed",
        )


def _require_same_archive(db: Connection, copy: Path) -> None:
    """Ensure that nothing was archived after the backup."""
    if not table_exists(db, "archived_memories"):
        return
    newest = "SELECT count(*), max(archive_id) FROM archived_memories"
    with opened_backup(copy) as backup:
        same = backup.execute(newest).fetchone() == db.execute(newest).fetchone()
    if not same:
        raise RefusedError(
            "memories were archived while the backup was made",
            "run the rollback again; nothing was changed",
        )
