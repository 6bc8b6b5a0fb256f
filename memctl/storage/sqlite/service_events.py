"""The service's own table of events, which feeds its dashboard: memctl adds one row per run.

The table belongs to the service: its clock and its keys apply, and it gets no rows for single
memories. An obstacle never fails a job; `memctl check` reports it.
"""

import json
from sqlite3 import Connection

from memctl.storage.rows import RunRecord
from memctl.storage.sqlite.database import transaction
from memctl.storage.text import to_bytes

TABLE = "observability_events"
REQUIRED = ("event_type", "agent_id", "severity", "message")
SEVERITIES = {"ok": "info", "refused": "warning"}


def service_events_obstacle(db: Connection) -> str | None:
    """Return why no event can be added to the service's table, or None."""
    columns = _columns(db)
    if not columns:
        return f"there is no table {TABLE}"
    missing = [column for column in REQUIRED if column not in columns]
    return f"{TABLE} lacks {', '.join(missing)}" if missing else None


def record_run_for_service(db: Connection, run: RunRecord) -> None:
    """Add a row that sums up a run, in a transaction of its own, unless there is an obstacle.

    Raises sqlite3.Error if the table rejects it.
    """
    if service_events_obstacle(db):
        return
    columns = _columns(db)
    values: dict[str, str | bytes] = {
        "event_type": "memory_lifecycle",
        "agent_id": "memctl",
        "severity": SEVERITIES.get(run.status, "error"),
        "message": to_bytes(_message(run)),
    }
    if "INT" not in columns.get("id", "INTEGER").upper():
        import uuid

        values["id"] = str(uuid.uuid4())
    if "payload" in columns:
        values["payload"] = json.dumps({"run_id": run.run_id, "job": run.job, "counts": run.counts})
    names = ", ".join(values)
    texts = ", ".join(f"CAST(:{name} AS TEXT)" for name in values)
    with transaction(db):
        db.execute(f"INSERT INTO {TABLE} ({names}) VALUES ({texts})", values)


def _message(run: RunRecord) -> str:
    """Return the summary of a run, all that the dashboard shows: no counts of 0 but the first."""
    parts = [run.error] if run.error else []
    if isinstance(run.counts, dict) and run.counts:
        first, *others = run.counts.items()
        counts = [first, *((name, count) for name, count in others if count)]
        parts.insert(0, ", ".join(f"{name} {count}" for name, count in counts))
    return f"memctl {run.job} {run.status}: {'; '.join(parts)} (run {run.run_id})"


def _columns(db: Connection) -> dict[str, str]:
    """Return the types of the table's columns by their names; none if there is no table."""
    return {str(row[1]): str(row[2]) for row in db.execute(f"PRAGMA table_info({TABLE})")}
