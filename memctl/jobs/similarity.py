r"""Similarity of texts: two texts are alike if over four fifths of their words are in both.

Words are the matches of `\w+` in lower case, each counted once. A text without words is alike to
none.
"""

import functools
import re
import sys
from typing import NamedTuple

ALIKE_ABOVE = 0.8
WORD = re.compile(r"\w+")


class Words(NamedTuple):
    """The words of a text, and its longest fifth, by which similar texts are found."""

    all: frozenset[str]
    longest: tuple[str, ...]


@functools.lru_cache(maxsize=100_000)
def words_of(text: str) -> Words:
    """Return the words of a text; cached, so that they can be computed before a lock is taken."""
    words = frozenset(map(sys.intern, WORD.findall(text.lower())))
    fifth = -(-len(words) // 5)
    return Words(words, tuple(sorted(words, key=lambda word: (-len(word), word))[:fifth]))


def similarity(some: Words, others: Words) -> float:
    """Return the Jaccard index of two texts, from 0 to 1."""
    common = len(some.all & others.all)
    return common / (len(some.all) + len(others.all) - common) if common else 0.0


def are_alike(some: Words, others: Words) -> bool:
    """Return whether two texts are alike."""
    return similarity(some, others) > ALIKE_ABOVE


class Text(NamedTuple):
    """A text of a corpus."""

    age: int  # its position in the order of adding
    agent: str
    words: Words


class Corpus:
    """Texts by number, added from the oldest to the newest."""

    def __init__(self) -> None:
        self._added = 0
        self._texts: dict[int, Text] = {}
        self._numbers: dict[str, set[int]] = {}  # of the texts, by their longest words
        self._answers: dict[tuple[frozenset[str], str], tuple[int | None, int]] = {}

    def add(self, number: int, agent: str, words: Words) -> None:
        """Add a text that is newer than all others."""
        self._texts[number] = Text(self._added, agent, words)
        self._added += 1
        for word in words.longest:
            self._numbers.setdefault(word, set()).add(number)

    def discard(self, number: int) -> None:
        """Remove a text if it is present."""
        text = self._texts.pop(number, None)
        if text is not None:
            for word in text.words.longest:
                self._numbers[word].discard(number)

    def most_alike(self, words: Words, *, not_of: str) -> int | None:
        """Return the number of the most similar text of another agent, or None if none is alike.

        Of equally similar texts, the oldest one. A repeated call compares only the texts that were
        added since.
        """
        best, compared = self._answers.get((words.all, not_of), (None, 0))
        if best is not None and best not in self._texts:
            best, compared = None, 0
        # Each of two alike texts lacks less than a fifth of the other's words. Therefore the first
        # word that both have, in the order of length, is in the longest fifth of both.
        found: set[int] = set().union(*(self._numbers.get(word, ()) for word in words.longest))
        alike = {
            number: similarity(words, text.words)
            for number, text in ((number, self._texts[number]) for number in found)
            if number == best or (text.age >= compared and text.agent != not_of)
        }
        best = max(
            (number for number, part in alike.items() if part > ALIKE_ABOVE),
            key=lambda number: (alike[number], -self._texts[number].age),
            default=None,
        )
        self._answers[words.all, not_of] = best, self._added
        return best
