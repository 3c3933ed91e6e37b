/* SPDX-License-Identifier: MIT
 *
 * rope.c - the parameters of rotary embeddings out of config.json.
 *
 * Precedence and defaults as in transformers/modeling_rope_utils.py at 5.17: rope_scaling, when it is neither
 * null nor empty, wins over rope_parameters; inside it "rope_type" wins over "type", and a theta inside wins
 * over rope_theta beside it; without either theta is 10000. For llama3 and yarn an
 * original_max_position_embeddings at the top of the file wins over the one inside, and
 * max_position_embeddings is the last resort. yarn's attention factor (Peng et al., "YaRN", 2023, equation
 * 22) is 0.1 ln(factor) + 1 unless given, or the quotient of two such terms with mscale and mscale_all_dim.
 */
#include "frontends/hf/rope.h"

#include <math.h>
#include <stdio.h>

#include "frontends/hf/config.h"

/* The type for the rotary frequencies, and which keys it reads beside rope_theta. */
typedef struct rope_row {
    const char *name;
    qc_hf_rope_type type;
    const char *keys[8];
} rope_row;

static const rope_row rope_rows[] = {
    {"default", QC_HF_ROPE_DEFAULT, {0}},
    {"linear", QC_HF_ROPE_LINEAR, {"factor"}},
    {"dynamic", QC_HF_ROPE_DYNAMIC, {"factor"}},
    {"llama3", QC_HF_ROPE_LLAMA3,
        {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}},
    {"yarn", QC_HF_ROPE_YARN,
        {"factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale",
            "mscale_all_dim", "truncate"}},
};

/* Read by no type here, or without influence where a type does not read them. */
static const char *const idle_keys[] = {"rope_type", "type", "rope_theta", "partial_rotary_factor",
    "finetuned", "original_max_position_embeddings"};

typedef struct rope_reader {
    qc_diag *diag;
    const char *where;
    const qc_json *object;
} rope_reader;

static bool reads_key(const rope_row *row, const char *key)
{
    for (size_t i = 0; i < sizeof idle_keys / sizeof *idle_keys; i++)
        if (strcmp(idle_keys[i], key) == 0)
            return true;
    for (size_t i = 0; i < sizeof row->keys / sizeof *row->keys && row->keys[i]; i++)
        if (strcmp(row->keys[i], key) == 0)
            return true;
    return false;
}

/* A finite number > 0; *value stays when the key is absent or null and not required. */
static qc_status positive(const rope_reader *r, const char *key, bool required, double *value)
{
    if (qc_json_double(r->diag, r->where, r->object, key, required, value))
        return QC_ERROR;
    const qc_json *json = qc_json_get(r->object, key);
    if (json && json->kind == QC_JSON_NUMBER && !(*value > 0))
        return qc_error(r->diag, r->where, "%s must be greater than 0, not %s", key, json->text);
    return QC_OK;
}

static qc_status whole_factor(const qc_json *object, qc_diag *diag, const char *where)
{
    const qc_json *value = qc_json_get(object, "partial_rotary_factor");
    if (value && value->kind == QC_JSON_NUMBER && value->number != 1.0)
        return qc_error(diag, where,
            "partial_rotary_factor is %s: only rotation of whole heads (1.0) is supported", value->text);
    return QC_OK;
}

/* 0.1 * m * ln(factor) + 1 beyond the original length. */
static double yarn_magnitude(double factor, double m)
{
    return factor <= 1 ? 1.0 : 0.1 * m * log(factor) + 1.0;
}

