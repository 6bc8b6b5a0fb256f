"""Find the memories that contain a text, without an index that other programs would have to update.

All memories are read in the order of their rows, in portions of a few milliseconds: a longer read
transaction would hold up the checkpoints of other programs. Active memories come first, then
archived ones, then those that became active meanwhile, so that a memory is found although it is
archived or restored during the search. What was found is read again at the end, and left out if it
has changed and no longer matches.
"""

import math
import time
from collections.abc import Iterator
from contextlib import closing
from heapq import nsmallest
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.matching import FIELDS, SearchedText
from memctl.storage.memory import ArchivedMemory, FoundMemory, Memory, SearchResult
from memctl.storage.rows import MemoryFilter, State
from memctl.storage.sqlite.archive import ARCHIVED_COLUMNS
from memctl.storage.sqlite.database import MemoryTable
from memctl.storage.sqlite.memories import memory_condition
from memctl.storage.sqlite.migrations import MEMORY_COLUMNS
from memctl.storage.text import from_bytes, stored_bytes

PORTION_ROWS = 20_000  # by number, of which some may not exist
PORTION_SECONDS = 0.02
FIRST_ROW, LAST_ROW = -(2**63), 2**63 - 1


class _Hit(NamedTuple):
    """A memory that was found; the best hits are the lowest."""

    rank: int
    is_archived: bool
    unimportance: float
    newest_first: int


def search_memories(
    db: Connection,
    text: SearchedText,
    which: MemoryFilter,
    *,
    state: State | None = None,
    limit: int,
    offset: int = 0,
) -> SearchResult:
    """Return the memories that contain a text in their key, value or metadata, best first.

    A key that equals the text comes first, then a key that starts with it, a key that contains it,
    a value, and metadata; among these, an active memory before an archived one, then the most
    important, then the one that was stored last in its table.
    """
    total = 0

    def hits() -> Iterator[_Hit]:
        nonlocal total
        for hit in _hits(db, text, which, state):
            total += 1
            yield hit

    best = nsmallest(offset + limit, hits())[offset:]
    found = (_found(db, text, which, hit) for hit in best)
    return SearchResult(total, [memory for memory in found if memory is not None])


def _hits(
    db: Connection, text: SearchedText, which: MemoryFilter, state: State | None
) -> Iterator[_Hit]:
    (newest,) = db.execute("SELECT max(rowid) FROM agent_memory").fetchone()
    newest = FIRST_ROW if newest is None else newest
    if state != "archived":
        yield from _hits_in("agent_memory", db, text, which, last=newest)
    if state != "active":
        yield from _hits_in("archived_memories", db, text, which)
    if state != "archived" and newest < LAST_ROW:
        yield from _hits_in("agent_memory", db, text, which, first=newest + 1)


def _hits_in(
    table: MemoryTable,
    db: Connection,
    text: SearchedText,
    which: MemoryFilter,
    *,
    first: int = FIRST_ROW,
    last: int = LAST_ROW,
) -> Iterator[_Hit]:
    """Yield the hits in a range of the rows of a table."""
    for row, importance, key, value, metadata in _rows(table, db, which, first, last):
        if match := text.match(key, value, metadata):
            yield _Hit(
                match.rank,
                table == "archived_memories",
                -importance if isinstance(importance, int | float) else math.inf,
                -row,
            )


def _rows(
    table: MemoryTable, db: Connection, which: MemoryFilter, first: int, last: int
) -> Iterator[tuple[int, Any, bytes, bytes, bytes | None]]:
    """Yield row, importance and texts of memories, each portion in a read transaction of its own.

    A portion also ends after a number of rows that do not meet the filter.
    """
    condition, parameters = memory_condition(which)
    portion = f"""
        SELECT rowid, importance, CAST(key AS BLOB), CAST(value AS BLOB), CAST(metadata AS BLOB)
        FROM {table} NOT INDEXED
        WHERE rowid BETWEEN :first AND :last AND {condition}
        ORDER BY rowid
    """
    begin = f"SELECT min(rowid) FROM {table} WHERE rowid BETWEEN :first AND :last"
    while first <= last:
        (first,) = db.execute(begin, {"first": first, "last": last}).fetchone()
        if first is None:
            return
        end = min(first + PORTION_ROWS - 1, last)
        deadline = time.monotonic() + PORTION_SECONDS
        with closing(db.execute(portion, {**parameters, "first": first, "last": end})) as rows:
            for row in rows:
                yield row
                if time.monotonic() >= deadline:
                    end = row[0]
                    break
        first = end + 1


def _found(
    db: Connection, text: SearchedText, which: MemoryFilter, hit: _Hit
) -> FoundMemory | None:
    """Read a memory that was found; None if it has changed and is no longer found."""
    condition, parameters = memory_condition(which)
    table: MemoryTable = "archived_memories" if hit.is_archived else "agent_memory"
    columns = ARCHIVED_COLUMNS if hit.is_archived else ", ".join(MEMORY_COLUMNS)
    rows = db.execute(
        f"SELECT {columns} FROM {table} WHERE rowid = :row AND {condition}",
        {**parameters, "row": -hit.newest_first},
    )
    row = rows.fetchone()
    if row is None:
        return None
    named = dict(zip((column[0] for column in rows.description), row, strict=True))
    memory = ArchivedMemory(**named) if hit.is_archived else Memory(**named)
    texts: dict[str, Any] = {field: stored_bytes(named[field]) for field in FIELDS}
    if not (match := text.match(**texts)):
        return None
    shown = texts["metadata" if match.field == "metadata" else "value"]
    state: State = "archived" if hit.is_archived else "active"
    return FoundMemory(memory, state, match.field, text.excerpt(from_bytes(shown)))
