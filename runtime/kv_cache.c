/* SPDX-License-Identifier: MIT
 *
 * kv_cache.c - see kv_cache.h. Invariant: an attention op reads its keys and its values in the same way, both
 * as codes with a scale or both as values; what does not is refused.
 */
#include "runtime/kv_cache.h"

#include <stdlib.h>
#include <string.h>

#include "frontends/text/dataset.h"
#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "passes/lower.h"
#include "passes/manager.h"
#include "runtime/calibrate.h"

/* What vLLM's names stand for. */
typedef struct kind {
    const char *name;
    qc_dtype dtype;   /* of what is stored */
    const char *pass; /* that makes codes, NULL: none do */
    bool dynamic;     /* all scales are made as the model runs */
    bool integer;     /* a scale of 1 leaves few of its codes */
} kind;

static const kind kinds[] = {
    {"bf16", QC_BF16, NULL, false, false},
    {"fp8", QC_F8E4M3, "quant-kv{type=e4m3}", false, false},
    {"fp8_e4m3", QC_F8E4M3, "quant-kv{type=e4m3}", false, false},
    {"fp8_e5m2", QC_F8E5M2, "quant-kv{type=e5m2}", false, false},
    {"int8", QC_I8, "quant-kv{type=int8}", false, true},
    {"int4", QC_I4, "quant-kv{type=int4}", false, true},
    {"nvfp4", QC_F4E2M1, "quant-kv{type=nvfp4}", false, false},
    {"fp8_per_token_head", QC_F8E4M3, "quant-kv{type=e4m3, granularity=token}", true, false},
    {"int8_per_token_head", QC_I8, "quant-kv{type=int8, granularity=token}", true, true},
    {"int4_per_token_head", QC_I4, "quant-kv{type=int4, granularity=token}", true, true},
};

typedef struct rewrite {
    qc_ctx *ctx;
    qc_module *module;
    const char *where;
    const qc_kv_cache_request *request;
    const kind *kind; /* NULL: as the model says */
} rewrite;

static const char *const parts[] = {"k", "v"}, *const scale_parts[] = {"k_scale", "v_scale"},
                         *const global_parts[] = {"k_global", "v_global"};

static qc_op *made_by_cache(const qc_value *value)
{
    return value ? qc_lower_maker(value, "cache_append", "cache_write") : NULL;
}

/* The cache behind which attention reads keys or values, NULL when there is none. */
static qc_op *cache_of(const qc_op *attention, size_t part)
{
    return made_by_cache(qc_op_operand_named(attention, parts[part]));
}

/* Is the scale of a part made as the model runs, so that a cache holds it? */
static bool is_dynamic(const qc_op *attention, size_t part)
{
    return made_by_cache(qc_op_operand_named(attention, scale_parts[part])) != NULL;
}

static bool is_attention(const qc_op *op)
{
    return qc_op_is(op, "attention") || qc_op_is(op, "quantized_attention");
}

/* ---- scales -------------------------------------------------------------------------------------------- */

/* A scale becomes a constant of ones of the same type, and its maker goes when nobody else needs it. */
static qc_status set_to_one(const rewrite *r, qc_value *scale, const char *what)
{
    const qc_type *type = qc_value_type(scale);
    qc_op *maker = qc_value_op(scale);
    int64_t count;
    if (!maker || !qc_type_static_count(type, &count) || count < 1 || count > 65536)
        return qc_ctx_error(r->ctx, r->where, "the scale of %s is no constant", what);
    qc_dtype dtype = qc_type_dtype(type);
    float *ones = malloc((size_t)count * sizeof *ones);
    double *storage = malloc((size_t)count * sizeof *storage); /* room for any element type, aligned */
    if (!ones || !storage) {
        free(ones);
        free(storage);
        return qc_ctx_error(r->ctx, r->where, "out of memory for %lld scales", (long long)count);
    }
    for (int64_t i = 0; i < count; i++)
        ones[i] = 1.0f;
    qc_encode_f32(dtype, ones, storage, (size_t)count);
    qc_builder *b = qc_builder_before(maker);
    qc_make(b, "const");
    qc_make_attr(b, "value", qc_attr_data(r->ctx, dtype, storage, (size_t)count));
    qc_make_type(b, type);
    qc_value *one = qc_make_end(b, qc_value_hint(scale));
    free(ones);
    free(storage);
    if (!qc_builder_ok(b))
        return QC_ERROR;
    qc_value_replace_all_uses(scale, one);
    if (!qc_op_has_effect(maker))
        qc_op_erase(maker);
    return QC_OK;
}

/* Every static scale: the global one where the others are made as the model runs. */
static qc_status scales_to_one(const rewrite *r, qc_op *attention)
{
    for (size_t part = 0; part < 2; part++) {
        qc_value *global = qc_op_operand_named(attention, global_parts[part]);
        if (global && set_to_one(r, global, parts[part]))
            return QC_ERROR;
        if (!is_dynamic(attention, part) &&
            set_to_one(r, qc_op_operand_named(attention, scale_parts[part]), parts[part]))
            return QC_ERROR;
    }
    return QC_OK;
}

