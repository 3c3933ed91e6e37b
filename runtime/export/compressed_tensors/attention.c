/* SPDX-License-Identifier: MIT
 *
 * attention.c - what attention modules store: q_scale, k_scale and v_scale where scales are static, [1], [heads, 1, 1] or
 * [heads, 1, d]; q_global_scale and so on, F32 [1], where they are made as the model runs under a static global scale;
 * k_center [heads, 1, d], what keys are centered by.
 *
 * For an attention group zero points (zeros) go with static scales, which llm-compressor writes although the scheme is
 * symmetric; under a kv_cache_scheme alone they do not. No loader but qc's knows k_center, nor scales of NVFP4 here.
 *
 * A latent cache (MLA) has one scale for the latent and the shared rotated key; it is written as k_scale and as v_scale, which
 * vLLM's MLA reads the first of.
 */
#include <string.h>

#include "runtime/export/compressed_tensors/internal.h"

static void warn_of_attention(ct_walk *w, const qc_op *op, const qc_symbol *symbol)
{
    const qc_attr *targets = qc_attr_find(qc_symbol_fields(symbol), "targets");
    if (w->plan->quiet)
        return;
    if (qc_attr_count(targets) == 1 && qc_ends_with(qc_attr_as_text(qc_attr_item(targets, 0)), "Attention"))
        return;
    for (size_t i = 0; i < w->plan->groups.count; i++)
        if (ct_same_group(w->plan->groups.items[i].symbol, symbol))
            return; /* said before */
    qc_warning(qc_ctx_diag(w->plan->ctx), ct_where_of(op),
        "vLLM reads a group of attention only with one target that ends in Attention, such as %s",
        qc_op_node(op) ? qc_node_class(qc_op_node(op)) : "LlamaAttention");
}

/* The quantize op whose codes attention takes as operand `name`, seen through the cache. */
static const qc_op *quantize_of(const qc_op *attention, const char *name)
{
    const qc_value *value = qc_op_operand_named(attention, name);
    while (ct_made_by(value, "cache_append"))
        value = ct_operand(value, "x");
    return ct_made_by(value, "quantize") ? qc_value_op(value) : NULL;
}

/* Zeros beside a static scale. */
static qc_status put_zero_point(
    ct_walk *w, const qc_op *op, const char *slot, const ct_tensor *scale, const qc_op *quantize)
{
    ct_plan *plan = w->plan;
    const qc_dtype code = qc_type_dtype(qc_value_type(qc_op_result(quantize, 0)));
    ct_tensor *zero = QC_NEW(&plan->arena, ct_tensor);
    *zero = *scale;
    zero->name = qc_arena_printf(&plan->arena, "%s.%s_zero_point", ct_path_of(op), slot);
    zero->dtype = qc_dtype_safetensors_name(qc_dtype_is_int(code) ? QC_I8 : code);
    zero->source = CT_ZEROS;
    zero->value = NULL;
    if (!qc_map_set(&plan->by_name, zero->name, zero))
        return qc_ctx_error(plan->ctx, zero->name, "the checkpoint already holds a tensor of this name");
    QC_PUSH(&plan->arena, &plan->tensors, zero);
    return QC_OK;
}

/* The constant that is taken from the keys before they are quantized. */
static qc_status plan_center(ct_walk *w, const qc_op *op, const qc_op *quantize)
{
    const qc_value *x = qc_op_operand_named(quantize, "x");
    if (!ct_made_by(x, "sub"))
        return QC_OK;
    const qc_value *center = ct_operand(x, "z");
    if (ct_refuse(w->plan, QC_RULE_CENTER_K, ct_where_of(op),
            "the mean of each channel is taken from k, which vLLM does not do") != QC_OK)
        return QC_ERROR;
    if (!ct_is_fixed(w, center))
        return ct_unresolved(w, ct_where_of(op), "k");
    const ct_site site = ct_site_of(op);
    return ct_put_value(w, &site, "k_center", center) ? QC_OK : QC_ERROR;
}

