"""Expiry: archives memories that have expired, and limits the versions in the archive.

A memory has expired if its `expires_at`, in any format, is before the cutoff. A value that is not a
time never expires. A memory that is held stays active until the hold ends.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from memctl.config.policies import ArchivePolicy
from memctl.errors import counted
from memctl.jobs.engine import JobContext, JobResult
from memctl.jobs.versions import KEEP_ALL, prune_versions

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Batches


@dataclass(frozen=True, kw_only=True)
class CleanupResult(JobResult):
    """How many expired memories were archived; how many versions were deleted; what stays held."""

    archived: int
    held: int
    versions_pruned: int

    @property
    def remark(self) -> str | None:
        """How many versions were deleted, if any."""
        if not self.versions_pruned:
            return None
        return f"{counted(self.versions_pruned, 'version')} beyond keep_versions"


def cleanup(
    run: JobContext, archive: ArchivePolicy = KEEP_ALL, *, agent: str | None = None
) -> CleanupResult:
    """Archive the memories of one agent or of all that expired before the cutoff.

    Replaced versions beyond the number that the policy keeps are deleted, and unless it is for one
    agent, the holds whose time has passed. Raises NotFoundError for an agent without memories.
    """
    run.store.require_agent(agent)
    expired = run.store.expired(agent=agent, now=run.now, run_id=run.run_id)
    tally = run.apply_in_batches(expired, doing="archiving")
    archived = tally.count
    pruned = prune_versions(run, archive, agent=agent)
    tally.include(pruned)
    if run.batches and agent is None and run.store.has_holds():
        _delete_ended_holds(run, run.batches)
    return CleanupResult(
        archived=archived, held=tally.held, versions_pruned=pruned.count, tally=tally
    )


def _delete_ended_holds(run: JobContext, batches: "Batches") -> None:
    holds = run.store.holds
    ended = holds.ended(now=run.now)
    if ended:
        batches.apply_at_once(lambda: holds.release(ended, now=run.now, run_id=run.run_id))
