"""Running the jobs that are due, in a fixed order; a failure does not stop the others.

The ledger decides what is due. A daily job is due at the first run of a day in UTC, a weekly job at
the first run of a week, which begins on Monday; a late or missed run does not shift this. A run by
hand counts. After a failure, a job is due again after an hour.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from importlib import import_module
from typing import NamedTuple

from memctl.config.jobs import JOBS, Every
from memctl.config.settings import Settings
from memctl.errors import MemctlError, RefusedError, shortage
from memctl.jobs.engine import JobContext, JobReport, JobRequest, JobResult, Session, clock_error
from memctl.storage.rows import JobHistory

RETRY_AFTER = timedelta(hours=1)


class ScheduledOutcome(NamedTuple):
    """The outcome of one job: not due before `due_at` (None: never), or run, or failed.

    A job that was due and has neither a report nor an error was not reached in time.
    """

    job: str
    due: bool
    due_at: datetime | None
    report: JobReport[JobResult] | None = None
    error: MemctlError | None = None
    bug: Exception | None = None  # the unexpected exception behind the error

    @property
    def failure(self) -> MemctlError | None:
        """The error of the job, or the refusal of a part of its work."""
        if self.report and self.report.result:
            return self.report.result.refusal
        return self.error


def run_due_jobs(settings: Settings, request: JobRequest) -> Iterator[ScheduledOutcome]:
    """Run every job that is due, and yield the outcome of each job as it ends.

    The lock is held for all of them; alerts are delivered afterwards. `max_seconds` applies to all
    jobs together. Raises the errors of `Session.run`, but only before the first job, and keeps them
    as a failure of that job.
    """
    first = _first(settings.every)
    with Session(request) as session:
        session.deliver_alerts_at_end()
        with session.failures_of(first), session.exclusive("run"):
            clock = time.monotonic()
            for job, due_at in _plan(settings.every, session):
                left = request.max_seconds
                if left is not None:
                    left -= time.monotonic() - clock
                yield _run_if_due(job, due_at, settings, session, left)


def _run_if_due(
    job: str,
    due_at: datetime | None,
    settings: Settings,
    session: Session,
    seconds_left: float | None,
) -> ScheduledOutcome:
    """Run a job if it is due and time is left."""
    due = due_at is not None and due_at <= session.request.now
    outcome = ScheduledOutcome(job, due, due_at)
    if not due or (seconds_left is not None and seconds_left <= 0):
        return outcome
    try:
        return outcome._replace(
            report=session.run(job, job_work(job, settings), max_seconds=seconds_left)
        )
    except MemctlError as failure:
        return outcome._replace(error=failure)
    except Exception as bug:
        if lacking := shortage(bug):
            return outcome._replace(error=lacking)
        error = MemctlError(f"{type(bug).__name__}: {bug}", "this is a bug of memctl")
        return outcome._replace(error=error, bug=bug)


def job_work(
    name: str, settings: Settings, *, policies: Sequence[object] | None = None, **options: object
) -> Callable[[JobContext], JobResult]:
    """Return the work of a scheduled job under its policies: those of the settings, or others.

    `options` are passed on to the job's function.
    """
    job = JOBS[name]
    if policies is None:
        policies = [getattr(settings, policy) for policy in job.policies]
    module, function = job.work.split(":")
    work = getattr(import_module(module), function)
    return lambda run: work(run, *policies, **options)


def _plan(every: Mapping[str, Every], session: Session) -> list[tuple[str, datetime | None]]:
    """Return all jobs in order, and when each is due.

    If the clock is wrong, only the first job is returned; its refusal is recorded for all of them.
    """
    now = session.request.now
    with session.open_store() as store:
        store.require_current()
        if clock_error(store, session.request):
            return [(_first(every), now)]
        return [(job, due_at(every[job], store.job_history(job), now=now)) for job in every]


def _first(every: Mapping[str, Every]) -> str:
    """Return the job to which a failure is attributed if no job can be started."""
    return next((job for job in every if every[job] != "never"), next(iter(JOBS)))


def due_at(every: Every, last: JobHistory, *, now: datetime) -> datetime | None:
    """Return `now` if a job is due, or the time at which it will be; None if never.

    Successes of later days and failures in the future do not count, because the clock was wrong.
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


def exit_failure(failures: list[MemctlError]) -> MemctlError:
    """Return the failure that decides the exit code: the first that is more than a refusal."""
    return next(
        (failure for failure in failures if not isinstance(failure, RefusedError)), failures[0]
    )
