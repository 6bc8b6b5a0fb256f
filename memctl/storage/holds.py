"""Holds on memories, as every engine understands them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from memctl.errors import RefusedError


class HoldTarget(NamedTuple):
    """What a hold covers: a memory by its id or by type and key, or all of the agent."""

    agent: str
    memory_id: str | None = None
    type: str | None = None
    key: str | None = None


HoldOutcome = Literal["added", "changed", "unchanged"]


class HoldChange(NamedTuple):
    """A hold to place, and what that changes; `replaced` is the hold that it takes the place of."""

    target: HoldTarget
    outcome: HoldOutcome
    reason: str | None
    until: datetime | None
    replaced: int | None


class Holds(Protocol):
    """The holds of a database."""

    def targets(self, agent: str, ids: Sequence[str]) -> list[HoldTarget]:
        """Return what holds on these ids cover: the ids that the memories had before a suffix."""

    def require_known(self, targets: Sequence[HoldTarget]) -> None:
        """Raise NotFoundError for a target of which there is no memory, active or archived."""

    def plan(
        self,
        targets: Sequence[HoldTarget],
        *,
        reason: str | None,
        until: datetime | None,
        now: datetime,
    ) -> list[HoldChange]:
        """Return what holds on these targets change; without a reason, an earlier one stays."""

    def place(self, changes: Sequence[HoldChange], *, now: datetime, run_id: int | None) -> None:
        """Place holds, each with an event; must be called in a transaction."""

    def find(self, targets: Sequence[HoldTarget], *, now: datetime) -> list[int]:
        """Return the holds in force on exactly these targets."""

    def ended(self, *, now: datetime) -> list[int]:
        """Return the holds whose time has passed."""

    def release(self, found: Sequence[int], *, now: datetime, run_id: int | None) -> None:
        """Delete holds, each with an event; must be called in a transaction."""


def held_error(count: int, agent: str, type: str, key: str) -> RefusedError:
    """Return the error for memories that are held; the name is that of the first one."""
    first = f"'{agent}' {type} '{key}'"
    return RefusedError(
        f"{count:,} memories are held, the first is {first}"
        if count > 1
        else f"the memory {first} is held",
        "see `memctl holds`, and end the hold with `memctl release` first; nothing was changed",
    )
