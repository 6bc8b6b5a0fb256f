"""The results of jobs."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from memctl.output.contract.documents import Document, Failure, Pause
from memctl.output.contract.records import MemoryName, StoredText, StoredValue


class ListedMemory(MemoryName):
    """A memory that a job changed or would change, with what it changes."""

    id: StoredText | None
    expires_at: NotRequired[StoredValue]
    archived_at: NotRequired[StoredValue]
    archived_reason: NotRequired[StoredText]
    importance: NotRequired[StoredValue]
    last_accessed: NotRequired[StoredValue]
    decayed: NotRequired[float]
    access_count: NotRequired[StoredValue]
    age_days: NotRequired[int | None]
    policy: NotRequired[str]
    why: NotRequired[str]
    outcome: NotRequired[str | None]


class JobRun(TypedDict):
    """A run of a job, or its preview."""

    job: str
    run_id: int | None
    dry_run: bool
    cutoff: str
    duration_ms: int
    longest_lock_ms: float
    paused: NotRequired[Pause]


class JobCounts(JobRun):
    """A run of a job that was not paused."""

    remaining: int
    agents: dict[str, int]
    refused: NotRequired[str]
    listed: NotRequired[list[ListedMemory]]


class CleanupCounts(JobCounts):
    """The counts of cleanup."""

    archived: int
    over_quota: int
    held_over_quota: int
    held: int
    versions_pruned: int


class DecayCounts(JobCounts):
    """The counts of decay."""

    decayed: int
    held: int


class PromoteCounts(JobCounts):
    """The counts of promote."""

    promoted: int
    merged: int
    superseded: int


class SnapshotCounts(JobCounts):
    """The counts of snapshot."""

    rows: int


class PruneCounts(JobCounts):
    """The counts of prune."""

    pruned: int
    kept_important: int
    held: int


class ArchiveCounts(JobCounts):
    """The counts of archive."""

    archived: int
    in_use: int
    gone: int
    held: int


class RestoreCounts(JobCounts):
    """The counts of restore."""

    restored: int
    skipped: int
    replaced: int
    held: int
    erased: int


class SectionCounts(TypedDict):
    """What became of the rows in a section of an imported document."""

    inserted: int
    unchanged: int
    skipped: int
    replaced: int
    held: int


class ReplacedValues(TypedDict):
    """How many values of a document PostgreSQL cannot store, and were replaced."""

    nul: int
    invalid_utf8: int
    blobs: int
    numbers: int
    times: int
    ids: int
    holds: int


class ImportCounts(JobCounts):
    """The counts of import."""

    active: SectionCounts
    archived: SectionCounts
    promotions: SectionCounts
    holds: SectionCounts
    foreign_ids: int
    expired: int
    unknown_types: int
    redacted: int
    erased: int
    replaced_values: NotRequired[ReplacedValues]


class ReportCounts(JobCounts):
    """The health report that `memctl run` writes."""

    path: str


AnyCounts = (
    CleanupCounts
    | DecayCounts
    | PromoteCounts
    | SnapshotCounts
    | PruneCounts
    | ArchiveCounts
    | RestoreCounts
    | ImportCounts
    | ReportCounts
    | JobRun
)


class Due(TypedDict):
    """That a job was due."""

    due: Literal[True]


class CleanupOfRun(Due, CleanupCounts):
    """The cleanup of `memctl run`."""


class DecayOfRun(Due, DecayCounts):
    """The decay of `memctl run`."""


class PromoteOfRun(Due, PromoteCounts):
    """The promote of `memctl run`."""


class SnapshotOfRun(Due, SnapshotCounts):
    """The snapshot of `memctl run`."""


class PruneOfRun(Due, PruneCounts):
    """The prune of `memctl run`."""


class ReportOfRun(Due, ReportCounts):
    """The health report of `memctl run`."""


class PausedOfRun(Due, JobRun):
    """A job of `memctl run` that was paused."""


class NotRun(TypedDict):
    """A job of `memctl run` that was not due, not reached in time, or failed."""

    job: str
    due: bool
    due_at: str | None
    error: Failure | None


OfRun = (
    CleanupOfRun
    | DecayOfRun
    | PromoteOfRun
    | SnapshotOfRun
    | PruneOfRun
    | ReportOfRun
    | PausedOfRun
    | NotRun
)


class RunDocument(Document):
    """The outcome of all jobs."""

    job: Literal["run"]
    dry_run: bool
    cutoff: str
    jobs: list[OfRun]
    duration_ms: int
