"""The table of the knowledge base, which belongs to another product; memctl adds entries to it.

If the table does not exist, memctl creates it as its owner would. A table of the same name with
other columns is refused. An entry that no longer holds is superseded by a newer one, never deleted.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import datetime
from sqlite3 import Connection
from typing import Any

from memctl.errors import RefusedError
from memctl.storage.knowledge import EntryChange, KnowledgeEntry, KnownEntry
from memctl.storage.sqlite.events import record_events
from memctl.storage.sqlite.triggers import require_equal_counts
from memctl.storage.text import from_bytes, to_bytes
from memctl.storage.times import to_sqlite_text, to_text, unix_seconds

COLUMNS = {
    "id",
    "type",
    "content",
    "file_patterns",
    "action_types",
    "tags",
    "confidence",
    "occurrences",
    "source_execution_id",
    "source_task_id",
    "source_agent_id",
    "created_at",
    "updated_at",
    "last_used_at",
    "superseded_by",
}

MOST_CONFIDENCE = 0.95
LEAST_CONFIDENCE = 0.1
LOSS_WHEN_SUPERSEDED = 0.2

# Without indexes: the owner creates them under names of its own and fails if they already exist.
CREATE_KNOWLEDGE_BASE = """
    CREATE TABLE knowledge_entries (
        id                  TEXT PRIMARY KEY,
        type                TEXT NOT NULL CHECK (type IN ('gotcha', 'pattern', 'decision')),
        content             TEXT NOT NULL,
        file_patterns       TEXT,  -- this and the next two: JSON arrays, or NULL for none
        action_types        TEXT,
        tags                TEXT,
        confidence          REAL NOT NULL DEFAULT 0.5 CHECK (confidence >= 0 AND confidence <= 1),
        occurrences         INTEGER DEFAULT 1,
        source_execution_id TEXT,
        source_task_id      TEXT,
        source_agent_id     TEXT NOT NULL,
        created_at          TEXT DEFAULT (datetime('now')),
        updated_at          TEXT DEFAULT (datetime('now')),
        last_used_at        TEXT,
        superseded_by       TEXT REFERENCES knowledge_entries (id)  -- NULL: it still holds
    )
"""

FIND_TABLE = """
    SELECT named.type, listed.wr
    FROM sqlite_schema AS named LEFT JOIN pragma_table_list AS listed
        ON listed.schema = 'main' AND listed.name = named.name
    WHERE named.name = 'knowledge_entries' COLLATE NOCASE AND named.type <> 'trigger'
"""


def has_knowledge_base(db: Connection) -> bool:
    """Return whether the database has a knowledge base.

    Raises RefusedError if its name belongs to something else.
    """
    found = db.execute(FIND_TABLE).fetchone()
    if found is None:
        return False
    columns = {row[1]: row[5] for row in db.execute("PRAGMA table_xinfo(knowledge_entries)")}
    keys = [name for name, place in columns.items() if place]
    if found != ("table", 0) or set(columns) != COLUMNS or keys != ["id"]:
        raise RefusedError(
            "knowledge_entries does not have the expected definition: "
            + _difference(found[0], columns),
            "it belongs to another product, and promote cannot use it; nothing was changed",
        )
    return True


def _difference(kind: str, columns: Mapping[str, int]) -> str:
    if kind != "table":
        return f"it is {'an' if kind == 'index' else 'a'} {kind}"
    for column in sorted(COLUMNS.symmetric_difference(columns)):
        return f"it {'lacks' if column in COLUMNS else 'has'} the column {column}"
    return "it has no rowid, or its primary key is not id"


KNOWN_ENTRIES = f"""
    SELECT rowid, type, CAST(source_agent_id AS BLOB), CAST(content AS BLOB),
        superseded_by IS NULL AS holds
    FROM knowledge_entries
    WHERE typeof(id) = 'text'
    ORDER BY holds DESC, {unix_seconds("created_at")} NULLS LAST, rowid