static qc_status run_passes(const rewrite *r, const char *text)
{
    qc_registry *registry = qc_registry_create(r->ctx, qc_ctx_arena(r->ctx)->oom);
    qc_pipeline *pipeline = qc_pipeline_create(registry);
    qc_run_settings settings = {0};
    qc_status status = qc_pipeline_parse(pipeline, "--kv-cache-dtype", text);
    if (status == QC_OK)
        status = qc_pipeline_run(pipeline, r->module, &settings);
    qc_registry_destroy(registry);
    return status;
}

/* The ranges of exactly these random tokens, and the scales that they give. */
static qc_status scales_of_random_tokens(const rewrite *r)
{
    qc_arena arena;
    qc_stats stats;
    qc_dataset dataset;
    qc_dataset_options options = {
        .max_samples = QC_KV_RANDOM_SAMPLES, .max_tokens = QC_KV_RANDOM_TOKENS, .seed = r->request->seed};
    qc_calibrate_options calibrate = {.threads = r->request->threads, .source = r->request->source};
    if (run_passes(r, "insert-observers") || qc_calibrate_vocabulary(r->ctx, r->module, &options.vocabulary))
        return QC_ERROR;
    qc_arena_init(&arena, qc_ctx_arena(r->ctx)->oom);
    qc_stats_init(&stats, &arena);
    qc_status status = qc_dataset_random(qc_ctx_diag(r->ctx), &arena, &options, &dataset);
    if (status == QC_OK)
        status = qc_calibrate(r->ctx, r->module, &dataset, &calibrate, &stats);
    if (status == QC_OK)
        status = qc_calibrate_resolve(r->ctx, r->module, &stats);
    qc_arena_fini(&arena);
    return status == QC_OK ? run_passes(r, "resolve-observers,dce") : status;
}

/* ---- types --------------------------------------------------------------------------------------------- */

/* x, cast to the cache's type, appended, cast back. */
static qc_status cast_part(const rewrite *r, qc_op *attention, size_t part)
{
    qc_op *cache = cache_of(attention, part);
    qc_value *old = qc_op_result(cache, 0), *x = qc_op_operand(cache, 0);
    qc_dtype plain = qc_type_dtype(qc_value_type(x)), narrow = r->kind->dtype;
    if (plain == narrow)
        return QC_OK;
    qc_builder *b = qc_builder_before(cache);
    qc_make(b, "cast");
    qc_make_operand(b, "x", x);
    qc_make_attr_word(b, "to", qc_dtype_name(narrow));
    qc_value *stored = qc_make_end(b, parts[part]);
    qc_make(b, "cache_append");
    qc_make_operand(b, "x", stored);
    qc_make_attr(b, "slot", qc_op_attr(cache, "slot"));
    qc_make_type(b, qc_type_with_dtype(r->ctx, qc_value_type(old), narrow));
    stored = qc_make_end(b, parts[part]);
    qc_make(b, "cast");
    qc_make_operand(b, "x", stored);
    qc_make_attr_word(b, "to", qc_dtype_name(plain));
    qc_value *read = qc_make_end(b, parts[part]);
    if (!qc_builder_ok(b))
        return QC_ERROR;
    qc_value_replace_all_uses(old, read);
    qc_op_erase(cache);
    return QC_OK;
}

static qc_status cast_both(const rewrite *r, qc_op *attention)
{
    return cast_part(r, attention, 0) || cast_part(r, attention, 1) ? QC_ERROR : QC_OK;
}

/* ---- what can be asked for ----------------------------------------------------------------------------- */

static qc_status check_own_codes(const rewrite *r, const qc_op *op)
{
    for (size_t part = 0; part < 2; part++) {
        qc_dtype stored = qc_type_dtype(qc_value_type(qc_op_result(cache_of(op, part), 0)));
        if (r->kind &&
            (stored != r->kind->dtype || is_dynamic(op, part) != (r->kind->dynamic || stored == QC_F4E2M1)))
            return qc_ctx_error(r->ctx, r->where,
                "the model's KV cache holds %s codes with scales%s; --kv-cache-dtype cannot make it %s",
                qc_dtype_name(stored), is_dynamic(op, part) ? " of each token" : "", r->kind->name);
        if (r->request->scales == QC_KV_SCALES_RANDOM)
            return qc_ctx_error(r->ctx, r->where,
                "the model has KV scales of its own; --kv-scales=random is for a cache that --kv-cache-dtype "
                "quantizes");
        if (r->request->scales != QC_KV_SCALES_AUTO && is_dynamic(op, part) &&
            !qc_op_operand_named(op, global_parts[part]))
            return qc_ctx_error(r->ctx, r->where,
                "the scales of the KV cache are made for each token as the model runs, so --kv-scales says "
                "nothing");
    }
    return QC_OK;
}

