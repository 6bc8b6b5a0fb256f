"""The outbox `memory_events`, and the numbers of its events, which are the cursor of readers.

A number must not become visible after a greater one, or a reader that continues after the last one
would miss it. Only the holder of the lease gives numbers, in transactions that lock the lease's row
to their end: its batches number their events at once. The events of clients, and that of a decay
run, which is updated until the run ends, are numbered later; until then no reader sees them.
"""

from typing import Any, Literal

from memctl.errors import NotFoundError
from memctl.storage.postgresql.conditions import all_of
from memctl.storage.postgresql.database import Database
from memctl.storage.postgresql.lease import Lease
from memctl.storage.postgresql.state import read_state
from memctl.storage.postgresql.times import our_text
from memctl.storage.rows import EventFilter, EventPage, EventRecord, full_event_name, json_or_text
from memctl.storage.times import to_text

BATCH_EVENTS = 500
LAST_PRUNED = "events:last_pruned"  # the greatest number of a deleted event

# In the order of the index.
WITHOUT_NUMBER = """
    SELECT agent_id, event_key::text FROM memory_events
    WHERE event_id IS NULL
    ORDER BY event_id, event_key
    LIMIT %(limit)s
"""

GIVE_NUMBERS = """
    UPDATE memory_events
    SET event_id = given.number
    FROM unnest(%(agents)s::text[], %(keys)s::uuid[], %(numbers)s::bigint[])
        AS given (agent_id, event_key, number)
    WHERE memory_events.agent_id = given.agent_id
        AND memory_events.event_key = given.event_key
        AND memory_events.event_id IS NULL
"""

# An event without a memory is about a run.
READ_AS = {"at": our_text("at"), "agent_id": "CASE WHEN memory_id IS NOT NULL THEN agent_id END"}
COLUMNS = ", ".join(READ_AS.get(name, name) for name in EventRecord._fields)


def number_events(db: Database, lease: Lease) -> None:
    """Give numbers to the events without one, in the order of their keys, in short transactions.

    Raises LockedError if another process has taken the lease.
    """

    def number_some() -> int:
        rows = db.rows(WITHOUT_NUMBER, {"limit": BATCH_EVENTS})
        if rows:
            last = lease.renew(db, events=len(rows))
            agents, keys = zip(*rows, strict=True)
            numbers = list(range(last - len(rows) + 1, last + 1))
            db.execute(
                GIVE_NUMBERS, {"agents": list(agents), "keys": list(keys), "numbers": numbers}
            )
        return len(rows)

    while db.transaction(number_some) == BATCH_EVENTS:
        pass


def read_events(
    db: Database, which: EventFilter, *, after: int | None, limit: int, offset: int
) -> EventPage:
    """Return events; see `storage.store.Store.read_events`."""
    with db.one_view():
        newest = db.value("SELECT max(event_id) FROM memory_events") or 0
        if after is not None and after > newest:
            raise NotFoundError(
                f"there is no event {after}, the newest is {newest}",
                "if the database was restored from a backup, start over with --since 0",
            )
        pruned = read_state(db, LAST_PRUNED) or 0
        order: Literal["ASC", "DESC"] = "DESC" if after is None else "ASC"
        condition, parameters = _event_condition(which)
        rows = db.rows(
            f"SELECT {COLUMNS} FROM memory_events"
            f" WHERE event_id > %(after)s AND {condition}"
            f" ORDER BY event_id {order} LIMIT %(limit)s OFFSET %(offset)s",
            {**parameters, "after": after or 0, "limit": limit, "offset": offset},
        )
    records = [EventRecord._make((*row[:-1], json_or_text(row[-1]))) for row in rows]
    return EventPage(
        events=records[::-1] if after is None else records,
        newest=newest,
        pruned=pruned if after and after < pruned else None,
    )


def _event_condition(which: EventFilter) -> tuple[str, dict[str, Any]]:
    """Return a condition on memory_events and its parameters."""
    return all_of(
        {
            "agent_id": ("agent_id = %(agent_id)s AND memory_id IS NOT NULL", which.agent),
            "type": ("type = %(type)s", which.type),
            "key": ("key = %(key)s", which.key),
            "event": ("event = %(event)s", which.event and full_event_name(which.event)),
            "run_id": ("run_id = %(run_id)s", which.run_id),
            "since": ("at >= %(since)s", which.since and to_text(which.since)),
            "until": ("at <= %(until)s", which.until and to_text(which.until)),
        }
    )
