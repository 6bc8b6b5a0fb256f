"""Policies that differ for some memories: those of a type, of an agent, or of a type of an agent.

Each key is decided on its own. What is said of a type of an agent wins over what is said of the
agent, that over what is said of the type, and that over what holds for all memories.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from sqlite3 import Connection
from typing import Any, ClassVar, NamedTuple, Self

from memctl.storage.sqlite.database import temporary_tables, to_bytes


class Override(NamedTuple):
    """Another value of one key, for the memories of an agent, of a type, or of both."""

    key: str
    value: Any
    agent: str | None = None  # None: of all agents
    type: str | None = None  # None: of all types

    def covers(self, agent: str | None, type: str | None) -> bool:
        """Tell whether it is said of such memories; None is an agent or a type without a name."""
        return self.agent in (None, agent) and self.type in (None, type)

    def table(self, section: str) -> tuple[str, ...]:
        """Return the path of the table that says it, where `section` is that of the policy."""
        of_agent = () if self.agent is None else ("agents", self.agent)
        of_type = () if self.type is None else ("types", self.type)
        return (*of_agent, section, *of_type)


class Choice(NamedTuple):
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

# The conditions for what is said of a type of an agent, of the agent, and of the type.
LEVELS = {
    (True, True): "for_agent = agent_id AND for_type = type",
    (True, False): "for_agent = agent_id AND for_type IS NULL",
    (False, True): "for_agent IS NULL AND for_type = type",
}


@dataclass(frozen=True)
class Policy:
    """What holds for all memories, and what is said of some; a job's own policy adds the keys."""

    SECTION: ClassVar[str]

    # Of those for the same key, the first that covers a memory counts.
    overrides: tuple[Override, ...] = field(default=(), kw_only=True)

    @property
    def keys(self) -> list[str]:
        """The names of all keys."""
        return [key.name for key in fields(self) if key.name != "overrides"]

    def of(self, agent: str | None, type: str | None) -> Self:
        """Return the policy that holds for an agent's memories of a type, without overrides."""
        chosen = {
            override.key: override.value for override in reversed(self._covering(agent, type))
        }
        return replace(self, **chosen, overrides=())

    def tables(self, agent: str, type: str) -> str:
        """Name the tables of the configuration that decide on such memories, the winner first."""
        named = {
            dotted(override.table(self.SECTION)): None for override in self._covering(agent, type)
        }
        return ", ".join(named) or self.SECTION

    def with_agents_of(self, other: Self, agents: Iterable[str]) -> Self:
        """Return this policy, but for all memories of some agents that of another."""
        agents = dict.fromkeys(agents)
        of_others = [override for override in self.overrides if override.agent not in agents]
        return replace(self, overrides=(*other._of_agents(agents), *of_others))

    def _of_agents(self, agents: Iterable[str]) -> Iterator[Override]:
        """Yield what holds for the memories of agents, as said of nobody but them."""
        for agent in agents:
            said = self._said_of.get(agent, []) + self._said_of.get(None, [])
            types = (self.overrides[number].type for number in said)
            for type_ in dict.fromkeys([None, *types]):
                held = self.of(agent, type_)
                for key in self.keys:
                    yield Override(key, getattr(held, key), agent, type_)

    def _covering(self, agent: str | None, type: str | None) -> list[Override]:
        """Return what is said of such memories, the first of a key the one that counts."""
        said = self._said_of.get(None, [])
        if agent is not None:
            said = sorted(self._said_of.get(agent, []) + said)
        found = (self.overrides[number] for number in said)
        return [override for override in found if override.covers(agent, type)]

    @functools.cached_property
    def _said_of(self) -> dict[str | None, list[int]]:
        """Where among all there is something said of an agent, or of all agents."""
        places: dict[str | None, list[int]] = {}
        for number, override in enumerate(self.overrides):
            places.setdefault(override.agent, []).append(number)
        return places

    def choice(
        self,
        db: Connection,
        key: str,
        *,
        name: str | None = None,
        to_sql: Callable[[Any], Any] = lambda value: value,
    ) -> Choice:
        """Return SQL for the value that a key has for a memory, to be run on this connection.

        `name` is the parameter for all memories, and `to_sql` makes a value one of SQLite's. A
        later choice of the same name takes the place of an earlier one.
        """
        name = name or key
        overrides = self._overrides_of(key)
        levels = {(agent is not None, type_ is not None) for agent, type_ in overrides}
        if overrides:
            values = (
                (name, *(text if text is None else to_bytes(text) for text in of), to_sql(value))
                for of, value in overrides.items()
            )
            with temporary_tables(db):
                db.execute(OVERRIDES)
                db.execute("DELETE FROM temp.policy_overrides WHERE name = ?", (name,))
                db.executemany(ADD_OVERRIDE, values)
        found = [
            f"(SELECT value FROM temp.policy_overrides WHERE name = '{name}' AND {condition})"
            for level, condition in LEVELS.items()
            if level in levels
        ]
        sql = f"coalesce({', '.join(found)}, :{name})" if found else f":{name}"
        return Choice(sql, {name: to_sql(getattr(self, key))}, bool(found))

    def _overrides_of(self, key: str) -> dict[tuple[str | None, str | None], Any]:
        """Return the other values of a key, by agent and type."""
        values: dict[tuple[str | None, str | None], Any] = {}
        for override in self.overrides:
            if override.key == key:
                values.setdefault((override.agent, override.type), override.value)
        return values


def put_for_parameters(sql: str, texts: Mapping[str, str]) -> str:
    """Return SQL with other SQL in place of some of its named parameters."""
    return re.sub(r":(\w+)", lambda match: texts.get(match[1], match[0]), sql)


def dotted(path: Iterable[str]) -> str:
    """Return a path in the configuration as it is written there: `agents."a b".decay`."""
    return ".".join(
        part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part, ensure_ascii=False)
        for part in path
    )
