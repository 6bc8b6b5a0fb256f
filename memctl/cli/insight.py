"""Commands for metrics and reports: metrics, report."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer

from memctl.cli.options import AgentOption, GlobalOptions, OutputOptions
from memctl.errors import UsageError
from memctl.output.tables import show_rows, show_table
from memctl.output.terminal import document_text, show_document, show_notice, show_text
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.files import output_path, write_file
from memctl.storage.sqlite.migrations import require_current
from memctl.storage.times import parse_duration, parse_past

ReportFormat = Literal["text", "markdown", "json", "html"]

SPARKLINE = timedelta(days=30)

FileOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        parser=output_path,
        help="Write to this file instead of stdout.",
    ),
]


def metrics(
    call: GlobalOptions,
    output: OutputOptions,
    agent: AgentOption = None,
    history: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Include daily figures for this period, such as 30d."
        ),
    ] = None,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Print the metrics in the Prometheus text format.")
    ] = False,
    file: FileOption = None,
) -> None:
    """Print the number, size and rate of change of memories by agent, as JSON."""
    from memctl.insight.metrics import read_metrics
    from memctl.output import metrics as metrics_output

    form = output.form(call)
    if prometheus and (call.json or form != "json" or history):
        raise UsageError(
            "--prometheus cannot be used with --history or another format", "omit the other options"
        )
    if file and not prometheus:
        raise UsageError("-o requires --prometheus", "redirect stdout instead")
    span = None if history is None else parse_duration(history)
    path = call.settings.database
    with open_database(path, read_only=True) as db:
        require_current(db)
        found = read_metrics(
            db,
            path,
            now=call.moment,
            agent=agent,
            history=SPARKLINE if form == "table" and span is None else span,
        )
    if prometheus:
        from memctl.output.prometheus import prometheus_text

        write_or_show(prometheus_text(found), file, database=path, mode=0o644)
    elif form == "json":
        show_document(metrics_output.metrics_document(found))
    elif form == "table":
        show_table(*metrics_output.metrics_table(found))
        show_notice(f"metrics: {metrics_output.metrics_note(found)}", quiet=call.quiet)
    elif found.history:
        show_rows(metrics_output.history_rows(found.history), form)
    else:
        show_rows(metrics_output.metrics_rows(found), form)


def write_or_show(text: str, file: Path | None, *, database: Path, mode: int = 0o600) -> None:
    """Write a text to a file, or print it if the file is None or `-`."""
    if file is None or str(file) == "-":
        show_text([text])
    else:
        write_file(file, [text], database=database, mode=mode)


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
    from memctl.cli.watch import look
    from memctl.insight.report import read_report
    from memctl.output.report import report_document, report_markdown, report_text
    from memctl.output.report_html import report_html

    if call.json and form not in (None, "json"):
        raise UsageError(f"--json and --format {form} cannot be used together", "choose one")
    now = call.moment
    path = call.settings.database
    with open_database(path, read_only=True) as db:
        require_current(db)
        found = read_report(
            db,
            path,
            call.settings.promote,
            call.settings.decay,
            call.settings.alerts,
            since=parse_past(since, now=now),
            now=now,
            findings=[
                f"{finding.severity}: {finding.message}"
                for finding in look(call).findings
                if finding.severity != "info"
            ],
        )
    if call.json or form == "json":
        text = document_text(report_document(found))
    else:
        make = {"markdown": report_markdown, "html": report_html}.get(form or "", report_text)
        text = make(found)
    write_or_show(text, file, database=path)
