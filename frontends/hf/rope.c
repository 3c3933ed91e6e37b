/* SPDX-License-Identifier: MIT
 *
 * rope.c - the parameters of rotary embeddings out of config.json.
 *
 * Precedence and defaults as in transformers/modeling_rope_utils.py at 5.17: rope_scaling, when it is neither
 * null nor empty, wins over rope_parameters; inside it "rope_type" wins over "type", and a theta inside wins
 * over rope_theta beside it; without either the architecture has one. For llama3, yarn and longrope an
 * original_max_position_embeddings at the top of the file wins over the one inside, and max_position_embeddings
 * is the last resort. yarn's attention factor (Peng et al., "YaRN", 2023, equation 22) is 0.1 ln(factor) + 1
 * unless given, or the quotient of two such terms with mscale and mscale_all_dim; longrope's (Ding et al.,
 * "LongRoPE", 2024) is sqrt(1 + ln(factor) / ln(original length)), also where the short list is used.
 *
 * Gemma 3 turns its sliding layers with another base. In version 4 that is rope_local_base_freq beside rope_theta
 * and rope_scaling, which are for the full layers; in version 5 rope_parameters holds an object for each.
 */
#include "frontends/hf/config.h"

#include <math.h>
#include <stdio.h>

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
    {"longrope", QC_HF_ROPE_LONGROPE,
        {"factor", "original_max_position_embeddings", "attention_factor", "short_factor", "long_factor"}},
};

/* Read by no type here, or without influence where a type does not read them. */
static const char *const idle_keys[] = {"rope_type", "type", "rope_theta", "partial_rotary_factor",
    "finetuned", "original_max_position_embeddings"};

/* One object of parameters. */
typedef struct rope_reader {
    qc_diag *diag;
    const char *where;
    const qc_json *object;
    qc_arena *arena;
    const qc_json *root;
    const qc_hf_config *config;
    int64_t size; /* columns of a head */
} rope_reader;

static bool reads_key(const qc_hf_rope_rule *rule, const rope_row *row, const char *key)
{
    if (rule->sections && (strcmp(key, "mrope_section") == 0 || strcmp(key, "mrope_interleaved") == 0))
        return true;
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

/* partial_rotary_factor of an object, as columns of a head; *dims stays where it is absent. */
static qc_status read_partial(const rope_reader *r, int64_t *dims)
{
    double part = 0;
    if (positive(r, "partial_rotary_factor", false, &part))
        return QC_ERROR;
    if (part == 0)
        return QC_OK;
    if (part != 1.0 && r->config->arch->attention.rope.partial == 0)
        return qc_error(r->diag, r->where,
            "partial_rotary_factor is %g: only rotation of whole heads (1.0) is supported in %s", part,
            r->config->arch->info.architecture);
    *dims = part <= 1 ? (int64_t)((double)r->size * part) : 0;
    if (*dims < 2 || *dims % 2 != 0)
        return qc_error(r->diag, r->where,
            "partial_rotary_factor %g of heads of %lld columns makes no pairs of them", part,
            (long long)r->size);
    return QC_OK;
}

double qc_hf_rope_magnitude(double factor, double m)
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
    rope->mscale_all = 0;
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
    rope->mscale_all = mscale_all;
    if (rope->attention_factor > 0)
        return QC_OK;
    if (mscale != 0 && mscale_all != 0)
        rope->attention_factor =
            qc_hf_rope_magnitude(rope->factor, mscale) / qc_hf_rope_magnitude(rope->factor, mscale_all);
    else
        rope->attention_factor = qc_hf_rope_magnitude(rope->factor, 1);
    if (!isfinite(rope->attention_factor) || rope->attention_factor <= 0)
        return qc_error(r->diag, r->where, "mscale and mscale_all_dim make no attention factor");
    return QC_OK;
}

/* A list of size / 2 positive numbers. */
static qc_status read_divisors(const rope_reader *r, const char *key, int64_t dims, const double **list)
{
    const qc_json *array = qc_json_get(r->object, key);
    if (!array || array->kind != QC_JSON_ARRAY || (int64_t)array->length != dims / 2)
        return qc_error(r->diag, r->where, "%s must be a list of %lld numbers, one for each pair of columns",
            key, (long long)(dims / 2));
    double *values = QC_NEW_ARRAY(r->arena, double, (size_t)(dims / 2));
    size_t i = 0;
    for (const qc_json *item = array->first; item; item = item->next, i++) {
        if (item->kind != QC_JSON_NUMBER || !(item->number > 0))
            return qc_error(r->diag, r->where, "%s[%zu] must be a number greater than 0", key, i);
        values[i] = item->number;
    }
    *list = values;
    return QC_OK;
}

