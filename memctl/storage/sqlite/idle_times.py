"""Idle times that an access has ended before decay could charge them.

While the feature access-boost is enabled, its trigger adds a row to memory_idle_times at such an
access. The next run charges that idle time as if it had done so before the access.
"""

import itertools
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from operator import itemgetter
from sqlite3 import Connection
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from memctl.storage.policies import PolicyValues
from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter
from memctl.storage.sqlite.changes import Batch, RowChange
from memctl.storage.sqlite.database import MemoryTable, table_exists, temporary_tables
from memctl.storage.sqlite.decay import (
    SETTLED_IMPORTANCE,
    DecaySql,
    charged_days,
    decay_sql,
    first_time,
    owed,
    own_rate,
)
from memctl.storage.sqlite.features import BOOST, HIGHEST_IMPORTANCE
from memctl.storage.sqlite.selection import Rows, Selection

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Batches


class EndedIdleTime(NamedTuple):
    """A memory as it was before an access, and what it owed for the idle time until then."""

    importance: float
    access_count: float
    floor: float
    owed: float | None  # None: one of its times is not a time


class BoostedMemory(NamedTuple):
    """A memory whose idle times accesses have ended."""

    rowid: int
    importance: Any
    access_count: Any
    ended: Sequence[EndedIdleTime]  # oldest first


def _charged(idle: EndedIdleTime, importance: float) -> float:
    """Return an importance after an ended idle time is charged."""
    if not idle.owed or idle.owed < 0:
        return importance
    return max(min(importance, idle.floor), round(round(importance, 6) - idle.owed, 6))


def _boosted(importance: float, accesses: float) -> float:
    """Return an importance after the feature access-boost has counted some accesses."""
    return max(importance, min(HIGHEST_IMPORTANCE, round(importance + BOOST * accesses, 6)))


def _settled(memory: BoostedMemory) -> Any:
    """Return the importance that a memory would have if each idle time had been charged at its end.

    The accesses in between are the differences of access_count. An importance that does not follow
    from the previous one and from these accesses was set by a client and is used as it is.
    """
    importance, accesses = memory.importance, memory.access_count
    if not isinstance(importance, int | float) or not isinstance(accesses, int | float):
        return importance
    settled = memory.ended[0].importance
    present = EndedIdleTime(importance, accesses, floor=0, owed=None)
    for before, after in itertools.pairwise([*memory.ended, present]):
        read = after.access_count - before.access_count
        settled = _boosted(_charged(before, settled), read)
        if not math.isclose(_boosted(before.importance, read), after.importance, abs_tol=1e-5):
            settled = after.importance
    return settled


def _changed(memories: Iterable[BoostedMemory]) -> list[tuple[Any, int]]:
    """Return the importances that charging the ended idle times changes, each with its row."""
    settled = ((_settled(memory), memory) for memory in memories)
    return [
        (importance, memory.rowid)
        for importance, memory in settled
        if importance != memory.importance
    ]


def _ended_idle_times(table: MemoryTable, where: str, sql: DecaySql) -> str:
    """Return SQL for memories and their ended idle times, oldest first."""
    idle_since = first_time("ended.last_accessed", "memory.created_at")
    charged_until = first_time("ended.last_decay_at", "ended.last_accessed", "memory.created_at")
    return f"""
        SELECT memory_row, present_importance, present_accesses,
            importance, access_count, {sql.keys.floor},
            {owed("idle_days", sql.keys)} - {owed("charged_days", sql.keys)}
        FROM (
            SELECT *, (accessed - idle_since) / 86400 AS idle_days,
                {charged_days(sql.keys)} AS charged_days
            FROM (
                SELECT memory.rowid AS memory_row, ended.rowid AS number,
                    memory.importance AS present_importance,
                    memory.access_count AS present_accesses,
                    ended.importance AS importance, ended.access_count AS access_count,
                    {idle_since} AS idle_since,
                    {charged_until} AS charged_until,
                    {first_time("ended.accessed_at", "memory.created_at")} AS accessed,
                    {own_rate("memory.")} AS rate{sql.columns}
                FROM {table} AS memory
                JOIN memory_idle_times AS ended ON ended.memory_id = memory.id
                    AND typeof(ended.importance) IN ('integer', 'real')
                {where}
                LIMIT -1
            )
            LIMIT -1
        )
        ORDER BY memory_row, number
    """


