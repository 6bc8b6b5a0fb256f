"""Expiry: archives memories that have expired.

A memory has expired if its `expires_at`, in any format, is before the cutoff. A value that is not a
time never expires.
"""

from dataclasses import dataclass

from memctl.jobs.engine import JobContext, JobResult


@dataclass(frozen=True, kw_only=True)
class CleanupResult(JobResult):
    """How many memories had expired and were archived."""

    archived: int


def cleanup(run: JobContext, *, agent: str | None = None) -> CleanupResult:
    """Archive the memories of one agent or of all that expired before the cutoff.

    Raises NotFoundError for an agent without memories.
    """
    run.store.require_agent(agent)
    expired = run.store.expired(agent=agent, now=run.now, run_id=run.run_id)
    tally = run.apply_in_batches(expired, doing="archiving")
    return CleanupResult(archived=tally.count, tally=tally)
