"""The manifest beside each backup: its database, its time, and its SHA-256.

A manifest without a SHA-256 reserves the name of a backup that is not finished.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from memctl.errors import UsageError
from memctl.storage.times import parse_moment, to_text

MANIFEST_FORMAT = "memctl.backup"
MOST_MANIFEST_BYTES = 1 << 16


@dataclass(frozen=True)
class Manifest:
    """The content of a manifest."""

    file: str
    database: str
    created_at: str
    size_bytes: int
    sha256: str | None  # None: the backup is not finished
    schema_step: int
    memories: int | None  # None: no such table
    archived: int | None
    memctl_version: str
    format: str = MANIFEST_FORMAT
    version: int = 1
    database_id: str | None = None  # None: not migrated, or made by an earlier memctl
    host: str | None = None  # None: made by an earlier memctl
    next_sha256: str | None = None  # of the file that is about to replace it; see `rewriting`
    next_size_bytes: int | None = None

    def is_of_same_database(self, other: "Manifest") -> bool:
        """Return whether two backups are of the same database, even if it was moved."""
        if self.database_id or other.database_id:
            return self.database_id == other.database_id
        return (self.host, self.database) == (other.host, other.database)

    def has_size(self, size: int) -> bool:
        """Return whether the backup, or the file that is about to replace it, has this size."""
        return size in (self.size_bytes, self.next_size_bytes)

    def is_of_file(self, size: int, checksum: str | None) -> bool:
        """Return whether the manifest describes a file with this size and SHA-256."""
        return (size, checksum) in (
            (self.size_bytes, self.sha256),
            (self.next_size_bytes, self.next_sha256),
        )

    @property
    def moment(self) -> datetime:
        """When the backup was made."""
        return parse_moment(self.created_at)

    def is_from_future(self, *, now: datetime) -> bool:
        """Return whether the time of a backup is after this moment."""
        return self.moment > now


def manifest_path(backup: Path) -> Path:
    """Return the path of the manifest of a backup."""
    return backup.with_name(f"{backup.name}.json")


def manifests_in(directory: Path) -> Iterator[tuple[Path, Manifest]]:
    """Yield the path and the content of each manifest in a directory."""
    for note in sorted(directory.glob("*.json")):
        manifest = read_manifest(note)
        if manifest:
            yield note, manifest


def read_manifest(note: Path) -> Manifest | None:
    """Read a manifest; None if it is not one of memctl. Unknown fields are ignored."""
    try:
        if not note.is_file():
            return None
        with note.open("rb") as file:
            found = json.loads(file.read(MOST_MANIFEST_BYTES))
        known = {field.name for field in fields(Manifest)}
        manifest = Manifest(**{name: value for name, value in found.items() if name in known})
        to_text(manifest.moment)  # raises an error if it is not a time
        is_name = manifest.file == Path(manifest.file).name and isinstance(manifest.database, str)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, UsageError):
        return None
    return manifest if manifest.format == MANIFEST_FORMAT and is_name else None


def to_document(manifest: Manifest) -> str:
    """Return the text of a manifest."""
    return json.dumps(to_record(manifest), indent=2) + "\n"


def to_record(manifest: Manifest) -> dict[str, object]:
    """Return a manifest as JSON has it; without the file that replaces it if there is none."""
    record = asdict(manifest)
    if manifest.next_sha256 is None:
        del record["next_sha256"], record["next_size_bytes"]
    return record
