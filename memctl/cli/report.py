"""The command for health reports: report."""

from typing import Annotated, Literal

import typer

from memctl.cli.options import FileOption, GlobalOptions
from memctl.cli.session import shown_progress, write_or_show
from memctl.errors import UsageError
from memctl.output.terminal import document_text
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.migrations import require_current
from memctl.storage.times import parse_past

ReportFormat = Literal["text", "markdown", "json", "html"]


def report(
    call: GlobalOptions,
    since: Annotated[
        str,
        typer.Option(
            "--since", metavar="TIME", help="Start of the report: a time, or a duration such as 7d."
        ),
    ] = "7d",
    form: Annotated[
        ReportFormat | None, typer.Option("--format", help="Report format. Defaults to text.")
    ] = None,
    file: FileOption = None,
) -> None:
    """Print a health report: changes, notable memories and recommended actions."""
    from memctl.cli.check import run_check
    from memctl.insight.report import read_report
    from memctl.output.report import report_document, report_markdown, report_text
    from memctl.output.report_html import report_html

    if call.json and form not in (None, "json"):
        raise UsageError(f"--json and --format {form} cannot be used together", "choose one")
    now = call.moment
    path = call.settings.database
    with (
        shown_progress(call, "report") as progress,
        open_database(path, read_only=True) as db,
    ):
        require_current(db)
        progress.phase("reading")
        found = read_report(
            db,
            path,
            call.settings.promote,
            call.settings.decay,
            call.settings.alerts,
            since=parse_past(since, now=now),
            now=now,
            scheduled=[job for job, every in call.settings.every.items() if every != "never"],
            findings=[
                f"{finding.severity}: {finding.message}"
                for finding in run_check(call).findings
                if finding.severity != "info"
            ],
        )
    if call.json or form == "json":
        text = document_text(report_document(found))
    else:
        make = {"markdown": report_markdown, "html": report_html}.get(form or "", report_text)
        text = make(found)
    write_or_show(text, file, database=path)