static qc_status read_longrope(const rope_reader *r, qc_hf_rope *rope)
{
    const double length = (double)rope->original_positions;
    rope->factor = (double)r->config->positions / length;
    rope->attention_factor = 0;
    if (positive(r, "factor", false, &rope->factor) ||
        positive(r, "attention_factor", false, &rope->attention_factor) ||
        read_divisors(r, "short_factor", rope->dims, &rope->short_factors) ||
        read_divisors(r, "long_factor", rope->dims, &rope->long_factors))
        return QC_ERROR;
    if (rope->attention_factor > 0)
        return QC_OK;
    rope->attention_factor = rope->factor <= 1 ? 1 : sqrt(1 + log(rope->factor) / log(length));
    if (!isfinite(rope->attention_factor))
        return qc_error(r->diag, r->where, "original_max_position_embeddings %lld makes no attention factor",
            (long long)rope->original_positions);
    return QC_OK;
}

static qc_status read_llama3(const rope_reader *r, qc_hf_rope *rope)
{
    if (positive(r, "low_freq_factor", true, &rope->low_freq_factor) ||
        positive(r, "high_freq_factor", true, &rope->high_freq_factor))
        return QC_ERROR;
    /* Llama 4 Scout has 1 for both: one cut without a ramp. */
    if (rope->high_freq_factor < rope->low_freq_factor)
        return qc_error(r->diag, r->where, "high_freq_factor %g is smaller than low_freq_factor %g",
            rope->high_freq_factor, rope->low_freq_factor);
    return QC_OK;
}

static qc_status read_original_positions(const rope_reader *r, int64_t *positions)
{
    const char *key = "original_max_position_embeddings";
    const qc_json *outer = qc_json_get(r->root, key);
    const qc_json *holder = outer && outer->kind != QC_JSON_NULL ? r->root : r->object;
    *positions = r->config->positions;
    if (qc_json_int(r->diag, r->where, holder, key, false, positions))
        return QC_ERROR;
    if (*positions <= 0 || *positions > INT32_MAX)
        return qc_error(
            r->diag, r->where, "%s must be from 1 to %d, not %lld", key, INT32_MAX, (long long)*positions);
    return QC_OK;
}

static qc_status read_scaled(const rope_reader *r, qc_hf_rope *rope)
{
    const qc_hf_rope_type type = rope->type;
    if (type == QC_HF_ROPE_DEFAULT)
        return QC_OK;
    rope->original_positions = r->config->positions;
    if (type == QC_HF_ROPE_LLAMA3 || type == QC_HF_ROPE_YARN || type == QC_HF_ROPE_LONGROPE)
        if (read_original_positions(r, &rope->original_positions))
            return QC_ERROR;
    if (type == QC_HF_ROPE_LONGROPE)
        return read_longrope(r, rope);
    /* A null factor is the ratio of lengths for yarn, and no number for the other types. */
    const qc_json *factor = qc_json_get(r->object, "factor");
    const bool by_lengths = type == QC_HF_ROPE_YARN && factor && factor->kind == QC_JSON_NULL;
    rope->factor = (double)r->config->positions / (double)rope->original_positions;
    if (positive(r, "factor", !by_lengths, &rope->factor))
        return QC_ERROR;
    if (type == QC_HF_ROPE_DYNAMIC && rope->dims <= 2)
        return qc_error(r->diag, r->where, "dynamic scaling needs heads of more than 2 elements");
    if (type == QC_HF_ROPE_LLAMA3)
        return read_llama3(r, rope);
    return type == QC_HF_ROPE_YARN ? read_yarn(r, rope) : QC_OK;
}

static const rope_row *find_row(const rope_reader *r)
{
    const qc_hf_rope_rule *rule = &r->config->arch->attention.rope;
    const char *name = NULL;
    if (qc_json_string(r->diag, r->where, r->object, "rope_type", false, &name))
        return NULL;
    if (!name && qc_json_string(r->diag, r->where, r->object, "type", false, &name))
        return NULL;
    if (!name || (rule->sections && strcmp(name, "mrope") == 0))
        return &rope_rows[0];
    for (size_t i = 0; i < sizeof rope_rows / sizeof *rope_rows; i++) {
        const qc_hf_rope_type type = rope_rows[i].type;
        if (strcmp(rope_rows[i].name, name) == 0 &&
            (!rule->longrope_only || type == QC_HF_ROPE_DEFAULT || type == QC_HF_ROPE_LONGROPE))
            return &rope_rows[i];
    }
    qc_error(r->diag, r->where, "rope type '%s' is not supported in %s; supported are %s", name,
        r->config->arch->info.architecture,
        rule->longrope_only ? "default and longrope" : "default, linear, dynamic, llama3, yarn and longrope");
    return NULL;
}

