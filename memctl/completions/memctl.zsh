#compdef memctl
# Completion of memctl in zsh: memctl itself says what may come next.
_memctl() {
    local -a candidates
    local line="${(j: :)words[1,CURRENT-1]} $PREFIX"
    candidates=("${(@f)$(${~words[1]} completion zsh --complete "$line" 2>/dev/null)}")
    if [[ $candidates[1] == :files ]]; then
        compset -P '--*='
        _files
    elif [[ -n $candidates[1] ]]; then
        _describe memctl candidates
    fi
}
if [[ $funcstack[1] == _memctl ]]; then
    _memctl "$@"
else
    compdef _memctl memctl
fi
