#!/bin/sh
# The whole of Relais once through: run.sh PROGRAMS_DIR STATE_DIR
#
# Starts a master and two slaves on _FTPROOT, gets every file through them into
# _CLIENTROOT, one client a file, shows which slave served what, and opens the
# prompt where there is a terminal. Whatever happens, no process stays behind:
# the servers are stopped on every way out, and where this script itself is
# killed, the kernel stops them (see under.c).
#
# Every server takes a free port, so nothing collides with servers that run
# already, or with a second copy of this script.
#
# The cluster ends with the run: master's state, slaves' ids and change numbers
# are removed at the end (tidy.sh). Files that were put into _FTPROOT stay. If
# _FTPROOT belongs to another cluster already, the run serves a copy of it.

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

# Whether process $1 is there and no zombie.
alive() {
    case $(sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null) in
    '' | Z* | X*) return 1 ;;
    *) return 0 ;;
    esac
}

# Runs a program and waits for it in a way that lets a signal to this script through at once.
attend() {
    "$under" $$ "$@" <&3 8>&- &
    child=$!
    wait "$child"
    attended=$?
    child=
    return "$attended"
}

# Starts server $1 in the background, in a session of its own: Ctrl-C at the prompt is the client's.
start() {
    name=$1
    shift
    # Made before the server is, so that whoever waits for the ready line finds the file.
    : >"$state/$name.out"
    "$under" -s $$ "$@" </dev/null >"$state/$name.out" 2>"$state/$name.log" 3<&- 8>&- &
    started=$!
    pids="$pids $started"
}

# Waits for the ready line of server $1, process $2; sets `addr`.
ready() {
    tenths=300
    while :; do
        addr=$(sed -n 's/^ready .*addr=\([^ ]*\).*/\1/p' "$state/$1.out")
        [ -z "$addr" ] || return 0
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

# Sends the servers SIGTERM, waits for them, and tells whether each ended with status 0.
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

# Gets file $1 (below the root) and notes the slave, the bytes and the resumed ones.
get() {
    # One word for the client's own command line: in single quotes, with each inner one escaped.
    word=\'$(printf '%s' "$1" | sed "s/'/'\\\\''/g")\'
    case $1 in
    */*) mkdir -p "$received/${1%/*}" || fail "no folder for $1" ;;
    esac
    attend "$programs/ftpclient" "$master" -d "$received" --json -c "get /${word} -o ./${word}" >"$state/get.json" 2>"$state/get.err" || {
        status=$?
        cat "$state/get.json" "$state/get.err" >&2
        fail "get $1 ended with status $status"
    }
    cmp -s "$root/$1" "$received/$1" || fail "$1 did not arrive as it is in $root"
    bytes=$(sed -n 's/.*"bytes": *\([0-9]*\).*/\1/p' "$state/get.json")
    slave=$(sed -n 's/.*"slaves": *\["\([^"]*\)".*/\1/p' "$state/get.json")
    printf '%s\t%s\n' "$slave" "$bytes" >>"$state/turns"
    printf '  %-34s %10s bytes  from %s\n' "$1" "$bytes" "$slave"
}

mkdir -p "$relais" "$received" || exit 1
# The usual state folder, or one of our own where another run has that.
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
# What other runs left that were killed.
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
    say "$root belongs to another cluster, so this run serves a copy of it: what you change is gone at the end."
    mkdir "$state/root" || exit 1
    find "$root" -mindepth 1 -maxdepth 1 ! -name .relais -exec cp -pR -- '{}' "$state/root" ';' || exit 1
    root=$state/root
fi

start master "$programs/ftpmaster" --listen 127.0.0.1:0 --state "$state"
ready master "$started"
master=$addr
say "master at $master"
for n in 1 2; do
    start "slave$n" "$programs/ftpslave" 0 --root "$root" --master "$master" --cluster-key "$state/cluster.key"
    ready "slave$n" "$started"
    say "slave $n at $addr, serving $root"
done
XDG_STATE_HOME=$(cd "$state" && pwd)/client
export XDG_STATE_HOME
in_service

say "" "Getting every file of $root into $received, a new client each:"
: >"$state/turns"
# Two runs at once would write the same files; the second waits here.
exec 9>>"$relais/received.lock"
flock 9 &
wait $!
find "$root" -name .relais -prune -o -type f ! -name '*[[:cntrl:]]*' -print | LC_ALL=C sort >"$state/files"
while IFS= read -r file <&4; do
    get "${file#"$root"/}"
done 4<"$state/files"
exec 9>&-

say "" "Which slave served how much:"
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
    }' "$state/turns" || fail "not both slaves were in use"

if [ -t 0 ] && [ -t 1 ]; then
    say "" "All files arrived and are equal. Now it is your turn: help lists the commands, bye ends."
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

stop_servers || fail "the servers did not end cleanly"
say "" "All files arrived and are equal; the master and both slaves ended with status 0."
