"""Shell completion.

Typer completes commands, options and their choices. Other values are completed according to the
metavar of the parameter, such as AGENT, or to its name. A shell passes its command line up to the
cursor in LINE, and inserts the answer.
"""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from memctl.cli.options import ASKED_BY, GlobalOptions
from memctl.cli.shell_scripts import BREAKS, FILES, LINE, SCRIPTS, Shell
from memctl.config.jobs import JOBS
from memctl.config.settings import load_settings
from memctl.output.terminal import show_document, show_text
from memctl.storage.addresses import Address
from memctl.storage.engines import open_names
from memctl.storage.memory import TYPES
from memctl.storage.names import ACTIVE, ARCHIVED, BOTH
from memctl.storage.rows import EVENTS, REASONS
from memctl.storage.sqlite.database import MemoryTable

Completions = Sequence[str | tuple[str, str]]  # each with a description or without


def completion(
    call: GlobalOptions,
    shell: Annotated[Shell, typer.Argument(metavar="|".join(get_args(Shell)))],
) -> None:
    """Print a shell completion script for commands, options, files, and names in the database.

    For bash, add `source <(memctl completion bash)` to ~/.bashrc. For zsh, add
    `source <(memctl completion zsh)` to ~/.zshrc, after compinit. For fish, run
    `memctl completion fish > ~/.config/fish/completions/memctl.fish`. Agents, types, keys, ids and
    runs are read from the database that the command line or the environment specifies.
    """
    if call.json:
        show_document({"shell": shell, "script": SCRIPTS[shell]})
    else:
        show_text([SCRIPTS[shell]])


def answer_shell(
    build_app: Callable[[Sequence[str]], typer.Typer], commands: Sequence[str]
) -> None:
    """Print the completions that a shell requests in the environment, one per line.

    `build_app` returns the program for the words of a command line; `commands` are its commands.

    Nothing is printed in place of an error: it would appear in the middle of the command line.
    """
    shell = os.environ[ASKED_BY]
    try:
        line = CommandLine(os.environ.get(LINE, ""), commands)
        if shell in SCRIPTS:
            for name, text in _completions(build_app, line):
                if inserted := _inserted(shell, line, name, text):
                    show_text([inserted, "\n"])
    except FileNameWanted:
        show_text([FILES, "\n"])
    except Exception:  # noqa: S110
        pass


class FileNameWanted(Exception):  # noqa: N818
    """The value is a file name, which the shell completes itself."""


class CommandLine:
    """A command line up to the cursor, as a shell has it.

    `words` are the finished words after the program's name. `written` is the text of the last word,
    with its quotes, and `start` its value. `commands` are the commands of the program.
    """

    def __init__(self, text: str, commands: Sequence[str]) -> None:
        self.commands = commands
        words, begun = [], 0
        for place in _unquoted_places(text)[0]:
            if text[place].isspace():
                words += [_value(text[begun:place])] if place > begun else []
                begun = place + 1
        while words and (variable := re.fullmatch(r"(?s)(\w+)=(.*)", words[0])):
            os.environ[variable[1]] = variable[2]  # before the program's name, in fish
            del words[0]
        self.words, self.written = words[1:], text[begun:]
        self.start = _value(self.written)


def _unquoted_places(text: str) -> tuple[list[int], int | None]:
    """Return the places of unquoted characters, and that of a quote that is still open."""
    unquoted: list[int] = []
    opened, escaped = None, False
    for place, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\" and (opened is None or text[opened] == '"'):
            escaped = True
        elif opened is not None:
            opened = None if character == text[opened] else opened
        elif character in "'\"":
            opened = place
        else:
            unquoted.append(place)
    return unquoted, opened


def _value(written: str) -> str:
    """Return the value of a word whose end may be missing."""
    for end in ("", "\\", "'", '"'):
        try:
            return "".join(shlex.split(written + end))
        except ValueError:
            continue
    return written


def _completions(
    build_app: Callable[[Sequence[str]], typer.Typer], line: CommandLine
) -> Iterator[tuple[str, str]]:
    """Return the completions of a line with their descriptions, from Typer.

    Names that do not consist of printable characters are left out, because shells separate names
    by lines. So are names that begin with a dash and look like an option.
    """
    from typer._completion_classes import BashComplete

    program: Any = typer.main.get_command(build_app(line.words))
    option, equals, _ = line.start.partition("=")
    prefix = option + equals if equals and option.startswith("--") else ""
    for item in BashComplete(program, {"obj": line}, "memctl", ASKED_BY).get_completions(
        list(line.words), line.start
    ):
        like_option = item.value.startswith("-") and not line.start.startswith("-")
        if item.value.isprintable() and not like_option:
            yield prefix + item.value, " ".join((item.help or "").split())


def _inserted(shell: str, line: CommandLine, name: str, text: str) -> str | None:
    """Return a completion in the form that the script for the shell expects, None without one."""
    if shell == "bash":
        return _for_bash(line, name)
    if shell == "zsh" and name.startswith("--"):
        name = name.partition("=")[2] or name  # the script excludes an option before the value
    return f"{name}\t{text}" if text else name  # zsh and fish quote it themselves


