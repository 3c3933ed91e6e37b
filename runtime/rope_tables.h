/* SPDX-License-Identifier: MIT
 *
 * rope_tables.h - cosines and sines of rotary position embeddings, computed once for all layers that turn
 * alike and all positions up to the longest sequence.
 *
 * Arithmetic as in ir/eval_rope.c: the angle is f32(inverse frequency) * f32(position), cos and sin of it the
 * scalar functions of the op table, times the attention factor in f32, rounded to the table's element type.
 * Row t of a table is position t, dims / 2 columns.
 */
#ifndef QC_RUNTIME_ROPE_TABLES_H
#define QC_RUNTIME_ROPE_TABLES_H

#include "ir/support/arena.h"
#include "ir/support/diag.h"
#include "qc/ir.h"

typedef struct qc_rope_tables qc_rope_tables;

typedef struct qc_rope_table {
    double theta;
    const qc_attr *scaling; /* NULL: none */
    int64_t dims;
    qc_dtype dtype;
    /* `dynamic` and `longrope` scaling: rows depend on the length of the sequence, so they are computed for each run. */
    bool by_length;
    void *cos, *sin; /* rows of `length` positions; NULL when by_length */
    size_t length;
} qc_rope_table;

qc_rope_tables *qc_rope_tables_create(qc_ctx *ctx);
void qc_rope_tables_destroy(qc_rope_tables *tables);
/* The table of these attributes; one for equal ones. Stays where it is; its rows move when it grows. */
qc_rope_table *qc_rope_tables_get(
    qc_rope_tables *tables, double theta, const qc_attr *scaling, int64_t dims, qc_dtype dtype);
/* Makes every table hold positions 0 .. length - 1. Not while another thread reads them. */
qc_status qc_rope_tables_ensure(qc_rope_tables *tables, size_t length);
/* What ensure would hold. */
size_t qc_rope_tables_bytes(const qc_rope_tables *tables, size_t length);
/* Rows of `count` positions from `first`, in a sequence of `length` positions. `row` is scratch of dims floats. */
qc_status qc_rope_table_compute(const qc_rope_table *table, qc_diag *diag, size_t first, size_t count,
    size_t length, float *row, void *cos, void *sin);

#endif
