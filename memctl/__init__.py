"""Maintains the memory of AI agents in a SQLite database."""

TYPE_CHECKING = False  # as type checkers know it: importing it would double `memctl --version`
if TYPE_CHECKING:
    from memctl.agent_memory import AgentMemory
    from memctl.storage.memory import ArchivedMemory, FoundMemory, Memory, Summary

__all__ = [
    "AgentMemory",
    "ArchivedMemory",
    "FoundMemory",
    "Memory",
    "Summary",
    "__version__",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import the Python API on first use, because the commands start without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from memctl import agent_memory

    return getattr(agent_memory, name)
