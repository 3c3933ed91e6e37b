/* SPDX-License-Identifier: MIT
 *
 * weights_internal.h - what the parts of weights.h share.
 *
 *   weights.c          opens the source; the public functions
 *   weights_prepare.c  an expression -> infos of its values; what must be had whole is computed here
 *   weights_scale.c    scales that need a look at a whole tensor first: its range, a search, a global scale
 *   weights_rows.c     rows of a value, in one thread
 *   weights_turn.c     rows of rotations, of what norms and centering change
 *   weights_move.c     rows of slices and of what is reshaped, transposes
 *   weights_run.c      chunks of rows on all threads, failures
 *
 * A stream's expression is cut into two kinds of values. `ready` ones were computed whole when the stream was
 * opened. All others are operations of the streamable kinds (weight, const, cast, unpack, quantize, dequantize,
 * qparams, zero_point, hadamard, center, fill, mul by columns, slice, reshape) whose row i needs row i of their operands only, or rows
 * of one block, or rows that follow from i. Invariant: after
 * qc_weight_stream_open every value that a row needs is ready or streamable, and all shapes, types and schemes
 * have been checked, so that computing rows can fail in the ways of `failure` alone.
 *
 * Elements of less than 8 bits are one byte each here (integers sign-extended), unlike in the IR's tensors.
 */
#ifndef QC_RUNTIME_WEIGHTS_INTERNAL_H
#define QC_RUNTIME_WEIGHTS_INTERNAL_H

#include <sys/stat.h>

#include "ir/ctx.h"
#include "ir/dtype/hadamard.h"
#include "ir/dtype/mse.h"
#include "ir/op_info.h"
#include "ir/scheme.h"
#include "runtime/weights.h"

/* Memory of one thread for one chunk: what is allocated lives until the next reset, which gives nothing back to the
 * system but puts everything into one block. */
typedef struct qc_scratch {
    char *base;
    size_t capacity_bytes, used_bytes, wanted_bytes;
    struct scratch_extra *extras; /* what did not fit the base */
} scratch;

void qc_scratch_reset(scratch *s);
void qc_scratch_free(scratch *s);

/* Where the scales of a value lie. A line is a row of the last dimension. */
typedef enum layout_kind {
    LAYOUT_ONE,    /* one scale for all */
    LAYOUT_LINES,  /* one for each `group` columns of a line */
    LAYOUT_BLOCKS, /* one for each block of rows and columns */
} layout_kind;

typedef struct layout {
    layout_kind kind;
    int64_t columns, lines_per_row;
    int64_t group;      /* columns under one scale; blocks: columns of a block */
    int64_t per_line;   /* scales beside each other: columns / group, rounded up */
    int64_t block_rows; /* rows under one scale: 1 but for blocks */
} layout;

/* What an observer that searches has chosen for one tensor. Kept in qc_weights: members of a fused set share it, and
 * so do a tensor's scale and zero point. */
typedef struct search {
    struct search *next;
    const qc_value *x;
    const qc_value *importance;
    const char *scheme, *arg;
    int users; /* open streams */
    int stop_step;
    float amax; /* largest absolute value in any chosen range */
    float *mins,
        *maxs; /* the chosen ranges, or NULL: searched again, up to stop_step, where they are needed */
    size_t bytes;
} search;

struct qc_weights {
    qc_ctx *ctx;
    qc_arena arena;
    const char *directory;
    qc_st_set set;
    struct stat *opened; /* of each file */
    int threads;
    qc_map ahead; /* names of tensors that were asked for ahead */
    qc_map small; /* address of the qc_value -> its elements, few of them */
    search *searches;
    size_t search_bytes;
    scratch *scratches; /* one a thread */
    int scratch_count;
};

