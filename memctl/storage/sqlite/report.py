"""The lists and counts of the health report; each query reads a table once."""

from collections import Counter, defaultdict
from datetime import datetime
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.policies import PolicyValues
from memctl.storage.sqlite.decay import DecaySql, decay_sql
from memctl.storage.sqlite.figures import CHANGES
from memctl.storage.sqlite.holds import held_parameter, is_held
from memctl.storage.sqlite.times import is_before, unix_seconds
from memctl.storage.times import to_text, to_unix

ACTIVITY_OF_AGENTS = f"""
    SELECT agent_id,
        total(created > :since) AS written,
        total(created > :before AND created <= :since) AS written_before,
        total(NOT was_read AND created <= :unread_before) AS unread,
        total(was_read) AS ever_read
    FROM (
        SELECT CAST(agent_id AS TEXT) AS agent_id, ifnull(access_count > 0, 0) AS was_read,
            {unix_seconds("created_at")} AS created
        FROM agent_memory NOT INDEXED
        LIMIT -1
    )
    GROUP BY agent_id
"""

# A memory that was written in a period was archived after the start of that period.
WRITTEN_AND_ARCHIVED = f"""
    SELECT agent_id,
        total(created > :since) AS written,
        total(created > :before AND created <= :since) AS written_before
    FROM (
        SELECT CAST(agent_id AS TEXT) AS agent_id, {unix_seconds("created_at")} AS created
        FROM archived_memories
        WHERE archived_at >= :archived_since
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

# Cleanup leaves what is held.
COUNT_OVERDUE = f"""
    SELECT count(*) FROM agent_memory
    WHERE {is_before("expires_at", ":before")} AND NOT {is_held("agent_memory")}
"""

# One pass over the events, which have no index by time.
CHANGES_BY_DAY = f"""
    SELECT day, expired, archived - expired, restored, pruned, promoted, decayed
    FROM (
        SELECT iif(at < :since, '', substr(at, 1, 10)) AS day, {CHANGES},
            total(CASE WHEN event = 'memory:decayed' THEN json_extract(detail, '$.decayed') END)
                AS decayed
        FROM memory_events
        WHERE at >= :before AND at < :next_day
        GROUP BY day
    )
"""

MEMORIES_BY_DAY = """
    SELECT snapshot_date, sum(memories) FROM memory_analytics
    WHERE snapshot_date BETWEEN :first_day AND :last_day
    GROUP BY snapshot_date
"""

COUNT_RUNS = """
    SELECT count(*) AS runs, total(status IN ('failed', 'running')) AS failed
    FROM memory_runs
    WHERE started_at >= :since AND started_at < :until
"""


def count_at_floor(sql: DecaySql) -> str:
    """Return SQL for the number of memories that have lost all the importance they can lose."""
    return f"""
        SELECT count(*) FROM (
            SELECT importance{sql.columns} FROM agent_memory NOT INDEXED
            WHERE importance BETWEEN -1e12 AND 1e12
            LIMIT -1
        )
        WHERE importance <= {sql.keys.floor}
    """


class AgentActivity(NamedTuple):
    """How many memories an agent has written, and how many of the active ones were read."""

    written: int = 0  # in the period; includes those that have been archived since
    written_before: int = 0  # in the period before
    unread: int = 0  # never read, and older than a week
    ever_read: int = 0


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
    db: Connection, *, before: datetime, since: datetime, unread_before: datetime
) -> dict[str, AgentActivity]:
    """Return, by agent, what was written since then and since `before`, and what was read."""
    parameters = {
        "before": to_unix(before),
        "since": to_unix(since),
        "unread_before": to_unix(unread_before),
        "archived_since": to_text(before),
    }
    sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for query in (ACTIVITY_OF_AGENTS, WRITTEN_AND_ARCHIVED):
        rows = db.execute(query, parameters)
        names = [column[0] for column in rows.description[1:]]
        for agent, *counts in rows:
            sums[agent].update(dict(zip(names, map(int, counts), strict=True)))
    return {agent: AgentActivity(**counts) for agent, counts in sums.items()}


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


def count_overdue(db: Connection, *, before: datetime, now: datetime) -> int:
    """Return how many memories have expired before a moment, and are active although not held."""
    parameters = {"before": to_unix(before), **held_parameter(now)}
    return int(db.execute(COUNT_OVERDUE, parameters).fetchone()[0])


def changes_by_day(
    db: Connection, *, before: datetime, since: datetime, next_day: str
) -> dict[str, Changes]:
    """Return the changes since then and earlier than a day, for each day that has any.

    Those between `before` and `since` are under "".
    """
    parameters = {"before": to_text(before), "since": to_text(since), "next_day": next_day}
    return {
        day: Changes(day, *(int(count) for count in counts))
        for day, *counts in db.execute(CHANGES_BY_DAY, parameters)
    }


def memories_by_day(db: Connection, first_day: str, last_day: str) -> dict[str, int]:
    """Return the number of active memories of all agents in the snapshot of each day."""
    return dict(db.execute(MEMORIES_BY_DAY, {"first_day": first_day, "last_day": last_day}))


def count_runs(db: Connection, *, since: datetime, until: datetime) -> tuple[int, int]:
    """Return how many runs were started in a period, and how many of them did not succeed."""
    parameters = {"since": to_text(since), "until": to_text(until)}
    runs, failed = db.execute(COUNT_RUNS, parameters).fetchone()
    return int(runs), int(failed)


def memories_at_floor(db: Connection, decay: PolicyValues) -> int:
    """Return how many active memories decay cannot lower any further."""
    sql = decay_sql(db, decay)
    return int(db.execute(count_at_floor(sql), sql.parameters).fetchone()[0])
