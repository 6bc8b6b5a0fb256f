"""Write rows to a database, and read everything that it holds."""

import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.program import NOW

Row = dict[str, Any]

STEPS = ["001_agent_memory", "002_memory_persistence", "003_holds_and_erasures"]
ALL_STEPS = ", ".join(STEPS)


def text_of(moment: datetime) -> str:
    """Return a time in the format of SQLite's CURRENT_TIMESTAMP."""
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def connect(path: Path) -> sqlite3.Connection:
    """Open a database without memctl."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.text_factory = lambda stored: stored.decode("utf-8", "surrogateescape")
    return connection


def insert_memory(
    db: sqlite3.Connection,
    *,
    idle_days: float = 0,
    expired_for: timedelta | None = None,
    **columns: Any,
) -> str:
    """Insert a memory that was last read `idle_days` before NOW; returns its id."""
    row = memory_row(idle_days=idle_days, expired_for=expired_for, **columns)
    names = ", ".join(row)
    marks = ", ".join("?" for _ in row)
    db.execute(f"INSERT INTO agent_memory ({names}) VALUES ({marks})", tuple(row.values()))
    return str(row["id"])


def memory_row(
    *, idle_days: float = 0, expired_for: timedelta | None = None, **columns: Any
) -> Row:
    """Return a memory that was last read `idle_days` before NOW, as the service stores it."""
    read_at = text_of(NOW - timedelta(days=idle_days))
    row: Row = {
        "id": str(uuid.uuid4()),
        "agent_id": "build_agent",
        "type": "learning",
        "key": str(uuid.uuid4()),
        "value": "cache the toolchain",
        "last_accessed": read_at,
        "created_at": read_at,
    }
    if expired_for is not None:
        row["expires_at"] = (NOW - expired_for).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return row | columns


def rows(db: sqlite3.Connection, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """Return a table, row by row in rowid order."""
    return db.execute(f"SELECT {columns} FROM {table} ORDER BY rowid").fetchall()


def everything(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that a database holds, with the SQLite type and bytes of every value."""
    with closing(connect(path)) as db:
        found = {}
        tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        for (table,) in tables.fetchall():
            columns = [row[1] for row in db.execute(f"PRAGMA table_info('{table}')")]
            exact = ", ".join(f'typeof("{name}"), CAST("{name}" AS BLOB)' for name in columns)
            found[table] = db.execute(f"SELECT {exact} FROM '{table}' ORDER BY 1, 2").fetchall()
        return found


def is_sound(db: sqlite3.Connection) -> bool:
    """Return whether SQLite finds no damage in the file."""
    return db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@contextmanager
def connected_to_copy(path: Path) -> Iterator[sqlite3.Connection]:
    """Copy a database with all that its write-ahead log holds, and connect to the copy."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for name in (path.name, f"{path.name}-wal"):
            if path.with_name(name).exists():
                shutil.copyfile(path.with_name(name), copy.with_name(name))
        with closing(connect(copy)) as db:
            yield db


def exact_rows(db: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    """Return the memories of a table in its order: the id, then type and bytes of each column."""
    numbers_of_rows_and_runs = {"archive_id", "run_id"}
    names = [name for name in column_names(db, table) if name not in numbers_of_rows_and_runs]
    if not names:
        return []
    exact = ", ".join(f"typeof({name}), CAST({name} AS BLOB)" for name in names if name != "id")
    # An import appends its run number to the ids of memories it replaces; a rerun has another one.
    without_number = "iif(instr(id, '~'), substr(id, 1, instr(id, '~')), id)"
    return db.execute(
        f"SELECT {without_number}, typeof(id), {exact} FROM {table} ORDER BY rowid"
    ).fetchall()


def column_names(db: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns of a table; none when there is no such table."""
    return [str(row[1]) for row in db.execute(f"PRAGMA table_info({table})")]


def memory_tables(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return everything in a database except the ledger, which also records failures."""
    return {table: found for table, found in everything(path).items() if table != "memory_runs"}


def names_beside(path: Path) -> list[str]:
    """Return the names of the files in the database's directory."""
    return sorted(file.name for file in path.parent.iterdir())


def archive_row(
    db: sqlite3.Connection,
    *,
    days_ago: float,
    agent: str | bytes = "build_agent",
    type_: str = "learning",
    importance: Any = 5,
) -> int:
    """Insert an archived memory and return its archive id."""
    archived_at = (NOW - timedelta(days=days_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    cursor = db.execute(
        """
        INSERT INTO archived_memories
            (id, agent_id, type, key, value, importance, archived_at, archived_reason)
        VALUES (hex(randomblob(8)), CAST(? AS TEXT), ?, 'k', 'v', ?, ?, 'expired')
        """,
        (agent, type_, importance, archived_at),
    )
    return int(cursor.lastrowid or 0)
