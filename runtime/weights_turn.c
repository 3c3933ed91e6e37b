/* SPDX-License-Identifier: MIT
 *
 * weights_turn.c - rows of rotated weights: hadamard, center, fill, and mul by one factor a column; see
 * weights_internal.h.
 *
 * Rotations are computed in f64 whatever their op says, rounded to f32 and then to the element type, as the reference
 * semantics do. Along the last dimension they go by rows. Along the first they go by blocks of rows, in chunks when
 * a block is at most TURN_BLOCK_BYTES; a larger one (R1 turns all rows of a weight together) is computed whole, in one
 * buffer of the value's size, panels of columns by all threads. Everything happens in place in the memory of the rows
 * asked for, so that a chain of rotations takes no more memory than one.
 */
#include <stdlib.h>
#include <string.h>

#include "ir/dtype/codec.h"
#include "runtime/weights_internal.h"

/* Vectors side by side: what a cache line of 16-bit numbers holds along columns, and a register or two of f64 where
 * the butterflies of one vector are too short to fill one. */
enum { PANEL_COLUMNS = 32, PANEL_VECTORS = 16, TURN_BLOCK_BYTES = 1 << 20 };

struct turn {
    qc_hadamard matrix; /* size 0: no rotation */
    bool inverse, along_rows;
    bool center;
    float value;          /* fill */
    const float *factors; /* mul: one a column, or NULL */
};

/* ---- what goes by rows --------------------------------------------------------------------------------- */

bool qc_weights_turn_is_whole(int64_t size, uint64_t row_bytes)
{
    return (uint64_t)size > TURN_BLOCK_BYTES / (row_bytes ? row_bytes : 1);
}

size_t qc_weights_turn_panel_bytes(int64_t size)
{
    return (size_t)size * PANEL_COLUMNS * (sizeof(double) + sizeof(float));
}

static bool is_model_dtype(qc_dtype dtype)
{
    return dtype == QC_BF16 || dtype == QC_F16 || dtype == QC_F32;
}

int64_t qc_weights_turn_align(const value_info *v)
{
    return v->turn && v->turn->along_rows ? v->turn->matrix.size : 0;
}

static qc_status prepare_hadamard(
    qc_weight_stream *s, const qc_op *op, const char *where, value_info *v, struct turn *turn)
{
    bool random = strcmp(qc_attr_as_text(qc_op_attr(op, "matrix")), "random_hadamard") == 0;
    turn->inverse = qc_attr_as_bool(qc_op_attr(op, "inverse"));
    turn->along_rows = v->rank == 1 || qc_attr_as_int(qc_op_attr(op, "axis")) == 0;
    if (qc_hadamard_make_drawn(qc_ctx_diag(s->weights->ctx), &s->arena, where,
            qc_attr_as_int(qc_op_attr(op, "size")), random, qc_attr_as_int(qc_op_attr(op, "drawn")),
            &turn->matrix) != QC_OK)
        return QC_ERROR;
    int64_t along = turn->along_rows ? v->rows : v->dims[v->rank - 1];
    if (along % turn->matrix.size != 0)
        return qc_ctx_error(s->weights->ctx, where, "blocks of %lld do not divide %s",
            (long long)turn->matrix.size, qc_type_text(s->weights->ctx, qc_value_type(v->value)));
    return QC_OK;
}

/* Are the factors one a column? Decodes them. */
static bool prepare_factors(
    qc_weight_stream *s, const value_info *v, const value_info *factors, struct turn *turn)
{
    if (factors->dims[factors->rank ? factors->rank - 1 : 0] != v->row_elems ||
        factors->count != v->row_elems || v->x->count != v->count)
        return false;
    float *decoded = QC_NEW_ARRAY(&s->arena, float, (size_t)factors->count + 1);
    qc_decode_f32(factors->dtype, factors->ready, decoded, (size_t)factors->count);
    turn->factors = decoded;
    return true;
}

