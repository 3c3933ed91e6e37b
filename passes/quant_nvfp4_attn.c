/* SPDX-License-Identifier: MIT
 *
 * quant_nvfp4_attn.c - NVFP4 codes for q, k and v of attention: E2M1 in groups of 16 columns, an E4M3 scale for each
 * group, relative to one of the tensor. The mechanics are in quant_attention.c.
 */
#include "passes/quant.h"

void qc_pass_quant_nvfp4_attn(qc_registry *registry);

static const qc_quant_attention_pass what = {
    .kind = "scheme",
    .base = "attention",
    .type = "nvfp4",
    .observers = QC_ATTENTION_GLOBAL_OBSERVERS,
    .searches = "none|mse|four_six",
    .queries = true,
};

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    return qc_quant_attention(pc, module, &what);
}

void qc_pass_quant_nvfp4_attn(qc_registry *registry)
{
    qc_pass *pass =
        qc_registry_add(registry, "quant-nvfp4-attn", "Quantize q, k and v of attention to NVFP4", run);
    qc_pass_set_licence(pass, QC_LICENCE_LOSSY);
    qc_pass_set_description(pass,
        "As `quant-fp8-attn`, with E2M1 codes in groups of 16 columns. The scales of groups are E4M3 and "
        "computed as the model runs;\nthe scale of the tensor, to which they are relative, is static. They "
        "are "
        "the largest magnitude over 6, unless `search` says\notherwise: `mse` takes the scale of least "
        "squared "
        "error among those up to five codes from it, `four_six` the better of the\nlargest magnitude over 6 "
        "and over 4. A search needs scales above the largest plain one, so the static scale leaves room for\n"
        "them (256 in place of 448). The head dimension must be a multiple of 16. vLLM reads no such "
        "checkpoint; qc-run runs it.");
    qc_quant_add_attention_options(pass, &what);
}
