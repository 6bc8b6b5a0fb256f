"""PostgreSQL behind `storage.store`: each operation calls the functions of this folder."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from functools import cached_property
from sqlite3 import Connection
from typing import TYPE_CHECKING, Any, Literal

import psycopg

from memctl.errors import LockedError, RefusedError, UsageError
from memctl.storage import policies
from memctl.storage.postgresql import agents, archive, ledger, migrations, state
from memctl.storage.postgresql.archiving import (
    Archiving,
    expired,
    forgotten,
    imported,
    named,
)
from memctl.storage.postgresql.batches import PostgresBatches
from memctl.storage.postgresql.counters import read_counters
from memctl.storage.postgresql.database import Database
from memctl.storage.postgresql.events import number_events, read_events
from memctl.storage.postgresql.lease import Lease
from memctl.storage.postgresql.prune import PostgresOldMemories, delete_old_records
from memctl.storage.postgresql.removing import Removal, excess_versions
from memctl.storage.postgresql.restoring import PostgresArchivedMemories, archived_version
from memctl.storage.postgresql.selection import Selection
from memctl.storage.postgresql.server_errors import translate_errors
from memctl.storage.postgresql.snapshots import PostgresSnapshots
from memctl.storage.postgresql.status import read_status
from memctl.storage.progress import NO_PROGRESS, Progress
from memctl.storage.rows import DatabaseSize, JobHealth

if TYPE_CHECKING:
    from memctl.storage import store
    from memctl.storage.addresses import Address
    from memctl.storage.counters import Counters
    from memctl.storage.holds import Holds
    from memctl.storage.matching import SearchedText
    from memctl.storage.memories import Memories
    from memctl.storage.postgresql.documents import PostgresDocuments
    from memctl.storage.postgresql.working_copy import WorkingCopy
    from memctl.storage.rows import (
        ArchiveFilter,
        EventFilter,
        EventPage,
        JobHistory,
        Pause,
        Reason,
        RunEnd,
        RunFilter,
        RunRecord,
    )
    from memctl.storage.status import Status


class PostgresStore:
    """An open database on a server; its methods are documented in `storage.store.Store`."""

    Error: type[Exception] = psycopg.Error

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lease: Lease | None = None

    @property
    def sqlite(self) -> Connection:
        raise UsageError("this is not available on PostgreSQL", "use a SQLite database")

    @cached_property
    def documents(self) -> "PostgresDocuments":
        from memctl.storage.postgresql.documents import PostgresDocuments

        return PostgresDocuments(self._db)

    @property
    def has_alerts(self) -> bool:
        return False

    @property
    def is_connected(self) -> bool:
        return self._db.is_connected

    def translate_errors(self, database: "Address") -> AbstractContextManager[None]:
        return translate_errors(self._db.address)

    @property
    def is_migrated(self) -> bool:
        return migrations.table_exists(self._db, "archived_memories")

    def require_current(self) -> None:
        migrations.require_current(self._db)

    def batches(
        self,
        *,
        max_seconds: float | None,
        progress: Progress = NO_PROGRESS,
        exclusion: "Lease | None" = None,
    ) -> PostgresBatches:
        self._lease = exclusion
        return PostgresBatches(self._db, exclusion, max_seconds=max_seconds, progress=progress)

    def abort(self) -> None:
        self._db.abort()

    def current_pause(self, *, now: datetime) -> "Pause | None":
        return state.current_pause(self._db, now=now)

    def clock_error(self, *, now: datetime) -> RefusedError | None:
        return ledger.clock_error(self._db, now=now)

    def start_run(
        self, job: str, *, now: datetime, status: Literal["running", "refused"] = "running"
    ) -> int:
        if self._lease:
            number_events(self._db, self._lease)
        return ledger.start_run(self._db, job, now=now, status=status)

    def finish_run(self, run_id: int, end: "RunEnd") -> None:
        ledger.finish_run(self._db, run_id, end)
        if self._lease:
            with suppress(LockedError, psycopg.Error):  # the next run does it
                number_events(self._db, self._lease)

    def forget_run(self, run_id: int) -> None:
        ledger.forget_run(self._db, run_id)

    def require_run(self, run_id: int) -> tuple[str, datetime]:
        return ledger.require_run(self._db, run_id)

    def job_history(self, job: str) -> "JobHistory":
        return ledger.job_history(self._db, job)

    def list_runs(
        self, which: "RunFilter", *, database: "Address", limit: int, offset: int
    ) -> "list[RunRecord]":
        return ledger.list_runs(self._db, which, limit=limit, offset=offset)

    def pause(self, *, now: datetime, until: datetime | None, reason: str) -> "Pause":
        return state.pause(self._db, now=now, until=until, reason=reason)

    def resume(self) -> bool:
        return state.delete_state(self._db, state.PAUSE)

    def read_state(self, key: str) -> Any:
        return state.read_state(self._db, key)

    def write_state(self, key: str, value: object) -> None:
        state.write_state(self._db, key, value)

    @property
    def memories(self) -> "Memories":
        from memctl.storage.postgresql.clients import PostgresMemories

        return PostgresMemories(self._db)

    def read_events(
        self, which: "EventFilter", *, after: int | None, limit: int, offset: int
    ) -> "EventPage":
        return read_events(self._db, which, after=after, limit=limit, offset=offset)

    def require_agent(self, agent: str | None) -> None:
        agents.require_agent(self._db, agent)

    def require_ids(self, agent: str, ids: Sequence[str]) -> None:
        agents.require_ids(self._db, agent, ids)

    def expired(self, *, agent: str | None, now: datetime, run_id: int | None) -> "store.Change":
        return self._archiving(expired(agent=agent, now=now), "expired", now, run_id)

    def quota_excess(
        self,
        policy: policies.QuotaValues,
        *,
        agent: str | None,
        now: datetime,
        run_id: int | None,
    ) -> "store.QuotaExcess":
        raise UsageError("quotas are not available on PostgreSQL", "remove [quota]")

    def named(
        self, agent: str, ids: Sequence[str], *, now: datetime, run_id: int | None
    ) -> "store.Change":
        return self._archiving(named(agent, ids), "manual", now, run_id)

    def forgotten(self, agent: str, type: str | None, *, now: datetime) -> "store.Change":
        return self._archiving(forgotten(agent, type), "forgotten", now, run_id=None)

    def imported(
        self,
        by_run: int,
        imported_at: datetime,
        *,
        agent: str | None,
        now: datetime,
        run_id: int | None,
    ) -> "store.ImportedMemories":
        from memctl.storage.store import ImportedMemories

        active, gone, unused = imported(self._db, by_run, imported_at, agent=agent)
        return ImportedMemories(active, gone, self._archiving(unused, "manual", now, run_id))

    def list_archived(
        self,
        which: "ArchiveFilter",
        *,
        search: "SearchedText | None" = None,
        limit: int,
        offset: int,
    ) -> list[dict[str, Any]]:
        return archive.list_archived(self._db, which, search=search, limit=limit, offset=offset)

    def archived(self, which: "ArchiveFilter", *, now: datetime) -> "store.ArchivedMemories":
        return PostgresArchivedMemories(self._db, self._lease, which, now=now)

    def archived_version(self, agent: str, type: str, key: str, number: int | None) -> str:
        return archived_version(self._db, agent, type, key, number)

    def excess_versions(
        self,
        policy: policies.PolicyValues,
        *,
        agent: str | None,
        now: datetime,
        run_id: int | None,
    ) -> "store.Change":
        return Removal(self._db, excess_versions(policy, agent=agent), now=now, run_id=run_id)

    def old(
        self,
        policy: policies.RetentionValues,
        last: policies.RetentionValues,
        *,
        agent: str | None,
        now: datetime,
    ) -> "store.OldMemories":
        return PostgresOldMemories(self._db, policy, last, agent=agent, now=now)

    def delete_old_records(self, batches: "store.Batches", *, before: datetime) -> None:
        assert isinstance(batches, PostgresBatches)  # noqa: S101  for the type checker
        delete_old_records(self._db, batches, before=before)

    def charge_idle_times(
        self,
        batches: "store.Batches",
        policy: policies.PolicyValues,
        *,
        agent: str | None,
        now: datetime,
    ) -> None:
        """Do nothing: without triggers, there are no idle times that accesses have ended."""

    def fading(
        self,
        policy: policies.PolicyValues,
        promotion: policies.PromotionValues,
        *,
        agent: str | None,
        now: datetime,
        run_id: int | None,
    ) -> "store.Change":
        from memctl.storage.postgresql.fading import PostgresFading

        return PostgresFading(
            self._db, self._lease, policy, promotion, agent=agent, now=now, run_id=run_id
        )

    def forget_notes(self) -> None:
        from memctl.storage.postgresql.notes import delete_orphaned_notes

        delete_orphaned_notes(self._db)

    def candidates(
        self,
        policy: policies.PromotionValues,
        decay: policies.PolicyValues,
        *,
        has_knowledge: bool,
        agent: str | None,
        now: datetime,
    ) -> "store.Candidates":
        from memctl.storage.postgresql.promoting import PostgresCandidates

        return PostgresCandidates(
            self._db,
            self._lease,
            self._copy,
            policy,
            decay,
            has_knowledge=has_knowledge,
            agent=agent,
            now=now,
        )

    @property
    def knowledge(self) -> "store.KnowledgeBase":
        from memctl.storage.postgresql.knowledge import PostgresKnowledgeBase

        return PostgresKnowledgeBase(self._db, self._copy)

    @cached_property
    def _copy(self) -> "WorkingCopy":
        """The copies that a promotion and its knowledge base share."""
        from memctl.storage.postgresql.working_copy import WorkingCopy

        return WorkingCopy(self._db)

    def has_holds(self) -> bool:
        return False

    @property
    def snapshots(self) -> "store.Snapshots":
        return PostgresSnapshots(self._db)

    def read_status(self, database: "Address", *, now: datetime) -> "Status":
        return read_status(self._db, self.database_size(database), now=now)

    def database_size(self, database: "Address") -> DatabaseSize:
        size = self._db.value("SELECT pg_database_size(current_database())")
        return DatabaseSize(str(database), int(size), None, None, None)

    def job_health(self) -> list[JobHealth]:
        return ledger.job_health(self._db)

    def read_counters(self) -> "Counters":
        return read_counters(self._db)

    def schema_step(self) -> int:
        return migrations.schema_step(self._db)

    @property
    def holds(self) -> "Holds":
        raise UsageError("holds are not available on PostgreSQL", "use a SQLite database")

    def _archiving(
        self, selection: Selection, reason: "Reason", now: datetime, run_id: int | None
    ) -> "store.Change":
        return Archiving(self._db, selection, reason, now=now, run_id=run_id)
