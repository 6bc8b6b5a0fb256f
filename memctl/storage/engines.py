"""The choice of the engine: a path names a SQLite database, the only engine so far."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from memctl.errors import UsageError
from memctl.storage.sqlite import locking
from memctl.storage.sqlite.database import open_database, require_file
from memctl.storage.sqlite.store import SqliteStore

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Store

MOST_LOCK_WAIT = 86400  # seconds


def require_lock_wait(lock_wait: float) -> None:
    """Raise UsageError unless it is a valid number of seconds."""
    if not isinstance(lock_wait, int | float) or not 0 <= lock_wait <= MOST_LOCK_WAIT:
        raise UsageError(
            f"invalid lock_wait {lock_wait!r}", f"pass seconds from 0 to {MOST_LOCK_WAIT}"
        )


@contextmanager
def open_store(
    database: Path, *, read_only: bool = False, lock_wait: float = 10.0
) -> Iterator["Store"]:
    """Open a database; `lock_wait` is how many seconds a statement waits for a lock.

    Raises NoDatabaseError if there is none; errors of the engine in the block become MemctlError.
    """
    with open_database(database, read_only=read_only, lock_wait=lock_wait) as db:
        yield SqliteStore(db)


def exclusive(database: Path, *, job: str, wait: float) -> AbstractContextManager[None]:
    """Exclude other memctl processes that change a database during the block.

    Their messages name `job` as the one that runs. Raises NoDatabaseError if there is no database,
    and LockedError if another process still holds the lock after `wait` seconds.
    """
    require_file(database)
    return locking.exclusive(database, job=job, wait=wait)
