"""The pause: while it is in force, scheduled jobs do nothing."""

from datetime import datetime
from sqlite3 import Connection

from memctl.storage.rows import Pause
from memctl.storage.sqlite.database import transaction
from memctl.storage.sqlite.state import delete_state, read_state, write_state
from memctl.storage.times import to_text

STATE_KEY = "pause"


def pause(db: Connection, *, now: datetime, until: datetime | None, reason: str) -> Pause:
    """Pause the jobs from now on; replaces an earlier pause."""
    paused = Pause(since=to_text(now), until=to_text(until) if until else None, reason=reason)
    with transaction(db):
        write_state(db, STATE_KEY, paused._asdict())
    return paused


def resume(db: Connection) -> bool:
    """End the pause and return whether there was one."""
    with transaction(db):
        return delete_state(db, STATE_KEY)


def current_pause(db: Connection, *, now: datetime) -> Pause | None:
    """Return the pause that is in force, or None."""
    stored = read_state(db, STATE_KEY)
    if stored is None:
        return None
    pause = Pause(**stored)
    return None if pause.is_over(now=now) else pause
