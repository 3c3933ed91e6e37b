/* SPDX-License-Identifier: MIT
 *
 * quant.h - what the quantizing passes share: which modules they take, the symbols that record what was asked
 * for, and the quantization of attention. Everything here is built on include/qc alone, as a plug-in would
 * be.
 */
#ifndef QC_PASSES_QUANT_H
#define QC_PASSES_QUANT_H

#include "qc/pass.h"

/* Names of the rows of ir/dtype/arith.h; a test compares them. */
#define QC_ARITH_WORDS "ct_cpu|ct_cpu_bare"

/* Declares targets, ignore and arith. */
void qc_quant_add_options(qc_pass *pass, const char *default_targets, const char *targets_help);
/* Are the patterns of these LIST options (NULL-terminated) well formed? One of `ignore` that names no module with
 * an op of this name, most likely a slip, gets a warning. */
qc_status qc_quant_check_patterns(
    qc_pass_ctx *pc, const qc_module *module, const char *op_name, const char *const *options);
/* A map from pairs of (key, value), ended by a NULL key; pairs whose value is NULL are left out. */
const qc_attr *qc_quant_map(qc_ctx *ctx, const char *const *keys, const qc_attr *const *values);
/* The LIST option as an attribute, NULL when it is empty. */
const qc_attr *qc_quant_list_option(qc_pass_ctx *pc, const char *name);
/* A symbol of this kind with these fields: one that is there already under BASE, BASE_1, ..., or a new one.
 * `number` >= 0: names are BASE_<number> from that number on. */
const char *qc_quant_symbol(qc_pass_ctx *pc, qc_module *module, const char *kind, const char *base,
    int number, const qc_attr *fields);
/* bf16, f16, f32: what has no codes yet. */
bool qc_quant_is_plain(const qc_value *value);
bool qc_quant_is_returned(const qc_value *value);

/* scale = qparams x, codes = quantize x by part `arg` of @scheme, built at `b`. Hints are PREFIX_scale and
 * PREFIX_codes. */
qc_value *qc_quant_make(qc_pass_ctx *pc, qc_builder *b, qc_value *x, const char *scheme, const char *arg,
    const char *prefix, qc_value **scale);

/* One run over attention ops. */
typedef struct qc_quant_attention_request {
    const char *kind; /* of the symbol: scheme, kv_scheme */
    const char *base; /* its name */
    bool q, k, v;     /* which operands get codes */
} qc_quant_attention_request;

/* Declares granularity, type, observer (words `observers`) and layers, and what qc_quant_add_options does. */
void qc_quant_add_attention_options(qc_pass *pass, const char *observers);
/* Quantizes the chosen operands of every attention op that the options select; a remark for each other one.
 */
qc_pass_result qc_quant_attention(
    qc_pass_ctx *pc, qc_module *module, const qc_quant_attention_request *request);

#endif
