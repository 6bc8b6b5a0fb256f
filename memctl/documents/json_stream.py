"""A reader of JSON from untrusted files, value by value, in bounded memory and linear time.

One value of at most 64 MiB is held at a time. Long values must consist mainly of text: decoding
`[[],[],…` would take twenty times its size. A name may occur only once in an object.
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
MOST_STRUCTURE = 10_000  # bytes outside strings in a long value
MOST_DEPTH = 100
NEAR = 20  # characters of the document in a message

SPACE = re.compile(rb"[ \t\n\r]*+")
WORD = re.compile(rb'[^ \t\n\r,:"\[\]{}]*+')
# The part of a string that has been read after its opening quote, without a backslash at its end,
# which needs the next read.
_TEXT = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_OUTSIDE = rb'[^"\[\]{}]*+'
_FLAT = rb'%b(?:"%b"%b)*+' % (_OUTSIDE, _TEXT, _OUTSIDE)
TEXT = re.compile(_TEXT, re.DOTALL)
OUTSIDE_TEXT = re.compile(_OUTSIDE)
# The usual case in one match: an object that contains at most flat objects.
ROW = re.compile(rb"\{%b(?:\{%b\}%b)*+\}" % (_FLAT, _FLAT, _FLAT), re.DOTALL)


class JsonStream:
    """A position in a stream of JSON in UTF-8; `place` names it in error messages."""

    def __init__(self, source: BufferedIOBase) -> None:
        self.place = "the beginning"
        self.length = 0  # of the last value, in bytes
        self._source = source
        self._buffer = bytearray()
        self._at = 0
        self._begun = False
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=self._word)

    def peek(self) -> bytes:
        """Return the next byte that is not white space without consuming it; b"" at the end."""
        while True:
            self._at = _end(SPACE, self._buffer, self._at)
            if self._at < len(self._buffer):
                return bytes(self._buffer[self._at : self._at + 1])
            if not self._read_on():
                return b""

    def accept(self, character: bytes) -> bool:
        """Consume a character if it is next; return whether it was."""
        found = self.peek() == character
        self._at += found
        return found

    def expect(self, character: bytes) -> None:
        """Consume a character. Raises DocumentError if another one is next."""
        if not self.accept(character):
            self._fail_at(self._at)

    def value(self) -> Any:
        """Consume a complete value: string, number, object and so on.

        Raises DocumentError for a value that is invalid, too large or too deeply nested, or that
        repeats a name in an object.
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
            self.fail("the document has a number with thousands of digits")
        if length < len(text):
            self._fail_at(self._at + length)  # after a number or a word: all ASCII
        self._at = end
        return value

    def fail(self, problem: str) -> NoReturn:
        """Raise DocumentError for a problem at the present place."""
        raise DocumentError(f"{problem}, at {self.place}", "nothing was changed")

    def _read_whole(self) -> int:
        """Read until the value that begins here is complete; return the position of its end.

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
                self.fail("the document has a long value that is not mainly text")
            mark = bytes(self._buffer[at : at + 1])
            if mark in (b"", b"\\"):
                if self._read_on():
                    continue
                if at and not depth and not in_text:
                    return at
                self._fail_at(len(self._buffer))
            if not depth and not in_text:
                if at:  # the end of a number or a word
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
        """Read another chunk; return whether there was any."""
        try:
            more = self._source.read(CHUNK)
        except (EOFError, zlib.error) as error:
            self.fail(f"the gzip data is truncated or damaged ({error})")
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
            self.fail(f"the document is not valid JSON near {found!r}")
        self.fail("the document ends unexpectedly" if self._begun else "the document is empty")

    def _decoded(self, start: int, end: int, *, whole: bool = True) -> str:
        """Return bytes as text; an incomplete last character is dropped unless `whole` is true."""
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
                    self.fail(f"{name[:40]!r} occurs twice in one object")
                seen.add(name)
        return found

    def _word(self, word: str) -> NoReturn:
        self.fail(f"{word} is not valid in JSON")


def _end(pattern: re.Pattern[bytes], buffer: bytearray, start: int) -> int:
    """Return the end of a match at `start`, or `start` if there is none.

    The match object is not returned because the buffer cannot grow while one exists.
    """
    found = pattern.match(buffer, start)
    return found.end() if found else start
