"""The operations that the jobs need from a database, as an interface that each engine implements.

`Store` has one coarse operation for each need of a job: which memories it would change, how a batch
of them is changed, and what the ledger contains. Each engine implements these protocols in a folder
of its own; `storage.engines` chooses the engine. Jobs contain no SQL.

What only SQLite has (the optional features, the alerts, backups, explanations) uses
`Store.sqlite`, which other engines refuse.
"""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from sqlite3 import Connection
from typing import Any, Literal, Protocol

from memctl.errors import RefusedError
from memctl.storage.addresses import Address
from memctl.storage.batches import Batches as Batches
from memctl.storage.changes import ArchivedMemories as ArchivedMemories
from memctl.storage.changes import Change as Change
from memctl.storage.changes import ImportedMemories as ImportedMemories
from memctl.storage.changes import OldMemories as OldMemories
from memctl.storage.changes import QuotaExcess as QuotaExcess
from memctl.storage.counters import Counters
from memctl.storage.documents import Documents
from memctl.storage.figures import DayKey, Figures, Key, Period, Snapshot, SnapshotPeriod
from memctl.storage.holds import Holds
from memctl.storage.matching import SearchedText
from memctl.storage.memories import Memories
from memctl.storage.policies import PolicyValues, PromotionValues, QuotaValues, RetentionValues
from memctl.storage.progress import NO_PROGRESS, Progress
from memctl.storage.promotion import Candidates as Candidates
from memctl.storage.promotion import KnowledgeBase as KnowledgeBase
from memctl.storage.rows import (
    ArchiveFilter,
    DatabaseSize,
    EventFilter,
    EventPage,
    JobHealth,
    JobHistory,
    Pause,
    RunEnd,
    RunFilter,
    RunRecord,
)
from memctl.storage.status import Status

# How an engine excludes other memctl processes; only the engine reads it.
Exclusion = Any


class Snapshots(Protocol):
    """The figures of all agents, now and as they were stored each day."""

    def one_view(self) -> AbstractContextManager[None]:
        """Read everything in the block as of one moment."""

    def first_moment(self) -> datetime:
        """Return when events began to be recorded."""

    def counted_since_day(self) -> str | None:
        """Return the first whole day on which accesses are counted; None: they are not."""

    def last_event_id(self) -> int:
        """Return the id of the newest event; 0 if there is none."""

    def read_figures(
        self, period: Period, *, agent: str | None = None, numbered: bool = False
    ) -> dict[Key, Figures]:
        """Return the figures by agent and type, of an agent or of all.

        If `numbered`, events that have no number yet, which no reader sees, are not counted.
        """

    def read_changes(
        self, first_day: str, last_day: str, *, agent: str | None = None, numbered: bool = False
    ) -> dict[DayKey, Figures]:
        """Return the changes on each day, by day, agent and type; `numbered` as before."""

    def incomplete_days(self, *, today: str) -> list[SnapshotPeriod]:
        """Return the days other than today whose snapshots may have to be completed."""

    def figures_of_day(self, day: str) -> dict[Key, Figures]:
        """Return the figures in the snapshot of a day."""

    def replace(self, snapshots: Collection[Snapshot]) -> None:
        """Write snapshots in place of earlier ones of the same days; must be in a transaction."""

    def days(self, first_day: str, last_day: str) -> list[str]:
        """Return the days with a snapshot of any agent, in their order."""

    def read(
        self, first_day: str, last_day: str, *, agent: str | None = None
    ) -> dict[DayKey, Figures]:
        """Return the snapshots of an agent, or of all agents, by day, agent and type."""


