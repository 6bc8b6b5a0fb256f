"""Commands for holds: hold, release, holds."""

import re
from datetime import datetime
from typing import Annotated

import typer

from memctl.cli.options import AgentArgument, ChangeOptions, GlobalOptions, OutputOptions
from memctl.cli.session import run_job
from memctl.errors import UsageError
from memctl.jobs.hold import HoldSelection
from memctl.jobs.hold import hold as hold_memories
from memctl.jobs.hold import release as release_memories
from memctl.output.tables import show_records
from memctl.storage.sqlite.agents import require_agent
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.holding import HoldRecord, list_holds
from memctl.storage.sqlite.migrations import require_current
from memctl.storage.times import parse_duration, parse_moment

TABLE = {
    "agent_id": 0,
    "memory_id": 0,
    "type": 0,
    "key": 0,
    "held_at": 2,
    "until": 0,
    "reason": 1,
}

IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Memory ids.")]
TypeOption = Annotated[
    str | None, typer.Option("--type", metavar="TYPE", help="Type of the memory; with --key.")
]
KeyOption = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="Key of the memory; holds all its versions."),
]
AllOption = Annotated[
    bool, typer.Option("--all", help="All memories of the agent, also later ones.")
]


def hold(
    call: GlobalOptions,
    change: ChangeOptions,
    agent: AgentArgument,
    ids: IdsArgument = None,
    type_: TypeOption = None,
    key: KeyOption = None,
    all_: AllOption = False,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Reason, shown by `holds` and `explain`.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="When the hold ends: a time, or a duration such as 90d. Defaults to no end.",
        ),
    ] = None,
) -> None:
    """Hold memories: nothing that memctl does changes or removes them.

    Active and archived memories are held. They do not expire or decay, are not pruned, forgotten,
    replaced or erased, and what a client deletes or replaces of them is archived. Repeating
    a hold replaces its end, and its reason if one is given.
    """
    ends = None if until is None else _parse_end(until, now=call.moment)
    selection = HoldSelection(agent, ids or (), type_, key, all_)
    run_job(
        "hold",
        lambda run: hold_memories(run, selection, reason=reason, until=ends),
        call,
        change,
        by_hand=True,
    )


def release(
    call: GlobalOptions,
    change: ChangeOptions,
    agent: AgentArgument,
    ids: IdsArgument = None,
    type_: TypeOption = None,
    key: KeyOption = None,
    all_: AllOption = False,
) -> None:
    """Release holds, selected as for `hold`.

    --all releases the hold that `hold --all` placed, not those on single memories. A memory that
    another hold covers stays held.
    """
    selection = HoldSelection(agent, ids or (), type_, key, all_)
    run_job("release", lambda run: release_memories(run, selection), call, change, by_hand=True)


def holds(
    call: GlobalOptions,
    output: OutputOptions,
    agent: Annotated[
        str | None, typer.Argument(metavar="AGENT", help="Agent name. Defaults to all agents.")
    ] = None,
) -> None:
    """List the holds in force, by agent, oldest first.

    A hold without an id, a type and a key is on all memories of the agent.
    """
    chosen = output.output(call, HoldRecord._fields)
    with open_database(call.file, read_only=True) as db:
        require_current(db)
        found = list_holds(db, agent, now=call.moment)
        if not found:
            require_agent(db, agent)
    show_records((one._asdict() for one in found), TABLE, chosen)


def _parse_end(text: str, *, now: datetime) -> datetime:
    """Parse a time, or a duration from now on."""
    if re.fullmatch(r"[0-9]+[smhdw]", text.strip()):
        return now + parse_duration(text)
    try:
        return parse_moment(text)
    except UsageError as error:
        raise UsageError(error.message, f"{error.hint}, or a duration such as 90d") from None
