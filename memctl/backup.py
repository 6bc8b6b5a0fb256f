"""Verified copies of the whole database, made while others go on writing, and the way back.

A copy is one read of the whole file; it stands alone, without a write-ahead log, and is checked
before it gets its name. A backup that is kept has a manifest beside it, with the SHA-256 that
`sha256sum` prints. To go back means to write the pages of a backup into the live database in one
transaction: no file is ever put in the place of one that is in use.
"""

import glob
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection

from memctl import __version__, migrations
from memctl.database import complaints_about, count_rows, reachable, table_exists
from memctl.errors import LockedError, MemctlError, NotFoundError, RefusedError, UsageError
from memctl.files import Draft, require_place, whole_file
from memctl.timestamps import to_text

MANIFEST_FORMAT = "memctl.backup"
MOST_MANIFEST_BYTES = 1 << 16

# The copy of a database in WAL mode says in its header that it needs a write-ahead log.
# https://www.sqlite.org/fileformat.html#file_format_version_numbers
HEADER_VERSIONS = 18  # bytes
ROLLBACK_JOURNAL = b"\1\1"

STAMP = "%Y%m%dT%H%M%SZ"
STAMPED = "[0-9]{8}T[0-9]{6}Z(-[0-9]+)?"


@dataclass(frozen=True)
class Manifest:
    """What the file beside a backup says of it."""

    file: str
    database: str
    created_at: str
    size_bytes: int
    sha256: str
    schema_step: int
    memories: int | None  # None: no such table
    archived: int | None
    memctl_version: str
    format: str = MANIFEST_FORMAT
    version: int = 1


@dataclass(frozen=True)
class BackupResult:
    """The backup that was made, and the older ones that were removed."""

    path: str
    manifest: Manifest
    removed: list[str]


def back_up(
    db: Connection, path: Path, *, target: Path | None, keep: int | None, now: datetime
) -> BackupResult:
    """Copy the database, with a manifest, and remove all but the newest `keep` such backups.

    The name is `target`; the time is added to it when several are kept, when it is a directory,
    and when there is none: then the backup lies beside the database. The caller holds memctl's
    lock. Raises UsageError when there is such a file already, MemctlError when the copy cannot be
    written or fails its check; then there is no copy, and none was removed.
    """
    path = path.resolve()
    stem, stamped = target or path.parent, keep is not None
    with reachable(stem):
        if stem.is_dir():
            stem, stamped = stem / f"{path.name}.backup", True
    stem = require_place(stem, database=path)
    try:
        if stamped:
            remove_drafts(stem)
            copy = free_name(stem.with_name(f"{stem.name}-{now:{STAMP}}"))
        elif stem.exists():
            raise UsageError(f"{stem} exists already", "name another file, or say --keep N")
        else:
            copy = stem
        try:
            with whole_file(copy, owner_of=path) as draft:
                fill_copy(db, draft)
                manifest = describe(draft.path, name=copy.name, database=path, now=now)
                # First, so that a kill in between leaves a few bytes behind and not a whole copy.
                with whole_file(manifest_path(copy), owner_of=path) as note:
                    note.write([json.dumps(asdict(manifest), indent=2), "\n"])
        except BaseException:
            if not copy.exists():
                manifest_path(copy).unlink(missing_ok=True)
            raise
        removed = [] if keep is None else remove_old(stem, keep=keep, newest=copy, database=path)
    except OSError as error:
        raise no_backup(stem.parent, error, "name another place with -o") from None
    return BackupResult(str(copy), manifest, [str(file) for file in removed])


def remove_old(stem: Path, *, keep: int, newest: Path, database: Path) -> list[Path]:
    """Remove the oldest backups of a database until `keep` are left; returns which.

    Only a file that has a manifest of memctl, and the size that this says, counts and goes. The
    newest, which has just been checked, always stays.
    """
    found = []
    for note in stem.parent.glob(f"{glob.escape(stem.name)}-*.json"):
        file = note.with_name(note.name.removesuffix(".json"))
        if file == newest or not re.fullmatch(f"{re.escape(stem.name)}-{STAMPED}", file.name):
            continue
        manifest = read_manifest(file)
        if manifest is None or manifest.database != str(database):
            continue
        if not file.exists():
            note.unlink()  # of a run that was killed
        elif file.stat().st_size == manifest.size_bytes:
            found.append((str(manifest.created_at), file))
    old = sorted(found, reverse=True)[keep - 1 :]
    for _, file in old:
        file.unlink()
        manifest_path(file).unlink()
    return sorted(file for _, file in old)


def verify(file: Path) -> Manifest:
    """Compare a backup with its manifest, and let SQLite check it; writes nothing.

    Raises NotFoundError when one of the two is missing, and MemctlError when they differ.
    """
    manifest = read_manifest(file)
    if not file.is_file():
        raise NotFoundError(f"there is no backup {file}", "check the name")
    if manifest is None:
        raise NotFoundError(
            f"{file} has no manifest {manifest_path(file).name} of memctl beside it",
            "it was not made by `memctl backup`, or not to its end",
        )
    with reachable(file):
        size, checksum = file.stat().st_size, sha256_of(file)
    if (size, checksum) != (manifest.size_bytes, manifest.sha256):
        raise MemctlError(
            f"{file} is not what was backed up: its SHA-256 is {checksum}, not {manifest.sha256}",
            "use another backup",
        )
    with opened_backup(file) as copy:
        require_sound(copy, f"the backup {file}")
    return manifest


