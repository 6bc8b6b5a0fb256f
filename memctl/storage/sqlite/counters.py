"""The counters on SQLite; see `storage.counters`."""

from sqlite3 import Connection
from typing import TYPE_CHECKING

from memctl.storage.counters import STATE_KEY, Counters, from_stored, to_stored
from memctl.storage.sqlite.state import read_state, write_state

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Batches

PAGE_EVENTS = 50_000  # read at once, so that each read is short

# The details of archiving and decay matter; there are few different ones.
EVENTS = """
    SELECT event,
        CASE WHEN event IN ('memory:archived', 'memory:decayed') THEN detail END AS counted_detail,
        count(*)
    FROM memory_events
    WHERE event_id > :after AND event_id <= :until
    GROUP BY event, counted_detail
"""

FINISHED_RUNS = """
    SELECT job, status, count(*) FROM memory_runs WHERE status <> 'running' GROUP BY job, status
"""

RUNS_TO_DELETE = """
    SELECT job, iif(status = 'running', 'failed', status), count(*)
    FROM memory_runs
    WHERE run_id IN (SELECT value FROM json_each(:rowids))
    GROUP BY 1, 2
"""


def read_counters(db: Connection) -> Counters:
    """Return all counters; call it in a transaction."""
    counters, last_event_id = from_stored(read_state(db, STATE_KEY))
    _count_events(db, counters, after=last_event_id, until=_newest_event(db))
    counters.add_runs(db.execute(FINISHED_RUNS))
    return counters


def store_event_counts(db: Connection, batches: "Batches") -> None:
    """Add the present events to the stored counts, before old ones are deleted.

    The caller holds memctl's lock: no decay updates its event, and no other process stores counts.
    """
    counters, last_event_id = from_stored(read_state(db, STATE_KEY))
    newest = _newest_event(db)
    for after in range(last_event_id, newest, PAGE_EVENTS):
        _count_events(db, counters, after=after, until=min(after + PAGE_EVENTS, newest))
    if newest > last_event_id:
        batches.apply_at_once(lambda: write_state(db, STATE_KEY, to_stored(counters, newest)))


def store_run_counts(db: Connection, rowids: str) -> None:
    """Add runs that are deleted (their numbers as a JSON array) to the stored counts.

    Must be called in the transaction that deletes them.
    """
    counters, last_event_id = from_stored(read_state(db, STATE_KEY))
    counters.add_runs(db.execute(RUNS_TO_DELETE, {"rowids": rowids}))
    write_state(db, STATE_KEY, to_stored(counters, last_event_id))


def _newest_event(db: Connection) -> int:
    (newest,) = db.execute("SELECT ifnull(max(event_id), 0) FROM memory_events").fetchone()
    return int(newest)


def _count_events(db: Connection, counters: Counters, *, after: int, until: int) -> None:
    counters.add_events(db.execute(EVENTS, {"after": after, "until": until}))