/* What is known of a value of the expression. */
typedef struct value_info {
    const qc_value *value;
    const char *op; /* name of the op that makes it */
    qc_dtype dtype;
    int rank;
    int64_t dims[QC_MAX_RANK];
    int64_t count, rows, row_elems;
    int level;                  /* longest chain of streamable ops below */
    void *ready;                /* all elements, or NULL: streamed */
    const struct value_info *x; /* operands of the streamable ops */
    const struct value_info *scale, *zero_point;
    float global;                       /* value of the operand, 0 where there is none */
    const qc_st_tensor *tensor;         /* weight; expert_weight: the first of `tensors` */
    int64_t tensor_first;               /* element of the tensor where the value begins */
    const qc_st_tensor *const *tensors; /* expert_weight: one a row; else NULL */
    int64_t spread;   /* elements that a row needs of the values below, as a multiple of its own: 1 or more */
    const void *data; /* const */
    qc_scheme_part part; /* quantize, qparams, zero_point */
    qc_quantizer quantizer;
    layout layout;  /* of the scales: of quantize, dequantize, and what qparams and zero_point make of x */
    qc_mse mse;     /* qparams, zero_point */
    search *search; /* NULL: the range is that of the elements */
    const float *column_weights; /* of errors in a search, or NULL */
    const struct turn *turn;     /* hadamard, center, fill, mul: how; else NULL */
    const struct move *move;     /* slice, reshape: how; else NULL */
} value_info;

struct qc_weight_stream {
    qc_weights *weights;
    qc_arena arena;
    qc_map infos;           /* address of the qc_value -> value_info * */
    QC_VEC(void *) buffers; /* malloc'ed, of ready values */
    size_t ready_bytes;     /* their sum */
    QC_VEC(search *) searches;
    const value_info *info; /* of the value that was asked for */
    int64_t align_rows;     /* chunks of so many rows, or a multiple, share no block */
};

typedef enum failure_kind {
    FAILURE_NONE,
    FAILURE_MEMORY,
    FAILURE_READ,      /* error: errno, or 0 for a file that ended early */
    FAILURE_NONFINITE, /* at `element` of `tensor` */
    FAILURE_OVERFLOW,  /* at `element` of what is computed from `tensor` (NULL: from none) */
    FAILURE_SCALE,     /* numbers that are finite, near `element`, with a scale of type `scale` that is not */
    FAILURE_SINK,      /* whoever takes the rows did not; it has its own words for it */
} failure_kind;

typedef struct failure {
    failure_kind kind;
    const qc_st_tensor *tensor;
    int error;
    int64_t element;
    size_t size_bytes;
    qc_dtype scale;
} failure;

/* ---- weights.c, weights_prepare.c ---- */

bool qc_weights_static_shape(const qc_type *type, int64_t dims[QC_MAX_RANK], int64_t *count);
/* What is known of `value`, made when it is asked for the first time; NULL after an error. */
value_info *qc_weights_prepare(qc_weight_stream *s, const qc_value *value, int depth);

/* ---- weights_rows.c ---- */

/* Bytes of `count` elements, those of less than 8 bits one byte each. */
size_t qc_weights_bytes(qc_dtype dtype, int64_t count);
/* Bytes that a row needs of the memory of a chunk, in the widest of the values that it comes from. */
size_t qc_weights_row_bytes(const value_info *v);
/* NULL, with the failure filled, when there is no memory. Of 64-byte alignment. */
void *qc_weights_scratch(scratch *s, size_t size_bytes, failure *f);
/* Rows [first, first + count) of `v` into `out`. */
bool qc_weights_rows(scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count,
    void *out, failure *f);
/* Elements [first, first + count) of the weight `v` (of one tensor), which are looked at. */
bool qc_weights_read_elems(scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count,
    void *out, failure *f);
/* The same as qc_weights_rows, or where the rows lie already; NULL after a failure. */
const void *qc_weights_operand_rows(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, failure *f);
/* The same, not looked at for what is not finite; then a check of numbers (scales of that type, or their range) made of
 * all of the rows, which are not finite when a row is not. */
const void *qc_weights_raw_rows(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, failure *f);
bool qc_weights_check_numbers(const value_info *x, const void *rows, int64_t first, int64_t count,
    const float *numbers, int64_t n, qc_dtype type, failure *f);
/* The same for values to be quantized: a failure when one is not finite. */
const void *qc_weights_finite_rows(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, failure *f);
/* Rows of the quantize `v`; scales and zero points (NULL where it has none, or for those that are ready) as f32, those
 * of the blocks that the rows lie in. */
bool qc_weights_codes(scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count,
    void *codes, const float **scales, const float **zero_points, failure *f);
/* The ranges of rows of x that the search of qparams or zero_point `v` chooses when it stops at `stop_step`; bits of
 * the steps that improved one are OR-ed into *improved (may be NULL). */
bool qc_weights_search_rows(scratch *s, const value_info *v, const void *x, int64_t count, int stop_step,
    float *mins, float *maxs, uint64_t *improved, failure *f);
