/* SPDX-License-Identifier: MIT
 *
 * plan.c - from the module to the list of what the checkpoint holds.
 *
 * Every stored tensor is copied under its own name unless the IR computes with something else in its place:
 * dequantize(quantize(E, S), S) as a weight becomes the codes and S (`weight`, `weight_scale`), any other
 * weight expression becomes its value; a static scale of a linear's input becomes `input_scale`. What attention stores is
 * in attention.c.
 */
#include <stdarg.h>
#include <string.h>

#include "passes/experts.h"
#include "runtime/export/compressed_tensors/internal.h"

/* ---- what every part of the plan asks ------------------------------------------------------------------ */

bool ct_is_fixed(const ct_walk *w, const qc_value *value)
{
    return ct_is_of_expert(w->plan, value) ||
           qc_map_find_n(&w->fixed, (const char *)&value, sizeof value) != NULL;
}

const char *ct_path_of(const qc_op *op)
{
    const qc_node *node = qc_op_node(op);
    return node ? qc_node_path(node) : "";
}

const char *ct_where_of(const qc_op *op)
{
    return *ct_path_of(op) ? ct_path_of(op) : qc_op_name(op);
}

ct_site ct_site_of(const qc_op *op)
{
    return (ct_site){.op = op, .path = ct_path_of(op), .node = qc_op_node(op)};
}

const char *ct_where(const ct_site *site)
{
    return *site->path ? site->path : qc_op_name(site->op);
}

bool ct_made_by(const qc_value *value, const char *op_name)
{
    return value && qc_value_op(value) && qc_op_is(qc_value_op(value), op_name);
}

const qc_value *ct_operand(const qc_value *value, const char *name)
{
    return qc_op_operand_named(qc_value_op(value), name);
}

const char *ct_text_attr(const qc_op *op, const char *name)
{
    return qc_attr_as_text(qc_op_attr(op, name));
}

qc_status ct_unresolved(const ct_walk *w, const char *where, const char *what)
{
    if (w->plan->before_data)
        return QC_OK;
    qc_ctx_error(w->plan->ctx, where, "%s has no scale yet: it takes calibration data", what);
    qc_ctx_note(w->plan->ctx,
        "give data with --calib=FILE.jsonl, FILE.txt or random; --calib=none makes every scale 1.0");
    return QC_ERROR;
}

const qc_symbol *ct_symbol_of(ct_walk *w, const qc_op *op)
{
    const char *name = ct_text_attr(op, "scheme");
    const qc_symbol *symbol = qc_module_find_symbol(w->plan->module, name);
    if (!symbol)
        qc_ctx_error(w->plan->ctx, ct_where_of(op), "there is no scheme @%s", name);
    return symbol;
}

qc_status ct_refuse(ct_plan *plan, const char *rule, const char *where, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *what = qc_arena_vprintf(&plan->arena, format, args);
    va_end(args);
    if (qc_is_allowed(plan->allowed, rule)) {
        plan->not_for_vllm = true;
        if (qc_map_set(&plan->told, rule, plan) && !plan->quiet)
            qc_warning(qc_ctx_diag(plan->ctx), where, "%s (allowed: %s)", what, rule);
        return QC_OK;
    }
    if (qc_map_set(&plan->told, rule, plan))
        QC_PUSH(&plan->arena, &plan->refusals, ((ct_refusal){rule, where, what}));
    return QC_OK;
}

/* One error that names every rule, so that all can be allowed at once. */
static qc_status tell_refusals(ct_plan *plan)
{
    if (plan->refusals.count == 0)
        return QC_OK;
    const ct_refusal *first = &plan->refusals.items[0];
    const char *all = qc_arena_printf(&plan->arena, "%s (rule %s)", first->what, first->rule);
    const char *options = qc_arena_printf(&plan->arena, "--allow=%s", first->rule);
    for (size_t i = 1; i < plan->refusals.count; i++) {
        const ct_refusal *r = &plan->refusals.items[i];
        all = qc_arena_printf(&plan->arena, "%s; %s: %s (rule %s)", all, r->where, r->what, r->rule);
        options = qc_arena_printf(&plan->arena, "%s --allow=%s", options, r->rule);
    }
    qc_ctx_error(plan->ctx, first->where, "%s", all);
    qc_ctx_note(plan->ctx, "%s writes it all the same", options);
    return QC_ERROR;
}

