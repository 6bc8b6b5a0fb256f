"""Figures by agent and type: the present memories, and the changes in a period or on a day.

An event belongs to the day (UTC) of its time, whenever it is counted.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

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


def no_changes(day: str, counted_since: str | None) -> Figures:
    """Return the figures of a day without changes; accesses are None if they were not counted."""
    return Figures(accesses=0 if counted_since and day >= counted_since else None)


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


class SnapshotPeriod(NamedTuple):
    """The day of a snapshot, the period that it covers, and the last event that it counts."""

    date: str
    start: str
    end: str  # the time of the snapshot
    last_event: int


class Snapshot(NamedTuple):
    """The snapshot of a day."""

    period: SnapshotPeriod
    figures: Mapping[Key, Figures]
