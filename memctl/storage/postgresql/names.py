"""Names in a database on a server, for shell completion; see `storage.names`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from memctl.storage.addresses import ServerAddress
from memctl.storage.names import BOTH, MOST_NAMES, MOST_RUNS, MOST_SECONDS
from memctl.storage.postgresql.database import Database, open_database, text
from memctl.storage.postgresql.times import our_text
from memctl.storage.sqlite.database import MemoryTable

CONNECT_SECONDS = 2  # libpq waits no less

BEGIN = f"BEGIN READ ONLY; SET LOCAL statement_timeout = {round(MOST_SECONDS * 1000)}"

RUNS = f"""
    SELECT run_id::text, job || ', ' || {our_text("started_at")} FROM memory_runs
    WHERE starts_with(run_id::text, %(start)s)
        AND (%(jobs)s::text[] IS NULL
             OR job = ANY(%(jobs)s) AND counts::jsonb ->> 'archived' IS DISTINCT FROM '0')
    ORDER BY run_id DESC LIMIT {MOST_RUNS}
"""


class PostgresNames:
    """The names in a database; its methods are documented in `storage.names.Names`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def agents_like(self, start: str) -> list[str]:
        found = {
            name
            for table in BOTH
            for (name,) in self._db.rows(_next_agents(table), {"start": text(start)})
        }
        return sorted(found)[:MOST_NAMES]

    def types_of(self, start: str, *, agent: str) -> list[str]:
        return self._texts("type", start, BOTH, agent)

    def keys_of(
        self, start: str, tables: Sequence[MemoryTable], *, agent: str, type: str | None
    ) -> list[str]:
        return self._texts("key", start, tables, agent, type)

    def ids_of(self, start: str, tables: Sequence[MemoryTable], *, agent: str) -> list[str]:
        return self._texts("id", start, tables, agent)

    def runs_like(self, start: str, *, jobs: Sequence[str] | None) -> list[tuple[str, str]]:
        return self._db.rows(RUNS, {"start": text(start), "jobs": jobs and list(jobs)})

    def _texts(
        self,
        column: Literal["type", "key", "id"],
        start: str,
        tables: Sequence[MemoryTable],
        agent: str,
        type: str | None = None,
    ) -> list[str]:
        parameters = {"start": text(start), "agent": text(agent), "type": type and text(type)}
        found = {
            name
            for table in tables
            for (name,) in self._db.rows(
                f"""
                SELECT DISTINCT {column} FROM {table}
                WHERE agent_id = %(agent)s AND (%(type)s::text IS NULL OR type = %(type)s)
                    AND {column} >= %(start)s AND starts_with({column}, %(start)s)
                ORDER BY {column} LIMIT {MOST_NAMES}
                """,
                parameters,
            )
        }
        return sorted(found)[:MOST_NAMES]


def _next_agents(table: MemoryTable) -> str:
    """Read one row per agent from the index, not one per memory."""
    return f"""
        WITH RECURSIVE found (name) AS (
            SELECT min(agent_id) FROM {table} WHERE agent_id >= %(start)s
            UNION ALL
            SELECT (SELECT min(agent_id) FROM {table} WHERE agent_id > found.name)
            FROM found WHERE starts_with(found.name, %(start)s)
        )
        SELECT name FROM found WHERE starts_with(name, %(start)s) LIMIT {MOST_NAMES}
    """


@contextmanager
def open_for_names(address: ServerAddress) -> Iterator[PostgresNames]:
    """Connect to a database, without waiting long for the server or for a query."""
    with open_database(address, connect_seconds=CONNECT_SECONDS) as db:
        db.execute(BEGIN)
        yield PostgresNames(db)
