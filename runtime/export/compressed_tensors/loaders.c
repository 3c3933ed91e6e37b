/* SPDX-License-Identifier: MIT
 *
 * loaders.c - what vLLM will refuse of the checkpoint's config groups and cache scheme, told before the work starts. The
 * rules are those of qc-check --target=vllm, applied to the quantization_config that will be written.
 */
#include <string.h>

#include "runtime/check/allow.h"
#include "runtime/check/quant.h"
#include "runtime/export/compressed_tensors/internal.h"

/* The scheme of a bank's weights; NULL: they are plain. */
static const qc_symbol *scheme_of(const ct_plan *plan, const qc_op *bank)
{
    const qc_value *w = qc_op_operand_named(bank, "w");
    const qc_value *codes = ct_made_by(w, "dequantize") ? ct_operand(w, "x") : NULL;
    return ct_made_by(codes, "quantize")
               ? qc_module_find_symbol(plan->module, ct_text_attr(qc_value_op(codes), "scheme"))
               : NULL;
}

static bool same_numbers(const qc_symbol *a, const qc_symbol *b)
{
    static const char *const fields[] = {"weights", "input"};
    bool same = a && b;
    for (size_t i = 0; same && a != b && i < 2; i++) {
        const qc_attr *x = qc_attr_find(qc_symbol_fields(a), fields[i]),
                      *y = qc_attr_find(qc_symbol_fields(b), fields[i]);
        same = x == y || (x && y && qc_attr_equal(x, y));
    }
    return same;
}

/* The group of config.json that the scheme became. */
static const check_group *group_of_scheme(ct_plan *plan, const check_model *model, const qc_symbol *symbol)
{
    const ct_group *g = ct_find_group(plan, symbol, false);
    const char *name = g ? ct_group_name(plan, (size_t)(g - plan->groups.items)) : "";
    for (size_t i = 0; i < model->group_count; i++)
        if (strcmp(model->groups[i].name, name) == 0)
            return &model->groups[i];
    return NULL;
}

/* Rows of gate and up lie in one tensor there, and their blocks are not cut off. */
static qc_status check_blocks(ct_plan *plan, const qc_op *bank, const qc_symbol *symbol)
{
    const ct_group *g = ct_find_group(plan, symbol, false);
    const qc_type *type = qc_value_type(qc_op_operand_named(bank, "w"));
    const qc_scheme_part *part = g ? &g->weights.part : NULL;
    const char *module = ct_text_attr(bank, "module");
    int64_t rows;
    if (!part || part->granularity != QC_GRANULARITY_BLOCK || qc_ends_with(module, ".down_proj") ||
        qc_ends_with(module, ".w2") || qc_type_rank(type) != 3 ||
        !qc_dim_as_int(qc_type_dim(type, 1), &rows) || rows % part->block_rows == 0)
        return QC_OK;
    return ct_refuse(plan, QC_RULE_EXPERTS, ct_where_of(bank),
        "vLLM refuses it: blocks of %lld rows do not divide the %lld of its experts",
        (long long)part->block_rows, (long long)rows);
}

/* Is the first expert's module in the group under the name by which vLLM asks for it? */
static bool is_found(ct_plan *plan, const ct_group *g, const qc_op *bank)
{
    const char *path = qc_expert_path(&plan->arena, bank, 0), *alias = ct_expert_alias(&plan->arena, path);
    const qc_node *own = qc_module_find_node(plan->module, path), *node;
    if (!alias || !own || g->named)
        return true;
    node = qc_module_find_node(plan->scratch, alias);
    node = node ? node : qc_module_add_node(plan->scratch, alias, qc_node_class(own));
    for (size_t i = 0; i < qc_attr_count(g->targets); i++)
        if (qc_node_matches(node, qc_attr_as_text(qc_attr_item(g->targets, i))))
            return true;
    return false;
}

