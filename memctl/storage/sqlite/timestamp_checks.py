"""Checks of memctl's own timestamps: those that lie in the future.

The timestamps of runs whose clock was not accepted are left out, and so are those of alerts, which
report such runs. The columns of agent_memory are checked by `memory_checks`.
"""

from collections.abc import Mapping
from datetime import datetime
from sqlite3 import Connection
from typing import Literal, NamedTuple, get_args

from memctl.storage.clock import CLOCK_TOLERANCE
from memctl.storage.sqlite.ledger import CLOCK_WAS_ACCEPTED
from memctl.storage.sqlite.times import unix_seconds
from memctl.storage.times import to_text

TimestampPlace = Literal[
    "archived_memories.archived_at",
    "memory_promotions.promoted_at",
    "memory_runs",
    "memory_analytics",
    "memory_state",
    "memctl_migrations.applied_at",
    "memory_events.at",
]

PORTION_EVENTS = 20_000

NAME = "'''' || agent_id || ''' ' || type || ' ''' || key || ''''"
STATE_SINCE = "CASE WHEN json_valid(value) THEN json_extract(value, '$.since') END"

# For each place SQL that returns name and timestamp of the rows whose timestamp is after :latest.
# Our timestamps can be compared as text.
QUERIES: Mapping[TimestampPlace, str] = {
    "archived_memories.archived_at": f"""
        SELECT {NAME} AS name, archived_at AS stamp FROM archived_memories
        WHERE archived_at > :latest AND {unix_seconds("archived_at")} > unixepoch(:latest)
    """,
    "memory_promotions.promoted_at": f"""
        SELECT {NAME} AS name, promoted_at AS stamp FROM memory_promotions
        WHERE promoted_at > :latest
    """,
    "memory_runs": f"""
        SELECT 'run ' || run_id AS name, max(started_at, ifnull(finished_at, '')) AS stamp
        FROM memory_runs
        WHERE {CLOCK_WAS_ACCEPTED} AND max(started_at, ifnull(finished_at, '')) > :latest
    """,
    "memory_analytics": """
        SELECT 'the snapshot of ' || snapshot_date AS name, period_end AS stamp
        FROM memory_analytics
        WHERE snapshot_date > substr(:latest, 1, 10) OR period_end > :latest
    """,
    "memory_state": f"""
        SELECT key AS name, {STATE_SINCE} AS stamp FROM memory_state
        WHERE {STATE_SINCE} > :latest AND key NOT GLOB 'alert:*'
    """,
    "memctl_migrations.applied_at": """
        SELECT printf('step %03d', version) AS name, applied_at AS stamp FROM memctl_migrations
        WHERE applied_at > :latest
    """,
}

EVENTS_AHEAD = """
    SELECT count(*), 'event ' || event_id, min(at)
    FROM memory_events
    WHERE event_id > :after AND event_id <= :after + :portion
        AND at > :latest AND event <> 'memory:alert'
"""


class TimestampsAhead(NamedTuple):
    """Timestamps in the future in one place: how many, and name and timestamp of the earliest."""

    place: TimestampPlace
    total: int
    name: str
    earliest: str


def timestamps_ahead(db: Connection, *, now: datetime) -> list[TimestampsAhead]:
    """Return the places with timestamps in the future; reads only."""
    latest = to_text(now + CLOCK_TOLERANCE)
    found = [_find_in(db, place, latest) for place in get_args(TimestampPlace)]
    return [ahead for ahead in found if ahead.total]


def _find_in(db: Connection, place: TimestampPlace, latest: str) -> TimestampsAhead:
    if place == "memory_events.at":
        return _find_in_events(db, latest)
    query = f"SELECT count(*), name, min(stamp) FROM ({QUERIES[place]})"
    return TimestampsAhead(place, *db.execute(query, {"latest": latest}).fetchone())


def _find_in_events(db: Connection, latest: str) -> TimestampsAhead:
    """Search the events in portions, each in a transaction of its own."""
    oldest, newest = db.execute("SELECT min(event_id), max(event_id) FROM memory_events").fetchone()
    portions = []
    for after in range(oldest - 1, newest, PORTION_EVENTS) if newest else ():
        parameters = {"latest": latest, "after": after, "portion": PORTION_EVENTS}
        portion = TimestampsAhead(
            "memory_events.at", *db.execute(EVENTS_AHEAD, parameters).fetchone()
        )
        if portion.total:
            portions.append(portion)
    if not portions:
        return TimestampsAhead("memory_events.at", 0, "", "")
    earliest = min(portions, key=lambda portion: portion.earliest)
    return earliest._replace(total=sum(portion.total for portion in portions))
