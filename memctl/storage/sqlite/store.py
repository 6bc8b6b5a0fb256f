"""SQLite behind `storage.store`: each operation calls the functions of this folder.

A method imports what it needs when it is called, so that a command imports only what its job needs.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from typing import TYPE_CHECKING, Any, Literal

from memctl.errors import RefusedError
from memctl.storage.progress import NO_PROGRESS, Progress
from memctl.storage.sqlite import agents, ledger, migrations, pause, state
from memctl.storage.sqlite.batches import SqliteBatches
from memctl.storage.sqlite.database import table_exists, transaction
from memctl.storage.sqlite.sqlite_errors import translate_errors

if TYPE_CHECKING:
    from memctl.storage import policies, store
    from memctl.storage.addresses import Address
    from memctl.storage.counters import Counters
    from memctl.storage.documents import Documents
    from memctl.storage.holds import Holds
    from memctl.storage.matching import SearchedText
    from memctl.storage.memories import Memories
    from memctl.storage.rows import (
        ArchiveFilter,
        DatabaseSize,
        EventFilter,
        EventPage,
        JobHealth,
        JobHistory,
        Pause,
        Reason,
        RunEnd,
        RunFilter,
        RunRecord,
    )
    from memctl.storage.sqlite.changes import Batch
    from memctl.storage.sqlite.decay import DecaySql
    from memctl.storage.sqlite.selection import Selection
    from memctl.storage.status import Status

SHORT_WAIT_MS = 1000


class SqliteStore:
    """An open SQLite database; its methods are documented in `storage.store.Store`."""

    Error: type[Exception] = sqlite3.Error

    def __init__(self, db: Connection) -> None:
        self._db = db

    @property
    def sqlite(self) -> Connection:
        return self._db

    @property
    def documents(self) -> "Documents":
        from memctl.storage.sqlite.documents import SqliteDocuments

        return SqliteDocuments(self._db)

    @property
    def has_alerts(self) -> bool:
        return True

    @property
    def is_connected(self) -> bool:
        return True

    def translate_errors(self, database: "Address") -> AbstractContextManager[None]:
        assert isinstance(database, Path)  # noqa: S101  for the type checker
        return translate_errors(database, self._db)

    @property
    def is_migrated(self) -> bool:
        return table_exists(self._db, "archived_memories")

    def require_current(self) -> None:
        migrations.require_current(self._db)

    def batches(
        self,
        *,
        max_seconds: float | None,
        progress: Progress = NO_PROGRESS,
        exclusion: "store.Exclusion" = None,
    ) -> SqliteBatches:
        return SqliteBatches(self._db, max_seconds=max_seconds, progress=progress)

    def abort(self) -> None:
        self._db.rollback()  # a signal may come between the start of a transaction and its block
        self._db.execute(f"PRAGMA busy_timeout = {SHORT_WAIT_MS}")

    def current_pause(self, *, now: datetime) -> "Pause | None":
        return pause.current_pause(self._db, now=now)

    def clock_error(self, *, now: datetime) -> RefusedError | None:
        return ledger.clock_error(self._db, now=now)

    def start_run(
        self, job: str, *, now: datetime, status: Literal["running", "refused"] = "running"
    ) -> int:
        return ledger.start_run(self._db, job, now=now, status=status)

    def finish_run(self, run_id: int, end: "RunEnd") -> None:
        ledger.finish_run(self._db, run_id, end)

    def forget_run(self, run_id: int) -> None:
        ledger.forget_run(self._db, run_id)

    def require_run(self, run_id: int) -> tuple[str, datetime]:
        return ledger.require_run(self._db, run_id)

    def job_history(self, job: str) -> "JobHistory":
        return ledger.job_history(self._db, job)

    def list_runs(
        self, which: "RunFilter", *, database: "Address", limit: int, offset: int
    ) -> "list[RunRecord]":
        assert isinstance(database, Path)  # noqa: S101  for the type checker
        crashed = ledger.crashed_runs(self._db, database)
        return ledger.list_runs(self._db, which, crashed=crashed, limit=limit, offset=offset)

    def pause(self, *, now: datetime, until: datetime | None, reason: str) -> "Pause":
        return pause.pause(self._db, now=now, until=until, reason=reason)

    def resume(self) -> bool:
        return pause.resume(self._db)

    def read_state(self, key: str) -> Any:
        return state.read_state(self._db, key)

    def write_state(self, key: str, value: object) -> None:
        with transaction(self._db):
            state.write_state(self._db, key, value)

    @property
    def memories(self) -> "Memories":
        from memctl.storage.sqlite.clients import SqliteMemories

        return SqliteMemories(self._db)

    def read_events(
        self, which: "EventFilter", *, after: int | None, limit: int, offset: int
    ) -> "EventPage":
        from memctl.storage.sqlite.events import read_event_page

        return read_event_page(self._db, which, after=after, limit=limit, offset=offset)

    def require_agent(self, agent: str | None) -> None:
        agents.require_agent(self._db, agent)

    def require_ids(self, agent: str, ids: Sequence[str]) -> None:
        agents.require_ids(self._db, agent, ids)

    def expired(self, *, agent: str | None, now: datetime, run_id: int | None) -> "store.Change":
        from memctl.storage.sqlite.cleanup import select_expired

        return self._archiving(select_expired(agent=agent, now=now), "expired", now, run_id)

    def quota_excess(
        self,
        policy: "policies.QuotaValues",
        *,
        agent: str | None,
        now: datetime,
        run_id: int | None,
    ) -> "store.QuotaExcess":
        from memctl.storage.sqlite.quota_excess import SqliteQuotaExcess

        return SqliteQuotaExcess(self._db, policy, agent=agent, now=now, run_id=run_id)

    def named(
        self, agent: str, ids: Sequence[str], *, now: datetime, run_id: int | None
    ) -> "store.Change":
        from memctl.storage.sqlite.archiving import select_named

        return self._archiving(select_named(agent, ids), "manual", now, run_id)

    def forgotten(self, agent: str, type: str | None, *, now: datetime) -> "store.Change":
        from memctl.storage.sqlite.memories import select_memories

        return self._archiving(select_memories(agent, type), "forgotten", now, run_id=None)

    def imported(
        self,
        by_run: int,
        imported_at: datetime,
        *,
        agent: str | None,
        now: datetime,
        run_id: int | None,
    ) -> "store.ImportedMemories":
        from memctl.storage.sqlite.archiving import imported_memories
        from memctl.storage.store import ImportedMemories

        active, gone, unused = imported_memories(self._db, by_run, imported_at, agent=agent)
        return ImportedMemories(active, gone, self._archiving(unused, "manual", now, run_id))

    def list_archived(
        self,
        which: "ArchiveFilter",
        *,
        search: "SearchedText | None" = None,
        limit: int,
        offset: int,
    ) -> list[dict[str, Any]]:
        from memctl.storage.sqlite.archive import list_archived

        return list_archived(self._db, which, search=search, limit=limit, offset=offset)

    def archived(self, which: "ArchiveFilter", *, now: datetime) -> "store.ArchivedMemories":
        from memctl.storage.sqlite.restore import SqliteArchivedMemories

        return SqliteArchivedMemories(self._db, which, now=now)

    def archived_version(self, agent: str, type: str, key: str, number: int | None) -> int:
        from memctl.storage.sqlite.memories import memory_name
        from memctl.storage.sqlite.versions import find_version

        return find_version(self._db, memory_name(agent, type, key), number)

    def excess_versions(
        self,
        policy: "policies.PolicyValues",
        *,
        agent: str | None,
        now: datetime,
        run_id: int | None,
    ) -> "store.Change":
        from memctl.storage.sqlite.versions import excess_versions

        return excess_versions(self._db, policy, agent=agent, now=now, run_id=run_id)

    def old(
        self,
        policy: "policies.RetentionValues",
        last: "policies.RetentionValues",
        *,
        agent: str | None,
        now: datetime,
    ) -> "store.OldMemories":
        from memctl.storage.sqlite.prune import SqliteOldMemories

        return SqliteOldMemories(self._db, policy, last, agent=agent, now=now)

    def delete_old_records(self, batches: "store.Batches", *, before: datetime) -> None:
        from memctl.storage.sqlite import prune

        prune.delete_old_records(self._db, batches, before=before)

    def fading(
        self,
        policy: "policies.PolicyValues",
        promotion: "policies.PromotionValues",
        *,
        agent: str | None,
        now: datetime,
        run_id: int | None,
    ) -> "store.Change":
        from memctl.storage.sqlite.candidates import candidate_sql, note_importances
        from memctl.storage.sqlite.changes import RowChange
        from memctl.storage.sqlite.decay import charge_batch, decay_sql, select_fading
        from memctl.storage.sqlite.events import DecayEvent
        from memctl.storage.sqlite.idle_times import with_settled_importances

        stored = decay_sql(self._db, policy)
        judged = candidate_sql(promotion, stored, agent=None, now=now)
        event = DecayEvent(self._db, now=now, run_id=run_id)

        def charge(batch: "Batch") -> int:
            note_importances(self._db, judged, batch.rowids)
            charged = charge_batch(self._db, batch.memories, now=now)
            event.add(charged)
            return charged

        def select(sql: "DecaySql") -> "Selection":
            return select_fading(sql, agent=agent, now=now).sparing_held("agent_memory", now=now)

        def select_settled() -> "Selection":
            return select(with_settled_importances(self._db, stored))

        # The ended idle times of held memories are not charged before.
        selection = select_settled() if run_id is None else select(stored)
        return RowChange(self._db, selection, charge, if_not_held=select_settled)

    def charge_idle_times(
        self,
        batches: "store.Batches",
        policy: "policies.PolicyValues",
        *,
        agent: str | None,
        now: datetime,
    ) -> None:
        from memctl.storage.sqlite.idle_times import charge_idle_times

        charge_idle_times(self._db, batches, policy, agent=agent, now=now)

    def forget_notes(self) -> None:
        from memctl.storage.sqlite.candidates import delete_orphaned_notes

        delete_orphaned_notes(self._db)

    def candidates(
        self,
        policy: "policies.PromotionValues",
        decay: "policies.PolicyValues",
        *,
        has_knowledge: bool,
        agent: str | None,
        now: datetime,
    ) -> "store.Candidates":
        from memctl.storage.sqlite.candidates import (
            SqliteCandidates,
            candidate_sql,
            define_content_hash,
        )
        from memctl.storage.sqlite.decay import decay_sql
        from memctl.storage.sqlite.idle_times import with_settled_importances

        define_content_hash(self._db)
        faded = with_settled_importances(self._db, decay_sql(self._db, decay))
        sql = candidate_sql(policy, faded, agent=agent, now=now)
        return SqliteCandidates(self._db, sql._replace(has_entries=has_knowledge))

    def has_holds(self) -> bool:
        from memctl.storage.sqlite.holds import has_holds

        return has_holds(self._db)

    @property
    def holds(self) -> "Holds":
        from memctl.storage.sqlite.holding import SqliteHolds

        return SqliteHolds(self._db)

    @property
    def knowledge(self) -> "store.KnowledgeBase":
        from memctl.storage.sqlite.knowledge import SqliteKnowledgeBase

        return SqliteKnowledgeBase(self._db)

    @property
    def snapshots(self) -> "store.Snapshots":
        from memctl.storage.sqlite.snapshots import SqliteSnapshots

        return SqliteSnapshots(self._db)

    def read_status(self, database: "Address", *, now: datetime) -> "Status":
        from memctl.storage.sqlite.status import read_status

        assert isinstance(database, Path)  # noqa: S101  for the type checker
        return read_status(self._db, database, now=now)

    def database_size(self, database: "Address") -> "DatabaseSize":
        from memctl.storage.sqlite.space import database_size

        assert isinstance(database, Path)  # noqa: S101  for the type checker
        return database_size(self._db, database)

    def job_health(self) -> "list[JobHealth]":
        from memctl.storage.sqlite.run_summaries import job_health

        return job_health(self._db)

    def read_counters(self) -> "Counters":
        from memctl.storage.sqlite.counters import read_counters

        return read_counters(self._db)

    def schema_step(self) -> int:
        return migrations.schema_step(self._db)

    def _archiving(
        self, selection: "Selection", reason: "Reason", now: datetime, run_id: int | None
    ) -> "store.Change":
        from memctl.storage.sqlite.archiving import archive_rows
        from memctl.storage.sqlite.changes import RowChange

        return RowChange(
            self._db,
            selection.sparing_held("agent_memory", now=now),
            lambda batch: archive_rows(
                self._db, batch.rowids, reason=reason, now=now, run_id=run_id
            ),
        )
