"""Agents are whatever the memories name; one that no table knows is probably a typo."""

from collections.abc import Collection, Sequence
from sqlite3 import Connection

from memctl.errors import NotFoundError, name_like
from memctl.storage.sqlite.database import bind_texts, to_bytes

# A condition on agent_id; NULL stands for every agent.
OF_AGENT = "(:agent IS NULL OR agent_id = CAST(:agent AS TEXT))"


def agent_parameter(agent: str | None) -> dict[str, bytes | None]:
    """Return the value of `:agent`, whose text may be invalid UTF-8."""
    return {"agent": None if agent is None else to_bytes(agent)}


def agents(db: Connection) -> list[str]:
    """Return the names of all that have memories, active or archived, in their order."""
    found = db.execute(
        "SELECT agent_id FROM agent_memory UNION SELECT agent_id FROM archived_memories"
    )
    return [row[0] for row in found]


def require_agent(db: Connection, agent: str | None) -> None:
    """Raise NotFoundError when an agent is named that has no memory, active or archived."""
    if agent is None:
        return
    for table in ("agent_memory", "archived_memories"):
        query = f"SELECT 1 FROM {table} WHERE agent_id = CAST(:agent AS TEXT) LIMIT 1"
        if db.execute(query, agent_parameter(agent)).fetchone():
            return
    raise unknown_agent(agent, agents(db))


def unknown_agent(agent: str, known: Collection[str]) -> NotFoundError:
    """Return the error for an agent without any memory; `known` are those that have some."""
    close = name_like(agent, known)
    return NotFoundError(
        f"no agent '{agent}' has any memory here",
        f"did you mean '{close}'?" if close else "names are case-sensitive",
    )


def require_ids(db: Connection, agent: str, ids: Sequence[str]) -> None:
    """Raise NotFoundError for an id that is no memory of the agent, active or archived.

    What a command is to do to a memory may be done already, so that it can be repeated.
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
    for memory_id in ids:
        if memory_id not in known:
            raise NotFoundError(
                f"agent '{agent}' has no memory '{memory_id}'",
                "a memory is named by its id, not by its key; nothing was changed",
            )
