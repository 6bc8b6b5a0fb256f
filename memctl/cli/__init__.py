"""The command line: parse, call one function, show the result; nothing else."""

import inspect
import signal
from dataclasses import fields
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from memctl import __version__
from memctl.cli import archive, jobs, pausing, schema
from memctl.cli.options import Call, spread_out


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _terminate)
    build_app()()


def build_app() -> typer.Typer:
    """Return the program with all its commands."""
    app = typer.Typer(
        name="memctl",
        no_args_is_help=True,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root())
    for group in (schema, jobs, archive, pausing):
        group.register(app)
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
    keyword = inspect.Parameter.KEYWORD_ONLY
    memctl.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter("context", keyword, annotation=typer.Context),
            inspect.Parameter("version", keyword, default=False, annotation=version),
            *spread_out(Call),
        ]
    )
    memctl.__annotations__ = {}
    return memctl


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"memctl {__version__}")
        raise typer.Exit


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    """End with the status of a terminated process, after undoing what is not committed."""
    raise SystemExit(128 + signal.SIGTERM)
