"""The versions of a memory, and what changed between two of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any

from memctl.errors import NotFoundError, counted
from memctl.insight.explain import unknown_name
from memctl.storage.memory import Version
from memctl.storage.sqlite.database import Connection, one_view
from memctl.storage.sqlite.memories import memory_name, require_known_type
from memctl.storage.sqlite.versions import list_versions
from memctl.storage.text import from_bytes


@dataclass(frozen=True)
class FieldChange:
    """A field other than the value that differs between two versions."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class VersionChange:
    """What changed between two versions; the value as the lines of a unified diff."""

    from_version: int
    to_version: int
    changes: list[FieldChange]
    diff: list[str]


def read_history(
    db: Connection, agent: str, type_: str, key: str, *, limit: int, offset: int = 0
) -> list[Version]:
    """Return versions of a memory, oldest first.

    Raises UsageError for an unknown type, and NotFoundError if no version is kept.
    """
    name = memory_name(agent, type_, key)
    with one_view(db):
        if versions := list_versions(db, name, limit=limit, offset=offset):
            return versions
        if not list_versions(db, name, limit=1):
            require_known_type(db, type_)
            raise unknown_name(db, agent, type_, key)
    return []


def compare_versions(versions: Sequence[Version], before: int, after: int) -> VersionChange:
    """Return what changed from one version to another. Raises NotFoundError for an unknown one."""
    for number in (before, after):
        if not 1 <= number <= len(versions):
            raise NotFoundError(
                f"there is no version {number}: {counted(len(versions), 'version')} kept",
                "`memctl history` lists them",
            )
    one, other = versions[before - 1], versions[after - 1]
    return VersionChange(
        before,
        after,
        [
            FieldChange(field, getattr(one, field), getattr(other, field))
            for field in ("importance", "metadata")
            if getattr(one, field) != getattr(other, field)
        ],
        [
            line.removesuffix("\n")
            for line in unified_diff(
                _lines(one.value),
                _lines(other.value),
                f"version {before}",
                f"version {after}",
                lineterm="",
            )
        ],
    )


def _lines(value: str | bytes) -> list[str]:
    """Return the lines of a value, so that those of different values differ."""
    text = from_bytes(value) if isinstance(value, bytes) else value
    return text.split("\n")
