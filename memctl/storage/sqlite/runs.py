"""Read the ledger of runs.

A run that is `running` has crashed when no memctl is at work, or when another run has begun since.
"""

import json
from collections.abc import Collection
from pathlib import Path
from sqlite3 import Connection

from memctl.storage.rows import RunFilter, RunRecord
from memctl.storage.sqlite.database import from_json, text_conditions
from memctl.storage.sqlite.locking import somebody_is_at_work
from memctl.storage.times import to_text

# Whether a row is a crash is told by the lock, not by the table.
STATUS = "iif(run_id IN (SELECT value FROM json_each(:crashed)), 'crashed', status)"


def crashed_runs(db: Connection, database: Path) -> set[int]:
    """Return the runs that began and will never end; reads only."""
    unfinished = _unfinished(db)
    if unfinished and somebody_is_at_work(database):
        unfinished -= {row[0] for row in db.execute("SELECT max(run_id) FROM memory_runs")}
    return unfinished & _unfinished(db) if unfinished else set()  # one may have ended meanwhile


def _unfinished(db: Connection) -> set[int]:
    return {row[0] for row in db.execute("SELECT run_id FROM memory_runs WHERE status = 'running'")}


def list_runs(
    db: Connection, which: RunFilter, *, crashed: Collection[int], limit: int
) -> list[RunRecord]:
    """Return runs, the newest first; `crashed` are the numbers of those that are known to be."""
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
