"""Counters that never decrease: the events of each kind, and the runs of each job by their end.

Events and runs are deleted after a year. Their counts are stored in memory_state: all events up
to an event_id, and the deleted runs. The newer events and the present runs are counted when the
counters are read. A run counts from its end on; an unfinished one counts as failed when it is
deleted.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from sqlite3 import Connection
from typing import TYPE_CHECKING

from memctl.storage.rows import json_or_text
from memctl.storage.sqlite.state import read_state, write_state

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Batches

STATE_KEY = "counters"
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


@dataclass(frozen=True)
class Counters:
    """Numbers since the migration."""

    events: Counter[str] = field(default_factory=Counter)  # `memory:decayed` counts memories
    archived: Counter[str] = field(default_factory=Counter)  # by reason
    runs: Counter[tuple[str, str]] = field(default_factory=Counter)  # by job and status


def read_counters(db: Connection) -> Counters:
    """Return all counters; call it in a transaction."""
    counters, last_event_id = _stored(db)
    _count_events(db, counters, after=last_event_id, until=_newest_event(db))
    _count_runs(counters, db.execute(FINISHED_RUNS))
    return counters


def store_event_counts(db: Connection, batches: "Batches") -> None:
    """Add the present events to the stored counts, before old ones are deleted.

    The caller holds memctl's lock: no decay updates its event, and no other process stores counts.
    """
    counters, last_event_id = _stored(db)
    newest = _newest_event(db)
    for after in range(last_event_id, newest, PAGE_EVENTS):
        _count_events(db, counters, after=after, until=min(after + PAGE_EVENTS, newest))
    if newest > last_event_id:
        batches.apply_at_once(lambda: _store(db, counters, newest))


def store_run_counts(db: Connection, rowids: str) -> None:
    """Add runs that are deleted (their numbers as a JSON array) to the stored counts.

    Must be called in the transaction that deletes them.
    """
    counters, last_event_id = _stored(db)
    _count_runs(counters, db.execute(RUNS_TO_DELETE, {"rowids": rowids}))
    _store(db, counters, last_event_id)


def _newest_event(db: Connection) -> int:
    (newest,) = db.execute("SELECT ifnull(max(event_id), 0) FROM memory_events").fetchone()
    return int(newest)


def _stored(db: Connection) -> tuple[Counters, int]:
    """Return the stored counts, and the last event that they include."""
    stored = read_state(db, STATE_KEY)
    if stored is None:
        return Counters(), 0
    runs = Counter({(job, status): count for job, status, count in stored["runs"]})
    counters = Counters(Counter(stored["events"]), Counter(stored["archived"]), runs)
    return counters, stored["last_event_id"]


def _store(db: Connection, counters: Counters, last_event_id: int) -> None:
    write_state(
        db,
        STATE_KEY,
        {
            "last_event_id": last_event_id,
            "events": counters.events,
            "archived": counters.archived,
            "runs": [(*run, count) for run, count in sorted(counters.runs.items())],
        },
    )


def _count_events(db: Connection, counters: Counters, *, after: int, until: int) -> None:
    for event, text, count in db.execute(EVENTS, {"after": after, "until": until}):
        detail = json_or_text(text) if text else None
        facts = detail if isinstance(detail, dict) else {}
        if event == "memory:decayed":
            decayed = facts.get("decayed")
            counters.events[event] += count * decayed if isinstance(decayed, int) else 0
        else:
            counters.events[event] += count
        if event == "memory:archived":
            counters.archived[str(facts.get("reason", "unknown"))] += count


def _count_runs(counters: Counters, rows: Iterator[tuple[str, str, int]]) -> None:
    for job, status, count in rows:
        counters.runs[job, status] += count
