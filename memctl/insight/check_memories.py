"""What the check finds in the memories: what keeps expiry, decay and retention from their work.

The table is read in portions, each in a transaction of its own, so that it may be as large as it
will.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from sqlite3 import Connection
from typing import NamedTuple

from memctl.insight.findings import Finding, Severity
from memctl.storage.sqlite.ledger import CLOCK_TOLERANCE
from memctl.storage.sqlite.memories import TYPES
from memctl.storage.times import is_our_text, to_unix, unix_seconds

PORTION_ROWS = 20_000
BOUNDS = {
    "an_hour": CLOCK_TOLERANCE,
    "a_day": timedelta(days=1),
    "a_century": timedelta(days=36525),
}
GREATEST_OFFSET = timedelta(days=1)
MOST_TYPES = 5  # are named


def _lies_after(column: str, bound: str) -> str:
    """Return SQL that is true for a time after a bound of BOUNDS.

    The comparison of texts, which allows for any offset and format, spares most rows the exact one.
    """
    return f"""(
        ({column} > :{bound}_text OR {column} GLOB '+*')
        AND {unix_seconds(column)} > :{bound}
    )"""


def _bounds(now: datetime) -> dict[str, int | str]:
    """Return what times are compared with, as SQL parameters."""
    parameters: dict[str, int | str] = {}
    for name, away in BOUNDS.items():
        bound = now + away
        parameters[name] = to_unix(bound)
        parameters[f"{name}_text"] = f"{bound - GREATEST_OFFSET:%Y-%m-%d}"
    return parameters


class Rule(NamedTuple):
    """What may be wrong with one memory: a condition in SQL, and what it means."""

    code: str
    severity: Severity
    condition: str
    meaning: str
    advice: str


WRITE_TIMES = "make the program that writes them use times such as 2026-11-22T09:43:58Z"

RULES = (
    Rule(
        "in_both_places",
        "error",
        "EXISTS (SELECT 1 FROM archived_memories AS archived WHERE archived.id = agent_memory.id)",
        "are active and archived",
        "somebody changed the tables by hand: look at both, and remove one",
    ),
    Rule(
        "expiry_unreadable",
        "warning",
        f"expires_at IS NOT NULL AND {unix_seconds('expires_at')} IS NULL",
        "have an expiry that is no time, and so never expire",
        WRITE_TIMES,
    ),
    Rule(
        "creation_unreadable",
        "warning",
        f"{unix_seconds('created_at')} IS NULL",
        "have a created_at that is not a time: they are never promoted, "
        "and do not decay if they have no last_accessed",
        WRITE_TIMES,
    ),
    Rule(
        "access_unreadable",
        "warning",
        f"last_accessed IS NOT NULL AND {unix_seconds('last_accessed')} IS NULL",
        "have a last_accessed that is not a time, and do not decay",
        WRITE_TIMES,
    ),
    Rule(
        "decay_unreadable",
        "warning",
        f"last_decay_at IS NOT NULL AND {unix_seconds('last_decay_at')} IS NULL",
        "have a last_decay_at that is not a time, and do not decay",
        "set it to NULL to have all of their idle time charged, or to a time until which it was",
    ),
    Rule(
        "expiry_far",
        "warning",
        _lies_after("expires_at", "a_century"),
        "expire in over a century",
        "is somebody taking milliseconds for seconds?",
    ),
    Rule(
        "importance_no_number",
        "warning",
        "typeof(importance) NOT IN ('integer', 'real')",
        "have an importance that is not a number, and so neither decay nor are ever pruned",
        "let whoever writes them write a number",
    ),
    Rule(
        "time_to_come",
        "warning",
        f"{_lies_after('created_at', 'a_day')} OR {_lies_after('last_accessed', 'a_day')}",
        "were written or read in the future, and do not decay until then",
        "look at the clock of whoever writes them",
    ),
    Rule(
        "charged_ahead",
        "warning",
        _lies_after("last_decay_at", "an_hour"),
        "have a last_decay_at in the future, and do not decay until then",
        "the clock of memctl was ahead; a memory decays as usual again once it has been read",
    ),
    Rule(
        "stamp_to_come",
        "warning",
        f"{_lies_after('archived_at', 'an_hour')} OR {_lies_after('promoted_at', 'an_hour')}",
        "have an archived_at or promoted_at in the future",
        "the clock of memctl was ahead; nothing depends on them",
    ),
)

# LIMIT keeps SQLite from computing a condition twice.
READ_PORTION = f"""
    SELECT max(rowid),
        {", ".join(f"total({rule.code}), min(iif({rule.code}, rowid, NULL))" for rule in RULES)}
    FROM (
        SELECT rowid, {", ".join(f"({rule.condition}) AS {rule.code}" for rule in RULES)}
        FROM agent_memory NOT INDEXED
        WHERE rowid > :after
        ORDER BY rowid
        LIMIT {PORTION_ROWS}
    )
