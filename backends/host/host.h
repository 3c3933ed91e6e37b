/* SPDX-License-Identifier: MIT
 *
 * host.h - the CPU kernels: plain functions over pointers, which know nothing of the IR.
 *
 * Element types. D below is bf16, f16 or f32. Values of D are kept packed (uint16_t or float); arithmetic is
 * f32, rounded to D exactly where the text of a function says so, and nowhere else.
 *
 * Order. Every sum has one written order, which depends on the lengths of the row and of its own sequence
 * only. Threads choose rows, heads and tiles, never the order inside one; so results are the same bits for
 * any thread count and for any grouping of sequences. A kernel that is called inside a parallel region runs
 * on the calling thread alone; so an executor may give each thread a sequence.
 *
 * Strides and counts are in elements. Sizes are the caller's to check: what comes from files was checked
 * where it entered. Unless said otherwise an output may be the very input (same pointer, same strides), else
 * they must not overlap.
 */
#ifndef QC_HOST_HOST_H
#define QC_HOST_HOST_H

#include "ir/dtype/hadamard.h"
#include "ir/support/diag.h"
#include "qc/dtype.h"

/* ---- engine -------------------------------------------------------------------------------------------- */

/* What kernels share: thread count, features of the processor, primitives of oneDNN. Any number may exist.
 * All functions that take a const engine may be called from several threads at once. */
typedef struct qc_host_engine qc_host_engine;

typedef struct qc_host_options {
    int thread_count; /* 0: as many as OpenMP would take */
    const char *isa;  /* generic, avx2, avx512, avx512_bf16; NULL: the best this processor has */
} qc_host_options;

/* NULL after a diagnostic. `options` may be NULL. */
qc_host_engine *qc_host_engine_create(qc_diag *diag, const qc_host_options *options);
void qc_host_engine_destroy(qc_host_engine *engine);
int qc_host_engine_thread_count(const qc_host_engine *engine);
/* "oneDNN 2.6.3, bf16 products" or "avx2, f32 products": for reports; lives as long as the
 * engine. */
const char *qc_host_engine_description(const qc_host_engine *engine);

/* ---- linear -------------------------------------------------------------------------------------------- */

/* Which rows belong together: sequence s is rows starts[s] .. starts[s + 1] - 1. Each is tiled from its own
 * first row. starts == NULL: all rows are one sequence. */
typedef struct qc_host_sequences {
    const size_t *starts; /* count + 1 entries; first 0, last the number of rows */
    size_t count;
} qc_host_sequences;

/* One weight, prepared for products. Immutable once made: any number of threads may use it. */
typedef struct qc_host_linear qc_host_linear;

typedef struct qc_host_linear_spec {
    size_t out_features, in_features; /* N, K: both at least 1 */
    qc_dtype weight_dtype;            /* bf16, f16 or f32 */
    const void *weight;   /* [N, K], row n at weight + n * weight_stride; copied, may be freed after */
    size_t weight_stride; /* 0: K */
    qc_dtype bias_dtype;
    const void *bias; /* [N], or NULL; copied */
    qc_dtype input_dtype;
    qc_dtype output_dtype; /* QC_DTYPE_NONE: as the input; f32 gives the sums unrounded */
} qc_host_linear_spec;

/* `where` names the weight in diagnostics. NULL after a diagnostic (memory, types). */
qc_host_linear *qc_host_linear_create(
    qc_host_engine *engine, qc_diag *diag, const char *where, const qc_host_linear_spec *spec);
void qc_host_linear_destroy(qc_host_linear *linear);
/* What one prepared weight takes, without making it: for memory plans. */
size_t qc_host_linear_bytes(const qc_host_engine *engine, const qc_host_linear_spec *spec);

/* y[r, n] = round(sum_k x[r, k] w[n, k] + bias[n]): f32 sums, one rounding. x is [rows, K] with row stride
 * x_stride (0: K), y is [rows, N] with y_stride (0: N); x and y must not overlap. */
