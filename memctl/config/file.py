"""The configuration file: TOML, strict, every value checked before anything is opened.

Each table is one class here. A field's description and example are what `memctl config init` writes
of it; a table for some memories has the keys of the general one, and no defaults.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
)
from pydantic_core import ErrorDetails

from memctl.config.jobs import JOBS, Every
from memctl.config.policies import (
    AlertPolicy,
    CheckPolicy,
    DecayPolicy,
    Override,
    PromotePolicy,
    PrunePolicy,
    dotted,
)
from memctl.errors import UsageError, name_like

MOST_PROBLEMS = 10  # that are reported at once

if TYPE_CHECKING:
    JobName = str
else:  # pydantic refuses every other name
    JobName = Literal[tuple(JOBS)]

Points = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Days = Annotated[int, Field(ge=0, le=36500)]


def _date(value: object) -> object:
    """Read the text of a date; TOML has dates of its own, too."""
    try:
        return date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("It must be a date such as 2026-11-22") from None


def _path(value: str | None) -> str | None:
    """Refuse what no file can be called."""
    if value and "\0" in value:
        raise ValueError("No file can have a NUL in its name")
    return value


class Section(BaseModel):
    """A table of the file: unknown keys are errors, and a text is not a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DecayKeys(Section):
    """What `[decay]`, and a table of it for some memories, may say."""

    floor: Points = Field(DecayPolicy.floor, description="importance never falls below")
    grace_days: Days = Field(DecayPolicy.grace_days, description="idle days that cost nothing")
    idle_rate: Points = Field(DecayPolicy.idle_rate, description="points a day after those")
    stale_days: Days = Field(DecayPolicy.stale_days, description="idle days until the next rate")
    stale_rate: Points = Field(DecayPolicy.stale_rate, description="points a day after those")
    since: Annotated[date | None, BeforeValidator(_date)] = Field(
        None,
        description="idle time before this day, in UTC, is never charged",
        examples=["2026-11-22"],
    )

    def policy_keys(self) -> dict[str, Any]:
        """Return the keys that the table has, as DecayPolicy has them."""
        keys = self.model_dump(include=set(DecayKeys.model_fields), exclude_unset=True)
        if self.since:
            keys["since"] = datetime.combine(self.since, time(), UTC)
        return keys


class DecaySection(DecayKeys):
    """`[decay]`"""

    types: dict[str, DecayKeys] = {}


class PruneKeys(Section):
    """What `[prune]`, and a table of it for some memories, may say."""

    retention_days: int = Field(
        PrunePolicy.retention.days, gt=0, le=36500, description="after so long in the archive, gone"
    )
    protected_importance: float = Field(
        PrunePolicy.protected_importance,
        allow_inf_nan=False,
        description="from here on, kept for good",
    )

    def policy_keys(self) -> dict[str, Any]:
        """Return the keys that the table has, as PrunePolicy has them."""
        keys = self.model_dump(include=set(PruneKeys.model_fields), exclude_unset=True)
        if "retention_days" in keys:
            keys["retention"] = timedelta(days=keys.pop("retention_days"))
        return keys


class PruneSection(PruneKeys):
    """`[prune]`"""

    types: dict[str, PruneKeys] = {}


class AgentSection(Section):
    """`[agents."NAME"]`"""

    decay: DecaySection = DecaySection.model_construct()
    prune: PruneSection = PruneSection.model_construct()


class PromoteSection(Section):
    """`[promote]`"""

    importance: float = Field(
        PromotePolicy.importance,
        allow_inf_nan=False,
        description="at least",
    )
    accesses: int = Field(
        PromotePolicy.accesses, ge=0, le=10**9, description="how often read, at least"
    )
    age_days: int = Field(
        PromotePolicy.age.days, ge=0, le=36500, description="since it was written, at least"
    )

    def policy(self) -> PromotePolicy:
        """Return the policy that the section describes."""
        return PromotePolicy(self.importance, self.accesses, timedelta(days=self.age_days))


class AlertsSection(Section):
    """`[alerts]`"""

    agent_memories: int = Field(
        AlertPolicy.agent_memories, gt=0, description="more of one agent are too many"
    )
    command: list[Annotated[str, Field(min_length=1)]] = Field(
        [],
        description="a program and its arguments, given JSON on stdin",
        examples=[["/usr/local/bin/tell-me"]],
    )

    def policy(self) -> AlertPolicy:
        """Return the policy that the section describes."""
        return AlertPolicy(self.agent_memories)


class CheckSection(Section):
    """`[check]`"""

    backup_days: int = Field(
        CheckPolicy.backup_days, gt=0, le=36500, description="a newest backup must not be older"
    )
    overdue_days: dict[JobName, Annotated[int, Field(gt=0, le=36500)]] = Field(
        dict(CheckPolicy().overdue_days), description="without a success"
    )

    def policy(self) -> CheckPolicy:
        """Return the policy that the section describes; a job it leaves out has its default."""
        return CheckPolicy(self.backup_days, {**CheckPolicy().overdue_days, **self.overdue_days})


class ObservabilitySection(Section):
    """`[observability]`"""

    events: bool = Field(False, description="a row for each run in the service's own table")


RunSection = create_model(
    "RunSection",
    __base__=Section,
    __doc__="`[run]`",
    **{name: (Every, Field(job.every, description=job.summary)) for name, job in JOBS.items()},  # type: ignore[call-overload]
)


