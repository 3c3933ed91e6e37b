# SPDX-License-Identifier: MIT
"""usage: check_ops_docs.py SOURCE-ROOT

Is docs/ops.md what ir/gen_ops.py makes of ir/ops.py? TAP on stdout; QC_BLESS=1 rewrites the page.
"""
import difflib
import os
import subprocess
import sys
import tempfile

ROOT = sys.argv[1]
PAGE = os.path.join(ROOT, "docs/ops.md")


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


with tempfile.TemporaryDirectory() as folder:
    made = os.path.join(folder, "ops.md")
    subprocess.run([sys.executable, os.path.join(ROOT, "ir/gen_ops.py"), "--docs", made], check=True)
    new = read(made)
if os.environ.get("QC_BLESS"):
    with open(PAGE, "w", encoding="utf-8") as f:
        f.write(new)
old = read(PAGE)
for line in list(difflib.unified_diff(old.split("\n"), new.split("\n"), "docs/ops.md", "ir/ops.py", lineterm="", n=0))[:40]:
    print("# " + line)
print(("ok" if old == new else "not ok") + " 1 - docs/ops.md is that of the op table")
print("1..1")
sys.exit(old != new)
