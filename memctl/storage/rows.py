"""The rows that storage returns and the filters that it takes, the same for every engine.

Text may be invalid UTF-8, whose bytes it has as surrogate escapes. Times are text in UTC.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

from memctl.errors import UsageError
from memctl.storage.times import parse_moment


class AffectedMemory(NamedTuple):
    """A memory that a job changed, or would change, as it was before."""

    rowid: int
    id: str | None
    agent_id: str
    type: str
    key: str
    detail_names: tuple[str, ...]
    details: tuple[Any, ...]


def json_or_text(stored: str | None) -> object:
    """Return the value of a JSON column; a text that is not JSON is returned unchanged."""
    try:
        return None if stored is None else json.loads(stored)
    except ValueError:
        return stored


class Pause(NamedTuple):
    """When a pause began, when it ends (None: with `resume`), and its reason."""

    since: str
    until: str | None
    reason: str

    def is_over(self, *, now: datetime) -> bool:
        """Return whether it has ended by itself."""
        return self.until is not None and parse_moment(self.until) <= now


EndStatus = Literal["ok", "failed", "refused"]


class RunEnd(NamedTuple):
    """How a run has ended."""

    status: EndStatus
    finished_at: datetime
    duration_ms: int
    longest_lock_ms: float
    complete: bool  # it did everything that was due
    counts: Mapping[str, object] | None
    error: str | None


class JobHistory(NamedTuple):
    """When a job was last completed, and when it failed unless it has succeeded since."""

    done_at: datetime | None
    failed_at: datetime | None


class JobHealth(NamedTuple):
    """The newest run of a job; refused runs count neither as successes nor as failures."""

    job: str
    run_id: int
    started_at: str
    status: str
    duration_ms: int | None
    longest_lock_ms: float | None
    last_ok_at: str | None
    consecutive_failures: int


class DatabaseSize(NamedTuple):
    """A database, its size, that of its write-ahead log, and its free pages.

    On a server, the last three are None.
    """

    path: str  # or the URL, without a password
    size_bytes: int
    wal_bytes: int | None
    free_pages: int | None
    free_bytes: int | None


RunStatus = Literal["ok", "failed", "refused", "running", "crashed"]
RunIdentity = tuple[str, str, str, int]


class RunRecord(NamedTuple):
    """A run in the ledger."""

    run_id: int
    job: str
    started_at: str
    finished_at: str | None  # None: running or crashed
    duration_ms: int | None
    status: RunStatus
    counts: object  # by name
    longest_lock_ms: float | None
    error: str | None
    memctl_version: str
    host: str
    pid: int

    @property
    def identity(self) -> RunIdentity:
        """What identifies the run, also outside the ledger."""
        return self.job, self.started_at, self.host, self.pid


@dataclass(frozen=True)
class RunFilter:
    """Selects runs; a field that is None matches every run."""

    job: str | None = None
    status: RunStatus | None = None
    since: datetime | None = None  # started then or later
    until: datetime | None = None  # started then or earlier


class Loss(NamedTuple):
    """What an agent would lose of what the policy of the last prune would have kept."""

    agent: str | bytes  # bytes: a name that is a blob
    lost: int
    kept: int


Event = Literal[
    "memory:expired",
    "memory:forgotten",
    "memory:deleted",
    "memory:archived",
    "memory:imported",
    "memory:promoted",
    "memory:pruned",
    "memory:restored",
    "memory:held",
    "memory:released",
    "memory:redacted",
]


Reason = Literal["expired", "forgotten", "deleted", "replaced", "imported", "manual", "quota"]
# Those of a whole run, and of what was erased: it is not named.
EVENTS = (*get_args(Event), "memory:decayed", "memory:erased", "memory:alert")


# The reasons of archiving that are themselves events; these come before `memory:archived`.
CAUSES: Mapping[Reason, Event] = {
    "expired": "memory:expired",
    "forgotten": "memory:forgotten",
    "deleted": "memory:deleted",
}


def reason_detail(reason: Reason) -> str:
    """Return the detail of `memory:archived`."""
    return json.dumps({"reason": reason})


class EventRecord(NamedTuple):
    """One event, as readers see it."""

    event_id: int
    at: str
    event: str
    memory_id: str | None
    agent_id: str | None
    type: str | None
    key: str | None
    run_id: int | None
    detail: object  # decoded from JSON


class EventPage(NamedTuple):
    """Some events, oldest first."""

    events: list[EventRecord]
    newest: int  # the id of the newest event that readers may see; 0 if there is none
    pruned: int | None  # the id of the last pruned event, if the reader has missed any


@dataclass(frozen=True)
class EventFilter:
    """Selects events; a field that is None matches every event."""

    agent: str | None = None
    type: str | None = None
    key: str | None = None
    event: str | None = None  # with or without `memory:`
    run_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None  # inclusive


def full_event_name(event: str) -> str:
    """Return the name of an event, given with or without `memory:`.

    Raises UsageError for an event that memctl does not record.
    """
    event = event if event.startswith("memory:") else f"memory:{event}"
    if event not in EVENTS:
        raise UsageError(f"there is no event '{event}'", f"use {', '.join(EVENTS)}")
    return event


REASONS = get_args(Reason)


def require_reason(reason: str | None) -> None:
    """Raise UsageError for a reason for which nothing is archived."""
    if reason is not None and reason not in REASONS:
        raise UsageError(f"unknown reason '{reason}'", f"use {', '.join(REASONS)}")


@dataclass(frozen=True)
class ArchiveFilter:
    """Selects archived memories; a field that is None matches every memory."""

    agent: str | None = None
    ids: Sequence[str] = ()
    type: str | None = None
    key: str | None = None
    reason: str | None = None
    run_id: int | None = None
    archive_id: int | str | None = None  # a number, or on PostgreSQL a UUID
    since: datetime | None = None
    until: datetime | None = None  # inclusive


State = Literal["active", "archived"]
SearchedField = Literal["key", "value", "metadata"]


@dataclass(frozen=True)
class MemoryFilter:
    """Selects active or archived memories; a field that is None matches every memory."""

    agent: str | None = None
    type: str | None = None
    since: datetime | None = None  # written then or later
    until: datetime | None = None  # inclusive


class AgentOverview(NamedTuple):
    """An agent with memories; a time is None if no memory has one."""

    agent_id: str
    memories: int
    archived: int
    storage_bytes: int  # of key, value and metadata of all memories, active and archived
    last_written_at: str | None  # of the memories that still exist, active or archived
    last_read_at: str | None  # the same
    last_archived_at: str | None  # of the memories that are still archived


MOST_ROWS = 10**12  # SQLite's integers are below 2**63
