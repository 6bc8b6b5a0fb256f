"""The commands for documents: export and import."""

import sys
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import Annotated

import typer

from memctl.cli.options import (
    AgentOrAllArgument,
    ChangeOptions,
    GlobalOptions,
    output_option,
    require_agent_or_all,
)
from memctl.cli.session import run_job, shown_progress
from memctl.errors import MemctlError, UsageError
from memctl.output.terminal import on_terminal, show_text
from memctl.storage.engines import open_store
from memctl.storage.sqlite.conflicts import ImportConflict
from memctl.storage.sqlite.files import write_file


def export(
    call: GlobalOptions,
    agent: AgentOrAllArgument = None,
    all_agents: Annotated[
        bool, typer.Option("--all", help="Export the memories of all agents.")
    ] = False,
    output: Annotated[
        Path | None,
        output_option("Output file; `-` is stdout, even if it is a terminal."),
    ] = None,
    nl: Annotated[bool, typer.Option("--nl", help="Write one JSON object per line.")] = False,
    active_only: Annotated[
        bool, typer.Option("--active-only", help="Export active memories only.")
    ] = False,
    archived_only: Annotated[
        bool, typer.Option("--archived-only", help="Export archived memories only.")
    ] = False,
) -> None:
    """Export an agent's active and archived memories as a document for `import`."""
    from memctl.documents.export import export as read_memories
    from memctl.storage.sqlite.sections import ACTIVE, ARCHIVED, HOLDS, PROMOTIONS

    require_agent_or_all(agent, all_agents=all_agents)
    if active_only and archived_only:
        raise UsageError("--active-only and --archived-only cannot be used together", "choose one")
    if nl and call.json:
        raise UsageError("--json and --nl cannot be used together", "choose one")
    if output is None and on_terminal():
        raise UsageError(
            "a document is not written to a terminal",
            "redirect stdout, or use -o FILE, or `-o -` for the terminal",
        )
    to_stdout = output is None or str(output) == "-"
    database = call.settings.database
    sections = [
        section
        for section, left_out in (
            (ACTIVE, archived_only),
            (ARCHIVED, active_only),
            (PROMOTIONS, archived_only),
            (HOLDS, False),
        )
        if not left_out
    ]
    with (
        shown_progress(call, "export", hidden=to_stdout and on_terminal()) as progress,
        open_store(database, read_only=True) as store,
    ):
        store.require_current()
        parts = read_memories(
            store,
            agent=agent,
            sections=sections,
            form="nl" if nl else "json",
            now=call.moment,
            progress=progress,
        )
        if output is None or to_stdout:
            show_text(parts)
        else:
            write_file(output, parts, database=database)


def import_(
    call: GlobalOptions,
    change: ChangeOptions,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[AGENT] FILE|-",
            help="Document written by `export`, optionally gzipped; `-` is stdin.",
        ),
    ],
    on_conflict: Annotated[
        ImportConflict,
        typer.Option(help="Action if the database has a different version of a memory."),
    ] = "skip",
    all_agents: Annotated[
        bool, typer.Option("--all", help="Import the memories of all agents in the document.")
    ] = False,
    reassign_agent: Annotated[
        str | None, typer.Option(metavar="AGENT", help="Assign the memories to this agent.")
    ] = None,
    allow_invalid: Annotated[
        bool,
        typer.Option("--allow-invalid", help="Import rows with invalid values unchanged."),
    ] = False,
    no_checksum: Annotated[
        bool,
        typer.Option(
            "--no-checksum", help="Accept a document without sha256, which may omit columns."
        ),
    ] = False,
    atomic: Annotated[
        bool,
        typer.Option("--atomic", help="Use one transaction; other writers wait until it ends."),
    ] = False,
    lossy: Annotated[
        bool,
        typer.Option("--lossy", help="Replace values that PostgreSQL cannot store."),
    ] = False,
) -> None:
    """Import memories from a document written by `export`."""
    from memctl.documents.importing import import_staged
    from memctl.documents.staging import AgentSelection, stage

    if len(words) > 2:
        raise UsageError("too many arguments", "usage: memctl import [AGENT] FILE|-")
    agent = words[0] if len(words) == 2 else None
    if all_agents and not (agent is None and reassign_agent is None):
        raise UsageError(
            "--all cannot be used with an agent or --reassign-agent", "omit one of them"
        )
    if reassign_agent == "":
        raise UsageError("--reassign-agent is empty", "specify an agent")
    if lossy and isinstance(call.settings.database, Path):
        raise UsageError("--lossy has no meaning for SQLite, which stores every value", "omit it")
    selection = AgentSelection(agent, all_agents=all_agents, new_agent=reassign_agent)
    with ExitStack() as stack:
        file = _opened(words[-1], stack)
        run_job(
            "import",
            lambda run: import_staged(
                run, on_conflict=on_conflict, allow_invalid=allow_invalid, atomic=atomic
            ),
            call,
            change,
            by_hand=True,
            prepare=lambda store, progress: stage(
                store,
                file,
                selection,
                progress,
                complete_at=call.moment if no_checksum else None,
                lossy_at=call.moment if lossy else None,
            ),
        )


def _opened(name: str, stack: ExitStack) -> BufferedReader:
    """Open a file, or stdin for `-`."""
    try:
        if name != "-":
            return stack.enter_context(Path(name).open("rb"))
        if sys.stdin is not None and isinstance(sys.stdin.buffer, BufferedReader):
            return sys.stdin.buffer
    except OSError as error:
        raise MemctlError(f"{name} cannot be read ({error.strerror})", "check the path") from None
    raise MemctlError("stdin is closed", "specify a file")
