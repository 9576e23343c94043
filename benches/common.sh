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
