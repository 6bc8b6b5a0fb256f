"""The queries that foresee the decay of one memory."""

import bisect
from collections.abc import Callable
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.sqlite.agents import agent_parameter
from memctl.storage.sqlite.decay import (
    CHARGED_UNTIL,
    IDLE_SINCE,
    DecaySql,
    fading_memories,
    idle_memories,
    owed,
)
from memctl.storage.sqlite.selection import rows_where

FARTHEST_DAYS = 36500


class IdleTime(NamedTuple):
    """The idle time of a memory in whole days, and what it owes for it in points."""

    since: int | None  # unix seconds
    days: int | None
    owed: float | None  # for all days
    charged: float | None  # for the days that have been charged
    rate: float | None  # points per day of its own; None: the policy's
    unreadable: str | None  # the column that is not a time, which is why the memory does not decay
    importance: Any  # less what it owes for idle times that accesses have ended


UNREADABLE_COLUMN = f"""
    CASE WHEN {IDLE_SINCE} IS NULL THEN iif(last_accessed IS NULL, 'created_at', 'last_accessed')
        WHEN {CHARGED_UNTIL} IS NULL THEN 'last_decay_at'
    END
"""


def read_idle_time(db: Connection, rowid: int, sql: DecaySql, *, now: int) -> IdleTime:
    """Return the idle time of the memory in a row at a moment, in unix seconds."""
    query = f"""
        SELECT idle_since, idle_days, {owed("idle_days", sql.keys)},
            {owed("charged_days", sql.keys)}, rate,
            (SELECT {UNREADABLE_COLUMN} FROM agent_memory WHERE rowid = :rowid), importance
        FROM ({idle_memories("WHERE rowid = :rowid", sql)})
    """
    parameters = {**sql.parameters, "rowid": rowid, "now": now}
    return IdleTime(*db.execute(query, parameters).fetchone())


def read_decayed(db: Connection, rowid: int, sql: DecaySql, *, now: int) -> float | None:
    """Return the importance that a decay at a moment, in unix seconds, leaves a memory.

    None: it changes nothing.
    """
    query = fading_memories(sql, rows_where("rowid = :rowid"))
    parameters = {**sql.parameters, "rowid": rowid, "now": now, **agent_parameter(None)}
    row = db.execute(query, parameters).fetchone()
    return None if row is None else float(row[-1])


def read_idle_since(db: Connection, rowid: int) -> int | None:
    """Return since when the memory in a row has been idle, in unix seconds; None: unknown."""
    query = f"SELECT {IDLE_SINCE} FROM agent_memory WHERE rowid = ?"
    (start,) = db.execute(query, (rowid,)).fetchone()
    return None if start is None else int(start)


def moment_of_fading(
    db: Connection, rowid: int, sql: DecaySql, reached: Callable[[float], bool]
) -> int | None:
    """Return from when on, in unix seconds, decay leaves a memory an importance that low.

    `reached` must be true for all importances below one for which it is true. Returns None if this
    takes longer than a century of idle time. The memory is assumed not to be read until then.
    """
    start = read_idle_since(db, rowid)
    if start is None:
        return None

    def is_reached(days: int) -> bool:
        left = read_decayed(db, rowid, sql, now=start + days * 86400)
        return left is not None and reached(left)

    days = bisect.bisect_left(range(FARTHEST_DAYS + 1), True, key=is_reached)
    return start + days * 86400 if days <= FARTHEST_DAYS else None
