#!/bin/sh
# Runs a server in the foreground and records its process id for `make stop`:
# serve.sh PIDS_DIR PROGRAM [ARGUMENT]...
#
# The script executes the program, so Ctrl-C and the exit status are the
# program's own.

set -u
pids=$1
shift
mkdir -p "$pids" || exit 1
# The file name is the process id, its content the program that the process must still run.
readlink -f "$1" >"$pids/$$" || exit 1
exec "$@"
