# Common parts of the benchmarks, to be sourced: the programs ($bin), a temporary folder ($work, in
# $folder or /dev/shm), and servers that stop with the script.
bin=${BIN:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/target/release}
work=$(mktemp -d "${folder:-/dev/shm}/relais-bench.XXXXXX")
pids=()
# Further cleanup; a script redefines it.
clean_up() { :; }
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    clean_up
    rm -rf "$work"
}
trap finish EXIT
export RUST_LOG=warn XDG_STATE_HOME=$work/state

# Starts a server and sets `address` to its address. The arguments are one command, so that its pid is
# the server's.
start() {
    local line ready=$work/ready.${#pids[@]}
    mkfifo "$ready"
    "$@" >"$ready" &
    pids+=($!)
    read -r line <"$ready"
    line=${line#*addr=}
    address=${line%% *}
}
# Prints the processor time of a slave's children so far, in seconds.
processor() {
    local child total=0
    for child in $(pgrep -P "$1"); do
        total=$((total + $(sed 's/.*) //' "/proc/$child/stat" | awk '{ print $12 + $13 }')))
    done
    awk -v t="$total" -v hz="$(getconf CLK_TCK)" 'BEGIN { print t / hz }'
}
median() { tr ' ' '\n' <<<"$1" | grep . | sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
