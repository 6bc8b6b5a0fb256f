"""Changes in short transactions, as an interface that each engine implements."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

# How an engine identifies rows, such as by the rowids of SQLite; only the engine reads them.
FoundRows = Sequence[Any]
BatchRows = Any


class Batches(Protocol):
    """Applies changes in short transactions, between which other programs can write."""

    longest_lock_ms: float

    def apply(
        self,
        rows: FoundRows,
        change: Callable[[BatchRows], object],
        *,
        doing: str,
        after: Callable[[Any], object] | None = None,
        at_once: bool = False,
        shared: bool = False,
    ) -> int:
        """Call `change` with one batch of rows after the other, or with all of them at once.

        `doing` names the change as a phase of the run. Each call is in a transaction of its own,
        which an engine may repeat; once it is committed, `after` is called with what it returned.
        If `shared`, the lock is then left to others for as long, even if none seems to write.
        Returns how many rows were not reached in time. An exception, including one that a signal
        raises, rolls back the interrupted batch and ends the work. Raises SchemaError if another
        program changes the schema between two batches, or has added or removed a column of
        agent_memory.
        """

    def apply_at_once(self, change: Callable[[], object]) -> None:
        """Call `change` in one transaction."""

    def keep(self) -> None:
        """Keep other memctl processes out; to be called from time to time between two phases."""
