"""Values of rows: those that the server can store, and those that SQLite would have stored."""

from collections.abc import Sequence
from typing import Any

from memctl.storage.memory import to_stored
from memctl.storage.postgresql.database import text

MOST_INTEGER = 2**63


def storable_texts(**texts: str) -> dict[str, str]:
    """Return texts that the server can store. Raises UsageError for any other value."""
    to_stored(**texts)
    return {name: text(value) for name, value in texts.items()}


def named_row(names: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """Return the columns of a memory by name; a whole importance is an integer, as in SQLite."""
    columns = dict(zip(names, row, strict=True))
    importance = columns["importance"]
    if isinstance(importance, float) and importance.is_integer() and abs(importance) < MOST_INTEGER:
        columns["importance"] = int(importance)
    return columns
