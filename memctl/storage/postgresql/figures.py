"""Figures by agent and type: the present memories, and the changes in a period or on a day.

They equal those of SQLite for the same rows. Snapshots count events that have a number, up to their
`last_event_id`; metrics count all.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from memctl.storage.figures import DAY, DayKey, Figures, Key, Period
from memctl.storage.postgresql.archiving import of_agent
from memctl.storage.postgresql.database import Database, text
from memctl.storage.postgresql.migrations import applied
from memctl.storage.sqlite.figures import ARCHIVED_BY_CAUSE, CAUSE_EVENTS, IS_CHANGE
from memctl.storage.times import parse_moment, to_day, to_text

AnyKey = TypeVar("AnyKey", bound=tuple[str, ...])

SECOND = timedelta(seconds=1)
BYTES = "(octet_length(key) + octet_length(value) + coalesce(octet_length(metadata), 0))"

IS_NUMBER = "importance BETWEEN -1e12 AND 1e12"
IS_ACCESSED = "access_count > 0 AND last_accessed >= %(start)s AND last_accessed < %(end)s"
IS_WRITTEN = "access_count > 0 AND created_at >= %(start)s AND created_at < %(end)s"

ACTIVE = (
    "memories",
    "importance_count",
    "importance_sum",
    "active_bytes",
    "accessed_memories",
    "accesses_at_least",
)
ARCHIVED = ("archived_memories", "archived_bytes")
CHANGES = ("expired", "archived", "restored", "pruned", "promoted")

CHANGES_SQL = f"""
    count(*) FILTER (WHERE event = 'memory:expired'),
    count(*) FILTER (
        WHERE event IN ({CAUSE_EVENTS})
            OR event = 'memory:archived' AND coalesce(detail, '') NOT IN ({ARCHIVED_BY_CAUSE})
    ),
    count(*) FILTER (WHERE event = 'memory:restored'),
    count(*) FILTER (WHERE event = 'memory:pruned'),
    count(*) FILTER (WHERE event = 'memory:promoted')
"""


def active_figures(of_agent: str) -> str:
    """Return SQL for the figures ACTIVE by agent and type; bytes are read without the texts."""
    return f"""
        SELECT agent_id, type, count(*),
            count(*) FILTER (WHERE {IS_NUMBER}),
            coalesce(sum(importance) FILTER (WHERE {IS_NUMBER}), 0),
            sum({BYTES}),
            count(*) FILTER (WHERE {IS_ACCESSED}),
            sum(CASE WHEN {IS_WRITTEN} THEN access_count WHEN {IS_ACCESSED} THEN 1 ELSE 0 END)
        FROM agent_memory
        WHERE TRUE {of_agent}
        GROUP BY agent_id, type
    """


def archived_figures(of_agent: str) -> str:
    """Return SQL for the figures ARCHIVED by agent and type."""
    return f"""
        SELECT agent_id, type, count(*), sum({BYTES})
        FROM archived_memories
        WHERE TRUE {of_agent}
        GROUP BY agent_id, type
    """


def changes(keys: str, of_agent: str) -> str:
    """Return SQL for the figures CHANGES of the events in a period, by the given columns."""
    return f"""
        SELECT {keys}, {CHANGES_SQL}
        FROM memory_events
        WHERE at >= %(since)s AND at < %(next_day)s AND {IS_CHANGE} {of_agent}
            AND (event_id IS NOT NULL OR NOT %(numbered)s)
        GROUP BY {keys}
    """


def read_figures(
    db: Database, period: Period, *, agent: str | None, numbered: bool
) -> dict[Key, Figures]:
    """Return the figures of every agent and type, present or changed in the period."""
    parameters = {
        "start": to_text(period.start),
        "end": to_text(period.end + SECOND),
        "since": _moment(period.events_since),
        "next_day": _moment(to_day(period.end + DAY)),
        "of_agent": agent and text(agent),
        "numbered": numbered,
    }
    limit = of_agent(agent)
    queries = {
        active_figures(limit): ACTIVE,
        archived_figures(limit): ARCHIVED,
        changes("agent_id, type", limit): CHANGES,
    }
    return _read(db, queries, parameters, key=lambda row: (row[0], row[1]))


def read_changes(
    db: Database, first_day: str, last_day: str, *, agent: str | None, numbered: bool
) -> dict[DayKey, Figures]:
    """Return the changes by day, agent and type; accesses are None, as they are not counted."""
    parameters = {
        "since": _moment(first_day),
        "next_day": _moment(to_day(parse_moment(last_day) + DAY)),
        "of_agent": agent and text(agent),
        "numbered": numbered,
    }
    day = "to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    queries = {changes(f"{day}, agent_id, type", of_agent(agent)): CHANGES}
    found = _read(db, queries, parameters, key=lambda row: (row[0], row[1], row[2]))
    return {key: figures._replace(accesses=None) for key, figures in found.items()}


def _read(
    db: Database,
    queries: Mapping[str, tuple[str, ...]],
    parameters: Mapping[str, Any],
    *,
    key: Callable[[Any], AnyKey],
) -> dict[AnyKey, Figures]:
    """Return the figures that queries read, each those with the given names, by their key."""
    found: defaultdict[AnyKey, Counter[str]] = defaultdict(Counter)
    for query, names in queries.items():
        for row in db.rows(query, parameters):
            found[key(row)].update(dict(zip(names, row[-len(names) :], strict=True)))
    return {
        one: Figures(
            **{name: int(sum_) for name, sum_ in found[one].items() if name != "importance_sum"},
            importance_sum=round(float(found[one]["importance_sum"]), 6),
        )
        for one in sorted(found)
    }


def _moment(text: str) -> str:
    """Return a time that may be a day, which begins at midnight in UTC, in a form with a zone."""
    return text if text.endswith("Z") else f"{text}T00:00:00Z"


def first_moment(db: Database) -> datetime:
    """Return the time since which events are recorded: that of the migration for their table."""
    return next(parse_moment(step.applied_at) for step in applied(db) if step.version == 2)
