"""The one way to open the database, to hold its write lock, and to name what SQLite complains of.

Text may be invalid UTF-8: it is read with `surrogateescape`, and bound back as bytes with
`CAST(:name AS TEXT)`. Statements commit by themselves unless they stand in a `transaction`.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from sqlite3 import Connection as Connection
from typing import Any

from memctl.errors import MemctlError, NoDatabaseError, UsageError
from memctl.storage.sqlite.ownership import create_directory, create_file, owner_can_use_new_files
from memctl.storage.sqlite.sqlite_errors import translate_errors

StorageError = sqlite3.Error  # for the rooms above storage, which take Connection from here, too

MOST_ROWS = 10**12  # SQLite counts to 2**63
GREATEST_REAL = "1.7976931348623157e308"  # in SQL; the next one is infinite
MOST_TEXTS = 10_000  # SQLite takes 32,766 parameters
DEAF_MS = 250  # for so long a signal may go unheard
MINIMUM_SQLITE = (3, 38, 0)  # unixepoch(), RETURNING, DROP COLUMN

# Where SQLite looks for a directory for temporary files, after SQLITE_TMPDIR and TMPDIR.
# https://www.sqlite.org/tempfiles.html#temporary_file_storage_locations
TEMPORARY_DIRECTORIES = ("/var/tmp", "/usr/tmp", "/tmp", ".")  # noqa: S108


@contextmanager
def open_database(
    path: Path, *, read_only: bool = False, lock_wait: float = 10.0
) -> Iterator[Connection]:
    """Open the database; `lock_wait` is how many seconds a statement waits for a lock.

    Raises NoDatabaseError when there is none; what SQLite complains of inside the block becomes
    a MemctlError.
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
    """Open the database, or create one that only its owner may read.

    A database that was created is removed when the block fails and nothing is in it yet.
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


def _holds_nothing(path: Path) -> bool:
    """Tell whether a database is empty and nobody else has it open."""
    uri = f"{path.as_uri()}?mode=rw"
    with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True, timeout=0)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # needs no -shm, for which there is no room
        return is_empty(db)
    return False


def is_empty(db: Connection) -> bool:
    """Tell whether the file holds nothing at all yet."""
    return db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None


def require_harmless(path: Path) -> None:
    """Raise MemctlError when opening a database would make it unusable for its owner.

    The first program that opens a database in WAL mode creates -wal and -shm, with the mode of the
    database. They belong to the user who runs it, unless that is root: SQLite gives them away.
    """
    with reachable(path):
        path = path.resolve()
        usable = owner_can_use_new_files(path) or all(
            path.with_name(f"{path.name}{end}").exists() for end in ("-wal", "-shm")
        )
    if not usable and _is_in_wal_mode(path):
        raise files_of_another_user(path)


def files_of_another_user(path: Path) -> MemctlError:
    """Return the error that says why this user may create nothing beside a database."""
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
        return False  # SQLite will say why


def _choose_temporary_directory(db: Connection, beside: Path) -> None:
    """Let SQLite put temporary files beside the database when it has no other place for them."""
    named = [os.environ[name] for name in ("SQLITE_TMPDIR", "TMPDIR") if os.environ.get(name)]
    if not any(map(_can_be_written, (*named, *TEMPORARY_DIRECTORIES))) and _can_be_written(beside):
        quoted = str(beside).replace("'", "''")
        with suppress(UnicodeEncodeError):  # a pragma takes no parameters, and text must be UTF-8
            db.execute(f"PRAGMA temp_store_directory = '{quoted}'")


def _can_be_written(directory: str | Path) -> bool:
    return Path(directory).is_dir() and os.access(directory, os.W_OK | os.X_OK)


@contextmanager
def reachable(path: Path) -> Iterator[None]:
    """Turn what the file system says of a path into a MemctlError."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, an impossible name
        reason = error.strerror if isinstance(error, OSError) else error
        raise MemctlError(
            f"{path} cannot be accessed ({reason})", "check the path and its permissions"
        ) from None


