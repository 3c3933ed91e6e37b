/* SPDX-License-Identifier: MIT
 *
 * scheme.h - what a `scheme` or `kv_scheme` symbol says about one part (input or weights), read and checked.
 * Fields of the symbol: targets, ignore, arith, format, name, and the parts. docs/ir.md lists the fields of a part.
 */
#ifndef QC_IR_SCHEME_H
#define QC_IR_SCHEME_H

#include "ir/dtype/mse.h"
#include "ir/support/diag.h"
#include "qc/ir.h"

typedef enum qc_granularity {
    QC_GRANULARITY_TENSOR,  /* scale [1] */
    QC_GRANULARITY_HEAD,    /* scale [heads, 1, 1] of x [B, heads, S, d] */
    QC_GRANULARITY_TOKEN,   /* scale [..., 1]: one a row of the last dimension */
    QC_GRANULARITY_CHANNEL, /* scale [rows, 1] of a weight [rows, columns] */
    QC_GRANULARITY_GROUP, /* scale [..., groups]: one for each `group` columns, the last group may be short */
    QC_GRANULARITY_BLOCK, /* scale [blocks of rows, blocks of columns] of a weight, those at the edges cut off */
} qc_granularity;

typedef struct qc_scheme_part {
    const qc_arith *arith;
    qc_dtype type; /* of the codes */
    qc_grid grid;
    qc_granularity granularity;
    int64_t group_elems;               /* granularity group, else 0 */
    int64_t block_rows, block_columns; /* granularity block, else 0 */
    bool symmetric;
    bool dynamic;                 /* with `global`: the local scales are, the global one is not */
    bool global;                  /* scales are relative to a global scale of the tensor */
    qc_dtype scale_type;          /* of the stored scale; QC_DTYPE_NONE: the model's */
    qc_dtype zero_point_type;     /* QC_I8 unless the part says otherwise */
    const char *observer;         /* "" when the part names none */
    const qc_attr *observer_args; /* map or NULL */
    const char *actorder;         /* "" when the part names none */
    qc_search search;             /* of local scales under a global one */
    float scale_max;              /* largest local scale that the global one leaves; 0: 448 */
    float headroom;               /* ranges of statistics are multiplied by it; 1 unless the part says otherwise */
} qc_scheme_part;

/* "group" */
const char *qc_granularity_name(qc_granularity granularity);

/* Reads part `arg` ("input", "weights") of symbol `scheme`. Missing symbols, parts and fields, unknown words,
 * types without a grid and sizes below 1 are errors at `where`. */
qc_status qc_scheme_read(qc_diag *diag, const char *where, const qc_module *module, const char *scheme,
    const char *arg, qc_scheme_part *part);

/* The arithmetic of the part in a model of this element type. */
qc_quantizer qc_scheme_quantizer(const qc_scheme_part *part, qc_dtype model_dtype);
/* That of codes of type `codes` under scales of type `scale` alone, for qc_quantizer_dequantize and its forms:
 * without a scheme, since all dialects agree on it. Its grid has storage QC_DTYPE_NONE when the type has no codes. */
qc_quantizer qc_scheme_dequantizer(qc_dtype codes, qc_dtype to, qc_dtype scale, bool global, bool symmetric);

/* The search of the part's observer or (not NULL) of another, with the part's observer_args. *searches is false where the
 * observer takes ranges as they are. Arguments out of bounds are errors at `where`. */
qc_status qc_scheme_mse(qc_diag *diag, const char *where, const qc_scheme_part *part, const char *observer,
    qc_mse *mse, bool *searches);

#endif
