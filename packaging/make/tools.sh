#!/bin/sh
# Checks the build tools, and reports each missing one with the way to install
# it. Called by make; the tools' names may be overridden:
# CARGO=... CC=... packaging/make/tools.sh

set -u
cd "$(dirname "$0")/../.." || exit 1
missing=0

missing() {
    echo "missing: $1" >&2
    echo "    $2" >&2
    missing=1
}

rustup="install Rust with rustup: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh    (see https://rustup.rs)"

# The minimum version in Cargo.toml.
wanted=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' Cargo.toml | head -n 1)

if ! command -v "${CARGO:-cargo}" >/dev/null 2>&1; then
    missing "cargo, the Rust build tool" "$rustup"
elif ! version=$("${RUSTC:-rustc}" --version 2>/dev/null); then
    missing "rustc, the Rust compiler" "$rustup"
else
    # "rustc 1.95.0 (...)": compare major and minor number.
    version=${version#rustc }
    version=${version%%[ -]*}
    major=${version%%.*}
    minor=${version#*.}
    minor=${minor%%.*}
    wanted_minor=${wanted#*.}
    wanted_minor=${wanted_minor%%.*}
    if [ "$major" -lt "${wanted%%.*}" ] || { [ "$major" -eq "${wanted%%.*}" ] && [ "$minor" -lt "$wanted_minor" ]; }; then
        missing "rustc $wanted or newer; this one is $version" "rustup update stable    (without rustup: $rustup)"
    fi
fi

if ! command -v "${CC:-cc}" >/dev/null 2>&1; then
    missing "cc, a C compiler" "apt install build-essential    (Fedora: dnf install gcc make; Arch: pacman -S base-devel)"
fi

exit "$missing"
