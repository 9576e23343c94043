#!/usr/bin/env bash
# Measures downloads at each block size. The sizes alternate, so that a change of the machine's speed
# affects all of them. Needs the release build (`make`) and 2.5 GiB in /dev/shm.
#
#   benches/block-size.sh [ROUNDS] [MIB] [SIZE...]
set -euo pipefail
rounds=${1:-5} mib=${2:-1024}
shift $(( $# < 2 ? $# : 2 ))
sizes=("$@")
[ ${#sizes[@]} -gt 0 ] || sizes=(4096 16384 32768 65536 262144 1048576 4194304)
. "$(dirname "$0")/common.sh"

mkdir "$work/root" "$work/local"
head -c "$((mib * 1024 * 1024))" /dev/urandom >"$work/root/file"
declare -A addresses times slave
for size in "${sizes[@]}"; do
    start "$bin/ftpslave" 0 --standalone --root "$work/root" --block-size "$size"
    slave[$size]=${pids[-1]}
    addresses[$size]=$address
done
# All slaves compute the digest before the first round.
"$bin/ftpclient" "${addresses[${sizes[0]}]}" -d "$work/local" -c 'hash file' >/dev/null

for ((round = 0; round <= rounds; round++)); do
    for size in "${sizes[@]}"; do
        seconds=$("$bin/ftpclient" "${addresses[$size]}" -d "$work/local" --json -c 'get file' | sed 's/.*"seconds":\([0-9.e-]*\).*/\1/')
        rm "$work/local/file"
        # The first round warms up.
        [ "$round" -eq 0 ] || times[$size]+="$seconds "
    done
done
base=$(median "${times[1048576]:-${times[${sizes[0]}]}}")
printf '%10s %10s %10s %8s %22s\n' block seconds MiB/s ratio "slave's CPU s/download"
for size in "${sizes[@]}"; do
    awk -v b="$size" -v s="$(median "${times[$size]}")" -v m="$mib" -v base="$base" -v cpu="$(processor "${slave[$size]}")" -v n=$((rounds + 1)) \
        'BEGIN { printf "%10d %10.3f %10.0f %8.2f %22.2f\n", b, s, m / s, s / base, cpu / n }'
done
