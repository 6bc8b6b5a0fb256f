"""Running one job: its request, its context, its record in the ledger and its result.

At most one run changes a database at a time. Each has one cutoff, `now`, and a row in the ledger.
A dry run takes no lock, has no row and cannot write.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, Self, TypeVar

from memctl.config.policies import Policy
from memctl.errors import NotFoundError, RefusedError, UsageError, ledger_text
from memctl.jobs.tally import JobTally
from memctl.jobs.watchdog import Watch, after_run, deliver_alerts, keep_failure, take_in_spool
from memctl.storage.addresses import Address
from memctl.storage.engines import exclusive, open_store
from memctl.storage.progress import NO_PROGRESS, WAITING, Progress
from memctl.storage.rows import EndStatus, Pause, RunEnd
from memctl.storage.spool import FailureStatus

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Batches, Change, Exclusion, Store


class JobRequest(NamedTuple):
    """The options of a run.

    `hook`, if given, is called at the start and the end of each run, and returns whether a program
    was run. It may be slow and is called without a lock. It raises no errors of the program.
    """

    database: Address
    now: datetime
    dry_run: bool = False
    listing: bool = False
    force: bool = False
    lock_wait: float = 10.0
    max_seconds: float | None = None
    watch: Watch = Watch()
    partial: bool = False  # one agent only, or another policy: the job is still due
    progress: Progress = NO_PROGRESS
    hook: "Callable[[HookCall], bool] | None" = None

    @property
    def file(self) -> Path:
        """The file of a SQLite database. Raises UsageError for another one."""
        if isinstance(self.database, Path):
            return self.database
        raise UsageError(f"{self.database} is not a file", "use a SQLite database")


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """The result of a job; each job adds its own counts as fields."""

    tally: JobTally
    refusal: RefusedError | None = None
    held_at_once: str | None = None  # what it held for its one, possibly long transaction

    @property
    def warning(self) -> str | None:
        """A sentence that is printed although the job succeeded, even off a terminal."""
        return None

    @property
    def counts(self) -> dict[str, object]:
        """The job's own counts by their names."""
        common = {field.name for field in fields(JobResult)}
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in common
        }

    @property
    def totals(self) -> dict[str, int]:
        """The numbers in the sentence about the job, by their names."""
        return {name: count for name, count in self.counts.items() if isinstance(count, int)}

    @property
    def remark(self) -> str | None:
        """An addition to the sentence about the job."""
        return None


Result = TypeVar("Result", bound=JobResult, covariant=True)


class JobReport(NamedTuple, Generic[Result]):
    """A finished run; it has no result if memctl was paused, or the job was no longer due."""

    job: str
    run_id: int | None
    dry_run: bool
    cutoff: datetime
    result: Result | None
    pause: Pause | None
    duration_ms: int
    longest_lock_ms: float


class HookCall(NamedTuple):
    """The start of a run, before it has a number, or its success or failure.

    A failure has an error, and a report if only a part of the work was refused.
    """

    hook: Literal["start", "success", "failure"]
    job: str
    run_id: int | None = None  # None: the run is not in the ledger
    report: JobReport[JobResult] | None = None
    error: Exception | None = None


class JobContext(NamedTuple):
    """The context of a run.

    A dry run has no run_id and no batches; a change by a client without a job has no run_id.
    """

    store: "Store"
    request: JobRequest
    run_id: int | None = None
    batches: "Batches | None" = None

    @property
    def now(self) -> datetime:
        """The cutoff of the run."""
        return self.request.now

    def apply_in_batches(
        self, change: "Change", *, doing: str, policy: Policy | None = None
    ) -> JobTally:
        """Make a change in batches, or in a dry run, only count what it would change.

        `doing` names the change as a phase. If the `policy` has overrides, each listed memory names
        the tables that apply to it.
        """
        tally = JobTally(listing=self.request.listing, policy=policy)
        self.request.progress.phase("reading")
        tally.held = sum(1 for _ in change.held())
        if self.batches is None:
            tally.add(change.memories())
            return tally
        found = change.find()
        tally.remaining = self.batches.apply(found, change.apply, doing=doing, after=tally.add)
        tally.changed_meanwhile = len(found) - tally.count - tally.remaining
        return tally


