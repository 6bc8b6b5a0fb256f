"""The agents named by memories, active or archived. Any other name is probably a typo."""

from collections.abc import Sequence
from sqlite3 import Connection

from memctl.storage.agents import require_known_ids, unknown_agent
from memctl.storage.sqlite.database import bind_texts
from memctl.storage.text import to_bytes

# A condition on agent_id; NULL matches every agent.
OF_AGENT = "(:agent IS NULL OR agent_id = CAST(:agent AS TEXT))"


def agent_parameter(agent: str | None) -> dict[str, bytes | None]:
    """Return the parameter `:agent`; the name may be invalid UTF-8."""
    return {"agent": None if agent is None else to_bytes(agent)}


def agents(db: Connection) -> list[str]:
    """Return the names of all agents with memories, active or archived, sorted."""
    found = db.execute(
        "SELECT agent_id FROM agent_memory UNION SELECT agent_id FROM archived_memories"
    )
    return [row[0] for row in found]


def require_agent(db: Connection, agent: str | None) -> None:
    """Raise NotFoundError for an agent without memories; None, for all agents, is valid."""
    if agent is None:
        return
    for table in ("agent_memory", "archived_memories"):
        query = f"SELECT 1 FROM {table} WHERE agent_id = CAST(:agent AS TEXT) LIMIT 1"
        if db.execute(query, agent_parameter(agent)).fetchone():
            return
    raise unknown_agent(agent, agents(db))


def require_ids(db: Connection, agent: str, ids: Sequence[str]) -> None:
    """Raise NotFoundError for an id that no memory of the agent has, active or archived.

    Both tables are searched so that a command can be repeated.
    """
    listed, parameters = bind_texts("id", ids)
    parameters["agent"] = to_bytes(agent)
    known = {
        row[0]
        for table in ("agent_memory", "archived_memories")
        for row in db.execute(
            f"SELECT id FROM {table} WHERE id IN ({listed}) AND agent_id = CAST(:agent AS TEXT)",
            parameters,
        )
    }
    require_known_ids(agent, ids, known)
