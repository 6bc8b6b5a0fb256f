"""Errors of SQLite that a user can cause and correct, as errors with advice."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection

from memctl.errors import LockedError, MemctlError, NoDatabaseError, SchemaError
from memctl.signals import raise_dropped

# Result codes, primary or extended, that a user can cause and correct; others are bugs.
# https://www.sqlite.org/rescode.html
SQLITE_ERRORS: dict[int, tuple[type[MemctlError], str, str]] = {
    sqlite3.SQLITE_BUSY: (
        LockedError,
        "{path} is locked by another program",
        "the interrupted step was rolled back; try again, or increase --lock-wait",
    ),
    sqlite3.SQLITE_FULL: (
        MemctlError,
        "the disk of {path} or of its temporary files is full",
        "the interrupted step was rolled back; free some space, or set SQLITE_TMPDIR to another"
        " directory, and run the command again",
    ),
    sqlite3.SQLITE_READONLY: (
        MemctlError,
        "{path} or its directory is not writable",
        "run memctl as the user who owns the database, on a writable file system",
    ),
    sqlite3.SQLITE_PERM: (
        MemctlError,
        "{path} may not be opened by this user",
        "run memctl as the user who owns the database",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        MemctlError,
        "{path} cannot be opened",
        "its directory must be writable by the user who runs memctl, even to read",
    ),
    sqlite3.SQLITE_IOERR: (
        MemctlError,
        "{path} cannot be read or written (disk error, or a full disk)",
        "check the disk, then run the command again",
    ),
    sqlite3.SQLITE_IOERR | (25 << 8): (  # SQLITE_IOERR_GETTEMPPATH
        MemctlError,
        "no usable directory for the temporary files of {path}",
        "set SQLITE_TMPDIR to a writable directory, then run the command again",
    ),
    sqlite3.SQLITE_CORRUPT: (
        MemctlError,
        "{path} is damaged",
        "stop the programs that use it and restore a backup, or try `sqlite3 FILE .recover`",
    ),
    sqlite3.SQLITE_CORRUPT | (1 << 8): (  # SQLITE_CORRUPT_VTAB
        SchemaError,
        "an index of another program in {path} does not match its table, for example a full-text"
        " index that was not built for the existing rows",
        "the interrupted step was rolled back; rebuild the index, for example with `INSERT INTO"
        " INDEX (INDEX) VALUES ('rebuild')`",
    ),
    sqlite3.SQLITE_CONSTRAINT: (
        SchemaError,
        "a constraint or trigger in {path} rejects a change by memctl",
        "the interrupted step was rolled back; change it in the program that created it",
    ),
    sqlite3.SQLITE_NOTADB: (
        NoDatabaseError,
        "{path} is not a SQLite database",
        "check --db",
    ),
}

# Triggers and expression indexes of other programs, which may fail on a value.
FOREIGN_CODE = """
    SELECT group_concat(name, ', ') FROM sqlite_schema
    WHERE lower(tbl_name) IN ('agent_memory', 'archived_memories') AND name NOT GLOB 'memctl_*'
        AND (type = 'trigger' OR type = 'index' AND sql LIKE '%(%(%')
"""


@contextmanager
def translate_errors(path: Path, db: Connection | None = None) -> Iterator[None]:
    """Translate the errors of SQLite in the block into MemctlError; bugs are raised unchanged.

    With an open `db`, errors in triggers and indexes of other programs are translated, too.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise_dropped()  # a function that a signal interrupts fails for SQLite
        code = getattr(error, "sqlite_errorcode", 0)
        known = SQLITE_ERRORS.get(code) or SQLITE_ERRORS.get(code & 0xFF)
        if known is None:
            if db is not None and code == sqlite3.SQLITE_ERROR:
                _raise_for_foreign_code(db, error)
            raise
        kind, message, hint = known
        raise kind(f"{message.format(path=path)} ({error})", hint) from error


def _raise_for_foreign_code(db: Connection, error: sqlite3.Error) -> None:
    """Raise SchemaError if the database has a trigger or index of another program that may fail."""
    (names,) = db.execute(FOREIGN_CODE).fetchone()
    if names:
        raise SchemaError(
            f"a trigger or index of another program fails on a change by memctl ({names}): {error}",
            "the interrupted step was rolled back; change it in the program that created it",
        ) from error
