"""The configuration file: TOML, strict, every value checked before anything is opened."""

import tomllib
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from memctl.decay import DecayPolicy
from memctl.errors import UsageError
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


class RunSection(Section):
    """`[run]`"""

    cleanup: Every = RunPolicy.cleanup
    decay: Every = RunPolicy.decay
    prune: Every = RunPolicy.prune

    def policy(self) -> RunPolicy:
        """Return the policy that the section describes."""
        return RunPolicy(**self.model_dump())


class Configuration(Section):
    """The whole file."""

    database: str | None = Field(None, min_length=1)  # relative to the file
    decay: DecaySection = Field(default_factory=lambda: DecaySection.model_validate({}))
    prune: PruneSection = Field(default_factory=lambda: PruneSection.model_validate({}))
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
