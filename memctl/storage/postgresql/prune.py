"""Prune: old memories in the archive, and old rows of memctl's own tables."""

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from memctl.storage.postgresql.archiving import of_agent
from memctl.storage.postgresql.batches import Batch, PostgresBatches
from memctl.storage.postgresql.counters import store_event_counts, store_run_counts
from memctl.storage.postgresql.database import Database, text
from memctl.storage.postgresql.events import LAST_PRUNED
from memctl.storage.postgresql.policies import policy_sql
from memctl.storage.postgresql.removing import Removal
from memctl.storage.postgresql.selection import Selection
from memctl.storage.postgresql.state import read_state, set_state
from memctl.storage.postgresql.times import our_text
from memctl.storage.rows import Loss
from memctl.storage.sqlite.prune import SMALL_ARCHIVE
from memctl.storage.times import to_text

if TYPE_CHECKING:
    from memctl.storage.policies import RetentionValues

NO_AGENT = ""  # runs are of no agent
DETAILS = {"archived_at": our_text("archived_at"), "importance": "importance"}


class RetentionKeys(NamedTuple):
    """SQL for the two keys of a retention policy: a parameter, or a value for each memory."""

    cutoff: str  # a memory archived before it is old
    protected_importance: str


class PostgresOldMemories:
    """The old memories in the archive, under two policies; see `storage.changes.OldMemories`."""

    def __init__(
        self,
        db: Database,
        policy: "RetentionValues",
        last: "RetentionValues",
        *,
        agent: str | None,
        now: datetime,
    ) -> None:
        self._db = db
        self._of_agent = of_agent(agent)
        self._parameters: dict[str, Any] = {
            "latest_cutoff": to_text(now - policy.shortest_retention),
            "of_agent": agent and text(agent),
        }
        keys = self._retention_keys(policy, now, prefix="")
        self._archived_long_ago = (
            f"archived_at < %(latest_cutoff)s AND archived_at < {keys.cutoff} {self._of_agent}"
        )
        self._is_unimportant = f"importance < {keys.protected_importance}"
        last_keys = self._retention_keys(last, now, prefix="last_")
        self._great_losses = great_losses(self._is_old, last_keys, self._of_agent)

    @property
    def _is_old(self) -> str:
        """SQL that is true for memories that are old and not protected by their importance."""
        return f"{self._archived_long_ago} AND {self._is_unimportant}"

    def _retention_keys(
        self, policy: "RetentionValues", now: datetime, *, prefix: str
    ) -> RetentionKeys:
        """Return the keys of a policy, whose parameters are added to those of the queries."""
        cutoff = policy_sql(
            policy,
            "retention",
            "timestamptz",
            name=f"{prefix}cutoff",
            to_sql=lambda retention: to_text(now - retention),
        )
        importance = policy_sql(
            policy, "protected_importance", "float8", name=f"{prefix}protected_importance"
        )
        self._parameters |= {**cutoff.parameters, **importance.parameters}
        return RetentionKeys(cutoff.sql, importance.sql)

    def great_losses(self) -> list[Loss]:
        return [Loss(*row) for row in self._db.rows(self._great_losses, self._parameters)]

    def removal(self, *, guarded: bool, now: datetime, run_id: int | None) -> "Removal":
        guard = "TRUE"
        if guarded:
            guard = f"agent_id NOT IN (SELECT agent_id FROM ({self._great_losses}) AS losers)"
        old = Selection(
            self._is_old, self._parameters, DETAILS, search_only=guard, table="archived_memories"
        )
        return Removal(self._db, old, now=now, run_id=run_id)

    def count_protected(self) -> int:
        query = f"""
            SELECT count(*) FROM archived_memories
            WHERE {self._archived_long_ago} AND ({self._is_unimportant}) IS NOT TRUE
        """
        return int(self._db.value(query, self._parameters))


def great_losses(is_old: str, last: RetentionKeys, of_agent: str) -> str:
    """Return SQL for the agents that would lose over half of what the last policy kept."""
    kept_before = f"""
        (archived_at < {last.cutoff} AND importance < {last.protected_importance}) IS NOT TRUE
    """
    return f"""
        SELECT agent_id, lost, kept
        FROM (
            SELECT agent_id, count(*) FILTER (WHERE {is_old}) AS lost, count(*) AS kept
            FROM archived_memories
            WHERE {kept_before} {of_agent}
            GROUP BY agent_id
        ) AS losses
        WHERE kept > {SMALL_ARCHIVE} AND lost * 2 > kept
        ORDER BY agent_id
    """


# Both tables grow with time, so the oldest rows come first. The newest row always stays; so does a
# run that can still be undone, and an event without a number, which no reader has seen.
OLD_EVENTS = """
    SELECT agent_id, event_key::text FROM memory_events
    WHERE event_id < (
        SELECT event_id FROM memory_events
        WHERE event_id IS NOT NULL AND at >= %(cutoff)s
        ORDER BY event_id LIMIT 1
    )
    ORDER BY agent_id, event_id
"""

DELETE_EVENTS = """
    WITH gone AS (
        DELETE FROM memory_events
        WHERE agent_id = %(agent)s AND event_key = ANY(%(keys)s::uuid[])
        RETURNING event_id
    )
    SELECT max(event_id) FROM gone
"""

OLD_RUNS = """
    SELECT run_id::text FROM memory_runs
    WHERE run_id < (
        SELECT run_id FROM memory_runs WHERE started_at >= %(cutoff)s ORDER BY run_id LIMIT 1
    )
    AND NOT EXISTS (
        SELECT 1 FROM archived_memories
        WHERE archived_at = memory_runs.started_at
            AND archived_memories.run_id = memory_runs.run_id
    )
    ORDER BY run_id
"""

DELETE_RUNS = "DELETE FROM memory_runs WHERE run_id = ANY(%(run_ids)s::bigint[])"


def delete_old_records(db: Database, batches: PostgresBatches, *, before: datetime) -> None:
    """Delete events and runs that are older than a moment, in batches."""
    store_event_counts(db, batches)
    cutoff = {"cutoff": to_text(before)}
    doing = "deleting old records"
    batches.apply(db.rows(OLD_EVENTS, cutoff), partial(_delete_events, db), doing=doing)
    runs = [(NO_AGENT, run_id) for (run_id,) in db.rows(OLD_RUNS, cutoff)]
    batches.apply(runs, partial(_delete_runs, db), doing=doing)


def _delete_events(db: Database, batch: Batch) -> None:
    """Delete events of an agent, and note the last one for readers that have missed it."""
    last = db.value(DELETE_EVENTS, {"agent": batch.agent, "keys": list(batch.keys)})
    set_state(db, LAST_PRUNED, max(last or 0, read_state(db, LAST_PRUNED) or 0))


def _delete_runs(db: Database, batch: Batch) -> None:
    run_ids = [*map(int, batch.keys)]
    store_run_counts(db, run_ids)
    db.execute(DELETE_RUNS, {"run_ids": run_ids})
