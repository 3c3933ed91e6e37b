/* SPDX-License-Identifier: MIT
 *
 * quant_int8_attn.c - INT8 codes for q, k and v of attention, with one scale a tensor or a head. The mechanics
 * are in quant_attention.c.
 */
#include "passes/quant.h"

void qc_pass_quant_int8_attn(qc_registry *registry);

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    qc_quant_attention_request request = {
        .kind = "scheme",
        .base = "attention",
        .type = "i8",
        .q = qc_pass_option_bool(pc, "q"),
        .k = qc_pass_option_bool(pc, "k"),
        .v = qc_pass_option_bool(pc, "v"),
    };
    if (!request.q && !request.k && !request.v)
        return qc_pass_fail(pc, NULL, "q, k and v are all switched off: nothing is left to quantize");
    return qc_quant_attention(pc, module, &request);
}

void qc_pass_quant_int8_attn(qc_registry *registry)
{
    qc_pass *pass =
        qc_registry_add(registry, "quant-int8-attn", "Quantize q, k and v of attention to INT8", run);
    qc_pass_set_licence(pass, QC_LICENCE_LOSSY);
    qc_pass_set_description(pass,
        "As `quant-fp8-attn`, with symmetric INT8 codes. vLLM reads no such checkpoint; qc-run runs it.");
    qc_quant_add_attention_options(pass, NULL, QC_ATTENTION_OBSERVERS);
    qc_pass_add_option(pass, "q", QC_OPTION_BOOL, "true", NULL, "quantize the queries");
    qc_pass_add_option(pass, "k", QC_OPTION_BOOL, "true", NULL, "quantize the keys");
    qc_pass_add_option(pass, "v", QC_OPTION_BOOL, "true", NULL, "quantize the values");
}