qc_status qc_host_linear_run(const qc_host_linear *linear, qc_diag *diag, const void *x, size_t x_stride,
    void *y, size_t y_stride, size_t rows, qc_host_sequences sequences);

/* The same of groups of rows that have a weight each: those of sequence g are multiplied by linears[g], which is not looked at
 * where there are none. All weights must have been made alike: sizes, element types. The bits are those of qc_host_linear_run
 * on each group alone. */
qc_status qc_host_linear_run_groups(const qc_host_linear *const *linears, qc_diag *diag, const void *x,
    size_t x_stride, void *y, size_t y_stride, qc_host_sequences groups);

/* ---- attention ----------------------------------------------------------------------------------------- */

/* Scales that were made while running, one for each token and head or for `group` columns of it: the number of
 * (token, head, group g) is element token * token_stride + head * head_stride + g. Any type of 8 bits or more
 * that holds numbers. */
typedef struct qc_host_scales {
    qc_dtype dtype; /* QC_DTYPE_NONE: there are none */
    const void *data;
    const void *const *pages;         /* as in qc_host_heads, with its page_tokens */
    size_t token_stride, head_stride; /* in scales */
    size_t group;                     /* columns under one scale; 0: all */
} qc_host_scales;

/* A [tokens, heads, head_size] array of values of D, or of codes (f8e4m3, f8e5m2, i8, i4, f4e2m1) under static
 * or dynamic scales, not both. The value of a code is what qc_quantizer_dequantize gives (ir/dtype/quantizer.h,
 * symmetric): D(code * scale), and with a global scale D(f32(code * f32(scale / global))).
 *
 * Types of 4 bits are packed, two codes a byte, low bits first, and each (token, head) row starts at a byte;
 * strides count the codes of such padded rows, so they are even. Codes of 4 bits that take a byte each say so:
 * dtype i8 for i4 (the number itself), u8 with codes = f4e2m1. */
typedef struct qc_host_heads {
    qc_dtype dtype; /* of what lies in memory */
    qc_dtype codes; /* f4e2m1 where dtype is u8; QC_DTYPE_NONE: dtype says it */
    const void *data;
    const void *const *pages; /* not NULL: page p holds tokens p * page_tokens and on; `data` is unused */
    size_t page_tokens;
    size_t token_stride, head_stride; /* within a page or the flat array; the innermost stride is 1 */
    const float *scale;               /* static: scale[head * scale_stride + column * scale_column_stride] */
    size_t scale_stride;              /* 0: one for all heads */
    size_t scale_column_stride;       /* 0: one for all columns of a head */
    qc_host_scales scales;            /* dynamic */
    float global;                     /* 0: none */
} qc_host_heads;

/* Eager attention with every rounding of the eager code (Transformers 5, eager_attention_forward):
 *
 *     s = D(q . k)   s = D(s * scale)   masked s = D(s + finfo(D).min)
 *     p = P(softmax_f32(s))   out = D(p . v)
 *
 * With softcap c, s = D(D(tanh(D(s / c))) * c) before the mask. With sinks the softmax is over one more score a query, the
 * head's sink, whose probability is dropped.
 *
 * Query i stands at position past + i; key j at position j. Visible: j <= i's position if causal, and i's
 * position - j < window if window is not 0, and both in the same run of `chunk` positions if chunk is not 0. Query head h reads key head h / (query_heads / kv_heads). The
 * probability of a masked key is 0, so strips that are masked wholly are not computed, and a non-finite score
 * of a masked key goes unseen.
 *
 * With probs_codes the probabilities stay unnormalised and are rounded to codes, as kernels do that multiply
 * codes: e = exp_f32(s - max s), c = code(e / probs_scale), out = P(sum(c v) * probs_scale / sum(e)), all f32
 * but the codes; sum(e) is of the unrounded exponentials. */
