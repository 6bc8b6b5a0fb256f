"""The agents named by memories, active or archived. Any other name is probably a typo."""

from collections.abc import Sequence

from memctl.storage.agents import require_known_ids, unknown_agent
from memctl.storage.postgresql.database import Database, text, texts

TABLES = ("agent_memory", "archived_memories")

# One probe of the index for each agent, instead of a scan of all rows.
# https://wiki.postgresql.org/wiki/Loose_indexscan
AGENTS_OF = """
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
    found = {row[0] for table in TABLES for row in db.rows(AGENTS_OF.format(table=table))}
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
