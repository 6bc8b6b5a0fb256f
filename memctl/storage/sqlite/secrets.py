"""Reading all memories, and the knowledge entries that came from them, to search for secrets.

They are read in pages, each in a transaction of its own that ends before the page is searched.
"""

from collections.abc import Iterator, Sequence
from sqlite3 import Connection
from typing import Any, Literal, NamedTuple

from memctl.storage.rows import State
from memctl.storage.secrets import Texts
from memctl.storage.sqlite.database import MemoryTable, count_rows, table_exists
from memctl.storage.text import stored_bytes

PAGE_ROWS = 1000
PAGE_BYTES = 1 << 20
SMALLEST_ROWID = -(2**63)
TABLES: dict[MemoryTable, State] = {"agent_memory": "active", "archived_memories": "archived"}

Place = Literal["active", "archived", "knowledge"]


class SearchedRow(NamedTuple):
    """A memory, or an entry that came from one, with the name of the memory as it is stored."""

    place: Place
    id: Any  # of the memory or of the entry
    agent_id: Any
    type: Any
    key: Any
    texts: Texts


READ_ENTRIES = """
    SELECT rowid, id, content, tags FROM knowledge_entries WHERE rowid > ? ORDER BY rowid
"""


def count_searched(db: Connection) -> int:
    """Return how many memories there are, active and archived."""
    return sum(count_rows(db, table) or 0 for table in TABLES)


def searched_pages(db: Connection) -> Iterator[list[SearchedRow]]:
    """Yield all memories, and then the entries that came from them; no transaction is open."""
    for table, state in TABLES.items():
        if table_exists(db, table):
            yield from _memory_pages(db, table, state)
    if table_exists(db, "memory_promotions") and table_exists(db, "knowledge_entries"):
        yield from _entry_pages(db)


def _memory_pages(db: Connection, table: MemoryTable, state: State) -> Iterator[list[SearchedRow]]:
    query = f"""
        SELECT rowid, id, agent_id, type, key, value, metadata FROM {table} NOT INDEXED
        WHERE rowid > ? ORDER BY rowid
    """
    after = SMALLEST_ROWID
    while rows := _page(db, query, after):
        yield [
            SearchedRow._make((state, *row[1:5], _texts(row[4], row[5], row[6]))) for row in rows
        ]
        after = rows[-1][0]


def _entry_pages(db: Connection) -> Iterator[list[SearchedRow]]:
    names = {
        entry_id: name
        for entry_id, *name in db.execute(
            "SELECT entry_id, agent_id, type, key FROM memory_promotions"
        )
    }
    after = SMALLEST_ROWID
    while rows := _page(db, READ_ENTRIES, after):
        yield [
            SearchedRow._make(("knowledge", row[1], *names[row[1]], _texts("", row[2], row[3])))
            for row in rows
            if row[1] in names
        ]
        after = rows[-1][0]


def _page(db: Connection, query: str, after: int) -> list[Sequence[Any]]:
    """Return the next rows, whose last two columns are texts; the transaction has ended."""
    rows: list[Sequence[Any]] = []
    size = 0
    cursor = db.execute(query, (after,))
    try:
        for row in cursor:
            rows.append(row)
            size += sum(len(text) for text in row[-2:] if isinstance(text, str | bytes))
            if len(rows) == PAGE_ROWS or size > PAGE_BYTES:
                break
    finally:
        cursor.close()
    return rows


def _texts(*columns: Any) -> Texts:
    """Return stored texts or BLOBs as bytes; numbers and NULL are no secrets."""
    contents = (stored_bytes(column) for column in columns)
    return Texts(*(text if isinstance(text, bytes) else b"" for text in contents))
