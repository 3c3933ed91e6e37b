/* SPDX-License-Identifier: MIT
 *
 * rules.c - what contradicts a checkpoint's quantization, whoever loads it. Loaders are silent about most of it: a
 * scale that is missing keeps its initial value, and the model computes garbage.
 *
 * Held against each other: the tensors beside each weight, and the config group that the weight belongs to. What a group
 * asks for is in weight.c; here are inputs, attention, and weights that are in no group or in one wrongly.
 */
#include <math.h>
#include <string.h>

#include "ir/dtype/codec.h"
#include "runtime/check/quant.h"

enum { MAX_SCALE_BYTES = 64 << 20 };

typedef struct rules {
    const check_model *model;
    qc_arena *arena;
    check_problems *problems;
} rules;

static void problem(rules *r, const char *text)
{
    QC_PUSH(r->arena, r->problems, text);
}

static void want_beside(rules *r, const check_module *m, const qc_st_tensor *t, check_part part)
{
    if (!m->parts[part])
        problem(r, qc_arena_printf(r->arena, "%s has no %s beside it", t->name, check_part_name(part)));
}

/* ---- values -------------------------------------------------------------------------------------------- */

/* Scales must be positive and finite. Exponents (U8) are all that but for the NaN. */
static qc_status check_values(rules *r, const qc_st_tensor *t)
{
    qc_dtype dtype = qc_dtype_from_safetensors_name(t->dtype);
    dtype = dtype == QC_U8 ? QC_F8E8M0 : dtype;
    if (!qc_dtype_is_float(dtype) || dtype == QC_F64 || t->size_bytes > MAX_SCALE_BYTES)
        return QC_OK;
    size_t count = (size_t)t->size_bytes / ((size_t)qc_dtype_bits(dtype) / 8);
    qc_arena scratch;
    qc_arena_init(&scratch, r->arena->oom);
    void *bytes = qc_arena_alloc(&scratch, (size_t)t->size_bytes + 1);
    float *values = qc_arena_calloc(&scratch, count + 1, sizeof *values);
    qc_status status = qc_st_read(r->model->diag, r->model->set, t, bytes);
    if (status == QC_OK) {
        qc_decode_f32(dtype, bytes, values, count);
        size_t i = 0;
        while (i < count && values[i] > 0 && isfinite(values[i]))
            i++;
        if (i < count)
            problem(
                r, qc_arena_printf(r->arena, "%s holds %g (element %zu): a scale must be positive and finite",
                       t->name, (double)values[i], i));
    }
    qc_arena_fini(&scratch);
    return status;
}

static qc_status check_scales(rules *r, const check_module *m)
{
    static const check_part scales[] = {CHECK_WEIGHT_SCALE, CHECK_WEIGHT_GLOBAL_SCALE, CHECK_WEIGHT_SCALE_INV,
        CHECK_INPUT_SCALE, CHECK_INPUT_GLOBAL_SCALE, CHECK_OUTPUT_SCALE, CHECK_Q_SCALE, CHECK_K_SCALE,
        CHECK_V_SCALE, CHECK_Q_GLOBAL_SCALE, CHECK_K_GLOBAL_SCALE, CHECK_V_GLOBAL_SCALE};
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++)
        if (m->parts[scales[i]] && check_values(r, m->parts[scales[i]]) != QC_OK)
            return QC_ERROR;
    return QC_OK;
}

/* ---- one module ---------------------------------------------------------------------------------------- */

/* The way of storing that a format stands for; false: no such format. */
static bool storage_of(const char *format, check_storage *storage)
{
    static const struct {
        const char *name;
        check_storage storage;
    } formats[] = {{"pack-quantized", CHECK_WORDS}, {"nvfp4-pack-quantized", CHECK_NIBBLES},
        {"mxfp4-pack-quantized", CHECK_NIBBLES}, {"int-quantized", CHECK_BYTES},
        {"float-quantized", CHECK_BYTES}, {"naive-quantized", CHECK_BYTES}, {"mxfp8-quantized", CHECK_BYTES}};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, format) == 0) {
            *storage = formats[i].storage;
            return true;
        }
    return false;
}

