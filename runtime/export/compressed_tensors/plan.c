/* SPDX-License-Identifier: MIT
 *
 * plan.c - from the module to the list of what the checkpoint holds.
 *
 * Every stored tensor is copied under its own name unless the IR computes with something else in its place:
 * dequantize(quantize(E, S), S) as a weight becomes the codes and S (`weight`, `weight_scale`), any other
 * weight expression becomes its value; a static scale of a linear's input becomes `input_scale`; scales of
 * attention become q_scale, k_scale, v_scale. For an attention group zero points (zeros) go with them, which
 * llm-compressor writes although the scheme is symmetric; under a kv_cache_scheme alone they do not.
 */
#include <string.h>

#include "runtime/export/compressed_tensors/internal.h"

/* What one walk over the ops knows. */
typedef struct walk {
    ct_plan *plan;
    qc_map fixed;     /* addresses of values that depend on no model input */
    qc_map positions; /* addresses of nodes -> index in the tree + 1 */
    qc_map quantized; /* paths of modules with a config group */
    QC_VEC(const qc_op *) attentions;
} walk;

static bool is_fixed(const walk *w, const qc_value *value)
{
    return qc_map_find_n(&w->fixed, (const char *)&value, sizeof value) != NULL;
}

static const char *path_of(const qc_op *op)
{
    const qc_node *node = qc_op_node(op);
    return node ? qc_node_path(node) : "";
}

static const char *where_of(const qc_op *op)
{
    return *path_of(op) ? path_of(op) : qc_op_name(op);
}

static bool made_by(const qc_value *value, const char *op_name)
{
    return value && qc_value_op(value) && qc_op_is(qc_value_op(value), op_name);
}

static const qc_value *operand(const qc_value *value, const char *name)
{
    return qc_op_operand_named(qc_value_op(value), name);
}

static const char *text_attr(const qc_op *op, const char *name)
{
    return qc_attr_as_text(qc_op_attr(op, name));
}

static qc_status unresolved(const walk *w, const qc_op *op, const char *what)
{
    if (w->plan->before_data)
        return QC_OK;
    qc_ctx_error(w->plan->ctx, where_of(op), "%s has no scale yet: it takes calibration data", what);
    qc_ctx_note(w->plan->ctx,
        "give data with --calib=FILE.jsonl, FILE.txt or random; --calib=none makes every scale 1.0");
    return QC_ERROR;
}

/* ---- groups -------------------------------------------------------------------------------------------- */

static qc_status read_args(ct_plan *plan, const qc_symbol *symbol, const char *part_name, ct_args *args)
{
    static const char *const strategies[] = {
        [QC_GRANULARITY_TENSOR] = "tensor",
        [QC_GRANULARITY_HEAD] = "attn_head",
        [QC_GRANULARITY_TOKEN] = "token",
        [QC_GRANULARITY_CHANNEL] = "channel",
    };
    *args = (ct_args){0};
    if (!qc_attr_find(qc_symbol_fields(symbol), part_name))
        return QC_OK;
    const char *where = qc_arena_printf(&plan->arena, "@%s", qc_symbol_name(symbol));
    qc_scheme_part part;
    if (qc_scheme_read(
            qc_ctx_diag(plan->ctx), where, plan->module, qc_symbol_name(symbol), part_name, &part) != QC_OK)
        return QC_ERROR;
    if (part.type != QC_F8E4M3 && part.type != QC_I8)
        return qc_ctx_error(plan->ctx, where, "compressed-tensors stores no %s %s", qc_dtype_name(part.type),
            strcmp(part_name, "input") == 0 ? "activations" : "weights");
    if (!part.symmetric)
        return qc_ctx_error(plan->ctx, where, "asymmetric %s: zero points are not exported", part_name);
    if (part.granularity == QC_GRANULARITY_TOKEN && !part.dynamic)
        return qc_ctx_error(plan->ctx, where, "scales for each token must be dynamic");
    *args = (ct_args){.present = true,
        .dynamic = part.dynamic,
        .is_float = part.type == QC_F8E4M3,
        .strategy = strategies[part.granularity]};
    if (!part.dynamic && *part.observer && strcmp(part.observer, "unset") != 0)
        args->observer = part.observer;
    else if (!part.dynamic && strcmp(part_name, "weights") == 0 && !plan->as_tensors)
        args->observer = "memoryless_minmax";
    return QC_OK;
}

