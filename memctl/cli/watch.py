"""Commands for history and checks: events, runs, explain, check."""

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from memctl.cli.options import AgentArgument, AgentOption, GlobalOptions, LockOptions, OutputOptions
from memctl.cli.session import alone_with_database
from memctl.errors import MemctlError, UsageError
from memctl.output.tables import show_facts, show_rows
from memctl.output.terminal import show_document, show_lines, show_notice, wait_for_reader
from memctl.storage.rows import EventFilter, EventRecord, RunFilter, RunRecord, RunStatus
from memctl.storage.spool import spooled_failures
from memctl.storage.sqlite.database import MOST_ROWS, one_view, open_database
from memctl.storage.sqlite.events import (
    follow_events,
    newest_visible_event,
    pruned_after,
    read_events,
    read_newest_events,
)
from memctl.storage.sqlite.ledger import crashed_runs, list_runs
from memctl.storage.sqlite.migrations import require_current
from memctl.storage.times import parse_past, to_text

if TYPE_CHECKING:
    from memctl.insight.check import CheckResult, Depth
    from memctl.insight.findings import Finding

POLL_SECONDS = 0.2
USUAL_ROWS = 50

TABLE_OF_EVENTS = ("event_id", "at", "event", "agent_id", "type", "key", "run_id", "detail")
TABLE_OF_HISTORY = ("event_id", "at", "event", "memory_id", "run_id", "detail")
TABLE_OF_RUNS = ("run_id", "job", "started_at", "status", "duration_ms", "counts", "error")

LimitOption = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=MOST_ROWS, help="Maximum number of rows. Defaults to 50."),
]


def events(
    call: GlobalOptions,
    output: OutputOptions,
    agent: AgentOption = None,
    type_: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Limit to this type of memory.")
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="Limit to this key.")] = None,
    event: Annotated[
        str | None, typer.Option(metavar="EVENT", help="Limit to this event, such as expired.")
    ] = None,
    run: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=MOST_ROWS, help="Limit to this run.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="CURSOR|TIME",
            help="Start after this event number, at this time, or a duration such as 7d ago.",
        ),
    ] = None,
    limit: LimitOption = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            "-f",
            help="Wait for new events and print each as a JSON line, without the default limit.",
        ),
    ] = False,
) -> None:
    """Print events of memories as JSON, oldest first; by default, the newest 50.

    With --since, prints the first events after it; pass the last event_id to continue from there.
    """
    now = call.moment
    is_cursor = since is not None and re.fullmatch("[0-9]{1,12}", since) is not None
    cursor = int(since) if since is not None and is_cursor else 0
    moment = parse_past(since, now=now) if since is not None and not is_cursor else None
    which = EventFilter(agent=agent, type=type_, key=key, event=event, run_id=run, since=moment)
    form = output.form(call)
    if follow and form in ("csv", "table"):
        raise UsageError("--follow prints one JSON object a line", "leave out --table and --csv")
    most = limit or USUAL_ROWS
    path = call.settings.database
    with open_database(path, read_only=True) as db, one_view(db):
        require_current(db)
        pruned = pruned_after(db, cursor)
        if since is None:
            found = read_newest_events(db, which, limit=most)
            cursor = newest_visible_event(db)
        else:
            found = read_events(db, which, after=cursor, limit=most + 1)
    notify = functools.partial(_show_event_notice, call)
    if pruned:
        notify(f"events up to {pruned} have been pruned")
    if follow:
        wait = functools.partial(wait_for_reader, POLL_SECONDS)
        coming = follow_events(path, which, after=cursor, wait=wait, report=notify)
        show_rows((record._asdict() for record in itertools.islice(coming, limit)), "nl")
        return
    columns = TABLE_OF_EVENTS if form == "table" else EventRecord._fields
    show_rows(_only(columns, (record._asdict() for record in found[:most])), form)
    if len(found) > most:
        notify(f"there are more; continue with --since {found[most - 1].event_id}")


def _only(
    columns: Sequence[str], rows: Iterable[Mapping[str, object]]
) -> Iterator[dict[str, object]]:
    """Select columns of records."""
    return ({name: row[name] for name in columns} for row in rows)


def _show_event_notice(call: GlobalOptions, sentence: str) -> None:
    show_notice(f"events: {sentence}", quiet=call.quiet)


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
    show_rows(_only(columns, (run._asdict() for run in found[:most])), form)
    if len(found) > most:
        show_notice(
            f"runs: the list is limited to the newest {most}; see --limit", quiet=call.quiet
        )


