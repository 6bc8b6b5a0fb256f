"""Quota: archives the least valuable memories of the agents that have too many.

Only as many as are beyond the quota, in the order of their value, so that the result does not
depend on how many runs it took. Held memories count, but stay.
"""

from collections.abc import Sequence

from memctl.config.policies import QuotaPolicy
from memctl.jobs.engine import JobContext
from memctl.jobs.tally import JobTally

MOST_SEARCHES = 10  # the next run does the rest


def archive_excess(
    run: JobContext, policy: QuotaPolicy, *, agent: str | None
) -> tuple[JobTally, Sequence[str]]:
    """Archive what one agent or all have beyond their quota.

    Returns also the agents that stay beyond it because what is left is held. After clients have
    changed memories meanwhile, the search is repeated.
    """
    tally = JobTally(listing=run.request.listing)
    if not policy.is_limited:
        return tally, []
    excess = run.store.quota_excess(policy, agent=agent, now=run.now, run_id=run.run_id)
    for _ in range(MOST_SEARCHES):
        part = run.apply_in_batches(excess, doing="archiving", policy=policy)
        tally.held = 0  # the last search knows all of them
        tally.include(part)
        if part.remaining or not part.changed_meanwhile:
            break
    return tally, excess.beyond_by_holds()
