"""Summaries of the ledger `memory_runs`: how each job has gone."""

from collections import defaultdict
from datetime import datetime
from sqlite3 import Connection
from typing import NamedTuple

from memctl.storage.health import health_of_jobs
from memctl.storage.rows import JobHealth
from memctl.storage.status import JobStatus
from memctl.storage.times import parse_moment, to_text

NEWEST_RUNS = """
    SELECT job, max(run_id) AS run_id, started_at, status, duration_ms, error
    FROM memory_runs
    GROUP BY job
    ORDER BY job
"""

# By number, not by time: a clock may have been ahead.
LAST_SUCCESSES = """
    SELECT job, max(run_id), started_at FROM memory_runs WHERE status = 'ok' GROUP BY job
"""

RUNS_SINCE = """
    SELECT job, status, duration_ms, longest_lock_ms, error, run_id = last
    FROM memory_runs, (SELECT max(run_id) AS last FROM memory_runs)
    WHERE started_at >= :since
    ORDER BY run_id
"""

END_CRASHED_RUNS = """
    UPDATE memory_runs
    SET status = 'failed', finished_at = :now, error = 'it was killed, or the machine stopped'
    WHERE status = 'running'
"""


class Success(NamedTuple):
    """The last successful run of a job."""

    run_id: int
    started_at: datetime


class RunSummary(NamedTuple):
    """One run in a period."""

    status: str
    duration_ms: int | None
    longest_lock_ms: float | None
    error: str | None
    is_newest: int  # 1 for the newest run of all jobs, else 0


def job_health(db: Connection) -> list[JobHealth]:
    """Return the health of each job, sorted by job."""
    return [JobHealth(*row) for row in db.execute(health_of_jobs())]


def newest_runs(db: Connection) -> list[JobStatus]:
    """Return the newest run of each job, sorted by job."""
    return [JobStatus(*row) for row in db.execute(NEWEST_RUNS)]


def last_successes(db: Connection) -> dict[str, Success]:
    """Return the last successful run of each job that ever succeeded."""
    return {
        job: Success(run_id, parse_moment(started_at))
        for job, run_id, started_at in db.execute(LAST_SUCCESSES)
    }


def runs_since(db: Connection, since: datetime) -> dict[str, list[RunSummary]]:
    """Return the runs started since then, by job, oldest first."""
    runs: defaultdict[str, list[RunSummary]] = defaultdict(list)
    for job, *columns in db.execute(RUNS_SINCE, {"since": to_text(since)}):
        runs[job].append(RunSummary._make(columns))
    return dict(runs)


def end_crashed_runs(db: Connection, *, now: datetime) -> None:
    """Mark all unfinished runs as failed. The caller holds memctl's lock: no job is running."""
    db.execute(END_CRASHED_RUNS, {"now": to_text(now)})
