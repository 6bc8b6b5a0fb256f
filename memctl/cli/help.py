"""The command for help texts: help."""

from typing import Annotated, Any

import typer

from memctl.cli.options import GlobalOptions
from memctl.errors import UsageError, name_like
from memctl.output.help import show_help
from memctl.output.terminal import show_document

WIDTH_IN_JSON = 78


def help_(
    context: typer.Context,
    call: GlobalOptions,
    command: Annotated[
        str | None,
        typer.Argument(metavar="[COMMAND]", help="Command name. Defaults to memctl itself."),
    ] = None,
) -> None:
    """Show the help of a command; the same as `memctl COMMAND --help`."""
    from memctl.cli.program import build_app

    program: Any = typer.main.get_command(build_app())
    width = WIDTH_IN_JSON if call.json else None  # otherwise that of the terminal
    name = context.find_root().info_name
    shown = typer.Context(program, info_name=name, terminal_width=width)
    if command is not None:
        if command not in program.commands:
            close = name_like(command, program.commands)
            raise UsageError(
                f"no such command '{command}'",
                f"did you mean '{close}'?" if close else "see `memctl help`",
            )
        shown = typer.Context(program.commands[command], info_name=command, parent=shown)
    text = shown.get_help()
    if call.json:
        show_document({"command": command, "help": text})
    else:
        show_help(text)