static void check_format(rules *r, const check_weight *w)
{
    static const char *const forms[] = {[CHECK_BYTES] = "a byte a code",
        [CHECK_NIBBLES] = "two codes a byte",
        [CHECK_WORDS] = "codes in words",
        [CHECK_PLAIN] = "plain numbers"};
    const char *format = w->group->format;
    check_storage storage;
    if (!format)
        problem(r, qc_arena_printf(
                       r->arena, "%s: no format says how %s is stored", w->module->path, w->codes->name));
    else if (!storage_of(format, &storage))
        problem(r, qc_arena_printf(r->arena, "%s: %s names the format %s, which stores no codes",
                       w->module->path, w->group->name, format));
    else if (storage != w->storage)
        problem(r, qc_arena_printf(r->arena, "%s is %s: %s, but format %s of %s means %s", w->codes->name,
                       w->codes->dtype, forms[w->storage], format, w->group->name, forms[storage]));
}

/* A scale or zero point of one element, which there is exactly when static arguments ask for it. */
static void check_static(rules *r, const check_module *m, const qc_st_tensor *codes, const check_group *g,
    bool wanted, check_part part, const char *types)
{
    const qc_st_tensor *t = m->parts[part];
    if (!t && wanted)
        want_beside(r, m, codes, part);
    else if (t && !wanted)
        problem(r, qc_arena_printf(r->arena, "%s is there, but %s asks for none", t->name, g->name));
    else if (t && (t->rank > 1 || (t->rank == 1 && t->shape[0] != 1) || !strstr(types, t->dtype)))
        problem(r, qc_arena_printf(r->arena, "%s is %s; %s expects [1] of %s", t->name,
                       check_tensor_text(r->arena, t), g->name, types));
}

static void check_inputs(rules *r, const check_module *m, const qc_st_tensor *codes, const check_group *g)
{
    const check_args *x = &g->input, *y = &g->output;
    const bool fixed = x->present && !x->dynamic && !x->local;
    check_static(r, m, codes, g, fixed, CHECK_INPUT_SCALE, "BF16 F16 F32");
    check_static(r, m, codes, g, x->present && x->local, CHECK_INPUT_GLOBAL_SCALE, "F32");
    if (!(fixed && x->symmetric)) /* zeros beside a symmetric scale do nothing */
        check_static(r, m, codes, g, fixed, CHECK_INPUT_ZERO_POINT, "I8");
    check_static(r, m, codes, g, y->present && !y->dynamic, CHECK_OUTPUT_SCALE, "BF16 F16 F32");
}

/* Which parts only mean something beside codes. */
static void check_leftovers(rules *r, const check_module *m)
{
    static const check_part parts[] = {CHECK_WEIGHT_SCALE, CHECK_WEIGHT_GLOBAL_SCALE, CHECK_WEIGHT_ZERO_POINT,
        CHECK_WEIGHT_SHAPE, CHECK_WEIGHT_G_IDX, CHECK_INPUT_SCALE, CHECK_INPUT_GLOBAL_SCALE,
        CHECK_INPUT_ZERO_POINT};
    const qc_st_tensor *weight = m->parts[CHECK_WEIGHT];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const qc_st_tensor *t = m->parts[parts[i]];
        if (t && !weight)
            want_beside(r, m, t, CHECK_WEIGHT);
        else if (t)
            problem(r, qc_arena_printf(r->arena, "%s is %s although it has a %s", weight->name, weight->dtype,
                           check_part_name(parts[i])));
    }
}

/* A matrix that its group should have quantized. Which matrices of a class target are linears only the architecture
 * knows: routers often are none; projections are. */
static void check_uncovered(rules *r, const check_module *m)
{
    const char *target;
    const check_group *g = check_group_of(r->model, m, &target);
    const qc_st_tensor *w = m->parts[CHECK_WEIGHT];
    if (!g || !w || m->kind == CHECK_OTHER || check_ignored_by(r->model, m))
        return;
    bool by_class;
    check_matches(m, target, &by_class);
    if (!by_class || m->kind == CHECK_LM_HEAD || qc_ends_with(m->path, "_proj"))
        problem(r, qc_arena_printf(r->arena, "%s is %s, but %s targets it (%s) and nothing ignores it",
                       w->name, w->dtype, g->name, target));
}

static void check_codes(rules *r, const check_module *m, const qc_st_tensor *codes)
{
    const char *ignored = check_ignored_by(r->model, m);
    const check_group *g = check_group_of(r->model, m, NULL);
    check_weight w;
    if (ignored)
        problem(r, qc_arena_printf(r->arena, "%s holds codes although %s is ignored (%s)", codes->name,
                       m->path, ignored));
    else if (!g)
        problem(r, qc_arena_printf(
                       r->arena, "%s holds codes, but no config group targets %s", codes->name, m->path));
    if (!g) {
        want_beside(r, m, codes, CHECK_WEIGHT_SCALE);
        return;
    }
    size_t before = r->problems->count;
    check_weight_fit(r->model, m, g, &w, r->problems);
    if (r->problems->count == before)
        check_format(r, &w);
    check_inputs(r, m, codes, g);
}

