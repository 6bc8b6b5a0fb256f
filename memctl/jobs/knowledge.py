"""Knowledge: the entry that a promoted memory becomes.

An error pattern becomes a gotcha, which begins with its key; a success pattern or a learning
becomes a pattern. The text is the description in the memory's JSON, or else its value. Confidence
stays below 0.8, at which the owner of the knowledge base proposes an entry for documentation: one
promotion must not suffice for that.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from memctl.storage.checksum import sha256
from memctl.storage.knowledge import ENTRY_TYPES, KnowledgeEntry
from memctl.storage.text import to_bytes

LEARNING_MAY_BECOME = ("gotcha", "pattern", "decision")

BASE_CONFIDENCE = 0.50
QA_AGENT_CONFIDENCE = 0.10
PATTERN_CONFIDENCE = 0.05
GATE_CONFIDENCE = 0.10  # for meeting the conditions
POINT_CONFIDENCE = 0.025  # per point of importance above 8, whatever the policy's threshold is
LEAST_IMPORTANCE = 8.0
MOST_POINTS = 2.0
MOST_FROM_ONE_PROMOTION = 0.79

# Bytes that are not valid UTF-8 are read as U+DC80 to U+DCFF and written back unchanged.
LONE_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


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
    value, metadata = _object(memory.value), _object(memory.metadata)
    entry_type = _entry_type(memory.type, metadata)
    content = _content(entry_type, memory.key, memory.value, value)
    return KnowledgeEntry(
        type=entry_type,
        content=content,
        content_hash=hash_of(content),
        tags=_tags(metadata),
        confidence=_confidence(memory.agent, entry_type, memory.importance),
        task_id=_task_id(metadata) or _task_id(value),
    )


def content_hash(memory_type: str, key: str, value: str, metadata: str | None) -> str:
    """Return the content hash of the entry that such a memory becomes."""
    entry_type = _entry_type(memory_type, _object(metadata))
    return hash_of(_content(entry_type, key, value, _object(value)))


def hash_of(content: str) -> str:
    return sha256(to_bytes(content))


def _entry_type(memory_type: str, metadata: Mapping[str, Any]) -> str:
    wanted = metadata.get("knowledge_type")
    if memory_type == "learning" and wanted in LEARNING_MAY_BECOME:
        return str(wanted)
    return ENTRY_TYPES[memory_type]


def _content(entry_type: str, key: str, text: str, value: Mapping[str, Any]) -> str:
    description = _text(value.get("description"))
    if description:
        steps = value.get("steps")
        listed = filter(None, map(_text, steps)) if isinstance(steps, list) else [_text(steps)]
        fix, steps = _text(value.get("fix")), "; ".join(listed)
        lines = [description, f"Fix: {fix}" if fix else "", f"Steps: {steps}" if steps else ""]
        text = "\n".join(filter(None, lines))
    return f"{key}: {text}" if entry_type == "gotcha" else text


def _tags(metadata: Mapping[str, Any]) -> str:
    """Return the memory's tags, if they are a list of texts, and the tag `from-memory`."""
    tags = metadata.get("tags")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        tags = []
    if "from-memory" not in tags:
        tags = [*tags, "from-memory"]
    return _whole(json.dumps(tags, ensure_ascii=False, separators=(",", ":")))


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
    return _text(task) or None


def _text(value: object) -> str:
    """Return a text that is not blank, and an empty one for any other value."""
    return _whole(value) if isinstance(value, str) and value.strip() else ""


def _object(text: str | None) -> Mapping[str, Any]:
    """Return the JSON object in a text, or an empty one if there is none."""
    if text is None or not text.lstrip().startswith("{"):
        return {}
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):  # the latter for deep nesting
        return {}
    return document if isinstance(document, dict) else {}


def _whole(text: str) -> str:
    """Return a text that can be stored: JSON may contain lone surrogates, which UTF-8 cannot."""
    return LONE_SURROGATE.sub("\ufffd", text)
