#!/bin/sh
# Removes the state of a run of run.sh below ROOT/.relais: tidy.sh STATE_DIR ROOT [locked]
#
# The cluster of a run ends with the run; its change numbers in the folder would
# stop the next cluster. run.sh marks the folder before its first server starts,
# and calls this script at its start and end. `make slave` calls it because a
# run may have been killed. "locked": the caller holds the lock of the runs.
#
# Quarantined files (.relais/conflicts) belong to a user and are kept.

set -u
relais=$1
root=$2
mark=$relais/run.root

[ -e "$mark" ] || exit 0
if [ "${3:-}" != locked ]; then
    exec 8>>"$relais/run.lock"
    flock -n 8 || {
        echo "make run serves $root now; leave its prompt with bye first" >&2
        exit 1
    }
fi
# The servers of a killed run stop within their grace; each holds the lock of its id until then.
for id in "$root/.relais/slaves"/*; do
    [ ! -f "$id" ] || flock -w 15 "$id" true || {
        echo "a slave of a former make run still serves $root" >&2
        exit 1
    }
done
for entry in "$root/.relais"/* "$root/.relais"/.[!.]*; do
    case $entry in
    */conflicts) ;;
    *) rm -rf "$entry" || exit 1 ;;
    esac
done
# Empty folders are removed; a folder with files is kept and reported.
rmdir "$root/.relais/conflicts" "$root/.relais" 2>/dev/null
[ ! -d "$root/.relais/conflicts" ] || echo "quarantined files are kept: $root/.relais/conflicts" >&2
rm -f "$mark"
