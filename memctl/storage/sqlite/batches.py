"""Many short write transactions instead of one long one, so that other writers wait only briefly.

While another program writes, the size of a batch is adjusted so that it holds the write lock for
about 10 ms, and the lock then stays free for as long; otherwise a batch may hold it for 50 ms.
Checkpoints run here, after the lock is released, instead of in the commits of other writers.
"""

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from sqlite3 import Connection
from typing import Any

from memctl.errors import SchemaError
from memctl.storage.progress import NO_PROGRESS, Progress
from memctl.storage.sqlite.database import data_version, transaction
from memctl.storage.sqlite.migrations import MEMORY_COLUMNS, require_columns, schema_version

FIRST_BATCH_ROWS = 1  # a value may have megabytes; the next batch has at most twice as many rows
MOST_BATCH_ROWS = 5000
SHARED_SECONDS = 0.010  # to hold the lock for, while another program writes
ALONE_SECONDS = 0.050  # the same, while no other program writes
WRITER_ACTIVE_SECONDS = 0.25  # after its last write, another program is assumed to go on writing
CHECKPOINT_EVERY_SECONDS = 0.25  # of held lock, while no other program writes


class SqliteBatches:
    """Applies changes in batches, and measures how long each held the lock; see `store.Batches`."""

    def __init__(
        self,
        db: Connection,
        *,
        max_seconds: float | None = None,
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self.longest_lock_ms = 0.0
        self._db = db
        self._progress = progress
        self._deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self._rows = FIRST_BATCH_ROWS
        self._data_version = data_version(db)
        self._writer_active_until = 0.0  # the first batches are small enough in any case
        self._held_since_checkpoint = 0.0
        db.execute("PRAGMA wal_autocheckpoint = 0")

    def apply(
        self,
        rowids: Sequence[int],
        change: Callable[[str], object],
        *,
        doing: str,
        after: Callable[[Any], object] | None = None,
        at_once: bool = False,
        shared: bool = False,
    ) -> int:
        """Call `change` with one batch of rowids (a JSON array) after the other, or with all."""
        self._progress.phase(doing, total=None if at_once else len(rowids))
        schema = schema_version(self._db)
        require_columns(self._db, MEMORY_COLUMNS)

        changed: object = None

        def change_checked(batch: str) -> None:
            nonlocal schema, changed
            if schema_version(self._db) != schema:
                raise SchemaError(
                    "the schema was changed while the job ran",
                    "finished batches are kept; run the job again to complete it",
                )
            changed = change(batch)
            schema = schema_version(self._db)  # the change itself may have made a table

        if at_once:
            if rowids:
                self.apply_at_once(partial(change_checked, json.dumps(list(rowids))))
                if after:
                    after(changed)
            return 0
        done = 0
        while done < len(rowids):
            if self._deadline is not None and time.monotonic() >= self._deadline:
                break
            batch = rowids[done : done + self._rows]
            held = self._hold(partial(change_checked, json.dumps(list(batch))))
            if after:
                after(changed)
            done += len(batch)
            self._progress.advance(len(batch))
            if done < len(rowids):
                self._adapt(held, shared=shared or self._is_writer_active())
        if self._held_since_checkpoint:
            self._checkpoint()
        return len(rowids) - done

    def apply_at_once(self, change: Callable[[], object]) -> None:
        self._hold(change)
        self._checkpoint()

    def keep(self) -> None:
        """Do nothing: the lock file stays locked."""

    def _hold(self, change: Callable[[], object]) -> float:
        """Call `change` in a transaction, and return for how many seconds it held the lock."""
        with transaction(self._db):
            begun = time.monotonic()
            change()
        held = time.monotonic() - begun
        self.longest_lock_ms = max(self.longest_lock_ms, held * 1000)
        self._held_since_checkpoint += held
        return held

    def _adapt(self, held: float, *, shared: bool) -> None:
        """Choose the size of the next batch; leave the lock to another writer if there is one."""
        aim = SHARED_SECONDS if shared else ALONE_SECONDS
        self._rows = max(1, min(int(self._rows * min(2.0, aim / held)), MOST_BATCH_ROWS))
        if shared:
            time.sleep(max(held / 2, held - self._checkpoint()))
        elif self._held_since_checkpoint >= CHECKPOINT_EVERY_SECONDS:
            self._checkpoint()

    def _checkpoint(self) -> float:
        """Move committed pages into the database file; return how many seconds that took.

        The write lock is not held. Otherwise, the commit of the next writer would do it.
        """
        begun = time.monotonic()
        self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._held_since_checkpoint = 0.0
        return time.monotonic() - begun

    def _is_writer_active(self) -> bool:
        """Return whether another connection has written recently."""
        version = data_version(self._db)
        if version != self._data_version:
            self._data_version = version
            self._writer_active_until = time.monotonic() + WRITER_ACTIVE_SECONDS
        return time.monotonic() < self._writer_active_until
