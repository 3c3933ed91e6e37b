/* SPDX-License-Identifier: MIT
 *
 * reference.h - runs functions of the IR with their reference semantics: one op after another through its
 * hook, composite ops through their decompositions, elements rounded where the types say so and nowhere else.
 * Slow; what other backends are compared with, and what evaluates expressions over weights.
 *
 * Dimensions. The arguments' types bind symbols from the shapes of the inputs; P, the tokens in the cache, is
 * bound to what earlier runs left there. A symbol that nothing binds is an error, as is an input that
 * contradicts its type.
 *
 * Memory. Every value is one malloc'ed buffer, freed after its last use. Inputs are borrowed. Outputs belong
 * to the caller, who frees them with qc_tensor_free.
 */
#ifndef QC_REFERENCE_REFERENCE_H
#define QC_REFERENCE_REFERENCE_H

#include "ir/tensor.h"

/* The symbol of tokens in the cache. */
#define QC_REFERENCE_PAST "P"

typedef struct qc_reference qc_reference;

typedef struct qc_reference_options {
    void *user;
    /* Gives a tensor of the checkpoint, borrowed until the next call; NULL: functions that read weights fail.
     */
    qc_status (*weight)(void *user, qc_diag *diag, const char *name, qc_tensor *stored);
    /* Sees every value of the function (not of decompositions) when it has been computed; may be NULL. */
    void (*observe)(void *user, const qc_value *value, const qc_tensor *tensor);
} qc_reference_options;

/* For functions of one module, which must outlive it. Holds the cache (state of cache_append) and
 * decompositions. `options` is copied, NULL: none. NULL after a diagnostic. */
qc_reference *qc_reference_create(const qc_module *module, const qc_reference_options *options);
void qc_reference_destroy(qc_reference *reference);
/* Empties the cache. */
void qc_reference_reset(qc_reference *reference);
/* Tokens in the cache. */
int64_t qc_reference_past_length(const qc_reference *reference);

/* Computes all results of `func` from inputs[i] for argument i. outputs: one a result, filled on success and
 * empty on failure. After a failure the cache is what it was before. */
qc_status qc_reference_run(qc_reference *reference, const qc_func *func, const qc_tensor *inputs,
    size_t input_count, qc_tensor *outputs);
/* Computes one value that depends on no argument: a constant, a weight, an expression over weights. */
qc_status qc_reference_evaluate(qc_reference *reference, const qc_value *value, qc_tensor *output);

#endif
