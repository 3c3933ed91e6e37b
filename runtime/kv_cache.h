/* SPDX-License-Identifier: MIT
 *
 * kv_cache.h - the element type of the KV cache, changed in the IR before a model is executed.
 *
 * Nothing of it is the executor's doing: FP8 codes get there through the pass quant-kv, whose scales are
 * replaced by the constant 1, other types through casts around cache_append. So what runs is what the IR
 * says.
 */
#ifndef QC_RUNTIME_KV_CACHE_H
#define QC_RUNTIME_KV_CACHE_H

#include "qc/ir.h"

typedef enum qc_kv_scales {
    QC_KV_SCALES_AUTO,       /* the model's where it has some, else 1 */
    QC_KV_SCALES_CHECKPOINT, /* the model's; an error where it has none */
    QC_KV_SCALES_ONE,        /* 1, whatever the model says */
} qc_kv_scales;

typedef struct qc_kv_cache_request {
    qc_dtype dtype; /* QC_BF16, QC_F8E4M3, QC_F8E5M2; QC_DTYPE_NONE: as the model says */
    qc_kv_scales scales;
} qc_kv_cache_request;

/* Rewrites every attention op of the module. `where` names the model in errors: codes of another type than
 * the model's own scales are for, attention that reads no cache. */
qc_status qc_kv_cache_apply(qc_module *module, const char *where, const qc_kv_cache_request *request);
/* "bf16", "f8e4m3", as stored; "none" when the module has no cache. */
const char *qc_kv_cache_type(const qc_module *module);

#endif
