"""Options that several commands share.

A command takes a bundle of options as one parameter, `def cleanup(call: Call, job: JobOptions)`;
`command` shows Typer each field of it as an option of its own. What dataclasses add beyond that
would cost every start.
"""

import functools
import inspect
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from memctl.config.settings import Settings, load_settings
from memctl.errors import MemctlError, UsageError, shortage
from memctl.jobs.alerts import UNDER_ALERT, run_command
from memctl.jobs.engine import MOST_LOCK_WAIT, JobReport, JobRequest, JobResult
from memctl.jobs.watchdog import Watch
from memctl.output.messages import LogFormat, MessageStyle
from memctl.output.results import show_report
from memctl.output.tables import Format
from memctl.output.terminal import (
    set_message_style,
    show_error,
    show_notice,
    show_text,
    to_json,
    visible,
)
from memctl.storage.sqlite.alerts import Alert, Undelivered
from memctl.storage.sqlite.database import Connection, database_path, open_database, require_file
from memctl.storage.sqlite.files import output_path
from memctl.storage.sqlite.locking import exclusive
from memctl.storage.times import is_possible, parse_moment, to_text

# The environment variable with which a shell requests completions.
ASKED_BY = "_MEMCTL_COMPLETE"


@dataclass(frozen=True, eq=False, repr=False)
class GlobalOptions:
    """The options of every command, before or after its name."""

    db: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=database_path,
            help="Database file. Defaults to MEMCTL_DB, HARNESS_DB_PATH, the configuration, then"
            " memory.db in the user's data directory.",
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

    def request(self, call: GlobalOptions, *, partial: bool = False) -> JobRequest:
        """Return the request for a job; `partial` if it does only a part of what is due."""
        return JobRequest(
            database=call.settings.database,
            now=call.moment,
            dry_run=self.dry_run,
            force=self.force,
            lock_wait=self.lock_wait,
            watch=Watch(
                alerts=call.settings.alerts,
                deliver=None
                if self.dry_run or UNDER_ALERT in os.environ
                else functools.partial(deliver, call),
                spool=call.settings.spool,
                service_events=call.settings.service_events,
            ),
            partial=partial,
        )


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

    def request(self, call: GlobalOptions, *, partial: bool = False) -> JobRequest:
        """Return the request for a job; `partial` if it does only a part of what is due."""
        request = super().request(call, partial=partial)
        return request._replace(listing=self.listing, max_seconds=self.max_seconds)


@dataclass(frozen=True, eq=False, repr=False)
class OutputOptions:
    """The output format of records; JSON by default."""

    table: Annotated[bool, typer.Option("--table", "-t", help="Print a table.")] = False
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False
    nl: Annotated[bool, typer.Option("--nl", help="Print one JSON object per line.")] = False

    def form(self, call: GlobalOptions) -> Format:
        """Return the chosen format.

        Raises UsageError if there are several.
        """
        forms: dict[Format, bool] = {
            "json": call.json,
            "table": self.table,
            "csv": self.csv,
            "nl": self.nl,
        }
        chosen = [form for form, wanted in forms.items() if wanted]
        if len(chosen) > 1:
            raise UsageError(
                "--json, --table, --csv and --nl cannot be used together", "choose one"
            )
        return chosen[0] if chosen else "json"


AgentArgument = Annotated[str, typer.Argument(metavar="AGENT", help="Agent name.")]
AgentOption = Annotated[
    str | None,
    typer.Option("--agent", metavar="AGENT", help="Limit to the memories of this agent."),
]


class CommandWithExamples(typer.core.TyperCommand):
    """A command whose help ends with examples."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples."""
        from memctl.cli.examples import EXAMPLES, examples_text

        formatter.write(examples_text(EXAMPLES[str(self.name)]))


