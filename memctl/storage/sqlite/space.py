"""The free pages of the file: how many there are, and how they are given back.

What is deleted leaves free pages, which SQLite uses again, and gaps within pages. A file with
`auto_vacuum` records where each page is used, so that pages at its end can take the place of free
ones, a few at a time. Any other file must be rewritten by VACUUM, which also closes the gaps.
https://www.sqlite.org/pragma.html#pragma_auto_vacuum
"""

import json
import shutil
import sqlite3
import time
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from typing import TYPE_CHECKING, NamedTuple

from memctl.errors import readable_bytes
from memctl.storage.rows import DatabaseSize
from memctl.storage.sqlite.database import data_version, temporary_directory
from memctl.storage.sqlite.times import unix_seconds
from memctl.storage.times import to_unix

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Batches

WATCH_SECONDS = 1.0
ACTIVE_SECONDS = 60  # after its last read or write of a memory, the service is assumed to go on
FRAME_OVERHEAD = 1.01  # of the pages in a write-ahead log, and of the records of their use
REWRITE_BYTES_PER_SECOND = 50_000_000  # a cautious estimate: a laptop's disk manages 200 MB


class Space(NamedTuple):
    """The pages of a database."""

    page_bytes: int
    pages: int
    free_pages: int
    in_steps: bool  # free pages can be given back without a rewrite

    @property
    def bytes(self) -> int:
        """The size of the file, after a checkpoint."""
        return self.pages * self.page_bytes

    @property
    def free_bytes(self) -> int:
        """The size of the free pages."""
        return self.free_pages * self.page_bytes

    @property
    def rewrite_seconds(self) -> float:
        """About how long a rewrite would keep other programs from writing."""
        return (self.bytes - self.free_bytes) / REWRITE_BYTES_PER_SECOND

    @property
    def rewrite_bytes(self) -> int:
        """The disk space that a rewrite needs, once for a temporary file, and once for the log."""
        return round((self.bytes - self.free_bytes) * FRAME_OVERHEAD)


def read_space(db: Connection) -> Space:
    """Return the pages of a database; takes no time."""
    names = ("page_size", "page_count", "freelist_count", "auto_vacuum")
    size, pages, free, auto_vacuum = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return Space(size, pages, free, auto_vacuum != 0)


def database_size(db: Connection, path: Path) -> DatabaseSize:
    """Return the sizes of the database and its write-ahead log, and what is free in it."""
    space = read_space(db)
    real = path.resolve()
    log = real.with_name(f"{real.name}-wal")
    return DatabaseSize(
        path=str(path),
        size_bytes=path.stat().st_size,
        wal_bytes=log.stat().st_size if log.exists() else 0,
        free_pages=space.free_pages,
        free_bytes=space.free_bytes,
    )


TREES = "SELECT name FROM sqlite_schema WHERE rootpage > 0"
GAPS = """
    SELECT iif(count(*) > 1, sum(unused), 0) FROM dbstat
    WHERE name = ? AND pagetype <> 'overflow'
"""


def read_gaps(db: Connection) -> int | None:
    """Return the unused bytes within pages; None if this SQLite cannot tell.

    A table or index of one page cannot become smaller. Reads the whole file, but one table or index
    after the other, so that no read takes long.
    """
    try:
        trees = db.execute(TREES).fetchall()
        return sum(int(db.execute(GAPS, tree).fetchone()[0]) for tree in trees)
    except sqlite3.OperationalError as error:
        if str(error) != "no such table: dbstat":
            raise
        return None


def give_back(db: Connection, batches: "Batches", pages: int) -> None:
    """Give back free pages in steps; what is done when it is interrupted stays done.

    A step is so fast that it could otherwise be over before a waiting program is noticed.
    Python ends a pragma without a result after its first page, so that each page takes a call.
    """

    def change(batch: str) -> None:
        for _ in json.loads(batch):
            db.execute("PRAGMA incremental_vacuum(1)")

    batches.apply(range(pages), change, doing="giving back free pages", shared=True)
    db.execute("PRAGMA wal_checkpoint(PASSIVE)")  # also if a reader prevented it the last time


NEWEST_USE = f"""
    SELECT max(at) FROM (
        SELECT {unix_seconds("last_accessed")} AS at FROM agent_memory NOT INDEXED
        UNION ALL
        SELECT {unix_seconds("created_at")} FROM agent_memory NOT INDEXED
    )
    WHERE at BETWEEN :now - :seconds AND :now + :seconds
"""


def recent_write(db: Connection, *, now: datetime) -> str | None:
    """Return a sign that another program writes; None if there is none.

    Any write within a second is seen, and the use of memories in the last minute. A program that
    writes only other tables, and rarely, is not.
    """
    (used,) = db.execute(NEWEST_USE, {"now": to_unix(now), "seconds": ACTIVE_SECONDS}).fetchone()
    if used is not None:
        return f"a memory was read or written {max(0, to_unix(now) - used)} s ago"
    before = data_version(db)
    time.sleep(WATCH_SECONDS)
    return "another program writes to it" if data_version(db) != before else None


def lack_of_space(db: Connection, path: Path, space: Space) -> str | None:
    """Return why the disks have too little space for a rewrite; None if they have enough."""
    directory = path.resolve().parent
    (mode,) = db.execute("PRAGMA journal_mode").fetchone()
    # In the older journal mode, the journal has the old content of the file instead.
    needs = {directory: space.rewrite_bytes if mode == "wal" else space.bytes}
    temporary = temporary_directory(directory)
    if temporary.stat().st_dev == directory.stat().st_dev:
        needs[directory] += space.rewrite_bytes
    else:
        needs[temporary] = space.rewrite_bytes
    for place, needed in needs.items():
        free = shutil.disk_usage(place).free
        if free < needed:
            return f"{readable_bytes(needed)} in {place}, where {readable_bytes(free)} are free"
    return None


def is_shortened(path: Path, space: Space) -> bool:
    """Return whether the file has its new size: readers and writers can delay that."""
    return path.stat().st_size <= space.bytes
