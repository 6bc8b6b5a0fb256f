"""The JSON of status and check."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from memctl.output.contract.documents import Document, Pause, Storage
from memctl.output.contract.records import StoredText
from memctl.output.contract.secrets import MemoryWithSecrets


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


class RunningProcess(TypedDict):
    """The memctl process that runs a job now, on one of the machines."""

    job: str
    host: str
    pid: int


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
    running: NotRequired[RunningProcess | None]


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
    secrets: list[MemoryWithSecrets] | None
    fixed: list[str]