@dataclass
class RunOutcome:
    """The outcome of a run."""

    run_id: int | None = None
    start_hook_ran: bool = False
    recorded: bool = False  # the ledger contains its end
    wrong_clock: RefusedError | None = None  # the reason for a refusal before it started


class Session:
    """Runs jobs on one database: takes memctl's lock, records the runs and delivers alerts.

    `run` runs one job. `exclusive` excludes other memctl processes during several runs; otherwise
    each run does so itself. Alerts are delivered at the end of the session, after the lock is
    released. A session that a user starts `by_hand` also runs while memctl is paused, and its
    failures raise no alerts.
    """

    def __init__(self, request: JobRequest, *, by_hand: bool = False) -> None:
        self.request = request
        self._by_hand = by_hand
        self._undelivered = False
        self._exclusive = False
        self._exclusion: Exclusion = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if self._undelivered and (error is None or isinstance(error, Exception)):
            deliver_alerts(self.request.file, self.request.watch)

    def run(
        self,
        job: str,
        work: Callable[[JobContext], Result],
        *,
        max_seconds: float | None = None,
        prepare: Callable[["Store"], None] | None = None,
        still_due: Callable[["Store"], bool] | None = None,
    ) -> JobReport[Result]:
        """Run a job, record it in the ledger, and return its report.

        `max_seconds`, if given, replaces that of the request. `prepare` is called with the store
        before memctl's lock is taken, and may take long. `still_due` is called when it is taken; if
        it returns false, nothing is done.

        Raises LockedError if another memctl process holds the lock for longer than `lock_wait`
        seconds, SchemaError if the schema is not current, RefusedError if the clock must be wrong
        (unless forced), and every error of `work`, after recording it in the ledger.
        """
        self.request.progress.begin(job)
        with self.failures_of(job) as outcome, self.open_store() as store:
            if prepare is not None:
                prepare(store)
            self._run_start_hook(job, store, outcome)
            with self.exclusive(job):
                report = self._run(job, work, store, outcome, max_seconds, still_due)
        if self.request.hook and report.result:
            refusal = report.result.refusal
            name: Literal["success", "failure"] = "failure" if refusal else "success"
            self.request.hook(HookCall(name, job, report.run_id, report, refusal))
        return report

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Exclude other memctl processes that change the database, except in a preview."""
        if self.request.dry_run or self._exclusive:
            yield
            return
        request = self.request
        request.progress.phase(WAITING)
        with exclusive(request.database, job=name, wait=request.lock_wait) as self._exclusion:
            request.progress.phase("reading")
            self._exclusive = True
            try:
                yield
            finally:
                self._exclusive = False

    def open_store(self) -> AbstractContextManager["Store"]:
        """Open the database for a job, or for its preview."""
        request = self.request
        return open_store(request.database, read_only=request.dry_run, lock_wait=request.lock_wait)

    @contextmanager
    def failures_of(self, job: str) -> Iterator[RunOutcome]:
        """Store a failure of a job that the ledger does not record, and run the failure hook.

        A UsageError is not a failure of the job, but a run whose start hook ran ends with a hook.
        """
        outcome = RunOutcome()
        try:
            yield outcome
        except Exception as error:
            unknown = not (outcome.recorded or isinstance(error, UsageError))
            silent = self.request.dry_run or self._by_hand
            if unknown and not silent and isinstance(self.request.database, Path):
                database, watch, now = self.request.database, self.request.watch, self.request.now
                keep_failure(job, database, error, watch, now=now, status=_status(error))
                self._undelivered = True
            if self.request.hook and (outcome.start_hook_ran or not isinstance(error, UsageError)):
                self.request.hook(HookCall("failure", job, outcome.run_id, error=error))
            raise

    def deliver_alerts_at_end(self) -> None:
        """Deliver waiting alerts of earlier runs, even if this session raises none."""
        self._undelivered = isinstance(self.request.database, Path)

    def _run_start_hook(self, job: str, store: "Store", outcome: RunOutcome) -> None:
        """Run the start hook of a job, unless memctl is paused."""
        if self.request.hook is None:
            return
        store.require_current()
        if self._by_hand or not store.current_pause(now=self.request.now):
            outcome.start_hook_ran = self.request.hook(HookCall("start", job))

    def _run(
        self,
        job: str,
        work: Callable[[JobContext], Result],
        store: "Store",
        outcome: RunOutcome,
        max_seconds: float | None,
        still_due: Callable[["Store"], bool] | None,
    ) -> JobReport[Result]:
        clock = time.monotonic()
        request = self.request
        store.require_current()
        pause = None
        if not (request.dry_run or self._by_hand):
            pause = store.current_pause(now=request.now)
        run = JobContext(store, request)
        result = None
        if request.dry_run:
            if wrong_clock := clock_error(store, request):
                raise wrong_clock
            result = work(run)
        elif not pause and (still_due is None or still_due(store)):
            if store.has_alerts:
                take_in_spool(store.sqlite, request.watch)
            batches = store.batches(
                max_seconds=request.max_seconds if max_seconds is None else max_seconds,
                progress=request.progress,
                exclusion=self._exclusion,
            )
            try:
                run, result = _record(job, work, store, batches, request, outcome)
            finally:
                if outcome.recorded and store.has_alerts:
                    with suppress(store.Error):  # errors after the work do not make the run fail
                        self._undelivered |= after_run(
                            store.sqlite,
                            request.file,
                            request.watch,
                            now=request.now,
                            by_hand=self._by_hand,
                            wrong_clock=outcome.wrong_clock,
                            held_up=bool(result and result.refusal and not request.partial),
                        )
        return JobReport(
            job=job,
            run_id=run.run_id,
            dry_run=request.dry_run,
            cutoff=request.now,
            result=result,
            pause=pause,
            duration_ms=round((time.monotonic() - clock) * 1000),
            longest_lock_ms=round(run.batches.longest_lock_ms, 1) if run.batches else 0.0,
        )


def perform(
    job: str,
    work: Callable[[JobContext], Result],
    request: JobRequest,
    *,
    by_hand: bool = False,
    prepare: Callable[["Store"], None] | None = None,
) -> JobReport[Result]:
    """Run one job in a session of its own; see `Session.run`."""
    with Session(request, by_hand=by_hand) as session:
        return session.run(job, work, prepare=prepare)


def _record(
    job: str,
    work: Callable[[JobContext], Result],
    store: "Store",
    batches: "Batches",
    request: JobRequest,
    outcome: RunOutcome,
) -> tuple[JobContext, Result]:
    """Do the work, and record its start and its end in the ledger."""
    clock = time.monotonic()
    wrong_clock = clock_error(store, request)
    run_id = store.start_run(job, now=request.now, status="refused" if wrong_clock else "running")
    outcome.run_id = run_id
    run = JobContext(store, request, run_id, batches)

    def finish(status: EndStatus, result: JobResult | None, error: BaseException | None) -> None:
        seconds = time.monotonic() - clock
        end = RunEnd(
            status=status,
            finished_at=request.now + timedelta(seconds=seconds),
            duration_ms=round(seconds * 1000),
            longest_lock_ms=batches.longest_lock_ms,
            complete=bool(result and not (result.tally.remaining or request.partial)),
            counts=result.counts if result else None,
            error=ledger_text(error),
        )
        store.finish_run(run_id, end)
        outcome.recorded = True

    try:
        if wrong_clock:
            outcome.wrong_clock = wrong_clock
            raise wrong_clock
        with store.translate_errors(request.database):
            result = work(run)
        finish("refused" if result.refusal else "ok", result, result.refusal)
    except BaseException as error:
        with suppress(store.Error):  # the cause may also prevent this: report the first error
            store.abort()
            if isinstance(error, UsageError):
                store.forget_run(run_id)
                outcome.run_id = None
            else:
                finish(_status(error), None, error)
        raise
    return run, result


def clock_error(store: "Store", request: JobRequest) -> RefusedError | None:
    """Return the error for a wrong clock; None if it may be right, or the check is overridden."""
    return None if request.force else store.clock_error(now=request.now)


def _status(error: BaseException) -> FailureStatus:
    return "refused" if isinstance(error, (RefusedError, NotFoundError)) else "failed"