def _read_boosted(
    db: Connection, table: MemoryTable, where: str, sql: DecaySql, **parameters: object
) -> Iterator[BoostedMemory]:
    query = _ended_idle_times(table, where, sql)
    rows = db.execute(query, {**sql.parameters, **parameters})
    for (rowid, importance, accesses), ended in itertools.groupby(rows, key=itemgetter(0, 1, 2)):
        times = [EndedIdleTime(*columns[3:]) for columns in ended]
        yield BoostedMemory(rowid, importance, accesses, times)


def _memories_with_ended_idle_times(table: MemoryTable, rows: Rows) -> str:
    return f"""
        SELECT {table}.rowid AS rowid, id, agent_id, type, key
        FROM {table}
        {rows.where(f"id IN (SELECT memory_id FROM memory_idle_times) AND {OF_AGENT}")}
    """


ORPHANED_IDLE_TIMES = """
    SELECT rowid FROM memory_idle_times AS ended
    WHERE NOT EXISTS (SELECT 1 FROM agent_memory WHERE id = ended.memory_id)
        AND NOT EXISTS (SELECT 1 FROM archived_memories WHERE id = ended.memory_id)
"""

DELETE_ORPHANED_IDLE_TIMES = f"""
    DELETE FROM memory_idle_times
    WHERE rowid IN (SELECT value FROM json_each(:rowids)) AND rowid IN ({ORPHANED_IDLE_TIMES})
"""


def charge_idle_times(
    db: Connection, batches: "Batches", policy: PolicyValues, *, agent: str | None, now: datetime
) -> None:
    """Charge and delete the ended idle times of the active and archived memories of agents.

    Those of memories that are held stay. Idle times of memories that no longer exist are deleted.
    """
    if not table_exists(db, "memory_idle_times"):
        return
    sql = decay_sql(db, policy)
    for table in get_args(MemoryTable):
        query = partial(_memories_with_ended_idle_times, table)
        selection = Selection(query, agent_parameter(agent)).sparing_held(table, now=now)
        change = RowChange(db, selection, partial(_charge_batch, db, sql, table))
        batches.apply(change.find(), change.apply, doing="charging idle times")
    orphaned = array("q", (row[0] for row in db.execute(ORPHANED_IDLE_TIMES)))
    batches.apply(
        orphaned,
        lambda rowids: db.execute(DELETE_ORPHANED_IDLE_TIMES, {"rowids": rowids}),
        doing="deleting idle times",
    )


def _charge_batch(db: Connection, sql: DecaySql, table: MemoryTable, batch: Batch) -> int:
    where = "WHERE memory.rowid IN (SELECT value FROM json_each(:rowids))"
    changed = _changed(_read_boosted(db, table, where, sql, rowids=batch.rowids))
    db.executemany(f"UPDATE {table} SET importance = ? WHERE rowid = ?", changed)
    db.execute(
        f"""
        DELETE FROM memory_idle_times
        WHERE memory_id IN (
            SELECT id FROM {table} WHERE rowid IN (SELECT value FROM json_each(:rowids))
        )
        """,
        {"rowids": batch.rowids},
    )
    return len(batch.memories)


def with_settled_importances(
    db: Connection, sql: DecaySql, *, rowid: int | None = None
) -> DecaySql:
    """Return a policy whose queries see memories as if their ended idle times were charged.

    That is all active memories, or the one in a row. The importances are in a temporary table of
    the connection, which the next call replaces; the database itself is only read.
    """
    if not table_exists(db, "memory_idle_times"):
        return sql
    where = "" if rowid is None else "WHERE memory.rowid = :rowid"
    importances = _changed(_read_boosted(db, "agent_memory", where, sql, rowid=rowid))
    if not importances:
        return sql
    with temporary_tables(db):
        db.execute(
            "CREATE TEMP TABLE IF NOT EXISTS settled_importances"
            " (importance, memory_row INTEGER PRIMARY KEY)"
        )
        db.execute("DELETE FROM temp.settled_importances")
        db.executemany("INSERT INTO temp.settled_importances VALUES (?, ?)", importances)
    return sql._replace(importance=SETTLED_IMPORTANCE)
