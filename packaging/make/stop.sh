#!/bin/sh
# Ends the servers that `make master` and `make slave` started: stop.sh PIDS_DIR
#
# A process is ended only while it still runs the program that was noted, so
# that a number which another process got meanwhile is left alone.

set -u
pids=$1

# Whether process $1 runs program $2; after a new build the old file is "(deleted)".
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
        # Transfers have 5 s to end.
        if ! gone "$pid" "$program" 100; then
            echo "process $pid did not end by itself; it is killed" >&2
            kill -KILL "$pid" 2>/dev/null
            gone "$pid" "$program" 50 || { echo "process $pid is still there" >&2; status=1; continue; }
        fi
    fi
    rm -f "$note"
done
exit "$status"
