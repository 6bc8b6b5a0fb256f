"""Retention: the archive forgets what is old and was not important, and so do our own records.

Removing more than half of what an agent has in the archive looks like a mistake, so it needs
--force; small archives are exempt.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from memctl.agents import OF_AGENT, agent_parameter, require_agent
from memctl.archive import REMOVE_ARCHIVED
from memctl.batches import Batches
from memctl.database import bind_texts, to_bytes
from memctl.due import Due
from memctl.errors import RefusedError
from memctl.events import record_events
from memctl.jobs import Batch, JobResult, Run
from memctl.timestamps import to_text

SMALL_ARCHIVE = 100
OWN_RECORDS_KEPT = timedelta(days=365)


@dataclass(frozen=True)
class PrunePolicy:
    """How long the archive keeps a memory, and from which importance on it keeps it for good."""

    retention: timedelta = timedelta(days=90)
    protected_importance: float = 8.0


@dataclass(frozen=True, kw_only=True)
class PruneResult(JobResult):
    """How many archived memories were removed for good, and how many importance protected."""

    pruned: int
    kept_important: int


# Importance that is not a number compares as greater than any number, and NULL as unknown:
# both are kept.
OLD_MEMORIES = f"""
    SELECT archive_id AS rowid, id, agent_id, type, key, archived_at, importance
    FROM archived_memories
    WHERE archived_at < :cutoff AND importance < :protected_importance AND {OF_AGENT}
        AND agent_id NOT IN ({{kept_agents}}) {{{{among}}}}
"""

COUNT_PROTECTED = f"""
    SELECT count(*) FROM archived_memories
    WHERE archived_at < :cutoff AND (importance < :protected_importance) IS NOT TRUE AND {OF_AGENT}
"""

COUNT_OLD_BY_AGENT = f"""
    SELECT agent_id, count(*) FROM archived_memories
    WHERE archived_at < :cutoff AND importance < :protected_importance AND {OF_AGENT}
    GROUP BY agent_id
"""

# Both tables grow with time, so the old ones come first; the newest row always stays, because
# its number must not be given out again.
OLD_RECORDS = """
    SELECT rowid FROM {table}
    WHERE rowid < (SELECT rowid FROM {table} WHERE {time} >= :cutoff ORDER BY rowid LIMIT 1)
    ORDER BY rowid
"""

COUNT_ARCHIVE = "SELECT count(*) FROM archived_memories WHERE agent_id = CAST(? AS TEXT)"


def prune(run: Run, policy: PrunePolicy, *, agent: str | None = None) -> PruneResult:
    """Remove archived memories that are older than the retention and below the protection.

    Agents that would lose more than half of an archive of over 100 memories are left alone, which
    the result's refusal tells, unless the run is forced. Also removes runs and events older than
    a year. Raises NotFoundError for an agent without any memory.
    """
    require_agent(run.db, agent)
    parameters = {
        "cutoff": to_text(run.now - policy.retention),
        "protected_importance": policy.protected_importance,
        **agent_parameter(agent),
    }
    losses = {} if run.request.force else great_losses(run, parameters)
    listed, kept = bind_texts("kept", list(losses))

    def remove(batch: Batch) -> int:
        rowids = batch.rowids
        told = record_events(
            run.db,
            "memory:pruned",
            "archived_memories",
            rowids,
            now=run.now,
            run_id=run.number,
        )
        removed = run.db.execute(REMOVE_ARCHIVED, {"rowids": rowids}).rowcount
        if told != removed:
            raise AssertionError(f"told of {told}, removed {removed}")
        return removed

    due = Due(OLD_MEMORIES.format(kept_agents=listed), {**parameters, **kept})
    tally = run.settle(due, remove)
    (protected,) = run.db.execute(COUNT_PROTECTED, parameters).fetchone()
    if run.batches and agent is None:
        forget_old_records(run, run.batches)
    return PruneResult(
        pruned=tally.count, kept_important=protected, tally=tally, refusal=_refusal(losses)
    )


def great_losses(run: Run, parameters: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return the agents that would lose more than half of their archive, with loss and whole."""
    losses = {}
    for name, old in run.db.execute(COUNT_OLD_BY_AGENT, parameters).fetchall():
        (whole,) = run.db.execute(COUNT_ARCHIVE, (to_bytes(name),)).fetchone()
        if whole > SMALL_ARCHIVE and old * 2 > whole:
            losses[name] = (old, whole)
    return losses


def _refusal(losses: Mapping[str, tuple[int, int]]) -> RefusedError | None:
    if not losses:
        return None
    listed = ", ".join(f"{old} of {whole} of '{name}'" for name, (old, whole) in losses.items())
    return RefusedError(
        f"not pruned, because it is more than half of the archive: {listed}",
        "say --force if it is meant",
    )


def forget_old_records(run: Run, batches: Batches) -> None:
    """Remove runs and events that are older than a year."""
    cutoff = {"cutoff": to_text(run.now - OWN_RECORDS_KEPT)}
    for table, time in (("memory_events", "at"), ("memory_runs", "started_at")):
        old = run.db.execute(OLD_RECORDS.format(table=table, time=time), cutoff)
        remove = f"DELETE FROM {table} WHERE rowid IN (SELECT value FROM json_each(:rowids))"

        def forget(rowids: str, remove: str = remove) -> None:
            run.db.execute(remove, {"rowids": rowids})

        batches.apply(array("q", (row[0] for row in old)), forget, lambda _: None)
