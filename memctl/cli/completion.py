"""The command that makes shells complete the others."""

import os
from typing import Annotated, get_args

import typer

from memctl.cli.options import Call
from memctl.completion import Shell, script
from memctl.output import show_document, show_text


def completion(
    call: Call,
    shell: Annotated[Shell, typer.Argument(metavar="|".join(get_args(Shell)))],
    line: Annotated[str | None, typer.Option("--complete", hidden=True)] = None,
) -> None:
    """Print what makes a shell complete commands, options, files and agents.

    bash reads it from ~/.bashrc, zsh from ~/.zshrc after compinit, fish from a file of its own.
    Agents are those of the database that the line, or else the environment, names.
    """
    if line is not None:
        from memctl.cli import build_app
        from memctl.completion import candidates, split, text

        program = typer.main.get_command(build_app(split(line)[1:-1]))
        show_text([text(candidates(program, line, os.environ), line, shell)])
    elif call.json:
        show_document({"shell": shell, "script": script(shell)})
    else:
        show_text([script(shell)])