"""


def known_entries(db: Connection) -> Iterator[KnownEntry]:
    """Yield the entries that hold, oldest first, then the others; reads all before the first."""
    for number, entry_type, agent, content, holds in db.execute(KNOWN_ENTRIES).fetchall():
        yield KnownEntry(number, entry_type, from_bytes(agent), from_bytes(content), bool(holds))


def content_of(db: Connection, number: int, *, agent: str) -> str | None:
    """Return the text of an entry, or None when it is gone or not of the agent."""
    found = db.execute(
        "SELECT CAST(content AS BLOB) FROM knowledge_entries"
        " WHERE rowid = ? AND source_agent_id = CAST(? AS TEXT)",
        (number, to_bytes(agent)),
    ).fetchone()
    return None if found is None else from_bytes(found[0])


def content_if_it_holds(db: Connection, number: int) -> str | None:
    """Return the text of an entry, or None when it is gone or superseded."""
    found = db.execute(
        "SELECT CAST(content AS BLOB) FROM knowledge_entries"
        " WHERE rowid = ? AND superseded_by IS NULL",
        (number,),
    ).fetchone()
    return None if found is None else from_bytes(found[0])


def read_entry(db: Connection, number: int) -> EntryChange:
    """Return an entry that stays unchanged."""
    query = "SELECT rowid, id, confidence FROM knowledge_entries WHERE rowid = ?"
    return EntryChange._make(db.execute(query, (number,)).fetchone())


ADD_ENTRY = """
    INSERT INTO knowledge_entries (
        id, type, content, tags, confidence, occurrences, source_task_id, source_agent_id,
        last_used_at
    )
    SELECT :id, :type, CAST(:content AS TEXT), CAST(:tags AS TEXT), :confidence, 1,
        CAST(:task_id AS TEXT), agent_id, last_accessed
    FROM agent_memory
    WHERE rowid = :memory
    RETURNING rowid, id, confidence
"""


def add_entry(db: Connection, entry: KnowledgeEntry, *, memory: int) -> EntryChange:
    """Add the entry made from the memory in a row."""
    import uuid

    return _write(
        db,
        ADD_ENTRY,
        {
            "id": str(uuid.uuid4()),
            "type": entry.type,
            "content": to_bytes(entry.content),
            "tags": to_bytes(entry.tags),
            "confidence": entry.confidence,
            "task_id": None if entry.task_id is None else to_bytes(entry.task_id),
            "memory": memory,
        },
    )


# The owner may have stored a confidence outside the bounds; it is not changed towards them.
CONFIRM_ENTRY = """
    UPDATE knowledge_entries
    SET occurrences = ifnull(occurrences, 1) + 1,
        confidence = max(confidence, min(:most, round(confidence + :gain, 4))),
        updated_at = :now
    WHERE rowid = :number
    RETURNING rowid, id, confidence
"""


def confirm_entry(db: Connection, number: int, *, gain: float, now: datetime) -> EntryChange:
    """Count one more occurrence of an entry and raise its confidence."""
    parameters = {
        "number": number,
        "gain": gain,
        "most": MOST_CONFIDENCE,
        "now": to_sqlite_text(now),
    }
    return _write(db, CONFIRM_ENTRY, parameters)


SUPERSEDE_ENTRY = """
    UPDATE knowledge_entries
    SET superseded_by = CAST(:successor AS TEXT),
        confidence = min(confidence, max(:least, round(confidence - :loss, 4))),
        updated_at = :now
    WHERE rowid = :number
    RETURNING rowid, id, confidence
