"""How memory is doing now, and how it got there day by day.

Memories count as accessed when they were read in the last 30 days. Rates are over the same time, or
since the migration if that is later, and over a day at the least. Accesses are known for whole days
in UTC on which every one was counted: from the first such day on, or not at all.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from sqlite3 import Connection
from typing import NamedTuple

from memctl.jobs.prune import OWN_RECORDS_KEPT
from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter, require_agent
from memctl.storage.sqlite.database import one_view
from memctl.storage.sqlite.figures import (
    DAY,
    KEPT_FIGURES,
    RATES_OVER,
    DayKey,
    Figures,
    Key,
    Period,
    counted_since_day,
    first_moment,
    no_changes,
    read_changes,
    read_figures,
    total,
)
from memctl.storage.times import parse_moment, to_day, to_text

# A run that was started and not finished has crashed, unless it is the newest: it may be at work.
HEALTH_OF_EACH_JOB = """
    SELECT newest.job, newest.run_id, newest.started_at, newest.status, newest.duration_ms,
        newest.longest_lock_ms, good.finished_at,
        (
            SELECT count(*) FROM memory_runs AS bad
            WHERE bad.job = newest.job
                AND bad.run_id > ifnull(good.run_id, 0)
                AND (bad.status = 'failed' OR bad.status = 'running' AND bad.run_id < last)
        )
    FROM (
        SELECT max(run_id) AS run_id,
            max(CASE WHEN status = 'ok' THEN run_id END) AS good_run_id,
            (SELECT max(run_id) FROM memory_runs) AS last
        FROM memory_runs
        GROUP BY job
    ) AS runs
    JOIN memory_runs AS newest ON newest.run_id = runs.run_id
    LEFT JOIN memory_runs AS good ON good.run_id = runs.good_run_id
    ORDER BY newest.job
"""

HISTORY = f"""
    SELECT snapshot_date, agent_id, type, {", ".join(KEPT_FIGURES)}
    FROM memory_analytics
    WHERE snapshot_date BETWEEN :first_day AND :last_day AND {OF_AGENT}
    ORDER BY snapshot_date, agent_id, type
"""

DAYS_WITH_SNAPSHOT = """
    SELECT DISTINCT snapshot_date FROM memory_analytics
    WHERE snapshot_date BETWEEN :first_day AND :last_day
    ORDER BY snapshot_date
"""


class DatabaseSize(NamedTuple):
    """A database file, and how much of it is still in its write-ahead log."""

    path: str
    size_bytes: int
    wal_bytes: int


class JobHealth(NamedTuple):
    """How a job last went; refused runs are neither good nor failures."""

    job: str
    run_id: int
    started_at: str
    status: str
    duration_ms: int | None
    longest_lock_ms: float | None
    last_ok_at: str | None
    consecutive_failures: int


class DayFigures(NamedTuple):
    """One day: the figures of its snapshot, or None without one, and what happened on it."""

    date: str
    figures: Figures | None
    changes: Figures = Figures()


@dataclass(frozen=True)
class History:
    """Day by day: snapshots, on the days that had one, and what happened, on every day."""

    days: Sequence[str]
    taken: frozenset[str]
    counted_since: str | None  # the first day on which every access was counted
    snapshots: Mapping[DayKey, Figures]
    changes: Mapping[DayKey, Figures]

    def of_all(self) -> list[DayFigures]:
        """Return the sums over all that was read."""
        return self._series(self.snapshots, self.changes)

    def by_agent(self) -> dict[str, list[DayFigures]]:
        """Return each agent's sums; on a day without a row of it, it had nothing."""
        snapshots, changes = _of_agents(self.snapshots), _of_agents(self.changes)
        return {
            agent: self._series(snapshots.get(agent, {}), changes.get(agent, {}))
            for agent in sorted({*snapshots, *changes})
        }

    def by_type(self) -> Iterator[tuple[str, str, DayFigures]]:
        """Yield agent, type and figures of each day of which there are any."""
        for day, agent, type_ in sorted({*self.snapshots, *self.changes}):
            key = day, agent, type_
            snapshot = self.snapshots.get(key, Figures()) if day in self.taken else None
            yield agent, type_, DayFigures(day, snapshot, self.changes.get(key, self.nothing(day)))

    def nothing(self, day: str) -> Figures:
        """Return that nothing happened on a day; accesses may be unknown even then."""
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
    """The answer to `memctl metrics`."""

    at: datetime
    database: DatabaseSize
    since: datetime
    accesses_since: datetime | None
    figures: Mapping[Key, Figures]
    jobs: Sequence[JobHealth]
    history: History | None

    @property
    def system(self) -> Figures:
        """The sums over all that was read."""
        sums = total(self.figures.values())
        return sums if self.accesses_since else sums._replace(accesses=None)

    @property
    def days(self) -> float:
        """Over how many days the rates are."""
        return max(self.at - self.since, DAY) / DAY