static bool same_field(const qc_symbol *a, const qc_symbol *b, const char *name)
{
    const qc_attr *x = qc_attr_find(qc_symbol_fields(a), name), *y = qc_attr_find(qc_symbol_fields(b), name);
    return x == y || (x && y && qc_attr_equal(x, y));
}

static bool same_group(const qc_symbol *a, const qc_symbol *b)
{
    return same_field(a, b, "targets") && same_field(a, b, "weights") && same_field(a, b, "input");
}

/* The storage format that compressed-tensors infers (its first match), or NULL where that is one we do not
 * write. */
static const char *infer_format(const ct_group *g)
{
    if (g->attention)
        return "dense";
    if (g->weights.is_float)
        return g->input.present ? "float-quantized" : "naive-quantized";
    return g->input.present ? "int-quantized" : NULL;
}

/* The group of a scheme, made when it is new; the module at `position` of the tree carries it. */
static qc_status use_group(walk *w, const qc_symbol *symbol, bool attention, const qc_op *op)
{
    ct_plan *plan = w->plan;
    const qc_node *node = qc_op_node(op);
    const qc_map_entry *entry = qc_map_find_n(&w->positions, (const char *)&node, sizeof node);
    size_t position = entry ? (size_t)(uintptr_t)entry->value : SIZE_MAX;
    qc_map_set(&w->quantized, path_of(op), NULL);
    for (size_t i = 0; i < plan->groups.count; i++) {
        ct_group *g = &plan->groups.items[i];
        if (g->attention != attention || !same_group(g->symbol, symbol))
            continue;
        g->first_module = position < g->first_module ? position : g->first_module;
        return QC_OK;
    }
    ct_group g = {.symbol = symbol, .attention = attention, .first_module = position};
    g.targets = qc_attr_find(qc_symbol_fields(symbol), "targets");
    g.ignore = qc_attr_find(qc_symbol_fields(symbol), "ignore");
    const char *where = qc_arena_printf(&plan->arena, "@%s", qc_symbol_name(symbol));
    if (!g.targets || qc_attr_get_kind(g.targets) != QC_ATTR_LIST || qc_attr_count(g.targets) == 0)
        return qc_ctx_error(plan->ctx, where, "a scheme to export must have targets");
    if (read_args(plan, symbol, "weights", &g.weights) != QC_OK ||
        read_args(plan, symbol, "input", &g.input) != QC_OK)
        return QC_ERROR;
    if (attention ? g.weights.present || !g.input.present || g.input.dynamic
                  : !g.weights.present || g.weights.dynamic)
        return qc_ctx_error(plan->ctx, where,
            attention ? "a scheme for attention must have a static input and no weights"
                      : "a scheme for linear layers must have static weights");
    g.format = infer_format(&g);
    if (!g.format)
        return qc_ctx_error(plan->ctx, where,
            "integer weights without quantized inputs would be packed, which is not exported");
    QC_PUSH(&plan->arena, &plan->groups, g);
    return QC_OK;
}

static const qc_symbol *symbol_of(walk *w, const qc_op *op)
{
    const char *name = text_attr(op, "scheme");
    const qc_symbol *symbol = qc_module_find_symbol(w->plan->module, name);
    if (!symbol)
        qc_ctx_error(w->plan->ctx, where_of(op), "there is no scheme @%s", name);
    return symbol;
}

/* ---- tensors ------------------------------------------------------------------------------------------- */

/* Is it the cast of the same stored tensor to the same type? */
static bool same_cast(const qc_value *a, const qc_value *b)
{
    if (!made_by(a, "cast") || !made_by(b, "cast") || qc_value_type(a) != qc_value_type(b))
        return false;
    const qc_value *x = operand(a, "x"), *y = operand(b, "x");
    return made_by(x, "weight") && made_by(y, "weight") &&
           strcmp(text_attr(qc_value_op(x), "tensor"), text_attr(qc_value_op(y), "tensor")) == 0;
}

