/* SPDX-License-Identifier: MIT
 *
 * same_model.c - does a loader that reads config.json compute what the module computes?
 *
 * A checkpoint says how a model computes through config.json alone, which is the source's. So the source is imported
 * again, and both graphs are walked from their results to the arguments, in pairs of values. What quantization adds
 * is looked through: quantize, dequantize, and the scales of attention; what keys are centered by, which the checkpoint
 * stores; rotations at run time where transform_config will have them, each of which must be there. Weights may be
 * expressions, which the checkpoint stores as tensors; a weight that is read as it is must be the same tensor. Everything
 * else (an edited theta or window, a rotation that no symbol speaks of) would be lost without a word, and is an error.
 *
 * A source that the importer does not know is passed over: then nothing can be said.
 */
#include <stdio.h>
#include <string.h>

#include "frontends/hf/hf.h"
#include "ir/ctx.h"
#include "ir/support/map.h"
#include "passes/lower.h"
#include "runtime/export/compressed_tensors/internal.h"

typedef struct value_pair {
    const qc_value *ours, *theirs;
} value_pair;

typedef struct comparison {
    qc_ctx *ctx; /* of the module, for errors */
    qc_arena arena;
    ct_transforms ours, theirs;
    qc_map fixed; /* addresses of our values that depend on no argument */
    qc_map seen;  /* pairs */
    QC_VEC(value_pair) todo;
} comparison;

static void ignore_diagnostic(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user, (void)severity, (void)where, (void)what;
}

static bool made_by(const qc_value *value, const char *op_name)
{
    return value && qc_value_op(value) && qc_op_is(qc_value_op(value), op_name);
}

static void mark_fixed(comparison *c, const qc_func *func)
{
    for (const qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op)) {
        bool fixed = !qc_op_has_effect(op);
        for (size_t i = 0; fixed && i < qc_op_operand_count(op); i++) {
            const qc_value *x = qc_op_operand(op, i);
            fixed = !x || qc_map_find_n(&c->fixed, (const char *)&x, sizeof x);
        }
        for (size_t i = 0; fixed && i < qc_op_result_count(op); i++) {
            const qc_value *value = qc_op_result(op, i);
            qc_map_set_n(&c->fixed, (const char *)&value, sizeof value, NULL);
        }
    }
}

/* The value before it was quantized. */
static const qc_value *plain(const qc_value *value)
{
    while (made_by(value, "quantize") || made_by(value, "dequantize"))
        value = qc_op_operand_named(qc_value_op(value), "x");
    return value;
}

static bool is_fixed(const comparison *c, const qc_value *value)
{
    return qc_map_find_n(&c->fixed, (const char *)&value, sizeof value) != NULL;
}

static const qc_value *before_casts(const qc_value *value)
{
    while (made_by(value, "cast"))
        value = qc_op_operand_named(qc_value_op(value), "x");
    return value;
}

static const char *where_of(const qc_op *op)
{
    const qc_node *node = qc_op_node(op);
    return node && *qc_node_path(node) ? qc_node_path(node) : qc_op_name(op);
}

static qc_status differs(comparison *c, const qc_op *op, const char *what)
{
    qc_ctx_error(c->ctx, where_of(op), "%s, which a loader of the checkpoint would not know", what);
    qc_ctx_note(c->ctx,
        "a checkpoint says how to compute through the config.json of its source alone; qc-run runs the IR");
    return QC_ERROR;
}

static const char *attr_text(comparison *c, const qc_attr *attr)
{
    if (!attr)
        return "absent";
    switch (qc_attr_get_kind(attr)) {
    case QC_ATTR_BOOL:
        return qc_attr_as_bool(attr) ? "true" : "false";
    case QC_ATTR_INT:
        return qc_arena_printf(&c->arena, "%lld", (long long)qc_attr_as_int(attr));
    case QC_ATTR_FLOAT:
        return qc_arena_printf(&c->arena, "%.17g", qc_attr_as_float(attr));
    case QC_ATTR_STRING:
    case QC_ATTR_WORD:
    case QC_ATTR_SYMBOL:
        return qc_attr_as_text(attr);
    case QC_ATTR_LIST:
    case QC_ATTR_MAP:
    case QC_ATTR_DATA:
        break;
    }
    return "another one";
}

