"""Importance decay: a memory that is not read loses importance over time.

What a memory owes depends only on the number of whole days it has been idle, not on how often the
job ran: a second run changes nothing, and the next run makes up for missed ones. Each run charges
what is owed now less what was owed at the last charge.

An access ends an idle time. While the feature access-boost is on, an access also adds a row to
memory_idle_times, and the next run charges that idle time as if it had run before the access.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

from memctl.config.policies import DecayPolicy
from memctl.jobs.engine import Batch, JobContext, JobResult
from memctl.storage.sqlite.agents import require_agent
from memctl.storage.sqlite.database import Connection
from memctl.storage.sqlite.decay import (
    DECAYED,
    DecaySql,
    charge_memories,
    decay_sql,
    select_fading,
)
from memctl.storage.sqlite.events import DecayEvent, Table
from memctl.storage.sqlite.features import BOOST, HIGHEST_IMPORTANCE
from memctl.storage.sqlite.idle_times import (
    BoostedMemory,
    EndedIdleTime,
    boosted_memories,
    boosted_memories_in,
    delete_idle_times_of_no_memory,
    has_idle_times,
    idle_times_of_no_memory,
    select_boosted,
    settle_idle_times,
    with_settled_importances,
)


@dataclass(frozen=True, kw_only=True)
class DecayResult(JobResult):
    """How many memories lost importance."""

    decayed: int


def _charged(idle: EndedIdleTime, importance: float) -> float:
    """Return an importance after an ended idle time is charged."""
    if not idle.owed or idle.owed < 0:
        return importance
    return max(min(importance, idle.floor), round(round(importance, 6) - idle.owed, 6))


def boosted(importance: float, accesses: float) -> float:
    """Return an importance after the feature access-boost has counted some accesses."""
    return max(importance, min(HIGHEST_IMPORTANCE, round(importance + BOOST * accesses, 6)))


def _importance_after(ended: Sequence[EndedIdleTime], importance: Any, accesses: Any) -> Any:
    """Return the importance that a memory would have if each idle time had been charged at its end.

    The accesses in between are the differences of access_count. An importance that does not follow
    from the previous one and from these accesses was set by a client and is used as it is.
    """
    if not isinstance(importance, int | float) or not isinstance(accesses, int | float):
        return importance
    settled = ended[0].importance
    present = EndedIdleTime(importance, accesses, floor=0, owed=None)
    for before, after in itertools.pairwise([*ended, present]):
        read = after.access_count - before.access_count
        settled = boosted(_charged(before, settled), read)
        if not math.isclose(boosted(before.importance, read), after.importance, abs_tol=1e-5):
            settled = after.importance
    return settled


def _settled(memory: BoostedMemory) -> Any:
    return _importance_after(memory.ended, memory.importance, memory.access_count)


def _changed(memories: Iterable[BoostedMemory]) -> list[tuple[Any, int]]:
    """Return the importances that charging the ended idle times changes, each with its row."""
    settled = ((_settled(memory), memory) for memory in memories)
    return [
        (importance, memory.rowid)
        for importance, memory in settled
        if importance != memory.importance
    ]


def charge_ended_idle_times(run: JobContext, policy: DecayPolicy, agent: str | None) -> None:
    """Charge the idle times that accesses have ended, for active and for archived memories."""
    db = run.db
    if run.batches is None or not has_idle_times(db):
        return
    sql = decay_sql(db, policy)

    def charge(table: Table, batch: Batch) -> int:
        changed = _changed(boosted_memories_in(db, table, batch.rowids, sql))
        settle_idle_times(db, table, batch.rowids, changed)
        return len(batch.memories)

    for table in get_args(Table):
        run.apply_in_batches(select_boosted(table, agent=agent), partial(charge, table))
    run.batches.apply(idle_times_of_no_memory(db), partial(delete_idle_times_of_no_memory, db))


def settled_decay_sql(db: Connection, policy: DecayPolicy, *, rowid: int | None = None) -> DecaySql:
    """Return a policy whose queries see the importances as if ended idle times were charged.

    Valid on this connection, for all memories or the one in a row as they are now. Only reads the
    database.
    """
    sql = decay_sql(db, policy)
    if not has_idle_times(db):
        return sql
    return with_settled_importances(db, sql, _changed(boosted_memories(db, sql, rowid=rowid)))


def decay(
    run: JobContext,
    policy: DecayPolicy,
    *,
    agent: str | None = None,
    before_charging: Callable[[str], object] | None = None,
) -> DecayResult:
    """Charge the memories of one agent or of all for the idle days that are not charged yet.

    `before_charging` is called with the rows of each batch (a JSON array), in its transaction.
    Raises NotFoundError for an agent without memories.
    """
    require_agent(run.db, agent)
    charge_ended_idle_times(run, policy, agent)
    policy_sql = settled_decay_sql if run.batches is None else decay_sql
    sql = policy_sql(run.db, policy)
    event = DecayEvent(run.db, now=run.now, run_id=run.run_id)

    def charge(batch: Batch) -> int:
        if before_charging:
            before_charging(batch.rowids)
        charges = ((memory.rowid, memory.details[DECAYED]) for memory in batch.memories)
        charged = charge_memories(run.db, charges, now=run.now)
        event.add(charged)
        return charged

    tally = run.apply_in_batches(
        select_fading(sql, agent=agent, now=run.now), charge, policy=policy
    )
    return DecayResult(decayed=tally.count, tally=tally)