def explain(
    call: GlobalOptions,
    agent: AgentArgument,
    memory: Annotated[list[str], typer.Argument(metavar="ID | TYPE KEY")],
) -> None:
    """Explain a memory: its state, its history with reasons, and what will happen to it.

    Predictions assume the current policies, and that the memory is not accessed again.
    """
    from memctl.insight.explain import Policies
    from memctl.insight.explain import explain as explain_memory
    from memctl.output.explain import explanation_facts

    if len(memory) > 2:
        raise UsageError("too many arguments", "usage: memctl explain AGENT {ID | TYPE KEY}")
    policies = Policies(call.settings.decay, call.settings.prune, call.settings.promote)
    with open_database(call.settings.database, read_only=True) as db:
        require_current(db)
        found = explain_memory(db, agent, memory, policies, now=call.moment)
    history = [event._asdict() for event in found.history]
    if call.json:
        show_document({**asdict(found), "history": history})
        return
    show_facts(explanation_facts(found, policies.of(found.agent_id, found.type)))
    show_rows(_only(TABLE_OF_HISTORY, history), "table")


def check(
    call: GlobalOptions,
    lock: LockOptions,
    quick: Annotated[
        bool, typer.Option("--quick", help="Also run SQLite's quick_check on the whole file.")
    ] = False,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Also run SQLite's integrity_check, including indexes; slow on a large file.",
        ),
    ] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="Fix what can be fixed without changing a memory.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="With --fix, only show what would be fixed.")
    ] = False,
    nagios: Annotated[
        bool,
        typer.Option(
            "--nagios", help="Print one line and use the exit codes of monitoring plug-ins."
        ),
    ] = False,
) -> None:
    """Check the file, the memories and the jobs for problems; exit 3 if there are any.

    Findings of severity info do not cause exit 3, and --quiet omits them. While --quick or --full
    reads the whole file, the service's checkpoints cannot complete.
    """
    from memctl.output.check import finding_lines, plugin_failure, plugin_line

    if quick and full:
        raise UsageError("--quick and --full cannot be used together", "choose one")
    if dry_run and not fix:
        raise UsageError("--dry-run requires --fix", "without --fix, check changes nothing")
    if nagios and (fix or call.json):
        raise UsageError("--nagios cannot be used with --fix or --json", "omit them")
    depth: Depth | None = "full" if full else "quick" if quick else None
    if nagios:
        try:
            line, exit_code = plugin_line(look(call, depth))
        except MemctlError as error:
            line, exit_code = plugin_failure(error)
        show_lines([line])
        raise typer.Exit(exit_code)
    result, fixed = look(call, depth), []
    if fix and not dry_run:
        offered = [finding.fix for finding in result.findings if finding.fix]
        _mend(call, lock, result.findings)
        result = look(call, depth)
        fixed = sorted(set(offered) - {finding.fix for finding in result.findings})
    ok = result.count("error") == result.count("warning") == 0
    if call.json:
        document = {"at": to_text(call.moment), "ok": ok, **asdict(result), "fixed": fixed}
        show_document(document)
    else:
        shown = [one for one in result.findings if not (call.quiet and one.severity == "info")]
        show_lines(finding_lines(shown))
        if dry_run:
            show_lines(f"would    {one.fix}" for one in shown if one.fix)
        show_lines(f"fixed    {what}" for what in fixed)
        if ok:
            show_notice("check: no problems found", quiet=call.quiet, only_on_terminal=True)
    if not ok:
        raise typer.Exit(3)


def look(call: GlobalOptions, depth: "Depth | None" = None) -> "CheckResult":
    """Check the database with the configured policies."""
    from memctl.insight.check import CheckPolicies, check

    settings = call.settings
    with open_database(settings.database, read_only=True) as db:
        return check(
            db,
            settings.database,
            CheckPolicies(settings.alerts, settings.check, settings.service_events),
            now=call.moment,
            depth=depth,
            spooled=spooled_failures(settings.spool),
        )


def _mend(call: GlobalOptions, lock: LockOptions, findings: "Sequence[Finding]") -> None:
    from memctl.insight.fixes import fix_findings

    with alone_with_database(call, lock, job="check") as db:
        fix_findings(db, call.settings.database, findings, now=call.moment)
