"""Commands for the schema: migrate, rollback."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from memctl.cli.migrate_on_server import (
    migrate_on_server,
    roll_back_on_server,
    steps_on_server,
)
from memctl.cli.options import GlobalOptions, LockOptions
from memctl.cli.session import alone_with_database, show_result, shown_progress
from memctl.errors import SchemaError, UsageError, counted
from memctl.output.schema_changes import (
    migrated,
    rolled_back,
    would_migrate,
    would_roll_back,
)
from memctl.output.shell import shell_line, this_program
from memctl.output.tables import Output, show_records
from memctl.output.terminal import show_text
from memctl.storage.addresses import ServerAddress
from memctl.storage.migrations import Applied, require_step
from memctl.storage.schema_changes import MigratePreview, RollbackPreview, RollbackResult
from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.database import (
    open_database,
    open_existing_or_nothing,
    open_or_create_database,
    prepare_place,
)
from memctl.storage.sqlite.locking import exclusive

DryRunOption = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Show what would be done, but change nothing.")
]
SqlOption = Annotated[
    bool, typer.Option("--sql", help="Print the SQL that would be executed, but change nothing.")
]


STEPS = {"schema_step": 0, "name": 0, "state": 0, "applied_at": 1, "baseline": 2}


def migrate(
    call: GlobalOptions,
    lock: LockOptions,
    to: Annotated[
        int | None, typer.Option(metavar="N", help="Last step to apply. Defaults to all.")
    ] = None,
    dry_run: DryRunOption = False,
    sql: SqlOption = False,
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

    On PostgreSQL, the database must exist, without such a table; no backup is made.
    """
    if listing or exit_code:
        if to is not None or not backup or dry_run or sql:
            raise UsageError(
                "--list and --exit-code apply no step",
                "omit --to, --backup, --no-backup, --dry-run and --sql",
            )
        _show_steps(call, listing=listing, exit_code=exit_code)
        return
    if isinstance(call.settings.database, ServerAddress):
        migrate_on_server(call, call.settings.database, to=to, dry_run=dry_run)
        return
    if to is not None:
        require_step(to, migrations.available())
    from memctl.storage.sqlite.migrate import migrate as apply_migrations
    from memctl.storage.sqlite.migrate import preview_migration

    path, make_directory = call.file, call.settings.database_is_default
    if dry_run or sql:
        if not make_directory:
            prepare_place(path, make_directory=False)
        with open_existing_or_nothing(path) as db:
            preview = preview_migration(db, path, now=call.moment, to=to, backup=backup)
        sentences = would_migrate(preview, path) if dry_run else ()
        _show_preview(call, preview, sentences, sql=sql)
        return
    prepare_place(path, make_directory=make_directory)
    with (
        shown_progress(call, "migrate") as progress,
        exclusive(path, job="migrate", wait=lock.lock_wait),
        open_or_create_database(path, lock_wait=lock.lock_wait) as db,
    ):
        result = apply_migrations(
            db, path, now=call.moment, to=to, backup=backup, progress=progress
        )
    show_result(call, asdict(result), *migrated(result, path))


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
    dry_run: DryRunOption = False,
    sql: SqlOption = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            help="Confirm that the archive leaves the database, or a long lock.",
        ),
    ] = False,
) -> None:
    """Roll back schema steps, keeping every active memory unchanged.

    Step 003 has the tables for holds and erasures, and is refused while there are holds. Step 002
    has the archive and all other tables, whose contents then remain only in the backup that is made
    first. A command that brings the archive back is printed at the end.

    On PostgreSQL, step 002 is the last one, and no backup is made: what its tables contain is
    deleted.
    """
    if to is not None and steps is not None:
        raise UsageError("--to and --steps cannot be used together", "choose one")

    def last_step(present: Sequence[Applied]) -> int:
        return max(0, len(present) - (steps or 1)) if to is None else to

    if isinstance(call.settings.database, ServerAddress):
        roll_back_on_server(
            call, lock, call.settings.database, last_step, dry_run=dry_run, confirmed=yes
        )
        return
    from memctl.storage.sqlite.rollback import preview_rollback, roll_back

    path = call.file
    if dry_run or sql:
        with open_database(path, read_only=True) as db:
            preview = preview_rollback(
                db, path, now=call.moment, to=last_step(migrations.applied(db))
            )
        command = _command_for_archive(call, preview)
        sentences = would_roll_back(preview, path, command) if dry_run else ()
        _show_preview(call, preview, sentences, sql=sql, archive_command=command)
        return
    with (
        shown_progress(call, "rollback") as progress,
        alone_with_database(call, lock, job="rollback", progress=progress) as db,
    ):
        last = last_step(migrations.applied(db))
        result = roll_back(db, path, now=call.moment, to=last, confirmed=yes, progress=progress)
    command = _command_for_archive(call, result)
    document = {**asdict(result), "archive_command": command}
    show_result(call, document, *rolled_back(result, path, command))


def _command_for_archive(call: GlobalOptions, result: RollbackResult) -> str | None:
    """Return the command that copies the archive from the backup back into the database.

    It keeps what was written after the rollback. Returns None if there were no archived memories.
    """
    if not result.archived_in_backup or result.backup is None:
        return None
    database = call.file.absolute()
    options = ["--config", str(call.config.absolute())] if call.config else []

    def line(*words: str | Path) -> str:
        return shell_line(*this_program(), *words, *options)

    return (
        f"{line('migrate', '--db', database)}"
        f" && {line('export', '--all', '--archived-only', '--db', result.backup)}"
        f" | {line('import', '--all', '-', '--allow-invalid', '--db', database)}"
    )


def _show_preview(
    call: GlobalOptions,
    preview: MigratePreview | RollbackPreview,
    sentences: Iterable[str],
    *,
    sql: bool,
    **more: object,
) -> None:
    """Print SQL on stdout, sentences on stderr, or all of it as JSON."""
    show_result(call, {**asdict(preview), **more}, *sentences)
    if sql and not call.json:
        show_text([preview.sql])


def _show_steps(call: GlobalOptions, *, listing: bool, exit_code: bool) -> None:
    if isinstance(call.settings.database, ServerAddress):
        known, applied, pending = steps_on_server(call.settings.database)
    else:
        with open_database(call.file, read_only=True) as db:
            known, applied = migrations.available(), migrations.applied(db)
            pending = migrations.pending(db)
    present = {record.version: record for record in applied}
    rows = [
        {
            "schema_step": step.version,
            "name": step.name,
            "state": "applied" if step.version in present else "pending",
            "applied_at": present[step.version].applied_at if step.version in present else None,
            "baseline": bool(present[step.version].baseline) if step.version in present else None,
        }
        for step in known
    ]
    if listing:
        show_records(rows, STEPS, Output("json" if call.json else "table", call.moment))
    if exit_code and pending:
        verb = "is" if len(pending) == 1 else "are"
        raise SchemaError(f"{counted(len(pending), 'step')} {verb} pending", "run `memctl migrate`")
