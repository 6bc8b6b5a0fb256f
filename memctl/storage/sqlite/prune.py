"""The queries of prune: old memories in the archive, and old rows of memctl's own tables."""

from array import array
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from sqlite3 import Connection
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from memctl.storage.rows import Loss
from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter
from memctl.storage.sqlite.archiving import remove_archived
from memctl.storage.sqlite.changes import RowChange
from memctl.storage.sqlite.counters import store_event_counts, store_run_counts
from memctl.storage.sqlite.holds import held_parameter, is_held
from memctl.storage.sqlite.policies import policy_sql
from memctl.storage.sqlite.selection import Rows, Selection
from memctl.storage.sqlite.times import is_our_text, unix_seconds
from memctl.storage.times import to_text

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.policies import RetentionValues
    from memctl.storage.store import Batches

SMALL_ARCHIVE = 100  # memories; losses of smaller archives are not guarded

OwnTable = Literal["memory_events", "memory_runs"]


class RetentionKeys(NamedTuple):
    """SQL for the two keys of a retention policy: a parameter, or a value for each memory."""

    cutoff: str = ":cutoff"  # a memory archived before it is old
    protected_importance: str = ":protected_importance"


class SqliteOldMemories:
    """The old memories in the archive, under two policies; see `storage.changes.OldMemories`."""

    def __init__(
        self,
        db: Connection,
        policy: "RetentionValues",
        last: "RetentionValues",
        *,
        agent: str | None,
        now: datetime,
    ) -> None:
        self._db = db
        self._parameters: dict[str, Any] = {
            "latest_cutoff": to_text(now - policy.shortest_retention),
            **agent_parameter(agent),
            **held_parameter(now),
        }
        self._keys = self._retention_keys(policy, now, prefix="")
        last_keys = self._retention_keys(last, now, prefix="last_")
        self._great_losses = great_losses(self._keys, last_keys)

    def _retention_keys(
        self, policy: "RetentionValues", now: datetime, *, prefix: str
    ) -> RetentionKeys:
        """Return the keys of a policy, whose parameters are added to those of the queries."""
        cutoff = policy_sql(
            self._db,
            policy,
            "retention",
            name=f"{prefix}cutoff",
            to_sql=lambda retention: to_text(now - retention),
        )
        importance = policy_sql(
            self._db, policy, "protected_importance", name=f"{prefix}protected_importance"
        )
        self._parameters |= {**cutoff.parameters, **importance.parameters}
        return RetentionKeys(cutoff.sql, importance.sql)

    def great_losses(self) -> list[Loss]:
        return [Loss(*row) for row in self._db.execute(self._great_losses, self._parameters)]

    def removal(self, *, guarded: bool, now: datetime, run_id: int | None) -> RowChange:
        guard = "TRUE"
        if guarded:
            guard = f"agent_id NOT IN (SELECT agent_id FROM ({self._great_losses}))"
        selection = Selection(
            partial(removable_memories, self._keys), self._parameters, search_only=guard
        ).sparing_held("archived_memories", now=now)
        return RowChange(
            self._db,
            selection,
            lambda batch: remove_archived(
                self._db, batch.rowids, "memory:pruned", now=now, run_id=run_id
            ),
        )

    def count_protected(self) -> int:
        query = f"""
            SELECT count(*) FROM archived_memories
            WHERE {_archived_long_ago(self._keys)}
                AND (importance < {self._keys.protected_importance}) IS NOT TRUE
        """
        (count,) = self._db.execute(query, self._parameters).fetchone()
        return int(count)


def _archived_long_ago(keys: RetentionKeys) -> str:
    """Return SQL that is true for memories that were archived before the cutoff.

    The latest cutoff of all memories is there for the index. An imported memory may have a time in
    another format, or none: then it is kept.
    """
    return f"""
        archived_at < :latest_cutoff AND archived_at < {keys.cutoff}
        AND (
            {is_our_text("archived_at")}
            OR {unix_seconds("archived_at")} < unixepoch({keys.cutoff})
        )
        AND {OF_AGENT}
    """


def _is_old(keys: RetentionKeys) -> str:
    """Return SQL that is true for memories that are old and not protected by their importance.

    In the comparison, an importance that is not a number is greater than any number, and NULL gives
    NULL: both are kept.
    """
    return f"{_archived_long_ago(keys)} AND importance < {keys.protected_importance}"


def removable_memories(keys: RetentionKeys, rows: Rows) -> str:
    """Return SQL for the memories to remove, their times of archiving and importances."""
    return f"""
        SELECT archive_id AS rowid, id, agent_id, type, key, archived_at, importance
        FROM archived_memories
        {rows.where(_is_old(keys))}
    """


def great_losses(keys: RetentionKeys, last: RetentionKeys) -> str:
    """Return SQL for the agents that would lose over half of what the last policy kept.

    What is held is not lost. The plus sign makes SQLite visit only what is old, instead of the
    whole archive by agent.
    """
    old_before = f"archived_at < {last.cutoff} AND importance < {last.protected_importance}"
    return f"""
        SELECT agent_id, lost, kept
        FROM (
            SELECT agent_id, lost, (
                SELECT count(*) FROM archived_memories AS whole
                WHERE whole.agent_id = losers.agent_id AND ({old_before}) IS NOT TRUE
            ) AS kept
            FROM (
                SELECT agent_id, count(*) AS lost
                FROM archived_memories
                WHERE {_is_old(keys)} AND ({old_before}) IS NOT TRUE
                    AND NOT {is_held("archived_memories")}
                GROUP BY +agent_id
            ) AS losers
        )
        WHERE kept > {SMALL_ARCHIVE} AND lost * 2 > kept
    """


# Both tables grow with time, so the oldest rows come first. The newest row always stays, because
# its number must not be used again; so does a run that can still be undone.
OLD_RECORDS: Mapping[OwnTable, str] = {
    "memory_events": """
        SELECT event_id FROM memory_events
        WHERE event_id < (
            SELECT event_id FROM memory_events WHERE at >= :cutoff ORDER BY event_id LIMIT 1
        )
    """,
    "memory_runs": """
        SELECT run_id FROM memory_runs
        WHERE run_id < (
            SELECT run_id FROM memory_runs WHERE started_at >= :cutoff ORDER BY run_id LIMIT 1
        )
        AND NOT EXISTS (
            SELECT 1 FROM archived_memories
            WHERE archived_at = memory_runs.started_at
                AND archived_memories.run_id = memory_runs.run_id
        )
    """,
}


def delete_old_records(db: Connection, batches: "Batches", *, before: datetime) -> None:
    """Delete the rows of memctl's own tables that are older than a moment, in batches.

    The caller holds memctl's lock.
    """
    store_event_counts(db, batches)
    for table, query in OLD_RECORDS.items():
        rows = array("q", (row[0] for row in db.execute(query, {"cutoff": to_text(before)})))
        batches.apply(rows, partial(_delete_records, db, table), doing="deleting old records")


def _delete_records(db: Connection, table: OwnTable, rowids: str) -> None:
    if table == "memory_runs":
        store_run_counts(db, rowids)
    db.execute(
        f"DELETE FROM {table} WHERE rowid IN (SELECT value FROM json_each(:rowids))",
        {"rowids": rowids},
    )
