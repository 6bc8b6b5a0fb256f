"""The queries of restore: copy archived memories back, unless active memories are in the way.

An archived memory conflicts with an active one that has the same id or the same agent, type and
key. Its id is the one it had before another memory took it over.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.rows import ArchiveFilter
from memctl.storage.sqlite.archive import archive_condition
from memctl.storage.sqlite.archiving import give_up_ids, original_id, remove_archived
from memctl.storage.sqlite.migrations import MEMORY_COLUMNS
from memctl.storage.sqlite.selection import Rows, Selection
from memctl.storage.sqlite.triggers import require_equal_counts
from memctl.storage.times import is_before, to_service_text, to_text, to_unix

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


class ArchivedSelection(NamedTuple):
    """The archived memories that a restore is about."""

    condition: str
    parameters: Mapping[str, Any]

    def count(self, db: Connection) -> int:
        """Return how many there are."""
        return self._count(db, self.condition)

    def count_foreign_ids(self, db: Connection) -> int:
        """Return how many have an id that an active memory of another agent has."""
        return self._count(db, f"{self.condition} AND {FOREIGN_ID}")

    def count_conflicts(self, db: Connection) -> int:
        """Return how many conflict with an active memory."""
        return self._count(db, f"{self.condition} AND ({CONFLICTS})")

    def first_conflict(self, db: Connection) -> tuple[str, str, str]:
        """Return agent, type and key of one that conflicts with an active memory."""
        agent_id, type_, key = db.execute(
            f"SELECT agent_id, type, key FROM archived_memories"
            f" WHERE {self.condition} AND ({CONFLICTS}) LIMIT 1",
            self.parameters,
        ).fetchone()
        return agent_id, type_, key

    def without_conflicts(self) -> Selection:
        """Select the newest copy of each that does not conflict with an active memory."""
        return self._newest(CONFLICTS)

    def without_foreign_ids(self) -> Selection:
        """Select the newest copy of each whose id no active memory of another agent has."""
        return self._newest(FOREIGN_ID)

    def _count(self, db: Connection, condition: str) -> int:
        (count,) = db.execute(
            f"SELECT count(*) FROM archived_memories WHERE {condition}", self.parameters
        ).fetchone()
        return int(count)

    def _newest(self, obstacle: str) -> Selection:
        return Selection(
            partial(restorable_memories, f"{self.condition} AND NOT ({obstacle})"),
            self.parameters,
            search_only=_newest_copies(self.condition),
        )


def archived_selection(which: ArchiveFilter) -> ArchivedSelection:
    """Return the archived memories that a filter selects."""
    return ArchivedSelection(*archive_condition(which))


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
    db: Connection, rowids: str, *, expires_at: datetime | None, now: datetime, run_id: int
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
