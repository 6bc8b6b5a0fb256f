"""A private SQLite database with copies of rows from the server, on which SQLite's rules run.

Where a rule is intricate (decay, promotion, restore, import), it is written once, in SQL of SQLite.
The rows that it concerns are copied, the rule is applied to the copies, and what it has changed is
written to the server. The results of both engines therefore agree to the last digit.

In a batch, the rows of the server are locked and copied again first: the rule sees them as they are
now, and no other program changes them before the result is written.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import psycopg

from memctl.storage.migrations import folder
from memctl.storage.postgresql.arrays import delete_rows, insert_rows
from memctl.storage.postgresql.batches import Batch
from memctl.storage.postgresql.copied_tables import (
    ACTIVE,
    ARCHIVED,
    EVENTS,
    KNOWLEDGE,
    PROMOTIONS,
    STATE,
    CopiedTable,
)
from memctl.storage.postgresql.database import Database
from memctl.storage.postgresql.migrations import require_columns
from memctl.storage.postgresql.times import new_key
from memctl.storage.sqlite.database import transaction
from memctl.storage.sqlite.knowledge import CREATE_KNOWLEDGE_BASE
from memctl.storage.text import from_bytes

# As on the server, an id is unique for each agent only.
TABLES = """
    CREATE TABLE agent_memory (
        id            TEXT NOT NULL,
        agent_id      TEXT NOT NULL,
        type          TEXT NOT NULL,
        key           TEXT NOT NULL,
        value         TEXT NOT NULL,
        metadata      TEXT,
        importance    INTEGER,
        access_count  INTEGER,
        last_accessed TEXT,
        created_at    TEXT,
        expires_at    TEXT,
        import_order  INTEGER,
        UNIQUE (id, agent_id),
        UNIQUE (agent_id, type, key)
    );
"""

# The server's keys of archived memories; and the keys of the rows that were changed.
RECORDS = """
    CREATE TEMP TABLE archive_keys (archive_id INTEGER PRIMARY KEY, key TEXT UNIQUE);
    CREATE TEMP TABLE recording (is_on);
    INSERT INTO recording VALUES (FALSE);
    CREATE TEMP TABLE changed_rows
        (name, key1, key2, key3, is_new, UNIQUE (name, key1, key2, key3));
