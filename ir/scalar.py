#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The grammar of scalar expressions, and the C that follows from them.

Elementwise ops of the op table say what they compute in this grammar, once. Everything a backend needs to emit is the
closed list PRIMITIVES: additions, products, comparisons, selects and casts of bits, each exact or correctly rounded,
so that every machine and every backend computes the same bits. exp, log, sin, cos and tanh are no primitives: they
are DEFINITIONS over the primitives, polynomials after a reduction of the range.

  expression:  name | number | function(expression, ...)
  body:        lines `name = expression`; the last line is the result, an expression alone
  types:       f32, f64, i32 (wraps), mask. A number takes the type of the operands beside it, f32 if there is none.
  sugar:       horner(z, c0, c1, ...) is c0 + z (c1 + z (...)), a product and a sum a step.

No branches: select evaluates both sides, and bodies vectorise. `fma` rounds once; on machines without the instruction
it is a slow call, so the definitions do without it and products and sums are never contracted (-ffp-contract=off).

parse(text, parameters) gives a typed, shared expression graph and reports errors as ScalarError; an emitter of
another language derives from Emitter and fills in one template a primitive, as EmitterC does.

Sources. exp: reduction in two parts (Cody and Waite, Software Manual for the Elementary Functions, 1980, chapter 6).
log, sin, cos: f64 inside; log by the series of artanh. The coefficients are minimax fits (Remez, 60 digits) of
  exp   (e^r - 1 - r) / r^2          |r| <= ln 2 / 2           weight r^2        error 2^-28.2
  tanh  (tanh x - x) / x^3  in x^2   |x| <= 0.625              weight x^2        error 2^-27.8
  sin   (sin x - x) / x^3   in x^2   |x| <= pi / 4             weight x^2        error 2^-58
  cos   (cos x - 1 + x^2 / 2) / x^4  |x| <= pi / 4             weight x^4        error 2^-53
  log   (log((1 + s) / (1 - s)) - 2 s) / s^3 in s^2, sqrt(1/2) <= (1 + s) / (1 - s) <= sqrt(2)   error 2^-44
