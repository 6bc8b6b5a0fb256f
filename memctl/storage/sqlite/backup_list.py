"""The backups in a directory: what their manifests and files show without reading the contents."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from memctl.storage.sqlite.database import reachable
from memctl.storage.sqlite.manifests import Manifest, manifests_in
from memctl.storage.times import to_text

STAMP = "%Y%m%dT%H%M%SZ"
STAMPED = "[0-9]{8}T[0-9]{6}Z(-[0-9]+)?"

BackupKind = Literal["backup", "before-migrate", "before-restore", "before-rollback"]

# The names that memctl gives to backups unless -o names a file.
NAMED_BY_MEMCTL = re.compile(
    rf".+\.(?P<kind>{'|'.join(get_args(BackupKind))})-(?P<stamp>[0-9]{{8}}T[0-9]{{6}}Z)(-[0-9]+)?",
    re.DOTALL,
)

# What is known about the content of a backup without reading it. `when_created`: SQLite checked the
# copy before it got its name, and its size is still that of the manifest.
Verified = Literal[
    "when_created", "unfinished", "missing", "size_changed", "unreadable", "no_manifest"
]


@dataclass(frozen=True)
class BackupRecord:
    """A backup as it is listed; None: unknown."""

    file: str
    path: str
    kind: BackupKind
    created_at: str | None
    size_bytes: int | None
    verified: Verified
    this_database: bool | None
    database: str | None
    database_id: str | None
    host: str | None
    schema_step: int | None
    memories: int | None
    archived: int | None


class FoundBackup(NamedTuple):
    """A file with a manifest, or one that is named like a backup."""

    file: Path
    manifest: Manifest | None

    @property
    def kind(self) -> BackupKind:
        """What the backup was made for, from its original name."""
        named = NAMED_BY_MEMCTL.fullmatch(self.manifest.file if self.manifest else self.file.name)
        kinds: dict[str, BackupKind] = {kind: kind for kind in get_args(BackupKind)}
        return kinds[named["kind"]] if named else "backup"

    @property
    def created(self) -> datetime | None:
        """When it was made, from the manifest or else from the name."""
        if self.manifest:
            return self.manifest.moment
        named = NAMED_BY_MEMCTL.fullmatch(self.file.name)
        try:
            return datetime.strptime(named["stamp"], STAMP).replace(tzinfo=UTC) if named else None
        except ValueError:  # such as month 13
            return None

    @property
    def size_bytes(self) -> int | None:
        """The size of the file; None if there is none."""
        try:
            return self.file.stat().st_size if self.file.is_file() else None
        except OSError:
            return None

    @property
    def verified(self) -> Verified:
        """What is known about the content without reading it."""
        size = self.size_bytes
        if self.manifest and self.manifest.sha256 is None:
            return "unfinished"
        if size is None:
            return "missing"
        if self.manifest is None:
            return "no_manifest"
        if not self.manifest.has_size(size):
            return "size_changed"
        return "when_created" if os.access(self.file, os.R_OK) else "unreadable"

    def is_of(self, database: Manifest) -> bool | None:
        """Return whether it is a backup of a database; None: its identity was not recorded."""
        manifest = self.manifest
        if manifest is None:
            return None
        if manifest.is_of_same_database(database):
            return True
        if manifest.database_id and database.database_id:
            return False
        same_place = (manifest.host, manifest.database) == (database.host, database.database)
        return None if same_place or manifest.host is None else False


def find_backups(directory: Path) -> list[FoundBackup]:
    """Return the backups in a directory, newest first.

    Raises MemctlError if the directory cannot be read.
    """
    with reachable(directory):
        names = sorted(os.listdir(directory))  # noqa: PTH208  glob ignores an unreadable directory
    found = [
        FoundBackup(note.with_name(note.name.removesuffix(".json")), manifest)
        for note, manifest in manifests_in(directory)
    ]
    described = {backup.file.name for backup in found}
    for name in names:
        file = directory / name
        if name not in described and NAMED_BY_MEMCTL.fullmatch(name) and file.is_file():
            found.append(FoundBackup(file, None))
    return sorted(found, key=_age)


def list_backups(directory: Path, database: Manifest | None) -> Iterator[BackupRecord]:
    """Yield the backups in a directory, newest first; `database` is the one to compare with.

    Raises MemctlError if the directory cannot be read.
    """
    for backup in find_backups(directory):
        manifest = backup.manifest
        yield BackupRecord(
            file=backup.file.name,
            path=str(backup.file),
            kind=backup.kind,
            created_at=to_text(backup.created) if backup.created else None,
            size_bytes=backup.size_bytes,
            verified=backup.verified,
            this_database=backup.is_of(database) if database else None,
            database=manifest.database if manifest else None,
            database_id=manifest.database_id if manifest else None,
            host=manifest.host if manifest else None,
            schema_step=manifest.schema_step if manifest and manifest.sha256 else None,
            memories=manifest.memories if manifest else None,
            archived=manifest.archived if manifest else None,
        )


def _age(backup: FoundBackup) -> tuple[float, int, str]:
    """Return a key that sorts the newest backup first; of one second, the highest number."""
    created = backup.created
    number = re.search("Z-([0-9]+)$", backup.file.name)
    return (
        -created.timestamp() if created else float("inf"),
        -int(number[1]) if number else -1,
        backup.file.name,
    )
