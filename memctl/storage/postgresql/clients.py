"""PostgreSQL behind `storage.memories`: what clients do with single memories.

Each change is one statement that names the memory by agent, type and key. If another program
changes it at the same time, the statement waits, and then changes what that program has written.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from memctl.errors import UsageError
from memctl.storage.matching import SearchedText
from memctl.storage.memory import (
    TYPES,
    Memory,
    NewMemory,
    SearchResult,
    Version,
    require_type,
)
from memctl.storage.postgresql import agents
from memctl.storage.postgresql.archiving import KEPT_COLUMNS, interference, require_counts
from memctl.storage.postgresql.copied_tables import ACTIVE
from memctl.storage.postgresql.database import MOST_ATTEMPTS, Database, text
from memctl.storage.postgresql.migrations import require_columns
from memctl.storage.postgresql.search import memory_condition, search_memories
from memctl.storage.postgresql.times import new_key, sqlite_text
from memctl.storage.postgresql.values import named_row, storable_texts
from memctl.storage.rows import CAUSES, AgentOverview, MemoryFilter, State, reason_detail
from memctl.storage.sqlite.migrations import MEMORY_COLUMNS
from memctl.storage.times import to_text

COLUMNS = ACTIVE.reading(MEMORY_COLUMNS)

OF_NAME = "agent_id = %(agent)s AND type = %(type)s AND key = %(key)s"

# Every column, so that nothing of a replaced memory is left.
NEW_VALUES = {
    "id": "%(id)s",
    "agent_id": "%(agent)s",
    "type": "%(type)s",
    "key": "%(key)s",
    "value": "%(value)s",
    "metadata": "%(metadata)s",
    "importance": "%(importance)s",
    "access_count": "0",
    "last_accessed": "%(now)s",
    "created_at": "%(now)s",
    "expires_at": "%(expires_at)s",
    "archived_at": "NULL",
    "importance_decay_rate": "NULL",
    "last_decay_at": "NULL",
    "promoted_at": "NULL",
    "import_order": "NULL",
}

# With `keep_replaced`, it replaces only the memory that has just been archived.
REPLACE_MEMORY = f"""
    INSERT INTO agent_memory AS memory ({", ".join(NEW_VALUES)})
    VALUES ({", ".join(NEW_VALUES.values())})
    ON CONFLICT (agent_id, type, key) DO UPDATE
    SET {", ".join(f"{name} = excluded.{name}" for name in NEW_VALUES if name != "agent_id")}
    WHERE NOT %(keep_replaced)s OR memory.id = %(replaced)s
    RETURNING {COLUMNS}
