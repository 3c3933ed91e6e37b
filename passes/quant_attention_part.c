/* SPDX-License-Identifier: MIT
 *
 * quant_attention_part.c - the options of the attention passes, and what of a scheme they amount to.
 *
 * Ranges of a tensor, head or channel are static. One scale a token and head is computed as the model runs, in f32. FP4
 * codes are NVFP4: groups of 16 columns, whose FP8 scales are computed as the model runs, relative to a static
 * scale of the whole tensor. A search for local scales needs room above the largest of them: it may choose one up to five
 * codes larger than amax / 6, which saturates where the largest is 448 already; 256 leaves that room.
 *
 * The exponentials of attention lie in [0, 1]. As codes they are multiplied by the largest power of two that the type
 * has (256 in E4M3, as FlashAttention 3 does; 32768 in E5M2), or by 127.
 */
#include <string.h>

#include "passes/quant.h"
#include "passes/schemes.h"

enum { GROUP_ELEMS = 16, SEARCH_SCALE_MAX = 256 };

typedef struct code_type {
    const char *word;
    qc_dtype dtype;
    double probs; /* what stands for a probability of 1 */
} code_type;

static const code_type code_types[] = {
    {"e4m3", QC_F8E4M3, 256},
    {"e5m2", QC_F8E5M2, 32768},
    {"int8", QC_I8, 127},
    {"int4", QC_I4, 0},
    {"nvfp4", QC_F4E2M1, 0},
};

static const code_type *type_of(const char *word)
{
    for (size_t i = 0; i < sizeof code_types / sizeof code_types[0]; i++)
        if (strcmp(code_types[i].word, word) == 0)
            return &code_types[i];
    return NULL;
}

/* ---- options ------------------------------------------------------------------------------------------- */

/* Without and with channels; without and with NVFP4. */
static const char *const granularity_help[] = {
    "one static scale a tensor or head; token: one a token and head, computed as the model runs",
    "one static scale a tensor, head or channel (a column of a head); token: one a token and head, computed "
    "as the model runs",
};
static const char *const search_help[] = {
    "mse: scales of least squared error, by the observer mse_mean",
    "mse: scales of least squared error (nvfp4: those of groups; else by the observer mse_mean); four_six: "
    "nvfp4, the better of amax / 6 and amax / 4",
};

void qc_quant_add_attention_options(qc_pass *pass, const qc_quant_attention_pass *what)
{
    if (what->types)
        qc_pass_add_option(pass, "type", QC_OPTION_WORD, what->type, what->types, "the format of the codes");
    if (what->granularities)
        qc_pass_add_option(pass, "granularity", QC_OPTION_WORD, "tensor", what->granularities,
            granularity_help[strstr(what->granularities, "channel") != NULL]);
    if (what->queries)
        qc_pass_add_option(pass, "q", QC_OPTION_BOOL, "true", NULL, "quantize the queries");
    qc_pass_add_option(pass, "k", QC_OPTION_BOOL, "true", NULL, "quantize the keys");
    qc_pass_add_option(pass, "v", QC_OPTION_BOOL, "true", NULL, "quantize the values");
    if (what->queries)
        qc_pass_add_option(pass, "probs", QC_OPTION_WORD, "none", "none|e4m3|e5m2|int8",
            "codes of the attention probabilities, as kernels make them");
    qc_pass_add_option(pass, "observer", QC_OPTION_WORD, "static_minmax", what->observers,
        "how the ranges of the calibration sequences are folded into one");
    qc_pass_add_option(pass, "observer_args", QC_OPTION_MAP, "{}", NULL,
        "of the observer: averaging_constant, maxshrink, patience, grid, norm, percentile, recall");
    qc_pass_add_option(pass, "search", QC_OPTION_WORD, "none", what->searches,
        search_help[strstr(what->searches, "four_six") != NULL]);
    qc_pass_add_option(pass, "headroom", QC_OPTION_FLOAT, "1.0", NULL,
        "statistics are multiplied by it, at least 1: room for what calibration has not seen");
    qc_pass_add_option(pass, "center_k", QC_OPTION_BOOL, "false", NULL,
        "subtract from the keys the calibrated mean of each channel, which leaves softmax unchanged");
    qc_pass_add_option(pass, "skip", QC_OPTION_WORD, "none", "none|sliding",
        "sliding: leave layers with a window alone, and those that see keys of one chunk");
    qc_pass_add_option(pass, "layers", QC_OPTION_LIST, "[]", NULL,
        "only these layers: a number, FIRST-LAST, or a module by class, path or re:PATTERN; empty means all");
    qc_quant_add_options(pass, "[]",
        "attention modules: class, path or re:PATTERN; empty means all, recorded by their classes");
}

qc_dtype qc_quant_attention_probs(const qc_pass_ctx *pc, const qc_quant_attention_pass *what, double *scale)
{
    const code_type *type = what->queries ? type_of(qc_pass_option_text(pc, "probs")) : NULL;
    *scale = type ? 1.0 / type->probs : 1.0;
    return type ? type->dtype : QC_DTYPE_NONE;
}