"""

COPIED = (ACTIVE, ARCHIVED, PROMOTIONS, KNOWLEDGE, STATE)
# Which keys a change records, and whether there was no such row before it.
CHANGES = {
    "INSERT": {"new": True},
    "UPDATE": {"old": False, "new": True},
    "DELETE": {"old": False},
}


def _keys(table: CopiedTable, row: str) -> str:
    """Return SQL for the key of a row, in three columns."""
    return ", ".join([*(f"{row}.{column}" for column in table.key), "''", "''"][:3])


def _connect() -> sqlite3.Connection:
    """Return a new private database, which SQLite keeps in memory, or in a file if it is large.

    https://www.sqlite.org/inmemorydb.html#temp_db
    """
    db = sqlite3.connect("", isolation_level=None)
    db.text_factory = from_bytes
    db.execute("PRAGMA journal_mode = MEMORY")
    db.executescript(TABLES)
    for name in ("002_memory_persistence", "003_holds_and_erasures"):
        db.executescript((folder() / f"{name}.sql").read_text(encoding="utf-8"))
    db.execute(CREATE_KNOWLEDGE_BASE)
    db.executescript(RECORDS)
    for table in COPIED:
        for change, rows in CHANGES.items():
            notes = " ".join(
                "INSERT OR IGNORE INTO changed_rows"
                f" VALUES ('{table.name}', {_keys(table, row)}, {is_new});"
                for row, is_new in rows.items()
            )
            db.execute(
                f"CREATE TEMP TRIGGER {table.name}_{change} AFTER {change} ON main.{table.name}"
                f" WHEN (SELECT is_on FROM recording) BEGIN {notes} END"
            )
    return db


class WorkingCopy:
    """Copies of rows of one database, and the changes that were made to them in a batch."""

    def __init__(self, source: Database) -> None:
        self.db = _connect()
        self._source = source

    def copy(
        self,
        table: CopiedTable,
        condition: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        without: Collection[str] = (),
        locked: bool = False,
    ) -> None:
        """Add copies of the rows that meet a condition, or renew them.

        Columns in `without` are copied as ''. If `locked`, the rows are locked, which must be in a
        transaction.
        """
        locking = "FOR UPDATE" if locked else ""
        self._add(table, self._read(table, condition, parameters, without=without, locking=locking))

    def clear(self) -> None:
        """Delete all copies."""
        for table in COPIED:
            self.db.execute(f"DELETE FROM {table.name}")
        self.db.execute("DELETE FROM archive_keys")

    def lock(self, table: CopiedTable, agent: str, keys: Sequence[str]) -> None:
        """Lock rows of an agent, and renew their copies; those that no longer exist are deleted.

        `keys` are ids of active memories, or the server's keys of archived ones. A copy keeps its
        rowid. Must be called in a transaction.
        """
        if not keys:
            return
        column = table.key[-1]
        rows = self._read(
            table,
            f"agent_id = %(agent)s AND {column} = ANY(%(keys)s::{table.type_of(column)}[])",
            {"agent": agent, "keys": list(keys)},
            locking="FOR UPDATE",
        )
        place = -1 if table is ARCHIVED else table.columns.index(column)
        gone = set(keys) - {row[place] for row in rows}
        self.db.execute(f"DELETE FROM {table.name} WHERE {_of_keys(table)}", _listed(agent, gone))
        self._add(table, rows)

    def lock_entries(self, ids: Collection[str]) -> None:
        """Lock entries of the knowledge base, and renew their copies, as `lock` does for memories.

        May be called in `changes`: entries that the block has changed or added before stay as they
        are.
        """
        changed = "SELECT key1 FROM changed_rows WHERE name = 'knowledge_entries'"
        others = set(ids) - {entry_id for (entry_id,) in self.db.execute(changed)}
        if not others:
            return
        rows = self._read(
            KNOWLEDGE, "id = ANY(%(ids)s)", {"ids": sorted(others)}, locking="FOR UPDATE"
        )
        (recording,) = self.db.execute("SELECT is_on FROM recording").fetchone()
        self.db.execute("UPDATE recording SET is_on = FALSE")
        gone = json.dumps([*(others - {row[0] for row in rows})])
        self.db.execute(
            "DELETE FROM knowledge_entries WHERE id IN (SELECT value FROM json_each(?))", (gone,)
        )
        self._add(KNOWLEDGE, rows)
        self.db.execute("UPDATE recording SET is_on = ?", (recording,))

    def rowids(self, table: CopiedTable, agent: str, keys: Collection[str]) -> str:
        """Return the rows of the copies with these keys, as for `lock`, as a JSON array."""
        found = self.db.execute(
            f"SELECT rowid FROM {table.name} WHERE {_of_keys(table)}", _listed(agent, keys)
        )
        return json.dumps([row for (row,) in found])

    def key_of(self, archive_id: int) -> str:
        """Return the server's key of an archived memory; a new one if it is not there yet."""
        self.db.execute("INSERT OR IGNORE INTO archive_keys VALUES (?, ?)", (archive_id, new_key()))
        (key,) = self.db.execute(
            "SELECT key FROM archive_keys WHERE archive_id = ?", (archive_id,)
        ).fetchone()
        return str(key)

    def number_of(self, key: str) -> int | None:
        """Return the number of the copy of an archived memory; None if there is no copy."""
        found = self.db.execute("SELECT archive_id FROM archive_keys WHERE key = ?", (key,))
        row = found.fetchone()
        return None if row is None else int(row[0])

    @contextmanager
    def changes(self, batch: Batch) -> Iterator[None]:
        """Let the block change copies of memories of the agent of the batch, and their events.

        What it has changed is then written to the server. Must be in a transaction of the server,
        whose end the block cannot see: if it fails, the copies of its rows are wrong until they are
        locked again. The transaction is to be repeated if a client has just written a memory that
        was new in the copy.
        """
        with transaction(self.db):
            self.db.execute("DELETE FROM changed_rows")
            self.db.execute("DELETE FROM memory_events")
            self.db.execute("UPDATE recording SET is_on = TRUE")
            yield
            self.db.execute("UPDATE recording SET is_on = FALSE")
            try:
                self._write(batch)
            except psycopg.errors.UniqueViolation as error:  # a client has written the same memory
                raise psycopg.errors.SerializationFailure(str(error)) from error

    def _read(
        self,
        table: CopiedTable,
        condition: str,
        parameters: Mapping[str, Any] | None,
        *,
        without: Collection[str] = (),
        locking: str = "",
    ) -> list[Sequence[Any]]:
        """Return rows of the server; those of the archive end with their key."""
        columns = [
            "''" if name in without else table.read_as.get(name, name) for name in table.columns
        ]
        if table is ARCHIVED:
            columns.append("archive_id::text")
        order = ", ".join(f"{table.name}.{column}" for column in table.key)
        return self._source.rows(
            f"SELECT {', '.join(columns)} FROM {table.name} WHERE {condition}"
            f" ORDER BY {order} {locking}",
            parameters,
        )

    def _add(self, table: CopiedTable, rows: Sequence[Sequence[Any]]) -> None:
        """Add copies of rows, or renew them."""
        columns = list(table.columns)
        values = ["?" for _ in columns]
        key = table.key
        if table is ARCHIVED:
            columns.append("archive_id")
            values.append("(SELECT archive_id FROM archive_keys WHERE key = ?)")
            key = ("archive_id",)
        renewed = ", ".join(f"{column} = excluded.{column}" for column in columns)
        with nullcontext() if self.db.in_transaction else transaction(self.db):
            if table is ACTIVE:  # another memory may have had its type and key before
                self.db.executemany(
                    "DELETE FROM agent_memory"
                    " WHERE agent_id = ? AND type = ? AND key = ? AND id <> ?",
                    ((row[1], row[2], row[3], row[0]) for row in rows),
                )
            elif table is ARCHIVED:
                self.db.executemany(
                    "INSERT OR IGNORE INTO archive_keys (key) VALUES (?)",
                    ((row[-1],) for row in rows),
                )
            self.db.executemany(
                f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join(values)})"
                f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {renewed}",
                rows,
            )

    def _write(self, batch: Batch) -> None:
        """Write the changed rows and the events to the server."""
        with self._source.connection.pipeline():
            for table in COPIED:
                agent = batch.agent if "agent_id" in table.key else None
                delete_rows(self._source, table, self._deleted(table), agent=agent)
            for table in COPIED:
                insert_rows(self._source, table, *self._written(table), replacing=True)
            # A new memory must not take the place of one that a client has just written.
            new = self._written(ACTIVE, is_new=True)
            insert_rows(self._source, ACTIVE, *new, replacing=False)
            events = self._events(batch)
            insert_rows(self._source, EVENTS, EVENTS.columns, events, replacing=False)
        require_columns(self._source)  # it may have archived memories

    def _deleted(self, table: CopiedTable) -> list[Sequence[Any]]:
        """Return the server's keys of the rows whose copies were deleted."""
        found = self.db.execute(
            f"SELECT key1, key2, key3 FROM changed_rows AS changed WHERE name = '{table.name}'"
            f" AND NOT EXISTS (SELECT 1 FROM {table.name} AS row WHERE {_is_changed(table)})"
        )
        keys = [row[: len(table.key)] for row in found.fetchall()]
        if table is ARCHIVED:
            return [(agent, self.key_of(archive_id)) for agent, archive_id in keys]
        return keys

    def _written(
        self, table: CopiedTable, *, is_new: bool = False
    ) -> tuple[Sequence[str], list[Sequence[Any]]]:
        """Return the columns of a table, and the rows whose copies were changed or are new.

        Memories are either: those that were changed, or those that are new.
        """
        columns = ", ".join(f"row.{column}" for column in table.columns)
        rows = self.db.execute(
            f"SELECT key2, {columns} FROM changed_rows AS changed"
            f" JOIN {table.name} AS row ON {_is_changed(table)}"
            f" WHERE name = '{table.name}' AND (is_new = :is_new OR name <> 'agent_memory')",
            {"is_new": is_new},
        ).fetchall()
        if table is ARCHIVED:
            return (*table.columns, "archive_id"), [
                (*row, self.key_of(archive_id)) for archive_id, *row in rows
            ]
        return table.columns, [row[1:] for row in rows]

    def _events(self, batch: Batch) -> list[Sequence[Any]]:
        """Return the events of the block with keys and numbers, in order."""
        events = self.db.execute(
            "SELECT at, event, memory_id, ifnull(agent_id, ''), type, key, run_id, detail"
            " FROM memory_events ORDER BY event_id"
        ).fetchall()
        numbers = batch.event_numbers(len(events))
        return [(new_key(), number, *event) for number, event in zip(numbers, events, strict=True)]


def _is_changed(table: CopiedTable) -> str:
    """Return SQL that is true if the row `row` is the one that `changed` names."""
    return " AND ".join(
        f"row.{column} = changed.key{number}" for number, column in enumerate(table.key, 1)
    )


def _of_keys(table: CopiedTable) -> str:
    """Return SQL that is true for the copies of an agent's rows with keys in a JSON array."""
    listed = "SELECT value FROM json_each(:keys)"
    if table is ARCHIVED:
        listed = f"SELECT archive_id FROM archive_keys WHERE key IN ({listed})"
    return f"agent_id = :agent AND {table.key[-1]} IN ({listed})"


def _listed(agent: str, keys: Collection[str]) -> dict[str, str]:
    """Return the parameters of `_of_keys`."""
    return {"agent": agent, "keys": json.dumps(list(keys))}
