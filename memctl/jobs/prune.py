"""Retention: the archive forgets what is old and was not important, and so do our own records.

A new policy under which an agent would lose more than half of what the policy of the last prune
would have kept looks like a mistake: it needs --force once. What has merely become old never does,
however much it is; small archives are exempt.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.config.policies import Override, PrunePolicy
from memctl.errors import RefusedError
from memctl.jobs.archive import remove_archived
from memctl.jobs.batches import Batches
from memctl.jobs.engine import JobResult, Run
from memctl.jobs.selection import Due
from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter, require_agent
from memctl.storage.sqlite.database import transaction
from memctl.storage.sqlite.policies import policy_sql, put_for_parameters
from memctl.storage.sqlite.state import read_state, write_state
from memctl.storage.times import is_our_text, to_text, unix_seconds

SMALL_ARCHIVE = 100
STATE_KEY = "prune:policy"
OWN_RECORDS_KEPT = timedelta(days=365)


@dataclass(frozen=True, kw_only=True)
class PruneResult(JobResult):
    """How many archived memories were removed for good, and how many importance protected."""

    pruned: int
    kept_important: int


# Importance that is not a number compares as greater than any number, and NULL as unknown:
# both are kept. The latest cutoff of all is there for the index.
# What was imported may have a time in another form, or none: then it is kept.
ARCHIVED_LONG_AGO = f"""
    archived_at < :latest_cutoff AND archived_at < :cutoff
    AND ({is_our_text("archived_at")} OR {unix_seconds("archived_at")} < unixepoch(:cutoff))
    AND {OF_AGENT}
"""

OLD = f"{ARCHIVED_LONG_AGO} AND importance < :protected_importance"

OLD_MEMORIES = f"""
    SELECT archive_id AS rowid, id, agent_id, type, key, archived_at, importance
    FROM archived_memories
    {{where}} {OLD}
"""

COUNT_PROTECTED = f"""
    SELECT count(*) FROM archived_memories
    WHERE {ARCHIVED_LONG_AGO} AND (importance < :protected_importance) IS NOT TRUE
"""

OLD_BEFORE = "archived_at < :last_cutoff AND importance < :last_protected_importance"

# The plus sign makes SQLite look only at what is old, not at the whole archive agent by agent.
GREAT_LOSSES = f"""
    SELECT agent_id, lost, kept
    FROM (
        SELECT agent_id, lost, (
            SELECT count(*) FROM archived_memories AS whole
            WHERE whole.agent_id = losers.agent_id AND ({OLD_BEFORE}) IS NOT TRUE
        ) AS kept
        FROM (
            SELECT agent_id, count(*) AS lost
            FROM archived_memories
            WHERE {OLD} AND ({OLD_BEFORE}) IS NOT TRUE
            GROUP BY +agent_id
        ) AS losers
    )
    WHERE kept > {SMALL_ARCHIVE} AND lost * 2 > kept
"""

# Both tables grow with time, so the old ones come first; the newest row always stays, because
# its number must not be given out again. So does a run that can still be undone.
OLD_EVENTS = """
    SELECT event_id FROM memory_events
    WHERE event_id < (
        SELECT event_id FROM memory_events WHERE at >= :cutoff ORDER BY event_id LIMIT 1
    )
"""

OLD_RUNS = """
    SELECT run_id FROM memory_runs
    WHERE run_id < (
        SELECT run_id FROM memory_runs WHERE started_at >= :cutoff ORDER BY run_id LIMIT 1
    )
    AND NOT EXISTS (
        SELECT 1 FROM archived_memories
        WHERE archived_at = memory_runs.started_at
            AND archived_memories.run_id = memory_runs.run_id
    )
"""


def prune(run: Run, policy: PrunePolicy, *, agent: str | None = None) -> PruneResult:
    """Remove archived memories that are older than the retention and below the protection.

    Agents that would lose too much by a new policy are left alone, which the result's refusal
    says, unless the run is forced. Also removes runs and events older than a year. Raises
    NotFoundError for an agent without any memory.
    """
    require_agent(run.db, agent)
    last = last_policy(run.db)
    old_memories, count_protected, great_losses, parameters = _queries(run, policy, last)
    parameters |= agent_parameter(agent)
    guarded: Sequence[Loss] = []
    if policy != last and not run.request.force:
        guarded = [Loss(*row) for row in run.db.execute(great_losses, parameters)]
    if run.batches:
        _remember_policy(run.db, policy, last, agent=agent, guarded=guarded)
    guard = f"agent_id NOT IN (SELECT agent_id FROM ({great_losses}))" if guarded else "TRUE"
    due = Due(old_memories, parameters, search_only=guard, policy=policy)
    tally = run.settle(due, lambda batch: remove_archived(run, batch.rowids, "memory:pruned"))
    (kept_important,) = run.db.execute(count_protected, parameters).fetchone()
    if run.batches and agent is None:
        for table, old in (("memory_events", OLD_EVENTS), ("memory_runs", OLD_RUNS)):
            forget_old_records(run.db, run.batches, table, old, before=run.now - OWN_RECORDS_KEPT)
    return PruneResult(
        pruned=tally.count, kept_important=kept_important, tally=tally, refusal=_refusal(guarded)
    )


def _queries(
    run: Run, policy: PrunePolicy, last: PrunePolicy
) -> tuple[str, str, str, dict[str, Any]]:
    """Return the three queries as they are under two policies, and their parameters."""
    choices = {}
    for prefix, one in (("", policy), ("last_", last)):
        name = f"{prefix}cutoff"
        choices[name] = policy_sql(
            run.db,
            name,
            one.retention,
            one.overrides_of("retention"),
            to_sql=lambda retention: to_text(run.now - retention),
        )
        name = f"{prefix}protected_importance"
        choices[name] = policy_sql(
            run.db, name, one.protected_importance, one.overrides_of("protected_importance")
        )
    texts = {name: choice.sql for name, choice in choices.items()}
    old_memories, count_protected, great_losses = (
        put_for_parameters(query, texts) for query in (OLD_MEMORIES, COUNT_PROTECTED, GREAT_LOSSES)
    )
    parameters: dict[str, Any] = {"latest_cutoff": to_text(run.now - policy.shortest_retention)}
    for choice in choices.values():
        parameters |= choice.parameters
    return old_memories, count_protected, great_losses, parameters


class Loss(NamedTuple):
    """What an agent would lose of what the policy of the last prune would have kept."""

    agent: str | bytes  # bytes: a name that is a blob
    lost: int
    kept: int


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


def forget_old_records(
    db: Connection, batches: Batches, table: str, old: str, *, before: datetime
) -> None:
    """Remove from one of our own tables the rows that a query finds to be older than a moment."""
    found = db.execute(old, {"cutoff": to_text(before)})

    def forget(rowids: str) -> None:
        db.execute(
            f"DELETE FROM {table} WHERE rowid IN (SELECT value FROM json_each(:rowids))",
            {"rowids": rowids},
        )

    batches.apply(array("q", (row[0] for row in found)), forget)
