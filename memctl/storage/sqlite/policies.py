"""Policies in SQL: a value that may be another one for an agent's memories, or those of a type."""

import re
from collections.abc import Callable, Mapping
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.sqlite.database import temporary_tables, to_bytes


class PolicySql(NamedTuple):
    """SQL for a value that may depend on a memory's agent and type, and its parameters."""

    sql: str
    parameters: Mapping[str, Any]
    depends: bool  # it is another value for some memories


# Values for some memories, by the name of the parameter for all others. Thousands of agents may
# have policies of their own, so each is looked up by the index, not compared with one by one.
OVERRIDES = """
    CREATE TABLE IF NOT EXISTS temp.policy_overrides (
        name TEXT,
        for_agent TEXT, -- NULL: of all agents
        for_type TEXT, -- NULL: of all types
        value,
        UNIQUE (name, for_agent, for_type)
    )
"""

ADD_OVERRIDE = """
    INSERT INTO temp.policy_overrides (name, for_agent, for_type, value)
    VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT), ?)
"""

# The conditions for the values of a type of an agent, of the agent, and of the type.
LEVELS = {
    (True, True): "for_agent = agent_id AND for_type = type",
    (True, False): "for_agent = agent_id AND for_type IS NULL",
    (False, True): "for_agent IS NULL AND for_type = type",
}


def policy_sql(
    db: Connection,
    name: str,
    value: Any,
    overrides: Mapping[tuple[str | None, str | None], Any],
    *,
    to_sql: Callable[[Any], Any] = lambda value: value,
) -> PolicySql:
    """Return SQL for the value that a policy has for a memory, to be run on this connection.

    `value` is that for all memories, with `name` as its parameter; `overrides` are the others, by
    agent and type (None: all of them); `to_sql` converts a value into one of SQLite's. A later call
    with the same name takes the place of an earlier one.
    """
    levels = {(agent is not None, type_ is not None) for agent, type_ in overrides}
    if overrides:
        rows = (
            (name, *(text if text is None else to_bytes(text) for text in of), to_sql(other))
            for of, other in overrides.items()
        )
        with temporary_tables(db):
            db.execute(OVERRIDES)
            db.execute("DELETE FROM temp.policy_overrides WHERE name = ?", (name,))
            db.executemany(ADD_OVERRIDE, rows)
    found = [
        f"(SELECT value FROM temp.policy_overrides WHERE name = '{name}' AND {condition})"
        for level, condition in LEVELS.items()
        if level in levels
    ]
    sql = f"coalesce({', '.join(found)}, :{name})" if found else f":{name}"
    return PolicySql(sql, {name: to_sql(value)}, bool(found))


def put_for_parameters(sql: str, texts: Mapping[str, str]) -> str:
    """Return SQL with other SQL in place of some of its named parameters."""
    return re.sub(r":(\w+)", lambda match: texts.get(match[1], match[0]), sql)
