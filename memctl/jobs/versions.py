"""Versions: deletes those that were replaced beyond the number that the archive keeps.

The oldest go first. A held version counts, but stays.
"""

from memctl.config.policies import ArchivePolicy
from memctl.jobs.engine import JobContext
from memctl.jobs.tally import JobTally

KEEP_ALL = ArchivePolicy()


def prune_versions(run: JobContext, policy: ArchivePolicy, *, agent: str | None) -> JobTally:
    """Delete the replaced versions of one agent's memories, or of all, beyond the policy's number.

    Nothing is read unless there is such a number.
    """
    if not policy.is_limited:
        return JobTally()
    excess = run.store.excess_versions(policy, agent=agent, now=run.now, run_id=run.run_id)
    return run.apply_in_batches(excess, doing="deleting versions", policy=policy)
