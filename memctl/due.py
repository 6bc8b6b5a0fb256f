"""Which rows a job acts on, said once: for the preview, for the search, and for the second look.

The search runs without a lock, so a row may change before its turn comes; every batch therefore
asks again inside its own transaction and acts on what is still due.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from sqlite3 import Connection
from typing import Any, NamedTuple

AMONG = "AND rowid IN (SELECT value FROM json_each(:rowids))"


class Affected(NamedTuple):
    """One memory that a job changed, or would change, and its row before that."""

    rowid: int
    id: str | None
    agent_id: str
    type: str
    key: str
    detail: dict[str, object]


class Tally:
    """What came of a job, memory by memory only when it was asked for."""

    def __init__(self, *, listing: bool = False) -> None:
        self.count = 0
        self.remaining = 0
        self.agents: Counter[str] = Counter()
        self.memories: list[Affected] = []
        self._listing = listing

    def add(self, memories: Iterable[Affected]) -> None:
        """Count memories that were, or would be, changed."""
        for memory in memories:
            self.count += 1
            self.agents[memory.agent_id] += 1
            if self._listing:
                self.memories.append(memory)


class Due(NamedTuple):
    """The rows of a table that a job acts on.

    `query` returns rowid, id, agent_id, type, key and details worth showing, and has `{among}`
    where its innermost WHERE may be narrowed. `search_only` narrows the first look alone: it
    holds conditions that nobody else can change while memctl's lock is held.
    """

    query: str
    parameters: Mapping[str, Any]
    search_only: str = ""

    def rowids(self, db: Connection) -> "array[int]":
        """Find the rows, in their order in the table; takes no lock and remembers only rowids."""
        search = f"SELECT rowid FROM ({self.query.format(among=self.search_only)}) ORDER BY rowid"
        return array("q", (row[0] for row in db.execute(search, self.parameters)))

    def rows(self, db: Connection) -> Iterator[Affected]:
        """Yield every memory that is due now."""
        return self._run(db, self.search_only, {})

    def still(self, db: Connection, rowids: str) -> list[Affected]:
        """Return those of the given rows (a JSON array) that are due now."""
        return list(self._run(db, AMONG, {"rowids": rowids}))

    def _run(self, db: Connection, among: str, more: dict[str, str]) -> Iterator[Affected]:
        rows = db.execute(self.query.format(among=among), {**self.parameters, **more})
        names = [column[0] for column in rows.description[5:]]
        for rowid, memory_id, agent_id, kind, key, *details in rows:
            detail = dict(zip(names, details, strict=True))
            yield Affected(rowid, memory_id, agent_id, kind, key, detail)
