#compdef logctl
# Completion of logctl for zsh. It asks logctl itself.
_logctl() {
    local -a found whole open
    found=(${(f)"$(logctl complete-line zsh -- "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)"})
    # Behind a folder and a = the word goes on.
    open=(${(M)found:#*[/=](|:*)})
    whole=(${found:|open})
    _describe -V logctl whole -- open -S ''
}
if [ "$funcstack[1]" = _logctl ]; then
    _logctl "$@"
else
    compdef _logctl logctl
fi
