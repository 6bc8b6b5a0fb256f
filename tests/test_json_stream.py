"""The JSON reader: the same values as json.loads, wherever a read ends, in linear time."""

import gzip
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memctl.documents import json_stream
from memctl.documents.json_stream import JsonStream
from memctl.documents.staging import decompressed
from memctl.errors import DocumentError
from tests.support.properties import examples


class Pieces(io.RawIOBase):
    """A file in which each read returns the next piece, like a slow pipe."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = iter([piece for piece in pieces if piece])

    def readable(self) -> bool:
        """Return True: it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill in the next piece, which must be small enough."""
        piece = next(self._pieces, b"")
        buffer[: len(piece)] = piece
        return len(piece)


class ShortReads(io.BufferedIOBase):
    """A file in which each read returns a single piece, whatever size was requested."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = iter([piece for piece in pieces if piece])

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next piece."""
        return next(self._pieces, b"")


def cut(content: bytes, places: Sequence[int]) -> list[bytes]:
    """Return content in pieces."""
    edges = [0, *sorted({place % (len(content) + 1) for place in places}), len(content)]
    return [content[start:end] for start, end in pairwise(edges)]


def read_all(source: io.BufferedIOBase) -> list[Any]:
    """Return every value of a file of values separated by white space."""
    stream = JsonStream(source)
    found = []
    while stream.peek():
        found.append(stream.value())
    return found


def outcome(read: Callable[[], Any]) -> Any:
    """Return the values and their types, or that the input was rejected."""
    try:
        return repr(read())
    except (DocumentError, ValueError, RecursionError):
        return "refused"


def loads(content: bytes) -> Any:
    """Return what json.loads reads, but strictly: no duplicate names, no NaN, only UTF-8."""

    def names_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a name twice")
        return dict(pairs)

    def refuse(word: str) -> None:
        raise ValueError(word)

    text = content.decode()
    if not text.strip(" \t\r\n"):
        return []
    return [json.loads(text, object_pairs_hook=names_once, parse_constant=refuse)]


texts = st.text() | st.text('"\\/bfnrtu0123456789abcdefDd8\n\r\t агент🤖', max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
documents = st.builds(
    lambda value, ascii_only, indent, line: (
        json.dumps(value, ensure_ascii=ascii_only, indent=indent)
        .replace("\n", line)
        .encode("utf-8", "surrogatepass")
    ),
    values,
    st.booleans(),
    st.sampled_from([None, 0, 2]),
    st.sampled_from(["\n", "\r\n"]),
)
# Nearly JSON: a document with a few bytes removed or replaced.
damaged = st.builds(
    lambda content, at, length, new: (
        content[: at % (len(content) + 1)] + new + content[at % (len(content) + 1) + length :]
    ),
    documents,
    st.integers(0, 500),
    st.integers(0, 3),
    st.sampled_from([b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\xff", b" ", b"1"]),
)
soup = st.lists(
    st.sampled_from([*b'"\\{}[],: \n019-+.eEuntrlfas\xf0\x9f\xa4\x96\xff'.split(b"-")]), max_size=5
).map(b"".join) | st.text('"\\{}[],: 01-.eutrnlfasNI', max_size=12).map(str.encode)


@given(content=documents | damaged | soup, places=st.lists(st.integers(0, 5000), max_size=12))
@example(content=b'{"a": 1, "a": 2}', places=[9])
@example(content=b"[NaN]", places=[2])
@example(content=b"-Infinity", places=[3])
@example(content=b'"\\ud83e\\udd16"', places=[1, 2, 3, 4, 7, 8])
@example(content=b'"half \\ud83e"', places=[8])
@example(content=b'"\xed\xa0\x80"', places=[2])
@examples(10)
def test_a_file_read_in_any_pieces_gives_the_values_of_json_loads(
    content: bytes, places: list[int]
) -> None:
    expected = outcome(lambda: loads(content))

    for pieces in ([content], cut(content, places), [bytes([byte]) for byte in content]):
        assert outcome(partial(read_one, pieces)) == expected


def read_one(pieces: Sequence[bytes]) -> list[Any]:
    """Return the only value of a file."""
    found = read_all(ShortReads(pieces))
    if len(found) > 1:
        raise ValueError("another value behind the first")
    return found


TRICKY = (
    'quote " backslash \\ both \\" \\\\" line \n\r\n tab \t nul \0 del \x7f ж 中 🤖 👩‍👩‍👧 \u2028 '
    * 3
).strip()


@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_string_may_be_split_anywhere(ascii_only: bool) -> None:
    value = {"value": TRICKY, TRICKY: [TRICKY]}
    content = b"\r\n" + json.dumps(value, ensure_ascii=ascii_only).encode() + b"\r\n"

    for place in range(len(content)):
        assert read_all(ShortReads(cut(content, [place]))) == [value]


@pytest.mark.parametrize("text", ['"', "\\", "Память 🤖", "\n", "\u2028", "x"])
def test_the_alignment_of_reads_does_not_change_the_values(text: str) -> None:
    value = text * (json_stream.CHUNK // len(json.dumps(text)) * 3)
    for shift in range(12):
        expected = ["k" * shift, {"value": value}]
        content = " ".join(map(json.dumps, expected)).encode()
        assert read_all(io.BytesIO(content)) == expected


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_short_reads_from_a_pipe_are_joined(pack: Callable[[bytes], bytes]) -> None:
    content = pack(json.dumps(TRICKY, ensure_ascii=False).encode())
    pieces = Pieces([bytes([byte]) for byte in content])

    assert read_all(decompressed(io.BufferedReader(pieces))) == [TRICKY]


def test_an_empty_nonblocking_pipe_is_an_error() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.write(writer, b'["begun')

    with io.BufferedReader(io.FileIO(reader)) as file, pytest.raises(DocumentError) as refusal:
        read_all(decompressed(file))
    os.close(writer)

    assert refusal.value.message == (
        "the document cannot be read (Resource temporarily unavailable), at the beginning"
    )


# Time: how many bytes are scanned, and how many characters are decoded


class Counted:
    """A pattern that counts the bytes that it is matched against."""

    def __init__(self, pattern: "re.Pattern[bytes]", counts: list[int]) -> None:
        self._pattern = pattern
        self._counts = counts

    def match(self, buffer: bytearray, start: int) -> "re.Match[bytes] | None":
        """Match, and count the bytes; a failed match counts the whole rest."""
        found = self._pattern.match(buffer, start)
        self._counts.append((found.end() if found else len(buffer)) - start)
        return found


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The number of bytes that each use of a pattern scanned."""
    counts: list[int] = []
    for name in ("SPACE", "WORD", "TEXT", "OUTSIDE_TEXT", "ROW"):
        monkeypatch.setattr(json_stream, name, Counted(getattr(json_stream, name), counts))
    return iter([counts])


