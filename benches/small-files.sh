#!/usr/bin/env bash
# Measures uploads and downloads of many small files, alternately with rsync (over its own protocol)
# and cp. A put of `ftpclient` is durable when it ends, so the others are followed by a sync of the
# file system. Needs the release build (`make`) and rsync.
#
#   benches/small-files.sh [FOLDER] [FILES] [BYTES] [ROUNDS]      FOLDER: work folder, by default /dev/shm
set -euo pipefail
folder=${1:-/dev/shm} files=${2:-10000} bytes=${3:-4096} rounds=${4:-3}
command -v rsync >/dev/null || { echo "needs rsync" >&2; exit 1; }
. "$(dirname "$0")/common.sh"

mkdir "$work/root" "$work/local" "$work/rsyncd" "$work/local/t"
for ((n = 0; n < files; n++)); do head -c "$bytes" /dev/zero >"$work/local/t/file-$n"; done
start "$bin/ftpslave" 0 --standalone --root "$work/root"
port=$((RANDOM % 20000 + 30000))
printf 'port = %s\naddress = 127.0.0.1\nuse chroot = no\n[r]\npath = %s\nread only = no\nuid = %s\ngid = %s\n' \
    "$port" "$work/rsyncd" "$(id -u)" "$(id -g)" >"$work/rsyncd.conf"
rsync --daemon --no-detach --config "$work/rsyncd.conf" --log-file "$work/rsyncd.log" &
pids+=($!)
sleep 1

relais() { "$bin/ftpclient" "$address" -d "$work/local" "$@" >/dev/null; }
declare -A times
# Runs a command and records its seconds under a name.
take() {
    local name=$1 begun ended
    shift
    begun=$(date +%s.%N)
    "$@"
    ended=$(date +%s.%N)
    [ "$round" -eq 0 ] || times[$name]+="$(awk -v a="$begun" -v b="$ended" 'BEGIN { print b - a }') "
}
rsync_up() { rsync -r --times "$work/local/t" "rsync://127.0.0.1:$port/r/" && sync -f "$work"; }
copy_up() { cp -r "$work/local/t" "$work/copy" && sync -f "$work"; }
for ((round = 0; round <= rounds; round++)); do
    take 'ftpclient put -r' relais -c 'put -r t'
    take 'rsync up, sync' rsync_up
    take 'cp -r, sync' copy_up
    take 'ftpclient get -r' relais -c 'get -r t -o back'
    take 'rsync down' rsync -r --times "rsync://127.0.0.1:$port/r/t" "$work/back-rsync"
    take 'ftpclient mirror, nothing new' relais -c 'mirror t back'
    take 'rsync, nothing new' rsync -r --times "rsync://127.0.0.1:$port/r/t" "$work/back-rsync"
    relais -c 'rm -r t'
    rm -rf "$work/copy" "$work/local/back" "$work/back-rsync" "$work/rsyncd/t"
done
median() { tr ' ' '\n' <<<"$1" | grep . | sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
printf '%-32s %10s %14s\n' what seconds "ratio to rsync"
row() { awk -v n="$1" -v s="$(median "${times[$1]}")" -v b="$(median "${times[$2]}")" 'BEGIN { printf "%-32s %10.3f %14.2f\n", n, s, s / b }'; }
for what in 'ftpclient put -r' 'rsync up, sync' 'cp -r, sync'; do row "$what" 'rsync up, sync'; done
for what in 'ftpclient get -r' 'rsync down'; do row "$what" 'rsync down'; done
for what in 'ftpclient mirror, nothing new' 'rsync, nothing new'; do row "$what" 'rsync, nothing new'; done
