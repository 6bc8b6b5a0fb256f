"""Restoring a backup: its pages replace those of the live database in one transaction.

A file that is in use is never replaced by another file. What was erased from the database since the
backup was made does not come back, and the holds of the database stay: both are applied to a draft
first, and the draft is restored.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection

from memctl.errors import LockedError, MemctlError, RefusedError
from memctl.storage.progress import NO_PROGRESS, Progress
from memctl.storage.sqlite.backup import back_up_before, remove_backup, verify_checksum
from memctl.storage.sqlite.backup_copy import opened_backup, require_sound
from memctl.storage.sqlite.checks import truncate_log
from memctl.storage.sqlite.cleansing import (
    Cleansed,
    Erased,
    cleanse_into,
    has_remains,
    missing_tombstones,
)
from memctl.storage.sqlite.database import is_busy, table_exists
from memctl.storage.sqlite.files import remove_drafts, scratch_file
from memctl.storage.sqlite.held_in_backup import holds_to_keep, require_held
from memctl.storage.sqlite.identity import keep_identity, known_identity
from memctl.storage.sqlite.migrations import require_utf8
from memctl.storage.sqlite.tombstones import read_tombstones


@dataclass(frozen=True)
class RestoredBackup:
    """The copy of the previous state, and what was left out of the backup because it was erased."""

    before: Path
    left_out: Cleansed


def restore_backup(
    db: Connection,
    path: Path,
    file: Path,
    *,
    now: datetime,
    lock_wait: float,
    progress: Progress = NO_PROGRESS,
) -> RestoredBackup:
    """Restore the database from a backup in one transaction, after a copy of the previous state.

    Other programs that have the database open continue with the restored state. A backup without a
    manifest is checked only by SQLite. The holds of the database stay in force. The caller holds
    memctl's lock. Raises NotFoundError or MemctlError for a missing or damaged backup, RefusedError
    or SchemaError for an unsuitable one, and LockedError if other programs write for longer than
    `lock_wait` seconds.
    """
    progress.phase("checking the backup")
    verify_checksum(file)
    if file.samefile(path) or file.with_name(f"{file.name}-wal").exists():
        raise RefusedError(f"{file} is a database in use, not a backup", "nothing was changed")
    with ExitStack() as opened:
        backup = opened.enter_context(opened_backup(file))
        require_sound(backup, f"the backup {file}")
        if not table_exists(backup, "agent_memory"):
            raise RefusedError(f"{file} has no table agent_memory", "nothing was changed")
        require_utf8(backup)
        missing = missing_tombstones(backup, read_tombstones(db))
        holds = holds_to_keep(db, backup, file, now=now)
        left_out = Cleansed()
        if missing or holds or has_remains(backup):
            try:
                remove_drafts(draft_of_restore(path))
                draft = opened.enter_context(scratch_file(draft_of_restore(path), owner_of=path))
                left_out = cleanse_into(
                    draft,
                    file,
                    Erased(missing),
                    finish=holds.write,
                    now=now,
                    progress=progress,
                )
            except OSError as error:
                raise MemctlError(
                    f"cannot write a copy of the backup to {path.parent} ({error.strerror})",
                    "check its free space and permissions; nothing was changed",
                ) from None
            backup = opened.enter_context(opened_backup(draft.path))
        require_held(db, backup, file, now=now)
        before = back_up_before("restore", db, path, now=now, progress=progress)
        identity = known_identity(db)

        def give_up_when_locked(status: int, _remaining: int, _whole: int) -> None:
            if status & 0xFF == sqlite3.SQLITE_BUSY:  # after SQLite has waited up to its timeout
                raise LockedError(
                    f"{path} is locked by another program",
                    f"waited {lock_wait:g} s; nothing was changed",
                )

        progress.phase("restoring")
        try:
            with pages_like(backup, db, path):
                backup.backup(db, pages=-1, progress=give_up_when_locked)
        except LockedError:
            remove_backup(before)  # nothing was changed, so that it is not needed
            raise
    keep_identity(db, identity, path)
    truncate_log(db)
    return RestoredBackup(before, left_out)


def draft_of_restore(path: Path) -> Path:
    """Return the path after which the draft of a restore is named."""
    path = path.resolve()
    return path.with_name(f"{path.name}.restored")


@contextmanager
def pages_like(backup: Connection, db: Connection, path: Path) -> Iterator[None]:
    """Let the block write pages of the backup's size, which WAL mode does not allow to change.

    Raises LockedError if the sizes differ and another program uses the database.
    """
    page_size, journal_mode = "PRAGMA page_size", "PRAGMA journal_mode"
    same = backup.execute(page_size).fetchone() == db.execute(page_size).fetchone()
    if same or db.execute(journal_mode).fetchone() != ("wal",):
        yield
        return
    try:
        db.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise
        raise LockedError(
            f"the backup has a different page size than {path}, which is in use",
            "stop the programs that use it, then run the command again; nothing was changed",
        ) from None
    try:
        yield
    finally:
        db.execute("PRAGMA journal_mode = WAL")
