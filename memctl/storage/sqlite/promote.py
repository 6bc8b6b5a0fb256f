"""The queries of promotion: read candidates, and link memories to their entries."""

from datetime import datetime
from sqlite3 import Connection

from memctl.storage.rows import CandidateRow
from memctl.storage.sqlite.candidates import IS_CANDIDATE, CandidateSql, judged_memories
from memctl.storage.sqlite.database import to_bytes
from memctl.storage.times import to_text


class CandidateReader:
    """Reads candidates one by one.

    The conditions are checked each time: the row may belong to another memory by now.
    """

    def __init__(self, db: Connection, sql: CandidateSql) -> None:
        self._db = db
        self._parameters = sql.parameters
        self._query = f"""
            SELECT CAST(memory.agent_id AS BLOB), memory.type, CAST(memory.key AS BLOB),
                CAST(memory.value AS BLOB), CAST(memory.metadata AS BLOB), candidate.judged,
                entry.rowid, CAST(entry.content AS BLOB), entry.superseded_by IS NULL
            FROM (
                SELECT rowid, judged
                FROM ({judged_memories(sql, "WHERE rowid = :memory")})
                WHERE {IS_CANDIDATE}
            ) AS candidate
            JOIN agent_memory AS memory ON memory.rowid = candidate.rowid
            LEFT JOIN memory_promotions AS link ON link.agent_id = memory.agent_id
                AND link.type = memory.type AND link.key = memory.key
            LEFT JOIN {sql.entries} AS entry ON entry.id = link.entry_id
        """

    def read(self, memory: int) -> CandidateRow | None:
        """Return the candidate in a row, or None if there is none."""
        row = self._db.execute(self._query, {**self._parameters, "memory": memory}).fetchone()
        return None if row is None else CandidateRow(*row)


LINK_TO_ENTRY = """
    INSERT OR REPLACE INTO memory_promotions
        (agent_id, type, key, entry_id, content_hash, promoted_at)
    SELECT agent_id, type, key, CAST(:entry_id AS TEXT), :content_hash, :now
    FROM agent_memory
    WHERE rowid = :memory
"""

MARK_MEMORY = "UPDATE agent_memory SET promoted_at = :now WHERE rowid = :memory"


def link_to_entry(
    db: Connection, memory: int, *, entry_id: str, content_hash: str, now: datetime
) -> tuple[int, int]:
    """Link the memory in a row to its entry and mark it as promoted; in a transaction.

    Returns how many rows were linked and how many were marked.
    """
    parameters = {
        "memory": memory,
        "entry_id": to_bytes(entry_id),
        "content_hash": content_hash,
        "now": to_text(now),
    }
    linked = db.execute(LINK_TO_ENTRY, parameters).rowcount
    return linked, db.execute(MARK_MEMORY, parameters).rowcount


MARK_AGAIN = """
    UPDATE agent_memory
    SET promoted_at = (
        SELECT link.promoted_at FROM memory_promotions AS link
        WHERE link.agent_id = agent_memory.agent_id
            AND link.type = agent_memory.type AND link.key = agent_memory.key
    )
    WHERE rowid IN (SELECT value FROM json_each(:rowids))
"""


def mark_again(db: Connection, rowids: str) -> int:
    """Mark the memories in these rows (a JSON array) as promoted when they were; returns how many.

    Must be called in a transaction.
    """
    return db.execute(MARK_AGAIN, {"rowids": rowids}).rowcount
