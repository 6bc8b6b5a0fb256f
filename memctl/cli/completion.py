"""What makes a shell complete the commands of memctl."""

from typing import Annotated, Literal, get_args

import typer

from memctl.cli.options import Call
from memctl.output import show_document, show_text

# By this variable of its environment the script asks memctl what a line may go on with.
ASKED_BY = "_MEMCTL_COMPLETE"

Shell = Literal["bash", "zsh", "fish"]


def completion(
    call: Call,
    shell: Annotated[Shell, typer.Argument(metavar="|".join(get_args(Shell)))],
) -> None:
    """Print what makes a shell complete commands, options and names of agents.

    A shell reads it at its start: `memctl completion bash >
    ~/.local/share/bash-completion/completions/memctl`, or `memctl completion fish >
    ~/.config/fish/completions/memctl.fish`, or in ~/.zshrc, after compinit: `source <(memctl
    completion zsh)`.
    """
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name="memctl", complete_var=ASKED_BY, shell=shell)
    if call.json:
        show_document({"script": script})
    else:
        show_text([script, "\n"])
