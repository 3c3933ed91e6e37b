/* SPDX-License-Identifier: MIT
 *
 * quantized.c - quantization_config of checkpoints in compressed-tensors form, as far as qc computes it:
 * attention and KV cache with static 8-bit scales ("dense"), and FP8 linear layers ("float-quantized") with
 * scales per tensor or output channel and inputs dynamic per token, static per tensor, or not quantized.
 *
 * Names and meanings follow compressed-tensors 0.19 (QuantizationConfig, QuantizationScheme,
 * QuantizationArgs): strategy attn_head is qc's granularity head; a null observer of a static scheme is the
 * word `unset`; scales are in the element type of the model.
 */
#include "frontends/hf/import.h"

#include <math.h>

#include "ir/dtype/codec.h"

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

static const char *granularity_of(const char *strategy)
{
    static const char *const names[][2] = {
        {"tensor", "tensor"}, {"attn_head", "head"}, {"token", "token"}, {"channel", "channel"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i][0], strategy) == 0)
            return names[i][1];
    return NULL;
}

static qc_status read_observer(const place *p, qc_hf_args *args)
{
    static const char *const known[] = {"static_minmax", "memoryless_minmax", "minmax"};
    const char *name = NULL;
    if (args->dynamic)
        return QC_OK;
    if (qc_json_string(p->state->diag, p->where, p->object, "observer", false, &name))
        return QC_ERROR;
    args->observer = "unset";
    for (size_t i = 0; name && i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i], name) == 0)
            args->observer = known[i];
    if (name && strcmp(args->observer, "unset") == 0)
        return refuse(p, "observer", qc_json_get(p->object, "observer"));
    return QC_OK;
}

/* One QuantizationArgs object; args->present stays false where it is null. */
static qc_status read_args(const place *p, qc_hf_args *args)
{
    static const char *const unused[] = {"group_size", "block_structure", "actorder", "scale_dtype"};
    qc_diag *diag = p->state->diag;
    if (!p->object || p->object->kind == QC_JSON_NULL)
        return QC_OK;
    if (p->object->kind != QC_JSON_OBJECT)
        return qc_error(diag, p->where, "must be an object or null");
    int64_t bits = 8;
    bool symmetric = true;
    const char *type = "int", *strategy = "tensor";
    const qc_json *dynamic = qc_json_get(p->object, "dynamic");
    if (dynamic && dynamic->kind == QC_JSON_STRING)
        return refuse(p, "dynamic", dynamic);
    if (qc_json_int(diag, p->where, p->object, "num_bits", false, &bits) ||
        qc_json_bool(diag, p->where, p->object, "symmetric", false, &symmetric) ||
        qc_json_bool(diag, p->where, p->object, "dynamic", false, &args->dynamic) ||
        qc_json_string(diag, p->where, p->object, "type", false, &type) ||
        qc_json_string(diag, p->where, p->object, "strategy", false, &strategy) ||
        refuse_if_set(p, unused, sizeof unused / sizeof *unused) || read_observer(p, args))
        return QC_ERROR;
    bool is_float = strcmp(type, "float") == 0;
    if (bits != 8 || (!is_float && strcmp(type, "int") != 0))
        return qc_error(
            diag, p->where, "codes of type %s with %lld bits are not supported", type, (long long)bits);
    if (!symmetric)
        return qc_error(diag, p->where, "an asymmetric scheme is not supported");
    args->granularity = granularity_of(strategy);
    if (!args->granularity)
        return refuse(p, "strategy", qc_json_get(p->object, "strategy"));
    args->code = is_float ? QC_F8E4M3 : QC_I8;
    args->present = true;
    return QC_OK;
}

