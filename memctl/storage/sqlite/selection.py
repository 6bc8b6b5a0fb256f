"""The rows that a job acts on: one query for the preview, the search, and the check of each batch.

The search takes no lock, and rows may change before they are processed. Each batch therefore
repeats the query for its own rows, in its transaction, and acts on those that still match.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.rows import AffectedMemory
from memctl.storage.sqlite.database import MemoryTable
from memctl.storage.sqlite.holds import held_parameter, is_held


class Rows(NamedTuple):
    """Which rows of its innermost table a query reads."""

    prefix: str  # SQL between the name of the table and the query's own condition
    suffix: str = ""  # SQL after it

    def where(self, condition: str) -> str:
        """Return the WHERE clause that also applies the query's own condition."""
        return f"{self.prefix} {condition} {self.suffix}"


def rows_where(condition: str) -> Rows:
    """Return the rows that meet a condition."""
    return Rows(f"WHERE {condition} AND")


ALL_ROWS = rows_where("TRUE")

# The rows in the JSON array `:rowids`. They are looked up by number: with any other index, the
# query would also visit the rows of other batches.
BATCH_ROWS = Rows("NOT INDEXED WHERE rowid IN (SELECT value FROM json_each(:rowids)) AND")


class Selection(NamedTuple):
    """The rows of a table that a job acts on.

    `query` returns SQL for rowid, id, agent_id, type, key, and the details to show. `search_only`
    is a condition for the search alone, which no other program can change while memctl's lock is
    held. If `spared` names the table, the memories in it that are held are not selected.
    """

    query: Callable[[Rows], str]
    parameters: Mapping[str, Any]
    search_only: str = "TRUE"
    spared: MemoryTable | None = None

    def sparing_held(self, table: MemoryTable, *, now: datetime) -> "Selection":
        """Return the same selection without the memories that are held."""
        return self._replace(parameters={**self.parameters, **held_parameter(now)}, spared=table)

    def rowids(self, db: Connection) -> "array[int]":
        """Return the numbers of the rows in ascending order; takes no lock."""
        # The plus sign keeps SQLite from scanning the whole table in the order of rowids.
        search = f"SELECT rowid FROM ({self.search}) ORDER BY +rowid"
        return array("q", (row[0] for row in db.execute(search, self.parameters)))

    def memories(self, db: Connection) -> Iterator[AffectedMemory]:
        """Yield every memory that matches now."""
        return self._run(db, self.search, self.parameters)

    def still_matching(self, db: Connection, rowids: str) -> list[AffectedMemory]:
        """Return the memories in the given rows (a JSON array) that match now."""
        parameters = {**self.parameters, "rowids": rowids}
        return list(self._run(db, self._query(BATCH_ROWS), parameters))

    def held(self, db: Connection) -> Iterator[AffectedMemory]:
        """Yield every memory that is not selected because it is held."""
        if self.spared is None:
            return
        held = rows_where(self.search_only)._replace(suffix=f"AND {is_held(self.spared)}")
        yield from self._run(db, self.query(held), self.parameters)

    @property
    def search(self) -> str:
        """The query for all rows, with the condition for the search."""
        return self._query(rows_where(self.search_only))

    def _query(self, rows: Rows) -> str:
        spared = f"AND NOT {is_held(self.spared)}" if self.spared else ""
        return self.query(rows._replace(suffix=spared))

    def _run(
        self, db: Connection, query: str, parameters: Mapping[str, Any]
    ) -> Iterator[AffectedMemory]:
        rows = db.execute(query, parameters)
        names = tuple(column[0] for column in rows.description[5:])
        for row in rows:
            yield AffectedMemory._make((*row[:5], names, row[5:]))
