/* SPDX-License-Identifier: MIT
 *
 * quantized.c - quantization_config of checkpoints in compressed-tensors form: attention and KV cache with
 * static 8-bit scales ("dense"), and linear layers and embeddings in every format that holds codes. How the
 * codes lie in the tensors is in coded.c.
 *
 * Names and meanings follow compressed-tensors 0.19 (QuantizationConfig, QuantizationScheme,
 * QuantizationArgs): strategy attn_head is qc's granularity head, tensor_group is group under a global scale,
 * dynamic "local" is dynamic under a static global scale; a null observer of a static scheme is the word
 * `unset`; a null scale_dtype is the element type of the model, and uint8 stands for E8M0.
 */
#include "frontends/hf/import.h"

static const char *const scale_names[] = {"weight_scale", "weight_scale_inv", "weight_global_scale",
    "weight_zero_point", "weight_shape", "weight_g_idx", "input_scale", "input_global_scale",
    "input_zero_point", "output_scale", "output_zero_point", "q_scale", "k_scale", "v_scale", "q_zero_point",
    "k_zero_point", "v_zero_point", "q_global_scale", "k_global_scale", "v_global_scale"};

bool qc_hf_is_scale_name(const char *short_name)
{
    for (size_t i = 0; i < sizeof scale_names / sizeof *scale_names; i++)
        if (strcmp(scale_names[i], short_name) == 0)
            return true;
    return false;
}

/* Where in config.json a reader stands, and what it reads. */
typedef struct place {
    qc_hf_state *state;
    const char *where; /* "PATH: quantization_config.config_groups.group_0.weights" */
    const qc_json *object;
} place;

static place inside(const place *outer, const char *key)
{
    return (place){outer->state, qc_arena_printf(outer->state->arena, "%s.%s", outer->where, key),
        qc_json_get(outer->object, key)};
}

static qc_status refuse(const place *p, const char *key, const qc_json *value)
{
    if (value->kind == QC_JSON_STRING || value->kind == QC_JSON_NUMBER)
        return qc_error(p->state->diag, p->where, "%s '%s' is not supported", key, value->text);
    return qc_error(p->state->diag, p->where, "%s is not supported", key);
}

/* Keys that must be off. */
static qc_status refuse_if_set(const place *p, const char *const *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const qc_json *value = qc_json_get(p->object, keys[i]);
        if (!qc_hf_json_is_off(value))
            return refuse(p, keys[i], value);
    }
    return QC_OK;
}

/* strategy in config.json and granularity in the IR. */
static const char *granularity_of(const char *strategy)
{
    static const char *const names[][2] = {{"tensor", "tensor"}, {"attn_head", "head"}, {"token", "token"},
        {"channel", "channel"}, {"group", "group"}, {"tensor_group", "group"}, {"block", "block"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i][0], strategy) == 0)
            return names[i][1];
    return NULL;
}

/* observer_kwargs: a map of numbers, words and booleans. */
static qc_status read_observer_args(const place *p, qc_hf_args *args)
{
    place at = inside(p, "observer_kwargs");
    if (qc_hf_json_is_off(at.object))
        return QC_OK;
    if (at.object->kind != QC_JSON_OBJECT)
        return qc_error(p->state->diag, at.where, "must be an object or null");
    qc_ctx *ctx = p->state->ctx;
    const char **keys = QC_NEW_ARRAY(p->state->arena, const char *, at.object->length);
    const qc_attr **values = QC_NEW_ARRAY(p->state->arena, const qc_attr *, at.object->length);
    size_t count = 0;
    for (const qc_json *item = at.object->first; item; item = item->next) {
        keys[count] = item->key;
        if (strcmp(item->key, "search") == 0 && item->kind == QC_JSON_STRING && args->dynamic) {
            if (strcmp(item->text, "mse") != 0 && strcmp(item->text, "four_six") != 0)
                return refuse(&at, "search", item);
            args->search = item->text;
            continue;
        }
        if (item->kind == QC_JSON_BOOL)
            values[count++] = qc_attr_bool(ctx, item->boolean);
        else if (item->kind == QC_JSON_NUMBER && item->is_integer)
            values[count++] = qc_attr_int(ctx, item->integer);
        else if (item->kind == QC_JSON_NUMBER)
            values[count++] = qc_attr_float(ctx, item->number);
        else
            return qc_error(p->state->diag, at.where, "%s must be a number or a boolean", item->key);
    }
    if (count)
        args->observer_args = qc_attr_map(ctx, keys, values, count);
    return QC_OK;
}

