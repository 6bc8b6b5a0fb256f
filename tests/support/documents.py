"""Export and import as the tests use them: in this process, on files, with every odd value."""

import gzip
import io
import json
import shutil
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from memctl.documents.document import Checksum, Form
from memctl.documents.export import export
from memctl.documents.importing import ImportResult, import_staged
from memctl.documents.staging import AgentSelection, stage
from memctl.jobs.engine import JobRequest, perform
from memctl.storage.addresses import Address
from memctl.storage.engines import open_store
from memctl.storage.progress import NO_PROGRESS
from memctl.storage.sqlite.conflicts import ImportConflict
from memctl.storage.sqlite.sections import SECTIONS, DocumentSection
from tests.support.database import connect
from tests.support.program import NOW

ALL = AgentSelection(all_agents=True)
EVERYTHING = tuple(SECTIONS.values())


class Text(NamedTuple):
    """The bytes of a text, which may be invalid UTF-8."""

    content: bytes


def export_from(
    database: Address,
    *,
    agent: str | None = None,
    form: Form = "json",
    sections: Sequence[DocumentSection] = EVERYTHING,
    now: datetime = NOW,
) -> bytes:
    """Return the document of an agent, or of all."""
    with open_store(database, read_only=True) as store:
        parts = export(
            store, agent=agent, sections=sections, form=form, now=now, progress=NO_PROGRESS
        )
        return "".join(parts).encode("ascii")


def import_into(
    database: Address,
    document: bytes,
    *,
    selection: AgentSelection = ALL,
    on_conflict: ImportConflict = "skip",
    allow_invalid: bool = True,
    dry_run: bool = False,
    no_checksum: bool = False,
    atomic: bool = False,
    lossy: bool = False,
) -> ImportResult:
    """Import a document, including expired memories and unknown types."""
    file = io.BufferedReader(io.BytesIO(document))
    report = perform(
        "import",
        lambda run: import_staged(
            run, on_conflict=on_conflict, allow_invalid=allow_invalid, atomic=atomic
        ),
        JobRequest(database, NOW, dry_run=dry_run),
        by_hand=True,
        prepare=lambda store: stage(
            store,
            file,
            selection,
            NO_PROGRESS,
            complete_at=NOW if no_checksum else None,
            lossy_at=NOW if lossy else None,
        ),
    )
    assert report.result is not None
    return report.result


def copy_of(template: Path, folder: Path, name: str) -> Path:
    """Return a fresh copy of a database that no program has open."""
    target = folder / name
    for left in folder.glob(f"{name}*"):
        left.unlink()
    shutil.copyfile(template, target)
    return target


def put(database: Path, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, except those that would violate a UNIQUE constraint."""
    with closing(connect(database)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        for row in rows:
            marks = ["CAST(? AS TEXT)" if isinstance(v, Text) else "?" for v in row.values()]
            db.execute(
                f"INSERT OR IGNORE INTO {table} ({', '.join(row)}) VALUES ({', '.join(marks)})",
                [value.content if isinstance(value, Text) else value for value in row.values()],
            )
        db.execute("COMMIT")


def stored_rows(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the memories and promotions in their order, every value with its type and bytes."""
    with closing(connect(database)) as db:
        return {
            section.name: db.execute(
                f"SELECT {', '.join(f'typeof({c}), CAST({c} AS BLOB)' for c in section.columns)}"
                f" FROM {section.table} ORDER BY {section.order}"
            ).fetchall()
            for section in SECTIONS.values()
        }


def without_time(document: bytes) -> bytes:
    """Return a document without its creation time."""
    head, _, rest = document.partition(b"\n")
    start = head.index(b'"exported_at": "')
    end = head.index(b",", start)
    return head[:start] + head[end:] + rest


def packed(document: bytes) -> bytes:
    """Return a document as gzip packs it."""
    return gzip.compress(document, mtime=0)


def signed(document: dict[str, Any]) -> bytes:
    """Return a document with the counts and the checksum of its rows, whatever these are."""
    checksum = Checksum()
    for name, section in SECTIONS.items():
        if name not in document:  # a document without holds
            continue
        document["counts"][name] = len(document[name])
        for row in document[name]:
            checksum.add(section, json.dumps({c: row[c] for c in section.columns if c in row}))
    return json.dumps({**document, "sha256": str(checksum)}).encode()


def memory(**columns: Any) -> dict[str, Any]:
    """Return a memory with these columns."""
    return {
        "id": "m-1",
        "agent_id": "a",
        "type": "learning",
        "key": "k",
        "value": "v",
        "created_at": "2026-11-01 00:00:00",
        **columns,
    }
