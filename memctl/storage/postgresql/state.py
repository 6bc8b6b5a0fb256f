"""The table memory_state: JSON values of memctl under keys, for example the pause."""

import json
from datetime import datetime
from typing import Any

from memctl.storage.postgresql.database import Database
from memctl.storage.rows import Pause
from memctl.storage.times import to_text

PAUSE = "pause"

WRITE_STATE = """
    INSERT INTO memory_state (key, value) VALUES (%(key)s, %(value)s)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""


def read_state(db: Database, key: str) -> Any:
    """Return the value of a key, or None if there is none."""
    stored = db.value("SELECT value FROM memory_state WHERE key = %(key)s", {"key": key})
    return None if stored is None else json.loads(stored)


def write_state(db: Database, key: str, value: object) -> None:
    """Set the value of a key, which JSON must be able to represent, in a transaction of its own."""
    db.transaction(lambda: set_state(db, key, value))


def set_state(db: Database, key: str, value: object) -> None:
    """Set the value of a key as `write_state`; must be called in a transaction."""
    db.execute(WRITE_STATE, {"key": key, "value": json.dumps(value)})


def delete_state(db: Database, key: str) -> bool:
    """Delete a key and return whether it existed."""
    statement = "DELETE FROM memory_state WHERE key = %(key)s"
    return db.transaction(lambda: db.execute(statement, {"key": key})) > 0


def pause(db: Database, *, now: datetime, until: datetime | None, reason: str) -> Pause:
    """Pause the jobs from now on; replaces an earlier pause."""
    paused = Pause(since=to_text(now), until=to_text(until) if until else None, reason=reason)
    write_state(db, PAUSE, paused._asdict())
    return paused


def current_pause(db: Database, *, now: datetime) -> Pause | None:
    """Return the pause that is in force, or None."""
    stored = read_state(db, PAUSE)
    if stored is None:
        return None
    paused = Pause(**stored)
    return None if paused.is_over(now=now) else paused