SIZE = 1_200_000  # more than a value of mere structure may have
LONG_VALUES = {
    "escaped quotes": b'"' + b'\\"' * (SIZE // 2) + b'"',
    "backslashes": b'"' + b"\\\\" * (SIZE // 2) + b'"',
    "escaped characters": b'"' + b"\\u043f" * (SIZE // 6) + b'"',
    "surrogate pairs": b'"' + b"\\ud83e\\udd16" * (SIZE // 12) + b'"',
    "bytes of characters": b'"' + "🤖".encode() * (SIZE // 4) + b'"',
    "a row": b'{"id": "x", "value": "' + b'\\"' * (SIZE // 2) + b'", "metadata": null}',
    "space before": b" " * SIZE + b"1",
    "small rows": b'{"a": "\\"", "b": {"c": 1}} ' * (SIZE // 270),
    "small lists": b"[[1, 2], [], {}] " * (SIZE // 170),
    "small words": b"1 true " * (SIZE // 70),
    "small texts": b'"a" "\\"" ' * (SIZE // 90),
    "unterminated": b'"' + b'\\"' * (SIZE // 2),
    "structure": b"[" + b"[],1 , " * (SIZE // 7),
    "digits": b"1" * SIZE,
    "brackets": b"[" * SIZE,
    "closing brackets": b"]" * SIZE,
    "names": b"{" + b'"a": 1, ' * (SIZE // 8),
}


@pytest.mark.parametrize("kind", LONG_VALUES)
@pytest.mark.parametrize("read_size", [json_stream.CHUNK, 4099])
def test_each_byte_is_scanned_at_most_three_times(
    scanned: Iterator[list[int]], monkeypatch: pytest.MonkeyPatch, kind: str, read_size: int
) -> None:
    (counts,) = scanned
    content = LONG_VALUES[kind]
    monkeypatch.setattr(json_stream, "CHUNK", read_size)

    outcome(lambda: read_all(io.BytesIO(content)))

    # Once to detect whether it is a row, once more when it is not, and white space separately.
    assert sum(counts) <= 3 * len(content) + 3 * len(counts)
    assert len(counts) <= len(content)


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        pytest.param(b'"' + b"x" * 200 + b'",', "refused", id="thousands of texts"),
        pytest.param(b'"' + b"x" * 3000 + b'",', "read", id="a few hundred texts"),
    ],
)
@pytest.mark.parametrize("piece", [7, 100_000])
def test_the_limit_of_a_long_value_does_not_depend_on_the_reads(
    element: bytes, expected: str, piece: int
) -> None:
    content = b"[" + element * (1_500_000 // len(element)) + b"1]"
    pieces = [content[at : at + piece] for at in range(0, len(content), piece)]

    found = outcome(lambda: read_one(pieces) and "read")

    assert found == (repr("read") if expected == "read" else expected)


# Limit in bytes


@pytest.mark.parametrize("character", ["x", "ж", "🤖"])
def test_the_limit_of_a_value_is_in_bytes(monkeypatch: pytest.MonkeyPatch, character: str) -> None:
    monkeypatch.setattr(json_stream, "MOST_BYTES", 2_000_000)
    width = len(character.encode())

    def read(size: int) -> Any:
        text = f'"{character * (size // width)}"'
        return outcome(lambda: len(read_all(io.BytesIO(text.encode()))[0]))

    assert read(1_999_000) == str(1_999_000 // width)
    assert read(2_001_000) == "refused"


def test_the_buffer_holds_no_more_than_the_longest_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "MOST_BYTES", 1_000_000)
    asked = []

    class Endless(io.BufferedIOBase):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.append(size)
            return b'"' if len(asked) == 1 else "🤖".encode() * ((size or 0) // 4)

    with pytest.raises(DocumentError):
        JsonStream(Endless()).value()

    assert len(asked) <= 1_000_000 // json_stream.CHUNK + 3