static qc_status check_plain_cache(const rewrite *r)
{
    qc_kv_scales scales = r->request->scales;
    const char *name = r->kind ? r->kind->name : "auto";
    if ((!r->kind || !r->kind->pass) && scales != QC_KV_SCALES_AUTO)
        return qc_ctx_error(r->ctx, r->where, "the KV cache is not quantized, so --kv-scales says nothing");
    if (scales == QC_KV_SCALES_CHECKPOINT)
        return qc_ctx_error(r->ctx, r->where, "the model has no KV scales; --kv-scales=one does without");
    if (r->kind && r->kind->dynamic && scales != QC_KV_SCALES_AUTO)
        return qc_ctx_error(r->ctx, r->where,
            "the scales of %s are made for each token and head as the model runs, so --kv-scales says "
            "nothing",
            name);
    if (r->kind && r->kind->integer && !r->kind->dynamic && scales == QC_KV_SCALES_AUTO) {
        qc_ctx_error(r->ctx, r->where,
            "the model has no KV scales, and %s under a scale of 1 keeps whole numbers alone", name);
        qc_ctx_note(r->ctx,
            "--kv-scales=random takes scales from random tokens, %s_per_token_head makes them as the model "
            "runs, "
            "--kv-scales=one insists",
            name);
        return QC_ERROR;
    }
    return QC_OK;
}

/* What one attention op can make of the request, before anything is changed. */
static qc_status check_op(const rewrite *r, const qc_op *op, bool *quantized)
{
    *quantized = qc_op_operand_named(op, "k_scale") != NULL;
    if (*quantized != (qc_op_operand_named(op, "v_scale") != NULL))
        return qc_ctx_error(r->ctx, r->where, "only one of keys and values is quantized");
    for (size_t part = 0; part < 2; part++)
        if (!cache_of(op, part))
            return qc_ctx_error(r->ctx, r->where, "attention reads its %s from no KV cache", parts[part]);
    return *quantized ? check_own_codes(r, op) : check_plain_cache(r);
}

static qc_status check_all(const rewrite *r, bool *quantized)
{
    size_t codes = 0, count = 0;
    for (const qc_func *f = qc_module_first_func(r->module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op)) {
            if (!is_attention(op))
                continue;
            if (check_op(r, op, quantized))
                return QC_ERROR;
            count++;
            codes += *quantized;
        }
    if (count == 0)
        return qc_ctx_error(r->ctx, r->where, "the model has no attention, and so no KV cache");
    if (codes != 0 && codes != count)
        return qc_ctx_error(r->ctx, r->where,
            "%zu of %zu attention ops have a quantized KV cache: --kv-cache-dtype needs all or none", codes,
            count);
    *quantized = codes > 0;
    return QC_OK;
}

/* Calls `visit` on every attention op; ops around it may come and go. */
static qc_status each_attention(const rewrite *r, qc_status (*visit)(const rewrite *, qc_op *))
{
    for (qc_func *f = qc_module_first_func(r->module); f; f = qc_func_next(f))
        for (qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            if (is_attention(op) && visit(r, op))
                return QC_ERROR;
    return QC_OK;
}

static const kind *find_kind(const char *name)
{
    for (size_t i = 0; name && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

qc_status qc_kv_cache_apply(qc_module *module, const char *where, const qc_kv_cache_request *request)
{
    rewrite r = {qc_module_ctx(module), module, where, request, find_kind(request->dtype)};
    bool quantized = false;
    if (request->dtype && !r.kind && strcmp(request->dtype, "auto") != 0)
        return qc_ctx_error(r.ctx, where, "%s is no type of a KV cache: " QC_KV_CACHE_DTYPES, request->dtype);
    if (!r.kind && request->scales == QC_KV_SCALES_AUTO)
        return QC_OK;
    if (check_all(&r, &quantized))
        return QC_ERROR;
    qc_status status = QC_OK;
    if (quantized)
        status = request->scales == QC_KV_SCALES_ONE ? each_attention(&r, scales_to_one) : QC_OK;
    else if (!r.kind->pass)
        status = each_attention(&r, cast_both);
    else if (run_passes(&r, r.kind->pass))
        return QC_ERROR;
    else if (request->scales == QC_KV_SCALES_RANDOM)
        status = scales_of_random_tokens(&r);
    else
        status = each_attention(&r, scales_to_one);
    return status == QC_OK ? qc_module_verify(module, "--kv-cache-dtype") : status;
}

const char *qc_kv_cache_type(const qc_module *module)
{
    const char *types[2] = {NULL, NULL};
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            for (size_t part = 0; part < 2; part++)
                if (made_by_cache(qc_op_result(op, 0)) == op && !types[part] &&
                    strcmp(qc_attr_as_text(qc_op_attr(op, "slot")), parts[part]) == 0)
                    types[part] = qc_dtype_name(qc_type_dtype(qc_value_type(qc_op_result(op, 0))));
    if (!types[0] || !types[1])
        return types[0] ? types[0] : types[1] ? types[1] : "none";
    if (strcmp(types[0], types[1]) == 0)
        return types[0];
    return qc_arena_printf(qc_ctx_arena(qc_module_ctx(module)), "%s and %s", types[0], types[1]);
}
