"""Commands as Typer sees them: their bundles of options spread out, their errors reported.

A command takes a bundle of options as one parameter, such as `def cleanup(call: GlobalOptions, job:
JobOptions)`. `command` shows Typer each field of it as an option of its own. What dataclasses add
beyond that would cost every start.
"""

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from memctl.cli.engines import refusal
from memctl.cli.options import ASKED_BY, ConfigDirOption, GlobalOptions, JobOptions
from memctl.errors import MemctlError, UsageError, shortage
from memctl.output.messages import MessageStyle
from memctl.output.terminal import set_message_style, show_error

# The commands that can work on several databases, and their parameters for one database only.
ON_EACH_DATABASE: dict[str, dict[str, str]] = {
    "run": {},
    "backup": {
        "output": "--output",
        "listing": "--list",
        "verify": "--verify",
        "restore": "--restore",
    },
    "check": {"nagios": "--nagios"},
}

CONFIG_DIR = inspect.Parameter(
    "config_dir", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ConfigDirOption
)


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
        directory = given.pop("config_dir") if name in ON_EACH_DATABASE else None
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
        if "context" in parameters:
            given["context"] = context
        try:
            call.check()
            if directory is None:
                _require_on_engine(call, name, given)
                function(**bundled, **given)
            else:
                _on_each_database(name, function, directory, call, {**bundled, **given})
        except (MemctlError, MemoryError, OSError) as caught:
            error = caught if isinstance(caught, MemctlError) else shortage(caught)
            if error is None:
                raise
            show_error(error, as_json=call.json)
            raise typer.Exit(error.exit_code) from caught

    own = [
        parameter
        for parameter in parameters.values()
        if parameter.name not in (*bundles, "context")
    ]
    if name in ON_EACH_DATABASE:
        own.append(CONFIG_DIR)
    spread = [option for bundle in bundles.values() for option in spread_out(bundle)]
    set_parameters(run, [*own, *spread])
    run.__doc__ = function.__doc__
    app.command(name, cls=CommandWithExamples)(run)


def _require_on_engine(call: GlobalOptions, name: str, given: Mapping[str, Any]) -> None:
    """Raise UsageError for a command, or an option, that the engine of the database lacks."""
    refused = refusal(name, given)
    if refused and not isinstance(call.settings.database, Path):
        raise refused


def _on_each_database(
    name: str,
    function: Callable[..., None],
    directory: Path,
    call: GlobalOptions,
    given: Mapping[str, Any],
) -> None:
    """Call the function of a command for each configuration file in a directory."""
    from memctl.cli.databases import run_on_each

    for parameter, option in ON_EACH_DATABASE[name].items():
        if given[parameter]:
            raise UsageError(f"--config-dir cannot be used with {option}", "choose one")
    jobs = {key: options for key, options in given.items() if isinstance(options, JobOptions)}

    def run_on_one(call: GlobalOptions, *, seconds: float | None) -> None:
        _require_on_engine(call, name, given)
        limited = {key: replace(options, max_seconds=seconds) for key, options in jobs.items()}
        function(**{**given, "call": call, **limited})

    max_seconds = next((options.max_seconds for options in jobs.values()), None)
    run_on_each(call, directory, run_on_one, max_seconds=max_seconds)


def _show_help(context: typer.Context, wanted: bool) -> None:
    """Print the help; Typer's own option would end with a traceback on a full disk."""
    if wanted:
        from memctl.output.help import show_help

        show_help(context.get_help())
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
