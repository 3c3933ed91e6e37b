/* SPDX-License-Identifier: MIT
 *
 * scheme_part.c - what may be said of weights or inputs (schemes.h): the fields of a part, which values each may
 * have, and which go together. What passes here has a defined meaning, so that nobody behind it has to ask again.
 *
 * The combinations are those that compressed-tensors defines. FP4 exists in its two stored forms alone: groups of 16
 * whose FP8 scales are relative to a global one (NVFP4), and groups of 32 under powers of two (OCP Microscaling
 * Formats 1.0), which FP8 has too.
 */
#include <string.h>

#include "ir/ctx.h"
#include "passes/quant.h"
#include "passes/schemes.h"

#define TYPES "f8e4m3|f8e5m2|f4e2m1|i2|i3|i4|i5|i6|i7|i8"
#define ATTENTION_TYPES "f8e4m3|f8e5m2|f4e2m1|i4|i8"
#define WEIGHT_OBSERVERS                                                                                     \
    "memoryless_minmax|minmax|static_minmax|mse|memoryless_mse|nvfp4_expanded_mse|imatrix_mse|"              \
    "nvfp4_expanded_imatrix|unset"
#define PLAIN_OBSERVERS "memoryless_minmax|minmax|static_minmax|unset"
#define INPUT_OBSERVERS                                                                                      \
    "static_minmax|memoryless_minmax|minmax|mse|memoryless_mse|nvfp4_expanded_mse|mse_mean|percentile|"      \
    "recall_window|unset"

typedef struct part_field {
    const char *name;
    qc_attr_kind kind;
} part_field;

enum {
    ACTORDER,
    BLOCK,
    DYNAMIC,
    GLOBAL,
    GRANULARITY,
    GROUP,
    HEADROOM,
    OBSERVER,
    OBSERVER_ARGS,
    SCALE,
    SCALE_MAX,
    SEARCH,
    SYMMETRIC,
    TYPE,
    ZERO_POINT,
    FIELD_COUNT
};

static const part_field fields[FIELD_COUNT] = {
    [ACTORDER] = {"actorder", QC_ATTR_WORD},
    [BLOCK] = {"block", QC_ATTR_LIST},
    [DYNAMIC] = {"dynamic", QC_ATTR_BOOL},
    [GLOBAL] = {"global", QC_ATTR_BOOL},
    [GRANULARITY] = {"granularity", QC_ATTR_WORD},
    [GROUP] = {"group", QC_ATTR_INT},
    [HEADROOM] = {"headroom", QC_ATTR_FLOAT},
    [OBSERVER] = {"observer", QC_ATTR_WORD},
    [OBSERVER_ARGS] = {"observer_args", QC_ATTR_MAP},
    [SCALE] = {"scale", QC_ATTR_WORD},
    [SCALE_MAX] = {"scale_max", QC_ATTR_FLOAT},
    [SEARCH] = {"search", QC_ATTR_WORD},
    [SYMMETRIC] = {"symmetric", QC_ATTR_BOOL},
    [TYPE] = {"type", QC_ATTR_WORD},
    [ZERO_POINT] = {"zero_point", QC_ATTR_WORD},
};

static const char *const kind_texts[] = {
    [QC_ATTR_BOOL] = "true or false",
    [QC_ATTR_INT] = "a whole number",
    [QC_ATTR_FLOAT] = "a number",
    [QC_ATTR_WORD] = "a word",
    [QC_ATTR_LIST] = "a list",
    [QC_ATTR_MAP] = "a map",
};

typedef struct reader {
    qc_ctx *ctx;
    const char *what;
    bool weights, attention;        /* else inputs */
    const qc_attr *at[FIELD_COUNT]; /* NULL: not given */
    /* Of the same: */
    const char *type, *granularity, *observer, *scale, *search;
    bool symmetric, dynamic, global;
} reader;

#define FAIL(r, ...) return qc_error(qc_ctx_diag((r)->ctx), (r)->what, __VA_ARGS__)

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* "a|b|c" as "a, b, c" */
static const char *listed(qc_ctx *ctx, const char *words)
{
    qc_arena *arena = qc_ctx_arena(ctx);
    char *text = qc_arena_alloc(arena, 2 * strlen(words) + 1), *to = text;
    for (const char *at = words; *at; at++) {
        *to++ = *at == '|' ? ',' : *at;
        if (*at == '|')
            *to++ = ' ';
    }
    return text;
}

