"""Confirmations and receipts, for commands that remove something for good."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from memctl.cli.options import GlobalOptions
from memctl.errors import RefusedError
from memctl.jobs.engine import JobReport, JobResult
from memctl.output.results import show_outcome
from memctl.output.terminal import json_text, show_document
from memctl.storage.sqlite.files import output_path, write_file

ReceiptOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        parser=output_path,
        help="Write a JSON receipt; it names no memories.",
    ),
]


def require_confirmation(
    question: str, off_terminal: RefusedError, *, can_ask: bool = True
) -> None:
    """Ask on a terminal whether to go on. Raises RefusedError if not, or `off_terminal`."""
    if not (can_ask and all(stream and stream.isatty() for stream in (sys.stdin, sys.stderr))):
        raise off_terminal
    try:
        confirmed = typer.confirm(question, err=True)
    except typer.Abort:  # the end of the input, or an interrupt
        confirmed = False
    if not confirmed:
        raise RefusedError("not confirmed", "nothing was changed")


def show_receipt(
    report: JobReport[JobResult],
    document: dict[str, object],
    call: GlobalOptions,
    receipt: Path | None,
) -> None:
    """Write the receipt, and print it or a sentence. Raises the refusal of an unfinished job."""
    if receipt is not None and not report.dry_run:
        write_file(receipt, [json_text(document), "\n"], database=call.file)
    if call.json:
        show_document(document)
    show_outcome(report, as_json=call.json, quiet=call.quiet)
    if report.result and report.result.refusal:
        raise report.result.refusal
