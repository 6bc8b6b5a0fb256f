"""Importance decay: a memory nobody reads slowly loses weight.

What a memory owes is a function of how many whole days it has been idle, never of how often the
job ran: a second run changes nothing, and a missed week is made up. Each run charges what is owed
now less what was owed when it was last charged.
"""

import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from sqlite3 import Connection
from typing import TYPE_CHECKING, Any

from memctl.agents import OF_AGENT, agent_parameter, require_agent
from memctl.due import Due
from memctl.events import DecayEvent
from memctl.jobs import Batch, JobResult, Run
from memctl.policies import Policy, put_for_parameters
from memctl.timestamps import common_unix_seconds, to_text, to_unix, unix_seconds

if TYPE_CHECKING:
    from memctl.candidates import Candidates


@dataclass(frozen=True)
class DecayPolicy(Policy):
    """How importance fades, in points per whole day without a read."""

    SECTION = "decay"

    floor: float = 1.0
    grace_days: int = 7
    idle_rate: float = 0.1  # after the grace days
    stale_days: int = 30
    stale_rate: float = 0.2  # after the stale days
    since: datetime | None = None  # a day of idling that began before is never charged


def _to_sql(value: Any) -> Any:
    return to_unix(value) if isinstance(value, datetime) else value


@dataclass(frozen=True, kw_only=True)
class DecayResult(JobResult):
    """How many memories lost importance."""

    decayed: int


def _owed(days: str) -> str:
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
    return f"CASE WHEN {number} BETWEEN 0 AND 1.7976931348623157e308 THEN {number} END"


def _first_time(*columns: str) -> str:
    """Return SQL for the first of these columns that is a time."""
    return f"coalesce({', '.join(common_unix_seconds(column) for column in columns)})"


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


# How many idle days had been charged before: none, those up to the last charge, or those before
# the policy's beginning.
CHARGED_DAYS = """
    max(
        0,
        (coalesce(charged_until, idle_since) - idle_since) / 86400,
        (coalesce(:since, idle_since) - idle_since + 86399) / 86400
    )
"""

# How long the memories of a `{where}` have been idle; `{columns}` are more of their columns.
# LIMIT -1 keeps SQLite from merging the levels, which would compute each inner value many times.
ANY_IDLE_MEMORIES = f"""
    SELECT *,
        (:now - idle_since) / 86400 AS idle_days,
        {CHARGED_DAYS} AS charged_days
    FROM (
        SELECT rowid, id, agent_id, type, key, importance{{columns}},
            min(:now, coalesce(
                {unix_seconds("last_accessed")}, {unix_seconds("created_at")}
            )) AS idle_since,
            {unix_seconds("last_decay_at")} AS charged_until,
            {_own_rate()} AS rate{{overridden}}
        FROM agent_memory
        {{where}}
        LIMIT -1
    )
    LIMIT -1
"""

IDLE_MEMORIES = ANY_IDLE_MEMORIES.replace("{columns}", "")

CAN_FADE = f"typeof(importance) IN ('integer', 'real') AND importance > :floor AND {OF_AGENT}"

FADING_MEMORIES = f"""
    SELECT rowid, id, agent_id, type, key, importance, decayed
    FROM (
        SELECT *,
            max(:floor, round(
                round(importance, 6) - ({_owed("idle_days")} - {_owed("charged_days")}), 6
            )) AS decayed
        FROM ({IDLE_MEMORIES.replace("{where}", f"{{where}} {CAN_FADE}")})
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
                        - max(0, {_owed("days_then")} - {_owed("charged_days")}),
                    6
                )
            ), importance) END AS importance_then
        FROM (
            SELECT *, ({moment} - idle_since) / 86400 AS days_then
            FROM ({ANY_IDLE_MEMORIES.replace("{columns}", f", {columns}")})
            LIMIT -1
        )
        LIMIT -1
    """


CHARGE_MEMORY = "UPDATE agent_memory SET importance = ?, last_decay_at = ? WHERE rowid = ?"


# Short and with few functions, because it is compiled again with each statement that might fire
# it. LIMIT -1 as above.
SETTLED_AT_ACCESS = f"""
    SELECT coalesce(max(
        min(NEW.importance, :floor),
        round(
            round(NEW.importance, 6) - max(0, {_owed("idle_days")} - {_owed("charged_days")}), 6
        )
    ), NEW.importance) AS settled
    FROM (
        SELECT *, (accessed - idle_since) / 86400 AS idle_days, {CHARGED_DAYS} AS charged_days
        FROM (
            SELECT {_first_time("NEW.last_accessed", "NEW.created_at")} AS accessed,
                {_first_time("OLD.last_accessed", "OLD.created_at")} AS idle_since,
                {common_unix_seconds("OLD.last_decay_at")} AS charged_until,
                {_own_rate("OLD.")} AS rate{{overridden}}
            LIMIT -1
        )
        LIMIT -1
    )
    LIMIT -1
"""


def under_policy(db: Connection, policy: DecayPolicy, query: str) -> tuple[str, dict[str, Any]]:
    """Return a query as it is under a policy, and the parameters that are the policy's."""
    choices = {key: policy.choice(db, key, to_sql=_to_sql) for key in policy.keys}
    depending = {key: choice.sql for key, choice in choices.items() if choice.depends}
    parameters: dict[str, Any] = {}
    for choice in choices.values():
        parameters |= choice.parameters
    return _with_columns(query, depending), parameters


