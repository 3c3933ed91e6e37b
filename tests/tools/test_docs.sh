#!/bin/sh
# SPDX-License-Identifier: MIT
# Every command line of the console blocks in README.md and docs/ runs, and every file they link to is there. Every option
# of a tool is on its page.
. "$(dirname "$0")/tap.sh"
bin=$(cd "$QC_BIN" && pwd)
PATH=$bin:$PATH
ln -s "$QC_SOURCE_ROOT/tests" "$work/tests"
cd "$work" || exit 1

for page in "$QC_SOURCE_ROOT"/README.md "$QC_SOURCE_ROOT"/docs/*.md; do
    name=$(basename "$page")
    awk '/^```console$/ {on = 1; next} /^```$/ {on = 0} on && /^\$ / {print substr($0, 3)}' "$page" >"$work/commands"
    while IFS= read -r line; do
        if sh -c "$line" >"$work/out" 2>"$work/err" </dev/null && [ -s "$work/out" -o -s "$work/err" ]; then
            ok "$name: $line"
        else
            not_ok "$name: $line" "$(head -n 4 "$work/err")"
        fi
    done <"$work/commands"
    missing=$(sed -n 's/.*](\([^)#:]*\)[)#].*/\1/p' "$page" | while IFS= read -r link; do
        [ -z "$link" ] || [ -e "$(dirname "$page")/$link" ] || echo "$link"
    done)
    if [ -z "$missing" ]; then ok "$name: links"; else not_ok "$name: links" "$missing"; fi
done
for tool in qc-opt qc-run qc-check; do
    missing=$("$tool" --help | sed -nE 's/^  (-[a-zA-Z]( [A-Z]+)?, )?(--[a-z-]+).*/\3/p' | while IFS= read -r option; do
        grep -qE -- "$option([^a-z-]|\$)" "$QC_SOURCE_ROOT/docs/$tool.md" || echo "$option"
    done)
    if [ -z "$missing" ]; then ok "$tool: options"; else not_ok "$tool: options" "$missing"; fi
done
finish
