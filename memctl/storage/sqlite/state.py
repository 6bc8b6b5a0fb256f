"""The table memory_state: JSON values of memctl under keys, for example the pause."""

import json
from sqlite3 import Connection
from typing import Any

from memctl.storage.text import to_bytes


def read_state(db: Connection, key: str) -> Any:
    """Return the value of a key, or None if there is none."""
    found = db.execute(
        "SELECT value FROM memory_state WHERE key = CAST(? AS TEXT)", (to_bytes(key),)
    ).fetchone()
    return json.loads(found[0]) if found else None


def write_state(db: Connection, key: str, value: object) -> None:
    """Set the value of a key; must be called in a transaction."""
    db.execute(
        "INSERT OR REPLACE INTO memory_state (key, value) VALUES (CAST(? AS TEXT), ?)",
        (to_bytes(key), json.dumps(value)),
    )


def statement_for_state(key: str, value: object) -> str:
    """Return the statement that sets the value of a key; it has no parameters."""
    return (
        "INSERT OR REPLACE INTO memory_state (key, value)\n"
        f"VALUES ({text_literal(key)}, {text_literal(json.dumps(value))})"
    )


def text_literal(text: str) -> str:
    """Return a text without a NUL as SQL."""
    return "'" + text.replace("'", "''") + "'"


def delete_state(db: Connection, key: str) -> bool:
    """Delete a key and return whether it existed; must be called in a transaction."""
    deleted = db.execute("DELETE FROM memory_state WHERE key = CAST(? AS TEXT)", (to_bytes(key),))
    return deleted.rowcount > 0


def state_keys(db: Connection, prefix: str) -> set[str]:
    """Return the keys that begin with a prefix, without it."""
    keys = db.execute("SELECT key FROM memory_state WHERE key GLOB ?", (f"{prefix}*",))
    return {row[0].removeprefix(prefix) for row in keys}
