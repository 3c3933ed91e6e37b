/* SPDX-License-Identifier: MIT
 *
 * kv_cache.c - see kv_cache.h. Invariant: an attention op reads its keys and its values in the same way, both
 * as codes with a scale or both as values; what does not is refused.
 */
#include "runtime/kv_cache.h"

#include <stdlib.h>
#include <string.h>

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "passes/manager.h"

typedef struct rewrite {
    qc_ctx *ctx;
    qc_module *module;
    const char *where;
    const qc_kv_cache_request *request;
} rewrite;

static const char *const parts[] = {"k", "v"}, *const scale_parts[] = {"k_scale", "v_scale"};

/* The cache_append behind which attention reads keys or values, NULL when there is none. */
static qc_op *cache_of(const qc_op *attention, size_t part)
{
    qc_value *value = qc_op_operand_named(attention, parts[part]);
    qc_op *op = value ? qc_value_op(value) : NULL;
    return op && qc_op_is(op, "cache_append") ? op : NULL;
}

static bool is_quantized(const qc_op *attention)
{
    return qc_op_operand_named(attention, "k_scale") != NULL;
}

static bool is_fp8(qc_dtype dtype)
{
    return dtype == QC_F8E4M3 || dtype == QC_F8E5M2;
}

/* The scale of a part becomes a constant of ones of the same type, and its maker goes when nobody else needs
 * it. */
static qc_status set_scale_to_one(const rewrite *r, qc_op *attention, size_t part)
{
    qc_value *scale = qc_op_operand_named(attention, scale_parts[part]);
    const qc_type *type = qc_value_type(scale);
    qc_op *maker = qc_value_op(scale);
    int64_t count;
    if (!maker || !qc_type_static_count(type, &count) || count < 1 || count > 1024)
        return qc_ctx_error(r->ctx, r->where, "the scale of %s is no constant", parts[part]);
    qc_dtype dtype = qc_type_dtype(type);
    float ones[1024];
    double storage[1024]; /* room for any element type, aligned */
    for (int64_t i = 0; i < count; i++)
        ones[i] = 1.0f;
    qc_encode_f32(dtype, ones, storage, (size_t)count);
    qc_builder *b = qc_builder_before(maker);
    qc_make(b, "const");
    qc_make_attr(b, "value", qc_attr_data(r->ctx, dtype, storage, (size_t)count));
    qc_make_type(b, type);
    qc_value *one = qc_make_end(b, qc_value_hint(scale));
    if (!qc_builder_ok(b))
        return QC_ERROR;
    qc_value_replace_all_uses(scale, one);
    if (!qc_op_has_effect(maker))
        qc_op_erase(maker);
    return QC_OK;
}

static qc_status scales_to_one(const rewrite *r, qc_op *attention)
{
    for (size_t part = 0; part < 2; part++)
        if (set_scale_to_one(r, attention, part))
            return QC_ERROR;
    return QC_OK;
}

/* x, cast to the cache's type, appended, cast back. */
static qc_status cast_part(const rewrite *r, qc_op *attention, size_t part)
{
    qc_op *cache = cache_of(attention, part);
    qc_value *old = qc_op_result(cache, 0), *x = qc_op_operand(cache, 0);
    qc_dtype plain = qc_type_dtype(qc_value_type(x)), narrow = r->request->dtype;
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

/* What one attention op can make of the request, before anything is changed. */
static qc_status check_op(const rewrite *r, const qc_op *op, bool *quantized)
{
    qc_dtype wanted = r->request->dtype;
    *quantized = is_quantized(op);
    if (*quantized != (qc_op_operand_named(op, "v_scale") != NULL))
        return qc_ctx_error(r->ctx, r->where, "only one of keys and values is quantized");
    for (size_t part = 0; part < 2; part++) {
        const qc_op *cache = cache_of(op, part);
        if (!cache)
            return qc_ctx_error(r->ctx, r->where, "attention reads its %s from no KV cache", parts[part]);
        qc_dtype stored = qc_type_dtype(qc_value_type(qc_op_result(cache, 0)));
        if (*quantized && wanted != QC_DTYPE_NONE && stored != wanted)
            return qc_ctx_error(r->ctx, r->where,
                "the model's KV cache holds %s codes with scales; --kv-cache-dtype cannot make it %s",
                qc_dtype_name(stored), qc_dtype_name(wanted));
    }
    if (!*quantized && !is_fp8(wanted) && r->request->scales != QC_KV_SCALES_AUTO)
        return qc_ctx_error(r->ctx, r->where, "the KV cache is not quantized, so --kv-scales says nothing");
    if (!*quantized && r->request->scales == QC_KV_SCALES_CHECKPOINT)
        return qc_ctx_error(r->ctx, r->where, "the model has no KV scales; --kv-scales=one does without");
    return QC_OK;
}

static qc_status run_quant_kv(const rewrite *r)
{
    qc_registry *registry = qc_registry_create(r->ctx, qc_ctx_arena(r->ctx)->oom);
    qc_pipeline *pipeline = qc_pipeline_create(registry);
    qc_run_settings settings = {0};
    const char *text = r->request->dtype == QC_F8E5M2 ? "quant-kv{type=e5m2}" : "quant-kv{type=e4m3}";
    qc_status status = qc_pipeline_parse(pipeline, "--kv-cache-dtype", text);
    if (status == QC_OK)
        status = qc_pipeline_run(pipeline, r->module, &settings);
    qc_registry_destroy(registry);
    return status;
}

/* Calls `visit` on every attention op; ops around it may come and go. */
static qc_status each_attention(const rewrite *r, qc_status (*visit)(const rewrite *, qc_op *))
{
    for (qc_func *f = qc_module_first_func(r->module); f; f = qc_func_next(f))
        for (qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            if (qc_op_is(op, "attention") && visit(r, op))
                return QC_ERROR;
    return QC_OK;
}

static qc_status cast_both(const rewrite *r, qc_op *attention)
{
    return cast_part(r, attention, 0) || cast_part(r, attention, 1) ? QC_ERROR : QC_OK;
}

qc_status qc_kv_cache_apply(qc_module *module, const char *where, const qc_kv_cache_request *request)
{
    rewrite r = {qc_module_ctx(module), module, where, request};
    size_t quantized = 0, count = 0;
    if (request->dtype == QC_DTYPE_NONE && request->scales == QC_KV_SCALES_AUTO)
        return QC_OK;
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op)) {
            bool codes;
            if (!qc_op_is(op, "attention"))
                continue;
            if (check_op(&r, op, &codes))
                return QC_ERROR;
            count++;
            quantized += codes;
        }
    if (count == 0)
        return qc_ctx_error(r.ctx, where, "the model has no attention, and so no KV cache");
    if (quantized != 0 && quantized != count)
        return qc_ctx_error(r.ctx, where,
            "%zu of %zu attention ops have a quantized KV cache: --kv-cache-dtype needs all or none",
            quantized, count);
    qc_status status = QC_OK;
    if (quantized == 0 && is_fp8(request->dtype)) {
        if (run_quant_kv(&r) || each_attention(&r, scales_to_one))
            return QC_ERROR;
    } else if (quantized == 0) {
        status = each_attention(&r, cast_both);
    } else if (request->scales == QC_KV_SCALES_ONE) {
        status = each_attention(&r, scales_to_one);
    }
    return status == QC_OK ? qc_module_verify(module, "--kv-cache-dtype") : status;
}

const char *qc_kv_cache_type(const qc_module *module)
{
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            if (qc_op_is(op, "cache_append"))
                return qc_dtype_name(qc_type_dtype(qc_value_type(qc_op_result(op, 0))));
    return "none";
}
