"""Restoring a backup: its pages replace those of the live database in one transaction.

A file that is in use is never replaced by another file.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection

from memctl.errors import LockedError, RefusedError
from memctl.storage.progress import NO_PROGRESS, Progress
from memctl.storage.sqlite.backup import (
    back_up_before,
    remove_backup,
    verify_checksum,
)
from memctl.storage.sqlite.backup_copy import opened_backup, require_sound
from memctl.storage.sqlite.database import is_busy, table_exists
from memctl.storage.sqlite.held_in_backup import holds_to_keep
from memctl.storage.sqlite.identity import keep_identity, known_identity
from memctl.storage.sqlite.migrations import require_utf8


def restore_backup(
    db: Connection,
    path: Path,
    file: Path,
    *,
    now: datetime,
    lock_wait: float,
    progress: Progress = NO_PROGRESS,
) -> Path:
    """Restore the database from a backup in one transaction; return a copy of the previous state.

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
    with opened_backup(file) as backup:
        require_sound(backup, f"the backup {file}")
        if not table_exists(backup, "agent_memory"):
            raise RefusedError(f"{file} has no table agent_memory", "nothing was changed")
        require_utf8(backup)
        holds = holds_to_keep(db, backup, file, now=now)
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
    holds.write(db)
    return before


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