static qc_status read_yarn(const rope_reader *r, qc_hf_rope *rope)
{
    double mscale = 0, mscale_all = 0;
    rope->beta_fast = 32;
    rope->beta_slow = 1;
    rope->truncate = true;
    rope->attention_factor = 0;
    if (positive(r, "beta_fast", false, &rope->beta_fast) ||
        positive(r, "beta_slow", false, &rope->beta_slow) ||
        positive(r, "attention_factor", false, &rope->attention_factor) ||
        qc_json_double(r->diag, r->where, r->object, "mscale", false, &mscale) ||
        qc_json_double(r->diag, r->where, r->object, "mscale_all_dim", false, &mscale_all) ||
        qc_json_bool(r->diag, r->where, r->object, "truncate", false, &rope->truncate))
        return QC_ERROR;
    if (rope->beta_fast < rope->beta_slow)
        return qc_error(
            r->diag, r->where, "beta_fast %g is smaller than beta_slow %g", rope->beta_fast, rope->beta_slow);
    if (rope->theta == 1)
        return qc_error(r->diag, r->where, "rope_theta is 1, which yarn cannot work with");
    if (rope->attention_factor > 0)
        return QC_OK;
    if (mscale != 0 && mscale_all != 0)
        rope->attention_factor =
            yarn_magnitude(rope->factor, mscale) / yarn_magnitude(rope->factor, mscale_all);
    else
        rope->attention_factor = yarn_magnitude(rope->factor, 1);
    if (!isfinite(rope->attention_factor) || rope->attention_factor <= 0)
        return qc_error(r->diag, r->where, "mscale and mscale_all_dim make no attention factor");
    return QC_OK;
}

static qc_status read_original_positions(
    const rope_reader *r, const qc_json *root, const qc_hf_config *config, int64_t *positions)
{
    const char *key = "original_max_position_embeddings";
    *positions = config->positions;
    const qc_json *outer = qc_json_get(root, key);
    const qc_json *holder = outer && outer->kind != QC_JSON_NULL ? root : r->object;
    if (qc_json_int(r->diag, r->where, holder, key, false, positions))
        return QC_ERROR;
    if (*positions <= 0 || *positions > INT32_MAX)
        return qc_error(
            r->diag, r->where, "%s must be from 1 to %d, not %lld", key, INT32_MAX, (long long)*positions);
    return QC_OK;
}

static qc_status read_scaled(
    const rope_reader *r, const qc_json *root, const rope_row *row, qc_hf_config *config)
{
    qc_hf_rope *rope = &config->attention.rope;
    if (row->type == QC_HF_ROPE_DEFAULT)
        return QC_OK;
    rope->original_positions = config->positions;
    if (row->type == QC_HF_ROPE_LLAMA3 || row->type == QC_HF_ROPE_YARN)
        if (read_original_positions(r, root, config, &rope->original_positions))
            return QC_ERROR;
    /* A null factor is the ratio of lengths for yarn, and no number for the other types. */
    const qc_json *factor = qc_json_get(r->object, "factor");
    bool by_lengths = row->type == QC_HF_ROPE_YARN && factor && factor->kind == QC_JSON_NULL;
    rope->factor = (double)config->positions / (double)rope->original_positions;
    if (positive(r, "factor", !by_lengths, &rope->factor))
        return QC_ERROR;
    if (row->type == QC_HF_ROPE_DYNAMIC && config->attention.head_dim <= 2)
        return qc_error(r->diag, r->where, "dynamic scaling needs heads of more than 2 elements");
    if (row->type == QC_HF_ROPE_LLAMA3) {
        if (positive(r, "low_freq_factor", true, &rope->low_freq_factor) ||
            positive(r, "high_freq_factor", true, &rope->high_freq_factor))
            return QC_ERROR;
        if (rope->high_freq_factor <= rope->low_freq_factor)
            return qc_error(r->diag, r->where, "high_freq_factor %g is not greater than low_freq_factor %g",
                rope->high_freq_factor, rope->low_freq_factor);
    }
    return row->type == QC_HF_ROPE_YARN ? read_yarn(r, rope) : QC_OK;
}

