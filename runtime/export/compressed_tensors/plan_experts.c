/* SPDX-License-Identifier: MIT
 *
 * plan_experts.c - what layers of experts store: of each expert what a linear of its own would, under the name of the
 * Linear that an expert_linear stands for ("...experts.3.gate_proj.weight").
 *
 * One expert's part of a bank is a copy of its expression in a scratch module (ir/experts.h), an ordinary weight expression
 * that is streamed like all others. The copies of one expert in a layer share what they have in common, so that a global
 * scale of gate and up is computed once. Experts that stay one tensor, which no pass has made linear layers of, are
 * copied as they are.
 *
 * llm-compressor stores experts by itself as soon as it has made linear layers of them, quantized or not, and so does
 * this: vLLM reads the experts of a model in one of the two forms.
 */
#include <string.h>

#include "runtime/check/allow.h"
#include "runtime/export/compressed_tensors/internal.h"

/* The experts of one node: of each a set of copies. */
typedef struct ct_experts {
    const qc_node *node;
    int64_t count;
    qc_expert_copy *copies;
} ct_experts;

static qc_builder *scratch_builder(ct_plan *plan)
{
    if (!plan->scratch) {
        plan->scratch = qc_experts_scratch(plan->module);
        plan->builder = qc_builder_at_end(qc_module_add_func(plan->scratch, "experts"));
    }
    return plan->builder;
}

static ct_experts *experts_of(ct_walk *w, const qc_op *op, int64_t count)
{
    ct_plan *plan = w->plan;
    const qc_node *node = qc_op_node(op);
    ct_experts *experts = qc_map_get_n(&plan->experts, (const char *)&node, sizeof node);
    if (experts)
        return experts;
    experts = QC_NEW(&plan->arena, ct_experts);
    *experts = (ct_experts){.node = node, .count = count};
    experts->copies = QC_NEW_ARRAY(&plan->arena, qc_expert_copy, (size_t)count + 1);
    for (int64_t e = 0; e < count; e++)
        qc_expert_copy_init(&experts->copies[e], &plan->arena, scratch_builder(plan), count, e);
    qc_map_set_n(&plan->experts, (const char *)&node, sizeof node, experts);
    return experts;
}

const qc_value *ct_site_value(const ct_site *site, const qc_value *value)
{
    return value && site->copy ? qc_expert_copy_value(site->copy, value) : value;
}

bool ct_is_of_expert(const ct_plan *plan, const qc_value *value)
{
    const qc_op *op = qc_value_op(value);
    return plan->scratch && op && qc_func_module(qc_op_func(op)) == plan->scratch;
}

/* ---- what is in a bank --------------------------------------------------------------------------------- */

/* Calls `visit` for every op below the value. */
static void visit_ops(ct_plan *plan, const qc_value *value, void (*visit)(void *, const qc_op *), void *user)
{
    qc_arena arena;
    qc_arena_init(&arena, plan->arena.oom);
    qc_map seen;
    qc_map_init(&seen, &arena);
    QC_VEC(const qc_value *) stack = {0};
    QC_PUSH(&arena, &stack, value);
    while (stack.count) {
        const qc_value *v = stack.items[--stack.count];
        const qc_op *op = v ? qc_value_op(v) : NULL;
        if (!op || !qc_map_set_n(&seen, (const char *)&v, sizeof v, NULL))
            continue;
        visit(user, op);
        for (size_t i = 0; i < qc_op_operand_count(op); i++)
            QC_PUSH(&arena, &stack, qc_op_operand(op, i));
    }
    qc_arena_fini(&arena);
}

/* The tensor of all experts goes when each has its own. */
static void drop_fused(void *user, const qc_op *op)
{
    ct_plan *plan = user;
    if (!qc_op_is(op, "weight"))
        return;
    const char *name = ct_text_attr(op, "tensor");
    const ct_tensor *t = qc_map_get(&plan->by_name, name);
    if (t && t->source == CT_COPY)
        qc_map_set(&plan->by_name, name, NULL);
}

typedef struct view {
    ct_walk *w;
    bool changed;
    qc_status status;
} view;

/* Experts in one tensor are stored as they were read: only casts of that tensor change it. */
static void look_at_view(void *user, const qc_op *op)
{
    static const char *const views[] = {"weight", "expert_weight", "slice", "transpose", "reshape", "const"};
    view *v = user;
    for (size_t i = 0; i < sizeof views / sizeof *views; i++)
        if (qc_op_is(op, views[i]))
            return;
    const qc_value *x = qc_op_is(op, "cast") ? qc_op_operand_named(op, "x") : NULL;
    if (!ct_made_by(x, "weight"))
        v->changed = true;
    else if (!ct_put_tensor(v->w, ct_text_attr(qc_value_op(x), "tensor"), qc_op_result(op, 0)))
        v->status = QC_ERROR;
}

