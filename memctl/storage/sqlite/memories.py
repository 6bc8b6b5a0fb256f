"""Active memories: their columns, the values that may be stored, and their statements.

What other programs have stored is read unchanged. What memctl stores is validated first and has the
form in which the service would have stored it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from sqlite3 import Connection
from typing import Any, Literal, NamedTuple, NoReturn, get_args

from memctl.errors import UsageError
from memctl.storage.sqlite.database import MOST_ROWS
from memctl.storage.sqlite.migrations import MEMORY_COLUMNS
from memctl.storage.sqlite.selection import Rows, Selection
from memctl.storage.text import to_bytes
from memctl.storage.times import to_service_text, to_sqlite_text

MemoryType = Literal["context", "learning", "preference", "error_pattern", "success_pattern"]
TYPES = get_args(MemoryType)
MOST_BYTES = 200_000_000  # of each text; a row of SQLite has at most a gigabyte


@dataclass(frozen=True)
class Memory:
    """One memory, every column as it is stored.

    Times are text in UTC, in the service's forms: `2026-11-22 09:43:58`, and for `expires_at`
    `2026-11-22T09:43:58.000Z`. Text that is invalid UTF-8 contains surrogate escapes. Other
    programs may have stored values that AgentMemory rejects, such as text in a numeric column.
    """

    id: str | None
    agent_id: str
    type: str
    key: str
    value: str
    metadata: str | None  # JSON
    importance: float | str | None
    access_count: int | None
    last_accessed: str | None
    created_at: str | None
    expires_at: str | None  # None: never
    archived_at: str | None  # when it was last archived, if it has been restored
    importance_decay_rate: float | None  # None: the policy's rate
    last_decay_at: str | None  # the end of the idle time charged by decay
    promoted_at: str | None  # when it was promoted to the knowledge base


@dataclass(frozen=True)
class Summary:
    """The memories of an agent: their number, in total and by type, and the most important."""

    total: int
    by_type: Mapping[str, int]
    top_memories: Sequence[Memory]  # the first ten of `recall_all`


class MemoryName(NamedTuple):
    """What identifies a memory; the texts are encoded as SQLite stores them."""

    agent: bytes
    type: bytes
    key: bytes


@dataclass(frozen=True)
class NewMemory:
    """A memory to store; all other columns get the defaults of the table."""

    id: str
    name: MemoryName
    value: bytes
    metadata: bytes | None
    importance: float
    expires_at: str | None


def require_type(type: str) -> None:
    """Raise UsageError unless it is one of the five types.

    Readers call it only if they found no memory: other programs may use other types.
    """
    if type not in TYPES:
        raise UsageError(f"there is no type '{type}'", f"use {', '.join(TYPES)}")


def require_importance(importance: float) -> None:
    """Raise UsageError unless it is a number from 1 to 10."""
    is_number = isinstance(importance, int | float) and not isinstance(importance, bool)
    if not is_number or not 1 <= importance <= 10:
        raise UsageError(f"importance must be a number from 1 to 10, not {importance!r}")


def require_limit(limit: int) -> None:
    """Raise UsageError unless it is a valid number of rows."""
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit <= MOST_ROWS:
        raise UsageError(f"invalid limit {limit!r}", f"use a whole number from 0 to {MOST_ROWS:,}")


def memory_name(agent: str, type: str, key: str) -> MemoryName:
    """Return the name of a memory. Raises UsageError as `to_stored` does."""
    return MemoryName(**to_stored(agent=agent, type=type, key=key))


def to_stored(**texts: str) -> dict[str, bytes]:
    """Return texts as SQLite stores them.

    Raises UsageError for a value that is not a str, contains an unpaired surrogate, or is too
    large.
    """
    stored = {}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise UsageError(f"the {name} is of type {type(text).__name__}", "pass a str")
        try:
            stored[name] = to_bytes(text)
        except UnicodeEncodeError as error:
            raise UsageError(
                f"the {name} cannot be stored ({error})", "remove unpaired surrogates"
            ) from None
        if len(stored[name]) > MOST_BYTES:
            raise UsageError(f"the {name} is too large", f"at most {MOST_BYTES:,} bytes are stored")
    return stored


def to_expiry(expires_in: float | timedelta | None, *, now: datetime) -> str | None:
    """Return the time when a memory expires, in the service's form; None: never.

    Raises UsageError for a time that is negative, infinite or of another type.
    """
    if not expires_in:
        return None
    try:
        lasts = expires_in if isinstance(expires_in, timedelta) else timedelta(seconds=expires_in)
        if lasts > timedelta(0) and not isinstance(expires_in, bool):
            return to_service_text(now + lasts)
    except (OverflowError, TypeError, ValueError):
        pass
    raise UsageError(
        f"invalid expires_in {expires_in!r}", "pass a positive number of seconds, or a timedelta"
    )


def to_json(document: object) -> str:
    """Return JSON in the service's form: compact, with as few escapes as possible.

    Raises UsageError for a value that JSON cannot represent, such as infinity.
    """
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"the value cannot be represented as JSON ({error})", "remove what JSON does not allow"
        ) from None
    return text.encode("utf-8", "backslashreplace").decode()  # unpaired surrogates as JSON escapes


def from_json(text: str) -> Any:
    """Return the value of a stored JSON text, or None if it is not valid JSON."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> NoReturn:
    """Reject NaN and Infinity, as the service does."""
    raise ValueError(name)


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
    row = {
        **memory.name._asdict(),
        "id": memory.id,
        "value": memory.value,
        "metadata": memory.metadata,
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
    db: Connection, agent: str, type: str | None = None, *, limit: int | None = None
) -> list[Memory]:
    """Return an agent's memories, the most important first, then the most accessed.

    The order of equal ones is that of the query plan, as with the service.
    """
    query = f"""
        SELECT {", ".join(MEMORY_COLUMNS)}
        FROM agent_memory
        WHERE {_of_agent(type)}
        ORDER BY importance DESC, access_count DESC
        {"" if limit is None else "LIMIT :limit"}
    """
    parameters = {**_agent_parameters(agent, type), "limit": limit}
    return [Memory(*row) for row in db.execute(query, parameters)]


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
