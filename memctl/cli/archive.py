"""Commands for the archive: archived, archive, restore."""

from typing import Annotated

import typer

from memctl.cli.options import (
    AgentArgument,
    GlobalOptions,
    JobOptions,
    KeyOption,
    OutputOptions,
    TypeOption,
    run_option,
)
from memctl.cli.session import run_job
from memctl.jobs.archive import archive as archive_memories
from memctl.jobs.restore import RestoreConflict
from memctl.jobs.restore import restore as restore_memories
from memctl.output.tables import show_rows
from memctl.output.terminal import show_notice
from memctl.storage.rows import MOST_ROWS, ArchiveFilter
from memctl.storage.sqlite.agents import require_agent
from memctl.storage.sqlite.archive import list_archived
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.migrations import require_current
from memctl.storage.times import parse_duration, parse_past

AgentOfIds = Annotated[
    str | None, typer.Argument(metavar="AGENT", help="Agent name; optional with --run.")
]
IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Memory ids.")]
ReasonOption = Annotated[
    str | None,
    typer.Option(
        "--reason", metavar="REASON", help="Limit to this archive reason, such as expired."
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Archived at or after this time, or within a duration such as 7d.",
    ),
]


def archived(
    call: GlobalOptions,
    output: OutputOptions,
    agent: AgentArgument,
    type_: TypeOption = None,
    key: KeyOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Archived at or before this time; same format as --since."
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Limit to memories whose key or value contains this text."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, max=MOST_ROWS, help="Maximum number of rows.")
    ] = 50,
    offset: Annotated[
        int, typer.Option(metavar="N", min=0, max=MOST_ROWS, help="Number of rows to skip.")
    ] = 0,
) -> None:
    """List an agent's archived memories as JSON, newest first."""
    which = ArchiveFilter(
        agent=agent,
        type=type_,
        key=key,
        reason=reason,
        since=None if since is None else parse_past(since, now=call.moment),
        until=None if until is None else parse_past(until, now=call.moment),
        search=search,
    )
    form = output.form(call)
    with open_database(call.settings.database, read_only=True) as db:
        require_current(db)
        require_agent(db, agent)
        rows = list(list_archived(db, which, limit=limit + 1, offset=offset))
    show_rows(rows[:limit], form)
    if len(rows) > limit:
        show_notice(
            f"archived: the list is limited to the newest {limit}; see --limit", quiet=call.quiet
        )


def archive(
    call: GlobalOptions,
    job: JobOptions,
    agent: AgentOfIds = None,
    ids: IdsArgument = None,
    run: Annotated[
        int | None,
        run_option("Archive the active memories that run N imported."),
    ] = None,
) -> None:
    """Archive memories by id, or all that a run imported."""
    run_job(
        "archive",
        lambda job_run: archive_memories(job_run, agent=agent, ids=ids or (), of_run=run),
        call,
        job,
        by_hand=True,
    )


def restore(
    call: GlobalOptions,
    job: JobOptions,
    agent: AgentOfIds = None,
    ids: IdsArgument = None,
    run: Annotated[
        int | None,
        run_option("Restore the memories that run N archived."),
    ] = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    expires_in: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="New time to live, such as 30d. Defaults to the original expiry, unless that has"
            " passed.",
        ),
    ] = None,
    on_conflict: Annotated[
        RestoreConflict,
        typer.Option(help="Action if an active memory has the same id, or the same type and key."),
    ] = "fail",
) -> None:
    """Restore archived memories by id, by run, or by reason and time."""
    which = ArchiveFilter(
        agent=agent,
        ids=ids or (),
        run_id=run,
        reason=reason,
        since=None if since is None else parse_past(since, now=call.moment),
    )
    duration = None if expires_in is None else parse_duration(expires_in)
    run_job(
        "restore",
        lambda run: restore_memories(run, which, on_conflict=on_conflict, expires_in=duration),
        call,
        job,
        by_hand=True,
    )
