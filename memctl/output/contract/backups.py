"""What `backup` prints as JSON."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from memctl.output.contract.documents import Document

BackupKind = Literal["backup", "before-migrate", "before-restore", "before-rollback"]


class Manifest(TypedDict):
    """The manifest of a backup."""

    format: Literal["memctl.backup"]
    version: int
    file: str
    database: str
    database_id: str | None
    created_at: str
    size_bytes: int
    sha256: str
    schema_step: int
    memories: int | None
    archived: int | None
    memctl_version: str
    host: str | None
    next_sha256: NotRequired[str]
    next_size_bytes: NotRequired[int]


class BackupDocument(Document):
    """A backup that was made."""

    path: str
    manifest: Manifest
    removed: list[str]
    dry_run: Literal[False]


class RotatedLine(TypedDict):
    """What would become of a backup."""

    file: str
    path: str
    created_at: str | None
    kind: BackupKind
    action: Literal["create", "keep", "remove"]
    reasons: list[str]


class BackupPreviewDocument(Document):
    """A backup that would be made, and what would become of the others."""

    path: str
    removed: list[str]
    backups: list[RotatedLine]
    of_other_databases: int
    dry_run: Literal[True]


class BackupLine(TypedDict):
    """A backup in a directory."""

    file: str
    path: str
    kind: BackupKind
    created_at: str | None
    size_bytes: int | None
    verified: Literal[
        "when_created", "unfinished", "missing", "size_changed", "unreadable", "no_manifest"
    ]
    this_database: bool | None
    database: str | None
    database_id: str | None
    host: str | None
    schema_step: int | None
    memories: int | None
    archived: int | None


class VerifiedDocument(Document):
    """A backup that was verified."""

    path: str
    manifest: Manifest


class RestoredDocument(Document):
    """A database that was restored from a backup."""

    database: str
    restored_from: str
    removed_memories: int
    removed_rows: int
    redacted_rows: int
    backup: str