static qc_status read_observer(const place *p, qc_hf_args *args)
{
    static const char *const known[] = {"static_minmax", "memoryless_minmax", "minmax", "mse",
        "memoryless_mse", "nvfp4_expanded_mse", "imatrix_mse"};
    const char *name = NULL;
    if (args->dynamic && !args->global)
        return QC_OK;
    if (qc_json_string(p->state->diag, p->where, p->object, "observer", false, &name))
        return QC_ERROR;
    args->observer = "unset";
    for (size_t i = 0; name && i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i], name) == 0)
            args->observer = known[i];
    if (name && strcmp(args->observer, "unset") == 0)
        return refuse(p, "observer", qc_json_get(p->object, "observer"));
    return read_observer_args(p, args);
}

/* The element type that a key names ("torch.uint8"); NONE where it is null. */
static qc_status read_dtype(const place *p, const char *key, qc_dtype *dtype)
{
    static const struct {
        const char *name;
        qc_dtype dtype;
    } names[] = {{"uint8", QC_U8}, {"int8", QC_I8}, {"int16", QC_I16}, {"int32", QC_I32},
        {"float8_e4m3fn", QC_F8E4M3}, {"bfloat16", QC_BF16}, {"float16", QC_F16}, {"float32", QC_F32}};
    const qc_json *value = qc_json_get(p->object, key);
    const char *text = NULL;
    *dtype = QC_DTYPE_NONE;
    if (qc_hf_json_is_off(value))
        return QC_OK;
    if (qc_json_string(p->state->diag, p->where, p->object, key, false, &text))
        return QC_ERROR;
    text += qc_starts_with(text, "torch.") ? strlen("torch.") : 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].name, text) == 0)
            *dtype = names[i].dtype;
    return *dtype ? QC_OK : refuse(p, key, value);
}

/* scale_dtype and zp_dtype. uint8 are the exponents of MX, and e4m3 the scales under a global one; elsewhere a
 * scale that is named is rounded to that type, which must then be a float type. */
static qc_status read_scale_types(const place *p, qc_hf_args *args)
{
    qc_dtype scale, zero;
    if (read_dtype(p, "scale_dtype", &scale) || read_dtype(p, "zp_dtype", &zero))
        return QC_ERROR;
    bool mx = scale == QC_U8 && args->group == 32 && qc_dtype_is_float(args->code);
    if (scale != QC_DTYPE_NONE && !mx && (!qc_dtype_is_float(scale) || (scale == QC_F8E4M3) != args->global))
        return refuse(p, "scale_dtype", qc_json_get(p->object, "scale_dtype"));
    args->scale = mx ? QC_F8E8M0 : scale;
    if (args->symmetric)
        return QC_OK;
    if (qc_dtype_is_float(args->code))
        return qc_error(p->state->diag, p->where, "an asymmetric scheme of type float is not supported");
    if (zero != QC_DTYPE_NONE && zero != QC_I8)
        return refuse(p, "zp_dtype", qc_json_get(p->object, "zp_dtype"));
    return QC_OK;
}

