"""Expiry: a memory whose time is over goes to the archive.

A memory has expired when its `expires_at`, in whatever format, means an instant before the cutoff.
What cannot be read as a time never expires.
"""

from dataclasses import dataclass

from memctl.jobs.archive import archiving
from memctl.jobs.engine import JobContext, JobResult
from memctl.storage.sqlite.agents import require_agent
from memctl.storage.sqlite.cleanup import select_expired


@dataclass(frozen=True, kw_only=True)
class CleanupResult(JobResult):
    """How many memories had expired and were archived."""

    archived: int


def cleanup(run: JobContext, *, agent: str | None = None) -> CleanupResult:
    """Archive every memory that expired before the cutoff, of one agent or of all.

    Raises NotFoundError for an agent without any memory.
    """
    require_agent(run.db, agent)
    expired = select_expired(agent=agent, now=run.now)
    tally = run.apply_in_batches(expired, archiving(run, reason="expired"))
    return CleanupResult(archived=tally.count, tally=tally)
