/* SPDX-License-Identifier: MIT
 *
 * set_dtype.c - the model in another element type: f32 to see how far bf16 rounds away, or a 16-bit type.
 *
 * Every op is built again over the retyped operands, in order, so that inference gives the types. What is
 * mapped: bf16, f16 and the model's own type (that of the first float result) to the new one, in value types,
 * in constants and in attributes; codes keep their type. f32 that a 16-bit model computes in on purpose
 * (softmax) stays f32. A weight is read in the new type only if that holds every value of the old one, else
 * it is read as before and cast.
 */
#include <string.h>

#include "ir/dtype/codec.h"
#include "qc/pass.h"

void qc_pass_set_dtype(qc_registry *registry);

typedef struct retype {
    qc_pass_ctx *pc;
    qc_ctx *ctx;
    qc_dtype model, to;
} retype;

static qc_dtype map_dtype(const retype *r, qc_dtype dtype)
{
    return dtype == QC_BF16 || dtype == QC_F16 || dtype == r->model ? r->to : dtype;
}

static const qc_type *map_type(const retype *r, const qc_type *type)
{
    return qc_type_with_dtype(r->ctx, type, map_dtype(r, qc_type_dtype(type)));
}

static const qc_attr *map_word(const retype *r, const char *name, const qc_attr *value)
{
    const char *word = qc_attr_as_text(value);
    qc_dtype dtype = qc_dtype_from_name(word, strlen(word));
    /* A softmax in f32 is a choice of the architecture, not of the checkpoint. */
    if (dtype == QC_DTYPE_NONE || (dtype == QC_F32 && strcmp(name, "softmax") == 0))
        return value;
    return qc_attr_word(r->ctx, qc_dtype_name(map_dtype(r, dtype)));
}

static const qc_attr *map_data(const retype *r, const qc_attr *value)
{
    qc_dtype from = qc_attr_data_dtype(value), to = map_dtype(r, from);
    size_t count = qc_attr_count(value);
    if (from == to)
        return value;
    void *bytes = qc_pass_alloc(r->pc, (count + 1) * sizeof(double));
    qc_convert(from, qc_attr_data_bytes(value), to, bytes, count);
    return qc_attr_data(r->ctx, to, bytes, count);
}

static const qc_attr *map_attr(const retype *r, const char *name, const qc_attr *value)
{
    switch (qc_attr_get_kind(value)) {
    case QC_ATTR_WORD:
        return map_word(r, name, value);
    case QC_ATTR_DATA:
        return map_data(r, value);
    default:
        return value;
    }
}

static bool is_variadic(const qc_op *op, size_t slot)
{
    return strcmp(qc_op_operand_name(op, slot), "xs") == 0;
}

static bool is_weight(const qc_op *op)
{
    return qc_op_is(op, "weight") || qc_op_is(op, "expert_weight");
}

/* What shows the elements of a weight in another order, as experts out of one tensor are cut. */
static bool is_view(const qc_op *op)
{
    return qc_op_is(op, "slice") || qc_op_is(op, "transpose") || qc_op_is(op, "reshape");
}

static bool becomes_codes(const qc_value *value)
{
    size_t slot, uses = qc_value_use_count(value);
    for (size_t i = 0; i < uses; i++) {
        const qc_op *user = qc_value_use(value, i, &slot);
        const qc_attr *arg = qc_op_attr(user, "arg");
        bool codes = arg ? strcmp(qc_attr_as_text(arg), "weights") == 0
                         : is_view(user) && becomes_codes(qc_op_result(user, 0));
        /* The range of an expert's weights may serve its input. */
        if (!codes && !(qc_op_is(user, "observe") && slot == 2))
            return false;
    }
    return uses > 0;
}

/* A weight that is only read to be quantized keeps its type: another one would give other codes. */
static bool is_for_codes(const qc_op *op)
{
    return is_weight(op) && becomes_codes(qc_op_result(op, 0));
}

static bool ends_with(const char *name, const char *end)
{
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && strcmp(name + length - tail, end) == 0;
}

static bool reads_global(const qc_value *value)
{
    size_t slot, uses = qc_value_use_count(value);
    for (size_t i = 0; i < uses; i++) {
        const qc_op *user = qc_value_use(value, i, &slot);
        const char *name = qc_op_operand_name(user, slot);
        /* Rows take that of their expert. */
        bool global = qc_op_is(user, "expert_param") ? reads_global(qc_op_result(user, 0))
                                                     : name && ends_with(name, "global");
        if (!global)
            return false;
    }
    return uses > 0;
}

/* A global scale is f32 in every model. */
static bool is_global_scale(const qc_op *op)
{
    return qc_op_is(op, "const") && reads_global(qc_op_result(op, 0));
}

/* The type of a typed op's result: what is cached, or has another shape, has the type of what comes in. */
static const qc_type *map_result(const retype *r, const qc_op *op, const qc_type *type)
{
    return qc_op_is(op, "cache_append") || qc_op_is(op, "reshape")
               ? qc_type_with_dtype(r->ctx, type, qc_type_dtype(qc_value_type(qc_op_operand(op, 0))))
               : map_type(r, type);
}

