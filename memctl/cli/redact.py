"""The command that replaces secrets in memories: redact."""

from dataclasses import replace
from typing import Annotated

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
from memctl.cli.receipts import ReceiptOption, require_confirmation, show_receipt
from memctl.cli.session import job_request, read_stdin, shown_progress
from memctl.errors import RefusedError, UsageError
from memctl.jobs.copies import CopyChoice
from memctl.jobs.engine import JobContext, perform
from memctl.jobs.redact import RedactionTarget, RedactResult
from memctl.jobs.redact import redact as redact_memories
from memctl.output.receipt import redaction_document
from memctl.output.results import job_sentence
from memctl.storage.secrets import require_detector
from memctl.storage.sqlite.files import require_place, require_writable
from memctl.storage.sqlite.raw_files import RawFiles


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
    receipt: ReceiptOption = None,
) -> None:
    """Replace a secret in memories by [redacted], and overwrite its bytes in the files.

    It is replaced in all versions of a memory, active and archived, in its events, and in entries
    of the knowledge base that came from it; imports and restored backups do not bring it back.
    This cannot be undone.
    """
    if secrets == (match is not None):
        raise UsageError(
            "exactly one of --match and --secrets is required", "see `memctl redact --help`"
        )
    text = read_stdin("text").removesuffix("\n") if match == "-" else match
    detector = require_detector() if secrets else None
    chosen = CopyChoice(backups, backup or [])
    target = RedactionTarget(agent, ids or (), type_, key)
    if receipt is not None:
        require_place(receipt, database=call.file)
    if receipt is not None and not change.dry_run:
        require_writable(receipt, database=call.file)
    with RawFiles() as files:

        def work(run: JobContext) -> RedactResult:
            return redact_memories(run, files, target, text=text, detector=detector, chosen=chosen)

        with shown_progress(call, "redact") as progress:
            # The ledger does not record the errors of a preview, whose messages may have the text.
            request = job_request(call, replace(change, dry_run=True), progress=progress)
            report = perform("redact", work, request, by_hand=True)
            if not (change.dry_run or yes):
                require_confirmation(
                    f"{job_sentence(report)}; this cannot be undone. Continue?",
                    RefusedError(
                        "a redaction cannot be undone", "confirm with --yes; nothing was changed"
                    ),
                    can_ask=match != "-",
                )
            if not change.dry_run:
                request = job_request(call, change, progress=progress)
                report = perform("redact", work, request, by_hand=True)
    document = redaction_document(report, database=str(call.file.resolve()))
    show_receipt(report, document, call, receipt)
