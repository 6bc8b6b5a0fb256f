"""Delete memories from the archive permanently: old ones, and replaced versions beyond a number.

One statement for each batch deletes them and records an event for each.
"""

from collections.abc import Sequence

from memctl.storage.policies import PolicyValues
from memctl.storage.postgresql.archiving import of_agent, require_counts
from memctl.storage.postgresql.batches import Batch
from memctl.storage.postgresql.database import text
from memctl.storage.postgresql.policies import policy_sql
from memctl.storage.postgresql.selection import SelectedChange, Selection
from memctl.storage.postgresql.times import new_key, numbered_key, our_text
from memctl.storage.rows import AffectedMemory
from memctl.storage.times import to_text


def _removal_statement(selection: Selection) -> str:
    """Return the statement that deletes the rows of a batch that meet a condition."""
    return f"""
        WITH gone AS (
            DELETE FROM archived_memories
            WHERE agent_id = %(agent)s AND archive_id = ANY(%(archive_keys)s::uuid[])
                AND {selection.condition}
            RETURNING *
        ),
        numbered AS (
            SELECT gone.*, row_number() OVER (ORDER BY archive_id) - 1 AS place FROM gone
        ),
        recorded AS (
            INSERT INTO memory_events
                (event_key, event_id, at, event, memory_id, agent_id, type, key, run_id, detail)
            SELECT {numbered_key("place")}, %(number)s::bigint + place, %(now)s, 'memory:pruned',
                id, agent_id, type, key, %(run_id)s, NULL
            FROM numbered
            RETURNING 1
        )
        SELECT {selection.shown}, (SELECT count(*) FROM recorded) FROM gone ORDER BY archive_id
    """


class Removal(SelectedChange):
    """Deletes the selected memories of the archive."""

    def apply(self, batch: Batch) -> Sequence[AffectedMemory]:
        """Delete the memories of a batch that still match; returns these."""
        rows = self._db.rows(
            _removal_statement(self._selection),
            {
                **self._selection.parameters,
                **new_key.numbered(len(batch.keys)),
                "agent": batch.agent,
                "archive_keys": list(batch.keys),
                "number": batch.first_event,
                "now": to_text(self._now),
                "run_id": self._run_id,
            },
        )
        if rows:
            require_counts(len(rows), events=rows[0][-1])
        return [self._selection.affected(row[:-1]) for row in rows]


def excess_versions(policy: PolicyValues, *, agent: str | None) -> Selection:
    """Select the replaced versions of each memory beyond the policy's number."""
    kept = policy_sql(policy, "keep_versions", "bigint")
    replaced = "archived_reason = 'replaced'"
    beyond = f"""
        (agent_id, archive_id) IN (
            SELECT agent_id, archive_id
            FROM (
                SELECT agent_id, archive_id, type, row_number() OVER (
                    PARTITION BY agent_id, type, key ORDER BY archived_at DESC, archive_id DESC
                ) AS age
                FROM archived_memories
                WHERE {replaced} {of_agent(agent)}
            ) AS versions
            WHERE age > {kept.sql}
        )
    """
    return Selection(
        replaced,
        {**kept.parameters, "of_agent": agent and text(agent)},
        {"archived_at": our_text("archived_at"), "archived_reason": "archived_reason"},
        search_only=beyond,
        table="archived_memories",
    )