typedef struct qc_host_attention {
    qc_dtype dtype;        /* D: of scores and output */
    qc_dtype probs_dtype;  /* P; QC_DTYPE_NONE: D */
    qc_dtype scores_dtype; /* of the scores if not D; QC_DTYPE_NONE: D */
    qc_dtype probs_codes;  /* f8e4m3, f8e5m2 or i8; QC_DTYPE_NONE: probabilities are not quantized */
    float probs_scale;     /* positive; read with probs_codes only */
    qc_host_heads q, k, v;
    void *out; /* [queries, query_heads, value_size] of D */
    size_t out_token_stride, out_head_stride;
    size_t queries, past, keys; /* keys = past + queries if causal; else any */
    size_t query_heads, kv_heads;
    size_t head_size;  /* of q and k */
    size_t value_size; /* of v and out; 0: head_size */
    float scale;
    bool causal;
    size_t window;      /* 0: none; counts the query itself */
    size_t chunk;       /* 0: none */
    float softcap;      /* 0: none */
    const float *sinks; /* [query_heads], or NULL */
} qc_host_attention;

/* Working memory of one call, at most; for memory plans. */
size_t qc_host_attention_bytes(const qc_host_engine *engine, const qc_host_attention *attention);

qc_status qc_host_attention_run(
    const qc_host_engine *engine, qc_diag *diag, const char *where, const qc_host_attention *attention);

/* ---- rows ---------------------------------------------------------------------------------------------- */

typedef enum qc_host_norm_style {
    QC_HOST_NORM_ROUND_THEN_SCALE, /* D(w * D(x * r)): Llama and most */
    QC_HOST_NORM_SCALE_THEN_ROUND, /* D((offset + w) * (x * r)): Gemma, offset 1; gpt-oss, 0 */
} qc_host_norm_style;

typedef struct qc_host_norm {
    qc_dtype dtype;       /* D, of x and y */
    const void *x;        /* row (t, h) at t * token_stride + h * head_stride, `size` elements */
    void *y;              /* laid out as x */
    size_t tokens, heads; /* heads 1 for a norm over the whole row */
    size_t token_stride, head_stride;
    size_t size;
    qc_dtype weight_dtype;
    const void *weight; /* [size]; NULL: none */
    float weight_offset;
    float eps;
    qc_host_norm_style style;
} qc_host_norm;

/* RMSNorm: r = 1 / sqrt(mean(x^2) + eps) in f32. */
void qc_host_rmsnorm(const qc_host_engine *engine, const qc_host_norm *norm);

typedef enum qc_host_rope_style {
    QC_HOST_ROPE_HALVES, /* pairs (i, i + rotary_size / 2) */
    QC_HOST_ROPE_PAIRS,  /* pairs (2i, 2i + 1) */
} qc_host_rope_style;

typedef struct qc_host_rope {
    qc_dtype dtype;
    const void *x; /* [tokens, heads, head_size] */
    void *y;       /* laid out as x */
    size_t tokens, heads, head_size, token_stride, head_stride;
    size_t rotary_offset;  /* first rotated element of a head; the rest is copied */
    size_t rotary_size;    /* even */
    const void *cos, *sin; /* values of table_dtype; row t for token t */
    qc_dtype table_dtype;
    size_t table_stride; /* row stride of the tables: rotary_size / 2 columns are read */
    qc_host_rope_style style;
    bool round_once; /* false: D(D(x cos) + D(rot sin)); true: D(x cos + rot sin) in f32 */
} qc_host_rope;

void qc_host_rope_apply(const qc_host_engine *engine, const qc_host_rope *rope);

/* y[t] = table[ids[t]] (* scale, rounded to dtype, unless scale is 1). ids are checked: an id outside [0,
 * rows) is an error that names `where`. */
qc_status qc_host_embed(const qc_host_engine *engine, qc_diag *diag, const char *where, qc_dtype dtype,
    const void *table, size_t table_rows, size_t row_size, const int64_t *ids, size_t tokens, float scale,
    void *y);

/* The elementwise ops of the op table (docs/ops.md), by their names. */
typedef enum qc_host_unary_op {
    QC_HOST_SILU,
    QC_HOST_SIGMOID,
    QC_HOST_GELU_TANH,
    QC_HOST_NEG,
    QC_HOST_ABS,
    QC_HOST_EXP,
    QC_HOST_LOG,
    QC_HOST_SIN,
    QC_HOST_COS,
    QC_HOST_TANH,
    QC_HOST_SQRT,
    QC_HOST_RSQRT,
    QC_HOST_FLOOR,
} qc_host_unary_op;

