"""Expiry: archives memories that have expired, then those beyond the quota of their agent.

A memory has expired if its `expires_at`, in any format, is before the cutoff. A value that is not a
time never expires. A memory that is held stays active until the hold ends. Of the archived versions
of a memory, those beyond the number to keep are deleted.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from memctl.config.policies import ArchivePolicy, QuotaPolicy
from memctl.errors import counted
from memctl.jobs.engine import JobContext, JobResult
from memctl.jobs.quota import archive_excess
from memctl.jobs.versions import KEEP_ALL, prune_versions

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Batches

NO_QUOTA = QuotaPolicy()


@dataclass(frozen=True, kw_only=True)
class CleanupResult(JobResult):
    """How many memories were archived, versions deleted, and held memories left."""

    archived: int  # expired
    over_quota: int
    held_over_quota: int  # agents whose held memories alone are beyond it
    held: int
    versions_pruned: int

    @property
    def remark(self) -> str | None:
        """What the quota and the limit of versions did, if anything."""
        parts = [f"{self.over_quota:,} beyond the quota"] if self.over_quota else []
        if self.held_over_quota:
            agents = counted(self.held_over_quota, "agent")
            parts.append(f"{agents} beyond the quota by held memories alone")
        if self.versions_pruned:
            parts.append(f"{counted(self.versions_pruned, 'version')} beyond keep_versions")
        return "; ".join(parts) or None


def cleanup(
    run: JobContext,
    quota: QuotaPolicy = NO_QUOTA,
    archive: ArchivePolicy = KEEP_ALL,
    *,
    agent: str | None = None,
) -> CleanupResult:
    """Archive the memories of one agent or of all that expired before the cutoff, then the excess.

    Replaced versions beyond the number that the policy keeps are deleted, and unless it is for one
    agent, the holds whose time has passed. Raises NotFoundError for an agent without memories.
    """
    run.store.require_agent(agent)
    expired = run.store.expired(agent=agent, now=run.now, run_id=run.run_id)
    tally = run.apply_in_batches(expired, doing="archiving")
    archived = tally.count
    excess, beyond_by_holds = archive_excess(run, quota, agent=agent)
    tally.include(excess)
    pruned = prune_versions(run, archive, agent=agent)
    tally.include(pruned)
    if run.batches and agent is None and run.store.has_holds():
        _delete_ended_holds(run, run.batches)
    return CleanupResult(
        archived=archived,
        over_quota=excess.count,
        held_over_quota=len(beyond_by_holds),
        held=tally.held,
        versions_pruned=pruned.count,
        tally=tally,
    )


def _delete_ended_holds(run: JobContext, batches: "Batches") -> None:
    holds = run.store.holds
    ended = holds.ended(now=run.now)
    if ended:
        batches.apply_at_once(lambda: holds.release(ended, now=run.now, run_id=run.run_id))
