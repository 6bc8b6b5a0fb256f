"""The scripts with which shells request completions; see `completion`."""

from typing import Literal

from memctl.cli.options import ASKED_BY

Shell = Literal["bash", "zsh", "fish"]

# Environment variables that a shell passes beside ASKED_BY.
LINE = "_MEMCTL_LINE"  # its command line up to the cursor
BREAKS = "_MEMCTL_BREAKS"  # bash completes only what follows the last of these characters

FILES = "\x01"  # the answer with which a shell completes file names; no name contains it

SCRIPTS: dict[Shell, str] = {
    "bash": f"""\
_memctl_completion() {{
    local name
    COMPREPLY=()
    while IFS= read -r name; do
        if [[ $name == $'\\x01' ]]; then
            compopt -o default 2> /dev/null
        else
            COMPREPLY+=("$name")
        fi
    done < <({ASKED_BY}=bash {LINE}="${{COMP_LINE:0:COMP_POINT}}" {BREAKS}="$COMP_WORDBREAKS" \\
        "${{1:-memctl}}" 2> /dev/null)
}}

complete -F _memctl_completion memctl
""",
    "zsh": f"""\
#compdef memctl

_memctl_completion() {{
    local name text
    local -a names described
    while IFS=$'\\t' read -r name text; do
        if [[ $name == $'\\x01' ]]; then
            _files
        elif [[ -n $text ]]; then
            described+=("$name:$text")
        else
            names+=("$name")
        fi
    done < <({ASKED_BY}=zsh {LINE}="${{words[1,CURRENT]}}" "${{(Q)words[1]:-memctl}}" 2> /dev/null)
    compset -P '--*='
    (( $#described )) && _describe -V memctl described
    (( $#names )) && compadd -a names
}}

compdef _memctl_completion memctl
""",
    "fish": f"""\
function __memctl_completion
    set -l names (env {ASKED_BY}=fish {LINE}=(commandline -cp | string collect) memctl 2> /dev/null)
    if test "$names" = \\x01
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $names
    end
end

complete --command memctl --no-files --keep-order --arguments '(__memctl_completion)'
""",
}