Measured against correctly rounded results over all f32 (tests/unit/test_scalar.c samples them): exp differs by at
most 1 unit in the last place, subnormal results included; tanh by at most 2; log, sin, cos by at most 1.
"""

import argparse
import math
import re
import struct
import sys

# name: (types of the arguments, type of the result). F: f32 or f64, the same for all; T: any one type; S f32, D f64,
# I i32, M mask. K is an i32 number written in place (a shift count).
PRIMITIVES = {
    "add": ("FF", "F"), "sub": ("FF", "F"), "mul": ("FF", "F"), "div": ("FF", "F"), "fma": ("FFF", "F"),
    "neg": ("F", "F"), "abs": ("F", "F"), "sqrt": ("F", "F"),
    "floor": ("F", "F"), "rint": ("F", "F"),  # rint: to nearest, ties to even
    "min": ("FF", "F"), "max": ("FF", "F"),  # NaN if one is NaN; the second operand where both are equal
    "lt": ("FF", "M"), "le": ("FF", "M"), "eq": ("FF", "M"),
    "and": ("MM", "M"), "or": ("MM", "M"), "not": ("M", "M"),
    "select": ("MTT", "T"),
    "iadd": ("II", "I"), "isub": ("II", "I"), "iand": ("II", "I"), "ior": ("II", "I"), "ieq": ("II", "M"),
    "ishl": ("IK", "I"), "ishr": ("IK", "I"),  # ishr keeps the sign
    "bits": ("S", "I"), "from_bits": ("I", "S"),
    "to_f64": ("S", "D"), "to_f32": ("D", "S"),
    "to_int": ("D", "I"),  # toward zero; the value must be in range
    "from_int": ("I", "D"),
}
LETTER_TYPES = {"S": "f32", "D": "f64", "I": "i32", "K": "i32", "M": "mask"}

# name: (parameter, body). All take and give f32.
DEFINITIONS = {
    # -104 and 89 lie beyond where the result is 0 and infinity; NaN passes both selects. n is what adding 1.5 * 2^23
    # leaves in the low bits; n times the first part of ln 2, 15 bits, is exact, and so is `top`; the rounding of r
    # touches the terms of second order alone. 2^n goes on in two factors, as n itself may be 128 or -150.
    "exp": ("x", """
        c = select(lt(89.0, x), 89.0, x)
        d = select(lt(c, -104.0), -104.0, c)
        shifted = add(mul(d, 1.44269504), 12582912.0)
        n = sub(shifted, 12582912.0)
        top = sub(d, mul(n, 0.693145751953125))
        rest = mul(n, 1.42860677e-06)
        r = sub(top, rest)
        q = horner(r, 0.5, 0.166665182, 0.041666206, 0.0083688898, 0.00139504904)
        p = add(1.0, add(top, sub(mul(mul(r, r), q), rest)))
        e = isub(bits(shifted), 0x4b400000)
        half = ishr(e, 1)
        low = from_bits(ishl(iadd(half, 127), 23))
        high = from_bits(ishl(iadd(isub(e, half), 127), 23))
        mul(mul(p, low), high)
    """),
    # x = m 2^e with m in [sqrt(1/2), sqrt(2)), subnormal x scaled by 2^24 first; 0 gives -infinity, x < 0 NaN.
    "log": ("x", """
        tiny = lt(x, 1.17549435e-38)
        b = bits(select(tiny, mul(x, 16777216.0), x))
        e = ishr(isub(b, 0x3f3504f3), 23)
        m = to_f64(from_bits(isub(b, ishl(e, 23))))
        s = div(sub(m, 1.0), add(m, 1.0))
        z = mul(s, s)
        q = horner(z, 0.6666666667580924, 0.39999995618953266, 0.28572109471918067, 0.2217617522918289,
                   0.19584350873890755)
        k = from_int(isub(e, select(tiny, 24, 0)))
        y = to_f32(add(mul(k, 0.6931471805599453), add(add(s, s), mul(mul(s, z), q))))
        positive = select(le(x, 3.40282347e38), y, add(x, x))
        nonzero = select(lt(x, 0.0), from_bits(0x7fc00000), positive)
        select(eq(x, 0.0), from_bits(-8388608), nonzero)
    """),
    # n = round(x / (pi / 2)); pi / 2 in three parts of which the first two times n are exact. NaN for |x| over 2^31:
    # the reduction would no longer be exact there.
    "sin": ("x", """
        inside = le(abs(x), 2147483648.0)
        d = to_f64(select(inside, x, 0.0))
        n = sub(add(mul(d, 0.6366197723675814), 6755399441055744.0), 6755399441055744.0)
        r = sub(sub(sub(d, mul(n, 1.570796012878418)), mul(n, 3.139164164167596e-07)), mul(n, 6.223372171896613e-14))
        z = mul(r, r)
        s = mul(r, horner(z, 1.0, -0.16666666666666632, 0.008333333333322413, -0.0001984126982980783,
                          2.755731369192517e-06, -2.5050758116275832e-08, 1.5896795705745956e-10))
        c = add(sub(1.0, mul(0.5, z)), mul(mul(z, z), horner(z, 0.041666666666602195, -0.0013888888878265916,
                                         2.4801580967906048e-05, -2.7555566436317767e-07, 2.0647692526956127e-09)))
        q = to_int(n)
        even = select(ieq(iand(q, 1), 0), s, c)
        y = to_f32(select(ieq(iand(q, 2), 0), even, neg(even)))
        select(inside, y, from_bits(0x7fc00000))
    """),
    "cos": ("x", """
        inside = le(abs(x), 2147483648.0)
        d = to_f64(select(inside, x, 0.0))
        n = sub(add(mul(d, 0.6366197723675814), 6755399441055744.0), 6755399441055744.0)
        r = sub(sub(sub(d, mul(n, 1.570796012878418)), mul(n, 3.139164164167596e-07)), mul(n, 6.223372171896613e-14))
        z = mul(r, r)
        s = mul(r, horner(z, 1.0, -0.16666666666666632, 0.008333333333322413, -0.0001984126982980783,
                          2.755731369192517e-06, -2.5050758116275832e-08, 1.5896795705745956e-10))
        c = add(sub(1.0, mul(0.5, z)), mul(mul(z, z), horner(z, 0.041666666666602195, -0.0013888888878265916,
                                         2.4801580967906048e-05, -2.7555566436317767e-07, 2.0647692526956127e-09)))
        q = iadd(to_int(n), 1)
        even = select(ieq(iand(q, 1), 0), s, c)
        y = to_f32(select(ieq(iand(q, 2), 0), even, neg(even)))
        select(inside, y, from_bits(0x7fc00000))
    """),
    # An odd polynomial near 0; 1 - 2 / (e^2|x| + 1) with the sign of x elsewhere.
    "tanh": ("x", """
        a = abs(x)
        z = mul(a, a)
        near = add(a, mul(mul(a, z), horner(z, -0.333332837, 0.133314908, -0.0537434965, 0.0206505861, -0.0057170433)))
        far = sub(1.0, div(2.0, add(exp(add(a, a)), 1.0)))
        y = select(lt(a, 0.625), near, far)
        from_bits(ior(bits(y), iand(bits(x), -2147483648)))
    """),
}

TOKEN = re.compile(r"\s*(?:(?P<number>-?(?:0x[0-9a-fA-F]+|(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?))"
                   r"|(?P<name>[A-Za-z_]\w*)|(?P<punctuation>[(),]))")


class ScalarError(ValueError):
    """An expression that is outside the grammar; the text says where and why."""


class Node:
    """One value of an expression graph. kind: parameter, literal, primitive, call; equal nodes of a graph are one."""

    __slots__ = ("kind", "name", "type", "args", "value", "hint", "uses")

    def __init__(self, kind, name, type_, args=(), value=None):
        self.kind, self.name, self.type, self.args, self.value = kind, name, type_, tuple(args), value
        self.hint, self.uses = None, 0


class Graph:
    """parameters: names; result: Node; nodes: all of them, operands before users."""

    def __init__(self, parameters):
        self.parameters, self.result, self.nodes, self._interned = list(parameters), None, [], {}

    def node(self, kind, name, type_, args=(), value=None):
        key = (kind, name, type_, tuple(id(a) for a in args), repr(value))
        if key not in self._interned:
            for arg in args:
                arg.uses += 1
            self._interned[key] = Node(kind, name, type_, args, value)
            self.nodes.append(self._interned[key])
        return self._interned[key]


def _syntax(where, text):
    """Text as nested lists: ["name", args...] is a call, a str a name, (number, source) a literal."""
    tokens, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match:
            raise ScalarError("%s: unexpected character '%s' in '%s'" % (where, text[at:].lstrip()[:1], text.strip()))
        tokens.append((match.lastgroup, match.group(match.lastgroup)))
        at = match.end()
    position = 0

    def peek(symbol):
        return position < len(tokens) and tokens[position] == ("punctuation", symbol)

    def expect(symbol):
        nonlocal position
        if not peek(symbol):
            got = tokens[position][1] if position < len(tokens) else "the end"
            raise ScalarError("%s: expected '%s', found %s in '%s'" % (where, symbol, got, text.strip()))
        position += 1

    def expression():
        nonlocal position
        if position >= len(tokens) or tokens[position][0] == "punctuation":
            got = tokens[position][1] if position < len(tokens) else "the end"
            raise ScalarError("%s: expected a name or a number, found %s in '%s'" % (where, got, text.strip()))
        kind, word = tokens[position]
        position += 1
        if kind == "number":
            return (int(word, 0) if re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)", word) else float(word), word)
        if not peek("("):
            return word
        expect("(")
        args = [expression()]
        while peek(","):
            expect(",")
            args.append(expression())
        expect(")")
        return [word] + args

    tree = expression()
    if position != len(tokens):
        raise ScalarError("%s: '%s' follows the expression '%s'" % (where, tokens[position][1], text.strip()))
    return tree


def _literal(graph, where, tree, type_):
    value, source = tree
    if type_ == "mask":
        raise ScalarError("%s: the number %s stands where a comparison is needed" % (where, source))
    if type_ == "i32":
        if not isinstance(value, int) or not -2**31 <= value < 2**31:
            raise ScalarError("%s: %s is no 32-bit integer" % (where, source))
        return graph.node("literal", None, type_, value=value)
    value = float(value)
    if type_ == "f32":
        value = struct.unpack("f", struct.pack("f", value))[0]
    return graph.node("literal", None, type_, value=value)


def _build(graph, where, tree, names, wanted=None):
    """The node of a syntax tree. wanted: the type a number takes here."""
    if isinstance(tree, tuple):
        return _literal(graph, where, tree, wanted or "f32")
    if isinstance(tree, str):
        if tree not in names:
            raise ScalarError("%s: unknown name '%s'; known: %s" % (where, tree, ", ".join(sorted(names))))
        return names[tree]
    function, args = tree[0], tree[1:]
    if function == "horner":
        if len(args) < 2 or not all(isinstance(c, tuple) for c in args[1:]):
            raise ScalarError("%s: horner takes a value and numbers" % where)
        z = args[0]
        body = args[-1]
        for coefficient in reversed(args[1:-1]):
            body = ["add", coefficient, ["mul", z, body]]
        return _build(graph, where, body, names, wanted)
    if function in DEFINITIONS:
        if len(args) != 1:
            raise ScalarError("%s: %s takes 1 argument, not %d" % (where, function, len(args)))
        arg = _build(graph, where, args[0], names, "f32")
        if arg.type != "f32":
            raise ScalarError("%s: %s takes f32, not %s" % (where, function, arg.type))
        return graph.node("call", function, "f32", [arg])
    if function not in PRIMITIVES:
        raise ScalarError("%s: unknown function '%s'; known: horner, %s" % (
            where, function, ", ".join(sorted(list(PRIMITIVES) + list(DEFINITIONS)))))
    pattern, result = PRIMITIVES[function]
    if len(args) != len(pattern):
        raise ScalarError("%s: %s takes %d arguments, not %d" % (where, function, len(pattern), len(args)))
    bound = {}
    nodes = [None] * len(args)
    # two rounds: numbers take the type that the other operands fix
    for numbers in (False, True):
        for i, (letter, arg) in enumerate(zip(pattern, args)):
            if isinstance(arg, tuple) != numbers:
                continue
            if letter == "K" and not numbers:
                raise ScalarError("%s: argument %d of %s must be a number" % (where, i + 1, function))
            fixed = LETTER_TYPES.get(letter) or bound.get(letter)
            nodes[i] = _build(graph, where, arg, names, fixed or wanted)
            got = nodes[i].type
            if letter == "F" and got not in ("f32", "f64") or fixed and got != fixed:
                raise ScalarError("%s: argument %d of %s is %s, not %s" % (
                    where, i + 1, function, got, fixed or "a float"))
            bound.setdefault(letter, got)
    return graph.node("primitive", function, LETTER_TYPES.get(result) or bound[result], nodes)


def parse(text, parameters, where="expression"):
    """The graph of a body over f32 parameters. Every parameter must be used."""
    graph = Graph(parameters)
    names = {p: graph.node("parameter", p, "f32") for p in parameters}
    statements = []
    depth = 0
    for line in text.strip().splitlines():  # a line goes on while a parenthesis is open
        line = line.split("#")[0].strip()
        if not line:
            continue
        if depth > 0:
            statements[-1] += " " + line
        else:
            statements.append(line)
        depth += line.count("(") - line.count(")")
    if not statements:
        raise ScalarError("%s: empty" % where)
    for i, statement in enumerate(statements):
        match = re.match(r"([A-Za-z_]\w*)\s*=\s*", statement)
        last = i == len(statements) - 1
        if bool(match) == last:
            raise ScalarError("%s: '%s': %s" % (where, statement, "the last line must be the result" if last else
                                               "a line before the last must be `name = expression`"))
        if match and (match.group(1) in names or match.group(1) in PRIMITIVES or match.group(1) in DEFINITIONS):
            raise ScalarError("%s: the name '%s' is taken" % (where, match.group(1)))
        node = _build(graph, where, _syntax(where, statement[match.end():] if match else statement), names)
        if match:
            names[match.group(1)] = node
            node.hint = node.hint or (match.group(1) if node.kind not in ("parameter", "literal") else None)
        else:
            graph.result = node
    if graph.result.type != "f32":
        raise ScalarError("%s: the result is %s, not f32" % (where, graph.result.type))
    graph.result.uses += 1
    for p in parameters:
        if not names[p].uses:
            raise ScalarError("%s: the operand '%s' is not used" % (where, p))
    for node in graph.nodes:
        if node.kind != "parameter" and not node.uses:
            raise ScalarError("%s: '%s' is not used" % (where, node.hint or node.name))
    return graph


def calls_of(graph):
    """Names of the definitions a graph calls."""
    return {node.name for node in graph.nodes if node.kind == "call"}


def definitions():
    """(name, graph) of every definition, those that others call first."""
    graphs = {name: parse(body, [parameter], "definition of " + name) for name, (parameter, body) in
              DEFINITIONS.items()}
    done = []

    def visit(name, path):
        if name in path:
            raise ScalarError("definition of %s: calls itself" % name)
        for callee in sorted(calls_of(graphs[name])):
            visit(callee, path + [name])
        if name not in done:
            done.append(name)

    for name in graphs:
        visit(name, [])
    return [(name, graphs[name]) for name in done]


def elementwise(ops):
    """(name, graph) of every elementwise op of the table; the parameters are its operands."""
    result = []
    for row in ops:
        if row["expr"] is not None:
            parameters = [operand.split(":")[0].strip() for operand in row["operands"]]
            result.append((row["name"], parse(row["expr"], parameters, "op " + row["name"])))
    return result


class Emitter:
    """Walks a graph. A derived class gives TYPES, literal, primitive, call and function; the values they pass around
    are whatever it likes (text for C and CUDA, handles for LLVM)."""

    def literal(self, type_, value):
        raise NotImplementedError(type(self).__name__ + ".literal")

    def primitive(self, name, type_, args, arg_types):
        raise NotImplementedError(type(self).__name__ + ".primitive")

    def call(self, name, args):
        raise NotImplementedError(type(self).__name__ + ".call")

    def bind(self, node, value):
        """Called once for every node that is used more than once or is named; gives what stands for it."""
        return value

    def emit(self, graph, arguments):
        """The value of the result. arguments: parameter -> value."""
        values = {}
        for node in graph.nodes:
            args = [values[id(a)] for a in node.args]
            if node.kind == "parameter":
                values[id(node)] = arguments[node.name]
                continue
            if node.kind == "literal":
                values[id(node)] = self.literal(node.type, node.value)
                continue
            if node.kind == "call":
                value = self.call(node.name, args)
            else:
                value = self.primitive(node.name, node.type, args, [a.type for a in node.args])
            named = node is not graph.result and (node.uses > 1 or node.hint)
            values[id(node)] = self.bind(node, value) if named else value
        return values[id(graph.result)]


class EmitterC(Emitter):
    TYPES = {"f32": "float", "f64": "double", "i32": "int32_t", "mask": "int"}
    INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "eq": "==", "and": "&", "or": "|",
             "ieq": "==", "iand": "&", "ior": "|"}
    BUILTIN = {"fma": "__builtin_fma", "abs": "__builtin_fabs", "sqrt": "__builtin_sqrt", "floor": "__builtin_floor",
               "rint": "__builtin_rint"}

    def __init__(self):
        self.lines, self.counter, self.names = [], 0, set()

    def literal(self, type_, value):
        if type_ == "i32":
            return "INT32_MIN" if value == -2**31 else "(%d)" % value if value < 0 else "%d" % value
        if not math.isfinite(value):
            raise ScalarError("the number %r is not finite" % value)
        text = repr(value)
        if type_ == "f32":  # the first decimal that is well inside the interval that rounds to this number
            text = next((t for t in ("%.*g" % (n, value) for n in range(1, 9))
                         if abs(float(t) - value) <= abs(value) * 2**-26), "%.9g" % value)
        if not re.search(r"[.e]", text):
            text += ".0"
        text += "f" if type_ == "f32" else ""
        return "(%s)" % text if value < 0 else text

    def primitive(self, name, type_, args, arg_types):
        if name in self.INFIX:
            return "(%s %s %s)" % (args[0], self.INFIX[name], args[1])
        if name in self.BUILTIN:
            return "%s%s(%s)" % (self.BUILTIN[name], "f" if type_ == "f32" else "", ", ".join(args))
        if name in ("min", "max"):
            return "qc_scalar_%s_%s(%s, %s)" % (name, type_, args[0], args[1])
        if name in ("iadd", "isub"):
            return "(int32_t)((uint32_t)%s %s (uint32_t)%s)" % (args[0], "+" if name == "iadd" else "-", args[1])
        return {
            "neg": "(-%s)", "not": "!%s", "select": "(%s ? %s : %s)", "ishl": "(int32_t)((uint32_t)%s << %s)",
            "ishr": "(%s >> %s)", "bits": "qc_scalar_bits(%s)", "from_bits": "qc_scalar_from_bits(%s)",
            "to_f64": "(double)%s", "to_f32": "(float)%s", "to_int": "(int32_t)%s", "from_int": "(double)%s",
        }[name] % tuple(args)

    def call(self, name, args):
        return "qc_scalar_%s(%s)" % (name, ", ".join(args))

    def bind(self, node, value):
        name = node.hint or "t"
        while name in self.names or name == "t":
            self.counter += 1
            name = "%s%d" % (node.hint or "t", self.counter)
        self.names.add(name)
        text = value[1:-1] if value.startswith("(") and _wraps(value) else value
        self.lines.append("    const %s %s = %s;" % (self.TYPES[node.type], name, text))
        return name

    def function(self, name, graph):
        self.lines, self.counter, self.names = [], 0, set(graph.parameters)
        result = self.emit(graph, {p: p for p in graph.parameters})
        if result.startswith("(") and _wraps(result):
            result = result[1:-1]
        parameters = ", ".join("float " + p for p in graph.parameters)
        return "static inline float qc_scalar_%s(%s)\n{\n%s    return %s;\n}\n" % (
            name, parameters, "".join(line + "\n" for line in self.lines), result)


def _wraps(text):
    """Does the first parenthesis close at the very end?"""
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return i == len(text) - 1
    return False


PRELUDE = """/* SPDX-License-Identifier: MIT
 *
 * scalar.h - generated by ir/scalar.py from the op table: the scalar functions of elementwise ops and the named
 * functions they are made of. Plain additions, products, selects and casts of bits, so that every machine gives the
 * same bits; loops over them vectorise. Compile with -ffp-contract=off and without -ffast-math.
 */
