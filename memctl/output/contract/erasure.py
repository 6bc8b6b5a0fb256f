"""The receipts of `erase` and `redact`, which name neither the memories nor the texts."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from memctl.output.contract.documents import Document
from memctl.output.contract.jobs import JobCounts
from memctl.output.contract.records import MemoryName, StoredText


class Overwriting(TypedDict):
    """How the remains of what was erased were overwritten, and what the last search found."""

    is_complete: bool
    files_searched: list[str]
    bytes_checked: int
    overwritten_pages: int
    log_truncated: bool
    vacuum_ms: float | None
    longest_lock_ms: float
    remains_before_vacuum: dict[str, int]
    remains: dict[str, int]
    written_since: dict[str, int]
    same_text: dict[str, int]


class CopyRecord(TypedDict):
    """What was, or would be, done with a backup of the database."""

    path: StoredText
    action: Literal["rewritten", "unchanged", "left"]
    reason: str | None
    removed_memories: int
    removed_rows: int
    redacted_rows: int


class EraseDocument(Document):
    """The receipt of an erasure, or its preview."""

    job: str
    run_id: int | None
    dry_run: bool
    cutoff: str
    database: str
    erased: int
    fingerprints: list[str]
    erased_rows: dict[str, int]
    kept_rows: dict[str, int]
    backups: list[CopyRecord]
    overwriting: Overwriting | None
    duration_ms: int
    longest_lock_ms: float
    refused: NotRequired[str]
    listed: NotRequired[list[MemoryName]]


class RedactDocument(Document, JobCounts):
    """The receipt of a redaction, or its preview."""

    redacted: int
    occurrences: int
    rows: int
    database: str
    changed_rows: dict[str, int]
    fingerprints: list[str]
    backups: list[CopyRecord]
    overwriting: Overwriting | None
