/* SPDX-License-Identifier: MIT
 *
 * weights_move.c - rows of what only moves elements: slice, reshape and transpose; see weights_internal.h.
 *
 * A slice of rows asks for those rows alone, so that a part of a tensor which holds several projections is had without
 * the rest; of columns it reads whole rows, unless they are long and lie in a file. A reshape asks for the rows that
 * its elements lie in. A transpose has no rows without all columns: it is computed whole, in one buffer of the result's
 * size, while its operand goes by in chunks of rows on all threads.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/weights_internal.h"

/* Rows that are skipped are computed with the others up to this step. A run of columns of a file is read by itself when
 * it is as long as a page or longer. TILE x TILE elements of a transpose fit a core's cache in both orders. */
enum { MOST_STEP = 4, RUN_BYTES = 4096, LONG_ROW_BYTES = 1 << 20, TILE = 32 };

typedef enum move_kind { MOVE_ROWS, MOVE_COLUMNS, MOVE_RESHAPE } move_kind;

struct move {
    move_kind kind;
    int64_t start, step, length; /* of slices */
    int64_t outer, size, inner;  /* a row of x is [outer, size, inner], its middle sliced */
};

/* ---- preparing ----------------------------------------------------------------------------------------- */

static bool prepare_slice(const qc_op *op, value_info *v, struct move *m)
{
    const value_info *x = v->x;
    int64_t axis = qc_attr_as_int(qc_op_attr(op, "axis"));
    axis += axis < 0 ? x->rank : 0;
    if (axis < 0 || axis >= x->rank || v->count == 0)
        return false;
    m->kind = axis == 0 ? MOVE_ROWS : MOVE_COLUMNS;
    m->start = qc_attr_as_int(qc_op_attr(op, "start"));
    m->step = qc_attr_as_int(qc_op_attr(op, "step"));
    m->length = v->dims[axis];
    m->outer = m->inner = 1;
    m->size = x->dims[axis];
    for (int i = 1; i < axis; i++)
        m->outer *= x->dims[i];
    for (int i = (int)axis + 1; i < x->rank; i++)
        m->inner *= x->dims[i];
    int64_t spread = axis != 0             ? (x->row_elems + v->row_elems - 1) / v->row_elems
                     : m->step < MOST_STEP ? m->step
                                           : MOST_STEP;
    v->spread = x->spread * spread;
    return true;
}

