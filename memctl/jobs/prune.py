"""Retention: the archive forgets what is old and was not important, and so do our own records.

A new policy under which an agent would lose more than half of what the policy of the last prune
would have kept looks like a mistake: it needs --force once. What has merely become old never does,
however much it is; small archives are exempt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import get_args

from memctl.config.policies import Override, PrunePolicy
from memctl.errors import RefusedError
from memctl.jobs.engine import JobContext, JobResult
from memctl.storage.rows import Loss
from memctl.storage.sqlite.agents import require_agent
from memctl.storage.sqlite.archiving import remove_archived
from memctl.storage.sqlite.database import Connection, transaction
from memctl.storage.sqlite.prune import OwnTable, delete_records, old_records, prune_queries
from memctl.storage.sqlite.state import read_state, write_state

STATE_KEY = "prune:policy"
OWN_RECORDS_KEPT = timedelta(days=365)


@dataclass(frozen=True, kw_only=True)
class PruneResult(JobResult):
    """How many archived memories were removed for good, and how many importance protected."""

    pruned: int
    kept_important: int


def prune(run: JobContext, policy: PrunePolicy, *, agent: str | None = None) -> PruneResult:
    """Remove archived memories that are older than the retention and below the protection.

    Agents that would lose too much by a new policy are left alone, which the result's refusal
    says, unless the run is forced. Also removes runs and events older than a year. Raises
    NotFoundError for an agent without any memory.
    """
    require_agent(run.db, agent)
    last = last_policy(run.db)
    archive = prune_queries(run.db, policy, last, agent=agent, now=run.now)
    guarded: Sequence[Loss] = []
    if policy != last and not run.request.force:
        guarded = archive.great_losses(run.db)
    if run.batches:
        _remember_policy(run.db, policy, last, agent=agent, guarded=guarded)
    tally = run.apply_in_batches(
        archive.select_old(guarded=bool(guarded)),
        lambda batch: remove_archived(
            run.db, batch.rowids, "memory:pruned", now=run.now, run_id=run.number
        ),
        policy=policy,
    )
    kept_important = archive.count_protected(run.db)
    if run.batches and agent is None:
        for table in get_args(OwnTable):
            found = old_records(run.db, table, before=run.now - OWN_RECORDS_KEPT)
            run.batches.apply(found, partial(delete_records, run.db, table))
    return PruneResult(
        pruned=tally.count, kept_important=kept_important, tally=tally, refusal=_refusal(guarded)
    )


def _refusal(guarded: Sequence[Loss]) -> RefusedError | None:
    if not guarded:
        return None
    named = [f"{loss.lost} of {loss.kept} memories of '{loss.agent!s}'" for loss in guarded[:3]]
    if len(guarded) > len(named):
        named.append(f"and those of {len(guarded) - len(named)} more agents")
    return RefusedError(
        "not pruned, because the policy has changed since the last prune and would remove more"
        f" than half of what the earlier policy keeps: {', '.join(named)}",
        "check [prune] in the configuration; if it is right, run `memctl prune --force` once",
    )


def last_policy(db: Connection) -> PrunePolicy:
    """Return the policy of the last prune, agent by agent; the defaults before the first."""
    stored = read_state(db, STATE_KEY)
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
    db: Connection,
    policy: PrunePolicy,
    last: PrunePolicy,
    *,
    agent: str | None,
    guarded: Sequence[Loss],
) -> None:
    """Remember the policy of this prune; for agents that it leaves alone, that of the last one.

    An agent whose name is a blob cannot be remembered: as long as it is left alone, nothing is.
    """
    refused = [loss.agent for loss in guarded if isinstance(loss.agent, str)]
    if len(refused) < len(guarded):
        return
    if agent is None:
        held = policy.with_agents_of(last, refused)
    else:
        held = last.with_agents_of(policy, [] if refused else [agent])
    if held == last:
        return
    general = [Override(key, getattr(held, key)) for key in held.keys]
    stored = [
        (key, value.total_seconds() if isinstance(value, timedelta) else value, *of)
        for key, value, *of in (*general, *held.overrides)
    ]
    with transaction(db):
        write_state(db, STATE_KEY, stored)
