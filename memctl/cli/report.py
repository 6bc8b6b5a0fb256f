"""The command for health reports, and the report that `memctl run` writes."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from memctl.cli.options import FileOption, GlobalOptions
from memctl.cli.session import shown_progress, write_or_show
from memctl.config.jobs import REPORT
from memctl.config.policies import ReportFormat
from memctl.errors import MemctlError, UsageError
from memctl.jobs.due import ScheduledJob
from memctl.jobs.engine import JobContext, JobResult
from memctl.jobs.tally import JobTally
from memctl.output.terminal import document_text
from memctl.storage.sqlite.database import Connection, open_database
from memctl.storage.sqlite.files import write_file
from memctl.storage.sqlite.migrations import require_current
from memctl.storage.times import parse_past, to_day

# What a report of `memctl run` covers, in days.
DAYS = {"daily": 1, "weekly": 7, "monthly": 31}
SUFFIXES: dict[ReportFormat, str] = {
    "text": "txt",
    "markdown": "md",
    "json": "json",
    "html": "html",
}


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
    from memctl.output.tables import terminal_width

    if call.json and form not in (None, "json"):
        raise UsageError(f"--json and --format {form} cannot be used together", "choose one")
    path = call.file
    with (
        shown_progress(call, "report") as progress,
        open_database(path, read_only=True) as db,
    ):
        require_current(db)
        progress.phase("reading")
        begin = parse_past(since, now=call.moment)
        text = _report_text(
            call,
            db,
            "json" if call.json else form or "text",
            since=begin,
            width=None if file else terminal_width(),  # a file is not wrapped
        )
    write_or_show(text, file, database=path)


@dataclass(frozen=True, kw_only=True)
class ReportResult(JobResult):
    """The file that was written, or would be."""

    path: str


def report_job(call: GlobalOptions) -> ScheduledJob:
    """Return the job of `memctl run` that writes the report of the last day, week or month."""
    policy = call.settings.report
    database = call.file
    directory = (policy.directory or database.resolve().parent).absolute()
    path = directory / f"memctl-report-{to_day(call.moment)}.{SUFFIXES[policy.format]}"

    def write(run: JobContext) -> ReportResult:
        if not run.request.dry_run:
            since = run.now - timedelta(days=DAYS[policy.every])
            _write(path, _report_text(call, run.store.sqlite, policy.format, since=since), database)
        return ReportResult(path=str(path), tally=JobTally())

    return ScheduledJob(REPORT, policy.every, write)


def _write(path: Path, text: str, database: Path) -> None:
    """Write a report. Raises MemctlError, also where `write_file` raises UsageError."""
    try:
        write_file(path, [text], database=database)
    except MemctlError as error:
        raise MemctlError(error.message, "check [report] in the configuration") from None


def _report_text(
    call: GlobalOptions,
    db: Connection,
    form: ReportFormat,
    *,
    since: datetime,
    width: int | None = None,
) -> str:
    """Return the report on the time since `since`; lines of text have at most `width` cells."""
    from memctl.cli.check import run_check
    from memctl.insight.report import ReportPolicies, read_report
    from memctl.output.report import report_document, report_markdown, report_text

    settings = call.settings
    found = read_report(
        db,
        call.file,
        ReportPolicies(settings.promote, settings.decay, settings.prune, settings.alerts),
        since=since,
        now=call.moment,
        every=settings.every,
        findings=run_check(call).findings,
    )
    if form == "json":
        return document_text(report_document(found))
    if form == "markdown":
        return report_markdown(found)
    if form == "html":
        from memctl.output.report_html import report_html

        return report_html(found)
    return report_text(found, width=width)
