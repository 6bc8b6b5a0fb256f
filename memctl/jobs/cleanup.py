"""Expiry: archives memories that have expired.

A memory has expired if its `expires_at`, in any format, is before the cutoff. A value that is not a
time never expires. A memory that is held stays active until the hold ends.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from memctl.jobs.engine import JobContext, JobResult

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Batches


@dataclass(frozen=True, kw_only=True)
class CleanupResult(JobResult):
    """How many memories had expired and were archived, and how many stay because they are held."""

    archived: int
    held: int


def cleanup(run: JobContext, *, agent: str | None = None) -> CleanupResult:
    """Archive the memories of one agent or of all that expired before the cutoff.

    Unless it is for one agent, the holds whose time has passed are deleted, too.
    Raises NotFoundError for an agent without memories.
    """
    run.store.require_agent(agent)
    expired = run.store.expired(agent=agent, now=run.now, run_id=run.run_id)
    tally = run.apply_in_batches(expired, doing="archiving")
    if run.batches and agent is None:
        _delete_ended_holds(run, run.batches)
    return CleanupResult(archived=tally.count, held=tally.held, tally=tally)


def _delete_ended_holds(run: JobContext, batches: "Batches") -> None:
    holds = run.store.holds
    ended = holds.ended(now=run.now)
    if ended:
        batches.apply_at_once(lambda: holds.release(ended, now=run.now, run_id=run.run_id))
