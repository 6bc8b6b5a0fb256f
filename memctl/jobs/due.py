"""Running the jobs that are due, in a fixed order; a failure does not stop the others.

The ledger decides what is due. A daily job is due at the first run of a day in UTC, a weekly job at
the first run of a week, which begins on Monday, a monthly job at the first run of a month; a late
or missed run does not shift this. A run by hand counts. After a failure, a job is due again after
an hour.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from memctl.config.jobs import JOBS, Every, ReportEvery
from memctl.config.settings import Settings
from memctl.errors import LeasedError, MemctlError, RefusedError, explained, is_bug
from memctl.jobs.engine import JobContext, JobReport, JobRequest, JobResult, Session, clock_error
from memctl.storage.rows import JobHistory

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Store

RETRY_AFTER = timedelta(hours=1)


class ScheduledJob(NamedTuple):
    """A job of `memctl run`: one of the table of jobs, or one that the caller adds."""

    name: str
    every: Every | ReportEvery
    work: Callable[[JobContext], JobResult]

    def due_at(self, store: "Store", *, now: datetime) -> datetime | None:
        """Return `now` if the job is due, or the time at which it will be; None if never."""
        return due_at(self.every, store.job_history(self.name), now=now)


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


def run_due_jobs(
    settings: Settings, request: JobRequest, added: Sequence[ScheduledJob] = ()
) -> Iterator[ScheduledOutcome]:
    """Run every job that is due, the `added` ones last, and yield each outcome as a job ends.

    The lock is held for all of them, or with hooks for each of them; alerts are delivered
    afterwards. `max_seconds` applies to all jobs together. Raises the errors of `Session.run`, but
    only before the first job, and keeps them as a failure of that job.

    Yields nothing if another process runs jobs on the same server: every machine may have a
    schedule.
    """
    jobs = [*_jobs_of_table(settings), *added]
    with Session(request) as session:
        session.deliver_alerts_at_end()
        with session.failures_of(_first(jobs).name), ExitStack() as stack:
            try:
                stack.enter_context(session.exclusive("run"))
            except LeasedError:
                return
            clock = time.monotonic()
            planned = _plan(jobs, session)
            lock = stack.pop_all()
        with lock:
            if request.hook is not None:
                lock.close()
            for job, due_at in planned:
                left = request.max_seconds
                if left is not None:
                    left -= time.monotonic() - clock
                yield _run_if_due(job, due_at, session, left)


def _jobs_of_table(settings: Settings) -> Iterator[ScheduledJob]:
    for name in JOBS:
        # The module of a job is imported only if it is due.
        work = partial(lambda name, run: job_work(name, settings)(run), name)
        yield ScheduledJob(name, settings.every[name], work)


def _run_if_due(
    job: ScheduledJob, due_at: datetime | None, session: Session, seconds_left: float | None
) -> ScheduledOutcome:
    """Run a job if it is due and time is left."""
    now = session.request.now
    outcome = ScheduledOutcome(job.name, due_at == now, due_at)
    if not outcome.due or (seconds_left is not None and seconds_left <= 0):
        return outcome

    def still_due(store: "Store") -> bool:
        nonlocal outcome
        if clock_error(store, session.request):
            return True  # the refusal is recorded
        due_at = job.due_at(store, now=now)
        outcome = ScheduledOutcome(job.name, due_at == now, due_at)
        return outcome.due

    try:
        report = session.run(
            job.name,
            job.work,
            max_seconds=seconds_left,
            # Another process may have run the job while a hook ran without the lock.
            still_due=still_due if session.request.hook else None,
        )
    except MemctlError as failure:
        return outcome._replace(error=failure)
    except Exception as bug:
        return outcome._replace(error=explained(bug), bug=bug if is_bug(bug) else None)
    return outcome._replace(report=report) if outcome.due else outcome


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


def _plan(
    jobs: Sequence[ScheduledJob], session: Session
) -> list[tuple[ScheduledJob, datetime | None]]:
    """Return all jobs in order, and when each is due.

    If the clock is wrong, only the first job is returned; its refusal is recorded for all of them.
    """
    now = session.request.now
    with session.open_store() as store:
        store.require_current()
        if clock_error(store, session.request):
            return [(_first(jobs), now)]
        return [(job, job.due_at(store, now=now)) for job in jobs]


def _first(jobs: Sequence[ScheduledJob]) -> ScheduledJob:
    """Return the job to which a failure is attributed if no job can be started."""
    return next((job for job in jobs if job.every != "never"), jobs[0])


def due_at(every: Every | ReportEvery, last: JobHistory, *, now: datetime) -> datetime | None:
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
    elif every == "monthly":
        begin = begin.replace(day=1)
        length = (begin + timedelta(days=31)).replace(day=1) - begin
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