qc_status qc_weights_prepare_turn(qc_weight_stream *s, const qc_op *op, const char *where, value_info *v,
    const value_info *factors, bool *streamable)
{
    struct turn *turn = QC_NEW(&s->arena, struct turn);
    *streamable = is_model_dtype(v->dtype) && v->rank >= 1 && (!v->x || v->x->dtype == v->dtype);
    if (!*streamable)
        return QC_OK;
    if (qc_op_is(op, "hadamard") && qc_attr_as_int(qc_op_attr(op, "axis")) <= 0 &&
        prepare_hadamard(s, op, where, v, turn) != QC_OK)
        return QC_ERROR;
    if (qc_op_is(op, "fill"))
        turn->value = (float)qc_attr_as_float(qc_op_attr(op, "value"));
    turn->center = qc_op_is(op, "center");
    if (qc_op_is(op, "mul"))
        *streamable = v->rank == 2 && factors->ready && prepare_factors(s, v, factors, turn);
    if (turn->center)
        *streamable = v->rank == 2;
    if (qc_op_is(op, "hadamard") && qc_attr_as_int(qc_op_attr(op, "axis")) > 0) /* the rows of a bank */
        *streamable = false;
    v->turn = *streamable ? turn : NULL;
    return QC_OK;
}

/* ---- rotations ----------------------------------------------------------------------------------------- */

/* `count` vectors behind each other. */
static bool turn_vectors(
    scratch *s, const struct turn *t, qc_dtype dtype, char *data, int64_t count, failure *f)
{
    int64_t size = t->matrix.size, width = size / t->matrix.known;
    int64_t most = width >= PANEL_VECTORS ? 1 : PANEL_VECTORS;
    float *narrow = qc_weights_scratch(s, (size_t)(most * size) * sizeof *narrow, f);
    double *wide = qc_weights_scratch(s, (size_t)(most * size) * sizeof *wide, f);
    if (!narrow || !wide)
        return false;
    for (int64_t at = 0; at < count; at += most) {
        int64_t lanes = count - at < most ? count - at : most;
        char *vectors = data + qc_weights_bytes(dtype, at * size);
        qc_decode_f32(dtype, vectors, narrow, (size_t)(lanes * size));
        for (int64_t l = 0; l < lanes; l++)
            for (int64_t i = 0; i < size; i++)
                wide[i * lanes + l] = (double)narrow[l * size + i];
        qc_hadamard_apply_lanes_f64(&t->matrix, t->inverse, wide, lanes);
        for (int64_t l = 0; l < lanes; l++)
            for (int64_t i = 0; i < size; i++)
                narrow[l * size + i] = (float)wide[i * lanes + l];
        qc_encode_f32(dtype, narrow, vectors, (size_t)(lanes * size));
    }
    return true;
}

/* Columns [first, first + count) of `rows` rows, in blocks of the matrix' size from row 0 on. */
static bool turn_columns(
    scratch *s, const value_info *v, char *data, int64_t rows, int64_t first, int64_t count, failure *f)
{
    const struct turn *t = v->turn;
    int64_t size = t->matrix.size;
    float *narrow = qc_weights_scratch(s, (size_t)(size * count) * sizeof *narrow, f);
    double *wide = qc_weights_scratch(s, (size_t)(size * count) * sizeof *wide, f);
    if (!narrow || !wide)
        return false;
    for (int64_t block = 0; block < rows; block += size) {
        for (int64_t i = 0; i < size; i++)
            qc_decode_f32(v->dtype, data + qc_weights_bytes(v->dtype, (block + i) * v->row_elems + first),
                narrow + i * count, (size_t)count);
        for (int64_t i = 0; i < size * count; i++)
            wide[i] = (double)narrow[i];
        qc_hadamard_apply_lanes_f64(&t->matrix, t->inverse, wide, count);
        for (int64_t i = 0; i < size * count; i++)
            narrow[i] = (float)wide[i];
        for (int64_t i = 0; i < size; i++)
            qc_encode_f32(v->dtype, narrow + i * count,
                data + qc_weights_bytes(v->dtype, (block + i) * v->row_elems + first), (size_t)count);
    }
    return true;
}

/* Rows of a rotation along them: whole blocks are computed, in place where nothing else is. */
static bool turn_blocks(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, char *out, failure *f)
{
    int64_t size = v->turn->matrix.size, from = first - first % size;
    int64_t to = (first + count + size - 1) / size * size, all = to - from;
    char *rows =
        all == count ? out : qc_weights_scratch(s, qc_weights_bytes(v->dtype, all * v->row_elems), f);
    if (!rows || !qc_weights_rows(s, w, v->x, from, all, rows, f))
        return false;
    for (int64_t at = 0; at < v->row_elems; at += PANEL_COLUMNS) {
        int64_t left = v->row_elems - at;
        if (!turn_columns(s, v, rows, all, at, left < PANEL_COLUMNS ? left : PANEL_COLUMNS, f))
            return false;
    }
    if (rows != out)
        memcpy(out, rows + qc_weights_bytes(v->dtype, (first - from) * v->row_elems),
            qc_weights_bytes(v->dtype, count * v->row_elems));
    return true;
}

