"""The outbox: one row per change of one memory, written in the transaction of the change.

Decay is the exception: it touches nearly everything, so each run records it in one row. What goes
to the archive for a reason that is an event has two rows: that event and then `memory:archived`,
which everything that goes there has, with the reason in its detail.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from sqlite3 import Connection
from typing import Literal

from memctl.storage.times import to_text

Event = Literal[
    "memory:expired",
    "memory:forgotten",
    "memory:deleted",
    "memory:archived",
    "memory:imported",
    "memory:promoted",
    "memory:pruned",
    "memory:restored",
]
Reason = Literal["expired", "forgotten", "deleted", "replaced", "imported", "manual"]

# The reasons of archiving that are events themselves, which come before `memory:archived`.
CAUSES: Mapping[Reason, Event] = {
    "expired": "memory:expired",
    "forgotten": "memory:forgotten",
    "deleted": "memory:deleted",
}

Table = Literal["agent_memory", "archived_memories"]

RECORD_EVENTS = """
    INSERT INTO memory_events (at, event, memory_id, agent_id, type, key, run_id, detail)
    SELECT :at, :event, id, agent_id, type, key, :run_id, :detail
    FROM {table}
    WHERE rowid IN (SELECT value FROM json_each(:rowids))
    ORDER BY rowid
"""


RECORD_ARCHIVING = """
    INSERT INTO memory_events (at, event, memory_id, agent_id, type, key, run_id, detail)
    SELECT :at, told.event, id, agent_id, type, key, :run_id, told.detail
    FROM agent_memory CROSS JOIN (
        SELECT 1 AS number, :cause AS event, NULL AS detail WHERE :cause IS NOT NULL
        UNION ALL
        SELECT 2, 'memory:archived', :detail
    ) AS told
    WHERE agent_memory.rowid IN (SELECT value FROM json_each(:rowids))
    ORDER BY agent_memory.rowid, told.number
"""


def reason_detail(reason: Reason) -> str:
    """Return the detail of `memory:archived`."""
    return json.dumps({"reason": reason})


def record_archiving(
    db: Connection, rowids: str, *, reason: Reason, now: datetime, run_id: int | None
) -> int:
    """Record that the memories in these rows (a JSON array) go to the archive; returns how many.

    Call it while the rows are still in `agent_memory`.
    """
    cause = CAUSES.get(reason)
    parameters = {
        "at": to_text(now),
        "cause": cause,
        "rowids": rowids,
        "run_id": run_id,
        "detail": reason_detail(reason),
    }
    return db.execute(RECORD_ARCHIVING, parameters).rowcount // (2 if cause else 1)


def record_events(
    db: Connection,
    event: Event,
    table: Table,
    rowids: str,
    *,
    now: datetime,
    run_id: int | None,
    detail: Mapping[str, object] | None = None,
) -> int:
    """Tell what happens to the memories in these rows (a JSON array); returns how many there are.

    Call it while the rows are still in `table`. What a client does belongs to no run. `detail` is
    what else there is to say of each of them.
    """
    parameters = {
        "at": to_text(now),
        "event": event,
        "rowids": rowids,
        "run_id": run_id,
        "detail": None if detail is None else json.dumps(detail),
    }
    return db.execute(RECORD_EVENTS.format(table=table), parameters).rowcount


class DecayEvent:
    """The one event of a decay run: added to by every batch, in the batch's transaction."""

    def __init__(self, db: Connection, *, now: datetime, run_id: int | None) -> None:
        self._db = db
        self._at = to_text(now)
        self._run_id = run_id
        self._event_id: int | None = None
        self._decayed = 0

    def add(self, decayed: int) -> None:
        """Tell that so many more memories lost importance."""
        self._decayed += decayed
        detail = json.dumps({"decayed": self._decayed})
        if self._event_id is None:
            self._event_id = self._db.execute(
                "INSERT INTO memory_events (at, event, run_id, detail)"
                " VALUES (?, 'memory:decayed', ?, ?)",
                (self._at, self._run_id, detail),
            ).lastrowid
        else:
            self._db.execute(
                "UPDATE memory_events SET detail = ? WHERE event_id = ?", (detail, self._event_id)
            )
