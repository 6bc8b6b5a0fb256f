"""The first half of an import: a document is read, checked whole, and laid out beside the database.

It goes into temporary tables of the connection, which nobody else sees and which vanish with it;
no lock is held, and no more than a few rows are in memory, so it may take as long as it likes.
"""

import errno
import gzip
import io
import os
import reprlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from sqlite3 import Connection
from typing import Any, NamedTuple, cast

from memctl.documents.document import (
    ARCHIVED,
    FORMAT,
    PROBLEMS_SHOWN,
    PROMOTIONS,
    SECTIONS,
    VERSION,
    Checksum,
    DocumentSection,
    refuse_document,
    row_text,
)
from memctl.documents.json_stream import JsonStream
from memctl.documents.models import Frame, check_frame, check_rows, completed
from memctl.documents.row_rules import note_invalid_rows
from memctl.errors import DocumentError, MemctlError
from memctl.storage.sqlite.agents import agent_parameter
from memctl.storage.sqlite.database import from_bytes, temporary_tables, to_bytes, transaction
from memctl.storage.sqlite.migrations import require_current
from memctl.storage.text import encodable, is_unicode
from memctl.storage.times import to_text

SECTION_NAMES = list(SECTIONS)  # a list can be asked about whatever stands where a name should
FRAME_NAMES = list(Frame.model_fields)
ROWS_AT_ONCE = 500
BYTES_AT_ONCE = 1 << 20

# Active and archived memories in the order of the document; what is active has no
# archived_reason. `number` counts within the section.
CREATE_INCOMING = (
    f"""
    CREATE TEMP TABLE incoming AS
    SELECT {", ".join(ARCHIVED.columns)}, 0 AS number FROM archived_memories LIMIT 0
    """,
    f"""
    CREATE TEMP TABLE incoming_promotions AS
    SELECT {", ".join(PROMOTIONS.columns)}, 0 AS number FROM memory_promotions LIMIT 0
    """,
)

INDEX_INCOMING = (
    "CREATE INDEX temp.incoming_by_id ON incoming (id, archived_reason)",
    "CREATE INDEX temp.incoming_by_key ON incoming (agent_id, type, key, archived_reason)",
)

# What a document may not say, and how to say so.
CONTRADICTIONS = {
    "the id of another active row": """
        SELECT 'active', number FROM incoming AS mine
        WHERE archived_reason IS NULL AND EXISTS (
            SELECT 1 FROM incoming AS earlier
            WHERE earlier.id = mine.id AND earlier.archived_reason IS NULL
                AND earlier.rowid < mine.rowid
        )
    """,
    "agent, type and key of another active row": """
        SELECT 'active', number FROM incoming AS mine
        WHERE archived_reason IS NULL AND EXISTS (
            SELECT 1 FROM incoming AS earlier
            WHERE earlier.agent_id = mine.agent_id AND earlier.type = mine.type
                AND earlier.key = mine.key AND earlier.archived_reason IS NULL
                AND earlier.rowid < mine.rowid
        )
    """,
    "the id of an active row": """
        SELECT 'archived', number FROM incoming AS mine
        WHERE archived_reason IS NOT NULL AND EXISTS (
            SELECT 1 FROM incoming AS active
            WHERE active.id = mine.id AND active.archived_reason IS NULL
        )
    """,
    "agent, type and key of another promotion": """
        SELECT 'promotions', max(number) FROM incoming_promotions
        GROUP BY agent_id, type, key HAVING count(*) > 1
    """,
    "another agent than the document": """
        SELECT iif(archived_reason IS NULL, 'active', 'archived'), number FROM incoming
        WHERE agent_id <> CAST(:agent AS TEXT)
        UNION ALL
        SELECT 'promotions', number FROM incoming_promotions
        WHERE agent_id <> CAST(:agent AS TEXT)
    """,
}


class Wanted(NamedTuple):
    """Whose memories are to be taken from a document, and whose they shall be."""

    agent: str | None = None
    all_agents: bool = False
    new_agent: str | None = None


Progress = Callable[[int, int], object]


def stage(
    db: Connection,
    file: "io.BufferedReader[Any]",
    wanted: Wanted,
    progress: Progress,
    *,
    complete_at: datetime | None = None,
) -> None:
    """Read a document, packed by gzip or not, into the tables `incoming` and `incoming_promotions`.

    `progress` is called with how many rows of how many are read. The document must have a checksum
    and every column of its rows, unless `complete_at` gives the time at which memories are created
    whose columns it omits. Raises DocumentError for everything that is wrong with the document,
    SchemaError when the database is not ready for it.
    """
    require_current(db)
    with temporary_tables(db):
        for statement in CREATE_INCOMING:
            db.execute(statement)
        agent = _Reading(db, JsonStream(unpacked(file)), progress, complete_at, wanted).read()
        for statement in INDEX_INCOMING:
            db.execute(statement)
        _refuse_contradictions(db, agent)
        _choose_agent(db, agent, wanted)
        note_invalid_rows(db)


