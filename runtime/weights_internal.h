/* SPDX-License-Identifier: MIT
 *
 * weights_internal.h - what the two halves of weights.h share: weights.c opens the source and prepares an
 * expression, weights_rows.c computes rows of it on all threads.
 *
 * A stream's expression is cut into two kinds of values. `ready` ones were computed whole when the stream was
 * opened. All others are operations of the streamable kinds (weight, const, cast, quantize, dequantize,
 * qparams per row) whose row i needs row i of their operands only. Invariant: after qc_weight_stream_open
 * every value that a row needs is ready or streamable, and all shapes, types and schemes have been checked,
 * so that computing rows can fail in the ways of `failure` alone.
 */
#ifndef QC_RUNTIME_WEIGHTS_INTERNAL_H
#define QC_RUNTIME_WEIGHTS_INTERNAL_H

#include "ir/ctx.h"
#include "ir/op_info.h"
#include "ir/scheme.h"
#include "runtime/weights.h"

struct qc_weights {
    qc_ctx *ctx;
    qc_arena arena;
    const char *directory;
    qc_st_set set;
    int threads;
};

/* What is known of a value of the expression. */
typedef struct value_info {
    const qc_value *value;
    const char *op; /* name of the op that makes it */
    qc_dtype dtype;
    int rank;
    int64_t dims[QC_MAX_RANK];
    int64_t count, rows, row_elems;
    int level;                          /* longest chain of streamable ops below */
    void *ready;                        /* all elements, or NULL: streamed */
    const struct value_info *x, *scale; /* operands of the streamable ops */
    const qc_st_tensor *tensor;         /* weight */
    qc_dtype tensor_dtype;
    const void *data;    /* const */
    qc_scheme_part part; /* quantize, qparams */
    qc_grid grid;        /* quantize, dequantize, qparams */
} value_info;

struct qc_weight_stream {
    qc_weights *weights;
    qc_arena arena;
    qc_map infos;           /* address of the qc_value -> value_info * */
    QC_VEC(void *) buffers; /* malloc'ed, of ready values */
    const value_info *info; /* of the value that was asked for */
};

typedef enum failure_kind {
    FAILURE_NONE,
    FAILURE_MEMORY,
    FAILURE_READ,      /* error: errno, or 0 for a file that ended early */
    FAILURE_NONFINITE, /* at `element` of `tensor`, or of an expression when tensor is NULL */
} failure_kind;

typedef struct failure {
    failure_kind kind;
    const qc_st_tensor *tensor;
    int error;
    int64_t element;
    size_t size_bytes;
} failure;

/* Bytes of `count` elements, sub-byte types packed. */
size_t qc_weights_bytes(qc_dtype dtype, int64_t count);
/* Rows [first, first + count) of `info` into `out`; scales as in qc_weight_stream_read. Splits the rows among
 * threads, reports the failure of the lowest row. */
qc_status qc_weights_run_rows(const qc_weight_stream *stream, const value_info *info, int64_t first,
    int64_t count, void *out, void *scales);
/* Smallest and largest element. */
qc_status qc_weights_run_minmax(
    const qc_weight_stream *stream, const value_info *info, float *min, float *max);

#endif
