/* SPDX-License-Identifier: MIT
 *
 * rope.h - inverse frequencies of rotary position embeddings, for the interpreter and the executors.
 */
#ifndef QC_IR_ROPE_H
#define QC_IR_ROPE_H

#include "ir/support/diag.h"
#include "qc/ir.h"

/* Fills inv_freq[dims / 2], in radians a position, and the factor of cos and sin. `scaling` is NULL or a map
 * as in docs/ops.md (rope_cos): `type` default, linear, dynamic, llama3, yarn or longrope, and that type's
 * parameters by their names in config.json. sequence_length is the largest position plus one; only `dynamic` and
 * `longrope` look at it. Errors: odd dims, parameters that are missing or out of range, unknown types. */
qc_status qc_rope_frequencies(qc_diag *diag, const qc_attr *scaling, double theta, int64_t dims,
    int64_t sequence_length, float *inv_freq, float *attention_factor);

/* Do the frequencies of this scaling depend on sequence_length? */
bool qc_rope_depends_on_length(const qc_attr *scaling);

#endif