/* What goes with codes and scales of attention. */
static bool of_codes(const qc_op *op, const char *attr)
{
    return qc_op_is(op, "attention") && (qc_ends_with(attr, "_group") || qc_starts_with(attr, "probs_"));
}

/* Which linear layers the experts of one tensor have become, and that all of them see all tokens while calibrating. */
static bool of_experts(const qc_op *op, const char *attr, const qc_attr *theirs)
{
    return (qc_op_is(op, "expert_linear") && strcmp(attr, "module") == 0 && !theirs) ||
           (qc_op_is(op, "expert_rows") && strcmp(attr, "all") == 0);
}

static qc_status same_attributes(comparison *c, const qc_op *ours, const qc_op *theirs)
{
    for (size_t i = 0; i < qc_op_attr_count(theirs); i++) {
        const char *name = qc_op_attr_name(theirs, i);
        const qc_attr *a = qc_op_attr(ours, name), *b = qc_op_attr(theirs, name);
        if (!of_codes(ours, name) && !of_experts(ours, name, b) && a != b && !(a && b && qc_attr_equal(a, b)))
            return differs(c, ours,
                qc_arena_printf(&c->arena, "%s: %s is %s and in config.json %s", qc_op_name(ours), name,
                    attr_text(c, a), attr_text(c, b)));
    }
    for (size_t i = 0; i < qc_op_attr_count(ours); i++) {
        const char *name = qc_op_attr_name(ours, i);
        const qc_attr *a = qc_op_attr(ours, name), *b = qc_op_attr(theirs, name);
        if (of_codes(ours, name) || of_experts(ours, name, b) || a == b || (a && b && qc_attr_equal(a, b)))
            continue;
        return differs(c, ours,
            qc_arena_printf(&c->arena, "%s: %s is %s and in config.json %s", qc_op_name(ours), name,
                attr_text(c, a), attr_text(c, b)));
    }
    return QC_OK;
}

static bool is_stored(const qc_value *value)
{
    return made_by(value, "weight") || made_by(value, "expert_weight");
}

/* A weight of ours, or what it was made into, against a weight of theirs. */
static qc_status same_weight(comparison *c, const qc_op *user, const qc_value *ours, const qc_value *theirs)
{
    ours = before_casts(ours);
    if (made_by(ours, "const"))
        return differs(c, user, "a constant stands in the place of a weight");
    if (!is_stored(ours))
        return QC_OK; /* plan.c stores what the expression gives */
    const char *a = qc_attr_as_text(qc_op_attr(qc_value_op(ours), "tensor")),
               *b = qc_attr_as_text(qc_op_attr(qc_value_op(theirs), "tensor"));
    if (strcmp(a, b) == 0)
        return QC_OK;
    return differs(
        c, user, qc_arena_printf(&c->arena, "%s reads %s in the place of %s", qc_op_name(user), a, b));
}

/* ---- rotations at run time ----------------------------------------------------------------------------- */

/* Where transform_config would rotate what `user` reads as its operand `name`; NULL: nowhere. */
static const char *location_of(const qc_op *user, const char *name, const qc_value *value)
{
    const bool append = user && qc_op_is(user, "cache_append");
    if (user && qc_op_is(user, "linear") && strcmp(name, "x") == 0)
        return "input";
    if (user && qc_op_is(user, "attention") && strcmp(name, "q") == 0)
        return "q_attn";
    if (append && strcmp(qc_attr_as_text(qc_op_attr(user, "slot")), "k") == 0)
        return "k_cache";
    if (user && qc_op_is(user, "attention") && strcmp(name, "k") == 0 && !made_by(value, "cache_append"))
        return "k_cache";
    return NULL;
}

static qc_status not_rotated(comparison *c, const qc_op *op, const ct_transform *t, const char *location)
{
    qc_ctx_error(c->ctx, where_of(op),
        "@%s says that its %s is rotated as the model runs, the graph does not", t->name,
        strcmp(location, "q_attn") == 0    ? "q"
        : strcmp(location, "k_cache") == 0 ? "k"
                                           : location);
    return QC_ERROR;
}

