"""Verified online backups of the whole database.

A copy is made in one read of the whole file. It has no write-ahead log, and it is checked before it
gets its final name. A manifest beside it describes it.
"""

import hashlib
import itertools
import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from typing import NamedTuple

from memctl import __version__
from memctl.errors import MemctlError, NotFoundError, UsageError
from memctl.storage.progress import NO_PROGRESS, Progress
from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.backup_copy import fill_copy, opened_backup, require_sound
from memctl.storage.sqlite.backup_list import STAMP
from memctl.storage.sqlite.database import count_rows, reachable
from memctl.storage.sqlite.files import require_place, whole_file
from memctl.storage.sqlite.identity import database_id, known_identity, present_identity
from memctl.storage.sqlite.manifests import (
    Manifest,
    manifest_path,
    manifests_in,
    read_manifest,
    to_document,
)
from memctl.storage.sqlite.ownership import create_file
from memctl.storage.sqlite.retention import Retention
from memctl.storage.sqlite.rotation import RotatedBackup, rotation
from memctl.storage.times import to_text


@dataclass(frozen=True)
class BackupResult:
    """The backup that was created, and the older ones that were removed."""

    path: str
    manifest: Manifest
    removed: list[str]
    dry_run: bool = False


@dataclass(frozen=True)
class BackupPreview:
    """The backup that would be created, and what would become of the others, newest first.

    Backups of other databases are only counted.
    """

    path: str
    removed: list[str]
    backups: list[RotatedBackup]
    of_other_databases: int
    dry_run: bool = True


class Place(NamedTuple):
    """Where backups are written: a path to which a time stamp may be added, and their series."""

    stem: Path
    stamped: bool
    series: str | None  # None: they are named after the database


def back_up(
    db: Connection,
    path: Path,
    *,
    target: Path | None,
    retention: Retention,
    now: datetime,
    progress: Progress = NO_PROGRESS,
) -> BackupResult:
    """Copy the database, with a manifest, and remove the backups that no rule keeps.

    `target` is a file or a directory, by default the directory of the database. A file name gets a
    time stamp if there are rules or `target` is a directory. The caller holds memctl's lock. Raises
    UsageError if the file exists, and MemctlError if the copy cannot be written or fails its check;
    then there is no copy, and no older one was removed.
    """
    path = path.resolve()
    place = _place(path, target, retention)
    try:
        owner = database_id(db, path)
        copy, manifest = write_backup(
            db, path, place.stem, owner=owner, stamped=place.stamped, now=now, progress=progress
        )
    except OSError as error:
        raise no_backup(place.stem.parent, error, ", or specify another place with -o") from None
    backups, _ = rotation(copy, manifest, series=place.series, retention=retention, now=now)
    removed = [Path(backup.path) for backup in backups if backup.action == "remove"]
    for file in removed:
        try:
            remove_backup(file)
        except OSError as error:
            raise MemctlError(
                f"{copy} was created, but {file.name} cannot be removed ({error.strerror})",
                "check the permissions of the directory",
            ) from None
    return BackupResult(str(copy), manifest, sorted(map(str, removed)))


def preview_backup(
    db: Connection, path: Path, *, target: Path | None, retention: Retention, now: datetime
) -> BackupPreview:
    """Return what `back_up` would do; read-only. Raises UsageError as it does."""
    path = path.resolve()
    place = _place(path, target, retention)
    identity = present_identity(db, path)
    begun = begin_manifest(path, place.stem, owner=identity.id if identity else None, now=now)
    left = [note for note, _ in unfinished(place.stem.parent, begun)]
    copy = next(free_names(place.stem, stamped=place.stamped, now=now, freed=left))
    backups, others = rotation(copy, begun, series=place.series, retention=retention, now=now)
    return BackupPreview(
        path=str(copy),
        removed=sorted(backup.path for backup in backups if backup.action == "remove"),
        backups=backups,
        of_other_databases=others,
    )