/* The module carries the scheme. */
qc_status ct_use_group(ct_walk *w, const qc_symbol *symbol, bool attention, const ct_site *site)
{
    const qc_map_entry *entry = qc_map_find_n(&w->positions, (const char *)&site->node, sizeof site->node);
    size_t position = entry ? (size_t)(uintptr_t)entry->value : SIZE_MAX;
    qc_map_set(&w->quantized, site->path, (void *)(uintptr_t)symbol);
    return ct_add_group(w->plan, symbol, attention, position);
}

/* ---- tensors ------------------------------------------------------------------------------------------- */

/* Is it the cast of the same stored tensor to the same type? */
static bool same_cast(const qc_value *a, const qc_value *b)
{
    if (!ct_made_by(a, "cast") || !ct_made_by(b, "cast") || qc_value_type(a) != qc_value_type(b))
        return false;
    const qc_value *x = ct_operand(a, "x"), *y = ct_operand(b, "x");
    return ct_made_by(x, "weight") && ct_made_by(y, "weight") &&
           strcmp(ct_text_attr(qc_value_op(x), "tensor"), ct_text_attr(qc_value_op(y), "tensor")) == 0;
}

ct_tensor *ct_put_tensor(ct_walk *w, const char *name, const qc_value *value)
{
    ct_plan *plan = w->plan;
    const qc_type *type = qc_value_type(value);
    const char *dtype = qc_dtype_safetensors_name(qc_type_dtype(type));
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
    t->encoding = qc_type_dtype(type);
    t->stored = NULL;
    return t;
}

ct_tensor *ct_put_value(ct_walk *w, const ct_site *site, const char *short_name, const qc_value *value)
{
    if (*site->path)
        return ct_put_tensor(w, qc_arena_printf(&w->plan->arena, "%s.%s", site->path, short_name), value);
    qc_ctx_error(w->plan->ctx, qc_op_name(site->op), "an op outside the module tree has no tensor names");
    return NULL;
}

/* ---- users of weights ---------------------------------------------------------------------------------- */

/* What the weights of an expression say of the tensor that its value replaces. */
typedef struct base {
    size_t count; /* weight ops in the expression */
    const char
        *name; /* the one tensor among them that belongs to the op's module; NULL when none or several do */
} base;

static base base_of(const ct_plan *plan, const qc_op *op, const qc_value *value)
{
    base b = {0, NULL};
    size_t length = strlen(ct_path_of(op));
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
        const char *name = ct_text_attr(maker, "tensor");
        if (!length || strncmp(name, ct_path_of(op), length) != 0 || name[length] != '.')
            continue;
        several = several || (b.name && strcmp(b.name, name) != 0);
        b.name = name;
    }
    qc_arena_fini(&arena);
    b.name = several ? NULL : b.name;
    return b;
}

static bool is_cast_weight(const qc_value *value)
{
    bool cast = false;
    for (; ct_made_by(value, "cast"); value = ct_operand(value, "x"))
        cast = true;
    return cast && ct_made_by(value, "weight");
}

/* A weight in another element type than it is stored in. The model's own is stored in its place; others are how an op
 * computes (routers in f32). */
static qc_status plan_cast(ct_walk *w, const qc_value *value)
{
    const qc_dtype computed = ct_computed_dtype(w->plan->module);
    for (; ct_made_by(value, "cast"); value = ct_operand(value, "x"))
        if (ct_made_by(ct_operand(value, "x"), "weight") &&
            (computed == QC_DTYPE_NONE || qc_type_dtype(qc_value_type(value)) == computed))
            return ct_put_tensor(w, ct_text_attr(qc_value_op(ct_operand(value, "x")), "tensor"), value)
                       ? QC_OK
                       : QC_ERROR;
    return QC_OK;
}

