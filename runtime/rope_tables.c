/* SPDX-License-Identifier: MIT
 *
 * rope_tables.c - see rope_tables.h.
 */
#include "runtime/rope_tables.h"

#include <stdlib.h>

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "ir/rope.h"
#include "scalar.h"

struct qc_rope_tables {
    qc_ctx *ctx;
    qc_arena arena;
    QC_VEC(qc_rope_table *) tables;
};

qc_rope_tables *qc_rope_tables_create(qc_ctx *ctx)
{
    qc_rope_tables *tables = calloc(1, sizeof *tables);
    if (!tables) {
        qc_ctx_error(ctx, "", "out of memory");
        return NULL;
    }
    tables->ctx = ctx;
    qc_arena_init(&tables->arena, qc_ctx_arena(ctx)->oom);
    return tables;
}

void qc_rope_tables_destroy(qc_rope_tables *tables)
{
    if (!tables)
        return;
    for (size_t i = 0; i < tables->tables.count; i++) {
        free(tables->tables.items[i]->cos);
        free(tables->tables.items[i]->sin);
    }
    qc_arena_fini(&tables->arena);
    free(tables);
}

static bool same_scaling(const qc_attr *a, const qc_attr *b)
{
    return a == b || (a && b && qc_attr_equal(a, b));
}

qc_rope_table *qc_rope_tables_get(
    qc_rope_tables *tables, double theta, const qc_attr *scaling, int64_t dims, qc_dtype dtype)
{
    for (size_t i = 0; i < tables->tables.count; i++) {
        qc_rope_table *t = tables->tables.items[i];
        if (t->theta == theta && t->dims == dims && t->dtype == dtype && same_scaling(t->scaling, scaling))
            return t;
    }
    qc_rope_table *t = QC_NEW(&tables->arena, qc_rope_table);
    *t = (qc_rope_table){.theta = theta, .scaling = scaling, .dims = dims, .dtype = dtype};
    t->by_length = qc_rope_depends_on_length(scaling);
    QC_PUSH(&tables->arena, &tables->tables, t);
    return t;
}

static size_t row_bytes(const qc_rope_table *t)
{
    return (size_t)t->dims / 2 * ((size_t)qc_dtype_bits(t->dtype) / 8);
}

size_t qc_rope_tables_bytes(const qc_rope_tables *tables, size_t length)
{
    size_t bytes = 0;
    for (size_t i = 0; i < tables->tables.count; i++)
        if (!tables->tables.items[i]->by_length)
            bytes += 2 * length * row_bytes(tables->tables.items[i]);
    return bytes;
}

qc_status qc_rope_table_compute(const qc_rope_table *table, qc_diag *diag, size_t first, size_t count,
    size_t length, float *row, void *cos, void *sin)
{
    size_t half = (size_t)table->dims / 2, bytes = row_bytes(table);
    float *frequencies = row + half, factor;
    if (qc_rope_frequencies(
            diag, table->scaling, table->theta, table->dims, (int64_t)length, frequencies, &factor) != QC_OK)
        return QC_ERROR;
    for (size_t t = 0; t < count; t++) {
        float position = (float)(first + t);
        for (size_t j = 0; j < half; j++)
            row[j] = qc_scalar_cos(frequencies[j] * position) * factor;
        qc_encode_f32(table->dtype, row, (char *)cos + t * bytes, half);
        for (size_t j = 0; j < half; j++)
            row[j] = qc_scalar_sin(frequencies[j] * position) * factor;
        qc_encode_f32(table->dtype, row, (char *)sin + t * bytes, half);
    }
    return QC_OK;
}

static qc_status grow(qc_rope_tables *tables, qc_rope_table *t, size_t length)
{
    if (t->by_length || t->length >= length)
        return QC_OK;
    size_t bytes = row_bytes(t);
    float *row = malloc((size_t)t->dims * sizeof *row);
    void *cos = bytes && length <= SIZE_MAX / bytes ? malloc(length * bytes) : NULL;
    void *sin = cos ? malloc(length * bytes) : NULL;
    qc_status status = row && sin ? QC_OK
                                  : qc_ctx_error(tables->ctx, "",
                                        "out of memory for rotary tables of %zu positions", length);
    if (status == QC_OK)
        status = qc_rope_table_compute(t, qc_ctx_diag(tables->ctx), 0, length, length, row, cos, sin);
    free(row);
    if (status != QC_OK) {
        free(cos);
        free(sin);
        return QC_ERROR;
    }
    free(t->cos);
    free(t->sin);
    t->cos = cos;
    t->sin = sin;
    t->length = length;
    return QC_OK;
}

qc_status qc_rope_tables_ensure(qc_rope_tables *tables, size_t length)
{
    for (size_t i = 0; i < tables->tables.count; i++)
        if (grow(tables, tables->tables.items[i], length) != QC_OK)
            return QC_ERROR;
    return QC_OK;
}
