"""How memory is doing now, and how it got there day by day.

Memories count as accessed when they were read in the last 30 days. Rates are over the same time, or
since the migration if that is later, and over a day at the least. Accesses are known for whole days
in UTC on which every one was counted: from the first such day on, or not at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from sqlite3 import Connection
from typing import NamedTuple

from memctl.agents import OF_AGENT, agent_parameter, require_agent
from memctl.database import one_view
from memctl.figures import (
    Figures,
    Key,
    Period,
    counting_since,
    first_moment,
    read_figures,
    total,
)
from memctl.timestamps import to_day, to_text

RATES_OVER = timedelta(days=30)
DAY = timedelta(days=1)

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
    SELECT snapshot_date, agent_id, type, {", ".join(Figures._fields)}
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
    """The figures of one day, or None when there was no snapshot."""

    date: str
    figures: Figures | None


@dataclass(frozen=True)
class History:
    """Snapshots, day by day from the first one; on `taken` days there was one."""

    days: Sequence[str]
    taken: frozenset[str]
    rows: Mapping[tuple[str, str, str], Figures]  # by day, agent and type

    def of_all(self) -> list[DayFigures]:
        """Return the sums over all that was read."""
        return self._series(self.rows)

    def by_agent(self) -> dict[str, list[DayFigures]]:
        """Return each agent's sums; on a day without a row of it, it had nothing."""
        agents: dict[str, dict[tuple[str, str, str], Figures]] = {}
        for key, figures in self.rows.items():
            agents.setdefault(key[1], {})[key] = figures
        return {agent: self._series(rows) for agent, rows in agents.items()}

    def _series(self, rows: Mapping[tuple[str, str, str], Figures]) -> list[DayFigures]:
        days: dict[str, list[Figures]] = {day: [] for day in self.taken}
        for (day, _, _), figures in rows.items():
            days[day].append(figures)
        return [
            DayFigures(day, total(days[day]) if day in self.taken else None) for day in self.days
        ]


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
    counting = counting_since(db)
    if counting is None:
        return None
    first = max(_midnight(since), _midnight(counting + DAY - timedelta(seconds=1)))
    return first if first <= now else None


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0)


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
    """Return the snapshots of an agent or of all, from the first one on the days after `since`."""
    span = {"first_day": to_day(since + DAY), "last_day": to_day(now)}
    taken = [day for (day,) in db.execute(DAYS_WITH_SNAPSHOT, span)]
    rows = db.execute(HISTORY, {**span, **agent_parameter(agent)})
    return History(
        days=_days_between(taken[0], span["last_day"]) if taken else [],
        taken=frozenset(taken),
        rows={(day, name, type_): Figures(*figures) for day, name, type_, *figures in rows},
    )


def _days_between(first: str, last: str) -> list[str]:
    days = (date.fromisoformat(last) - date.fromisoformat(first)).days
    return [str(date.fromisoformat(first) + number * DAY) for number in range(days + 1)]
