"""The service that owns the table, reduced to what matters: its schema and its statements.

Every test builds its own database with it; memctl must work beside it without affecting it.
"""

import sqlite3
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SCHEMA = """
    CREATE TABLE IF NOT EXISTS agent_memory (
        id TEXT PRIMARY KEY,
        agent_id TEXT NOT NULL,
        type TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        metadata TEXT,
        importance INTEGER DEFAULT 5,
        access_count INTEGER DEFAULT 0,
        last_accessed TEXT DEFAULT (datetime('now')),
        created_at TEXT DEFAULT (datetime('now')),
        expires_at TEXT,
        UNIQUE(agent_id, type, key)
    );
    CREATE INDEX IF NOT EXISTS idx_agent_memory_agent ON agent_memory(agent_id);
    CREATE INDEX IF NOT EXISTS idx_agent_memory_type ON agent_memory(type);
"""

COLUMNS = (
    "id",
    "agent_id",
    "type",
    "key",
    "value",
    "metadata",
    "importance",
    "access_count",
    "last_accessed",
    "created_at",
    "expires_at",
)

REMEMBER = """
    INSERT OR REPLACE INTO agent_memory
        (id, agent_id, type, key, value, metadata, importance, expires_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""

FIND = "SELECT * FROM agent_memory WHERE agent_id = ? AND type = ? AND key = ?"

COUNT_ACCESS = """
    UPDATE agent_memory
    SET access_count = access_count + 1, last_accessed = datetime('now')
    WHERE id = ?
"""

LIST = """
    SELECT * FROM agent_memory WHERE agent_id = ?
    ORDER BY importance DESC, access_count DESC
"""

LIST_TYPE = """
    SELECT * FROM agent_memory WHERE agent_id = ? AND type = ?
    ORDER BY importance DESC, access_count DESC
"""


class Service:
    """One connection of the service: WAL, five seconds of patience, every statement on its own."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, timeout=5)
        self.db.row_factory = sqlite3.Row
        self.db.text_factory = lambda stored: stored.decode("utf-8", "surrogateescape")
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA foreign_keys = ON")
        self.db.executescript(SCHEMA)

    def remember(
        self,
        agent: str,
        kind: str,
        key: str,
        value: str,
        *,
        memory_id: str | None = None,
        metadata: str | None = None,
        importance: Any = 5,
        expires_at: str | None = None,
    ) -> sqlite3.Row:
        """Write a memory; it replaces one with the same name."""
        given = (memory_id or str(uuid.uuid4()), agent, kind, key, value)
        self.db.execute(REMEMBER, (*given, metadata, importance, expires_at))
        found: sqlite3.Row = self.db.execute(FIND, (agent, kind, key)).fetchone()
        return found

    def recall(self, agent: str, kind: str, key: str) -> sqlite3.Row | None:
        """Read a memory, which counts as an access."""
        found: sqlite3.Row | None = self.db.execute(FIND, (agent, kind, key)).fetchone()
        if found is not None:
            self.db.execute(COUNT_ACCESS, (found["id"],))
        return found

    def recall_all(self, agent: str, kind: str | None = None) -> Sequence[sqlite3.Row]:
        """List memories, the most important first; ties are in the order of the query."""
        if kind is None:
            return self.db.execute(LIST, (agent,)).fetchall()
        return self.db.execute(LIST_TYPE, (agent, kind)).fetchall()

    def forget(self, agent: str, kind: str, key: str) -> int:
        """Delete a memory; returns how many there were."""
        return self.db.execute(
            "DELETE FROM agent_memory WHERE agent_id = ? AND type = ? AND key = ?",
            (agent, kind, key),
        ).rowcount

    def forget_all(self, agent: str, kind: str | None = None) -> int:
        """Delete all memories of an agent, or those of a type; returns how many there were."""
        if kind is None:
            return self.db.execute("DELETE FROM agent_memory WHERE agent_id = ?", (agent,)).rowcount
        return self.db.execute(
            "DELETE FROM agent_memory WHERE agent_id = ? AND type = ?", (agent, kind)
        ).rowcount

    def cleanup_expired(self) -> int:
        """Delete the memories that the service considers expired; returns how many there were."""
        return self.db.execute(
            "DELETE FROM agent_memory WHERE expires_at < datetime('now')"
        ).rowcount

    def close(self) -> None:
        """Disconnect."""
        self.db.close()
