"""Commands for the archive: archived, archive, restore."""

from typing import Annotated

import typer

from memctl.cli.options import (
    AgentOrAllArgument,
    AllAgentsOption,
    GlobalOptions,
    JobOptions,
    KeyOption,
    OutputOptions,
    PageOptions,
    PeriodOptions,
    TypeOption,
    require_agent_or_all,
    run_option,
)
from memctl.cli.session import run_job
from memctl.errors import UsageError
from memctl.jobs.archive import archive as archive_memories
from memctl.jobs.restore import RestoreConflict
from memctl.jobs.restore import restore as restore_memories
from memctl.output.tables import show_records
from memctl.storage.engines import open_store
from memctl.storage.matching import SearchedText
from memctl.storage.memory import require_search_text, require_type
from memctl.storage.rows import MOST_ROWS, ArchiveFilter
from memctl.storage.sqlite.archive import ARCHIVED_FIELDS
from memctl.storage.times import parse_duration, parse_past

TABLE = {
    "id": 1,
    "agent_id": 6,
    "type": 0,
    "key": 0,
    "archived_at": 0,
    "archived_reason": 2,
    "importance": 3,
    "run_id": 4,
    "value": 5,
}
TABLE_OF_ALL = {**TABLE, "agent_id": 1, "type": 2}

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
    page: PageOptions,
    period: PeriodOptions,
    agent: AgentOrAllArgument = None,
    all_agents: AllAgentsOption = False,
    type_: TypeOption = None,
    key: KeyOption = None,
    reason: ReasonOption = None,
    search: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Limit to memories whose key, value or metadata contains this text.",
        ),
    ] = None,
) -> None:
    """List the archived memories of an agent, or of all, newest first."""
    require_agent_or_all(agent, all_agents=all_agents)
    if search is not None:
        require_search_text(search)
    chosen = output.output(call, ARCHIVED_FIELDS)
    since, until = period.period(call)
    which = ArchiveFilter(
        agent=agent,
        type=type_,
        key=key,
        reason=reason,
        since=since,
        until=until,
    )
    with open_store(call.settings.database, read_only=True) as store:
        store.require_current()
        store.require_agent(agent)
        found = store.list_archived(
            which,
            search=None if search is None else SearchedText(search),
            limit=page.most + 1,
            offset=page.offset,
        )
    if type_ is not None and not found:
        require_type(type_)
    ranks = TABLE if agent else TABLE_OF_ALL
    show_records(page.page(found, call, command="archived"), ranks, chosen)


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
    type_: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Type of the memory of --key.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="KEY",
            help="Restore an archived version of this memory in place of the active one.",
        ),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option(
            "--version",
            metavar="N",
            min=1,
            max=MOST_ROWS,
            help="Number of the version in `memctl history`. Defaults to the newest archived one.",
        ),
    ] = None,
    expires_in: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="New time to live, such as 30d. Defaults to the original expiry, unless that has"
            " passed.",
        ),
    ] = None,
    on_conflict: Annotated[
        RestoreConflict | None,
        typer.Option(
            help="Action if an active memory has the same id, or the same type and key. Defaults to"
            " fail, and with --key to replace."
        ),
    ] = None,
) -> None:
    """Restore archived memories by id, run, or reason and time, or one version by type and key."""
    if (type_ is None) != (key is None):
        raise UsageError("--type and --key must be used together", "specify both")
    if key is not None and (ids or run is not None or reason is not None or since is not None):
        raise UsageError(
            "--key cannot be used with ids, --run, --reason or --since", "use one of them"
        )
    if key is None and version is not None:
        raise UsageError("--version requires --type and --key", "specify both")
    which = ArchiveFilter(
        agent=agent,
        ids=ids or (),
        type=type_,
        key=key,
        run_id=run,
        reason=reason,
        since=None if since is None else parse_past(since, now=call.moment),
    )
    duration = None if expires_in is None else parse_duration(expires_in)
    run_job(
        "restore",
        lambda run: restore_memories(
            run,
            which,
            version=None if key is None else version or "newest",
            on_conflict=on_conflict or ("fail" if key is None else "replace"),
            expires_in=duration,
        ),
        call,
        job,
        by_hand=True,
    )
