"""Policies that differ for some memories: those of a type, of an agent, or of a type of an agent.

Each key is decided on its own. What is said of a type of an agent wins over what is said of the
agent, that over what is said of the type, and that over what holds for all memories.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Self

from memctl.database import to_bytes


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

    @property
    def depends(self) -> bool:
        """Tell whether it is another value for some memories."""
        return len(self.parameters) > 1


@dataclass(frozen=True)
class Policy:
    """What holds for all memories, and what is said of some; a job's own policy adds the keys."""

    SECTION: ClassVar[str]

    # Of those for the same key, the first that covers a memory counts.
    overrides: tuple[Override, ...] = field(default=(), kw_only=True)

    def of(self, agent: str | None, type: str | None) -> Self:
        """Return the policy that holds for an agent's memories of a type, without overrides."""
        chosen = {
            override.key: override.value
            for override in reversed(self.overrides)
            if override.covers(agent, type)
        }
        return replace(self, **chosen, overrides=())

    def tables(self, agent: str, type: str) -> str:
        """Name the tables of the configuration that decide on such memories, the winner first."""
        named = {
            dotted(override.table(self.SECTION)): None
            for override in self.overrides
            if override.covers(agent, type)
        }
        return ", ".join(named) or self.SECTION

    def choice(
        self,
        key: str,
        *,
        name: str | None = None,
        to_sql: Callable[[Any], Any] = lambda value: value,
        row: str = "",
    ) -> Choice:
        """Return SQL for the value that a key has for a memory.

        `name` is the parameter for all memories, `to_sql` makes a value one of SQLite's, and `row`
        is what the memory's columns are prefixed with.
        """
        name = name or key
        cases = []
        parameters = {name: to_sql(getattr(self, key))}
        for number, override in enumerate(self.overrides):
            if override.key != key:
                continue
            conditions = []
            for column, text in (("agent_id", override.agent), ("type", override.type)):
                if text is not None:
                    conditions.append(f"{row}{column} = CAST(:{column}_{number} AS TEXT)")
                    parameters[f"{column}_{number}"] = to_bytes(text)
            cases.append(f"WHEN {' AND '.join(conditions)} THEN :{name}_{number}")
            parameters[f"{name}_{number}"] = to_sql(override.value)
        sql = f"CASE {' '.join(cases)} ELSE :{name} END" if cases else f":{name}"
        return Choice(sql, parameters)


def put_for_parameters(sql: str, texts: Mapping[str, str]) -> str:
    """Return SQL with other SQL in place of some of its named parameters."""
    return re.sub(r":(\w+)", lambda match: texts.get(match[1], match[0]), sql)


def dotted(path: Iterable[str]) -> str:
    """Return a path in the configuration as it is written there: `agents."a b".decay`."""
    return ".".join(
        part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part, ensure_ascii=False)
        for part in path
    )
