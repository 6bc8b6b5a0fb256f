"""The tables of the configuration file for quotas, alerts, hooks, heartbeats and reports."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer

from memctl.config.addresses import origin, web_address
from memctl.config.jobs import ReportEvery
from memctl.config.policies import AlertPolicy, Hooks, ReportFormat, ReportPolicy
from memctl.errors import UsageError
from memctl.storage.addresses import is_url, parse_address
from memctl.storage.sqlite.database import reachable

Command = list[Annotated[str, Field(min_length=1)]]  # a program and its arguments


class Section(BaseModel):
    """A table of the file; unknown keys and values of the wrong type are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def possible_database(value: str | None) -> str | None:
    """Raise ValueError, without a password in its message, for an impossible database."""
    if value and is_url(value):
        try:
            parse_address(value)
        except UsageError as error:
            raise ValueError(str(error)) from None
    return possible_path(value)


def possible_path(value: str | None) -> str | None:
    """Raise ValueError for an impossible file name."""
    if value and "\0" in value:
        raise ValueError("A file name cannot contain a NUL character")
    return value


class QuotaSection(Section):
    """`[quota]`"""

    memories: int | None = Field(
        None, gt=0, description="maximum number of active memories per agent", examples=[1000]
    )
    bytes: int | None = Field(
        None,
        gt=0,
        description="maximum bytes of their keys, values and metadata",
        examples=[10_000_000],
    )

    def policy_keys(self) -> dict[str, Any]:
        """Return the keys that the table sets, as fields of QuotaPolicy."""
        return self.model_dump(exclude_unset=True)


class AlertsSection(Section):
    """`[alerts]`"""

    agent_memories: int = Field(
        AlertPolicy.agent_memories, gt=0, description="alert above this number per agent"
    )
    command: Command = Field(
        [],
        description="program and arguments; reads JSON from stdin",
        examples=[["/usr/local/bin/send-alert"]],
    )

    def policy(self) -> AlertPolicy:
        """Return the policy that the section describes."""
        return AlertPolicy(self.agent_memories)


class HooksSection(Section):
    """`[hooks]`"""

    start: Command = Field(
        [],
        description="before each run; program and arguments, reads JSON from stdin",
        examples=[["/usr/local/bin/memctl-start"]],
    )
    success: Command = Field(
        [],
        description="after each run that succeeded",
        examples=[["/usr/local/bin/memctl-done"]],
    )
    failure: Command = Field(
        [],
        description="after each run that failed or was refused",
        examples=[["/usr/local/bin/memctl-failed"]],
    )

    def hooks(self) -> Hooks:
        """Return the programs that the section names."""
        return Hooks(self.start, self.success, self.failure)


class HeartbeatSection(Section):
    """`[heartbeat]`"""

    url: (
        Annotated[
            str, AfterValidator(web_address), PlainSerializer(lambda url: f"{origin(url)}/...")
        ]
        | None
    ) = Field(
        None,
        description="requested after each `memctl run`, with /fail after a failure",
        examples=["https://hc-ping.com/your-uuid"],
    )


class ReportSection(Section):
    """`[report]`"""

    every: ReportEvery = Field(
        ReportPolicy.every,
        description='how often `memctl run` writes it: "daily", "weekly", "monthly" or "never"',
    )
    format: ReportFormat = Field(
        ReportPolicy.format, description='"text", "markdown", "json" or "html"'
    )
    directory: Annotated[str | None, AfterValidator(possible_path)] = Field(
        None,
        min_length=1,
        description="path relative to this file; defaults to the directory of the database",
        examples=["reports"],
    )

    def policy(self, *, beside: Path) -> ReportPolicy:
        """Return the policy that the section describes; `beside` is the configuration file."""
        directory = None
        if self.directory is not None:
            with reachable(Path(self.directory)):
                directory = beside.parent / Path(self.directory).expanduser()
        return ReportPolicy(self.every, self.format, directory)
