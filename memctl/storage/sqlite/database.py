"""Opening the database, and holding its write lock.

Text may be invalid UTF-8: it is read with `surrogateescape`, and bound as bytes with
`CAST(:name AS TEXT)`. Statements outside of a `transaction` are committed one by one.
"""

import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from sqlite3 import Connection as Connection  # the rooms above storage take it from here
from typing import Any, Literal

from memctl.errors import MemctlError, NoDatabaseError, UsageError
from memctl.signals import raise_again
from memctl.storage.sqlite.ownership import create_directory, create_file, owner_can_use_new_files
from memctl.storage.sqlite.sqlite_errors import translate_errors
from memctl.storage.text import from_bytes, to_bytes

# For the rooms above storage.
StorageError = sqlite3.Error
SQLITE_VERSION = sqlite3.sqlite_version

MemoryTable = Literal["agent_memory", "archived_memories"]

# https://www.sqlite.org/fileformat.html#file_format_version_numbers
HEADER_VERSIONS = 18  # the offset of two bytes that name the journal mode
GREATEST_REAL = "1.7976931348623157e308"  # in SQL; the next larger one is infinite
MOST_TEXTS = 10_000  # SQLite takes 32,766 parameters
SIGNAL_DELAY_MS = 250  # the longest time before a signal is handled
MINIMUM_SQLITE = (3, 38, 0)  # unixepoch(), RETURNING, DROP COLUMN

# Where SQLite looks for a directory for temporary files, after SQLITE_TMPDIR and TMPDIR.
# https://www.sqlite.org/tempfiles.html#temporary_file_storage_locations
TEMPORARY_DIRECTORIES = ("/var/tmp", "/usr/tmp", "/tmp", ".")  # noqa: S108


@contextmanager
def open_database(
    path: Path, *, read_only: bool = False, lock_wait: float = 10.0
) -> Iterator[Connection]:
    """Open the database; `lock_wait` is how many seconds a statement waits for a lock.

    Raises NoDatabaseError if there is none. Errors of SQLite in the block become MemctlError.
    """
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        raise MemctlError(
            f"this Python uses SQLite {sqlite3.sqlite_version}",
            "memctl requires SQLite 3.38 or later; use a Python that has it",
        )
    require_file(path)
    require_harmless(path)
    with translate_errors(path):
        uri = f"{path.resolve().as_uri()}?mode=rw"  # never creates one
        if sys.unraisablehook is raise_again:  # in memctl's own process, not in that of an agent
            sqlite3.enable_callback_tracebacks(True)
        db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=lock_wait)
        try:
            db.text_factory = from_bytes
            _choose_temporary_directory(db, path.resolve().parent)
            if db.execute("PRAGMA journal_mode").fetchone() == ("wal",):
                db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA cache_size = -16000")
            if read_only:
                db.execute("PRAGMA query_only = ON")
            with translate_errors(path, db):
                yield db
        finally:
            db.close()


@contextmanager
def open_or_create_database(path: Path, *, lock_wait: float = 10.0) -> Iterator[Connection]:
    """Open the database, or create one that only its owner can read.

    A database that was created is removed if the block fails and it is still empty.
    """
    with reachable(path):
        place = path.resolve()
        try:
            os.close(create_file(place, like=place))
            created = True
        except FileExistsError:
            created = False
    try:
        with open_database(path, lock_wait=lock_wait) as db:
            yield db
    except BaseException:
        if created and _holds_nothing(place):
            for end in ("", "-wal", "-shm"):
                place.with_name(f"{place.name}{end}").unlink(missing_ok=True)
        raise


@contextmanager
def open_existing_or_nothing(path: Path) -> Iterator[Connection]:
    """Open the database read-only, or an empty one in memory if there is none."""
    with reachable(path):
        exists = path.resolve().exists()
    if exists:
        with open_database(path, read_only=True) as db:
            yield db
    else:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
            yield db


def _holds_nothing(path: Path) -> bool:
    """Return whether a database is empty and no other program has it open."""
    uri = f"{path.as_uri()}?mode=rw"
    with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True, timeout=0)) as db:
        db.execute(
            "PRAGMA locking_mode = EXCLUSIVE"
        )  # needs no -shm file, for which the disk may have no space
        return is_empty(db)
    return False


def is_empty(db: Connection) -> bool:
    """Return whether the database has no tables, indexes, views or triggers."""
    return db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None


def require_harmless(path: Path) -> None:
    """Raise MemctlError if opening a database would make it unusable for its owner.

    The first program that opens a database in WAL mode creates its -wal and -shm with the mode of
    the database. They belong to the user who runs it; if that is root, SQLite gives them to the
    owner of the database.
    """
    with reachable(path):
        path = path.resolve()
        usable = owner_can_use_new_files(path) or all(
            path.with_name(f"{path.name}{end}").exists() for end in ("-wal", "-shm")
        )
    if not usable and _is_in_wal_mode(path):
        raise files_of_another_user(path)


def files_of_another_user(path: Path) -> MemctlError:
    """Return the error for a user who must not create files beside a database."""
    return MemctlError(
        f"{path} belongs to another user, who could not write the files that memctl would create"
        " beside it",
        "run memctl as the user who owns the database, or while the service has it open",
    )


