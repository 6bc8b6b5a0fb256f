"""What there is of each agent and type, and what happened to it in a period.

From one period to the next events are told apart by their numbers: times have whole seconds, and
a clock may go back.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.agents import OF_AGENT, agent_parameter
from memctl.features import feature_status
from memctl.timestamps import parse_moment, to_day, to_unix, unix_seconds

Key = tuple[str, str]  # agent and type


class Figures(NamedTuple):
    """The figures of one agent and type, or sums of them; bytes are of key, value and metadata."""

    memories: int = 0
    archived_memories: int = 0
    importance_count: int = 0  # memories whose importance is a number
    importance_sum: float = 0.0  # of those
    active_bytes: int = 0
    archived_bytes: int = 0
    accesses_that_day: int = 0  # counted on the day in which the period ends
    accessed_memories: int = 0  # this and the following: over the period
    accesses: int | None = 0  # None: they were not counted all the time
    expired: int = 0
    archived: int = 0  # for whatever reason: expired is a part of it
    restored: int = 0
    pruned: int = 0
    promoted: int = 0

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


class Period(NamedTuple):
    """A period: `access_day` is the first day whose accesses count.

    Events belong to it by their number, or by their time when that is all there is to go by. A
    memory that was read in the very second in which a period ends counts in the next one too.
    """

    start: datetime
    end: datetime
    access_day: str
    after_event: int = 0
    events_since: str = ""


# LIMIT -1 keeps SQLite from merging the levels: what it sorts by agent and type shall be numbers,
# not values. The comparison with an importance that is text is false.
ACTIVE = f"""
    SELECT agent_id, type, count(*) AS memories,
        total(is_number) AS importance_count,
        total(CASE WHEN is_number THEN importance END) AS importance_sum,
        total(bytes) AS active_bytes,
        total(accessed) AS accessed_memories
    FROM (
        SELECT CAST(agent_id AS TEXT) AS agent_id, CAST(type AS TEXT) AS type, importance,
            importance BETWEEN -1e12 AND 1e12 AS is_number,
            {{bytes}} AS bytes,
            access_count > 0
                AND {unix_seconds("last_accessed")} BETWEEN :start AND :end AS accessed
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

EVENTS = f"""
    SELECT CAST(agent_id AS TEXT) AS agent_id, CAST(type AS TEXT) AS type,
        sum(event = 'memory:expired') AS expired,
        sum(event IN ('memory:expired', 'memory:archived', 'memory:forgotten')) AS archived,
        sum(event = 'memory:restored') AS restored,
        sum(event = 'memory:pruned') AS pruned,
        sum(event = 'memory:promoted') AS promoted
    FROM memory_events
    WHERE event_id > :after_event AND at >= :events_since
        AND event IN (
            'memory:expired', 'memory:archived', 'memory:forgotten', 'memory:restored',
            'memory:pruned', 'memory:promoted'
        )
        AND {OF_AGENT}
    GROUP BY CAST(agent_id AS TEXT), CAST(type AS TEXT)
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
        "after_event": period.after_event,
        "events_since": period.events_since,
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


def counting_since(db: Connection) -> datetime | None:
    """Return since when every access has been counted, or None while none is."""
    status = feature_status(db, "access-counting")
    if status.since is None or status.state == "missing":
        return None
    return parse_moment(status.since)
