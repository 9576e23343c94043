#!/bin/sh
# Runs a demonstration of Relais: run.sh PROGRAMS_DIR STATE_DIR
#
# Starts a master and two slaves on _FTPROOT, downloads every file into
# _CLIENTROOT with a new client, shows which slave served it, and opens the
# prompt if there is a terminal. No process stays behind: the script stops the
# servers at every exit, and the kernel stops them if the script is killed (see
# under.c).
#
# Every server uses a free port, so the run does not collide with running
# servers or with another run.
#
# The cluster ends with the run: tidy.sh removes the master's state, the slaves'
# ids and the change numbers. New files in _FTPROOT stay. If _FTPROOT belongs to
# another cluster, the run serves a copy of it.

set -u

programs=$1
relais=$2
here=${0%/*}
under=$relais/tools/under
root=_FTPROOT
mark=$relais/run.root
received=_CLIENTROOT
pids=
child=

say() {
    printf '%s\n' "$@"
}

fail() {
    echo "run: $*" >&2
    exit 1
}

# Returns whether process $1 exists and is no zombie.
alive() {
    case $(sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null) in
    '' | Z* | X*) return 1 ;;
    *) return 0 ;;
    esac
}

# Runs a program and waits for it; a signal to this script interrupts the wait.
attend() {
    "$under" $$ "$@" <&3 8>&- &
    child=$!
    wait "$child"
    attended=$?
    child=
    return "$attended"
}

# Starts server $1 in the background, in its own session, so that Ctrl-C reaches only the client.
start() {
    name=$1
    shift
    # Created before the server starts, so that the wait for the ready line finds the file.
    : >"$state/$name.out"
    "$under" -s $$ "$@" </dev/null >"$state/$name.out" 2>"$state/$name.log" 3<&- 8>&- &
    started=$!
    pids="$pids $started"
}

# Waits for the ready lines of server $1, process $2; sets `addr`, and `ftp` and `http` if it is a slave.
ready() {
    tenths=300
    while :; do
        addr=$(sed -n '/protocol=/!s/^ready .*addr=\([^ ]*\).*/\1/p' "$state/$1.out")
        ftp=$(sed -n 's/^ready .*protocol=ftp addr=\([^ ]*\).*/\1/p' "$state/$1.out")
        http=$(sed -n 's/^ready .*protocol=http addr=\([^ ]*\).*/\1/p' "$state/$1.out")
        # A server prints the line of its own protocol first.
        case $1 in
        master) last=$addr ;;
        *) last=$http ;;
        esac
        # The lines may have come between two of the reads above.
        [ -z "$addr" ] || [ -z "$last" ] || return 0
        alive "$2" || fail "$1 ended before it was ready"
        [ "$tenths" -gt 0 ] || fail "$1 was not ready within 30 s"
        tenths=$((tenths - 1))
        sleep 0.1
    done
}

# Waits until the master has both slaves in service.
in_service() {
    tenths=300
    while :; do
        attend "$programs/ftpmaster" status --json --master "$master" --state "$state" >"$state/status.json" 2>/dev/null
        slaves=$(grep -o '"state": *"in-service"' "$state/status.json" | wc -l)
        [ "$slaves" -lt 2 ] || return 0
        for pid in $pids; do
            alive "$pid" || fail "a server ended"
        done
        [ "$tenths" -gt 0 ] || fail "the slaves were not in service within 30 s"
        tenths=$((tenths - 1))
        sleep 0.1
    done
}

# Sends the servers SIGTERM, waits for them, and returns whether each exited with status 0.
stop_servers() {
    for pid in $pids; do
        kill -TERM "$pid" 2>/dev/null
    done
    clean=0
    tenths=150
    for pid in $pids; do
        while alive "$pid" && [ "$tenths" -gt 0 ]; do
            tenths=$((tenths - 1))
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null
        wait "$pid"
        ended=$?
        if [ "$ended" -ne 0 ]; then
            echo "run: server process $pid ended with status $ended" >&2
            clean=1
        fi
    done
    pids=
    return "$clean"
}

