"""The bridge to the service's own table of events, which feeds its dashboard: one row a run.

It is the service's table: its clock, its keys, and no row for a single memory. Whatever stands in
the way of a row never fails a job; `memctl check` tells of it.
"""

import json
from sqlite3 import Connection

from memctl.storage.sqlite.database import to_bytes, transaction
from memctl.storage.sqlite.runs import RunRecord

TABLE = "observability_events"
NEEDED = ("event_type", "agent_id", "severity", "message")

SEVERITIES = {"ok": "info", "refused": "warning"}


def obstacle(db: Connection) -> str | None:
    """Return why the service cannot be told of runs, or None."""
    columns = _columns(db)
    if not columns:
        return f"there is no table {TABLE}"
    missing = [column for column in NEEDED if column not in columns]
    return f"{TABLE} lacks {', '.join(missing)}" if missing else None


def tell_service(db: Connection, run: RunRecord) -> None:
    """Add the row that sums up a run. Raises sqlite3.Error when the table does not take it."""
    columns = _columns(db)
    if obstacle(db):
        return
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


def _columns(db: Connection) -> dict[str, str]:
    """Return the types of the table's columns by their names; none when there is no table."""
    return {str(row[1]): str(row[2]) for row in db.execute(f"PRAGMA table_info({TABLE})")}


def _message(run: RunRecord) -> str:
    """Return the summary; the dashboard shows nothing else."""
    told = [run.error] if run.error else []
    if isinstance(run.counts, dict):
        told.insert(0, ", ".join(f"{name} {count}" for name, count in run.counts.items()))
    return f"memctl {run.job} {run.status}: {'; '.join(told)} (run {run.run_id})"