"""

# Returns the memory as it was before the access.
COUNT_ACCESS = f"""
    UPDATE agent_memory
    SET access_count = access_count + 1, last_accessed = %(now)s
    FROM (SELECT last_accessed AS accessed_before FROM agent_memory WHERE {OF_NAME}) AS before
    WHERE {OF_NAME}
    RETURNING {
    ", ".join(
        {
            **{name: ACTIVE.read_as.get(name, name) for name in MEMORY_COLUMNS},
            "access_count": "access_count - 1",
            "last_accessed": sqlite_text("accessed_before"),
        }.values()
    )
}
"""


def _archive_statement(rows: str) -> str:
    """Return the statement that archives the rows of a query, and records this in events."""
    kept = ", ".join(KEPT_COLUMNS)
    return f"""
        WITH gone AS ({rows}),
        kept AS (
            INSERT INTO archived_memories
                ({kept}, archive_id, archived_at, archived_reason, run_id)
            SELECT {kept}, %(archive_id)s, %(now)s, %(reason)s, NULL FROM gone
            RETURNING 1
        ),
        recorded AS (
            INSERT INTO memory_events
                (event_key, event_id, at, event, memory_id, agent_id, type, key, run_id, detail)
            SELECT event_key, NULL, %(now)s, event, id, agent_id, type, key, NULL, detail
            FROM gone CROSS JOIN
                unnest(%(event_keys)s::uuid[], %(events)s::text[], %(details)s::text[])
                    AS event_of_memory (event_key, event, detail)
            RETURNING 1
        )
        SELECT id, (SELECT count(*) FROM kept), (SELECT count(*) FROM recorded) FROM gone
    """


ARCHIVE_FORGOTTEN = _archive_statement(f"DELETE FROM agent_memory WHERE {OF_NAME} RETURNING *")
ARCHIVE_REPLACED = _archive_statement(f"SELECT * FROM agent_memory WHERE {OF_NAME} FOR UPDATE")


class PostgresMemories:
    """The memories of an open database; its methods are documented in `storage.memories`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def require_known_schema(self) -> None:
        """Do nothing: the transaction that archives a memory checks the columns."""

    def agent_names(self) -> list[str]:
        return agents.agents(self._db)

    def has_type(self, type: str) -> bool:
        return type in TYPES or any(
            self._db.row(
                f"SELECT 1 FROM {table} WHERE type = %(type)s LIMIT 1", {"type": text(type)}
            )
            for table in agents.TABLES
        )

    def require_known_type(self, type: str | None) -> None:
        if type is not None and not self.has_type(type):
            require_type(type)

    def remember(self, memory: NewMemory, *, keep_replaced: bool, now: datetime) -> Memory:
        row = {
            "metadata": None,
            **storable_texts(**memory.texts),
            "id": memory.id,
            "importance": memory.importance,
            "expires_at": memory.expires_at,
            "now": to_text(now),
            "keep_replaced": keep_replaced,
        }

        def replace() -> Any:
            for _ in range(MOST_ATTEMPTS):  # another program may store one after the archiving
                replaced = None
                if keep_replaced:
                    replaced = self._archive(ARCHIVE_REPLACED, row, "replaced")
                if written := self._db.row(REPLACE_MEMORY, {**row, "replaced": replaced}):
                    return written
            raise interference(1, remembered=0)

        return _memory(self._db.transaction(replace))

    def recall(self, agent: str, type: str, key: str, *, now: datetime) -> Memory | None:
        access = {**_name(agent, type, key), "now": to_text(now)}
        row = self._db.transaction(lambda: self._db.row(COUNT_ACCESS, access))
        return None if row is None else _memory(row)

    def list_active(
        self, which: MemoryFilter, *, limit: int | None = None, offset: int = 0
    ) -> list[Memory]:
        condition, parameters = memory_condition(which)
        rows = self._db.rows(
            f"SELECT {COLUMNS} FROM agent_memory WHERE {condition}"
            " ORDER BY importance DESC NULLS LAST, access_count DESC NULLS LAST,"
            " created_at, id, agent_id LIMIT %(limit)s OFFSET %(offset)s",
            {**parameters, "limit": limit, "offset": offset},
        )
        return [_memory(row) for row in rows]

    def forget(self, agent: str, type: str, key: str, *, now: datetime) -> bool:
        name = {**_name(agent, type, key), "now": to_text(now)}
        archived = self._db.transaction(lambda: self._archive(ARCHIVE_FORGOTTEN, name, "forgotten"))
        return archived is not None

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
        raise UsageError(
            "there is no history on PostgreSQL", "list the archived memories of that key"
        )

    def summary(self, agent: str, *, most: int) -> tuple[Mapping[str, int], list[Memory]]:
        with self._db.one_view():
            counts = self._db.rows(
                "SELECT type, count(*) FROM agent_memory WHERE agent_id = %(agent)s"
                " GROUP BY type ORDER BY type",
                storable_texts(agent=agent),
            )
            return dict(counts), self.list_active(MemoryFilter(agent), limit=most)

    def agents(self, *, limit: int, offset: int) -> list[AgentOverview]:
        return agents.list_agents(self._db, limit=limit, offset=offset)

    def _archive(
        self, statement: str, row: Mapping[str, Any], reason: Literal["forgotten", "replaced"]
    ) -> str | None:
        """Archive the memory of that name; return its id, or None if there is none.

        Must be called in a transaction. The events are numbered later.
        """
        events: Sequence[str] = ("memory:archived",)
        if cause := CAUSES.get(reason):
            events = (cause, *events)
        archived = self._db.row(
            statement,
            {
                **row,
                "reason": reason,
                "archive_id": new_key(),
                "event_keys": [new_key() for _ in events],
                "events": list(events),
                "details": [*(None for _ in events[1:]), reason_detail(reason)],
            },
        )
        if archived is None:
            return None
        require_columns(self._db)
        memory_id, kept, recorded = archived
        require_counts(1, archived=kept, events=recorded // len(events))
        return str(memory_id)


def _memory(row: Sequence[Any]) -> Memory:
    return Memory(**named_row(MEMORY_COLUMNS, row))


def _name(agent: str, type: str, key: str) -> dict[str, str]:
    return storable_texts(agent=agent, type=type, key=key)
