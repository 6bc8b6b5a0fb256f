"""VACUUM: rewrites the file without free pages, deleted rows and gaps.

Other programs can read meanwhile, but not write. In WAL mode, the new content goes to the
write-ahead log, and the checkpoint that follows moves it into the file and shortens it. If memctl
is killed, or the disk is full, the file has its old content.
https://www.sqlite.org/lang_vacuum.html
"""

import sqlite3
import time
from sqlite3 import Connection

from memctl.errors import SchemaError
from memctl.storage.sqlite.checks import truncate_log
from memctl.storage.sqlite.database import is_busy

POLL_SECONDS = 0.01  # between two attempts to take the lock
STEPS_BETWEEN_SIGNALS = 100_000  # of SQLite's virtual machine: a few milliseconds


def vacuum(db: Connection, *, incremental: bool = False) -> float:
    """Rewrite the file, and make it shorter, as far as readers allow; must not be in a transaction.

    Returns for how many milliseconds other programs could not write.

    If `incremental`, SQLite records in the file where each page is used, so that free pages can be
    given back without another rewrite. Waits for the write lock up to the timeout of the
    connection. Raises sqlite3.Error, and SchemaError for what VACUUM cannot copy.
    """
    db.execute("PRAGMA wal_autocheckpoint = 0")  # not in the commit, which holds the lock
    if incremental:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    stall = _rewrite(db)
    begun = time.monotonic()
    truncate_log(db)  # waits a moment for readers, with the lock
    return max(stall, time.monotonic() - begun) * 1000


def _rewrite(db: Connection) -> float:
    """Run VACUUM, and return for how many seconds it held the write lock.

    Each attempt fails at once while the database is locked: the time of the last one is the answer.
    """
    (timeout,) = db.execute("PRAGMA busy_timeout").fetchone()
    deadline = time.monotonic() + timeout / 1000
    db.execute("PRAGMA busy_timeout = 0")
    # While SQLite calls a function, Python handles signals, and an exception interrupts SQLite.
    db.set_progress_handler(lambda: 0, STEPS_BETWEEN_SIGNALS)
    try:
        while True:
            begun = time.monotonic()
            try:
                db.execute("VACUUM")
                return time.monotonic() - begun
            except sqlite3.OperationalError as error:
                if str(error).startswith("no such"):  # function or collation
                    raise SchemaError(
                        f"VACUUM cannot copy a table or an index of another program: {error}",
                        "run VACUUM in that program, which defines what is missing",
                    ) from error
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise
            time.sleep(POLL_SECONDS)
    finally:
        db.set_progress_handler(None, 0)
        db.execute(f"PRAGMA busy_timeout = {timeout}")
