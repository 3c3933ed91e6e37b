#!/bin/sh
# SPDX-License-Identifier: MIT
# All set-up (packages, build) and all tests. Prints last: N passed, N failed, N skipped.
#   build         release, warnings are errors: every test
#   build-asan    address and undefined-behaviour sanitizers: units, parsers, passes
#   build-fuzz    every fuzz target, 30 seconds in all, from the corpora
. "$(dirname -- "$0")/setup.sh"

# Larger models and goldens, where there are any.
if [ -z "${QC_DATA:-}" ] && [ -d ../shared/data ]; then
    QC_DATA=$(cd ../shared/data && pwd)
    export QC_DATA
fi

# shellcheck disable=SC2086
setup_packages $BUILD_PACKAGES $FUZZ_PACKAGES

say "building (release, warnings as errors)"
setup_build build -Dwerror=true
status=0
meson test -C build --print-errorlogs || status=1

say "building (sanitizers)"
setup_build build-asan -Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false
ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
    meson test -C build-asan --suite unit --suite ir --suite passes --timeout-multiplier 10 --print-errorlogs || status=1

say "building (fuzz targets)"
CC=clang setup_build build-fuzz -Dfuzz=true -Db_lundef=false
sh tools/fuzz.sh build-fuzz 30 build-fuzz/fuzz.tap || status=1

python3 tools/count_tests.py build build-asan build-fuzz/fuzz.tap || status=1
exit $status
