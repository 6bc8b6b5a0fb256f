"""Conditions of the filters for lists, with the parameters of those that are given."""

from collections.abc import Mapping
from typing import Any

from memctl.storage.postgresql.database import text


def all_of(terms: Mapping[str, tuple[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Return an SQL condition and its parameters, from terms by the name of their parameter.

    A term is SQL and the value of its parameter; those whose value is None are left out. Raises
    UsageError for a text that the server cannot store.
    """
    given = {name: term for name, term in terms.items() if term[1] is not None}
    condition = " AND ".join(sql for sql, _ in given.values()) or "TRUE"
    return condition, {
        name: text(value) if isinstance(value, str) else value for name, (_, value) in given.items()
    }
