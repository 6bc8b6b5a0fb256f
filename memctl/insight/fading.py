"""What decay will do to one memory. Everything here only reads."""

import bisect
from collections.abc import Callable
from datetime import datetime

from memctl.config.policies import DecayPolicy
from memctl.jobs.idle_times import settled_importances
from memctl.storage.sqlite.database import Connection
from memctl.storage.sqlite.decay import DecaySql, decay_sql
from memctl.storage.sqlite.fading import IdleTime, read_decayed, read_idle_since, read_idle_time
from memctl.storage.sqlite.idle_times import with_settled_importances
from memctl.storage.sqlite.store import SqliteStore
from memctl.storage.times import to_unix

FARTHEST_DAYS = 36500


def idle_time(db: Connection, rowid: int, policy: DecayPolicy, *, now: datetime) -> IdleTime:
    """Return how long the memory in a row has been idle, and what it owes for that."""
    sql = _decay_sql(db, policy, rowid)
    return read_idle_time(db, rowid, sql, now=to_unix(now))


def importance_after_decay(
    db: Connection, rowid: int, policy: DecayPolicy, *, at: int
) -> float | None:
    """Return the importance that a decay at a moment leaves a memory; None: it changes nothing.

    `at` is in unix seconds. The memory is assumed not to be read until then.
    """
    sql = _decay_sql(db, policy, rowid)
    return read_decayed(db, rowid, sql, now=at)


def moment_of_fading(
    db: Connection, rowid: int, policy: DecayPolicy, reached: Callable[[float], bool]
) -> int | None:
    """Return from when on, in unix seconds, decay leaves a memory an importance that low.

    `reached` must be true for all importances below one for which it is true. Returns None if this
    takes longer than a century of idle time. The memory is assumed not to be read until then.
    """
    start = read_idle_since(db, rowid)
    if start is None:
        return None
    sql = _decay_sql(db, policy, rowid)

    def is_reached(days: int) -> bool:
        left = read_decayed(db, rowid, sql, now=start + days * 86400)
        return left is not None and reached(left)

    days = bisect.bisect_left(range(FARTHEST_DAYS + 1), True, key=is_reached)
    return start + days * 86400 if days <= FARTHEST_DAYS else None


def _decay_sql(db: Connection, policy: DecayPolicy, rowid: int) -> DecaySql:
    """Return a policy whose queries see the memory in a row as if ended idle times were charged."""
    importances = settled_importances(SqliteStore(db), policy, rowid=rowid)
    return with_settled_importances(db, decay_sql(db, policy), importances)
