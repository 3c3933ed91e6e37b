/* SPDX-License-Identifier: MIT
 *
 * quant_kv.c - codes in the KV cache; queries stay as they are. The mechanics are in quant_attention.c.
 */
#include "passes/quant.h"

void qc_pass_quant_kv(qc_registry *registry);

static const qc_quant_attention_pass what = {
    .kind = "kv_scheme",
    .base = "kv",
    .types = "e4m3|e5m2|int8|int4|nvfp4",
    .type = "e4m3",
    .granularities = "tensor|head|channel|token",
    .observers = QC_ATTENTION_OBSERVERS "|unset",
    .searches = "none|mse|four_six",
};

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    return qc_quant_attention(pc, module, &what);
}

void qc_pass_quant_kv(qc_registry *registry)
{
    qc_pass *pass =
        qc_registry_add(registry, "quant-kv", "Quantize the KV cache to FP8, INT8, INT4 or NVFP4", run);
    qc_pass_set_licence(pass, QC_LICENCE_LOSSY);
    qc_pass_set_description(pass,
        "As `quant-fp8-attn`, for k and v alone, recorded as a `kv_scheme`. Granularity `channel` is for "
        "integers; `nvfp4` takes none\nand has the searches of `quant-nvfp4-attn`. The observer `unset` "
        "folds "
        "as `minmax` and is written as null where a file format\nrecords the observer. vLLM reads FP8 caches "
        "alone; qc-run runs all.\n"
        "Where attention is latent (MLA), what is quantized is the entry of its cache, `latent_kv`: the "
        "latent "
        "and the rotated key that\nall heads share, under one static scale.");
    qc_quant_add_attention_options(pass, &what);
}