static qc_status check_name(ct_plan *plan, const qc_op *bank, const qc_symbol *symbol)
{
    const ct_group *g = ct_find_group(plan, symbol, false);
    if (!g || is_found(plan, g, bank))
        return QC_OK;
    return ct_refuse(plan, QC_RULE_EXPERTS, ct_where_of(bank),
        "vLLM asks for the scheme of %s, which no target of @%s names",
        ct_expert_alias(&plan->arena, qc_expert_path(&plan->arena, bank, 0)), qc_symbol_name(symbol));
}

/* Experts with biases are those of gpt-oss. Its loader in vLLM takes names of all experts together, and passes over others
 * without a word; read there, not seen running. */
static void warn_of_biases(ct_plan *plan)
{
    for (size_t i = 0; i < plan->banks.count; i++) {
        const qc_op *bank = plan->banks.items[i];
        if (!qc_op_operand_named(bank, "bias") || !scheme_of(plan, bank))
            continue;
        plan->not_for_vllm = true;
        if (!plan->quiet)
            qc_warning(qc_ctx_diag(plan->ctx), ct_where_of(bank),
                "its experts have biases (gpt-oss): vLLM's loader of that model knows no names of single "
                "experts, as "
                "llm-compressor and qc write them; make sure that yours does");
        return;
    }
}

/* Experts of one node are one layer of vLLM. */
static qc_status check_experts(ct_plan *plan, const check_model *model)
{
    for (size_t i = 0; i < plan->banks.count; i++) {
        const qc_op *bank = plan->banks.items[i];
        const qc_symbol *symbol = scheme_of(plan, bank);
        for (size_t k = i + 1; k < plan->banks.count; k++) {
            const qc_symbol *other = scheme_of(plan, plan->banks.items[k]);
            if (qc_op_node(plan->banks.items[k]) != qc_op_node(bank) || symbol == other ||
                same_numbers(symbol, other))
                continue;
            if (ct_refuse(plan, QC_RULE_EXPERTS, ct_where_of(bank),
                    symbol && other
                        ? "its experts are quantized by two schemes, and vLLM reads a layer in one"
                        : "its experts are quantized in part, and vLLM reads all of a layer or none") !=
                QC_OK)
                return QC_ERROR;
            break;
        }
        const check_group *g = symbol ? group_of_scheme(plan, model, symbol) : NULL;
        const char *why = g ? check_vllm_experts(g) : NULL;
        if ((why &&
                ct_refuse(plan, QC_RULE_EXPERTS, ct_where_of(bank), "vLLM refuses it: %s", why) != QC_OK) ||
            (symbol &&
                (check_blocks(plan, bank, symbol) != QC_OK || check_name(plan, bank, symbol) != QC_OK)))
            return QC_ERROR;
    }
    return QC_OK;
}

qc_status ct_warn_of_loaders(ct_plan *plan)
{
    static const char repack[] = "must be stored as pack-quantized";
    qc_diag *diag = qc_ctx_diag(plan->ctx);
    qc_json *config = qc_json_new(&plan->arena, QC_JSON_OBJECT);
    qc_json_set(&plan->arena, config, "quantization_config", ct_quantization_config(plan, &plan->arena));
    const qc_st_set none = {0};
    check_model model;
    check_verdict verdict = {0};
    qc_status status = check_model_open(diag, &plan->arena, "quantization_config", &none, config, &model);
    if (status == QC_OK)
        check_vllm_config(&model, &verdict);
    if (status == QC_OK)
        status = check_experts(plan, &model);
    if (status == QC_OK)
        warn_of_biases(plan);
    check_model_close(&model);
    for (size_t i = 0; i < verdict.findings.count; i++) {
        const char *what = verdict.findings.items[i].what;
        plan->not_for_vllm = true;
        if (plan->quiet)
            continue;
        qc_warning(diag, "quantization_config", "vLLM will refuse it: %s", what);
        if (strstr(what, repack))
            qc_ctx_note(plan->ctx, "--format=pack-quantized stores it so");
    }
    return status;
}