/* Keys less a constant, or less a mean that calibration will make one. */
static bool is_centered(const comparison *c, const qc_value *value)
{
    const qc_value *z = made_by(value, "sub") ? qc_op_operand_named(qc_value_op(value), "z") : NULL;
    return z && (is_fixed(c, z) || made_by(before_casts(z), "observe"));
}

/* What `user` reads, before quantization and rotations of the symbols; those that are not there are errors. */
static qc_status look_through(comparison *c, const ct_transforms *transforms, const qc_op *user,
    const char *name, const qc_value *value, const qc_value **out)
{
    const char *location = location_of(user, name, plain(value));
    const ct_place *place;
    ct_transform *t = location ? ct_transform_at(transforms, qc_op_node(user), location, &place) : NULL;
    const bool codes = made_by(value, "quantize");
    value = plain(value);
    if (codes && location && strcmp(location, "k_cache") == 0 && is_centered(c, value))
        value = qc_op_operand_named(qc_value_op(value), "x");
    if (t && (!made_by(value, "hadamard") || !ct_transform_is(&c->arena, t, place, qc_value_op(value))))
        return not_rotated(c, user, t, location);
    if (t)
        value = plain(qc_op_operand_named(qc_value_op(value), "x"));
    const qc_value *before =
        made_by(value, "hadamard") ? qc_op_operand_named(qc_value_op(value), "x") : value;
    t = made_by(before, "linear")
            ? ct_transform_at(transforms, qc_op_node(qc_value_op(before)), "output", &place)
            : NULL;
    if (t && (before == value || !ct_transform_is(&c->arena, t, place, qc_value_op(value))))
        return not_rotated(c, qc_value_op(before), t, "output");
    *out = t ? before : value;
    return QC_OK;
}

static qc_status push(comparison *c, const qc_op *our_user, const qc_op *their_user, const char *name,
    const qc_value *ours, const qc_value *theirs)
{
    value_pair pair;
    if (look_through(c, &c->ours, our_user, name, ours, &pair.ours) != QC_OK ||
        look_through(c, &c->theirs, their_user, name, theirs, &pair.theirs) != QC_OK)
        return QC_ERROR;
    if (qc_map_set_n(&c->seen, (const char *)&pair, sizeof pair, NULL))
        QC_PUSH(&c->arena, &c->todo, pair);
    return QC_OK;
}

/* ---- operands ------------------------------------------------------------------------------------------ */

static qc_status same_operands(comparison *c, const qc_op *ours, const qc_op *theirs)
{
    bool variadic = qc_op_is(ours, "concat");
    if (variadic && qc_op_operand_count(ours) != qc_op_operand_count(theirs))
        return differs(c, ours, qc_arena_printf(&c->arena, "%s has other operands", qc_op_name(ours)));
    for (size_t i = 0; i < qc_op_operand_count(ours); i++) {
        const char *name = qc_op_operand_name(ours, i);
        const qc_value *a = qc_op_operand(ours, i), *b = qc_op_operand(theirs, i);
        if (!a && !b)
            continue;
        if (a && !b && qc_op_is(ours, "attention") &&
            (qc_ends_with(name, "_scale") || qc_ends_with(name, "_global")))
            continue;
        if (!a || !b)
            return differs(
                c, ours, qc_arena_printf(&c->arena, "%s has %s %s", qc_op_name(ours), a ? "a" : "no", name));
        if (is_fixed(c, a) && qc_op_is(ours, "expert_linear") && qc_op_attr(ours, "module") &&
            !is_stored(before_casts(plain(a))) && !is_stored(before_casts(b))) {
            continue; /* plan_experts.c stores what the expression gives for each expert */
        } else if (is_fixed(c, a) && is_stored(before_casts(b))) {
            if (same_weight(c, ours, plain(a), before_casts(b)) != QC_OK)
                return QC_ERROR;
        } else if (push(c, ours, theirs, name, a, b) != QC_OK) {
            return QC_ERROR;
        }
    }
    return QC_OK;
}

