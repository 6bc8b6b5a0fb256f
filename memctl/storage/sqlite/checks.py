"""Checks of the database file, and what `check --fix` changes in it."""

from sqlite3 import Connection

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


def truncate_log(db: Connection) -> bool:
    """Move the write-ahead log into the database and truncate it; false if a reader prevents it."""
    (timeout,) = db.execute("PRAGMA busy_timeout").fetchone()
    db.execute("PRAGMA wal_checkpoint(PASSIVE)")  # takes most of the time, without a lock
    db.execute(f"PRAGMA busy_timeout = {TRUNCATE_WAIT_MS}")
    try:
        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        db.execute(f"PRAGMA busy_timeout = {timeout}")
    return not busy
