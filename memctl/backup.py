"""A verified copy of the whole database, made while others go on writing."""

import glob
import os
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from tempfile import NamedTemporaryFile

from memctl.database import give_to_owner
from memctl.errors import MemctlError


def back_up_before(action: str, db: Connection, path: Path, *, now: datetime) -> Path:
    """Copy the database beside itself, named for the action it precedes, and return the copy.

    The caller holds memctl's lock. Raises MemctlError when the copy cannot be written or fails
    its check; then there is no copy.
    """
    path = path.resolve()
    for left in path.parent.glob(f".{glob.escape(path.name)}.before-*"):
        left.unlink(missing_ok=True)  # of a run that was killed
    base = f"{path.name}.before-{action}-{now:%Y%m%dT%H%M%SZ}"
    copy = path.with_name(base)
    number = 2
    while copy.exists():
        copy = path.with_name(f"{base}-{number}")
        number += 1
    try:
        copy_database(db, copy, owner_of=path)
    except OSError as error:
        raise MemctlError(
            f"no backup can be written to {path.parent} ({error.strerror})",
            "make room and the directory writable, or choose --no-backup",
        ) from None
    return copy


def copy_database(db: Connection, target: Path, *, owner_of: Path) -> None:
    """Copy the database online to a new file, mode 0600, that stands alone and passes quick_check.

    It belongs to whom `owner_of` belongs, when root makes it.

    The copy is one read of the whole file: in steps it would never finish beside a writer.
    Raises MemctlError when the copy is damaged, and OSError when it cannot be written.
    """
    with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        draft = Path(file.name)
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
            give_to_owner(file.fileno(), owner_of)
            os.fsync(file.fileno())
        draft.rename(target)
        sync_directory(target.parent)
    finally:
        for left in (draft, draft.with_name(f"{draft.name}-journal")):
            left.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