/* The entry of that name, made or taken over from a stored tensor. NULL when the type has no static shape or
 * no safetensors name, or when two ops want different values under one name. */
static ct_tensor *put_tensor(walk *w, const char *name, const qc_value *value)
{
    ct_plan *plan = w->plan;
    const qc_type *type = qc_value_type(value);
    const char *dtype = qc_dtype_safetensors_name(qc_type_dtype(type));
    if (!*dtype) {
        qc_ctx_error(plan->ctx, name, "safetensors has no name for its element type %s",
            qc_dtype_name(qc_type_dtype(type)));
        return NULL;
    }
    ct_tensor *t = qc_map_get(&plan->by_name, name);
    if (t && t->source != CT_COPY) {
        if (t->value == value || (t->value && same_cast(t->value, value)))
            return t;
        qc_ctx_error(plan->ctx, name, "two operations store different values under this name");
        return NULL;
    }
    if (!t) {
        t = QC_NEW(&plan->arena, ct_tensor);
        t->name = name;
        qc_map_set(&plan->by_name, name, t);
        QC_PUSH(&plan->arena, &plan->tensors, t);
    }
    t->dtype = dtype;
    t->rank = qc_type_rank(type);
    int64_t *shape = QC_NEW_ARRAY(&plan->arena, int64_t, (size_t)t->rank + 1);
    for (int i = 0; i < t->rank; i++) {
        if (!qc_dim_as_int(qc_type_dim(type, i), &shape[i])) {
            qc_ctx_error(plan->ctx, name, "has the symbolic shape %s", qc_type_text(plan->ctx, type));
            return NULL;
        }
    }
    t->shape = shape;
    t->source = CT_VALUE;
    t->value = value;
    t->stored = NULL;
    return t;
}

/* The same under a short name of the op's module. */
static ct_tensor *put_value(walk *w, const qc_op *op, const char *short_name, const qc_value *value)
{
    if (*path_of(op))
        return put_tensor(w, qc_arena_printf(&w->plan->arena, "%s.%s", path_of(op), short_name), value);
    qc_ctx_error(w->plan->ctx, qc_op_name(op), "an op outside the module tree has no tensor names");
    return NULL;
}

/* ---- linears and other users of weights ---------------------------------------------------------------- */

/* The scale shape that the strategy means. */
static bool scale_fits(const ct_args *args, const qc_value *scale, const qc_value *x)
{
    const qc_type *type = qc_value_type(scale);
    int64_t count, rows;
    if (!qc_type_static_count(type, &count))
        return false;
    if (strcmp(args->strategy, "tensor") == 0)
        return qc_type_rank(type) == 1 && count == 1;
    return strcmp(args->strategy, "channel") == 0 && qc_type_rank(type) == 2 &&
           qc_dim_as_int(qc_type_dim(qc_value_type(x), 0), &rows) && count == rows &&
           qc_type_dim(type, 0) == qc_type_dim(qc_value_type(x), 0);
}

/* A linear's input against what the scheme says of it. */
static qc_status plan_input(walk *w, const qc_op *op, const ct_group *g)
{
    ct_plan *plan = w->plan;
    const qc_value *x = qc_op_operand_named(op, "x");
    const qc_value *codes = made_by(x, "dequantize") ? operand(x, "x") : NULL;
    bool quantized = made_by(codes, "quantize");
    if (quantized != g->input.present)
        return qc_ctx_error(plan->ctx, where_of(op),
            g->input.present ? "its scheme @%s quantizes the input, the IR does not"
                             : "its input is quantized, which its scheme @%s does not say",
            qc_symbol_name(g->symbol));
    if (!quantized || g->input.dynamic)
        return QC_OK;
    const qc_value *scale = operand(codes, "scale");
    if (!is_fixed(w, scale))
        return unresolved(w, op, "the input");
    if (!scale_fits(&g->input, scale, x))
        return qc_ctx_error(plan->ctx, where_of(op), "the scale of its input has the shape %s",
            qc_type_text(plan->ctx, qc_value_type(scale)));
    ct_tensor *s = put_value(w, op, "input_scale", scale);
    if (!s)
        return QC_ERROR;
    s->quantized = true;
    return QC_OK;
}