"""


def supersede_entry(db: Connection, number: int, *, by: EntryChange, now: datetime) -> EntryChange:
    """Mark an entry as superseded by another one and lower its confidence."""
    parameters = {
        "number": number,
        "successor": to_bytes(by.id),
        "loss": LOSS_WHEN_SUPERSEDED,
        "least": LEAST_CONFIDENCE,
        "now": to_sqlite_text(now),
    }
    return _write(db, SUPERSEDE_ENTRY, parameters)


def _write(db: Connection, statement: str, parameters: Mapping[str, Any]) -> EntryChange:
    """Change one entry. Raises RefusedError if a constraint or trigger of the owner prevents it."""
    try:
        changed = db.execute(statement, parameters).fetchall()
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_ERROR):
            raise
        raise _refusal(f" ({error})") from error
    if len(changed) != 1:
        raise _refusal()
    return EntryChange._make(changed[0])


def _refusal(reason: str = "") -> RefusedError:
    return RefusedError(
        f"knowledge_entries rejects a change by promote{reason}",
        "change its constraint or trigger; the interrupted step was rolled back",
    )


LINK_TO_ENTRY = """
    INSERT OR REPLACE INTO memory_promotions
        (agent_id, type, key, entry_id, content_hash, promoted_at)
    SELECT agent_id, type, key, CAST(:entry_id AS TEXT), :content_hash, :now
    FROM agent_memory
    WHERE rowid = :memory
"""

MARK_MEMORY = "UPDATE agent_memory SET promoted_at = :now WHERE rowid = :memory"


def link_to_entry(
    db: Connection, memory: int, *, entry_id: str, content_hash: str, now: datetime
) -> tuple[int, int]:
    """Link the memory in a row to its entry and mark it as promoted; in a transaction.

    Returns how many rows were linked and how many were marked.
    """
    parameters = {
        "memory": memory,
        "entry_id": to_bytes(entry_id),
        "content_hash": content_hash,
        "now": to_text(now),
    }
    linked = db.execute(LINK_TO_ENTRY, parameters).rowcount
    return linked, db.execute(MARK_MEMORY, parameters).rowcount


class KnowledgeBase:
    """The entries that memories become; see `storage.store.KnowledgeBase`."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    def exists(self) -> bool:
        """Return whether there is one."""
        return has_knowledge_base(self._db)

    def create(self) -> None:
        """Create it."""
        self._db.execute(CREATE_KNOWLEDGE_BASE)

    def entries(self) -> Iterator[KnownEntry]:
        """Yield the entries that hold, oldest first, then the others."""
        return known_entries(self._db)

    def content_of(self, number: int, *, agent: str) -> str | None:
        """Return the text of an entry of an agent."""
        return content_of(self._db, number, agent=agent)

    def content_if_it_holds(self, number: int) -> str | None:
        """Return the text of an entry that is not superseded."""
        return content_if_it_holds(self._db, number)

    def read(self, number: int) -> EntryChange:
        """Return an entry that stays unchanged."""
        return read_entry(self._db, number)

    def add(self, entry: KnowledgeEntry, *, memory: int) -> EntryChange:
        """Add the entry made from the memory in a row."""
        return add_entry(self._db, entry, memory=memory)

    def confirm(self, number: int, *, gain: float, now: datetime) -> EntryChange:
        """Count one more occurrence of an entry and raise its confidence."""
        return confirm_entry(self._db, number, gain=gain, now=now)

    def supersede(self, number: int, *, by: EntryChange, now: datetime) -> EntryChange:
        """Mark an entry as superseded by another one."""
        return supersede_entry(self._db, number, by=by, now=now)

    def link(
        self,
        memory: int,
        *,
        entry_id: str,
        content_hash: str,
        detail: Mapping[str, object],
        now: datetime,
        run_id: int | None,
    ) -> None:
        """Link the memory in a row to its entry, mark it as promoted, and record the event."""
        linked, marked = link_to_entry(
            self._db, memory, entry_id=entry_id, content_hash=content_hash, now=now
        )
        recorded = record_events(
            self._db,
            "memory:promoted",
            "agent_memory",
            json.dumps([memory]),
            now=now,
            run_id=run_id,
            detail=detail,
        )
        require_equal_counts(self._db, due=1, linked=linked, marked=marked, recorded=recorded)
