"""Options that several commands share.

They are in bundles, each of which is one parameter of a command's function; see `commands`.
"""

import functools
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from memctl.cli.engines import refused_on_postgresql
from memctl.config.settings import Settings, load_settings
from memctl.errors import UsageError, did_you_mean
from memctl.output.messages import LogFormat
from memctl.output.tables import Format, Output
from memctl.output.terminal import present_command, show_notice
from memctl.storage.addresses import ServerAddress, parse_address
from memctl.storage.engines import MOST_LOCK_WAIT
from memctl.storage.rows import MOST_ROWS
from memctl.storage.sqlite.files import output_path
from memctl.storage.times import is_possible, parse_moment, parse_past, to_text

if TYPE_CHECKING:
    from memctl.storage.addresses import Address
else:
    Address = ServerAddress  # Typer supports no unions; it leaves the type to the parser

USUAL_ROWS = 50
Row = TypeVar("Row")

# The environment variable with which a shell requests completions.
ASKED_BY = "_MEMCTL_COMPLETE"


@dataclass(frozen=True, eq=False, repr=False)
class GlobalOptions:
    """The options of every command, before or after its name."""

    db: Annotated[
        Address | None,
        typer.Option(
            metavar="DATABASE",
            parser=parse_address,
            help="Database file, or postgresql:// URL. Defaults to MEMCTL_DB, HARNESS_DB_PATH, the"
            " configuration, then memory.db in the user's data directory.",
        ),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=output_path,
            help="Configuration file. Defaults to MEMCTL_CONFIG, then the user's or system's file.",
        ),
    ] = None
    json: Annotated[bool, typer.Option("--json", help="Print JSON, including errors.")] = False
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print no messages except errors.")
    ] = False
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Also report successes and skipped jobs."),
    ] = False
    log_format: Annotated[
        LogFormat,
        typer.Option(help="Message format on stderr."),
    ] = "text"
    now: Annotated[str | None, typer.Option(metavar="TIME", envvar="MEMCTL_NOW", hidden=True)] = (
        None
    )

    def over(self, earlier: "GlobalOptions | None", given: Collection[str]) -> "GlobalOptions":
        """Return these options, completed by those before the command name.

        `given` names the options after the command name, which take precedence even with a default
        value.
        """
        if earlier is None:
            return self
        return replace(earlier, **{name: getattr(self, name) for name in given})

    @functools.cached_property
    def moment(self) -> datetime:
        """The time of the command, in whole seconds; only log messages read the clock again."""
        now = datetime.now(UTC).replace(microsecond=0)
        if self.now is not None:
            now = parse_moment(self.now)
        if not is_possible(now):
            raise UsageError(
                f"the system clock is wrong: {to_text(now)}", "set it to the current time"
            )
        return now

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings in force."""
        return load_settings(database=self.db, configuration=self.config, environ=os.environ)

    @property
    def file(self) -> Path:
        """The file of the SQLite database. Raises UsageError if it is on a server."""
        if isinstance(self.settings.database, Path):
            return self.settings.database
        raise refused_on_postgresql(present_command())

    def check(self) -> None:
        """Raise UsageError for options that cannot be used together."""
        if self.quiet and self.verbose:
            raise UsageError("--quiet and --verbose cannot be used together", "choose one")


def _seconds(value: float | None) -> float | None:
    """Raise BadParameter for an invalid time, including NaN, which Typer's `min` accepts."""
    if value is not None and not 0 <= value <= MOST_LOCK_WAIT:
        raise typer.BadParameter(f"must be between 0 and {MOST_LOCK_WAIT} seconds")
    return value


@dataclass(frozen=True, eq=False, repr=False)
class LockOptions:
    """The options of commands that change the database."""

    lock_wait: Annotated[
        float,
        typer.Option(metavar="SECONDS", callback=_seconds, help="How long to wait for a lock."),
    ] = 10.0


@dataclass(frozen=True, eq=False, repr=False)
class ChangeOptions(LockOptions):
    """The options of commands that change many memories."""

    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show what would change, but change nothing.")
    ] = False
    force: Annotated[
        bool,
        typer.Option("--force", help="Override the clock and large-change safety checks."),
    ] = False


@dataclass(frozen=True, eq=False, repr=False)
class JobOptions(ChangeOptions):
    """The options of the jobs."""

    listing: Annotated[
        bool, typer.Option("--list", help="List each memory that is, or would be, changed.")
    ] = False
    max_seconds: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", callback=_seconds, help="Stop cleanly after this time."),
    ] = None


