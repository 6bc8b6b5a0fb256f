"""The configuration file: TOML, strict, every value checked before anything is opened."""

import tomllib
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from memctl.alerts import AlertPolicy
from memctl.candidates import PromotePolicy
from memctl.decay import DecayPolicy
from memctl.errors import UsageError
from memctl.findings import OVERDUE_DAYS, CheckPolicy, ScheduledJob
from memctl.prune import PrunePolicy
from memctl.run import Every, RunPolicy

Points = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _date(value: object) -> object:
    """Read the text of a date; TOML has dates of its own, too."""
    return date.fromisoformat(value) if isinstance(value, str) else value


class Section(BaseModel):
    """A table of the file: unknown keys are errors, and a text is not a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DecaySection(Section):
    """`[decay]`"""

    floor: Points = DecayPolicy.floor
    grace_days: int = Field(DecayPolicy.grace_days, ge=0, le=36500)
    idle_rate: Points = DecayPolicy.idle_rate
    stale_days: int = Field(DecayPolicy.stale_days, ge=0, le=36500)
    stale_rate: Points = DecayPolicy.stale_rate
    since: Annotated[date | None, BeforeValidator(_date)] = None

    @model_validator(mode="after")
    def _in_order(self) -> "DecaySection":
        if self.stale_days < self.grace_days:
            raise ValueError("stale_days must not be less than grace_days")
        return self

    def policy(self) -> DecayPolicy:
        """Return the policy that the section describes."""
        since = self.since and datetime.combine(self.since, time(), UTC)
        return DecayPolicy(**{**self.model_dump(), "since": since})


class PruneSection(Section):
    """`[prune]`"""

    retention_days: int = Field(PrunePolicy.retention.days, gt=0, le=36500)
    protected_importance: float = Field(PrunePolicy.protected_importance, allow_inf_nan=False)

    def policy(self) -> PrunePolicy:
        """Return the policy that the section describes."""
        return PrunePolicy(timedelta(days=self.retention_days), self.protected_importance)


class PromoteSection(Section):
    """`[promote]`"""

    importance: float = Field(PromotePolicy.importance, allow_inf_nan=False)
    accesses: int = Field(PromotePolicy.accesses, ge=0, le=10**9)
    age_days: int = Field(PromotePolicy.age.days, ge=0, le=36500)

    def policy(self) -> PromotePolicy:
        """Return the policy that the section describes."""
        return PromotePolicy(self.importance, self.accesses, timedelta(days=self.age_days))


class AlertsSection(Section):
    """`[alerts]`"""

    agent_memories: int = Field(AlertPolicy.agent_memories, gt=0)
    command: list[Annotated[str, Field(min_length=1)]] = []

    def policy(self) -> AlertPolicy:
        """Return the policy that the section describes."""
        return AlertPolicy(self.agent_memories)


class CheckSection(Section):
    """`[check]`"""

    backup_days: int = Field(CheckPolicy.backup_days, gt=0, le=36500)
    overdue_days: dict[ScheduledJob, Annotated[int, Field(gt=0, le=36500)]] = dict(OVERDUE_DAYS)

    def policy(self) -> CheckPolicy:
        """Return the policy that the section describes; a job it leaves out has its default."""
        return CheckPolicy(self.backup_days, {**OVERDUE_DAYS, **self.overdue_days})


class ObservabilitySection(Section):
    """`[observability]`"""

    events: bool = False


class RunSection(Section):
    """`[run]`"""

    cleanup: Every = RunPolicy.cleanup
    decay: Every = RunPolicy.decay
    promote: Every = RunPolicy.promote
    snapshot: Every = RunPolicy.snapshot
    prune: Every = RunPolicy.prune

    def policy(self) -> RunPolicy:
        """Return the policy that the section describes."""
        return RunPolicy(**self.model_dump())


class Configuration(Section):
    """The whole file."""

    database: str | None = Field(None, min_length=1)  # relative to the file
    decay: DecaySection = Field(default_factory=lambda: DecaySection.model_validate({}))
    prune: PruneSection = Field(default_factory=lambda: PruneSection.model_validate({}))
    promote: PromoteSection = Field(default_factory=lambda: PromoteSection.model_validate({}))
    alerts: AlertsSection = Field(default_factory=lambda: AlertsSection.model_validate({}))
    check: CheckSection = Field(default_factory=lambda: CheckSection.model_validate({}))
    observability: ObservabilitySection = Field(
        default_factory=lambda: ObservabilitySection.model_validate({})
    )
    run: RunSection = Field(default_factory=lambda: RunSection.model_validate({}))


def read_configuration(file: Path) -> Configuration:
    """Read and check a configuration file.

    Raises UsageError naming the file and the first key that is wrong.
    """
    try:
        document: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
        return Configuration.model_validate(document)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read ({error})", "check --config") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file} is not TOML: {error}", "correct it") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{file}: {key or 'the file'}: {first['msg']}", "correct it") from None
