"""The copy of the whole database that a backup consists of: how it is made, opened and checked."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import Connection

from memctl.errors import MemctlError, NoDatabaseError
from memctl.storage.progress import NO_PROGRESS, Progress
from memctl.storage.sqlite.database import HEADER_VERSIONS, one_view, reachable
from memctl.storage.sqlite.files import Draft
from memctl.storage.sqlite.sqlite_errors import translate_errors

ROLLBACK_JOURNAL = b"\1\1"  # in the header: in WAL mode, a copy would require a write-ahead log

PAGES_AT_ONCE = 4096  # between reports of the progress


def fill_copy(db: Connection, draft: Draft, progress: Progress = NO_PROGRESS) -> None:
    """Copy the database online into an empty file, and check the copy with quick_check.

    The copy is made in one read transaction: otherwise it would start again after each write.
    Raises MemctlError if the copy is damaged, or another file replaced the draft.
    """
    with closing(sqlite3.connect(draft.path, isolation_level=None)) as copy:
        draft.require_opened()
        copy.execute("PRAGMA journal_mode = OFF")  # a copy that fails is removed, not rolled back
        progress.phase("copying", unit="pages")
        with one_view(db):
            db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()  # begins it
            db.backup(
                copy,
                pages=PAGES_AT_ONCE,
                progress=lambda _status, left, total: progress.reach(total - left, total),
            )
    os.pwrite(draft.descriptor, ROLLBACK_JOURNAL, HEADER_VERSIONS)
    progress.phase("checking the copy")
    with opened_backup(draft.path) as copy:
        require_sound(copy, "the backup of the database")


def require_sound(copy: Connection, what: str) -> None:
    """Raise MemctlError if SQLite reports a copy as damaged."""
    verdict = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise MemctlError(
            f"{what} is damaged ({verdict})",
            "the database is probably damaged, too: run `PRAGMA integrity_check` on it",
        )


@contextmanager
def opened_backup(file: Path) -> Iterator[Connection]:
    """Open a backup read-only, without creating files beside it."""
    with reachable(file):
        uri = f"{file.resolve().as_uri()}?mode=ro&immutable=1"
    try:
        with translate_errors(file), closing(sqlite3.connect(uri, uri=True)) as backup:
            yield backup
    except NoDatabaseError as error:
        raise MemctlError(error.message, "specify a backup; nothing was changed") from None
