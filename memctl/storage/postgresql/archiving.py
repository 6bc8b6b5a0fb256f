"""Move memories into the archive: one statement for each batch deletes, copies and records them.

A memory is therefore either active or archived at any time. The statement locks those of its rows
that still meet the condition.
"""

from collections.abc import Sequence
from datetime import datetime

from memctl.errors import SchemaError
from memctl.storage.postgresql.batches import Batch
from memctl.storage.postgresql.database import Database, text, texts
from memctl.storage.postgresql.migrations import require_columns
from memctl.storage.postgresql.selection import SelectedChange, Selection
from memctl.storage.postgresql.times import expiry_text, new_key, numbered_key
from memctl.storage.rows import CAUSES, AffectedMemory, Reason, reason_detail
from memctl.storage.sqlite.migrations import MEMORY_COLUMNS
from memctl.storage.times import to_text

KEPT_COLUMNS = [column for column in MEMORY_COLUMNS if column != "archived_at"]


def _archive_statement(selection: Selection) -> str:
    """Return the statement that archives the rows of a batch that meet a condition.

    It waits for rows that clients have locked, and then repeats the condition. The server makes the
    keys and the numbers, counting from the first of each: sending them would take longer.
    """
    kept = ", ".join(KEPT_COLUMNS)
    return f"""
        WITH gone AS (
            DELETE FROM agent_memory
            WHERE agent_id = %(agent)s AND id = ANY(%(ids)s::text[]) AND {selection.condition}
            RETURNING *
        ),
        numbered AS (
            SELECT gone.*, row_number() OVER (ORDER BY id) - 1 AS place FROM gone
        ),
        kept AS (
            INSERT INTO archived_memories
                ({kept}, archive_id, archived_at, archived_reason, run_id)
            SELECT {kept}, {numbered_key("place")}, %(now)s, %(reason)s, %(run_id)s
            FROM numbered
            RETURNING 1
        ),
        recorded AS (
            INSERT INTO memory_events
                (event_key, event_id, at, event, memory_id, agent_id, type, key, run_id, detail)
            SELECT {numbered_key("2 * place + later")}, %(number)s::bigint + 2 * place + later,
                %(now)s::timestamptz, event, id, agent_id, type, key, %(run_id)s::bigint, detail
            FROM numbered, (VALUES
                (0, %(cause)s, NULL), (1, 'memory:archived', %(detail)s)
            ) AS event_of_memory (later, event, detail)
            WHERE event IS NOT NULL
            RETURNING 1
        )
        SELECT {selection.shown}, (SELECT count(*) FROM kept), (SELECT count(*) FROM recorded)
        FROM gone
        ORDER BY id
    """


class Archiving(SelectedChange):
    """Archives the selected memories."""

    def __init__(
        self,
        db: Database,
        selection: Selection,
        reason: Reason,
        *,
        now: datetime,
        run_id: int | None,
    ) -> None:
        super().__init__(db, selection, now=now, run_id=run_id)
        self._reason = reason

    def apply(self, batch: Batch) -> Sequence[AffectedMemory]:
        """Archive the memories of a batch that still match; returns these."""
        cause = CAUSES.get(self._reason)
        rows = self._db.rows(
            _archive_statement(self._selection),
            {
                **self._selection.parameters,
                **new_key.numbered(2 * len(batch.keys)),
                "agent": batch.agent,
                "ids": batch.keys,
                "number": batch.first_event,
                "now": to_text(self._now),
                "reason": self._reason,
                "cause": cause,
                "detail": reason_detail(self._reason),
                "run_id": self._run_id,
            },
        )
        if rows:
            require_columns(self._db)
            require_counts(
                len(rows), archived=rows[0][-2], events=rows[0][-1] // (2 if cause else 1)
            )
        return [self._selection.affected(row[:-2]) for row in rows]


def require_counts(due: int, **counts: int) -> None:
    """Raise SchemaError unless all counts are equal to `due`, as without foreign triggers."""
    if any(count != due for count in counts.values()):
        raise interference(due, **counts)


def interference(due: int, **counts: int) -> SchemaError:
    """Return the error for other counts than the memories that are due."""
    found = ", ".join(f"{count} {name}" for name, count in counts.items())
    return SchemaError(
        f"a trigger or rule of another program interferes: of {due} memories {found}",
        "remove it; the interrupted step was rolled back",
    )


def expired(*, agent: str | None, now: datetime) -> Selection:
    """Select the memories, of one agent or of all, whose time has passed."""
    return Selection(
        f"expires_at < %(cutoff)s {of_agent(agent)}",
        {"cutoff": to_text(now), "of_agent": agent and text(agent)},
        {"expires_at": expiry_text("expires_at")},
    )


def named(agent: str, ids: Sequence[str]) -> Selection:
    """Select the active memories of an agent with these ids."""
    return Selection(
        "agent_id = %(of_agent)s AND id = ANY(%(named)s)",
        {"of_agent": text(agent), "named": texts(ids)},
    )


def forgotten(agent: str, type: str | None) -> Selection:
    """Select the active memories of an agent, all or those of one type."""
    of_type = "" if type is None else "AND type = %(type)s"
    return Selection(
        f"agent_id = %(of_agent)s {of_type}",
        {"of_agent": text(agent), "type": type and text(type)},
    )


def of_agent(agent: str | None) -> str:
    """Return SQL that limits a query to one agent, if there is one."""
    return "" if agent is None else "AND agent_id = %(of_agent)s"


# Active memories only: the event of one imported into the archive has a detail.
IMPORTED_BY_RUN = """
    event.run_id = %(import)s AND event.event = 'memory:imported' AND event.detail IS NULL
"""

IS_SAME_MEMORY = """
    memory.agent_id = event.agent_id AND memory.id = event.memory_id AND memory.type = event.type
    AND memory.key = event.key
"""


def imported(
    db: Database, run_id: int, imported_at: datetime, *, agent: str | None
) -> tuple[int, int, Selection]:
    """Return the memories, of one agent or of all, that a run imported as active ones.

    That is how many are still active with the id they were imported with; how many are neither
    active nor archived with it; and those active ones that were neither written nor read since.
    """
    parameters = {
        "import": run_id,
        "imported_at": to_text(imported_at),
        "of_agent": agent and text(agent),
    }
    of_run = f"{IMPORTED_BY_RUN} {of_agent(agent)}"
    is_active, is_archived = (
        f"EXISTS (SELECT 1 FROM {table} AS memory WHERE {IS_SAME_MEMORY})"
        for table in ("agent_memory", "archived_memories")
    )
    still_there = f"""
        (agent_id, id) IN (
            SELECT agent_id, memory_id FROM memory_events AS event WHERE {of_run} AND {is_active}
        )
    """
    active = db.value(f"SELECT count(*) FROM agent_memory WHERE {still_there}", parameters)
    gone = db.value(
        f"SELECT count(*) FROM memory_events AS event"
        f" WHERE {of_run} AND NOT {is_active} AND NOT {is_archived}",
        parameters,
    )
    as_imported = " AND ".join(
        f"coalesce(date_trunc('second', {column}) <= %(imported_at)s, TRUE)"
        for column in ("created_at", "last_accessed")
    )
    return active, gone, Selection(as_imported, parameters, search_only=still_there)
