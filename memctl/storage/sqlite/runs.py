"""Read the ledger of runs.

A run with the status `running` has crashed if no memctl process is running, or if another run has
begun since.
"""

import json
from collections.abc import Collection
from pathlib import Path
from sqlite3 import Connection

from memctl.storage.rows import RunFilter, RunRecord
from memctl.storage.sqlite.database import from_json, text_conditions
from memctl.storage.sqlite.locking import somebody_is_at_work
from memctl.storage.times import to_text

# The lock, not the table, determines whether a run has crashed.
STATUS = "iif(run_id IN (SELECT value FROM json_each(:crashed)), 'crashed', status)"


def crashed_runs(db: Connection, database: Path) -> set[int]:
    """Return the numbers of the runs that have crashed; only reads."""
    unfinished = _unfinished(db)
    if unfinished and somebody_is_at_work(database):
        unfinished -= {row[0] for row in db.execute("SELECT max(run_id) FROM memory_runs")}
    return unfinished & _unfinished(db) if unfinished else set()  # one may have ended in between


def _unfinished(db: Connection) -> set[int]:
    return {row[0] for row in db.execute("SELECT run_id FROM memory_runs WHERE status = 'running'")}


def last_success(db: Connection, *, before: int) -> str | None:
    """Return when the last successful run before the run of a number was started."""
    found = db.execute(
        "SELECT started_at FROM memory_runs WHERE status = 'ok' AND run_id < ?"
        " ORDER BY run_id DESC LIMIT 1",
        (before,),
    ).fetchone()
    return None if found is None else str(found[0])


def list_runs(
    db: Connection, which: RunFilter, *, crashed: Collection[int], limit: int
) -> list[RunRecord]:
    """Return runs, newest first; `crashed` are the numbers of those that have crashed."""
    columns = [STATUS if name == "status" else name for name in RunRecord._fields]
    terms, parameters = text_conditions({"job": which.job})
    if which.status is not None:
        terms.append(f"{STATUS} = :status")
    if which.since is not None:
        terms.append("started_at >= :since")
    rows = db.execute(
        f"SELECT {', '.join(columns)} FROM memory_runs WHERE {' AND '.join(terms) or 'TRUE'}"
        " ORDER BY run_id DESC LIMIT :limit",
        {
            **parameters,
            "crashed": json.dumps(sorted(crashed)),
            "status": which.status,
            "since": which.since and to_text(which.since),
            "limit": limit,
        },
    )
    found = [RunRecord(*row) for row in rows]
    return [run._replace(counts=from_json(str(run.counts))) if run.counts else run for run in found]
