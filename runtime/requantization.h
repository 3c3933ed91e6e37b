/* SPDX-License-Identifier: MIT
 *
 * requantization.h - what quantizing weights again costs, that were codes already: how far the new values are from those
 * that the old codes stand for.
 */
#ifndef QC_RUNTIME_REQUANTIZATION_H
#define QC_RUNTIME_REQUANTIZATION_H

#include "qc/ir.h"

typedef struct qc_requantization {
    size_t count;           /* weights quantized again */
    double mean, largest;   /* of their relative errors, ||new - old|| / ||old||; 0 where old is 0 */
    const char *largest_of; /* path of its module, owned by the module; NULL when count is 0 */
    size_t plain;           /* weights that were codes and stay numbers */
} qc_requantization;

/* Reads and computes every weight whose quantized value is made from codes of the source. The module is complete:
 * statistics are resolved. `source_override` may be NULL; threads 0: all. */
qc_status qc_requantization_measure(qc_ctx *ctx, const qc_module *module, const char *source_override,
    int threads, qc_requantization *result);

#endif
