"""The queries of decay: how long memories have been idle, and how much importance they lose.

An idle time begins with the last access and is counted in whole days.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.policies import PolicyValues
from memctl.storage.rows import AffectedMemory
from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter
from memctl.storage.sqlite.database import GREATEST_REAL
from memctl.storage.sqlite.policies import policy_sql
from memctl.storage.sqlite.selection import Rows, Selection
from memctl.storage.sqlite.times import unix_seconds
from memctl.storage.times import to_text, to_unix


class DecayKeys(NamedTuple):
    """SQL for each key of a decay policy: a parameter, a column, or a literal."""

    floor: str = ":floor"
    grace_days: str = ":grace_days"
    idle_rate: str = ":idle_rate"
    stale_days: str = ":stale_days"
    stale_rate: str = ":stale_rate"
    since: str = ":since"


STORED_IMPORTANCE = "agent_memory.importance AS importance"
SETTLED_IMPORTANCE = """
    coalesce(
        (SELECT importance FROM temp.settled_importances WHERE memory_row = agent_memory.rowid),
        agent_memory.importance
    ) AS importance
"""


class DecaySql(NamedTuple):
    """A decay policy as SQL. A key whose value depends on the memory is a column of its own."""

    keys: DecayKeys
    columns: str  # `, … AS key` for each key that is a column
    parameters: Mapping[str, Any]
    importance: str = STORED_IMPORTANCE


def decay_sql(db: Connection, policy: PolicyValues) -> DecaySql:
    """Return a decay policy for queries on this connection."""
    found = {key: policy_sql(db, policy, key, to_sql=_to_sql) for key in DecayKeys._fields}
    columns = [f", {one.sql} AS {key}" for key, one in found.items() if one.depends]
    parameters: dict[str, Any] = {}
    for one in found.values():
        parameters |= one.parameters
    keys = DecayKeys(**{key: key if one.depends else one.sql for key, one in found.items()})
    return DecaySql(keys, "".join(columns), parameters)


def _to_sql(value: Any) -> Any:
    return to_unix(value) if isinstance(value, datetime) else value


def owed(days: str, keys: DecayKeys) -> str:
    """Return SQL for the points that a memory loses in a number of whole idle days.

    Rounded, so that differences of two such sums add up exactly, whatever the schedule.
    """
    return f"""round(CASE
        WHEN rate IS NOT NULL THEN rate * max(0, {days} - {keys.grace_days})
        ELSE {keys.idle_rate} * max(0, min({days}, {keys.stale_days}) - {keys.grace_days})
            + {keys.stale_rate} * max(0, {days} - {keys.stale_days})
    END, 6)"""


def _rate_or_null(number: str) -> str:
    """Return SQL for a decay rate of the memory's own: a finite number that is not negative."""
    return f"CASE WHEN {number} BETWEEN 0 AND {GREATEST_REAL} THEN {number} END"


def own_rate(row: str = "") -> str:
    """Return SQL for a memory's own rate, or NULL; `row` is the prefix of its columns.

    json_type before json_extract: the text '0.5' is not a rate. json_valid in a CASE of its own,
    because json_type fails on what is not JSON.
    """
    metadata = f"{row}metadata"
    return f"""coalesce(
        CASE WHEN instr({metadata}, 'decay_rate') AND json_valid({metadata})
        THEN CASE WHEN json_type({metadata}, '$.decay_rate') IN ('integer', 'real')
            THEN {_rate_or_null(f"json_extract({metadata}, '$.decay_rate')")} END
        END,
        {_rate_or_null(f"{row}importance_decay_rate")}
    )"""


def first_time(*columns: str) -> str:
    """Return SQL for the first of these columns that is not NULL, in unix seconds.

    If it is not a time, the idle time is unknown, and the memory does not decay.
    """
    return unix_seconds(f"coalesce({', '.join(columns)})")


