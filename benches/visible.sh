#!/usr/bin/env bash
# Measures how soon a put is on all slaves: the time from the end of the put until the last of three
# slaves has the file with its content under its name. Needs the release build (`make`).
#
#   benches/visible.sh [ROUNDS] [BYTES] [FOLDER]      by default 50 rounds, 4096 bytes, /dev/shm
set -euo pipefail
rounds=${1:-50} bytes=${2:-4096} folder=${3:-/dev/shm}
. "$(dirname "$0")/common.sh"

start "$bin/ftpmaster" --listen 127.0.0.1:0 --state "$work/m"
master=$address
for n in 1 2 3; do
    mkdir "$work/r$n"
    start "$bin/ftpslave" 0 --master "$master" --cluster-key "$work/m/cluster.key" --root "$work/r$n"
done
until [ "$("$bin/ftpmaster" status --json --master "$master" --state "$work/m" | grep -o in-service | wc -l)" = 3 ]; do sleep 0.1; done
mkdir "$work/c"
times=
for ((round = 0; round < rounds; round++)); do
    head -c "$bytes" /dev/urandom >"$work/c/f$round"
    "$bin/ftpclient" "$master" -d "$work/c" -c "put f$round" >/dev/null
    begun=${EPOCHREALTIME/./}
    for n in 1 2 3; do until [ -e "$work/r$n/f$round" ]; do :; done; done
    times+="$((${EPOCHREALTIME/./} - begun)) "
done
tr ' ' '\n' <<<"$times" | grep . | sort -g | awk '{ v[NR] = $1 / 1000 } END { printf "milliseconds to all three: median %.1f, 90 %% under %.1f, longest %.1f\n", v[int((NR + 1) / 2)], v[int(NR * 0.9)], v[NR] }'
