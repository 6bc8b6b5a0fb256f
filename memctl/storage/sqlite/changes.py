"""Changes to the rows of a table that a selection finds."""

import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from sqlite3 import Connection
from typing import NamedTuple

from memctl.storage.rows import AffectedMemory
from memctl.storage.sqlite.holds import has_holds
from memctl.storage.sqlite.selection import Selection
from memctl.storage.sqlite.triggers import require_equal_counts


class Batch(NamedTuple):
    """The memories that one transaction changes, and their rows as a JSON array."""

    memories: Sequence[AffectedMemory]
    rowids: str


class RowChange:
    """Applies a function to the selected rows; see `storage.changes.Change`.

    `change` is called with each batch that is not empty, and returns how many rows it changed: a
    batch in which that is not all of them is rolled back. `if_not_held` returns the selection of
    which the held memories are left, if it is another one.
    """

    def __init__(
        self,
        db: Connection,
        selection: Selection,
        change: Callable[[Batch], int],
        *,
        if_not_held: Callable[[], Selection] | None = None,
    ) -> None:
        self._db = db
        self._selection = selection
        self._change = change
        self._if_not_held = if_not_held

    def memories(self) -> Iterator[AffectedMemory]:
        """Yield the memories that it would change now."""
        return self._selection.memories(self._db)

    def held(self) -> Iterator[AffectedMemory]:
        """Yield the memories that it leaves because they are held."""
        if has_holds(self._db):
            selection = self._if_not_held() if self._if_not_held else self._selection
            yield from selection.held(self._db)

    def find(self) -> "array[int]":
        """Return the rows to change."""
        return self._selection.rowids(self._db)

    def apply(self, batch: str) -> Sequence[AffectedMemory]:
        """Change the memories in the rows (a JSON array) that still match; returns these."""
        matching = self._selection.still_matching(self._db, batch)
        rowids = json.dumps([memory.rowid for memory in matching])
        changed = self._change(Batch(matching, rowids)) if matching else 0
        require_equal_counts(self._db, due=len(matching), changed=changed)
        return matching