def _with_columns(query: str, depending: Mapping[str, str]) -> str:
    """Return a query in which each key that depends on the memory is a column of its own."""
    columns = "".join(f", {sql} AS {key}" for key, sql in depending.items())
    return put_for_parameters(query, {key: key for key in depending}).replace(
        "{overridden}", columns
    )


def settled_at_access(policy: DecayPolicy) -> str:
    """Return SQL, for a trigger on UPDATE, that selects what an access leaves of the importance.

    That is after charging the idle time which the access ends; the policy is written into it.
    """
    written = {key: policy.literal_choice(key, literal=_literal, row="OLD.") for key in policy.keys}
    depending = {key: sql for key, sql in written.items() if sql.startswith("CASE ")}
    general = {key: sql for key, sql in written.items() if key not in depending}
    return put_for_parameters(_with_columns(SETTLED_AT_ACCESS, depending), general)


def _literal(value: datetime | float | bytes | None) -> str:
    stored = _to_sql(value)
    if stored is None:
        return "NULL"
    return f"x'{stored.hex()}'" if isinstance(stored, bytes) else repr(stored)


def decay(
    run: Run,
    policy: DecayPolicy,
    *,
    agent: str | None = None,
    candidates: "Candidates | None" = None,
) -> DecayResult:
    """Charge every memory, of one agent or of all, for the idle days not charged yet.

    The importance that `candidates` for promotion have is noted before they are charged. Raises
    NotFoundError for an agent without any memory.
    """
    require_agent(run.db, agent)
    query, parameters = under_policy(run.db, policy, FADING_MEMORIES)
    parameters |= {"now": to_unix(run.now), **agent_parameter(agent)}
    due = Due(query, parameters, policy=policy)
    event = DecayEvent(run.db, now=run.now, run_id=run.run_id)

    charged_at = to_text(run.now)
    note_importance = candidates.noting_importance(run.db) if candidates else None

    def charge(batch: Batch) -> int:
        if note_importance:
            note_importance(batch.rowids)
        charged = run.db.executemany(
            CHARGE_MEMORY,
            ((memory.details[DECAYED], charged_at, memory.rowid) for memory in batch.memories),
        ).rowcount
        event.add(charged)
        return charged

    tally = run.settle(due, charge)
    if candidates and run.batches:
        candidates.delete_notes_on_nothing(run.db)
    return DecayResult(decayed=tally.count, tally=tally)


@dataclass(frozen=True)
class IdleTime:
    """What a memory's idle time comes to, in whole days and in points."""

    since: int | None  # unix seconds; None: there is no time to count from, so it never decays
    days: int | None
    charged_days: int | None
    owed: float | None  # for all the days
    charged: float | None  # for those charged already
    rate: float | None  # points a day of its own; None: the policy's


IDLE_TIME_OF_MEMORY = f"""
    SELECT idle_since, idle_days, charged_days, {_owed("idle_days")}, {_owed("charged_days")}, rate
    FROM ({IDLE_MEMORIES.replace("{where}", "WHERE rowid = :rowid")})
"""

START_OF_IDLE_TIME = f"""
    SELECT coalesce({unix_seconds("last_accessed")}, {unix_seconds("created_at")})
    FROM agent_memory
    WHERE rowid = ?
"""

FARTHEST_DAYS = 36500


def idle_time(db: Connection, rowid: int, policy: DecayPolicy, *, now: datetime) -> IdleTime:
    """Return how long the memory in a row has been idle, and what it owes for that; reads only."""
    query, parameters = under_policy(db, policy, IDLE_TIME_OF_MEMORY)
    parameters |= {"rowid": rowid, "now": to_unix(now)}
    return IdleTime(*db.execute(query, parameters).fetchone())


def importance_after_decay(
    db: Connection, rowid: int, policy: DecayPolicy, *, at: int
) -> float | None:
    """Return what a decay at a moment, in unix seconds, leaves of a memory; None: nothing changes.

    The memory is as it is now: not read until then. Reads only.
    """
    query, parameters = under_policy(
        db, policy, FADING_MEMORIES.replace("{where}", "WHERE rowid = :rowid AND")
    )
    parameters |= {"rowid": rowid, "now": at, **agent_parameter(None)}
    row = db.execute(query, parameters).fetchone()
    return None if row is None else float(row[-1])


def moment_of_fading(
    db: Connection, rowid: int, policy: DecayPolicy, reached: Callable[[float], bool]
) -> int | None:
    """Return from when on, in unix seconds, decay leaves a memory at an importance.

    `reached` tells of an importance whether it is that low, and of all lower ones. None: not within
    a century of idle time. The memory is as it is now: not read until then. Reads only.
    """
    (start,) = db.execute(START_OF_IDLE_TIME, (rowid,)).fetchone()
    if start is None:
        return None

    def is_reached(days: int) -> bool:
        left = importance_after_decay(db, rowid, policy, at=start + days * 86400)
        return left is not None and reached(left)

    days = bisect.bisect_left(range(FARTHEST_DAYS + 1), True, key=is_reached)
    return start + days * 86400 if days <= FARTHEST_DAYS else None
