/* SPDX-License-Identifier: MIT
 *
 * requantization.c - see requantization.h.
 *
 * A weight that is quantized again is dequantize(quantize(dequantize(codes of the source), ...)). Both sides of its
 * quantize are streamed in blocks of rows; squares are summed in f64, element after element, so that the result does not
 * depend on the number of threads. Of a bank each expert is a weight, computed by itself.
 */
#include "runtime/requantization.h"

#include <math.h>
#include <stdlib.h>

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "ir/experts.h"
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

/* What is measured, and where. */
typedef struct measuring {
    qc_ctx *ctx;
    const qc_module *module;
    const char *source_override;
    int threads;
    qc_requantization *result;
} measuring;

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

/* `path`: of the weight's module; lives as long as the result. */
static qc_status measure_weight(
    const measuring *m, qc_weights *weights, const qc_op *quantize, const char *path)
{
    qc_requantization *result = m->result;
    pair p = {0};
    double error = 0, reference = 0;
    qc_status status = open_pair(m->ctx, weights, quantize, &p);
    if (status == QC_OK)
        status = sum_pair(&p, &error, &reference);
    close_pair(&p);
    const double relative = reference > 0 ? sqrt(error / reference) : 0;
    result->mean += relative; /* the sum, until all are there */
    if (result->count++ == 0 || relative > result->largest) {
        result->largest = relative;
        result->largest_of = path;
    }
    return status;
}

/* E where the quantize is of a bank of E experts; else 0. */
static int64_t experts_of(const qc_value *value)
{
    return value && qc_type_rank(qc_value_type(value)) == 3 ? qc_bank_experts(value) : 0;
}

/* The module that reads the value: of one expert, or of the op itself. */
static const char *path_of(const measuring *m, const qc_op *op, const qc_value *after, int64_t expert)
{
    const qc_node *node = qc_op_node(op);
    for (size_t i = 0; i < qc_value_use_count(after); i++) {
        size_t slot;
        const qc_op *user = qc_value_use(after, i, &slot);
        const char *path =
            qc_op_is(user, "expert_linear") ? qc_expert_path(qc_ctx_arena(m->ctx), user, expert) : NULL;
        if (path)
            return path;
    }
    return node ? qc_node_path(node) : "";
}

/* The experts of one bank. What weights keep of them goes with the weights, before the module of the copies does. */
static qc_status measure_bank(const measuring *m, const qc_op *op, int64_t experts)
{
    const qc_value *after = value_after(op);
    qc_module *scratch = qc_experts_scratch(m->module);
    qc_builder *b = qc_builder_at_end(qc_module_add_func(scratch, "experts"));
    qc_weights *weights = qc_weights_open(m->ctx, scratch, m->source_override);
    qc_status status = weights ? QC_OK : QC_ERROR;
    if (weights)
        qc_weights_set_threads(weights, m->threads);
    for (int64_t e = 0; e < experts && status == QC_OK; e++) {
        qc_arena arena;
        qc_expert_copy copy;
        qc_arena_init(&arena, qc_ctx_arena(m->ctx)->oom);
        qc_expert_copy_init(&copy, &arena, b, experts, e);
        const qc_value *part = qc_expert_copy_value(&copy, after);
        const qc_value *codes = part ? qc_op_operand_named(qc_value_op(part), "x") : NULL;
        status = codes ? measure_weight(m, weights, qc_value_op(codes), path_of(m, op, after, e)) : QC_ERROR;
        qc_arena_fini(&arena);
    }
    if (weights)
        qc_weights_close(weights);
    qc_module_destroy(scratch);
    return status;
}

static qc_status measure_op(const measuring *m, qc_weights *weights, const qc_op *op)
{
    const int64_t experts = experts_of(qc_op_operand(op, 0));
    return experts ? measure_bank(m, op, experts)
                   : measure_weight(m, weights, op, path_of(m, op, value_after(op), 0));
}

qc_status qc_requantization_measure(
    qc_ctx *ctx, const qc_module *module, const char *source_override, int threads, qc_requantization *result)
{
    const measuring m = {ctx, module, source_override, threads, result};
    qc_status status = QC_OK;
    *result = (qc_requantization){0};
    qc_weights *weights = qc_weights_open(ctx, module, source_override);
    if (!weights)
        return QC_ERROR;
    qc_weights_set_threads(weights, threads);
    for (const qc_func *f = qc_module_first_func(module); f && status == QC_OK; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op && status == QC_OK; op = qc_op_next(op)) {
            const int64_t experts = experts_of(qc_op_operand_named(op, "w"));
            if (is_requantization(op))
                status = measure_op(&m, weights, op);
            else if (reads_plain(op))
                result->plain += experts ? (size_t)experts : 1;
        }
    if (result->count)
        result->mean /= (double)result->count;
    qc_weights_close(weights);
    return status;
}
