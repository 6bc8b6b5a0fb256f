"""The command for health reports: report."""

from typing import Annotated, Literal

import typer

from memctl.cli.options import FileOption, GlobalOptions
from memctl.cli.session import write_or_show
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
    """Print a health report: a verdict, recommended actions, remarks, and what changed."""
    from memctl.cli.check import run_check
    from memctl.insight.report import ReportPolicies, read_report
    from memctl.output.report import report_document, report_markdown, report_text
    from memctl.output.tables import terminal_width

    if call.json and form not in (None, "json"):
        raise UsageError(f"--json and --format {form} cannot be used together", "choose one")
    now, settings = call.moment, call.settings
    path = settings.database
    with open_database(path, read_only=True) as db:
        require_current(db)
        found = read_report(
            db,
            path,
            ReportPolicies(settings.promote, settings.decay, settings.prune, settings.alerts),
            since=parse_past(since, now=now),
            now=now,
            every=settings.every,
            findings=run_check(call).findings,
        )
    if call.json or form == "json":
        text = document_text(report_document(found))
    elif form == "html":
        from memctl.output.report_html import report_html

        text = report_html(found)
    elif form == "markdown":
        text = report_markdown(found)
    else:
        text = report_text(found, width=None if file else terminal_width())
    write_or_show(text, file, database=path)
