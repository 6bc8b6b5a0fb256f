"""The command for the outbox: events."""

import functools
import itertools
import re
from typing import Annotated

import typer

from memctl.cli.options import (
    AgentOption,
    GlobalOptions,
    KeyOption,
    OutputOptions,
    PageOptions,
    check_period,
    run_option,
)
from memctl.errors import UsageError
from memctl.output.tables import show_records
from memctl.output.terminal import show_notice, wait_for_reader
from memctl.storage.engines import open_store
from memctl.storage.rows import EventFilter, EventRecord
from memctl.storage.sqlite.events import follow_events
from memctl.storage.times import parse_past

POLL_SECONDS = 0.2

TABLE = {
    "event_id": 0,
    "at": 0,
    "event": 0,
    "memory_id": 4,
    "agent_id": 1,
    "type": 2,
    "key": 0,
    "run_id": 3,
    "detail": 5,
}


def events(
    call: GlobalOptions,
    output: OutputOptions,
    page: PageOptions,
    agent: AgentOption = None,
    type_: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Limit to this type of memory.")
    ] = None,
    key: KeyOption = None,
    event: Annotated[
        str | None, typer.Option(metavar="EVENT", help="Limit to this event, such as expired.")
    ] = None,
    run: Annotated[int | None, run_option("Limit to this run.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="CURSOR|TIME",
            help="Start after this event number, at this time, or this long ago, such as 7d.",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="At or before this time, or this long ago, such as 7d."),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            "-f",
            help="Wait for new events and print each as a JSON line, without the default limit.",
        ),
    ] = False,
) -> None:
    """List events of memories, oldest first; by default, the newest 50.

    With --since, prints the first events after it; pass the last event_id to continue from there.
    """
    now = call.moment
    is_cursor = since is not None and re.fullmatch("[0-9]{1,12}", since) is not None
    cursor = int(since) if since is not None and is_cursor else 0
    moment = parse_past(since, now=now) if since is not None and not is_cursor else None
    end = None if until is None else parse_past(until, now=now)
    check_period(moment, end)
    which = EventFilter(
        agent=agent,
        type=type_,
        key=key,
        event=event,
        run_id=run,
        since=moment,
        until=end,
    )
    chosen = output.output(call, EventRecord._fields)
    if follow and chosen.form in ("csv", "table"):
        raise UsageError("--follow prints one JSON object a line", "leave out --table and --csv")
    if follow and (page.offset or until):
        raise UsageError("--follow cannot be used with --offset or --until", "leave them out")
    most = page.most if since is None else page.most + 1
    with open_store(call.settings.database, read_only=True) as store:
        store.require_current()
        found = store.read_events(
            which, after=None if since is None else cursor, limit=most, offset=page.offset
        )
    notify = functools.partial(_show_event_notice, call)
    if found.pruned:
        notify(f"events up to {found.pruned} have been pruned")
    if follow:
        wait = functools.partial(wait_for_reader, POLL_SECONDS)
        after = found.newest if since is None else cursor
        coming = follow_events(call.file, which, after=after, wait=wait, report=notify)
        records = (record._asdict() for record in itertools.islice(coming, page.limit))
        show_records(records, TABLE, chosen._replace(form="nl"))
        return
    show_records((record._asdict() for record in found.events[: page.most]), TABLE, chosen)
    if len(found.events) > page.most:
        notify(f"there are more; continue with --since {found.events[page.most - 1].event_id}")


def _show_event_notice(call: GlobalOptions, sentence: str) -> None:
    show_notice(f"events: {sentence}", quiet=call.quiet)
