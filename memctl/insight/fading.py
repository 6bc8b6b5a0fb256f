"""What decay will do to one memory: for those who want to know before; nothing here writes."""

import bisect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from sqlite3 import Connection
from typing import Any

from memctl.config.policies import DecayPolicy
from memctl.jobs.decay import (
    CHARGED_UNTIL,
    FADING_MEMORIES,
    IDLE_SINCE,
    STORED_IMPORTANCE,
    idle_memories,
    owed,
    settled_importance,
    under_policy,
)
from memctl.storage.sqlite.agents import agent_parameter
from memctl.storage.times import to_unix


@dataclass(frozen=True)
class IdleTime:
    """What a memory's idle time comes to, in whole days and in points."""

    since: int | None  # unix seconds
    days: int | None
    owed: float | None  # for all the days
    charged: float | None  # for those charged already
    rate: float | None  # points a day of its own; None: the policy's
    unreadable: str | None  # the column that is not a time, for which it does not decay
    importance: Any  # less what is owed for idle times that accesses have ended


UNREADABLE_COLUMN = f"""
    CASE WHEN {IDLE_SINCE} IS NULL THEN iif(last_accessed IS NULL, 'created_at', 'last_accessed')
        WHEN {CHARGED_UNTIL} IS NULL THEN 'last_decay_at'
    END
"""

IDLE_TIME_OF_MEMORY = f"""
    SELECT idle_since, idle_days, {owed("idle_days")}, {owed("charged_days")}, rate,
        (SELECT {UNREADABLE_COLUMN} FROM agent_memory WHERE rowid = :rowid), importance
    FROM ({idle_memories("WHERE rowid = :rowid")})
"""

START_OF_IDLE_TIME = f"SELECT {IDLE_SINCE} FROM agent_memory WHERE rowid = ?"

FARTHEST_DAYS = 36500


def idle_time(db: Connection, rowid: int, policy: DecayPolicy, *, now: datetime) -> IdleTime:
    """Return how long the memory in a row has been idle, and what it owes for that; reads only."""
    query, parameters = under_policy(db, policy, IDLE_TIME_OF_MEMORY)
    query = query.replace(STORED_IMPORTANCE, settled_importance(db, policy, rowid=rowid))
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
    query = query.replace(STORED_IMPORTANCE, settled_importance(db, policy, rowid=rowid))
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