/* ---- attention ----------------------------------------------------------------------------------------- */

/* "model.layers.0.self_attn" of the module that makes keys, for a model of text. */
static const char *attention_of(rules *r, const check_module *m)
{
    static const char *const makers[] = {".k_proj", ".qkv_proj", ".kv_b_proj"};
    static const char *const others[] = {"vision", "visual", "audio", "encoder"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strstr(m->path, others[i]))
            return NULL;
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++)
        if (qc_ends_with(m->path, makers[i]))
            return qc_arena_strndup(r->arena, m->path, strlen(m->path) - strlen(makers[i]));
    return NULL;
}

/* Is there a group for attention, which asks for scales of q too? */
static bool quantizes_attention(const check_model *m)
{
    for (size_t i = 0; i < m->group_count; i++)
        if (!m->groups[i].weights.present && m->groups[i].input.present)
            return true;
    return false;
}

static void check_attention(rules *r, const check_module *m)
{
    const char *path = attention_of(r, m);
    const qc_st_tensor *w = m->parts[CHECK_WEIGHT] ? m->parts[CHECK_WEIGHT] : m->parts[CHECK_WEIGHT_PACKED];
    const check_args *kv = &r->model->kv;
    if (!path || !w || !kv->present || kv->dynamic)
        return;
    const check_part q_part = kv->local ? CHECK_Q_GLOBAL_SCALE : CHECK_Q_SCALE,
                     k_part = kv->local ? CHECK_K_GLOBAL_SCALE : CHECK_K_SCALE,
                     v_part = kv->local ? CHECK_V_GLOBAL_SCALE : CHECK_V_SCALE;
    const check_module *attention = check_model_find(r->model, path);
    const qc_st_tensor *k = attention ? attention->parts[k_part] : NULL;
    if (!k && (!attention || !attention->parts[v_part]))
        problem(r, qc_arena_printf(r->arena, "%s has no %s beside it", w->name, check_part_name(k_part)));
    else if (k && quantizes_attention(r->model))
        want_beside(r, attention, k, q_part);
}

static void check_attention_scales(rules *r, const check_module *m)
{
    if (m->parts[CHECK_K_SCALE])
        want_beside(r, m, m->parts[CHECK_K_SCALE], CHECK_V_SCALE);
    if (m->parts[CHECK_V_SCALE])
        want_beside(r, m, m->parts[CHECK_V_SCALE], CHECK_K_SCALE);
    if (m->parts[CHECK_Q_SCALE] && !m->parts[CHECK_V_SCALE])
        want_beside(r, m, m->parts[CHECK_Q_SCALE], CHECK_K_SCALE);
    if (m->parts[CHECK_K_GLOBAL_SCALE])
        want_beside(r, m, m->parts[CHECK_K_GLOBAL_SCALE], CHECK_V_GLOBAL_SCALE);
    if (m->parts[CHECK_V_GLOBAL_SCALE])
        want_beside(r, m, m->parts[CHECK_V_GLOBAL_SCALE], CHECK_K_GLOBAL_SCALE);
    if (m->parts[CHECK_K_SCALE] && !r->model->kv.present)
        problem(r, qc_arena_printf(r->arena, "%s is there, but there is no kv_cache_scheme",
                       m->parts[CHECK_K_SCALE]->name));
}

qc_status check_rules(const check_model *model, check_problems *problems)
{
    rules r = {model, model->arena, problems};
    for (size_t i = 0; check_model_is_compressed_tensors(model) && i < model->module_count; i++) {
        const check_module *m = &model->modules[i];
        const qc_st_tensor *packed = m->parts[CHECK_WEIGHT_PACKED], *weight = m->parts[CHECK_WEIGHT];
        const qc_st_tensor *codes = packed ? packed : weight && check_is_code(weight->dtype) ? weight : NULL;
        if (codes)
            check_codes(&r, m, codes);
        else {
            check_leftovers(&r, m);
            check_uncovered(&r, m);
        }
        check_attention(&r, m);
        check_attention_scales(&r, m);
        if (check_scales(&r, m) != QC_OK)
            return QC_ERROR;
    }
    if (check_model_is_compressed_tensors(model))
        check_transform_rules(model, problems);
    return QC_OK;
}
