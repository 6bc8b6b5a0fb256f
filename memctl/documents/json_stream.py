"""JSON from an untrusted file, read value by value in bounded memory and linear time.

At most one value is held at a time, of at most 64 MiB, and a long one must be text rather than
structure: `[[],[],…` would take twenty times its size. A name may occur only once in an object.
"""

import codecs
import json
import re
import zlib
from collections.abc import Sequence
from io import BufferedIOBase
from typing import Any, NoReturn

from memctl.errors import DocumentError

CHUNK = 1 << 18  # bytes
MOST_BYTES = 1 << 26
LONG = 1 << 20
MOST_STRUCTURE = 10_000  # bytes outside of texts in a long value
MOST_DEPTH = 100
NEAR = 20  # characters of the document in a message

SPACE = re.compile(rb"[ \t\n\r]*+")
WORD = re.compile(rb'[^ \t\n\r,:"\[\]{}]*+')
# As much of a text as there is behind its opening quote; a backslash at the end of a read has to
# wait for the next read.
_TEXT = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_OUTSIDE = rb'[^"\[\]{}]*+'
_FLAT = rb'%b(?:"%b"%b)*+' % (_OUTSIDE, _TEXT, _OUTSIDE)
TEXT = re.compile(_TEXT, re.DOTALL)
OUTSIDE_TEXT = re.compile(_OUTSIDE)
# The common case in one match: an object that contains nothing deeper than objects.
ROW = re.compile(rb"\{%b(?:\{%b\}%b)*+\}" % (_FLAT, _FLAT, _FLAT), re.DOTALL)


class JsonStream:
    """A position in a stream of JSON in UTF-8; `place` says in errors where that is."""

    def __init__(self, source: BufferedIOBase) -> None:
        self.place = "the beginning"
        self.length = 0  # of the last value, in bytes
        self._source = source
        self._buffer = bytearray()
        self._at = 0
        self._begun = False
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=self._word)

    def peek(self) -> bytes:
        """Return the next byte that is no space, without taking it; at the end nothing."""
        while True:
            self._at = _end(SPACE, self._buffer, self._at)
            if self._at < len(self._buffer):
                return bytes(self._buffer[self._at : self._at + 1])
            if not self._read_on():
                return b""

    def accept(self, character: bytes) -> bool:
        """Take a character if it is the next one."""
        found = self.peek() == character
        self._at += found
        return found

    def expect(self, character: bytes) -> None:
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
        end = _end(ROW, self._buffer, self._at) if self.peek() == b"{" else self._at
        if end == self._at:
            end = self._read_whole()
        self.length = end - self._at
        text = self._decoded(self._at, end)
        try:
            value, length = self._decoder.raw_decode(text)
        except json.JSONDecodeError as error:
            self._fail_at(self._at + len(text[: error.pos].encode()))
        except ValueError:
            self.fail("the document has a number of thousands of digits")
        if length < len(text):
            self._fail_at(self._at + length)  # behind a number or a word: all ASCII
        self._at = end
        return value

    def fail(self, problem: str) -> NoReturn:
        """Raise DocumentError for a problem at this place."""
        raise DocumentError(f"{problem}, at {self.place}", "nothing was changed")

    def _read_whole(self) -> int:
        """Read until the value that begins here is complete, and return where it ends.

        Each byte is scanned once, wherever the reads of the file end.
        """
        del self._buffer[: self._at]
        self._at = at = 0
        depth = structure = 0
        in_text = False
        while True:
            start = at
            at = _end(TEXT if in_text else OUTSIDE_TEXT if depth else WORD, self._buffer, start)
            structure += 0 if in_text else at - start
            if at > MOST_BYTES:
                self.fail(f"the document has a value longer than {MOST_BYTES >> 20} MiB")
            if at > LONG and structure > MOST_STRUCTURE:
                self.fail("the document is not a memory, but something large")
            mark = bytes(self._buffer[at : at + 1])
            if mark in (b"", b"\\"):
                if self._read_on():
                    continue
                if at and not depth and not in_text:
                    return at
                self._fail_at(len(self._buffer))
            if not depth and not in_text:
                if at:  # a number or a word has ended
                    return at
                if mark in b",:]}":
                    self._fail_at(at)
            at += 1
            structure += not in_text
            if mark == b'"':
                in_text = not in_text
            else:
                depth += 1 if mark in b"[{" else -1
            if depth > MOST_DEPTH:
                self.fail("the document is nested too deeply")
            if not depth and not in_text:
                return at

    def _read_on(self) -> bool:
        """Read some more; returns whether there was anything."""
        try:
            more = self._source.read(CHUNK)
        except (EOFError, zlib.error) as error:
            self.fail(f"what gzip packed is cut off or damaged ({error})")
        except OSError as error:
            self.fail(f"the document cannot be read ({error.strerror or error})")
        del self._buffer[: self._at]
        self._at = 0
        self._buffer += more
        self._begun |= bool(more)
        return bool(more)

    def _fail_at(self, position: int) -> NoReturn:
        found = self._decoded(position, position + 4 * NEAR, whole=False)[:NEAR]
        if found:
            self.fail(f"the document is not JSON as expected near {found!r}")
        self.fail("the document ends too early" if self._begun else "the document is empty")

    def _decoded(self, start: int, end: int, *, whole: bool = True) -> str:
        """Return bytes as text; the last character may be cut off unless it must be whole."""
        try:
            return codecs.utf_8_decode(memoryview(self._buffer)[start:end], "strict", whole)[0]
        except UnicodeDecodeError:
            self.fail("the document is not UTF-8")

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


def _end(pattern: re.Pattern[bytes], buffer: bytearray, start: int) -> int:
    """Return where what matches from `start` on ends; the buffer cannot grow while a match lives.

    That is `start` itself when nothing matches.
    """
    found = pattern.match(buffer, start)
    return found.end() if found else start
