"""Read the ledger."""

from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.database import connect, rows


def runs(path: Path) -> list[tuple[Any, ...]]:
    """Return the job and status of each run, and whether it did everything that was due."""
    with closing(connect(path)) as db:
        return rows(db, "memory_runs", "job, status, complete")


def jobs_run(path: Path) -> list[str]:
    """Return the jobs in the ledger, in their order."""
    return [job for job, *_ in runs(path)]
