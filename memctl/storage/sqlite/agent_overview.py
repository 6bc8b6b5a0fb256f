"""The agents with memories: how many, how large, and when each was last active."""

from datetime import UTC, datetime
from sqlite3 import Connection

from memctl.storage.rows import AgentOverview
from memctl.storage.sqlite.database import MemoryTable
from memctl.storage.sqlite.figures import BYTES
from memctl.storage.sqlite.times import unix_seconds
from memctl.storage.times import to_text, to_unix

FIRST_SECOND = to_unix(datetime.min.replace(tzinfo=UTC))
LAST_SECOND = to_unix(datetime.max.replace(tzinfo=UTC))


def _memories(table: MemoryTable) -> str:
    """Return SQL for the figures of each memory in a table."""
    is_archived = table == "archived_memories"
    return f"""
        SELECT CAST(agent_id AS TEXT) AS agent_id, {is_archived:d} AS is_archived,
            {BYTES} AS bytes,
            {unix_seconds("created_at")} AS written,
            CASE WHEN access_count > 0 THEN {unix_seconds("last_accessed")} END AS read,
            {unix_seconds("archived_at") if is_archived else "NULL"} AS archived
        FROM {table} NOT INDEXED
    """


def _latest(column: str) -> str:
    """Return SQL for the latest time in a column, of the years 1 to 9999."""
    return f"max(iif({column} BETWEEN {FIRST_SECOND} AND {LAST_SECOND}, {column}, NULL))"


# LIMIT -1 keeps SQLite from flattening the subquery, which would sort whole values by agent.
OVERVIEW = f"""
    SELECT agent_id, sum(NOT is_archived), sum(is_archived), sum(bytes),
        {_latest("written")}, {_latest("read")}, {_latest("archived")}
    FROM ({_memories("agent_memory")} UNION ALL {_memories("archived_memories")} LIMIT -1)
    GROUP BY agent_id
    ORDER BY agent_id
    LIMIT :limit OFFSET :offset
"""


def list_agents(db: Connection, *, limit: int, offset: int) -> list[AgentOverview]:
    """Return the agents with memories, active or archived, by name."""
    rows = db.execute(OVERVIEW, {"limit": limit, "offset": offset})
    return [AgentOverview(*row[:4], *map(_to_text, row[4:])) for row in rows]


def _to_text(seconds: int | None) -> str | None:
    return None if seconds is None else to_text(datetime.fromtimestamp(seconds, UTC))
