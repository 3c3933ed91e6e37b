#!/bin/sh
# SPDX-License-Identifier: MIT
# Sourced by quickstart.sh and test.sh: installs missing Debian packages, configures and builds.
#   setup_packages NAME...   installs those that are missing, as root or through sudo
#   setup_build DIR ARG...   configures DIR (once) with meson's ARGs and builds it
set -eu

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$top"

BUILD_PACKAGES="gcc libc6-dev meson ninja-build pkg-config python3 libdnnl-dev libpcre2-dev libutf8proc-dev libyaml-dev"
FUZZ_PACKAGES="clang libclang-rt-14-dev"

say() { printf '%s\n' "$*" >&2; }

setup_packages() {
    missing=""
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    say "installing:$missing"
    run=""
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { say "error: these packages are missing and sudo is not here:$missing"; exit 1; }
        run="sudo"
    fi
    log=$(mktemp)
    # shellcheck disable=SC2086  # a list of words
    if ! { $run apt-get update && DEBIAN_FRONTEND=noninteractive $run apt-get install -y --no-install-recommends $missing; } \
        >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        say "error: apt-get could not install:$missing"
        exit 1
    fi
    rm -f "$log"
}

setup_build() {
    dir=$1
    shift
    # shellcheck disable=SC2086
    if [ -f "$dir/build.ninja" ]; then
        [ $# -eq 0 ] || meson configure "$dir" "$@" >"$dir.log" 2>&1
    else
        meson setup "$dir" "$@" >"$dir.log" 2>&1
    fi || {
        cat "$dir.log" >&2
        say "error: could not configure $dir"
        exit 1
    }
    rm -f "$dir.log"
    ninja -C "$dir" >"$dir/build.log" 2>&1 || {
        grep -v '^\[' "$dir/build.log" >&2
        say "error: could not build $dir"
        exit 1
    }
}
