"""The mark of an erasure or a redaction that is not finished: a key of memory_state.

It is set before anything is removed, and deleted when the files are overwritten.
"""

from datetime import datetime
from sqlite3 import Connection
from typing import NamedTuple

from memctl.storage.sqlite.state import delete_state, read_state, write_state
from memctl.storage.times import to_text

KEY = "erase_pending"


class Unfinished(NamedTuple):
    """Since when it is unfinished, and whether only bytes in the files are left."""

    since: str
    is_removed: bool


def read_unfinished(db: Connection) -> Unfinished | None:
    """Return the mark, if there is one; reads only."""
    found = read_state(db, KEY)
    if found is None:
        return None
    return Unfinished(found.get("since", ""), found.get("removed", True))


def mark_unfinished(db: Connection, *, is_removed: bool, now: datetime) -> None:
    """Set the mark; must be called in a transaction."""
    write_state(db, KEY, {"since": to_text(now), "removed": is_removed})


def mark_finished(db: Connection) -> None:
    """Delete the mark; must be called in a transaction."""
    delete_state(db, KEY)
