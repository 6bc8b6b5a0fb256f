"""Read the outbox, from a cursor on.

`event_id` is the cursor: writers take turns, so events become visible in the order of their ids
and a reader that goes on from the last one it saw misses none. The one event of a decay run grows
while the run lasts: it, and what comes after it, is told when the run is over or another begins.
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from typing import Any, NamedTuple, get_args

from memctl.errors import NotFoundError, UsageError
from memctl.storage.sqlite.database import (
    data_version,
    from_json,
    is_busy,
    open_database,
    table_exists,
    text_conditions,
)
from memctl.storage.sqlite.events import Event
from memctl.storage.sqlite.migrations import require_current
from memctl.storage.times import to_text

EVENTS = (*get_args(Event), "memory:decayed", "memory:alert")
PAGE_ROWS = 500  # so that a slow reader keeps no transaction open

NEWEST_TOLD = """
    SELECT coalesce(
        (
            SELECT min(event_id) - 1
            FROM memory_events
            WHERE event_id > :after AND event = 'memory:decayed' AND run_id = (
                SELECT run_id
                FROM (SELECT * FROM memory_runs ORDER BY run_id DESC LIMIT 1)
                WHERE job = 'decay' AND status = 'running'
            )
        ),
        (SELECT max(event_id) FROM memory_events),
        0
    )
"""


class Told(NamedTuple):
    """One event, as readers get it."""

    event_id: int
    at: str
    event: str
    memory_id: str | None
    agent_id: str | None
    type: str | None
    key: str | None
    run_id: int | None
    detail: object  # an object where there is something to add


@dataclass(frozen=True)
class EventFilter:
    """Which events are meant; what is not given does not narrow."""

    agent: str | None = None
    type: str | None = None
    key: str | None = None
    event: str | None = None  # with or without `memory:`
    run_id: int | None = None
    since: datetime | None = None

    def condition(self) -> tuple[str, dict[str, Any]]:
        """Return SQL for a WHERE on memory_events, and its parameters.

        Raises UsageError for an event that memctl does not tell of.
        """
        event = self.event
        if event is not None:
            event = event if event.startswith("memory:") else f"memory:{event}"
            if event not in EVENTS:
                raise UsageError(f"there is no event '{event}'", f"use {', '.join(EVENTS)}")
        terms, parameters = text_conditions(
            {"agent_id": self.agent, "type": self.type, "key": self.key, "event": event}
        )
        if self.run_id is not None:
            terms.append("run_id = :run_id")
            parameters["run_id"] = self.run_id
        if self.since is not None:
            terms.append("at >= :since")
            parameters["since"] = to_text(self.since)
        return " AND ".join(terms) or "TRUE", parameters


def newest_told(db: Connection, *, after: int = 0) -> int:
    """Return the id up to which events may be told; 0 when there are none."""
    return int(db.execute(NEWEST_TOLD, {"after": after}).fetchone()[0])


def pruned_after(db: Connection, cursor: int) -> int | None:
    """Return up to which event all have been pruned, when a reader has missed some thereby.

    Raises NotFoundError for a cursor that no event has reached.
    """
    oldest, newest = db.execute("SELECT min(event_id), max(event_id) FROM memory_events").fetchone()
    if cursor > (newest or 0):
        raise NotFoundError(
            f"there is no event {cursor}, the newest is {newest or 0}",
            "has the database been restored from a backup? start over with --since 0",
        )
    return int(oldest) - 1 if cursor and oldest > cursor + 1 else None


def read_events(db: Connection, which: EventFilter, *, after: int, limit: int) -> list[Told]:
    """Return the first events after a cursor, in their order."""
    return _select(db, which, after, newest_told(db, after=after), f"ASC LIMIT {limit}")


def read_newest_events(db: Connection, which: EventFilter, *, limit: int) -> list[Told]:
    """Return the newest events, in their order."""
    return _select(db, which, 0, newest_told(db), f"DESC LIMIT {limit}")[::-1]


def _select(db: Connection, which: EventFilter, after: int, until: int, order: str) -> list[Told]:
    condition, parameters = which.condition()
    rows = db.execute(
        f"SELECT {', '.join(Told._fields)} FROM memory_events"
        f" WHERE event_id > :after AND event_id <= :until AND {condition}"
        f" ORDER BY event_id {order}",
        {**parameters, "after": after, "until": until},
    )
    return [Told._make((*row[:-1], from_json(row[-1]))) for row in rows.fetchall()]


def follow(
    database: Path,
    which: EventFilter,
    *,
    after: int,
    wait: Callable[[], object],
    tell: Callable[[str], object],
) -> Iterator[Told]:
    """Yield the events after a cursor, and go on for ever as they come.

    Between two looks it calls `wait` and has no transaction open. A database that is locked, or
    whose tables are taken away, is waited for. `tell` is given what a person should know. Raises
    what `open_database` and `require_current` raise.
    """
    while True:
        with open_database(database, read_only=True, lock_wait=1) as db:
            opened = _identity(database)
            require_current(db)
            seen = None
            while _identity(database) == opened:
                try:
                    version = data_version(db)
                    until = after if version == seen else newest_told(db, after=after)
                    events = _select(db, which, after, until, f"ASC LIMIT {PAGE_ROWS}")
                except sqlite3.OperationalError as error:
                    if not _will_pass(db, error):
                        raise
                    wait()
                    continue
                yield from events
                if until < after:
                    tell("the events begin anew: the database is not the one it was")
                    after = 0
                elif len(events) == PAGE_ROWS:
                    after = events[-1].event_id
                else:
                    after, seen = until, version
                    wait()


def _identity(file: Path) -> tuple[int, int] | None:
    """Tell a file from another that has been put in its place."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _will_pass(db: Connection, error: sqlite3.OperationalError) -> bool:
    """Tell whether the database is locked, or has no outbox because of a rollback."""
    if is_busy(error):
        return True
    return error.sqlite_errorcode == sqlite3.SQLITE_ERROR and not table_exists(db, "memory_events")
