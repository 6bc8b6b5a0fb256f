"""Make the manual page, docs/memctl.1, from the program's own help.

python docs/manual.py            write it anew
python docs/manual.py --print    print it
"""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from memctl import __version__
from memctl.cli.examples import EXAMPLES, FIRST_STEPS, Example
from memctl.cli.options import Call, spread_out
from memctl.cli.program import build_app, commands_by_heading

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
REVISED = "2026-11-28"

ENVIRONMENT = {
    "MEMCTL_DB, HARNESS_DB_PATH": "The database, where there is no --db.",
    "MEMCTL_CONFIG": "The configuration, where there is no --config.",
    "STATE_DIRECTORY": "Where memory.db and what failed are kept, as systemd sets it.",
    "XDG_DATA_HOME, XDG_CONFIG_HOME": "In place of ~/.local/share and ~/.config.",
    "NO_COLOR, FORCE_COLOR, TERM": "Whether style and progress are shown.",
}
FILES = {
    "~/.local/share/memctl/memory.db": "The database, where nothing names another.",
    "~/.config/memctl/config.toml, /etc/memctl/config.toml": "The configuration.",
    "DATABASE.memctl.lock": "Held by the one memctl that is at work; never removed.",
    "DATABASE.before-migrate-*, DATABASE.backup-*": "Checked copies.",
    "~/.local/state/memctl": "Failures that the database could not be told of.",
}


def page() -> str:
    """Return the manual page, in the language of man(7)."""
    root = typer.main.get_command(build_app())
    context = typer.Context(root, info_name="memctl")
    first, *rest = paragraphs(root.help)
    common = {parameter.name for parameter in spread_out(Call)}
    lines = [
        f'.TH MEMCTL 1 {REVISED} "memctl {__version__}" "User commands"',
        *[".nh", ".ad l"],  # a name that is cut in two cannot be searched
        ".SH NAME",
        f"memctl \\- {plain(first[0].lower() + first[1:].rstrip('.'))}",
        ".SH SYNOPSIS",
        *[".B memctl", plain("[OPTIONS] COMMAND [ARGS]...")],
        ".SH DESCRIPTION",
        *text(rest),
        ".SH OPTIONS",
        "All commands take these, which may also stand before the command:",
        *options(root, context),
        ".SH COMMANDS",
        *commands(root, context, common),
        ".SH EXIT STATUS",
        *definitions(exit_codes()),
        ".SH ENVIRONMENT",
        *definitions(ENVIRONMENT),
        ".SH FILES",
        *definitions(FILES),
        ".SH EXAMPLES",
        *list(examples(FIRST_STEPS))[1:],  # a section begins a paragraph by itself
        ".SH SEE ALSO",
        ".BR cron (8),",
        ".BR systemd.timer (5),",
        ".BR sqlite3 (1)",
    ]
    return "\n".join(lines) + "\n"


def commands(root: Any, context: typer.Context, common: set[str]) -> Iterator[str]:
    """Write of each command what its help says, without the options that all have."""
    for heading, names in commands_by_heading().items():
        yield f'.SS "{heading}"'
        for name in names:
            command = root.commands[name]
            own = typer.Context(command, info_name=name, parent=context)
            usage = " ".join(command.collect_usage_pieces(own))
            yield from (".TP 4", f"\\fBmemctl {plain(name)}\\fR {plain(usage)}")
            yield from text(paragraphs(command.help))
            yield ".RS 4"
            yield from options(command, own, without=common)
            yield from examples(EXAMPLES[name])
            yield ".RE"


def options(command: Any, context: typer.Context, without: Iterable[str] = ()) -> Iterator[str]:
    """Write the arguments that have an explanation, and the options."""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and record[1] and parameter.name not in {*without, "help_"}:
            yield from definitions({record[0]: record[1]})


def examples(shown: Iterable[Example]) -> Iterator[str]:
    """Write each example under its purpose."""
    for example in shown:
        yield from (".PP", plain(f"{example.purpose}:"), ".RS 2", ".nf", plain(example.line))
        yield from (".fi", ".RE")


def exit_codes() -> dict[str, str]:
    """Return what the README says of the exit codes."""
    table = README.read_text(encoding="utf-8").partition("## Exit codes")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| (\d[\d, ]*) \| (.*) \|$", table, re.MULTILINE))


def definitions(entries: dict[str, str]) -> Iterator[str]:
    """Write words and what they mean."""
    for word, meaning in entries.items():
        yield from (".TP", f"\\fB{plain(word)}\\fR", plain(" ".join(meaning.split())))


def paragraphs(help_text: str | None) -> list[str]:
    """Return the paragraphs of a help text, a line each."""
    return [" ".join(part.split()) for part in (help_text or "").split("\n\n")]


def text(shown: Iterable[str]) -> Iterator[str]:
    """Write paragraphs."""
    for number, paragraph in enumerate(shown):
        if number:
            yield ".sp"
        yield plain(paragraph)


def plain(written: str) -> str:
    """Return text that man prints as it is: no request, no escape, no typographic dash or quote."""
    for character, escape in {
        "\\": "\\e",
        "-": "\\-",
        "'": "\\(aq",
        "`": "\\(ga",
        "^": "\\(ha",
        "~": "\\(ti",
    }.items():
        written = written.replace(character, escape)
    return f"\\&{written}" if written.startswith(".") else written


if __name__ == "__main__":
    if "--print" in sys.argv:
        sys.stdout.write(page())
    else:
        (HERE / "memctl.1").write_text(page(), encoding="utf-8")