/* Three counts of pairs, of times, heights and widths: together all that are turned. */
static qc_status check_sections(const rope_reader *r, int64_t dims)
{
    const qc_json *list = qc_json_get(r->object, "mrope_section");
    int64_t sum = 0;
    if (!list || list->kind == QC_JSON_NULL)
        return QC_OK;
    for (const qc_json *item = list->kind == QC_JSON_ARRAY ? list->first : NULL; item; item = item->next)
        sum += item->is_integer && item->integer > 0 && item->integer <= dims ? item->integer : dims;
    if (list->kind != QC_JSON_ARRAY || list->length != 3 || sum != dims / 2)
        return qc_error(r->diag, r->where,
            "mrope_section must be 3 numbers that sum up to the %lld pairs of a head", (long long)(dims / 2));
    return QC_OK;
}

/* One object of parameters, or none, into *rope, which holds the defaults. */
static qc_status read_object(const rope_reader *r, qc_hf_rope *rope)
{
    const qc_hf_rope_rule *rule = &r->config->arch->attention.rope;
    if (!r->object)
        return QC_OK;
    for (const qc_json *value = r->object->first; value; value = value->next)
        if (value->kind == QC_JSON_OBJECT && value->length)
            return qc_error(r->diag, r->where,
                "'%s': parameters for each type of layer are not supported in %s", value->key,
                r->config->arch->info.architecture);
    const rope_row *row = find_row(r);
    if (!row || positive(r, "rope_theta", false, &rope->theta) || read_partial(r, &rope->dims) ||
        check_sections(r, rope->dims))
        return QC_ERROR;
    for (const qc_json *value = r->object->first; value; value = value->next)
        if (!reads_key(rule, row, value->key) && !qc_hf_json_is_off(value))
            return qc_error(
                r->diag, r->where, "'%s' is not a parameter of rope type '%s'", value->key, row->name);
    rope->type = row->type;
    return read_scaled(r, rope);
}

/* The member KEY of `holder`: an object, or NULL where it is off. */
static qc_status find_object(
    const rope_reader *r, const qc_json *holder, const char *key, const qc_json **object)
{
    *object = qc_json_get(holder, key);
    if (qc_hf_json_is_off(*object))
        *object = NULL;
    if (*object && (*object)->kind != QC_JSON_OBJECT)
        return qc_error(r->diag, r->where, "%s must be an object or null", key);
    return QC_OK;
}

/* What every rope starts with: the base and the columns that the top of the file gives. */
static qc_status read_base(const rope_reader *r, qc_hf_rope *rope)
{
    const qc_hf_rope_rule *rule = &r->config->arch->attention.rope;
    const double partial = rule->partial > 0 ? rule->partial : 1;
    rope->theta = rule->theta > 0 ? rule->theta : 10000.0;
    rope->dims = (int64_t)((double)r->size * partial);
    const qc_json *given = qc_json_get(r->root, "partial_rotary_factor");
    if (positive(r, "rope_theta", false, &rope->theta) || read_partial(r, &rope->dims))
        return QC_ERROR;
    if ((!given || given->kind == QC_JSON_NULL) && (rope->dims < 2 || rope->dims % 2 != 0))
        return qc_error(r->diag, r->where,
            "rotary embeddings turn pairs, and %g of heads of %lld columns are none", partial,
            (long long)r->size);
    return QC_OK;
}

/* Full and sliding layers with an object each, or, in the older form, a base of their own for sliding ones. */
static qc_status read_two(
    const rope_reader *r, const qc_json *scaling, const qc_json *parameters, qc_hf_rope ropes[2])
{
    static const char *const types[2] = {"full_attention", "sliding_attention"};
    char where[4096];
    rope_reader inner = *r;
    ropes[1].theta = r->config->arch->attention.rope.local_theta;
    if (positive(r, "rope_local_base_freq", false, &ropes[1].theta))
        return QC_ERROR;
    inner.where = where;
    if (!parameters) {
        snprintf(where, sizeof where, "%s: rope_scaling", r->config->path);
        inner.object = scaling;
        if (scaling && !qc_json_get(scaling, "rope_type") && qc_json_get(scaling, "type"))
            return qc_error(r->diag, where,
                "its type is under 'type', which Transformers 4 reads in %s and Transformers 5 does not: "
                "write "
                "'rope_type'",
                r->config->arch->info.architecture);
        return read_object(&inner, &ropes[0]);
    }
    if (scaling)
        return qc_error(r->diag, r->where, "rope_scaling and rope_parameters are both given");
    for (const qc_json *value = parameters->first; value; value = value->next)
        if (strcmp(value->key, types[0]) != 0 && strcmp(value->key, types[1]) != 0)
            return qc_error(r->diag, r->where,
                "rope_parameters: '%s' is neither full_attention nor sliding_attention", value->key);
    for (int i = 0; i < 2; i++) {
        snprintf(where, sizeof where, "%s: rope_parameters: %s", r->config->path, types[i]);
        if (find_object(r, parameters, types[i], &inner.object) || read_object(&inner, &ropes[i]))
            return QC_ERROR;
    }
    return QC_OK;
}

