#!/bin/sh
# SPDX-License-Identifier: MIT
# Sourced behind tap.sh by the tests of bad input: one line that names the place, exit status 1, nothing left behind.
opt=$QC_BIN/qc-opt
out=$work/out-checkpoint

# edit SOURCE TARGET CODE...: see edit_checkpoint.py.
edit() { python3 "$QC_SOURCE_ROOT/tests/tools/edit_checkpoint.py" "$@"; }

# refused NAME TEXT OPTION...: as fails, with status 1, and no output is there, whole or partial.
refused() {
    name=$1 text=$2
    shift 2
    if run 1 "$opt" "$@" -o "$out" && [ "$(grep -c ': error: ' "$work/err")" -eq 1 ] &&
        grep ': error: ' "$work/err" | grep -qF -- "$text" && [ ! -e "$out" ] && [ ! -e "$out.partial" ]; then
        ok "$name"
    else
        not_ok "$name" "exit $got; expected text: $text" "$(head -n 6 "$work/err")" "$(ls -d "$out"* 2>/dev/null)"
    fi
    rm -rf "$out" "$out.partial"
}

# warned NAME TEXT OPTION...: done, with a line that holds TEXT.
warned() {
    name=$1 text=$2
    shift 2
    if run 0 "$opt" "$@" && grep -qF -- "$text" "$work/err"; then
        ok "$name"
    else
        not_ok "$name" "exit $got; expected text: $text" "$(head -n 6 "$work/err")"
    fi
    rm -rf "$out"
}
