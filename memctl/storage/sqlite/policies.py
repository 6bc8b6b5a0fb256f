"""Policies in SQL: a key may have different values for the memories of an agent or a type."""

from collections.abc import Callable, Mapping
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.policies import PolicyValues
from memctl.storage.sqlite.database import temporary_tables
from memctl.storage.text import to_bytes


class PolicySql(NamedTuple):
    """SQL for the value of a key, and its parameters."""

    sql: str
    parameters: Mapping[str, Any]
    depends: bool  # on the agent or the type of a memory


# Thousands of agents may have overrides: a value is found by the index instead of by comparing all
# of them.
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
    policy: PolicyValues,
    key: str,
    *,
    name: str | None = None,
    to_sql: Callable[[Any], Any] = lambda value: value,
) -> PolicySql:
    """Return SQL for the value that a key has for a memory, to be run on this connection.

    `name` is the name of the parameter and defaults to that of the key; `to_sql` converts a value
    into one of SQLite's. A later call with the same name replaces an earlier one.
    """
    name = name or key
    overrides = policy.overrides_of(key)
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
    return PolicySql(sql, {name: to_sql(getattr(policy, key))}, bool(found))
