"""The same tests on each engine: a migrated database, rows written to it, and its rows read back.

Tests that use the fixture `engine` run on both. Rows are given and returned in the form in which
SQLite stores them.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest

from memctl.storage.addresses import Address, ServerAddress
from memctl.storage.postgresql.times import new_key
from memctl.storage.times import to_text
from tests.support.database import Row, connect, memory_row
from tests.support.program import Memctl

ENGINES = ("sqlite", "postgres")

# The URL of a database on a server where the tests may create others; `.ci/postgresql` starts one.
SERVER = os.environ.get("MEMCTL_TEST_POSTGRES")
NO_SERVER = "no PostgreSQL server: set MEMCTL_TEST_POSTGRES to `.ci/postgresql start DIRECTORY`"

TABLES = (
    "agent_memory",
    "archived_memories",
    "memory_analytics",
    "memory_events",
    "memory_promotions",
    "memory_runs",
    "memory_state",
    "memory_leases",
)


class Engine(Protocol):
    """A migrated database without memories."""

    name: str
    memctl: Memctl  # pointed at it

    @property
    def address(self) -> Address:
        """The name of the database."""

    def empty(self) -> None:
        """Delete all rows."""

    def execute(self, statement: str, *values: Any) -> None:
        """Run a statement with `?` for each value, as another program does."""

    def fill(self, table: str, rows: Sequence[Row]) -> None:
        """Insert rows with the same columns as they are, in one transaction."""

    def insert(self, table: str = "agent_memory", **columns: Any) -> str:
        """Insert a row as it is, by default a usual memory with these columns; returns its id."""

    def rows(self, table: str = "agent_memory") -> list[Row]:
        """Return the rows of a table, sorted by agent and id, or else by their first column."""


class SqliteEngine:
    """A SQLite file."""

    name = "sqlite"

    def __init__(self, memctl: Memctl) -> None:
        self.memctl = memctl

    @property
    def address(self) -> Address:
        return self.memctl.database

    def execute(self, statement: str, *values: Any) -> None:
        with closing(connect(self.memctl.database)) as db:
            db.execute(statement, values)

    def empty(self) -> None:
        with closing(connect(self.memctl.database)) as db:
            for table in TABLES:
                if table != "memory_leases":
                    db.execute(f"DELETE FROM {table}")

    def fill(self, table: str, rows: Sequence[Row]) -> None:
        with closing(connect(self.memctl.database)) as db:
            db.execute("BEGIN")
            for row in rows:
                marks = ", ".join("?" for _ in row)
                statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"
                db.execute(statement, tuple(row.values()))
            db.execute("COMMIT")

    def insert(self, table: str = "agent_memory", **columns: Any) -> str:
        row = memory_row(**columns) if table == "agent_memory" else columns
        self.fill(table, [row])
        return str(row.get("id"))

    def rows(self, table: str = "agent_memory") -> list[Row]:
        with closing(connect(self.memctl.database)) as db:
            db.row_factory = sqlite3.Row
            return _sorted([dict(row) for row in db.execute(f"SELECT * FROM {table}")])


class PostgresEngine:
    """A database on a PostgreSQL server."""

    name = "postgres"

    def __init__(self, memctl: Memctl, url: str) -> None:
        self.memctl = memctl
        self.url = url

    @property
    def address(self) -> Address:
        return ServerAddress(self.url)

    def execute(self, statement: str, *values: Any) -> None:
        with psycopg.connect(self.url, options="-c timezone=UTC") as db:
            db.execute(statement.replace("?", "%s"), values)

    def empty(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as db:
            db.execute("DROP TABLE IF EXISTS knowledge_entries")
            # A tenth of the time of TRUNCATE, which makes new files for tables and indexes.
            db.execute("; ".join(f"DELETE FROM {table}" for table in TABLES))

    def fill(self, table: str, rows: Sequence[Row]) -> None:
        if not rows:
            return
        if table == "archived_memories":
            rows = [{"archive_id": new_key(), **row} for row in rows]
        marks = ", ".join(f"%({name})s" for name in rows[0])
        statement = f"INSERT INTO {table} ({', '.join(rows[0])}) VALUES ({marks})"
        with psycopg.connect(self.url, options="-c timezone=UTC") as db, db.cursor() as cursor:
            cursor.executemany(statement, rows)

    def insert(self, table: str = "agent_memory", **columns: Any) -> str:
        row = memory_row(**columns) if table == "agent_memory" else columns
        self.fill(table, [row])
        return str(row.get("id"))

    def rows(self, table: str = "agent_memory") -> list[Row]:
        from memctl.storage.postgresql import copied_tables
        from memctl.storage.postgresql.database import open_database

        copied = {
            one.name: one
            for one in vars(copied_tables).values()
            if isinstance(one, copied_tables.CopiedTable)
        }
        with open_database(ServerAddress(self.url)) as db:
            if table in copied:
                columns = tuple(name for name in copied[table].columns if name != "import_order")
                read = ", ".join(copied[table].read_as.get(name, name) for name in columns)
            else:
                columns = tuple(
                    name
                    for (name,) in db.rows(
                        "SELECT attname FROM pg_attribute WHERE attrelid = %(table)s::regclass"
                        " AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                        {"table": table},
                    )
                )
                read = "*"
            found = db.rows(f"SELECT {read} FROM {table}")
        return _sorted([dict(zip(columns, map(_as_in_sqlite, row), strict=True)) for row in found])


def values(engine: Engine, table: str, columns: str) -> list[tuple[Any, ...]]:
    """Return some columns of a table, row by row, sorted by these values."""
    names = columns.split(", ")
    return sorted((tuple(row[name] for name in names) for row in engine.rows(table)), key=repr)


def _as_in_sqlite(value: Any) -> Any:
    """Return a value as SQLite stores it."""
    if isinstance(value, datetime):
        return to_text(value)
    if isinstance(value, bool):
        return int(value)
    return value.isoformat() if isinstance(value, date) else value


def _sorted(rows: list[Row]) -> list[Row]:
    def order(row: Row) -> list[str]:
        keys = ("agent_id", "id") if {"agent_id", "id"} <= {*row} else tuple(row)[:3]
        return [str(row[key]) for key in keys]

    return sorted(rows, key=order)


@contextmanager
def server_database(name: str) -> Iterator[str]:
    """Create an empty database on the server of the tests; yields its URL."""
    if SERVER is None:
        pytest.skip(NO_SERVER)
    name = f"memctl_{name}_{os.getpid()}"
    with psycopg.connect(SERVER, autocommit=True) as db:
        db.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        db.execute(f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8'")
    try:
        yield f"{SERVER.rpartition('/')[0]}/{name}"
    finally:
        with psycopg.connect(SERVER, autocommit=True) as db:
            db.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def emptied(url: str, place: Path) -> PostgresEngine:
    """Return a migrated database on a server, after its rows are deleted."""
    engine = PostgresEngine(Memctl(place / "unused.db", url=url), url)
    engine.empty()
    return engine
