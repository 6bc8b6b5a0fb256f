"""Overwrite what deleted rows have left in the file of a database.

With `secure_delete`, SQLite overwrites what the connection deletes. Copies that other connections
have left remain: in free pages, and in the unused part of pages with other rows. VACUUM removes all
of them, because it writes the whole file anew. It keeps other programs from writing meanwhile. To
avoid it, free pages are filled with zeros in short steps; then it is run only if a search of the
file finds something that is in no row.
"""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from sqlite3 import Connection
from typing import TYPE_CHECKING

from memctl.storage.erasure import Overwritten
from memctl.storage.fragments import Fragment, Fragments, missing_in
from memctl.storage.sqlite.checks import truncate_log
from memctl.storage.sqlite.database import data_version, table_exists, transaction
from memctl.storage.sqlite.raw_files import RawFiles, files_of
from memctl.storage.sqlite.row_portions import rows_in_portions
from memctl.storage.sqlite.vacuum import vacuum

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Batches

FILLER = "memctl_overwriting"
PAGES_AT_ONCE = 8  # in one row of zeros
CHECKPOINT_WAIT_MS = 20  # other writers wait as long
RETRY_SECONDS = 0.05

LARGE_FILE_BYTES = 200_000_000  # VACUUM takes about 13 ms per megabyte; the service waits for 5 s
WRITER_SECONDS = 0.5  # in which a program that is at work writes


def delete_securely(db: Connection) -> None:
    """Let SQLite overwrite everything that this connection deletes from now on."""
    db.execute("PRAGMA secure_delete = ON").fetchone()


def overwrite(
    db: Connection,
    database: Path,
    texts: Fragments,
    files: RawFiles,
    batches: "Batches",
    *,
    always_vacuum: bool,
    wait: float,
    force: bool = False,
    more_files: Iterable[Path] = (),
) -> Overwritten:
    """Overwrite what is left of texts, and search the files of the database for them.

    With `always_vacuum`, the file is written anew even if the search would find nothing: it also
    has parts of texts that are not known, such as versions that a client has overwritten. `wait` is
    how many seconds the readers of the write-ahead log have to end. `force` runs VACUUM on a large
    file although another program writes. `more_files` are searched as well.
    """
    done = Overwritten()
    version = data_version(db)
    searched = [*files_of(database), *more_files]
    done.log_truncated = empty_log(db, done, wait=wait)
    if not done.log_truncated:  # it still has what was erased
        return done
    if always_vacuum:
        done.would_stall = not force and _would_stall(db, database, version)
    if not always_vacuum or done.would_stall:
        done.overwritten_pages = fill_free_pages(db, batches)
        done.log_truncated = empty_log(db, done, wait=wait)
        if not done.log_truncated:
            return done
        _search(db, searched, texts, files, done)
        done.before.update(done.remains)
        if done.remains and not done.would_stall:
            done.would_stall = not force and _would_stall(db, database, version)
    if (always_vacuum or done.remains) and not done.would_stall:
        db.execute(f"DROP TABLE IF EXISTS {FILLER}")
        version = data_version(db)
        done.vacuum_ms = vacuum(db)
        done.log_truncated = empty_log(db, done, wait=wait)
        _search(db, searched, texts, files, done, exactly=True)
        # VACUUM has copied nothing but rows: another program has written the rest since.
        if done.log_truncated and data_version(db) != version:
            done.written_since, done.remains = done.remains, Counter()
    return done


def _would_stall(db: Connection, database: Path, version: int) -> bool:
    """Return whether VACUUM would stop another program, which writes, for long.

    It has written if the database is no longer of that version.
    """
    if database.stat().st_size < LARGE_FILE_BYTES:
        return False
    time.sleep(WRITER_SECONDS)
    return data_version(db) != version


def empty_log(db: Connection, done: Overwritten, *, wait: float) -> bool:
    """Empty the write-ahead log; return False if readers prevent it for `wait` seconds."""
    deadline = time.monotonic() + wait
    while True:
        truncated = truncate_log(db, wait_ms=CHECKPOINT_WAIT_MS)
        done.longest_lock_ms = max(done.longest_lock_ms, truncated.held_ms)
        if truncated.is_complete or time.monotonic() >= deadline:
            return truncated.is_complete
        time.sleep(RETRY_SECONDS)


