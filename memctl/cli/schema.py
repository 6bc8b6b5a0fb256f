"""The command for the contract of the JSON output: schema."""

from typing import Annotated

import typer

from memctl.cli.options import GlobalOptions
from memctl.errors import UsageError, did_you_mean
from memctl.output.terminal import json_text, show_lines, show_text


def schema(
    call: GlobalOptions,
    command: Annotated[
        str | None,
        typer.Argument(metavar="[COMMAND]", help="Command name. Defaults to listing the names."),
    ] = None,
) -> None:
    """Print the JSON Schema of a command's JSON output.

    `error` is what --json prints on stderr; `alert` and `hook` are what the alert command and the
    hooks read from stdin.
    """
    from memctl.output.contract.commands import COMMANDS
    from memctl.output.contract.json_schema import json_schema

    if command is None:
        if call.json:
            show_text([json_text(list(COMMANDS), indent=2), "\n"])
        else:
            show_lines(COMMANDS)
        return
    if command not in COMMANDS:
        hint = did_you_mean(command, COMMANDS, otherwise="`memctl schema` lists the names")
        raise UsageError(f"there is no schema '{command}'", hint)
    show_text([json_text(json_schema(command), indent=2), "\n"])
