"""The service's own table of events: rows that memctl adds to it must suit its columns."""

import json
from collections.abc import Mapping
from sqlite3 import Connection

from memctl.storage.sqlite.database import transaction
from memctl.storage.text import to_bytes

TABLE = "observability_events"
REQUIRED = ("event_type", "agent_id", "severity", "message")


def service_events_obstacle(db: Connection) -> str | None:
    """Return why no event can be added to the service's table, or None."""
    columns = _columns(db)
    if not columns:
        return f"there is no table {TABLE}"
    missing = [column for column in REQUIRED if column not in columns]
    return f"{TABLE} lacks {', '.join(missing)}" if missing else None


def add_service_event(
    db: Connection, *, severity: str, message: str, payload: Mapping[str, object]
) -> None:
    """Add an event of memctl, in a transaction of its own; does nothing if there is an obstacle.

    Raises StorageError if the table rejects it.
    """
    if service_events_obstacle(db):
        return
    columns = _columns(db)
    values: dict[str, str | bytes] = {
        "event_type": "memory_lifecycle",
        "agent_id": "memctl",
        "severity": severity,
        "message": to_bytes(message),
    }
    if "INT" not in columns.get("id", "INTEGER").upper():
        import uuid

        values["id"] = str(uuid.uuid4())
    if "payload" in columns:
        values["payload"] = json.dumps(payload)
    names = ", ".join(values)
    texts = ", ".join(f"CAST(:{name} AS TEXT)" for name in values)
    with transaction(db):
        db.execute(f"INSERT INTO {TABLE} ({names}) VALUES ({texts})", values)


def _columns(db: Connection) -> dict[str, str]:
    """Return the types of the table's columns by their names; none if there is no table."""
    return {str(row[1]): str(row[2]) for row in db.execute(f"PRAGMA table_info({TABLE})")}
