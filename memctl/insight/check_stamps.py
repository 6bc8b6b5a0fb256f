"""What the check finds in memctl's own timestamps: none of them may lie in the future.

A clock that once ran ahead leaves such timestamps, and they go on deciding: when an archived memory
is pruned, from when on a memory decays, which day a figure belongs to. Two kinds are left out:
those of runs whose clock was not accepted, and those of alerts, which report such runs. The columns
of agent_memory are checked with its other columns.
"""

from collections.abc import Iterator
from datetime import datetime
from sqlite3 import Connection
from typing import NamedTuple

from memctl.insight.findings import Finding
from memctl.storage.sqlite.ledger import CLOCK_TOLERANCE, CLOCK_WAS_ACCEPTED
from memctl.storage.times import to_text, unix_seconds

PORTION_EVENTS = 20_000


class Stamps(NamedTuple):
    """One kind of timestamp, and what to do when it lies in the future.

    `query` returns the name and the timestamp of every row in which it does; as text all ours are
    at most :latest.
    """

    place: str
    query: str
    advice: str


NAME = "'''' || agent_id || ''' ' || type || ' ''' || key || ''''"
STATE_SINCE = "CASE WHEN json_valid(value) THEN json_extract(value, '$.since') END"

STAMPS = (
    Stamps(
        "archived_memories.archived_at",
        f"""
        SELECT {NAME} AS name, archived_at AS stamp FROM archived_memories
        WHERE archived_at > :latest AND {unix_seconds("archived_at")} > unixepoch(:latest)
        """,
        "they are pruned that much later: restore them, then archive them again",
    ),
    Stamps(
        "memory_promotions.promoted_at",
        f"""
        SELECT {NAME} AS name, promoted_at AS stamp FROM memory_promotions
        WHERE promoted_at > :latest
        """,
        "nothing depends on them",
    ),
    Stamps(
        "memory_runs",
        f"""
        SELECT 'run ' || run_id AS name, max(started_at, ifnull(finished_at, '')) AS stamp
        FROM memory_runs
        WHERE {CLOCK_WAS_ACCEPTED} AND max(started_at, ifnull(finished_at, '')) > :latest
        """,
        "see what these runs did with `memctl events`",
    ),
    Stamps(
        "memory_analytics",
        """
        SELECT 'the snapshot of ' || snapshot_date AS name, period_end AS stamp
        FROM memory_analytics
        WHERE snapshot_date > substr(:latest, 1, 10) OR period_end > :latest
        """,
        "`memctl metrics --history` shows these snapshots when their day comes",
    ),
    Stamps(
        "memory_state",
        f"SELECT key AS name, {STATE_SINCE} AS stamp FROM memory_state"
        f" WHERE {STATE_SINCE} > :latest AND key NOT GLOB 'alert:*'",
        "end the pause with `memctl resume`, or disable and enable the feature",
    ),
    Stamps(
        "memctl_migrations.applied_at",
        """
        SELECT printf('step %03d', version) AS name, applied_at AS stamp FROM memctl_migrations
        WHERE applied_at > :latest
        """,
        "rates are counted from then on only",
    ),
)

EVENTS_AHEAD = """
    SELECT count(*), 'event ' || event_id, min(at)
    FROM memory_events
    WHERE event_id > :after AND event_id <= :after + :portion
        AND at > :latest AND event <> 'memory:alert'
"""


def find_in_stamps(db: Connection, *, now: datetime) -> Iterator[Finding]:
    """Compare memctl's own timestamps with the clock; reads only."""
    parameters = {"latest": to_text(now + CLOCK_TOLERANCE)}
    for stamps in STAMPS:
        count, name, stamp = db.execute(
            f"SELECT count(*), name, min(stamp) FROM ({stamps.query})", parameters
        ).fetchone()
        if count:
            yield _finding(stamps.place, count, name, stamp, stamps.advice)
    yield from _find_in_events(db, parameters)


def _find_in_events(db: Connection, parameters: dict[str, str]) -> Iterator[Finding]:
    """Look at the events in portions, each in a transaction of its own."""
    oldest, newest = db.execute("SELECT min(event_id), max(event_id) FROM memory_events").fetchone()
    found = []
    for after in range(oldest - 1, newest, PORTION_EVENTS) if newest else ():
        portion = {**parameters, "after": after, "portion": PORTION_EVENTS}
        found.append(db.execute(EVENTS_AHEAD, portion).fetchone())
    count = sum(portion[0] for portion in found)
    if count:
        _, name, stamp = min((portion for portion in found if portion[0]), key=lambda one: one[2])
        advice = "figures count these events on the day they name"
        yield _finding("memory_events.at", count, name, stamp, advice)


def _finding(place: str, count: int, name: str, stamp: str, advice: str) -> Finding:
    return Finding(
        "warning",
        "stamp_to_come",
        f"timestamps in the future in {place}: {count}, the earliest {stamp} of {name}",
        f"the clock of memctl was ahead; {advice}",
    )
