"""Figures by agent and type: the present memories, and the changes in a period or on a day.

An event belongs to the day (UTC) of its time, whenever it is counted.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from sqlite3 import Connection
from typing import Any

from memctl.storage.figures import DAY, DayKey, Figures, Key, Period, no_changes
from memctl.storage.rows import CAUSES, reason_detail
from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter
from memctl.storage.sqlite.features import counting_since
from memctl.storage.sqlite.times import unix_seconds
from memctl.storage.times import parse_moment, to_day, to_unix

# Of key, value and metadata.
BYTES = """(
    length(CAST(key AS BLOB)) + length(CAST(value AS BLOB))
    + ifnull(length(CAST(metadata AS BLOB)), 0)
)"""

# LIMIT -1 keeps SQLite from flattening the subquery, which would sort whole values by agent and
# type instead of numbers. An importance that is text is never between numbers.
ACTIVE = f"""
    SELECT agent_id, type, count(*) AS memories,
        total(is_number) AS importance_count,
        total(CASE WHEN is_number THEN importance END) AS importance_sum,
        total(bytes) AS active_bytes,
        total(accessed) AS accessed_memories,
        total(CASE WHEN written THEN reads ELSE accessed END) AS accesses_at_least
    FROM (
        SELECT CAST(agent_id AS TEXT) AS agent_id, CAST(type AS TEXT) AS type, importance,
            importance BETWEEN -1e12 AND 1e12 AS is_number,
            {BYTES} AS bytes,
            iif(typeof(access_count) = 'integer', max(access_count, 0), 0) AS reads,
            access_count > 0
                AND {unix_seconds("last_accessed")} BETWEEN :start AND :end AS accessed,
            access_count > 0
                AND {unix_seconds("created_at")} BETWEEN :start AND :end AS written
        FROM agent_memory NOT INDEXED
        WHERE {OF_AGENT}
        LIMIT -1
    )
    GROUP BY agent_id, type
"""

ARCHIVED = f"""
    SELECT agent_id, type, count(*) AS archived_memories, total(bytes) AS archived_bytes
    FROM (
        SELECT CAST(agent_id AS TEXT) AS agent_id, CAST(type AS TEXT) AS type, {BYTES} AS bytes
        FROM archived_memories NOT INDEXED
        WHERE {OF_AGENT}
        LIMIT -1
    )
    GROUP BY agent_id, type
"""

# Each archiving counts once: by its cause if that is an event, else by `memory:archived`.
ARCHIVED_BY_CAUSE = ", ".join(f"'{reason_detail(reason)}'" for reason in CAUSES)
CAUSE_EVENTS = ", ".join(f"'{cause}'" for cause in CAUSES.values())

# The numbers of changed memories, as columns of a query on memory_events.
CHANGES = f"""
    total(event = 'memory:expired') AS expired,
    total(
        event IN ({CAUSE_EVENTS})
        OR event = 'memory:archived' AND ifnull(detail, '') NOT IN ({ARCHIVED_BY_CAUSE})
    ) AS archived,
    total(event = 'memory:restored') AS restored,
    total(event = 'memory:pruned') AS pruned,
    total(event = 'memory:promoted') AS promoted
"""

IS_CHANGE = f"""
    event IN (
        {CAUSE_EVENTS}, 'memory:archived', 'memory:restored', 'memory:pruned', 'memory:promoted'
    )
"""

EVENTS = f"""
    SELECT CAST(agent_id AS TEXT) AS agent_id, CAST(type AS TEXT) AS type, {CHANGES}
    FROM memory_events
    WHERE at >= :events_since AND at < :next_day AND {IS_CHANGE} AND {OF_AGENT}
    GROUP BY CAST(agent_id AS TEXT), CAST(type AS TEXT)
"""

EVENTS_BY_DAY = f"""
    SELECT substr(at, 1, 10) AS day, CAST(agent_id AS TEXT), CAST(type AS TEXT), {CHANGES}
    FROM memory_events
    WHERE at >= :first_day AND at < :next_day AND {IS_CHANGE} AND {OF_AGENT}
    GROUP BY day, CAST(agent_id AS TEXT), CAST(type AS TEXT)
"""

ACCESSES_BY_DAY = f"""
    SELECT day, agent_id, type, accesses, accesses AS accesses_that_day
    FROM memory_access_counts
    WHERE day BETWEEN :first_day AND :last_day AND {OF_AGENT}
"""

ACCESSES = f"""
    SELECT agent_id, type, sum(accesses) AS accesses,
        sum(CASE WHEN day = :last_day THEN accesses ELSE 0 END) AS accesses_that_day
    FROM memory_access_counts
    WHERE day BETWEEN :access_day AND :last_day AND {OF_AGENT}
    GROUP BY agent_id, type
"""


def read_figures(db: Connection, period: Period, *, agent: str | None = None) -> dict[Key, Figures]:
    """Return the figures of every agent and type, present or changed in the period.

    Runs several queries: call it in a transaction for consistent figures. Accesses are those of
    whole days.
    """
    parameters = {
        "start": to_unix(period.start),
        "end": to_unix(period.end),
        "events_since": period.events_since,
        "next_day": to_day(period.end + DAY),
        "access_day": period.access_day,
        "last_day": to_day(period.end),
        **agent_parameter(agent),
    }
    found: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    for query in (ACTIVE, ARCHIVED, EVENTS, ACCESSES):
        rows = db.execute(query, parameters)
        names = [column[0] for column in rows.description[2:]]
        for agent_id, type_, *figures in rows:
            found[agent_id, type_].update(dict(zip(names, figures, strict=True)))
    return {key: _figures(found[key]) for key in sorted(found)}


def read_changes(
    db: Connection, first_day: str, last_day: str, *, agent: str | None = None
) -> dict[DayKey, Figures]:
    """Return the changes by day, agent and type.

    Accesses are None on days for part of which they were not counted.
    """
    parameters = {
        "first_day": first_day,
        "last_day": last_day,
        "next_day": to_day(parse_moment(last_day) + DAY),
        **agent_parameter(agent),
    }
    found: defaultdict[DayKey, Counter[str]] = defaultdict(Counter)
    for query in (EVENTS_BY_DAY, ACCESSES_BY_DAY):
        rows = db.execute(query, parameters)
        names = [column[0] for column in rows.description[3:]]
        for day, agent_id, type_, *figures in rows:
            found[day, agent_id, type_].update(dict(zip(names, figures, strict=True)))
    counted = counted_since_day(db)
    changes = {}
    for key in sorted(found):
        changes[key] = _figures(found[key])
        if no_changes(key[0], counted).accesses is None:
            changes[key] = changes[key]._replace(accesses=None)
    return changes


def _figures(counted: Mapping[str, Any]) -> Figures:
    """Return figures from the results of total(), which are real numbers."""
    importance_sum = round(float(counted.get("importance_sum", 0)), 6)
    whole = {name: int(figure) for name, figure in counted.items() if name != "importance_sum"}
    return Figures(importance_sum=importance_sum, **whole)


def first_moment(db: Connection) -> datetime:
    """Return the time since which events are recorded: that of the migration for their table."""
    (applied_at,) = db.execute(
        "SELECT applied_at FROM memctl_migrations WHERE version = 2"
    ).fetchone()
    return parse_moment(applied_at)


def counted_since_day(db: Connection) -> str | None:
    """Return the first whole day on which every access was counted; None if none is counted."""
    since = counting_since(db)
    return None if since is None else to_day(since + DAY - timedelta(seconds=1))
