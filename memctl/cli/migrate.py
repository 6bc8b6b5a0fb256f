"""Commands for the schema: migrate, rollback."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memctl.cli.options import GlobalOptions, LockOptions
from memctl.cli.session import alone_with_database, show_result, shown_progress
from memctl.errors import SchemaError, UsageError, counted
from memctl.output.shell import shell_line, this_program
from memctl.output.tables import Output, show_records
from memctl.output.terminal import show_text
from memctl.storage.addresses import ServerAddress
from memctl.storage.migrations import require_step
from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.database import (
    Connection,
    open_database,
    open_existing_or_nothing,
    open_or_create_database,
    prepare_place,
)
from memctl.storage.sqlite.locking import exclusive

if TYPE_CHECKING:  # sqlite-utils is slow to import
    from memctl.storage.sqlite.migrate import MigratePreview, MigrateResult
    from memctl.storage.sqlite.rollback import RollbackPreview, RollbackResult


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
    """
    if listing or exit_code:
        if to is not None or not backup or dry_run or sql:
            raise UsageError(
                "--list and --exit-code apply no step",
                "omit --to, --backup, --no-backup, --dry-run and --sql",
            )
        _show_steps(call, listing=listing, exit_code=exit_code)
        return
    from memctl.storage.sqlite.migrate import migrate as apply_migrations
    from memctl.storage.sqlite.migrate import preview_migration

    if to is not None:
        require_step(to, migrations.available())
    if isinstance(call.settings.database, ServerAddress):
        _migrate_on_server(call, call.settings.database)
        return
    path, make_directory = call.file, call.settings.database_is_default
    if dry_run or sql:
        if not make_directory:
            prepare_place(path, make_directory=False)
        with open_existing_or_nothing(path) as db:
            preview = preview_migration(db, path, now=call.moment, to=to, backup=backup)
        sentences = _would_migrate(preview, path) if dry_run else ()
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
    show_result(call, asdict(result), *_migrated(result, path))


def _migrated(result: "MigrateResult", path: Path) -> Iterator[str]:
    """Yield the sentences about the steps that were applied, and their consequences."""
    if not result.applied:
        yield f"migrate: {path} is up to date"
        return
    if result.created:
        yield f"migrate: created {path}"
    yield f"migrate: applied {', '.join(result.applied)} to {path}"
    if result.baseline:
        yield "migrate: agent_memory already existed and was kept unchanged"
    yield from _consequences(result)
    if result.backup:
        yield f"migrate: the previous database was saved as {result.backup}"


def _would_migrate(preview: "MigratePreview", path: Path) -> Iterator[str]:
    """Yield the sentences about what a migration would do."""
    if not preview.applied:
        yield f"migrate: {path} is up to date"
        return
    if preview.created:
        yield f"migrate: would create {path}"
    if preview.backup:
        yield f"migrate: would first save the database as {preview.backup}"
    elif not preview.created:
        yield "migrate: would make no backup"
    yield f"migrate: would apply {', '.join(preview.applied)} to {path}"
    if preview.baseline:
        yield "migrate: agent_memory already exists and would be kept unchanged"
    if preview.adds:
        yield f"migrate: would add to the schema: {_by_kind(preview.adds)}"
    yield from _consequences(preview)


def _by_kind(objects: Iterable[str]) -> str:
    """Return objects of a schema, such as `table a`, as a text such as `tables a, b; index c`."""
    names: dict[str, list[str]] = {}
    for kind, _, name in (text.partition(" ") for text in objects):
        names.setdefault(kind, []).append(name)
    plurals = {"index": "indexes"}
    return "; ".join(
        f"{kind if len(some) == 1 else plurals.get(kind, f'{kind}s')} {', '.join(some)}"
        for kind, some in names.items()
    )


