"""The configuration file: strict TOML, validated completely before a database is opened.

Each table is a class. `memctl config init` writes the description and the example of each field. A
table for an agent or a type has the keys of the general table, without defaults.
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
    BeforeValidator,
    Field,
    ValidationError,
    create_model,
)
from pydantic_core import ErrorDetails

from memctl.config.jobs import JOBS, Every
from memctl.config.policies import (
    ArchivePolicy,
    CheckPolicy,
    DecayPolicy,
    Override,
    PromotePolicy,
    PrunePolicy,
    QuotaPolicy,
    dotted,
)
from memctl.config.sections import (
    AlertsSection,
    HeartbeatSection,
    HooksSection,
    QuotaSection,
    ReportSection,
    Section,
    possible_database,
)
from memctl.errors import UsageError, did_you_mean
from memctl.storage.sqlite.database import reachable

MOST_PROBLEMS = 10  # reported at once

if TYPE_CHECKING:
    JobName = str
else:  # pydantic refuses every other name
    JobName = Literal[tuple(JOBS)]

Points = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Days = Annotated[int, Field(ge=0, le=36500)]


def _date(value: object) -> object:
    """Parse a date given as text; TOML also has native dates."""
    try:
        return date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("Input should be a date such as 2026-11-22") from None


class DecayTable(Section):
    """The keys of `[decay]` and of its tables for agents and types."""

    floor: Points = Field(DecayPolicy.floor, description="minimum importance")
    grace_days: Days = Field(DecayPolicy.grace_days, description="idle days without decay")
    idle_rate: Points = Field(DecayPolicy.idle_rate, description="points per day after grace_days")
    stale_days: Days = Field(
        DecayPolicy.stale_days, description="idle days until stale_rate applies"
    )
    stale_rate: Points = Field(
        DecayPolicy.stale_rate, description="points per day after stale_days"
    )
    since: Annotated[date | None, BeforeValidator(_date)] = Field(
        None,
        description="idle time before this day (UTC) is never charged",
        examples=["2026-11-22"],
    )

    def policy_keys(self) -> dict[str, Any]:
        """Return the keys that the table sets, as fields of DecayPolicy."""
        keys = self.model_dump(include=set(DecayTable.model_fields), exclude_unset=True)
        if self.since:
            keys["since"] = datetime.combine(self.since, time(), UTC)
        return keys


class DecaySection(DecayTable):
    """`[decay]`"""

    types: dict[str, DecayTable] = Field(default_factory=dict)


class PruneTable(Section):
    """The keys of `[prune]` and of its tables for agents and types."""

    retention_days: int = Field(
        PrunePolicy.retention.days,
        gt=0,
        le=36500,
        description="days in the archive before deletion",
    )
    protected_importance: float = Field(
        PrunePolicy.protected_importance,
        allow_inf_nan=False,
        description="minimum importance that is kept permanently",
    )

    def policy_keys(self) -> dict[str, Any]:
        """Return the keys that the table sets, as fields of PrunePolicy."""
        keys = self.model_dump(include=set(PruneTable.model_fields), exclude_unset=True)
        if "retention_days" in keys:
            keys["retention"] = timedelta(days=keys.pop("retention_days"))
        return keys


class PruneSection(PruneTable):
    """`[prune]`"""

    types: dict[str, PruneTable] = Field(default_factory=dict)


class ArchiveTable(Section):
    """The keys of `[archive]` and of its tables for agents and types."""

    keep_versions: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="replaced versions of each memory that are kept; all by default",
        examples=[100],
    )

    def policy_keys(self) -> dict[str, Any]:
        """Return the keys that the table sets, as fields of ArchivePolicy."""
        return self.model_dump(include=set(ArchiveTable.model_fields), exclude_unset=True)


class ArchiveSection(ArchiveTable):
    """`[archive]`"""

    types: dict[str, ArchiveTable] = Field(default_factory=dict)


PolicySection = DecaySection | PruneSection | ArchiveSection


class AgentSection(Section):
    """`[agents."NAME"]`"""

    decay: DecaySection = DecaySection.model_construct()
    prune: PruneSection = PruneSection.model_construct()
    archive: ArchiveSection = ArchiveSection.model_construct()
    quota: QuotaSection = QuotaSection.model_construct()


class PromoteSection(Section):
    """`[promote]`"""

    importance: float = Field(
        PromotePolicy.importance, allow_inf_nan=False, description="minimum importance"
    )
    accesses: int = Field(
        PromotePolicy.accesses, ge=0, le=10**9, description="minimum number of reads"
    )
    age_days: int = Field(PromotePolicy.age.days, ge=0, le=36500, description="minimum age in days")

    def policy(self) -> PromotePolicy:
        """Return the policy that the section describes."""
        return PromotePolicy(self.importance, self.accesses, timedelta(days=self.age_days))


class CheckSection(Section):
    """`[check]`"""

    backup_days: int = Field(
        CheckPolicy.backup_days,
        gt=0,
        le=36500,
        description="maximum age of the newest backup, in days",
    )
    overdue_days: dict[JobName, Annotated[int, Field(gt=0, le=36500)]] = Field(
        dict(CheckPolicy().overdue_days), description="maximum days without a success"
    )

    def policy(self) -> CheckPolicy:
        """Return the policy that the section describes; a job it leaves out has its default."""
        return CheckPolicy(self.backup_days, {**CheckPolicy().overdue_days, **self.overdue_days})


class ObservabilitySection(Section):
    """`[observability]`"""

    events: bool = Field(False, description="add a row per run to observability_events")


RunSection = create_model(
    "RunSection",
    __base__=Section,
    __doc__="`[run]`",
    **{name: (Every, Field(job.every, description=job.summary)) for name, job in JOBS.items()},  # type: ignore[call-overload]
)


class Configuration(Section):
    """The whole file."""

    database: Annotated[str | None, AfterValidator(possible_database)] = Field(
        None,
        min_length=1,
        description="path relative to this file, or postgresql:// URL",
        examples=["memory.db"],
    )
    decay: DecaySection = DecaySection.model_construct()
    prune: PruneSection = PruneSection.model_construct()
    archive: ArchiveSection = ArchiveSection.model_construct()
    quota: QuotaSection = QuotaSection.model_construct()
    promote: PromoteSection = PromoteSection.model_construct()
    alerts: AlertsSection = AlertsSection.model_construct()
    hooks: HooksSection = HooksSection.model_construct()
    heartbeat: HeartbeatSection = HeartbeatSection.model_construct()
    report: ReportSection = ReportSection.model_construct()
    check: CheckSection = CheckSection.model_construct()
    observability: ObservabilitySection = ObservabilitySection.model_construct()
    run: RunSection = RunSection.model_construct()  # type: ignore[valid-type]
    agents: dict[str, AgentSection] = Field(default_factory=dict)

    def decay_policy(self) -> DecayPolicy:
        """Return the decay policy of the file."""
        sections = {agent: tables.decay for agent, tables in self.agents.items()}
        overrides = _overrides(self.decay, sections)
        return DecayPolicy(**self.decay.policy_keys(), overrides=tuple(overrides))

    @property
    def every(self) -> Mapping[str, Every]:
        """How often each job is due."""
        return {name: getattr(self.run, name) for name in JOBS}

    def prune_policy(self) -> PrunePolicy:
        """Return the prune policy of the file."""
        sections = {agent: tables.prune for agent, tables in self.agents.items()}
        overrides = _overrides(self.prune, sections)
        return PrunePolicy(**self.prune.policy_keys(), overrides=tuple(overrides))

    def archive_policy(self) -> ArchivePolicy:
        """Return the policy for the archive of the file."""
        sections = {agent: tables.archive for agent, tables in self.agents.items()}
        overrides = _overrides(self.archive, sections)
        return ArchivePolicy(**self.archive.policy_keys(), overrides=tuple(overrides))

    def quota_policy(self) -> QuotaPolicy:
        """Return the quotas of the file."""
        overrides = [
            Override(key, value, agent)
            for agent, tables in self.agents.items()
            for key, value in tables.quota.policy_keys().items()
        ]
        return QuotaPolicy(**self.quota.policy_keys(), overrides=tuple(overrides))


class Problem(NamedTuple):
    """An invalid key in the file, and what to do about it."""

    key: str
    message: str
    hint: str


class ConfigurationError(UsageError):
    """The configuration is invalid; the message has the first problem."""

    def __init__(self, file: Path, problems: Sequence[Problem]) -> None:
        first, *others = problems
        more = f" (and {len(others)} more: see `memctl config validate`)" if others else ""
        super().__init__(f"{file}: {first.key}: {first.message}{more}", first.hint)
        self.problems = problems


def read_configuration(file: Path) -> Configuration:
    """Read and check a configuration file.

    Raises ConfigurationError with the first invalid keys, and UsageError if it cannot be read.
    """
    try:
        # Some editors write a byte order mark at the start of a file.
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read ({error})", "check --config") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{file} is not valid TOML: {error}", "correct it") from None
    try:
        configuration = Configuration.model_validate(document)
    except ValidationError as error:
        problems = [_problem(wrong) for wrong in error.errors()[:MOST_PROBLEMS]]
        raise ConfigurationError(file, problems) from None
    if disorder := list(islice(_disorder(configuration), MOST_PROBLEMS)):
        raise ConfigurationError(file, disorder)
    return configuration


def _overrides(
    general: PolicySection, of_agents: Mapping[str, PolicySection]
) -> Iterator[Override]:
    """Yield the overrides for agents and types, in order of precedence."""
    for agent, section in of_agents.items():
        yield from _of_types(section, agent)
        for key, value in section.policy_keys().items():
            yield Override(key, value, agent)
    yield from _of_types(general, None)


def _of_types(section: PolicySection, agent: str | None) -> Iterator[Override]:
    for type_, keys in section.types.items():
        for key, value in keys.policy_keys().items():
            yield Override(key, value, agent, type_)


def _problem(wrong: ErrorDetails) -> Problem:
    """Return a problem that pydantic found."""
    *table, key = path = [str(part) for part in wrong["loc"]]
    message, hint = wrong["msg"].removeprefix("Value error, "), "correct it"
    if wrong["type"] in ("model_type", "dict_type"):
        message = "Input should be a table"  # pydantic uses the terms of Python
    if wrong["type"] == "extra_forbidden":
        message, known = "unknown key", list(_section(table).model_fields)
        hint = did_you_mean(key, known, otherwise=f"use one of {', '.join(known)}")
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
    """Yield problems in the combination of several keys or tables."""
    general = "stale_days" if "stale_days" in configuration.decay.model_fields_set else "grace_days"
    seen = set()
    for agent in (None, *configuration.agents):
        agents = {} if agent is None else {agent: configuration.agents[agent]}
        policy = configuration.model_copy(update={"agents": agents}).decay_policy()
        limits = [over for over in policy.overrides if over.key in ("grace_days", "stale_days")]
        for type_ in dict.fromkeys([None, *(override.type for override in limits)]):
            held = policy.of(agent, type_)
            if held.grace_days <= held.stale_days:
                continue
            paths = [
                (*override.table("decay"), override.key)
                for override in limits
                if override.covers(agent, type_)
            ]
            path = paths[0] if paths else ("decay", general)
            if path not in seen:
                seen.add(path)
                message = f"grace_days ({held.grace_days}) exceeds stale_days ({held.stale_days})"
                yield Problem(dotted(path), message, "decrease grace_days or increase stale_days")


def command_problems(configuration: Configuration) -> list[Problem]:
    """Return problems with the programs to run, which do not prevent jobs."""
    hooks = configuration.hooks.hooks()
    commands = {"alerts.command": configuration.alerts.command} | {
        f"hooks.{name}": command for name, command in hooks._asdict().items()
    }
    return [
        Problem(
            key,
            f"there is no program {command[0]!r} that this user can run",
            "correct the path, or install the program",
        )
        for key, command in commands.items()
        if command and not which(command[0])
    ]


def directory_problems(configuration: Configuration, file: Path) -> list[Problem]:
    """Return a problem if there is no directory for reports, which does not prevent jobs."""
    report = configuration.report.policy(beside=file)
    if report.every == "never" or report.directory is None:
        return []
    with reachable(report.directory):
        if report.directory.is_dir():
            return []
    message = f"there is no directory {report.directory}"
    return [Problem("report.directory", message, "create it, or correct the path")]
