/* SPDX-License-Identifier: MIT
 *
 * requantization.c - see requantization.h.
 *
 * A weight that is quantized again is dequantize(quantize(dequantize(codes of the source), ...)). Both sides of its
 * quantize are streamed in blocks of rows; squares are summed in f64, element after element, so that the result does not
 * depend on the number of threads.
 */
#include "runtime/requantization.h"

#include <math.h>
#include <stdlib.h>

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "runtime/weights.h"

enum { BLOCK_ELEMS = 1 << 20 };

/* One weight's two streams and room for a block of each. */
typedef struct pair {
    qc_weight_stream *before, *after;
    qc_dtype before_dtype, after_dtype;
    int64_t rows, row_elems, block_rows;
    char *memory; /* elements before, elements after, as f32 before, as f32 after */
} pair;

static bool made_by(const qc_value *value, const char *op_name)
{
    return value && qc_value_op(value) && qc_op_is(qc_value_op(value), op_name);
}

/* The value that the codes of `quantize` are turned into again; NULL when nothing does. */
static const qc_value *value_after(const qc_op *quantize)
{
    const qc_value *codes = qc_op_result(quantize, 0);
    for (size_t i = 0; i < qc_value_use_count(codes); i++) {
        size_t slot;
        const qc_op *user = qc_value_use(codes, i, &slot);
        if (slot == 0 && qc_op_is(user, "dequantize"))
            return qc_op_result(user, 0);
    }
    return NULL;
}

static bool is_requantization(const qc_op *op)
{
    if (!qc_op_is(op, "quantize") || !made_by(qc_op_operand(op, 0), "dequantize"))
        return false;
    const qc_value *before = qc_op_operand(op, 0);
    return !made_by(qc_op_operand_named(qc_value_op(before), "x"), "quantize") &&
           qc_value_is_weight_expression(before) && value_after(op);
}

static qc_status open_pair(qc_ctx *ctx, qc_weights *weights, const qc_op *op, pair *p)
{
    const qc_value *before = qc_op_operand(op, 0), *after = value_after(op);
    *p = (pair){.before_dtype = qc_type_dtype(qc_value_type(before)),
        .after_dtype = qc_type_dtype(qc_value_type(after))};
    p->before = qc_weight_stream_open(weights, before);
    p->after = p->before ? qc_weight_stream_open(weights, after) : NULL;
    if (!p->after)
        return QC_ERROR;
    p->rows = qc_weight_stream_rows(p->before);
    p->row_elems = qc_weight_stream_row_elems(p->before);
    p->block_rows = p->row_elems < BLOCK_ELEMS ? BLOCK_ELEMS / (p->row_elems ? p->row_elems : 1) : 1;
    p->block_rows = p->block_rows < p->rows ? p->block_rows : p->rows;
    size_t elems = (size_t)p->block_rows * (size_t)p->row_elems;
    p->memory = malloc(elems * 4 * sizeof(float) + 1);
    return p->memory ? QC_OK : qc_ctx_error(ctx, "", "out of memory (%zu bytes)", elems * 4 * sizeof(float));
}

static void close_pair(pair *p)
{
    qc_weight_stream_close(p->before);
    qc_weight_stream_close(p->after);
    free(p->memory);
}

static qc_status sum_pair(const pair *p, double *error, double *reference)
{
    const size_t elems = (size_t)p->block_rows * (size_t)p->row_elems;
    char *before = p->memory, *after = before + elems * sizeof(float);
    float *x = (float *)(void *)(after + elems * sizeof(float)), *y = x + elems;
    *error = *reference = 0;
    for (int64_t first = 0; first < p->rows; first += p->block_rows) {
        int64_t count = p->rows - first < p->block_rows ? p->rows - first : p->block_rows;
        const size_t n = (size_t)count * (size_t)p->row_elems;
        if (qc_weight_stream_read(p->before, first, count, before) != QC_OK ||
            qc_weight_stream_read(p->after, first, count, after) != QC_OK)
            return QC_ERROR;
        qc_decode_f32(p->before_dtype, before, x, n);
        qc_decode_f32(p->after_dtype, after, y, n);
        for (size_t i = 0; i < n; i++) {
            double d = (double)y[i] - (double)x[i];
            *error += d * d;
            *reference += (double)x[i] * (double)x[i];
        }
    }
    return QC_OK;
}

/* Does the op read a weight that was codes, and is none again? */
static bool reads_plain(const qc_op *op)
{
    const qc_value *w = qc_op_is(op, "keep") ? qc_op_operand_named(op, "x") : qc_op_operand_named(op, "w");
    return made_by(w, "dequantize") && !made_by(qc_op_operand_named(qc_value_op(w), "x"), "quantize") &&
           qc_value_is_weight_expression(w);
}

static qc_status measure_op(qc_ctx *ctx, qc_weights *weights, const qc_op *op, qc_requantization *result)
{
    pair p = {0};
    double error = 0, reference = 0;
    qc_status status = open_pair(ctx, weights, op, &p);
    if (status == QC_OK)
        status = sum_pair(&p, &error, &reference);
    close_pair(&p);
    const double relative = reference > 0 ? sqrt(error / reference) : 0;
    result->mean += relative; /* the sum, until all are there */
    if (result->count++ == 0 || relative > result->largest) {
        result->largest = relative;
        result->largest_of = qc_op_node(op) ? qc_node_path(qc_op_node(op)) : "";
    }
    return status;
}

qc_status qc_requantization_measure(
    qc_ctx *ctx, const qc_module *module, const char *source_override, int threads, qc_requantization *result)
{
    qc_status status = QC_OK;
    *result = (qc_requantization){0};
    qc_weights *weights = qc_weights_open(ctx, module, source_override);
    if (!weights)
        return QC_ERROR;
    qc_weights_set_threads(weights, threads);
    for (const qc_func *f = qc_module_first_func(module); f && status == QC_OK; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op && status == QC_OK; op = qc_op_next(op)) {
            if (is_requantization(op))
                status = measure_op(ctx, weights, op, result);
            else
                result->plain += reads_plain(op);
        }
    if (result->count)
        result->mean /= (double)result->count;
    qc_weights_close(weights);
    return status;
}
