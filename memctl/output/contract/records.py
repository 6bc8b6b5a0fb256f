"""Stored values, and the records that lists print."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict


class EncodedText(TypedDict):
    """A text that is invalid UTF-8."""

    base64: str


class EncodedBlob(TypedDict):
    """A BLOB."""

    blob_base64: str


class EncodedReal(TypedDict):
    """A number that is not finite."""

    real: Literal["inf", "-inf", "nan"]


StoredText = str | EncodedText | EncodedBlob
StoredValue = int | float | str | EncodedText | EncodedBlob | EncodedReal | None


class MemoryName(TypedDict):
    """What names a memory: its agent, type and key."""

    agent_id: StoredText
    type: StoredText
    key: StoredText


class MemoryColumns(MemoryName):
    """The columns of a memory, as they are stored."""

    id: StoredText | None
    value: StoredText
    metadata: StoredText | None
    importance: StoredValue
    access_count: StoredValue
    last_accessed: StoredValue
    created_at: StoredValue
    expires_at: StoredValue
    archived_at: StoredValue
    importance_decay_rate: StoredValue
    last_decay_at: StoredValue
    promoted_at: StoredValue


class ArchivedColumns(MemoryColumns):
    """The columns of an archived memory, as they are stored."""

    archive_id: int | str
    archived_reason: StoredText
    run_id: int | None


class FoundMemoryLine(MemoryColumns):
    """A memory that a search has found."""

    archive_id: int | str | None
    archived_reason: StoredText | None
    run_id: int | None
    state: Literal["active", "archived"]
    found_in: Literal["key", "value", "metadata"]
    excerpt: StoredText


class AgentLine(TypedDict):
    """An agent with memories."""

    agent_id: StoredText
    memories: int
    archived: int
    storage_bytes: int
    last_written_at: str | None
    last_read_at: str | None
    last_archived_at: str | None


class EventLine(TypedDict):
    """An event."""

    event_id: int
    at: StoredText
    event: StoredText
    memory_id: StoredText | None
    agent_id: StoredText | None
    type: StoredText | None
    key: StoredText | None
    run_id: int | None
    detail: Any


class RunLine(TypedDict):
    """A run in the ledger."""

    run_id: int
    job: str
    started_at: str
    finished_at: str | None
    duration_ms: int | None
    status: Literal["ok", "failed", "refused", "running", "crashed"]
    counts: Any
    longest_lock_ms: float | None
    error: StoredText | None
    memctl_version: str
    host: StoredText
    pid: int


class Step(TypedDict):
    """A step of the migrations."""

    schema_step: int
    name: str
    state: Literal["applied", "pending"]
    applied_at: str | None
    baseline: bool | None


class Promotion(MemoryName):
    """A promotion to the knowledge base, as an export contains it."""

    entry_id: StoredText
    content_hash: StoredText
    promoted_at: StoredText


class SectionSizes(TypedDict):
    """How many rows each section of an export has."""

    active: NotRequired[int]
    archived: NotRequired[int]
    promotions: NotRequired[int]
    holds: NotRequired[int]


class ArchivedExport(MemoryColumns):
    """An archived memory, as an export contains it."""

    archived_reason: StoredText
    run_id: int | None


class HoldLine(TypedDict):
    """A hold: by id, by type and key, or on all memories of the agent."""

    agent_id: StoredText
    memory_id: StoredText | None
    type: StoredText | None
    key: StoredText | None
    reason: StoredText | None
    held_at: str
    until: str | None


class ExportDocument(TypedDict):
    """The document that `memctl import` reads; see the documentation of its format."""

    format: Literal["memctl.export"]
    version: Literal[1, 2]
    exported_at: str
    agent_id: StoredText | None
    counts: SectionSizes
    active: NotRequired[list[MemoryColumns]]
    archived: NotRequired[list[ArchivedExport]]
    promotions: NotRequired[list[Promotion]]
    holds: NotRequired[list[HoldLine]]
    sha256: str
