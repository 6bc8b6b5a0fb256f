"""What there is of each agent and type, and what happened to it in a period or on a day.

An event belongs to the day in UTC that its time names, whenever it is counted.
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
    """The figures of one agent and type, or sums of them; bytes are of key, value and metadata."""

    memories: int = 0
    archived_memories: int = 0
    importance_count: int = 0  # memories whose importance is a number
    importance_sum: float = 0.0  # of those
    active_bytes: int = 0
    archived_bytes: int = 0
    accesses_that_day: int = 0  # counted on the day in which the period ends
    accessed_memories: int = 0  # active ones that were last read in the period
    accesses: int | None = 0  # this and the following: in the period; None: not always counted
    expired: int = 0
    archived: int = 0  # for whatever reason: expired is a part of it
    restored: int = 0
    pruned: int = 0
    promoted: int = 0
    accesses_at_least: int = 0  # reads in the period that are certain without counting

    @property
    def importance_average(self) -> float | None:
        """The average importance, or None when no importance is a number."""
        if not self.importance_count:
            return None
        return round(self.importance_sum / self.importance_count, 6)

    @property
    def storage_bytes(self) -> int:
        """The bytes of active and archived memories."""
        return self.active_bytes + self.archived_bytes


KEPT_FIGURES = tuple(name for name in Figures._fields if name != "accesses_at_least")


class Period(NamedTuple):
    """A period: until the end of the day of `end`.

    `start` is that of reads as the memories tell them, `events_since` that of events, and
    `access_day` the first day whose counted accesses belong to it.
    """

    start: datetime
    end: datetime
    access_day: str
    events_since: str


# LIMIT -1 keeps SQLite from merging the levels: what it sorts by agent and type shall be numbers,
# not values. The comparison with an importance that is text is false.
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
            {{bytes}} AS bytes,
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
        SELECT CAST(agent_id AS TEXT) AS agent_id, CAST(type AS TEXT) AS type, {{bytes}} AS bytes
        FROM archived_memories NOT INDEXED
        WHERE {OF_AGENT}
        LIMIT -1
    )
    GROUP BY agent_id, type
"""

BYTES = """(
    length(CAST(key AS BLOB)) + length(CAST(value AS BLOB))
    + ifnull(length(CAST(metadata AS BLOB)), 0)
)"""

# Each archiving counts once: by its cause, or by `memory:archived` where it has none.
ARCHIVED_BY_CAUSE = ", ".join(f"'{reason_detail(reason)}'" for reason in CAUSES)
CAUSE_EVENTS = ", ".join(f"'{cause}'" for cause in CAUSES.values())

# What happened, in memories, as SQL over memory_events.
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
    """Return the figures of every agent and type that there is, or was in the period.

    Several statements, so call it in a transaction if the figures shall agree with each other.
    Accesses are those of whole days.
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
        rows = db.execute(query.replace("{bytes}", BYTES), parameters)
        names = [column[0] for column in rows.description[2:]]
        for agent_id, type_, *figures in rows:
            found[agent_id, type_].update(dict(zip(names, figures, strict=True)))
    return {key: _figures(found[key]) for key in sorted(found)}


def read_changes(
    db: Connection, first_day: str, last_day: str, *, agent: str | None = None
) -> dict[DayKey, Figures]:
    """Return what happened on each day, by day, agent and type.

    Accesses are None on days on which they were not counted all the time.
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
    """Return that nothing happened on a day; accesses are unknown if not all were counted then."""
    return Figures(accesses=0 if counted_since and day >= counted_since else None)


def _figures(counted: Mapping[str, Any]) -> Figures:
    """Return figures in whole numbers, as far as they are; total() gives real ones."""
    importance_sum = round(float(counted.get("importance_sum", 0)), 6)
    whole = {name: int(figure) for name, figure in counted.items() if name != "importance_sum"}
    return Figures(importance_sum=importance_sum, **whole)


def total(figures: Iterable[Figures]) -> Figures:
    """Add figures up; accesses are unknown when one of them is."""
    columns = list(zip(*figures, strict=True))
    if not columns:
        return Figures()
    return Figures._make(None if None in column else sum(column) for column in columns)


def by_agent(figures: Mapping[Key, Figures]) -> dict[str, dict[str, Figures]]:
    """Return the figures of each agent's types, agents and types in their order."""
    agents: dict[str, dict[str, Figures]] = {}
    for (agent, type_), figure in figures.items():
        agents.setdefault(agent, {})[type_] = figure
    return agents


def first_moment(db: Connection) -> datetime:
    """Return since when there are events: since the step that made their table."""
    (applied_at,) = db.execute(
        "SELECT applied_at FROM memctl_migrations WHERE version = 2"
    ).fetchone()
    return parse_moment(applied_at)


def counted_since_day(db: Connection) -> str | None:
    """Return the first whole day on which every access is counted, or None while none is."""
    since = counting_since(db)
    return None if since is None else to_day(since + DAY - timedelta(seconds=1))
