"""The JSON of each command."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from memctl.output.contract.backups import (
    BackupDocument,
    BackupLine,
    BackupPreviewDocument,
    RestoredDocument,
    RotatedLine,
    VerifiedDocument,
)
from memctl.output.contract.databases import OnDatabases
from memctl.output.contract.documents import Document, ErrorDocument, Failure, Pause, Storage
from memctl.output.contract.explanation import ExplainDocument
from memctl.output.contract.figures import (
    AgentFigures,
    FiguresLine,
    HistoryLine,
    LevelFigures,
    MetricsDocument,
    Period,
)
from memctl.output.contract.jobs import (
    AnyCounts,
    ArchiveCounts,
    CleanupCounts,
    DecayCounts,
    ImportCounts,
    JobRun,
    PromoteCounts,
    PruneCounts,
    RestoreCounts,
    RunDocument,
    SnapshotCounts,
)
from memctl.output.contract.records import (
    AgentLine,
    ArchivedColumns,
    EventLine,
    ExportDocument,
    FoundMemoryLine,
    MemoryColumns,
    RunLine,
    Step,
    StoredText,
)
from memctl.output.contract.report import ReportDocument


class CleanupDocument(Document, CleanupCounts):
    """The result of cleanup."""


class DecayDocument(Document, DecayCounts):
    """The result of decay."""


class PromoteDocument(Document, PromoteCounts):
    """The result of promote."""


class SnapshotDocument(Document, SnapshotCounts):
    """The result of snapshot."""


class PruneDocument(Document, PruneCounts):
    """The result of prune."""


class ArchiveDocument(Document, ArchiveCounts):
    """The result of archive."""


class RestoreDocument(Document, RestoreCounts):
    """The result of restore."""


class ImportDocument(Document, ImportCounts):
    """The result of import."""


class PausedDocument(Document, JobRun):
    """A job that did nothing because of a pause."""


class MigrateDocument(Document):
    """The steps that were applied, or would be."""

    database: str
    schema_step: int
    applied: list[str]
    created: bool
    baseline: bool
    backup: str | None
    triggers: list[StoredText]
    dry_run: bool
    adds: NotRequired[list[StoredText] | None]
    sql: NotRequired[str]


class RollbackDocument(Document):
    """The steps that were rolled back, or would be."""

    database: str
    schema_step: int
    rolled_back: list[str]
    backup: str | None
    archived_in_backup: int
    archive_command: str | None
    dry_run: bool
    removes: NotRequired[list[StoredText] | None]
    to_confirm: NotRequired[str | None]
    sql: NotRequired[str]


class FeatureState(TypedDict):
    """Whether a feature is enabled."""

    feature: str
    state: Literal["on", "off", "outdated", "missing"]
    since: str | None


class NewestRun(TypedDict):
    """The newest run of a job."""

    job: str
    run_id: int
    started_at: str
    status: str
    duration_ms: int | None
    error: StoredText | None


class StatusDocument(Document):
    """The state of a database."""

    database: str
    storage: Storage
    schema_step: int
    pending: list[str]
    problem: str | None
    memories: int | None
    archived: int | None
    features: list[FeatureState]
    jobs: list[NewestRun]
    paused: Pause | None


class MemoryDocument(Document, MemoryColumns):
    """A memory."""


class ForgetDocument(Document):
    """How many memories were forgotten."""

    forgotten: int


class SummaryDocument(Document):
    """A summary of an agent's memories."""

    agent_id: StoredText
    memories: int
    by_type: dict[str, int]
    top_memories: list[MemoryColumns]


class Finding(TypedDict):
    """A finding of a check."""

    severity: Literal["error", "warning", "info"]
    code: str
    message: str
    advice: str
    fix: str | None


class CheckDocument(Document):
    """The findings of a check."""

    at: str
    database: str
    storage: Storage
    ok: bool
    depth: Literal["quick", "full"] | None
    memories: int | None
    findings: list[Finding]
    fixed: list[str]


class FeatureDocument(Document):
    """Whether a feature is enabled now."""

    feature: str
    enabled: bool
    changed: bool


class PauseDocument(Document):
    """A pause that began."""

    paused: Pause


class ResumeDocument(Document):
    """Whether a pause was ended."""

    resumed: bool


