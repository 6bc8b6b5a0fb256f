"""Everything that is due, in a safe order, each job on its own: what one line in crontab calls.

The ledger tells what is due. A daily job is due at the first turn of a day in UTC, a weekly one at
the first of a week that begins on Monday: a turn that comes late, or not at all, shifts nothing,
and whoever ran the job by hand that day has done it. After a failure a job waits for an hour.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from memctl.config.settings import Settings
from memctl.errors import MemctlError, RefusedError, shortage
from memctl.jobs.engine import (
    JobResult,
    Report,
    Request,
    Run,
    alone,
    migrated_database,
    perform_alone,
    watched,
)
from memctl.jobs.watchdog import deliver_alerts
from memctl.storage.sqlite.ledger import Standing, clock_error, standing

Every = Literal["always", "daily", "weekly", "never"]

RETRY_AFTER = timedelta(hours=1)


@dataclass(frozen=True)
class RunPolicy:
    """How often each job is due."""

    cleanup: Every = "always"
    decay: Every = "daily"
    promote: Every = "daily"
    snapshot: Every = "daily"
    prune: Every = "weekly"


def _cleanup(run: Run, _settings: Settings) -> JobResult:
    from memctl.jobs.cleanup import cleanup

    return cleanup(run)


def _decay(run: Run, settings: Settings) -> JobResult:
    from memctl.jobs.candidates import decay_with_notes

    return decay_with_notes(run, settings.decay, settings.promote)


def _promote(run: Run, settings: Settings) -> JobResult:
    from memctl.jobs.promote import promote

    return promote(run, settings.promote, settings.decay)


def _snapshot(run: Run, _settings: Settings) -> JobResult:
    from memctl.jobs.snapshot import snapshot

    return snapshot(run)


def _prune(run: Run, settings: Settings) -> JobResult:
    from memctl.jobs.prune import prune

    return prune(run, settings.prune)


# In this order: what has expired is not worth charging, and what is pruned is gone for good.
JOBS: dict[str, Callable[[Run, Settings], JobResult]] = {
    "cleanup": _cleanup,
    "decay": _decay,
    "promote": _promote,
    "snapshot": _snapshot,
    "prune": _prune,
}


class Turn(NamedTuple):
    """What became of one job: not due before a moment (None: never), or run, or failed.

    A job that was due and has neither a report nor an error was not reached in time.
    """

    job: str
    due: bool
    due_at: datetime | None
    report: Report[JobResult] | None = None
    error: MemctlError | None = None
    bug: Exception | None = None  # what the error stands for, if that is none to be foreseen

    @property
    def failure(self) -> MemctlError | None:
        """Why the job was not done, or not wholly."""
        if self.report and self.report.result:
            return self.report.result.refusal
        return self.error


def run_due_jobs(settings: Settings, request: Request) -> Iterator[Turn]:
    """Run every job that is due and yield what became of each of them, as it happens.

    Nobody else changes the database in between; alerts are delivered afterwards. `max_seconds` is
    for all of them together. Raises as `perform` does, but only before the first job, and keeps it
    as a failure of that job.
    """
    watch = request.watch
    request = request._replace(watch=watch._replace(deliver=None))
    try:
        with watched(_first(settings.run), request, by_hand=False), alone("run", request):
            clock = time.monotonic()
            for job, due_at in _plan(settings.run, request):
                left = request.max_seconds
                if left is not None:
                    left -= time.monotonic() - clock
                yield _turn(job, due_at, settings, request._replace(max_seconds=left))
    except Exception:
        deliver_alerts(request.database, watch)
        raise
    deliver_alerts(request.database, watch)


def _turn(job: str, due_at: datetime | None, settings: Settings, request: Request) -> Turn:
    """Run a job if it is due and there is time left."""
    due = due_at is not None and due_at <= request.now
    turn = Turn(job, due, due_at)
    if not due or (request.max_seconds is not None and request.max_seconds <= 0):
        return turn
    try:
        return turn._replace(report=_perform(job, settings, request))
    except MemctlError as failure:
        return turn._replace(error=failure)
    except Exception as bug:
        if lacking := shortage(bug):
            return turn._replace(error=lacking)
        error = MemctlError(f"{type(bug).__name__}: {bug}", "this is a bug of memctl")
        return turn._replace(error=error, bug=bug)


def _perform(job: str, settings: Settings, request: Request) -> Report[JobResult]:
    return perform_alone(job, lambda run: JOBS[job](run, settings), request)


def _plan(policy: RunPolicy, request: Request) -> list[tuple[str, datetime | None]]:
    """Return all jobs in their order, and when each is due.

    While the clock is wrong it is only the first, which is refused and recorded for all of them.
    """
    with migrated_database(request) as db:
        if not request.force and clock_error(db, now=request.now):
            return [(_first(policy), request.now)]
        return [
            (job, due_at(getattr(policy, job), standing(db, job), now=request.now)) for job in JOBS
        ]


def _first(policy: RunPolicy) -> str:
    """Return the job that suffers when none can be begun."""
    return next((job for job in JOBS if getattr(policy, job) != "never"), "cleanup")


def due_at(every: Every, last: Standing, *, now: datetime) -> datetime | None:
    """Return since when a job is due (`now` will do), or the moment when it will be; None: never.

    What was done on a day to come, or failed in the future, does not count: the clock was wrong.
    """
    if every == "never":
        return None
    if every == "always":
        return now
    begin = now.replace(hour=0, minute=0, second=0, microsecond=0)
    length = timedelta(days=1)
    if every == "weekly":
        begin -= timedelta(days=begin.weekday())
        length = timedelta(days=7)
    if last.done_at and begin <= last.done_at < begin + length:
        return begin + length
    if last.failed_at and timedelta() <= now - last.failed_at < RETRY_AFTER:
        return last.failed_at + RETRY_AFTER
    return now


def worst(failures: list[MemctlError]) -> MemctlError:
    """Return the failure that decides the exit code: the first that is more than a refusal."""
    return next(
        (failure for failure in failures if not isinstance(failure, RefusedError)), failures[0]
    )