/* What vLLM makes of targets: a class does not reach the head (which is none of its linear classes), and a group of
 * attention is passed over only when its one target ends in "Attention". */
static void warn_of_head(walk *w, const qc_op *op, const ct_group *g)
{
    const qc_node *node = qc_op_node(op);
    if (w->plan->as_tensors)
        ct_warn_of_tables(w->plan, path_of(op));
    if (w->plan->quiet || w->plan->as_tensors || !qc_ends_with(path_of(op), "lm_head"))
        return;
    for (size_t i = 0; i < qc_attr_count(g->targets); i++) {
        const char *target = qc_attr_as_text(qc_attr_item(g->targets, i));
        if (strcmp(target, qc_node_class(node)) != 0 && qc_node_matches(node, target))
            return;
    }
    qc_warning(qc_ctx_diag(w->plan->ctx), where_of(op),
        "vLLM takes the head for unquantized unless a target names it: it will refuse the head's scale");
    qc_ctx_note(w->plan->ctx, "add \"re:.*lm_head$\" to the targets, or lm_head to ignore");
}

static void warn_of_attention(walk *w, const qc_op *op, const qc_symbol *symbol)
{
    const qc_attr *targets = qc_attr_find(qc_symbol_fields(symbol), "targets");
    if (w->plan->quiet)
        return;
    if (qc_attr_count(targets) == 1 && qc_ends_with(qc_attr_as_text(qc_attr_item(targets, 0)), "Attention"))
        return;
    for (size_t i = 0; i < w->plan->groups.count; i++)
        if (same_group(w->plan->groups.items[i].symbol, symbol))
            return; /* said before */
    qc_warning(qc_ctx_diag(w->plan->ctx), where_of(op),
        "vLLM reads a group of attention only with one target that ends in Attention, such as %s",
        qc_op_node(op) ? qc_node_class(qc_op_node(op)) : "LlamaAttention");
}

static qc_status plan_codes(walk *w, const qc_op *op, const qc_value *codes)
{
    ct_plan *plan = w->plan;
    const qc_symbol *symbol = symbol_of(w, qc_value_op(codes));
    if (!symbol || use_group(w, symbol, false, op) != QC_OK)
        return QC_ERROR;
    const ct_group *g = NULL;
    for (size_t i = 0; i < plan->groups.count && !g; i++)
        if (!plan->groups.items[i].attention && same_group(plan->groups.items[i].symbol, symbol))
            g = &plan->groups.items[i];
    warn_of_head(w, op, g);
    const qc_value *scale = operand(codes, "scale");
    if (!scale_fits(&g->weights, scale, codes))
        return qc_ctx_error(plan->ctx, where_of(op), "the scale of its weight has the shape %s",
            qc_type_text(plan->ctx, qc_value_type(scale)));
    ct_tensor *c = put_value(w, op, "weight", codes), *s = c ? put_value(w, op, "weight_scale", scale) : NULL;
    if (!s)
        return QC_ERROR;
    c->quantized = s->quantized = true;
    if (made_by(scale, "qparams") && strcmp(g->weights.strategy, "channel") == 0) {
        s->source = CT_SCALE;
        c->scale = s;
        s->codes = c;
    }
    return qc_op_is(op, "linear") ? plan_input(w, op, g) : QC_OK;
}

/* What the weights of an expression say of the tensor that its value replaces. */
typedef struct base {
    size_t count; /* weight ops in the expression */
    const char
        *name; /* the one tensor among them that belongs to the op's module; NULL when none or several do */
} base;

