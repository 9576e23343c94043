#!/usr/bin/env bash
# Measures the cost of encryption: one large file, many small ones, and logins, alternately in clear
# text and by TLS. Needs the release build (`make`) and 2.5 GiB in /dev/shm.
#
#   benches/tls.sh [ROUNDS] [MIB]      by default 7 rounds, 1024 MiB
set -euo pipefail
rounds=${1:-7} mib=${2:-1024}
. "$(dirname "$0")/common.sh"

mkdir "$work/root" "$work/root/many" "$work/local"
head -c "$((mib * 1024 * 1024))" /dev/urandom >"$work/root/file"
for ((n = 0; n < 10000; n++)); do head -c 4096 /dev/urandom >"$work/root/many/$n"; done
declare -A addresses large small logins cpu slave
for mode in never always; do
    # Both slaves serve one folder; the processor time of each covers only its own mode.
    start "$bin/ftpslave" 0 --standalone --root "$work/root" --state "$work/s"
    slave[$mode]=${pids[-1]}
    addresses[$mode]=$address
done
"$bin/ftpclient" "${addresses[never]}" -d "$work/local" -c 'hash file' >/dev/null
ask() { "$bin/ftpclient" "${addresses[$1]}" --tls "$([ "$1" = always ] && echo always || echo remote)" -d "$work/local" "${@:2}"; }
seconds() { sed 's/.*"seconds":\([0-9.e-]*\).*/\1/'; }
ask always -c 'ls /many' >/dev/null 2>&1

for ((round = 0; round <= rounds; round++)); do
    for mode in never always; do
        before=$(processor "${slave[$mode]}")
        one=$(ask $mode --json -c 'get file' 2>/dev/null | seconds)
        used=$(awk -v a="$before" -v b="$(processor "${slave[$mode]}")" 'BEGIN { print b - a }')
        many=$(ask $mode --json -c 'get -r many' 2>/dev/null | seconds)
        begun=${EPOCHREALTIME/./}
        for ((n = 0; n < 50; n++)); do ask $mode -c pwd >/dev/null 2>&1; done
        login=$(awk -v t=$((${EPOCHREALTIME/./} - begun)) 'BEGIN { print t / 50000 }')
        rm -r "$work/local/"*
        # The first round warms up.
        [ "$round" -eq 0 ] || { large[$mode]+="$one "; small[$mode]+="$many "; logins[$mode]+="$login "; cpu[$mode]+="$used "; }
    done
done
printf '%-28s %10s %10s %8s\n' "" clear TLS ratio
row() {
    awk -v what="$1" -v a="$(median "$2")" -v b="$(median "$3")" 'BEGIN { printf "%-28s %10.3f %10.3f %8.2f\n", what, a, b, b / a }'
}
row "$mib MiB, seconds" "${large[never]}" "${large[always]}"
row "slave's CPU for it, seconds" "${cpu[never]}" "${cpu[always]}"
row "10,000 x 4 KiB, seconds" "${small[never]}" "${small[always]}"
row "a client's start, ms" "${logins[never]}" "${logins[always]}"
