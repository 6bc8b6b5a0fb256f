"""What promotion reads and writes: candidates, and entries of the knowledge base."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

ENTRY_TYPES = {"error_pattern": "gotcha", "success_pattern": "pattern", "learning": "pattern"}


@dataclass(frozen=True)
class KnowledgeEntry:
    """The entry that a memory becomes in the knowledge base."""

    type: str
    content: str
    content_hash: str  # SHA-256 of the content
    tags: str  # a JSON array
    confidence: float
    task_id: str | None


class KnownEntry(NamedTuple):
    """An entry with its text."""

    number: int  # of its row
    type: str
    agent: str
    content: str
    holds: bool  # not superseded


class EntryChange(NamedTuple):
    """An entry after a change."""

    number: int
    id: str
    confidence: float


class CandidateRow(NamedTuple):
    """A candidate as it is stored, and its entry if it was promoted earlier; texts are bytes."""

    agent: bytes
    type: str
    key: bytes
    value: bytes
    metadata: bytes | None
    importance: float  # the one that counts
    entry_row: int | None
    entry_content: bytes | None
    entry_holds: int | None


class ConditionsMet(NamedTuple):
    """Which conditions of promotion a memory meets, and with which values."""

    importance: Any
    access_count: Any
    age_days: int | None
    age: int | None  # in seconds
    judged: float | None  # the importance that counts
    is_type: int  # this and the following: 1 if the condition is met, else 0
    is_important: int
    is_read: int
    is_old: int
    known_since: str | None  # since when its text is in the knowledge base


Which = Literal["all", "worth listing", "lacking one at most"]
