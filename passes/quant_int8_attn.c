/* SPDX-License-Identifier: MIT
 *
 * quant_int8_attn.c - INT8 or INT4 codes for q, k and v of attention. The mechanics are in quant_attention.c.
 */
#include "passes/quant.h"

void qc_pass_quant_int8_attn(qc_registry *registry);

static const qc_quant_attention_pass what = {
    .kind = "scheme",
    .base = "attention",
    .types = "int8|int4",
    .type = "int8",
    .granularities = "tensor|head|channel|token",
    .observers = QC_ATTENTION_OBSERVERS,
    .searches = "none|mse",
    .queries = true,
};

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    return qc_quant_attention(pc, module, &what);
}

void qc_pass_quant_int8_attn(qc_registry *registry)
{
    qc_pass *pass =
        qc_registry_add(registry, "quant-int8-attn", "Quantize q, k and v of attention to INT8 or INT4", run);
    qc_pass_set_licence(pass, QC_LICENCE_LOSSY);
    qc_pass_set_description(pass,
        "As `quant-fp8-attn`, with symmetric integer codes. vLLM reads no such checkpoint; qc-run runs it.");
    qc_quant_add_attention_options(pass, &what);
}
