/* SPDX-License-Identifier: MIT
 *
 * lower.h - what the passes of the lowered form share: lower-quant, lower-kv-cache, lower-attention.
 *
 * Lowered form: `cache_write` in place of `cache_append` (and of a `quantize` before it), `cache_read` for
 * readers of a cache other than attention, `quantized_attention` in place of `attention`. Each pass knows the
 * ops of both forms, so that the result does not depend on their order.
 */
#ifndef QC_PASSES_LOWER_H
#define QC_PASSES_LOWER_H

#include "qc/pass.h"

/* The passes in the order in which the executor runs them. */
#define QC_LOWER_PIPELINE "lower-quant,lower-kv-cache,lower-attention"

/* The first op of lowered form in the module, NULL when there is none. Such a module is to be executed, not to
 * be calibrated or written as a checkpoint. */
const qc_op *qc_lowered_op(const qc_module *module);

/* The op that makes the value, if it has one of these two names. */
qc_op *qc_lower_maker(const qc_value *value, const char *name, const char *other);
/* cache_append or cache_write; attention or quantized_attention. */
bool qc_lower_is_cache(const qc_op *op);
bool qc_lower_is_attention(const qc_op *op);
/* Erases the op if nobody reads its result. */
void qc_lower_erase_unused(qc_op *op);
/* Gives the op being built all operands and written attributes of `op`. */
void qc_lower_copy(qc_builder *b, const qc_op *op);

#endif
