"""The export document: its parts, and how it is written.

It consists of a header, the rows of its sections with every column and in a stable order, and the
SHA-256 of these rows. Only if there are holds, they are a section of their own, and the version is
2. It is written as one JSON object with one row per line or, in the form `nl`, as one JSON object
per line:

    {"format": "memctl.export", "version": 1, "exported_at": …, "agent_id": …, "counts": {…}}
    {"active": {"id": …, …}}
    {"archived": {"id": …, …}}
    {"promotions": {"agent_id": …, …}}
    {"sha256": …}

The checksum covers the lines between the first and the last as `nl` writes them. Reformatting a
document does not change it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Literal, NamedTuple, NoReturn

from memctl.documents.json_stream import MOST_BYTES
from memctl.errors import LONGEST_TEXT, DocumentError, RefusedError
from memctl.storage.sqlite.sections import HOLDS, SECTIONS, DocumentSection
from memctl.storage.text import encodable, to_ascii
from memctl.storage.times import to_text

FORMAT = "memctl.export"
VERSION = 1
VERSION_WITH_HOLDS = 2
PROBLEMS_SHOWN = 20
AND_MORE = "; and more"
ESCAPED_BYTE = "\\udc"  # begins the surrogate of a byte of invalid UTF-8 in JSON

Form = Literal["json", "nl"]


class Header(NamedTuple):
    """The header; `agent` is None if the document contains all agents."""

    exported_at: datetime
    agent: str | None
    counts: Mapping[str, int]


class Checksum:
    """The SHA-256 of the rows of a document."""

    def __init__(self) -> None:
        self._sum = sha256()

    def add(self, section: DocumentSection, row: str) -> None:
        """Add a row, given as JSON, in the form `nl`."""
        self._sum.update(f'{{"{section.name}": '.encode("ascii"))
        self._sum.update(row.encode("ascii"))  # on its own, to copy a large row only once
        self._sum.update(b"}\n")

    def __str__(self) -> str:
        return self._sum.hexdigest()


def write_document(
    header: Header, rows: Callable[[DocumentSection], Iterable[Sequence[object]]], form: Form
) -> Iterator[str]:
    """Yield the document in pieces of text; `rows` returns the rows of a section in their order.

    Raises RefusedError for a memory that is too large to be imported.
    """
    checksum = Checksum()
    opening = to_ascii(
        {
            "format": FORMAT,
            "version": version_with(header.counts),
            "exported_at": to_text(header.exported_at),
            "agent_id": encodable(header.agent),
            "counts": dict(header.counts),
        }
    )
    yield f"{opening}\n" if form == "nl" else f"{opening[:-1]},\n"
    for section in (SECTIONS[name] for name in header.counts):
        if form == "json":
            yield f'"{section.name}": ['
        between = "\n"
        for values in rows(section):
            row = _stored_row_text(section, values)
            if len(row) > MOST_BYTES:
                _refuse_large(section, values)
            checksum.add(section, row)
            yield f'{{"{section.name}": {row}}}\n' if form == "nl" else f"{between}{row}"
            between = ",\n"
        if form == "json":
            yield "],\n" if between == "\n" else "\n],\n"
    closing = f'"sha256": "{checksum}"}}\n'
    yield f"{{{closing}" if form == "nl" else closing


def version_with(counts: Mapping[str, int]) -> int:
    """Return the version of a document that has these numbers of rows."""
    return VERSION_WITH_HOLDS if HOLDS.name in counts else VERSION


def row_text(section: DocumentSection, values: Iterable[object]) -> str:
    """Return a row as JSON on one line; the values must be encodable."""
    return to_ascii(dict(zip(section.columns, values, strict=True)))


def _stored_row_text(section: DocumentSection, values: Sequence[object]) -> str:
    """Return a stored row as JSON; the values of most rows need no encoding."""
    try:
        text = row_text(section, values)
    except (TypeError, ValueError):  # a BLOB or infinity
        text = ESCAPED_BYTE
    if ESCAPED_BYTE in text:
        text = row_text(section, map(encodable, values))
    return text


def _refuse_large(section: DocumentSection, values: Sequence[object]) -> NoReturn:
    """Raise RefusedError for a row that could not be imported."""
    columns = dict(zip(section.columns, values, strict=True))
    raise RefusedError(
        f"memory '{columns['id']}' of '{columns['agent_id']}' takes more than {MOST_BYTES >> 20}"
        " MiB as JSON, and could not be imported",
        "use `memctl backup`, or delete the memory",
    )


def refuse_document(problems: Sequence[str], hint: str = "nothing was changed") -> None:
    """Raise DocumentError if there are problems.

    The message contains as many complete problems as fit.
    """
    if problems:
        shown = list(problems[:PROBLEMS_SHOWN])
        while len(shown) > 1 and len("; ".join(shown)) > LONGEST_TEXT - len(AND_MORE):
            shown.pop()
        more = AND_MORE if len(problems) > len(shown) else ""
        raise DocumentError(f"{'; '.join(shown)}{more}", hint)