/* y[i] = D(op(x[i])), f32 inside. */
void qc_host_unary(
    const qc_host_engine *engine, qc_host_unary_op op, qc_dtype dtype, const void *x, void *y, size_t count);

typedef enum qc_host_binary_op {
    QC_HOST_ADD,
    QC_HOST_SUB,
    QC_HOST_MUL,
    QC_HOST_DIV,
    QC_HOST_MINIMUM,
    QC_HOST_MAXIMUM,
} qc_host_binary_op;

typedef struct qc_host_pairing {
    qc_host_binary_op op;
    qc_dtype a_dtype, b_dtype, y_dtype;
    const void *a, *b;
    void *y;
    size_t rows, columns; /* of a and y, which are contiguous */
    size_t b_row_stride, b_column_stride;
} qc_host_pairing;

/* y[r, c] = Y(a[r, c] op b[r * b_row_stride + c * b_column_stride]), Y the type of y: b_row_stride 0 broadcasts one row,
 * b_column_stride 0 a column of row values; (columns, 1) is elementwise, (0, 0) a scalar. */
void qc_host_binary(const qc_host_engine *engine, const qc_host_pairing *pairing);

/* y = D(D(silu(gate)) * up), the middle of a gated MLP, in one sweep. Rows of `columns`; strides in elements.
 */
void qc_host_silu_mul(const qc_host_engine *engine, qc_dtype dtype, const void *gate, size_t gate_stride,
    const void *up, size_t up_stride, void *y, size_t y_stride, size_t rows, size_t columns);

typedef struct qc_host_rotation {
    const qc_hadamard *matrix; /* M; not copied */
    bool inverse;              /* M^T */
    bool wide;                 /* sums in f64, rounded to f32 and then to D; else in f32 */
    qc_dtype dtype;            /* D, of x and y */
} qc_host_rotation;

/* y = D(x M) for each row of matrix->size elements, with the sums and the order of ir/dtype/hadamard.h. An error when
 * count is no multiple of that, or memory is short. y may be x. */
qc_status qc_host_hadamard(const qc_host_engine *engine, qc_diag *diag, const char *where,
    const qc_host_rotation *rotation, const void *x, void *y, size_t count);

/* y = D(softmax(x)) of each contiguous row, f32 inside. */
void qc_host_softmax(
    const qc_host_engine *engine, qc_dtype dtype, const void *x, void *y, size_t rows, size_t columns);

/* Any type to any type (ir/dtype's codec), split among threads. src and dst do not overlap. */
void qc_host_convert(
    const qc_host_engine *engine, qc_dtype from, const void *src, qc_dtype to, void *dst, size_t count);

/* ---- mixtures of experts ------------------------------------------------------------------------------- */

/* ids[r * k + i]: the column of the i-th largest element of row r of x [rows, columns]; of equals the lower column
 * first. A NaN is larger than every number. */
qc_status qc_host_topk(const qc_host_engine *engine, qc_diag *diag, const char *where, qc_dtype dtype,
    const void *x, size_t rows, size_t columns, size_t k, int32_t *ids);

/* y[r, i] = x[r, ids[r, i]], i < k. ids are checked. */
qc_status qc_host_take(const qc_host_engine *engine, qc_diag *diag, const char *where, size_t elem_bytes,
    const void *x, size_t rows, size_t columns, const int32_t *ids, size_t k, void *y);

typedef struct qc_host_group_mask {
    qc_dtype dtype; /* of x and y [rows, columns] */
    size_t rows, columns, groups;
    size_t chosen; /* groups that a row keeps: ids [rows, chosen], checked */
    float fill;    /* rounded to dtype: the elements of the other groups */
} qc_host_group_mask;

/* y may be x. */
qc_status qc_host_mask_groups(const qc_host_engine *engine, qc_diag *diag, const char *where,
    const qc_host_group_mask *mask, const void *x, const int32_t *ids, void *y);

