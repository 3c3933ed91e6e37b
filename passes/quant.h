/* SPDX-License-Identifier: MIT
 *
 * quant.h - what the quantizing passes share: which modules they take, the symbols that record what was asked
 * for, the ops that make and read codes, and the quantization of attention.
 */
#ifndef QC_PASSES_QUANT_H
#define QC_PASSES_QUANT_H

#include "qc/pass.h"

/* Names of the rows of ir/dtype/arith.h; a test compares them. */
#define QC_ARITH_WORDS "ct_cpu|ct_cpu_bare|ct_cuda|ct_cuda_bare"

/* The ops that read a weight of a module that can be quantized. */
#define QC_WEIGHT_OPS "linear|expert_linear|embedding|keep"

/* Declares targets, ignore and arith. */
void qc_quant_add_options(qc_pass *pass, const char *default_targets, const char *targets_help);
/* Are the patterns of these LIST options (NULL-terminated) well formed? One of `ignore` that names no module that
 * any pass could quantize, most likely a slip, gets a warning that speaks of these ops ("linear|embedding"). */
qc_status qc_quant_check_patterns(
    qc_pass_ctx *pc, const qc_module *module, const char *op_names, const char *const *options);
/* Warns that a pattern of `option` names no module with one of these ops; says what comes near. */
void qc_quant_warn_no_match(
    qc_pass_ctx *pc, const qc_module *module, const char *op_names, const char *option, const char *pattern);
/* Is the text one of "a|b|c"? */
bool qc_quant_one_of(const char *text, const char *words);
/* A map from pairs of (key, value), ended by a NULL key; pairs whose value is NULL are left out. */
const qc_attr *qc_quant_map(qc_ctx *ctx, const char *const *keys, const qc_attr *const *values);
/* The LIST option as an attribute, NULL when it is empty. */
const qc_attr *qc_quant_list_option(qc_pass_ctx *pc, const char *name);
/* A symbol of this kind with these fields: one that is there already under BASE, BASE_1, ..., or a new one.
 * `number` >= 0: names are BASE_<number> from that number on. */
const char *qc_quant_symbol(qc_pass_ctx *pc, qc_module *module, const char *kind, const char *base,
    int number, const qc_attr *fields);
/* Fails for a module that was imported as tensors, which has no `what` ("attention"), and says why. */
qc_status qc_quant_need_graph(qc_pass_ctx *pc, const qc_module *module, const char *what);
/* bf16, f16, f32: what has no codes yet. */
bool qc_quant_is_plain(const qc_value *value);
bool qc_quant_is_returned(const qc_value *value);
/* Is the op a scale, zero point or global scale of inputs that comes of data, whether observed already or not? */
bool qc_quant_needs_data(const qc_op *op);
/* The cache_append that makes the value, the way from keys and values to attention; NULL when none does. */
qc_op *qc_quant_cache_of(const qc_value *value);
/* x, where the op is x times or over one number a row (or one for all), whatever its columns are multiplied with behind it;
 * NULL for any other op. */
qc_value *qc_quant_scaled(const qc_op *op);
/* Does `op` come before `other` in their function? Quick when they are neighbours. */
bool qc_quant_comes_before(const qc_op *op, const qc_op *other);

/* Moves what computes the value in front of `before`, in its order, unless it is there already. */
void qc_quant_hoist(qc_value *value, qc_op *before);

/* What stands for one tensor. */
typedef struct qc_quant_codes {
    qc_value *codes, *scale;
    qc_value *global;     /* of a part with a global scale, else NULL */
    qc_value *zero_point; /* of an asymmetric part, else NULL */
    int64_t experts;      /* of a bank, each of which has scales of its own; else 0 */
} qc_quant_codes;

/* qparams, zero_point and quantize of x by `part`, which is part `arg` of @scheme, built at `b`. q->global is the
 * global scale where the part wants one; NULL: x gets its own. Hints are PREFIX_scale and so on. */
void qc_quant_make(qc_pass_ctx *pc, qc_builder *b, qc_value *x, const char *scheme, const char *arg,
    const qc_attr *part, const char *prefix, qc_quant_codes *q);
/* Starts the op (qparams, zero_point or global_scale) again, with `x` in the place of its data: statistics, [2, experts]
 * where that is above 0. qc_make_end ends it. */
void qc_quant_make_scale(qc_builder *b, const qc_op *op, qc_value *x, int64_t experts);
/* dequantize of these codes back to `to`; the hint is PREFIX. */
qc_value *qc_quant_unmake(
    qc_builder *b, const qc_quant_codes *q, const qc_attr *part, qc_dtype to, const char *prefix);

#define QC_ATTENTION_OBSERVERS                                                                               \
    "static_minmax|memoryless_minmax|minmax|mse|memoryless_mse|mse_mean|percentile|recall_window"
/* Those of a global scale: that of one range for the whole tensor. */
#define QC_ATTENTION_GLOBAL_OBSERVERS "static_minmax|memoryless_minmax|minmax|percentile|recall_window"

/* What one attention pass can do. */
typedef struct qc_quant_attention_pass {
    const char *kind;          /* of the symbol: scheme, kv_scheme */
    const char *base;          /* its name */
    const char *types;         /* words of the option `type`, the first by default; NULL: no such option */
    const char *type;          /* the word where there is no option */
    const char *granularities; /* words of the option; NULL: no such option */
    const char *observers;
    const char *searches; /* words of the option `search` */
    bool queries;         /* has the options q and probs; else keys and values alone */
} qc_quant_attention_pass;

/* Declares the options of the pass, and what qc_quant_add_options does. */
void qc_quant_add_attention_options(qc_pass *pass, const qc_quant_attention_pass *what);
/* Quantizes the chosen operands of every attention op that the options select; a remark for each other one.
 */
qc_pass_result qc_quant_attention(qc_pass_ctx *pc, qc_module *module, const qc_quant_attention_pass *what);

/* The name of what is observed of operand `part` of the attention op, x: "model.layers.0.self_attn.k@R3", with what rotates
 * x, online or folded. In the pass's scratch memory. */
const char *qc_quant_attention_tap(
    qc_pass_ctx *pc, const qc_op *op, const char *part, const qc_value *x, const char *suffix);
/* The same of x, the input of a linear: "model.layers.0.mlp.down_proj.input@R4"; @normed where the weight of the norm that
 * makes x was folded into the linear. */
const char *qc_quant_input_tap(qc_pass_ctx *pc, const qc_op *op, const qc_value *x);

/* The options as a part of a scheme, checked. Contradictions are errors that name the option. */
qc_status qc_quant_attention_part(qc_pass_ctx *pc, const qc_quant_attention_pass *what, const qc_attr **part);
/* Codes and scale of attention probabilities that the option `probs` asks for: QC_DTYPE_NONE for none. The exponentials,
 * at most 1, are divided by the scale. */
qc_dtype qc_quant_attention_probs(const qc_pass_ctx *pc, const qc_quant_attention_pass *what, double *scale);

#endif
