"""Checks of the memories: values that prevent expiry, decay or retention.

The table is read in portions, each in a transaction of its own, so that the time for which a
transaction is open does not depend on the size of the table.
"""

from collections import Counter
from datetime import datetime, timedelta
from sqlite3 import Connection
from typing import Literal, NamedTuple, get_args

from memctl.storage.clock import CLOCK_TOLERANCE
from memctl.storage.sqlite.times import is_our_text, unix_seconds
from memctl.storage.times import to_unix

MemoryProblem = Literal[
    "in_both_places",
    "expiry_unreadable",
    "creation_unreadable",
    "access_unreadable",
    "decay_unreadable",
    "expiry_far",
    "importance_no_number",
    "time_to_come",
    "charged_ahead",
    "stamp_to_come",
]
PROBLEMS: tuple[MemoryProblem, ...] = get_args(MemoryProblem)

PORTION_ROWS = 20_000
SMALLEST_ROWID = -(2**63)
GREATEST_OFFSET = timedelta(days=1)

Bound = Literal["an_hour", "a_day", "a_century"]
BOUNDS: dict[Bound, timedelta] = {
    "an_hour": CLOCK_TOLERANCE,
    "a_day": timedelta(days=1),
    "a_century": timedelta(days=36525),
}


def _lies_after(column: str, bound: Bound) -> str:
    """Return SQL that is true for a time that is later than a bound from now on.

    The comparison of texts, which allows for any offset and format, avoids the exact one for most
    rows.
    """
    return f"""(
        ({column} > :{bound}_text OR {column} GLOB '+*')
        AND {unix_seconds(column)} > :{bound}
    )"""


def _bound_parameters(now: datetime) -> dict[str, int | str]:
    parameters: dict[str, int | str] = {}
    for name, away in BOUNDS.items():
        bound = now + away
        parameters[name] = to_unix(bound)
        parameters[f"{name}_text"] = f"{bound - GREATEST_OFFSET:%Y-%m-%d}"
    return parameters


def _unreadable(column: str) -> str:
    """Return SQL that is true for a value that is neither NULL nor a time."""
    return f"{column} IS NOT NULL AND {unix_seconds(column)} IS NULL"


# SQL that is true for a memory with the problem.
CONDITIONS: dict[MemoryProblem, str] = {
    "in_both_places": (
        "EXISTS (SELECT 1 FROM archived_memories AS archived WHERE archived.id = agent_memory.id)"
    ),
    "expiry_unreadable": _unreadable("expires_at"),
    "creation_unreadable": f"{unix_seconds('created_at')} IS NULL",
    "access_unreadable": _unreadable("last_accessed"),
    "decay_unreadable": _unreadable("last_decay_at"),
    "expiry_far": _lies_after("expires_at", "a_century"),
    "importance_no_number": "typeof(importance) NOT IN ('integer', 'real')",
    "time_to_come": (
        f"{_lies_after('created_at', 'a_day')} OR {_lies_after('last_accessed', 'a_day')}"
    ),
    "charged_ahead": _lies_after("last_decay_at", "an_hour"),
    "stamp_to_come": (
        f"{_lies_after('archived_at', 'an_hour')} OR {_lies_after('promoted_at', 'an_hour')}"
    ),
}

# LIMIT keeps SQLite from flattening the subquery, which would compute each condition twice.
READ_PORTION = f"""
    SELECT max(rowid),
        {", ".join(f"total({name}), min(iif({name}, rowid, NULL))" for name in PROBLEMS)}
    FROM (
        SELECT rowid, {", ".join(f"({CONDITIONS[name]}) AS {name}" for name in PROBLEMS)}
        FROM agent_memory NOT INDEXED
        WHERE rowid > :after
        ORDER BY rowid
        LIMIT {PORTION_ROWS}
    )
"""

UNREADABLE_ARCHIVE_TIMES = f"""
    SELECT count(*), agent_id, id, min(archive_id) FROM archived_memories
    WHERE archived_at IN (
        SELECT time FROM (SELECT DISTINCT archived_at AS time FROM archived_memories)
        WHERE NOT {is_our_text("time")} AND {unix_seconds("time")} IS NULL
    )
"""


class Occurrences(NamedTuple):
    """How many memories have a problem, and the rowid of the first one."""

    total: int
    first: int


class CheckedMemory(NamedTuple):
    """A memory by its name."""

    agent: str
    type: str
    key: str


class UnreadableArchiveTimes(NamedTuple):
    """How many archived memories have an archived_at that is not a time, and the first one."""

    total: int
    agent: str
    memory_id: str


def find_problems(db: Connection, *, now: datetime) -> dict[MemoryProblem, Occurrences]:
    """Return the problems that any active memory has; reads only."""
    counts: Counter[MemoryProblem] = Counter()
    firsts: dict[MemoryProblem, int] = {}
    bounds = _bound_parameters(now)
    after: int | None = SMALLEST_ROWID
    while after is not None:
        after, *found = db.execute(READ_PORTION, {**bounds, "after": after}).fetchone()
        for problem, count, first in zip(PROBLEMS, found[::2], found[1::2], strict=True):
            counts[problem] += int(count)
            if first is not None:
                firsts.setdefault(problem, first)
    return {name: Occurrences(counts[name], firsts[name]) for name in PROBLEMS if counts[name]}


def read_name(db: Connection, rowid: int) -> CheckedMemory | None:
    """Return the memory in a row, or None if it no longer exists."""
    query = "SELECT agent_id, type, key FROM agent_memory WHERE rowid = ?"
    found = db.execute(query, (rowid,)).fetchone()
    return None if found is None else CheckedMemory(*found)


def count_types(db: Connection) -> dict[str, int]:
    """Return how many active memories there are of each type, known or not."""
    return dict(db.execute("SELECT type, count(*) FROM agent_memory GROUP BY type"))


def unreadable_archive_times(db: Connection) -> UnreadableArchiveTimes | None:
    """Return the archived memories whose archived_at is not a time, or None."""
    total, agent, memory_id, _ = db.execute(UNREADABLE_ARCHIVE_TIMES).fetchone()
    return UnreadableArchiveTimes(total, agent, memory_id) if total else None
