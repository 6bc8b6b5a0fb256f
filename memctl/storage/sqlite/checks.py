"""Checks of the database file, and what `check --fix` changes in it."""

import time
from sqlite3 import Connection
from typing import NamedTuple

TRUNCATE_WAIT_MS = 100  # other programs cannot write while it waits


def find_damage(db: Connection, *, full: bool, limit: int) -> list[str]:
    """Return what SQLite finds damaged in the file; `full` also checks indexes against tables."""
    pragma = "integrity_check" if full else "quick_check"
    found = db.execute(f"PRAGMA {pragma}({limit})").fetchall()
    return [damage for (damage,) in found if damage != "ok"]


def journal_mode(db: Connection) -> str:
    """Return the journal mode of the database, such as `wal`."""
    (mode,) = db.execute("PRAGMA journal_mode").fetchone()
    return str(mode)


class Truncation(NamedTuple):
    """Whether the write-ahead log is empty, and for how long others could not write."""

    is_complete: bool
    held_ms: float


def truncate_log(db: Connection, *, wait_ms: int = TRUNCATE_WAIT_MS) -> Truncation:
    """Move the write-ahead log into the database and truncate it, unless a reader prevents it.

    SQLite waits for readers while it holds the write lock, so `wait_ms` must be short.
    """
    (timeout,) = db.execute("PRAGMA busy_timeout").fetchone()
    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()  # most of the time, without a lock
    db.execute(f"PRAGMA busy_timeout = {wait_ms}")
    begun = time.monotonic()
    try:
        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        db.execute(f"PRAGMA busy_timeout = {timeout}")
    return Truncation(not busy, (time.monotonic() - begun) * 1000)
