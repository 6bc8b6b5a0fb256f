"""The command for the ledger: runs."""

from typing import Annotated

import typer

from memctl.cli.options import GlobalOptions, OutputOptions, PageOptions, PeriodOptions
from memctl.config.jobs import RECORDED
from memctl.errors import UsageError, did_you_mean
from memctl.output.tables import show_records
from memctl.storage.engines import open_store
from memctl.storage.rows import RunFilter, RunRecord, RunStatus

TABLE = {
    "run_id": 0,
    "job": 0,
    "started_at": 0,
    "status": 0,
    "duration_ms": 1,
    "longest_lock_ms": 4,
    "error": 2,
    "counts": 3,
}


def runs(
    call: GlobalOptions,
    output: OutputOptions,
    page: PageOptions,
    period: PeriodOptions,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Limit to this job.")] = None,
    status: Annotated[
        RunStatus | None, typer.Option(help="Limit to runs with this status.")
    ] = None,
) -> None:
    """List job runs, newest first: start, status and counts."""
    chosen = output.output(call, RunRecord._fields)
    since, until = period.period(call)
    which = RunFilter(job=job, status=status, since=since, until=until)
    database = call.settings.database
    with open_store(database, read_only=True) as store:
        store.require_current()
        found = store.list_runs(which, database=database, limit=page.most + 1, offset=page.offset)
    if job is not None and not found and job not in RECORDED:
        raise UsageError(
            f"there is no job '{job}'",
            did_you_mean(job, RECORDED, otherwise=f"use one of {', '.join(RECORDED)}"),
        )
    shown = page.page(found, call, command="runs")
    show_records((run._asdict() for run in shown), TABLE, chosen)
