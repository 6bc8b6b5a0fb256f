"""The first half of an import: read a document, check all of it, and stage its rows.

The rows go into temporary tables. No lock is held and only a few rows are in memory, so reading may
take any time.
"""

import errno
import gzip
import io
import os
import reprlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

from memctl.documents.document import (
    FORMAT,
    PROBLEMS_SHOWN,
    VERSION,
    VERSION_WITH_HOLDS,
    Checksum,
    refuse_document,
    row_text,
)
from memctl.documents.json_stream import JsonStream
from memctl.documents.models import Frame, check_frame, check_rows, completed
from memctl.errors import DocumentError, MemctlError
from memctl.storage.documents import Documents
from memctl.storage.progress import Progress
from memctl.storage.sqlite.database import Connection, temporary_tables
from memctl.storage.sqlite.erased_rows import drop_erased
from memctl.storage.sqlite.redacted_again import redact_staged
from memctl.storage.sqlite.row_rules import note_invalid_rows
from memctl.storage.sqlite.sections import HOLDS, SECTIONS, DocumentSection
from memctl.storage.sqlite.staging import (
    create_staging_indexes,
    create_staging_tables,
    find_contradictions,
    has_memories,
    keep_agent,
    only_agent,
    reassign_agent,
    stage_rows,
)
from memctl.storage.store import Store
from memctl.storage.text import encodable
from memctl.storage.times import to_text

SECTION_NAMES = list(SECTIONS)  # lists: `in` also works for values that are not hashable
FRAME_NAMES = list(Frame.model_fields)
ROWS_AT_ONCE = 500
BYTES_AT_ONCE = 1 << 20


class AgentSelection(NamedTuple):
    """The agents to import, and the agent to which their memories are assigned."""

    agent: str | None = None
    all_agents: bool = False
    new_agent: str | None = None  # None: the agents stay as they are


def stage(
    store: Store,
    file: "io.BufferedReader[Any]",
    selection: AgentSelection,
    progress: Progress,
    *,
    complete_at: datetime | None = None,
    lossy_at: datetime | None = None,
) -> None:
    """Read a document, compressed with gzip or not, into the staging tables.

    The document must have a checksum and all columns, unless `complete_at` is given: omitted
    columns then get defaults, with this time as the creation time. If `lossy_at` is given, values
    that the engine cannot store are replaced, see `Documents.replace_unstorable`. Raises
    DocumentError for an invalid document and for such values, and SchemaError if the database is
    not migrated.
    """
    store.require_current()
    documents = store.documents
    db = documents.db
    with temporary_tables(db):
        create_staging_tables(db)
        progress.phase("reading")
        stream = JsonStream(decompressed(file))
        frame = _Reader(db, stream, progress, complete_at, selection).read()
        agent = cast("str | None", frame.agent_id)  # decoded by pydantic
        documents.identify(frame.sha256, frame.exported_at)
        progress.phase("checking")
        create_staging_indexes(db)
        _require_consistency(documents, agent)
        _select_agent(db, agent, selection)
        if lossy_at is not None:
            documents.replace_unstorable(now=lossy_at)
            _require_consistency(documents, None)
        _require_storable(documents, lossy=lossy_at is not None)
        note_invalid_rows(db)


