"""The JSON of each command."""

from typing import Any

from memctl.output.contract.backups import (
    BackupDocument,
    BackupLine,
    BackupPreviewDocument,
    RestoredDocument,
    RotatedLine,
    VerifiedDocument,
)
from memctl.output.contract.databases import OnDatabases
from memctl.output.contract.demo import DemoDocument
from memctl.output.contract.documents import Document, ErrorDocument
from memctl.output.contract.erasure import EraseDocument, RedactDocument
from memctl.output.contract.explanation import ExplainDocument
from memctl.output.contract.figures import FiguresLine, HistoryLine, MetricsDocument
from memctl.output.contract.health import CheckDocument, StatusDocument
from memctl.output.contract.history import DiffDocument, VersionLine
from memctl.output.contract.holds import HoldDocument, ReleaseDocument
from memctl.output.contract.jobs import (
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
from memctl.output.contract.memories import ForgetDocument, MemoryDocument, SummaryDocument
from memctl.output.contract.records import (
    AgentLine,
    ArchivedColumns,
    EventLine,
    ExportDocument,
    FoundMemoryLine,
    HoldLine,
    MemoryColumns,
    RunLine,
    Step,
)
from memctl.output.contract.report import ReportDocument
from memctl.output.contract.setup import (
    CompletionDocument,
    ConfigFileDocument,
    ConfigShowDocument,
    ConfigValidateDocument,
    FeatureDocument,
    HelpDocument,
    MigrateDocument,
    PauseDocument,
    ResumeDocument,
    RollbackDocument,
    ScheduleDocument,
    TestedDocument,
)
from memctl.output.contract.signals import AlertDocument, HookDocument
from memctl.output.contract.space import CompactDocument


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


# What a command prints with --json, or by default if it lists records. `error` is on stderr;
# `alert` and `hook` are what the alert command and the hooks receive.
COMMANDS: dict[str, Any] = {
    "migrate": MigrateDocument | list[Step],
    "rollback": RollbackDocument,
    "status": StatusDocument,
    "compact": CompactDocument,
    "run": RunDocument | OnDatabases[RunDocument],
    "cleanup": CleanupDocument | PausedDocument,
    "decay": DecayDocument | PausedDocument,
    "promote": PromoteDocument | PausedDocument,
    "snapshot": SnapshotDocument | PausedDocument,
    "prune": PruneDocument | PausedDocument,
    "archived": list[ArchivedColumns],
    "archive": ArchiveDocument,
    "restore": RestoreDocument,
    "hold": HoldDocument,
    "release": ReleaseDocument,
    "holds": list[HoldLine],
    "remember": MemoryDocument,
    "recall": MemoryDocument,
    "list": list[MemoryColumns],
    "forget": ForgetDocument,
    "summary": SummaryDocument,
    "redact": RedactDocument,
    "metrics": MetricsDocument | list[FiguresLine] | list[HistoryLine],  # lists with --nl
    "search": list[FoundMemoryLine],
    "agents": list[AgentLine],
    "report": ReportDocument,
    "events": list[EventLine],
    "runs": list[RunLine],
    "explain": ExplainDocument,
    "history": list[VersionLine] | DiffDocument,
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
    "erase": EraseDocument,
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