def _for_bash(line: CommandLine, name: str) -> str | None:
    """Return what replaces the part of the last word that bash completes.

    That part begins after an open quote, which bash closes itself, or else after the last unquoted
    character of BREAKS.
    """
    unquoted, opened = _unquoted_places(line.written)
    breaks = [place for place in unquoted if line.written[place] in os.environ.get(BREAKS, "")]
    begun = opened if opened is not None else max(breaks, default=-1)
    rest = name.removeprefix(_value(line.written[: begun + 1]))
    if opened is None:
        return re.sub(r"([\x00-\x7f])(?<![\w@%+=:,./-])", r"\\\1", rest)
    if line.written[opened] == "'":
        return rest.replace("'", "'\\''")
    return None if "!" in rest else re.sub(r'([$`"\\])', r"\\\1", rest)


def offer_values(parameters: Iterable[Parameter]) -> None:
    """Set the completion of the values of a command's parameters."""
    for parameter in parameters:
        for info in getattr(parameter.annotation, "__metadata__", ()):
            offered = OFFERED_BY_NAME.get(parameter.name) or OFFERED.get(info.metavar)
            if offered:
                info.autocompletion = offered


def _one_of(words: Iterable[str]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def _given(context: typer.Context, name: str) -> Any:
    """Return the value of a parameter on the command line, or None.

    Typer has parsed nothing if the last word is the option whose value is completed.
    """
    words = context.obj.words
    if words[-1].startswith("-"):
        command: Any = context.command
        before = words[words.index(command.name) + 1 : -1]
        context = command.make_context(
            command.name, before, parent=context.parent, resilient_parsing=True
        )
    return context.params.get(name)


def _database(context: typer.Context) -> Address:
    """Return the database that the command line or the environment specifies."""

    def given(name: str) -> Any:
        before = context.parent.params.get(name) if context.parent else None
        return _given(context, name) or before

    return load_settings(
        database=given("db"), configuration=given("config"), environ=os.environ
    ).database


def _tables(context: typer.Context) -> Sequence[MemoryTable]:
    """Return the tables whose memories a command can name."""
    command = context.command.name
    if command in ("archived", "restore"):
        return ARCHIVED
    if command in ("archive", "forget", "list", "recall", "remember"):
        return ACTIVE
    return BOTH


def _agents(context: typer.Context, incomplete: str) -> Completions:
    with open_names(_database(context)) as names:
        return names.agents_like(incomplete)


def _types(context: typer.Context, incomplete: str) -> Completions:
    found = [type_ for type_ in TYPES if type_.startswith(incomplete)]
    agent = _given(context, "agent")
    if agent and context.command.name != "remember":  # which takes no other types
        with open_names(_database(context)) as names:
            found += names.types_of(incomplete, agent=agent)
    return list(dict.fromkeys(found))


def _keys(context: typer.Context, incomplete: str) -> Completions:
    agent = _given(context, "agent")
    return _keys_of(context, incomplete, agent, _given(context, "type_")) if agent else []


def _keys_of(context: typer.Context, incomplete: str, agent: str, type_: str | None) -> list[str]:
    with open_names(_database(context)) as names:
        return names.keys_of(incomplete, _tables(context), agent=agent, type=type_)


def _ids(context: typer.Context, incomplete: str) -> Completions:
    agent = _given(context, "agent")
    if not agent:
        return []
    with open_names(_database(context)) as names:
        found = names.ids_of(incomplete, _tables(context), agent=agent)
    return [one for one in found if one not in (_given(context, "ids") or ())]


def _id_or_type_and_key(context: typer.Context, incomplete: str) -> Completions:
    agent = _given(context, "agent")
    before: Sequence[str] = _given(context, "memory") or ()
    if len(before) == 1:
        return _keys_of(context, incomplete, agent, before[0])
    return [] if before else [*_types(context, incomplete), *_ids(context, incomplete)]


def _runs(context: typer.Context, incomplete: str) -> Completions:
    jobs = {"archive": ("import",), "restore": ("cleanup", "archive", "import", "restore")}
    with open_names(_database(context)) as names:
        return names.runs_like(incomplete, jobs=jobs.get(context.command.name or ""))


def _files(incomplete: str) -> Completions:
    raise FileNameWanted


def _backups(context: typer.Context, incomplete: str) -> Completions:
    """Return the backups beside the database, newest first; elsewhere, the shell finds them."""
    from memctl.storage.sqlite.backup_list import NAMED_BY_MEMCTL

    database = _database(context)
    if not isinstance(database, Path):
        return []
    found = [
        str(file)
        for file in database.parent.iterdir()
        if (named := NAMED_BY_MEMCTL.fullmatch(file.name))
        and file.name[: named.start("kind")] == f"{database.name}."
    ]
    candidates = sorted((name for name in found if name.startswith(incomplete)), reverse=True)
    return candidates or _files(incomplete)


def _commands(context: typer.Context, incomplete: str) -> Completions:
    return [name for name in context.obj.commands if name.startswith(incomplete)]


OFFERED: dict[str, Callable[..., Completions]] = {
    "AGENT": _agents,
    "DATABASE": _files,
    "DIR": _files,
    "[COMMAND]": _commands,
    "EVENT": _one_of(EVENTS),
    "FILE": _files,
    "[AGENT] FILE|-": _files,
    "ID | TYPE KEY": _id_or_type_and_key,
    "ID...": _ids,
    "JOB": _one_of(JOBS),
    "KEY": _keys,
    "[KEY]": _keys,
    "REASON": _one_of(REASONS),
    "TYPE": _types,
}
OFFERED_BY_NAME: dict[str, Callable[..., Completions]] = {
    "run": _runs,
    "restore": _backups,
    "verify": _backups,
}
