/* SPDX-License-Identifier: MIT
 *
 * dim.h - the value of a dimension once its symbols have values, for executors.
 */
#ifndef QC_IR_DIM_H
#define QC_IR_DIM_H

#include "qc/ir.h"

typedef struct qc_dim_binding {
    const char *symbol;
    int64_t value;
} qc_dim_binding;

/* False when a symbol is not among the bindings, or a term leaves 64 bits. */
bool qc_dim_evaluate(const qc_dim *dim, const qc_dim_binding *bindings, size_t count, int64_t *value);

#endif
