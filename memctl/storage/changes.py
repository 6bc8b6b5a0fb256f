"""Changes that jobs make to many memories, as interfaces that each engine implements."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from memctl.storage.batches import BatchRows, FoundRows
from memctl.storage.rows import AffectedMemory, Loss


class Change(Protocol):
    """A change that a job makes to many memories, in batches."""

    def memories(self) -> Iterator[AffectedMemory]:
        """Yield the memories that it would change now; reads only."""

    def held(self) -> Iterator[AffectedMemory]:
        """Yield the memories that it leaves because they are held; reads only."""

    def find(self) -> FoundRows:
        """Return the rows to change, for `Batches.apply`; reads only and takes no lock."""

    def apply(self, batch: BatchRows) -> Sequence[AffectedMemory]:
        """Change the memories in a batch that still match; returns them as they were before.

        Must be called in a transaction, which is to be rolled back on an error. Raises SchemaError
        if something of another program interferes.
        """


class ImportedMemories(NamedTuple):
    """The memories that a run imported as active ones."""

    active: int  # still active, with the id they were imported with
    gone: int  # neither active nor archived with that id
    unused: Change  # archives those that were neither written nor read since the import


class QuotaExcess(Change, Protocol):
    """Archives the least valuable memories of the agents that are beyond their quota."""

    def beyond_by_holds(self) -> list[str]:
        """Return the agents whose held memories alone were beyond it at the last search."""


class Restoration(Change, Protocol):
    """Moves memories back from the archive."""

    @property
    def replaced(self) -> int:
        """How many active memories it has archived so far to make room."""

    def count_in_the_way(self) -> int:
        """Return how many active memories it would archive to make room; reads only."""


class ArchivedMemories(Protocol):
    """The archived memories that a restore selects, without those that were erased."""

    erased: int  # how many were left out

    def count(self) -> int:
        """Return how many there are."""

    def count_foreign_ids(self) -> int:
        """Return how many have an id that an active memory of another agent has."""

    def count_conflicts(self) -> int:
        """Return how many conflict with an active memory."""

    def first_conflict(self) -> tuple[str, str, str]:
        """Return agent, type and key of one that conflicts with an active memory."""

    def behind_held(self) -> list[tuple[str, str, str]]:
        """Return agent, type and key of those that a held memory keeps in the archive.

        It is active and in the way, or another archived copy with the same id.
        """

    def restoration(
        self, *, replacing: bool, expires_at: datetime | None, now: datetime, run_id: int | None
    ) -> Restoration:
        """Return what restores the newest copy of each.

        Active memories of the same agent that are in the way are archived if `replacing` is true;
        otherwise what they conflict with stays archived. So does what a held memory keeps there.
        """


class OldMemories(Protocol):
    """The archived memories that are past the retention, under a policy and an earlier one."""

    def great_losses(self) -> list[Loss]:
        """Return the agents that would lose over half of what the earlier policy keeps."""

    def count_protected(self) -> int:
        """Return how many memories are old but kept because of their importance."""

    def removal(self, *, guarded: bool, now: datetime, run_id: int | None) -> Change:
        """Return what deletes the others; if `guarded`, not of agents with great losses."""
