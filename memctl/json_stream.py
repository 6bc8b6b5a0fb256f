"""JSON read value by value from a file that nobody vouches for, in bounded memory.

At most one value is held at a time, of at most 64 MiB, and a long one must be text rather than
structure: `[[],[],…` would take twenty times its size. A name may stand in an object only once.
"""

import json
import re
import zlib
from collections.abc import Sequence
from typing import Any, NoReturn, TextIO

from memctl.errors import DocumentError

CHUNK = 1 << 18  # characters
MOST_CHARACTERS = 1 << 26
LONG = 1 << 20
MOST_STRUCTURE = 10_000  # characters outside of texts in a long value

STRING = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\Z)', re.DOTALL)
SPACE = re.compile(r"[ \t\n\r]*")


class JsonStream:
    """A position in a stream of JSON; `place` says in errors where that is."""

    def __init__(self, source: TextIO) -> None:
        self.place = "the beginning"
        self.length = 0  # of the last value, in characters
        self._source = source
        self._text = ""
        self._begun = False
        self._at = 0
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=self._word)

    def peek(self) -> str:
        """Return the next character that is no space, without taking it; at the end nothing."""
        while True:
            space = SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on():
                return ""

    def accept(self, character: str) -> bool:
        """Take a character if it is the next one."""
        found = self.peek() == character
        self._at += found
        return found

    def expect(self, character: str) -> None:
        """Take a character.

        Raises DocumentError when another one is next.
        """
        if not self.accept(character):
            self._fail_at(self._at)

    def value(self) -> Any:
        """Take a whole value: text, number, object and so on.

        Raises DocumentError for what is not JSON, is too large or too deep, or names anything
        twice.
        """
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                self.length = end - self._at
                if end < len(self._text) or not self._read_on():  # a number might go on
                    self._at += self.length
                    return value
            except json.JSONDecodeError as error:
                cut_off = error.msg.startswith("Unterminated string")
                sound = len(self._text) if cut_off else error.pos - self._at
                if not self._read_on():
                    self._fail_at(self._at + sound)
            except RecursionError:
                self.fail("the document is nested too deeply")
            except ValueError:
                self.fail("the document has a number of thousands of digits")

    def fail(self, problem: str) -> NoReturn:
        """Raise DocumentError for a problem at this place."""
        raise DocumentError(f"{problem}, at {self.place}", "nothing was changed")

    def _fail_at(self, position: int) -> NoReturn:
        found = self._text[position : position + 20]
        if found:
            self.fail(f"the document is not JSON as expected near {found!r}")
        self.fail("the document ends too early" if self._begun else "the document is empty")

    def _read_on(self) -> bool:
        """Read as much again as the value has already; tells whether there was anything."""
        pending = self._text[self._at :]
        if len(pending) > LONG:
            if len(pending) > MOST_CHARACTERS:
                self.fail(f"the document has a value longer than {MOST_CHARACTERS >> 20} MiB")
            if len(STRING.sub("", pending)) > MOST_STRUCTURE:
                self.fail("the document is not a memory, but something large")
        try:
            more = self._source.read(max(CHUNK, len(pending)))
        except UnicodeDecodeError:
            self.fail("the document is not UTF-8")
        except (EOFError, zlib.error) as error:
            self.fail(f"what gzip packed is cut off or damaged ({error})")
        except OSError as error:
            self.fail(f"the document cannot be read ({error.strerror or error})")
        self._text, self._at = pending + more, 0
        self._begun |= bool(more)
        return bool(more)

    def _object(self, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    self.fail(f"{name[:40]!r} stands twice in one object")
                seen.add(name)
        return found

    def _word(self, word: str) -> NoReturn:
        self.fail(f"{word} is no number of JSON")
