"""The versions of a memory."""

from typing import Literal

from typing_extensions import TypedDict

from memctl.output.contract.documents import Document
from memctl.output.contract.records import MemoryName, StoredText, StoredValue


class VersionLine(TypedDict):
    """A version of a memory."""

    version: int
    state: Literal["active", "archived"]
    id: StoredText | None
    written_at: str | None
    archived_at: StoredText | None
    archived_reason: StoredText | None
    replaced_by: StoredText | None
    run_id: int | None
    archive_id: int | None
    importance: StoredValue
    excerpt: StoredText


class FieldChange(TypedDict):
    """A field that differs between two versions."""

    field: Literal["importance", "metadata"]
    before: StoredValue
    after: StoredValue


class DiffDocument(Document, MemoryName):
    """What changed between two versions."""

    from_version: int
    to_version: int
    changes: list[FieldChange]
    diff: list[StoredText]
