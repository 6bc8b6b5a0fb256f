"""Redaction: what is replaced in a stored text, and by what.

A text is replaced where its bytes occur, and where JSON contains it with escapes.
"""

from collections.abc import Callable, Collection, Iterable

from memctl.errors import RefusedError, UsageError
from memctl.storage.fragments import LEAST
from memctl.storage.text import forms_in_json, from_bytes, to_bytes

MARKER = b"[redacted]"

# Returns those of the texts to replace that a content contains.
Find = Callable[[bytes], Collection[bytes]]


def forms_of(text: str) -> list[bytes]:
    """Return the bytes of a text, and those that it has in JSON.

    Raises UsageError for a text that cannot be redacted.
    """
    forms = forms_in_json(text)
    if len(to_bytes(text)) < LEAST:
        raise UsageError(
            f"the text to redact has fewer than {LEAST} bytes",
            "it would be found by chance: use `memctl erase` to remove whole memories",
        )
    if any(form in MARKER for form in forms):
        raise UsageError(
            f"the text to redact is a part of {from_bytes(MARKER)}, which would replace it",
            "use `memctl erase` to remove whole memories",
        )
    return sorted(forms, key=len, reverse=True)


def finder(texts: Iterable[bytes]) -> Find:
    """Return what finds exactly these texts."""
    wanted = list(texts)
    return lambda content: [text for text in wanted if text in content]


def redacted(content: bytes, find: Find) -> tuple[bytes, Collection[bytes]]:
    """Return a content with the marker in place of the texts, and the texts that it contained.

    The longest are replaced first. Raises RefusedError if the marker, with the bytes beside it,
    makes one of them again.
    """
    found = find(content)
    for text in sorted(found, key=len, reverse=True):
        content = content.replace(text, MARKER)
    if found and any(text in content for text in found):
        raise RefusedError(
            f"the text to redact overlaps {from_bytes(MARKER)}, which would replace it",
            "use `memctl erase` to remove the whole memory; nothing was changed",
        )
    return content, found
