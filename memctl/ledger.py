"""The ledger of runs: what ran when, how it ended, and how long it held the lock.

A row that was started and never finished is a crash.
"""

import json
import os
from dataclasses import asdict
from datetime import datetime, timedelta
from sqlite3 import Connection
from typing import Literal, NamedTuple

from memctl import __version__
from memctl.database import to_bytes, transaction
from memctl.errors import RefusedError
from memctl.spool import Failure
from memctl.timestamps import parse_moment, to_text

Status = Literal["ok", "failed", "refused"]
CLOCK_TOLERANCE = timedelta(hours=1)


class LastRun(NamedTuple):
    """The newest run that did something, or was about to."""

    run_id: int
    job: str
    started_at: datetime


class Standing(NamedTuple):
    """When a job was last done completely, and when it last failed unless it went well since."""

    done_at: datetime | None
    failed_at: datetime | None


def last_run(db: Connection) -> LastRun | None:
    """Return the newest run that was not refused."""
    row = db.execute(
        "SELECT run_id, job, started_at FROM memory_runs WHERE status <> 'refused'"
        " ORDER BY run_id DESC LIMIT 1"
    ).fetchone()
    return LastRun(row[0], row[1], parse_moment(row[2])) if row else None


def standing(db: Connection, job: str) -> Standing:
    """Return how things stand with a job; a crash is a failure."""
    done = db.execute(
        "SELECT started_at FROM memory_runs WHERE job = ? AND complete"
        " ORDER BY run_id DESC LIMIT 1",
        (job,),
    ).fetchone()
    newest = db.execute(
        "SELECT started_at, status FROM memory_runs WHERE job = ? ORDER BY run_id DESC LIMIT 1",
        (job,),
    ).fetchone()
    failed = newest is not None and newest[1] in ("failed", "running")
    return Standing(
        done_at=parse_moment(done[0]) if done else None,
        failed_at=parse_moment(newest[0]) if failed else None,
    )


def refuse_backward_clock(last: LastRun | None, *, now: datetime) -> None:
    """Raise RefusedError when `now` is over an hour before the newest run."""
    if last and now < last.started_at - CLOCK_TOLERANCE:
        raise RefusedError(
            f"the clock says {to_text(now)}, but run {last.run_id} ({last.job}) was at "
            f"{to_text(last.started_at)}",
            "set the clock; if that run's clock was the wrong one, say --force once",
        )


def start_run(db: Connection, job: str, *, now: datetime) -> int:
    """Record that a run has begun and return its number."""
    with transaction(db):
        cursor = db.execute(
            """
            INSERT INTO memory_runs (job, started_at, status, memctl_version, host, pid)
            VALUES (?, ?, 'running', ?, ?, ?)
            """,
            (job, to_text(now), __version__, os.uname().nodename, os.getpid()),
        )
    return int(cursor.lastrowid or 0)


def record_failure(db: Connection, failure: Failure, *, run_id: int | None) -> None:
    """Record a run that failed earlier: in the row that it began, or in a new one.

    Call it in a transaction.
    """
    db.execute(
        """
        INSERT OR REPLACE INTO memory_runs
            (run_id, job, started_at, finished_at, status, error, memctl_version, host, pid)
        VALUES
            (:run_id, :job, :started_at, :started_at, 'failed', CAST(:error AS TEXT),
                :memctl_version, :host, :pid)
        """,
        {**asdict(failure), "run_id": run_id, "error": to_bytes(failure.error)},
    )


def finish_run(
    db: Connection,
    run_id: int,
    *,
    status: Status,
    finished_at: datetime,
    duration_ms: int,
    longest_lock_ms: float,
    complete: bool = False,
    counts: dict[str, object] | None = None,
    error: str | None = None,
) -> None:
    """Record how a run ended; `complete` says that it did all that was due."""
    with transaction(db):
        db.execute(
            """
            UPDATE memory_runs
            SET finished_at = :finished_at, duration_ms = :duration_ms, status = :status,
                complete = :complete, counts = :counts, longest_lock_ms = :longest_lock_ms,
                error = CAST(:error AS TEXT)
            WHERE run_id = :run_id
            """,
            {
                "run_id": run_id,
                "finished_at": to_text(finished_at),
                "duration_ms": duration_ms,
                "status": status,
                "complete": complete,
                "counts": None if counts is None else json.dumps(counts),
                "longest_lock_ms": round(longest_lock_ms, 1),
                "error": None if error is None else to_bytes(error),
            },
        )
