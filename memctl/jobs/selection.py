"""Which rows a job acts on, said once: for the preview, for the search, and for the second look.

The search runs without a lock, so a row may change before its turn comes; every batch therefore
asks again inside its own transaction and acts on what is still due.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.config.policies import Policy

# A batch looks its rows up by number: any other index would walk past rows of other batches.
AMONG = "NOT INDEXED WHERE rowid IN (SELECT value FROM json_each(:rowids)) AND"


class Affected(NamedTuple):
    """One memory that a job changed, or would change, and its row before that."""

    rowid: int
    id: str | None
    agent_id: str
    type: str
    key: str
    detail_names: tuple[str, ...]
    details: tuple[Any, ...]


class Tally:
    """What came of a job, memory by memory only when it was asked for."""

    def __init__(self, *, listing: bool = False, policy: Policy | None = None) -> None:
        self.count = 0
        self.remaining = 0  # not reached in time
        self.changed_meanwhile = 0  # due at first, and not any more when their turn came
        self.agents: Counter[str] = Counter()
        self.memories: list[Affected] = []
        self._listing = listing
        self._policy = policy if policy and policy.overrides else None

    def add(self, memories: Iterable[Affected]) -> None:
        """Count memories that were, or would be, changed."""
        for memory in memories:
            self.count += 1
            self.agents[memory.agent_id] += 1
            if self._listing:
                self.memories.append(self._with_policy(memory))

    def _with_policy(self, memory: Affected) -> Affected:
        if self._policy is None:
            return memory
        return memory._replace(
            detail_names=(*memory.detail_names, "policy"),
            details=(*memory.details, self._policy.tables(memory.agent_id, memory.type)),
        )


class Due(NamedTuple):
    """The rows of a table that a job acts on.

    `query` returns rowid, id, agent_id, type, key and details worth showing; `{where}` stands in
    it for the WHERE of its innermost table. `search_only` are conditions for the first look alone,
    which nobody else can change while memctl's lock is held. Of a `policy` that is not the same for
    all memories, the tables that decided on each one are worth showing, too.
    """

    query: str
    parameters: Mapping[str, Any]
    search_only: str = "TRUE"
    policy: Policy | None = None

    def rowids(self, db: Connection) -> "array[int]":
        """Find the rows, in their order in the table; takes no lock and remembers only rowids."""
        # The plus sign keeps SQLite from walking the whole table just to have them in order.
        search = f"SELECT rowid FROM ({self.first_look}) ORDER BY +rowid"
        return array("q", (row[0] for row in db.execute(search, self.parameters)))

    def rows(self, db: Connection) -> Iterator[Affected]:
        """Yield every memory that is due now."""
        return self._run(db, self.first_look, self.parameters)

    def still(self, db: Connection, rowids: str) -> list[Affected]:
        """Return those of the given rows (a JSON array) that are due now."""
        query = self.query.replace("{where}", AMONG)
        return list(self._run(db, query, {**self.parameters, "rowids": rowids}))

    @property
    def first_look(self) -> str:
        """The query as it is before anybody's rows are locked."""
        return self.query.replace("{where}", f"WHERE {self.search_only} AND")

    def _run(self, db: Connection, query: str, parameters: Mapping[str, Any]) -> Iterator[Affected]:
        rows = db.execute(query, parameters)
        names = tuple(column[0] for column in rows.description[5:])
        for row in rows:
            yield Affected._make((*row[:5], names, row[5:]))
