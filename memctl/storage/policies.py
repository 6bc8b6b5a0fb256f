"""The parts of a policy that storage uses; the policies themselves are in `config.policies`."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol


class PolicyValues(Protocol):
    """A policy: its attributes are the values of its keys for all memories."""

    def overrides_of(self, key: str) -> Mapping[tuple[str | None, str | None], Any]:
        """Return the overrides of a key by agent and type (None: all of them)."""


class RetentionValues(PolicyValues, Protocol):
    """How long the archive keeps a memory."""

    @property
    def shortest_retention(self) -> timedelta:
        """The shortest time that any memory is kept in the archive."""


class QuotaValues(PolicyValues, Protocol):
    """How many active memories an agent may have, and how many bytes; None: any number."""

    @property
    def memories(self) -> int | None:
        """The number of memories."""

    @property
    def bytes(self) -> int | None:
        """The bytes of their keys, values and metadata."""


class PromotionValues(Protocol):
    """The minimum values that a memory must have to be promoted."""

    @property
    def importance(self) -> float:
        """The importance."""

    @property
    def accesses(self) -> int:
        """The number of accesses."""

    @property
    def age(self) -> timedelta:
        """The time since it was written."""