/* ---- the part ------------------------------------------------------------------------------------------ */

typedef struct choice {
    qc_pass_ctx *pc;
    const code_type *type;
    const char *granularity, *observer, *search;
    bool nvfp4, dynamic; /* dynamic: no statistics at all */
    bool centered;
    double headroom;
} choice;

#define FAIL(c, ...) return qc_pass_fail((c)->pc, NULL, __VA_ARGS__), QC_ERROR

static qc_status check_search(choice *c)
{
    if (strcmp(c->search, "none") == 0)
        return QC_OK;
    if (c->dynamic)
        FAIL(c, "search=%s: the scales of granularity token are computed as the model runs, not searched",
            c->search);
    if (c->nvfp4)
        return QC_OK;
    if (strcmp(c->search, "four_six") == 0)
        FAIL(c, "search=four_six is for nvfp4, whose largest code can stand for 6 or 4: %s has search=mse",
            c->type->word);
    if (strcmp(c->granularity, "channel") == 0)
        FAIL(c, "search=mse: scales a channel come of the observer static_minmax");
    if (qc_pass_option_given(c->pc, "observer") && strcmp(c->observer, "mse_mean") != 0)
        FAIL(c, "search=mse is the observer mse_mean, but observer=%s was asked for", c->observer);
    c->observer = "mse_mean";
    return QC_OK;
}

/* The ranges of centered keys are made of those of each column, which static_minmax alone folds. */
static qc_status check_centering(const choice *c)
{
    if (!c->centered)
        return QC_OK;
    if (!qc_pass_option_bool(c->pc, "k"))
        FAIL(c, "center_k: the keys are not quantized, so there is nothing to gain");
    if (!c->dynamic && strcmp(c->observer, "static_minmax") != 0)
        FAIL(c, "center_k makes ranges of those of each column: it takes the observer static_minmax, not %s",
            c->observer);
    return QC_OK;
}

static qc_status read_choice(qc_pass_ctx *pc, const qc_quant_attention_pass *what, choice *c)
{
    *c = (choice){
        .pc = pc,
        .type = type_of(what->types ? qc_pass_option_text(pc, "type") : what->type),
        .granularity = what->granularities ? qc_pass_option_text(pc, "granularity") : "group",
        .observer = qc_pass_option_text(pc, "observer"),
        .search = qc_pass_option_text(pc, "search"),
        .centered = qc_pass_option_bool(pc, "center_k"),
        .headroom = qc_pass_option_float(pc, "headroom"),
    };
    c->nvfp4 = c->type->dtype == QC_F4E2M1;
    if (c->nvfp4 && what->granularities && qc_pass_option_given(pc, "granularity"))
        FAIL(c, "granularity=%s: nvfp4 has groups of %d under one scale of the tensor", c->granularity,
            (int)GROUP_ELEMS);
    if (c->nvfp4)
        c->granularity = "group";
    c->dynamic = strcmp(c->granularity, "token") == 0;
    if (c->dynamic && (qc_pass_option_given(pc, "observer") || qc_pass_option_given(pc, "observer_args")))
        FAIL(c, "granularity token has no observer: its scales are computed as the model runs");
    if (c->dynamic && qc_pass_option_given(pc, "headroom"))
        FAIL(c, "headroom is for ranges out of statistics, which granularity token does not need");
    return check_search(c) != QC_OK ? QC_ERROR : check_centering(c);
}

qc_status qc_quant_attention_part(qc_pass_ctx *pc, const qc_quant_attention_pass *what, const qc_attr **part)
{
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    choice c;
    if (read_choice(pc, what, &c) != QC_OK)
        return QC_ERROR;
    bool searched = c.nvfp4 && strcmp(c.search, "none") != 0;
    static const char *const keys[] = {"dynamic", "global", "granularity", "group", "headroom", "observer",
        "observer_args", "scale", "scale_max", "search", "type", NULL};
    const qc_attr *values[] = {
        c.dynamic || c.nvfp4 ? qc_attr_bool(ctx, true) : NULL,
        c.nvfp4 ? qc_attr_bool(ctx, true) : NULL,
        qc_attr_word(ctx, c.granularity),
        c.nvfp4 ? qc_attr_int(ctx, GROUP_ELEMS) : NULL,
        c.dynamic ? NULL : qc_attr_float(ctx, c.headroom),
        c.dynamic ? NULL : qc_attr_word(ctx, c.observer),
        c.dynamic ? NULL : qc_pass_option_attr(pc, "observer_args"),
        c.nvfp4     ? qc_attr_word(ctx, "f8e4m3")
        : c.dynamic ? qc_attr_word(ctx, "f32")
                    : NULL,
        searched ? qc_attr_float(ctx, SEARCH_SCALE_MAX) : NULL,
        searched ? qc_attr_word(ctx, c.search) : NULL,
        qc_attr_word(ctx, qc_dtype_name(c.type->dtype)),
    };
    return qc_scheme_part_complete(
        ctx, qc_pass_ctx_name(pc), "attention", qc_quant_map(ctx, keys, values), part);
}
