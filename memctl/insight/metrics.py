"""Metrics of the memories: at present, and day by day.

Memories count as accessed if they were read in the last 30 days. Rates are averages over these
days, or since the migration if that is later, but over at least one day. Accesses are known from
the first whole day (UTC) on which every access was counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple

from memctl.jobs.prune import OWN_RECORDS_KEPT
from memctl.storage.addresses import Address
from memctl.storage.figures import DAY, RATES_OVER, DayKey, Figures, Key, Period, no_changes, total
from memctl.storage.rows import DatabaseSize, JobHealth
from memctl.storage.store import Snapshots, Store
from memctl.storage.times import parse_moment, to_day, to_text


class DayFigures(NamedTuple):
    """One day: the figures of its snapshot, or None without one, and the changes of the day."""

    date: str
    figures: Figures | None
    changes: Figures = Figures()


@dataclass(frozen=True)
class History:
    """The snapshots, on the days that have one, and the changes of every day."""

    days: Sequence[str]
    taken: frozenset[str]
    counted_since: str | None  # the first day on which every access was counted
    snapshots: Mapping[DayKey, Figures]
    changes: Mapping[DayKey, Figures]

    def of_all(self) -> list[DayFigures]:
        """Return the sums over all agents and types that were read."""
        return self._series(self.snapshots, self.changes)

    def by_agent(self) -> dict[str, list[DayFigures]]:
        """Return the sums of each agent; they are 0 on a day without a row of the agent."""
        snapshots, changes = _of_agents(self.snapshots), _of_agents(self.changes)
        return {
            agent: self._series(snapshots.get(agent, {}), changes.get(agent, {}))
            for agent in sorted({*snapshots, *changes})
        }

    def by_type(self) -> Iterator[tuple[str, str, DayFigures]]:
        """Yield agent, type and figures of each day that has any."""
        for day, agent, type_ in sorted({*self.snapshots, *self.changes}):
            key = day, agent, type_
            snapshot = self.snapshots.get(key, Figures()) if day in self.taken else None
            yield agent, type_, DayFigures(day, snapshot, self.changes.get(key, self.nothing(day)))

    def nothing(self, day: str) -> Figures:
        """Return the figures of a day without changes; accesses may be None."""
        return no_changes(day, self.counted_since)

    def _series(
        self, snapshots: Mapping[DayKey, Figures], changes: Mapping[DayKey, Figures]
    ) -> list[DayFigures]:
        figures, happened = _by_day(snapshots), _by_day(changes)
        return [
            DayFigures(
                day,
                total(figures.get(day, ())) if day in self.taken else None,
                total(happened.get(day, [self.nothing(day)])),
            )
            for day in self.days
        ]


def _of_agents(rows: Mapping[DayKey, Figures]) -> dict[str, dict[DayKey, Figures]]:
    agents: dict[str, dict[DayKey, Figures]] = {}
    for key, figures in rows.items():
        agents.setdefault(key[1], {})[key] = figures
    return agents


def _by_day(rows: Mapping[DayKey, Figures]) -> dict[str, list[Figures]]:
    days: dict[str, list[Figures]] = {}
    for key, figures in rows.items():
        days.setdefault(key[0], []).append(figures)
    return days


@dataclass(frozen=True)
class Metrics:
    """The result of `memctl metrics`."""

    at: datetime
    database: DatabaseSize
    since: datetime
    accesses_since: datetime | None
    figures: Mapping[Key, Figures]
    jobs: Sequence[JobHealth]
    history: History | None

    @property
    def system(self) -> Figures:
        """The sums over all agents and types that were read."""
        sums = total(self.figures.values())
        return sums if self.accesses_since else sums._replace(accesses=None)

    @property
    def days(self) -> float:
        """The number of days over which rates are averaged."""
        return max(self.at - self.since, DAY) / DAY


def read_metrics(
    store: Store,
    database: Address,
    *,
    now: datetime,
    agent: str | None = None,
    history: timedelta | None = None,
) -> Metrics:
    """Read the figures of an agent, or of all agents, in one read transaction.

    `history` is how far back the daily figures go; None: there are none. Raises NotFoundError for
    an agent without memories.
    """
    store.require_agent(agent)
    stored = store.snapshots
    with stored.one_view():
        since = max(now - RATES_OVER, stored.first_moment())
        accesses_since = _counted_from(stored, since=since, now=now)
        period = Period(
            start=now - RATES_OVER,
            end=now,
            access_day=to_day(accesses_since or now + DAY),
            events_since=to_text(since),
        )
        figures = stored.read_figures(period, agent=agent)
        jobs = store.job_health()
        days = read_history(stored, now - history, now=now, agent=agent) if history else None
    if accesses_since is None:
        figures = {key: found._replace(accesses=None) for key, found in figures.items()}
    return Metrics(
        at=now,
        database=store.database_size(database),
        since=since,
        accesses_since=accesses_since,
        figures=figures,
        jobs=jobs,
        history=days,
    )


def _counted_from(stored: Snapshots, *, since: datetime, now: datetime) -> datetime | None:
    """Return the start of the first whole day since `since` on which accesses were counted."""
    counted = stored.counted_since_day()
    if counted is None:
        return None
    first = parse_moment(max(to_day(since), counted))
    return first if first <= now else None


def read_history(
    stored: Snapshots, since: datetime, *, now: datetime, agent: str | None = None
) -> History:
    """Return the days after `since`, from the first day with any figures.

    Changes are counted in the events as long as these are kept, and taken from the snapshots for
    earlier days.
    """
    first_day, last_day = to_day(since + DAY), to_day(now)
    taken = stored.days(first_day, last_day)
    snapshots = stored.read(first_day, last_day, agent=agent)
    changes = stored.read_changes(first_day, last_day, agent=agent)
    counted = stored.counted_since_day()
    first_whole_day = to_day(now - OWN_RECORDS_KEPT + DAY)
    for key, kept in snapshots.items():
        found = changes.get(key, no_changes(key[0], counted))
        if key[0] < first_whole_day:
            changes[key] = kept
        elif found.accesses is None:
            changes[key] = found._replace(accesses=kept.accesses)
    days = sorted({*taken, *(day for day, _, _ in changes)})
    return History(
        days=_days_between(days[0], last_day) if days else [],
        taken=frozenset(taken),
        counted_since=counted,
        snapshots=snapshots,
        changes=changes,
    )


def _days_between(first: str, last: str) -> list[str]:
    days = (date.fromisoformat(last) - date.fromisoformat(first)).days
    return [str(date.fromisoformat(first) + number * DAY) for number in range(days + 1)]
