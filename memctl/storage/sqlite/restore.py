"""The queries of restore: copy archived memories back, unless active memories are in the way.

An archived memory conflicts with an active one that has the same id or the same agent, type and
key. Its id is the one it had before another memory took it over.
"""

import json
from datetime import datetime
from functools import partial
from sqlite3 import Connection

from memctl.storage.rows import ArchiveFilter
from memctl.storage.sqlite.archive import archive_condition
from memctl.storage.sqlite.archiving import (
    archive_replaced,
    give_up_ids,
    original_id,
    remove_archived,
)
from memctl.storage.sqlite.changes import Batch, RowChange
from memctl.storage.sqlite.erased_rows import erased_in_archive
from memctl.storage.sqlite.holds import HAS_HOLDS, has_holds, held_parameter, is_held
from memctl.storage.sqlite.migrations import MEMORY_COLUMNS
from memctl.storage.sqlite.selection import Rows, Selection
from memctl.storage.sqlite.times import is_before
from memctl.storage.sqlite.triggers import require_equal_counts
from memctl.storage.times import to_service_text, to_text, to_unix

ID = original_id("archived_memories")

CONFLICTS = f"""
    EXISTS (SELECT 1 FROM agent_memory AS active WHERE active.id = {ID})
    OR EXISTS (
        SELECT 1 FROM agent_memory AS active
        WHERE active.agent_id = archived_memories.agent_id
            AND active.type = archived_memories.type
            AND active.key = archived_memories.key
    )
"""

# Not even --on-conflict replace may change a memory of another agent.
FOREIGN_ID = f"""
    EXISTS (
        SELECT 1 FROM agent_memory AS active
        WHERE active.id = {ID} AND active.agent_id <> archived_memories.agent_id
    )
"""


# What is held stays where it is, with its id: an active memory in the way is not archived, and
# another archived copy, whose id the restored memory would take over, is not renamed.
BEHIND_HELD = f"""
    EXISTS (
        SELECT 1 FROM agent_memory AS active
        WHERE active.id = {ID} AND {is_held("agent_memory", "active")}
    )
    OR EXISTS (
        SELECT 1 FROM agent_memory AS active
        WHERE active.agent_id = archived_memories.agent_id
            AND active.type = archived_memories.type
            AND active.key = archived_memories.key
            AND {is_held("agent_memory", "active")}
    )
    OR EXISTS (
        SELECT 1 FROM archived_memories AS other
        WHERE other.id = {ID} AND other.archive_id <> archived_memories.archive_id
            AND {is_held("archived_memories", "other")}
    )
"""


class SqliteArchivedMemories:
    """The archived memories that a restore selects; see `storage.changes.ArchivedMemories`."""

    def __init__(self, db: Connection, which: ArchiveFilter, *, now: datetime) -> None:
        self._db = db
        self._condition, self._parameters = archive_condition(which)
        erased = erased_in_archive(db, self._condition, self._parameters)
        self.erased = len(erased)
        if erased:
            self._condition += " AND archive_id NOT IN (SELECT value FROM json_each(:erased))"
            self._parameters["erased"] = json.dumps(erased)
        self._parameters |= held_parameter(now)

    def count(self) -> int:
        return self._count(self._condition)

    def count_foreign_ids(self) -> int:
        return self._count(f"{self._condition} AND {FOREIGN_ID}")

    def count_conflicts(self) -> int:
        return self._count(f"{self._condition} AND ({CONFLICTS})")

    def first_conflict(self) -> tuple[str, str, str]:
        agent_id, type_, key = self._db.execute(
            f"SELECT agent_id, type, key FROM archived_memories"
            f" WHERE {self._condition} AND ({CONFLICTS}) LIMIT 1",
            self._parameters,
        ).fetchone()
        return agent_id, type_, key

    def behind_held(self) -> list[tuple[str, str, str]]:
        if not has_holds(self._db):
            return []
        return self._db.execute(
            f"SELECT agent_id, type, key FROM archived_memories"
            f" WHERE {self._restorable()} AND ({BEHIND_HELD})",
            self._parameters,
        ).fetchall()

    def _restorable(self) -> str:
        """Return SQL that is true for the newest copies of what is selected."""
        return f"{self._condition} AND {_newest_copies(self._condition)}"

    def restoration(
        self, *, replacing: bool, expires_at: datetime | None, now: datetime, run_id: int | None
    ) -> "SqliteRestoration":
        obstacle = FOREIGN_ID if replacing else CONFLICTS
        selection = Selection(
            partial(
                restorable_memories,
                f"{self._condition} AND NOT ({obstacle}) AND NOT ({HAS_HOLDS} AND ({BEHIND_HELD}))",
            ),
            self._parameters,
            search_only=_newest_copies(self._condition),
        )
        return SqliteRestoration(self._db, selection, expires_at=expires_at, now=now, run_id=run_id)

    def _count(self, condition: str) -> int:
        (count,) = self._db.execute(
            f"SELECT count(*) FROM archived_memories WHERE {condition}", self._parameters
        ).fetchone()
        return int(count)