static qc_status plan_fused(ct_walk *w, const qc_op *op, const qc_value *bank)
{
    view v = {.w = w, .status = QC_OK};
    const qc_value *codes = ct_made_by(bank, "dequantize") ? ct_operand(bank, "x") : NULL;
    if (ct_made_by(codes, "quantize")) {
        qc_ctx_error(w->plan->ctx, ct_where_of(op),
            "its experts are quantized but in one tensor, which no loader reads: they must become linear "
            "layers first");
        qc_ctx_note(w->plan->ctx, "--pass=linearize-moe does that");
        return QC_ERROR;
    }
    visit_ops(w->plan, bank, look_at_view, &v);
    if (v.changed) {
        qc_ctx_error(w->plan->ctx, ct_where_of(op),
            "its experts are one tensor, which is not stored as it is computed with");
        qc_ctx_note(w->plan->ctx, "--pass=linearize-moe makes linear layers of them");
        return QC_ERROR;
    }
    return v.status;
}

/* ---- experts by themselves ----------------------------------------------------------------------------- */

/* Is it the stored tensor of that name? */
static bool is_stored_as(const qc_value *value, const char *name)
{
    return ct_made_by(value, "weight") && strcmp(ct_text_attr(qc_value_op(value), "tensor"), name) == 0;
}

/* Plain numbers: nothing to do where they are a tensor of the source under the same name. */
static qc_status put_plain(ct_walk *w, const ct_site *site, const char *short_name, const qc_value *bank)
{
    const qc_value *value = ct_site_value(site, bank);
    if (!value)
        return QC_ERROR;
    if (is_stored_as(value, qc_arena_printf(&w->plan->arena, "%s.%s", site->path, short_name)))
        return QC_OK;
    return ct_put_value(w, site, short_name, value) ? QC_OK : QC_ERROR;
}

/* Everything that the codes of a bank need is known, and not still to be calibrated. */
static bool is_known(const ct_walk *w, const qc_value *codes)
{
    const qc_op *op = qc_value_op(codes);
    for (size_t i = 0; i < qc_op_operand_count(op); i++)
        if (qc_op_operand(op, i) && !ct_is_fixed(w, qc_op_operand(op, i)))
            return false;
    return true;
}

static qc_status plan_weight(ct_walk *w, const ct_site *site, const qc_value *bank)
{
    const qc_value *codes = ct_made_by(bank, "dequantize") ? ct_operand(bank, "x") : NULL;
    if (!ct_made_by(codes, "quantize"))
        return put_plain(w, site, "weight", bank);
    if (!is_known(w, codes)) {
        const qc_symbol *symbol = ct_symbol_of(w, qc_value_op(codes));
        return !symbol || ct_use_group(w, symbol, false, site) != QC_OK
                   ? QC_ERROR
                   : ct_unresolved(w, ct_where(site), "the weight");
    }
    const qc_value *part = ct_site_value(site, codes);
    return part ? ct_plan_codes(w, site, part) : QC_ERROR;
}

qc_status ct_plan_experts(ct_walk *w, const qc_op *op)
{
    ct_plan *plan = w->plan;
    const qc_value *bank = qc_op_operand_named(op, "w"), *bias = qc_op_operand_named(op, "bias");
    const int64_t count = qc_bank_experts(bank);
    if (!ct_is_fixed(w, bank) || (bias && !ct_is_fixed(w, bias)))
        return qc_ctx_error(plan->ctx, ct_where_of(op), "its weights depend on the model's inputs");
    if (!qc_op_node(op) || count < 1)
        return qc_ctx_error(
            plan->ctx, ct_where_of(op), "experts outside the module tree have no tensor names");
    if (!qc_op_attr(op, "module"))
        return plan_fused(w, op, bank) == QC_OK && (!bias || plan_fused(w, op, bias) == QC_OK) ? QC_OK
                                                                                               : QC_ERROR;
    ct_experts *experts = experts_of(w, op, count);
    if (experts->count != count)
        return qc_ctx_error(plan->ctx, ct_where_of(op), "has banks of %lld and of %lld experts",
            (long long)experts->count, (long long)count);
    visit_ops(plan, bank, drop_fused, plan);
    if (bias)
        visit_ops(plan, bias, drop_fused, plan);
    for (int64_t e = 0; e < count; e++) {
        ct_site site = {.op = op, .path = qc_expert_path(&plan->arena, op, e), .copy = &experts->copies[e]};
        site.node = qc_module_find_node(plan->module, site.path);
        if (!site.node)
            return qc_ctx_error(plan->ctx, site.path, "an expert's linear layer is not in the module tree");
        qc_map_set_n(&plan->linears, (const char *)&site.node, sizeof site.node, (void *)(uintptr_t)op);
        if (plan_weight(w, &site, bank) != QC_OK || (bias && put_plain(w, &site, "bias", bias) != QC_OK))
            return QC_ERROR;
    }
    QC_PUSH(&plan->arena, &plan->banks, op);
    return QC_OK;
}

void ct_close_experts(ct_plan *plan)
{
    if (plan->scratch)
        qc_module_destroy(plan->scratch);
    plan->builder = NULL;
    plan->scratch = NULL;
}
