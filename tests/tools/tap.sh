# SPDX-License-Identifier: MIT
# Sourced by the shell tests of the tools. TAP on stdout, one line a case.
#   QC_BIN          folder of qc-opt, qc-run, qc-check
#   QC_SOURCE_ROOT  the repository
# work is a fresh folder, removed at the end.
set -u
model=$QC_SOURCE_ROOT/tests/data/stories260k
data=${QC_DATA:-$QC_SOURCE_ROOT/../shared/data}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
number=0 failed=0

ok() {
    number=$((number + 1))
    echo "ok $number - $1"
}

not_ok() {
    number=$((number + 1)) failed=$((failed + 1))
    echo "not ok $number - $1"
    shift
    printf '%s\n' "$@" | sed 's/^/# /'
}

skip() {
    number=$((number + 1))
    echo "ok $number - $1 # SKIP $2"
}

# run STATUS COMMAND...: runs it; stdout in $work/out, stderr in $work/err; true when the status is the expected one.
run() {
    wanted=$1
    shift
    "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    [ "$got" -eq "$wanted" ]
}

# passes NAME COMMAND...: exit 0.
passes() {
    name=$1
    shift
    if run 0 "$@"; then ok "$name"; else not_ok "$name" "exit $got" "$(head -n 5 "$work/err")"; fi
}

# fails NAME STATUS TEXT COMMAND...: that exit status, exactly one error line, and it holds TEXT.
fails() {
    name=$1 status=$2 text=$3
    shift 3
    if run "$status" "$@" && [ "$(grep -c ': error: ' "$work/err")" -eq 1 ] && grep ': error: ' "$work/err" | grep -qF -- "$text"; then
        ok "$name"
    else
        not_ok "$name" "exit $got, expected $status; expected text: $text" "$(head -n 8 "$work/err")"
    fi
}

# check NAME COMMAND...: a condition.
check() {
    name=$1
    shift
    if "$@" >"$work/check" 2>&1; then ok "$name"; else not_ok "$name" "$(head -n 5 "$work/check")"; fi
}

finish() {
    echo "1..$number"
    [ "$failed" -eq 0 ]
    exit
}