/* What is stored of an expression that one op computes with in another type than the model's (routers in f32). */
static const qc_value *behind_computing_type(const ct_walk *w, const qc_value *value)
{
    const qc_dtype computed = ct_computed_dtype(w->plan->module);
    while (ct_made_by(value, "cast") && computed != QC_DTYPE_NONE &&
           qc_type_dtype(qc_value_type(value)) != computed &&
           qc_dtype_is_float(qc_type_dtype(qc_value_type(ct_operand(value, "x")))))
        value = ct_operand(value, "x");
    return value;
}

static bool has_weight(const ct_site *site)
{
    for (size_t i = 0; site->node && i < qc_node_tensor_count(site->node); i++)
        if (strcmp(qc_node_tensor(site->node, i), "weight") == 0)
            return true;
    return false;
}

static qc_status plan_weight_operand(ct_walk *w, const qc_op *op, size_t slot)
{
    ct_plan *plan = w->plan;
    const ct_site site = ct_site_of(op);
    const qc_value *value = qc_op_operand(op, slot);
    const bool keep = qc_op_is(op, "keep"), linear = qc_op_is(op, "linear") || keep;
    const bool table = qc_op_is(op, "embedding") && slot == 1;
    const qc_value *codes = ct_made_by(value, "dequantize") ? ct_operand(value, "x") : NULL;
    if (ct_made_by(codes, "quantize") && ((linear && slot == (keep ? 0 : 1)) || table))
        return ct_plan_codes(w, &site, codes);
    if (ct_made_by(value, "weight") || ct_made_by(value, "const"))
        return QC_OK;
    if ((linear && !ct_made_by(value, "cast")) || (table && ct_made_by(value, "dequantize")))
        return ct_put_value(w, &site, slot == 1 || keep ? "weight" : "bias", value) ? QC_OK : QC_ERROR;
    if (is_cast_weight(value))
        return plan_cast(w, value);
    base b = base_of(plan, op, value);
    if (b.count == 0 && qc_op_is(op, "rmsnorm") && has_weight(&site)) /* it went into what reads it */
        return ct_put_value(w, &site, "weight", value) ? QC_OK : QC_ERROR;
    if (b.count == 0)
        return QC_OK;
    if (!b.name)
        return qc_ctx_error(plan->ctx, ct_where_of(op),
            "%s: its weight expression belongs to no tensor of this module", qc_op_name(op));
    return ct_put_tensor(w, b.name, behind_computing_type(w, value)) ? QC_OK : QC_ERROR;
}

/* ---- the walk ------------------------------------------------------------------------------------------ */

/* A scale that is computed from model data although the scheme is static. */
static qc_status check_resolved(ct_walk *w, const qc_op *op)
{
    if (qc_op_is(op, "observe"))
        return ct_unresolved(w, ct_where_of(op), ct_text_attr(op, "tap"));
    if (!qc_op_is(op, "qparams"))
        return QC_OK;
    qc_scheme_part part;
    if (qc_scheme_read(qc_ctx_diag(w->plan->ctx), ct_where_of(op), w->plan->module,
            ct_text_attr(op, "scheme"), ct_text_attr(op, "arg"), &part) != QC_OK)
        return QC_ERROR;
    if (!part.dynamic && !ct_is_fixed(w, qc_op_operand(op, 0)))
        return ct_unresolved(w, ct_where_of(op),
            strcmp(ct_text_attr(op, "arg"), "weights") == 0 ? "the weight" : "an activation");
    return QC_OK;
}

/* Lists what the op reads as it is stored. */
static void list_reads(ct_walk *w, const qc_op *op)
{
    for (size_t i = 0; i < qc_op_operand_count(op); i++) {
        const qc_value *value = qc_op_operand(op, i);
        while (ct_made_by(value, "cast"))
            value = ct_operand(value, "x");
        if (!ct_made_by(value, "weight"))
            continue;
        const bool small = qc_type_rank(qc_value_type(value)) == 1 || qc_linear_is_router(op);
        QC_PUSH(&w->plan->arena, &w->reads, ((ct_read){value, small}));
    }
}

