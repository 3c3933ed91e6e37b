# SPDX-License-Identifier: MIT
"""Makes C of the known Hadamard matrices. Standard library only; runs at build time.

usage: hadamard.py hadamard.txt OUTPUT
"""
import base64
import sys


def main(source, output):
    bits, rows = bytearray(), []
    with open(source, encoding="ascii") as f:
        for line in f:
            if line.startswith("#"):
                continue
            size, name, data = line.split()
            matrix = base64.b64decode(data)
            if len(matrix) != (int(size) ** 2 + 7) // 8:
                raise SystemExit(f"{source}: matrix {name}: {len(matrix)} bytes for size {size}")
            rows.append((int(size), len(bits)))
            bits += matrix
    with open(output, "w", encoding="ascii") as f:
        f.write("/* Generated from ir/dtype/hadamard.txt by ir/dtype/hadamard.py; do not edit. */\n")
        f.write("static const struct {\n    int size;\n    int offset;\n} known_rows[] = {\n")
        f.writelines(f"    {{{size}, {offset}}},\n" for size, offset in rows)
        f.write("};\nstatic const unsigned char known_bits[] = {\n")
        for at in range(0, len(bits), 24):
            f.write("".join(f"{b}," for b in bits[at:at + 24]) + "\n")
        f.write("};\n")


main(sys.argv[1], sys.argv[2])
