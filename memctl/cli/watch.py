"""The commands that tell what happened, and what is wrong."""

import functools
import itertools
import re
from typing import Annotated

import typer

from memctl import outbox
from memctl.cli.options import MOST_ROWS, AgentOption, Call, OutputOptions
from memctl.database import open_database
from memctl.errors import UsageError
from memctl.migrations import require_current
from memctl.outbox import EventFilter
from memctl.output import say, show_rows, wait_for_reader
from memctl.runs import Outcome, RunFilter, crashed_runs, list_runs
from memctl.timestamps import parse_past

POLL_SECONDS = 0.2
USUAL_ROWS = 50

LimitOption = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=MOST_ROWS, help="At most so many; else 50."),
]


def events(
    call: Call,
    output: OutputOptions,
    agent: AgentOption = None,
    type_: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Only this type of memory.")
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="Only this key.")] = None,
    event: Annotated[
        str | None, typer.Option(metavar="EVENT", help="Only this event, such as expired.")
    ] = None,
    run: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=MOST_ROWS, help="Only of this run.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="CURSOR|TIME",
            help="After the event of this number; or since a time, or such as 7d.",
        ),
    ] = None,
    limit: LimitOption = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", "-f", help="Go on, one JSON object a line, as events come; 50 is no limit."
        ),
    ] = False,
) -> None:
    """Tell what became of memories: events in their order, the newest 50, as JSON.

    With --since they are the first after it; event_id of the last one is the cursor to go on from.
    """
    is_cursor = since is not None and re.fullmatch("[0-9]{1,12}", since) is not None
    cursor = int(since) if since is not None and is_cursor else 0
    moment = parse_past(since, now=call.moment) if since is not None and not is_cursor else None
    which = EventFilter(agent=agent, type=type_, key=key, event=event, run_id=run, since=moment)
    form = output.form(call)
    if follow and form in ("csv", "table"):
        raise UsageError("--follow prints one JSON object a line", "leave out --table and --csv")
    most = limit or USUAL_ROWS
    path = call.settings.database
    with open_database(path, read_only=True) as db:
        require_current(db)
        pruned = outbox.pruned_after(db, cursor)
        if since is None:
            found = outbox.read_newest_events(db, which, limit=most)
            cursor = outbox.newest_told(db)
        else:
            found = outbox.read_events(db, which, after=cursor, limit=most + 1)
    tell = functools.partial(_tell, call)
    if pruned:
        tell(f"those up to {pruned} have been pruned")
    if follow:
        wait = functools.partial(wait_for_reader, POLL_SECONDS)
        coming = outbox.follow(path, which, after=cursor, wait=wait, tell=tell)
        show_rows((told._asdict() for told in itertools.islice(coming, limit)), "nl")
        return
    show_rows((told._asdict() for told in found[:most]), form)
    if len(found) > most:
        tell(f"there are more: go on with --since {found[most - 1].event_id}")


def _tell(call: Call, sentence: str) -> None:
    say(f"events: {sentence}", quiet=call.quiet)


def runs(
    call: Call,
    output: OutputOptions,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Only of this job.")] = None,
    status: Annotated[Outcome | None, typer.Option(help="Only those that ended so.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Begun since; a time, or such as 7d.")
    ] = None,
    limit: LimitOption = None,
) -> None:
    """List the runs of jobs, the newest first, as JSON: when, how they ended, what they did."""
    moment = None if since is None else parse_past(since, now=call.moment)
    which = RunFilter(job=job, status=status, since=moment)
    form = output.form(call)
    most = limit or USUAL_ROWS
    with open_database(call.settings.database, read_only=True) as db:
        require_current(db)
        crashed = crashed_runs(db, call.settings.database)
        found = list_runs(db, which, crashed=crashed, limit=most + 1)
    show_rows((run._asdict() for run in found[:most]), form)
    if len(found) > most:
        say(f"runs: there are more than these {most}: see --limit", quiet=call.quiet)