/* Fills the failure when one of `count` rows from `first` on is not finite. */
bool qc_weights_all_finite(const value_info *v, const void *rows, int64_t first, int64_t count, failure *f);
/* Scales in a line of blocks or lines of `count` rows. */
int64_t qc_weights_scale_count(const layout *l, int64_t count);

/* ---- weights_scale.c ---- */

/* Has the part an observer that searches? Fills *mse with its parameters; an error at `where` when they are wrong. */
qc_status qc_weights_mse(
    qc_ctx *ctx, const char *where, const qc_scheme_part *part, qc_mse *mse, bool *searches);
/* Where the scales that a part gives to x lie; false when that cannot be had by rows. */
bool qc_weights_layout(const qc_scheme_part *part, const value_info *x, layout *l);
/* Chooses the ranges for qparams or zero_point `v`: v->search. */
qc_status qc_weights_search(qc_weight_stream *s, value_info *v);
/* The largest absolute value that a global scale has to reach in v->x: of its elements, or of the ranges that a search
 * chooses. */
qc_status qc_weights_amax(qc_weight_stream *s, value_info *v, bool searches, float *amax);
/* The one scale and zero point of all of v->x. */
qc_status qc_weights_tensor_scale(qc_weight_stream *s, value_info *v, float *scale, float *zero_point);
void qc_weights_release_searches(qc_weight_stream *s);
void qc_weights_free_searches(qc_weights *w);
/* Those that no stream uses. */
void qc_weights_drop_searches(qc_weights *w);

/* ---- weights_turn.c ---- */

/* Fills v->turn for hadamard, center, fill and mul, whose factors are ready; *streamable: its rows can be had one by
 * one or, for a rotation of rows that qc_weights_turn_is_whole speaks of, with qc_weights_turn_whole. */
qc_status qc_weights_prepare_turn(qc_weight_stream *s, const qc_op *op, const char *where, value_info *v,
    const value_info *factors, bool *streamable);
/* Is a block of `size` rows of `row_bytes` too large for a chunk? */
bool qc_weights_turn_is_whole(int64_t size, uint64_t row_bytes);
/* Memory of a thread that turns columns. */
size_t qc_weights_turn_panel_bytes(int64_t size);
/* Rows of a block that is turned together; 0 when rows are turned by themselves. */
int64_t qc_weights_turn_align(const value_info *v);
bool qc_weights_turn_rows(scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count,
    void *out, failure *f);
/* All rows into `data`, panels of columns on all threads. */
qc_status qc_weights_turn_whole(qc_weights *w, const value_info *v, int64_t align_rows, void *data);

/* ---- weights_move.c ---- */

/* Fills v->move for slice and reshape; *streamable: its rows can be had one by one. */
qc_status qc_weights_prepare_move(qc_weight_stream *s, const qc_op *op, value_info *v, bool *streamable);
bool qc_weights_move_rows(scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count,
    void *out, failure *f);
/* Is `v` a matrix turned over? */
bool qc_weights_transposes(const qc_op *op, const value_info *v);
/* All of it into `data`, chunks of the operand's rows on all threads. */
qc_status qc_weights_transpose_whole(qc_weights *w, const value_info *v, int64_t align_rows, void *data);

/* ---- weights_run.c ---- */

/* All rows of one value. */
typedef bool (*chunk_fn)(void *user, scratch *s, int64_t first, int64_t count, failure *f);
/* Calls fn on all threads for chunks of the rows [first, first + count); one chunk has about `row_bytes` a row and is
 * a multiple of align_rows. Reports the failure of the lowest chunk. */
qc_status qc_weights_run(qc_weights *w, int64_t first, int64_t count, size_t row_bytes, int64_t align_rows,
    chunk_fn fn, void *user);
/* Smallest and largest element of `info`. */
qc_status qc_weights_run_minmax(qc_weights *w, const value_info *info, float *min, float *max);
/* A chunk's memory, as a multiple of the elements that it reads: as stored and as computed with, codes, packed codes,
 * scales. So many threads work on chunks that all of theirs together stay below QC_WEIGHTS_CHUNKS_BYTES. */
#define QC_CHUNK_FORMS 5
/* Rows of a chunk. */
int64_t qc_weights_chunk_rows(size_t row_bytes, int64_t align_rows);
/* Rows of `info` into memory. */
qc_status qc_weights_run_rows(
    qc_weights *w, const value_info *info, int64_t first, int64_t count, int64_t align_rows, void *out);

#endif
