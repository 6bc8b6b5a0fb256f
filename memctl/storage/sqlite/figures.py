"""Figures by agent and type: the present memories, and the changes in a period or on a day.

An event belongs to the day (UTC) of its time, whenever it is counted.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.rows import CAUSES
from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter
from memctl.storage.sqlite.events import reason_detail
from memctl.storage.sqlite.features import counting_since
from memctl.storage.times import parse_moment, to_day, to_unix, unix_seconds

Key = tuple[str, str]  # agent and type
DayKey = tuple[str, str, str]  # day, agent and type

DAY = timedelta(days=1)
RATES_OVER = timedelta(days=30)


class Figures(NamedTuple):
    """The figures of one agent and type, or sums; bytes are those of key, value and metadata."""

    memories: int = 0
    archived_memories: int = 0
    importance_count: int = 0  # memories with a numeric importance
    importance_sum: float = 0.0  # of these memories
    active_bytes: int = 0
    archived_bytes: int = 0
    accesses_that_day: int = 0  # counted on the last day of the period
    accessed_memories: int = 0  # active memories last read in the period
    accesses: int | None = 0  # this and the following are in the period; None: unknown
    expired: int = 0
    archived: int = 0  # for any reason; includes the expired ones
    restored: int = 0
    pruned: int = 0
    promoted: int = 0
    accesses_at_least: int = 0  # reads in the period that are known without counting

    @property
    def importance_average(self) -> float | None:
        """The average importance, or None if no importance is a number."""
        if not self.importance_count:
            return None
        return round(self.importance_sum / self.importance_count, 6)

    @property
    def storage_bytes(self) -> int:
        """The bytes of active and archived memories."""
        return self.active_bytes + self.archived_bytes


KEPT_FIGURES = tuple(name for name in Figures._fields if name != "accesses_at_least")


class Period(NamedTuple):
    """A period that ends with the day of `end`.

    It begins at `start` for the times in memories, at `events_since` for events, and on
    `access_day` for counted accesses.
    """

    start: datetime
    end: datetime
    access_day: str
    events_since: str


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


def no_changes(day: str, counted_since: str | None) -> Figures:
    """Return the figures of a day without changes; accesses are None if they were not counted."""
    return Figures(accesses=0 if counted_since and day >= counted_since else None)


def _figures(counted: Mapping[str, Any]) -> Figures:
    """Return figures from the results of total(), which are real numbers."""
    importance_sum = round(float(counted.get("importance_sum", 0)), 6)
    whole = {name: int(figure) for name, figure in counted.items() if name != "importance_sum"}
    return Figures(importance_sum=importance_sum, **whole)


def total(figures: Iterable[Figures]) -> Figures:
    """Return the sums of figures; accesses are None if they are None in any of them."""
    columns = list(zip(*figures, strict=True))
    if not columns:
        return Figures()
    return Figures._make(None if None in column else sum(column) for column in columns)


def by_agent(figures: Mapping[Key, Figures]) -> dict[str, dict[str, Figures]]:
    """Return the figures by agent, then by type, in the given order."""
    agents: dict[str, dict[str, Figures]] = {}
    for (agent, type_), figure in figures.items():
        agents.setdefault(agent, {})[type_] = figure
    return agents


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
