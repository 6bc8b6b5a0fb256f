"""One run of a job: what it is given, and how it is begun, recorded and ended.

At most one run changes a database at a time. Each has one cutoff, `now`, and a row in the ledger;
a dry run has neither lock nor row and cannot write.
"""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from sqlite3 import Connection
from typing import Generic, NamedTuple, TypeVar

from memctl import ledger, migrations
from memctl.batches import Batches
from memctl.database import open_database, require_file
from memctl.due import Affected, Due, Tally
from memctl.errors import MemctlError, NotFoundError, RefusedError, SchemaError, UsageError
from memctl.locking import exclusive
from memctl.pause import Pause, current_pause


class Request(NamedTuple):
    """How a job is to be run."""

    database: Path
    now: datetime
    dry_run: bool = False
    listing: bool = False
    force: bool = False
    lock_wait: float = 10.0
    max_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What a job did; each job adds its own counts as fields."""

    tally: Tally
    refusal: RefusedError | None = None

    @property
    def counts(self) -> dict[str, object]:
        """The job's own counts by their names."""
        common = {field.name for field in fields(JobResult)}
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in common
        }


Result = TypeVar("Result", bound=JobResult, covariant=True)


class Report(NamedTuple, Generic[Result]):
    """A finished run. While memctl is paused there is no result: nothing was done."""

    job: str
    run_id: int | None
    dry_run: bool
    cutoff: datetime
    result: Result | None
    pause: Pause | None
    duration_ms: int
    longest_lock_ms: float


class Batch(NamedTuple):
    """The memories that one transaction changes."""

    memories: list[Affected]

    @property
    def rowids(self) -> str:
        """Their rows, as a JSON array."""
        return json.dumps([memory.rowid for memory in self.memories])


class Run(NamedTuple):
    """What a job works with.

    A dry run has no number and no batches; what a client does, without a job, has no number.
    """

    db: Connection
    request: Request
    run_id: int | None = None
    batches: Batches | None = None

    @property
    def now(self) -> datetime:
        """The run's only cutoff."""
        return self.request.now

    @property
    def number(self) -> int:
        """The run's number in the ledger; a dry run has none."""
        if self.run_id is None:
            raise AssertionError("a dry run has no number")
        return self.run_id

    def settle(self, due: Due, change: Callable[[Batch], int]) -> Tally:
        """Apply `change` to all that is due, in batches; in a dry run, only count it.

        `change` returns how many rows it changed; a batch in which that is not all of them is a
        bug and is rolled back.
        """
        tally = Tally(listing=self.request.listing, policy=due.policy)
        if self.batches is None:
            tally.add(due.rows(self.db))
            return tally
        schema = migrations.schema_version(self.db)
        migrations.require_columns(self.db, migrations.MEMORY_COLUMNS)

        def change_batch(rowids: str) -> None:
            if migrations.schema_version(self.db) != schema:
                raise SchemaError(
                    "the schema was changed while the job ran",
                    "what was done stays done: run it again for the rest",
                )
            still = due.still(self.db, rowids)
            changed = change(Batch(still)) if still else 0
            if changed != len(still):
                raise AssertionError(f"{changed} rows changed where {len(still)} were due")
            tally.add(still)

        found = due.rowids(self.db)
        tally.remaining = self.batches.apply(found, change_batch)
        tally.changed_meanwhile = len(found) - tally.count - tally.remaining
        return tally


def perform(
    job: str, work: Callable[[Run], Result], request: Request, *, by_hand: bool = False
) -> Report[Result]:
    """Run a job with everything that all jobs have in common.

    What a person does by hand is done while memctl is paused, too.

    Raises LockedError when another memctl is at work for longer than `lock_wait` seconds,
    SchemaError when the schema is not current, RefusedError when the clock went back by over an
    hour (unless forced), and whatever stops `work`, after recording it in the ledger.
    """
    clock = time.monotonic()
    with ExitStack() as stack:
        if not request.dry_run:
            require_file(request.database)
            stack.enter_context(exclusive(request.database, job=job, wait=request.lock_wait))
        db = stack.enter_context(
            open_database(request.database, read_only=request.dry_run, lock_wait=request.lock_wait)
        )
        migrations.require_current(db)
        pause = None
        if not (request.dry_run or by_hand):
            pause = current_pause(db, now=request.now)
        run = Run(db, request)
        result = None
        if request.dry_run:
            _refuse_backward_clock(ledger.last_run(db), request)
            result = work(run)
        elif not pause:
            run, result = _record(job, work, db, request)
    return Report(
        job=job,
        run_id=run.run_id,
        dry_run=request.dry_run,
        cutoff=request.now,
        result=result,
        pause=pause,
        duration_ms=round((time.monotonic() - clock) * 1000),
        longest_lock_ms=round(run.batches.longest_lock_ms, 1) if run.batches else 0.0,
    )


def _record(
    job: str, work: Callable[[Run], Result], db: Connection, request: Request
) -> tuple[Run, Result]:
    """Do the work between two entries in the ledger."""
    clock = time.monotonic()
    last = ledger.last_run(db)
    batches = Batches(db, max_seconds=request.max_seconds)
    run_id = ledger.start_run(db, job, now=request.now)
    run = Run(db, request, run_id, batches)

    def finish(status: ledger.Status, counts: dict[str, object] | None, error: str | None) -> None:
        seconds = time.monotonic() - clock
        ledger.finish_run(
            db,
            run_id,
            status=status,
            finished_at=request.now + timedelta(seconds=seconds),
            duration_ms=round(seconds * 1000),
            longest_lock_ms=batches.longest_lock_ms,
            counts=counts,
            error=error,
        )

    try:
        _refuse_backward_clock(last, request)
        result = work(run)
        finish("refused" if result.refusal else "ok", result.counts, _name(result.refusal))
    except BaseException as error:
        refused = isinstance(error, (RefusedError, NotFoundError, UsageError))
        with suppress(sqlite3.Error):  # what stopped the work may stop this too: say the former
            db.rollback()  # a signal may come between the start of a transaction and its block
            db.execute("PRAGMA busy_timeout = 1000")
            finish("refused" if refused else "failed", None, _name(error))
        raise
    return run, result


def _refuse_backward_clock(last: ledger.LastRun | None, request: Request) -> None:
    if not request.force:
        ledger.refuse_backward_clock(last, now=request.now)


def _name(error: BaseException | None) -> str | None:
    if error is None:
        return None
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return "stopped by a signal"
    return str(error) if isinstance(error, MemctlError) else f"{type(error).__name__}: {error}"