def require_file(path: Path) -> None:
    """Raise NoDatabaseError unless there is a file: a typo must not become a database."""
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
    """Return the path that a text names.

    Raises NoDatabaseError for no text, and for a directory that does not exist.
    """
    if not text:
        raise NoDatabaseError("the database path is empty", "check for an unset shell variable")
    if names_missing_directory(text):
        raise NoDatabaseError(f"there is no directory {text}", "--db must be a database file")
    return Path(text)


def names_missing_directory(text: str) -> bool:
    """Tell whether a text can only name a directory, and there is none."""
    path = Path(text)
    with reachable(path):
        return text.endswith(("/", "/.")) and not path.is_dir()


def prepare_place(path: Path, *, make_directory: bool) -> None:
    """Make sure that a database can be created at a path.

    Raises NoDatabaseError for a directory that does not exist, unless it may be made.
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
    """Hold the write lock for the block: all of it is committed, or nothing.

    Begun with a plain `BEGIN` it takes no lock before something is written.
    """
    try:  # a signal may come right after it has begun
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
    """Wait for the write lock as long as the connection is to, and hear signals meanwhile.

    Python looks for signals only between two calls of SQLite.
    """
    (patience,) = db.execute("PRAGMA busy_timeout").fetchone()
    deadline = time.monotonic() + patience / 1000
    db.execute(f"PRAGMA busy_timeout = {min(patience, DEAF_MS)}")
    try:
        while True:
            try:
                db.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise
    finally:
        db.execute(f"PRAGMA busy_timeout = {patience}")


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether SQLite gave up because another connection has locked the database."""
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


@contextmanager
def one_view(db: Connection) -> Iterator[None]:
    """Let everything that the block reads be of one moment; keep it short."""
    with transaction(db, "BEGIN"):
        yield


@contextmanager
def temporary_tables(db: Connection) -> Iterator[None]:
    """Let the block write the connection's own temporary tables, even when it may only read."""
    (read_only,) = db.execute("PRAGMA query_only").fetchone()
    db.execute("PRAGMA query_only = OFF")
    try:
        yield
    finally:
        db.execute(f"PRAGMA query_only = {read_only}")


def data_version(db: Connection) -> int:
    """Return a number that changes when another connection has written."""
    return int(db.execute("PRAGMA data_version").fetchone()[0])


def to_bytes(text: str) -> bytes:
    """Return what SQLite shall store for a text that may not be valid UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def from_bytes(stored: bytes) -> str:
    """Return the text that SQLite stores as these bytes, which may be invalid UTF-8."""
    return stored.decode("utf-8", "surrogateescape")


def bind_texts(prefix: str, texts: Sequence[str]) -> tuple[str, dict[str, bytes]]:
    """Return SQL for a list of texts, and its parameters; the texts may be invalid UTF-8.

    Raises UsageError for more than SQLite takes.
    """
    if len(texts) > MOST_TEXTS:
        raise UsageError(f"{len(texts)} are too many at once", f"name at most {MOST_TEXTS}")
    parameters = {f"{prefix}{number}": to_bytes(text) for number, text in enumerate(texts)}
    return ", ".join(f"CAST(:{name} AS TEXT)" for name in parameters), parameters


def text_conditions(wanted: Mapping[str, str | None]) -> tuple[list[str], dict[str, Any]]:
    """Return SQL conditions for the columns that shall have a text, and their parameters.

    A column that may have any is left out; the texts may be invalid UTF-8.
    """
    texts = {column: to_bytes(text) for column, text in wanted.items() if text is not None}
    return [f"{column} = CAST(:{column} AS TEXT)" for column in texts], dict(texts)


def from_json(stored: str | None) -> object:
    """Return what a JSON column of our own holds; what is not JSON stays text."""
    try:
        return None if stored is None else json.loads(stored)
    except ValueError:
        return stored


def table_exists(db: Connection, name: str) -> bool:
    """Tell whether the database has a table, or a view, of that name."""
    found = db.execute(
        "SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE",
        (name,),
    )
    return found.fetchone() is not None


def count_rows(db: Connection, table: str) -> int | None:
    """Return how many rows a table has, or None when there is no such table."""
    if not table_exists(db, table):
        return None
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
