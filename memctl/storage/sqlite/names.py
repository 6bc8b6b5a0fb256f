"""Names in a SQLite database, for shell completion; see `storage.names`.

The database is opened so that SQLite neither creates nor writes a file. A query ends after a number
of rows or a time, with the names found until then.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Literal

from memctl.errors import NoDatabaseError
from memctl.storage.names import BOTH, MOST_NAMES, MOST_RUNS, MOST_SECONDS
from memctl.storage.sqlite.database import HEADER_VERSIONS, MemoryTable, require_file
from memctl.storage.text import from_bytes, to_bytes

STEPS_BETWEEN_CHECKS = 1000  # of the clock, in steps of SQLite's virtual machine

WAL = b"\2\2"  # in the header

RUNS = """
    SELECT CAST(run_id AS TEXT), job || ', ' || started_at
    FROM memory_runs
    WHERE substr(CAST(run_id AS TEXT), 1, length(:start)) = :start
      AND (:jobs IS NULL
           OR (job IN (SELECT value FROM json_each(:jobs))
               AND json_valid(counts) AND json_extract(counts, '$.archived') IS NOT 0))
    ORDER BY run_id DESC
    LIMIT :most
"""


@contextmanager
def open_for_names(path: Path) -> Iterator[Connection]:
    """Open the database without creating or writing a file, not even beside it.

    A database in WAL mode without a log is complete, and SQLite need not know whether another
    process has it open. With a log but without its index, which SQLite would create, no process has
    it open: the log was left by a crash. Raises NoDatabaseError if there is no database that can be
    read in this way.
    """
    require_file(path)
    path = path.resolve()
    log, index = (path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm"))
    has_log = log.exists() and log.stat().st_size > 0
    if has_log and not index.exists():
        raise NoDatabaseError(f"{path} needs recovery")
    with path.open("rb") as file:
        in_wal_mode = file.read(HEADER_VERSIONS + 2)[HEADER_VERSIONS:] == WAL
    uri = f"{path.as_uri()}?mode=ro{'&immutable=1' if in_wal_mode and not has_log else ''}"
    deadline = time.monotonic() + MOST_SECONDS
    db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0)
    try:
        db.text_factory = from_bytes
        db.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_CHECKS)
        yield db
    finally:
        db.close()


class SqliteNames:
    """The names in a database; its methods are documented in `storage.names.Names`."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    def agents_like(self, start: str) -> list[str]:
        return _from_tables(self._db, _next_agents, BOTH, _range(start))

    def types_of(self, start: str, *, agent: str) -> list[str]:
        return _from_tables(self._db, partial(_texts, "type"), BOTH, _range(start, agent=agent))

    def keys_of(
        self, start: str, tables: Sequence[MemoryTable], *, agent: str, type: str | None
    ) -> list[str]:
        parameters = _range(start, agent=agent, type=type)
        return _from_tables(self._db, partial(_texts, "key"), tables, parameters)

    def ids_of(self, start: str, tables: Sequence[MemoryTable], *, agent: str) -> list[str]:
        return _from_tables(self._db, partial(_texts, "id"), tables, _range(start, agent=agent))

    def runs_like(self, start: str, *, jobs: Sequence[str] | None) -> list[tuple[str, str]]:
        listed = None if jobs is None else json.dumps(jobs)
        return _rows(self._db, RUNS, {"start": start, "jobs": listed, "most": MOST_RUNS})


def _next_agents(table: MemoryTable) -> str:
    """Read one row per agent from the index, not one per memory."""
    return f"""
        WITH RECURSIVE found(name) AS (
            SELECT min(agent_id) FROM {table} WHERE agent_id >= CAST(:start AS TEXT)
            UNION ALL
            SELECT (SELECT min(agent_id) FROM {table} WHERE agent_id > found.name)
            FROM found
            WHERE found.name < CAST(:end AS TEXT)
        )
        SELECT name FROM found WHERE name < CAST(:end AS TEXT) LIMIT :most
    """


def _texts(column: Literal["type", "key", "id"], table: MemoryTable) -> str:
    return f"""
        SELECT DISTINCT {column} FROM {table}
        WHERE agent_id = CAST(:agent AS TEXT)
          AND (:type IS NULL OR type = CAST(:type AS TEXT))
          AND {column} >= CAST(:start AS TEXT) AND {column} < CAST(:end AS TEXT)
        LIMIT :most
    """


def _range(start: str, *, agent: str | None = None, type: str | None = None) -> dict[str, Any]:
    """Return the parameters for texts that begin with a text: UTF-8 has no byte 255."""
    content = to_bytes(start)
    return {
        "start": content,
        "end": content + b"\xff",
        "agent": None if agent is None else to_bytes(agent),
        "type": None if type is None else to_bytes(type),
        "most": MOST_NAMES,
    }


def _from_tables(
    db: Connection,
    query: Callable[[MemoryTable], str],
    tables: Sequence[MemoryTable],
    parameters: Mapping[str, Any],
) -> list[str]:
    """Return the names that a query finds in tables, sorted and each once."""
    found = {name for table in tables for (name,) in _rows(db, query(table), parameters)}
    return sorted(name for name in found if isinstance(name, str))[:MOST_NAMES]


def _rows(db: Connection, query: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return the rows that a query finds before an error, such as the end of its time."""
    rows = []
    with suppress(sqlite3.Error):
        for row in db.execute(query, parameters):
            rows.append(row)
    return rows
