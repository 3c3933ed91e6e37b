# SPDX-License-Identifier: MIT
"""Derives C and documentation from the op table (ops.py). Standard library only; runs at build time.

usage: gen_ops.py --table-h F --table-c F --builders F --docs F
"""
import argparse
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ops import OPS  # noqa: E402

KINDS = {"bool": "BOOL", "int": "INT", "float": "FLOAT", "string": "STRING", "word": "WORD", "symbol": "SYMBOL",
         "list": "LIST", "map": "MAP", "data": "DATA", "dtype": "WORD"}
C_TYPES = {"bool": "bool", "int": "int64_t", "float": "double", "string": "const char *", "word": "const char *",
           "symbol": "const char *", "dtype": "const char *"}
NOTE = "/* Generated from ir/ops.py by ir/gen_ops.py; do not edit. */\n"


def quote(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"' if text is not None else "NULL"


def operand(text):
    name, _, cls = text.partition(":")
    name = name.strip()
    variadic, optional = name.endswith("..."), name.endswith("?")
    name = name.rstrip("?.")
    cls = {"": "0", "any": "0", "float": "'f'", "int": "'i'"}[cls.strip()]
    return dict(name=name, optional=optional, variadic=variadic, cls=cls)


def attr(text):
    m = re.fullmatch(r"(\w+): (\w+)(?:\(([^)]*)\))?(!)?(?: = (.+))?", text)
    if not m or m[2] not in KINDS:
        sys.exit(f"ops.py: cannot read attribute '{text}'")
    return dict(name=m[1], kind=m[2], values=m[3], required=bool(m[4]), default=m[5])


for o in OPS:
    o["operands"] = [operand(x) for x in o["operands"]]
    o["sorted_attrs"] = sorted((attr(x) for x in o["attrs"]), key=lambda a: a["name"])
    o["attrs"] = [attr(x) for x in o["attrs"]]
    o["elementwise"] = "elementwise" in o["traits"]
    o["by_trait"] = o["elementwise"] or "same_type" in o["traits"] or "typed" in o["traits"]
names = [o["name"] for o in OPS]
for o in OPS:  # the limits of op_info.h
    if len(o["attrs"]) > 16 or len(o["operands"]) > 12 or len(o["results"]) > 4:
        sys.exit(f"ops.py: {o['name']} has too many attributes, operands or results")
if len(set(names)) != len(names):
    sys.exit("ops.py: an op is declared twice")


def table_h():
    out = [NOTE, "#ifndef QC_OP_TABLE_H\n#define QC_OP_TABLE_H\n\n#include \"ir/op_info.h\"\n\ntypedef enum qc_op_kind {\n"]
    out += [f"    QC_OP_{o['name'].upper()},\n" for o in OPS]
    out.append("    QC_OP_COUNT\n} qc_op_kind;\n\n")
    for o in OPS:
        if not o["by_trait"]:
            out.append(f"qc_status qc_infer_{o['name']}(qc_op *op, const char *where, const qc_type **types);\n")
        if o["verify"]:
            out.append(f"qc_status qc_verify_{o['name']}(const qc_op *op, const char *where);\n")
        if not o["decomposition"] and not o["elementwise"]:
            out.append(f"qc_status qc_eval_{o['name']}(\n    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, "
                       "qc_tensor *results);\n")
    out.append("/* All elementwise ops: the scalar functions derived from their expressions. */\n"
               "qc_status qc_eval_elementwise(\n    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, "
               "qc_tensor *results);\n\n#endif\n")
    return "".join(out)


def table_c():
    out = [NOTE, "#include \"op_table.h\"\n\n"]
    for o in OPS:
        n = o["name"]
        if o["operands"]:
            rows = ",\n".join(f"    {{.name = {quote(x['name'])}, .optional = {str(x['optional']).lower()}, "
                              f".variadic = {str(x['variadic']).lower()}, .element_class = {x['cls']}}}" for x in o["operands"])
            out.append(f"static const qc_operand_info {n}_operands[] = {{\n{rows}}};\n")
        if o["attrs"]:
            rows = ",\n".join(
                f"    {{.name = {quote(a['name'])}, .kind = QC_ATTR_{KINDS[a['kind']]}, .values = {quote(a['values'])}, "
                f".default_text = {quote(a['default'])}, .required = {str(a['required']).lower()}, "
                f".is_dtype = {str(a['kind'] == 'dtype').lower()}}}" for a in o["sorted_attrs"])
            out.append(f"static const qc_attr_info {n}_attrs[] = {{\n{rows}}};\n")
        out.append(f"static const char *const {n}_results[] = {{{', '.join(quote(r) for r in o['results'])}}};\n")
    out.append("\nconst qc_op_info qc_op_infos[] = {\n")
    for o in OPS:
        n = o["name"]
        traits = " | ".join(f"QC_TRAIT_{t.upper()}" for t in o["traits"] if t != "pure") or "0"
        positional = next((i for i, a in enumerate(o["sorted_attrs"]) if a["name"] == o["positional"]), -1)
        ev = "NULL" if o["decomposition"] else "qc_eval_elementwise" if o["elementwise"] else f"qc_eval_{n}"
        out.append(f"    [QC_OP_{n.upper()}] = {{.name = {quote(n)}, .doc = {quote(o['doc'])}, .op = QC_OP_{n.upper()},\n"
                   f"        .operand_count = {len(o['operands'])}, .result_count = {len(o['results'])}, "
                   f".attr_count = {len(o['attrs'])}, .positional = {positional}, .traits = {traits},\n"
                   f"        .operands = {n + '_operands' if o['operands'] else 'NULL'}, .results = {n}_results, "
                   f".attrs = {n + '_attrs' if o['attrs'] else 'NULL'},\n"
                   f"        .infer = {'NULL' if o['by_trait'] else 'qc_infer_' + n}, "
                   f".verify = {'qc_verify_' + n if o['verify'] else 'NULL'}, .eval = {ev},\n"
                   f"        .decomposition = {quote(o['decomposition'])}}},\n")
    out.append("};\nconst size_t qc_op_info_count = QC_OP_COUNT;\n")
    return "".join(out)


def builders():
    out = ["/* SPDX-License-Identifier: MIT\n *\n * ops.h - typed builders, one an op, derived from the op table. Absent optional operands are"
           " NULL;\n * attributes left to their default are NULL where they are pointers. docs/ops.md says what the ops mean.\n */\n",
           NOTE, "#ifndef QC_OPS_H\n#define QC_OPS_H\n\n#include \"qc/build.h\"\n\n"]
    for o in OPS:
        params, body = ["qc_builder *b"], [f"    qc_make(b, \"{o['name']}\");\n"]
        for x in o["operands"]:
            if x["variadic"]:
                params += [f"qc_value *const *{x['name']}", f"size_t {x['name']}_count"]
                body.append(f"    for (size_t i = 0; i < {x['name']}_count; i++)\n        qc_make_variadic(b, {x['name']}[i]);\n")
            else:
                params.append(f"qc_value *{x['name']}")
                body.append(f"    qc_make_operand(b, \"{x['name']}\", {x['name']});\n")
        for a in o["attrs"]:
            n, key = a["name"] + ("_" if a["name"] in ("from",) else ""), a["name"]
            k = a["kind"]
            params.append(f"{C_TYPES.get(k, 'const qc_attr *')}{'' if C_TYPES.get(k, '*').endswith('*') else ' '}{n}")
            if k in ("bool", "int", "float"):
                body.append(f"    qc_make_attr_{k}(b, \"{key}\", {n});\n")
            elif k in ("word", "dtype"):
                body.append(f"    qc_make_attr_word(b, \"{key}\", {n});\n")
            elif k == "string":
                body.append(f"    qc_make_attr_string(b, \"{key}\", {n});\n")
            elif k == "symbol":
                body.append(f"    qc_make_attr_symbol(b, \"{key}\", {n});\n")
            else:
                body.append(f"    qc_make_attr(b, \"{key}\", {n});\n")
        if "typed" in o["traits"]:
            params.append("const qc_type *type")
            body.append("    qc_make_type(b, type);\n")
        params.append("const char *hint")
        doc = o["doc"].replace("*/", "* /")
        out.append(f"/* {doc} */\nstatic inline qc_value *qc_build_{o['name']}({', '.join(params)})\n{{\n"
                   + "".join(body) + "    return qc_make_end(b, hint);\n}\n\n")
    out.append("#endif\n")
    return "".join(out)


def docs():
    out = ["# Operations\n\nGenerated from [`ir/ops.py`](../ir/ops.py) by `ir/gen_ops.py`; a test keeps this file up to date. "
           "[ir.md](ir.md) explains the notation.\n\n"
           "| trait | meaning |\n|---|---|\n"
           "| elementwise | operands broadcast as in numpy; the result has the element type of the first operand (or of `to`); "
           "computed in f32, rounded once |\n"
           "| same_type | the result has the type of the first operand |\n"
           "| typed | the result type is written, it cannot be inferred |\n"
           "| effect | stays although its result is unused |\n"
           "| identity | cse never merges two of them that belong to different modules |\n"
           "| independent | depends on token ids and positions alone |\n\n"]
    for o in OPS:
        ops = ", ".join((x["name"] + "=" if x["optional"] else "") + "%" + x["name"] + ("..." if x["variadic"] else "")
                        for x in o["operands"])
        pos = f" `{o['positional']}`" if o["positional"] else ""
        out.append(f"## {o['name']}\n\n{o['doc']}\n\n")
        if ops or pos:
            out.append(f"    {o['name']}{' ' + o['positional'].upper() if o['positional'] else ''}{' ' if ops else ''}{ops}\n\n")
        if o["attrs"]:
            out.append("| attribute | kind | default |\n|---|---|---|\n")
            for a in o["sorted_attrs"]:
                kind = "one of " + ", ".join(f"`{v}`" for v in a["values"].split("|")) if a["values"] else \
                    "element type" if a["kind"] == "dtype" else a["kind"]
                default = "required" if a["required"] else f"`{a['default']}`" if a["default"] else "none"
                out.append(f"| `{a['name']}` | {kind} | {default} |\n")
            out.append("\n")
        if o["traits"]:
            out.append("Traits: " + ", ".join(o["traits"]) + ".\n\n")
        if o["expr"] and o["expr"] != "x":
            out.append(f"Per element: `{o['expr']}`\n\n")
        if o["decomposition"]:
            out.append("Decomposition:\n\n" + "\n".join("    " + l.strip() for l in o["decomposition"].strip().split("\n"))
                       + "\n\n")
    return "".join(out).rstrip("\n") + "\n"


def main():
    p = argparse.ArgumentParser()
    for name in ("table-h", "table-c", "builders", "docs"):
        p.add_argument("--" + name)
    args = p.parse_args()
    for path, text in ((args.table_h, table_h), (args.table_c, table_c), (args.builders, builders), (args.docs, docs)):
        if path:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text())


main()
