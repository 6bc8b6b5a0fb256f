"""Commands for the pause: pause, resume."""

from typing import Annotated

import typer

from memctl.cli.options import GlobalOptions, LockOptions
from memctl.output.terminal import show_document, show_notice
from memctl.storage.sqlite import pause as switch
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.migrations import require_current
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
    with open_database(call.settings.database, lock_wait=lock.lock_wait) as db:
        require_current(db)
        paused = switch.pause(db, now=call.moment, until=until, reason=reason)
    if call.json:
        show_document({"paused": paused._asdict()})
        return
    show_notice(
        f"pause: jobs are paused until {to_text(until) if until else '`memctl resume`'}",
        quiet=call.quiet,
    )


def resume(call: GlobalOptions, lock: LockOptions) -> None:
    """End the pause."""
    with open_database(call.settings.database, lock_wait=lock.lock_wait) as db:
        require_current(db)
        ended = switch.resume(db)
    if call.json:
        show_document({"resumed": ended})
        return
    show_notice(
        "resume: jobs will run again" if ended else "resume: jobs were not paused", quiet=call.quiet
    )