static qc_status check_word(const reader *r, const char *field, const char *text, const char *words)
{
    if (qc_quant_one_of(text, words))
        return QC_OK;
    if (!text[0])
        FAIL(r, "%s is missing: it is one of %s", field, listed(r->ctx, words));
    FAIL(r, "%s '%s' is none of %s", field, text, listed(r->ctx, words));
}

/* ---- fields -------------------------------------------------------------------------------------------- */

static const char *text_of(const reader *r, int field)
{
    return qc_attr_as_text(r->at[field]);
}

static qc_status read_fields(reader *r, const qc_attr *written)
{
    for (size_t i = 0; i < qc_attr_count(written); i++) {
        const char *key = qc_attr_key(written, i);
        const qc_attr *value = qc_attr_item(written, i);
        int field = 0;
        while (field < FIELD_COUNT && !is(key, fields[field].name))
            field++;
        if (field == FIELD_COUNT)
            FAIL(r, "unknown field '%s'", key);
        qc_attr_kind kind = qc_attr_get_kind(value), wanted = fields[field].kind;
        if (kind != wanted && !(wanted == QC_ATTR_WORD && kind == QC_ATTR_STRING) &&
            !(wanted == QC_ATTR_FLOAT && kind == QC_ATTR_INT))
            FAIL(r, "%s is %s", key, kind_texts[wanted]);
        r->at[field] = value;
    }
    r->type = text_of(r, TYPE);
    r->granularity = text_of(r, GRANULARITY);
    r->observer = text_of(r, OBSERVER);
    r->scale = text_of(r, SCALE);
    r->search = text_of(r, SEARCH);
    r->symmetric = !r->at[SYMMETRIC] || qc_attr_as_bool(r->at[SYMMETRIC]);
    r->dynamic = qc_attr_as_bool(r->at[DYNAMIC]);
    r->global = qc_attr_as_bool(r->at[GLOBAL]);
    return QC_OK;
}

static bool is_size(const qc_attr *attr)
{
    return attr && qc_attr_get_kind(attr) == QC_ATTR_INT && qc_attr_as_int(attr) > 0 &&
           qc_attr_as_int(attr) <= INT32_MAX;
}

static qc_status check_granularity(const reader *r)
{
    const char *words = r->weights     ? "tensor|channel|group|block"
                        : r->attention ? "tensor|head|channel|token|group"
                                       : "tensor|token|group";
    bool group = is(r->granularity, "group"), block = is(r->granularity, "block");
    const qc_attr *sizes = r->at[BLOCK];
    if (check_word(r, "granularity", r->granularity, words) != QC_OK)
        return QC_ERROR;
    if (group && !r->at[GROUP])
        FAIL(r, "granularity group needs a size: group=128");
    if (group && !is_size(r->at[GROUP]))
        FAIL(r, "group is a number of columns, not %lld", (long long)qc_attr_as_int(r->at[GROUP]));
    if (!group && r->at[GROUP])
        FAIL(r, "group belongs to granularity group, not %s", r->granularity);
    if (block && !sizes)
        FAIL(r, "granularity block needs its sizes: block=[128, 128]");
    if (block &&
        (qc_attr_count(sizes) != 2 || !is_size(qc_attr_item(sizes, 0)) || !is_size(qc_attr_item(sizes, 1))))
        FAIL(r, "block is two numbers, [rows, columns]");
    if (!block && sizes)
        FAIL(r, "block belongs to granularity block, not %s", r->granularity);
    return QC_OK;
}

/* Which of the scales are computed as the model runs. */
static qc_status check_dynamic(const reader *r)
{
    if (r->weights && r->dynamic)
        FAIL(r, "weights do not change: dynamic is for inputs");
    if (r->attention && r->dynamic && !qc_quant_one_of(r->granularity, "token|group"))
        FAIL(r, "scales a %s of attention are static", r->granularity);
    if (r->attention && is(r->granularity, "channel") && r->type[0] == 'f')
        FAIL(r,
            "granularity channel is for integers, not %s: a float's codes suit large and small columns alike",
            r->type);
    if (!r->weights && is(r->granularity, "token") && !r->dynamic)
        FAIL(r, "scales a token are dynamic: nobody knows the tokens to come");
    if (!r->weights && is(r->granularity, "group") && !r->dynamic)
        FAIL(r, "scales a group are dynamic: static inputs have one scale a tensor");
    return QC_OK;
}

