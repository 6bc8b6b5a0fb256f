"""What a search compares: text without regard to case, and to how accented letters are encoded.

Two texts match if they are equal after `fold`, the caseless matching of the Unicode Standard
(section 3.13, D145), in which `ß` equals `SS`, and `é` equals `e` with a combining accent. In
addition, the four letters i are equal, with a dot and without: Turkish pairs them differently.
Everything else is compared as it is: accents count, and so do the widths of letters.
"""

import re
from typing import NamedTuple, get_args
from unicodedata import combining, normalize

from memctl.storage.rows import SearchedField
from memctl.storage.text import from_bytes

DOT_ABOVE = "\N{COMBINING DOT ABOVE}"
DOTLESS_I = "\N{LATIN SMALL LETTER DOTLESS I}"
IOTA = "\N{GREEK SMALL LETTER IOTA}"

FIELDS = get_args(SearchedField)

# The ASCII characters, in lower case, to which `fold` turns others, such as ligatures and signs.
FOLDED_FROM_OTHERS = ";`afiklnst"

LONGEST_EXCERPT = 80  # characters
# Up to MOST_BEFORE characters before the text are kept; more are shortened to FEWER_BEFORE, because
# a narrow table cuts off the end of an excerpt.
MOST_BEFORE, FEWER_BEFORE = 16, 8


def fold(text: str) -> str:
    """Return the form of a text in which equal texts are the same."""
    if text.isascii():
        return text.lower()
    folded = text.casefold()
    if IOTA in folded or DOT_ABOVE in folded:
        # Only for an iota below a letter, and a dot above an i, does it matter to decompose first.
        folded = normalize("NFD", text).casefold().replace(DOTLESS_I, "i")
        folded = re.sub(f"i{DOT_ABOVE}+", "i", folded)
    return normalize("NFC", folded.replace(DOTLESS_I, "i"))


def beginning(value: str | bytes) -> str:
    """Return the beginning of a value, on one line."""
    text = from_bytes(value) if isinstance(value, bytes) else value
    return " ".join(text[:LONGEST_EXCERPT].split()) + ("…" if len(text) > LONGEST_EXCERPT else "")


class Match(NamedTuple):
    """Where a memory contains the text, and how well it matches; the lowest rank is best."""

    rank: int
    field: SearchedField


KEY_IS_TEXT = Match(0, "key")
KEY_STARTS_WITH_TEXT = Match(1, "key")
KEY_CONTAINS_TEXT = Match(2, "key")
VALUE_CONTAINS_TEXT = Match(3, "value")
METADATA_CONTAINS_TEXT = Match(4, "metadata")


class SearchedText:
    """A text to find in memories, as a substring.

    Stored texts are given as bytes. Bytes that are invalid UTF-8 match only themselves.
    """

    def __init__(self, text: str) -> None:
        self._folded = fold(text)
        self._is_ascii = self._folded.isascii()
        self._ascii = self._folded.encode() if self._is_ascii else b""
        # The longest part that can only come from the same characters, in either case: a memory
        # whose texts, in lower case, do not contain it does not match.
        certain_parts = re.split(f"[{FOLDED_FROM_OTHERS}]|[^\0-\x7f]", self._folded)
        self.certain_part = max(certain_parts, key=len).encode()

    def match(self, key: bytes, value: bytes, metadata: bytes | None) -> Match | None:
        """Return the best match in a memory, or None."""
        # Most memories are ruled out by their bytes; folding is slower.
        whole = b"\0".join((key, value, metadata or b""))
        if whole.isascii():
            if not self._is_ascii or self._ascii not in whole.lower():
                return None
        elif self.certain_part not in whole.lower():
            return None
        folded_key = fold(from_bytes(key))
        if folded_key == self._folded:
            return KEY_IS_TEXT
        if folded_key.startswith(self._folded):
            return KEY_STARTS_WITH_TEXT
        if self._folded in folded_key:
            return KEY_CONTAINS_TEXT
        if self._is_in(value):
            return VALUE_CONTAINS_TEXT
        return METADATA_CONTAINS_TEXT if metadata and self._is_in(metadata) else None

    def _is_in(self, stored: bytes) -> bool:
        """Return whether a stored text contains the text."""
        if self._is_ascii:
            lower = stored.lower()
            place = lower.find(self._ascii)
            end = place + len(self._ascii)
            if place >= 0 and lower[end : end + 1].isascii():  # no accent on the last letter
                return True
        return self._folded in fold(from_bytes(stored))

    def excerpt(self, text: str) -> str:
        """Return the part of a text around the searched one, or else its beginning, on one line."""
        shown = normalize("NFC", text)
        position = self._position(shown)
        first = 0 if position <= MOST_BEFORE else position - FEWER_BEFORE
        while first and combining(shown[first]):
            first -= 1
        last = first + LONGEST_EXCERPT
        before, after = "…" if first else "", "…" if last < len(shown) else ""
        return before + " ".join(shown[first:last].split()) + after

    def _position(self, text: str) -> int:
        """Return about where the searched text begins in a text; 0 if it does not contain it."""
        folded = fold(text)
        place = max(0, folded.find(self._folded))
        if len(folded) == len(text):
            return place
        length = 0
        for position, character in enumerate(text):
            length += len(fold(character))
            if length > place:
                return position
        return 0
