"""Knowledge: the entry that a promoted memory becomes.

Its text is that of `storage.entry_text`. Its confidence stays below 0.8, at which the owner of the
knowledge base proposes an entry for documentation: one promotion must not suffice for that.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from memctl.storage.entry_text import (
    content_of_entry,
    hash_of,
    object_in,
    storable,
    text_in,
    type_of_entry,
)
from memctl.storage.knowledge import KnowledgeEntry

BASE_CONFIDENCE = 0.50
QA_AGENT_CONFIDENCE = 0.10
PATTERN_CONFIDENCE = 0.05
GATE_CONFIDENCE = 0.10  # for meeting the conditions
POINT_CONFIDENCE = 0.025  # per point of importance above 8, whatever the policy's threshold is
LEAST_IMPORTANCE = 8.0
MOST_POINTS = 2.0
MOST_FROM_ONE_PROMOTION = 0.79


class Source(NamedTuple):
    """The columns of a memory that determine its entry; texts may be invalid UTF-8."""

    agent: str
    type: str  # one of ENTRY_TYPES
    key: str
    value: str
    metadata: str | None
    importance: float


def entry_of(memory: Source) -> KnowledgeEntry:
    """Return the entry of a memory; JSON of an unexpected shape is taken as plain text."""
    value, metadata = object_in(memory.value), object_in(memory.metadata)
    entry_type = type_of_entry(memory.type, metadata)
    content = content_of_entry(entry_type, memory.key, memory.value, value)
    return KnowledgeEntry(
        type=entry_type,
        content=content,
        content_hash=hash_of(content),
        tags=_tags(metadata),
        confidence=_confidence(memory.agent, entry_type, memory.importance),
        task_id=_task_id(metadata) or _task_id(value),
    )


def _tags(metadata: Mapping[str, Any]) -> str:
    """Return the memory's tags, if they are a list of texts, and the tag `from-memory`."""
    tags = metadata.get("tags")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        tags = []
    if "from-memory" not in tags:
        tags = [*tags, "from-memory"]
    return storable(json.dumps(tags, ensure_ascii=False, separators=(",", ":")))


def _confidence(agent: str, entry_type: str, importance: float) -> float:
    points = min(max(importance - LEAST_IMPORTANCE, 0.0), MOST_POINTS)
    confidence = BASE_CONFIDENCE + GATE_CONFIDENCE + POINT_CONFIDENCE * points
    if agent == "qa_agent":
        confidence += QA_AGENT_CONFIDENCE
    if entry_type == "pattern":
        confidence += PATTERN_CONFIDENCE
    return min(round(confidence, 4), MOST_FROM_ONE_PROMOTION)


def _task_id(document: Mapping[str, Any]) -> str | None:
    task = document.get("taskId")
    if isinstance(task, int) and not isinstance(task, bool):
        return str(task)
    return text_in(task) or None
