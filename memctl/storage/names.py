"""Names in the database, for shell completion, as an interface that each engine implements.

Completion must change nothing and answer soon: queries end after some rows or some time.
"""

from collections.abc import Sequence
from typing import Protocol

from memctl.storage.sqlite.database import MemoryTable

MOST_NAMES = 100
MOST_RUNS = 50
MOST_SECONDS = 0.3  # for all queries of one completion in SQLite, for each on a server

ACTIVE: Sequence[MemoryTable] = ("agent_memory",)
ARCHIVED: Sequence[MemoryTable] = ("archived_memories",)
BOTH: Sequence[MemoryTable] = (*ACTIVE, *ARCHIVED)


class Names(Protocol):
    """The names in an open database. They are sorted, and each occurs once."""

    def agents_like(self, start: str) -> list[str]:
        """Return the names of agents that begin with a text."""

    def types_of(self, start: str, *, agent: str) -> list[str]:
        """Return the types of an agent's memories that begin with a text."""

    def keys_of(
        self, start: str, tables: Sequence[MemoryTable], *, agent: str, type: str | None
    ) -> list[str]:
        """Return the keys of an agent's memories, of any type or one, that begin with a text."""

    def ids_of(self, start: str, tables: Sequence[MemoryTable], *, agent: str) -> list[str]:
        """Return the ids of an agent's memories that begin with a text."""

    def runs_like(self, start: str, *, jobs: Sequence[str] | None) -> list[tuple[str, str]]:
        """Return the newest runs whose number begins with a text, each with its job and time.

        With `jobs`, only runs of these that archived something.
        """
