/* SPDX-License-Identifier: MIT
 *
 * eval_codes.c - reference semantics of quantize and dequantize (see eval.h): which scale an element has; the arithmetic
 * is ir/dtype/quantizer.h.
 */
#include <stdlib.h>

#include "ir/dtype/codec.h"
#include "ir/eval_quant.h"
#include "ir/ir.h"
#include "op_table.h"

static qc_status mismatch(qc_eval *eval, const qc_op *op, const qc_tensor *x, const qc_tensor *y)
{
    return qc_error(eval->diag, qc_eval_where(eval, op), "%s and %s do not fit",
        qc_tensor_text(eval->scratch, x), qc_tensor_text(eval->scratch, y));
}

/* Which scale an element has: one for each block, for each `group` columns, or by broadcasting. */
typedef struct coding {
    qc_quantizer q;
    const qc_tensor *x, *scale, *zero_point; /* zero_point: NULL, or of the shape of the scale */
    const qc_tensor *global;                 /* NULL, one, or one for each part of x's first dimension */
    int64_t group, block_rows;
} coding;

/* The scale of row `row` (of the last dimension of x) where it broadcasts. */
static bool broadcast_offset(const qc_tensor *x, const qc_tensor *scale, int64_t row, int64_t *offset)
{
    int64_t size = qc_tensor_dim(scale, -1);
    if (scale->rank > x->rank || (size != 1 && size != qc_tensor_dim(x, -1)))
        return false;
    *offset = 0;
    for (int i = -2; i >= -x->rank; i--) {
        int64_t dim = qc_tensor_dim(scale, i), in_x = qc_tensor_dim(x, i);
        if (dim != 1 && dim != in_x)
            return false;
        *offset += dim == 1 ? 0 : row % in_x * size;
        row /= in_x;
        size *= dim;
    }
    return true;
}

/* Where the scales of a row begin, and how many columns share one. Blocks of a bank end where an expert ends. */
static bool row_scales(const coding *c, int64_t row, int64_t *offset, int64_t *run)
{
    const qc_tensor *x = c->x;
    int64_t columns = qc_tensor_dim(x, -1), rows = x->count / columns;
    if (!c->group) {
        *run = qc_tensor_dim(c->scale, -1) == 1 ? columns : 1;
        return broadcast_offset(x, c->scale, row, offset);
    }
    int64_t parts = x->rank == 3 ? x->dims[0] : 1, each = rows / parts;
    int64_t across = qc_eval_pieces(columns, c->group), down = c->block_rows ? c->block_rows : 1;
    int64_t lines = qc_eval_pieces(each, down);
    *run = c->group;
    *offset = (row / each * lines + row % each / down) * across;
    return c->scale->count == across * lines * parts;
}

static float global_of(const coding *c, int64_t row)
{
    int64_t rows = c->x->count / qc_tensor_dim(c->x, -1);
    float value = 0.0f;
    if (c->global)
        qc_tensor_read(c->global, c->global->count == 1 ? 0 : row / (rows / c->global->count), 1, &value);
    return value;
}

static qc_status check_coding(qc_eval *eval, const qc_op *op, const coding *c)
{
    if (c->global && c->global->count != 1 && (c->x->rank < 2 || c->global->count != c->x->dims[0]))
        return mismatch(eval, op, c->x, c->global);
    if (c->zero_point && !qc_tensor_same_shape(c->scale, c->zero_point))
        return mismatch(eval, op, c->scale, c->zero_point);
    return QC_OK;
}

/* One byte a code, while the tensor may be denser. */
static uint8_t *codes_of(qc_eval *eval, const qc_op *op, const qc_tensor *t)
{
    uint8_t *codes = malloc((size_t)t->count + 1);
    if (!codes)
        qc_error(eval->diag, qc_eval_where(eval, op), "no memory for %lld codes", (long long)t->count);
    return codes;
}

static void read_codes(const qc_tensor *t, uint8_t *codes)
{
    const int bits = qc_dtype_bits(t->dtype);
    const bool is_signed = qc_dtype_is_int(t->dtype);
    for (int64_t i = 0; i < t->count; i++) {
        uint32_t code = qc_code_get(t->data, bits, (size_t)i);
        codes[i] = (uint8_t)(is_signed ? (uint32_t)qc_code_signed(code, bits) : code);
    }
}

