"""Rows of the server with the values that SQLite stores."""

from collections.abc import Sequence
from typing import Any

MOST_INTEGER = 2**63


def named_row(names: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """Return the columns of a memory by name; a whole importance is an integer, as in SQLite."""
    columns = dict(zip(names, row, strict=True))
    importance = columns["importance"]
    if isinstance(importance, float) and importance.is_integer() and abs(importance) < MOST_INTEGER:
        columns["importance"] = int(importance)
    return columns
