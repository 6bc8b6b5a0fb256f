"""Searching bytes for what is left of texts, such as in the pages of a database file.

A page may contain a part of a text, at any offset. The words of eight bytes at every offset of a
text are compared with those at every eighth byte of the content, and a word that is found is
extended in both directions as far as the text goes on. So any part of at least SHORTEST bytes is
found; of a text longer than LONG_TEXT, of whose words only every 61st is compared, any part of
LONG_STRIDE * WORD + SHORTEST bytes.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

WORD = 8
SHORTEST = 24  # bytes; a shorter text is found only as a whole
LEAST = 4  # bytes; a shorter text occurs by chance, and its hash could be guessed at once
SPECIFIC = 15  # bytes, from which on a text is assumed to be in no other memory
LONG_TEXT = 1 << 16
LONG_STRIDE = 61  # has no factor in common with WORD, so that words meet at all offsets
MOST_PLACES = 8  # of one word in the texts; their other words find them as well
STEP = 256  # bytes that are compared at once


class Fragment(NamedTuple):
    """A part of a text: the number of the text, and where the part begins and ends in it."""

    text: int
    start: int
    end: int


class Fragments:
    """Texts that are searched for, in parts, and others (`whole`) that count only as a whole."""

    def __init__(self, texts: Iterable[bytes], whole: Iterable[bytes] = ()) -> None:
        partial = {text for text in texts if len(text) >= LEAST}
        self.texts = [*sorted(partial), *sorted({text for text in whole if text} - partial)]
        self._least = [
            min(len(text), SHORTEST) if text in partial else len(text) for text in self.texts
        ]
        self._short: list[int] = []
        self._words: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for number, text in enumerate(self.texts):
            self._add_words(number, text)

    def __bool__(self) -> bool:
        return bool(self.texts)

    @property
    def overlap(self) -> int:
        """How many bytes two adjacent pieces of a content must share for nothing to be missed."""
        longest = max((SHORTEST, *self._least))
        return longest + LONG_STRIDE * WORD

    def bytes_of(self, part: Fragment) -> bytes:
        """Return the bytes of a part."""
        return self.texts[part.text][part.start : part.end]

    def _add_words(self, number: int, text: bytes) -> None:
        last = len(text) - WORD
        if last < WORD - 1:
            self._short.append(number)
            return
        has_words = False
        first = last - WORD + 1 if self._least[number] == len(text) else 0
        for start in range(first, last + 1, 1 if len(text) <= LONG_TEXT else LONG_STRIDE):
            word = text[start : start + WORD]
            places = self._words[int.from_bytes(word, sys.byteorder)]
            if len(places) < MOST_PLACES and word.count(word[:1]) < WORD:
                places.append((number, start))
                has_words = True
        if not has_words:
            self._short.append(number)

    def of(self, content: bytes) -> set[Fragment]:
        """Return the longest parts of texts in a content."""
        found = {
            Fragment(number, 0, len(self.texts[number]))
            for number in self._short
            if self.texts[number] in content
        }
        words = memoryview(content)[: len(content) // WORD * WORD].cast("Q")
        if self._words.keys().isdisjoint(words):
            return found
        ends: dict[tuple[int, int], int] = {}  # by text, and its offset in the content
        for index, word in enumerate(words):
            for number, start in self._words.get(word, ()):
                place = index * WORD
                if ends.get((number, place - start), 0) > place:
                    continue  # in a part that was found
                text = self.texts[number]
                if self._least[number] >= SHORTEST and not _goes_on(text, start, content, place):
                    continue
                begin = start - _common_before(text, start, content, place)
                end = start + _common_after(text, start, content, place)
                ends[number, place - start] = place - start + end
                if end - begin >= self._least[number]:
                    found.add(Fragment(number, begin, end))
        return found


def missing_in(parts: Iterable[bytes], contents: Iterable[bytes]) -> set[bytes]:
    """Return the parts that none of the contents contains."""
    missing = set(parts)
    short = {part for part in missing if len(part) < 2 * WORD}
    places: defaultdict[int, list[tuple[bytes, int]]] = defaultdict(list)
    for part in missing - short:
        for start in range(WORD):  # one of these words is at an eighth byte of the content
            word = int.from_bytes(part[start : start + WORD], sys.byteorder)
            places[word].append((part, start))
    for content in contents:
        if not missing:
            break
        missing -= {part for part in short & missing if part in content}
        words = memoryview(content)[: len(content) // WORD * WORD].cast("Q")
        if places.keys().isdisjoint(words):
            continue
        for index, word in enumerate(words):
            for part, start in places.get(word, ()):
                begin = index * WORD - start
                if begin >= 0 and part in missing and content.startswith(part, begin):
                    missing.discard(part)
    return missing


def _goes_on(one: bytes, start: int, other: bytes, place: int) -> bool:
    """Return whether the word before or after one at these offsets is the same, too.

    Of a part of SHORTEST bytes, at least two words are at eighth bytes of the content.
    """
    after = one[start + WORD : start + 2 * WORD] == other[place + WORD : place + 2 * WORD]
    return after or (
        min(start, place) >= WORD and one[start - WORD : start] == other[place - WORD : place]
    )


def _common_after(one: bytes, start: int, other: bytes, place: int) -> int:
    """Return how many bytes two contents have in common from an offset on."""
    most = min(len(one) - start, len(other) - place)
    length = 0
    while length < most:
        step = min(STEP, most - length)
        if (
            one[start + length : start + length + step]
            != other[place + length : place + length + step]
        ):
            break
        length += step
    while length < most and one[start + length] == other[place + length]:
        length += 1
    return length


def _common_before(one: bytes, start: int, other: bytes, place: int) -> int:
    """Return how many bytes two contents have in common before an offset."""
    most = min(start, place)
    length = 0
    while length < most and one[start - length - 1] == other[place - length - 1]:
        length += 1
    return length
