"""The health report."""

from typing import NotRequired

from typing_extensions import TypedDict

from memctl.output.contract.documents import Document, Storage
from memctl.output.contract.records import MemoryName, StoredText, StoredValue


class AgentOfReport(TypedDict):
    """An agent in a report."""

    agent_id: StoredText
    memories: int
    archived: int
    importance_avg: float | None
    accessed_memories: int
    storage_bytes: int
    memories_before: int | None
    written: int
    written_before: int
    never_read: int


class TypeOfReport(TypedDict):
    """A type in a report."""

    type: StoredText
    memories: int
    archived: int
    importance_avg: float | None
    accessed_memories: int
    storage_bytes: int


class ChangesOfReport(TypedDict):
    """The changes of memories in a period."""

    expired: int
    archived_otherwise: int
    restored: int
    pruned: int
    promoted: int
    decayed: int


class SystemOfReport(ChangesOfReport):
    """All memories in a report, and their changes."""

    memories: int
    archived: int
    importance_avg: float | None
    accessed_memories: int
    storage_bytes: int
    at_floor: int


class PeriodOfReport(TypedDict):
    """What happened in a period; null: unknown."""

    since: str
    until: str
    written: int | None
    growth: int | None
    expired: int | None
    archived_otherwise: int | None
    restored: int | None
    pruned: int | None
    promoted: int | None
    decayed: int | None
    runs: int | None
    unsuccessful_runs: int | None


class Verdict(TypedDict):
    """Whether something needs attention."""

    healthy: bool
    sentence: str
    reasons: list[str]


class MemoriesOfDay(TypedDict):
    """The number of memories on a day; null without a snapshot."""

    date: str
    memories: int | None


class ChangesOfDay(ChangesOfReport):
    """The changes of a day."""

    date: str


class RemarkableMemory(MemoryName):
    """A memory in a report, with what is remarkable about it."""

    importance: NotRequired[StoredValue]
    created_at: NotRequired[StoredValue]
    expires_at: NotRequired[StoredValue]
    value_bytes: NotRequired[int]
    access_count: NotRequired[StoredValue]
    age_days: NotRequired[int]


class Candidates(TypedDict):
    """Candidates for promotion."""

    count: int
    shown: list[RemarkableMemory]


class JobOfReport(TypedDict):
    """The runs of a job in a report."""

    job: str
    runs: int
    ok: int
    refused: int
    failed: int
    crashed: int
    median_ms: float | None
    longest_lock_ms: float | None
    last_error: StoredText | None


class ReportDocument(Document):
    """A health report."""

    at: str
    since: str
    changes_known_since: str
    database: str
    storage: Storage
    host: str
    memctl_version: str
    verdict: Verdict
    advice: list[str]
    findings: list[str]
    remarks: list[str]
    period: PeriodOfReport
    period_before: PeriodOfReport
    system: SystemOfReport
    agents: list[AgentOfReport]
    types: list[TypeOfReport]
    history: list[MemoriesOfDay]
    days: list[ChangesOfDay]
    importances: list[int]
    never_read: list[RemarkableMemory]
    biggest: list[RemarkableMemory]
    overdue: int
    expiring_in_a_week: int
    expiring: list[RemarkableMemory]
    candidates: Candidates
    near_candidates: Candidates
    jobs: list[JobOfReport]