class _Begun(io.BufferedIOBase):
    """A file whose first two bytes have been read already, which tell whether it is gzip."""

    def __init__(self, file: "io.BufferedReader[Any]") -> None:
        self._file = file
        self._head = b""
        self._head = self.read(2)
        self.is_gzip = self._head == b"\x1f\x8b"

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, the first two among them."""
        head, self._head = self._head, b""
        more: bytes | None = self._file.read(-1 if size is None else size - len(head))
        if more is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return head + more


def unpacked(file: "io.BufferedReader[Any]") -> io.BufferedIOBase:
    """Return a file's content, whether it is compressed with gzip or not."""
    try:
        content = _Begun(file)
    except OSError as error:
        raise MemctlError(f"the document cannot be read ({error.strerror})", "check it") from None
    return gzip.GzipFile(fileobj=content) if content.is_gzip else content


class _Reading:
    """One pass over a document."""

    def __init__(
        self,
        db: Connection,
        stream: JsonStream,
        progress: Progress,
        complete_at: datetime | None,
        wanted: Wanted,
    ) -> None:
        self._db = db
        self._stream = stream
        self._progress = progress
        self._complete_at = complete_at
        self._wanted = wanted
        self._checksum = Checksum()
        self._counts = dict.fromkeys(SECTIONS, 0)
        self._frame: dict[str, Any] = {}
        self._problems: list[str] = []

    def read(self) -> str | None:
        """Take in all rows, and return the agent whose they are; None if they are of all.

        Raises DocumentError as soon as there are 20 problems, or at the end.
        """
        rows: list[Any] = []
        section = SECTIONS["active"]
        size = 0
        for name, value in self._parts():
            full = len(rows) == ROWS_AT_ONCE or size > BYTES_AT_ONCE
            if rows and (full or name != section.name):
                self._take_in(section, rows)
                rows, size = [], 0
            if name in SECTIONS:
                section = SECTIONS[name]
                if self._complete_at:
                    value = completed(
                        section, value, now=self._complete_at, agent=self._wanted.new_agent
                    )
                rows.append(value)
                size += self._stream.length
                self._counts[name] += 1
            else:
                self._note(name, value)
        if rows:
            self._take_in(section, rows)
        self._refuse(self._problems)
        return self._check_frame()

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """Yield every name and value of the document, and of a section each row."""
        stream = self._stream
        if stream.accept(b"\xef"):  # a byte order mark
            stream.expect(b"\xbb")
            stream.expect(b"\xbf")
        stream.expect(b"{")
        seen: list[str] = []
        while True:
            name = stream.value()
            stream.expect(b":")
            if name in SECTION_NAMES:
                if name in seen:
                    stream.fail(f"the document has {name} twice")
                seen.append(name)
                for row in self._rows(name):
                    yield name, row
            else:
                yield name, stream.value()
            if not stream.accept(b","):
                break
        stream.expect(b"}")
        stream.place = "line 2"
        number = 2
        while not seen and stream.peek():
            line = stream.value()
            if not isinstance(line, dict) or len(line) != 1:
                stream.fail("the document has a line that is no row of an export")
            yield from line.items()
            number += 1
            stream.place = f"line {number}"
        if stream.peek():
            stream.fail("the document goes on after its end")

    def _rows(self, name: str) -> Iterator[Any]:
        """Yield the rows of a section, with errors saying which it is."""
        stream = self._stream
        stream.expect(b"[")
        if stream.accept(b"]"):
            return
        while True:
            stream.place = f"{name} row {self._counts[name] + 1}"
            yield stream.value()
            if stream.accept(b"]"):
                return
            stream.expect(b",")

    def _note(self, name: object, value: object) -> None:
        """Keep what is no row, and end at once if this is no document we know."""
        if name not in FRAME_NAMES or name in self._frame:
            self._stream.fail(f"the document has {str(name)[:40]!r}, which no export has")
        if name == "format" and value != FORMAT:
            refuse_document(["format: this is not an export of memctl"])
        if name == "version" and value != VERSION:
            refuse_document(
                [f"version: this memctl reads version {VERSION}, not {reprlib.repr(value)}"]
            )
        self._frame[str(name)] = value

    def _take_in(self, section: DocumentSection, rows: Sequence[Any]) -> None:
        """Check rows and put them into their table; what is wrong is kept for later."""
        last = self._counts[section.name]
        try:
            checked = check_rows(section, rows, first=last - len(rows) + 1)
        except ValueError as error:
            self._problems += error.args
            if len(self._problems) >= PROBLEMS_SHOWN:
                self._refuse(self._problems)
            return
        for row in rows:
            self._checksum.add(section, row_text(section, (row[name] for name in section.columns)))
        if not self._problems:
            self._store(section, checked, first=last - len(rows) + 1)
        self._progress(sum(self._counts.values()), self._expected())

    def _refuse(self, problems: Sequence[str]) -> None:
        """Raise DocumentError if there are problems."""
        incomplete = any(problem.endswith(": is missing") for problem in problems)
        refuse_document(
            problems,
            "--no-checksum accepts a document that is not complete; nothing was changed"
            if incomplete and not self._complete_at
            else "nothing was changed",
        )

    def _store(
        self, section: DocumentSection, rows: Sequence[tuple[Any, ...]], *, first: int
    ) -> None:
        table = "incoming_promotions" if section is PROMOTIONS else "incoming"
        numbered = [(*row, number) for number, row in enumerate(rows, first)]
        width = len(section.columns) + 1
        with transaction(self._db, "BEGIN"):  # of temporary tables alone: nobody is locked out
            for odd, alike in groupby(numbered, odd_texts):
                marks = ["CAST(? AS TEXT)" if place in odd else "?" for place in range(width)]
                self._db.executemany(
                    f"INSERT INTO {table} ({', '.join(section.columns)}, number)"
                    f" VALUES ({', '.join(marks)})",
                    (_bound(row, odd) for row in alike),
                )

    def _expected(self) -> int:
        """Return how many rows the document says it has; 0 when it has not said so yet."""
        counts = self._frame.get("counts")
        counts = counts.values() if isinstance(counts, dict) else ()
        return sum(count for count in counts if isinstance(count, int))

    def _check_frame(self) -> str | None:
        found = self._frame
        if self._complete_at:
            found = {
                "format": FORMAT,
                "version": VERSION,
                "exported_at": to_text(self._complete_at),
                "agent_id": self._only_agent(),
                "counts": self._counts,
                "sha256": str(self._checksum),
            } | found
        try:
            frame = check_frame(found)
        except ValueError as error:
            self._refuse(error.args)
        refuse_document(
            [
                f"counts: {name} is {count}, but the document has {self._counts[name]} such rows"
                for name, count in vars(frame.counts).items()
                if count != self._counts[name]
            ]
        )
        if frame.sha256 != str(self._checksum):
            refuse_document(["sha256: the rows are not those that were exported"])
        return cast("str | None", frame.agent_id)  # pydantic has decoded it

    def _only_agent(self) -> object:
        """Return whose all the memories are, as in a document; None if they are of several."""
        agents = self._db.execute("SELECT DISTINCT CAST(agent_id AS BLOB) FROM incoming LIMIT 2")
        found = [from_bytes(agent) for (agent,) in agents]
        return encodable(found[0]) if len(found) == 1 else None


