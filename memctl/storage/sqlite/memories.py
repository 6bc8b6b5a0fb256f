"""Active memories: their columns, the values that may be stored, and their statements.

What other programs have stored is read unchanged. What memctl stores is validated first and has the
form in which the service would have stored it.
"""

from datetime import datetime
from functools import partial
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.memory import TYPES, Memory, NewMemory, require_type, to_stored
from memctl.storage.rows import MemoryFilter
from memctl.storage.sqlite.migrations import MEMORY_COLUMNS
from memctl.storage.sqlite.selection import Rows, Selection
from memctl.storage.sqlite.times import unix_seconds
from memctl.storage.text import to_bytes
from memctl.storage.times import to_sqlite_text, to_unix


class MemoryName(NamedTuple):
    """What identifies a memory; the texts are encoded as SQLite stores them."""

    agent: bytes
    type: bytes
    key: bytes


def memory_name(agent: str, type: str, key: str) -> MemoryName:
    """Return the name of a memory. Raises UsageError as `to_stored` does."""
    return MemoryName(**to_stored(agent=agent, type=type, key=key))


# A condition on a memory's name; its parameters are the fields of MemoryName.
OF_NAME = """
    agent_id = CAST(:agent AS TEXT) AND type = CAST(:type AS TEXT) AND key = CAST(:key AS TEXT)
"""

FIND_MEMORY = f"SELECT {', '.join(MEMORY_COLUMNS)} FROM agent_memory WHERE {OF_NAME}"

# The service's statement, with the two columns for which the service uses SQLite's own clock.
# REPLACE sets all other columns to their defaults.
REPLACE_MEMORY = """
    INSERT OR REPLACE INTO agent_memory
        (id, agent_id, type, key, value, metadata, importance,
         last_accessed, created_at, expires_at)
    VALUES (
        :id, CAST(:agent AS TEXT), CAST(:type AS TEXT), CAST(:key AS TEXT),
        CAST(:value AS TEXT), CAST(:metadata AS TEXT), :importance, :now, :now, :expires_at
    )
"""

COUNT_ACCESS = """
    UPDATE agent_memory
    SET access_count = access_count + 1, last_accessed = :now
    WHERE id = CAST(:id AS TEXT)
"""

COUNT_BY_TYPE = """
    SELECT type, count(*)
    FROM agent_memory
    WHERE agent_id = CAST(:agent AS TEXT)
    GROUP BY type
    ORDER BY type
"""

MOST_READ_PROMOTED = """
    SELECT key, access_count FROM agent_memory
    WHERE promoted_at IS NOT NULL
    ORDER BY access_count DESC, id
    LIMIT 1
"""


def find_memory(db: Connection, name: MemoryName) -> Memory | None:
    """Return the memory of that name, or None."""
    row = db.execute(FIND_MEMORY, name._asdict()).fetchone()
    return None if row is None else Memory(*row)


def read_memory(db: Connection, name: MemoryName) -> Memory:
    """Return the memory of that name, which must exist."""
    return Memory(*db.execute(FIND_MEMORY, name._asdict()).fetchone())


def rows_of_memory(db: Connection, name: MemoryName) -> list[int]:
    """Return the rowids of the memories of that name."""
    found = db.execute(f"SELECT rowid FROM agent_memory WHERE {OF_NAME}", name._asdict())
    return [row for (row,) in found]


def fire_triggers_on_replace(db: Connection) -> None:
    """Let REPLACE fire DELETE triggers, with which other programs keep an index up to date."""
    db.execute("PRAGMA recursive_triggers = ON")


def replace_memory(db: Connection, memory: NewMemory, *, now: datetime) -> int:
    """Store a memory in place of the one of that name; return the number of rows written."""
    row: dict[str, Any] = {
        "metadata": None,
        **to_stored(**memory.texts),
        "id": memory.id,
        "importance": memory.importance,
        "now": to_sqlite_text(now),
        "expires_at": memory.expires_at,
    }
    return db.execute(REPLACE_MEMORY, row).rowcount


def count_access(db: Connection, memory_id: str, *, now: datetime) -> int:
    """Count an access to a memory; return the number of rows updated."""
    access = {"id": to_bytes(memory_id), "now": to_sqlite_text(now)}
    return db.execute(COUNT_ACCESS, access).rowcount


def list_memories(
    db: Connection, which: MemoryFilter, *, limit: int | None = None, offset: int = 0
) -> list[Memory]:
    """Return memories, the most important first, then the most accessed.

    The order of equal ones is that of the query plan, as with the service.
    """
    condition, parameters = memory_condition(which)
    query = f"""
        SELECT {", ".join(MEMORY_COLUMNS)}
        FROM agent_memory
        WHERE {condition}
        ORDER BY importance DESC, access_count DESC
        {"" if limit is None and not offset else "LIMIT :limit OFFSET :offset"}
    """
    parameters |= {"limit": -1 if limit is None else limit, "offset": offset}
    return [Memory(*row) for row in db.execute(query, parameters)]


def memory_condition(which: MemoryFilter) -> tuple[str, dict[str, Any]]:
    """Return an SQL condition on active or archived memories, and its parameters."""
    terms: list[str] = []
    parameters: dict[str, Any] = {}
    for name, column, text in (("agent", "agent_id", which.agent), ("type", "type", which.type)):
        if text is not None:
            terms.append(f"{column} = CAST(:{name} AS TEXT)")
            parameters |= to_stored(**{name: text})
    for name, comparison, moment in (("since", ">=", which.since), ("until", "<=", which.until)):
        if moment is not None:
            terms.append(f"{unix_seconds('created_at')} {comparison} :{name}")
            parameters[name] = to_unix(moment)
    return " AND ".join(terms) or "TRUE", parameters


def select_memories(agent: str, type: str | None = None) -> Selection:
    """Select an agent's memories, all or those of one type."""
    return Selection(partial(_agents_memories, type), _agent_parameters(agent, type))


def _agents_memories(type: str | None, rows: Rows) -> str:
    return f"""
        SELECT rowid, id, agent_id, type, key
        FROM agent_memory
        {rows.where(_of_agent(type))}
    """


def _of_agent(type: str | None) -> str:
    """Return a condition for the memories of an agent, all or those of one type."""
    of_agent = "agent_id = CAST(:agent AS TEXT)"
    return of_agent if type is None else f"{of_agent} AND type = CAST(:type AS TEXT)"


def _agent_parameters(agent: str, type: str | None) -> dict[str, bytes]:
    return to_stored(agent=agent) if type is None else to_stored(agent=agent, type=type)


def count_by_type(db: Connection, agent: str) -> dict[str, int]:
    """Return how many memories of each type an agent has, by type."""
    return dict(db.execute(COUNT_BY_TYPE, to_stored(agent=agent)))


def most_read_promoted(db: Connection) -> tuple[str, int]:
    """Return key and access count of the promoted memory that was read most often."""
    key, accesses = db.execute(MOST_READ_PROMOTED).fetchone()
    return key, accesses


def has_type(db: Connection, type: str) -> bool:
    """Return whether a memory, active or archived, may be of a type."""
    return type in TYPES or any(
        db.execute(
            f"SELECT 1 FROM {table} WHERE type = CAST(? AS TEXT) LIMIT 1", (to_bytes(type),)
        ).fetchone()
        for table in ("agent_memory", "archived_memories")
    )


def require_known_type(db: Connection, type: str | None) -> None:
    """Raise UsageError for a type that is none of the five and that no memory has."""
    if type is not None and not has_type(db, type):
        require_type(type)