/* The position of an argument in its function; -1 for the result of an op. */
static int argument_index(const qc_func *func, const qc_value *value)
{
    for (size_t i = 0; i < qc_func_argument_count(func); i++)
        if (qc_func_argument(func, i) == value)
            return (int)i;
    return -1;
}

static qc_status same_values(comparison *c, const qc_func *ours, const qc_func *theirs)
{
    while (c->todo.count) {
        value_pair pair = c->todo.items[--c->todo.count];
        const qc_op *a = qc_value_op(pair.ours), *b = qc_value_op(pair.theirs);
        if (!a && !b) {
            if (argument_index(ours, pair.ours) != argument_index(theirs, pair.theirs))
                return qc_ctx_error(
                    c->ctx, "", "the function's arguments are used otherwise than config.json says");
            continue;
        }
        if (!a)
            return qc_ctx_error(c->ctx, "", "an argument stands where config.json has %s", qc_op_name(b));
        if (!b || strcmp(qc_op_name(a), qc_op_name(b)) != 0)
            return differs(c, a,
                qc_arena_printf(&c->arena, "%s stands where config.json has %s", qc_op_name(a),
                    b ? qc_op_name(b) : "an argument"));
        if (same_attributes(c, a, b) != QC_OK || same_operands(c, a, b) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

/* That of the rows of the table of embeddings. */
qc_dtype ct_computed_dtype(const qc_module *module)
{
    const qc_func *func = qc_module_func(module, "main");
    for (const qc_op *op = func ? qc_func_first_op(func) : NULL; op; op = qc_op_next(op))
        if (qc_op_is(op, "embedding"))
            return qc_type_dtype(qc_value_type(qc_op_result(op, 0)));
    return QC_DTYPE_NONE;
}

static qc_status compare(qc_ctx *ctx, const qc_module *our_module, const qc_module *their_module)
{
    const qc_func *ours = qc_module_func(our_module, "main"), *theirs = qc_module_func(their_module, "main");
    comparison c = {.ctx = ctx};
    qc_arena_init(&c.arena, qc_ctx_arena(ctx)->oom);
    qc_map_init(&c.fixed, &c.arena);
    qc_map_init(&c.seen, &c.arena);
    mark_fixed(&c, ours);
    qc_status status = ct_transforms_read(ctx, &c.arena, our_module, &c.ours);
    if (status == QC_OK)
        status = ct_transforms_read(ctx, &c.arena, their_module, &c.theirs);
    if (status == QC_OK && (qc_func_result_count(ours) != qc_func_result_count(theirs) ||
                               qc_func_argument_count(ours) != qc_func_argument_count(theirs)))
        status =
            qc_ctx_error(ctx, "", "the function @main has not the arguments and results of a language model");
    for (size_t i = 0; status == QC_OK && i < qc_func_result_count(ours); i++)
        status = push(&c, NULL, NULL, "", qc_func_result(ours, i), qc_func_result(theirs, i));
    if (status == QC_OK)
        status = same_values(&c, ours, theirs);
    qc_arena_fini(&c.arena);
    return status;
}

qc_status ct_check_same_model(qc_ctx *ctx, const qc_module *module, const char *source_directory)
{
    const qc_func *ours = qc_module_func(module, "main");
    const qc_op *lowered = qc_lowered_op(module);
    if (lowered)
        return qc_ctx_error(ctx, "export",
            "the module is in lowered form (%s), which is executed and not written as a checkpoint: leave "
            "out the "
            "lower- passes",
            qc_op_name(lowered));
    if (!ours || !source_directory)
        return QC_OK;
    qc_hf_options options = {.dtype = ct_computed_dtype(module), .dequantize = ct_is_dequantized(module)};
    if (options.dtype != QC_BF16 && options.dtype != QC_F16 && options.dtype != QC_F32)
        return QC_OK;
    qc_ctx *quiet = qc_ctx_create(qc_ctx_arena(ctx)->oom, ignore_diagnostic, NULL);
    qc_module *source = qc_hf_import(quiet, source_directory, &options);
    const qc_func *theirs = source ? qc_module_func(source, "main") : NULL;
    qc_status status = theirs ? compare(ctx, module, source) : QC_OK;
    qc_module_destroy(source);
    qc_ctx_destroy(quiet);
    return status;
}
