"""The queries for candidates: memories that meet the four conditions of promotion.

The conditions are on type, importance, accesses and age. The link from a memory to its entry in the
knowledge base has the hash of the text it was promoted with, by which a change is detected.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property, partial
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.entry_text import content_hash
from memctl.storage.knowledge import ENTRY_TYPES, CandidateRow, ConditionsMet, Which
from memctl.storage.policies import PromotionValues
from memctl.storage.rows import AffectedMemory
from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter
from memctl.storage.sqlite.changes import Batch, RowChange
from memctl.storage.sqlite.database import transaction
from memctl.storage.sqlite.decay import DecaySql, memories_at
from memctl.storage.sqlite.selection import BATCH_ROWS, Rows, Selection
from memctl.storage.sqlite.times import unix_seconds
from memctl.storage.text import from_bytes, to_bytes
from memctl.storage.times import to_unix


def _at_least(column: str, parameter: str) -> str:
    return f"typeof({column}) IN ('integer', 'real') AND {column} >= {parameter}"


IS_TYPE = f"type IN ({', '.join(map(repr, ENTRY_TYPES))})"
IS_IMPORTANT = f"typeof(importance) IN ('integer', 'real') AND {_at_least('judged', ':importance')}"
IS_READ = _at_least("access_count", ":accesses")
IS_OLD = ":now - created >= :age"  # never, if it was not created at a time
IS_CANDIDATE = f"{IS_TYPE} AND {IS_IMPORTANT} AND {IS_READ} AND {IS_OLD}"

# Before decay charges a candidate, it notes the importance, and the note is kept as long as the
# memory exists: later, it could not be computed if the floor was reached or the policy changed.
NOTE = "candidate:"

# An empty substitute for the table if there is no knowledge base yet.
NO_ENTRIES = "(SELECT 0 AS rowid, '' AS id, '' AS content, '' AS superseded_by WHERE FALSE)"


class CandidateSql(NamedTuple):
    """What the queries for candidates depend on."""

    decay: DecaySql
    parameters: Mapping[str, Any]
    has_entries: bool = False  # there is a knowledge base
    note: str = f"'{NOTE}' || id"  # SQL for the key of a memory's note

    @property
    def entries(self) -> str:
        """The table of the knowledge base, or an empty substitute."""
        return "knowledge_entries" if self.has_entries else NO_ENTRIES


def candidate_sql(
    policy: PromotionValues, decay: DecaySql, *, agent: str | None, now: datetime
) -> CandidateSql:
    """Return what the queries for candidates need, for a database without a knowledge base."""
    return CandidateSql(
        decay,
        {
            **decay.parameters,
            "importance": policy.importance,
            "accesses": policy.accesses,
            "age": int(policy.age.total_seconds()),  # an integer, so that age_days is one
            "now": to_unix(now),
            **agent_parameter(agent),
        },
    )


def judged_memories(sql: CandidateSql, where: str) -> str:
    """Return SQL for memories, with `judged`, the importance by which they are judged.

    It is the importance at the moment when the last other condition was met: when the memory was
    old enough, or at its last read if that came later.
    """
    then = memories_at(
        "min(:now, max(created + :age, idle_since))",
        where,
        sql.decay,
        f"access_count, promoted_at, {unix_seconds('created_at')} AS created",
    )
    return f"""
        SELECT *, max(importance_then, ifnull(noted, importance_then)) AS judged
        FROM (
            SELECT *, (
                SELECT CAST(value AS REAL) FROM memory_state WHERE key = {sql.note}
            ) AS noted
            FROM ({then})
            LIMIT -1
        )
        LIMIT -1
    """


def _judged(sql: CandidateSql, rows: Rows, condition: str) -> str:
    """Return the same for the memories whose stored columns meet a condition."""
    return judged_memories(sql, rows.where(f"{condition} AND {OF_AGENT}"))


def _promoted_already(sql: CandidateSql) -> str:
    """Return SQL for when the memory was promoted with its present text.

    The casts are necessary because functions defined in Python reject text that is invalid UTF-8.
    """
    return f"""
        SELECT link.promoted_at
        FROM agent_memory AS stored
        JOIN memory_promotions AS link ON link.agent_id = stored.agent_id
            AND link.type = stored.type AND link.key = stored.key
        JOIN {sql.entries} AS entry ON entry.id = link.entry_id
        WHERE stored.rowid = memory.rowid
            AND link.content_hash = content_hash(
                stored.type,
                CAST(stored.key AS BLOB),
                CAST(stored.value AS BLOB),
                CAST(stored.metadata AS BLOB)
            )
    """


def define_content_hash(db: Connection) -> None:
    """Define the SQL function that hashes the text of a memory, for all queries on `db`."""

    def hash_of_stored(type_: str, key: bytes, value: bytes, metadata: bytes | None) -> str:
        return content_hash(
            type_,
            from_bytes(key),
            from_bytes(value),
            None if metadata is None else from_bytes(metadata),
        )

    db.create_function("content_hash", 4, hash_of_stored, deterministic=True)


def _candidates(sql: CandidateSql, rows: Rows) -> str:
    return f"""
        SELECT rowid, id, agent_id, type, key
        FROM ({_judged(sql, rows, f"{IS_TYPE} AND {IS_READ}")}) AS memory
        WHERE {IS_CANDIDATE} AND NOT EXISTS ({_promoted_already(sql)})
    """


def _unmarked_memories(sql: CandidateSql, rows: Rows) -> str:
    stored = f"{IS_TYPE} AND {IS_READ} AND promoted_at IS NULL"
    return f"""
        SELECT rowid, id, agent_id, type, key
        FROM ({_judged(sql, rows, stored)}) AS memory
        WHERE {IS_CANDIDATE} AND EXISTS ({_promoted_already(sql)})
    """


# For each: a condition on the stored columns, and one on the conditions that are met.
# Worth listing are all memories of the right types, and those that only their type excludes.
WHICH: Mapping[Which, tuple[str, str]] = {
    "all": ("TRUE", "TRUE"),
    "worth listing": ("TRUE", "is_type OR (is_important AND is_read AND is_old)"),
    "lacking one at most": (
        f"{IS_TYPE} AND ({IS_READ} OR importance >= :importance)",
        """
        is_type AND is_important + is_read + is_old >= 2
        AND judged IS NOT NULL AND typeof(access_count) IN ('integer', 'real') AND age IS NOT NULL
        """,
    ),
}


def _judged_conditions(sql: CandidateSql, stored: str, met: str, rows: Rows) -> str:
    """Return SQL for the conditions that memories meet: the promoted first, then the nearest."""
    return f"""
        SELECT rowid, id, agent_id, type, key, importance, access_count, age / 86400 AS age_days,
            age, judged, is_type, is_important, is_read, is_old,
            ({_promoted_already(sql)}) AS known_since
        FROM (
            SELECT *,
                :now - created AS age,
                ({IS_TYPE}) IS TRUE AS is_type,
                ({IS_IMPORTANT}) IS TRUE AS is_important,
                ({IS_READ}) IS TRUE AS is_read,
                ({IS_OLD}) IS TRUE AS is_old
            FROM ({_judged(sql, rows, stored)})
            LIMIT -1
        ) AS memory
        WHERE {met}
        ORDER BY is_type + is_important + is_read + is_old DESC, known_since, rowid
    """


def candidate_with_entry(sql: CandidateSql) -> str:
    """Return SQL for the candidate in the row `:memory`, and the entry that it became earlier."""
    return f"""
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


