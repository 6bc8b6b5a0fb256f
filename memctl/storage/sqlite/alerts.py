"""Alerts in the database: which are raised, which wait for delivery, and the figures behind them.

An alert that is raised adds the event `memory:alert` and waits for delivery until it is delivered.
Both are independent: it also waits after its condition has cleared.
"""

import json
from datetime import datetime
from sqlite3 import Connection
from typing import NamedTuple

from memctl.storage.sqlite.database import transaction
from memctl.storage.sqlite.state import delete_state, read_state, state_keys, write_state
from memctl.storage.sqlite.times import unix_seconds
from memctl.storage.text import to_bytes
from memctl.storage.times import to_day

RAISED = "alert:"
UNDELIVERED = "undelivered:"


class Alert(NamedTuple):
    """A condition that holds."""

    condition: str  # the same for two alerts only if both are about the same thing
    message: str
    figures: dict[str, object]  # those in the message, for programs
    agent: str | None = None

    @property
    def detail(self) -> dict[str, object]:
        """The alert without the name of the agent, which may not be valid UTF-8."""
        return {"condition": self.condition.split(":")[0], **self.figures}


class Undelivered(NamedTuple):
    """An alert that waits for delivery."""

    alert: Alert
    raised_at: str
    tries: int = 0


def raised_conditions(db: Connection) -> set[str]:
    """Return the conditions whose alert was raised and that have not cleared."""
    return state_keys(db, RAISED)


def raise_alert(db: Connection, alert: Alert, *, raised_at: str, run_id: int | None) -> None:
    """Raise an alert unless it is already raised; must be called in a transaction."""
    key = RAISED + alert.condition
    if read_state(db, key) is not None:
        return
    write_state(db, key, {"since": raised_at})
    write_state(db, UNDELIVERED + alert.condition, Undelivered(alert, raised_at))
    db.execute(
        "INSERT INTO memory_events (at, event, agent_id, run_id, detail)"
        " VALUES (:at, 'memory:alert', CAST(:agent AS TEXT), :run_id, :detail)",
        {
            "at": raised_at,
            "agent": None if alert.agent is None else to_bytes(alert.agent),
            "run_id": run_id,
            "detail": json.dumps(alert.detail),
        },
    )


def clear_alert(db: Connection, condition: str) -> None:
    """Allow the alert of a condition to be raised again; must be called in a transaction."""
    delete_state(db, RAISED + condition)


def any_undelivered(db: Connection) -> bool:
    """Return whether an alert waits for delivery."""
    return bool(state_keys(db, UNDELIVERED))


# Those with the fewest tries come first, then the oldest.
NEXT_UNDELIVERED = """
    SELECT value FROM memory_state
    WHERE key GLOB ?
    ORDER BY json_extract(value, '$[2]'), json_extract(value, '$[1]')
    LIMIT 1
"""


def claim_undelivered(db: Connection) -> Undelivered | None:
    """Return the alert to deliver next and count the try, so that one that fails comes last."""
    with transaction(db):
        found = db.execute(NEXT_UNDELIVERED, (f"{UNDELIVERED}*",)).fetchone()
        if found is None:
            return None
        alert, raised_at, tries = json.loads(found[0])
        claimed = Undelivered(Alert(*alert), raised_at, tries + 1)
        write_state(db, UNDELIVERED + claimed.alert.condition, claimed)
    return claimed


def mark_delivered(db: Connection, condition: str) -> None:
    """Record that the alert of a condition was delivered."""
    delete_state(db, UNDELIVERED + condition)


def count_memories(db: Connection) -> dict[str, int]:
    """Return the number of active memories of each agent, from an index alone."""
    return dict(db.execute("SELECT agent_id, count(*) FROM agent_memory GROUP BY agent_id"))


class EarlierFigures(NamedTuple):
    """The number of active memories at a snapshot, and how many of them were archived since."""

    memories: int
    archived: int


# A memory that was written after the snapshot was not counted there, and one that was replaced has
# a successor.
ARCHIVED_SINCE = f"""
    SELECT count(*)
    FROM archived_memories
    WHERE archived_at > :moment
        AND archived_reason NOT IN ('replaced', 'imported')
        AND ({unix_seconds("created_at")} > unixepoch(:moment)) IS NOT TRUE
"""


def figures_before_today(db: Connection, *, now: datetime) -> EarlierFigures:
    """Return the figures of the last snapshot of an earlier day; zeros if there is none."""
    memories, moment = db.execute(
        """
        SELECT total(memories), max(period_end) FROM memory_analytics WHERE snapshot_date = (
            SELECT max(snapshot_date) FROM memory_analytics WHERE snapshot_date < ?
        )
        """,
        (to_day(now),),
    ).fetchone()
    if moment is None:
        return EarlierFigures(0, 0)
    (archived,) = db.execute(ARCHIVED_SINCE, {"moment": moment}).fetchone()
    return EarlierFigures(int(memories), archived)
