"""The command erase."""

from dataclasses import replace
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
from memctl.cli.receipts import ReceiptOption, require_confirmation, show_receipt
from memctl.cli.session import job_request, read_stdin, shown_progress
from memctl.errors import RefusedError, UsageError, counted
from memctl.jobs.copies import CopyChoice
from memctl.jobs.engine import JobContext, JobReport, perform
from memctl.jobs.erase import EraseResult
from memctl.jobs.erase import erase as erase_memories
from memctl.output.fields import Ranks
from memctl.output.receipt import erasure_document
from memctl.output.tables import Output, show_records
from memctl.storage.erasure import ErasureFilter
from memctl.storage.sqlite.files import require_place, require_writable
from memctl.storage.sqlite.raw_files import RawFiles

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
    receipt: ReceiptOption = None,
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
        match = read_stdin("text").removesuffix("\n")
    which = _filter(agent, ids or [], type_, key, match, all_agents, keep_knowledge, resume)
    copies = CopyChoice(backups, backup or [])
    if receipt is not None:
        require_place(receipt, database=call.file)
    if receipt is not None and not change.dry_run:
        require_writable(receipt, database=call.file)
    with RawFiles() as files:

        def work(run: JobContext) -> EraseResult:
            return erase_memories(run, files, which, copies, avoid_vacuum=avoid_vacuum)

        if not (yes or change.dry_run or resume):
            preview = job_request(call, replace(change, dry_run=True))
            _confirm(perform("erase", work, preview, by_hand=True))
        with shown_progress(call, "erase") as progress:
            request = job_request(call, change, progress=progress)
            report = perform("erase", work, request, by_hand=True)
    document = erasure_document(
        report,
        database=str(call.file.resolve()),
        listing=listing,
    )
    if listing and report.result and not call.json:
        records = [name._asdict() for name in report.result.removal.listed]
        show_records(records, LISTED, Output("table", call.moment))
    show_receipt(report, document, call, receipt)


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


def _confirm(preview: JobReport[EraseResult]) -> None:
    """Ask on a terminal whether to go on. Raises RefusedError if not, and off a terminal."""
    found = preview.result.removal if preview.result else None
    erased = (
        f"{counted(found.memories, 'memory')} and {counted(found.places.total(), 'row')} in all"
        if found
        else "nothing"
    )
    require_confirmation(
        f"Erase {erased}? This cannot be undone.",
        RefusedError(
            f"this would erase {erased}, which cannot be undone",
            "check it with --dry-run --list, then use --yes; nothing was erased",
        ),
    )
