"""Rolling back steps of the schema, which keeps every active memory and their order.

The contents of memctl's own tables are kept in the backup that is always made first.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection

from memctl.errors import RefusedError, SchemaError, UsageError, counted
from memctl.storage.migrations import Applied, step_name
from memctl.storage.progress import NO_PROGRESS, Progress
from memctl.storage.schema_changes import RollbackPreview, RollbackResult
from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.backup import back_up_before, place_before, remove_backup
from memctl.storage.sqlite.backup_copy import opened_backup
from memctl.storage.sqlite.database import count_rows, table_exists, transaction
from memctl.storage.sqlite.features import statements_to_archive_deleted
from memctl.storage.sqlite.holds import require_no_holds
from memctl.storage.sqlite.identity import STEP_WITH_STATE
from memctl.storage.sqlite.rehearsal import rehearse
from memctl.storage.sqlite.steps import HOW_TO_RUN, StepScript, script_text, script_to_roll_back
from memctl.storage.sqlite.tombstones import STEP_WITH_TOMBSTONES, TABLE

# The write lock is held for 0.7 s at 100,000 memories, and for 9.4 s at 1,000,000.
MANY_MEMORIES = 100_000

STEP_WITH_ARCHIVE = STEP_WITH_STATE  # it also adds columns to agent_memory
STEP_WITH_HOLDS = STEP_WITH_TOMBSTONES


def roll_back(
    db: Connection,
    path: Path,
    *,
    now: datetime,
    to: int,
    confirmed: bool,
    progress: Progress = NO_PROGRESS,
) -> RollbackResult:
    """Roll back every step above version `to`, the newest first, in one transaction.

    The caller holds memctl's lock. Raises RefusedError, before anything is changed, if memories
    would be lost, or if the archive would leave the database or the lock would be long and
    `confirmed` is false.
    """
    present = migrations.applied(db)
    steps = find_steps(db, to=to, now=now)
    if not steps:
        return RollbackResult(str(path), _last(present, to), [], None)
    archived = _count_leaving(db, steps)
    reason = None if confirmed else _to_confirm(db, steps, archived)
    if reason:
        raise reason
    copy = back_up_before("rollback", db, path, now=now, progress=progress)
    progress.phase("changing the schema")
    try:
        with transaction(db):
            _refuse_to_lose_memories(db, steps)
            require_no_holds(db, [record.version for record in steps], now=now)
            if archived:
                _require_same_archive(db, copy)
            for record, script in zip(steps, _scripts(db, steps, present), strict=True):
                with _translated(record):
                    for statement in script.statements:
                        db.execute(statement)
    except BaseException:
        if migrations.applied(db) == present:
            remove_backup(copy)  # nothing was changed, so that it is not needed
        raise
    return RollbackResult(
        database=str(path),
        schema_step=_last(present, to),
        rolled_back=_names(steps),
        backup=str(copy),
        archived_in_backup=archived,
        tombstones=_tombstones(db, steps),
    )


def preview_rollback(db: Connection, path: Path, *, now: datetime, to: int) -> RollbackPreview:
    """Return what `roll_back` would do; read-only. Raises the same errors, except to confirm."""
    present = migrations.applied(db)
    steps = find_steps(db, to=to, now=now)
    archived = _count_leaving(db, steps)
    scripts = _scripts(db, steps, present)
    reason = _to_confirm(db, steps, archived)
    change = None
    for number, record in enumerate(steps):
        done = [statement for script in scripts[: number + 1] for statement in script.statements]
        with _translated(record):
            change = rehearse(db, done)
    copy = place_before("rollback", path, now=now) if steps else None
    notes = [f"roll back {path.resolve()}: {', '.join(_names(steps)) or 'no step is applied'}"]
    if archived:
        notes.append(f"These statements delete {counted(archived, 'archived memory')}.")
    if copy:
        notes.append("memctl makes a backup before this; these statements do not.")
    # One transaction rolls back all steps.
    whole = [
        StepScript(
            ", ".join(script.purpose for script in scripts),
            [statement for script in scripts for statement in script.statements],
        )
    ]
    return RollbackPreview(
        database=str(path),
        schema_step=_last(present, to),
        rolled_back=_names(steps),
        backup=str(copy) if copy else None,
        archived_in_backup=archived,
        tombstones=_tombstones(db, steps),
        to_confirm=reason.message if reason else None,
        removes=change.removed if change else None,
        sql=script_text([*notes, HOW_TO_RUN], [], whole if steps else []),
    )


def find_steps(db: Connection, *, to: int, now: datetime) -> list[Applied]:
    """Return the applied steps above version `to`, the newest first, after checking the database.

    Raises UsageError if there is no such version, and RefusedError if memories would be lost
    or if there are holds, which need the archive and a table of their own.
    """
    migrations.pending(db)  # raises SchemaError for a changed or newer schema
    present = migrations.applied(db)
    if to < 0 or (present and to > present[-1].version):
        raise UsageError(
            f"cannot roll back to step {to}",
            f"the database is at step {migrations.schema_step(db)}",
        )
    steps = [record for record in reversed(present) if record.version > to]
    _refuse_to_lose_memories(db, steps)
    require_no_holds(db, [record.version for record in steps], now=now)
    return steps


def _last(present: list[Applied], to: int) -> int:
    """Return the step of the database after a rollback to a version."""
    return max((record.version for record in present if record.version <= to), default=0)


def _names(steps: list[Applied]) -> list[str]:
    return [*map(step_name, steps)]


def _scripts(db: Connection, steps: list[Applied], present: list[Applied]) -> list[StepScript]:
    downs = {step.version: step.down for step in migrations.available()}
    more = {STEP_WITH_HOLDS: statements_to_archive_deleted(db)}
    if not _tombstones(db, steps):
        more[STEP_WITH_HOLDS].append(f"DROP TABLE IF EXISTS {TABLE}")
    return [
        script_to_roll_back(
            record,
            downs[record.version],
            more=more.get(record.version, []),
            is_first=record == present[0],
        )
        for record in steps
    ]


def _rolls_back(steps: list[Applied], version: int) -> bool:
    return any(record.version == version for record in steps)


def _count_leaving(db: Connection, steps: list[Applied]) -> int:
    """Count the archived memories, which leave the database when their step is rolled back."""
    return (
        (count_rows(db, "archived_memories") or 0) if _rolls_back(steps, STEP_WITH_ARCHIVE) else 0
    )


def _tombstones(db: Connection, steps: list[Applied]) -> int:
    """Count the tombstones, which stay when their step is rolled back."""
    return (count_rows(db, TABLE) or 0) if _rolls_back(steps, STEP_WITH_TOMBSTONES) else 0


@contextmanager
def _translated(record: Applied) -> Iterator[None]:
    """Translate the error of DROP COLUMN, which parses every view and trigger of the database."""
    try:
        yield
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


def _to_confirm(db: Connection, steps: list[Applied], archived: int) -> RefusedError | None:
    """Return the error for a rollback without --yes, or None if it needs no confirmation."""
    if archived:
        return RefusedError(
            f"{counted(archived, 'archived memory')} would remain only in the backup made first",
            "confirm with --yes; nothing was changed",
        )
    if not _rolls_back(steps, STEP_WITH_ARCHIVE):
        return None  # no memory is rewritten
    memories = count_rows(db, "agent_memory") or 0
    if memories > MANY_MEMORIES:
        return RefusedError(
            f"rewriting {memories:,} memories would hold the write lock for seconds, and other"
            " writers could fail",
            "stop them and confirm with --yes; nothing was changed",
        )
    return None


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
