/* SPDX-License-Identifier: MIT
 *
 * quant_kv.c - FP8 or INT8 codes in the KV cache; queries stay as they are. The mechanics are in quant_attention.c.
 */
#include "passes/quant.h"

void qc_pass_quant_kv(qc_registry *registry);

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    qc_quant_attention_request request = {.kind = "kv_scheme", .base = "kv", .k = true, .v = true};
    return qc_quant_attention(pc, module, &request);
}

void qc_pass_quant_kv(qc_registry *registry)
{
    qc_pass *pass = qc_registry_add(registry, "quant-kv", "Quantize the KV cache to FP8 or INT8", run);
    qc_pass_set_licence(pass, QC_LICENCE_LOSSY);
    qc_pass_set_description(pass, "As `quant-fp8-attn`, for k and v alone, recorded as a `kv_scheme`. The "
                                  "observer `unset` folds as `minmax` and "
                                  "is written\nas null where a file format records the observer. vLLM reads "
                                  "no INT8 cache; qc-run does.");
    qc_quant_add_attention_options(pass, "e4m3|e5m2|int8", QC_ATTENTION_OBSERVERS "|unset");
}
