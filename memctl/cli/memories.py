"""Commands for memories: remember, recall, list, forget, summary."""

import json
from dataclasses import asdict, fields
from typing import Annotated

import typer

from memctl.agent_memory import DEFAULT_IMPORTANCE, AgentMemory
from memctl.cli.options import (
    AgentArgument,
    AgentOrAllArgument,
    AllAgentsOption,
    GlobalOptions,
    LimitOption,
    LockOptions,
    OffsetOption,
    OutputOptions,
    PeriodOptions,
    TypeOption,
    require_agent_or_all,
)
from memctl.cli.session import read_stdin
from memctl.errors import NotFoundError, UsageError, counted
from memctl.jobs.forget import forget_all
from memctl.output.messages import Message
from memctl.output.results import left_held
from memctl.output.tables import Output, show_facts, show_records
from memctl.output.terminal import show_document, show_message, show_notice, show_value
from memctl.storage.engines import open_store
from memctl.storage.memory import TYPES, Memory, MemoryType, require_type
from memctl.storage.rows import MemoryFilter
from memctl.storage.times import parse_duration

MEMORY_FIELDS = [field.name for field in fields(Memory)]
TABLE = {
    "id": 1,
    "agent_id": 6,
    "type": 0,
    "key": 0,
    "importance": 0,
    "last_accessed": 2,
    "access_count": 4,
    "expires_at": 3,
    "value": 5,
}
TABLE_OF_ALL = {**TABLE, "agent_id": 1, "type": 2}

TYPE = typer.Argument(metavar="TYPE", help=f"One of {', '.join(TYPES)}.")
KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="Memory key; put `--` before a key that starts with a dash."
    ),
]


def remember(
    call: GlobalOptions,
    lock: LockOptions,
    agent: AgentArgument,
    type_: Annotated[MemoryType, TYPE],
    key: KeyArgument,
    value: Annotated[
        str,
        typer.Argument(metavar="VALUE|-", help="Value to store; `-` reads stdin, byte for byte."),
    ],
    importance: Annotated[
        float, typer.Option(metavar="N", help="Importance, from 1 to 10.")
    ] = DEFAULT_IMPORTANCE,
    expires_in: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Time to live, such as 24h. Defaults to no expiry."),
    ] = None,
    metadata: Annotated[
        str | None, typer.Option(metavar="JSON", help="Additional data, as JSON.")
    ] = None,
    keep_replaced: Annotated[
        bool, typer.Option("--keep-replaced", help="Archive the memory that this one replaces.")
    ] = False,
) -> None:
    """Store a value under a type and key, replacing the existing one."""
    if value == "-":
        value = read_stdin("value")
    document = None if metadata is None else _from_json(metadata)
    lasts = None if expires_in is None else parse_duration(expires_in)
    with _memories(call, lock) as memories:
        memory = memories.remember(
            agent,
            type_,
            key,
            value,
            metadata=document,
            importance=importance,
            expires_in=lasts,
            keep_replaced=keep_replaced,
        )
    if call.json:
        show_document(asdict(memory))
        return
    show_notice(
        f"remember: stored {type_} '{key}' of agent '{agent}'",
        quiet=call.quiet,
        only_on_terminal=True,
    )


def recall(
    call: GlobalOptions,
    lock: LockOptions,
    agent: AgentArgument,
    type_: Annotated[str, TYPE],
    key: KeyArgument,
    value: Annotated[
        bool, typer.Option("--value", help="Print only the value, byte for byte.")
    ] = False,
) -> None:
    """Print a memory as JSON and count the access; exit 1 if there is none."""
    if value and call.json:
        raise UsageError("--json and --value cannot be used together", "choose one")
    with _memories(call, lock) as memories:
        memory = memories.recall(agent, type_, key)
    if memory is None:
        raise _not_found(agent, type_, key)
    if value:
        show_value(memory.value)
    else:
        show_document(asdict(memory))


def list_(
    call: GlobalOptions,
    output: OutputOptions,
    period: PeriodOptions,
    agent: AgentOrAllArgument = None,
    all_agents: AllAgentsOption = False,
    type_: TypeOption = None,
    limit: LimitOption = None,
    offset: OffsetOption = 0,
) -> None:
    """List the memories of an agent, or of all, most important first.

    This does not count as an access. --since and --until refer to the time when a memory was
    written.
    """
    require_agent_or_all(agent, all_agents=all_agents)
    chosen = output.output(call, MEMORY_FIELDS)
    which = MemoryFilter(agent, type_, *period.period(call))
    with open_store(call.settings.database, read_only=True) as store:
        store.require_current()
        store.require_agent(agent)
        memories = store.memories
        memories.require_known_type(type_)
        found = memories.list_active(which, limit=limit, offset=offset)
    show_records(map(asdict, found), TABLE if agent else TABLE_OF_ALL, chosen)


def forget(
    call: GlobalOptions,
    lock: LockOptions,
    agent: AgentArgument,
    type_: Annotated[str, TYPE],
    key: Annotated[
        str | None,
        typer.Argument(metavar="[KEY]", help="Memory key. Defaults to all keys of that type."),
    ] = None,
) -> None:
    """Archive a memory, or all of a type; exit 1 if there is none.

    Held memories of a type stay active; a single held memory is refused.
    """
    held = 0
    with _memories(call, lock) as memories:
        if key is None:
            database = call.settings.database
            tally = forget_all(database, agent, type_, now=call.moment, lock_wait=lock.lock_wait)
            forgotten, held = tally.count, tally.held
        else:
            forgotten = int(memories.forget(agent, type_, key))
    if not forgotten + held:
        require_type(type_)
        raise _not_found(agent, type_, key)
    if call.json:
        show_document({"forgotten": forgotten, "held": held})
        return
    sentence = f"forget: archived {counted(forgotten, 'memory')}"
    if held:
        sentence += f"; {left_held(held)}"
    facts = {"archived": forgotten, "held": held}
    show_message(Message(sentence, event="finished", facts=facts), quiet=call.quiet)


def summary(
    call: GlobalOptions,
    agent: AgentArgument,
    table: Annotated[bool, typer.Option("--table", "-t", help="Print tables.")] = False,
) -> None:
    """Summarize an agent's memories as JSON: number, types, and the most important."""
    if table and call.json:
        raise UsageError("--json and --table cannot be used together", "choose one")
    with _memories(call) as memories:
        found = memories.summary(agent)
    if not found.memories:
        _require_agent(call, agent)
    if not table:
        show_document({"agent_id": agent, **asdict(found)})
        return
    show_facts([("memories", found.memories), *found.by_type.items()])
    show_records(map(asdict, found.top_memories), TABLE, Output("table", call.moment))


def _memories(call: GlobalOptions, lock: LockOptions | None = None) -> AgentMemory:
    """Open the database through AgentMemory, with the clock of the command."""
    lock = lock or LockOptions()
    return AgentMemory(call.settings.database, clock=lambda: call.moment, lock_wait=lock.lock_wait)


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--metadata is not JSON ({error})", "nothing was changed") from None


def _not_found(agent: str, type_: str, key: str | None) -> NotFoundError:
    what = type_ if key is None else f"{type_} '{key}'"
    return NotFoundError(
        f"agent '{agent}' has no {what}",
        "`memctl search` finds memories, active or archived, by a part of their text",
    )


def _require_agent(call: GlobalOptions, agent: str) -> None:
    """Raise NotFoundError for an agent that no table contains."""
    with open_store(call.settings.database, read_only=True) as store:
        store.require_agent(agent)