static bool has_shape(const ct_tensor *t, const qc_type *type)
{
    bool same = t->rank == qc_type_rank(type);
    for (int i = 0; same && i < t->rank; i++) {
        int64_t size;
        same = qc_dim_as_int(qc_type_dim(type, i), &size) && size == t->shape[i];
    }
    return same;
}

/* What is copied must be what the IR reads. And nobody looks at the numbers of a copy, but a NaN in a norm, a bias or a
 * router spoils every token: as these are small, they are written from what is read, by the code that checks. */
static qc_status look_at_reads(ct_walk *w, bool numbers)
{
    for (size_t i = 0; i < w->reads.count; i++) {
        const qc_value *value = w->reads.items[i].value;
        const qc_op *op = qc_value_op(value);
        const qc_type *type = qc_value_type(value);
        const char *name = ct_text_attr(op, "tensor");
        const ct_tensor *t = qc_map_get(&w->plan->by_name, name);
        if (!t || t->source != CT_COPY || t->rank == 0 || qc_attr_as_int(qc_op_attr(op, "index")) >= 0)
            continue;
        if (!has_shape(t, type))
            return qc_ctx_error(w->plan->ctx, name, "has another shape in the source than the IR's %s",
                qc_type_text(w->plan->ctx, type));
        if (numbers && w->reads.items[i].small &&
            strcmp(t->dtype, qc_dtype_safetensors_name(qc_type_dtype(type))) == 0 &&
            !ct_put_tensor(w, name, value))
            return QC_ERROR;
    }
    return QC_OK;
}

