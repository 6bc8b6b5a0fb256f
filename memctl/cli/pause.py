"""Commands for the pause: pause, resume."""

from typing import Annotated

import typer

from memctl.cli.options import GlobalOptions, LockOptions
from memctl.cli.session import show_result
from memctl.storage.engines import open_store
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
    with open_store(call.settings.database, lock_wait=lock.lock_wait) as store:
        store.require_current()
        paused = store.pause(now=call.moment, until=until, reason=reason)
    show_result(
        call,
        {"paused": paused._asdict()},
        f"pause: jobs are paused until {to_text(until) if until else '`memctl resume`'}",
    )


def resume(call: GlobalOptions, lock: LockOptions) -> None:
    """End the pause."""
    with open_store(call.settings.database, lock_wait=lock.lock_wait) as store:
        store.require_current()
        ended = store.resume()
    show_result(
        call,
        {"resumed": ended},
        "resume: jobs will run again" if ended else "resume: jobs were not paused",
    )