class _PeekedFile(io.BufferedIOBase):
    """A file whose first two bytes were read ahead, to recognize gzip."""

    def __init__(self, file: "io.BufferedReader[Any]") -> None:
        self._file = file
        self._head = b""
        self._head = self.read(2)
        self.is_gzip = self._head == b"\x1f\x8b"

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, including those that were read ahead."""
        head, self._head = self._head, b""
        more: bytes | None = self._file.read(-1 if size is None else size - len(head))
        if more is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return head + more


def decompressed(file: "io.BufferedReader[Any]") -> io.BufferedIOBase:
    """Return a file's content, decompressed if it is gzip. Raises MemctlError if it is unreadable.

    Only the first two bytes are read at once.
    """
    try:
        content = _PeekedFile(file)
    except OSError as error:
        raise MemctlError(
            f"the document cannot be read ({error.strerror})", "check the file"
        ) from None
    return gzip.GzipFile(fileobj=content) if content.is_gzip else content


class _Reader:
    """Reads a document once, from beginning to end."""

    def __init__(
        self,
        db: Connection,
        stream: JsonStream,
        progress: Progress,
        complete_at: datetime | None,
        selection: AgentSelection,
    ) -> None:
        self._db = db
        self._stream = stream
        self._progress = progress
        self._complete_at = complete_at
        self._selection = selection
        self._checksum = Checksum()
        self._counts = dict.fromkeys(SECTIONS, 0)
        self._frame: dict[str, Any] = {}
        self._problems: list[str] = []

    def read(self) -> Frame:
        """Stage all rows and return the rest of the document.

        Raises DocumentError once 20 problems are found, else at the end.
        """
        rows: list[Any] = []
        section = SECTIONS["active"]
        size = 0
        for name, value in self._parts():
            full = len(rows) == ROWS_AT_ONCE or size > BYTES_AT_ONCE
            if rows and (full or name != section.name):
                self._stage(section, rows)
                rows, size = [], 0
            if name in SECTIONS:
                section = SECTIONS[name]
                if self._complete_at:
                    value = completed(
                        section, value, now=self._complete_at, agent=self._selection.new_agent
                    )
                rows.append(value)
                size += self._stream.length
                self._counts[name] += 1
            else:
                self._note(name, value)
        if rows:
            self._stage(section, rows)
        self._refuse(self._problems)
        return self._check_frame()

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """Yield the name and value of each member of the document; of a section, each row."""
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
                    stream.fail(f"the document has the section {name} twice")
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
                stream.fail("the document has a line that is not a row")
            yield from line.items()
            number += 1
            stream.place = f"line {number}"
        if stream.peek():
            stream.fail("the document has content after its end")

    def _rows(self, name: str) -> Iterator[Any]:
        """Yield the rows of a section; errors name the row."""
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
        """Keep a member that is not a section; refuse an unknown format at once."""
        if name not in FRAME_NAMES or name in self._frame:
            self._stream.fail(f"the document has an unknown or repeated {str(name)[:40]!r}")
        if name == "format" and value != FORMAT:
            refuse_document(["format: this is not a memctl export"])
        if name == "version" and value not in (VERSION, VERSION_WITH_HOLDS):
            refuse_document(
                [
                    f"version: this memctl reads versions {VERSION} and {VERSION_WITH_HOLDS}, not"
                    f" {reprlib.repr(value)}"
                ]
            )
        self._frame[str(name)] = value

    def _stage(self, section: DocumentSection, rows: Sequence[Any]) -> None:
        """Check rows and write them into their table; problems are collected."""
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
            stage_rows(self._db, section, checked, first=last - len(rows) + 1)
        self._progress.reach(sum(self._counts.values()), self._expected() or None)

    def _refuse(self, problems: Sequence[str]) -> None:
        """Raise DocumentError if there are problems."""
        incomplete = any(problem.endswith(": is missing") for problem in problems)
        refuse_document(
            problems,
            "use --no-checksum to import an incomplete document; nothing was changed"
            if incomplete and not self._complete_at
            else "nothing was changed",
        )

    def _expected(self) -> int:
        """Return the number of rows that the document announces; 0 if it has not done so yet."""
        counts = self._frame.get("counts")
        counts = counts.values() if isinstance(counts, dict) else ()
        return sum(count for count in counts if isinstance(count, int))

    def _check_frame(self) -> Frame:
        found = self._frame
        if self._complete_at:
            found = {
                "format": FORMAT,
                "version": VERSION_WITH_HOLDS,
                "exported_at": to_text(self._complete_at),
                "agent_id": self._only_agent(),
                "counts": self._counts,
                "sha256": str(self._checksum),
            } | found
        try:
            frame = check_frame(found)
        except ValueError as error:
            self._refuse(error.args)
        if frame.version == VERSION and self._counts[HOLDS.name]:
            refuse_document([f"version: a document with holds has version {VERSION_WITH_HOLDS}"])
        refuse_document(
            [
                f"counts: {name} is {count}, but the document has {self._counts[name]} such rows"
                for name, count in vars(frame.counts).items()
                if count != self._counts[name]
            ]
        )
        if frame.sha256 != str(self._checksum):
            refuse_document(["sha256: the rows differ from those that were exported"])
        return frame

    def _only_agent(self) -> object:
        """Return the agent of all memories, encoded as in a document; None if there are several."""
        return encodable(only_agent(self._db))


def _require_consistency(documents: Documents, agent: str | None) -> None:
    """Raise DocumentError if rows contradict each other or the agent of the document."""
    found = find_contradictions(
        documents.db, agent, ids_per_agent=documents.ids_per_agent, limit=PROBLEMS_SHOWN + 1
    )
    refuse_document([f"{one.section} row {one.row}: has {one.subject}" for one in found])


def _require_storable(documents: Documents, *, lossy: bool) -> None:
    """Raise DocumentError if the engine cannot store some values."""
    found = documents.unstorable_values(limit=PROBLEMS_SHOWN + 1)
    refuse_document(
        [f"{one.section} row {one.row}, {one.column}: {one.problem}" for one in found],
        "nothing was changed"
        if lossy
        else "use --lossy to replace such values; nothing was changed",
    )


def _remove_erased(db: Connection) -> None:
    """Remove what was erased or redacted in the database."""
    drop_erased(db)  # first, because it recognizes values that are complete
    redact_staged(db)


def _select_agent(db: Connection, agent: str | None, selection: AgentSelection) -> None:
    """Keep only the rows of the selected agent, and assign them to another agent if requested."""
    if selection.agent is None and agent is None and not selection.all_agents:
        raise DocumentError(
            "the document contains the memories of all agents", "name an agent, or use --all"
        )
    if selection.agent is not None and agent not in (None, selection.agent):
        raise DocumentError(
            f"the document contains the agent '{agent}', not '{selection.agent}'",
            "to import its memories as those of the other, use"
            f" `memctl import FILE --reassign-agent '{selection.agent}'`",
        )
    if selection.agent is not None:
        keep_agent(db, selection.agent)
    has_any = has_memories(db)
    _remove_erased(db)
    if selection.new_agent is not None:
        reassign_agent(db, selection.new_agent)
        _remove_erased(db)
    if selection.agent is not None and agent is None and not has_any:
        raise DocumentError(
            f"the document has no memory of '{selection.agent}'", "check the agent's name"
        )