class Store(Protocol):
    """An open database with the memories of all agents.

    `now` is the cutoff of a run and `run_id` its number in the ledger, None in a dry run, whose
    changes are never applied. If `agent` is None, the memories of all agents are meant.
    """

    Error: type[Exception]  # what the engine raises

    @property
    def sqlite(self) -> Connection:
        """The connection, for what only SQLite has; other engines raise UsageError."""

    @property
    def documents(self) -> Documents:
        """Exports and imports."""

    @property
    def has_alerts(self) -> bool:
        """Whether failures of jobs raise alerts, in the tables of `sqlite`."""

    @property
    def is_connected(self) -> bool:
        """Whether the database is still open: a server may have closed the connection."""

    def translate_errors(self, database: Address) -> AbstractContextManager[None]:
        """Translate errors of the engine that a user can correct into MemctlError in the block.

        `database` is its name in messages.
        """

    @property
    def is_migrated(self) -> bool:
        """Whether the database has memctl's tables, even if their schema is not current."""

    def require_current(self) -> None:
        """Raise SchemaError unless the database has the schema that jobs are written for."""

    def batches(
        self,
        *,
        max_seconds: float | None,
        progress: Progress = NO_PROGRESS,
        exclusion: Exclusion = None,
    ) -> Batches:
        """Return what applies the changes of one run, for at most `max_seconds`.

        They fail if `exclusion`, from `engines.exclusive`, is lost; without it, clients make them.
        """

    def abort(self) -> None:
        """Roll back an open transaction, and from now on wait only a moment for locks."""

    # The ledger of runs, and the state of memctl

    def current_pause(self, *, now: datetime) -> Pause | None:
        """Return the pause in force."""

    def clock_error(self, *, now: datetime) -> RefusedError | None:
        """Return why the clock cannot be right; None if it may be right."""

    def start_run(
        self, job: str, *, now: datetime, status: Literal["running", "refused"] = "running"
    ) -> int:
        """Record that a run has begun, or is about to be refused; returns its number."""

    def finish_run(self, run_id: int, end: RunEnd) -> None:
        """Record how a run has ended."""

    def forget_run(self, run_id: int) -> None:
        """Delete the record of a run that was started with invalid arguments."""

    def require_run(self, run_id: int) -> tuple[str, datetime]:
        """Return the job of a run and its cutoff. Raises NotFoundError if there is no such run."""

    def job_history(self, job: str) -> JobHistory:
        """Return when a job was last completed, and when it last failed."""

    def list_runs(
        self, which: RunFilter, *, database: Address, limit: int, offset: int
    ) -> list[RunRecord]:
        """Return runs of the database, newest first, without the newest `offset`."""

    def pause(self, *, now: datetime, until: datetime | None, reason: str) -> Pause:
        """Pause the jobs from now on; replaces an earlier pause."""

    def resume(self) -> bool:
        """End the pause and return whether there was one."""

    def read_state(self, key: str) -> Any:
        """Return the value of a key of memctl's state, decoded from JSON; None if there is none."""

    def write_state(self, key: str, value: object) -> None:
        """Set the value of a key, which JSON must be able to represent."""

    def read_events(
        self, which: EventFilter, *, after: int | None, limit: int, offset: int
    ) -> EventPage:
        """Return the first events after a cursor, or the newest ones if it is None.

        The first `offset` of them are left out, or the newest. Raises NotFoundError for a cursor
        beyond the newest event, and UsageError for an event that memctl does not record.
        """

    # Memories

    @property
    def memories(self) -> Memories:
        """The memories, as clients read and change them one by one."""

    def require_agent(self, agent: str | None) -> None:
        """Raise NotFoundError for an agent without any memory, active or archived."""

    def require_ids(self, agent: str, ids: Sequence[str]) -> None:
        """Raise NotFoundError for an id that is not that of a memory of the agent."""

    def expired(self, *, agent: str | None, now: datetime, run_id: int | None) -> Change:
        """Return what archives the memories that have expired."""

    def quota_excess(
        self, policy: QuotaValues, *, agent: str | None, now: datetime, run_id: int | None
    ) -> QuotaExcess:
        """Return what archives the memories beyond a quota; expired ones do not count."""

    def named(self, agent: str, ids: Sequence[str], *, now: datetime, run_id: int | None) -> Change:
        """Return what archives the active memories of an agent with these ids."""

    def forgotten(self, agent: str, type: str | None, *, now: datetime) -> Change:
        """Return what archives an agent's active memories, all or those of one type."""

    def imported(
        self,
        by_run: int,
        imported_at: datetime,
        *,
        agent: str | None,
        now: datetime,
        run_id: int | None,
    ) -> ImportedMemories:
        """Return the memories that a run imported, and what archives them."""

    def list_archived(
        self, which: ArchiveFilter, *, search: SearchedText | None = None, limit: int, offset: int
    ) -> list[dict[str, Any]]:
        """Return archived memories that a filter selects, newest first, as columns by name.

        Only those whose key, value or metadata contains the text of `search`, if it is given.
        """

    def archived(self, which: ArchiveFilter, *, now: datetime) -> ArchivedMemories:
        """Return the archived memories that a filter selects."""

    def archived_version(self, agent: str, type: str, key: str, number: int | None) -> int | str:
        """Return the archive id of a version, by default the newest.

        Raises NotFoundError if there is none.
        """

    def excess_versions(
        self, policy: PolicyValues, *, agent: str | None, now: datetime, run_id: int | None
    ) -> Change:
        """Return what deletes the replaced versions of each memory beyond the policy's number."""

    def old(
        self, policy: RetentionValues, last: RetentionValues, *, agent: str | None, now: datetime
    ) -> OldMemories:
        """Return the old memories under a policy, and under that of the last prune."""

    def delete_old_records(self, batches: Batches, *, before: datetime) -> None:
        """Delete runs and events that are older than a moment and not needed for an undo."""

    def fading(
        self,
        policy: PolicyValues,
        promotion: PromotionValues,
        *,
        agent: str | None,
        now: datetime,
        run_id: int | None,
    ) -> Change:
        """Return what charges memories for idle days, and notes the importance of candidates.

        In a dry run, it assumes that `charge_idle_times` has charged the ended idle times before.
        """

    def charge_idle_times(
        self, batches: Batches, policy: PolicyValues, *, agent: str | None, now: datetime
    ) -> None:
        """Charge the idle times that accesses have ended since the last charge.

        Those of memories that are held stay, to be charged later.
        """

    def forget_notes(self) -> None:
        """Delete notes on memories that no longer exist."""

    def candidates(
        self,
        policy: PromotionValues,
        decay: PolicyValues,
        *,
        has_knowledge: bool,
        agent: str | None,
        now: datetime,
    ) -> Candidates:
        """Return the memories that a promotion considers."""

    def has_holds(self) -> bool:
        """Return whether there are holds, in force or not."""

    @property
    def holds(self) -> Holds:
        """The holds on memories."""

    @property
    def knowledge(self) -> KnowledgeBase:
        """The knowledge base."""

    @property
    def snapshots(self) -> Snapshots:
        """The figures and their daily snapshots."""

    # What monitoring needs

    def read_status(self, database: Address, *, now: datetime) -> Status:
        """Return the status of a database, which need not be migrated."""

    def database_size(self, database: Address) -> DatabaseSize:
        """Return the size of the database; `database` is its name."""

    def job_health(self) -> list[JobHealth]:
        """Return how the newest runs of each job have gone, sorted by job."""

    def read_counters(self) -> Counters:
        """Return the counters of events and runs."""

    def schema_step(self) -> int:
        """Return the newest step of the schema that the database has; 0 if there is none."""
