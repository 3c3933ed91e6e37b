/* SPDX-License-Identifier: MIT
 *
 * kv_cache.h - the element type of the KV cache, changed in the IR before a model is executed.
 *
 * Nothing of it is the executor's doing: codes get there through the pass quant-kv, static scales become the
 * constant 1 or those of random tokens, other types come through casts around cache_append. So what runs is
 * what the IR says.
 */
#ifndef QC_RUNTIME_KV_CACHE_H
#define QC_RUNTIME_KV_CACHE_H

#include "qc/ir.h"

typedef enum qc_kv_scales {
    QC_KV_SCALES_AUTO,       /* the model's where it has some, else 1 */
    QC_KV_SCALES_CHECKPOINT, /* the model's; an error where it has none */
    QC_KV_SCALES_ONE,        /* 1, whatever the model says */
    QC_KV_SCALES_RANDOM,     /* of QC_KV_RANDOM_SAMPLES sequences of random tokens */
} qc_kv_scales;

/* As `qc-opt --calib=random --calib-samples=4 --calib-seqlen=512 --seed=N` draws them. */
enum { QC_KV_RANDOM_SAMPLES = 4, QC_KV_RANDOM_TOKENS = 512 };

typedef struct qc_kv_cache_request {
    const char *dtype; /* as vLLM calls them (QC_KV_CACHE_DTYPES); NULL or "auto": as the model says */
    qc_kv_scales scales;
    uint64_t seed; /* of random tokens */
    /* Where these run. */
    int threads;
    const char *source;
} qc_kv_cache_request;

#define QC_KV_CACHE_DTYPES                                                                                   \
    "auto|bf16|fp8|fp8_e4m3|fp8_e5m2|int8|int4|nvfp4|fp8_per_token_head|int8_per_token_head|"                \
    "int4_per_token_head"

/* Rewrites every attention op of the module. `where` names the model in errors: codes of another kind than
 * the model's own, scales that there are not, attention that reads no cache. */
qc_status qc_kv_cache_apply(qc_module *module, const char *where, const qc_kv_cache_request *request);
/* "bf16", "f8e4m3", as keys are stored, "f8e4m3 and bf16" where values are not stored alike; "none" when the
 * module has no cache. */
const char *qc_kv_cache_type(const qc_module *module);

#endif