static base base_of(const ct_plan *plan, const qc_op *op, const qc_value *value)
{
    base b = {0, NULL};
    size_t length = strlen(path_of(op));
    bool several = false;
    qc_arena arena;
    qc_arena_init(&arena, plan->arena.oom);
    qc_map seen;
    qc_map_init(&seen, &arena);
    QC_VEC(const qc_value *) stack = {0};
    QC_PUSH(&arena, &stack, value);
    while (stack.count) {
        const qc_value *v = stack.items[--stack.count];
        if (!qc_map_set_n(&seen, (const char *)&v, sizeof v, NULL))
            continue;
        const qc_op *maker = qc_value_op(v);
        for (size_t i = 0; i < qc_op_operand_count(maker); i++)
            if (qc_op_operand(maker, i))
                QC_PUSH(&arena, &stack, qc_op_operand(maker, i));
        if (!qc_op_is(maker, "weight"))
            continue;
        b.count++;
        const char *name = text_attr(maker, "tensor");
        if (!length || strncmp(name, path_of(op), length) != 0 || name[length] != '.')
            continue;
        several = several || (b.name && strcmp(b.name, name) != 0);
        b.name = name;
    }
    qc_arena_fini(&arena);
    b.name = several ? NULL : b.name;
    return b;
}

static qc_status plan_weight_operand(walk *w, const qc_op *op, size_t slot)
{
    ct_plan *plan = w->plan;
    const qc_value *value = qc_op_operand(op, slot);
    const bool keep = qc_op_is(op, "keep"), linear = qc_op_is(op, "linear") || keep;
    const bool table = qc_op_is(op, "embedding") && slot == 1;
    const qc_value *codes = made_by(value, "dequantize") ? operand(value, "x") : NULL;
    if (made_by(codes, "quantize") && ((linear && slot == (keep ? 0 : 1)) || table))
        return plan_codes(w, op, codes);
    if (made_by(value, "weight") || made_by(value, "const"))
        return QC_OK;
    if (linear && !made_by(value, "cast"))
        return put_value(w, op, slot == 1 || keep ? "weight" : "bias", value) ? QC_OK : QC_ERROR;
    if (made_by(value, "cast") && made_by(operand(value, "x"), "weight"))
        return put_tensor(w, text_attr(qc_value_op(operand(value, "x")), "tensor"), value) ? QC_OK : QC_ERROR;
    base b = base_of(plan, op, value);
    if (b.count == 0)
        return QC_OK;
    if (!b.name)
        return qc_ctx_error(plan->ctx, where_of(op),
            "%s: its weight expression belongs to no tensor of this module", qc_op_name(op));
    return put_tensor(w, b.name, value) ? QC_OK : QC_ERROR;
}

/* ---- attention ----------------------------------------------------------------------------------------- */

/* The quantize op whose codes attention takes as operand `name`, seen through the cache. */
static const qc_op *quantize_of(const qc_op *attention, const char *name)
{
    const qc_value *value = qc_op_operand_named(attention, name);
    while (made_by(value, "cache_append"))
        value = operand(value, "x");
    return made_by(value, "quantize") ? qc_value_op(value) : NULL;
}

static qc_status plan_slot(walk *w, const qc_op *op, const char *slot, const qc_symbol **symbol)
{
    ct_plan *plan = w->plan;
    const char *scale_name = qc_arena_printf(&plan->arena, "%s_scale", slot);
    const qc_value *scale = qc_op_operand_named(op, scale_name);
    const qc_op *quantize = quantize_of(op, slot);
    *symbol = NULL;
    if (!scale && !quantize)
        return QC_OK;
    if (!scale || !quantize)
        return qc_ctx_error(plan->ctx, where_of(op), "%s has %s", slot,
            scale ? "a scale but is not quantized" : "codes but no scale");
    *symbol = symbol_of(w, quantize);
    if (!*symbol)
        return QC_ERROR;
    if (!is_fixed(w, scale))
        return unresolved(w, op, slot);
    ct_tensor *s = put_value(w, op, scale_name, scale);
    if (!s || strcmp(qc_symbol_kind(*symbol), "kv_scheme") == 0)
        return s ? QC_OK : QC_ERROR;
    ct_tensor *zero = QC_NEW(&plan->arena, ct_tensor);
    *zero = *s;
    zero->name = qc_arena_printf(&plan->arena, "%s.%s_zero_point", path_of(op), slot);
    zero->dtype = qc_dtype_safetensors_name(qc_type_dtype(qc_value_type(qc_op_result(quantize, 0))));
    zero->source = CT_ZEROS;
    zero->value = NULL;
    if (!qc_map_set(&plan->by_name, zero->name, zero))
        return qc_ctx_error(plan->ctx, zero->name, "the checkpoint already holds a tensor of this name");
    QC_PUSH(&plan->arena, &plan->tensors, zero);
    return QC_OK;
}

