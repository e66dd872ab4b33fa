# Completion of logctl for fish. It asks logctl itself.
complete -c logctl -f -a '(logctl complete-line fish -- (commandline -cp | string collect) 2>/dev/null)'
