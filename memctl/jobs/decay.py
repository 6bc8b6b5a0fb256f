"""Importance decay: a memory nobody reads slowly loses weight.

What a memory owes is a function of how many whole days it has been idle, never of how often the
job ran: a second run changes nothing, and a missed week is made up. Each run charges what is owed
now less what was owed when it was last charged.

An access ends an idle time. While the feature access-boost is on, it leaves a row in
memory_idle_times, and the next run charges that idle time as if it had done so before the access.
"""

import itertools
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from operator import itemgetter
from sqlite3 import Connection
from typing import Any, NamedTuple, get_args

from memctl.config.policies import DecayPolicy
from memctl.jobs.engine import Batch, JobResult, Run
from memctl.jobs.selection import Due
from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter, require_agent
from memctl.storage.sqlite.database import GREATEST_REAL, table_exists, temporary_tables
from memctl.storage.sqlite.events import DecayEvent, Table
from memctl.storage.sqlite.features import BOOST, HIGHEST_IMPORTANCE
from memctl.storage.sqlite.policies import policy_sql, put_for_parameters
from memctl.storage.times import to_text, to_unix, unix_seconds


def _to_sql(value: Any) -> Any:
    return to_unix(value) if isinstance(value, datetime) else value


@dataclass(frozen=True, kw_only=True)
class DecayResult(JobResult):
    """How many memories lost importance."""

    decayed: int


def owed(days: str) -> str:
    """Return SQL for the points an untouched memory loses in so many whole idle days.

    Rounded, so that the differences of two debts add up exactly, whatever the schedule.
    """
    return f"""round(CASE
        WHEN rate IS NOT NULL THEN rate * max(0, {days} - :grace_days)
        ELSE :idle_rate * max(0, min({days}, :stale_days) - :grace_days)
            + :stale_rate * max(0, {days} - :stale_days)
    END, 6)"""


def _rate_or_null(number: str) -> str:
    """Return SQL for a decay rate of the memory's own: a finite number that is not negative."""
    return f"CASE WHEN {number} BETWEEN 0 AND {GREATEST_REAL} THEN {number} END"


def _own_rate(row: str = "") -> str:
    """Return SQL for a memory's own rate, or NULL; `row` is what its columns are prefixed with.

    json_type before json_extract: the text '0.5' is no rate. json_valid in a CASE of its own,
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


def _first_time(*columns: str) -> str:
    """Return SQL for the first of these columns that is not NULL, in unix seconds.

    If it is not a time, nothing is known of how long the memory was idle, and it does not decay.
    """
    return unix_seconds(f"coalesce({', '.join(columns)})")


IDLE_SINCE = _first_time("last_accessed", "created_at")
CHARGED_UNTIL = _first_time("last_decay_at", "last_accessed", "created_at")

# How many idle days had been charged before: none, those up to the last charge, or those before
# the policy's beginning.
CHARGED_DAYS = """
    max(
        0,
        (charged_until - idle_since) / 86400,
        (coalesce(:since, idle_since) - idle_since + 86399) / 86400
    )
"""

STORED_IMPORTANCE = "agent_memory.importance AS importance"
SETTLED_IMPORTANCE = """
    coalesce(
        (SELECT importance FROM temp.settled_importances WHERE memory_row = agent_memory.rowid),
        agent_memory.importance
    ) AS importance
"""


def idle_memories(where: str, *more_columns: str) -> str:
    """Return SQL for how long memories have been idle, and for more of their columns.

    LIMIT -1 keeps SQLite from merging the levels, which would compute each inner value many times.
    """
    columns = ", ".join(("rowid, id, agent_id, type, key", STORED_IMPORTANCE, *more_columns))
    return f"""
        SELECT *,
            (:now - idle_since) / 86400 AS idle_days,
            {CHARGED_DAYS} AS charged_days
        FROM (
            SELECT {columns},
                min(:now, {IDLE_SINCE}) AS idle_since,
                min(:now, {CHARGED_UNTIL}) AS charged_until,
                {_own_rate()} AS rate{{overridden}}
            FROM agent_memory
            {where}
            LIMIT -1
        )
        LIMIT -1
    """


CAN_FADE = f"typeof(importance) IN ('integer', 'real') AND importance > :floor AND {OF_AGENT}"

FADING_MEMORIES = f"""
    SELECT rowid, id, agent_id, type, key, importance, decayed
    FROM (
        SELECT *,
            max(:floor, round(
                round(importance, 6) - ({owed("idle_days")} - {owed("charged_days")}), 6
            )) AS decayed
        FROM ({idle_memories(f"{{where}} {CAN_FADE}")})
        WHERE idle_days > charged_days
        LIMIT -1
    )
    WHERE decayed < round(importance, 6)