def fill_free_pages(db: Connection, batches: "Batches") -> int:
    """Overwrite the free pages with zeros, in short steps, and return how many there were.

    They are taken for rows of zeros, which are then deleted. What an interrupted call has left is
    deleted, too.
    """
    free = _free_pages(db)
    if not free and not table_exists(db, FILLER):
        return 0
    with transaction(db):
        db.execute(f"CREATE TABLE IF NOT EXISTS {FILLER} (zeros BLOB)")
    (page_bytes,) = db.execute("PRAGMA page_size").fetchone()

    def fill(rows: str) -> None:
        for _ in json.loads(rows):
            pages = min(_free_pages(db), PAGES_AT_ONCE)
            if pages:  # a row with one page of zeros fits in that page and its chain
                db.execute(f"INSERT INTO {FILLER} VALUES (zeroblob(?))", (pages * page_bytes,))

    def empty(rows: str) -> None:
        db.execute(f"DELETE FROM {FILLER} WHERE rowid IN (SELECT value FROM json_each(?))", (rows,))

    batches.apply(range(-(-free // PAGES_AT_ONCE)), fill, doing="overwriting free pages")
    # Zeros need not be overwritten.
    db.execute("PRAGMA secure_delete = OFF").fetchone()
    try:
        filled = [rowid for (rowid,) in db.execute(f"SELECT rowid FROM {FILLER}")]
        batches.apply(filled, empty, doing="freeing pages")
        with transaction(db):
            db.execute(f"DROP TABLE {FILLER}")
    finally:
        delete_securely(db)
    return free


def _free_pages(db: Connection) -> int:
    return int(db.execute("PRAGMA freelist_count").fetchone()[0])


def _search(
    db: Connection,
    searched: Iterable[Path],
    texts: Fragments,
    files: RawFiles,
    done: Overwritten,
    *,
    exactly: bool = False,
) -> None:
    """Search files, and the rows of the database for what the files contain.

    Of texts that are alike, another part can be found in the row than in the file, and then counts
    as a remainder, unless rows are searched `exactly`, which is slow if there are remainders.
    """
    found = [result for file in searched if (result := files.search(file, texts))]
    done.files = [result.file for result in found]
    done.bytes_checked = sum(result.size for result in found)
    in_files = {fragment for result in found for fragment in result.found}
    rows, done.rows = rows_with(db, texts, in_files)
    left = {
        result.file.name: {texts.bytes_of(part) for part in result.found if not rows.contain(part)}
        for result in found
    }
    missing: set[bytes] = set().union(*left.values())
    if exactly and missing:
        missing = missing_in(missing, (b"".join(filter(None, row)) for _, row in _all_rows(db)))
    counts = {name: len(parts & missing) for name, parts in left.items()}
    done.remains = +Counter(counts)


class Parts:
    """Parts of texts that were found."""

    def __init__(self) -> None:
        self._by_text: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)

    def add(self, parts: Iterable[Fragment]) -> None:
        """Add parts."""
        for text, start, end in parts:
            self._by_text[text].add((start, end))

    def contain(self, part: Fragment) -> bool:
        """Return whether a part is one of these, or within one."""
        return any(
            start <= part.start and part.end <= end for start, end in self._by_text[part.text]
        )


def rows_with(
    db: Connection, texts: Fragments, wanted: Set[Fragment]
) -> tuple[Parts, Counter[str]]:
    """Return the parts of texts that rows of any table contain, and the number of rows by table.

    Only rows with a text of the `wanted` parts are counted; without any, nothing is read.
    """
    found = Parts()
    counts: Counter[str] = Counter()
    numbers = {part.text for part in wanted}
    for table, row in _all_rows(db) if wanted else ():
        parts = texts.of(b"".join(value for value in row if value))
        found.add(parts)
        counts[table] += any(part.text in numbers for part in parts)
    return found, +counts


def _all_rows(db: Connection) -> Iterator[tuple[str, tuple[bytes | None, ...]]]:
    """Yield the texts and BLOBs of all rows, in the order of their columns."""
    tables = db.execute(
        "SELECT name, wr FROM pragma_table_list"
        " WHERE schema = 'main' AND type IN ('table', 'shadow')"
    ).fetchall()
    for table, without_rowid in tables:
        yield from ((table, row) for row in rows_in_portions(db, table, by_rowid=not without_rowid))
