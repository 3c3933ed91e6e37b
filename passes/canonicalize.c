/* SPDX-License-Identifier: MIT
 *
 * canonicalize.c - rewrites that make the IR smaller and keep the bits of every value.
 *
 * Exactness decides what is here: x + 0.0 stays, because -0.0 + 0.0 is +0.0, while x - 0.0 and x + -0.0 are x
 * for every x; a cast there and back goes only when the middle type holds every value of the outer one. NaN
 * counts as one value. An op is replaced only by a value of its own type. One walk in order suffices:
 * operands of an op have been rewritten when it is reached. What loses its last use is left to dce, but for
 * the replaced op itself.
 */
#include <string.h>

#include "qc/pass.h"

void qc_pass_canonicalize(qc_registry *registry);

typedef struct rewrite {
    qc_pass_ctx *pc;
    qc_ctx *ctx;
    bool failed;
} rewrite;

static qc_value *only(const qc_op *op)
{
    return qc_op_operand(op, 0);
}

/* The op that makes the value, if it has this name. */
static qc_op *made_by(const qc_value *value, const char *name)
{
    qc_op *op = qc_value_op(value);
    return op && qc_op_is(op, name) ? op : NULL;
}

/* Does `wide` hold every value of `narrow`, NaN as one value? */
static bool holds_all(qc_dtype wide, qc_dtype narrow)
{
    if (wide == narrow)
        return true;
    switch (wide) {
    case QC_F64:
        return qc_dtype_is_float(narrow);
    case QC_F32:
        return qc_dtype_is_float(narrow) && narrow != QC_F64;
    default:
        return false;
    }
}

static qc_value *cast(rewrite *r, qc_op *op)
{
    (void)r;
    qc_value *x = only(op);
    const qc_op *inner = made_by(x, "cast");
    if (qc_value_type(x) == qc_value_type(qc_op_result(op, 0)))
        return x;
    if (inner && qc_value_type(only(inner)) == qc_value_type(qc_op_result(op, 0)) &&
        holds_all(qc_type_dtype(qc_value_type(x)), qc_type_dtype(qc_value_type(only(inner)))))
        return only(inner);
    return NULL;
}

static qc_value *neg(rewrite *r, qc_op *op)
{
    (void)r;
    const qc_op *inner = made_by(only(op), "neg");
    return inner ? only(inner) : NULL;
}

/* A constant whose elements are all this number, with this sign; only types that are read without rounding.
 */
static bool is_const(const qc_value *value, double number)
{
    const qc_op *op = made_by(value, "const");
    const qc_attr *data = op ? qc_op_attr(op, "value") : NULL;
    if (!data)
        return false;
    float single = (float)number;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    for (size_t i = 0; i < qc_attr_count(data); i++) {
        const char *bytes = qc_attr_data_bytes(data);
        uint32_t element;
        uint16_t half;
        switch (qc_attr_data_dtype(data)) {
        case QC_F32:
            memcpy(&element, bytes + 4 * i, 4);
            break;
        case QC_BF16:
            memcpy(&half, bytes + 2 * i, 2);
            element = (uint32_t)half << 16;
            break;
        default:
            return false;
        }
        if (element != bits)
            return false;
    }
    return true;
}

static qc_value *neutral(rewrite *r, qc_op *op)
{
    (void)r;
    qc_value *x = only(op), *z = qc_op_operand(op, 1);
    bool product = qc_op_is(op, "mul"), quotient = qc_op_is(op, "div"), difference = qc_op_is(op, "sub");
    double number = product || quotient ? 1.0 : difference ? 0.0 : -0.0;
    if (is_const(z, number))
        return x;
    return (product || qc_op_is(op, "add")) && is_const(x, number) ? z : NULL;
}

static qc_value *whole_slice(rewrite *r, qc_op *op)
{
    (void)r;
    /* Equal types mean that stop - start is the whole axis, and start is not negative. */
    return only(op);
}

static qc_value *single_concat(rewrite *r, qc_op *op)
{
    (void)r;
    return qc_op_operand_count(op) == 1 ? only(op) : NULL;
}

static qc_value *repeat_once(rewrite *r, qc_op *op)
{
    (void)r;
    return qc_attr_as_int(qc_op_attr(op, "times")) == 1 ? only(op) : NULL;
}

static qc_value *split_of_merge(rewrite *r, qc_op *op)
{
    (void)r;
    const qc_op *inner = made_by(only(op), "merge_heads");
    return inner ? only(inner) : NULL;
}

static qc_value *merge_of_split(rewrite *r, qc_op *op)
{
    (void)r;
    const qc_op *inner = made_by(only(op), "split_heads");
    return inner ? only(inner) : NULL;
}

static qc_value *finish(rewrite *r, qc_builder *b, const qc_op *op)
{
    qc_value *value = qc_make_end(b, qc_value_hint(qc_op_result(op, 0)));
    r->failed |= !qc_builder_ok(b);
    return value;
}

static qc_value *reshape(rewrite *r, qc_op *op)
{
    const qc_type *type = qc_value_type(qc_op_result(op, 0));
    const qc_op *inner = made_by(only(op), "reshape");
    if (qc_value_type(only(op)) == type)
        return only(op);
    if (!inner)
        return NULL;
    if (qc_value_type(only(inner)) == type)
        return only(inner);
    qc_builder *b = qc_builder_before(op);
    qc_make(b, "reshape");
    qc_make_operand(b, "x", only(inner));
    qc_make_type(b, type);
    return finish(r, b, op);
}