/* Element types of codes and scales, and what only goes with some of them. */
static qc_status check_types(const reader *r)
{
    bool fp4 = is(r->type, "f4e2m1"), mx = is(r->scale, "f8e8m0");
    int64_t group = qc_attr_as_int(r->at[GROUP]);
    if (!r->symmetric && r->type[0] == 'f')
        FAIL(r, "codes of type %s are symmetric", r->type);
    if (!r->symmetric && r->attention)
        FAIL(r, "codes of attention are symmetric");
    if (r->at[ZERO_POINT] && r->symmetric)
        FAIL(r, "zero_point is the type of zero points, and symmetric codes have none");
    if (r->at[ZERO_POINT] && check_word(r, "zero_point", text_of(r, ZERO_POINT), "i8") != QC_OK)
        return QC_ERROR;
    if (r->at[SCALE] && check_word(r, "scale", r->scale, "bf16|f16|f32|f8e4m3|f8e8m0") != QC_OK)
        return QC_ERROR;
    if (r->global && !(fp4 && is(r->granularity, "group") && is(r->scale, "f8e4m3")))
        FAIL(r, "a global scale belongs to f4e2m1 in groups with scale=f8e4m3");
    if (is(r->scale, "f8e4m3") && !r->global)
        FAIL(r, "scale=f8e4m3 needs a global scale: global");
    if (mx && !((fp4 || is(r->type, "f8e4m3")) && group == 32))
        FAIL(r, "scale=f8e8m0 belongs to f4e2m1 and f8e4m3 in groups of 32");
    if (fp4 && !mx && !(r->global && group == 16))
        FAIL(r, "f4e2m1 comes in groups of 16 with global and scale=f8e4m3, or in groups of 32 with "
                "scale=f8e8m0");
    return QC_OK;
}

/* ---- observers ----------------------------------------------------------------------------------------- */

typedef struct observer_arg {
    const char *name;
    double least, most;
    bool above; /* `least` itself is too small */
} observer_arg;

static const observer_arg observer_args[] = {
    {"averaging_constant", 0, 1, true},
    {"maxshrink", 0, 1, false},
    {"patience", 0, 1e9, false},
    {"grid", 0, 1e6, true},
    {"norm", 0, 1e3, true},
    {"expand", 0, 1e3, true},
    {"chunk_size", 1, 1e9, false},
    {"percentile", 0, 100, true},
    {"recall", 0, 1, true},
};

static qc_status check_observer_arg(const reader *r, const char *key, const qc_attr *value)
{
    qc_attr_kind kind = qc_attr_get_kind(value);
    double number = qc_attr_as_float(value);
    if (is(key, "strict") && kind == QC_ATTR_BOOL)
        return QC_OK;
    for (size_t i = 0; i < sizeof observer_args / sizeof observer_args[0]; i++) {
        const observer_arg *arg = &observer_args[i];
        if (!is(key, arg->name))
            continue;
        if ((kind != QC_ATTR_INT && kind != QC_ATTR_FLOAT) ||
            !(number >= arg->least && number <= arg->most) || (arg->above && number <= arg->least))
            FAIL(r, "observer_args: %s is a number from %g%s to %g", key, arg->least,
                arg->above ? " (excluded)" : "", arg->most);
        return QC_OK;
    }
    FAIL(r, "observer_args: no observer knows '%s'", key);
}

static qc_status check_observer(const reader *r)
{
    const qc_attr *args = r->at[OBSERVER_ARGS];
    if (r->dynamic && !r->global && (r->at[OBSERVER] || qc_attr_count(args) > 0))
        FAIL(r, "a dynamic part has no observer");
    if (r->at[OBSERVER] &&
        check_word(r, "observer", r->observer, r->weights ? WEIGHT_OBSERVERS : INPUT_OBSERVERS) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < qc_attr_count(args); i++)
        if (check_observer_arg(r, qc_attr_key(args, i), qc_attr_item(args, i)) != QC_OK)
            return QC_ERROR;
    if (r->attention && is(r->granularity, "channel") && r->at[OBSERVER] && !is(r->observer, "static_minmax"))
        FAIL(r, "scales a channel come of the observer static_minmax, not %s", r->observer);
    if (r->attention && r->global &&
        !qc_quant_one_of(r->observer[0] ? r->observer : "unset", QC_ATTENTION_GLOBAL_OBSERVERS "|unset"))
        FAIL(r, "a global scale of attention comes of the observer %s, not %s",
            listed(r->ctx, QC_ATTENTION_GLOBAL_OBSERVERS), r->observer);
    if (r->at[ACTORDER] && !r->weights)
        FAIL(r, "actorder is for weights");
    return r->at[ACTORDER] ? check_word(r, "actorder", text_of(r, ACTORDER), "static|weight") : QC_OK;
}