/* A weight whose type cannot hold the old values in the new one. */
static bool narrows(const retype *r, const qc_op *op)
{
    qc_dtype dtype = qc_type_dtype(qc_value_type(qc_op_result(op, 0))), to = map_dtype(r, dtype);
    return is_weight(op) && to != dtype && to != QC_F32;
}

static qc_value *cast(const retype *r, qc_builder *b, qc_value *value)
{
    qc_make(b, "cast");
    qc_make_operand(b, "x", value);
    qc_make_attr_word(b, "to", qc_dtype_name(r->to));
    return qc_make_end(b, qc_value_hint(value));
}

static bool rebuild(const retype *r, qc_op *op)
{
    qc_builder *b = qc_builder_before(op);
    const bool keeps = is_global_scale(op);
    qc_make(b, qc_op_name(op));
    for (size_t i = 0; i < qc_op_operand_count(op); i++) {
        if (is_variadic(op, i))
            qc_make_variadic(b, qc_op_operand(op, i));
        else
            qc_make_operand(b, qc_op_operand_name(op, i), qc_op_operand(op, i));
    }
    for (size_t i = 0; i < qc_op_attr_count(op); i++) {
        const char *name = qc_op_attr_name(op, i);
        if (qc_op_attr_given(op, name))
            qc_make_attr(b, name, keeps ? qc_op_attr(op, name) : map_attr(r, name, qc_op_attr(op, name)));
    }
    bool for_codes = is_for_codes(op) || keeps, cast_behind = !for_codes && narrows(r, op);
    for (size_t i = 0; qc_op_is_typed(op) && i < qc_op_result_count(op); i++) {
        const qc_type *type = qc_value_type(qc_op_result(op, i));
        qc_make_type(b, cast_behind || for_codes ? type : map_result(r, op, type));
    }
    const char *hint = qc_op_result_count(op) > 0 ? qc_value_hint(qc_op_result(op, 0)) : NULL;
    qc_value *first = qc_make_end(b, hint);
    const qc_op *made = qc_builder_last(b);
    if (cast_behind)
        first = cast(r, b, first);
    if (!qc_builder_ok(b))
        return false;
    for (size_t i = 0; i < qc_op_result_count(op); i++) {
        qc_value *result = cast_behind ? first : qc_op_result(made, i);
        if (i > 0 && qc_value_hint(qc_op_result(op, i)))
            qc_value_set_hint(result, qc_value_hint(qc_op_result(op, i)));
        qc_value_replace_all_uses(qc_op_result(op, i), result);
    }
    qc_op_erase(op);
    return true;
}

/* The type of the first float result: what the model computes in. */
static qc_dtype model_dtype(const qc_func *func)
{
    for (size_t i = 0; i < qc_func_result_count(func); i++) {
        qc_dtype dtype = qc_type_dtype(qc_value_type(qc_func_result(func, i)));
        if (dtype == QC_BF16 || dtype == QC_F16 || dtype == QC_F32)
            return dtype;
    }
    return QC_BF16;
}

static qc_pass_result retype_func(retype *r, qc_func *func)
{
    r->model = model_dtype(func);
    for (size_t i = 0; i < qc_func_argument_count(func); i++) {
        const qc_type *type = qc_value_type(qc_func_argument(func, i));
        if (map_type(r, type) != type)
            return qc_pass_fail(r->pc, NULL,
                "@%s takes %s: only functions of integer arguments can be retyped", qc_func_name(func),
                qc_type_text(r->ctx, type));
    }
    for (qc_op *op = qc_func_first_op(func), *next; op; op = next) {
        next = qc_op_next(op);
        if (!rebuild(r, op))
            return QC_PASS_FAILED;
    }
    return QC_PASS_CHANGED;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    const char *to = qc_pass_option_text(pc, "dtype");
    retype r = {pc, qc_pass_ctx_get(pc), QC_DTYPE_NONE, qc_dtype_from_name(to, strlen(to))};
    size_t before, after;
    char *old = qc_module_print(module, &before);
    qc_pass_result result = QC_PASS_UNCHANGED;
    for (qc_func *func = qc_module_first_func(module); func && result != QC_PASS_FAILED;
         func = qc_func_next(func))
        result = retype_func(&r, func);
    char *new = result == QC_PASS_FAILED ? NULL : qc_module_print(module, &after);
    if (new &&after == before && memcmp(old, new, after) == 0)
        result = QC_PASS_UNCHANGED; /* it was in this type */
    qc_text_free(old);
    qc_text_free(new);
    return result;
}

void qc_pass_set_dtype(qc_registry *registry)
{
    qc_pass *pass = qc_registry_add(registry, "set-dtype", "Give the model another element type", run);
    qc_pass_set_licence(pass, QC_LICENCE_LOSSY);
    qc_pass_set_description(pass, "Retypes values, constants and element types in attributes. Codes keep "
                                  "their type, and so does a softmax in f32. "
                                  "Weights are\nread in the new type when that is exact, else cast; what "
                                  "becomes codes is read as before.");
    qc_pass_add_option(pass, "dtype", QC_OPTION_WORD, "f32", "f32|bf16|f16", "the element type");
}
