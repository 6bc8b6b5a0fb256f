"""The JSON about secrets in memories."""

from typing import Literal

from typing_extensions import TypedDict

from memctl.output.contract.records import StoredValue


class SecretCount(TypedDict):
    """How often a kind of secret occurs in one place; null: in a knowledge entry."""

    kind: str
    place: Literal["active", "archived", "knowledge"]
    found_in: Literal["key", "value", "metadata"] | None
    count: int


class MemoryWithSecrets(TypedDict):
    """A memory that contains what looks like a secret; null: this part of its name is one."""

    agent_id: StoredValue
    type: StoredValue
    key: StoredValue
    id: StoredValue
    secrets: list[SecretCount]
