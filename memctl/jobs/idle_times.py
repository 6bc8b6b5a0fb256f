"""Idle times that an access has ended before decay could charge them.

While the feature access-boost is on, an access leaves a row in memory_idle_times, and the next run
charges that idle time as if it had done so before the access. Only SQLite has the features.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from memctl.config.policies import DecayPolicy
from memctl.jobs.engine import JobContext
from memctl.storage.sqlite.changes import Batch, RowChange
from memctl.storage.sqlite.decay import decay_sql
from memctl.storage.sqlite.events import Table
from memctl.storage.sqlite.features import BOOST, HIGHEST_IMPORTANCE
from memctl.storage.sqlite.idle_times import (
    BoostedMemory,
    EndedIdleTime,
    boosted_memories,
    boosted_memories_in,
    delete_orphaned_idle_times,
    orphaned_idle_times,
    select_boosted,
    settle_idle_times,
)

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Store


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
    if run.batches is None or not run.store.has_idle_times():
        return
    db = run.store.sqlite
    sql = decay_sql(db, policy)

    def charge(table: Table, batch: Batch) -> int:
        changed = _changed(boosted_memories_in(db, table, batch.rowids, sql))
        settle_idle_times(db, table, batch.rowids, changed)
        return len(batch.memories)

    for table in get_args(Table):
        boosted = RowChange(db, select_boosted(table, agent=agent), partial(charge, table))
        run.apply_in_batches(boosted)
    run.batches.apply(orphaned_idle_times(db), partial(delete_orphaned_idle_times, db))


def settled_importances(
    store: "Store", policy: DecayPolicy, *, rowid: int | None = None
) -> Sequence[tuple[Any, int]]:
    """Return the importances that charging the ended idle times would change, each with its row.

    Of all memories, or of the one in a row. The database is only read.
    """
    if not store.has_idle_times():
        return ()
    db = store.sqlite
    return _changed(boosted_memories(db, decay_sql(db, policy), rowid=rowid))
