"""Locks as other programs hold them."""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.support.database import connect
from tests.support.processes import eventually


@contextmanager
def write_lock(path: Path) -> Iterator[sqlite3.Connection]:
    """Hold the database's write lock, like another program with a long transaction."""
    with closing(connect(path)) as db:
        db.execute("PRAGMA busy_timeout = 0")  # SQLite would sleep through a job's short pauses
        eventually(lambda: begin_immediate(db))
        yield db
        db.execute("COMMIT")


def begin_immediate(db: sqlite3.Connection) -> bool:
    """Begin a write transaction, unless another program has one."""
    try:
        db.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    return True


@contextmanager
def lock_file(path: Path, note: str = "") -> Iterator[Path]:
    """Hold memctl's own lock, like another memctl process."""
    lock = path.with_name(f"{path.name}.memctl.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(note)
        file.flush()
        yield lock


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep all other programs from writing."""
    with closing(connect(path)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")