/* strategy with group_size and block_structure. */
static qc_status read_strategy(const place *p, qc_hf_args *args)
{
    qc_diag *diag = p->state->diag;
    const char *strategy = NULL;
    const qc_json *block = qc_json_get(p->object, "block_structure");
    args->group = 0;
    if (qc_json_string(diag, p->where, p->object, "strategy", false, &strategy) ||
        qc_json_int(diag, p->where, p->object, "group_size", false, &args->group))
        return QC_ERROR;
    if (!strategy)
        strategy = args->group > 0 ? "group" : args->group < 0 ? "channel" : "tensor";
    args->granularity = granularity_of(strategy);
    if (!args->granularity)
        return refuse(p, "strategy", qc_json_get(p->object, "strategy"));
    args->global = strcmp(strategy, "tensor_group") == 0;
    bool grouped = strcmp(args->granularity, "group") == 0;
    if (args->group == -1 && strcmp(strategy, "channel") == 0)
        args->group = 0;
    if (grouped != (args->group > 0) || args->group < 0)
        return qc_error(diag, p->where, "group_size %lld does not go with strategy '%s'",
            (long long)args->group, strategy);
    if (strcmp(strategy, "block") != 0)
        return qc_hf_json_is_off(block) ? QC_OK : refuse(p, "block_structure", block);
    const qc_json *rows = qc_json_at(block, 0), *columns = qc_json_at(block, 1);
    if (!block || block->kind != QC_JSON_ARRAY || block->length != 2 || !rows->is_integer ||
        !columns->is_integer || rows->integer < 1 || columns->integer < 1)
        return qc_error(diag, p->where, "strategy 'block' needs block_structure [rows, columns]");
    args->block[0] = rows->integer;
    args->block[1] = columns->integer;
    return QC_OK;
}

/* `dynamic` is a boolean, or "local" under a static global scale. */
static qc_status read_dynamic(const place *p, qc_hf_args *args)
{
    const qc_json *dynamic = qc_json_get(p->object, "dynamic");
    bool local = dynamic && dynamic->kind == QC_JSON_STRING;
    if (local && strcmp(dynamic->text, "local") != 0)
        return refuse(p, "dynamic", dynamic);
    if (!local && qc_json_bool(p->state->diag, p->where, p->object, "dynamic", false, &args->dynamic))
        return QC_ERROR;
    if ((local && !args->global) || (args->global && args->dynamic))
        return qc_error(
            p->state->diag, p->where, "dynamic '%s' does not go with the strategy", local ? "local" : "true");
    args->dynamic |= local;
    return QC_OK;
}

static qc_dtype int_of_bits(int64_t bits)
{
    static const qc_dtype types[] = {QC_I2, QC_I3, QC_I4, QC_I5, QC_I6, QC_I7, QC_I8};
    return bits >= 2 && bits <= 8 ? types[bits - 2] : QC_DTYPE_NONE;
}

static qc_status read_code(const place *p, qc_hf_args *args)
{
    int64_t bits = 8;
    const char *type = "int";
    qc_diag *diag = p->state->diag;
    args->code = QC_DTYPE_NONE;
    if (qc_json_int(diag, p->where, p->object, "num_bits", false, &bits) ||
        qc_json_string(diag, p->where, p->object, "type", false, &type))
        return QC_ERROR;
    if (strcmp(type, "int") == 0)
        args->code = int_of_bits(bits);
    else if (strcmp(type, "float") == 0)
        args->code = bits == 8 ? QC_F8E4M3 : bits == 4 ? QC_F4E2M1 : QC_DTYPE_NONE;
    if (args->code == QC_DTYPE_NONE)
        return qc_error(
            diag, p->where, "codes of type %s with %lld bits are not supported", type, (long long)bits);
    return QC_OK;
}

/* Only the order in which a quantizer visited the columns; `group` permutes them. */
static qc_status read_actorder(const place *p, qc_hf_args *args)
{
    const qc_json *actorder = qc_json_get(p->object, "actorder");
    if (qc_hf_json_is_off(actorder))
        return QC_OK;
    if (actorder->kind != QC_JSON_STRING ||
        (strcmp(actorder->text, "static") != 0 && strcmp(actorder->text, "weight") != 0))
        return refuse(p, "actorder", actorder);
    args->actorder = actorder->text;
    return QC_OK;
}

/* One QuantizationArgs object; args->present stays false where it is null. */
static qc_status read_args(const place *p, qc_hf_args *args)
{
    qc_diag *diag = p->state->diag;
    if (!p->object || p->object->kind == QC_JSON_NULL)
        return QC_OK;
    if (p->object->kind != QC_JSON_OBJECT)
        return qc_error(diag, p->where, "must be an object or null");
    args->symmetric = true;
    if (qc_json_bool(diag, p->where, p->object, "symmetric", false, &args->symmetric) || read_code(p, args) ||
        read_strategy(p, args) || read_dynamic(p, args) || read_scale_types(p, args) ||
        read_actorder(p, args) || read_observer(p, args))
        return QC_ERROR;
    args->present = true;
    return QC_OK;
}

