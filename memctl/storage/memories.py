"""What clients do with single memories, as an interface that each engine implements."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from memctl.storage.matching import SearchedText
from memctl.storage.memory import Memory, NewMemory, SearchResult, Version
from memctl.storage.rows import AgentOverview, MemoryFilter, State


class Memories(Protocol):
    """The memories of an open database, active and archived; each change is one transaction.

    Raises UsageError for texts that are not a str, or that the engine cannot store.
    """

    def require_known_schema(self) -> None:
        """Raise SchemaError if the schema is no longer the one that was opened, nor current."""

    def agent_names(self) -> list[str]:
        """Return the names of all agents with memories, active or archived, sorted."""

    def has_type(self, type: str) -> bool:
        """Return whether a type is one of the five, or that of a memory, active or archived."""

    def require_known_type(self, type: str | None) -> None:
        """Raise UsageError for a type that is none of the five and that no memory has."""

    def remember(self, memory: NewMemory, *, keep_replaced: bool, now: datetime) -> Memory:
        """Store a memory in place of the one with that name, and return it.

        `keep_replaced` archives that one first. Raises RefusedError if it is held.
        """

    def recall(self, agent: str, type: str, key: str, *, now: datetime) -> Memory | None:
        """Return a memory as it was, and count an access; None if there is no such memory."""

    def list_active(
        self, which: MemoryFilter, *, limit: int | None = None, offset: int = 0
    ) -> list[Memory]:
        """Return active memories, the most important first, then the most accessed."""

    def forget(self, agent: str, type: str, key: str, *, now: datetime) -> bool:
        """Archive a memory and return whether there was one. Raises RefusedError if it is held."""

    def search(
        self,
        text: SearchedText,
        which: MemoryFilter,
        *,
        state: State | None = None,
        limit: int,
        offset: int = 0,
    ) -> SearchResult:
        """Return the memories that contain a text in their key, value or metadata, best first.

        A key that equals the text comes first, then a key that starts with it, a key that contains
        it, a value, and metadata; among these, an active memory before an archived one, then the
        most important, then the one that was stored last in its table.
        """

    def versions(
        self, agent: str, type: str, key: str, *, limit: int, offset: int
    ) -> list[Version]:
        """Return the versions of a memory, oldest first; UsageError if the engine keeps none."""

    def summary(self, agent: str, *, most: int) -> tuple[Mapping[str, int], list[Memory]]:
        """Return how many memories of each type an agent has, and its `most` important ones."""

    def agents(self, *, limit: int, offset: int) -> list[AgentOverview]:
        """Return the agents with memories, active or archived, by name."""
