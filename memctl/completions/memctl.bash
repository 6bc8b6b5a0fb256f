# Completion of memctl in bash 4.4 or later: memctl itself says what may come next.
_memctl() {
    local line=${COMP_LINE:0:COMP_POINT}
    mapfile -t COMPREPLY < <("${1/#\~\//$HOME/}" completion bash --complete "$line" 2>/dev/null)
    if [[ ${COMPREPLY[0]} == :files ]]; then
        COMPREPLY=()
        compopt -o default
        return
    fi
    # bash takes what stands before a colon or an equals sign for a word of its own.
    local word=${line##*[[:space:]]}
    COMPREPLY=("${COMPREPLY[@]#"${word%"$2"}"}")
}
complete -F _memctl memctl
