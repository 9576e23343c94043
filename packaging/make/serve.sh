#!/bin/sh
# Runs a server in the foreground and notes its process id for `make stop`:
# serve.sh PIDS_DIR PROGRAM [ARGUMENT]...
#
# The process becomes the program, so Ctrl-C and the exit status are the
# program's own.

set -u
pids=$1
shift
mkdir -p "$pids" || exit 1
# The name of the file is the process, its content the program that it must still be.
readlink -f "$1" >"$pids/$$" || exit 1
exec "$@"
