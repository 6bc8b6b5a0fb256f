"""The table memory_idle_times: idle times that an access ended and that decay has yet to charge.

It exists once the feature access-boost has been enabled, whose trigger adds the rows.
"""

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter
from memctl.storage.sqlite.database import table_exists, temporary_tables
from memctl.storage.sqlite.decay import (
    SETTLED_IMPORTANCE,
    DecaySql,
    charged_days,
    first_time,
    owed,
    own_rate,
)
from memctl.storage.sqlite.events import Table
from memctl.storage.sqlite.selection import Rows, Selection


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


def _ended_idle_times(table: Table, where: str, sql: DecaySql) -> str:
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


def boosted_memories(
    db: Connection, sql: DecaySql, *, rowid: int | None = None
) -> Iterator[BoostedMemory]:
    """Yield the active memories with ended idle times: all, or the one in a row."""
    where = "" if rowid is None else "WHERE memory.rowid = :rowid"
    return _read_boosted(db, _ended_idle_times("agent_memory", where, sql), sql, rowid=rowid)


def boosted_memories_in(
    db: Connection, table: Table, rowids: str, sql: DecaySql
) -> Iterator[BoostedMemory]:
    """Yield the memories with ended idle times in these rows (a JSON array) of a table."""
    where = "WHERE memory.rowid IN (SELECT value FROM json_each(:rowids))"
    return _read_boosted(db, _ended_idle_times(table, where, sql), sql, rowids=rowids)


def _read_boosted(
    db: Connection, query: str, sql: DecaySql, **parameters: object
) -> Iterator[BoostedMemory]:
    rows = db.execute(query, {**sql.parameters, **parameters})
    for (rowid, importance, accesses), ended in itertools.groupby(rows, key=itemgetter(0, 1, 2)):
        times = [EndedIdleTime(*columns[3:]) for columns in ended]
        yield BoostedMemory(rowid, importance, accesses, times)


def has_idle_times(db: Connection) -> bool:
    """Return whether there is a table of ended idle times."""
    return table_exists(db, "memory_idle_times")


def _memories_with_ended_idle_times(table: Table, rows: Rows) -> str:
    return f"""
        SELECT {table}.rowid AS rowid, id, agent_id, type, key
        FROM {table}
        {rows.where(f"id IN (SELECT memory_id FROM memory_idle_times) AND {OF_AGENT}")}
    """


def select_boosted(table: Table, *, agent: str | None) -> Selection:
    """Select the memories, of one agent or of all, in a table that have ended idle times."""
    return Selection(partial(_memories_with_ended_idle_times, table), agent_parameter(agent))


def settle_idle_times(
    db: Connection, table: Table, rowids: str, importances: Iterable[tuple[float, int]]
) -> None:
    """Delete the ended idle times of the memories in these rows (a JSON array), which are charged.

    `importances` are those that charging changes, each with its row. Must be called in a
    transaction.
    """
    db.executemany(f"UPDATE {table} SET importance = ? WHERE rowid = ?", importances)
    db.execute(
        f"""
        DELETE FROM memory_idle_times
        WHERE memory_id IN (
            SELECT id FROM {table} WHERE rowid IN (SELECT value FROM json_each(:rowids))
        )
        """,
        {"rowids": rowids},
    )


ORPHANED_IDLE_TIMES = """
    SELECT rowid FROM memory_idle_times AS ended
    WHERE NOT EXISTS (SELECT 1 FROM agent_memory WHERE id = ended.memory_id)
        AND NOT EXISTS (SELECT 1 FROM archived_memories WHERE id = ended.memory_id)
"""

DELETE_ORPHANED_IDLE_TIMES = f"""
    DELETE FROM memory_idle_times
    WHERE rowid IN (SELECT value FROM json_each(:rowids)) AND rowid IN ({ORPHANED_IDLE_TIMES})
"""


def orphaned_idle_times(db: Connection) -> "array[int]":
    """Return the rows whose memory is neither active nor archived."""
    return array("q", (row[0] for row in db.execute(ORPHANED_IDLE_TIMES)))


def delete_orphaned_idle_times(db: Connection, rowids: str) -> None:
    """Delete those of the rows (a JSON array) whose memory is neither active nor archived."""
    db.execute(DELETE_ORPHANED_IDLE_TIMES, {"rowids": rowids})


def with_settled_importances(
    db: Connection, sql: DecaySql, importances: Sequence[tuple[float, int]]
) -> DecaySql:
    """Return a policy whose queries see these importances, each with its row, as if stored.

    They are kept in a temporary table of the connection; the database itself is only read.
    """
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