static qc_value *transpose(rewrite *r, qc_op *op)
{
    const qc_attr *outer = qc_op_attr(op, "perm"), *perm[QC_MAX_RANK];
    const qc_op *inner = made_by(only(op), "transpose");
    size_t rank = qc_attr_count(outer);
    bool identity = true;
    for (size_t i = 0; i < rank; i++) {
        const qc_attr *from = qc_attr_item(outer, i);
        perm[i] = inner ? qc_attr_item(qc_op_attr(inner, "perm"), (size_t)qc_attr_as_int(from)) : from;
        identity &= qc_attr_as_int(perm[i]) == (int64_t)i;
    }
    if (identity)
        return inner ? only(inner) : only(op);
    if (!inner)
        return NULL;
    qc_builder *b = qc_builder_before(op);
    qc_make(b, "transpose");
    qc_make_operand(b, "x", only(inner));
    qc_make_attr(b, "perm", qc_attr_list(r->ctx, perm, rank));
    return finish(r, b, op);
}

/* Axes may be negative; both slices have the rank of x. Steps multiply; the end is behind the last element. */
static qc_value *slice_of_slice(rewrite *r, qc_op *op)
{
    const qc_op *inner = made_by(only(op), "slice");
    if (!inner)
        return NULL;
    int64_t rank = qc_type_rank(qc_value_type(only(op)));
    int64_t axis = qc_attr_as_int(qc_op_attr(op, "axis")), below = qc_attr_as_int(qc_op_attr(inner, "axis"));
    if ((axis + rank) % rank != (below + rank) % rank)
        return NULL;
    int64_t offset = qc_attr_as_int(qc_op_attr(inner, "start")),
            within = qc_attr_as_int(qc_op_attr(inner, "step"));
    int64_t start = qc_attr_as_int(qc_op_attr(op, "start")), stop = qc_attr_as_int(qc_op_attr(op, "stop"));
    int64_t step = qc_attr_as_int(qc_op_attr(op, "step"));
    if (step > INT64_MAX / within)
        return NULL;
    qc_builder *b = qc_builder_before(op);
    qc_make(b, "slice");
    qc_make_operand(b, "x", only(inner));
    qc_make_attr_int(b, "axis", axis);
    qc_make_attr_int(b, "start", offset + start * within);
    /* Within the inner slice, whose last element is before the end of x. */
    qc_make_attr_int(b, "stop", stop > start ? offset + (stop - 1) * within + 1 : offset + start * within);
    if (step * within != 1)
        qc_make_attr_int(b, "step", step * within);
    return finish(r, b, op);
}

/* Rules are tried in order; the first that gives a value of the op's own type wins. */
static const struct {
    const char *op;
    qc_value *(*apply)(rewrite *r, qc_op *op);
    bool same_type; /* look only at ops whose result has the type of the first operand */
} rules[] = {
    {"cast", cast, false},
    {"neg", neg, false},
    {"add", neutral, false},
    {"sub", neutral, false},
    {"mul", neutral, false},
    {"div", neutral, false},
    {"slice", whole_slice, true},
    {"slice", slice_of_slice, false},
    {"concat", single_concat, false},
    {"repeat_heads", repeat_once, false},
    {"split_heads", split_of_merge, false},
    {"merge_heads", merge_of_split, false},
    {"reshape", reshape, false},
    {"transpose", transpose, false},
};

static qc_value *simplify(rewrite *r, qc_op *op)
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (!qc_op_is(op, rules[i].op))
            continue;
        const qc_type *type = qc_value_type(qc_op_result(op, 0));
        if (rules[i].same_type && qc_value_type(only(op)) != type)
            continue;
        qc_value *with = rules[i].apply(r, op);
        if (r->failed || (with && qc_value_type(with) == type))
            return with;
    }
    return NULL;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    rewrite r = {pc, qc_module_ctx(module), false};
    bool changed = false;
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func)) {
        for (qc_op *op = qc_func_first_op(func), *next; op; op = next) {
            next = qc_op_next(op);
            qc_value *with = simplify(&r, op);
            if (r.failed)
                return QC_PASS_FAILED;
            if (!with)
                continue;
            qc_pass_count(pc, "ops simplified", 1);
            qc_value_replace_all_uses(qc_op_result(op, 0), with);
            qc_op_erase(op);
            changed = true;
        }
    }
    return changed ? QC_PASS_CHANGED : QC_PASS_UNCHANGED;
}

void qc_pass_canonicalize(qc_registry *registry)
{
    qc_pass *pass =
        qc_registry_add(registry, "canonicalize", "Replace ops that do nothing by their operands", run);
    qc_pass_set_licence(pass, QC_LICENCE_EXACT);
    qc_pass_set_description(pass, "Casts to the same type or there and back through a wider one, transposes, "
                                  "reshapes and slices of one "
                                  "another, `neg` of `neg`,\nproducts and quotients with 1.0, differences "
                                  "with 0.0, sums with -0.0, slices of "
                                  "everything, `concat` of one operand,\n`repeat_heads` once, `split_heads` "
                                  "of `merge_heads` and the reverse. "
                                  "`x + 0.0` stays: it makes +0.0 of -0.0.");
}