def odd_texts(row: Sequence[object]) -> tuple[int, ...]:
    """Return the places in a row of texts that are not valid UTF-8."""
    return tuple(
        [
            place
            for place, value in enumerate(row)
            if isinstance(value, str) and not is_unicode(value)
        ]
    )


def _bound(row: Sequence[Any], odd: Sequence[int]) -> Sequence[Any]:
    """Return what is bound for a row whose texts at these places are not valid UTF-8."""
    if not odd:
        return row
    return [to_bytes(value) if place in odd else value for place, value in enumerate(row)]


def _refuse_contradictions(db: Connection, agent: str | None) -> None:
    problems = [
        f"{section} row {number}: has {contradiction}"
        for contradiction, query in CONTRADICTIONS.items()
        for section, number in db.execute(
            f"{query} LIMIT {PROBLEMS_SHOWN + 1}", agent_parameter(agent)
        )
    ]
    refuse_document(problems)


def _choose_agent(db: Connection, agent: str | None, wanted: Wanted) -> None:
    """Leave only the rows of the agent that was asked for, and give them to another if wanted."""
    if wanted.agent is None and agent is None and not wanted.all_agents:
        raise DocumentError("the document is of all agents", "say --all, or name one of them")
    if wanted.agent is not None and agent not in (None, wanted.agent):
        raise DocumentError(
            f"the document is of the agent '{agent}', not of '{wanted.agent}'",
            f"say `memctl import FILE --reassign-agent '{wanted.agent}'` if that is meant",
        )
    for table in ("incoming", "incoming_promotions"):
        if wanted.agent is not None:
            db.execute(
                f"DELETE FROM {table} WHERE agent_id <> CAST(:agent AS TEXT)",
                agent_parameter(wanted.agent),
            )
        if wanted.new_agent is not None:
            db.execute(
                f"UPDATE {table} SET agent_id = CAST(:agent AS TEXT)",
                agent_parameter(wanted.new_agent),
            )
    left = db.execute("SELECT 1 FROM incoming LIMIT 1").fetchone()
    if wanted.agent is not None and agent is None and not left:
        raise DocumentError(f"the document has no memory of '{wanted.agent}'", "check the name")