@dataclass(frozen=True, eq=False, repr=False)
class OutputOptions:
    """The output format of records; JSON by default."""

    table: Annotated[bool, typer.Option("--table", "-t", help="Print a table.")] = False
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False
    nl: Annotated[bool, typer.Option("--nl", help="Print one JSON object per line.")] = False
    wide: Annotated[bool, typer.Option("--wide", help="Print a table with all fields.")] = False
    columns: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Print only these fields, in this order."),
    ] = None

    @property
    def is_chosen(self) -> bool:
        """Whether one of these options is given."""
        return self.table or self.csv or self.nl or self.wide or self.columns is not None

    def form(self, call: GlobalOptions) -> Format:
        """Return the chosen format.

        Raises UsageError if there are several.
        """
        forms: dict[Format, bool] = {
            "json": call.json,
            "table": self.table or self.wide,
            "csv": self.csv,
            "nl": self.nl,
        }
        chosen = [form for form, wanted in forms.items() if wanted]
        if len(chosen) > 1:
            raise UsageError(
                "--json, --table, --csv and --nl cannot be used together", "choose one"
            )
        if self.wide and self.columns is not None:
            raise UsageError("--wide and --columns cannot be used together", "choose one")
        return chosen[0] if chosen else "json"

    def output(self, call: GlobalOptions, fields: Collection[str]) -> Output:
        """Return how records with these fields are printed.

        Raises UsageError for an unknown field, or for options that cannot be used together.
        """
        form = self.form(call)
        if_empty = "" if call.quiet else "nothing found"
        if self.columns is None:
            return Output(form, call.moment, wide=self.wide, if_empty=if_empty)
        columns = [name.strip() for name in self.columns.split(",")]
        for name in columns:
            if name not in fields:
                hint = did_you_mean(name, fields, otherwise=f"use one of {', '.join(fields)}")
                raise UsageError(f"there is no column '{name}'", hint)
        return Output(form, call.moment, list(dict.fromkeys(columns)), if_empty=if_empty)


OffsetOption = Annotated[
    int, typer.Option(metavar="N", min=0, max=MOST_ROWS, help="Number of rows to skip.")
]


def limit_option(help: str) -> Any:
    """Return the option for the maximum number of rows."""
    return typer.Option("--limit", metavar="N", min=1, max=MOST_ROWS, help=help)


LimitOption = Annotated[int | None, limit_option("Maximum number of rows.")]


@dataclass(frozen=True, eq=False, repr=False)
class PageOptions:
    """Which of the records a list shows."""

    limit: Annotated[int | None, limit_option("Maximum number of rows. Defaults to 50.")] = None
    offset: OffsetOption = 0

    @property
    def most(self) -> int:
        """The maximum number of rows."""
        return self.limit or USUAL_ROWS

    def page(self, records: Sequence[Row], call: GlobalOptions, *, command: str) -> Sequence[Row]:
        """Return the rows of this page; print a notice if there is one more in `records`."""
        if len(records) > self.most:
            rows = "is more than 1 row" if self.most == 1 else f"are more than {self.most:,} rows"
            show_notice(
                f"{command}: there {rows}; see --limit and --offset",
                quiet=call.quiet,
            )
        return records[: self.most]


@dataclass(frozen=True, eq=False, repr=False)
class PeriodOptions:
    """The period of the records that a list shows."""

    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="At or after this time, or within a duration such as 7d."
        ),
    ] = None
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="At or before this time; same format as --since."),
    ] = None

    def period(self, call: GlobalOptions) -> tuple[datetime | None, datetime | None]:
        """Return the first and the last moment of the period; None: without a limit.

        Raises UsageError for an invalid time, and if the period ends before it starts.
        """
        since, until = (
            None if text is None else parse_past(text, now=call.moment)
            for text in (self.since, self.until)
        )
        check_period(since, until)
        return since, until


def check_period(since: datetime | None, until: datetime | None) -> None:
    """Raise UsageError for a period that ends before it starts."""
    if since is not None and until is not None and until < since:
        raise UsageError("--until is before --since", "swap them")


ConfigDirOption = Annotated[
    Path | None,
    typer.Option(
        "--config-dir",
        metavar="DIR",
        parser=output_path,
        help="Use each configuration file in this directory, such as /etc/memctl/conf.d, and the"
        " database that it names.",
    ),
]

AgentArgument = Annotated[str, typer.Argument(metavar="AGENT", help="Agent name.")]
AgentOption = Annotated[
    str | None,
    typer.Option("--agent", metavar="AGENT", help="Limit to the memories of this agent."),
]
TypeOption = Annotated[
    str | None, typer.Option("--type", metavar="TYPE", help="Limit to this type.")
]
BackupsOption = Annotated[
    bool,
    typer.Option(
        "--backups", help="Also rewrite the backups beside the database that memctl has made of it."
    ),
]
BackupOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--backup", metavar="FILE", help="Also rewrite this backup of the database; repeatable."
    ),
]
KeyOption = Annotated[str | None, typer.Option("--key", metavar="KEY", help="Limit to this key.")]

AgentOrAllArgument = Annotated[
    str | None, typer.Argument(metavar="AGENT", help="Agent name; or use --all.")
]
AllAgentsOption = Annotated[bool, typer.Option("--all", help="List the memories of all agents.")]


def require_agent_or_all(agent: str | None, *, all_agents: bool) -> None:
    """Raise UsageError unless there is either an agent or --all."""
    if (agent is None) != all_agents:
        raise UsageError(
            "exactly one of AGENT and --all is required", "name an agent, or use --all"
        )


def run_option(help: str) -> Any:
    """Return the option that names a run by its number."""
    return typer.Option("--run", metavar="N", min=1, max=MOST_ROWS, help=help)


def output_option(help: str) -> Any:
    """Return the option that names a file to write."""
    return typer.Option("--output", "-o", metavar="FILE", parser=output_path, help=help)


FileOption = Annotated[Path | None, output_option("Write to this file instead of stdout.")]
