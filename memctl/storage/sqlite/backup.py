"""Verified online backups of the whole database.

A copy is made in one read of the whole file. It has no write-ahead log, and it is checked before it
gets its final name. A manifest beside it describes it.
"""

import hashlib
import itertools
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection

from memctl import __version__
from memctl.errors import MemctlError, NoDatabaseError, NotFoundError, UsageError
from memctl.storage.progress import NOBODY, Progress
from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.database import count_rows, one_view, reachable
from memctl.storage.sqlite.files import Draft, require_place, whole_file
from memctl.storage.sqlite.identity import database_id, known_identity
from memctl.storage.sqlite.manifests import (
    Manifest,
    manifest_path,
    manifests_in,
    read_manifest,
    to_document,
)
from memctl.storage.sqlite.ownership import create_file
from memctl.storage.sqlite.sqlite_errors import translate_errors
from memctl.storage.times import to_text

# The header of a copied database in WAL mode requires a write-ahead log.
# https://www.sqlite.org/fileformat.html#file_format_version_numbers
HEADER_VERSIONS = 18  # bytes
ROLLBACK_JOURNAL = b"\1\1"

PAGES_AT_ONCE = 4096  # between reports of the progress

STAMP = "%Y%m%dT%H%M%SZ"
STAMPED = "[0-9]{8}T[0-9]{6}Z(-[0-9]+)?"


@dataclass(frozen=True)
class BackupResult:
    """The backup that was created, and the older ones that were removed."""

    path: str
    manifest: Manifest
    removed: list[str]


def back_up(
    db: Connection,
    path: Path,
    *,
    target: Path | None,
    keep: int | None,
    now: datetime,
    progress: Progress = NOBODY,
) -> BackupResult:
    """Copy the database, with a manifest, and remove all but the newest `keep` such backups.

    `target` is a file or a directory, by default the directory of the database. A file name gets a
    time stamp if `keep` is given or `target` is a directory. The caller holds memctl's lock. Raises
    UsageError if the file exists, and MemctlError if the copy cannot be written or fails its check;
    then there is no copy, and no older one was removed.
    """
    path = path.resolve()
    stem = target or path.parent
    with reachable(stem):
        named_after_database = stem.is_dir()
        if named_after_database:
            stem = stem / f"{path.name}.backup"
    stem = require_place(stem, database=path)
    stamped = named_after_database or keep is not None
    try:
        owner = database_id(db, path)
        copy, manifest = write_backup(
            db, path, stem, owner=owner, stamped=stamped, now=now, progress=progress
        )
        removed = []
        if keep is not None:
            series = None if named_after_database else stem.name
            removed = remove_old(copy, manifest, series=series, keep=keep, now=now)
    except OSError as error:
        raise no_backup(stem.parent, error, ", or specify another place with -o") from None
    return BackupResult(str(copy), manifest, [str(file) for file in removed])


