"""The command for backups: backup."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from memctl.cli.options import GlobalOptions, LockOptions, output_option
from memctl.cli.session import alone_with_database, show_result, shown_progress
from memctl.errors import UsageError, counted
from memctl.output.terminal import show_document, show_notice


def backup(
    call: GlobalOptions,
    lock: LockOptions,
    output: Annotated[
        Path | None,
        output_option("Backup file or directory. Defaults to the directory of the database."),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Keep the newest N backups and remove older ones."),
    ] = None,
    verify: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Verify this backup instead of making one.")
    ] = None,
    restore: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Restore the database from this backup."),
    ] = None,
) -> None:
    """Back up the database online, or verify or restore a backup."""
    from memctl.storage.sqlite.backup import back_up
    from memctl.storage.sqlite.backup import verify as verify_backup
    from memctl.storage.sqlite.restore_backup import restore_backup

    making = output is not None or keep is not None
    if (verify is not None) + (restore is not None) + making > 1:
        raise UsageError(
            "--verify and --restore cannot be combined with another action", "choose one"
        )
    if verify is not None:
        with shown_progress(call, "backup") as progress:
            progress.phase("checking the backup")
            manifest = verify_backup(verify)
        show_result(
            call,
            {"path": str(verify), "manifest": asdict(manifest)},
            f"backup: {verify} is valid; it was created at {manifest.created_at}",
        )
        return
    path = call.settings.database
    with (
        shown_progress(call, "backup") as progress,
        alone_with_database(call, lock, job="backup", progress=progress) as db,
    ):
        if restore is not None:
            before = restore_backup(
                db,
                path,
                restore,
                now=call.moment,
                lock_wait=lock.lock_wait,
                progress=progress,
            )
            show_result(
                call,
                {"restored": str(restore), "before": str(before)},
                f"backup: {path} was restored from {restore}",
                f"backup: the previous database was saved as {before}",
            )
            return
        result = back_up(db, path, target=output, keep=keep, now=call.moment, progress=progress)
    if call.json:
        show_document(asdict(result))
        return
    sentence = f"backup: created {result.path}"
    if result.removed:
        sentence += f", removed {counted(len(result.removed), 'older backup')}"
    show_notice(sentence, quiet=call.quiet, only_on_terminal=True)
