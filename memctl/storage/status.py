"""The status of a database: its schema, its memories, and the last run of each job."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from memctl.storage.rows import DatabaseSize, Pause

if TYPE_CHECKING:
    from memctl.storage.sqlite.features import FeatureStatus


@dataclass(frozen=True)
class JobStatus:
    """The newest run of a job."""

    job: str
    run_id: int
    started_at: str
    status: str
    duration_ms: int | None
    error: str | None


@dataclass(frozen=True)
class Status:
    """The status of a database, which need not be migrated; None: there is no such table."""

    database: DatabaseSize
    schema_step: int
    pending: list[str]
    problem: str | None
    memories: int | None
    archived: int | None
    features: "list[FeatureStatus]"
    jobs: list[JobStatus]
    paused: Pause | None


@dataclass(frozen=True)
class RunningProcess:
    """The memctl process that runs a job now, on one of the machines."""

    job: str
    host: str
    pid: int


@dataclass(frozen=True)
class ServerStatus(Status):
    """The status of a database on a server."""

    running: RunningProcess | None