"""

DECAYED = 1  # its place among the details above: importance, decayed


def memories_at(moment: str, columns: str) -> str:
    """Return SQL for the memories of a `{where}`, and `importance_then`, that at a moment.

    `moment` is SQL for unix seconds, different for each memory: of `idle_since` and of `columns`,
    which the query returns as well. What was charged for days after the moment stays charged.
    """
    return f"""
        SELECT *,
            CASE WHEN typeof(importance) IN ('integer', 'real') THEN coalesce(max(
                min(importance, :floor),
                round(
                    round(importance, 6)
                        - max(0, {owed("days_then")} - {owed("charged_days")}),
                    6
                )
            ), importance) END AS importance_then
        FROM (
            SELECT *, ({moment} - idle_since) / 86400 AS days_then
            FROM ({idle_memories("{where}", columns)})
            LIMIT -1
        )
        LIMIT -1
    """


CHARGE_MEMORY = "UPDATE agent_memory SET importance = ?, last_decay_at = ? WHERE rowid = ?"


def under_policy(db: Connection, policy: DecayPolicy, query: str) -> tuple[str, dict[str, Any]]:
    """Return a query as it is under a policy, and the parameters that are the policy's.

    In it each key that depends on the memory is a column of its own.
    """
    choices = {
        key: policy_sql(db, key, getattr(policy, key), policy.overrides_of(key), to_sql=_to_sql)
        for key in policy.keys
    }
    depending = {key: choice.sql for key, choice in choices.items() if choice.depends}
    parameters: dict[str, Any] = {}
    for choice in choices.values():
        parameters |= choice.parameters
    columns = "".join(f", {sql} AS {key}" for key, sql in depending.items())
    chosen = put_for_parameters(query, {key: key for key in depending})
    return chosen.replace("{overridden}", columns), parameters


# A memory and its ended idle times, oldest first. LIMIT -1 as above.
ENDED_IDLE_TIMES = f"""
    SELECT memory_row, present_importance, present_accesses,
        importance, access_count, :floor, {owed("idle_days")} - {owed("charged_days")}
    FROM (
        SELECT *, (accessed - idle_since) / 86400 AS idle_days, {CHARGED_DAYS} AS charged_days
        FROM (
            SELECT memory.rowid AS memory_row, ended.rowid AS number,
                memory.importance AS present_importance, memory.access_count AS present_accesses,
                ended.importance AS importance, ended.access_count AS access_count,
                {_first_time("ended.last_accessed", "memory.created_at")} AS idle_since,
                {_first_time("ended.last_decay_at", "ended.last_accessed", "memory.created_at")}
                    AS charged_until,
                {_first_time("ended.accessed_at", "memory.created_at")} AS accessed,
                {_own_rate("memory.")} AS rate{{overridden}}
            FROM {{table}} AS memory
            JOIN memory_idle_times AS ended ON ended.memory_id = memory.id
                AND typeof(ended.importance) IN ('integer', 'real')
            {{where}}
            LIMIT -1
        )
        LIMIT -1
    )
    ORDER BY memory_row, number
"""

MEMORIES_WITH_ENDED_IDLE_TIMES = f"""
    SELECT {{table}}.rowid AS rowid, id, agent_id, type, key
    FROM {{table}}
    {{{{where}}}} id IN (SELECT memory_id FROM memory_idle_times) AND {OF_AGENT}
"""

FORGET_IDLE_TIMES = """
    DELETE FROM memory_idle_times
    WHERE memory_id IN (
        SELECT id FROM {table} WHERE rowid IN (SELECT value FROM json_each(:rowids))
    )
"""

IDLE_TIMES_OF_NO_MEMORY = """
    SELECT rowid FROM memory_idle_times AS ended
    WHERE NOT EXISTS (SELECT 1 FROM agent_memory WHERE id = ended.memory_id)
        AND NOT EXISTS (SELECT 1 FROM archived_memories WHERE id = ended.memory_id)
"""

FORGET_IDLE_TIMES_OF_NO_MEMORY = f"""
    DELETE FROM memory_idle_times
    WHERE rowid IN (SELECT value FROM json_each(:rowids)) AND rowid IN ({IDLE_TIMES_OF_NO_MEMORY})
