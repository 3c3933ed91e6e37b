/* SPDX-License-Identifier: MIT
 *
 * heads.h - attention operands as a kernel wants them: rows of values, wherever and however they lie.
 */
#ifndef QC_HOST_HEADS_H
#define QC_HOST_HEADS_H

#include "backends/host/engine.h"

enum { QC_HOST_CHUNK = 64 }; /* tokens that are widened at a time; a multiple of the panel */

/* One operand, prepared for a call: immutable then. */
typedef struct qc_host_view {
    const qc_host_engine *engine;
    const qc_host_heads *heads;
    qc_dtype dtype; /* of the values */
    qc_dtype codes; /* QC_DTYPE_NONE: values lie in memory */
    bool packed;
    size_t size;        /* columns of a head */
    size_t padded;      /* rounded up to 16 */
    size_t group;       /* columns under one factor */
    size_t per_row;     /* factors of a row */
    float factors[256]; /* effective scales by their code, where scales have 8 bits */
} qc_host_view;

/* Room for a chunk's values and factors. */
typedef struct qc_host_chunk {
    const void *rows[QC_HOST_CHUNK];
    void *values;   /* qc_host_view_value_bytes */
    float *factors; /* qc_host_view_factor_elems */
} qc_host_chunk;

/* `d`: what codes become. The scales' addresses are not read. */
void qc_host_view_init(
    const qc_host_engine *engine, const qc_host_heads *heads, size_t size, qc_dtype d, qc_host_view *view);
/* An error that names `where` and the operand's `name` for what the kernels cannot read. */
qc_status qc_host_view_check(const qc_host_view *view, qc_diag *diag, const char *where, const char *name);
size_t qc_host_view_value_bytes(const qc_host_view *view);
size_t qc_host_view_factor_elems(const qc_host_view *view);

/* chunk->rows[i]: the values of token `token` + i, of view->dtype, i < count <= QC_HOST_CHUNK. */
void qc_host_view_rows(
    const qc_host_view *view, size_t head, size_t token, size_t count, qc_host_chunk *chunk);
/* The same from column `column` on, a multiple of 16, as panels of 16 columns: value i of row r is element
 * (i / 16 * QC_HOST_CHUNK + r) * 16 + i % 16; behind the last column the panel is filled with anything finite or
 * with 0. */
void qc_host_view_panels(const qc_host_view *view, size_t head, size_t token, size_t count, size_t column,
    size_t columns, qc_host_chunk *chunk, void *panels);

#endif