"""

SMALLEST_ROWID = -(2**63)


def find_in_memories(db: Connection, *, now: datetime) -> Iterator[Finding]:
    """Look at every active memory; reads only."""
    counts: Counter[str] = Counter()
    firsts: dict[str, int] = {}
    after: int | None = SMALLEST_ROWID
    bounds = _bounds(now)
    while after is not None:
        after, *found = db.execute(READ_PORTION, {**bounds, "after": after}).fetchone()
        for rule, count, first in zip(RULES, found[::2], found[1::2], strict=True):
            counts[rule.code] += int(count)
            if first is not None:
                firsts.setdefault(rule.code, first)
    for rule in RULES:
        if counts[rule.code]:
            yield Finding(
                rule.severity,
                rule.code,
                f"{counts[rule.code]} memories {rule.meaning}: {_name(db, firsts[rule.code])}",
                rule.advice,
            )
    yield from _find_unknown_types(db)
    yield from _find_unreadable_archive_times(db)


def _name(db: Connection, rowid: int) -> str:
    query = "SELECT agent_id, type, key FROM agent_memory WHERE rowid = ?"
    found = db.execute(query, (rowid,)).fetchone()
    return "the first, '{}' {} '{}'".format(*found) if found else "the first is gone meanwhile"


UNREADABLE_ARCHIVE_TIMES = f"""
    SELECT count(*), agent_id, id, min(archive_id) FROM archived_memories
    WHERE archived_at IN (
        SELECT time FROM (SELECT DISTINCT archived_at AS time FROM archived_memories)
        WHERE NOT {is_our_text("time")} AND {unix_seconds("time")} IS NULL
    )
"""


def _find_unreadable_archive_times(db: Connection) -> Iterator[Finding]:
    count, agent, memory_id, _ = db.execute(UNREADABLE_ARCHIVE_TIMES).fetchone()
    if count:
        yield Finding(
            "warning",
            "archive_time_unreadable",
            "archived memories whose archived_at is not a time, and which are never pruned: "
            f"{count}, the first '{memory_id}' of '{agent}'",
            "restore them, or set archived_at to a time such as 2026-11-22T09:43:58Z",
        )


def _find_unknown_types(db: Connection) -> Iterator[Finding]:
    counts = db.execute("SELECT type, count(*) FROM agent_memory GROUP BY type").fetchall()
    unknown = [kind for kind, _ in counts if kind not in TYPES]
    if unknown:
        memories = sum(count for kind, count in counts if kind not in TYPES)
        named = ", ".join(f"'{kind}'" for kind in unknown[:MOST_TYPES])
        more = f" and {len(unknown) - MOST_TYPES} more" if len(unknown) > MOST_TYPES else ""
        yield Finding(
            "info",
            "type_unknown",
            f"{memories} memories have a type of their own: {named}{more}",
            "they are treated like the others, but never promoted",
        )
