# Completion of logctl for bash. It asks logctl itself.
_logctl() {
    mapfile -t COMPREPLY < <(logctl complete-line bash -- "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null)
    # Behind a folder and a = the word goes on.
    if [[ "${COMPREPLY[0]-}" == *[=/] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o nosort -F _logctl logctl 2>/dev/null || complete -F _logctl logctl
