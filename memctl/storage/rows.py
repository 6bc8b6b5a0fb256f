"""The rows that storage returns and the filters that it takes, the same for every engine.

Text may be invalid UTF-8, whose bytes it has as surrogate escapes. Times are text in UTC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args


class AffectedMemory(NamedTuple):
    """A memory that a job changed, or would change, as it was before."""

    rowid: int
    id: str | None
    agent_id: str
    type: str
    key: str
    detail_names: tuple[str, ...]
    details: tuple[Any, ...]


class Pause(NamedTuple):
    """Since when, until when (None: until `resume`) and why jobs do nothing."""

    since: str
    until: str | None
    reason: str


EndStatus = Literal["ok", "failed", "refused"]


class JobHistory(NamedTuple):
    """When a job was last done completely, and when it last failed unless it went well since."""

    done_at: datetime | None
    failed_at: datetime | None


RunStatus = Literal["ok", "failed", "refused", "running", "crashed"]


RunIdentity = tuple[str, str, str, int]


class RunRecord(NamedTuple):
    """One run, as the ledger has it."""

    run_id: int
    job: str
    started_at: str
    finished_at: str | None  # None: it runs, or has crashed
    duration_ms: int | None
    status: RunStatus
    counts: object  # by their names
    longest_lock_ms: float | None
    error: str | None
    memctl_version: str
    host: str
    pid: int

    @property
    def identity(self) -> RunIdentity:
        """What no other run has in common with it."""
        return self.job, self.started_at, self.host, self.pid


@dataclass(frozen=True)
class RunFilter:
    """Which runs are meant; what is not given does not narrow."""

    job: str | None = None
    status: RunStatus | None = None
    since: datetime | None = None  # begun then or later


class Loss(NamedTuple):
    """What an agent would lose of what the policy of the last prune would have kept."""

    agent: str | bytes  # bytes: a name that is a blob
    lost: int
    kept: int


@dataclass(frozen=True)
class KnowledgeEntry:
    """What a memory becomes in the knowledge base."""

    type: str
    content: str
    content_hash: str  # SHA-256 of the content
    tags: str  # a JSON array
    confidence: float
    task_id: str | None


class KnownEntry(NamedTuple):
    """An entry with its text."""

    number: int  # of its row
    type: str
    agent: str
    content: str
    holds: bool  # it is not superseded


class EntryChange(NamedTuple):
    """An entry after a change."""

    number: int
    id: str
    confidence: float


class CandidateRow(NamedTuple):
    """A candidate as it is stored, and the entry that it became earlier, if it did.

    Text is in bytes, because it may not be valid UTF-8.
    """

    agent: bytes
    type: str
    key: bytes
    value: bytes
    metadata: bytes | None
    importance: float  # by which it is judged
    entry_row: int | None
    entry_content: bytes | None
    entry_holds: int | None


class ConditionsMet(NamedTuple):
    """Which conditions of promotion a memory meets, and by what values."""

    importance: Any
    access_count: Any
    age_days: int | None
    age: int | None  # in seconds
    judged: float | None  # the importance that counts
    is_type: int  # this and the following: 1 if the condition is met, else 0
    is_important: int
    is_read: int
    is_old: int
    known_since: str | None  # since when its text is in the knowledge base


Which = Literal["all", "worth listing", "lacking one at most"]


Event = Literal[
    "memory:expired",
    "memory:forgotten",
    "memory:deleted",
    "memory:archived",
    "memory:imported",
    "memory:promoted",
    "memory:pruned",
    "memory:restored",
]


Reason = Literal["expired", "forgotten", "deleted", "replaced", "imported", "manual"]


EVENTS = (*get_args(Event), "memory:decayed", "memory:alert")


# The reasons of archiving that are themselves events; these come before `memory:archived`.
CAUSES: Mapping[Reason, Event] = {
    "expired": "memory:expired",
    "forgotten": "memory:forgotten",
    "deleted": "memory:deleted",
}


class EventRecord(NamedTuple):
    """One event as readers get it."""

    event_id: int
    at: str
    event: str
    memory_id: str | None
    agent_id: str | None
    type: str | None
    key: str | None
    run_id: int | None
    detail: object  # what the event's JSON column holds


@dataclass(frozen=True)
class EventFilter:
    """Selects events; a field that is None matches every event."""

    agent: str | None = None
    type: str | None = None
    key: str | None = None
    event: str | None = None  # with or without `memory:`
    run_id: int | None = None
    since: datetime | None = None


REASONS = get_args(Reason)


@dataclass(frozen=True)
class ArchiveFilter:
    """Which archived memories are meant; what is not given does not narrow."""

    agent: str | None = None
    ids: Sequence[str] = ()
    type: str | None = None
    key: str | None = None
    reason: str | None = None
    run_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None  # up to and including this moment
    search: str | None = None  # part of the key or value; case counts only beyond ASCII
