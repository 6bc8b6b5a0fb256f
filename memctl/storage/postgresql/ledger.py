"""The ledger of runs: when each run started, how it ended, and how long a batch held its rows.

A run with the status `running` has crashed if the lease is free, or if another run has begun since.
"""

import json
import os
from datetime import datetime
from typing import Literal

from memctl import __version__
from memctl.errors import NotFoundError, RefusedError
from memctl.storage.clock import CLOCK_TOLERANCE, LONGEST_SILENCE, LastRun, clock_error_after
from memctl.storage.health import health_of_jobs
from memctl.storage.postgresql.conditions import all_of
from memctl.storage.postgresql.database import Database
from memctl.storage.postgresql.lease import HOLDER
from memctl.storage.postgresql.times import our_text
from memctl.storage.rows import JobHealth, JobHistory, RunEnd, RunFilter, RunRecord, json_or_text
from memctl.storage.times import parse_moment, to_text

# Runs whose clock was accepted: a refused run may have been refused because of its clock.
LAST_RUN = f"""
    SELECT run_id, job, {our_text("started_at")} FROM memory_runs
    WHERE status <> 'refused'
    ORDER BY run_id DESC LIMIT 1
"""

WRITTEN_BY_CLIENT = """
    SELECT 1 FROM agent_memory
    WHERE created_at BETWEEN %(since)s AND %(until)s
        OR last_accessed BETWEEN %(since)s AND %(until)s
    LIMIT 1
"""

# Only the holder of the lease starts runs, so no other process takes the same number.
START_RUN = """
    INSERT INTO memory_runs (run_id, job, started_at, status, complete, memctl_version, host, pid)
    SELECT coalesce(max(run_id), 0) + 1, %(job)s, %(now)s, %(status)s, FALSE, %(version)s, %(host)s,
        %(pid)s
    FROM memory_runs
    RETURNING run_id
"""

FINISH_RUN = """
    UPDATE memory_runs
    SET finished_at = %(finished_at)s, duration_ms = %(duration_ms)s, status = %(status)s,
        complete = %(complete)s, counts = %(counts)s, longest_lock_ms = %(longest_lock_ms)s,
        error = %(error)s
    WHERE run_id = %(run_id)s
"""

STATUS = f"""
    CASE WHEN status = 'running' AND (
        run_id < (SELECT max(run_id) FROM memory_runs) OR NOT EXISTS ({HOLDER})
    ) THEN 'crashed' ELSE status END
"""

TIMES = {"started_at", "finished_at"}
COLUMNS = [
    STATUS if name == "status" else our_text(name) if name in TIMES else name
    for name in RunRecord._fields
]


def job_health(db: Database) -> list[JobHealth]:
    """Return the health of each job, sorted by job."""
    return [JobHealth(*row) for row in db.rows(health_of_jobs(our_text))]


def require_run(db: Database, run_id: int) -> tuple[str, datetime]:
    """Return the job of a run and its cutoff. Raises NotFoundError if there is no such run."""
    row = db.row(
        f"SELECT job, {our_text('started_at')} FROM memory_runs WHERE run_id = %(run_id)s",
        {"run_id": run_id},
    )
    if row is None:
        raise NotFoundError(f"there is no run {run_id}", "see `memctl runs`; nothing was changed")
    return row[0], parse_moment(row[1])


def job_history(db: Database, job: str) -> JobHistory:
    """Return the history of a job; a crash counts as a failure."""
    done = db.row(_newest_run("complete"), {"job": job})
    newest = db.row(_newest_run("TRUE"), {"job": job})
    failed = newest is not None and newest[1] in ("failed", "running")
    return JobHistory(
        done_at=parse_moment(done[0]) if done else None,
        failed_at=parse_moment(newest[0]) if failed else None,
    )


def _newest_run(condition: str) -> str:
    """Return SQL for the start and the status of the newest run of a job that meets a condition."""
    return f"""
        SELECT {our_text("started_at")}, status FROM memory_runs
        WHERE job = %(job)s AND {condition}
        ORDER BY run_id DESC LIMIT 1
    """


def clock_error(db: Database, *, now: datetime) -> RefusedError | None:
    """Return why the clock cannot be right, or None; only reads."""
    row = db.row(LAST_RUN)
    last = LastRun(row[0], row[1], parse_moment(row[2])) if row else None

    def has_written() -> bool:
        span = {"since": now - LONGEST_SILENCE, "until": now + CLOCK_TOLERANCE}
        return db.row(WRITTEN_BY_CLIENT, span) is not None

    return clock_error_after(last, has_written, now=now)


def start_run(
    db: Database, job: str, *, now: datetime, status: Literal["running", "refused"] = "running"
) -> int:
    """Record the start of a run, or that it is refused, and return its number."""
    parameters = {
        "job": job,
        "now": to_text(now),
        "status": status,
        "version": __version__,
        "host": os.uname().nodename,
        "pid": os.getpid(),
    }
    return int(db.transaction(lambda: db.value(START_RUN, parameters)))


def forget_run(db: Database, run_id: int) -> None:
    """Delete a run that has just been started with invalid arguments."""
    statement = "DELETE FROM memory_runs WHERE run_id = %(run_id)s"
    db.transaction(lambda: db.execute(statement, {"run_id": run_id}))


def finish_run(db: Database, run_id: int, end: RunEnd) -> None:
    """Record the end of a run."""
    parameters = {
        "run_id": run_id,
        "finished_at": end.finished_at.replace(microsecond=0),
        "duration_ms": end.duration_ms,
        "status": end.status,
        "complete": end.complete,
        "counts": None if end.counts is None else json.dumps(end.counts),
        "longest_lock_ms": round(end.longest_lock_ms, 1),
        "error": end.error and end.error.replace("\0", "").encode("utf-8", "replace").decode(),
    }
    db.transaction(lambda: db.execute(FINISH_RUN, parameters))


def list_runs(db: Database, which: RunFilter, *, limit: int, offset: int = 0) -> list[RunRecord]:
    """Return runs, newest first, without the newest `offset`."""
    condition, parameters = all_of(
        {
            "job": ("job = %(job)s", which.job),
            "status": (f"{STATUS} = %(status)s", which.status),
            "since": ("started_at >= %(since)s", which.since),
            "until": ("started_at <= %(until)s", which.until),
        }
    )
    rows = db.rows(
        f"SELECT {', '.join(COLUMNS)} FROM memory_runs WHERE {condition}"
        " ORDER BY run_id DESC LIMIT %(limit)s OFFSET %(offset)s",
        {**parameters, "limit": limit, "offset": offset},
    )
    found = [RunRecord(*row) for row in rows]
    return [
        run._replace(counts=json_or_text(str(run.counts))) if run.counts else run for run in found
    ]
