"""Find the memories that contain a text: the server selects candidates, Python compares them.

A candidate contains the part of the text that is written in the same way in all memories that
match. The search reads one state of the database, in pages: a memory is found although it is
archived or restored meanwhile.
"""

import math
from collections.abc import Iterator
from heapq import nsmallest
from typing import Any, NamedTuple
from uuid import UUID

from memctl.storage.matching import FIELDS, SearchedText
from memctl.storage.memory import ArchivedMemory, FoundMemory, Memory, SearchResult
from memctl.storage.postgresql.archive import ARCHIVED_COLUMNS
from memctl.storage.postgresql.conditions import all_of
from memctl.storage.postgresql.copied_tables import ACTIVE
from memctl.storage.postgresql.database import Database, text
from memctl.storage.postgresql.values import named_row, storable_texts
from memctl.storage.rows import MemoryFilter, State
from memctl.storage.sqlite.archive import ARCHIVED_FIELDS
from memctl.storage.sqlite.migrations import MEMORY_COLUMNS
from memctl.storage.text import from_bytes, stored_bytes
from memctl.storage.times import to_text

PAGE_ROWS = 200  # a value may have megabytes


class _Table(NamedTuple):
    """A table with memories: its key beside the agent, what it contains, and what is read."""

    name: str
    key: str
    key_type: str
    state: State
    fields: tuple[str, ...]
    columns: str
    memory: type[Memory]


ACTIVE_TABLE = _Table(
    "agent_memory",
    "id",
    "text",
    "active",
    MEMORY_COLUMNS,
    ACTIVE.reading(MEMORY_COLUMNS),
    Memory,
)
ARCHIVED_TABLE = _Table(
    "archived_memories",
    "archive_id",
    "uuid",
    "archived",
    ARCHIVED_FIELDS,
    ARCHIVED_COLUMNS,
    ArchivedMemory,
)


class _Hit(NamedTuple):
    """A memory that was found; the best hits are the lowest."""

    rank: int
    is_archived: bool
    unimportance: float
    newest_first: float
    agent: str
    key: str


def search_memories(
    db: Database,
    searched: SearchedText,
    which: MemoryFilter,
    *,
    state: State | None = None,
    limit: int,
    offset: int = 0,
) -> SearchResult:
    """Return the memories that contain a text, best first; see `storage.memories.Memories`."""
    tables = [table for table in (ACTIVE_TABLE, ARCHIVED_TABLE) if state in (None, table.state)]
    total = 0

    def hits() -> Iterator[_Hit]:
        nonlocal total
        for table in tables:
            for hit in _hits_in(db, table, searched, which):
                total += 1
                yield hit

    with db.one_view():
        best = nsmallest(offset + limit, hits())[offset:]
        return SearchResult(total, [_found(db, searched, hit) for hit in best])


def memory_condition(which: MemoryFilter) -> tuple[str, dict[str, Any]]:
    """Return an SQL condition on active or archived memories, and its parameters."""
    names = {"agent": which.agent, "type": which.type}
    storable_texts(**{name: value for name, value in names.items() if value is not None})
    until = which.until and to_text(which.until)
    return all_of(
        {
            "agent": ("agent_id = %(agent)s", which.agent),
            "type": ("type = %(type)s", which.type),
            "since": ("created_at >= %(since)s", which.since and to_text(which.since)),
            "until": ("date_trunc('second', created_at) <= %(until)s", until),
        }
    )


def _hits_in(
    db: Database, table: _Table, searched: SearchedText, which: MemoryFilter
) -> Iterator[_Hit]:
    """Yield the hits in a table, in the order of its primary key."""
    condition, parameters = memory_condition(which)
    if part := searched.certain_part:
        contains = (f"strpos(lower({name}), %(part)s) > 0" for name in FIELDS)
        condition += f" AND ({' OR '.join(contains)})"
        parameters["part"] = text(part.decode())
    is_archived = table.state == "archived"
    following = ""
    while True:
        rows = db.rows(
            f"""
            SELECT agent_id, {table.key}::text, importance,
                extract(epoch FROM created_at)::double precision, key, value, metadata
            FROM {table.name} WHERE {condition} {following}
            ORDER BY {table.name}.agent_id, {table.name}.{table.key} LIMIT {PAGE_ROWS}
            """,
            parameters,
        )
        for agent, key, importance, written, *texts in rows:
            if match := searched.match(*map(stored_bytes, texts)):
                newest_first = -UUID(key).int if is_archived else -(written or -math.inf)
                unimportance = math.inf if importance is None else -importance
                yield _Hit(match.rank, is_archived, unimportance, newest_first, agent, key)
        if len(rows) < PAGE_ROWS:
            return
        parameters |= {"last_agent": rows[-1][0], "last_key": rows[-1][1]}
        following = (
            f"AND (agent_id, {table.key}) > (%(last_agent)s, %(last_key)s::{table.key_type})"
        )


def _found(db: Database, searched: SearchedText, hit: _Hit) -> FoundMemory:
    """Read a memory that was found."""
    table = ARCHIVED_TABLE if hit.is_archived else ACTIVE_TABLE
    row = db.row(
        f"SELECT {table.columns} FROM {table.name}"
        f" WHERE agent_id = %(agent)s AND {table.key} = %(key)s::{table.key_type}",
        {"agent": hit.agent, "key": hit.key},
    )
    columns = named_row(table.fields, row)
    texts = {field: stored_bytes(columns[field]) for field in FIELDS}
    match = searched.match(**texts)
    assert match  # noqa: S101  for the type checker: it is the same view
    shown = texts["metadata" if match.field == "metadata" else "value"]
    return FoundMemory(
        table.memory(**columns), table.state, match.field, searched.excerpt(from_bytes(shown))
    )
