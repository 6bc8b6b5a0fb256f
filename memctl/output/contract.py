"""The structure of what commands print as JSON: the contract with programs that read it.

Every command has a type here. `memctl schema COMMAND` prints it as a JSON Schema. Fields are only
added; a change of another kind raises VERSION.
"""

from typing import TypedDict

VERSION = 1


class CurrentFigures(TypedDict):
    """The figures of a type, an agent, or all agents."""

    memories: int
    archived: int
    importance_avg: float | None
    accessed_memories: int
    accesses: int | None
    accesses_at_least: int
    expired_per_day: float
    archived_per_day: float
    storage_bytes: int


class FiguresOfDay(TypedDict):
    """The figures of a day's snapshot, null without one, and the changes of that day."""

    memories: int | None
    archived: int | None
    importance_avg: float | None
    accessed_memories: int | None
    storage_bytes: int | None
    accesses_that_day: int | None
    expired_that_day: int
    archived_that_day: int
    restored_that_day: int
    pruned_that_day: int
    promoted_that_day: int
