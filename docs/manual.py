"""The manual page, docs/memctl.1, from the program's own help.

`python docs/manual.py` prints it; docs/reference.py writes it, with all else that is generated.
"""

import sys
from collections.abc import Iterable, Iterator

from program import Command, Program, exit_codes, program

from memctl import __version__
from memctl.cli.examples import FIRST_STEPS, Example

REVISED = "2026-11-29"

ENVIRONMENT = {
    "MEMCTL_DB, HARNESS_DB_PATH": "Database file, if --db is not given.",
    "MEMCTL_CONFIG": "Configuration file, if --config is not given.",
    "STATE_DIRECTORY": "Directory for memory.db and for recorded failures; set by systemd.",
    "XDG_DATA_HOME, XDG_CONFIG_HOME": "Directories to use instead of ~/.local/share and ~/.config.",
    "NO_COLOR, FORCE_COLOR, TERM": "Whether styles and progress are printed.",
}
FILES = {
    "~/.local/share/memctl/memory.db": "The default database.",
    "~/.config/memctl/config.toml, /etc/memctl/config.toml": "The configuration file.",
    "DATABASE.memctl.lock": "Lock file, locked while a memctl process runs; never removed.",
    "DATABASE.before-migrate-*, DATABASE.backup-*": "Verified backups.",
    "~/.local/state/memctl": "Failures that could not be recorded in the database.",
}


def page(described: Program) -> str:
    """Return the manual page, in the language of man(7)."""
    first, *rest = described.paragraphs
    lines = [
        f'.TH MEMCTL 1 {REVISED} "memctl {__version__}" "User commands"',
        *[".nh", ".ad l"],  # a hyphenated name cannot be searched
        ".SH NAME",
        f"memctl \\- {plain(first[0].lower() + first[1:].rstrip('.'))}",
        ".SH SYNOPSIS",
        *[".B memctl", plain("[OPTIONS] COMMAND [ARGS]...")],
        ".SH DESCRIPTION",
        *text(rest),
        ".SH OPTIONS",
        "All commands accept these options, before or after the command name:",
        *definitions(described.options),
        ".SH COMMANDS",
        *commands(described.commands),
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


def commands(described: dict[str, list[Command]]) -> Iterator[str]:
    """Write the help of each command, without the common options."""
    for heading, under_it in described.items():
        yield f'.SS "{heading}"'
        for command in under_it:
            yield from (".TP 4", f"\\fBmemctl {plain(command.name)}\\fR {plain(command.usage)}")
            yield from text(command.paragraphs)
            yield ".RS 4"
            yield from definitions(command.parameters)
            yield from examples(command.examples)
            yield ".RE"


def examples(shown: Iterable[Example]) -> Iterator[str]:
    """Write each example under its purpose."""
    for example in shown:
        yield from (".PP", plain(f"{example.purpose}:"), ".RS 2", ".nf", plain(example.line))
        yield from (".fi", ".RE")


def definitions(entries: dict[str, str]) -> Iterator[str]:
    """Write words and their meanings."""
    for word, meaning in entries.items():
        yield from (".TP", f"\\fB{plain(word)}\\fR", plain(meaning))


def text(shown: Iterable[str]) -> Iterator[str]:
    """Write paragraphs."""
    for number, paragraph in enumerate(shown):
        if number:
            yield ".sp"
        yield plain(paragraph)


def plain(written: str) -> str:
    """Return text that man prints literally: no requests, escapes, typographic dashes or quotes."""
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
    sys.stdout.write(page(program()))