/* Marks the results of an op without model inputs; else plans what it uses of the checkpoint. */
static qc_status plan_op(ct_walk *w, const qc_op *op)
{
    if (check_resolved(w, op) != QC_OK)
        return QC_ERROR;
    bool fixed = !qc_op_has_effect(op);
    for (size_t i = 0; i < qc_op_operand_count(op); i++)
        fixed = fixed && (!qc_op_operand(op, i) || ct_is_fixed(w, qc_op_operand(op, i)));
    for (size_t i = 0; fixed && i < qc_op_result_count(op); i++) {
        const qc_value *value = qc_op_result(op, i);
        qc_map_set_n(&w->fixed, (const char *)&value, sizeof value, NULL);
    }
    if (fixed)
        return QC_OK;
    list_reads(w, op);
    if (qc_op_is(op, "attention"))
        return ct_plan_attention(w, op);
    if (qc_op_is(op, "expert_linear"))
        return ct_plan_experts(w, op);
    const qc_node *node = qc_op_node(op);
    if (qc_op_is(op, "latent_kv"))
        qc_map_set_n(&w->latents, (const char *)&node, sizeof node, NULL);
    if (qc_op_is(op, "quantize") && ct_made_by(qc_op_operand_named(op, "x"), "latent_kv"))
        return ct_plan_latent(w, op);
    /* Scales of activations are not parameters of their own; linears speak for them. */
    if (qc_op_is(op, "quantize") || qc_op_is(op, "dequantize") || qc_op_is(op, "expert_param") ||
        qc_op_is(op, "observe"))
        return QC_OK;
    if (node && qc_op_is(op, "linear"))
        qc_map_set_n(&w->plan->linears, (const char *)&node, sizeof node, (void *)(uintptr_t)op);
    for (size_t i = 0; i < qc_op_operand_count(op); i++)
        if (qc_op_operand(op, i) && ct_is_fixed(w, qc_op_operand(op, i)) &&
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

/* One kv_cache_scheme speaks for all attention modules: what a loader makes of those that have no scales. */
static qc_status find_skipped(ct_walk *w)
{
    ct_plan *plan = w->plan;
    const char *first = NULL;
    for (size_t i = 0; plan->kv.present && i < w->attentions.count; i++) {
        const qc_op *op = w->attentions.items[i];
        const qc_node *node = qc_op_node(op);
        if (qc_op_operand_named(op, "k_scale") || qc_map_get_n(&w->latents, (const char *)&node, sizeof node))
            continue;
        QC_PUSH(&plan->arena, &plan->kv_skipped, ct_path_of(op));
        first = first ? first : ct_where_of(op);
    }
    if (!first)
        return QC_OK;
    const size_t more = plan->kv_skipped.count - 1;
    const char *others =
        more ? qc_arena_printf(&plan->arena, " (nor are %zu more attention modules)", more) : "";
    if (plan->kv.local) {
        qc_ctx_error(plan->ctx, first,
            "not quantized%s, but the checkpoint's kv_cache_scheme speaks for all attention modules, and "
            "there "
            "is no global scale that would leave these as they are",
            others);
        qc_ctx_note(plan->ctx, "-o FILE.qc writes the model as IR, which qc-run runs");
        return QC_ERROR;
    }
    if (!plan->quiet)
        qc_warning(qc_ctx_diag(plan->ctx), first,
            "not quantized%s, but the checkpoint's kv_cache_scheme speaks for all attention modules: %s",
            others,
            plan->kv.dynamic
                ? "a loader, qc-run too, quantizes these all the same"
                : "a loader, qc-run too, quantizes these all the same, with 1.0 for their scales");
    return QC_OK;
}

qc_status ct_plan_make(ct_plan *plan)
{
    ct_walk w = {.plan = plan};
    qc_map_init(&w.fixed, &plan->arena);
    qc_map_init(&w.positions, &plan->arena);
    qc_map_init(&w.quantized, &plan->arena);
    qc_map_init(&w.latents, &plan->arena);
    qc_map_init(&plan->by_name, &plan->arena);
    qc_map_init(&plan->tables, &plan->arena);
    qc_map_init(&plan->linears, &plan->arena);
    qc_map_init(&plan->told, &plan->arena);
    qc_map_init(&plan->experts, &plan->arena);
    plan->tie = -1;
    if (ct_transforms_read(plan->ctx, &plan->arena, plan->module, &plan->transforms) != QC_OK)
        return QC_ERROR;
    plan->rotated = plan->transforms.count > 0;
    ct_read_import(plan);
    size_t position = 0;
    for (const qc_node *n = qc_module_first_node(plan->module); n; n = qc_node_next(n))
        qc_map_set_n(&w.positions, (const char *)&n, sizeof n, (void *)(uintptr_t)++position);
    add_stored(plan);
    for (const qc_func *f = qc_module_first_func(plan->module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            if (plan_op(&w, op) != QC_OK)
                return QC_ERROR;
    if (find_skipped(&w) != QC_OK || (plan->rotated && ct_plan_matrices(plan) != QC_OK))
        return QC_ERROR;
    ct_warn_of_tables(plan);
    ct_finish_groups(plan);
    if (!plan->as_tensors)
        ct_settle_targets(plan, &w.quantized);
    plan->quantized = plan->groups.count > 0 || plan->kv.present;
    if ((plan->quantized && ct_warn_of_loaders(plan) != QC_OK) || tell_refusals(plan) != QC_OK)
        return QC_ERROR;
    if (plan->before_data)
        return QC_OK;
    bool copied = true;
    for (size_t i = 0; i < plan->tensors.count; i++)
        copied = copied && plan->tensors.items[i]->source == CT_COPY;
    if (!plan->quantized && !plan->rotated)
        qc_warning(qc_ctx_diag(plan->ctx), "",
            copied ? "nothing is quantized: the output is a copy of the source" : "nothing is quantized");
    if (!plan->as_tensors && (ct_tie_embeddings(plan) != QC_OK || look_at_reads(&w, !copied) != QC_OK))
        return QC_ERROR;
    if (plan->as_tensors)
        ct_take_ignore(plan);
    else
        ct_fill_ignore(plan, &w.quantized);
    ct_order_tensors(plan);
    return QC_OK;
}