static qc_status read_strings(const place *p, const char ***strings, size_t *count)
{
    if (!p->object || p->object->kind == QC_JSON_NULL)
        return QC_OK;
    if (p->object->kind != QC_JSON_ARRAY)
        return qc_error(p->state->diag, p->where, "must be a list of strings");
    *strings = QC_NEW_ARRAY(p->state->arena, const char *, p->object->length + 1);
    for (const qc_json *item = p->object->first; item; item = item->next) {
        if (item->kind != QC_JSON_STRING)
            return qc_error(p->state->diag, p->where, "must be a list of strings");
        if (qc_target_check(p->state->ctx, item->text))
            return QC_ERROR;
        (*strings)[(*count)++] = item->text;
    }
    return QC_OK;
}

/* ---- groups -------------------------------------------------------------------------------------------- */

static bool is_granularity(const qc_hf_args *args, const char *name)
{
    return strcmp(args->granularity, name) == 0;
}

static bool has_ints(const qc_hf_args *w)
{
    return qc_dtype_is_int(w->code);
}

static bool has_bytes(const qc_hf_args *w)
{
    return qc_dtype_bits(w->code) == 8 && !w->global && w->scale != QC_F8E8M0;
}

static bool is_nvfp4(const qc_hf_args *w)
{
    return w->code == QC_F4E2M1 && w->global && w->scale == QC_F8E4M3;
}

static bool is_mxfp4(const qc_hf_args *w)
{
    return w->code == QC_F4E2M1 && w->scale == QC_F8E8M0;
}

static bool is_mxfp8(const qc_hf_args *w)
{
    return w->code == QC_F8E4M3 && w->scale == QC_F8E8M0;
}

/* What a format holds: the storage of codes, and which codes. */
static const struct {
    const char *name;
    qc_hf_storage storage;
    bool (*fits)(const qc_hf_args *weights);
} formats[] = {{"dense", QC_HF_STORAGE_NONE, NULL}, {"naive-quantized", QC_HF_STORAGE_PLAIN, has_bytes},
    {"float-quantized", QC_HF_STORAGE_PLAIN, has_bytes}, {"int-quantized", QC_HF_STORAGE_PLAIN, has_ints},
    {"pack-quantized", QC_HF_STORAGE_WORDS, has_ints},
    {"nvfp4-pack-quantized", QC_HF_STORAGE_NIBBLES, is_nvfp4},
    {"mxfp4-pack-quantized", QC_HF_STORAGE_NIBBLES, is_mxfp4},
    {"mxfp8-quantized", QC_HF_STORAGE_PLAIN, is_mxfp8}};

/* `format` of the whole or of a group; NULL where it is null. */
static qc_status read_format(const place *p, const char **format)
{
    *format = NULL;
    if (qc_json_string(p->state->diag, p->where, p->object, "format", false, format))
        return QC_ERROR;
    if (!*format || strcmp(*format, "mixed-precision") == 0)
        return QC_OK;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, *format) == 0)
            return QC_OK;
    return qc_error(p->state->diag, p->where, "format '%s' is not supported", *format);
}

/* The storage of a group's codes, by its own format or that of the whole. */
static qc_status choose_storage(const place *p, qc_hf_group *group)
{
    const char *format = group->format ? group->format : p->state->quantization.format;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (!format || strcmp(formats[i].name, format) != 0)
            continue;
        group->storage = formats[i].storage;
        if (!group->weights.present || (formats[i].fits && formats[i].fits(&group->weights)))
            return QC_OK;
        return qc_error(p->state->diag, p->where, "weights of this type do not go with format '%s'", format);
    }
    if (!group->weights.present)
        return QC_OK;
    return qc_error(p->state->diag, p->where, "no format says how the weights are stored");
}

static qc_status check_attention(const place *p, const qc_hf_args *x)
{
    bool known = x->code == QC_F8E4M3 || x->code == QC_I8 || x->code == QC_I4;
    bool nvfp4 = x->dynamic && x->group == 16 && is_nvfp4(x);
    bool fits =
        x->dynamic ? is_granularity(x, "token")
                   : is_granularity(x, "tensor") || is_granularity(x, "head") || is_granularity(x, "channel");
    if (!nvfp4 && (!x->symmetric || !known || !fits))
        return qc_error(p->state->diag, p->where,
            "attention needs static scales of strategy tensor, attn_head or channel, or dynamic ones of "
            "strategy token, with symmetric codes of 8 bits or int4, or NVFP4 whose local scales are "
            "dynamic");
    return QC_OK;
}

