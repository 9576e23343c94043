#!/usr/bin/env bash
# Measures how soon a large file is on all of four slaves, each on its own link of RATE in each
# direction, from the moment at which the file has a version. Compares it with one transfer of the
# file over such a link. Needs root (network namespaces, tbf) and the release build (`make`).
#
#   benches/fan-out.sh [MB] [RATE] [ROUNDS]      by default 100 MB, 100mbit, 3 rounds
set -euo pipefail
size=${1:-100} rate=${2:-100mbit} rounds=${3:-3}
. "$(dirname "$0")/common.sh"
lab=relais$$
clean_up() {
    for n in 0 1 2 3 4 5; do ip netns del "$lab-$n" 2>/dev/null || true; done
    ip link del "$lab" 2>/dev/null || true
}

ip link add "$lab" type bridge
ip link set "$lab" up
# Host 0 runs the master, hosts 1 to 4 a slave each, host 5 the client of the single transfer.
for n in 0 1 2 3 4 5; do
    ip netns add "$lab-$n"
    ip link add "v$n-$$" type veth peer name eth0 netns "$lab-$n"
    ip link set "v$n-$$" master "$lab" up
    ip netns exec "$lab-$n" ip addr add "10.89.0.$((n + 1))/24" dev eth0
    ip netns exec "$lab-$n" ip link set eth0 up
    ip netns exec "$lab-$n" ip link set lo up
    if [ "$n" -gt 0 ]; then
        tc qdisc add dev "v$n-$$" root tbf rate "$rate" burst 256kb latency 50ms
        ip netns exec "$lab-$n" tc qdisc add dev eth0 root tbf rate "$rate" burst 256kb latency 50ms
    fi
done
master=10.89.0.1:2121
in_host() { local n=$1; shift; ip netns exec "$lab-$n" "$@"; }
start ip netns exec "$lab-0" "$bin/ftpmaster" --listen 0.0.0.0:2121 --state "$work/m"
for n in 1 2 3 4; do
    mkdir "$work/r$n"
    start ip netns exec "$lab-$n" "$bin/ftpslave" 2122 --master "$master" --cluster-key "$work/m/cluster.key" --root "$work/r$n"
done
sleep 4
mkdir "$work/c"
has_number() {
local answer
    answer=$(in_host 1 "$bin/ftpclient" "$master" -d "$work/c" --json -c "stat $1" 2>/dev/null) || return 1
    [[ $answer == *'"version":"'* ]]
}
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.2f", b - a }'; }
echo "round  one transfer (s)  all slaves (s)  ratio"
for ((round = 1; round <= rounds; round++)); do
    # A local file in the first slave's folder is published after a second and replicated to all.
    head -c "${size}000000" /dev/urandom >"$work/new"
    mv "$work/new" "$work/r1/big-$round"
    until has_number "big-$round"; do sleep 0.02; done
    begun=$(now)
    for n in 2 3 4; do
        until [ "$(stat -c %s "$work/r$n/big-$round" 2>/dev/null)" = "${size}000000" ]; do sleep 0.02; done
    done
    all=$(since "$begun")
    begun=$(now)
    in_host 5 "$bin/ftpclient" "$master" -d "$work/c" -c "get big-$round -o back" >/dev/null
    one=$(since "$begun")
    rm -f "$work/c/back"
    awk -v r="$round" -v o="$one" -v a="$all" 'BEGIN { printf "%5d  %16.2f  %14.2f  %5.2f\n", r, o, a, a / o }'
done