def write_backup(
    db: Connection,
    path: Path,
    stem: Path,
    *,
    owner: str | None,
    stamped: bool,
    now: datetime,
    progress: Progress = NOBODY,
) -> tuple[Path, Manifest]:
    """Copy the database and describe the copy; return the copy and its manifest.

    The name is reserved first, so that several machines can write to one directory. `owner` is the
    identity of the database. The caller holds memctl's lock.
    """
    begun = Manifest(
        file=stem.name,
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


def reserve_name(stem: Path, begun: Manifest, *, stamped: bool, now: datetime) -> Path:
    """Return the name of a new backup, after writing its initial manifest.

    Raises UsageError if a name without a time stamp is taken.
    """
    wanted = stem.with_name(f"{stem.name}-{now:{STAMP}}") if stamped else stem
    for number in itertools.count(1):
        copy = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        note = manifest_path(copy)
        try:
            if os.path.lexists(copy):
                raise FileExistsError
            descriptor = create_file(note, like=Path(begun.database))
        except FileExistsError:
            if stamped:
                continue
            taken = copy if os.path.lexists(copy) else note
            raise UsageError(
                f"{taken} already exists", "specify another file, or use --keep N"
            ) from None
        try:
            os.write(descriptor, to_document(replace(begun, file=copy.name)).encode("ascii"))
        except BaseException:
            note.unlink()
            raise
        finally:
            os.close(descriptor)
        return copy
    raise AssertionError("there is always another number")


def remove_unfinished(directory: Path, begun: Manifest) -> None:
    """Remove the files of killed backups of this database."""
    for note, manifest in manifests_in(directory):
        if manifest.sha256 is None and manifest.is_of_same_database(begun):
            draft = rf"\.{re.escape(manifest.file)}(\.json)?\.[a-z0-9_]{{8}}(-[a-z]+)?"
            for file in directory.iterdir():
                if re.fullmatch(draft, file.name) or file.name == manifest.file:
                    file.unlink(missing_ok=True)
            note.unlink(missing_ok=True)


def remove_old(
    newest: Path, made: Manifest, *, series: str | None, keep: int, now: datetime
) -> list[Path]:
    """Remove the oldest backups of a database until `keep` are left; return those removed.

    Only backups of one series count: they have the same name except for the time stamp, or are all
    named after the database. A backup counts and is removed only if its manifest names this
    database, its file and its size. The newest one, which has just been verified, is always kept,
    and so are those with a time in the future.
    """
    found = []
    for note, manifest in manifests_in(newest.parent):
        file = note.with_name(note.name.removesuffix(".json"))
        stem = series or f"{Path(manifest.database).name}.backup"
        if (
            file != newest
            and file.name == manifest.file
            and re.fullmatch(f"{re.escape(stem)}-{STAMPED}", file.name)
            and manifest.is_of_same_database(made)
            and not manifest.is_from_future(now=now)
            and file.is_file()
            and file.stat().st_size == manifest.size_bytes
        ):
            found.append((manifest.created_at, file))
    old = sorted(found, reverse=True)[keep - 1 :]
    for _, file in old:
        remove_backup(file)
    return sorted(file for _, file in old)


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

    The manifest of a renamed backup has the new name or the old one. Raises NotFoundError if the
    file does not exist, and MemctlError if its content has changed.
    """
    with reachable(file):
        if not file.is_file():
            raise NotFoundError(f"there is no backup {file}", "check the path")
        own = read_manifest(manifest_path(file))
        if own and own.sha256:
            candidates = [(manifest_path(file), own)]
        else:
            size = file.stat().st_size
            candidates = [
                found for found in manifests_in(file.parent) if found[1].size_bytes == size
            ]
        checksum = sha256_of(file) if candidates else None
        for _, manifest in candidates:
            if (manifest.size_bytes, manifest.sha256) == (file.stat().st_size, checksum):
                return manifest
        for note, manifest in candidates:
            if note == manifest_path(file) or not file.with_name(manifest.file).exists():
                raise MemctlError(
                    f"{file} was changed after the backup: its SHA-256 is {checksum}, not"
                    f" {manifest.sha256} as recorded in {note.name}",
                    "use another backup",
                )
    return None


def back_up_before(
    action: str, db: Connection, path: Path, *, now: datetime, progress: Progress = NOBODY
) -> Path:
    """Copy the database into its directory, named after the action that follows; return the copy.

    The caller holds memctl's lock. Raises MemctlError if the copy cannot be written or fails its
    check; then there is no copy.
    """
    path = path.resolve()
    stem = path.with_name(f"{path.name}.before-{action}")
    known = known_identity(db)
    owner = known.id if known else None
    try:
        return write_backup(db, path, stem, owner=owner, stamped=True, now=now, progress=progress)[
            0
        ]
    except OSError as error:
        way_out = ", or use --no-backup" if action == "migrate" else ""
        raise no_backup(path.parent, error, way_out) from None


def no_backup(directory: Path, error: OSError, way_out: str) -> MemctlError:
    """Return the error for a backup that cannot be written."""
    return MemctlError(
        f"cannot write a backup to {directory} ({error.strerror})",
        f"check its free space and permissions{way_out}",
    )


def fill_copy(db: Connection, draft: Draft, progress: Progress = NOBODY) -> None:
    """Copy the database online into an empty file, and check the copy with quick_check.

    The copy is made in one read transaction: otherwise it would start again after each write.
    Raises MemctlError if the copy is damaged, or another file replaced the draft.
    """
    with closing(sqlite3.connect(draft.path, isolation_level=None)) as copy:
        draft.require_opened()
        copy.execute("PRAGMA journal_mode = OFF")  # a copy that fails is removed, not rolled back
        progress.phase("copying", unit="pages")
        with one_view(db):
            db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()  # begins it
            db.backup(
                copy,
                pages=PAGES_AT_ONCE,
                progress=lambda _status, left, total: progress.reach(total - left, total),
            )
    os.pwrite(draft.descriptor, ROLLBACK_JOURNAL, HEADER_VERSIONS)
    progress.phase("checking the copy")
    with opened_backup(draft.path) as copy:
        require_sound(copy, "the backup of the database")


def require_sound(copy: Connection, what: str) -> None:
    """Raise MemctlError if SQLite reports a copy as damaged."""
    verdict = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise MemctlError(
            f"{what} is damaged ({verdict})",
            "the database is probably damaged, too: run `PRAGMA integrity_check` on it",
        )


@contextmanager
def opened_backup(file: Path) -> Iterator[Connection]:
    """Open a backup read-only, without creating files beside it."""
    with reachable(file):
        uri = f"{file.resolve().as_uri()}?mode=ro&immutable=1"
    try:
        with translate_errors(file), closing(sqlite3.connect(uri, uri=True)) as backup:
            yield backup
    except NoDatabaseError as error:
        raise MemctlError(error.message, "specify a backup; nothing was changed") from None


def describe(copy: Path, begun: Manifest) -> Manifest:
    """Return the manifest of a finished copy."""
    with opened_backup(copy) as backup:
        steps = migrations.applied(backup)
        return replace(
            begun,
            size_bytes=copy.stat().st_size,
            sha256=sha256_of(copy),
            schema_step=steps[-1].version if steps else 0,
            memories=count_rows(backup, "agent_memory"),
            archived=count_rows(backup, "archived_memories"),
        )


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, as `sha256sum` prints it."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