/* Combinations that have a meaning. */
static qc_status check_group(const place *p, const qc_hf_group *group)
{
    const qc_hf_args *w = &group->weights, *x = &group->input;
    qc_diag *diag = p->state->diag;
    if (!w->present && !x->present)
        return qc_error(diag, p->where, "neither weights nor input_activations are quantized");
    if (!w->present)
        return check_attention(p, x);
    if (w->dynamic || is_granularity(w, "head") || is_granularity(w, "token"))
        return qc_error(diag, p->where,
            "weights must be static, of strategy tensor, channel, group, tensor_group or block");
    if (!x->present)
        return QC_OK;
    bool by_tensor = is_granularity(x, "tensor"), by_token = is_granularity(x, "token"),
         by_group = is_granularity(x, "group");
    if (x->dynamic ? !(by_tensor || by_token || by_group) : !by_tensor)
        return qc_error(diag, p->where,
            "input_activations must be dynamic of strategy tensor, token or group, local of strategy "
            "tensor_group, or static of strategy tensor");
    return QC_OK;
}

static qc_status read_group(const place *p, qc_hf_group *group)
{
    if (p->object->kind != QC_JSON_OBJECT)
        return qc_error(p->state->diag, p->where, "must be an object");
    static const char *const unused[] = {"output_activations"};
    place targets = inside(p, "targets"), weights = inside(p, "weights"),
          input = inside(p, "input_activations");
    group->kind = "scheme";
    group->scale_name = "weight_scale";
    if (read_format(p, &group->format) || refuse_if_set(p, unused, 1) ||
        read_strings(&targets, &group->targets, &group->target_count) ||
        read_args(&weights, &group->weights) || read_args(&input, &group->input))
        return QC_ERROR;
    if (group->target_count == 0)
        return qc_error(p->state->diag, p->where, "targets is missing or empty");
    return check_group(p, group) ? QC_ERROR : choose_storage(p, group);
}

static qc_status read_kv(const place *p, qc_hf_quantization *q)
{
    if (qc_hf_json_is_off(p->object))
        return QC_OK;
    q->kv = QC_NEW(p->state->arena, qc_hf_group);
    q->kv->symbol = "kv";
    q->kv->kind = "kv_scheme";
    const char **targets = QC_NEW_ARRAY(p->state->arena, const char *, 1);
    const qc_hf_arch *arch =
        p->state->config.arch; /* NULL for a module of tensors, which takes no part in this */
    targets[0] = arch ? arch->info.attention_class : "Attention";
    q->kv->targets = targets;
    q->kv->target_count = 1;
    if (read_args(p, &q->kv->input))
        return QC_ERROR;
    return check_group(p, q->kv);
}

const char *qc_hf_symbol_of(qc_arena *arena, const char *name)
{
    char *symbol = qc_arena_printf(arena, "%s%s", name[0] >= '0' && name[0] <= '9' ? "_" : "", name);
    for (char *c = symbol; *c; c++) {
        bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || *c == '_';
        if (!letter && !(*c >= '0' && *c <= '9'))
            *c = '_';
    }
    return *symbol ? symbol : "_";
}

static qc_status read_groups(const place *p, qc_hf_quantization *q)
{
    if (qc_hf_json_is_off(p->object))
        return QC_OK;
    if (p->object->kind != QC_JSON_OBJECT)
        return qc_error(p->state->diag, p->where, "must be an object");
    q->groups = QC_NEW_ARRAY(p->state->arena, qc_hf_group, p->object->length);
    for (const qc_json *item = p->object->first; item; item = item->next) {
        place at = inside(p, item->key);
        qc_hf_group *group = &q->groups[q->group_count];
        group->symbol = qc_hf_symbol_of(p->state->arena, item->key);
        if (read_group(&at, group))
            return QC_ERROR;
        q->group_count++;
        /* The KV scheme of a checkpoint with quantized attention repeats that group. */
        const qc_hf_args *x = &group->input, *kv = q->kv ? &q->kv->input : NULL;
        if (!group->weights.present && kv &&
            (kv->code != x->code || strcmp(kv->granularity, x->granularity) != 0))
            return qc_error(p->state->diag, p->where,
                "%s and kv_cache_scheme differ; k and v cannot follow both", item->key);
    }
    return QC_OK;
}