qc_status qc_hf_config_rope(
    qc_diag *diag, qc_arena *arena, const qc_json *root, int64_t size, qc_hf_config *config)
{
    const qc_hf_rope_rule *rule = &config->arch->attention.rope;
    qc_hf_rope *ropes = config->attention.ropes;
    rope_reader r = {diag, config->path, root, arena, root, config, size};
    const qc_json *scaling, *parameters;
    if (find_object(&r, root, "rope_scaling", &scaling) ||
        find_object(&r, root, "rope_parameters", &parameters) || read_base(&r, &ropes[0]))
        return QC_ERROR;
    ropes[1] = ropes[0];
    if (rule->local_theta > 0)
        return read_two(&r, scaling, parameters, ropes);
    if (rule->yarn_unless && !scaling && !parameters) {
        ropes[0].type = QC_HF_ROPE_YARN;
        ropes[0].factor = ropes[0].beta_fast = 32;
        ropes[0].beta_slow = 1;
        ropes[0].original_positions = 4096;
        ropes[0].attention_factor = qc_hf_rope_magnitude(32, 1);
        return QC_OK;
    }
    char where[4096];
    snprintf(where, sizeof where, "%s: %s", config->path, scaling ? "rope_scaling" : "rope_parameters");
    r.where = where;
    r.object = scaling ? scaling : parameters;
    return read_object(&r, &ropes[0]);
}

static const qc_attr *list_attr(qc_ctx *ctx, qc_arena *arena, const double *values, int64_t count)
{
    const qc_attr **items = QC_NEW_ARRAY(arena, const qc_attr *, (size_t)count);
    for (int64_t i = 0; i < count; i++)
        items[i] = qc_attr_float(ctx, values[i]);
    return qc_attr_list(ctx, items, (size_t)count);
}

const qc_attr *qc_hf_rope_attr(qc_ctx *ctx, qc_arena *arena, const qc_hf_rope *rope)
{
    static const char *const names[] = {NULL, "linear", "dynamic", "llama3", "yarn", "longrope"};
    const qc_hf_rope_type type = rope->type;
    const char *keys[8];
    const qc_attr *values[8];
    size_t count = 0;
#define ENTRY(key, value) (keys[count] = (key), values[count++] = (value))
    if (type == QC_HF_ROPE_DEFAULT)
        return NULL;
    ENTRY("type", qc_attr_word(ctx, names[type]));
    if (type != QC_HF_ROPE_LONGROPE)
        ENTRY("factor", qc_attr_float(ctx, rope->factor));
    if (type == QC_HF_ROPE_DYNAMIC)
        ENTRY("max_position_embeddings", qc_attr_int(ctx, rope->original_positions));
    if (type == QC_HF_ROPE_LLAMA3 || type == QC_HF_ROPE_YARN || type == QC_HF_ROPE_LONGROPE)
        ENTRY("original_max_position_embeddings", qc_attr_int(ctx, rope->original_positions));
    if (type == QC_HF_ROPE_LLAMA3) {
        ENTRY("low_freq_factor", qc_attr_float(ctx, rope->low_freq_factor));
        ENTRY("high_freq_factor", qc_attr_float(ctx, rope->high_freq_factor));
    }
    if (type == QC_HF_ROPE_YARN || type == QC_HF_ROPE_LONGROPE)
        ENTRY("attention_factor", qc_attr_float(ctx, rope->attention_factor));
    if (type == QC_HF_ROPE_YARN) {
        ENTRY("beta_fast", qc_attr_float(ctx, rope->beta_fast));
        ENTRY("beta_slow", qc_attr_float(ctx, rope->beta_slow));
        ENTRY("truncate", qc_attr_bool(ctx, rope->truncate));
    }
    if (type == QC_HF_ROPE_LONGROPE) {
        ENTRY("short_factor", list_attr(ctx, arena, rope->short_factors, rope->dims / 2));
        ENTRY("long_factor", list_attr(ctx, arena, rope->long_factors, rope->dims / 2));
    }
#undef ENTRY
    return qc_attr_map(ctx, keys, values, count);
}
