"""The command for the ledger: runs."""

from typing import Annotated

import typer

from memctl.cli.options import USUAL_ROWS, GlobalOptions, LimitOption, OutputOptions
from memctl.output.tables import only_columns, show_rows
from memctl.output.terminal import show_notice
from memctl.storage.rows import RunFilter, RunRecord, RunStatus
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.ledger import crashed_runs, list_runs
from memctl.storage.sqlite.migrations import require_current
from memctl.storage.times import parse_past

TABLE_OF_RUNS = ("run_id", "job", "started_at", "status", "duration_ms", "counts", "error")


def runs(
    call: GlobalOptions,
    output: OutputOptions,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Limit to this job.")] = None,
    status: Annotated[
        RunStatus | None, typer.Option(help="Limit to runs with this status.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Started at or after this time, or within a duration such as 7d."
        ),
    ] = None,
    limit: LimitOption = None,
) -> None:
    """List job runs as JSON, newest first: start, status and counts."""
    now = call.moment
    moment = None if since is None else parse_past(since, now=now)
    which = RunFilter(job=job, status=status, since=moment)
    form = output.form(call)
    most = limit or USUAL_ROWS
    with open_database(call.settings.database, read_only=True) as db:
        require_current(db)
        crashed = crashed_runs(db, call.settings.database)
        found = list_runs(db, which, crashed=crashed, limit=most + 1)
    columns = TABLE_OF_RUNS if form == "table" else RunRecord._fields
    show_rows(only_columns(columns, (run._asdict() for run in found[:most])), form)
    if len(found) > most:
        show_notice(
            f"runs: the list is limited to the newest {most}; see --limit", quiet=call.quiet
        )
