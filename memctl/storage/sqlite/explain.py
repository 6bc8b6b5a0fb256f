"""The queries of explain: everything stored about one memory, found by its name or by its id."""

from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.sqlite.archiving import original_id
from memctl.storage.sqlite.memories import OF_NAME
from memctl.storage.sqlite.times import unix_seconds
from memctl.storage.text import to_bytes


class StoredMemory(NamedTuple):
    """An active memory, its columns as they are stored."""

    rowid: int
    id: str | None
    importance: Any
    access_count: Any
    created_at: Any
    last_accessed: Any
    archived_at: Any
    promoted_at: Any
    expires_at: Any
    expires: int | None  # unix seconds; None: never, or not a time


READ_ACTIVE = f"""
    SELECT rowid, id, importance, access_count, created_at, last_accessed, archived_at, promoted_at,
        expires_at, {unix_seconds("expires_at")}
    FROM agent_memory
    WHERE {OF_NAME}
"""


def read_active(db: Connection, agent: str, type: str, key: str) -> StoredMemory | None:
    """Return the active memory of a name."""
    row = db.execute(READ_ACTIVE, _name(agent, type, key)).fetchone()
    return None if row is None else StoredMemory(*row)


class StoredCopy(NamedTuple):
    """An archived copy of a memory, its columns as they are stored."""

    archive_id: int
    id: str | None
    archived_at: str
    archived_reason: str
    run_id: int | None
    importance: Any
    archived: int | None  # unix seconds; None: not a time
    original_id: str | None  # before an active memory took it over


READ_ARCHIVED = f"""
    SELECT archive_id, id, archived_at, archived_reason, run_id, importance,
        {unix_seconds("archived_at")}, {original_id("archived_memories")}
    FROM archived_memories
    WHERE {OF_NAME}
    ORDER BY archived_at DESC, archive_id DESC
"""


def read_archived(db: Connection, agent: str, type: str, key: str) -> list[StoredCopy]:
    """Return the archived copies of a name, newest first."""
    return [StoredCopy(*row) for row in db.execute(READ_ARCHIVED, _name(agent, type, key))]


def _name(agent: str, type: str, key: str) -> dict[str, bytes]:
    return {"agent": to_bytes(agent), "type": to_bytes(type), "key": to_bytes(key)}


def find_by_id(db: Connection, agent: str, memory_id: str) -> tuple[str, str] | None:
    """Return type and key of the memory of an agent that has, or had, an id."""
    parameters = {"agent": to_bytes(agent), "id": to_bytes(memory_id)}
    for table, column in (
        ("agent_memory", "id"),
        ("archived_memories", "id"),
        ("memory_events", "memory_id"),
    ):
        found = db.execute(
            f"SELECT type, key FROM {table} WHERE {column} = CAST(:id AS TEXT)"
            " AND agent_id = CAST(:agent AS TEXT) LIMIT 1",
            parameters,
        ).fetchone()
        if found:
            return str(found[0]), str(found[1])
    return None


def type_of_key(db: Connection, agent: str, key: str) -> str | None:
    """Return the type of an active memory of an agent that has a key."""
    found = db.execute(
        "SELECT type FROM agent_memory WHERE agent_id = CAST(:agent AS TEXT)"
        " AND key = CAST(:key AS TEXT)",
        {"agent": to_bytes(agent), "key": to_bytes(key)},
    ).fetchone()
    return None if found is None else str(found[0])


READ_NAMES = """
    SELECT type, key FROM agent_memory WHERE agent_id = CAST(:agent AS TEXT)
    UNION
    SELECT type, key FROM archived_memories WHERE agent_id = CAST(:agent AS TEXT)
    LIMIT :limit
"""


def read_names(db: Connection, agent: str, *, limit: int) -> list[tuple[str, str]]:
    """Return the types and keys of an agent's memories, active or archived."""
    return db.execute(READ_NAMES, {"agent": to_bytes(agent), "limit": limit}).fetchall()
