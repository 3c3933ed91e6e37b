# SPDX-License-Identifier: MIT
# Sourced by the tests of qc-run. TAP on standard output, one line a case.
#   run      the program
#   command  of it, put before the arguments of every call; may be empty
# work is a fresh folder, removed at the end.
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
export LC_ALL=C
count=0
failed=0

# ok NAME STATUS: one case; STATUS 0 is good. What the command wrote is shown otherwise.
ok()
{
    count=$((count + 1))
    if [ "$2" -eq 0 ]; then
        echo "ok $count - $1"
    else
        echo "not ok $count - $1"
        failed=$((failed + 1))
        head -c 800 "$work/out" | sed 's/^/# out: /'
        echo
        head -c 800 "$work/err" | sed 's/^/# err: /'
        echo
    fi
}

# qc ARGS...: runs it; $status, $work/out and $work/err are what came of it.
qc()
{
    # shellcheck disable=SC2086
    "$run" $command "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
}

# fails NAME STATUS TEXT ARGS...: exit status STATUS, nothing on standard output, and a first line that holds TEXT.
fails()
{
    name=$1 want=$2 text=$3
    shift 3
    qc "$@"
    [ "$status" -eq "$want" ] && [ ! -s "$work/out" ] && head -n 1 "$work/err" | grep -qF -- "qc-run: error: " &&
        head -n 1 "$work/err" | grep -qF -- "$text"
    good=$?
    # A diagnosed failure is one line; what belongs to it is a note or a warning.
    [ "$(grep -c '^qc-run: error: ' "$work/err")" -eq 1 ] || good=1
    [ "$(grep -cv '^qc-run: ' "$work/err")" -eq 0 ] || good=1
    ok "$name" $good
}

finish()
{
    echo "1..$count"
    [ $failed -eq 0 ]
    exit
}