static qc_status plan_attention(walk *w, const qc_op *op)
{
    ct_plan *plan = w->plan;
    const qc_symbol *q, *k, *v;
    QC_PUSH(&plan->arena, &w->attentions, op);
    if (plan_slot(w, op, "q", &q) != QC_OK || plan_slot(w, op, "k", &k) != QC_OK ||
        plan_slot(w, op, "v", &v) != QC_OK)
        return QC_ERROR;
    if (!q && !k && !v)
        return QC_OK;
    if (k != v || (q && q != k))
        return qc_ctx_error(plan->ctx, where_of(op),
            "compressed-tensors has one scheme for q, k and v, or one for k and v; here they differ");
    bool kv_only = strcmp(qc_symbol_kind(k), "kv_scheme") == 0;
    if (kv_only == (q != NULL))
        return qc_ctx_error(plan->ctx, where_of(op),
            kv_only ? "a kv_scheme does not quantize q"
                    : "a scheme of attention quantizes q, k and v in compressed-tensors; for k and v alone "
                      "there is quant-kv");
    ct_args args;
    if (read_args(plan, k, "input", &args) != QC_OK)
        return QC_ERROR;
    if (!args.present || args.dynamic)
        return qc_ctx_error(
            plan->ctx, where_of(op), "the scheme @%s must have a static input", qc_symbol_name(k));
    if (plan->kv.present &&
        (args.is_float != plan->kv.is_float || strcmp(args.strategy, plan->kv.strategy) != 0))
        return qc_ctx_error(plan->ctx, where_of(op),
            "compressed-tensors has one kv_cache_scheme for all attention modules; this one is quantized "
            "another way");
    plan->kv = args;
    plan->kv_only |= kv_only;
    if (kv_only)
        return QC_OK;
    warn_of_attention(w, op, k);
    return use_group(w, k, true, op);
}

/* ---- the walk ------------------------------------------------------------------------------------------ */

/* A scale that is computed from model data although the scheme is static. */
static qc_status check_resolved(walk *w, const qc_op *op)
{
    if (qc_op_is(op, "observe"))
        return unresolved(w, op, text_attr(op, "tap"));
    if (!qc_op_is(op, "qparams"))
        return QC_OK;
    qc_scheme_part part;
    if (qc_scheme_read(qc_ctx_diag(w->plan->ctx), where_of(op), w->plan->module, text_attr(op, "scheme"),
            text_attr(op, "arg"), &part) != QC_OK)
        return QC_ERROR;
    if (!part.dynamic && !is_fixed(w, qc_op_operand(op, 0)))
        return unresolved(
            w, op, strcmp(text_attr(op, "arg"), "weights") == 0 ? "the weight" : "an activation");
    return QC_OK;
}

/* Marks the results of an op without model inputs; else plans what it uses of the checkpoint. */
static qc_status plan_op(walk *w, const qc_op *op)
{
    if (check_resolved(w, op) != QC_OK)
        return QC_ERROR;
    bool fixed = !qc_op_has_effect(op);
    for (size_t i = 0; i < qc_op_operand_count(op); i++)
        fixed = fixed && (!qc_op_operand(op, i) || is_fixed(w, qc_op_operand(op, i)));
    for (size_t i = 0; fixed && i < qc_op_result_count(op); i++) {
        const qc_value *value = qc_op_result(op, i);
        qc_map_set_n(&w->fixed, (const char *)&value, sizeof value, NULL);
    }
    if (fixed)
        return QC_OK;
    if (qc_op_is(op, "attention"))
        return plan_attention(w, op);
    /* Scales of activations are not parameters of their own; linears speak for them. */
    if (qc_op_is(op, "quantize") || qc_op_is(op, "dequantize"))
        return QC_OK;
    for (size_t i = 0; i < qc_op_operand_count(op); i++)
        if (qc_op_operand(op, i) && is_fixed(w, qc_op_operand(op, i)) &&
            plan_weight_operand(w, op, i) != QC_OK)
            return QC_ERROR;
    return QC_OK;
}

