"""The manual pages, docs/memctl.1 and one of each command in docs/man, from the program's own help.

docs/reference.py writes them, like everything else that is generated.
"""

from collections.abc import Iterable, Iterator

from program import Command, Program, exit_codes

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
    """Return the manual page of the program, in the language of man(7)."""
    return text_of_page(
        "memctl",
        described.paragraphs[0],
        ".SH SYNOPSIS",
        *[".B memctl", plain("[OPTIONS] COMMAND [ARGS]...")],
        ".SH DESCRIPTION",
        *text(described.paragraphs[1:]),
        ".SH OPTIONS",
        "All commands accept these options, before or after the command name:",
        *definitions(described.options),
        ".SH COMMANDS",
        "Each command has a manual page of its own.",
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
    )


def page_of_command(command: Command) -> str:
    """Return the manual page of a command, without the common options."""
    explained = command.paragraphs[1:]
    return text_of_page(
        f"memctl-{command.name}",
        command.paragraphs[0],
        ".SH SYNOPSIS",
        *[f".B memctl {command.name}", plain(command.usage)],
        *([".SH DESCRIPTION", *text(explained)] if explained else []),
        ".SH OPTIONS",
        *definitions(command.parameters),
        *([".PP"] if command.parameters else []),
        "The common options and the exit status are described in",
        ".BR memctl (1).",
        ".SH EXAMPLES",
        *list(examples(command.examples))[1:],
        ".SH SEE ALSO",
        ".BR memctl (1)",
    )


def text_of_page(name: str, summary: str, *lines: str) -> str:
    """Return the text of a page with its heading and its name."""
    first = [
        f'.TH {plain(name.upper())} 1 {REVISED} "memctl {__version__}" "User commands"',
        *[".nh", ".ad l"],  # a hyphenated name cannot be searched
        ".SH NAME",
        f"{plain(name)} \\- {plain(summary[0].lower() + summary[1:].rstrip('.'))}",
    ]
    return "\n".join([*first, *lines]) + "\n"


def commands(described: dict[str, list[Command]]) -> Iterator[str]:
    """Write the page and the summary of each command."""
    for heading, under_it in described.items():
        yield f'.SS "{heading}"'
        for command in under_it:
            yield from (".TP", f".BR memctl\\-{plain(command.name)} (1)")
            yield plain(command.paragraphs[0])


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
