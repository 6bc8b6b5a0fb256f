"""The errors for agents and ids that have no memories."""

from collections.abc import Collection, Iterable

from memctl.errors import NotFoundError, name_like


def unknown_agent(agent: str, known: Collection[str]) -> NotFoundError:
    """Return the error for an agent without memories; `known` are the agents with memories."""
    close = name_like(agent, known)
    return NotFoundError(
        f"agent '{agent}' has no memories",
        f"did you mean '{close}'?" if close else "names are case-sensitive",
    )


def require_known_ids(agent: str, ids: Iterable[str], known: Collection[str]) -> None:
    """Raise NotFoundError for the first id that is not one of the known ids of an agent."""
    for memory_id in ids:
        if memory_id not in known:
            raise NotFoundError(
                f"agent '{agent}' has no memory '{memory_id}'",
                "specify memories by id, not by key; nothing was changed",
            )
