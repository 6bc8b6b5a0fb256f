"""The ledger of runs: when each run started, how it ended, and how long it held the write lock.

A run with the status `running` has crashed if no memctl process is running, or if another run has
begun since.
"""

import json
import os
from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from typing import Literal

from memctl import __version__
from memctl.errors import NotFoundError, RefusedError
from memctl.storage.clock import CLOCK_TOLERANCE, LONGEST_SILENCE, LastRun, clock_error_after
from memctl.storage.rows import JobHistory, RunEnd, RunFilter, RunRecord, json_or_text
from memctl.storage.spool import Failure
from memctl.storage.sqlite.database import text_conditions, transaction
from memctl.storage.sqlite.locking import is_memctl_running
from memctl.storage.sqlite.times import unix_seconds
from memctl.storage.text import to_bytes
from memctl.storage.times import parse_moment, to_text, to_unix

# Runs whose clock was accepted. A refused run may have been refused because of its clock, and that
# of a failure from the spool, which has no duration, was never checked.
CLOCK_WAS_ACCEPTED = "status <> 'refused' AND (status <> 'failed' OR duration_ms IS NOT NULL)"

# Newest row first, because an active service has probably written it last.
WRITTEN_BY_SERVICE = f"""
    SELECT 1 FROM agent_memory
    WHERE {unix_seconds("created_at")} BETWEEN :since AND :until
        OR {unix_seconds("last_accessed")} BETWEEN :since AND :until
    ORDER BY rowid DESC
    LIMIT 1
"""


def last_run(db: Connection) -> LastRun | None:
    """Return the newest run whose clock was accepted."""
    row = db.execute(
        f"SELECT run_id, job, started_at FROM memory_runs WHERE {CLOCK_WAS_ACCEPTED}"
        " ORDER BY run_id DESC LIMIT 1"
    ).fetchone()
    return LastRun(row[0], row[1], parse_moment(row[2])) if row else None


def require_run(db: Connection, run_id: int) -> tuple[str, datetime]:
    """Return the job of a run and its cutoff.

    Raises NotFoundError when there is no such run.
    """
    row = db.execute(
        "SELECT job, started_at FROM memory_runs WHERE run_id = ?", (run_id,)
    ).fetchone()
    if row is None:
        raise NotFoundError(f"there is no run {run_id}", "see `memctl runs`; nothing was changed")
    return row[0], parse_moment(row[1])


def job_history(db: Connection, job: str) -> JobHistory:
    """Return the history of a job; a crash counts as a failure."""
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
    return JobHistory(
        done_at=parse_moment(done[0]) if done else None,
        failed_at=parse_moment(newest[0]) if failed else None,
    )


def clock_error(db: Connection, *, now: datetime) -> RefusedError | None:
    """Return why the clock cannot be right, or None; only reads."""
    return clock_error_after(last_run(db), lambda: _service_wrote(db, now=now), now=now)


def _service_wrote(db: Connection, *, now: datetime) -> bool:
    """Return whether the service has written or read a memory in the 60 days before `now`."""
    span = {"since": to_unix(now - LONGEST_SILENCE), "until": to_unix(now + CLOCK_TOLERANCE)}
    return db.execute(WRITTEN_BY_SERVICE, span).fetchone() is not None


def start_run(
    db: Connection, job: str, *, now: datetime, status: Literal["running", "refused"] = "running"
) -> int:
    """Record the start of a run, or that it is refused, and return its number."""
    with transaction(db):
        cursor = db.execute(
            """
            INSERT INTO memory_runs (job, started_at, status, memctl_version, host, pid)
            VALUES (?, ?, ?, ?, ?, ?)
            """,
            (job, to_text(now), status, __version__, os.uname().nodename, os.getpid()),
        )
    return int(cursor.lastrowid or 0)


def forget_run(db: Connection, run_id: int) -> None:
    """Delete a run that has just been started with invalid arguments."""
    with transaction(db):
        db.execute("DELETE FROM memory_runs WHERE run_id = ?", (run_id,))


def record_failure(db: Connection, failure: Failure, *, run_id: int | None) -> None:
    """Record a run that failed or was refused earlier; `run_id` is its row, if it has one.

    Must be called in a transaction.
    """
    db.execute(
        """
        INSERT OR REPLACE INTO memory_runs
            (run_id, job, started_at, finished_at, status, error, memctl_version, host, pid)
        VALUES
            (:run_id, :job, :started_at, :started_at, :status, CAST(:error AS TEXT),
                :memctl_version, :host, :pid)
        """,
        {**asdict(failure), "run_id": run_id, "error": to_bytes(failure.error)},
    )


def finish_run(db: Connection, run_id: int, end: RunEnd) -> None:
    """Record the end of a run."""
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
                "finished_at": to_text(end.finished_at),
                "duration_ms": end.duration_ms,
                "status": end.status,
                "complete": end.complete,
                "counts": None if end.counts is None else json.dumps(end.counts),
                "longest_lock_ms": round(end.longest_lock_ms, 1),
                "error": None if end.error is None else to_bytes(end.error),
            },
        )


# The lock, not the table, determines whether a run has crashed.
STATUS = "iif(run_id IN (SELECT value FROM json_each(:crashed)), 'crashed', status)"


def crashed_runs(db: Connection, database: Path) -> set[int]:
    """Return the numbers of the runs that have crashed; only reads."""
    unfinished = _unfinished(db)
    if unfinished and is_memctl_running(database):
        unfinished -= {row[0] for row in db.execute("SELECT max(run_id) FROM memory_runs")}
    return unfinished & _unfinished(db) if unfinished else set()  # one may have ended in between


def _unfinished(db: Connection) -> set[int]:
    return {row[0] for row in db.execute("SELECT run_id FROM memory_runs WHERE status = 'running'")}


def last_success(db: Connection, *, before: int) -> str | None:
    """Return when the last successful run before the run of a number was started."""
    found = db.execute(
        "SELECT started_at FROM memory_runs WHERE status = 'ok' AND run_id < ?"
        " ORDER BY run_id DESC LIMIT 1",
        (before,),
    ).fetchone()
    return None if found is None else str(found[0])


def list_runs(
    db: Connection, which: RunFilter, *, crashed: Collection[int], limit: int, offset: int = 0
) -> list[RunRecord]:
    """Return runs, newest first, without the newest `offset`.

    `crashed` are the numbers of those that have crashed.
    """
    columns = [STATUS if name == "status" else name for name in RunRecord._fields]
    terms, parameters = text_conditions({"job": which.job})
    if which.status is not None:
        terms.append(f"{STATUS} = :status")
    if which.since is not None:
        terms.append("started_at >= :since")
    if which.until is not None:
        terms.append("started_at <= :until")
    rows = db.execute(
        f"SELECT {', '.join(columns)} FROM memory_runs WHERE {' AND '.join(terms) or 'TRUE'}"
        " ORDER BY run_id DESC LIMIT :limit OFFSET :offset",
        {
            **parameters,
            "crashed": json.dumps(sorted(crashed)),
            "status": which.status,
            "since": which.since and to_text(which.since),
            "until": which.until and to_text(which.until),
            "limit": limit,
            "offset": offset,
        },
    )
    found = [RunRecord(*row) for row in rows]
    return [
        run._replace(counts=json_or_text(str(run.counts))) if run.counts else run for run in found
    ]