static bool is_granularity(const qc_hf_args *args, const char *name)
{
    return strcmp(args->granularity, name) == 0;
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

static qc_status read_format(const place *p)
{
    const char *format = NULL;
    if (qc_json_string(p->state->diag, p->where, p->object, "format", false, &format))
        return QC_ERROR;
    if (format && strcmp(format, "dense") != 0 && strcmp(format, "float-quantized") != 0)
        return qc_error(p->state->diag, p->where,
            "format '%s' is not supported; qc computes with dense and float-quantized", format);
    return QC_OK;
}

/* Combinations that the graph has arithmetic for. */
static qc_status check_group(const place *p, const qc_hf_group *group)
{
    const qc_hf_args *w = &group->weights, *x = &group->input;
    qc_diag *diag = p->state->diag;
    if (!w->present && !x->present)
        return qc_error(diag, p->where, "neither weights nor input_activations are quantized");
    if (!w->present) {
        if (!x->dynamic && (is_granularity(x, "tensor") || is_granularity(x, "head")))
            return QC_OK;
        return qc_error(diag, p->where, "attention needs static scales of strategy tensor or attn_head");
    }
    if (w->code != QC_F8E4M3 || w->dynamic || !(is_granularity(w, "tensor") || is_granularity(w, "channel")))
        return qc_error(diag, p->where, "weights must be static FP8 of strategy tensor or channel");
    bool by_token = x->present && x->dynamic && is_granularity(x, "token");
    bool by_tensor = x->present && !x->dynamic && is_granularity(x, "tensor");
    if (x->present && (x->code != QC_F8E4M3 || !(by_token || by_tensor)))
        return qc_error(diag, p->where,
            "input_activations must be FP8, dynamic of strategy token or static of strategy tensor");
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
    if (read_format(p) || refuse_if_set(p, unused, 1) ||
        read_strings(&targets, &group->targets, &group->target_count) ||
        read_args(&weights, &group->weights) || read_args(&input, &group->input))
        return QC_ERROR;
    if (group->target_count == 0)
        return qc_error(p->state->diag, p->where, "targets is missing or empty");
    return check_group(p, group);
}

static qc_status read_kv(const place *p, qc_hf_quantization *q)
{
    if (qc_hf_json_is_off(p->object))
        return QC_OK;
    q->kv = QC_NEW(p->state->arena, qc_hf_group);
    q->kv->symbol = "kv";
    q->kv->kind = "kv_scheme";
    const char **targets = QC_NEW_ARRAY(p->state->arena, const char *, 1);
    targets[0] = p->state->config.arch->info.attention_class;
    q->kv->targets = targets;
    q->kv->target_count = 1;
    if (read_args(p, &q->kv->input))
        return QC_ERROR;
    return check_group(p, q->kv);
}

/* An IR symbol out of a group's name: letters, digits and '_' stay, all else becomes '_'. */
static const char *symbol_of(qc_arena *arena, const char *name)
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
        group->symbol = symbol_of(p->state->arena, item->key);
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

qc_status qc_hf_quantization_read(qc_hf_state *s)
{
    static const char *const unused[] = {"sparsity_config", "transform_config"};
    qc_hf_quantization *q = &s->quantization;
    const char *method = NULL, *status = NULL;
    place root = {
        s, qc_arena_printf(s->arena, "%s: quantization_config", s->config.path), s->config.quantization};
    if (!root.object)
        return QC_OK;
    if (qc_json_string(s->diag, root.where, root.object, "quant_method", false, &method) ||
        qc_json_string(s->diag, root.where, root.object, "quantization_status", false, &status))
        return QC_ERROR;
    if (!method || strcmp(method, "compressed-tensors") != 0)
        return qc_error(s->diag, root.where,
            "quant_method '%s' is not supported; supported is compressed-tensors", method ? method : "null");
    if (status && strcmp(status, "compressed") != 0 && strcmp(status, "frozen") != 0)
        return refuse(&root, "quantization_status", qc_json_get(root.object, "quantization_status"));
    place kv = inside(&root, "kv_cache_scheme"), groups = inside(&root, "config_groups"),
          ignore = inside(&root, "ignore");
    if (read_format(&root) || refuse_if_set(&root, unused, sizeof unused / sizeof *unused) ||
        read_kv(&kv, q) || read_groups(&groups, q))
        return QC_ERROR;
    return read_strings(&ignore, &q->ignore, &q->ignore_count);
}

static bool matches_any(const qc_node *node, const char *const *targets, size_t count, bool by_class)
{
    for (size_t i = 0; i < count; i++)
        if ((strcmp(targets[i], qc_node_class(node)) == 0) == by_class && qc_node_matches(node, targets[i]))
            return true;
    return false;
}

const qc_hf_group *qc_hf_group_of(const qc_hf_state *state, const qc_node *node)
{
    const qc_hf_quantization *q = &state->quantization;
    for (int by_class = 0; by_class < 2; by_class++)
        if (matches_any(node, q->ignore, q->ignore_count, by_class))
            return NULL;
    for (int by_class = 0; by_class < 2; by_class++)
        for (size_t i = 0; i < q->group_count; i++)
            if (matches_any(node, q->groups[i].targets, q->groups[i].target_count, by_class))
                return &q->groups[i];
    return NULL;
}

static const qc_attr *args_attr(qc_ctx *ctx, const qc_hf_args *args)
{
    const char *keys[5] = {"type", "granularity", "symmetric"};
    const qc_attr *values[5] = {qc_attr_word(ctx, qc_dtype_name(args->code)),
        qc_attr_word(ctx, args->granularity), qc_attr_bool(ctx, true)};
    keys[3] = args->dynamic ? "dynamic" : "observer";
    values[3] = args->dynamic ? qc_attr_bool(ctx, true) : qc_attr_word(ctx, args->observer);
    return qc_attr_map(ctx, keys, values, 4);
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
    for (size_t i = 0; i < q->group_count; i++)
        if (add_symbol(s, &q->groups[i]))
            return QC_ERROR;
    for (int64_t i = 0; q->kv && i < s->config.layers; i++)
        if (s->model.layers[i].kv_group)
            return add_symbol(s, q->kv);
    return QC_OK;
}

const qc_attr *qc_hf_read_scales(qc_hf_state *s, const char *name, size_t count)
{
    enum { COUNT_MAX = 1024 };
    const qc_st_tensor *tensor = qc_st_find(&s->set, name);
    const char *path = s->set.files[tensor->file].path;
    qc_dtype stored = qc_dtype_from_safetensors_name(tensor->dtype);
    if (count > COUNT_MAX) {
        qc_error(
            s->diag, path, "tensor %s has %zu scales; at most %d are supported", name, count, (int)COUNT_MAX);
        return NULL;
    }
    if (stored != s->dtype && s->dtype != QC_F32) {
        qc_error(s->diag, path, "tensor %s is %s in a model that computes in %s; that is not supported", name,
            tensor->dtype, qc_dtype_name(s->dtype));
        return NULL;
    }
    unsigned char raw[COUNT_MAX * 4], converted[COUNT_MAX * 4];
    float values[COUNT_MAX];
    if (tensor->size_bytes > sizeof raw || qc_st_read(s->diag, &s->set, tensor, raw))
        return NULL;
    qc_decode_f32(stored, raw, values, count);
    for (size_t i = 0; i < count; i++)
        if (!(values[i] > 0) || !isfinite(values[i])) {
            qc_error(s->diag, path, "tensor %s: scale %zu is %g, which is no positive number", name, i,
                (double)values[i]);
            return NULL;
        }
    qc_encode_f32(s->dtype, values, converted, count);
    return qc_attr_data(s->ctx, s->dtype, converted, count);
}