class SqliteRestoration(RowChange):
    """Moves memories back from the archive; see `storage.changes.Restoration`."""

    def __init__(
        self,
        db: Connection,
        selection: Selection,
        *,
        expires_at: datetime | None,
        now: datetime,
        run_id: int | None,
    ) -> None:
        self.replaced = 0

        def move_back(batch: Batch) -> int:
            in_the_way = conflicting_rows(db, batch.rowids)
            self.replaced += archive_replaced(db, in_the_way, now=now, run_id=run_id)
            return restore_rows(db, batch.rowids, expires_at=expires_at, now=now, run_id=run_id)

        super().__init__(db, selection, move_back)

    def count_in_the_way(self) -> int:
        """Return how many active memories it would archive to make room."""
        return len(conflicting_rows(self._db, json.dumps(self.find().tolist())))


def restorable_memories(condition: str, rows: Rows) -> str:
    """Return SQL for the archived memories that meet a condition."""
    return f"""
        SELECT archive_id AS rowid, {ID} AS id, agent_id, type, key, archived_at, archived_reason
        FROM archived_memories
        {rows.where(condition)}
    """


def _newest_copies(condition: str) -> str:
    """Return SQL that is true for the newest copy, among those that meet a condition.

    By time, not by archive_id: an import may add copies that are older than the existing ones.
    """
    return f"""
        archive_id IN (
            SELECT archive_id
            FROM (
                SELECT archive_id,
                    row_number() OVER (
                        PARTITION BY agent_id, type, key
                        ORDER BY archived_at DESC, archive_id DESC
                    ) AS age_by_key,
                    row_number() OVER (
                        PARTITION BY ifnull({ID}, archive_id)
                        ORDER BY archived_at DESC, archive_id DESC
                    ) AS age_by_id
                FROM archived_memories
                WHERE {condition}
            )
            WHERE age_by_key = 1 AND age_by_id = 1
        )
    """


ACTIVE_IN_THE_WAY = f"""
    SELECT rowid FROM agent_memory
    WHERE id IN (
            SELECT {ID} FROM archived_memories
            WHERE archive_id IN (SELECT value FROM json_each(:rowids))
        )
        OR (agent_id, type, key) IN (
            SELECT agent_id, type, key FROM archived_memories
            WHERE archive_id IN (SELECT value FROM json_each(:rowids))
        )
"""


def conflicting_rows(db: Connection, rowids: str) -> list[int]:
    """Return the rows of the active memories that conflict with archived ones (a JSON array)."""
    return [row for (row,) in db.execute(ACTIVE_IN_THE_WAY, {"rowids": rowids})]


TAKE_IDS_BACK = f"""
    UPDATE archived_memories SET id = {ID}
    WHERE archive_id IN (SELECT value FROM json_each(:rowids)) AND id IS NOT {ID}
"""

CHANGED_BY_RESTORE = {
    "expires_at": f"""
        CASE WHEN :expires_at IS NOT NULL THEN :expires_at
            WHEN {is_before("expires_at", ":now")} THEN NULL
            ELSE expires_at
        END
    """,
    "last_decay_at": ":charged_at",
}

COPY_TO_ACTIVE = f"""
    INSERT INTO agent_memory ({", ".join(MEMORY_COLUMNS)})
    SELECT {", ".join(CHANGED_BY_RESTORE.get(column, column) for column in MEMORY_COLUMNS)}
    FROM archived_memories
    WHERE archive_id IN (SELECT value FROM json_each(:rowids))
    ORDER BY archive_id
"""

OTHER_COPIES = """
    id IN (
        SELECT id FROM archived_memories
        WHERE archive_id IN (SELECT value FROM json_each(:rowids))
    )
    AND archive_id NOT IN (SELECT value FROM json_each(:rowids))
"""


def restore_rows(
    db: Connection, rowids: str, *, expires_at: datetime | None, now: datetime, run_id: int | None
) -> int:
    """Move the memories in these rows (a JSON array) back from the archive; returns their number.

    Must be called in a transaction, when no active memory conflicts with them. Raises SchemaError
    if a foreign trigger interferes.
    """
    db.execute(TAKE_IDS_BACK, {"rowids": rowids})
    moved = db.execute(
        COPY_TO_ACTIVE,
        {
            "rowids": rowids,
            "now": to_unix(now),
            "charged_at": to_text(now),
            "expires_at": to_service_text(expires_at) if expires_at else None,
        },
    ).rowcount
    give_up_ids(db, OTHER_COPIES, {"rowids": rowids}, run_id=run_id)
    removed = remove_archived(db, rowids, "memory:restored", now=now, run_id=run_id)
    require_equal_counts(db, restored=moved, removed=removed)
    return moved
