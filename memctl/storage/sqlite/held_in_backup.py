"""Holds when a backup is restored: they outlive it, and what is held must be in the backup.

The memories are compared byte for byte with those in the same table of the backup, but for their
last access and promotion: a held memory is still read and promoted.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from typing import get_args

from memctl.errors import RefusedError, counted
from memctl.storage.sqlite.archive import ARCHIVED_FIELDS
from memctl.storage.sqlite.database import MemoryTable, table_exists, transaction
from memctl.storage.sqlite.features import renew_triggers
from memctl.storage.sqlite.holds import has_holds, held_parameter, in_force, is_held
from memctl.storage.sqlite.migrations import MEMORY_COLUMNS
from memctl.storage.sqlite.sections import HOLDS

# archive_id is the number of a row, which an import or a restore changes.
NOT_COMPARED = {"access_count", "last_accessed", "promoted_at", "archive_id"}
COMPARED: dict[MemoryTable, Sequence[str]] = {
    "agent_memory": [column for column in MEMORY_COLUMNS if column not in NOT_COMPARED],
    "archived_memories": [column for column in ARCHIVED_FIELDS if column not in NOT_COMPARED],
}

TARGET = ("agent_id", "memory_id", "type", "key")

DELETE_SAME = f"""
    DELETE FROM memory_holds
    WHERE {" AND ".join(f"{column} IS CAST(:{column} AS TEXT)" for column in TARGET)}
"""

ADD_HOLD = f"""
    INSERT INTO memory_holds ({", ".join(HOLDS.columns)})
    VALUES ({", ".join(f"CAST(:{column} AS TEXT)" for column in HOLDS.columns)})
"""


class KeptHolds:
    """The holds in force, as their columns in bytes."""

    def __init__(self, rows: Sequence[Sequence[bytes | None]]) -> None:
        self._rows = rows

    def __bool__(self) -> bool:
        return bool(self._rows)

    def write(self, db: Connection) -> None:
        """Add the holds to a copy of a backup; its own on the same memories end."""
        if not self._rows:
            return
        with transaction(db):
            for row in self._rows:
                hold = dict(zip(HOLDS.columns, row, strict=True))
                db.execute(DELETE_SAME, {column: hold[column] for column in TARGET})
                db.execute(ADD_HOLD, hold)
            renew_triggers(db)


def holds_to_keep(db: Connection, backup: Connection, file: Path, *, now: datetime) -> KeptHolds:
    """Return the holds that must outlive the restore of a backup.

    Raises RefusedError if the backup is of a schema without holds.
    """
    if not has_holds(db):
        return KeptHolds([])
    columns = ", ".join(f"CAST({column} AS BLOB)" for column in HOLDS.columns)
    rows = db.execute(
        f"SELECT {columns} FROM memory_holds AS hold WHERE {in_force()} ORDER BY hold_id",
        held_parameter(now),
    ).fetchall()
    if rows and not table_exists(backup, "memory_holds"):
        raise RefusedError(
            f"there are {counted(len(rows), 'hold')}, and {file} is of a schema without holds",
            "see `memctl holds`, and end them with `memctl release` first; nothing was changed",
        )
    return KeptHolds(rows)


def require_held(db: Connection, backup: Connection, file: Path, *, now: datetime) -> None:
    """Raise RefusedError if a backup lacks a memory that is held in the database."""
    if not has_holds(db):
        return
    missing = sum(_count_missing(db, backup, table, now=now) for table in get_args(MemoryTable))
    if missing:
        raise RefusedError(
            f"{counted(missing, 'memory')} that {'is' if missing == 1 else 'are'} held"
            f" {'is' if missing == 1 else 'are'} not in {file}, or not the same there",
            "export them, and end the holds with `memctl release` first; nothing was changed",
        )


def _count_missing(db: Connection, backup: Connection, table: MemoryTable, *, now: datetime) -> int:
    """Return how many held memories of a table the backup does not have unchanged."""
    held = Counter(_digests(db, table, is_held(table), held_parameter(now)))
    if held:
        held.subtract(digest for digest in _digests(backup, table, "TRUE", {}) if digest in held)
    return (+held).total()


def _digests(
    db: Connection, table: MemoryTable, condition: str, parameters: Mapping[str, str]
) -> Iterator[bytes]:
    """Yield a digest of each row that meets a condition, of the types and bytes of its columns."""
    columns = ", ".join(f"typeof({column}), CAST({column} AS BLOB)" for column in COMPARED[table])
    for row in db.execute(f"SELECT {columns} FROM {table} WHERE {condition}", parameters):
        yield hashlib.sha256(repr(row).encode()).digest()
