"""All rows of a table, read in portions of a few milliseconds.

A longer read transaction would hold up the checkpoints of other programs.
"""

import time
from collections.abc import Iterator
from contextlib import closing
from sqlite3 import Connection

PORTION_SECONDS = 0.02
FIRST_ROW, LAST_ROW = -(2**63), 2**63 - 1


def rows_in_portions(
    db: Connection, table: str, *, by_rowid: bool = True
) -> Iterator[tuple[bytes | None, ...]]:
    """Yield the columns of each row that are texts or BLOBs, as bytes; None for other values.

    A table without rowids is read at once.
    """
    return (columns for _, columns in numbered_rows(db, table, by_rowid=by_rowid))


def numbered_rows(
    db: Connection, table: str, columns: tuple[str, ...] = (), *, by_rowid: bool = True
) -> Iterator[tuple[int, tuple[bytes | None, ...]]]:
    """Yield the number of each row, and all its columns or these, as `rows_in_portions` does."""
    names = columns or tuple(
        str(row[1]) for row in db.execute("SELECT * FROM pragma_table_info(?)", (table,))
    )
    texts = ", ".join(_as_bytes(name) for name in names)
    if not by_rowid or "rowid" in map(str.lower, names):
        yield from (
            (0, row) for row in db.execute(f"SELECT {texts} FROM {quoted(table)}").fetchall()
        )
        return
    query = (
        f"SELECT rowid, {texts} FROM {quoted(table)} NOT INDEXED WHERE rowid >= ? ORDER BY rowid"
    )
    first: int | None = FIRST_ROW
    while first is not None:
        deadline = time.monotonic() + PORTION_SECONDS
        begin, first = first, None
        with closing(db.execute(query, (begin,))) as rows:
            for rowid, *row in rows:
                yield rowid, tuple(row)
                if time.monotonic() >= deadline and rowid < LAST_ROW:
                    first = rowid + 1
                    break


def column_names(db: Connection, table: str) -> tuple[str, ...]:
    """Return the names of the columns of a table; none if there is no such table."""
    found = db.execute("SELECT name FROM pragma_table_info(?)", (table,))
    return tuple(str(name) for (name,) in found)


def _as_bytes(column: str) -> str:
    name = quoted(column)
    return f"CASE WHEN typeof({name}) IN ('text', 'blob') THEN CAST({name} AS BLOB) END"


def quoted(name: str) -> str:
    """Return the name of a table or column as SQL."""
    return '"' + name.replace('"', '""') + '"'