/* Scales that are made as the model runs leave their global scale, if they have one. */
static qc_status plan_dynamic(ct_walk *w, const qc_op *op, const char *slot)
{
    qc_arena *arena = &w->plan->arena;
    const qc_value *global = qc_op_operand_named(op, qc_arena_printf(arena, "%s_global", slot));
    if (!global)
        return QC_OK;
    if (!ct_is_fixed(w, global))
        return ct_unresolved(w, ct_where_of(op), slot);
    const ct_site site = ct_site_of(op);
    return ct_put_value(w, &site, qc_arena_printf(arena, "%s_global_scale", slot), global) ? QC_OK : QC_ERROR;
}

/* What vLLM does not read of the scheme, by rules that can be allowed. */
static qc_status check_loader(ct_plan *plan, const qc_op *op, const ct_args *args)
{
    const char *where = ct_where_of(op);
    if (args->local)
        return ct_refuse(plan, QC_RULE_NVFP4_ATTENTION, where,
            "attention or its KV cache is in NVFP4, which vLLM does not read from a checkpoint");
    if (args->dynamic || args->part.granularity == QC_GRANULARITY_CHANNEL)
        return ct_refuse(plan, QC_RULE_ATTENTION_SCALES, where,
            "vLLM does not read scales of granularity %s for attention and the KV cache",
            qc_granularity_name(args->part.granularity));
    return QC_OK;
}

static qc_status plan_slot(ct_walk *w, const qc_op *op, const char *slot, const qc_symbol **symbol)
{
    ct_plan *plan = w->plan;
    const char *scale_name = qc_arena_printf(&plan->arena, "%s_scale", slot);
    const qc_value *scale = qc_op_operand_named(op, scale_name);
    const qc_op *quantize = quantize_of(op, slot);
    *symbol = NULL;
    if (!scale && !quantize)
        return QC_OK;
    if (!scale || !quantize)
        return qc_ctx_error(plan->ctx, ct_where_of(op), "%s has %s", slot,
            scale ? "a scale but is not quantized" : "codes but no scale");
    *symbol = ct_symbol_of(w, quantize);
    if (!*symbol)
        return QC_ERROR;
    ct_args args;
    if (strcmp(slot, "k") == 0 && plan_center(w, op, quantize) != QC_OK)
        return QC_ERROR;
    if (ct_read_args(plan, *symbol, "input", &args) != QC_OK || check_loader(plan, op, &args) != QC_OK)
        return QC_ERROR;
    if (args.part.dynamic)
        return plan_dynamic(w, op, slot);
    if (!ct_is_fixed(w, scale))
        return ct_unresolved(w, ct_where_of(op), slot);
    const ct_site site = ct_site_of(op);
    ct_tensor *s = ct_put_value(w, &site, scale_name, scale);
    if (!s || strcmp(qc_symbol_kind(*symbol), "kv_scheme") == 0)
        return s ? QC_OK : QC_ERROR;
    return put_zero_point(w, op, slot, s, quantize);
}

/* Would a loader make the same codes of both? */
static bool is_same_scheme(const ct_args *a, const ct_args *b)
{
    return a->part.type == b->part.type && a->dynamic == b->dynamic && strcmp(a->strategy, b->strategy) == 0;
}

bool ct_is_latent(const ct_walk *w, const qc_op *attention)
{
    const qc_node *node = qc_op_node(attention);
    return node && qc_map_find_n(&w->latents, (const char *)&node, sizeof node);
}

static qc_status refuse_latent(ct_plan *plan, const qc_op *op)
{
    return ct_refuse(plan, QC_RULE_LATENT, ct_where_of(op),
        "q, k and v of latent attention (MLA) are quantized, but what vLLM caches is the latent: it would "
        "take k_scale "
        "for that one's");
}