/* quant_method fp8 with weight_block_size: `weight` f8e4m3 and `weight_scale_inv`, a number to multiply each block
 * by (DeepSeek-V3, Qwen3-FP8; Transformers' FineGrainedFP8). Inputs are quantized in groups of as many columns as the
 * model runs. modules_to_not_convert is not looked at: what has scales is quantized. */
static qc_status read_fp8(const place *p, qc_hf_quantization *q)
{
    qc_diag *diag = p->state->diag;
    const char *format = NULL, *activations = NULL;
    const qc_json *block = qc_json_get(p->object, "weight_block_size"), *rows = qc_json_at(block, 0),
                  *columns = qc_json_at(block, 1);
    if (qc_json_string(diag, p->where, p->object, "fmt", false, &format) ||
        qc_json_string(diag, p->where, p->object, "activation_scheme", false, &activations))
        return QC_ERROR;
    if (!block || block->kind != QC_JSON_ARRAY || block->length != 2 || !rows->is_integer ||
        !columns->is_integer || rows->integer < 1 || columns->integer < 1 || rows->integer > INT32_MAX ||
        columns->integer > INT32_MAX)
        return qc_error(diag, p->where,
            "quant_method 'fp8' is read with blocks: weight_block_size must be [rows, columns]");
    if (format && strcmp(format, "e4m3") != 0)
        return refuse(p, "fmt", qc_json_get(p->object, "fmt"));
    if (activations && strcmp(activations, "dynamic") != 0)
        return refuse(p, "activation_scheme", qc_json_get(p->object, "activation_scheme"));
    static const char *targets[] = {"Linear"};
    q->groups = QC_NEW(p->state->arena, qc_hf_group);
    q->group_count = 1;
    q->fp8 = true;
    q->groups[0] = (qc_hf_group){.symbol = "fp8",
        .kind = "scheme",
        .targets = targets,
        .target_count = 1,
        .storage = QC_HF_STORAGE_PLAIN,
        .scale_name = "weight_scale_inv",
        .weights = {.present = true,
            .code = QC_F8E4M3,
            .granularity = "block",
            .block = {rows->integer, columns->integer},
            .symmetric = true,
            .scale = QC_F32,
            .observer = "unset"},
        .input = {.present = true,
            .code = QC_F8E4M3,
            .granularity = "group",
            .group = columns->integer,
            .symmetric = true,
            .dynamic = true,
            .scale = QC_F32}};
    q->words = qc_arena_printf(p->state->arena, "fp8 in blocks of [%lld, %lld]", (long long)rows->integer,
        (long long)columns->integer);
    return QC_OK;
}

/* quant_method mxfp4: experts as blocks of 32 f4e2m1 with a power of two each (gpt-oss; Transformers' Mxfp4Config).
 * modules_to_not_convert is not looked at: experts that are stored as blocks are quantized, nothing else is. */
static void read_mxfp4(const place *p, qc_hf_quantization *q)
{
    const char **targets = QC_NEW_ARRAY(p->state->arena, const char *, 1);
    const qc_hf_arch *arch = p->state->config.arch; /* NULL for a module of tensors */
    targets[0] = arch && arch->moe ? arch->moe->experts_class : "Experts";
    q->groups = QC_NEW(p->state->arena, qc_hf_group);
    q->group_count = 1;
    q->mxfp4 = true;
    q->groups[0] = (qc_hf_group){.symbol = "mxfp4",
        .kind = "scheme",
        .targets = targets,
        .target_count = 1,
        .storage = QC_HF_STORAGE_NIBBLES,
        .scale_name = "weight_scale",
        .weights = {.present = true,
            .code = QC_F4E2M1,
            .granularity = "group",
            .group = 32,
            .symmetric = true,
            .scale = QC_F8E8M0,
            .observer = "unset"}};
    q->words = "mxfp4";
}

