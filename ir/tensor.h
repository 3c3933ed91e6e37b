/* SPDX-License-Identifier: MIT
 *
 * tensor.h - dense tensors of the reference semantics (struct qc_tensor in op_info.h): making them, and
 * reading and writing elements as f32 whatever their type is. Offsets and counts are in elements, also for
 * the types that pack two to a byte.
 */
#ifndef QC_IR_TENSOR_H
#define QC_IR_TENSOR_H

#include "ir/op_info.h"
#include "ir/support/diag.h"

/* Bytes of `count` elements in storage form. */
size_t qc_tensor_bytes(qc_dtype dtype, int64_t count);
/* Zeroed elements in malloc'ed memory. Refuses ranks over QC_MAX_RANK, negative sizes, products beyond 2^62
 * bytes and what malloc refuses; `where` names the value. dims may be tensor->dims. */
qc_status qc_tensor_create(
    qc_diag *diag, const char *where, qc_dtype dtype, int rank, const int64_t *dims, qc_tensor *tensor);
/* Frees the elements; the tensor is empty then. An empty one is fine. */
void qc_tensor_free(qc_tensor *tensor);
/* "bf16[2, 3]" */
const char *qc_tensor_text(qc_arena *arena, const qc_tensor *tensor);
bool qc_tensor_same_shape(const qc_tensor *a, const qc_tensor *b);
/* The size of dimension `index`, which may be negative (-1 is the last); 1 when the rank is too small. */
int64_t qc_tensor_dim(const qc_tensor *tensor, int index);

/* Elements [offset, offset + count) as f32, through ir/dtype. */
void qc_tensor_read(const qc_tensor *tensor, int64_t offset, int64_t count, float *values);
/* Rounds and stores. */
void qc_tensor_write(qc_tensor *tensor, int64_t offset, int64_t count, const float *values);
/* Copies elements between tensors of one element type, bits untouched. */
void qc_tensor_copy(
    qc_tensor *to, int64_t to_offset, const qc_tensor *from, int64_t from_offset, int64_t count);
/* An integer element, exactly. */
int64_t qc_tensor_int(const qc_tensor *tensor, int64_t offset);
/* All elements as f32 in malloc'ed memory, to be freed; NULL after a diagnostic. */
float *qc_tensor_decode(qc_diag *diag, const char *where, const qc_tensor *tensor);

#endif
