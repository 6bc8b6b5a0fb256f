"""Commands for the pause: pause, resume."""

from typing import Annotated

import typer

from memctl.cli.options import GlobalOptions, LockOptions
from memctl.cli.session import show_result
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.migrations import require_current
from memctl.storage.sqlite.pause import pause as pause_jobs
from memctl.storage.sqlite.pause import resume as resume_jobs
from memctl.storage.times import parse_duration, to_text


def pause(
    call: GlobalOptions,
    lock: LockOptions,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Reason, shown by jobs and `status`.")
    ],
    for_: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="DURATION",
            help="Duration of the pause, such as 2h. Defaults to until `resume`.",
        ),
    ] = None,
) -> None:
    """Pause all jobs until `resume`, or for a limited time."""
    until = None if for_ is None else call.moment + parse_duration(for_)
    with open_database(call.file, lock_wait=lock.lock_wait) as db:
        require_current(db)
        paused = pause_jobs(db, now=call.moment, until=until, reason=reason)
    show_result(
        call,
        {"paused": paused._asdict()},
        f"pause: jobs are paused until {to_text(until) if until else '`memctl resume`'}",
    )


def resume(call: GlobalOptions, lock: LockOptions) -> None:
    """End the pause."""
    with open_database(call.file, lock_wait=lock.lock_wait) as db:
        require_current(db)
        ended = resume_jobs(db)
    show_result(
        call,
        {"resumed": ended},
        "resume: jobs will run again" if ended else "resume: jobs were not paused",
    )