/* What fp8 and mxfp4 say beside what is read here. */
static void warn_of_keys(const place *p)
{
    static const char *const known[] = {"quant_method", "fmt", "activation_scheme", "weight_block_size",
        "modules_to_not_convert", "scale_fmt", "quantization_status", "dequantize"};
    for (const qc_json *value = p->object->first; value; value = value->next) {
        bool found = qc_hf_json_is_off(value);
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            found |= strcmp(value->key, known[i]) == 0;
        if (!found)
            qc_warning(p->state->diag, p->where,
                "%s is not known to qc; it is taken to leave the arithmetic alone", value->key);
    }
}

/* A method that reads as codes what has scales finds none: weights that were made numbers, and config.json was left
 * as it was. */
static void warn_of_nothing(const place *p, const char *method, const char *ending)
{
    for (size_t i = 0; i < p->state->set.tensor_count; i++)
        if (qc_ends_with(p->state->set.tensors[i].name, ending))
            return;
    qc_warning(p->state->diag, p->where,
        "quant_method is '%s', but no tensor ends in %s: all weights are read as numbers", method, ending);
}

qc_status qc_hf_quantization_read(qc_hf_state *s)
{
    static const char *const unused[] = {"sparsity_config"};
    qc_hf_quantization *q = &s->quantization;
    const char *method = NULL, *status = NULL;
    place root = {
        s, qc_arena_printf(s->arena, "%s: quantization_config", s->config.path), s->config.quantization};
    if (!root.object)
        return QC_OK;
    if (qc_json_string(s->diag, root.where, root.object, "quant_method", false, &method) ||
        qc_json_string(s->diag, root.where, root.object, "quantization_status", false, &status))
        return QC_ERROR;
    if (method && (strcmp(method, "fp8") == 0 || strcmp(method, "mxfp4") == 0)) {
        const bool fp8 = strcmp(method, "fp8") == 0;
        if (fp8 && read_fp8(&root, q))
            return QC_ERROR;
        if (!fp8)
            read_mxfp4(&root, q);
        warn_of_keys(&root);
        warn_of_nothing(&root, method, fp8 ? ".weight_scale_inv" : "_blocks");
        return QC_OK;
    }
    if (!method || strcmp(method, "compressed-tensors") != 0)
        return qc_error(s->diag, root.where,
            "quant_method '%s' is not supported; supported are compressed-tensors, fp8 in blocks and mxfp4",
            method ? method : "null");
    if (status && strcmp(status, "compressed") != 0 && strcmp(status, "frozen") != 0)
        return refuse(&root, "quantization_status", qc_json_get(root.object, "quantization_status"));
    place kv = inside(&root, "kv_cache_scheme"), groups = inside(&root, "config_groups"),
          ignore = inside(&root, "ignore"), transforms = inside(&root, "transform_config");
    if (qc_hf_transforms_read(s, transforms.where, transforms.object) || read_format(&root, &q->format) ||
        refuse_if_set(&root, unused, sizeof unused / sizeof *unused) || read_kv(&kv, q) ||
        read_groups(&groups, q))
        return QC_ERROR;
    q->words =
        qc_arena_printf(s->arena, "compressed-tensors%s%s", q->format ? " " : "", q->format ? q->format : "");
    return read_strings(&ignore, &q->ignore, &q->ignore_count);
}

/* 0: the path itself, 1: a pattern, 2: a class. Within a kind targets come in alphabetical order. */
static int target_order(const qc_node *node, const char *target)
{
    return qc_node_is_named(node, target) ? 0 : qc_starts_with(target, "re:") ? 1 : 2;
}

const qc_hf_group *qc_hf_group_of(const qc_hf_state *state, const qc_node *node)
{
    const qc_hf_quantization *q = &state->quantization;
    if (q->mxfp4)
        return NULL;
    if (q->fp8)
        return qc_st_find(&state->set,
                   qc_arena_printf(state->arena, "%s.%s", qc_node_path(node), q->groups[0].scale_name))
                   ? &q->groups[0]
                   : NULL;
    for (size_t i = 0; i < q->ignore_count; i++)
        if (qc_node_matches(node, q->ignore[i]))
            return NULL;
    const qc_hf_group *found = NULL;
    const char *best = NULL;
    int best_order = 3;
    for (size_t i = 0; i < q->group_count; i++)
        for (size_t k = 0; k < q->groups[i].target_count; k++) {
            const char *target = q->groups[i].targets[k];
            int order = target_order(node, target);
            if (order > best_order || (order == best_order && strcmp(target, best) > 0) ||
                !qc_node_matches(node, target))
                continue;
            found = &q->groups[i];
            best = target;
            best_order = order;
        }
    return found;
}

