"""The help of the program, from which the manual page and the reference are generated."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

from memctl.cli.commands import spread_out
from memctl.cli.examples import EXAMPLES, Example
from memctl.cli.options import GlobalOptions
from memctl.cli.program import build_app, commands_by_heading

DOCS = Path(__file__).parent
EXIT_CODES = DOCS / "reference" / "exit-codes.md"


class Command(NamedTuple):
    """The help of one command; `parameters` does not contain the common options."""

    name: str
    usage: str
    paragraphs: list[str]
    parameters: dict[str, str]
    examples: tuple[Example, ...]


class Program(NamedTuple):
    """The help of the program, and of its commands under their headings."""

    paragraphs: list[str]
    options: dict[str, str]
    commands: dict[str, list[Command]]


def program() -> Program:
    """Return the help of the program, from Typer."""
    root: Any = typer.main.get_command(build_app())
    context = typer.Context(root, info_name="memctl")
    common = {parameter.name for parameter in spread_out(GlobalOptions)}

    def described(name: str) -> Command:
        command = root.commands[name]
        own = typer.Context(command, info_name=name, parent=context)
        return Command(
            name=name,
            usage=" ".join(command.collect_usage_pieces(own)),
            paragraphs=paragraphs(command.help),
            parameters=dict(records(command, own, without=common)),
            examples=EXAMPLES[name],
        )

    return Program(
        paragraphs=paragraphs(root.help),
        options=dict(records(root, context)),
        commands={
            heading: [described(name) for name in names]
            for heading, names in commands_by_heading().items()
        },
    )


def records(
    command: Any, context: typer.Context, without: Iterable[str] = ()
) -> Iterator[tuple[str, str]]:
    """Yield the arguments with a help text and the options, each with its text."""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and record[1] and parameter.name not in {*without, "help_"}:
            yield record[0], " ".join(record[1].split())


def paragraphs(help_text: str | None) -> list[str]:
    """Return the paragraphs of a help text, each as one line."""
    return [" ".join(part.split()) for part in (help_text or "").split("\n\n")]


def exit_codes() -> dict[str, str]:
    """Return the table of exit codes in the reference."""
    table = EXIT_CODES.read_text(encoding="utf-8")
    return dict(re.findall(r"^\| (\d[\d, ]*) \| (.*) \|$", table, re.MULTILINE))