/* ---- search and room ----------------------------------------------------------------------------------- */

static qc_status check_number(const reader *r, int field, double least, double most)
{
    double number = qc_attr_as_float(r->at[field]);
    if (r->at[field] && !(number >= least && number <= most))
        FAIL(r, "%s is a number from %g to %g", fields[field].name, least, most);
    return QC_OK;
}

/* Are local scales searched? */
static bool searches_scales(const reader *r)
{
    return r->at[SEARCH] && !is(r->search, "none");
}

static qc_status check_search(const reader *r)
{
    if (r->at[SEARCH] && check_word(r, "search", r->search, "none|mse|four_six") != QC_OK)
        return QC_ERROR;
    if (check_number(r, SCALE_MAX, 1, 448) != QC_OK || check_number(r, HEADROOM, 1, 1024) != QC_OK)
        return QC_ERROR;
    if ((searches_scales(r) || r->at[SCALE_MAX]) && !r->global)
        FAIL(r, "%s belongs to scales under a global scale: f4e2m1 in groups of 16",
            r->at[SCALE_MAX] ? "scale_max" : "search");
    if (r->at[HEADROOM] && (r->weights || (r->dynamic && !r->global)))
        FAIL(r, "headroom is for ranges out of statistics");
    if (!searches_scales(r))
        return QC_OK;
    if (!r->weights && !r->attention)
        FAIL(r, "search: engines make the scales of inputs as the model runs, of amax / 6");
    if (!qc_quant_one_of(r->observer[0] ? r->observer : "unset", PLAIN_OBSERVERS "|percentile|recall_window"))
        FAIL(r, "search starts from ranges as they are: it excludes the observer %s", r->observer);
    return QC_OK;
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

static const qc_attr *complete(const reader *r)
{
    const char *keys[FIELD_COUNT];
    const qc_attr *values[FIELD_COUNT];
    size_t count = 0;
    for (int field = 0; field < FIELD_COUNT; field++) {
        const qc_attr *value = r->at[field];
        if (value && fields[field].kind == QC_ATTR_WORD)
            value = qc_attr_word(r->ctx, qc_attr_as_text(value));
        if (field == SYMMETRIC)
            value = qc_attr_bool(r->ctx, r->symmetric);
        else if ((field == DYNAMIC && !r->dynamic) || (field == GLOBAL && !r->global) ||
                 (field == OBSERVER_ARGS && qc_attr_count(value) == 0) ||
                 (field == SEARCH && is(r->search, "none")) ||
                 (field == HEADROOM && qc_attr_as_float(value) == 1.0))
            value = NULL;
        else if (value && fields[field].kind == QC_ATTR_FLOAT)
            value = qc_attr_float(r->ctx, qc_attr_as_float(value));
        else if (field == SCALE_MAX && searches_scales(r))
            value = qc_attr_float(r->ctx, 256); /* leaves room above the scale of the largest group */
        else if (field == OBSERVER && !value && (!r->dynamic || r->global))
            value = qc_attr_word(r->ctx, r->weights ? "memoryless_minmax" : "static_minmax");
        if (value) {
            keys[count] = fields[field].name;
            values[count++] = value;
        }
    }
    return qc_attr_map(r->ctx, keys, values, count);
}

qc_status qc_scheme_part_complete(
    qc_ctx *ctx, const char *what, const char *arg, const qc_attr *written, const qc_attr **part)
{
    reader r = {.ctx = ctx, .what = what, .weights = is(arg, "weights"), .attention = is(arg, "attention")};
    if (read_fields(&r, written) != QC_OK ||
        check_word(&r, "type", r.type, r.attention ? ATTENTION_TYPES : TYPES) != QC_OK ||
        check_granularity(&r) != QC_OK || check_dynamic(&r) != QC_OK || check_types(&r) != QC_OK ||
        check_observer(&r) != QC_OK || check_search(&r) != QC_OK)
        return QC_ERROR;
    *part = complete(&r);
    return QC_OK;
}
