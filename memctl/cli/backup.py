"""The command for backups: backup."""

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memctl.cli.options import GlobalOptions, LockOptions, OutputOptions, output_option
from memctl.cli.session import alone_with_database, show_result, shown_progress
from memctl.errors import MemctlError, NoDatabaseError, UsageError, counted
from memctl.output.tables import show_records
from memctl.output.terminal import show_document, show_notice
from memctl.storage.sqlite.database import open_database, reachable

if TYPE_CHECKING:
    from memctl.storage.sqlite.backup import BackupPreview
    from memctl.storage.sqlite.manifests import Manifest
    from memctl.storage.sqlite.restore_backup import RestoredBackup
    from memctl.storage.sqlite.retention import Retention

LIST = {
    "file": 0,
    "created_at": 0,
    "size_bytes": 1,
    "verified": 2,
    "this_database": 3,
    "memories": 4,
    "archived": 5,
    "database": 6,
}
PREVIEW = {"action": 0, "file": 0, "created_at": 2, "reasons": 1}


def _keep_option(what: str) -> Any:
    return typer.Option(metavar="N", min=1, help=what)


def backup(
    call: GlobalOptions,
    lock: LockOptions,
    form: OutputOptions,
    output: Annotated[
        Path | None,
        output_option("Backup file or directory. Defaults to the directory of the database."),
    ] = None,
    keep: Annotated[
        int | None, _keep_option("Keep the newest N backups; delete those that no rule keeps.")
    ] = None,
    keep_daily: Annotated[
        int | None, _keep_option("Keep the newest backup of each of the newest N days.")
    ] = None,
    keep_weekly: Annotated[
        int | None, _keep_option("Keep the newest backup of each of the newest N weeks.")
    ] = None,
    keep_monthly: Annotated[
        int | None, _keep_option("Keep the newest backup of each of the newest N months.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", "-n", help="Show which backups would be kept, but do nothing."),
    ] = False,
    listing: Annotated[
        bool, typer.Option("--list", help="List the backups in the directory, newest first.")
    ] = False,
    verify: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Verify this backup instead of making one.")
    ] = None,
    restore: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Restore the database from this backup."),
    ] = None,
) -> None:
    """Back up the database online, or list, verify or restore backups.

    After a new backup is made, rules such as --keep-daily 7 delete older backups of this database.
    A backup is kept if any rule keeps it; days, weeks and months without a backup are not counted.
    """
    from memctl.storage.sqlite.backup import back_up
    from memctl.storage.sqlite.backup import verify as verify_backup
    from memctl.storage.sqlite.backup_list import BackupRecord
    from memctl.storage.sqlite.manifests import to_record
    from memctl.storage.sqlite.restore_backup import restore_backup
    from memctl.storage.sqlite.retention import Retention

    retention = Retention(last=keep, daily=keep_daily, weekly=keep_weekly, monthly=keep_monthly)
    rotating = retention.is_limited or dry_run
    making = rotating or (output is not None and not listing)
    if (verify is not None) + (restore is not None) + listing + making > 1:
        raise UsageError(
            "--list, --verify and --restore cannot be combined with another action", "choose one"
        )
    if form.is_chosen and not (listing or dry_run):
        raise UsageError("there is no list to print", "use --list or --dry-run")
    path = call.file
    if listing:
        chosen = form.output(call, [field.name for field in fields(BackupRecord)])
        show_records(_listed(call, output), LIST, chosen)
        return
    if dry_run:
        _show_preview(call, form, target=output, retention=retention)
        return
    if verify is not None:
        with shown_progress(call, "backup") as progress:
            progress.phase("checking the backup")
            manifest = verify_backup(verify)
        show_result(
            call,
            {"path": str(verify), "manifest": to_record(manifest)},
            f"backup: {verify} is valid; it was created at {manifest.created_at}",
        )
        return
    with (
        shown_progress(call, "backup") as progress,
        alone_with_database(call, lock, job="backup", progress=progress) as db,
    ):
        if restore is not None:
            restored = restore_backup(
                db,
                path,
                restore,
                now=call.moment,
                lock_wait=lock.lock_wait,
                progress=progress,
            )
            _show_restored(call, restored, restore)
            return
        result = back_up(
            db,
            path,
            target=output,
            retention=retention,
            now=call.moment,
            progress=progress,
        )
    if call.json:
        show_document({**asdict(result), "manifest": to_record(result.manifest)})
        return
    sentence = f"backup: created {result.path}"
    if result.removed:
        sentence += f", removed {counted(len(result.removed), 'older backup')}"
    show_notice(sentence, quiet=call.quiet, only_on_terminal=True)


