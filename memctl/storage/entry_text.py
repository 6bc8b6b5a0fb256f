"""The text of the entry that a promoted memory becomes, and its hash.

An error pattern becomes a gotcha, which begins with its key; a success pattern or a learning
becomes a pattern. The text is the description in the memory's JSON, or else its value.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from memctl.storage.checksum import sha256
from memctl.storage.knowledge import ENTRY_TYPES
from memctl.storage.text import to_bytes

LEARNING_MAY_BECOME = ("gotcha", "pattern", "decision")

# Bytes that are not valid UTF-8 are read as U+DC80 to U+DCFF and written back unchanged.
LONE_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def content_hash(memory_type: str, key: str, value: str, metadata: str | None) -> str:
    """Return the content hash of the entry that such a memory becomes."""
    entry_type = type_of_entry(memory_type, object_in(metadata))
    return hash_of(content_of_entry(entry_type, key, value, object_in(value)))


def hash_of(content: str) -> str:
    """Return the hash of the text of an entry."""
    return sha256(to_bytes(content))


def type_of_entry(memory_type: str, metadata: Mapping[str, Any]) -> str:
    """Return the type of the entry of a memory, of which the metadata is an object."""
    wanted = metadata.get("knowledge_type")
    if memory_type == "learning" and wanted in LEARNING_MAY_BECOME:
        return str(wanted)
    return ENTRY_TYPES[memory_type]


def content_of_entry(entry_type: str, key: str, text: str, value: Mapping[str, Any]) -> str:
    """Return the text of an entry; `value` is the object in the `text` of the memory."""
    description = text_in(value.get("description"))
    if description:
        steps = value.get("steps")
        listed = filter(None, map(text_in, steps)) if isinstance(steps, list) else [text_in(steps)]
        fix, steps = text_in(value.get("fix")), "; ".join(listed)
        lines = [description, f"Fix: {fix}" if fix else "", f"Steps: {steps}" if steps else ""]
        text = "\n".join(filter(None, lines))
    return f"{key}: {text}" if entry_type == "gotcha" else text


def text_in(value: object) -> str:
    """Return a text that is not blank, and an empty one for any other value."""
    return storable(value) if isinstance(value, str) and value.strip() else ""


def object_in(text: str | None) -> Mapping[str, Any]:
    """Return the JSON object in a text, or an empty one if there is none."""
    if text is None or not text.lstrip().startswith("{"):
        return {}
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):  # the latter for deep nesting
        return {}
    return document if isinstance(document, dict) else {}


def storable(text: str) -> str:
    """Return a text that can be stored: JSON may contain lone surrogates, which UTF-8 cannot."""
    return LONE_SURROGATE.sub("\ufffd", text)