/* The cache of this module is quantized so. */
static qc_status use_kv(ct_plan *plan, const qc_op *op, const ct_args *args)
{
    if (plan->kv.present && !is_same_scheme(args, &plan->kv))
        return qc_ctx_error(plan->ctx, ct_where_of(op),
            "compressed-tensors has one kv_cache_scheme for all attention modules; this one is quantized "
            "another way");
    plan->kv = *args;
    return QC_OK;
}

qc_status ct_plan_latent(ct_walk *w, const qc_op *quantize)
{
    ct_plan *plan = w->plan;
    const qc_value *scale = qc_op_operand_named(quantize, "scale");
    const ct_site site = ct_site_of(qc_value_op(qc_op_operand_named(quantize, "x")));
    const qc_symbol *symbol = ct_symbol_of(w, quantize);
    ct_args args;
    if (!symbol || ct_read_args(plan, symbol, "input", &args) != QC_OK)
        return QC_ERROR;
    if (strcmp(qc_symbol_kind(symbol), "kv_scheme") != 0 || !args.present || args.part.dynamic ||
        args.part.granularity != QC_GRANULARITY_TENSOR)
        return qc_ctx_error(plan->ctx, ct_where(&site),
            "a latent cache is written under a kv_scheme with one static scale, which @%s is not",
            qc_symbol_name(symbol));
    qc_map_set_n(&w->latents, (const char *)&site.node, sizeof site.node, (void *)(uintptr_t)quantize);
    plan->kv_only = true;
    if (use_kv(plan, quantize, &args) != QC_OK)
        return QC_ERROR;
    if (!ct_is_fixed(w, scale))
        return ct_unresolved(w, ct_where(&site), "the latent");
    return ct_put_value(w, &site, "k_scale", scale) && ct_put_value(w, &site, "v_scale", scale) ? QC_OK
                                                                                                : QC_ERROR;
}

qc_status ct_plan_attention(ct_walk *w, const qc_op *op)
{
    ct_plan *plan = w->plan;
    const qc_symbol *q, *k, *v;
    QC_PUSH(&plan->arena, &w->attentions, op);
    if (qc_op_attr_given(op, "probs_codes")) {
        qc_ctx_error(plan->ctx, ct_where_of(op),
            "probs: compressed-tensors has no word for quantized probabilities, so no reader would make "
            "them");
        qc_ctx_note(plan->ctx, "-o FILE.qc writes the model as IR, which qc-run runs");
        return QC_ERROR;
    }
    if (plan_slot(w, op, "q", &q) != QC_OK || plan_slot(w, op, "k", &k) != QC_OK ||
        plan_slot(w, op, "v", &v) != QC_OK)
        return QC_ERROR;
    if (!q && !k && !v)
        return QC_OK;
    if (k != v || (q && q != k))
        return qc_ctx_error(plan->ctx, ct_where_of(op),
            "compressed-tensors has one scheme for q, k and v, or one for k and v; here they differ");
    bool kv_only = strcmp(qc_symbol_kind(k), "kv_scheme") == 0;
    if (kv_only == (q != NULL))
        return qc_ctx_error(plan->ctx, ct_where_of(op),
            kv_only ? "a kv_scheme does not quantize q"
                    : "a scheme of attention quantizes q, k and v in compressed-tensors; for k and v alone "
                      "there is quant-kv");
    ct_args args;
    if (ct_read_args(plan, k, "input", &args) != QC_OK)
        return QC_ERROR;
    if (!args.present)
        return qc_ctx_error(plan->ctx, ct_where_of(op), "the scheme @%s has no input", qc_symbol_name(k));
    if (use_kv(plan, op, &args) != QC_OK || (ct_is_latent(w, op) && refuse_latent(plan, op) != QC_OK))
        return QC_ERROR;
    plan->kv_only |= kv_only;
    if (kv_only)
        return QC_OK;
    warn_of_attention(w, op, k);
    const ct_site site = ct_site_of(op);
    return ct_use_group(w, k, true, &site);
}
