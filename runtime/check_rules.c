/* SPDX-License-Identifier: MIT
 *
 * check_rules.c - what contradicts a checkpoint's quantization. Loaders are silent about most of it: a scale that is
 * missing keeps its initial value, and the model computes garbage.
 */
#include <string.h>

#include "ir/dtype/codec.h"
#include "runtime/check_internal.h"

enum { MAX_SCALE_BYTES = 64 << 20 };

typedef struct rules {
    qc_diag *diag;
    qc_arena *arena;
    const qc_st_set *set;
    check_problems *problems;
} rules;

static const qc_st_tensor *sibling(
    const rules *r, const qc_st_tensor *t, const char *ending, const char *other)
{
    size_t length = strlen(t->name) - strlen(ending);
    return qc_st_find(r->set, qc_arena_printf(r->arena, "%.*s%s", (int)length, t->name, other));
}

static void problem(rules *r, const char *text)
{
    QC_PUSH(r->arena, r->problems, text);
}

static void want(rules *r, const qc_st_tensor *t, const char *ending, const char *other)
{
    if (!sibling(r, t, ending, other))
        problem(r, qc_arena_printf(r->arena, "%s has no %s beside it", t->name, other + 1));
}

/* Scales must be positive and finite. */
static qc_status check_values(rules *r, const qc_st_tensor *t)
{
    qc_dtype dtype = qc_dtype_from_safetensors_name(t->dtype);
    bool plain = dtype == QC_BF16 || dtype == QC_F16 || dtype == QC_F32 || dtype == QC_F8E4M3;
    if (!plain || t->size_bytes > MAX_SCALE_BYTES)
        return QC_OK;
    size_t count = (size_t)t->size_bytes / ((size_t)qc_dtype_bits(dtype) / 8);
    qc_arena scratch;
    qc_arena_init(&scratch, r->arena->oom);
    void *bytes = qc_arena_alloc(&scratch, (size_t)t->size_bytes + 1);
    float *values = qc_arena_calloc(&scratch, count + 1, sizeof *values);
    qc_status status = qc_st_read(r->diag, r->set, t, bytes);
    if (status == QC_OK) {
        qc_decode_f32(dtype, bytes, values, count);
        size_t i = 0;
        while (i < count && values[i] > 0 && values[i] - values[i] == 0)
            i++;
        if (i < count)
            problem(
                r, qc_arena_printf(r->arena, "%s holds %g (element %zu): a scale must be positive and finite",
                       t->name, (double)values[i], i));
    }
    qc_arena_fini(&scratch);
    return status;
}

static bool is_code(const char *dtype)
{
    return strcmp(dtype, "F8_E4M3") == 0 || strcmp(dtype, "F8_E5M2") == 0 || strcmp(dtype, "I8") == 0;
}

static qc_status check_tensor(rules *r, const qc_st_tensor *t, bool kv)
{
    static const char *const scales[] = {".weight_scale", ".input_scale", ".q_scale", ".k_scale", ".v_scale"};
    const char *name = t->name;
    if (qc_ends_with(name, ".weight") && is_code(t->dtype))
        want(r, t, ".weight", ".weight_scale");
    if (qc_ends_with(name, ".weight_packed"))
        want(r, t, ".weight_packed", ".weight_scale");
    if (qc_ends_with(name, ".weight_scale") && !sibling(r, t, ".weight_scale", ".weight_packed")) {
        const qc_st_tensor *weight = sibling(r, t, ".weight_scale", ".weight");
        if (!weight)
            want(r, t, ".weight_scale", ".weight");
        else if (!is_code(weight->dtype))
            problem(r, qc_arena_printf(
                           r->arena, "%s is %s although it has a weight_scale", weight->name, weight->dtype));
    }
    if (qc_ends_with(name, ".k_scale"))
        want(r, t, ".k_scale", ".v_scale");
    if (qc_ends_with(name, ".v_scale"))
        want(r, t, ".v_scale", ".k_scale");
    if (qc_ends_with(name, ".q_scale"))
        want(r, t, ".q_scale", ".k_scale");
    if (kv && qc_ends_with(name, ".k_proj.weight"))
        want(r, t, ".k_proj.weight", ".k_scale");
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++)
        if (qc_ends_with(name, scales[i]))
            return check_values(r, t);
    return QC_OK;
}

qc_status check_rules(
    qc_diag *diag, qc_arena *arena, const qc_st_set *set, const qc_json *config, check_problems *problems)
{
    rules r = {diag, arena, set, problems};
    const qc_json *kv = qc_json_get(config, "kv_cache_scheme");
    if (!config)
        return QC_OK;
    const qc_json *method = qc_json_get(config, "quant_method");
    if (!method || method->kind != QC_JSON_STRING || strcmp(method->text, "compressed-tensors") != 0)
        return QC_OK;
    for (size_t i = 0; i < set->tensor_count; i++)
        if (check_tensor(&r, &set->tensors[i], kv && kv->kind == QC_JSON_OBJECT) != QC_OK)
            return QC_ERROR;
    return QC_OK;
}
