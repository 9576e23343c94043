#!/bin/sh
# Stops the servers that `make master` and `make slave` started: stop.sh PIDS_DIR
#
# A process is stopped only while it still runs the recorded program, because
# another process may have its id meanwhile.

set -u
pids=$1

# Returns whether process $1 runs program $2; after a new build the old file is "(deleted)".
runs() {
    case $(readlink "/proc/$1/exe" 2>/dev/null) in
    "$2" | "$2 (deleted)") return 0 ;;
    *) return 1 ;;
    esac
}

# Waits for the end of process $1, program $2, for $3 tenths of a second.
gone() {
    tenths=$3
    while runs "$1" "$2"; do
        [ "$tenths" -gt 0 ] || return 1
        tenths=$((tenths - 1))
        sleep 0.1
    done
}

status=0
for note in "$pids"/*; do
    [ -f "$note" ] || continue
    pid=${note##*/}
    program=$(cat "$note")
    if runs "$pid" "$program"; then
        echo "stopping ${program##*/}, process $pid"
        kill -TERM "$pid" 2>/dev/null
        # Transfers may take 5 s to end.
        if ! gone "$pid" "$program" 100; then
            echo "process $pid did not stop within 10 s; killing it" >&2
            kill -KILL "$pid" 2>/dev/null
            gone "$pid" "$program" 50 || { echo "process $pid is still running" >&2; status=1; continue; }
        fi
    fi
    rm -f "$note"
done
exit "$status"
