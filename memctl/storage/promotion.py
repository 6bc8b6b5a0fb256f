"""What a promotion considers and makes of it, as interfaces that each engine implements."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from memctl.storage.changes import Change
from memctl.storage.knowledge import (
    CandidateRow,
    ConditionsMet,
    EntryChange,
    KnowledgeEntry,
    KnownEntry,
    Which,
)
from memctl.storage.rows import AffectedMemory


class Candidates(Protocol):
    """The memories that a promotion considers, and how they meet its conditions."""

    def judge(
        self, which: Which = "all", *, rowid: int | None = None
    ) -> Iterator[tuple[AffectedMemory, ConditionsMet]]:
        """Yield memories, or the one in a row, and the conditions that they meet."""

    def read(self, rowid: int) -> CandidateRow | None:
        """Return the candidate in a row with its text, or None if it no longer is a candidate."""

    def promotion(self, promote: Callable[[Sequence[AffectedMemory]], object]) -> Change:
        """Return what calls `promote` for the candidates whose text was not promoted yet."""

    def marking(self) -> Change:
        """Return what marks the candidates that were promoted earlier and have lost the mark."""


class KnowledgeBase(Protocol):
    """The entries that memories become. Changes must be made in a transaction."""

    def exists(self) -> bool:
        """Return whether there is one. Raises RefusedError if its name belongs to another table."""

    def create(self) -> None:
        """Create it."""

    def entries(self) -> Iterator[KnownEntry]:
        """Yield the entries that hold, oldest first, then the others; all are read at once."""

    def content_of(self, number: int, *, agent: str) -> str | None:
        """Return the text of an entry, or None if it is gone or not of the agent."""

    def content_if_it_holds(self, number: int) -> str | None:
        """Return the text of an entry, or None if it is gone or superseded."""

    def read(self, number: int) -> EntryChange:
        """Return an entry that stays unchanged."""

    def add(self, entry: KnowledgeEntry, *, memory: int) -> EntryChange:
        """Add the entry made from the memory in a row."""

    def confirm(self, number: int, *, gain: float, now: datetime) -> EntryChange:
        """Count one more occurrence of an entry and raise its confidence."""

    def supersede(self, number: int, *, by: EntryChange, now: datetime) -> EntryChange:
        """Mark an entry as superseded by another one and lower its confidence."""

    def link(
        self,
        memory: int,
        *,
        entry_id: str,
        content_hash: str,
        detail: Mapping[str, object],
        now: datetime,
        run_id: int | None,
    ) -> None:
        """Link the memory in a row to its entry, mark it as promoted, and record the event."""