/* Pairs of expert and token, by expert, then token: rows [3, count], of each its expert, token and slot of ids [tokens, k].
 * count is tokens * k. A token that has an expert twice is an error. */
qc_status qc_host_expert_rows(qc_diag *diag, const char *where, const int32_t *ids, size_t tokens, size_t k,
    size_t experts, int32_t *rows);
/* The same of every token for every expert, experts * tokens of them; the slot of pairs that ids do not have is -1. */
qc_status qc_host_expert_all_rows(qc_diag *diag, const char *where, const int32_t *ids, size_t tokens,
    size_t k, size_t experts, int32_t *rows);
/* starts[e], experts + 1 of them: where expert e's rows begin, given the experts of rows; an error if they are not in order. */
qc_status qc_host_expert_starts(
    qc_diag *diag, const char *where, const int32_t *rows, size_t count, size_t experts, size_t *starts);

/* y[r] = x[ids[r]], rows of row_bytes. ids are checked. */
qc_status qc_host_gather_rows(const qc_host_engine *engine, qc_diag *diag, const char *where, const void *x,
    size_t x_rows, size_t row_bytes, const int32_t *ids, size_t count, void *y);

/* y[r] = w[token, slot] of rows [3, count]; for a slot of -1 zero, or w[token, 0]. */
qc_status qc_host_expert_scores(qc_diag *diag, const char *where, size_t elem_bytes, const void *w,
    size_t tokens, size_t k, const int32_t *rows, size_t count, bool unrouted_first, void *y);

typedef struct qc_host_combination {
    qc_dtype dtype; /* D, of y [rows, columns] and the result [tokens, columns] */
    size_t rows, columns, tokens;
    size_t k;        /* rows of a token, at most */
    bool round_once; /* false: D(D(D(0 + a) + b) + c) */
} qc_host_combination;

/* out[t]: the sum of the rows of y that are token t's, in their order, but for those of slot -1; f32 sums. */
qc_status qc_host_expert_combine(const qc_host_engine *engine, qc_diag *diag, const char *where,
    const qc_host_combination *combination, const void *y, const int32_t *rows, void *out);

/* ---- statistics and evaluation ------------------------------------------------------------------------- */

/* min[h], max[h] over tokens and head_size of x [tokens, heads, head_size] of D. Zeros count as -0 < +0, so
 * the result does not depend on the order. false if a value is infinite or NaN (min, max then say nothing),
 * or tokens is 0. */
bool qc_host_minmax_heads(const qc_host_engine *engine, qc_dtype dtype, const void *x, size_t tokens,
    size_t heads, size_t head_size, size_t token_stride, size_t head_stride, float *min, float *max);

/* The same per column of [rows, columns]: min[c], max[c]. */
bool qc_host_minmax_columns(const qc_host_engine *engine, qc_dtype dtype, const void *x, size_t rows,
    size_t columns, size_t row_stride, float *min, float *max);

/* sums[c] of x[r, c]^2 over the rows of contiguous [rows, columns] of D: f64 sums in order of rows, rounded to f32. false if
 * one is infinite or NaN. */
bool qc_host_sum_squares(
    const qc_host_engine *engine, qc_dtype dtype, const void *x, size_t rows, size_t columns, float *sums);

/* log(sum_c exp(x[c])) of one row of f32 logits: exp in f32, sums in f64, in a fixed order. NaN for a row
 * with NaN or +infinity. */
double qc_host_logsumexp(const qc_host_engine *engine, const float *logits, size_t columns);
/* log-probability of `target`. */
double qc_host_log_prob(const qc_host_engine *engine, const float *logits, size_t columns, size_t target);
/* First index of the largest value; NaN never wins; 0 for a row of NaN. */
size_t qc_host_argmax(const float *logits, size_t columns);
/* sum_c p (log p - log q), p and q the softmax of two rows. */
double qc_host_kl(const qc_host_engine *engine, const float *logits_p, const float *logits_q, size_t columns);

#endif
