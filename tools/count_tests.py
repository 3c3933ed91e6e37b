# SPDX-License-Identifier: MIT
"""usage: count_tests.py BUILD-DIR|TAP-FILE...

Counts test cases: TAP lines of the last `meson test` of each build directory (a program that speaks no TAP is one case)
and of TAP files. Prints `N passed, N failed, N skipped`; exits with 1 when something failed or nothing ran.
"""
import json
import os
import re
import sys

LINE = re.compile(r"^(ok|not ok)\b.*?(# SKIP\b.*)?$", re.I)


def tap(text):
    passed = failed = skipped = 0
    for line in text.splitlines():
        m = LINE.match(line)
        if not m:
            continue
        if m[1] != "ok":
            failed += 1
        elif m[2]:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def program(test):
    """One entry of meson's testlog.json."""
    result = test["result"].upper()
    counts = tap(test.get("stdout") or "")
    bad = result in ("FAIL", "ERROR", "TIMEOUT", "INTERRUPT", "UNEXPECTEDPASS")
    if sum(counts) == 0:
        counts = (0, 0, 1) if result == "SKIP" else (0, 1, 0) if bad else (1, 0, 0)
    elif bad and counts[1] == 0:
        counts = (counts[0], 1, counts[2])
    return counts


def main():
    total = [0, 0, 0]
    for path in sys.argv[1:]:
        if os.path.isdir(path):
            with open(os.path.join(path, "meson-logs", "testlog.json"), encoding="utf-8") as f:
                counts = [program(json.loads(line)) for line in f if line.strip()]
        else:
            with open(path, encoding="utf-8") as f:
                counts = [tap(f.read())]
        for c in counts:
            total = [a + b for a, b in zip(total, c)]
    print("%d passed, %d failed, %d skipped" % tuple(total))
    sys.exit(total[1] > 0 or total[0] == 0)


main()
