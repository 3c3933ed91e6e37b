/* SPDX-License-Identifier: MIT
 *
 * scheme.h - what a `scheme` or `kv_scheme` symbol says about one part (input or weights), read and checked.
 * Fields of the part: type, granularity (tensor, head, token, channel), symmetric, dynamic, observer; of the
 * symbol: arith.
 */
#ifndef QC_IR_SCHEME_H
#define QC_IR_SCHEME_H

#include "ir/dtype/arith.h"
#include "ir/support/diag.h"
#include "qc/ir.h"

typedef enum qc_granularity {
    QC_GRANULARITY_TENSOR,  /* scale [1] */
    QC_GRANULARITY_HEAD,    /* scale [heads, 1, 1] of x [B, heads, S, d] */
    QC_GRANULARITY_TOKEN,   /* scale [..., 1]: one a row of the last dimension */
    QC_GRANULARITY_CHANNEL, /* scale [rows, 1] of a weight [rows, columns] */
} qc_granularity;

typedef struct qc_scheme_part {
    const qc_arith *arith;
    qc_dtype type;
    qc_grid grid;
    qc_granularity granularity;
    bool symmetric, dynamic;
    const char *observer; /* "" when the part names none */
} qc_scheme_part;

/* Reads part `arg` ("input", "weights") of symbol `scheme`. Missing symbols, parts and fields, unknown words
 * and types without a grid are errors at `where`. */
qc_status qc_scheme_read(qc_diag *diag, const char *where, const qc_module *module, const char *scheme,
    const char *arg, qc_scheme_part *part);

#endif
