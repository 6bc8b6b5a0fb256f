"""The command erase."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from memctl.cli.options import (
    BackupOption,
    BackupsOption,
    ChangeOptions,
    GlobalOptions,
    KeyOption,
    TypeOption,
)
from memctl.cli.session import job_request, shown_progress, text_on_stdin
from memctl.errors import RefusedError, UsageError, counted
from memctl.jobs.copies import CopyChoice
from memctl.jobs.engine import perform
from memctl.jobs.erase import erase as erase_memories
from memctl.output.fields import Ranks
from memctl.output.receipt import receipt_document
from memctl.output.results import show_outcome
from memctl.output.tables import Output, show_records
from memctl.output.terminal import json_text, show_document
from memctl.storage.erasure import ErasureFilter
from memctl.storage.sqlite.files import output_path, require_place, require_writable, write_file

AgentOfErased = Annotated[
    str | None, typer.Argument(metavar="AGENT", help="Agent name; optional with --all-agents.")
]
LISTED: Ranks = {"agent_id": 0, "type": 1, "key": 0}


def erase(
    call: GlobalOptions,
    change: ChangeOptions,
    agent: AgentOfErased = None,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID...", help="Ids of active or archived memories."),
    ] = None,
    type_: TypeOption = None,
    key: KeyOption = None,
    match: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT|-",
            help="Erase every memory, and every other row of memctl, that contains this text; case"
            " matters. `-` reads it from stdin, which keeps it out of the history of the shell.",
        ),
    ] = None,
    all_agents: Annotated[
        bool, typer.Option("--all-agents", help="With --match, search all agents.")
    ] = False,
    keep_knowledge: Annotated[
        bool,
        typer.Option("--keep-knowledge", help="Keep entries of the knowledge base."),
    ] = False,
    receipt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=output_path,
            help="Write a JSON receipt; it names no memories.",
        ),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="With --dry-run, list the memories.")
    ] = False,
    backups: BackupsOption = False,
    backup: BackupOption = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--continue",
            help="Finish an interrupted erasure or redaction; with --backups, rewrite the backups"
            " that still contain what was erased or redacted earlier.",
        ),
    ] = False,
    avoid_vacuum: Annotated[
        bool,
        typer.Option(
            "--avoid-vacuum",
            help="Run VACUUM, which blocks other writers, only if the files still contain"
            " something; values that clients had overwritten before may remain.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Permanently erase memories from all tables, and overwrite their bytes in the files.

    This removes all versions of a memory, active and archived, the contents of its events, its
    promotions and its entries of the knowledge base. It cannot be undone. Exports and reports keep
    what they contain, and so do backups without --backups.
    """
    if listing and not change.dry_run:
        raise UsageError("--list requires --dry-run", "a receipt names no memories")
    if match == "-":
        match = text_on_stdin()
    which = _filter(agent, ids or [], type_, key, match, all_agents, keep_knowledge, resume)
    copies = CopyChoice(backups, backup or [])
    if receipt is not None:
        require_place(receipt, database=call.settings.database)
    if receipt is not None and not change.dry_run:
        require_writable(receipt, database=call.settings.database)
    if not (yes or change.dry_run or resume):
        _confirm(call, change, which, copies)
    with shown_progress(call, "erase") as progress:
        report = perform(
            "erase",
            lambda run: erase_memories(run, which, copies, avoid_vacuum=avoid_vacuum),
            job_request(call, change, progress=progress),
            by_hand=True,
        )
    document = receipt_document(
        report,
        database=str(call.settings.database.resolve()),
        listing=listing,
    )
    if receipt is not None and not change.dry_run:
        write_file(receipt, [json_text(document), "\n"], database=call.settings.database)
    if call.json:
        show_document(document)
    elif listing and report.result:
        records = [name._asdict() for name in report.result.removal.listed]
        show_records(records, LISTED, Output("table", call.moment))
    show_outcome(report, as_json=call.json, quiet=call.quiet)
    if report.result and report.result.refusal:
        raise report.result.refusal


def _filter(
    agent: str | None,
    ids: list[str],
    type_: str | None,
    key: str | None,
    match: str | None,
    all_agents: bool,
    keep_knowledge: bool,
    resume: bool,
) -> ErasureFilter | None:
    """Return what the options select. Raises UsageError unless that is one thing."""
    named = type_ is not None and key is not None
    if (type_ is None) != (key is None):
        raise UsageError("--type and --key must be used together", "specify both")
    if (bool(ids), named, match is not None, resume).count(True) != 1:
        raise UsageError(
            "exactly one of ids, --type with --key, --match, and --continue is required",
            "see `memctl erase --help`",
        )
    if resume:
        if agent is not None or all_agents:
            raise UsageError("--continue cannot be used with an agent", "omit it")
        return None
    if all_agents and match is None:
        raise UsageError("--all-agents requires --match", "name an agent")
    if (agent is None) != all_agents:
        raise UsageError("an agent is required", "name one, or use --match with --all-agents")
    return ErasureFilter(agent, ids, type_, key, match, keep_knowledge)


def _confirm(
    call: GlobalOptions,
    change: ChangeOptions,
    which: ErasureFilter | None,
    copies: CopyChoice,
) -> None:
    """Ask on a terminal whether to go on. Raises RefusedError if not, and off a terminal."""
    preview = perform(
        "erase",
        lambda run: erase_memories(run, which, copies),
        job_request(call, change)._replace(dry_run=True, hook=None),
        by_hand=True,
    )
    found = preview.result.removal if preview.result else None
    erased = (
        f"{counted(found.memories, 'memory')} and {counted(found.places.total(), 'row')} in all"
        if found
        else "nothing"
    )
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        raise RefusedError(
            f"this would erase {erased}, which cannot be undone",
            "check it with --dry-run --list, then use --yes; nothing was erased",
        )
    try:
        confirmed = typer.confirm(f"Erase {erased}? This cannot be undone.", err=True)
    except typer.Abort:  # the end of the input, or an interrupt
        confirmed = False
    if not confirmed:
        raise RefusedError("not confirmed", "nothing was erased")
