/* SPDX-License-Identifier: MIT
 *
 * quant_fp8_attn.c - FP8 codes for q, k and v of attention. The mechanics are in quant_attention.c.
 */
#include "passes/quant.h"

void qc_pass_quant_fp8_attn(qc_registry *registry);

static const qc_quant_attention_pass what = {
    .kind = "scheme",
    .base = "attention",
    .types = "e4m3|e5m2",
    .type = "e4m3",
    .granularities = "tensor|head|token",
    .observers = QC_ATTENTION_OBSERVERS,
    .searches = "none|mse",
    .queries = true,
};

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    return qc_quant_attention(pc, module, &what);
}

void qc_pass_quant_fp8_attn(qc_registry *registry)
{
    qc_pass *pass =
        qc_registry_add(registry, "quant-fp8-attn", "Quantize q, k and v of attention to FP8", run);
    qc_pass_set_licence(pass, QC_LICENCE_LOSSY);
    qc_pass_set_description(pass,
        "Adds a `scheme` and, for each selected attention op, `qparams` and `quantize` for q after RoPE and "
        "rotations and for k and\nv before the cache, which then holds codes; attention takes the scales as "
        "operands. Static scales become constants through\n`insert-observers`, `calibrate` and "
        "`resolve-observers`. Those of granularity `token` are computed as the model runs, in f32,\nand "
        "stand "
        "in a cache of their own.\n\n"
        "`center_k` subtracts from the keys the mean that calibration gives for each column: q (k - m) is q "
        "k "
        "less a number that all\nkeys of a query share, which softmax does not see, and what all keys have "
        "in "
        "common takes no codes. `probs` rounds the\nexponentials of the softmax to codes, as kernels do, "
        "while their sum stays exact.");
    qc_quant_add_attention_options(pass, &what);
}