MARK_AGAIN = """
    UPDATE agent_memory
    SET promoted_at = (
        SELECT link.promoted_at FROM memory_promotions AS link
        WHERE link.agent_id = agent_memory.agent_id
            AND link.type = agent_memory.type AND link.key = agent_memory.key
    )
    WHERE rowid IN (SELECT value FROM json_each(:rowids))
"""


def notes_on_candidates(sql: CandidateSql, rows: Rows) -> str:
    """Return SQL for the rowids of candidates, and for the keys and values of the notes on them."""
    return f"""
        SELECT rowid, {sql.note} AS key, CAST(judged AS TEXT) AS value
        FROM ({_judged(sql, rows, f"{IS_TYPE} AND {IS_READ}")})
        WHERE {IS_CANDIDATE} AND id IS NOT NULL
    """


def note_importances(db: Connection, sql: CandidateSql, rowids: str) -> None:
    """Note the importance of the candidates in these rows (a JSON array).

    Must be called in a transaction.
    """
    db.execute(
        f"""
        INSERT OR IGNORE INTO memory_state (key, value)
        SELECT key, value FROM ({notes_on_candidates(sql, BATCH_ROWS)})
        """,
        {**sql.parameters, "rowids": rowids},
    )


ORPHANED_NOTES = f"""
    SELECT key
    FROM memory_state
    WHERE key GLOB '{NOTE}*'
        AND NOT EXISTS (
            SELECT 1 FROM agent_memory WHERE id = substr(memory_state.key, {len(NOTE) + 1})
        )
        AND NOT EXISTS (
            SELECT 1 FROM archived_memories WHERE id = substr(memory_state.key, {len(NOTE) + 1})
        )
    LIMIT 1000  -- the next run deletes the rest: no lock must be held for long
"""


def delete_orphaned_notes(db: Connection) -> None:
    """Delete notes on memories that are no longer active or archived."""
    keys = [(to_bytes(key),) for (key,) in db.execute(ORPHANED_NOTES)]
    if keys:
        with transaction(db):
            db.executemany("DELETE FROM memory_state WHERE key = CAST(? AS TEXT)", keys)


class SqliteCandidates:
    """The memories that a promotion considers; see `storage.promotion.Candidates`."""

    def __init__(self, db: Connection, sql: CandidateSql) -> None:
        self._db = db
        self._sql = sql

    def judge(
        self, which: Which = "all", *, rowid: int | None = None
    ) -> Iterator[tuple[AffectedMemory, ConditionsMet]]:
        stored, met = WHICH[which]
        if rowid is not None:
            stored = "rowid = :rowid"
        query = partial(_judged_conditions, self._sql, stored, met)
        selection = Selection(query, {**self._sql.parameters, "rowid": rowid})
        for memory in selection.memories(self._db):
            yield memory, ConditionsMet(*memory.details)

    def read(self, rowid: int) -> CandidateRow | None:
        """Return the candidate in a row with its text.

        The conditions are checked again: the row may belong to another memory by now.
        """
        parameters = {**self._sql.parameters, "memory": rowid}
        row = self._db.execute(self._candidate_with_entry, parameters).fetchone()
        return None if row is None else CandidateRow(*row)

    @cached_property
    def _candidate_with_entry(self) -> str:
        return candidate_with_entry(self._sql)

    def promotion(self, promote: Callable[[Sequence[AffectedMemory]], object]) -> RowChange:

        def promote_batch(batch: Batch) -> int:
            promote(batch.memories)
            return len(batch.memories)

        return self._change(_candidates, promote_batch)

    def marking(self) -> RowChange:
        return self._change(
            _unmarked_memories,
            lambda batch: self._db.execute(MARK_AGAIN, {"rowids": batch.rowids}).rowcount,
        )

    def _change(
        self, query: Callable[[CandidateSql, Rows], str], change: Callable[[Batch], int]
    ) -> RowChange:
        selection = Selection(partial(query, self._sql), self._sql.parameters)
        return RowChange(self._db, selection, change)