static const rope_row *find_row(const rope_reader *r)
{
    const char *name = NULL;
    if (qc_json_string(r->diag, r->where, r->object, "rope_type", false, &name))
        return NULL;
    if (!name && qc_json_string(r->diag, r->where, r->object, "type", false, &name))
        return NULL;
    if (!name)
        return &rope_rows[0];
    for (size_t i = 0; i < sizeof rope_rows / sizeof *rope_rows; i++)
        if (strcmp(rope_rows[i].name, name) == 0)
            return &rope_rows[i];
    qc_error(r->diag, r->where,
        "rope type '%s' is not supported; supported are default, linear, dynamic, llama3 and yarn", name);
    return NULL;
}

qc_status qc_hf_config_rope(qc_diag *diag, const qc_json *root, qc_hf_config *config)
{
    const char *key = "rope_scaling";
    const qc_json *object = qc_json_get(root, key);
    if (qc_hf_json_is_off(object)) {
        key = "rope_parameters";
        object = qc_json_get(root, key);
    }
    if (qc_hf_json_is_off(object))
        object = NULL;
    if (object && object->kind != QC_JSON_OBJECT)
        return qc_error(diag, config->path, "%s must be an object or null", key);

    char where[4096];
    snprintf(where, sizeof where, "%s: %s", config->path, key);
    config->attention.rope.theta = 10000.0;
    rope_reader outer = {diag, config->path, root}, inner = {diag, where, object};
    if (positive(&outer, "rope_theta", false, &config->attention.rope.theta) ||
        whole_factor(root, diag, config->path))
        return QC_ERROR;
    if (!object)
        return QC_OK;
    for (const qc_json *value = object->first; value; value = value->next)
        if (value->kind == QC_JSON_OBJECT && value->length)
            return qc_error(diag, where, "'%s': parameters for each type of layer are not supported in %s",
                value->key, config->arch->info.architecture);
    const rope_row *row = find_row(&inner);
    if (!row || positive(&inner, "rope_theta", false, &config->attention.rope.theta) ||
        whole_factor(object, diag, where))
        return QC_ERROR;
    for (const qc_json *value = object->first; value; value = value->next)
        if (!reads_key(row, value->key) && !qc_hf_json_is_off(value))
            return qc_error(diag, where, "'%s' is not a parameter of rope type '%s'", value->key, row->name);
    config->attention.rope.type = row->type;
    return read_scaled(&inner, root, row, config);
}

const qc_attr *qc_hf_rope_attr(qc_ctx *ctx, const qc_hf_rope *rope)
{
    static const char *const names[] = {NULL, "linear", "dynamic", "llama3", "yarn"};
    const char *keys[8];
    const qc_attr *values[8];
    size_t count = 0;
#define ENTRY(key, value) (keys[count] = (key), values[count++] = (value))
    if (rope->type == QC_HF_ROPE_DEFAULT)
        return NULL;
    ENTRY("type", qc_attr_word(ctx, names[rope->type]));
    ENTRY("factor", qc_attr_float(ctx, rope->factor));
    if (rope->type == QC_HF_ROPE_DYNAMIC)
        ENTRY("max_position_embeddings", qc_attr_int(ctx, rope->original_positions));
    if (rope->type == QC_HF_ROPE_LLAMA3 || rope->type == QC_HF_ROPE_YARN)
        ENTRY("original_max_position_embeddings", qc_attr_int(ctx, rope->original_positions));
    if (rope->type == QC_HF_ROPE_LLAMA3) {
        ENTRY("low_freq_factor", qc_attr_float(ctx, rope->low_freq_factor));
        ENTRY("high_freq_factor", qc_attr_float(ctx, rope->high_freq_factor));
    }
    if (rope->type == QC_HF_ROPE_YARN) {
        ENTRY("attention_factor", qc_attr_float(ctx, rope->attention_factor));
        ENTRY("beta_fast", qc_attr_float(ctx, rope->beta_fast));
        ENTRY("beta_slow", qc_attr_float(ctx, rope->beta_slow));
        ENTRY("truncate", qc_attr_bool(ctx, rope->truncate));
    }
#undef ENTRY
    return qc_attr_map(ctx, keys, values, count);
}
