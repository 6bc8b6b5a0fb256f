"""The commands that find memories and agents: search, agents."""

from dataclasses import fields
from typing import Annotated

import typer

from memctl.cli.options import (
    AgentOption,
    GlobalOptions,
    OffsetOption,
    OutputOptions,
    TypeOption,
    WrittenSinceOption,
    WrittenUntilOption,
)
from memctl.cli.session import memory_filter
from memctl.errors import UsageError, counted
from memctl.output.tables import only_columns, show_rows
from memctl.output.terminal import show_notice
from memctl.storage.memory import ArchivedMemory, FoundMemory, require_search_text
from memctl.storage.rows import MOST_ROWS, State
from memctl.storage.sqlite.agent_overview import list_agents
from memctl.storage.sqlite.agents import require_agent
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.memories import require_known_type
from memctl.storage.sqlite.migrations import require_current

TABLE_OF_FOUND = ("id", "agent_id", "type", "key", "state", "importance", "found_in", "excerpt")


def search(
    call: GlobalOptions,
    output: OutputOptions,
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
    since: WrittenSinceOption = None,
    until: WrittenUntilOption = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, max=MOST_ROWS, help="Maximum number of rows.")
    ] = 50,
    offset: OffsetOption = 0,
) -> None:
    """Search the active and archived memories of all agents for a text, as JSON, best first.

    Finds the text anywhere in the key, the value or the metadata, without regard to case; no
    character is a wildcard. A key that equals the text comes first, then keys that start with it,
    keys that contain it, values, and metadata; then active memories before archived ones, the most
    important first, and of those the one stored last. Counts no access.
    """
    from memctl.storage.matching import SearchedText
    from memctl.storage.sqlite.search import search_memories

    require_search_text(text)
    if active and archived:
        raise UsageError("--active and --archived cannot be used together", "omit both for all")
    state: State | None = "active" if active else "archived" if archived else None
    which = memory_filter(call, agent=agent, type_=type_, since=since, until=until)
    form = output.form(call)
    with open_database(call.settings.database, read_only=True) as db:
        require_current(db)
        require_agent(db, agent)
        require_known_type(db, type_)
        result = search_memories(
            db, SearchedText(text), which, state=state, limit=limit, offset=offset
        )
    rows = map(_row, result.memories)
    show_rows(only_columns(TABLE_OF_FOUND, rows) if form == "table" else rows, form)
    if not result.total:
        show_notice(f"search: no memory contains '{text}'", quiet=call.quiet, only_on_terminal=True)
    elif result.total > offset + limit:
        show_notice(
            f"search: the list is limited to {limit:,} of {counted(result.total, 'memory')};"
            " see --limit",
            quiet=call.quiet,
        )


def agents(
    call: GlobalOptions,
    output: OutputOptions,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=MOST_ROWS, help="Maximum number of rows.")
    ] = None,
    offset: OffsetOption = 0,
) -> None:
    """List the agents as JSON, by name: memories, size, and when each was last active."""
    form = output.form(call)
    with open_database(call.settings.database, read_only=True) as db:
        require_current(db)
        found = list_agents(db, limit=limit or MOST_ROWS, offset=offset)
    show_rows((agent._asdict() for agent in found), form)


def _row(found: FoundMemory) -> dict[str, object]:
    """Return a record with the same fields for active and archived memories."""
    columns = (field.name for field in fields(ArchivedMemory))
    return {
        **{column: getattr(found.memory, column, None) for column in columns},
        "state": found.state,
        "found_in": found.found_in,
        "excerpt": found.excerpt,
    }
