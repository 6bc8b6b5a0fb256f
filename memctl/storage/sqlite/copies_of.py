"""The copies of a database that memctl has made, and which of them can be rewritten.

A copy belongs to a database by its identity, as in `backup --list`. One that was made before the
database had an identity belongs to it by its path and its machine.
"""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from typing import NamedTuple

from memctl.errors import RefusedError
from memctl.storage.sqlite.backup import begin_manifest, find_manifest
from memctl.storage.sqlite.backup_copy import opened_backup
from memctl.storage.sqlite.backup_list import FoundBackup, find_backups
from memctl.storage.sqlite.database import reachable
from memctl.storage.sqlite.identity import known_identity, present_identity
from memctl.storage.sqlite.manifests import Manifest


class CopyOfDatabase(NamedTuple):
    """A file that is, or may be, a copy of a database."""

    path: str
    left_because: str | None = None  # None: it can be rewritten


def copies_beside(db: Connection, path: Path, *, now: datetime) -> list[CopyOfDatabase]:
    """Return the copies of a database in its directory, newest first; reads only.

    That includes files of which it is unknown whether they are. Raises MemctlError if the directory
    cannot be read.
    """
    path = path.resolve()
    database = _described(db, path, now=now)
    return [
        CopyOfDatabase(str(backup.file), _why_left(backup, database))
        for backup in find_backups(path.parent)
        if backup.is_of(database) is not False or _is_of_same_place(backup.manifest, database)
        if backup.size_bytes is not None
    ]


def named_copies(
    db: Connection, path: Path, files: Sequence[Path], *, now: datetime
) -> list[CopyOfDatabase]:
    """Return the copies that a user has named.

    Raises NotFoundError or MemctlError for one that is missing or damaged, and RefusedError for one
    that is in use or of another database.
    """
    database = _described(db, path.resolve(), now=now)
    found: dict[str, CopyOfDatabase] = {}
    for file in files:
        described = find_manifest(file)
        with reachable(file):
            place = file.resolve()
        if is_in_use(place) or place.samefile(path):
            raise RefusedError(
                f"{file} is a database in use, not a backup", "name a backup; nothing was changed"
            )
        if not _is_copy(place, described[1] if described else None, database):
            raise RefusedError(
                f"{file} is not a copy of this database",
                "its memories may be others of the same names; nothing was changed",
            )
        found[str(place)] = CopyOfDatabase(str(place))
    return list(found.values())


def is_in_use(file: Path) -> bool:
    """Return whether SQLite has, or had, a database open that it may still have to recover."""
    return any(file.with_name(f"{file.name}{end}").exists() for end in ("-wal", "-journal"))


def _described(db: Connection, path: Path, *, now: datetime) -> Manifest:
    """Return a manifest that names the database."""
    identity = present_identity(db, path)
    return begin_manifest(path, path, owner=identity.id if identity else None, now=now)


def _is_of_same_place(manifest: Manifest | None, database: Manifest) -> bool:
    return manifest is not None and (manifest.host, manifest.database) == (
        database.host,
        database.database,
    )


def _why_left(backup: FoundBackup, database: Manifest) -> str | None:
    """Return why a copy beside the database is not rewritten; None if it can be."""
    manifest, of_this = backup.manifest, backup.is_of(database)
    reasons = {
        "it has no manifest": manifest is None,
        "the database had another identity": of_this is False,
        "it is unknown whether it is of this database": (
            of_this is None and not _is_of_same_place(manifest, database)
        ),
        "it is unfinished": backup.verified == "unfinished",
        "its size has changed": backup.verified == "size_changed",
        "it is not readable": backup.verified == "unreadable",
        "it is a symbolic link": backup.file.is_symlink(),
        "it has another name, too": _has_other_names(backup.file),
        "it is in use": is_in_use(backup.file),
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def _has_other_names(file: Path) -> bool:
    """Return whether there is a hard link to a file, which would keep the old content."""
    try:
        return os.lstat(file).st_nlink > 1
    except OSError:
        return False


def _is_copy(file: Path, manifest: Manifest | None, database: Manifest) -> bool:
    """Return whether a named file is a copy of the database, or was made at its path."""
    if manifest is not None:
        return manifest.is_of_same_database(database) or _is_of_same_place(manifest, database)
    with opened_backup(file) as copy:
        identity = known_identity(copy)
    return identity is not None and identity.id == database.database_id