static void add_stored(ct_plan *plan)
{
    const qc_st_set *set = qc_weights_tensors(plan->weights);
    for (size_t i = 0; i < set->tensor_count; i++) {
        const qc_st_tensor *s = &set->tensors[i];
        if (qc_st_find(set, s->name) != s || (plan->dequantized && !ct_in_tree(plan, s->name)))
            continue;
        ct_tensor *t = QC_NEW(&plan->arena, ct_tensor);
        *t = (ct_tensor){.name = s->name, .dtype = s->dtype, .rank = s->rank, .shape = s->shape};
        t->source = CT_COPY;
        t->stored = s;
        qc_map_set(&plan->by_name, t->name, t);
        QC_PUSH(&plan->arena, &plan->tensors, t);
    }
}

/* Groups in tree order (insertion sort: there are few), and the format of the whole. */
static void finish_groups(ct_plan *plan)
{
    for (size_t i = 1; i < plan->groups.count; i++) {
        ct_group g = plan->groups.items[i];
        size_t k = i;
        for (; k > 0 && plan->groups.items[k - 1].first_module > g.first_module; k--)
            plan->groups.items[k] = plan->groups.items[k - 1];
        plan->groups.items[k] = g;
    }
    plan->format = "dense";
    for (size_t i = 0; i < plan->groups.count; i++) {
        const char *format = plan->groups.items[i].format;
        if (strcmp(format, "dense") == 0 || strcmp(format, plan->format) == 0)
            continue;
        plan->format = strcmp(plan->format, "dense") == 0 ? format : "mixed-precision";
    }
}

static void find_skipped(walk *w)
{
    ct_plan *plan = w->plan;
    for (size_t i = 0; plan->kv.present && i < w->attentions.count; i++) {
        const qc_op *op = w->attentions.items[i];
        if (qc_op_operand_named(op, "k_scale"))
            continue;
        QC_PUSH(&plan->arena, &plan->kv_skipped, path_of(op));
        if (!plan->quiet)
            qc_warning(qc_ctx_diag(plan->ctx), where_of(op),
                "not quantized, but the checkpoint's kv_cache_scheme speaks for all attention modules: a "
                "loader takes 1.0 for its scales");
    }
}

qc_status ct_plan_make(ct_plan *plan)
{
    walk w = {.plan = plan};
    qc_map_init(&w.fixed, &plan->arena);
    qc_map_init(&w.positions, &plan->arena);
    qc_map_init(&w.quantized, &plan->arena);
    qc_map_init(&plan->by_name, &plan->arena);
    plan->tie = -1;
    ct_read_import(plan);
    size_t position = 0;
    for (const qc_node *n = qc_module_first_node(plan->module); n; n = qc_node_next(n))
        qc_map_set_n(&w.positions, (const char *)&n, sizeof n, (void *)(uintptr_t)++position);
    add_stored(plan);
    for (const qc_func *f = qc_module_first_func(plan->module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            if (plan_op(&w, op) != QC_OK)
                return QC_ERROR;
    find_skipped(&w);
    if (plan->before_data)
        return QC_OK;
    finish_groups(plan);
    plan->quantized = plan->groups.count > 0 || plan->kv.present;
    bool copied = true;
    for (size_t i = 0; i < plan->tensors.count; i++)
        copied = copied && plan->tensors.items[i]->source == CT_COPY;
    if (!plan->quantized)
        qc_warning(qc_ctx_diag(plan->ctx), "",
            copied ? "nothing is quantized: the output is a copy of the source" : "nothing is quantized");
    if (!plan->as_tensors && ct_tie_embeddings(plan) != QC_OK)
        return QC_ERROR;
    if (plan->as_tensors)
        ct_take_ignore(plan);
    else
        ct_fill_ignore(plan, &w.quantized);
    ct_order_tensors(plan);
    return QC_OK;
}
