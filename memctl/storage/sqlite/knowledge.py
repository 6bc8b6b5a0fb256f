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
from memctl.storage.sqlite.times import unix_seconds
from memctl.storage.sqlite.triggers import require_equal_counts
from memctl.storage.text import from_bytes, to_bytes
from memctl.storage.times import to_sqlite_text, to_text

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

KNOWN_ENTRIES = f"""
    SELECT rowid, type, CAST(source_agent_id AS BLOB), CAST(content AS BLOB),
        superseded_by IS NULL AS holds
    FROM knowledge_entries
    WHERE typeof(id) = 'text'
    ORDER BY holds DESC, {unix_seconds("created_at")} NULLS LAST, rowid
"""

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

# The owner may have stored a confidence outside the bounds; it is not changed towards them.
CONFIRM_ENTRY = """
    UPDATE knowledge_entries
    SET occurrences = ifnull(occurrences, 1) + 1,
        confidence = max(confidence, min(:most, round(confidence + :gain, 4))),
        updated_at = :now
    WHERE rowid = :number
    RETURNING rowid, id, confidence
"""

SUPERSEDE_ENTRY = """
    UPDATE knowledge_entries
    SET superseded_by = CAST(:successor AS TEXT),
        confidence = min(confidence, max(:least, round(confidence - :loss, 4))),
        updated_at = :now
    WHERE rowid = :number
    RETURNING rowid, id, confidence
"""

LINK_TO_ENTRY = """
    INSERT OR REPLACE INTO memory_promotions
        (agent_id, type, key, entry_id, content_hash, promoted_at)
    SELECT agent_id, type, key, CAST(:entry_id AS TEXT), :content_hash, :now
    FROM agent_memory
    WHERE rowid = :memory
"""

MARK_MEMORY = "UPDATE agent_memory SET promoted_at = :now WHERE rowid = :memory"


class SqliteKnowledgeBase:
    """The entries that memories become; see `storage.promotion.KnowledgeBase`."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    def exists(self) -> bool:
        found = self._db.execute(FIND_TABLE).fetchone()
        if found is None:
            return False
        table = self._db.execute("PRAGMA table_xinfo(knowledge_entries)")
        columns = {row[1]: row[5] for row in table}
        keys = [name for name, place in columns.items() if place]
        if found != ("table", 0) or set(columns) != COLUMNS or keys != ["id"]:
            raise RefusedError(
                "knowledge_entries does not have the expected definition: "
                + _difference(found[0], columns),
                "it belongs to another product, and promote cannot use it; nothing was changed",
            )
        return True

    def create(self) -> None:
        self._db.execute(CREATE_KNOWLEDGE_BASE)

    def entries(self) -> Iterator[KnownEntry]:
        for number, type_, agent, content, holds in self._db.execute(KNOWN_ENTRIES).fetchall():
            yield KnownEntry(number, type_, from_bytes(agent), from_bytes(content), bool(holds))

    def content_of(self, number: int, *, agent: str) -> str | None:
        return self._content("source_agent_id = CAST(? AS TEXT)", number, to_bytes(agent))

    def content_if_it_holds(self, number: int) -> str | None:
        return self._content("superseded_by IS NULL", number)

    def _content(self, condition: str, number: int, *parameters: bytes) -> str | None:
        query = (
            f"SELECT CAST(content AS BLOB) FROM knowledge_entries WHERE rowid = ? AND {condition}"
        )
        found = self._db.execute(query, (number, *parameters)).fetchone()
        return None if found is None else from_bytes(found[0])

    def read(self, number: int) -> EntryChange:
        query = "SELECT rowid, id, confidence FROM knowledge_entries WHERE rowid = ?"
        return EntryChange._make(self._db.execute(query, (number,)).fetchone())

    def add(self, entry: KnowledgeEntry, *, memory: int) -> EntryChange:
        import uuid

        return self._write(
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

    def confirm(self, number: int, *, gain: float, now: datetime) -> EntryChange:
        parameters = {
            "number": number,
            "gain": gain,
            "most": MOST_CONFIDENCE,
            "now": to_sqlite_text(now),
        }
        return self._write(CONFIRM_ENTRY, parameters)

    def supersede(self, number: int, *, by: EntryChange, now: datetime) -> EntryChange:
        parameters = {
            "number": number,
            "successor": to_bytes(by.id),
            "loss": LOSS_WHEN_SUPERSEDED,
            "least": LEAST_CONFIDENCE,
            "now": to_sqlite_text(now),
        }
        return self._write(SUPERSEDE_ENTRY, parameters)

    def _write(self, statement: str, parameters: Mapping[str, Any]) -> EntryChange:
        """Change one entry.

        Raises RefusedError if a constraint or a trigger of the owner prevents it.
        """
        try:
            changed = self._db.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            code = error.sqlite_errorcode & 0xFF
            if code not in (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_ERROR):
                raise
            raise rejected_change(f" ({error})") from error
        if len(changed) != 1:
            raise rejected_change()
        return EntryChange._make(changed[0])

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
        parameters = {
            "memory": memory,
            "entry_id": to_bytes(entry_id),
            "content_hash": content_hash,
            "now": to_text(now),
        }
        linked = self._db.execute(LINK_TO_ENTRY, parameters).rowcount
        marked = self._db.execute(MARK_MEMORY, parameters).rowcount
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


def _difference(kind: str, columns: Mapping[str, int]) -> str:
    if kind != "table":
        return f"it is {'an' if kind == 'index' else 'a'} {kind}"
    for column in sorted(COLUMNS.symmetric_difference(columns)):
        return f"it {'lacks' if column in COLUMNS else 'has'} the column {column}"
    return "it has no rowid, or its primary key is not id"


def rejected_change(reason: str = "") -> RefusedError:
    """Return the error for a change that a constraint or a trigger of the owner prevents."""
    return RefusedError(
        f"knowledge_entries rejects a change by promote{reason}",
        "change its constraint or trigger; the interrupted step was rolled back",
    )