def _is_in_wal_mode(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(20)[18:] == b"\2\2"
    except OSError:
        return False  # SQLite reports the error


def temporary_directory(beside: Path) -> Path:
    """Return where SQLite creates temporary files: beside the database if nowhere else."""
    named = [os.environ[name] for name in ("SQLITE_TMPDIR", "TMPDIR") if os.environ.get(name)]
    usable = filter(_can_be_written, (*named, *TEMPORARY_DIRECTORIES))
    found = next(usable, None)
    return beside if found is None else Path(found)


def _choose_temporary_directory(db: Connection, beside: Path) -> None:
    """Let SQLite create temporary files beside the database if no other directory is writable."""
    if temporary_directory(beside) is beside and _can_be_written(beside):
        quoted = str(beside).replace("'", "''")
        with suppress(UnicodeEncodeError):  # a pragma takes no parameters, and text must be UTF-8
            db.execute(f"PRAGMA temp_store_directory = '{quoted}'")


def _can_be_written(directory: str | Path) -> bool:
    return Path(directory).is_dir() and os.access(directory, os.W_OK | os.X_OK)


@contextmanager
def reachable(path: Path) -> Iterator[None]:
    """Translate errors of the file system in the block into MemctlError."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, an impossible name
        reason = error.strerror if isinstance(error, OSError) else error
        raise MemctlError(
            f"{path} cannot be accessed ({reason})", "check the path and its permissions"
        ) from None


def require_file(path: Path) -> None:
    """Raise NoDatabaseError unless the file exists: a misspelled path must create nothing."""
    with reachable(path):
        if path.resolve().is_dir():
            raise NoDatabaseError(f"{path} is a directory", "--db must be a database file")
        exists, is_file = path.exists(), path.is_file()
    if exists and not is_file:
        raise NoDatabaseError(f"{path} is not a regular file", "--db must be a database file")
    if not exists:
        raise NoDatabaseError(
            f"there is no database at {path}", "check --db, or create one with `memctl migrate`"
        )


def database_path(text: str) -> Path:
    """Return a text as the path of a database.

    Raises NoDatabaseError if it is empty, or a directory that does not exist.
    """
    if not text:
        raise NoDatabaseError("the database path is empty", "check for an unset shell variable")
    if names_missing_directory(text):
        raise NoDatabaseError(f"there is no directory {text}", "--db must be a database file")
    return Path(text)


def names_missing_directory(text: str) -> bool:
    """Return whether a text can only name a directory, which does not exist."""
    path = Path(text)
    with reachable(path):
        return text.endswith(("/", "/.")) and not path.is_dir()


def prepare_place(path: Path, *, make_directory: bool) -> None:
    """Ensure that a database can be created at a path.

    Raises NoDatabaseError if the directory does not exist, unless `make_directory`.
    """
    with reachable(path):
        exists = path.resolve().exists()
        directory = path.resolve().parent
        if make_directory:
            create_directory(directory)
        directory_exists = directory.is_dir()
    if exists:
        require_file(path)
    if not directory_exists:
        raise NoDatabaseError(f"there is no directory {directory}", "check --db")


@contextmanager
def transaction(db: Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Run the block in a transaction that holds the write lock from the beginning.

    With a plain `BEGIN`, it takes the write lock at the first write.
    """
    try:  # a signal may arrive immediately after BEGIN
        if begin == "BEGIN IMMEDIATE":
            _begin_immediate(db)
        else:
            db.execute(begin)
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _begin_immediate(db: Connection) -> None:
    """Wait for the write lock up to the timeout of the connection, and handle signals meanwhile.

    Python handles signals only between two calls of SQLite.
    """
    (timeout,) = db.execute("PRAGMA busy_timeout").fetchone()
    deadline = time.monotonic() + timeout / 1000
    db.execute(f"PRAGMA busy_timeout = {min(timeout, SIGNAL_DELAY_MS)}")
    try:
        while True:
            try:
                db.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise
    finally:
        db.execute(f"PRAGMA busy_timeout = {timeout}")


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether the error is that another connection has locked the database."""
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


@contextmanager
def one_view(db: Connection) -> Iterator[None]:
    """Let the block read one consistent state; it should be short."""
    with transaction(db, "BEGIN"):
        yield


@contextmanager
def temporary_tables(db: Connection) -> Iterator[None]:
    """Let the block write temporary tables, even on a read-only connection."""
    (read_only,) = db.execute("PRAGMA query_only").fetchone()
    db.execute("PRAGMA query_only = OFF")
    try:
        yield
    finally:
        db.execute(f"PRAGMA query_only = {read_only}")


def data_version(db: Connection) -> int:
    """Return a number that changes when another connection commits a change."""
    return int(db.execute("PRAGMA data_version").fetchone()[0])


def bind_texts(prefix: str, texts: Sequence[str]) -> tuple[str, dict[str, bytes]]:
    """Return SQL for a list of texts, and its parameters; the texts may be invalid UTF-8.

    Raises UsageError for more than MOST_TEXTS.
    """
    if len(texts) > MOST_TEXTS:
        raise UsageError(f"too many values: {len(texts):,}", f"specify at most {MOST_TEXTS:,}")
    parameters = {f"{prefix}{number}": to_bytes(text) for number, text in enumerate(texts)}
    return ", ".join(f"CAST(:{name} AS TEXT)" for name in parameters), parameters


def text_conditions(wanted: Mapping[str, str | None]) -> tuple[list[str], dict[str, Any]]:
    """Return SQL conditions for columns that must equal a text, and their parameters.

    A column whose text is None has no condition; the texts may be invalid UTF-8.
    """
    texts = {column: to_bytes(text) for column, text in wanted.items() if text is not None}
    return [f"{column} = CAST(:{column} AS TEXT)" for column in texts], dict(texts)


def table_exists(db: Connection, name: str) -> bool:
    """Return whether the database has a table or view of that name."""
    found = db.execute(
        "SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE",
        (name,),
    )
    return found.fetchone() is not None


def count_rows(db: Connection, table: str) -> int | None:
    """Return the number of rows of a table, or None if it does not exist."""
    if not table_exists(db, table):
        return None
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
