"""The command for the versions of a memory: history."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from memctl.cli.options import AgentArgument, GlobalOptions, OutputOptions, PageOptions
from memctl.errors import UsageError
from memctl.output.tables import show_facts, show_records
from memctl.output.terminal import show_document, show_lines, show_notice, visible
from memctl.storage.memory import Version
from memctl.storage.rows import MOST_ROWS
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.migrations import require_current

FIELDS = (
    "version",
    "state",
    "id",
    "written_at",
    "archived_at",
    "archived_reason",
    "replaced_by",
    "run_id",
    "archive_id",
    "importance",
    "excerpt",
)
TABLE = {
    "version": 0,
    "state": 4,
    "id": 5,
    "written_at": 0,
    "archived_at": 1,
    "archived_reason": 2,
    "replaced_by": 8,
    "run_id": 7,
    "archive_id": 9,
    "importance": 3,
    "excerpt": 6,
}


def history(
    call: GlobalOptions,
    output: OutputOptions,
    page: PageOptions,
    agent: AgentArgument,
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="Type.")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="Key.")],
    diff: Annotated[
        tuple[int, int] | None,
        typer.Option("--diff", metavar="N M", help="Print what changed between versions N and M."),
    ] = None,
) -> None:
    """List the versions of a memory, oldest first: when each was written, and what replaced it.

    The versions are the archived memories of this type and key, then the active one. Their numbers
    begin with 1, the oldest that is kept. Overwritten versions are archived while the feature
    archive-on-replace is enabled.
    """
    from memctl.insight.history import compare_versions, read_history

    chosen = output.output(call, FIELDS)
    if diff and (output.is_chosen or page.limit or page.offset):
        raise UsageError(
            "--diff cannot be used with options for the list", "use it alone or with --json"
        )
    limit, offset = (MOST_ROWS, 0) if diff else (page.most + 1, page.offset)
    with open_database(call.file, read_only=True) as db:
        require_current(db)
        versions = read_history(db, agent, type_, key, limit=limit, offset=offset)
    if diff is None:
        shown = page.page(versions, call, command="history")
        show_records(map(_record, shown), TABLE, chosen)
        return
    change = compare_versions(versions, *diff)
    if call.json:
        show_document({"agent_id": agent, "type": type_, "key": key, **asdict(change)})
        return
    show_facts(
        (field.field, f"{_text(field.before)} -> {_text(field.after)}") for field in change.changes
    )
    show_lines(map(visible, change.diff))
    if not (change.changes or change.diff):
        show_notice(f"history: versions {diff[0]} and {diff[1]} are the same", quiet=call.quiet)


def _record(version: Version) -> dict[str, Any]:
    """Return a version with the beginning of its value."""
    from memctl.storage.matching import beginning

    record = {**asdict(version), "excerpt": beginning(version.value)}
    return {field: record[field] for field in FIELDS}


def _text(value: object) -> str:
    return "none" if value is None else str(value)
