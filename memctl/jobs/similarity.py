r"""Which texts say nearly the same: of all words of both, over four fifths are in both.

Words are what `\w+` finds, in lower case, each once. A text without words is like no other.
"""

import functools
import re
import sys
from typing import NamedTuple

NEARLY_THE_SAME = 0.8
WORD = re.compile(r"\w+")


class Words(NamedTuple):
    """The words of a text, and the longest fifth of them, which tells it from most others."""

    all: frozenset[str]
    telling: tuple[str, ...]


@functools.lru_cache(maxsize=100_000)
def words_of(text: str) -> Words:
    """Return the words of a text.

    Remembered, so that who asks before taking a lock need not wait for it under the lock.
    """
    words = frozenset(map(sys.intern, WORD.findall(text.lower())))
    fifth = -(-len(words) // 5)
    return Words(words, tuple(sorted(words, key=lambda word: (-len(word), word))[:fifth]))


def similarity(some: Words, others: Words) -> float:
    """Return which part of all words is in both, from 0 to 1 (the Jaccard index)."""
    common = len(some.all & others.all)
    return common / (len(some.all) + len(others.all) - common) if common else 0.0


def are_alike(some: Words, others: Words) -> bool:
    """Tell whether two texts say nearly the same."""
    return similarity(some, others) > NEARLY_THE_SAME


class Text(NamedTuple):
    """One text of a corpus."""

    age: int  # its place among all that were added
    agent: str
    words: Words


class Corpus:
    """Texts by number, added from the oldest to the newest."""

    def __init__(self) -> None:
        self._added = 0
        self._texts: dict[int, Text] = {}
        self._numbers: dict[str, set[int]] = {}  # of the texts that a word tells from others
        self._answers: dict[tuple[frozenset[str], str], tuple[int | None, int]] = {}

    def add(self, number: int, agent: str, words: Words) -> None:
        """Add a text that is newer than all others."""
        self._texts[number] = Text(self._added, agent, words)
        self._added += 1
        for word in words.telling:
            self._numbers.setdefault(word, set()).add(number)

    def discard(self, number: int) -> None:
        """Forget a text, if it is there."""
        text = self._texts.pop(number, None)
        if text is not None:
            for word in text.words.telling:
                self._numbers[word].discard(number)

    def most_alike(self, words: Words, *, not_of: str) -> int | None:
        """Return the number of another agent's text that says nearly the same, or None.

        It is the most similar one; of equally similar ones, the oldest. Who asks again pays only
        for what was added since.
        """
        best, compared = self._answers.get((words.all, not_of), (None, 0))
        if best is not None and best not in self._texts:
            best, compared = None, 0
        # Of two texts so alike, each lacks less than a fifth of the other's words. So the first
        # word that both have, in the order of telling, is in the first fifth of either.
        found: set[int] = set().union(*(self._numbers.get(word, ()) for word in words.telling))
        alike = {
            number: similarity(words, text.words)
            for number, text in ((number, self._texts[number]) for number in found)
            if number == best or (text.age >= compared and text.agent != not_of)
        }
        best = max(
            (number for number, part in alike.items() if part > NEARLY_THE_SAME),
            key=lambda number: (alike[number], -self._texts[number].age),
            default=None,
        )
        self._answers[words.all, not_of] = best, self._added
        return best
