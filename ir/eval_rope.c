/* SPDX-License-Identifier: MIT
 *
 * eval_rope.c - reference semantics of the tables of rotary position embeddings (see eval.h and rope.h).
 *
 * An angle is f32(inverse frequency) * f32(position), rounded to f32; cos and sin of it are the scalar
 * functions of the op table; the attention factor of yarn multiplies them in f32.
 */
#include "ir/eval.h"
#include "ir/ir.h"
#include "ir/rope.h"
#include "op_table.h"
#include "scalar.h"

static qc_status rope_table(qc_eval *eval, const qc_op *op, const qc_tensor *pos, qc_tensor *table, bool sine)
{
    int64_t dims = qc_attr_as_int(qc_op_attr(op, "dims")), longest = 0;
    bool interleaved = qc_attr_as_bool(qc_op_attr(op, "interleaved"));
    double theta = qc_attr_as_float(qc_op_attr(op, "theta"));
    float factor;

    if (table->rank < 1 || qc_tensor_dim(table, -1) != dims || table->count != pos->count * dims)
        return qc_error(eval->diag, qc_eval_where(eval, op), "%s is no table of %s",
            qc_tensor_text(eval->scratch, table), qc_tensor_text(eval->scratch, pos));
    for (int64_t i = 0; i < pos->count; i++) {
        int64_t position = qc_tensor_int(pos, i);
        longest = position > longest ? position : longest;
    }
    float *frequencies = qc_eval_row(eval, dims / 2), *row = qc_eval_row(eval, dims);
    if (qc_rope_frequencies(
            eval->diag, qc_op_attr(op, "scaling"), theta, dims, longest + 1, frequencies, &factor) != QC_OK)
        return QC_ERROR;
    for (int64_t i = 0; i < pos->count; i++) {
        float position = (float)qc_tensor_int(pos, i);
        for (int64_t j = 0; j < dims / 2; j++) {
            float angle = frequencies[j] * position;
            float value = (sine ? qc_scalar_sin(angle) : qc_scalar_cos(angle)) * factor;
            row[interleaved ? 2 * j : j] = row[interleaved ? 2 * j + 1 : j + dims / 2] = value;
        }
        qc_tensor_write(table, i * dims, dims, row);
    }
    return QC_OK;
}

qc_status qc_eval_rope_cos(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    return rope_table(eval, op, operands[0], results, false);
}

qc_status qc_eval_rope_sin(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    return rope_table(eval, op, operands[0], results, true);
}
