"""The command for problems: check."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from memctl.cli.options import GlobalOptions, LockOptions
from memctl.cli.session import alone_with_database, shown_progress
from memctl.errors import MemctlError, UsageError
from memctl.output.contract.documents import storage
from memctl.output.tables import show_facts
from memctl.output.terminal import show_document, show_lines, show_notice, visible
from memctl.storage.addresses import ServerAddress
from memctl.storage.engines import open_server
from memctl.storage.progress import NO_PROGRESS, Progress
from memctl.storage.spool import spooled_failures
from memctl.storage.sqlite.database import Connection, open_database
from memctl.storage.times import to_text

if TYPE_CHECKING:
    from memctl.insight.check import CheckResult, Depth
    from memctl.insight.findings import Finding
    from memctl.storage.secrets import Detector


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
    secrets: Annotated[
        bool,
        typer.Option(
            "--secrets",
            help="Also name memories that contain what looks like a key or token; requires"
            " agent-memctl[secrets].",
        ),
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
    from memctl.output.check import finding_facts, plugin_failure, plugin_line

    if quick and full:
        raise UsageError("--quick and --full cannot be used together", "choose one")
    if dry_run and not fix:
        raise UsageError("--dry-run requires --fix", "without --fix, check changes nothing")
    if nagios and (fix or call.json):
        raise UsageError("--nagios cannot be used with --fix or --json", "omit them")
    depth: Depth | None = "full" if full else "quick" if quick else None
    if nagios:
        try:
            line, exit_code = plugin_line(_checked(call, depth, secrets=secrets))
        except MemctlError as error:
            line, exit_code = plugin_failure(error)
        show_lines([line])
        raise typer.Exit(exit_code)
    result, fixed = _checked(call, depth, secrets=secrets), []
    if fix and not dry_run:
        offered = [finding.fix for finding in result.findings if finding.fix]
        _fix(call, lock, result.findings)
        result = _checked(call, depth, secrets=secrets)
        fixed = sorted(set(offered) - {finding.fix for finding in result.findings})
    ok = result.count("error") == result.count("warning") == 0
    if call.json:
        document = {
            "at": to_text(call.moment),
            "database": str(call.settings.database),
            "storage": storage(result.database),
            "ok": ok,
            "depth": result.depth,
            "memories": result.memories,
            "findings": [_finding_document(finding) for finding in result.findings],
            "secrets": _secrets_document(result),
            "fixed": fixed,
        }
        show_document(document)
    else:
        shown = [one for one in result.findings if not (call.quiet and one.severity == "info")]
        facts = finding_facts(shown)
        if dry_run:
            facts += [("would", one.fix) for one in shown if one.fix]
        show_facts([*facts, *(("fixed", what) for what in fixed)])
        if ok:
            show_notice("check: no problems found", quiet=call.quiet, only_on_terminal=True)
    if not ok:
        raise typer.Exit(3)


def _finding_document(finding: "Finding") -> dict[str, object]:
    """Return the JSON form of a finding; stored text in its sentences may not be printable."""
    return {
        name: value if value is None else visible(value) for name, value in asdict(finding).items()
    }


def _secrets_document(result: "CheckResult") -> list[dict[str, object]] | None:
    """Return the JSON form of the memories with secrets; None if they were not searched for."""
    if result.secrets is None:
        return None
    return [
        {**vars(memory), "secrets": [vars(secret) for secret in memory.secrets]}
        for memory in result.secrets
    ]


def _checked(call: GlobalOptions, depth: "Depth | None", *, secrets: bool) -> "CheckResult":
    database = call.settings.database
    if isinstance(database, ServerAddress):
        return check_server(call, database)
    detector = None
    if secrets:
        from memctl.storage.secrets import require_detector

        detector = require_detector()
    with (
        shown_progress(call, "check") as progress,
        open_database(call.file, read_only=True) as db,
    ):
        result = check_opened(db, call, depth, progress=progress)
        return _with_secrets(result, db, detector, progress) if detector else result


def check_server(
    call: GlobalOptions, address: ServerAddress, *, every_memory: bool = True
) -> "CheckResult":
    """Check a database on a server with the configured policies."""
    from memctl.insight.check_on_server import check_on_server

    with open_server(address) as server:
        return check_on_server(
            server, address, call.settings.check, now=call.moment, every_memory=every_memory
        )


def _with_secrets(
    result: "CheckResult", db: Connection, detector: "Detector", progress: Progress
) -> "CheckResult":
    """Add the memories that contain secrets to the findings."""
    from memctl.insight.check_secrets import find_secrets
    from memctl.insight.findings import by_severity
    from memctl.output.secrets import finding_of

    found = find_secrets(db, detector, progress)
    return replace(
        result, findings=by_severity([*result.findings, *map(finding_of, found)]), secrets=found
    )


def run_check(
    call: GlobalOptions, depth: "Depth | None" = None, *, progress: Progress = NO_PROGRESS
) -> "CheckResult":
    """Check the database with the configured policies."""
    with open_database(call.file, read_only=True) as db:
        return check_opened(db, call, depth, progress=progress)


def check_opened(
    db: Connection,
    call: GlobalOptions,
    depth: "Depth | None" = None,
    *,
    every_memory: bool = True,
    progress: Progress = NO_PROGRESS,
) -> "CheckResult":
    """Check an open database with the configured policies."""
    from memctl.insight.check import CheckPolicies, check

    settings = call.settings
    return check(
        db,
        call.file,
        CheckPolicies(settings.alerts, settings.check, settings.service_events, settings.quota),
        now=call.moment,
        depth=depth,
        spooled=spooled_failures(settings.spool),
        every_memory=every_memory,
        progress=progress,
    )


def _fix(call: GlobalOptions, lock: LockOptions, findings: "Sequence[Finding]") -> None:
    from memctl.insight.fixes import fix_findings

    with alone_with_database(call, lock, job="check") as db:
        fix_findings(db, call.file, findings, now=call.moment)