static void write_codes(qc_tensor *t, const uint8_t *codes)
{
    const int bits = qc_dtype_bits(t->dtype);
    for (int64_t i = 0; i < t->count; i++)
        qc_code_put(t->data, bits, (size_t)i, codes[i]);
}

/* Runs over all elements: codes from x, or (out not NULL) numbers from codes. */
static qc_status code_elements(
    qc_eval *eval, const qc_op *op, const coding *c, uint8_t *codes, qc_tensor *out)
{
    int64_t columns = qc_tensor_dim(c->x, -1), offset, run;
    for (int64_t row = 0; columns > 0 && row < c->x->count / columns; row++) {
        if (!row_scales(c, row, &offset, &run))
            return mismatch(eval, op, c->x, c->scale);
        float global = global_of(c, row);
        if (out && c->global && !(global > 0))
            return qc_error(eval->diag, qc_eval_where(eval, op), "a global scale is %g; it must be positive",
                (double)global);
        for (int64_t j = 0; j < columns; j += run) {
            int64_t first = row * columns + j, which = offset + j / run;
            size_t length = (size_t)(columns - j < run ? columns - j : run);
            float scale, zero = 0.0f;
            qc_tensor_read(c->scale, which, 1, &scale);
            if (c->zero_point)
                qc_tensor_read(c->zero_point, which, 1, &zero);
            if (out)
                qc_quantizer_dequantize(
                    &c->q, out->dtype, codes + first, length, scale, global, zero, qc_eval_at(out, first));
            else
                qc_quantizer_quantize(
                    &c->q, qc_eval_at(c->x, first), length, scale, global, zero, codes + first);
        }
    }
    return QC_OK;
}

qc_status qc_eval_quantize(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0];
    qc_scheme_part part;

    if (qc_eval_need_model_type(eval, op, x->dtype) != QC_OK || qc_eval_read_part(eval, op, &part) != QC_OK)
        return QC_ERROR;
    if (part.type != results->dtype || !qc_tensor_same_shape(x, results))
        return mismatch(eval, op, x, results);
    coding c = {.q = qc_scheme_quantizer(&part, x->dtype),
        .x = x,
        .scale = operands[1],
        .zero_point = operands[3],
        .global = operands[2],
        .group = part.block_columns ? part.block_columns : part.group_elems,
        .block_rows = part.block_rows};
    if (check_coding(eval, op, &c) != QC_OK)
        return QC_ERROR;
    uint8_t *codes = codes_of(eval, op, x);
    qc_status status = codes ? code_elements(eval, op, &c, codes, NULL) : QC_ERROR;
    if (status == QC_OK)
        write_codes(results, codes);
    free(codes);
    return status;
}

qc_status qc_eval_dequantize(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0];
    const qc_attr *block = qc_op_attr(op, "block");

    if (qc_eval_need_model_type(eval, op, results->dtype) != QC_OK)
        return QC_ERROR;
    coding c = {.q = qc_scheme_dequantizer(
                    x->dtype, results->dtype, operands[1]->dtype, operands[2] != NULL, operands[3] == NULL),
        .x = x,
        .scale = operands[1],
        .zero_point = operands[3],
        .global = operands[2],
        .group = qc_attr_as_int(qc_op_attr(op, "group"))};
    if (qc_attr_count(block) == 2) {
        c.block_rows = qc_attr_as_int(qc_attr_item(block, 0));
        c.group = qc_attr_as_int(qc_attr_item(block, 1));
    }
    if (c.q.grid.storage == QC_DTYPE_NONE || !qc_tensor_same_shape(x, results))
        return mismatch(eval, op, x, results);
    if (check_coding(eval, op, &c) != QC_OK)
        return QC_ERROR;
    uint8_t *codes = codes_of(eval, op, x);
    if (!codes)
        return QC_ERROR;
    read_codes(x, codes);
    qc_status status = code_elements(eval, op, &c, codes, results);
    free(codes);
    return status;
}