qc_status qc_weights_prepare_move(qc_weight_stream *s, const qc_op *op, value_info *v, bool *streamable)
{
    struct move *m = QC_NEW(&s->arena, struct move);
    const value_info *x = v->x;
    *streamable = false;
    if (x->rank < 1 || v->rank < 1 || x->dtype != v->dtype)
        return QC_OK;
    if (qc_op_is(op, "slice")) {
        *streamable = prepare_slice(op, v, m);
    } else if (qc_op_is(op, "reshape")) {
        m->kind = MOVE_RESHAPE;
        /* Long rows that are computed would be so for every piece of them. */
        bool in_file = x->tensor && !x->tensors && !x->ready;
        *streamable = v->row_elems > 0 && x->row_elems > 0 &&
                      (in_file || x->row_elems <= v->row_elems || x->ready || x->data ||
                          qc_weights_bytes(x->dtype, x->row_elems) <= LONG_ROW_BYTES);
    }
    v->move = *streamable ? m : NULL;
    return QC_OK;
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

static bool slice_of_rows(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, char *out, failure *f)
{
    const struct move *m = v->move;
    size_t row_bytes = qc_weights_bytes(v->dtype, v->row_elems);
    int64_t from = m->start + first * m->step;
    if (m->step == 1)
        return qc_weights_rows(s, w, v->x, from, count, out, f);
    bool together = m->step <= MOST_STEP;
    const char *rows =
        together ? qc_weights_operand_rows(s, w, v->x, from, (count - 1) * m->step + 1, f) : NULL;
    for (int64_t r = 0; rows && r < count; r++)
        memcpy(out + (size_t)r * row_bytes, rows + (size_t)(r * m->step) * row_bytes, row_bytes);
    for (int64_t r = 0; !together && r < count; r++)
        if (!qc_weights_rows(s, w, v->x, from + r * m->step, 1, out + (size_t)r * row_bytes, f))
            return false;
    return !together || rows;
}

/* Every step-th element of `bytes` bytes, `count` of them. */
static void pick(size_t bytes, const char *from, int64_t step, int64_t count, char *to)
{
    const uint16_t *from_16 = (const void *)from;
    const uint32_t *from_32 = (const void *)from;
    uint16_t *to_16 = (void *)to;
    uint32_t *to_32 = (void *)to;
    if (bytes == 2)
        for (int64_t i = 0; i < count; i++)
            to_16[i] = from_16[i * step];
    else if (bytes == 4)
        for (int64_t i = 0; i < count; i++)
            to_32[i] = from_32[i * step];
    else
        for (int64_t i = 0; i < count; i++)
            memcpy(to + (size_t)i * bytes, from + (size_t)(i * step) * bytes, bytes);
}

static bool slice_of_columns(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, char *out, failure *f)
{
    const struct move *m = v->move;
    const value_info *x = v->x;
    int64_t run = m->step == 1 ? m->length * m->inner : m->inner, runs = m->step == 1 ? 1 : m->length;
    size_t run_bytes = qc_weights_bytes(v->dtype, run);
    const bool in_file = x->tensor && !x->tensors && !x->ready && run_bytes >= RUN_BYTES;
    const char *rows = in_file ? NULL : qc_weights_operand_rows(s, w, x, first, count, f);
    if (!in_file && !rows)
        return false;
    for (int64_t r = 0; r < count * m->outer; r++) {
        int64_t from = (r * m->size + m->start) * m->inner;
        if (!in_file) {
            pick(run_bytes, rows + qc_weights_bytes(v->dtype, from), m->step, runs, out);
            out += (size_t)runs * run_bytes;
            continue;
        }
        for (int64_t i = 0; i < runs; i++, out += run_bytes)
            if (!qc_weights_read_elems(
                    s, w, x, first * x->row_elems + from + i * m->step * m->inner, run, out, f))
                return false;
    }
    return true;
}

static bool reshaped_rows(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, char *out, failure *f)
{
    const value_info *x = v->x;
    int64_t from = first * v->row_elems, elems = count * v->row_elems;
    if (x->tensor && !x->tensors && !x->ready)
        return qc_weights_read_elems(s, w, x, from, elems, out, f);
    int64_t row = from / x->row_elems, rows = (from + elems - 1) / x->row_elems + 1 - row;
    const char *data = qc_weights_operand_rows(s, w, x, row, rows, f);
    if (data)
        memcpy(out, data + qc_weights_bytes(x->dtype, from - row * x->row_elems),
            qc_weights_bytes(x->dtype, elems));
    return data != NULL;
}

bool qc_weights_move_rows(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, void *out, failure *f)
{
    if (count == 0)
        return true;
    switch (v->move->kind) {
    case MOVE_ROWS:
        return slice_of_rows(s, w, v, first, count, out, f);
    case MOVE_COLUMNS:
        return slice_of_columns(s, w, v, first, count, out, f);
    case MOVE_RESHAPE:
        return reshaped_rows(s, w, v, first, count, out, f);
    }
    return false;
}

/* ---- transpose ----------------------------------------------------------------------------------------- */

bool qc_weights_transposes(const qc_op *op, const value_info *v)
{
    const qc_attr *perm = qc_op_attr(op, "perm");
    return v->rank == 2 && v->x->rank == 2 && v->x->dtype == v->dtype && qc_attr_count(perm) == 2 &&
           qc_attr_as_int(qc_attr_item(perm, 0)) == 1;
}

typedef struct transpose_job {
    const qc_weights *weights;
    const value_info *info;
    char *out;
} transpose_job;

/* Rows [first, first + count) of x, at `rows`, as columns of out, for elements of one size. A tile is turned in a buffer
 * of its own, so that each line of memory is touched once: with rows of powers of two all those of a tile would share a
 * place in the cache. */
#define SCATTER(name, element)                                                                               \
    static void name(const value_info *v, int64_t first, int64_t count, const element *rows, element *out)   \
    {                                                                                                        \
        const int64_t columns = v->rows, stride = v->row_elems;                                              \
        element tile[TILE][TILE];                                                                            \
        for (int64_t c0 = 0; c0 < columns; c0 += TILE)                                                       \
            for (int64_t r0 = 0; r0 < count; r0 += TILE) {                                                   \
                int64_t wide = columns - c0 < TILE ? columns - c0 : TILE;                                    \
                int64_t high = count - r0 < TILE ? count - r0 : TILE;                                        \
                for (int64_t r = 0; r < high; r++)                                                           \
                    for (int64_t c = 0; c < wide; c++)                                                       \
                        tile[c][r] = rows[(r0 + r) * columns + c0 + c];                                      \
                for (int64_t c = 0; c < wide; c++)                                                           \
                    memcpy(out + (c0 + c) * stride + first + r0, tile[c], (size_t)high * sizeof(element));   \
            }                                                                                                \
    }
SCATTER(scatter_8, uint8_t)
SCATTER(scatter_16, uint16_t)
SCATTER(scatter_32, uint32_t)
SCATTER(scatter_64, uint64_t)

static void scatter(const value_info *v, int64_t first, int64_t count, const void *rows, void *out)
{
    switch (qc_weights_bytes(v->dtype, 1)) {
    case 1:
        scatter_8(v, first, count, rows, out);
        return;
    case 2:
        scatter_16(v, first, count, rows, out);
        return;
    case 4:
        scatter_32(v, first, count, rows, out);
        return;
    default:
        scatter_64(v, first, count, rows, out);
    }
}

static bool transpose_chunk(void *user, scratch *s, int64_t first, int64_t count, failure *f)
{
    const transpose_job *j = user;
    const void *rows = qc_weights_operand_rows(s, j->weights, j->info->x, first, count, f);
    if (rows)
        scatter(j->info, first, count, rows, j->out);
    return rows != NULL;
}

qc_status qc_weights_transpose_whole(qc_weights *w, const value_info *v, int64_t align_rows, void *data)
{
    transpose_job job = {w, v, data};
    return v->count == 0 ? QC_OK
                         : qc_weights_run(w, 0, v->x->rows, qc_weights_row_bytes(v->x), align_rows,
                               transpose_chunk, &job);
}
