"""The database of an AgentMemory: used by one thread of one process, until it is closed."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING

from memctl.errors import UsageError
from memctl.storage.addresses import Address
from memctl.storage.engines import open_store

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.memories import Memories
    from memctl.storage.store import Store


class OwnedStore:
    """An open, migrated database.

    A connection that a server has closed since the last use is opened again. Raises UsageError if
    it is used in another thread or process than the one that created it, or after `close`.
    """

    store: "Store"
    memories: "Memories"

    def __init__(self, database: Address, *, lock_wait: float) -> None:
        self._owner = _this_thread()
        self._closed = False
        self._lock_wait = lock_wait
        self._opened = ExitStack()
        # A relative path must stay valid, because the current directory may change.
        self.database = database.absolute() if isinstance(database, Path) else database
        self._open()

    def close(self) -> None:
        """Close the database; further calls have no effect."""
        if not self._closed:
            self._require_usable()
            self._closed = True
            self._opened.close()

    @contextmanager
    def use(self) -> Iterator["Memories"]:
        """Let the block use the memories; errors of the engine become MemctlError."""
        self._require_usable()
        if not self.store.is_connected:
            self._opened.close()
            self._open()
        with self.store.translate_errors(self.database):
            self.memories.require_known_schema()
            yield self.memories

    def _open(self) -> None:
        with ExitStack() as opened:
            self.store = opened.enter_context(open_store(self.database, lock_wait=self._lock_wait))
            self.memories = self.store.memories
            self.store.require_current()
            self._opened = opened.pop_all()

    def _require_usable(self) -> None:
        if self._closed:
            raise UsageError("this AgentMemory is closed", "create another one")
        if self._owner != _this_thread():
            raise UsageError(
                "this AgentMemory belongs to another thread or process", "create one in each"
            )


def _this_thread() -> tuple[int, int]:
    """Return what identifies this thread among the threads of all processes."""
    return os.getpid(), get_ident()
