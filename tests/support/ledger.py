"""What the ledger says."""

from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.database import connect, rows


def runs(path: Path) -> list[tuple[Any, ...]]:
    """Return of each run its job, its status and whether it did all that was due."""
    with closing(connect(path)) as db:
        return rows(db, "memory_runs", "job, status, complete")


def jobs_run(path: Path) -> list[str]:
    """Return the jobs in the ledger, in their order."""
    return [job for job, *_ in runs(path)]
