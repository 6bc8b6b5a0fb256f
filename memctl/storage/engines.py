"""The choice of the engine: a path names a SQLite database, a URL one on a PostgreSQL server."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from memctl.errors import UsageError
from memctl.storage.addresses import Address, ServerAddress
from memctl.storage.sqlite import locking
from memctl.storage.sqlite.database import open_database, require_file
from memctl.storage.sqlite.store import SqliteStore

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.names import Names
    from memctl.storage.postgresql.database import Database
    from memctl.storage.store import Exclusion, Store

MOST_LOCK_WAIT = 86400  # seconds


def require_lock_wait(lock_wait: float) -> None:
    """Raise UsageError unless it is a valid number of seconds."""
    if not isinstance(lock_wait, int | float) or not 0 <= lock_wait <= MOST_LOCK_WAIT:
        raise UsageError(
            f"invalid lock_wait {lock_wait!r}", f"pass seconds from 0 to {MOST_LOCK_WAIT}"
        )


@contextmanager
def open_store(
    database: Address, *, read_only: bool = False, lock_wait: float = 10.0
) -> Iterator["Store"]:
    """Open a database; `lock_wait` is how many seconds a statement of SQLite waits for a lock.

    Raises NoDatabaseError if there is none; errors of the engine in the block become MemctlError.
    """
    if isinstance(database, Path):
        with open_database(database, read_only=read_only, lock_wait=lock_wait) as db:
            yield SqliteStore(db)
        return
    with open_server(database) as server:
        from memctl.storage.postgresql.store import PostgresStore

        yield PostgresStore(server)


@contextmanager
def open_server(address: ServerAddress) -> Iterator["Database"]:
    """Open a database on a server, for changes and checks of its schema; see `open_store`."""
    require_driver()
    from memctl.storage.postgresql.database import open_database

    with open_database(address) as db:
        yield db


def exclusive(database: Address, *, job: str, wait: float) -> AbstractContextManager["Exclusion"]:
    """Exclude other memctl processes that change a database during the block.

    Their messages name `job` as the one that runs. Yields what `Store.batches` takes. Raises
    NoDatabaseError if there is no database, and LockedError if another process still excludes this
    one after `wait` seconds.
    """
    if isinstance(database, Path):
        require_file(database)
        return locking.exclusive(database, job=job, wait=wait)
    require_driver()
    from memctl.storage.postgresql import lease

    return lease.exclusive(database, job=job, wait=wait)


@contextmanager
def open_names(database: Address) -> Iterator["Names"]:
    """Open a database for shell completion, without changing it.

    Raises MemctlError if it cannot be read.
    """
    if isinstance(database, Path):
        from memctl.storage.sqlite.names import SqliteNames, open_for_names

        with open_for_names(database) as db:
            yield SqliteNames(db)
        return
    require_driver()
    from memctl.storage.postgresql.names import open_for_names as open_on_server

    with open_on_server(database) as names:
        yield names


def require_driver() -> None:
    """Raise UsageError if the program was installed without the driver of PostgreSQL."""
    try:
        import psycopg  # noqa: F401  only to see whether it exists
    except ImportError:
        raise UsageError(
            "this memctl was installed without PostgreSQL",
            "install it with `pip install 'agent-memctl[postgres]'`",
        ) from None
