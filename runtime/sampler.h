/* SPDX-License-Identifier: MIT
 *
 * sampler.h - the next token from logits.
 *
 * Greedy without a temperature. With one: logits are divided by it, the top_k largest are kept, of those the
 * smallest set of likeliest whose probability reaches top_p, and one is drawn. Equal seeds give equal tokens
 * on every machine, from equal logits: the generator is that of ir/support/random.h, the exponential is the
 * IR's own, sums are f64 from the likeliest token down (from the first id up where nothing is sorted),
 * ties go to the smaller id.
 */
#ifndef QC_RUNTIME_SAMPLER_H
#define QC_RUNTIME_SAMPLER_H

#include "ir/support/diag.h"
#include "ir/support/random.h"

typedef struct qc_sampler_options {
    double temperature; /* 0: greedy */
    double top_p;       /* in (0, 1]; 1: off */
    int64_t top_k;      /* 0: off */
    uint64_t seed;
} qc_sampler_options;

typedef struct qc_sampler qc_sampler;

/* NULL after a diagnostic (memory). */
qc_sampler *qc_sampler_create(qc_diag *diag, size_t vocabulary, const qc_sampler_options *options);
void qc_sampler_destroy(qc_sampler *sampler); /* NULL is fine */
/* logits[vocabulary]. An error when the largest is NaN or infinite: such a model has no next token. */
qc_status qc_sampler_next(qc_sampler *sampler, qc_diag *diag, const float *logits, int32_t *token);

#endif
