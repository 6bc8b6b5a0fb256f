"""The table of the knowledge base, which another product owns and memctl adds to.

Where there is none memctl makes it, in the owner's shape; another product's table of the same
name is refused. An entry that no longer holds is superseded by a newer one, never deleted.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from datetime import datetime
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.errors import RefusedError
from memctl.jobs.knowledge import Entry
from memctl.storage.sqlite.database import from_bytes, to_bytes
from memctl.storage.times import to_sqlite_text, unix_seconds

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

MOST_CONFIDENCE = 0.95  # by being confirmed
LEAST_CONFIDENCE = 0.1
LOSS_WHEN_SUPERSEDED = 0.2

# Without indexes: the owner creates its own by their names, and would fail if they were there.
CREATE_TABLE = """
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


def table_exists(db: Connection) -> bool:
    """Tell whether the database has a knowledge base.

    Raises RefusedError when what has its name is something else.
    """
    found = db.execute(FIND_TABLE).fetchone()
    if found is None:
        return False
    columns = {row[1]: row[5] for row in db.execute("PRAGMA table_xinfo(knowledge_entries)")}
    keys = [name for name, place in columns.items() if place]
    if found != ("table", 0) or set(columns) != COLUMNS or keys != ["id"]:
        raise RefusedError(
            "knowledge_entries is not the knowledge base that memctl knows: "
            + _difference(found[0], columns),
            "it belongs to another product, and promote cannot use it; nothing was changed",
        )
    return True


def _difference(kind: str, columns: Mapping[str, int]) -> str:
    if kind != "table":
        return f"it is of the kind {kind}"
    for column in sorted(COLUMNS.symmetric_difference(columns)):
        return f"it {'lacks' if column in COLUMNS else 'has'} the column {column}"
    return "its rows have no number, or are not named by id"


class Known(NamedTuple):
    """The text of an entry."""

    number: int  # of its row
    type: str
    agent: str
    content: str
    holds: bool  # it is not superseded


KNOWN_ENTRIES = f"""
    SELECT rowid, type, CAST(source_agent_id AS BLOB), CAST(content AS BLOB),
        superseded_by IS NULL AS holds
    FROM knowledge_entries
    WHERE typeof(id) = 'text'
    ORDER BY holds DESC, {unix_seconds("created_at")} NULLS LAST, rowid
"""


def known_entries(db: Connection) -> Iterator[Known]:
    """Yield those that hold, the oldest first, then the rest; all are read before the first."""
    for number, entry_type, agent, content, holds in db.execute(KNOWN_ENTRIES).fetchall():
        yield Known(number, entry_type, from_bytes(agent), from_bytes(content), bool(holds))


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


class Written(NamedTuple):
    """An entry as it is after a change."""

    number: int
    id: str
    confidence: float


def read_entry(db: Connection, number: int) -> Written:
    """Return an entry as it is."""
    query = "SELECT rowid, id, confidence FROM knowledge_entries WHERE rowid = ?"
    return Written._make(db.execute(query, (number,)).fetchone())


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


def add_entry(db: Connection, entry: Entry, *, memory: int) -> Written:
    """Add what the memory in a row has become."""
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


# Somebody else's confidence may lie beyond the bounds: it is not drawn back to them.
CONFIRM_ENTRY = """
    UPDATE knowledge_entries
    SET occurrences = ifnull(occurrences, 1) + 1,
        confidence = max(confidence, min(:most, round(confidence + :gain, 4))),
        updated_at = :now
    WHERE rowid = :number
    RETURNING rowid, id, confidence
"""


def confirm_entry(db: Connection, number: int, *, gain: float, now: datetime) -> Written:
    """Count one more occurrence of what an entry says, and trust it more."""
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


def supersede_entry(db: Connection, number: int, *, by: Written, now: datetime) -> Written:
    """Let another entry take the place of one, and trust it less."""
    parameters = {
        "number": number,
        "successor": to_bytes(by.id),
        "loss": LOSS_WHEN_SUPERSEDED,
        "least": LEAST_CONFIDENCE,
        "now": to_sqlite_text(now),
    }
    return _write(db, SUPERSEDE_ENTRY, parameters)


def _write(db: Connection, statement: str, parameters: Mapping[str, Any]) -> Written:
    """Change one entry; whatever conditions and triggers its owner has put there hold.

    Raises RefusedError when they do not let it happen.
    """
    try:
        changed = db.execute(statement, parameters).fetchall()
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_ERROR):
            raise
        raise _refusal(f" ({error})") from error
    if len(changed) != 1:
        raise _refusal()
    return Written._make(changed[0])


def _refusal(reason: str = "") -> RefusedError:
    return RefusedError(
        f"knowledge_entries does not take what promote writes{reason}",
        "a condition or a trigger there prevents it; the interrupted step was rolled back",
    )
