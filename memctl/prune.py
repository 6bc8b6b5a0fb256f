"""Retention: the archive forgets what is old and was not important, and so do our own records.

Removing more than half of what an agent has in the archive looks like a mistake, so it needs
--force; small archives are exempt.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from sqlite3 import Connection

from memctl.agents import OF_AGENT, agent_parameter, require_agent
from memctl.archive import remove_archived
from memctl.batches import Batches
from memctl.due import Due
from memctl.errors import RefusedError
from memctl.jobs import JobResult, Run
from memctl.policies import Policy, put_for_parameters
from memctl.timestamps import is_our_text, to_text, unix_seconds

SMALL_ARCHIVE = 100
OWN_RECORDS_KEPT = timedelta(days=365)


@dataclass(frozen=True)
class PrunePolicy(Policy):
    """How long the archive keeps a memory, and from which importance on it keeps it for good."""

    SECTION = "prune"

    retention: timedelta = timedelta(days=90)
    protected_importance: float = 8.0

    @property
    def shortest_retention(self) -> timedelta:
        """No memory goes before it has been in the archive for that long."""
        shortest = self.retention
        for override in self.overrides:
            if override.key == "retention":
                shortest = min(shortest, override.value)
        return shortest


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

# The plus sign makes SQLite look only at what is old, not at the whole archive agent by agent.
GREAT_LOSSES = f"""
    SELECT agent_id, old, whole
    FROM (
        SELECT agent_id, old, (
            SELECT count(*) FROM archived_memories AS kept WHERE kept.agent_id = losers.agent_id
        ) AS whole
        FROM (
            SELECT agent_id, count(*) AS old FROM archived_memories WHERE {OLD} GROUP BY +agent_id
        ) AS losers
    )
    WHERE whole > {SMALL_ARCHIVE} AND old * 2 > whole
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

    Agents that would lose more than half of an archive of over 100 memories are left alone, which
    the result's refusal tells, unless the run is forced. Also removes runs and events older than
    a year. Raises NotFoundError for an agent without any memory.
    """
    require_agent(run.db, agent)
    cutoff = policy.choice(
        "retention", name="cutoff", to_sql=lambda retention: to_text(run.now - retention)
    )
    protection = policy.choice("protected_importance")
    choices = {"cutoff": cutoff.sql, "protected_importance": protection.sql}
    old_memories, count_protected, great_losses = (
        put_for_parameters(query, choices)
        for query in (OLD_MEMORIES, COUNT_PROTECTED, GREAT_LOSSES)
    )
    parameters = {
        "latest_cutoff": to_text(run.now - policy.shortest_retention),
        **cutoff.parameters,
        **protection.parameters,
        **agent_parameter(agent),
    }
    guarded = [] if run.request.force else run.db.execute(great_losses, parameters).fetchall()
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


def _refusal(guarded: Sequence[tuple[str, int, int]]) -> RefusedError | None:
    if not guarded:
        return None
    named = [f"{old} of {whole} of '{agent}'" for agent, old, whole in guarded[:3]]
    if len(guarded) > len(named):
        named.append(f"and of {len(guarded) - len(named)} more agents")
    return RefusedError(
        f"not pruned, because it is more than half of the archive: {', '.join(named)}",
        "say --force if it is meant",
    )


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
