"""Help texts, which on a terminal have bold headings and option names, and fit its width.

Elsewhere they are printed as Typer makes them.
"""

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import TextIO

from memctl.output.terminal import is_styled, write

BOLD, PLAIN = "\x1b[1m", "\x1b[0m"
EXAMPLES = "Examples:"

HEADING = re.compile(r"(\S[^.]*:)$")
USAGE = re.compile(r"(Usage:)")
# The first column of a list: a name at its indentation, up to the meaning in the second column.
NAME = re.compile(r"  (?=\S)(.*?)(?=  |$)")
OPTION = re.compile(r"(?<![\w-])(--?[a-zA-Z][\w-]*)")
WORD_OF_SHELL = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")


def show_help(text: str, *, failed: bool = False) -> None:
    """Print a help text on stdout, or on stderr if it is printed instead of a command's work."""
    stream = sys.stderr if failed else sys.stdout
    lines: Iterable[str] = text.splitlines()
    if _is_terminal(stream):
        lines = _fitted(lines, width=shutil.get_terminal_size().columns)
    if is_styled(stream):
        lines = _styled(lines)
    write(stream, "\n".join(lines) + "\n")


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _styled(lines: Iterable[str]) -> Iterator[str]:
    """Make the headings bold, and the names of commands, arguments and options under them."""
    heading = None
    for line in lines:
        if HEADING.match(line):
            heading = line
            yield _bold(line, HEADING)
        elif heading is None:
            yield _bold(line, USAGE)
        elif heading == EXAMPLES or not (name := NAME.match(line)):
            yield line
        elif name[1].startswith("-"):
            yield _bold(name[0], OPTION) + line[name.end() :]
        else:
            yield _bold(line, NAME)


def _bold(line: str, part: re.Pattern[str]) -> str:
    """Make the group of each match bold, or only the first at the start of the line."""
    many = part is OPTION
    return part.sub(
        lambda found: found[0].replace(found[1], f"{BOLD}{found[1]}{PLAIN}"),
        line,
        count=0 if many else 1,
    )


def _fitted(lines: Iterable[str], *, width: int) -> Iterator[str]:
    """Break the lines that Typer does not wrap: examples, and what follows them.

    A command is continued after a backslash, so that it can still be copied.
    """
    in_examples = False
    for line in lines:
        in_examples = in_examples or line == EXAMPLES
        if not in_examples or len(line) <= width:
            yield line
        elif line.startswith("    "):
            yield from _continued(line, width=width)
        else:
            indent = " " * (len(line) - len(line.lstrip()))
            yield from textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False)


def _continued(line: str, *, width: int) -> Iterator[str]:
    """Break a command line between words."""
    broken = " " * 3
    for word in WORD_OF_SHELL.findall(line):
        if len(f"{broken} {word} \\") > width and broken.strip():
            yield f"{broken} \\"
            broken = " " * 7
        broken += f" {word}"
    yield broken
