/* SPDX-License-Identifier: MIT
 *
 * weights.h - the values of weight expressions: SSA values that depend on no model input.
 *
 * A weight expression is computed from the shards of the module's source, in the element types and the
 * arithmetic that the IR names. Weights, casts, unpacking and quantizing go by chunks of rows, by all threads; what
 * needs a look at everything first (the range of a tensor, a global scale, a search) takes a pass of its own over the
 * rows; any other operation is computed whole, with the reference semantics of the op table. Results do not depend on
 * the number of threads or the size of chunks.
 *
 * Codes of less than 8 bits are one byte each here (integers sign-extended), unlike in the tensors of the IR.
 */
#ifndef QC_RUNTIME_WEIGHTS_H
#define QC_RUNTIME_WEIGHTS_H

#include "ir/support/safetensors.h"
#include "qc/ir.h"

typedef struct qc_weights qc_weights;

/* Does the value depend on no model input, no state and no statistics still to come? A qparams is one when
 * all that it needs is. */
bool qc_value_is_weight_expression(const qc_value *value);
/* Bytes of the value's elements, those of less than 8 bits one byte each; false (with a diagnostic) when its shape is
 * not static. */
bool qc_value_size_bytes(qc_ctx *ctx, const qc_value *value, size_t *size_bytes);

/* Opens the shards in the module's source directory, or in `source_override` if that is not NULL. A shard
 * that the module records must be there with that size and header, else the error names it. NULL after an
 * error. Small results are kept by value: the module must live, and its values with it, as long as the weights are
 * open. */
qc_weights *qc_weights_open(qc_ctx *ctx, const qc_module *module, const char *source_override);
void qc_weights_close(qc_weights *weights);
/* Forgets what is kept by value, but what open streams use: values of another module than that of the source are about to
 * go. */
void qc_weights_forget(qc_weights *weights);
/* 0: as many as OpenMP has. */
void qc_weights_set_threads(qc_weights *weights, int threads);
const qc_st_set *qc_weights_tensors(const qc_weights *weights);
const char *qc_weights_directory(const qc_weights *weights);

/* Fills `buffer` (qc_value_size_bytes of it) with the value's elements. A NaN or an infinity in a tensor that
 * is read is an error naming it. The context is used by the calling thread alone. */
qc_status qc_weights_evaluate(qc_weights *weights, const qc_value *value, void *buffer);

/* An error when a file of the source is not what it was when it was opened: written to, replaced, removed. */
qc_status qc_weights_check_source(qc_weights *weights);

/* The same by rows (of the first dimension), for tensors that are to be written as they are made. */
typedef struct qc_weight_stream qc_weight_stream;
/* Computes what cannot be had row by row: scales of a whole tensor, global scales, searches for ranges (each once, however
 * many streams ask), operations of other kinds. NULL after an error. */
qc_weight_stream *qc_weight_stream_open(qc_weights *weights, const qc_value *value);
/* Rows [first, first + count). */
qc_status qc_weight_stream_read(qc_weight_stream *stream, int64_t first, int64_t count, void *buffer);
int64_t qc_weight_stream_rows(const qc_weight_stream *stream);
int64_t qc_weight_stream_row_elems(const qc_weight_stream *stream);
/* Memory that its values hold which were computed whole. */
size_t qc_weight_stream_bytes(const qc_weight_stream *stream);
/* Do its rows come with the scales that they were quantized under? */
bool qc_weight_stream_brings_scales(const qc_weight_stream *stream);
void qc_weight_stream_close(qc_weight_stream *stream);

/* Memory that a stream of the value will take. */
typedef struct qc_weight_needs {
    uint64_t
        chunk_bytes; /* for each thread at work on it; so many are that it is QC_WEIGHTS_CHUNKS_BYTES together */
    uint64_t whole_bytes; /* for what is computed whole, as long as the stream is open */
    uint64_t
        kept_bytes; /* for the outcome of searches, of all streams together at most QC_WEIGHTS_KEPT_BYTES */
} qc_weight_needs;
#define QC_WEIGHTS_CHUNKS_BYTES (UINT64_C(256) << 20)
#define QC_WEIGHTS_KEPT_BYTES (UINT64_C(96) << 20)
qc_weight_needs qc_weights_needs(const qc_weights *weights, const qc_value *value, int64_t align_rows);
int qc_weights_threads(const qc_weights *weights);

/* Tells the system that the tensors of the source under the value will be read soon; gives their bytes. */
uint64_t qc_weights_read_ahead(qc_weights *weights, const qc_value *value);

/* Some rows of a stream's value, in the hands of one thread. */
typedef struct qc_weight_rows {
    int64_t first, count; /* rows; without a stream: the chunk's number, 1 */
    const void *data;     /* their elements */
    /* Of a quantize: the scales and zero points (NULL where there are none) under which they came to be, as f32, the
     * scale's elements [first_scale, first_scale + scale_count). */
    const float *scales, *zero_points;
    int64_t first_scale, scale_count;
    struct qc_scratch *scratch;
} qc_weight_rows;

/* Memory that lives until the sink returns; NULL when there is none. */
void *qc_weight_rows_memory(const qc_weight_rows *rows, size_t size_bytes);

/* Takes rows; called on any thread, several at a time, in no order. False stops everything; the reason is the sink's. */
typedef bool (*qc_weight_sink)(void *user, const qc_weight_rows *rows);

/* A stream whose rows go to a sink, in chunks of whole blocks and of a multiple of align_rows rows. Without a
 * stream: `chunks` pieces of work of some other kind. */
typedef struct qc_weight_job {
    qc_weight_stream *stream;
    int64_t align_rows, chunks;
    qc_weight_sink sink;
    void *user;
} qc_weight_job;

/* Does all jobs on all threads; reading, computing and what the sinks do overlap. */
/* *refused: a sink stopped it, and nothing was reported. */
qc_status qc_weights_run_jobs(qc_weights *weights, const qc_weight_job *jobs, size_t count, bool *refused);

#endif