#ifndef QC_SCALAR_H
#define QC_SCALAR_H

#include <stdint.h>
#include <string.h>

static inline int32_t qc_scalar_bits(float x)
{
    int32_t u;
    memcpy(&u, &x, 4);
    return u;
}

static inline float qc_scalar_from_bits(int32_t u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}
"""

MINMAX = """
static inline %(c)s qc_scalar_%(name)s_%(type)s(%(c)s a, %(c)s b)
{
    const %(c)s m = a %(sign)s b ? a : b;
    return a != a ? a : m;
}
"""


def emit_c(ops):
    """The text of scalar.h: qc_scalar_exp(x) and its like, qc_scalar_op_NAME(x[, z]) of every elementwise op."""
    text = PRELUDE
    for type_, c in (("f32", "float"), ("f64", "double")):
        for name, sign in (("min", "<"), ("max", ">")):
            text += MINMAX % dict(c=c, type=type_, name=name, sign=sign)
    emitter = EmitterC()
    for name, graph in definitions():
        text += "\n" + emitter.function(name, graph)
    for name, graph in elementwise(ops):
        text += "\n" + emitter.function("op_" + name, graph)
    return text + "\n#endif\n"


def emit_table_c(ops):
    """The text of scalar_table.c: the scalar functions by op, for the interpreter."""
    text = ("/* SPDX-License-Identifier: MIT\n *\n * scalar_table.c - generated by ir/scalar.py from the op table: scalar "
            "functions by op.\n */\n#include \"ir/eval.h\"\n#include \"op_table.h\"\n#include \"scalar.h\"\n\n"
            "const qc_scalar_row qc_scalar_rows[QC_OP_COUNT] = {\n")
    for name, graph in elementwise(ops):
        member = {1: "unary", 2: "binary"}.get(len(graph.parameters))
        if member is None:
            raise ScalarError("op %s: elementwise ops have one or two operands" % name)
        text += "    [QC_OP_%s] = {.%s = qc_scalar_op_%s},\n" % (name.upper(), member, name)
    return text + "};\n"


def load_ops(path):
    space = {"__name__": "ops"}
    with open(path, encoding="utf-8") as file:
        exec(compile(file.read(), path, "exec"), space)
    return space["OPS"]


def main():
    parser = argparse.ArgumentParser(description="Generates scalar.h and scalar_table.c from the op table.")
    parser.add_argument("--ops", required=True, help="ir/ops.py")
    parser.add_argument("-o", "--header", help="write scalar.h here")
    parser.add_argument("--table", help="write scalar_table.c here")
    arguments = parser.parse_args()
    try:
        ops = load_ops(arguments.ops)
        outputs = [(arguments.header, emit_c), (arguments.table, emit_table_c)]
        for path, emit in outputs:
            if path:
                with open(path, "w", encoding="utf-8") as file:
                    file.write(emit(ops))
    except (ScalarError, OSError) as error:
        print("scalar.py: error: %s" % error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
