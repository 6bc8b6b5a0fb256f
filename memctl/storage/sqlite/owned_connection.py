"""The connection of an AgentMemory: used by one thread of one process, until it is closed."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import get_ident

from memctl.errors import UsageError
from memctl.storage.sqlite.database import open_database, transaction
from memctl.storage.sqlite.memories import fire_triggers_on_replace
from memctl.storage.sqlite.migrations import require_current, schema_version
from memctl.storage.sqlite.sqlite_errors import translate_errors


class OwnedConnection:
    """A connection to a migrated database.

    Raises UsageError if it is used in another thread or process than the one that created it, or
    after `close`.
    """

    def __init__(self, path: Path, *, lock_wait: float) -> None:
        self._owner = _this_thread()
        self._closed = False
        with ExitStack() as opened:
            self.db = opened.enter_context(open_database(path, lock_wait=lock_wait))
            self.path = path.absolute()  # the current directory may change
            fire_triggers_on_replace(self.db)
            self._schema = schema_version(self.db)
            require_current(self.db)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close the database; further calls have no effect."""
        if not self._closed:
            self._require_usable()
            self._closed = True
            self._opened.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let the block read; errors of SQLite become MemctlError."""
        self._require_usable()
        with translate_errors(self.path):
            self._require_known_schema()
            yield

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Run the block in a transaction that holds the write lock."""
        self._require_usable()
        with translate_errors(self.path, self.db), transaction(self.db):
            self._require_known_schema()
            yield

    def _require_usable(self) -> None:
        if self._closed:
            raise UsageError("this AgentMemory is closed", "create another one")
        if self._owner != _this_thread():
            raise UsageError(
                "this AgentMemory belongs to another thread or process", "create one in each"
            )

    def _require_known_schema(self) -> None:
        """Check a schema that has changed: a column that was added would not be archived."""
        version = schema_version(self.db)
        if version != self._schema:
            require_current(self.db)
            self._schema = version


def _this_thread() -> tuple[int, int]:
    """Return what identifies this thread among the threads of all processes."""
    return os.getpid(), get_ident()
