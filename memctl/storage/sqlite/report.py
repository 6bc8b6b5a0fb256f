"""The lists and counts of the health report."""

from datetime import datetime
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.sqlite.figures import CHANGES
from memctl.storage.sqlite.times import is_before, unix_seconds
from memctl.storage.times import to_text, to_unix

ACTIVITY_OF_AGENTS = f"""
    SELECT agent_id, total(created > :since),
        total(ifnull(access_count > 0, 0) = 0 AND created <= :unread_before)
    FROM (
        SELECT CAST(agent_id AS TEXT) AS agent_id, access_count,
            {unix_seconds("created_at")} AS created
        FROM agent_memory NOT INDEXED
        LIMIT -1
    )
    GROUP BY agent_id
"""

COUNT_BY_IMPORTANCE = """
    SELECT CAST(max(0, min(10, importance)) AS INTEGER) AS points, count(*)
    FROM agent_memory NOT INDEXED
    WHERE importance BETWEEN -1e12 AND 1e12
    GROUP BY points
"""

UNREAD = f"""
    SELECT agent_id, type, key, importance, created_at
    FROM agent_memory NOT INDEXED
    WHERE ifnull(access_count > 0, 0) = 0
        AND importance BETWEEN -1e12 AND 1e12
        AND {unix_seconds("created_at")} <= :written_before
    ORDER BY importance DESC, rowid
    LIMIT :limit
"""

BIGGEST = """
    SELECT agent_id, type, key, bytes
    FROM (
        SELECT rowid, agent_id, type, key, length(CAST(value AS BLOB)) AS bytes
        FROM agent_memory NOT INDEXED
        LIMIT -1
    )
    ORDER BY bytes DESC, rowid
    LIMIT :limit
"""

EXPIRIES = f"""(
    SELECT rowid, agent_id, type, key, expires_at, {unix_seconds("expires_at")} AS expires
    FROM agent_memory
    WHERE expires_at IS NOT NULL
    LIMIT -1
)"""

EXPIRING = f"""
    SELECT agent_id, type, key, expires_at
    FROM {EXPIRIES}
    WHERE expires >= :now
    ORDER BY expires, rowid
    LIMIT :limit
"""

COUNT_EXPIRING = f"SELECT count(*) FROM {EXPIRIES} WHERE expires >= :now AND expires < :until"

COUNT_OVERDUE = f"SELECT count(*) FROM agent_memory WHERE {is_before('expires_at', ':now')}"

CHANGES_BY_DAY = f"""
    SELECT day, expired, archived - expired, restored, pruned, promoted, decayed
    FROM (
        SELECT substr(at, 1, 10) AS day, {CHANGES},
            total(CASE WHEN event = 'memory:decayed' THEN json_extract(detail, '$.decayed') END)
                AS decayed
        FROM memory_events
        WHERE at >= :since AND at < :next_day
        GROUP BY day
    )
"""


class AgentActivity(NamedTuple):
    """How many active memories of an agent were written lately, and how many were never read."""

    written: int = 0
    unread: int = 0


class ReportedMemory(NamedTuple):
    """A memory, and the values for which it is listed."""

    agent: str
    type: str
    key: str
    remarkable: tuple[Any, ...]


class Changes(NamedTuple):
    """The numbers of memories that were changed on a day."""

    day: str
    expired: int = 0
    archived: int = 0  # for other reasons
    restored: int = 0
    pruned: int = 0
    promoted: int = 0
    decayed: int = 0


def activity_of_agents(
    db: Connection, *, since: datetime, unread_before: datetime
) -> dict[str, AgentActivity]:
    """Return, by agent, the memories written since then, and those never read and older."""
    parameters = {"since": to_unix(since), "unread_before": to_unix(unread_before)}
    return {
        agent: AgentActivity(int(written), int(unread))
        for agent, written, unread in db.execute(ACTIVITY_OF_AGENTS, parameters)
    }


def count_by_importance(db: Connection) -> list[int]:
    """Return how many memories have an importance of 0, 1, … 10, rounded down."""
    found = dict(db.execute(COUNT_BY_IMPORTANCE).fetchall())
    return [found.get(points, 0) for points in range(11)]


def unread_memories(
    db: Connection, *, written_before: datetime, limit: int
) -> list[ReportedMemory]:
    """Return memories never read, with importance and created_at, the most important first."""
    return _listed(db, UNREAD, {"written_before": to_unix(written_before), "limit": limit})


def biggest_values(db: Connection, *, limit: int) -> list[ReportedMemory]:
    """Return the memories with the largest values, with their bytes, the largest first."""
    return _listed(db, BIGGEST, {"limit": limit})


def next_to_expire(db: Connection, *, now: datetime, limit: int) -> list[ReportedMemory]:
    """Return the memories that expire next, with expires_at, the next one first."""
    return _listed(db, EXPIRING, {"now": to_unix(now), "limit": limit})


def _listed(db: Connection, query: str, parameters: dict[str, int]) -> list[ReportedMemory]:
    return [
        ReportedMemory(agent, type_, key, tuple(values))
        for agent, type_, key, *values in db.execute(query, parameters)
    ]


def count_expiring(db: Connection, *, now: datetime, until: datetime) -> int:
    """Return how many memories expire in a period."""
    parameters = {"now": to_unix(now), "until": to_unix(until)}
    return int(db.execute(COUNT_EXPIRING, parameters).fetchone()[0])


def count_overdue(db: Connection, *, now: datetime) -> int:
    """Return how many memories have expired and are still active."""
    return int(db.execute(COUNT_OVERDUE, {"now": to_unix(now)}).fetchone()[0])


def changes_by_day(db: Connection, *, since: datetime, next_day: str) -> dict[str, Changes]:
    """Return the changes since then and before a day, for each day that has any."""
    return {
        day: Changes(day, *(int(count) for count in counts))
        for day, *counts in db.execute(
            CHANGES_BY_DAY, {"since": to_text(since), "next_day": next_day}
        )
    }
