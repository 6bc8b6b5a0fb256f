"""What commands do around their work: read stdin, open the database, start a job, report it."""

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from memctl import __version__
from memctl.cli.engines import require_available_settings
from memctl.cli.options import ChangeOptions, GlobalOptions, JobOptions, LockOptions
from memctl.errors import MemctlError, UsageError, explained
from memctl.jobs.engine import (
    HookCall,
    JobContext,
    JobReport,
    JobRequest,
    JobResult,
    perform,
)
from memctl.jobs.programs import is_run_by_memctl, run_program
from memctl.jobs.watchdog import Watch
from memctl.output.contract.version import VERSION
from memctl.output.messages import Message
from memctl.output.results import job_document, show_report
from memctl.output.terminal import (
    error_document,
    is_dumb,
    json_text,
    show_document,
    show_message,
    show_notice,
    show_text,
    visible,
)
from memctl.storage.addresses import Address, full_name
from memctl.storage.engines import exclusive
from memctl.storage.progress import NO_PROGRESS, WAITING, Progress
from memctl.storage.sqlite.alerts import Alert, Undelivered
from memctl.storage.sqlite.database import Connection, open_database
from memctl.storage.sqlite.files import write_file
from memctl.storage.text import from_bytes
from memctl.storage.times import to_text

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Store


def shown_progress(
    call: GlobalOptions, task: str, *, hidden: bool = False
) -> AbstractContextManager[Progress]:
    """Return a progress display on a terminal; none if it is `hidden`, or off a terminal."""
    shown = sys.stderr is not None and sys.stderr.isatty() and not is_dumb()
    if hidden or call.quiet or call.log_format != "text" or not shown:
        return nullcontext(NO_PROGRESS)
    from memctl.output.progress import TerminalProgress

    return TerminalProgress(task)


def run_job(
    name: str,
    work: Callable[[JobContext], JobResult],
    call: GlobalOptions,
    options: ChangeOptions,
    *,
    partial: bool = False,
    by_hand: bool = False,
    prepare: "Callable[[Store, Progress], None] | None" = None,
) -> None:
    """Run one job, show its progress, and print its result; see `engine.perform`."""
    with shown_progress(call, name) as progress:
        report = perform(
            name,
            work,
            job_request(call, options, partial=partial, progress=progress),
            by_hand=by_hand,
            prepare=None if prepare is None else lambda store: prepare(store, progress),
        )
    finish(report, call, options)


def job_request(
    call: GlobalOptions,
    options: ChangeOptions,
    *,
    partial: bool = False,
    progress: Progress = NO_PROGRESS,
) -> JobRequest:
    """Return the request for a job; `partial` if it is not to do all that is due.

    Raises UsageError if the configuration has keys that the database's engine does not support.
    """
    if not isinstance(call.settings.database, Path):
        require_available_settings(call.settings)
    silent = options.dry_run or is_run_by_memctl()
    request = JobRequest(
        database=call.settings.database,
        now=call.moment,
        dry_run=options.dry_run,
        force=options.force,
        lock_wait=options.lock_wait,
        watch=Watch(
            alerts=call.settings.alerts,
            deliver=None if silent else functools.partial(deliver, call),
            spool=call.settings.spool,
            service_events=call.settings.service_events,
        ),
        partial=partial,
        progress=progress,
        hook=functools.partial(run_hook, call) if any(call.settings.hooks) and not silent else None,
    )
    if isinstance(options, JobOptions):
        request = request._replace(listing=options.listing, max_seconds=options.max_seconds)
    return request


@contextmanager
def alone_with_database(
    call: GlobalOptions, lock: LockOptions, *, job: str, progress: Progress = NO_PROGRESS
) -> Iterator[Connection]:
    """Open the database for a change that is not a job, and exclude other memctl processes.

    `job` is the name that they report as running. Raises NoDatabaseError if there is none, and
    LockedError when one of them still runs after `lock.lock_wait` seconds.
    """
    path = call.file
    progress.phase(WAITING)
    with (
        exclusive(path, job=job, wait=lock.lock_wait),
        open_database(path, lock_wait=lock.lock_wait) as db,
    ):
        yield db


