"""Shell completion.

Typer completes commands, options and their choices. Other values are completed according to the
metavar of the parameter, such as AGENT.
"""

import os
import shlex
from collections.abc import Callable, Iterable
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from memctl.cli.options import ASKED_BY, GlobalOptions
from memctl.config.jobs import JOBS
from memctl.config.settings import load_settings
from memctl.errors import MemctlError
from memctl.output.terminal import show_document, show_text
from memctl.storage.memory import TYPES
from memctl.storage.rows import EVENTS, REASONS
from memctl.storage.sqlite.agents import agents
from memctl.storage.sqlite.database import StorageError, open_database

Shell = Literal["bash", "zsh", "fish"]


def completion(
    call: GlobalOptions,
    shell: Annotated[Shell, typer.Argument(metavar="|".join(get_args(Shell)))],
) -> None:
    """Print a shell completion script for commands, options, files and agents.

    For bash, add `source <(memctl completion bash)` to ~/.bashrc. For zsh, add
    `source <(memctl completion zsh)` to ~/.zshrc, after compinit. For fish, run
    `memctl completion fish > ~/.config/fish/completions/memctl.fish`. Agent names are read from
    the database that the command line or the environment specifies.
    """
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name="memctl", complete_var=ASKED_BY, shell=shell)
    if call.json:
        show_document({"shell": shell, "script": script})
    else:
        show_text([script, "\n"])


def offer_values(parameters: Iterable[Parameter]) -> None:
    """Set the completion of the values of a command's parameters."""
    for parameter in parameters:
        for info in getattr(parameter.annotation, "__metadata__", ()):
            offered = OFFERED.get(info.metavar)
            if offered:
                info.autocompletion = offered


def _one_of(words: Iterable[str]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def _known_agents(context: typer.Context, incomplete: str) -> list[str]:
    """Return the agents whose names start with a text; none instead of an error.

    The shell inserts them into its command line unchanged, so names that need quotes are left out:
    they could run other commands.
    """

    def given(name: str) -> Path | None:
        before = context.parent.params.get(name) if context.parent else None
        path = context.params.get(name) or before
        return Path(path) if path else None

    try:
        settings = load_settings(
            database=given("db"), configuration=given("config"), environ=os.environ
        )
        with open_database(settings.database, read_only=True, lock_wait=0) as db:
            names = agents(db)
    except (MemctlError, StorageError):
        return []
    return [name for name in names if name.startswith(incomplete) and shlex.quote(name) == name]


OFFERED: dict[str, Callable[..., list[str]]] = {
    "AGENT": _known_agents,
    "DIR": _one_of(()),
    "EVENT": _one_of(EVENTS),
    "FILE": _one_of(()),  # without candidates, the shell completes file names
    "JOB": _one_of(JOBS),
    "REASON": _one_of(REASONS),
    "TYPE": _one_of(TYPES),
}