def restore_backup(
    db: Connection, path: Path, file: Path, *, now: datetime, lock_wait: float
) -> Path:
    """Make the database what a backup is, in one transaction; returns a copy of what it was.

    Whoever has the database open goes on with what was restored. A backup that has no manifest,
    such as `migrate` makes, is checked by SQLite alone. The caller holds memctl's lock. Raises
    NotFoundError or MemctlError for a backup that is missing or damaged, RefusedError for one that
    does not fit, LockedError when others write for longer than `lock_wait` seconds.
    """
    if read_manifest(file):
        verify(file)
    elif not file.is_file():
        raise NotFoundError(f"there is no backup {file}", "check the name")
    if file.samefile(path) or file.with_name(f"{file.name}-wal").exists():
        raise RefusedError(f"{file} is a database in use, not a backup", "nothing was changed")
    with opened_backup(file) as backup:
        require_sound(backup, f"the backup {file}")
        if not table_exists(backup, "agent_memory"):
            raise RefusedError(f"{file} has no table agent_memory", "nothing was changed")
        page_size = "PRAGMA page_size"
        if backup.execute(page_size).fetchone() != db.execute(page_size).fetchone():
            raise RefusedError(
                f"{file} has pages of another size than {path}", "nothing was changed"
            )
        before = back_up_before("restore", db, path, now=now)

        def give_up_when_locked(status: int, _remaining: int, _whole: int) -> None:
            if status & 0xFF == sqlite3.SQLITE_BUSY:  # after SQLite has waited as long as it may
                raise LockedError(
                    f"{path} is locked by another program",
                    f"waited {lock_wait:g} s; nothing was changed",
                )

        try:
            backup.backup(db, pages=-1, progress=give_up_when_locked)
        except LockedError:
            before.unlink()  # nothing was changed, so there is nothing to go back to
            raise
    return before


def back_up_before(action: str, db: Connection, path: Path, *, now: datetime) -> Path:
    """Copy the database beside itself, named for the action it precedes, and return the copy.

    The caller holds memctl's lock. Raises MemctlError when the copy cannot be written or fails
    its check; then there is no copy.
    """
    path = path.resolve()
    stem = path.with_name(f"{path.name}.before-{action}")
    try:
        remove_drafts(stem)
        copy = free_name(stem.with_name(f"{stem.name}-{now:{STAMP}}"))
        with whole_file(copy, owner_of=path) as draft:
            fill_copy(db, draft)
    except OSError as error:
        raise no_backup(path.parent, error, "choose --no-backup") from None
    return copy


def no_backup(directory: Path, error: OSError, way_out: str) -> MemctlError:
    """Return the error that says why a backup cannot be written."""
    return MemctlError(
        f"no backup can be written to {directory} ({error.strerror})",
        f"make room and the directory writable, or {way_out}",
    )


def free_name(wanted: Path) -> Path:
    """Return this name, or one like it that no file has."""
    name, number = wanted, 2
    while name.exists():
        name = wanted.with_name(f"{wanted.name}-{number}")
        number += 1
    return name


def remove_drafts(stem: Path) -> None:
    """Remove what runs that were killed have left of copies whose name begins like this."""
    draft = rf"\.{re.escape(stem.name)}-{STAMPED}(\.json)?\.[a-z0-9_]{{8}}(-[a-z]+)?"
    for file in stem.parent.glob(f".{glob.escape(stem.name)}-*"):
        if re.fullmatch(draft, file.name):
            file.unlink(missing_ok=True)


def fill_copy(db: Connection, draft: Draft) -> None:
    """Copy the database online into an empty file that then stands alone and passes quick_check.

    The copy is one read of the whole file: in steps it would never finish beside a writer.
    Raises MemctlError when the copy is damaged, or the draft was replaced by another file.
    """
    with closing(sqlite3.connect(draft.path, isolation_level=None)) as copy:
        draft.require_opened()
        copy.execute("PRAGMA journal_mode = OFF")  # a copy that fails is removed, not rolled back
        db.backup(copy, pages=-1)
    os.pwrite(draft.descriptor, ROLLBACK_JOURNAL, HEADER_VERSIONS)
    with opened_backup(draft.path) as copy:
        require_sound(copy, "the backup of the database")


def require_sound(copy: Connection, what: str) -> None:
    """Raise MemctlError when SQLite finds a copy damaged."""
    verdict = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise MemctlError(
            f"{what} is damaged ({verdict})",
            "the database itself probably is: run `PRAGMA integrity_check` on it",
        )


@contextmanager
def opened_backup(file: Path) -> Iterator[Connection]:
    """Open a backup, which nobody writes, so that nothing is written beside it."""
    with reachable(file):
        uri = f"{file.resolve().as_uri()}?mode=ro&immutable=1"
    with complaints_about(file), closing(sqlite3.connect(uri, uri=True)) as backup:
        yield backup


def describe(copy: Path, *, name: str, database: Path, now: datetime) -> Manifest:
    """Return the manifest of a finished copy."""
    with opened_backup(copy) as backup:
        steps = migrations.applied(backup)
        return Manifest(
            file=name,
            database=str(database),
            created_at=to_text(now),
            size_bytes=copy.stat().st_size,
            sha256=sha256_of(copy),
            schema_step=steps[-1].version if steps else 0,
            memories=count_rows(backup, "agent_memory"),
            archived=count_rows(backup, "archived_memories"),
            memctl_version=__version__,
        )


def manifest_path(backup: Path) -> Path:
    """Return where the manifest of a backup is."""
    return backup.with_name(f"{backup.name}.json")


def read_manifest(backup: Path) -> Manifest | None:
    """Return what the manifest of a backup says, or None when there is none of memctl."""
    try:
        with manifest_path(backup).open("rb") as file:
            found = json.loads(file.read(MOST_MANIFEST_BYTES))
        manifest = Manifest(**found)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    ours = manifest.format == MANIFEST_FORMAT and manifest.file == backup.name
    return manifest if ours else None


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, as `sha256sum` prints it."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
