"""The policies, which an administrator specifies.

Those of decay and retention may differ for the memories of a type, of an agent, or of a type of an
agent. Each key is resolved separately: a type of an agent takes precedence over the agent, the
agent over the type, and the type over the policy for all memories.
"""

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

from memctl.config.jobs import JOBS, ReportEvery

ReportFormat = Literal["text", "markdown", "json", "html"]


class Override(NamedTuple):
    """A different value of one key, for the memories of an agent, of a type, or of both."""

    key: str
    value: Any
    agent: str | None = None  # None: of all agents
    type: str | None = None  # None: of all types

    def covers(self, agent: str | None, type: str | None) -> bool:
        """Return whether it applies to such memories; None: one that no override names."""
        return self.agent in (None, agent) and self.type in (None, type)

    def table(self, section: str) -> tuple[str, ...]:
        """Return the path of its table in the configuration; `section` is that of the policy."""
        of_agent = () if self.agent is None else ("agents", self.agent)
        of_type = () if self.type is None else ("types", self.type)
        return (*of_agent, section, *of_type)


@dataclass(frozen=True)
class Policy:
    """Values for all memories, and overrides for some; each subclass adds its keys as fields."""

    SECTION: ClassVar[str]

    # Of the overrides of a key, the first that covers a memory applies.
    overrides: tuple[Override, ...] = field(default=(), kw_only=True)

    @property
    def keys(self) -> list[str]:
        """The names of all keys."""
        return [key.name for key in fields(self) if key.name != "overrides"]

    def of(self, agent: str | None, type: str | None) -> Self:
        """Return the policy for an agent's memories of a type, without overrides."""
        chosen = {
            override.key: override.value for override in reversed(self._covering(agent, type))
        }
        return replace(self, **chosen, overrides=())

    def tables(self, agent: str, type: str) -> str:
        """Name the tables of the configuration that apply to such memories, by precedence."""
        named = {
            dotted(override.table(self.SECTION)): None for override in self._covering(agent, type)
        }
        return ", ".join(named) or self.SECTION

    def with_agents_of(self, other: Self, agents: Iterable[str]) -> Self:
        """Return this policy, with the values of another one for all memories of some agents."""
        agents = dict.fromkeys(agents)
        of_others = [override for override in self.overrides if override.agent not in agents]
        return replace(self, overrides=(*other._of_agents(agents), *of_others))

    def overrides_of(self, key: str) -> Mapping[tuple[str | None, str | None], Any]:
        """Return the overrides of a key by agent and type (None: all of them)."""
        values: dict[tuple[str | None, str | None], Any] = {}
        for override in self.overrides:
            if override.key == key:
                values.setdefault((override.agent, override.type), override.value)
        return values

    def _of_agents(self, agents: Iterable[str]) -> Iterator[Override]:
        """Yield the values for the memories of agents as overrides for these agents only."""
        for agent in agents:
            places = self._places.get(agent, []) + self._places.get(None, [])
            types = (self.overrides[place].type for place in places)
            for type_ in dict.fromkeys([None, *types]):
                policy = self.of(agent, type_)
                for key in self.keys:
                    yield Override(key, getattr(policy, key), agent, type_)

    def _covering(self, agent: str | None, type: str | None) -> list[Override]:
        """Return the overrides for such memories; of those of one key, the first applies."""
        places = self._places.get(None, [])
        if agent is not None:
            places = sorted(self._places.get(agent, []) + places)
        found = (self.overrides[place] for place in places)
        return [override for override in found if override.covers(agent, type)]

    @functools.cached_property
    def _places(self) -> dict[str | None, list[int]]:
        """The indexes of the overrides of each agent; under None, of those for all agents."""
        places: dict[str | None, list[int]] = {}
        for place, override in enumerate(self.overrides):
            places.setdefault(override.agent, []).append(place)
        return places


@dataclass(frozen=True)
class DecayPolicy(Policy):
    """How much importance a memory loses, in points per whole day without a read."""

    SECTION = "decay"

    floor: float = 1.0
    grace_days: int = 7
    idle_rate: float = 0.1  # after the grace days
    stale_days: int = 30
    stale_rate: float = 0.2  # after the stale days
    since: datetime | None = None  # idle days that began before this are never charged


@dataclass(frozen=True)
class PrunePolicy(Policy):
    """How long the archive keeps a memory, and the importance from which it is kept permanently."""

    SECTION = "prune"

    retention: timedelta = timedelta(days=90)
    protected_importance: float = 8.0

    @property
    def shortest_retention(self) -> timedelta:
        """The shortest time that any memory is kept in the archive."""
        shortest = self.retention
        for retention in self.overrides_of("retention").values():
            shortest = min(shortest, retention)
        return shortest


@dataclass(frozen=True)
class ArchivePolicy(Policy):
    """How many replaced versions of each memory the archive keeps."""

    SECTION = "archive"

    keep_versions: int | None = None  # None: all

    @property
    def is_limited(self) -> bool:
        """Whether the number of any memory's versions is limited."""
        return self != ArchivePolicy()


@dataclass(frozen=True)
class QuotaPolicy(Policy):
    """How many active memories each agent may have, and how many bytes; None: any number."""

    SECTION = "quota"

    memories: int | None = None
    bytes: int | None = None  # of keys, values and metadata

    @property
    def is_limited(self) -> bool:
        """Whether any agent has a quota."""
        return self != QuotaPolicy()


@dataclass(frozen=True)
class PromotePolicy:
    """The minimum values that a memory must have to be promoted."""

    importance: float = 8.0
    accesses: int = 5
    age: timedelta = timedelta(days=14)  # since it was written


@dataclass(frozen=True)
class AlertPolicy:
    """The figures above which an alert is raised."""

    agent_memories: int = 10_000  # of one agent


@dataclass(frozen=True)
class CheckPolicy:
    """The figures above which the check reports a finding."""

    backup_days: int = 8  # the age of the newest backup
    overdue_days: Mapping[str, int] = field(  # since the last success of each job
        default_factory=lambda: {name: job.overdue_days for name, job in JOBS.items()}
    )


@dataclass(frozen=True)
class ReportPolicy:
    """The health report that `memctl run` writes."""

    every: ReportEvery = "never"
    format: ReportFormat = "html"
    directory: Path | None = None  # None: that of the database


class Hooks(NamedTuple):
    """The programs to run for each run of a job, with their arguments; empty: none."""

    start: Sequence[str] = ()
    success: Sequence[str] = ()
    failure: Sequence[str] = ()


def dotted(path: Iterable[str]) -> str:
    """Return a path in the configuration as it is written there: `agents."a b".decay`."""
    return ".".join(
        part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part, ensure_ascii=False)
        for part in path
    )
