"""The bridge to the service's own table of events, which feeds its dashboard: one row per run.

The table belongs to the service: its clock and its keys apply, and it gets no rows for single
memories. An obstacle never fails a job; `memctl check` reports it.
"""

from memctl.storage.rows import RunRecord
from memctl.storage.sqlite.database import Connection
from memctl.storage.sqlite.service_events import add_service_event

SEVERITIES = {"ok": "info", "refused": "warning"}


def record_run_for_service(db: Connection, run: RunRecord) -> None:
    """Add the row that sums up a run. Raises StorageError if the table rejects it."""
    add_service_event(
        db,
        severity=SEVERITIES.get(run.status, "error"),
        message=_message(run),
        payload={"run_id": run.run_id, "job": run.job, "counts": run.counts},
    )


def _message(run: RunRecord) -> str:
    """Return the summary; the dashboard shows nothing else."""
    parts = [run.error] if run.error else []
    if isinstance(run.counts, dict):
        parts.insert(0, ", ".join(f"{name} {count}" for name, count in run.counts.items()))
    return f"memctl {run.job} {run.status}: {'; '.join(parts)} (run {run.run_id})"
