"""The commands that find memories and agents: search, agents."""

from dataclasses import fields
from typing import Annotated

import typer

from memctl.cli.options import (
    AgentOption,
    GlobalOptions,
    LimitOption,
    OffsetOption,
    OutputOptions,
    PageOptions,
    PeriodOptions,
    TypeOption,
)
from memctl.errors import UsageError, counted
from memctl.output.tables import show_records
from memctl.output.terminal import show_notice
from memctl.storage.engines import open_store
from memctl.storage.memory import ArchivedMemory, FoundMemory, require_search_text
from memctl.storage.rows import MOST_ROWS, AgentOverview, MemoryFilter, State

COLUMNS = [field.name for field in fields(ArchivedMemory)]
FOUND_FIELDS = (*COLUMNS, "state", "found_in", "excerpt")
TABLE_OF_FOUND = {
    "id": 1,
    "agent_id": 2,
    "type": 5,
    "key": 0,
    "state": 4,
    "importance": 6,
    "found_in": 7,
    "excerpt": 3,
}
TABLE_OF_AGENTS = {
    "agent_id": 0,
    "memories": 1,
    "archived": 2,
    "storage_bytes": 5,
    "last_written_at": 3,
    "last_read_at": 4,
    "last_archived_at": 6,
}


def search(
    call: GlobalOptions,
    output: OutputOptions,
    page: PageOptions,
    period: PeriodOptions,
    text: Annotated[
        str,
        typer.Argument(
            metavar="TEXT", help="Text to find; put `--` before one that starts with a dash."
        ),
    ],
    agent: AgentOption = None,
    type_: TypeOption = None,
    active: Annotated[bool, typer.Option("--active", help="Search active memories only.")] = False,
    archived: Annotated[
        bool, typer.Option("--archived", help="Search archived memories only.")
    ] = False,
) -> None:
    """Search the active and archived memories of all agents for a text, best match first.

    Finds the text anywhere in the key, the value or the metadata, without regard to case; no
    character is a wildcard. A key that equals the text comes first, then keys that start with it,
    keys that contain it, values, and metadata; then active memories before archived ones, the most
    important first, and of those the one stored last. A search does not count as an access. --since
    and --until refer to the time when a memory was written.
    """
    from memctl.storage.matching import SearchedText

    require_search_text(text)
    if active and archived:
        raise UsageError("--active and --archived cannot be used together", "omit both for all")
    state: State | None = "active" if active else "archived" if archived else None
    chosen = output.output(call, FOUND_FIELDS)
    which = MemoryFilter(agent, type_, *period.period(call))
    with open_store(call.settings.database, read_only=True) as store:
        store.require_current()
        store.require_agent(agent)
        memories = store.memories
        memories.require_known_type(type_)
        result = memories.search(
            SearchedText(text), which, state=state, limit=page.most, offset=page.offset
        )
    show_records(map(_row, result.memories), TABLE_OF_FOUND, chosen._replace(if_empty=""))
    if not result.total:
        show_notice(f"search: no memory contains '{text}'", quiet=call.quiet, only_on_terminal=True)
    elif result.total > page.offset + page.most:
        show_notice(
            f"search: the list shows {page.most:,} of {counted(result.total, 'memory')};"
            " see --limit and --offset",
            quiet=call.quiet,
        )


def agents(
    call: GlobalOptions,
    output: OutputOptions,
    limit: LimitOption = None,
    offset: OffsetOption = 0,
) -> None:
    """List all agents, by name: memories, size, and when each was last active."""
    chosen = output.output(call, AgentOverview._fields)
    with open_store(call.settings.database, read_only=True) as store:
        store.require_current()
        found = store.memories.agents(limit=limit or MOST_ROWS, offset=offset)
    show_records((agent._asdict() for agent in found), TABLE_OF_AGENTS, chosen)


def _row(found: FoundMemory) -> dict[str, object]:
    """Return a record with the same fields for active and archived memories."""
    return {
        **{column: getattr(found.memory, column, None) for column in COLUMNS},
        "state": found.state,
        "found_in": found.found_in,
        "excerpt": found.excerpt,
    }
