"""Counters that never decrease: the events of each kind, and the runs of each job by their end.

They are stored as on SQLite; see `storage.sqlite.counters`. Only numbered events are counted.
"""

from memctl.storage.counters import STATE_KEY, Counters, from_stored, to_stored
from memctl.storage.postgresql.batches import PostgresBatches
from memctl.storage.postgresql.database import Database
from memctl.storage.postgresql.state import read_state, set_state

PAGE_EVENTS = 50_000  # read at once, so that each read is short

# The details of archiving and decay matter; there are few different ones.
EVENTS = """
    SELECT event,
        CASE WHEN event IN ('memory:archived', 'memory:decayed') THEN detail END AS counted_detail,
        count(*)
    FROM memory_events
    WHERE event_id > %(after)s AND event_id <= %(until)s
    GROUP BY event, counted_detail
"""

FINISHED_RUNS = """
    SELECT job, status, count(*) FROM memory_runs WHERE status <> 'running' GROUP BY job, status
"""

RUNS_TO_DELETE = """
    SELECT job, CASE status WHEN 'running' THEN 'failed' ELSE status END AS counted_status, count(*)
    FROM memory_runs
    WHERE run_id = ANY(%(run_ids)s::bigint[])
    GROUP BY job, counted_status
"""


def read_counters(db: Database) -> Counters:
    """Return all counters; call it in one view."""
    counters, last_event_id = from_stored(read_state(db, STATE_KEY))
    _count_events(db, counters, after=last_event_id, until=_newest_event(db))
    counters.add_runs(db.rows(FINISHED_RUNS))
    return counters


def store_event_counts(db: Database, batches: PostgresBatches) -> None:
    """Add the present events to the stored counts, before old ones are deleted."""
    counters, last_event_id = from_stored(read_state(db, STATE_KEY))
    newest = _newest_event(db)
    for after in range(last_event_id, newest, PAGE_EVENTS):
        _count_events(db, counters, after=after, until=min(after + PAGE_EVENTS, newest))
    if newest > last_event_id:
        batches.apply_at_once(lambda: set_state(db, STATE_KEY, to_stored(counters, newest)))


def store_run_counts(db: Database, run_ids: list[int]) -> None:
    """Add runs that are deleted to the stored counts, in the transaction that deletes them."""
    counters, last_event_id = from_stored(read_state(db, STATE_KEY))
    counters.add_runs(db.rows(RUNS_TO_DELETE, {"run_ids": run_ids}))
    set_state(db, STATE_KEY, to_stored(counters, last_event_id))


def _newest_event(db: Database) -> int:
    return int(db.value("SELECT coalesce(max(event_id), 0) FROM memory_events"))


def _count_events(db: Database, counters: Counters, *, after: int, until: int) -> None:
    counters.add_events(db.rows(EVENTS, {"after": after, "until": until}))
