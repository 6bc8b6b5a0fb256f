"""The rows of memctl's tables that are about memories of given names: all versions, and events.

Tables may be missing, and the connection may return text in any form: databases of earlier schemas,
such as old backups, are read as well.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.sqlite.database import MemoryTable, table_exists
from memctl.storage.sqlite.row_portions import FIRST_ROW
from memctl.storage.text import from_bytes, stored_bytes
from memctl.storage.tombstones import Name, Stored

NAME = ", ".join(f"typeof({column}), CAST({column} AS BLOB)" for column in Name._fields)


class Version(NamedTuple):
    """One version of a memory, active or archived."""

    table: MemoryTable
    rowid: int
    id: bytes | None
    value: Stored
    metadata: bytes | None


@dataclass
class NamedRows:
    """The rows that are about one memory."""

    versions: list[Version] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    earlier: list[Version] = field(default_factory=list)  # read before, and perhaps replaced since

    @property
    def seen(self) -> list[Version]:
        """All versions that were found, also those that are gone."""
        return [*self.versions, *self.earlier]


def stored(kind: str, content: bytes | None) -> Stored:
    """Return a stored text or BLOB, given its type and its bytes."""
    return content if content is None or kind == "blob" else from_bytes(content)


def name_of(columns: Sequence[Any]) -> Name:
    """Return the name in the columns NAME."""
    return Name(*(stored(columns[at], columns[at + 1]) for at in (0, 2, 4)))


def bound(name: str, kind: str) -> str:
    """Return SQL for the parameter `:name` with the bytes of a stored text or BLOB."""
    return f":{name}" if kind == "blob" else f"CAST(:{name} AS TEXT)"


def of_name(name: Name, *columns: str) -> tuple[str, dict[str, Any]]:
    """Return the condition that a row has this name, or these columns of it; and its parameters."""
    wanted = {column: getattr(name, column) for column in columns or Name._fields}
    terms = [
        f"{column} = {bound(column, 'blob' if isinstance(value, bytes) else 'text')}"
        for column, value in wanted.items()
    ]
    return " AND ".join(terms), {column: stored_bytes(value) for column, value in wanted.items()}


NAMING_TABLES = ("agent_memory", "archived_memories", "memory_events", "memory_promotions")


def all_names(db: Connection) -> set[Name]:
    """Return the names of all memories that a database mentions, also of those that are gone."""
    return {
        name_of(columns)
        for table in NAMING_TABLES
        if table_exists(db, table)
        for columns in db.execute(
            f"SELECT DISTINCT {NAME} FROM {table} WHERE key IS NOT NULL AND agent_id IS NOT NULL"
        )
    }


class RowsByName:
    """Finds the rows of names in portions: what was found before is not read again.

    Rows of the archive and events are only added at the end by other programs, so that the rest can
    be found in a transaction in a moment.
    """

    def __init__(self, db: Connection, names: Collection[Name]) -> None:
        self.found = {name: NamedRows() for name in names}
        self._db = db
        self._last: dict[tuple[str, Stored], int] = {}  # the last row read, by table and agent
        self._tables = {
            table
            for table in ("agent_memory", "archived_memories", "memory_events")
            if table_exists(db, table)
        }
        self._ids: defaultdict[Stored, dict[bytes, Name]] = defaultdict(dict)  # by agent
        self.read(names)

    def read(self, names: Iterable[Name]) -> None:
        """Find the active rows of some names again, and the rows that were added for any."""
        for name in names:
            rows = self.found[name]
            rows.earlier += [one for one in rows.versions if one.table == "agent_memory"]
            rows.versions = [one for one in rows.versions if one.table != "agent_memory"]
            if "agent_memory" in self._tables:
                self._add_active(name)
        agents = {name.agent_id for name in names}
        if "archived_memories" in self._tables:
            for agent in agents:
                self._add_archived(agent)
        if "memory_events" in self._tables:  # after the ids of all versions are known
            for agent in agents:
                self._add_events(agent)

    @property
    def ids(self) -> set[bytes]:
        """The ids of all versions."""
        return {one for of_agent in self._ids.values() for one in of_agent}

    def note_deleted(self) -> None:
        """Allow for numbers of deleted rows of the archive to be used again."""
        if "archived_memories" in self._tables:
            newest = self._newest("archived_memories")
            for place, last in self._last.items():
                if place[0] == "archived_memories" and last > newest:
                    self._last[place] = newest

    def _newest(self, table: str) -> int:
        (newest,) = self._db.execute(f"SELECT ifnull(max(rowid), 0) FROM {table}").fetchone()
        return int(newest)

    def _add_active(self, name: Name) -> None:
        condition, parameters = of_name(name)
        for rowid in self._db.execute(
            f"SELECT rowid FROM agent_memory WHERE {condition}", parameters
        ).fetchall():
            self._add(name, "agent_memory", rowid[0])

    def _add_archived(self, agent: Stored) -> None:
        for rowid, *columns in self._added("archived_memories", "archive_id", "", agent):
            if (name := name_of(columns)) in self.found:
                self._add(name, "archived_memories", rowid)

    def _add_events(self, agent: Stored) -> None:
        ids = self._ids[agent]
        for rowid, memory_id, *columns in self._added(
            "memory_events", "event_id", "CAST(memory_id AS BLOB),", agent
        ):
            name = name_of(columns)
            named = name if name in self.found else ids.get(memory_id or b"")
            if named is not None:
                self.found[named].events.append(rowid)

    def _added(self, table: str, number: str, more: str, agent: Stored) -> list[tuple[Any, ...]]:
        """Return the rows of an agent that were added since the last call."""
        condition, parameters = of_name(Name(agent, None, None), "agent_id")
        last, newest = self._last.get((table, agent), FIRST_ROW), self._newest(table)
        self._last[table, agent] = newest
        return self._db.execute(
            f"SELECT {number}, {more} {NAME} FROM {table}"
            f" WHERE {condition} AND {number} > :last AND {number} <= :newest",
            {**parameters, "last": last, "newest": newest},
        ).fetchall()

    def _add(self, name: Name, table: MemoryTable, rowid: int) -> None:
        row = self._db.execute(
            "SELECT CAST(id AS BLOB), typeof(value), CAST(value AS BLOB), CAST(metadata AS BLOB)"
            f" FROM {table} WHERE rowid = ?",
            (rowid,),
        ).fetchone()
        if row is None:  # another program has deleted it meanwhile
            return
        memory_id, kind, value, metadata = row
        version = Version(table, rowid, memory_id, stored(kind, value), metadata)
        self.found[name].versions.append(version)
        if memory_id:
            self._ids[name.agent_id][memory_id] = name
