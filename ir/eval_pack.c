/* SPDX-License-Identifier: MIT
 *
 * eval_pack.c - reference semantics of unpack and keep (see eval.h). The layout of packed integers is that of
 * compressed-tensors: code i of a line lies at bits [i * b, (i + 1) * b) of its 32-bit words, lowest bits first,
 * with 2^(b-1) added.
 */
#include <string.h>

#include "ir/eval.h"
#include "ir/ir.h"
#include "op_table.h"

/* Code `index` of a line whose words lie `stride` words apart, from `first`. */
static uint32_t code_at(const qc_tensor *words, int64_t first, int64_t stride, int64_t index, int bits)
{
    uint32_t code = 0;
    for (int b = 0; b < bits; b++) {
        int64_t bit = index * bits + b;
        uint32_t word;
        memcpy(&word, (const char *)words->data + (size_t)(first + bit / 32 * stride) * sizeof word,
            sizeof word);
        code |= (word >> (bit % 32) & 1u) << b;
    }
    return code;
}

/* x and y are matrices; the codes of y begin at element `first` of it. */
static void unpack_integers(
    const qc_tensor *x, bool rows, int64_t row_count, int64_t columns, qc_tensor *y, int64_t first)
{
    const int bits = qc_dtype_bits(y->dtype);
    for (int64_t i = 0; i < row_count; i++)
        for (int64_t j = 0; j < columns; j++) {
            uint32_t code =
                rows ? code_at(x, j, x->dims[1], i, bits) : code_at(x, i * x->dims[1], 1, j, bits);
            float value = (float)code - (float)(1 << (bits - 1));
            qc_tensor_write(y, first + i * columns + j, 1, &value);
        }
}

/* The first code of a byte is its low half, and an odd last one leaves the high half unused. */
static void unpack_nibbles(const qc_tensor *x, int64_t columns, qc_tensor *y)
{
    const uint8_t *bytes = x->data;
    uint8_t *out = y->data;
    for (int64_t at = 0; at < y->count; at++) {
        int64_t row = at / columns, j = at % columns;
        unsigned code = bytes[row * qc_tensor_dim(x, -1) + j / 2] >> (j % 2 * 4) & 15u;
        out[at / 2] = (uint8_t)(at % 2 ? (out[at / 2] & 15u) | code << 4 : code);
    }
}

/* Integers out of words, of a bank expert by expert. */
static void unpack_words(const qc_tensor *x, bool rows, qc_tensor *y)
{
    int64_t parts = x->rank == 3 ? x->dims[0] : 1;
    for (int64_t e = 0; e < parts; e++) {
        qc_tensor words = *x;
        words.rank = 2;
        words.dims[0] = qc_tensor_dim(x, -2), words.dims[1] = qc_tensor_dim(x, -1);
        words.count = x->count / parts;
        words.data = (char *)x->data + qc_tensor_bytes(x->dtype, e * words.count);
        unpack_integers(&words, rows, qc_tensor_dim(y, -2), qc_tensor_dim(y, -1), y, e * (y->count / parts));
    }
}

qc_status qc_eval_unpack(qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0];
    const bool nibbles = results->dtype == QC_F4E2M1, bytes = results->dtype == QC_F8E8M0;
    const int bits = qc_dtype_bits(results->dtype), word_bits = nibbles || bytes ? 8 : 32;
    int64_t axis = qc_attr_as_int(qc_op_attr(op, "axis"));
    axis += axis < 0 ? x->rank : 0;
    bool fits =
        (x->rank == 2 || x->rank == 3) && results->rank == x->rank && axis >= x->rank - 2 && axis < x->rank;
    for (int i = 0; fits && i < x->rank; i++)
        fits = x->dims[i] ==
               (i == axis ? (results->dims[i] * bits + word_bits - 1) / word_bits : results->dims[i]);
    if (!fits)
        return qc_error(eval->diag, qc_eval_where(eval, op), "%s does not hold %s",
            qc_tensor_text(eval->scratch, x), qc_tensor_text(eval->scratch, results));
    if (bytes)
        memcpy(results->data, x->data, (size_t)results->count);
    else if (nibbles)
        unpack_nibbles(x, qc_tensor_dim(results, -1), results);
    else
        unpack_words(x, axis == x->rank - 2, results);
    return QC_OK;
}

qc_status qc_eval_keep(qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    (void)eval;
    (void)op;
    qc_tensor_copy(results, 0, operands[0], 0, operands[0]->count);
    return QC_OK;
}