finish() {
    status=$?
    trap '' HUP INT TERM
    trap - EXIT
    if [ -n "$child" ]; then
        kill -TERM "$child" 2>/dev/null
        tenths=30
        while alive "$child" && [ "$tenths" -gt 0 ]; do
            tenths=$((tenths - 1))
            sleep 0.1
        done
        kill -KILL "$child" 2>/dev/null
        wait "$child"
    fi
    if ! stop_servers && [ "$status" -eq 0 ]; then
        status=1
    fi
    if [ -z "$copied" ]; then
        sh "$here/tidy.sh" "$relais" "$root" locked || status=1
    fi
    if [ "$status" -ne 0 ] && [ "$status" -lt 128 ]; then
        for log in "$state"/*.log; do
            echo "--- the end of $log" >&2
            tail -n 20 "$log" >&2
        done
    else
        rm -rf "$state"
    fi
    exit "$status"
}

# Downloads file $1 (below the root) and records the slave and the bytes.
get() {
    # A word of the client's command line: in single quotes, with inner quotes escaped.
    word=\'$(printf '%s' "$1" | sed "s/'/'\\\\''/g")\'
    case $1 in
    */*) mkdir -p "$received/${1%/*}" || fail "no folder for $1" ;;
    esac
    attend "$programs/ftpclient" "$master" -d "$received" --json -c "get /${word} -o ./${word}" >"$state/get.json" 2>"$state/get.err" || {
        status=$?
        cat "$state/get.json" "$state/get.err" >&2
        fail "get $1 ended with status $status"
    }
    cmp -s "$root/$1" "$received/$1" || fail "$1 differs from the file in $root"
    bytes=$(sed -n 's/.*"bytes": *\([0-9]*\).*/\1/p' "$state/get.json")
    slave=$(sed -n 's/.*"slaves": *\["\([^"]*\)".*/\1/p' "$state/get.json")
    printf '%s\t%s\n' "$slave" "$bytes" >>"$state/turns"
    printf '  %-34s %10s bytes  from %s\n' "$1" "$bytes" "$slave"
}

mkdir -p "$relais" "$received" || exit 1
# The usual state folder, or another one if a concurrent run uses it.
copied=
exec 3<&0 8>>"$relais/run.lock"
if flock -n 8; then
    state=$relais/run
    sh "$here/tidy.sh" "$relais" "$root" locked || exit 1
    [ ! -d "$root/.relais/slaves" ] || copied=yes
else
    exec 8>&-
    state=$relais/run.$$
    copied=yes
fi
# Remove the state of killed runs.
for old in "$relais"/run.[0-9]*; do
    [ -d "/proc/${old##*.}" ] || rm -rf "$old"
done
rm -rf "$state" || exit 1
mkdir -p "$state" || exit 1

trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -z "$copied" ]; then
    : >"$mark" || exit 1
else
    say "$root belongs to another cluster, so this run serves a copy of it; your changes are removed at the end."
    mkdir "$state/root" || exit 1
    find "$root" -mindepth 1 -maxdepth 1 ! -name .relais -exec cp -pR -- '{}' "$state/root" ';' || exit 1
    root=$state/root
fi

start master "$programs/ftpmaster" --listen 127.0.0.1:0 --state "$state"
ready master "$started"
master=$addr
say "master at $master"
for n in 1 2; do
    start "slave$n" "$programs/ftpslave" 0 --ftp 0 --http 0 --root "$root" --master "$master" --cluster-key "$state/cluster.key"
    ready "slave$n" "$started"
    say "slave $n at $addr, serving $root, to FTP clients at $ftp, and to browsers at http://$http/"
done
XDG_STATE_HOME=$(cd "$state" && pwd)/client
export XDG_STATE_HOME
in_service
say "While this runs, other clients work too, for example in another terminal:" "    curl ftp://$ftp/" "    curl http://$http/" "or in a browser: http://$http/"

say "" "Downloading every file of $root into $received, each with a new client:"
: >"$state/turns"
# Concurrent runs would write the same files; the second waits here.
exec 9>>"$relais/received.lock"
flock 9 &
wait $!
find "$root" -name .relais -prune -o -type f ! -name '*[[:cntrl:]]*' -print | LC_ALL=C sort >"$state/files"
while IFS= read -r file <&4; do
    get "${file#"$root"/}"
done 4<"$state/files"
exec 9>&-

say "" "Files and bytes by slave:"
awk -F '\t' '
    { files[$1]++; bytes[$1] += $2; allFiles++; all += $2 }
    END {
        printf "  %-22s %8s %14s %7s\n", "slave", "files", "bytes", "share"
        for (slave in files) {
            slaves++
            printf "  %-22s %8d %14d %6.1f%%\n", slave, files[slave], bytes[slave], all ? 100 * bytes[slave] / all : 0
        }
        printf "  %-22s %8d %14d\n", "all", allFiles, all
        exit slaves != 2
    }' "$state/turns" || fail "only one slave was used"

if [ -t 0 ] && [ -t 1 ]; then
    say "" "All files arrived and are equal. The prompt is yours: help lists the commands, bye leaves."
    # Ctrl-C stops a transfer of the client, not this script.
    trap '' INT
    attend "$programs/ftpclient" "$master" -d "$received"
    prompt=$?
    trap 'exit 130' INT
    case $prompt in
    0 | 130) ;;
    *) fail "the prompt ended with status $prompt" ;;
    esac
fi

stop_servers || fail "the servers did not stop cleanly"
say "" "All files arrived and are equal; the master and both slaves ended with status 0."