def _place(path: Path, target: Path | None, retention: Retention) -> Place:
    stem = target or path.parent
    with reachable(stem):
        named_after_database = stem.is_dir()
    if named_after_database:
        stem = stem / f"{path.name}.backup"
    stem = require_place(stem, database=path)
    return Place(
        stem,
        stamped=named_after_database or retention.is_limited,
        series=None if named_after_database else stem.name,
    )


def begin_manifest(path: Path, copy: Path, *, owner: str | None, now: datetime) -> Manifest:
    """Return the manifest of an unfinished backup of a database."""
    return Manifest(
        file=copy.name,
        database=str(path),
        created_at=to_text(now),
        size_bytes=0,
        sha256=None,
        schema_step=0,
        memories=None,
        archived=None,
        memctl_version=__version__,
        database_id=owner,
        host=os.uname().nodename,
    )


def write_backup(
    db: Connection,
    path: Path,
    stem: Path,
    *,
    owner: str | None,
    stamped: bool,
    now: datetime,
    progress: Progress = NO_PROGRESS,
) -> tuple[Path, Manifest]:
    """Copy the database and describe the copy; return the copy and its manifest.

    The name is reserved first, so that several machines can write to one directory. `owner` is the
    identity of the database. The caller holds memctl's lock.
    """
    begun = begin_manifest(path, stem, owner=owner, now=now)
    remove_unfinished(stem.parent, begun)
    copy = reserve_name(stem, begun, stamped=stamped, now=now)
    try:
        with whole_file(copy, owner_of=path) as draft:
            fill_copy(db, draft, progress)
            progress.phase("computing the checksum")
            manifest = describe(draft.path, replace(begun, file=copy.name))
        try:
            with whole_file(manifest_path(copy), owner_of=path) as draft:
                draft.write([to_document(manifest)])
        except BaseException:
            copy.unlink()
            raise
    except BaseException:
        manifest_path(copy).unlink(missing_ok=True)
        raise
    return copy, manifest


def free_names(
    stem: Path, *, stamped: bool, now: datetime, freed: Collection[Path] = ()
) -> Iterator[Path]:
    """Yield free names for a backup; a stamped one gets a number if its second is taken.

    The names of the manifests in `freed` count as free. Raises UsageError if a name without a time
    stamp is taken.
    """
    wanted = stem.with_name(f"{stem.name}-{now:{STAMP}}") if stamped else stem
    for number in itertools.count(1):
        numbered = stamped and number > 1
        copy = wanted.with_name(f"{wanted.name}-{number}") if numbered else wanted
        taken = [file for file in (copy, manifest_path(copy)) if os.path.lexists(file)]
        if not taken or manifest_path(copy) in freed:
            yield copy
        elif not stamped:
            raise UsageError(f"{taken[0]} already exists", "specify another file, or use --keep N")


def reserve_name(stem: Path, begun: Manifest, *, stamped: bool, now: datetime) -> Path:
    """Return the name of a new backup, after writing its initial manifest.

    Raises UsageError if a name without a time stamp is taken.
    """
    for copy in free_names(stem, stamped=stamped, now=now):
        note = manifest_path(copy)
        with suppress(FileExistsError):  # another machine was faster
            descriptor = create_file(note, like=Path(begun.database))
            try:
                os.write(descriptor, to_document(replace(begun, file=copy.name)).encode("ascii"))
            except BaseException:
                note.unlink()
                raise
            finally:
                os.close(descriptor)
            return copy
    raise AssertionError("there is always another number")


def unfinished(directory: Path, begun: Manifest) -> Iterator[tuple[Path, Manifest]]:
    """Yield the manifests of this database's backups that were interrupted, or are being made."""
    for note, manifest in manifests_in(directory):
        if manifest.sha256 is None and manifest.is_of_same_database(begun):
            yield note, manifest


def remove_unfinished(directory: Path, begun: Manifest) -> None:
    """Remove the files of interrupted backups of this database."""
    for note, manifest in unfinished(directory, begun):
        draft = rf"\.{re.escape(manifest.file)}(\.json)?\.[a-z0-9_]{{8}}(-[a-z]+)?"
        for file in directory.iterdir():
            if re.fullmatch(draft, file.name) or file.name == manifest.file:
                file.unlink(missing_ok=True)
        note.unlink(missing_ok=True)