/* ---- the others ---------------------------------------------------------------------------------------- */

static bool fill_rows(scratch *s, const value_info *v, int64_t count, void *out, failure *f)
{
    int64_t elems = count * v->row_elems;
    float *values = qc_weights_scratch(s, (size_t)elems * sizeof *values, f);
    if (!values)
        return false;
    for (int64_t i = 0; i < elems; i++)
        values[i] = v->turn->value;
    qc_encode_f32(v->dtype, values, out, (size_t)elems);
    return true;
}

static void center_row(float *row, int64_t columns)
{
    double sum = 0;
    for (int64_t i = 0; i < columns; i++)
        sum += (double)row[i];
    double mean = sum / (double)columns;
    for (int64_t i = 0; i < columns; i++)
        row[i] = (float)((double)row[i] - mean);
}

/* center and mul, a row at a time. */
static bool change_rows(scratch *s, const value_info *v, int64_t count, char *out, failure *f)
{
    int64_t columns = v->row_elems;
    const float *factors = v->turn->factors;
    float *row = qc_weights_scratch(s, (size_t)columns * sizeof *row, f);
    if (!row)
        return false;
    for (int64_t r = 0; r < count; r++) {
        char *at = out + qc_weights_bytes(v->dtype, r * columns);
        qc_decode_f32(v->dtype, at, row, (size_t)columns);
        for (int64_t i = 0; factors && i < columns; i++)
            row[i] *= factors[i];
        if (v->turn->center)
            center_row(row, columns);
        qc_encode_f32(v->dtype, row, at, (size_t)columns);
    }
    return true;
}

bool qc_weights_turn_rows(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, void *out, failure *f)
{
    const struct turn *t = v->turn;
    bool done;
    if (!v->x)
        done = fill_rows(s, v, count, out, f);
    else if (t->along_rows)
        done = turn_blocks(s, w, v, first, count, out, f);
    else if (!qc_weights_rows(s, w, v->x, first, count, out, f))
        return false;
    else if (t->matrix.size)
        done = turn_vectors(s, t, v->dtype, out, count * v->row_elems / t->matrix.size, f);
    else
        done = change_rows(s, v, count, out, f);
    return done && qc_weights_all_finite(v, out, first, count, f);
}

/* ---- whole --------------------------------------------------------------------------------------------- */

typedef struct panels_job {
    const value_info *info;
    char *data;
} panels_job;

static bool panels_chunk(void *user, scratch *s, int64_t first, int64_t count, failure *f)
{
    const panels_job *j = user;
    const value_info *v = j->info;
    for (int64_t panel = first; panel < first + count; panel++) {
        int64_t at = panel * PANEL_COLUMNS, left = v->row_elems - at;
        if (!turn_columns(s, v, j->data, v->rows, at, left < PANEL_COLUMNS ? left : PANEL_COLUMNS, f))
            return false;
    }
    return true;
}

typedef struct finite_job {
    const value_info *info;
    const char *data;
} finite_job;

static bool finite_chunk(void *user, scratch *s, int64_t first, int64_t count, failure *f)
{
    const finite_job *j = user;
    (void)s;
    return qc_weights_all_finite(
        j->info, j->data + qc_weights_bytes(j->info->dtype, first * j->info->row_elems), first, count, f);
}

qc_status qc_weights_turn_whole(qc_weights *w, const value_info *v, int64_t align_rows, void *data)
{
    int64_t panels = (v->row_elems + PANEL_COLUMNS - 1) / PANEL_COLUMNS;
    size_t row_bytes = qc_weights_bytes(v->dtype, v->row_elems);
    panels_job job = {v, data};
    finite_job finite = {v, data};
    if (v->count == 0)
        return QC_OK;
    if (qc_weights_run_rows(w, v->x, 0, v->rows, align_rows, data) != QC_OK ||
        qc_weights_run(
            w, 0, panels, qc_weights_turn_panel_bytes(v->turn->matrix.size), 1, panels_chunk, &job) != QC_OK)
        return QC_ERROR;
    return qc_weights_run(w, 0, v->rows, row_bytes, 1, finite_chunk, &finite);
}
