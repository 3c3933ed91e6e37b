#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The scalar grammar (ir/scalar.py): what it refuses, with which words, and what C it gives. TAP on stdout.

usage: test_scalar_grammar.py SOURCE_ROOT
"""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(sys.argv[1], "ir"))
import scalar  # noqa: E402

REFUSED = [
    ("add(x)", "add takes 2 arguments, not 1"),
    ("add(x, y)", "unknown name 'y'; known: x, z"),
    ("pow(x, z)", "unknown function 'pow'; known: horner, abs, add,"),
    ("add(x, z", "expected ')', found the end"),
    ("add(x, )", "expected a name or a number, found )"),
    ("add(x, z) x", "'x' follows the expression"),
    ("add(x; z)", "unexpected character ';'"),
    ("lt(x, z)", "the result is mask, not f32"),
    ("select(x, x, z)", "argument 1 of select is f32, not mask"),
    ("add(to_f64(x), z)", "argument 2 of add is f32, not f64"),
    ("ishl(bits(x), bits(z))", "argument 2 of ishl must be a number"),
    ("from_bits(iadd(bits(x), 1.5))", "1.5 is no 32-bit integer"),
    ("select(1, x, z)", "the number 1 stands where a comparison is needed"),
    ("neg(x)", "the operand 'z' is not used"),
    ("a = add(x, z)", "the last line must be the result"),
    ("add(x, z)\nmul(x, z)", "a line before the last must be `name = expression`"),
    ("x = add(x, z)\nx", "the name 'x' is taken"),
    ("exp = add(x, z)\nexp", "the name 'exp' is taken"),
    ("a = add(x, z)\nmul(x, z)", "'a' is not used"),
    ("horner(x, z)", "horner takes a value and numbers"),
    ("", "empty"),
]

ACCEPTED = [
    ("add(x, z)", "    return x + z;\n"),
    ("a = mul(x, 0.1)\nadd(a, z)", "    const float a = x * 0.1f;\n    return a + z;\n"),
    ("sub(mul(x, z), mul(x, z))", "    const float t1 = x * z;\n    return t1 - t1;\n"),
    ("horner(x, 1.0, -2.0, 0.5)\n# of x alone", None),
    ("to_f32(add(to_f64(x), mul(2.0, to_f64(z))))", "    return (float)((double)x + (2.0 * (double)z));\n"),
    ("select(lt(x, 0.0), neg(z), tanh(z))", "    return (x < 0.0f) ? (-z) : qc_scalar_tanh(z);\n"),
    ("from_bits(ior(bits(x), ishr(bits(z), 1)))",
     "    return qc_scalar_from_bits((qc_scalar_bits(x) | (qc_scalar_bits(z) >> 1)));\n"),
]


class Counter(scalar.Emitter):
    """An emitter of another kind than text: counts primitives, as a sign that graphs are shared."""

    def __init__(self):
        self.count = 0

    def literal(self, type_, value):
        return value

    def primitive(self, name, type_, args, arg_types):
        self.count += 1
        return name

    def call(self, name, args):
        self.count += 1
        return name


def main():
    failed = number = 0

    def report(good, name, why=""):
        nonlocal failed, number
        number += 1
        failed += not good
        print("%sok %d - %s" % ("" if good else "not ", number, name.replace("\n", "; ")))
        if not good:
            print("# " + why.replace("\n", "\n# "))

    for text, message in REFUSED:
        try:
            scalar.parse(text, ["x", "z"], "op test")
            report(False, "refuses " + text, "it was taken")
        except scalar.ScalarError as error:
            report(message in str(error) and str(error).startswith("op test: "), "refuses " + text, str(error))
    for text, body in ACCEPTED:
        parameters = ["x", "z"] if "z" in text else ["x"]
        c = scalar.EmitterC().function("f", scalar.parse(text, parameters))
        report(body is None or c.split("{\n", 1)[1] == body + "}\n", "emits " + text, c)
    counter = Counter()
    counter.emit(scalar.parse("add(mul(x, x), mul(x, x))", ["x"]), {"x": "x"})
    report(counter.count == 2, "shares equal expressions", "%d primitives" % counter.count)
    ops = scalar.load_ops(os.path.join(sys.argv[1], "ir", "ops.py"))
    rows = [row["name"] for row in ops if "elementwise" in row["traits"]]
    report(rows == [name for name, _ in scalar.elementwise(ops)], "every elementwise op has an expression")
    print("1..%d" % number)
    return failed > 0


sys.exit(main())