def remove_backup(file: Path) -> None:
    """Remove a backup and its manifest."""
    file.unlink()
    manifest_path(file).unlink()


def verify(file: Path) -> Manifest:
    """Compare a backup with its manifest, and let SQLite check it; read-only.

    Raises NotFoundError if either is missing, and MemctlError if they differ.
    """
    manifest = verify_checksum(file)
    if manifest is None:
        raise NotFoundError(
            f"{file} has no manifest: no .json file in its directory has its checksum",
            "`memctl backup` did not create or complete it, or it was moved or changed",
        )
    with opened_backup(file) as copy:
        require_sound(copy, f"the backup {file}")
    return manifest


def verify_checksum(file: Path) -> Manifest | None:
    """Compare a backup with its manifest, and return the manifest; None if there is none.

    Raises NotFoundError if the file does not exist, and MemctlError if its content has changed.
    """
    found = find_manifest(file)
    return found[1] if found else None


def find_manifest(file: Path) -> tuple[Path, Manifest] | None:
    """Return the manifest that describes a file, and its path; None if there is none.

    The manifest of a renamed backup has the new name or the old one. Raises the errors of
    `verify_checksum`.
    """
    with reachable(file):
        if not file.is_file():
            raise NotFoundError(f"there is no backup {file}", "check the path")
        own = read_manifest(manifest_path(file))
        if own and own.sha256:
            candidates = [(manifest_path(file), own)]
        else:
            size = file.stat().st_size
            candidates = [found for found in manifests_in(file.parent) if found[1].has_size(size)]
        checksum = sha256_of(file) if candidates else None
        for note, manifest in candidates:
            if manifest.is_of_file(file.stat().st_size, checksum):
                return note, manifest
        for note, manifest in candidates:
            if note == manifest_path(file) or not file.with_name(manifest.file).exists():
                raise MemctlError(
                    f"{file} was changed after the backup: its SHA-256 is {checksum}, not"
                    f" {manifest.sha256} as recorded in {note.name}",
                    "use another backup",
                )
    return None


def back_up_before(
    action: str, db: Connection, path: Path, *, now: datetime, progress: Progress = NO_PROGRESS
) -> Path:
    """Copy the database into its directory, named after the action that follows; return the copy.

    The caller holds memctl's lock. Raises MemctlError if the copy cannot be written or fails its
    check; then there is no copy.
    """
    path = path.resolve()
    stem = _stem_before(action, path)
    known = known_identity(db)
    owner = known.id if known else None
    try:
        return write_backup(db, path, stem, owner=owner, stamped=True, now=now, progress=progress)[
            0
        ]
    except OSError as error:
        way_out = ", or use --no-backup" if action == "migrate" else ""
        raise no_backup(path.parent, error, way_out) from None


def place_before(action: str, path: Path, *, now: datetime) -> Path:
    """Return the name that the copy of `back_up_before` would have."""
    return next(free_names(_stem_before(action, path.resolve()), stamped=True, now=now))


def _stem_before(action: str, path: Path) -> Path:
    return path.with_name(f"{path.name}.before-{action}")


def no_backup(directory: Path, error: OSError, way_out: str) -> MemctlError:
    """Return the error for a backup that cannot be written."""
    return MemctlError(
        f"cannot write a backup to {directory} ({error.strerror})",
        f"check its free space and permissions{way_out}",
    )


def describe(copy: Path, begun: Manifest) -> Manifest:
    """Return the manifest of a finished copy."""
    with opened_backup(copy) as backup:
        return replace(
            begun,
            size_bytes=copy.stat().st_size,
            sha256=sha256_of(copy),
            schema_step=migrations.schema_step(backup),
            memories=count_rows(backup, "agent_memory"),
            archived=count_rows(backup, "archived_memories"),
        )


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, as `sha256sum` prints it."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