def command(app: typer.Typer, name: str, function: Callable[..., None]) -> None:
    """Register a function as a command, with the options of its bundles.

    The command prints a MemctlError and exits with its code; bugs keep their traceback.
    """
    parameters = inspect.signature(function).parameters
    bundles: dict[str, Any] = {
        parameter.name: parameter.annotation
        for parameter in parameters.values()
        if is_dataclass(parameter.annotation)
    }

    def run(context: typer.Context, help_: bool, **given: Any) -> None:
        bundled = {
            bundled_as: bundle(**{field.name: given.pop(field.name) for field in fields(bundle)})
            for bundled_as, bundle in bundles.items()
        }
        given_here = {
            field.name
            for field in fields(GlobalOptions)
            if (source := context.get_parameter_source(field.name)) and source.name == "COMMANDLINE"
        }
        call = bundled["call"] = bundled["call"].over(context.obj, given_here)
        set_message_style(MessageStyle(call.log_format, call.verbose, command=name))
        try:
            call.check()
            function(**bundled, **given)
        except (MemctlError, MemoryError, OSError) as caught:
            error = caught if isinstance(caught, MemctlError) else shortage(caught)
            if error is None:
                raise
            show_error(error, as_json=call.json)
            raise typer.Exit(error.exit_code) from caught

    own = [parameter for parameter in parameters.values() if parameter.name not in bundles]
    spread = [option for bundle in bundles.values() for option in spread_out(bundle)]
    set_parameters(run, [*own, *spread])
    run.__doc__ = function.__doc__
    app.command(name, cls=CommandWithExamples)(run)


def _show_help(context: typer.Context, wanted: bool) -> None:
    """Print the help; Typer's own option would end with a traceback on a full disk."""
    if wanted:
        show_text([context.get_help(), "\n"])
        raise typer.Exit


HelpOption = Annotated[
    bool,
    typer.Option(
        "--help", "-h", callback=_show_help, is_eager=True, help="Show this help and exit."
    ),
]


def set_parameters(function: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Set the signature that Typer reads: a context, these parameters and --help."""
    if ASKED_BY in os.environ:
        from memctl.cli.completion import offer_values

        offer_values(parameters)
    keyword = inspect.Parameter.KEYWORD_ONLY
    context = inspect.Parameter("context", keyword, annotation=typer.Context)
    wants_help = inspect.Parameter("help_", keyword, default=False, annotation=HelpOption)
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=keyword) for parameter in (context, *parameters, wants_help)]
    )
    function.__annotations__ = {}


def spread_out(bundle: type) -> list[inspect.Parameter]:
    """Return the fields of a bundle as parameters."""
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=field.type,
        )
        for field in fields(bundle)
    ]


@contextmanager
def alone_with_database(
    call: GlobalOptions, lock: LockOptions, *, job: str
) -> Iterator[Connection]:
    """Open the database for a change that is not a job, and exclude other memctl processes.

    `job` is the name that they report as running. Raises NoDatabaseError if there is none, and
    LockedError when one of them still runs after `lock.lock_wait` seconds.
    """
    path = call.settings.database
    require_file(path)
    with (
        exclusive(path, job=job, wait=lock.lock_wait),
        open_database(path, lock_wait=lock.lock_wait) as db,
    ):
        yield db


def deliver(call: GlobalOptions, waiting: Undelivered, seconds: float) -> bool:
    """Send an alert to the configured command; return whether no retry is necessary."""
    command = call.settings.alert_command
    try:
        if command:
            document = alert_document(call, waiting.alert, at=waiting.raised_at)
            run_command(command, document, seconds=seconds)
    except MemctlError as error:
        show_notice(f"memctl: {error}; the next run will retry")
        return False
    return True


def alert_document(call: GlobalOptions, alert: Alert, *, at: str) -> str:
    """Return the JSON that the alert command receives."""
    return to_json(
        {
            "schema": 1,
            "at": at,
            "database": str(call.settings.database.resolve()),
            "message": visible(alert.message),
            **({} if alert.agent is None else {"agent_id": alert.agent}),
            **alert.detail,
        }
    )


def finish(report: JobReport[JobResult], call: GlobalOptions, job: ChangeOptions) -> None:
    """Print the result of a job; raise its refusal if it left something undone."""
    listing = isinstance(job, JobOptions) and job.listing
    show_report(report, as_json=call.json, listing=listing, quiet=call.quiet)
    if report.result and report.result.refusal:
        raise report.result.refusal