def deliver(call: GlobalOptions, waiting: Undelivered, seconds: float) -> bool:
    """Send an alert to the configured command; return whether no retry is necessary."""
    command = call.settings.alert_command
    try:
        if command:
            document = alert_document(call, waiting.alert, at=waiting.raised_at)
            run_alert_command(command, document, seconds=seconds)
    except MemctlError as error:
        show_message(Message(f"{error}; the next run will retry", program="memctl"))
        return False
    return True


def run_alert_command(
    command: Sequence[str], document: str, *, seconds: float | None = None
) -> None:
    """Run the alert command. Raises MemctlError if it fails."""
    run_program(command, document, name="the alert command", table="alerts", seconds=seconds)


def alert_document(call: GlobalOptions, alert: Alert, *, at: str) -> str:
    """Return the JSON that the alert command receives."""
    return json_text(
        {
            "schema": VERSION,
            "at": at,
            "database": full_name(call.settings.database),
            "message": visible(alert.message),
            **({} if alert.agent is None else {"agent_id": alert.agent}),
            **alert.detail,
        }
    )


def run_hook(call: GlobalOptions, hook_call: HookCall) -> bool:
    """Run the program that is configured for a hook, and return whether there is one."""
    command: Sequence[str] = getattr(call.settings.hooks, hook_call.hook)
    if not command:
        return False
    try:
        run_program(
            command,
            hook_document(call, hook_call),
            name=f"the {hook_call.hook} hook of {hook_call.job}",
            table="hooks",
        )
    except MemctlError as error:
        show_warning(error)
    return True


def hook_document(call: GlobalOptions, hook_call: HookCall) -> str:
    """Return the JSON that a hook receives."""
    return json_text(
        {
            "schema": VERSION,
            "hook": hook_call.hook,
            "job": hook_call.job,
            "run_id": hook_call.run_id,
            "at": to_text(call.moment),
            "database": full_name(call.settings.database),
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "memctl_version": __version__,
            "result": job_document(hook_call.report, listing=False) if hook_call.report else None,
            "error": error_document(explained(hook_call.error)) if hook_call.error else None,
        }
    )


def show_warning(error: MemctlError) -> None:
    """Print a failure that does not change the result of the command."""
    show_message(Message(str(error), level="warning", program="memctl"))


def finish(report: JobReport[JobResult], call: GlobalOptions, job: ChangeOptions) -> None:
    """Print the result of a job; raise its refusal if it left something undone."""
    listing = isinstance(job, JobOptions) and job.listing
    show_report(report, as_json=call.json, listing=listing, quiet=call.quiet)
    if report.result and report.result.refusal:
        raise report.result.refusal


def show_result(call: GlobalOptions, document: Mapping[str, object], *sentences: str) -> None:
    """Print what a command has done: with --json a document, otherwise sentences on stderr."""
    if call.json:
        show_document(document)
        return
    for sentence in sentences:
        show_notice(sentence, quiet=call.quiet)


def write_or_show(text: str, file: Path | None, *, database: Address, mode: int = 0o600) -> None:
    """Write a text to a file, or print it if the file is None or `-`."""
    if file is None or str(file) == "-":
        show_text([text])
    else:
        write_file(file, [text], database=database, mode=mode)


def read_stdin(what: str) -> str:
    """Read any bytes from stdin, at most one more than can be stored.

    Raises UsageError if it is closed, and MemctlError if it cannot be read.
    """
    from memctl.storage.memory import MOST_BYTES  # slow to import, and not needed by jobs

    if sys.stdin is None:
        raise UsageError("stdin is closed", f"pipe the {what} to stdin")
    try:
        content = sys.stdin.buffer.read(MOST_BYTES + 1)
    except OSError as error:
        raise MemctlError(
            f"stdin cannot be read ({error.strerror})", "nothing was changed"
        ) from None
    return from_bytes(content)