static const qc_attr *args_attr(qc_ctx *ctx, const qc_hf_args *args)
{
    const char *keys[13];
    const qc_attr *values[13];
    size_t count = 0;
#define ENTRY(key, value) (keys[count] = (key), values[count++] = (value))
    ENTRY("type", qc_attr_word(ctx, qc_dtype_name(args->code)));
    ENTRY("granularity", qc_attr_word(ctx, args->granularity));
    ENTRY("symmetric", qc_attr_bool(ctx, args->symmetric));
    if (args->group)
        ENTRY("group", qc_attr_int(ctx, args->group));
    if (args->block[0]) {
        const qc_attr *block[2] = {qc_attr_int(ctx, args->block[0]), qc_attr_int(ctx, args->block[1])};
        ENTRY("block", qc_attr_list(ctx, block, 2));
    }
    if (args->dynamic)
        ENTRY("dynamic", qc_attr_bool(ctx, true));
    if (args->global)
        ENTRY("global", qc_attr_bool(ctx, true));
    if (args->scale)
        ENTRY("scale", qc_attr_word(ctx, qc_dtype_name(args->scale)));
    if (args->observer)
        ENTRY("observer", qc_attr_word(ctx, args->observer));
    if (args->observer_args)
        ENTRY("observer_args", args->observer_args);
    if (args->search)
        ENTRY("search", qc_attr_word(ctx, args->search));
    if (args->actorder)
        ENTRY("actorder", qc_attr_word(ctx, args->actorder));
#undef ENTRY
    return qc_attr_map(ctx, keys, values, count);
}

static const qc_attr *strings_attr(qc_hf_state *s, const char *const *strings, size_t count)
{
    const qc_attr **items = QC_NEW_ARRAY(s->arena, const qc_attr *, count + 1);
    for (size_t i = 0; i < count; i++)
        items[i] = qc_attr_string(s->ctx, strings[i]);
    return qc_attr_list(s->ctx, items, count);
}

static qc_status add_symbol(qc_hf_state *s, const qc_hf_group *group)
{
    const qc_hf_quantization *q = &s->quantization;
    const char *keys[5] = {"arith", "targets"};
    const qc_attr *values[5] = {
        qc_attr_word(s->ctx, "ct_cpu"), strings_attr(s, group->targets, group->target_count)};
    size_t count = 2;
    if (q->ignore_count && strcmp(group->kind, "scheme") == 0) {
        keys[count] = "ignore";
        values[count++] = strings_attr(s, q->ignore, q->ignore_count);
    }
    if (group->weights.present) {
        keys[count] = "weights";
        values[count++] = args_attr(s->ctx, &group->weights);
    }
    if (group->input.present) {
        keys[count] = "input";
        values[count++] = args_attr(s->ctx, &group->input);
    }
    if (!qc_module_add_symbol(
            s->module, group->kind, group->symbol, qc_attr_map(s->ctx, keys, values, count)))
        return qc_error(
            s->diag, s->config.path, "quantization_config has two groups that are both @%s", group->symbol);
    return QC_OK;
}

qc_status qc_hf_quantization_symbols(qc_hf_state *s)
{
    const qc_hf_quantization *q = &s->quantization;
    if (qc_hf_transforms_symbols(s))
        return QC_ERROR;
    if (s->dequantize) {
        if (q->words)
            qc_hf_import_symbol(s, "graph", q->words);
        return QC_OK;
    }
    for (size_t i = 0; i < q->group_count; i++)
        if (add_symbol(s, &q->groups[i]))
            return QC_ERROR;
    for (int64_t i = 0; q->kv && i < s->config.layers; i++)
        if (s->model.layers[i].attention.kv_group)
            return add_symbol(s, q->kv);
    return QC_OK;
}