def _show_restored(call: GlobalOptions, restored: "RestoredBackup", file: Path) -> None:
    """Print from which backup the database was restored, and what was left out of it."""
    path, left_out = call.file, restored.left_out
    sentences = [
        f"backup: {path} was restored from {file}",
        f"backup: the previous database was saved as {restored.before}",
    ]
    if left_out.total:
        sentences.append(
            f"backup: what was erased or redacted since then was left out: {left_out}; {file} still"
            " contains it"
        )
    show_result(
        call,
        {
            "database": str(path),
            "restored_from": str(file),
            "backup": str(restored.before),
            "removed_memories": left_out.memories,
            "removed_rows": left_out.rows.total(),
            "redacted_rows": left_out.redacted.total(),
        },
        *sentences,
    )


def _listed(call: GlobalOptions, target: Path | None) -> list[dict[str, Any]]:
    """Return the backups in a directory, even if the database is lost."""
    from memctl.storage.sqlite.backup_list import list_backups

    path = call.file
    with reachable(target or path):
        directory = target or path.resolve().parent
        exists = directory.is_dir()
    if not exists:
        missing = f"there is no directory {directory}"
        if target is None:
            raise NoDatabaseError(missing, "check --db")
        raise UsageError(missing, "specify a directory with -o")
    backups: Iterable[Any]
    try:
        backups = list_backups(directory, _described_database(call))
    except MemctlError as error:
        show_notice(
            f"backup: {error.message}; the list does not show which backups belong to it",
            quiet=call.quiet,
        )
        backups = list_backups(directory, None)
    return [asdict(backup) for backup in backups]


def _described_database(call: GlobalOptions) -> "Manifest":
    """Return a manifest that names the database."""
    from memctl.storage.sqlite.backup import begin_manifest
    from memctl.storage.sqlite.identity import present_identity

    path = call.file.resolve()
    with open_database(call.file, read_only=True) as db:
        identity = present_identity(db, path)
    return begin_manifest(path, path, owner=identity.id if identity else None, now=call.moment)


def _show_preview(
    call: GlobalOptions, form: OutputOptions, *, target: Path | None, retention: "Retention"
) -> None:
    """Print what would happen to each backup, as a table unless another format is chosen."""
    from memctl.storage.sqlite.backup import preview_backup
    from memctl.storage.sqlite.rotation import RotatedBackup

    path = call.file
    with open_database(path, read_only=True) as db:
        preview = preview_backup(db, path, target=target, retention=retention, now=call.moment)
    if call.json:
        show_document(asdict(preview))
        return
    chosen = form.output(call, [field.name for field in fields(RotatedBackup)])
    if chosen.form == "json":
        chosen = chosen._replace(form="table")
    rows = [asdict(backup) for backup in preview.backups]
    if chosen.form == "csv":
        rows = [{**row, "reasons": ", ".join(row["reasons"])} for row in rows]
    show_records(rows, PREVIEW, chosen)
    show_notice(_sentence(preview), quiet=call.quiet)


def _sentence(preview: "BackupPreview") -> str:
    kept = sum(backup.action == "keep" for backup in preview.backups)
    sentence = (
        f"backup: would create {preview.path}, remove"
        f" {counted(len(preview.removed), 'backup')} and keep {kept:,}"
    )
    if preview.of_other_databases:
        others = counted(preview.of_other_databases, "backup")
        sentence += f"; {others} of other databases would be left alone"
    return sentence
