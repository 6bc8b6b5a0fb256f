"""The memories that a job acts on: one condition for the preview, the search, and each batch.

The search takes no lock. Each batch therefore repeats the condition for its own rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from memctl.storage.postgresql.batches import FoundRow
from memctl.storage.postgresql.database import Database
from memctl.storage.rows import AffectedMemory

# How a table identifies the memories of an agent.
KEYS = {"agent_memory": "id", "archived_memories": "archive_id"}


class Selection(NamedTuple):
    """The memories in a table that meet a condition, with the details to show of each."""

    condition: str
    parameters: Mapping[str, Any]
    details: Mapping[str, str] = {}  # SQL by name
    search_only: str = "TRUE"  # a condition that no other program can change meanwhile
    table: Literal["agent_memory", "archived_memories"] = "agent_memory"

    def find(self, db: Database) -> list[FoundRow]:
        """Return the rows, those of an agent together; takes no lock."""
        return db.rows(f"SELECT agent_id, {KEYS[self.table]}::text {self._found}", self.parameters)

    def memories(self, db: Database) -> Iterator[AffectedMemory]:
        """Yield every memory that matches now."""
        return map(self.affected, db.rows(f"SELECT {self.shown} {self._found}", self.parameters))

    def affected(self, row: Sequence[Any]) -> AffectedMemory:
        """Return a row, which begins with id, agent_id, type and key, as a memory."""
        memory_id, agent_id, type_, key, *details = row
        return AffectedMemory(
            0, memory_id, agent_id, type_, key, tuple(self.details), tuple(details)
        )

    @property
    def shown(self) -> str:
        """SQL for the columns of a memory, for `affected`."""
        return ", ".join(("id, agent_id, type, key", *self.details.values()))

    @property
    def _found(self) -> str:
        return f"""
            FROM {self.table} WHERE {self.condition} AND {self.search_only}
            ORDER BY agent_id, {self.table}.{KEYS[self.table]}
        """


class SelectedChange:
    """A change of selected memories, without what it does; see `storage.changes.Change`."""

    def __init__(
        self, db: Database, selection: Selection, *, now: datetime, run_id: int | None
    ) -> None:
        self._db = db
        self._selection = selection
        self._now = now
        self._run_id = run_id

    def memories(self) -> Iterator[AffectedMemory]:
        """Yield the memories that it would change now."""
        return self._selection.memories(self._db)

    def held(self) -> Iterator[AffectedMemory]:
        """Yield nothing: there are no holds on this engine."""
        return iter(())

    def find(self) -> Sequence[FoundRow]:
        """Return the rows to change."""
        return self._selection.find(self._db)
