"""The explanation of a memory."""

from typing import Any, Literal

from typing_extensions import TypedDict

from memctl.output.contract.documents import Document
from memctl.output.contract.records import EventLine, HoldLine, StoredText, StoredValue


class Condition(TypedDict):
    """A condition of promotion."""

    condition: str
    needed: Any
    found: Any
    met: bool
    lacks: float | None


class Expiry(TypedDict):
    """When a memory expires."""

    stored: StoredValue
    state: Literal["never", "unreadable", "to_come", "expired"]
    at: str | None


class Retention(TypedDict):
    """How long an archived memory is kept."""

    at: str | None
    importance: StoredValue
    protected: bool


class Fading(TypedDict):
    """How a memory loses importance."""

    unreadable: str | None
    idle_since: str | None
    idle_days: int | None
    rate: float | None
    charged: float | None
    due: float
    importance_after_next: StoredValue
    unprotected_at: str | None
    floor_at: str | None


class Quota(TypedDict):
    """The quota of an agent, what the agent has, and what goes before the memory."""

    memories: int
    bytes: int
    most_memories: int | None
    most_bytes: int | None
    less_valuable: int
    is_beyond: bool


class ExplainedMemory(TypedDict):
    """The active memory of a name."""

    id: StoredText | None
    importance: StoredValue
    access_count: StoredValue
    created_at: StoredValue
    last_accessed: StoredValue
    archived_at: StoredValue
    promoted_at: StoredValue
    known_since: str | None
    fading: Fading
    expiry: Expiry
    promotion: list[Condition]
    retention: Retention | None
    quota: Quota | None


class ExplainedCopy(TypedDict):
    """An archived copy of a name."""

    archive_id: int
    id: StoredText | None
    archived_at: StoredText
    archived_reason: StoredText
    run_id: int | None
    retention: Retention


class ExplainDocument(Document):
    """The explanation of a memory."""

    at: str
    agent_id: StoredText
    type: StoredText
    key: StoredText
    state: Literal["active", "archived", "pruned", "gone"]
    policy: list[str]
    earlier_ids: list[StoredText]
    active: ExplainedMemory | None
    archived: list[ExplainedCopy]
    history: list[EventLine]
    holds: list[HoldLine]
