"""Many short write transactions instead of one long one, paced so that other writers do not notice.

Beside another writer a batch is steered to hold the lock for about 10 ms, and then leaves it free
for as long again; while nobody else writes it may grow to 50 ms. Checkpoints run here, after the
lock is released, so that the other writer's commits do not have to.
"""

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from sqlite3 import Connection

from memctl.errors import SchemaError
from memctl.storage.sqlite.database import data_version, transaction
from memctl.storage.sqlite.migrations import MEMORY_COLUMNS, require_columns, schema_version

FIRST_BATCH_ROWS = 1  # values may be megabytes each; it doubles as long as there is time
MOST_BATCH_ROWS = 5000
POLITE_SECONDS = 0.010
ALONE_SECONDS = 0.050
COMPANY_LASTS_SECONDS = 0.25  # so long after another's last write it may still be at work
CHECKPOINT_EVERY_SECONDS = 0.25  # of held lock, while alone


class SqliteBatches:
    """Applies changes to rows in batches, and remembers how long others had to wait."""

    def __init__(self, db: Connection, *, max_seconds: float | None = None) -> None:
        self.longest_lock_ms = 0.0
        self._db = db
        self._deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self._rows = FIRST_BATCH_ROWS
        self._data_version = data_version(db)
        self._schema = schema_version(db)
        require_columns(db, MEMORY_COLUMNS)
        self._company_until = 0.0  # the first batches are too small to disturb anybody
        self._held_since_checkpoint = 0.0
        db.execute("PRAGMA wal_autocheckpoint = 0")

    def apply(
        self, rowids: Sequence[int], change: Callable[[str], object], *, at_once: bool = False
    ) -> int:
        """Call `change` with one batch of rowids at a time, as a JSON array, each in a transaction.

        `rowids` are an array; if `at_once`, all of them are one batch. Returns how many rowids were
        not reached before `max_seconds` were over. An exception, also one that a signal raises,
        rolls back the batch it interrupts and ends the work. Raises SchemaError if another program
        changes the schema meanwhile.
        """
        if at_once:
            if rowids:
                self.apply_at_once(partial(change, json.dumps(list(rowids))))
            return 0
        done = 0
        while done < len(rowids):
            if self._deadline is not None and time.monotonic() >= self._deadline:
                break
            batch = rowids[done : done + self._rows]
            held = self._hold(partial(change, json.dumps(list(batch))))
            done += len(batch)
            if done < len(rowids):
                self._make_room(held)
        if self._held_since_checkpoint:
            self._checkpoint()
        return len(rowids) - done

    def apply_at_once(self, change: Callable[[], object]) -> None:
        """Call `change` in one transaction: what others must see whole or not at all."""
        self._hold(change)
        self._checkpoint()

    def _require_same_schema(self) -> None:
        """Raise SchemaError if another program has changed the schema since the run began."""
        if schema_version(self._db) != self._schema:
            raise SchemaError(
                "the schema was changed while the job ran",
                "what was done stays done: run it again for the rest",
            )

    def _hold(self, change: Callable[[], object]) -> float:
        """Call `change` in a transaction, and return for how many seconds it held the lock."""
        with transaction(self._db):
            begun = time.monotonic()
            self._require_same_schema()
            change()
            self._schema = schema_version(self._db)  # the change itself may have made a table
        held = time.monotonic() - begun
        self.longest_lock_ms = max(self.longest_lock_ms, held * 1000)
        self._held_since_checkpoint += held
        return held

    def _make_room(self, held: float) -> None:
        company = self._has_company()
        aim = POLITE_SECONDS if company else ALONE_SECONDS
        self._rows = max(1, min(int(self._rows * min(2.0, aim / held)), MOST_BATCH_ROWS))
        if company:
            time.sleep(max(held / 2, held - self._checkpoint()))
        elif self._held_since_checkpoint >= CHECKPOINT_EVERY_SECONDS:
            self._checkpoint()

    def _checkpoint(self) -> float:
        """Move what is committed into the database file, and return the seconds it took.

        It holds no lock. Left to the next writer, its commit would take that much longer.
        """
        begun = time.monotonic()
        self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._held_since_checkpoint = 0.0
        return time.monotonic() - begun

    def _has_company(self) -> bool:
        """Return whether another connection has written recently."""
        version = data_version(self._db)
        if version != self._data_version:
            self._data_version = version
            self._company_until = time.monotonic() + COMPANY_LASTS_SECONDS
        return time.monotonic() < self._company_until
