"""Commands for the schema: migrate, rollback."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memctl.cli.options import GlobalOptions, LockOptions
from memctl.cli.session import alone_with_database, show_result
from memctl.errors import SchemaError, UsageError, counted
from memctl.output.tables import Output, show_records
from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.database import open_database, open_or_create_database, prepare_place
from memctl.storage.sqlite.locking import exclusive

if TYPE_CHECKING:  # sqlite-utils is slow to import
    from memctl.storage.sqlite.migrate import MigrateResult


STEPS = {"schema_step": 0, "name": 0, "applied_at": 1, "baseline": 2}


def migrate(
    call: GlobalOptions,
    lock: LockOptions,
    to: Annotated[
        int | None, typer.Option(metavar="N", help="Last step to apply. Defaults to all.")
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="List the steps and whether each is applied.")
    ] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Apply nothing; exit 12 if a step is pending.")
    ] = False,
    backup: Annotated[
        bool, typer.Option("--backup/--no-backup", help="Back up an existing database first.")
    ] = True,
) -> None:
    """Create the database, or upgrade its schema.

    An agent_memory table that a service created is verified and kept; memctl adds its own columns
    and tables. Nothing changes for the service until a job runs.
    """
    if listing or exit_code:
        if to is not None or not backup:
            raise UsageError(
                "--list and --exit-code apply no step", "omit --to, --backup and --no-backup"
            )
        _show_steps(call, listing=listing, exit_code=exit_code)
        return
    from memctl.storage.sqlite.migrate import migrate as apply_migrations

    if to is not None:
        migrations.require_step(to)
    path = call.settings.database
    prepare_place(path, make_directory=call.settings.database_is_default)
    with (
        exclusive(path, job="migrate", wait=lock.lock_wait),
        open_or_create_database(path, lock_wait=lock.lock_wait) as db,
    ):
        result = apply_migrations(db, path, now=call.moment, to=to, backup=backup)
    sentences = _migrated(result, path) if result.applied else [f"{path} is up to date"]
    show_result(call, asdict(result), *(f"migrate: {sentence}" for sentence in sentences))


def _migrated(result: "MigrateResult", path: Path) -> Iterator[str]:
    """Yield the sentences about the steps that were applied, and their consequences."""
    if result.created:
        yield f"created {path}"
    yield f"applied {', '.join(result.applied)} to {path}"
    if result.baseline:
        yield "agent_memory already existed and was kept unchanged"
    had_memories = result.baseline or "001_agent_memory" not in result.applied
    if had_memories and "002_memory_persistence" in result.applied:
        yield (
            "the first `memctl decay` will charge all idle time up to now; preview it with"
            " --dry-run, or set `since` under [decay] in the configuration"
        )
    if result.triggers:
        triggers = ", ".join(result.triggers)
        yield f"triggers of other programs also fire on changes by memctl: {triggers}"
    if result.backup:
        yield f"the previous database was saved as {result.backup}"


def rollback(
    call: GlobalOptions,
    lock: LockOptions,
    to: Annotated[
        int | None, typer.Option(metavar="N", help="Roll back all steps above N.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Number of steps to roll back. Defaults to 1."),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            help="Confirm that the archive leaves the database, or that a long lock is acceptable.",
        ),
    ] = False,
) -> None:
    """Roll back schema steps, keeping every active memory unchanged.

    The contents of memctl's own tables, including the archive, remain only in the backup that is
    made first.
    """
    from memctl.storage.sqlite.rollback import roll_back

    if to is not None and steps is not None:
        raise UsageError("--to and --steps cannot be used together", "choose one")
    path = call.settings.database
    with alone_with_database(call, lock, job="rollback") as db:
        if to is None:
            to = max(0, len(migrations.applied(db)) - (steps or 1))
        result = roll_back(db, path, now=call.moment, to=to, confirmed=yes)
    sentences = [f"rollback: {path} has no steps to roll back"]
    if result.rolled_back:
        archived = counted(result.archived_in_backup, "archived memory")
        sentences = [
            f"rollback: rolled back {', '.join(result.rolled_back)}",
            f"rollback: the previous database, with {archived}, was saved as {result.backup}",
        ]
    show_result(call, asdict(result), *sentences)


def _show_steps(call: GlobalOptions, *, listing: bool, exit_code: bool) -> None:
    with open_database(call.settings.database, read_only=True) as db:
        present = {record.version: record for record in migrations.applied(db)}
        pending = migrations.pending(db)
    rows = [
        {
            "schema_step": step.version,
            "name": step.name,
            "applied_at": present[step.version].applied_at if step.version in present else None,
            "baseline": bool(present[step.version].baseline) if step.version in present else None,
        }
        for step in migrations.available()
    ]
    if listing:
        show_records(rows, STEPS, Output("json" if call.json else "table", call.moment))
    if exit_code and pending:
        verb = "is" if len(pending) == 1 else "are"
        raise SchemaError(f"{counted(len(pending), 'step')} {verb} pending", "run `memctl migrate`")
