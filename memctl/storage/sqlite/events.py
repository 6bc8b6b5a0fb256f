"""The outbox `memory_events`: one row for each change of a memory, written in the same transaction.

Two exceptions: a decay run, which changes nearly every memory, records a single event; archiving
for a reason that is itself an event records that event and then `memory:archived`, which every
archiving records with the reason in its detail.

`event_id` is the cursor of readers. Writers take turns, so events become visible in the order of
their ids, and a reader that continues after the last one it has read misses none. The event of a
decay run is updated until the run ends: it and all later events are withheld until the run has
ended or another run has begun.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Literal

from memctl.errors import NotFoundError
from memctl.storage.rows import (
    CAUSES,
    Event,
    EventFilter,
    EventPage,
    EventRecord,
    Reason,
    full_event_name,
    json_or_text,
    reason_detail,
)
from memctl.storage.sqlite.database import (
    MemoryTable,
    data_version,
    is_busy,
    one_view,
    open_database,
    table_exists,
    text_conditions,
)
from memctl.storage.sqlite.migrations import require_current
from memctl.storage.times import to_text

PAGE_ROWS = 500  # a slow reader must not keep a transaction open

RECORD_ARCHIVING = """
    INSERT INTO memory_events (at, event, memory_id, agent_id, type, key, run_id, detail)
    SELECT :at, recorded.event, id, agent_id, type, key, :run_id, recorded.detail
    FROM agent_memory CROSS JOIN (
        SELECT 1 AS number, :cause AS event, NULL AS detail WHERE :cause IS NOT NULL
        UNION ALL
        SELECT 2, 'memory:archived', :detail
    ) AS recorded
    WHERE agent_memory.rowid IN (SELECT value FROM json_each(:rowids))
    ORDER BY agent_memory.rowid, recorded.number
"""

NEWEST_VISIBLE_EVENT = """
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


