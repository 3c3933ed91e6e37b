/* SPDX-License-Identifier: MIT
 *
 * weights.h - the values of weight expressions: SSA values that depend on no model input.
 *
 * A weight expression is computed from the shards of the module's source, in the element types and the
 * arithmetic that the IR names. Weights, casts, and quantizing per row or per tensor go row by row, in
 * blocks, by all threads; what cannot be had row by row (a scale of a whole tensor, any other operation) is
 * computed whole first, with the reference semantics of the op table. Results do not depend on the number of
 * threads or the size of blocks.
 */
#ifndef QC_RUNTIME_WEIGHTS_H
#define QC_RUNTIME_WEIGHTS_H

#include "ir/support/safetensors.h"
#include "qc/ir.h"

typedef struct qc_weights qc_weights;

/* Does the value depend on no model input, no state and no statistics still to come? A qparams is one when
 * all that it needs is. */
bool qc_value_is_weight_expression(const qc_value *value);
/* Bytes of the value's elements in storage form; false (with a diagnostic) when its shape is not static. */
bool qc_value_size_bytes(qc_ctx *ctx, const qc_value *value, size_t *size_bytes);

/* Opens the shards in the module's source directory, or in `source_override` if that is not NULL. A shard
 * that the module records must be there with that size and header, else the error names it. NULL after an
 * error. */
qc_weights *qc_weights_open(qc_ctx *ctx, const qc_module *module, const char *source_override);
void qc_weights_close(qc_weights *weights);
/* 0: as many as OpenMP has. */
void qc_weights_set_threads(qc_weights *weights, int threads);
const qc_st_set *qc_weights_tensors(const qc_weights *weights);
const char *qc_weights_directory(const qc_weights *weights);

/* Fills `buffer` (qc_value_size_bytes of it) with the value's elements. A NaN or an infinity in a tensor that
 * is read is an error naming it. The context is used by the calling thread alone. */
qc_status qc_weights_evaluate(qc_weights *weights, const qc_value *value, void *buffer);

/* The same by rows (of the first dimension), for tensors that are to be written as they are made. */
typedef struct qc_weight_stream qc_weight_stream;
/* Computes what cannot be had row by row. NULL after an error. */
qc_weight_stream *qc_weight_stream_open(qc_weights *weights, const qc_value *value);
/* Rows [first, first + count). When the value is a quantize under a scale [rows, 1], scale_buffer (may be
 * NULL) gets that scale's rows. */
qc_status qc_weight_stream_read(
    qc_weight_stream *stream, int64_t first, int64_t count, void *buffer, void *scale_buffer);
int64_t qc_weight_stream_rows(const qc_weight_stream *stream);
int64_t qc_weight_stream_row_elems(const qc_weight_stream *stream);
void qc_weight_stream_close(qc_weight_stream *stream);

#endif
