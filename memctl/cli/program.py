"""The program: parsing the command line and calling one command."""

import importlib
import inspect
import os
import re
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from memctl import __version__
from memctl.cli.commands import command, set_parameters, spread_out
from memctl.cli.options import ASKED_BY, GlobalOptions
from memctl.config.jobs import JOBS
from memctl.errors import MemctlError, UsageError, name_like
from memctl.output.terminal import show_error, show_line

# The commands under the headings of the help, each with its module, in the order of the help.
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "Database": {
        "migrate": ("migrate", "rollback"),
        "status": ("status",),
        "compact": ("compact",),
    },
    "Jobs": {"jobs": ("run", *JOBS)},
    "Archive": {"archive": ("archived", "archive", "restore")},
    "Holds": {"hold": ("hold", "release", "holds")},
    "Memories": {
        "memories": ("remember", "recall", "list", "forget", "summary"),
        "search": ("search", "agents"),
    },
    "Erasure": {"erase": ("erase",), "redact": ("redact",)},
    "Metrics and reports": {"metrics": ("metrics",), "report": ("report",)},
    "History and checks": {
        "events": ("events",),
        "runs": ("runs",),
        "explain": ("explain",),
        "history": ("history",),
        "check": ("check",),
    },
    "Optional features": {"features": ("enable", "disable")},
    "Export and backup": {"documents": ("export", "import"), "backup": ("backup",)},
    "Pause": {"pause": ("pause", "resume")},
    "Setup": {
        "schedule": ("schedule",),
        "config": ("config", "alerts"),
        "schema": ("schema",),
        "completion": ("completion",),
        "help": ("help",),
    },
    "Demo": {"demo": ("demo",)},
}
MODULES = {module: names for modules in GROUPS.values() for module, names in modules.items()}

NAMES = [name for names in MODULES.values() for name in names]


def commands_by_heading() -> dict[str, list[str]]:
    """Return the names of the commands by the headings of the help, in order."""
    return {
        heading: [name for names in modules.values() for name in names]
        for heading, modules in GROUPS.items()
    }


class CommandsInGroups(typer.core.TyperGroup):
    """The program; its help lists the commands under headings, with complete first lines."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands in the order of the modules."""
        for heading, names in commands_by_heading().items():
            with formatter.section(heading):
                formatter.write_dl(
                    (name, (self.commands[name].help or "").partition("\n\n")[0]) for name in names
                )

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the first steps, and references to more help."""
        from memctl.cli.examples import FIRST_STEPS, MORE, examples_text

        formatter.write(examples_text(FIRST_STEPS) + MORE)


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # None when closed
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:]
    if ASKED_BY in os.environ:
        from memctl.cli.completion import answer_shell

        answer_shell(build_app, NAMES)
        return
    try:
        sys.exit(build_app(words)(standalone_mode=False))
    except typer.TyperException as misunderstood:
        if not words:
            from memctl.output.help import show_help

            show_help(misunderstood.message, failed=True)
            sys.exit(2)
        error: MemctlError = _usage_error(misunderstood, words)
    except MemctlError as unprinted:
        error = unprinted
    show_error(error, as_json="--json" in words)
    sys.exit(error.exit_code)


def _usage_error(error: typer.TyperException, words: Sequence[str]) -> UsageError:
    """Return an error of Typer for an invalid command line as a UsageError."""
    text = " ".join(error.format_message().split())
    message, *advice = re.split("[.] (?=Did you mean|Choose from)", text)
    alike = None
    if hasattr(error, "possibilities"):  # an unknown option, for which Typer's suggestions are poor
        message, alike = error.message, _option_like(error)
    elif choice := re.search(": '(.*)' is not one of (.*)", text):
        alike = name_like(choice[1], re.findall("'(.*?)'", choice[2]))
    command = next((word for word in words if word in NAMES), None)
    if alike:
        hint = f"did you mean {alike}?"
    elif advice:
        hint = advice[0][0].lower() + advice[0][1:]
    elif command:
        hint = f"see `memctl {command} --help`"
    else:
        hint = "see `memctl --help`"
    return UsageError(message[0].lower() + message[1:].rstrip("."), hint)


def _option_like(error: Any) -> str | None:
    """Return the option that is most similar to an unknown one, except hidden options."""
    options = {
        name.lstrip("-"): name
        for parameter in error.ctx.command.get_params(error.ctx)
        if not getattr(parameter, "hidden", False)
        for name in parameter.opts
        if name.startswith("--")
    }
    return options.get(name_like(error.option_name.lstrip("-"), options) or "")


def build_app(words: Sequence[str] = ()) -> typer.Typer:
    """Return the program with the command at the start of `words`, or else with all commands.

    A scheduled job starts a quarter faster if Typer does not prepare the other commands.
    """
    app = typer.Typer(
        name="memctl",
        cls=CommandsInGroups,
        no_args_is_help=True,
        add_completion=False,
        context_settings={"help_option_names": []},  # we define our own
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root())
    first = words[0] if words else None
    for module, names in MODULES.items():
        for name in names:
            if first not in NAMES or first == name:
                commands = vars(importlib.import_module(f"memctl.cli.{module}"))
                # A function cannot have the name of a Python keyword: `import_` is `import`.
                command(app, name, commands.get(name) or commands[f"{name}_"])
    return app


def _root() -> Any:
    """Return the callback for the common options before the command name."""

    def memctl(context: typer.Context, version: bool, help_: bool, **given: Any) -> None:
        """Maintain the memory of AI agents in a SQLite database.

        Expires, archives, decays and prunes memories, beside the service that writes them.
        """
        context.obj = GlobalOptions(**given)

    version = Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            callback=_show_version,
            is_eager=True,
            help="Show the version and exit.",
        ),
    ]
    option = inspect.Parameter(
        "version", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=version
    )
    set_parameters(memctl, [option, *spread_out(GlobalOptions)])
    return memctl


def _show_version(wanted: bool) -> None:
    if wanted:
        show_line(f"memctl {__version__}")
        raise typer.Exit


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    """Exit with the status of a terminated process, after rolling back uncommitted changes."""
    raise SystemExit(128 + number)
