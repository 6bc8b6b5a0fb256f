"""Which backups a new one makes superfluous, and why the others are kept.

A backup counts, and can be removed, only if its manifest and its file identify it as one of the
same database and series. The new one is always kept, and so are those with a time in the future.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from memctl.storage.sqlite.backup_list import STAMPED, FoundBackup, find_backups
from memctl.storage.sqlite.manifests import Manifest, manifest_path
from memctl.storage.sqlite.retention import Retention
from memctl.storage.times import to_text


@dataclass(frozen=True)
class RotatedBackup:
    """What becomes of a backup, and why."""

    file: str
    path: str
    created_at: str | None
    kind: str
    action: Literal["create", "keep", "remove"]
    reasons: list[str]


def rotation(
    copy: Path, made: Manifest, *, series: str | None, retention: Retention, now: datetime
) -> tuple[list[RotatedBackup], int]:
    """Decide on a new backup and the others in its directory, newest first; read-only.

    Backups of other databases are left out; return their number, too. `made` describes the new
    backup. `series` is the name of its series without the time stamp, or None if its backups are
    named after the database.
    """
    found = [backup for backup in find_backups(copy.parent) if backup.file != copy]
    alone = {backup.file: _why_left_alone(backup, made, series=series, now=now) for backup in found}
    counted = [backup for backup in found if alone[backup.file] is None]
    new, *rules = retention.reasons([now, *(backup.created or now for backup in counted)])
    kept_by = dict(zip((backup.file for backup in counted), rules, strict=True))
    decided = [
        RotatedBackup(
            file=copy.name,
            path=str(copy),
            created_at=made.created_at,
            kind="backup",
            action="create",
            reasons=["new", *new],
        )
    ]
    others = 0
    for backup in found:
        if backup.is_of(made) is False:
            others += 1
            continue
        left_alone = alone[backup.file]
        reasons = kept_by[backup.file] if left_alone is None else [left_alone]
        if not retention.is_limited:
            reasons = ["no --keep option"]
        decided.append(
            RotatedBackup(
                file=backup.file.name,
                path=str(backup.file),
                created_at=to_text(backup.created) if backup.created else None,
                kind=backup.kind,
                action="keep" if reasons else "remove",
                reasons=reasons or ["kept by no rule"],
            )
        )
    return decided, others


def _why_left_alone(
    backup: FoundBackup, made: Manifest, *, series: str | None, now: datetime
) -> str | None:
    """Return why a rotation neither counts nor removes a backup; None if it does."""
    manifest, verified = backup.manifest, backup.verified
    if manifest is None:
        return "has no manifest"
    stem = series or f"{Path(manifest.database).name}.backup"
    reasons = {
        f"made {backup.kind.replace('-', ' ')}": backup.kind != "backup",
        "does not identify its database": not manifest.is_of_same_database(made),
        "its database is another file": _is_of_another_file(manifest, made),
        "unfinished": verified == "unfinished",
        "its file is missing": verified == "missing",
        "a symbolic link": backup.file.is_symlink() or manifest_path(backup.file).is_symlink(),
        "was renamed": backup.file.name != manifest.file,
        "has another name": not re.fullmatch(f"{re.escape(stem)}-{STAMPED}", backup.file.name),
        "has a time in the future": manifest.is_from_future(now=now),
        "its size has changed": verified == "size_changed",
        "is not readable": verified == "unreadable",
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def _is_of_another_file(manifest: Manifest, made: Manifest) -> bool:
    """Return whether the file of a backup's database exists and is not that of the new backup.

    The copies of a database that was moved before have one identity, and none replaces another.
    """
    if manifest.host != made.host or manifest.database == made.database:
        return False
    try:
        return not Path(manifest.database).samefile(made.database)
    except (FileNotFoundError, NotADirectoryError):
        return False  # moved
    except OSError:
        return True  # unknown
