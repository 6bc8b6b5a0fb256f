"""Rows that were erased and have come back: in a document, in the archive, or written anew.

Without tombstones, nothing is read.
"""

from collections.abc import Iterator, Mapping
from sqlite3 import Connection
from typing import Any, NamedTuple, get_args

from memctl.errors import RefusedError
from memctl.storage.sqlite.database import MemoryTable
from memctl.storage.sqlite.named_rows import NAME, name_of, stored
from memctl.storage.sqlite.sections import ACTIVE, ARCHIVED, PROMOTIONS
from memctl.storage.sqlite.times import unix_seconds
from memctl.storage.sqlite.tombstones import find_tombstones
from memctl.storage.text import from_bytes
from memctl.storage.tombstones import Tombstones

DROPPED = "CREATE TEMP TABLE IF NOT EXISTS incoming_erased (section TEXT, tombstones INTEGER)"


# The column with the time of a row that has no value.
WRITTEN = {"incoming_promotions": "promoted_at", "incoming_holds": "held_at"}


class ErasedValue(NamedTuple):
    """Values that were erased and that a program has written anew: their number, and the first."""

    total: int
    agent: str
    memory_id: str | None


def drop_erased(db: Connection) -> None:
    """Delete the staged rows that were erased, and note how many; called outside a transaction."""
    db.execute(DROPPED)
    known = _newest(db)
    db.execute("INSERT INTO temp.incoming_erased VALUES (NULL, ?)", (known,))
    tombstones = find_tombstones(db)
    if not tombstones:
        return
    for rowid in list(_erased(db, tombstones, "incoming")):
        is_archived, memory_id = db.execute(
            "DELETE FROM temp.incoming WHERE rowid = ?"
            " RETURNING archived_reason IS NOT NULL, CAST(id AS BLOB)",
            (rowid,),
        ).fetchone()
        _note(db, (ARCHIVED if is_archived else ACTIVE).name, known)
        db.execute(
            "DELETE FROM temp.incoming_holds WHERE memory_id = CAST(? AS TEXT)", (memory_id,)
        )
    for rowid in list(_erased(db, tombstones, "incoming_promotions")):
        db.execute("DELETE FROM temp.incoming_promotions WHERE rowid = ?", (rowid,))
        _note(db, PROMOTIONS.name, known)
    for rowid in list(_erased(db, tombstones, "incoming_holds", "key IS NOT NULL")):
        db.execute("DELETE FROM temp.incoming_holds WHERE rowid = ?", (rowid,))


def _note(db: Connection, section: str, tombstones: int) -> None:
    db.execute("INSERT INTO temp.incoming_erased VALUES (?, ?)", (section, tombstones))


def count_dropped(db: Connection) -> Mapping[str, int]:
    """Return how many staged rows of each section were deleted because they were erased.

    Raises RefusedError if more was erased since they were compared.
    """
    (known,) = db.execute("SELECT min(tombstones) FROM temp.incoming_erased").fetchone()
    if known != _newest(db):
        raise RefusedError(
            "memories were erased while the document was read", "import it again; nothing changed"
        )
    return dict(
        db.execute(
            "SELECT section, count(*) FROM temp.incoming_erased"
            " WHERE section IS NOT NULL GROUP BY section"
        )
    )


def erased_in_archive(db: Connection, condition: str, parameters: Mapping[str, Any]) -> list[int]:
    """Return the numbers of archived memories, of those that meet a condition, that were erased."""
    tombstones = find_tombstones(db)
    if not tombstones:
        return []
    return list(_erased(db, tombstones, "archived_memories", condition, parameters))


def find_erased_values(db: Connection) -> ErasedValue | None:
    """Return the memories that have a value that was erased; None if there are none."""
    tombstones = find_tombstones(db)
    found: list[tuple[MemoryTable, int]] = []
    for table in get_args(MemoryTable) if tombstones else ():
        query = f"SELECT rowid, {NAME} FROM {table}"
        for rowid, *columns in db.execute(query).fetchall():
            name = name_of(columns)
            if tombstones.is_known(name) and tombstones.erased_values(
                name, _value(db, table, rowid)
            ):
                found.append((table, rowid))
    if not found:
        return None
    table, rowid = found[0]
    row = db.execute(
        f"SELECT CAST(agent_id AS BLOB), CAST(id AS BLOB) FROM {table} WHERE rowid = ?", (rowid,)
    ).fetchone() or (b"", None)
    agent, memory_id = (None if part is None else from_bytes(part) for part in row)
    return ErasedValue(len(found), agent or "", memory_id)


def _erased(
    db: Connection,
    tombstones: Tombstones,
    table: str,
    condition: str = "TRUE",
    parameters: Mapping[str, Any] | None = None,
) -> Iterator[int]:
    """Yield the numbers of the rows that were erased."""
    written = WRITTEN.get(table, "created_at")
    query = f"SELECT rowid, {unix_seconds(written)}, {NAME} FROM {table} WHERE {condition}"
    for rowid, written_at, *columns in db.execute(query, parameters or {}).fetchall():
        name = name_of(columns)
        if not tombstones.is_known(name):
            continue
        value = None if table in WRITTEN else _value(db, table, rowid)
        if tombstones.is_erased(name, value, written_at=written_at):
            yield rowid


def _value(db: Connection, table: str, rowid: int) -> str | bytes | None:
    row = db.execute(
        f"SELECT typeof(value), CAST(value AS BLOB) FROM {table} WHERE rowid = ?", (rowid,)
    ).fetchone()
    return stored(*row) if row else None


def _newest(db: Connection) -> int:
    (newest,) = db.execute("SELECT ifnull(max(tombstone_id), 0) FROM memory_tombstones").fetchone()
    return int(newest)
