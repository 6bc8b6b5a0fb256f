# Completion of memctl in fish: memctl itself says what may come next.
function __memctl_candidates
    set -l program (commandline -opc)[1]
    set -l candidates ($program completion fish --complete (commandline -cp | string collect) 2>/dev/null)
    if test "$candidates[1]" = :files
        set -l word (commandline -ct)
        set -l option (string match -r -- '^--[^=]*=' $word)
        printf '%s\n' "$option"(__fish_complete_path (string replace -r -- '^--[^=]*=' '' $word))
    else
        printf '%s\n' $candidates
    end
end
complete --command memctl --no-files --arguments '(__memctl_candidates)'
