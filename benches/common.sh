# What every measurement needs, to be sourced: the programs ($bin), a folder that goes at the end ($work, in $folder or /dev/shm), and
# servers that end with the script.
bin=${BIN:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/target/release}
work=$(mktemp -d "${folder:-/dev/shm}/relais-bench.XXXXXX")
pids=()
# What else has to go at the end; a script says it anew.
clean_up() { :; }
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    clean_up
    rm -rf "$work"
}
trap finish EXIT
export RUST_LOG=warn XDG_STATE_HOME=$work/state

# Starts a server, given as one command so that it is what ends, and sets `address` to where it listens.
start() {
    local line ready=$work/ready.${#pids[@]}
    mkfifo "$ready"
    "$@" >"$ready" &
    pids+=($!)
    read -r line <"$ready"
    line=${line#*addr=}
    address=${line%% *}
}
# Processor time of a slave's children so far, in seconds.
processor() {
    local child total=0
    for child in $(pgrep -P "$1"); do
        total=$((total + $(sed 's/.*) //' "/proc/$child/stat" | awk '{ print $12 + $13 }')))
    done
    awk -v t="$total" -v hz="$(getconf CLK_TCK)" 'BEGIN { print t / hz }'
}
median() { tr ' ' '\n' <<<"$1" | grep . | sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
