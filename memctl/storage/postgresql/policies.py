"""Policies in SQL: a key may have different values for the memories of an agent or a type."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from memctl.storage.policies import PolicyValues
from memctl.storage.postgresql.database import is_storable


class PolicySql(NamedTuple):
    """SQL for the value of a key for a memory, and its parameters."""

    sql: str
    parameters: Mapping[str, Any]


# How the values of a type of an agent, of the agent, and of the type are found in a JSON object.
# Thousands of agents may have overrides: PostgreSQL finds a name in it by binary search.
LEVELS = {
    (True, True): "-> agent_id ->> type",
    (True, False): "->> agent_id",
    (False, True): "->> type",
}


def policy_sql(
    policy: PolicyValues,
    key: str,
    sql_type: str,
    *,
    name: str | None = None,
    to_sql: Callable[[Any], Any] = lambda value: value,
) -> PolicySql:
    """Return SQL for the value that a key has for a memory.

    `name` begins the names of the parameters and defaults to that of the key; `to_sql` converts a
    value into one that JSON can represent, which the server reads as `sql_type`.
    """
    name = name or key
    values: dict[tuple[bool, bool], dict[str, Any]] = {}
    for (agent, type_), value in policy.overrides_of(key).items():
        if not all(is_storable(text) for text in (agent, type_) if text is not None):
            continue  # no memory on the server has this name
        of_level = values.setdefault((agent is not None, type_ is not None), {})
        if agent is not None and type_ is not None:
            of_level.setdefault(agent, {})[type_] = to_sql(value)
        else:
            of_level[str(type_ if agent is None else agent)] = to_sql(value)
    parameters: dict[str, Any] = {name: to_sql(getattr(policy, key))}
    found = []
    for number, (level, path) in enumerate(LEVELS.items()):
        if level in values:
            parameters[f"{name}_{number}"] = json.dumps(values[level])
            found.append(f"(%({name}_{number})s::jsonb {path})::{sql_type}")
    general = f"%({name})s::{sql_type}"
    sql = f"coalesce({', '.join([*found, general])})" if found else general
    return PolicySql(sql, parameters)