IDLE_SINCE = first_time("last_accessed", "created_at")
CHARGED_UNTIL = first_time("last_decay_at", "last_accessed", "created_at")


def charged_days(keys: DecayKeys) -> str:
    """Return SQL for the idle days before the last charge or before the start of the policy."""
    return f"""
    max(
        0,
        (charged_until - idle_since) / 86400,
        (coalesce({keys.since}, idle_since) - idle_since + 86399) / 86400
    )
"""


def idle_memories(where: str, sql: DecaySql, *more_columns: str) -> str:
    """Return SQL for how long memories have been idle, and for more of their columns.

    LIMIT -1 keeps SQLite from merging the levels, which would compute each inner value many times.
    """
    columns = ", ".join(("rowid, id, agent_id, type, key", sql.importance, *more_columns))
    return f"""
        SELECT *,
            (:now - idle_since) / 86400 AS idle_days,
            {charged_days(sql.keys)} AS charged_days
        FROM (
            SELECT {columns},
                min(:now, {IDLE_SINCE}) AS idle_since,
                min(:now, {CHARGED_UNTIL}) AS charged_until,
                {own_rate()} AS rate{sql.columns}
            FROM agent_memory
            {where}
            LIMIT -1
        )
        LIMIT -1
    """


def fading_memories(sql: DecaySql, rows: Rows) -> str:
    """Return SQL for the memories that lose importance, and their importance before and after."""
    keys = sql.keys
    can_fade = f"typeof(importance) IN ('integer', 'real') AND importance > {keys.floor}"
    return f"""
        SELECT rowid, id, agent_id, type, key, importance, decayed
        FROM (
            SELECT *,
                max({keys.floor}, round(
                    round(importance, 6)
                        - ({owed("idle_days", keys)} - {owed("charged_days", keys)}), 6
                )) AS decayed
            FROM ({idle_memories(rows.where(f"{can_fade} AND {OF_AGENT}"), sql)})
            WHERE idle_days > charged_days
            LIMIT -1
        )
        WHERE decayed < round(importance, 6)
    """


DECAYED = 1  # the index of `decayed` in the details of these memories


def select_fading(sql: DecaySql, *, agent: str | None, now: datetime) -> Selection:
    """Select the memories, of one agent or of all, that lose importance at a moment."""
    parameters = {**sql.parameters, "now": to_unix(now), **agent_parameter(agent)}
    return Selection(partial(fading_memories, sql), parameters)


def memories_at(moment: str, where: str, sql: DecaySql, columns: str) -> str:
    """Return SQL for memories, with `importance_then`, their importance at a moment.

    `moment` is SQL for unix seconds, different for each memory, made of `idle_since` and of
    `columns`, which the query returns as well. What was charged for days after the moment stays
    charged.
    """
    keys = sql.keys
    return f"""
        SELECT *,
            CASE WHEN typeof(importance) IN ('integer', 'real') THEN coalesce(max(
                min(importance, {keys.floor}),
                round(
                    round(importance, 6)
                        - max(0, {owed("days_then", keys)} - {owed("charged_days", keys)}),
                    6
                )
            ), importance) END AS importance_then
        FROM (
            SELECT *, ({moment} - idle_since) / 86400 AS days_then
            FROM ({idle_memories(where, sql, columns)})
            LIMIT -1
        )
        LIMIT -1
    """


CHARGE_MEMORY = "UPDATE agent_memory SET importance = ?, last_decay_at = ? WHERE rowid = ?"


def charge_batch(db: Connection, memories: Iterable[AffectedMemory], *, now: datetime) -> int:
    """Store the importance that a charge leaves each memory; returns how many.

    `memories` are those of `select_fading`. Must be called in a transaction.
    """
    charged_at = to_text(now)
    return db.executemany(
        CHARGE_MEMORY, ((memory.details[DECAYED], charged_at, memory.rowid) for memory in memories)
    ).rowcount
