"""A verified copy of the whole database, made while others go on writing."""

import os
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from tempfile import NamedTemporaryFile

from memctl.errors import MemctlError


def back_up_before(action: str, db: Connection, path: Path, *, now: datetime) -> Path:
    """Copy the database beside itself, named for the action it precedes, and return the copy.

    Raises MemctlError when the copy fails its check; then there is no copy.
    """
    base = f"{path.name}.before-{action}-{now:%Y%m%dT%H%M%SZ}"
    copy = path.resolve().with_name(base)
    number = 2
    while copy.exists():
        copy = copy.with_name(f"{base}-{number}")
        number += 1
    copy_database(db, copy)
    return copy


def copy_database(db: Connection, target: Path) -> None:
    """Copy the database online to a new file, mode 0600, that stands alone and passes quick_check.

    The copy is one read of the whole file: in steps it would never finish beside a writer.
    Raises MemctlError when the directory cannot be written or the copy is damaged.
    """
    try:
        with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            draft = Path(file.name)
    except OSError as error:
        raise MemctlError(
            f"no backup can be written to {target.parent} ({error.strerror})",
            "make the directory writable, or choose --no-backup",
        ) from None
    try:
        with closing(sqlite3.connect(draft, isolation_level=None)) as copy:
            db.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode = DELETE")
            verdict = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise MemctlError(
                f"the backup of the database is damaged ({verdict})",
                "the database itself probably is: run `PRAGMA integrity_check` on it",
            )
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.rename(target)
        sync_directory(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