def read_metrics(
    db: Connection,
    path: Path,
    *,
    now: datetime,
    agent: str | None = None,
    history: timedelta | None = None,
) -> Metrics:
    """Read the figures of an agent or of all, in one view of the database.

    Raises NotFoundError for an agent without any memory.
    """
    require_agent(db, agent)
    with one_view(db):
        since = max(now - RATES_OVER, first_moment(db))
        accesses_since = _counted_from(db, since=since, now=now)
        period = Period(
            start=now - RATES_OVER,
            end=now,
            access_day=to_day(accesses_since or now + DAY),
            events_since=to_text(since),
        )
        figures = read_figures(db, period, agent=agent)
        jobs = read_jobs(db)
        days = read_history(db, now - history, now=now, agent=agent) if history else None
    if accesses_since is None:
        figures = {key: found._replace(accesses=None) for key, found in figures.items()}
    return Metrics(
        at=now,
        database=database_size(path),
        since=since,
        accesses_since=accesses_since,
        figures=figures,
        jobs=jobs,
        history=days,
    )


def _counted_from(db: Connection, *, since: datetime, now: datetime) -> datetime | None:
    """Return the start of the first whole day, from that of `since` on, that was counted."""
    counted = counted_since_day(db)
    if counted is None:
        return None
    first = parse_moment(max(to_day(since), counted))
    return first if first <= now else None


def database_size(path: Path) -> DatabaseSize:
    """Return how large the database and its write-ahead log are."""
    real = path.resolve()
    log = real.with_name(f"{real.name}-wal")
    return DatabaseSize(
        path=str(path),
        size_bytes=path.stat().st_size,
        wal_bytes=log.stat().st_size if log.exists() else 0,
    )


def read_jobs(db: Connection) -> list[JobHealth]:
    """Return how each job last went."""
    return [JobHealth(*row) for row in db.execute(HEALTH_OF_EACH_JOB)]


def read_history(
    db: Connection, since: datetime, *, now: datetime, agent: str | None = None
) -> History:
    """Return the days after `since`, from the first on of which anything is known.

    What happened is counted in the events, as long as these are kept; after that it is what the
    snapshots have of it.
    """
    span = {"first_day": to_day(since + DAY), "last_day": to_day(now)}
    taken = [day for (day,) in db.execute(DAYS_WITH_SNAPSHOT, span)]
    rows = db.execute(HISTORY, {**span, **agent_parameter(agent)})
    snapshots = {(day, name, kind): Figures(*figures) for day, name, kind, *figures in rows}
    changes = read_changes(db, **span, agent=agent)
    counted = counted_since_day(db)
    first_whole_day = to_day(now - OWN_RECORDS_KEPT + DAY)
    for key, kept in snapshots.items():
        found = changes.get(key, no_changes(key[0], counted))
        if key[0] < first_whole_day:
            changes[key] = kept
        elif found.accesses is None:
            changes[key] = found._replace(accesses=kept.accesses)
    days = sorted({*taken, *(day for day, _, _ in changes)})
    return History(
        days=_days_between(days[0], span["last_day"]) if days else [],
        taken=frozenset(taken),
        counted_since=counted,
        snapshots=snapshots,
        changes=changes,
    )


def _days_between(first: str, last: str) -> list[str]:
    days = (date.fromisoformat(last) - date.fromisoformat(first)).days
    return [str(date.fromisoformat(first) + number * DAY) for number in range(days + 1)]
