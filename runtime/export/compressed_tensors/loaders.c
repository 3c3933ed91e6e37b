/* SPDX-License-Identifier: MIT
 *
 * loaders.c - what vLLM will refuse of the checkpoint's config groups and cache scheme, told before the work starts. The
 * rules are those of qc-check --target=vllm, applied to the quantization_config that will be written.
 */
#include "runtime/check/quant.h"
#include "runtime/export/compressed_tensors/internal.h"

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