class ScheduleDocument(Document):
    """The text of each file that a scheduler needs."""

    files: dict[str, str]


class SettingInForce(TypedDict):
    """A setting, its value and its source."""

    setting: str
    value: Any
    source: str


class ConfigShowDocument(Document):
    """The settings in force."""

    file: str | None
    settings: list[SettingInForce]


class ConfigFileDocument(Document):
    """A configuration file."""

    file: str


class ConfigProblem(TypedDict):
    """An invalid setting."""

    setting: str
    message: str
    hint: str


class ConfigValidateDocument(Document):
    """The problems of a configuration file."""

    file: str | None
    problems: list[ConfigProblem]
    unused_names: list[str] | None


class AlertDocument(Document):
    """What the alert command receives on stdin; the figures depend on the condition."""

    at: str
    database: str
    message: str
    condition: str
    agent_id: NotRequired[StoredText]


class CompletionDocument(Document):
    """A completion script."""

    shell: str
    script: str


class HookDocument(Document):
    """What a hook receives on stdin."""

    hook: Literal["start", "success", "failure"]
    job: str
    run_id: int | None
    at: str
    database: str
    host: str
    pid: int
    memctl_version: str
    result: AnyCounts | None
    error: Failure | None


class HelpDocument(Document):
    """The help of a command, or of memctl itself."""

    command: str | None
    help: str


class TestedDocument(Document):
    """An alert command that accepted a test alert."""

    command: list[str]
    delivered: Literal[True]


class Scene(TypedDict):
    """A scene of the demo."""

    day: str
    command: str
    sentence: str


class Month(TypedDict):
    """The changes of memories in a month of the demo."""

    month: int
    written: int
    reads: int
    expired: int
    promoted: int
    restored: int
    pruned: int


class DemoFigures(TypedDict):
    """The figures at the end of the demo."""

    at: str
    period: Period
    accesses_since: str | None
    system: LevelFigures
    agents: dict[str, AgentFigures]


class DemoDocument(Document):
    """The story of the demo."""

    database: str | None
    scenes: list[Scene]
    months: list[Month]
    metrics: DemoFigures


# What a command prints with --json, or by default if it lists records. `error` is on stderr;
# `alert` and `hook` are what the alert command and the hooks receive.
COMMANDS: dict[str, Any] = {
    "migrate": MigrateDocument | list[Step],
    "rollback": RollbackDocument,
    "status": StatusDocument,
    "run": RunDocument | OnDatabases[RunDocument],
    "cleanup": CleanupDocument | PausedDocument,
    "decay": DecayDocument | PausedDocument,
    "promote": PromoteDocument | PausedDocument,
    "snapshot": SnapshotDocument | PausedDocument,
    "prune": PruneDocument | PausedDocument,
    "archived": list[ArchivedColumns],
    "archive": ArchiveDocument,
    "restore": RestoreDocument,
    "remember": MemoryDocument,
    "recall": MemoryDocument,
    "list": list[MemoryColumns],
    "forget": ForgetDocument,
    "summary": SummaryDocument,
    "metrics": MetricsDocument | list[FiguresLine] | list[HistoryLine],  # lists with --nl
    "search": list[FoundMemoryLine],
    "agents": list[AgentLine],
    "report": ReportDocument,
    "events": list[EventLine],
    "runs": list[RunLine],
    "explain": ExplainDocument,
    "check": CheckDocument | OnDatabases[CheckDocument],
    "enable": FeatureDocument,
    "disable": FeatureDocument,
    "export": ExportDocument,
    "import": ImportDocument,
    "backup": (
        BackupDocument
        | BackupPreviewDocument
        | VerifiedDocument
        | RestoredDocument
        | list[BackupLine]
        | OnDatabases[BackupDocument | BackupPreviewDocument]
        | list[RotatedLine]
    ),
    "pause": PauseDocument,
    "resume": ResumeDocument,
    "schedule": ScheduleDocument,
    "config": ConfigShowDocument | ConfigValidateDocument | ConfigFileDocument,
    "alerts": TestedDocument,
    "completion": CompletionDocument,
    "help": HelpDocument,
    "demo": DemoDocument,
    "error": ErrorDocument,
    "alert": AlertDocument,
    "hook": HookDocument,
}
