"""Retention: permanently deletes archived memories that are old and were not important.

A new policy is probably a mistake if an agent would lose over half of the memories that the policy
of the last prune keeps: it requires --force once. Memories that the last policy would delete as
well do not count, and small archives are exempt. Old runs and events are deleted as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from memctl.config.policies import Override, PrunePolicy
from memctl.errors import RefusedError
from memctl.jobs.engine import JobContext, JobResult
from memctl.storage.rows import Loss

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Store

STATE_KEY = "prune:policy"
OWN_RECORDS_KEPT = timedelta(days=365)


@dataclass(frozen=True, kw_only=True)
class PruneResult(JobResult):
    """How many archived memories were deleted, and how many old ones were kept.

    `kept_important` counts those that are important, `held` the others that are held.
    """

    pruned: int
    kept_important: int
    held: int


def prune(run: JobContext, policy: PrunePolicy, *, agent: str | None = None) -> PruneResult:
    """Delete archived memories of one agent or of all: those past retention and not important.

    Unless the run is forced, agents that would lose too much under a new policy are skipped, and
    the result has a refusal. Unless it is for one agent, runs and events older than a year are
    deleted, too. Raises NotFoundError for an agent without memories.
    """
    run.store.require_agent(agent)
    last = last_policy(run.store)
    old = run.store.old(policy, last, agent=agent, now=run.now)
    guarded: Sequence[Loss] = []
    if policy != last and not run.request.force:
        guarded = old.great_losses()
    if run.batches:
        _remember_policy(run.store, policy, last, agent=agent, guarded=guarded)
    removal = old.removal(guarded=bool(guarded), now=run.now, run_id=run.run_id)
    tally = run.apply_in_batches(removal, doing="deleting", policy=policy)
    kept_important = old.count_protected()
    if run.batches and agent is None:
        run.store.delete_old_records(run.batches, before=run.now - OWN_RECORDS_KEPT)
    return PruneResult(
        pruned=tally.count,
        kept_important=kept_important,
        held=tally.held,
        tally=tally,
        refusal=_refusal(guarded),
    )


def _refusal(guarded: Sequence[Loss]) -> RefusedError | None:
    if not guarded:
        return None
    named = [f"{loss.lost} of {loss.kept} memories of '{loss.agent!s}'" for loss in guarded[:3]]
    if len(guarded) > len(named):
        others = len(guarded) - len(named)
        named.append(f"and those of {others} more agent{'' if others == 1 else 's'}")
    return RefusedError(
        "the retention policy has changed since the last prune and would delete more than half of"
        f" what the earlier policy keeps: {', '.join(named)}",
        "they were not pruned: check [prune] in the configuration, and if it is correct, run"
        " `memctl prune --force` once",
    )


def last_policy(store: "Store") -> PrunePolicy:
    """Return the policy of the last prune, agent by agent; the defaults before the first."""
    stored = store.read_state(STATE_KEY)
    if stored is None:
        return PrunePolicy()
    overrides = [
        Override(key, timedelta(seconds=value) if key == "retention" else value, *of)
        for key, value, *of in stored
    ]
    general = {one.key: one.value for one in overrides if one.agent is one.type is None}
    return PrunePolicy(
        **general,
        overrides=tuple(one for one in overrides if (one.agent, one.type) != (None, None)),
    )


def _remember_policy(
    store: "Store",
    policy: PrunePolicy,
    last: PrunePolicy,
    *,
    agent: str | None,
    guarded: Sequence[Loss],
) -> None:
    """Store the policy of this prune; for the agents that it skips, that of the last one.

    The name of an agent that is a BLOB cannot be stored. Nothing is, as long as one is skipped.
    """
    refused = [loss.agent for loss in guarded if isinstance(loss.agent, str)]
    if len(refused) < len(guarded):
        return
    if agent is None:
        in_force = policy.with_agents_of(last, refused)
    else:
        in_force = last.with_agents_of(policy, [] if refused else [agent])
    if in_force == last:
        return
    general = [Override(key, getattr(in_force, key)) for key in in_force.keys]
    stored = [
        (key, value.total_seconds() if isinstance(value, timedelta) else value, *of)
        for key, value, *of in (*general, *in_force.overrides)
    ]
    store.write_state(STATE_KEY, stored)
