"""The agents named by memories, active or archived. Any other name is probably a typo."""

from collections.abc import Sequence

from memctl.storage.agents import require_known_ids, unknown_agent
from memctl.storage.postgresql.database import Database, text, texts
from memctl.storage.postgresql.figures import BYTES
from memctl.storage.postgresql.times import our_text
from memctl.storage.rows import AgentOverview

TABLES = ("agent_memory", "archived_memories")


def _agents_in(table: str) -> str:
    """Return SQL for the agents in a table, which probes the index for each and scans no rows.

    https://wiki.postgresql.org/wiki/Loose_indexscan
    """
    return f"""
        WITH RECURSIVE found AS (
            SELECT min(agent_id) AS agent_id FROM {table}
            UNION ALL
            SELECT (SELECT min(agent_id) FROM {table} WHERE agent_id > found.agent_id)
            FROM found WHERE agent_id IS NOT NULL
        )
        SELECT agent_id FROM found WHERE agent_id IS NOT NULL
    """


def agents(db: Database) -> list[str]:
    """Return the names of all agents with memories, active or archived, sorted."""
    found = {row[0] for table in TABLES for row in db.rows(_agents_in(table))}
    return sorted(found)


def require_agent(db: Database, agent: str | None) -> None:
    """Raise NotFoundError for an agent without memories; None, for all agents, is valid."""
    if agent is None:
        return
    for table in TABLES:
        query = f"SELECT 1 FROM {table} WHERE agent_id = %(agent)s LIMIT 1"
        if db.row(query, {"agent": text(agent)}):
            return
    raise unknown_agent(agent, agents(db))


def require_ids(db: Database, agent: str, ids: Sequence[str]) -> None:
    """Raise NotFoundError for an id that no memory of the agent has, active or archived."""
    known = {
        row[0]
        for table in TABLES
        for row in db.rows(
            f"SELECT id FROM {table} WHERE agent_id = %(agent)s AND id = ANY(%(ids)s)",
            {"agent": text(agent), "ids": texts(ids)},
        )
    }
    require_known_ids(agent, ids, known)


def _figures(table: str) -> str:
    """Return SQL for the figures of each agent in a table; each name occurs once in it."""
    is_archived = table == "archived_memories"
    return f"""
        SELECT agent_id, {"0" if is_archived else "count(*)"} AS memories,
            {"count(*)" if is_archived else "0"} AS archived, sum({BYTES}) AS bytes,
            {_latest("created_at")} AS written,
            {_latest("CASE WHEN access_count > 0 THEN last_accessed END")} AS read,
            {_latest("archived_at") if is_archived else "NULL::timestamptz"} AS archived_at
        FROM {table} GROUP BY agent_id
    """


def _latest(moment: str) -> str:
    """Return SQL for the latest of the times of the years 1 to 9999."""
    return f"""max({moment}) FILTER (
        WHERE {moment} BETWEEN '0001-01-01T00:00:00Z' AND '9999-12-31T23:59:59Z'
    )"""


def _latest_text(column: str) -> str:
    return our_text(f"date_trunc('second', max({column}))")


OVERVIEW = f"""
    SELECT agent_id, sum(memories)::bigint, sum(archived)::bigint, sum(bytes)::bigint,
        {_latest_text("written")}, {_latest_text("read")}, {_latest_text("archived_at")}
    FROM ({_figures("agent_memory")} UNION ALL {_figures("archived_memories")}) AS figures
    GROUP BY agent_id
    ORDER BY agent_id
    LIMIT %(limit)s OFFSET %(offset)s
"""


def list_agents(db: Database, *, limit: int, offset: int) -> list[AgentOverview]:
    """Return the agents with memories, active or archived, by name."""
    rows = db.rows(OVERVIEW, {"limit": limit, "offset": offset})
    return [AgentOverview(*row) for row in rows]
