"""What a shell may offer at the end of a command line that is still being typed.

The commands and options are read off the program itself, so a new one is completed at once. What
a value may be goes by its choices, or by the word that stands for it in the help, such as FILE.
"""

import re
import shlex
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from memctl.agents import agents
from memctl.archived import REASONS
from memctl.database import open_database
from memctl.errors import MemctlError
from memctl.memory import TYPES
from memctl.outbox import EVENTS
from memctl.run import JOBS
from memctl.settings import load_settings

Shell = Literal["bash", "zsh", "fish"]

FILES = ":files"  # in place of candidates: the shell knows better
MOST_AGENTS = 200
WORDS: Mapping[str, Iterable[str]] = {
    "TYPE": TYPES,
    "REASON": REASONS,
    "EVENT": EVENTS,
    "JOB": JOBS,
}


class Candidate(NamedTuple):
    """A word that may stand there, and what it means."""

    word: str
    help: str = ""


def script(shell: Shell) -> str:
    """Return what makes a shell ask memctl for candidates."""
    return (Path(__file__).parent / "completions" / f"memctl.{shell}").read_text(encoding="utf-8")


def candidates(program: Any, line: str, environ: Mapping[str, str]) -> list[Candidate]:
    """Return what may stand at the end of a line that begins with the program's name.

    `program` is Typer's group of commands. A single FILES means that a file is wanted. Whatever
    is not understood, and a database that cannot be read at once, has no candidates.
    """
    *words, current = split(line)
    command, waiting, position, only_arguments = program, None, 0, False
    given: dict[str, str] = {}
    for word in words[1:]:
        if waiting:
            given[waiting.name] = word
            waiting = None
        elif word == "--":
            only_arguments = True
        elif word.startswith("-") and word != "-" and not only_arguments:
            name, equals, value = word.partition("=")
            option = _options(command).get(name)
            if option and equals:
                given[option.name] = value
            elif option and not option.is_flag:
                waiting = option
        elif command is program:
            command = program.commands.get(word)
            if command is None:
                return []
        else:
            position += 1

    prefix, start = "", current
    if not waiting and current.startswith("--") and "=" in current and not only_arguments:
        name, _, start = current.partition("=")
        prefix, waiting = f"{name}=", _options(command).get(name)
        if not waiting or waiting.is_flag:
            return []
    if waiting:
        found = _values(waiting, start, given, environ)
    elif current.startswith("-") and not only_arguments:
        found = _option_names(command)
    elif command is program:
        found = [
            Candidate(name, one.help.partition("\n")[0]) for name, one in program.commands.items()
        ]
    elif argument := _argument(command, position):
        found = _values(argument, start, given, environ)
    else:
        found = _option_names(command)
    if found == [Candidate(FILES)]:
        return found
    return [
        Candidate(prefix + one.word, one.help)
        for one in found
        if one.word.startswith(start) and one.word.isprintable()
    ]


def split(line: str) -> list[str]:
    """Split a line as a shell would; the last word, which may be empty, is still being typed."""
    lexer = shlex.shlex(f"{line}.", posix=True)  # the dot is part of the last word
    lexer.whitespace_split = True
    lexer.commenters = ""
    words = []
    try:
        for word in lexer:
            words.append(word)
    except ValueError:  # a quotation that is still open
        words.append(lexer.token)
    return [*words[:-1], words[-1][:-1]]


def text(found: Sequence[Candidate], line: str, shell: Shell) -> str:
    """Return what may end a line in the form that the script of a shell expects, one a line."""
    if found == [Candidate(FILES)]:
        words = [FILES]
    elif shell == "fish":
        words = [f"{one.word}\t{one.help}" for one in found]
    elif shell == "zsh":
        words = [
            ":".join(re.sub(r"([\\:])", r"\\\1", part) for part in one if part) for one in found
        ]
    # bash alone puts a word into the command line as it stands.
    elif _quotation_is_open(line):
        words = [one.word for one in found if not re.search(r"[\"'`$!\\]", one.word)]
    else:
        words = [re.sub(r"([^\w@%+=:,./-])", r"\\\1", one.word) for one in found]
    return "".join(f"{word}\n" for word in words)


def _quotation_is_open(line: str) -> bool:
    try:
        shlex.split(f"{line}.")
    except ValueError:
        return True
    return False


def _options(command: Any) -> dict[str, Any]:
    return {
        name: param
        for param in command.params
        if param.param_type_name == "option"
        for name in (*param.opts, *param.secondary_opts)
    }


def _option_names(command: Any) -> list[Candidate]:
    return [
        Candidate(name, param.help or "")
        for name, param in _options(command).items()
        if not param.hidden and name.startswith("--")
    ]


def _argument(command: Any, position: int) -> Any:
    """Return the argument at a position, from 0 on, if there is one."""
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    if arguments and arguments[-1].nargs == -1:
        position = min(position, len(arguments) - 1)
    return arguments[position] if position < len(arguments) else None


def _values(
    param: Any, start: str, given: Mapping[str, str], environ: Mapping[str, str]
) -> list[Candidate]:
    """Return what an option or an argument may be."""
    metavar = param.metavar or ""
    if choices := getattr(param.type, "choices", None):
        return [Candidate(choice) for choice in choices]
    if "FILE" in metavar:
        return [Candidate(FILES)]
    if metavar == "AGENT":
        return [Candidate(agent) for agent in _agents(start, given, environ)]
    return [Candidate(word) for word in WORDS.get(metavar, ())]


def _agents(start: str, given: Mapping[str, str], environ: Mapping[str, str]) -> list[str]:
    """Return the agents in the database that the line, or else the environment, names."""
    # The shell has not yet put the home directory in place of a tilde: without one, RuntimeError.
    with suppress(MemctlError, sqlite3.Error, RuntimeError):
        files = {name: Path(given[name]).expanduser() for name in ("db", "config") if name in given}
        settings = load_settings(
            database=files.get("db"), configuration=files.get("config"), environ=environ
        )
        with open_database(settings.database, read_only=True, lock_wait=0) as db:
            return agents(db, start, limit=MOST_AGENTS)
    return []
