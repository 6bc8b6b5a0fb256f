"""Restore archived memories: SQLite's rules, applied to copies of the memories that they concern.

An id is unique for each agent only, so that the copies are those of one agent at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from memctl.errors import NotFoundError, counted
from memctl.storage.postgresql.archive import archive_condition
from memctl.storage.postgresql.batches import Batch, FoundRow
from memctl.storage.postgresql.copied_tables import ACTIVE, ARCHIVED
from memctl.storage.postgresql.database import Database, text
from memctl.storage.postgresql.lease import Lease
from memctl.storage.postgresql.ledger import require_run
from memctl.storage.postgresql.working_copy import WorkingCopy
from memctl.storage.rows import AffectedMemory, ArchiveFilter
from memctl.storage.sqlite import ledger as sqlite_ledger
from memctl.storage.sqlite.restore import ID, SqliteArchivedMemories, SqliteRestoration


class ArchiveCopies:
    """Copies of the archived memories that a restore selects, and of what may be in their way."""

    def __init__(
        self, db: Database, lease: Lease | None, which: ArchiveFilter, *, now: datetime
    ) -> None:
        self.copy = WorkingCopy(db)
        self._db = db
        self._lease = lease
        self._which = which
        self._now = now
        if which.run_id is not None:
            self._copy_run(which.run_id)

    def of_each_agent(self) -> Iterator[tuple[str, SqliteArchivedMemories]]:
        """Copy what a restore selects and what conflicts with it, without values, and yield it."""
        condition, parameters = archive_condition(self._which)
        agents = self._db.rows(
            f"SELECT DISTINCT agent_id FROM archived_memories WHERE {condition} ORDER BY agent_id",
            parameters,
        )
        for (agent,) in agents:
            self.copy.clear()
            with self._db.one_view():
                self.copy.copy(
                    ARCHIVED,
                    f"{condition} AND agent_id = %(of_agent)s",
                    {**parameters, "of_agent": agent},
                    without=("value", "metadata"),
                )
                self.copy.copy(
                    ACTIVE,
                    "agent_id = %(of_agent)s AND id = ANY(%(ids)s)",
                    {"of_agent": agent, "ids": self._in_the_way(agent, self._original_ids())},
                    without=("value", "metadata"),
                )
            if self._lease:
                self._lease.keep(self._db)
            yield agent, self.archived()

    def lock(self, batch: Batch, *, run_id: int | None) -> SqliteArchivedMemories:
        """Lock and copy the archived memories of a batch, and all that restoring them changes."""
        self.copy.clear()
        self.copy.lock(ARCHIVED, batch.agent, batch.keys)
        ids = self._original_ids()
        renamed = [f"{memory_id}~{run_id}" for memory_id in ids]  # must not be in use
        self.copy.lock(ACTIVE, batch.agent, self._in_the_way(batch.agent, ids + renamed))
        others = self._db.rows(
            "SELECT archive_id::text FROM archived_memories"
            " WHERE agent_id = %(agent)s AND id = ANY(%(ids)s)",
            {"agent": batch.agent, "ids": ids},
        )
        self.copy.lock(ARCHIVED, batch.agent, [key for (key,) in others if key not in batch.keys])
        return self.archived()

    def archived(self) -> SqliteArchivedMemories:
        """Return what a restore selects among the present copies."""
        which = self._which
        if which.archive_id is not None:
            which = replace(which, archive_id=self.copy.number_of(str(which.archive_id)))
        return SqliteArchivedMemories(self.copy.db, which, now=self._now)

    def _copy_run(self, run_id: int) -> None:
        """Copy the record of a run, which says when it archived memories."""
        job, started_at = require_run(self._db, run_id)
        copied = sqlite_ledger.start_run(self.copy.db, job, now=started_at)
        self.copy.db.execute("UPDATE memory_runs SET run_id = ? WHERE run_id = ?", (run_id, copied))

    def _original_ids(self) -> list[str]:
        """Return the ids that the copied archived memories have when they are restored."""
        return [row[0] for row in self.copy.db.execute(f"SELECT {ID} FROM archived_memories")]

    def _in_the_way(self, agent: str, ids: Sequence[str]) -> list[str]:
        """Return the active memories with these ids, or the names of the copied archived ones."""
        names = self.copy.db.execute("SELECT type, key FROM archived_memories").fetchall()
        found = self._db.rows(
            """
            SELECT id FROM agent_memory WHERE agent_id = %(agent)s AND id = ANY(%(ids)s)
            UNION
            SELECT memory.id
            FROM unnest(%(types)s::text[], %(keys)s::text[]) AS archived (type, key)
            JOIN agent_memory AS memory USING (type, key)
            WHERE memory.agent_id = %(agent)s
            """,
            {
                "agent": agent,
                "ids": list(ids),
                "types": [type_ for type_, _ in names],
                "keys": [key for _, key in names],
            },
        )
        return [memory_id for (memory_id,) in found]


class PostgresArchivedMemories:
    """The archived memories that a restore selects; see `storage.changes.ArchivedMemories`."""

    erased = 0  # no memory is known to be erased: there is no `memctl erase` on this engine

    def __init__(
        self, db: Database, lease: Lease | None, which: ArchiveFilter, *, now: datetime
    ) -> None:
        self._copies = ArchiveCopies(db, lease, which, now=now)
        self._count = 0
        self._conflicts = 0
        self._first_conflict = ("", "", "")
        for _, archived in self._copies.of_each_agent():
            self._count += archived.count()
            conflicts = archived.count_conflicts()
            if conflicts and not self._conflicts:
                self._first_conflict = archived.first_conflict()
            self._conflicts += conflicts

    def count(self) -> int:
        return self._count

    def count_foreign_ids(self) -> int:
        """Return 0: agents may have memories with the same id."""
        return 0

    def count_conflicts(self) -> int:
        return self._conflicts

    def first_conflict(self) -> tuple[str, str, str]:
        return self._first_conflict

    def behind_held(self) -> list[tuple[str, str, str]]:
        """Return nothing: there are no holds on this engine."""
        return []

    def restoration(
        self, *, replacing: bool, expires_at: datetime | None, now: datetime, run_id: int | None
    ) -> "PostgresRestoration":
        return PostgresRestoration(
            self._copies, replacing=replacing, expires_at=expires_at, now=now, run_id=run_id
        )


class PostgresRestoration:
    """Moves memories back from the archive; see `storage.changes.Restoration`."""

    def __init__(
        self,
        copies: ArchiveCopies,
        *,
        replacing: bool,
        expires_at: datetime | None,
        now: datetime,
        run_id: int | None,
    ) -> None:
        self._copies = copies
        self._replacing = replacing
        self._expires_at = expires_at
        self._now = now
        self._run_id = run_id
        # By the first memory of each batch: a batch may be repeated.
        self._replaced: dict[str, int] = {}

    @property
    def replaced(self) -> int:
        """How many active memories it has archived so far to make room."""
        return sum(self._replaced.values())

    def memories(self) -> Iterator[AffectedMemory]:
        """Yield the memories that it would restore now."""
        for _, archived in self._copies.of_each_agent():
            yield from self._of(archived).memories()

    def held(self) -> Iterator[AffectedMemory]:
        """Yield nothing: there are no holds on this engine."""
        return iter(())

    def find(self) -> Sequence[FoundRow]:
        """Return the archived memories to restore."""
        return [
            (agent, self._copies.copy.key_of(archive_id))
            for agent, archived in self._copies.of_each_agent()
            for archive_id in self._of(archived).find()
        ]

    def apply(self, batch: Batch) -> Sequence[AffectedMemory]:
        """Restore the memories of a batch that still match; returns these."""
        copy = self._copies.copy
        restoration = self._of(self._copies.lock(batch, run_id=self._run_id))
        with copy.changes(batch):
            restored = restoration.apply(copy.rowids(ARCHIVED, batch.agent, batch.keys))
        self._replaced[batch.keys[0]] = restoration.replaced
        return restored

    def count_in_the_way(self) -> int:
        """Return how many active memories it would archive to make room."""
        return sum(
            self._of(archived).count_in_the_way() for _, archived in self._copies.of_each_agent()
        )

    def _of(self, archived: SqliteArchivedMemories) -> SqliteRestoration:
        """Return the restoration of what is copied."""
        return archived.restoration(
            replacing=self._replacing,
            expires_at=self._expires_at,
            now=self._now,
            run_id=self._run_id,
        )


def archived_version(db: Database, agent: str, type: str, key: str, number: int | None) -> str:
    """Return the archive id of an archived version, by default the newest.

    Raises NotFoundError if there is no such version.
    """
    parameters: dict[str, Any] = {"agent": text(agent), "type": text(type), "key": text(key)}
    found = db.rows(
        "SELECT archive_id::text FROM archived_memories"
        " WHERE agent_id = %(agent)s AND type = %(type)s AND key = %(key)s"
        " ORDER BY archived_at, archive_id",
        parameters,
    )
    what, hint = f"'{agent}' {type} '{key}'", f"see `memctl archived {agent}`"
    if not found:
        raise NotFoundError(f"the archive has no version of {what}", hint)
    number = len(found) if number is None else number
    if not 1 <= number <= len(found):
        raise NotFoundError(
            f"the archive has {counted(len(found), 'version')} of {what}, but no version {number}",
            hint,
        )
    return str(found[number - 1][0])