class Configuration(Section):
    """The whole file."""

    database: Annotated[str | None, AfterValidator(_path)] = Field(
        None, min_length=1, description="relative to this file", examples=["memory.db"]
    )
    decay: DecaySection = DecaySection.model_construct()
    prune: PruneSection = PruneSection.model_construct()
    promote: PromoteSection = PromoteSection.model_construct()
    alerts: AlertsSection = AlertsSection.model_construct()
    check: CheckSection = CheckSection.model_construct()
    observability: ObservabilitySection = ObservabilitySection.model_construct()
    run: RunSection = RunSection.model_construct()  # type: ignore[valid-type]
    agents: dict[str, AgentSection] = {}

    def decay_policy(self) -> DecayPolicy:
        """Return what the file says of decay."""
        sections = {agent: tables.decay for agent, tables in self.agents.items()}
        overrides = _overrides(self.decay, sections)
        return DecayPolicy(**self.decay.policy_keys(), overrides=tuple(overrides))

    @property
    def every(self) -> Mapping[str, Every]:
        """How often each job is due."""
        return {name: getattr(self.run, name) for name in JOBS}

    def prune_policy(self) -> PrunePolicy:
        """Return what the file says of retention."""
        sections = {agent: tables.prune for agent, tables in self.agents.items()}
        overrides = _overrides(self.prune, sections)
        return PrunePolicy(**self.prune.policy_keys(), overrides=tuple(overrides))


class Problem(NamedTuple):
    """A key that is wrong in the file, and what to do about it."""

    key: str
    message: str
    hint: str


class ConfigurationError(UsageError):
    """The configuration is wrong; the message has the first of its problems."""

    def __init__(self, file: Path, problems: Sequence[Problem]) -> None:
        first, *others = problems
        more = f" (and {len(others)} more: see `memctl config validate`)" if others else ""
        super().__init__(f"{file}: {first.key}: {first.message}{more}", first.hint)
        self.problems = problems


def read_configuration(file: Path) -> Configuration:
    """Read and check a configuration file.

    Raises ConfigurationError with the first keys that are wrong, and UsageError when it cannot be
    read.
    """
    try:
        # Some editors begin a file with a byte order mark.
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read ({error})", "check --config") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{file} is not TOML: {error}", "correct it") from None
    try:
        configuration = Configuration.model_validate(document)
    except ValidationError as error:
        problems = [_problem(wrong) for wrong in error.errors()[:MOST_PROBLEMS]]
        raise ConfigurationError(file, problems) from None
    if disorder := list(islice(_disorder(configuration), MOST_PROBLEMS)):
        raise ConfigurationError(file, disorder)
    return configuration


def _overrides(
    general: DecaySection | PruneSection, of_agents: Mapping[str, DecaySection | PruneSection]
) -> Iterator[Override]:
    """Yield what is said of some memories, in the order in which it counts."""
    for agent, section in of_agents.items():
        yield from _of_types(section, agent)
        for key, value in section.policy_keys().items():
            yield Override(key, value, agent)
    yield from _of_types(general, None)


def _of_types(section: DecaySection | PruneSection, agent: str | None) -> Iterator[Override]:
    for type_, keys in section.types.items():
        for key, value in keys.policy_keys().items():
            yield Override(key, value, agent, type_)


def _problem(wrong: ErrorDetails) -> Problem:
    """Say what pydantic found wrong."""
    *table, key = path = [str(part) for part in wrong["loc"]]
    message, hint = wrong["msg"].removeprefix("Value error, "), "correct it"
    if wrong["type"] in ("model_type", "dict_type"):
        message = "Input should be a table"  # pydantic speaks of Python
    if wrong["type"] == "extra_forbidden":
        message, known = "memctl has no such key", list(_section(table).model_fields)
        close = name_like(key, known)
        hint = f"did you mean {close}?" if close else f"it knows {', '.join(known)} there"
    return Problem(dotted(path), message, hint)


def _section(path: Sequence[str]) -> type[Section]:
    """Return the class of a table in the file."""
    found: Any = Configuration
    for name in path:
        named_freely = get_args(found)  # of dict[str, a class]
        found = named_freely[-1] if named_freely else found.model_fields[name].annotation
    section: type[Section] = found
    return section


def _disorder(configuration: Configuration) -> Iterator[Problem]:
    """Yield what is wrong only in what several keys, and several tables, come to together."""
    general = "stale_days" if "stale_days" in configuration.decay.model_fields_set else "grace_days"
    seen = set()
    for agent in (None, *configuration.agents):
        agents = {} if agent is None else {agent: configuration.agents[agent]}
        policy = configuration.model_copy(update={"agents": agents}).decay_policy()
        said = [over for over in policy.overrides if over.key in ("grace_days", "stale_days")]
        for type_ in dict.fromkeys([None, *(override.type for override in said)]):
            held = policy.of(agent, type_)
            if held.grace_days <= held.stale_days:
                continue
            paths = [
                (*override.table("decay"), override.key)
                for override in said
                if override.covers(agent, type_)
            ]
            path = paths[0] if paths else ("decay", general)
            if path not in seen:
                seen.add(path)
                message = f"{held.grace_days} grace_days are more than {held.stale_days} stale_days"
                yield Problem(dotted(path), message, "make them fewer")


def command_problems(configuration: Configuration) -> list[Problem]:
    """Return what is wrong with the alert command; a job does its work nevertheless."""
    command = configuration.alerts.command
    if not command or which(command[0]):
        return []
    message = f"there is no program {command[0]!r} that this user may run"
    return [Problem("alerts.command", message, "correct it, or install the program")]