"""


class EndedIdleTime(NamedTuple):
    """A memory as it was before an access, and what it owed for the idle time until then."""

    importance: float
    access_count: float
    floor: float
    owed: float | None  # None: one of its times is not a time

    def charged(self, importance: float) -> float:
        """Return what charging the idle time leaves of an importance."""
        if not self.owed or self.owed < 0:
            return importance
        return max(min(importance, self.floor), round(round(importance, 6) - self.owed, 6))


def boosted(importance: float, accesses: float) -> float:
    """Return what the feature access-boost makes of an importance, for so many accesses."""
    return max(importance, min(HIGHEST_IMPORTANCE, round(importance + BOOST * accesses, 6)))


def _importance_after(ended: Sequence[EndedIdleTime], importance: Any, accesses: Any) -> Any:
    """Return a memory's importance as it were if each idle time had been charged when it ended.

    The accesses are counted by what access_count has risen by. An importance that is not what they
    have made of the one before was set by a client, and counts from there.
    """
    if not isinstance(importance, int | float) or not isinstance(accesses, int | float):
        return importance
    settled = ended[0].importance
    present = EndedIdleTime(importance, accesses, floor=0, owed=None)
    for before, after in itertools.pairwise([*ended, present]):
        read = after.access_count - before.access_count
        settled = boosted(before.charged(settled), read)
        if not math.isclose(boosted(before.importance, read), after.importance, abs_tol=1e-5):
            settled = after.importance
    return settled


def _settled_importances(
    db: Connection,
    policy: DecayPolicy,
    table: Table,
    where: str,
    parameters: Mapping[str, object],
) -> Iterator[tuple[Any, int]]:
    """Yield the importance that charging the ended idle times leaves, and the memory's row.

    Those that it leaves as they are stored are left out.
    """
    query = ENDED_IDLE_TIMES.replace("{table}", table).replace("{where}", where)
    query, chosen = under_policy(db, policy, query)
    rows = db.execute(query, {**chosen, **parameters})
    for (row, importance, accesses), ended in itertools.groupby(rows, key=itemgetter(0, 1, 2)):
        times = [EndedIdleTime(*columns[3:]) for columns in ended]
        settled = _importance_after(times, importance, accesses)
        if settled != importance:
            yield settled, row


def charge_ended_idle_times(run: Run, policy: DecayPolicy, agent: str | None) -> None:
    """Charge the idle times that accesses have ended, of active and of archived memories."""
    db = run.db
    if run.batches is None or not table_exists(db, "memory_idle_times"):
        return

    def charge(table: Table, batch: Batch) -> int:
        rowids = {"rowids": batch.rowids}
        where = "WHERE memory.rowid IN (SELECT value FROM json_each(:rowids))"
        settled = list(_settled_importances(db, policy, table, where, rowids))
        db.executemany(f"UPDATE {table} SET importance = ? WHERE rowid = ?", settled)
        db.execute(FORGET_IDLE_TIMES.format(table=table), rowids)
        return len(batch.memories)

    for table in get_args(Table):
        query = MEMORIES_WITH_ENDED_IDLE_TIMES.format(table=table)
        run.settle(Due(query, agent_parameter(agent)), partial(charge, table))
    gone = array("q", (row[0] for row in db.execute(IDLE_TIMES_OF_NO_MEMORY)))
    run.batches.apply(
        gone, lambda rowids: db.execute(FORGET_IDLE_TIMES_OF_NO_MEMORY, {"rowids": rowids})
    )


def settled_importance(db: Connection, policy: DecayPolicy, *, rowid: int | None = None) -> str:
    """Return what stands for STORED_IMPORTANCE to have the ended idle times charged already.

    It holds for this connection and for the memories, or the one, as they are now; reads only.
    """
    if not table_exists(db, "memory_idle_times"):
        return STORED_IMPORTANCE
    where = "" if rowid is None else "WHERE memory.rowid = :rowid"
    settled = list(_settled_importances(db, policy, "agent_memory", where, {"rowid": rowid}))
    if not settled:
        return STORED_IMPORTANCE
    with temporary_tables(db):
        db.execute(
            "CREATE TEMP TABLE IF NOT EXISTS settled_importances"
            " (importance, memory_row INTEGER PRIMARY KEY)"
        )
        db.execute("DELETE FROM temp.settled_importances")
        db.executemany("INSERT INTO temp.settled_importances VALUES (?, ?)", settled)
    return SETTLED_IMPORTANCE


def decay(
    run: Run,
    policy: DecayPolicy,
    *,
    agent: str | None = None,
    before_charging: Callable[[str], object] | None = None,
) -> DecayResult:
    """Charge every memory, of one agent or of all, for the idle days not charged yet.

    `before_charging` is called with the rows of each batch, a JSON array, in its transaction.
    Raises NotFoundError for an agent without any memory.
    """
    require_agent(run.db, agent)
    charge_ended_idle_times(run, policy, agent)
    query, parameters = under_policy(run.db, policy, FADING_MEMORIES)
    if run.batches is None:
        query = query.replace(STORED_IMPORTANCE, settled_importance(run.db, policy))
    parameters |= {"now": to_unix(run.now), **agent_parameter(agent)}
    due = Due(query, parameters, policy=policy)
    event = DecayEvent(run.db, now=run.now, run_id=run.run_id)
    charged_at = to_text(run.now)

    def charge(batch: Batch) -> int:
        if before_charging:
            before_charging(batch.rowids)
        charged = run.db.executemany(
            CHARGE_MEMORY,
            ((memory.details[DECAYED], charged_at, memory.rowid) for memory in batch.memories),
        ).rowcount
        event.add(charged)
        return charged

    tally = run.settle(due, charge)
    return DecayResult(decayed=tally.count, tally=tally)
