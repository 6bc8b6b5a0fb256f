"""The command line: parse, call one function, show the result; nothing else."""

import importlib
import inspect
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from memctl import __version__
from memctl.cli.options import Call, command, set_parameters, spread_out

# Which module has which commands, in the order of the help.
MODULES = {
    "schema": ("migrate", "rollback", "status"),
    "jobs": ("run", "cleanup", "decay", "prune", "promote", "snapshot"),
    "archive": ("archived", "archive", "restore"),
    "memories": ("remember", "recall", "list", "forget", "summary"),
    "insight": ("metrics", "report"),
    "watch": ("events", "runs", "explain", "check"),
    "features": ("enable", "disable"),
    "backups": ("export", "import", "backup"),
    "pausing": ("pause", "resume"),
    "schedule": ("schedule",),
    "configuring": ("config",),
    "demo": ("demo",),
}


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # None when closed
            stream.reconfigure(errors="backslashreplace")
    build_app(sys.argv[1:])()


def build_app(words: Sequence[str] = ()) -> typer.Typer:
    """Return the program with those commands that are among `words`, or else with all.

    A scheduled job starts a quarter faster when Typer does not prepare the other commands.
    """
    app = typer.Typer(
        name="memctl",
        no_args_is_help=True,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root())
    named = {name for names in MODULES.values() for name in names if name.rstrip("_") in words}
    if {"-h", "--help"} & set(words):
        named = set()
    for module, names in MODULES.items():
        for name in names:
            if not named or name in named:
                commands = vars(importlib.import_module(f"memctl.cli.{module}"))
                # A function may not be called like a word of Python: `import_` is `import`.
                command(app, name, commands.get(name) or commands[f"{name}_"])
    return app


def _root() -> Any:
    """Return the callback that takes the common options before the command's name."""

    def memctl(context: typer.Context, version: bool, **given: Any) -> None:
        """Keep the memory of a fleet of AI agents healthy.

        Expiry, archive, decay and retention on one SQLite file, next to the service that writes it.
        """
        context.obj = Call(**given)

    version = Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ]
    option = inspect.Parameter(
        "version", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=version
    )
    set_parameters(memctl, [option, *spread_out(Call)])
    return memctl


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"memctl {__version__}")
        raise typer.Exit


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    """End with the status of a terminated process, after undoing what is not committed."""
    raise SystemExit(128 + signal.SIGTERM)
