# SPDX-License-Identifier: MIT
"""usage: out_of_tree.py SOURCE-ROOT BUILD-ROOT MESON QC-OPT

Installs the headers under a temporary prefix and goes through docs/writing-a-pass.md as a stranger would: the C pieces
of the page are in the example, its commands build and run it, and the pass gives the bytes of the built-in one. TAP.
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

SOURCE, BUILD, MESON, QC_OPT = (os.path.abspath(a) for a in sys.argv[1:5])
PAGE = os.path.join(SOURCE, "docs/writing-a-pass.md")
EXAMPLE = os.path.join(SOURCE, "docs/examples/quant-fp8-attn-plugin")
failed = count = 0


def case(name, problem, skip=None):
    global failed, count
    count += 1
    failed += bool(problem)
    if problem:
        print("\n".join("# " + line for line in problem.strip().split("\n")[-20:]))
    print(f"{'not ok' if problem else 'ok'} {count} - {name}" + (f" # SKIP {skip}" if skip else ""))


def run(command, **options):
    """What it printed when it failed, "" when it did not."""
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    return "" if p.returncode == 0 else f"{command} gave {p.returncode}\n{p.stdout}"


def blocks(language):
    with open(PAGE, encoding="utf-8") as f:
        return re.findall(rf"^```{language}\n(.*?)^```$", f.read(), re.M | re.S)


def compilers(headers, include):
    for name, command, suffix in (("C99", ["cc", "-std=c99", "-pedantic"], ".c"), ("C++", ["c++", "-std=c++11"], ".cc")):
        if not shutil.which(command[0]):
            case(f"each header compiles alone as {name}", "", skip=f"no {command[0]}")
            continue
        problem = ""
        for header in headers:
            unit = os.path.join(folder, "unit" + suffix)
            with open(unit, "w", encoding="utf-8") as f:
                f.write(f'#include <qc/{os.path.basename(header)}>\n#include <qc/{os.path.basename(header)}>\n')
            problem += run(command + ["-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", include, unit])
        case(f"each header compiles alone as {name}", problem)


folder = tempfile.mkdtemp(prefix="qc-plugin-")
try:
    prefix = os.path.join(folder, "prefix")
    case("the headers install", run([MESON, "install", "-C", BUILD, "--no-rebuild", "--tags", "devel", "--destdir", prefix]))
    pc = glob.glob(os.path.join(prefix, "**/qc.pc"), recursive=True)
    headers = sorted(glob.glob(os.path.join(prefix, "**/include/qc/*.h"), recursive=True))
    case("qc.pc and all headers are there", "" if len(pc) == 1 and len(headers) >= 7 else f"found {pc} and {headers}")
    if headers:
        compilers(headers, os.path.dirname(os.path.dirname(headers[0])))

    with open(os.path.join(EXAMPLE, "acme_fp8_attn.c"), encoding="utf-8") as f:
        example = f.read()
    pieces = blocks("c")
    missing = [p for p in pieces if p not in example]
    case("the C of the page is in the example", "".join(missing) if pieces else "the page has no C")

    env = dict(os.environ, PATH=os.path.dirname(QC_OPT) + os.pathsep + os.environ["PATH"], PKG_CONFIG_SYSROOT_DIR=prefix,
               PKG_CONFIG_PATH=os.path.dirname(pc[0]) if pc else "", PKG_CONFIG_ALLOW_SYSTEM_CFLAGS="1")
    work = os.path.join(folder, "work")
    shutil.copytree(EXAMPLE, work)
    shutil.copy(os.path.join(SOURCE, "tests/plugin/model.qc"), work)
    script = "".join(blocks("sh"))
    case("the commands of the page run", run(["sh", "-e", "-u", "-c", script], cwd=work, env=env) if script else "none")
    output = os.path.join(work, "acme.qc")
    quantized = os.path.isfile(output) and "scheme @attention" in open(output, encoding="utf-8").read()
    case("they quantize", "" if quantized else "acme.qc has no scheme")
    case("the example's meson.build builds it",
         run([MESON, "setup", "-Dwerror=true", "build"], cwd=work, env=env) or run([MESON, "compile", "-C", "build"], cwd=work, env=env))
finally:
    shutil.rmtree(folder, ignore_errors=True)
print(f"1..{count}")
sys.exit(failed > 0)
