"""Figures of memories."""

from typing import NotRequired

from typing_extensions import TypedDict

from memctl.output.contract.documents import Document, Storage
from memctl.output.contract.records import StoredText


class CurrentFigures(TypedDict):
    """The figures of a type, an agent, or all agents."""

    memories: int
    archived: int
    importance_avg: float | None
    accessed_memories: int
    accesses: int | None
    accesses_at_least: int
    expired_per_day: float
    archived_per_day: float
    storage_bytes: int


class FiguresOfDay(TypedDict):
    """The figures of a day's snapshot, null without one, and the changes of that day."""

    memories: int | None
    archived: int | None
    importance_avg: float | None
    accessed_memories: int | None
    storage_bytes: int | None
    accesses_that_day: int | None
    expired_that_day: int
    archived_that_day: int
    restored_that_day: int
    pruned_that_day: int
    promoted_that_day: int


class FiguresLine(CurrentFigures):
    """A record of the figures of an agent and type, as they are now."""

    agent_id: StoredText
    type: StoredText


class HistoryLine(FiguresOfDay):
    """A record of the figures of an agent and type on a day."""

    date: str
    agent_id: StoredText
    type: StoredText


class HistoryDay(TypedDict):
    """A day of a history."""

    date: str
    figures: FiguresOfDay


class LevelFigures(CurrentFigures):
    """Figures with their history, if it was asked for."""

    history: NotRequired[list[HistoryDay]]


class AgentFigures(LevelFigures):
    """The figures of an agent and of its types."""

    types: dict[str, CurrentFigures]


class JobHealth(TypedDict):
    """The newest run of a job, and its last success."""

    job: str
    run_id: int
    started_at: str
    status: str
    duration_ms: int | None
    longest_lock_ms: float | None
    last_ok_at: str | None
    consecutive_failures: int


class Period(TypedDict):
    """The period over which rates are averaged."""

    since: str
    days: float


class MetricsDocument(Document):
    """The figures of all agents."""

    at: str
    database: str
    storage: Storage
    period: Period
    accesses_since: str | None
    system: LevelFigures
    agents: dict[str, AgentFigures]
    jobs: list[JobHealth]
