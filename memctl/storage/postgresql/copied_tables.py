"""The tables whose rows can be copied from the server to a private SQLite database, and back."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from memctl.storage.postgresql.times import expiry_text, our_text, sqlite_text
from memctl.storage.sqlite.migrations import MEMORY_COLUMNS


class CopiedTable(NamedTuple):
    """A table: its key, its columns, how they are read, and which of them are not texts."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    read_as: Mapping[str, str]  # SQL for columns that are not copied as they are
    types: Mapping[str, str]

    def type_of(self, column: str) -> str:
        """Return the type that PostgreSQL has for a column."""
        return self.types.get(column, "text")

    def reading(self, columns: Iterable[str]) -> str:
        """Return SQL for the values of columns, as they are copied."""
        return ", ".join(self.read_as.get(column, column) for column in columns)

    def is_time(self, column: str) -> bool:
        """Return whether a column contains times."""
        return self.type_of(column) == "timestamptz"


TIMES = {
    "last_accessed": sqlite_text("last_accessed"),
    "created_at": sqlite_text("created_at"),
    "expires_at": expiry_text("expires_at"),
    "archived_at": our_text("archived_at"),
    "last_decay_at": our_text("last_decay_at"),
    "promoted_at": our_text("promoted_at"),
}
MEMORY_TYPES = {
    "importance": "double precision",
    "access_count": "bigint",
    "importance_decay_rate": "double precision",
    "import_order": "bigint",
    **dict.fromkeys(TIMES, "timestamptz"),
}

ACTIVE = CopiedTable(
    "agent_memory",
    ("agent_id", "id"),
    (*MEMORY_COLUMNS, "import_order"),
    TIMES,
    MEMORY_TYPES,
)
# The copy has numbers as archive_id, and the server's keys in `archive_keys`.
ARCHIVED = CopiedTable(
    "archived_memories",
    ("agent_id", "archive_id"),
    (*MEMORY_COLUMNS, "archived_reason", "run_id"),
    TIMES,
    {**MEMORY_TYPES, "archive_id": "uuid", "run_id": "bigint"},
)
PROMOTIONS = CopiedTable(
    "memory_promotions",
    ("agent_id", "type", "key"),
    ("agent_id", "type", "key", "entry_id", "content_hash", "promoted_at"),
    {"promoted_at": our_text("promoted_at")},
    {"promoted_at": "timestamptz"},
)
KNOWLEDGE = CopiedTable(
    "knowledge_entries",
    ("id",),
    (
        *("id", "type", "content", "file_patterns", "action_types", "tags", "confidence"),
        *("occurrences", "source_execution_id", "source_task_id", "source_agent_id"),
        *("created_at", "updated_at", "last_used_at", "superseded_by"),
    ),
    {name: sqlite_text(name) for name in ("created_at", "updated_at", "last_used_at")},
    {
        "confidence": "double precision",
        "occurrences": "bigint",
        **dict.fromkeys(("created_at", "updated_at", "last_used_at"), "timestamptz"),
    },
)
STATE = CopiedTable("memory_state", ("key",), ("key", "value"), {}, {})
EVENTS = CopiedTable(
    "memory_events",
    ("agent_id", "event_key"),
    (
        *("event_key", "event_id", "at", "event", "memory_id", "agent_id", "type", "key"),
        *("run_id", "detail"),
    ),
    {},
    {"event_key": "uuid", "event_id": "bigint", "at": "timestamptz", "run_id": "bigint"},
)
