"""SQLite behind `storage.memories`: what clients do with single memories."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import datetime
from sqlite3 import Connection

from memctl.storage.matching import SearchedText
from memctl.storage.memory import Memory, NewMemory, SearchResult, Version
from memctl.storage.rows import AgentOverview, MemoryFilter, Reason, State
from memctl.storage.sqlite import agents, memories
from memctl.storage.sqlite.agent_overview import list_agents
from memctl.storage.sqlite.archiving import archive_rows, own_deletes
from memctl.storage.sqlite.database import one_view, transaction
from memctl.storage.sqlite.holds import require_not_held
from memctl.storage.sqlite.memories import MemoryName, memory_name
from memctl.storage.sqlite.migrations import require_current, schema_version
from memctl.storage.sqlite.search import search_memories
from memctl.storage.sqlite.triggers import require_equal_counts
from memctl.storage.sqlite.versions import list_versions


class SqliteMemories:
    """The memories of an open database; its methods are documented in `storage.memories`."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        memories.fire_triggers_on_replace(db)
        self._schema = schema_version(db)

    def require_known_schema(self) -> None:
        """Check a schema that has changed: a column that was added would not be archived."""
        version = schema_version(self._db)
        if version != self._schema:
            require_current(self._db)
            self._schema = version

    def agent_names(self) -> list[str]:
        return agents.agents(self._db)

    def has_type(self, type: str) -> bool:
        return memories.has_type(self._db, type)

    def require_known_type(self, type: str | None) -> None:
        memories.require_known_type(self._db, type)

    def remember(self, memory: NewMemory, *, keep_replaced: bool, now: datetime) -> Memory:
        name = memory_name(memory.agent, memory.type, memory.key)
        with self._changing():
            if keep_replaced:
                self._archive(name, reason="replaced", now=now)
            replaces = bool(self._rows_not_held(name, now=now))
            with own_deletes(self._db) if replaces else nullcontext():
                written = memories.replace_memory(self._db, memory, now=now)
            require_equal_counts(self._db, remembered=1, written=written)
            return memories.read_memory(self._db, name)

    def recall(self, agent: str, type: str, key: str, *, now: datetime) -> Memory | None:
        memory = memories.find_memory(self._db, memory_name(agent, type, key))
        if memory is not None and isinstance(memory.id, str):
            with self._changing():  # the service's statement finds no other ids either
                memories.count_access(self._db, memory.id, now=now)
        return memory

    def list_active(
        self, which: MemoryFilter, *, limit: int | None = None, offset: int = 0
    ) -> list[Memory]:
        return memories.list_memories(self._db, which, limit=limit, offset=offset)

    def forget(self, agent: str, type: str, key: str, *, now: datetime) -> bool:
        name = memory_name(agent, type, key)
        with self._changing():
            return bool(self._archive(name, reason="forgotten", now=now))

    def search(
        self,
        text: SearchedText,
        which: MemoryFilter,
        *,
        state: State | None = None,
        limit: int,
        offset: int = 0,
    ) -> SearchResult:
        return search_memories(self._db, text, which, state=state, limit=limit, offset=offset)

    def versions(
        self, agent: str, type: str, key: str, *, limit: int, offset: int
    ) -> list[Version]:
        name = memory_name(agent, type, key)
        with one_view(self._db):
            return list_versions(self._db, name, limit=limit, offset=offset)

    def summary(self, agent: str, *, most: int) -> tuple[Mapping[str, int], list[Memory]]:
        with one_view(self._db):
            by_type = memories.count_by_type(self._db, agent)
            return by_type, memories.list_memories(self._db, MemoryFilter(agent), limit=most)

    def agents(self, *, limit: int, offset: int) -> list[AgentOverview]:
        return list_agents(self._db, limit=limit, offset=offset)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Run the block in a transaction that holds the write lock."""
        with transaction(self._db):
            self.require_known_schema()
            yield

    def _archive(self, name: MemoryName, *, reason: Reason, now: datetime) -> int:
        """Archive the memory of that name, if there is one; return the number of memories."""
        rowids = json.dumps(self._rows_not_held(name, now=now))
        return archive_rows(self._db, rowids, reason=reason, now=now, run_id=None)

    def _rows_not_held(self, name: MemoryName, *, now: datetime) -> list[int]:
        """Return the rows of the memories of that name. Raises RefusedError if it is held."""
        rows = memories.rows_of_memory(self._db, name)
        require_not_held(self._db, "agent_memory", json.dumps(rows), now=now)
        return rows
