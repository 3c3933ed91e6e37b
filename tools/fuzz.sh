#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: fuzz.sh BUILD-DIR SECONDS TAP-FILE
# Runs every fuzz target of the build for its share of the seconds, starting from its corpus; one TAP line each.
set -u
build=$1 seconds=$2 tap=$3
top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
targets=$(find "$build/tests/fuzz" -maxdepth 1 -type f -perm -u+x -name 'fuzz_*' | sort)
count=$(printf '%s\n' "$targets" | grep -c .)
[ "$count" -gt 0 ] || { echo "error: no fuzz target in $build" >&2; exit 1; }
share=$(((seconds + count - 1) / count))
number=0 status=0
: >"$tap"
for target in $targets; do
    number=$((number + 1))
    name=$(basename "$target")
    found="$build/found-$name" && mkdir -p "$found"
    if "$target" -max_total_time="$share" -timeout=20 -rss_limit_mb=4096 -artifact_prefix="$found/" \
        "$found" "$top/tests/fuzz/corpus/${name#fuzz_}" >"$build/$name.log" 2>&1; then
        echo "ok $number - $name, $share s" | tee -a "$tap"
    else
        echo "not ok $number - $name" | tee -a "$tap"
        tail -n 40 "$build/$name.log" >&2
        status=1
    fi
done
exit $status