def record_archiving(
    db: Connection, rowids: str, *, reason: Reason, now: datetime, run_id: int | None
) -> int:
    """Record that the memories in these rows (a JSON array) are archived; return their number.

    Must be called while the rows are still in `agent_memory`.
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
    table: MemoryTable,
    rowids: str,
    *,
    now: datetime,
    run_id: int | None,
    detail: Mapping[str, object] | None = None,
) -> int:
    """Record one event for each memory in these rows (a JSON array); return their number.

    Must be called while the rows are still in `table`. Changes by clients have no `run_id`.
    """
    statement = f"""
        INSERT INTO memory_events (at, event, memory_id, agent_id, type, key, run_id, detail)
        SELECT :at, :event, id, agent_id, type, key, :run_id, :detail
        FROM {table}
        WHERE rowid IN (SELECT value FROM json_each(:rowids))
        ORDER BY rowid
    """
    parameters = {
        "at": to_text(now),
        "event": event,
        "rowids": rowids,
        "run_id": run_id,
        "detail": None if detail is None else json.dumps(detail),
    }
    return db.execute(statement, parameters).rowcount


class DecayEvent:
    """The event of a decay run, which every batch updates in its transaction."""

    def __init__(self, db: Connection, *, now: datetime, run_id: int | None) -> None:
        self._db = db
        self._at = to_text(now)
        self._run_id = run_id
        self._event_id: int | None = None
        self._decayed = 0

    def add(self, decayed: int) -> None:
        """Add a number of memories that lost importance."""
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


def newest_visible_event(db: Connection, *, after: int = 0) -> int:
    """Return the id of the newest event that readers may see; 0 if there is none.

    Only a decay run whose event is later than `after` is considered.
    """
    return int(db.execute(NEWEST_VISIBLE_EVENT, {"after": after}).fetchone()[0])


def pruned_after(db: Connection, cursor: int) -> int | None:
    """Return the id of the last pruned event if a reader at `cursor` has missed any, else None.

    Raises NotFoundError for a cursor beyond the newest event.
    """
    oldest, newest = db.execute("SELECT min(event_id), max(event_id) FROM memory_events").fetchone()
    if cursor > (newest or 0):
        raise NotFoundError(
            f"there is no event {cursor}, the newest is {newest or 0}",
            "if the database was restored from a backup, start over with --since 0",
        )
    return int(oldest) - 1 if cursor and oldest > cursor + 1 else None


def read_events(
    db: Connection, which: EventFilter, *, after: int, limit: int, offset: int = 0
) -> list[EventRecord]:
    """Return the first events after a cursor, oldest first, without the first `offset`."""
    until = newest_visible_event(db, after=after)
    return _select(db, which, after=after, until=until, order="ASC", limit=limit, offset=offset)


def read_event_page(
    db: Connection, which: EventFilter, *, after: int | None, limit: int, offset: int
) -> EventPage:
    """Return events; see `storage.store.Store.read_events`."""
    with one_view(db):
        pruned = pruned_after(db, after or 0)
        newest = newest_visible_event(db, after=after or 0)
        events = _select(
            db,
            which,
            after=after or 0,
            until=newest,
            order="DESC" if after is None else "ASC",
            limit=limit,
            offset=offset,
        )
    return EventPage(events[::-1] if after is None else events, newest, pruned)


def _select(
    db: Connection,
    which: EventFilter,
    *,
    after: int,
    until: int,
    order: Literal["ASC", "DESC"],
    limit: int,
    offset: int = 0,
) -> list[EventRecord]:
    condition, parameters = event_condition(which)
    rows = db.execute(
        f"SELECT {', '.join(EventRecord._fields)} FROM memory_events"
        f" WHERE event_id > :after AND event_id <= :until AND {condition}"
        f" ORDER BY event_id {order} LIMIT {limit} OFFSET {offset}",
        {**parameters, "after": after, "until": until},
    )
    return [EventRecord._make((*row[:-1], json_or_text(row[-1]))) for row in rows.fetchall()]


def follow_events(
    database: Path,
    which: EventFilter,
    *,
    after: int,
    wait: Callable[[], object],
    report: Callable[[str], object],
) -> Iterator[EventRecord]:
    """Yield the events after a cursor, then wait for further ones, endlessly.

    `wait` is called between two queries, outside of any transaction. A locked database, or one
    without its tables, is waited for. `report` is called with messages for people. Raises what
    `open_database` and `require_current` raise.
    """
    while True:
        with open_database(database, read_only=True, lock_wait=1) as db:
            opened = _file_identity(database)
            require_current(db)
            seen = None
            while _file_identity(database) == opened:
                try:
                    version = data_version(db)
                    until = after if version == seen else newest_visible_event(db, after=after)
                    events = _select(
                        db, which, after=after, until=until, order="ASC", limit=PAGE_ROWS
                    )
                except sqlite3.OperationalError as error:
                    if not _is_temporary(db, error):
                        raise
                    wait()
                    continue
                yield from events
                if until < after:
                    report("the database was replaced: its events begin anew")
                    after = 0
                elif len(events) == PAGE_ROWS:
                    after = events[-1].event_id
                else:
                    after, seen = until, version
                    wait()


def _file_identity(file: Path) -> tuple[int, int] | None:
    """Return device and inode, which change when another file replaces this one."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _is_temporary(db: Connection, error: sqlite3.OperationalError) -> bool:
    """Return whether the database is locked, or has no outbox because of a rollback."""
    if is_busy(error):
        return True
    return error.sqlite_errorcode == sqlite3.SQLITE_ERROR and not table_exists(db, "memory_events")


def event_condition(which: EventFilter) -> tuple[str, dict[str, Any]]:
    """Return a condition on memory_events and its parameters.

    Raises UsageError for an event that memctl does not record.
    """
    event = None if which.event is None else full_event_name(which.event)
    terms, parameters = text_conditions(
        {"agent_id": which.agent, "type": which.type, "key": which.key, "event": event}
    )
    if which.run_id is not None:
        terms.append("run_id = :run_id")
        parameters["run_id"] = which.run_id
    if which.since is not None:
        terms.append("at >= :since")
        parameters["since"] = to_text(which.since)
    if which.until is not None:
        terms.append("at <= :until_time")
        parameters["until_time"] = to_text(which.until)
    return " AND ".join(terms) or "TRUE", parameters
