"""Importance decay: a memory that is not read loses importance over time.

What a memory owes depends only on the number of whole days it has been idle, not on how often the
job ran: a second run changes nothing, and the next run makes up for missed ones. Each run charges
what is owed now less what was owed at the last charge.

Promotion needs the importance of a candidate from before it was charged; decay notes it.

A hold postpones the charge: after its end, a memory owes as much as if it had not been held.
"""

from dataclasses import dataclass

from memctl.config.policies import DecayPolicy, PromotePolicy
from memctl.jobs.engine import JobContext, JobResult


@dataclass(frozen=True, kw_only=True)
class DecayResult(JobResult):
    """How many memories lost importance, and how many did not because they are held."""

    decayed: int
    held: int


def decay(
    run: JobContext, policy: DecayPolicy, promotion: PromotePolicy, *, agent: str | None = None
) -> DecayResult:
    """Charge the memories of one agent or of all for the idle days that are not charged yet.

    Raises NotFoundError for an agent without any memory.
    """
    run.store.require_agent(agent)
    if run.batches:
        run.store.charge_idle_times(run.batches, policy, agent=agent, now=run.now)
    fading = run.store.fading(policy, promotion, agent=agent, now=run.now, run_id=run.run_id)
    tally = run.apply_in_batches(fading, doing="lowering importance", policy=policy)
    if run.batches:
        run.store.forget_notes()
    return DecayResult(decayed=tally.count, held=tally.held, tally=tally)
