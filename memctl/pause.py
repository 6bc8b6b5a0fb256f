"""The pause: while it lasts, jobs do nothing and say nothing."""

import json
from datetime import datetime
from sqlite3 import Connection
from typing import NamedTuple

from memctl.database import transaction
from memctl.timestamps import parse_moment, to_text


class Pause(NamedTuple):
    """Since when, until when (None: until `resume`) and why jobs do nothing."""

    since: str
    until: str | None
    reason: str


def pause(db: Connection, *, now: datetime, until: datetime | None, reason: str) -> Pause:
    """Make jobs do nothing from now on; a second pause takes the place of the first."""
    paused = Pause(since=to_text(now), until=to_text(until) if until else None, reason=reason)
    with transaction(db):
        db.execute(
            "INSERT OR REPLACE INTO memory_state (key, value) VALUES ('pause', ?)",
            (json.dumps(paused._asdict()),),
        )
    return paused


def resume(db: Connection) -> bool:
    """End the pause; returns whether there was one."""
    with transaction(db):
        return db.execute("DELETE FROM memory_state WHERE key = 'pause'").rowcount > 0


def current_pause(db: Connection, *, now: datetime) -> Pause | None:
    """Return the pause that is in force."""
    row = db.execute("SELECT value FROM memory_state WHERE key = 'pause'").fetchone()
    if row is None:
        return None
    pause = Pause(**json.loads(row[0]))
    over = pause.until is not None and parse_moment(pause.until) <= now
    return None if over else pause