def _consequences(result: "MigrateResult") -> Iterator[str]:
    had_memories = result.baseline or "001_agent_memory" not in result.applied
    if had_memories and "002_memory_persistence" in result.applied:
        yield (
            "migrate: the first `memctl decay` will charge all idle time up to now; preview it with"
            " --dry-run, or set `since` under [decay] in the configuration"
        )
    if result.triggers:
        triggers = ", ".join(result.triggers)
        yield f"migrate: triggers of other programs also fire on changes by memctl: {triggers}"


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
    """
    from memctl.storage.sqlite.rollback import preview_rollback, roll_back

    if to is not None and steps is not None:
        raise UsageError("--to and --steps cannot be used together", "choose one")
    path = call.file

    def last_step(db: Connection) -> int:
        return max(0, len(migrations.applied(db)) - (steps or 1)) if to is None else to

    if dry_run or sql:
        with open_database(path, read_only=True) as db:
            preview = preview_rollback(db, path, now=call.moment, to=last_step(db))
        command = _command_for_archive(call, preview)
        sentences = _would_roll_back(preview, path, command) if dry_run else ()
        _show_preview(call, preview, sentences, sql=sql, archive_command=command)
        return
    with (
        shown_progress(call, "rollback") as progress,
        alone_with_database(call, lock, job="rollback", progress=progress) as db,
    ):
        result = roll_back(
            db, path, now=call.moment, to=last_step(db), confirmed=yes, progress=progress
        )
    command = _command_for_archive(call, result)
    document = {**asdict(result), "archive_command": command}
    show_result(call, document, *_rolled_back(result, path, command))


def _rolled_back(result: "RollbackResult", path: Path, command: str | None) -> Iterator[str]:
    """Yield the sentences about the steps that were rolled back."""
    if not result.rolled_back:
        yield f"rollback: {path} has no steps to roll back"
        return
    yield f"rollback: rolled back {', '.join(result.rolled_back)}"
    yield f"rollback: the previous database{_with(result)} was saved as {result.backup}"
    if result.tombstones:
        yield f"rollback: kept {_kept(result)}"
    if command:
        yield f"rollback: to bring the archive back, run: {command}"


def _migrate_on_server(call: GlobalOptions, address: ServerAddress) -> None:
    from memctl.storage.postgresql.database import open_database as open_on_server
    from memctl.storage.postgresql.migrate import migrate

    with open_on_server(address) as db:
        migrate(db, now=call.moment)


def _would_roll_back(preview: "RollbackPreview", path: Path, command: str | None) -> Iterator[str]:
    """Yield the sentences about what a rollback would do."""
    if not preview.rolled_back:
        yield f"rollback: {path} has no steps to roll back"
        return
    yield f"rollback: would first save the database{_with(preview)} as {preview.backup}"
    yield f"rollback: would roll back {', '.join(preview.rolled_back)}"
    if preview.removes:
        yield f"rollback: would remove from the schema: {_by_kind(preview.removes)}"
    if preview.to_confirm:
        yield f"rollback: would require --yes: {preview.to_confirm}"
    if preview.tombstones:
        yield f"rollback: would keep {_kept(preview)}"
    if command:
        yield f"rollback: this command would then bring the archive back: {command}"


def _with(result: "RollbackResult") -> str:
    """Return what only the backup has, as a part of a sentence."""
    archived = result.archived_in_backup
    return f", with {counted(archived, 'archived memory')}," if archived else ""


def _kept(result: "RollbackResult") -> str:
    """Return what the database keeps, as a part of a sentence."""
    return (
        f"{counted(result.tombstones, 'tombstone')}, by which later imports and restores recognize"
        " what was erased; `DROP TABLE memory_tombstones` removes them"
    )


def _command_for_archive(call: GlobalOptions, result: "RollbackResult") -> str | None:
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
    preview: "MigratePreview | RollbackPreview",
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
    with open_database(call.file, read_only=True) as db:
        present = {record.version: record for record in migrations.applied(db)}
        pending = migrations.pending(db)
    rows = [
        {
            "schema_step": step.version,
            "name": step.name,
            "state": "applied" if step.version in present else "pending",
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
