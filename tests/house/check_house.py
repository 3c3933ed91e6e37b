# SPDX-License-Identifier: MIT
"""usage: check_house.py SOURCE-ROOT

Keeps the rules of the house that a machine can see; TAP on stdout. docs/architecture.md says why they are rules.
"""
import os
import re
import subprocess
import sys

ROOT = sys.argv[1]

# Folder -> folders it may include from. First match wins; longer prefixes first.
LAYERS = [
    ("ir/support", ["include/qc", "ir/support"]),
    ("ir/dtype", ["include/qc", "ir/support", "ir/dtype"]),
    ("ir", ["include/qc", "ir"]),
    ("passes", ["include/qc", "ir", "passes"]),
    ("frontends/hf", ["include/qc", "ir", "passes", "frontends/hf"]),
    ("frontends/recipe", ["include/qc", "ir", "passes", "frontends/recipe"]),
    ("frontends/text", ["include/qc", "ir", "passes", "frontends/text"]),
    ("backends/reference", ["include/qc", "ir", "passes", "backends/reference"]),
    ("backends/host", ["include/qc", "ir", "passes", "backends/host"]),
    ("runtime", ["include/qc", "ir", "passes", "frontends", "backends", "runtime"]),
    ("tools", ["include/qc", "ir", "passes", "frontends", "backends", "runtime", "tools"]),
    ("include/qc", ["include/qc"]),
]
# ir/ir.h (the structures behind the handles) is for ir/ and the reference interpreter alone.
INTERNAL = {"ir/ir.h": ("ir", "backends/reference"), "ir/lex.h": ("ir",)}
GENERATED = {"op_table.h", "scalar.h"}  # of ir/
MAX_FILE_LINES, MAX_FUNCTION_LINES = 800, 80

failures = []
count = 0


def case(name, problems):
    global count
    count += 1
    for p in problems[:20]:
        print("# " + p)
    print(f"{'not ok' if problems else 'ok'} {count} - {name}")
    failures.extend(problems)


def tracked():
    try:
        out = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True).stdout.split("\n")
        files = [f for f in out if f and os.path.isfile(os.path.join(ROOT, f))]
    except (OSError, subprocess.CalledProcessError):
        files = []
    if files:
        return files
    for folder, dirs, names in os.walk(ROOT):  # a release archive has no .git
        dirs[:] = [d for d in dirs if not d.startswith((".git", "build"))]
        files += [os.path.relpath(os.path.join(folder, n), ROOT) for n in names]
    return files


def text(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as f:
        return f.read()


FILES = tracked()
C = [f for f in FILES if f.endswith((".c", ".h"))]
LIBRARY = [f for f in C if not f.startswith(("tools/", "tests/", "docs/"))]


def inside(path, folder):
    return path.startswith(folder + "/")


def check_arrows():
    bad = []
    for f in C:
        rule = next((r for r in LAYERS if inside(f, r[0])), None)
        if not rule:
            continue
        for inc in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text(f), re.M):
            target = "include/" + inc if inc.startswith("qc/") else inc
            if os.path.basename(target) in GENERATED or "/" not in target:
                target = os.path.join("ir" if target in GENERATED else os.path.dirname(f), target)
            if target in INTERNAL and not any(inside(f, d) for d in INTERNAL[target]):
                bad.append(f"{f} includes {inc}: internal to {', '.join(INTERNAL[target])}")
            elif not any(inside(target, d) for d in rule[1]):
                bad.append(f"{f} includes {inc}: {rule[0]} may include only {', '.join(rule[1])}")
    return bad


def functions(source):
    """(name, first line, lines) of each function body; braces in column 1 as .clang-format puts them."""
    start = name = None
    for i, line in enumerate(source.split("\n"), 1):
        if re.match(r"^[A-Za-z_].*\)\s*\{?$", line) or re.match(r"^[A-Za-z_].*\($", line):
            name = (i, line)
        if line.startswith("{") or (re.match(r"^[A-Za-z_].*\)\s*\{$", line)):
            start = i
        elif line.startswith("}"):
            if start and name and not line.startswith("};"):
                yield name[1][:60], start, i - start
            start = name = None


def check_sizes():
    bad = []
    for f in C:
        source = text(f)
        lines = source.count("\n")
        if lines > MAX_FILE_LINES and not f.startswith("tests/"):
            bad.append(f"{f}: {lines} lines, at most {MAX_FILE_LINES}")
        if f.endswith(".c") and not f.startswith("tests/"):
            bad += [f"{f}:{line}: {n} lines: {name}" for name, line, n in functions(source) if n > MAX_FUNCTION_LINES]
    return bad


def check_words(files, pattern, what):
    return [f"{f}:{i}: {what}: {line.strip()[:80]}" for f in files
            for i, line in enumerate(text(f).split("\n"), 1) if re.search(pattern, line)]


def check_headers():
    return [f"{f}: no SPDX line at the top" for f in C if "SPDX-License-Identifier: MIT" not in text(f)[:200]]


def check_guards():
    seen, bad = {}, []
    for f in (f for f in C if f.endswith(".h")):
        m = re.search(r"^#ifndef (QC_\w+)", text(f), re.M)
        if not m:
            bad.append(f"{f}: no include guard")
        elif m[1] in seen:
            bad.append(f"{f}: include guard {m[1]} is that of {seen[m[1]]}")
        else:
            seen[m[1]] = f
    return bad


def check_passes():
    bad = []
    names = re.findall(r'^QC_PASS\((\w+)\)', text("passes/passes.def"), re.M)
    docs = text("docs/passes.md") if "docs/passes.md" in FILES else ""
    if not names:
        bad.append("passes/passes.def lists no pass")
    for name in names:
        kebab, snake = name.replace("_", "-"), name.replace("-", "_")
        if f"passes/{snake}.c" not in FILES:
            bad.append(f"pass {kebab}: no file passes/{snake}.c")
        if not any(f.startswith(f"tests/passes/{snake}/") for f in FILES):
            bad.append(f"pass {kebab}: no folder tests/passes/{snake}")
        if not re.search(rf"^#+ {re.escape(kebab)}$", docs, re.M):
            bad.append(f"pass {kebab}: no heading in docs/passes.md")
    return bad


case("includes point down", check_arrows())
case("files and functions keep their size", check_sizes())
case("every C file carries its licence", check_headers())
case("include guards are there and unique", check_guards())
case("library code never ends the process", check_words(
    [f for f in LIBRARY if f.endswith(".c")], r"(?<![\w.])(exit|_exit|_Exit|abort|quick_exit)\s*\(", "ends the process"))
case("library code never prints", check_words(
    [f for f in LIBRARY if f.endswith(".c")], r"(?<![\w.])(printf|puts|perror)\s*\(|\bfprintf\s*\(\s*std(out|err)", "prints"))
case("passes do not name an exporter", check_words(
    [f for f in C if f.startswith("passes/")], r"(?i)llm-?compressor|compressed_tensors", "names one"))
case("a pass is a file, a folder of tests and a heading", check_passes())
print(f"1..{count}")
sys.exit(bool(failures))
