"""The command for figures: metrics."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memctl.cli.options import (
    AgentOption,
    ConfigDirOption,
    FileOption,
    GlobalOptions,
    OutputOptions,
)
from memctl.cli.session import write_or_show
from memctl.errors import UsageError
from memctl.output.tables import show_records
from memctl.output.terminal import show_document, show_notice
from memctl.storage.addresses import Address
from memctl.storage.engines import open_store
from memctl.storage.sqlite.files import require_place
from memctl.storage.times import parse_duration

if TYPE_CHECKING:
    from memctl.insight.metrics import Metrics
    from memctl.insight.monitoring import Condition

SPARKLINE = timedelta(days=30)


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
    config_dir: ConfigDirOption = None,
) -> None:
    """Print the number, size and rate of change of memories by agent, as JSON."""
    from memctl.insight.metrics import read_metrics
    from memctl.output import metrics as metrics_output

    form = output.form(call)
    if output.columns is not None and form == "json":
        raise UsageError(
            "--columns requires a list", "use --table, --csv or --nl, whose rows have columns"
        )
    if prometheus and (call.json or form != "json" or history):
        raise UsageError(
            "--prometheus cannot be used with --history or another format", "omit the other options"
        )
    if file and not prometheus:
        raise UsageError("-o requires --prometheus", "redirect stdout instead")
    if config_dir and not prometheus:
        raise UsageError("--config-dir requires --prometheus", "choose one database with --db")
    if prometheus:
        _write_for_prometheus(call, config_dir, file, agent=agent)
        return
    span = None if history is None else parse_duration(history)
    fields = metrics_output.FIELDS if span is None else metrics_output.HISTORY_FIELDS
    chosen = output.output(call, metrics_output.TABLE if form == "table" else fields)
    database = call.settings.database
    with open_store(database, read_only=True) as store:
        store.require_current()
        found = read_metrics(
            store,
            database,
            now=call.moment,
            agent=agent,
            history=SPARKLINE if form == "table" and span is None else span,
        )
    if form == "json":
        show_document(metrics_output.metrics_document(found))
    elif form == "table":
        show_records(metrics_output.metrics_records(found), metrics_output.TABLE, chosen)
        show_notice(f"metrics: {metrics_output.metrics_note(found)}", quiet=call.quiet)
    elif found.history:
        show_records(metrics_output.history_rows(found.history), {}, chosen)
    else:
        show_records(metrics_output.metrics_rows(found), {}, chosen)


def _write_for_prometheus(
    call: GlobalOptions, config_dir: Path | None, file: Path | None, *, agent: str | None
) -> None:
    """Print or write the metrics of one database, or of several.

    If one of several cannot be read, only that one is left out.
    """
    from memctl.cli.databases import run_on_each
    from memctl.output.prometheus import prometheus_text

    databases: list[Address] = []
    read: list[tuple[Metrics, Condition]] = []
    failure: typer.Exit | None = None

    def read_one(call: GlobalOptions, *, seconds: float | None) -> None:
        databases.append(call.settings.database)
        read.append(_read_for_prometheus(call, agent=agent))

    if config_dir is None:
        read_one(call, seconds=None)
    else:
        try:
            run_on_each(call, config_dir, read_one, max_seconds=None)
        except typer.Exit as end:
            failure = end
    for database in databases:
        if file and file.is_file():
            require_place(file, database=database)
    if read:
        write_or_show(prometheus_text(read), file, database=databases[0], mode=0o644)
    if failure:
        raise failure


def _read_for_prometheus(call: GlobalOptions, *, agent: str | None) -> "tuple[Metrics, Condition]":
    from memctl.cli.check import check_opened, check_server
    from memctl.insight.metrics import read_metrics
    from memctl.insight.monitoring import read_condition

    database = call.settings.database
    with open_store(database, read_only=True) as store:
        store.require_current()
        found = read_metrics(store, database, now=call.moment, agent=agent)
        if isinstance(database, Path):
            checked = check_opened(store.sqlite, call, every_memory=False)
        else:
            checked = check_server(call, database, every_memory=False)
        return found, read_condition(store, checked, now=call.moment)
