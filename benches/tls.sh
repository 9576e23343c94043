#!/usr/bin/env bash
# What encryption costs: the same slave, asked in the clear and by TLS in turns. One large file, many small ones, and logins. Needs the
# release build (`make`) and 2.5 GiB in /dev/shm.
#
#   benches/tls.sh [ROUNDS] [MIB]      by default 7 rounds, 1024 MiB
set -euo pipefail
rounds=${1:-7} mib=${2:-1024}
. "$(dirname "$0")/common.sh"

mkdir "$work/root" "$work/root/many" "$work/local"
head -c "$((mib * 1024 * 1024))" /dev/urandom >"$work/root/file"
for ((n = 0; n < 10000; n++)); do head -c 4096 /dev/urandom >"$work/root/many/$n"; done
declare -A addresses large small logins cpu slave
for way in never always; do
    # The folder is the same; of each slave's processor time only its own way is in it.
    start "$bin/ftpslave" 0 --standalone --root "$work/root" --state "$work/s"
    slave[$way]=${pids[-1]}
    addresses[$way]=$address
done
"$bin/ftpclient" "${addresses[never]}" -d "$work/local" -c 'hash file' >/dev/null
ask() { "$bin/ftpclient" "${addresses[$1]}" --tls "$([ "$1" = always ] && echo always || echo remote)" -d "$work/local" "${@:2}"; }
seconds() { sed 's/.*"seconds":\([0-9.e-]*\).*/\1/'; }
ask always -c 'ls /many' >/dev/null 2>&1

for ((round = 0; round <= rounds; round++)); do
    for way in never always; do
        before=$(processor "${slave[$way]}")
        one=$(ask $way --json -c 'get file' 2>/dev/null | seconds)
        used=$(awk -v a="$before" -v b="$(processor "${slave[$way]}")" 'BEGIN { print b - a }')
        many=$(ask $way --json -c 'get -r many' 2>/dev/null | seconds)
        begun=${EPOCHREALTIME/./}
        for ((n = 0; n < 50; n++)); do ask $way -c pwd >/dev/null 2>&1; done
        login=$(awk -v t=$((${EPOCHREALTIME/./} - begun)) 'BEGIN { print t / 50000 }')
        rm -r "$work/local/"*
        # The first round warms up.
        [ "$round" -eq 0 ] || { large[$way]+="$one "; small[$way]+="$many "; logins[$way]+="$login "; cpu[$way]+="$used "; }
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
