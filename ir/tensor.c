/* SPDX-License-Identifier: MIT
 *
 * tensor.c - see tensor.h. Types of less than 8 bits go element by element, as a run may start or end inside a byte.
 */
#include <stdlib.h>

#include "ir/dtype/codec.h"
#include "ir/support/str.h"
#include "ir/tensor.h"

size_t qc_tensor_bytes(qc_dtype dtype, int64_t count)
{
    size_t bits = (size_t)qc_dtype_bits(dtype);
    return bits >= 8 ? (size_t)count * (bits / 8) : ((size_t)count * bits + 7) / 8;
}

qc_status qc_tensor_create(
    qc_diag *diag, const char *where, qc_dtype dtype, int rank, const int64_t *dims, qc_tensor *tensor)
{
    qc_tensor t = {.dtype = dtype, .rank = rank, .count = 1};

    if (rank < 0 || rank > QC_MAX_RANK || qc_dtype_bits(dtype) <= 0)
        return qc_error(diag, where, "a tensor of %s with %d dimensions", qc_dtype_name(dtype), rank);
    for (int i = 0; i < rank; i++) {
        t.dims[i] = dims[i];
        if (dims[i] < 0)
            return qc_error(diag, where, "dimension %d is %lld", i, (long long)dims[i]);
        if (__builtin_mul_overflow(t.count, dims[i], &t.count) || t.count > (int64_t)1 << 59)
            return qc_error(diag, where, "a tensor of more elements than memory can hold");
    }
    size_t size = qc_tensor_bytes(dtype, t.count);
    t.data = calloc(1, size ? size : 1);
    if (!t.data)
        return qc_error(diag, where, "no memory for %zu bytes", size);
    *tensor = t;
    return QC_OK;
}

void qc_tensor_free(qc_tensor *tensor)
{
    free(tensor->data);
    *tensor = (qc_tensor){0};
}

const char *qc_tensor_text(qc_arena *arena, const qc_tensor *tensor)
{
    char *text = qc_arena_printf(arena, "%s[", qc_dtype_name(tensor->dtype));
    for (int i = 0; i < tensor->rank; i++)
        text = qc_arena_printf(arena, "%s%s%lld", text, i ? ", " : "", (long long)tensor->dims[i]);
    return qc_arena_printf(arena, "%s]", text);
}

bool qc_tensor_same_shape(const qc_tensor *a, const qc_tensor *b)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dims[i] != b->dims[i])
            return false;
    return true;
}

int64_t qc_tensor_dim(const qc_tensor *tensor, int index)
{
    int at = index < 0 ? tensor->rank + index : index;
    return at >= 0 && at < tensor->rank ? tensor->dims[at] : 1;
}

static char *element(const qc_tensor *tensor, int64_t offset)
{
    return (char *)tensor->data + qc_tensor_bytes(tensor->dtype, offset);
}

void qc_tensor_read(const qc_tensor *tensor, int64_t offset, int64_t count, float *values)
{
    if (qc_dtype_bits(tensor->dtype) >= 8) {
        qc_decode_f32(tensor->dtype, element(tensor, offset), values, (size_t)count);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        uint8_t code = (uint8_t)qc_code_get(tensor->data, qc_dtype_bits(tensor->dtype), (size_t)(offset + i));
        qc_decode_f32(tensor->dtype, &code, values + i, 1);
    }
}

void qc_tensor_write(qc_tensor *tensor, int64_t offset, int64_t count, const float *values)
{
    if (qc_dtype_bits(tensor->dtype) >= 8) {
        qc_encode_f32(tensor->dtype, values, element(tensor, offset), (size_t)count);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        uint8_t code = 0;
        qc_encode_f32(tensor->dtype, values + i, &code, 1);
        qc_code_put(tensor->data, qc_dtype_bits(tensor->dtype), (size_t)(offset + i), code);
    }
}

void qc_tensor_copy(
    qc_tensor *to, int64_t to_offset, const qc_tensor *from, int64_t from_offset, int64_t count)
{
    const int bits = qc_dtype_bits(to->dtype);
    if (bits >= 8) {
        memcpy(element(to, to_offset), element(from, from_offset), qc_tensor_bytes(to->dtype, count));
        return;
    }
    for (int64_t i = 0; i < count; i++)
        qc_code_put(to->data, bits, (size_t)(to_offset + i),
            qc_code_get(from->data, bits, (size_t)(from_offset + i)));
}

int64_t qc_tensor_int(const qc_tensor *tensor, int64_t offset)
{
    int64_t value = 0;
    if (qc_dtype_bits(tensor->dtype) >= 8) {
        qc_convert(tensor->dtype, element(tensor, offset), QC_I64, &value, 1);
    } else {
        uint8_t code = (uint8_t)qc_code_get(tensor->data, qc_dtype_bits(tensor->dtype), (size_t)offset);
        qc_convert(tensor->dtype, &code, QC_I64, &value, 1);
    }
    return value;
}

float *qc_tensor_decode(qc_diag *diag, const char *where, const qc_tensor *tensor)
{
    float *values = malloc((size_t)tensor->count * sizeof(float) + 1);
    if (!values) {
        qc_error(diag, where, "no memory for %lld elements", (long long)tensor->count);
        return NULL;
    }
    qc_tensor_read(tensor, 0, tensor->count, values);
    return values;
}
