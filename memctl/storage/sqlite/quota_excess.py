"""Archiving what agents have beyond their quota: the search, and the check of each batch."""

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from sqlite3 import Connection
from typing import TYPE_CHECKING, Any

from memctl.storage.rows import AffectedMemory
from memctl.storage.sqlite.archiving import archive_rows
from memctl.storage.sqlite.database import one_view, temporary_tables
from memctl.storage.sqlite.holds import has_holds
from memctl.storage.sqlite.quota import (
    COUNTS,
    IDLE,
    IS_BEYOND,
    IS_EXPIRED,
    IS_HELD,
    ONLY_BEYOND,
    QuotaSql,
    fill_agents,
    quota_sql,
    ranked_memories,
    read_usages,
)
from memctl.storage.sqlite.triggers import require_equal_counts

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.policies import QuotaValues

# What is to be archived, and what its place depends on.
PLAN = """
    CREATE TABLE IF NOT EXISTS temp.quota_plan (
        place INTEGER PRIMARY KEY,
        memory_row INTEGER UNIQUE,
        agent_number INTEGER,
        importance_then,
        idle_then INTEGER,
        bytes_then INTEGER
    )
"""


def make_plan(sql: QuotaSql) -> str:
    """Return SQL that fills `quota_plan` with the memories that are beyond the quota, in order."""
    return f"""
        INSERT INTO temp.quota_plan
            (memory_row, agent_number, importance_then, idle_then, bytes_then)
        SELECT memory_row, number, importance, idle_since, bytes_now
        FROM ({ranked_memories(sql)})
        WHERE {IS_BEYOND}
        ORDER BY number, memories_before
    """


def beyond_but_held(sql: QuotaSql) -> str:
    """Return SQL for the memories that would be archived if none were held, but are held.

    Expired ones are left by cleanup for another reason.
    """
    return f"""
        SELECT agent_memory.rowid, id, agent_id, type, key, agent_memory.importance, last_accessed,
            'quota'
        FROM ({ranked_memories(sql, "TRUE")}) AS ranked
            CROSS JOIN agent_memory ON agent_memory.rowid = memory_row
        WHERE {IS_BEYOND} AND {IS_HELD} AND NOT {IS_EXPIRED}
        ORDER BY number, memories_before
    """


PLANNED = """
    SELECT memory_row, id, agent_id, type, key, importance, last_accessed, 'quota'
    FROM temp.quota_plan CROSS JOIN agent_memory ON agent_memory.rowid = memory_row
    ORDER BY place
"""


def planned_and_unchanged(sql: QuotaSql) -> str:
    """Return SQL for the memories of a batch that have kept their place, in order."""
    return f"""
        SELECT memory_row, id, agent_id, type, key, importance, last_accessed, 'quota',
            agent_number, bytes_then
        FROM temp.quota_plan CROSS JOIN agent_memory ON agent_memory.rowid = memory_row
        WHERE memory_row IN (SELECT value FROM json_each(:rowids))
            AND importance IS importance_then AND {IDLE} IS idle_then
            AND {sql.bytes} = bytes_then AND {COUNTS} AND NOT {IS_HELD}
        ORDER BY place
    """


# Quick, because the entries of the index on agents have the row, too.
COUNT_KNOWN_ROWS = """
    SELECT count(*) FROM agent_memory
    WHERE agent_id = (SELECT of_agent FROM temp.quota_agents WHERE number = :number)
        AND rowid <= :newest_row
"""


@dataclass
class _Agent:
    """What is left of an agent's memories, as far as the search knew them."""

    number: int
    known_rows: int
    newest_row: int
    memories: int
    bytes: int
    largest: int
    most_memories: int | None
    most_bytes: int | None

    def is_beyond(self, gone: int) -> bool:
        """Return whether more must be archived, although some rows are gone meanwhile.

        Which these are is unknown.
        """
        memories, bytes_ = self.memories - gone, self.bytes - gone * self.largest
        return bool(
            (self.most_memories is not None and memories > self.most_memories)
            or (self.most_bytes is not None and bytes_ > self.most_bytes)
        )


class SqliteQuotaExcess:
    """What agents have beyond their quota; see `storage.changes.QuotaExcess`.

    The search ranks all memories of an agent, which takes too long for the write lock. A batch
    checks that its own memories have kept their rank, and counts how many known ones are gone. One
    that was read, written again or added meanwhile leaves the others beyond the quota. So a batch
    archives what a new search would find, or less.
    """

    def __init__(
        self,
        db: Connection,
        policy: "QuotaValues",
        *,
        agent: str | None,
        now: datetime,
        run_id: int | None,
    ) -> None:
        self._db = db
        self._sql = quota_sql(db, policy, agent=agent, now=now)
        self._now = now
        self._run_id = run_id
        self._agents: dict[int, _Agent] = {}

    def memories(self) -> Iterator[AffectedMemory]:
        self._search()
        for row in self._db.execute(PLANNED):
            yield _affected(row)

    def held(self) -> Iterator[AffectedMemory]:
        if has_holds(self._db):
            with temporary_tables(self._db), one_view(self._db):
                fill_agents(self._db, self._sql)
                self._db.execute(ONLY_BEYOND)
                held = self._db.execute(beyond_but_held(self._sql), self._sql.parameters).fetchall()
            yield from map(_affected, held)

    def find(self) -> "array[int]":
        self._search()
        found = self._db.execute("SELECT memory_row FROM temp.quota_plan ORDER BY place")
        return array("q", (row for (row,) in found))

    def apply(self, batch: str) -> Sequence[AffectedMemory]:
        unchanged = self._db.execute(
            planned_and_unchanged(self._sql), {**self._sql.parameters, "rowids": batch}
        ).fetchall()
        gone: dict[int, int] = {}
        chosen = []
        for *memory, number, bytes_ in unchanged:
            agent = self._agents[number]
            if number not in gone:
                gone[number] = agent.known_rows - self._count_known_rows(agent)
            if agent.is_beyond(gone[number]):
                chosen.append(_affected(memory))
                agent.known_rows -= 1
                agent.memories -= 1
                agent.bytes -= bytes_
        if chosen:
            rowids = json.dumps([memory.rowid for memory in chosen])
            archived = archive_rows(
                self._db, rowids, reason="quota", now=self._now, run_id=self._run_id
            )
            require_equal_counts(self._db, due=len(chosen), changed=archived)
        return chosen

    def beyond_by_holds(self) -> list[str]:
        return [usage.agent for usage in read_usages(self._db) if usage.held_alone]

    def _search(self) -> None:
        """Rank the memories of the agents that are beyond their quota; takes no write lock."""
        with temporary_tables(self._db), one_view(self._db):
            fill_agents(self._db, self._sql)
            self._db.execute(ONLY_BEYOND)
            self._db.execute(PLAN)
            self._db.execute("DELETE FROM temp.quota_plan")
            self._db.execute(make_plan(self._sql), self._sql.parameters)
        columns = ", ".join(field.name for field in fields(_Agent))
        found = self._db.execute(f"SELECT {columns} FROM temp.quota_agents")
        self._agents = {row[0]: _Agent(*row) for row in found}

    def _count_known_rows(self, agent: _Agent) -> int:
        of_agent = {"number": agent.number, "newest_row": agent.newest_row}
        return int(self._db.execute(COUNT_KNOWN_ROWS, of_agent).fetchone()[0])


def _affected(row: Sequence[Any]) -> AffectedMemory:
    names = ("importance", "last_accessed", "archived_reason")
    return AffectedMemory._make((*row[:5], names, tuple(row[5:8])))
