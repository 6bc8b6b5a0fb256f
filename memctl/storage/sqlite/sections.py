"""The four sections of an export document, and the tables whose rows they hold."""

from typing import NamedTuple

from memctl.storage.sqlite.migrations import MEMORY_COLUMNS


class DocumentSection(NamedTuple):
    """One section: its table, the columns of its rows, and the order in which they are exported."""

    name: str
    table: str
    columns: tuple[str, ...]
    order: str


ACTIVE = DocumentSection("active", "agent_memory", MEMORY_COLUMNS, "rowid")
# archive_id is omitted because it identifies a row in one database only; the order is kept.
ARCHIVED = DocumentSection(
    "archived", "archived_memories", (*MEMORY_COLUMNS, "archived_reason", "run_id"), "archive_id"
)
PROMOTIONS = DocumentSection(
    "promotions",
    "memory_promotions",
    ("agent_id", "type", "key", "entry_id", "content_hash", "promoted_at"),
    "agent_id, type, key",
)
# Like archive_id, hold_id is omitted.
HOLDS = DocumentSection(
    "holds",
    "memory_holds",
    ("agent_id", "memory_id", "type", "key", "reason", "held_at", "until"),
    "agent_id, memory_id, type, key, held_at, reason, until",
)
SECTIONS = {section.name: section for section in (ACTIVE, ARCHIVED, PROMOTIONS, HOLDS)}
