"""The command that replaces secrets in memories: redact."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memctl.cli.options import (
    AgentArgument,
    BackupOption,
    BackupsOption,
    ChangeOptions,
    GlobalOptions,
    KeyOption,
    TypeOption,
)
from memctl.cli.session import job_request, shown_progress, text_on_stdin
from memctl.errors import RefusedError, UsageError
from memctl.jobs.copies import CopyChoice
from memctl.jobs.engine import JobContext, JobRequest, perform
from memctl.output.redact import redaction_document
from memctl.output.results import job_sentence, show_outcome
from memctl.output.terminal import json_text, show_document
from memctl.storage.progress import Progress
from memctl.storage.sqlite.files import output_path, require_place, require_writable, write_file

if TYPE_CHECKING:
    from memctl.jobs.redact import RedactResult


def redact(
    call: GlobalOptions,
    change: ChangeOptions,
    agent: AgentArgument,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Memory ids.")] = None,
    type_: TypeOption = None,
    key: KeyOption = None,
    match: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT|-",
            help="Text to replace; `-` reads it from stdin, which keeps it out of the history of"
            " the shell.",
        ),
    ] = None,
    secrets: Annotated[
        bool,
        typer.Option(
            "--secrets",
            help="Replace what looks like a key or token; requires agent-memctl[secrets].",
        ),
    ] = False,
    backups: BackupsOption = False,
    backup: BackupOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    receipt: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=output_path, help="Write a receipt as JSON."),
    ] = None,
) -> None:
    """Replace a secret in memories by [redacted], and overwrite its bytes in the files.

    It is replaced in all versions of a memory, active and archived, in its events, and in entries
    of the knowledge base that came from it; imports and restored backups do not bring it back.
    This cannot be undone.
    """
    from memctl.jobs.redact import RedactionTarget
    from memctl.jobs.redact import redact as redact_memories
    from memctl.storage.secrets import require_detector
    from memctl.storage.sqlite.raw_files import RawFiles

    if secrets == (match is not None):
        raise UsageError(
            "exactly one of --match and --secrets is required", "see `memctl redact --help`"
        )
    text = text_on_stdin() if match == "-" else match
    detector = require_detector() if secrets else None
    chosen = CopyChoice(backups, backup or [])
    target = RedactionTarget(agent, ids or (), type_, key)
    if receipt is not None:
        require_place(receipt, database=call.settings.database)
    if receipt is not None and not change.dry_run:
        require_writable(receipt, database=call.settings.database)
    with RawFiles() as files:

        def work(run: JobContext) -> "RedactResult":
            return redact_memories(run, files, target, text=text, detector=detector, chosen=chosen)

        with shown_progress(call, "redact") as progress:
            preview = perform("redact", work, _preview(call, change, progress), by_hand=True)
            if not (change.dry_run or yes):
                _confirm(job_sentence(preview), can_ask=match != "-")
            report = preview
            if not change.dry_run:
                request = job_request(call, change, progress=progress)
                report = perform("redact", work, request, by_hand=True)
    document = redaction_document(report, database=str(call.settings.database.resolve()))
    if receipt is not None and not change.dry_run:
        write_file(receipt, [json_text(document), "\n"], database=call.settings.database)
    if call.json:
        show_document(document)
    show_outcome(report, as_json=call.json, quiet=call.quiet)
    if report.result and report.result.refusal:
        raise report.result.refusal


def _preview(call: GlobalOptions, change: ChangeOptions, progress: Progress) -> JobRequest:
    """Return the request for a preview, whose errors are not recorded in the ledger.

    A text that was meant to be a part of the one to redact may be in their messages.
    """
    return job_request(call, replace(change, dry_run=True), progress=progress)._replace(hook=None)


def _confirm(sentence: str, *, can_ask: bool) -> None:
    """Ask the user on a terminal. Raises RefusedError without one, and if the answer is no."""
    if can_ask and all(stream and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        if typer.confirm(f"{sentence}; this cannot be undone. Continue?", err=True):
            return
        raise RefusedError("the redaction was not confirmed", "nothing was changed")
    raise RefusedError("a redaction cannot be undone", "confirm with --yes; nothing was changed")
