/* SPDX-License-Identifier: MIT
 *
 * vllm.c - what vLLM says of a compressed-tensors checkpoint: its config, and which scheme each group is.
 *
 * The rules are those of vLLM 0.32 (vllm/model_executor/layers/quantization/compressed_tensors/), seen by loading
 * checkpoints with its own loader; what depends on the device is named, not judged. Modules are in
 * vllm_modules.c.
 */
#include <stdarg.h>
#include <string.h>

#include "runtime/check/allow.h"
#include "runtime/check/quant.h"

void check_find(
    const check_model *model, check_verdict *verdict, check_effect effect, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    check_finding finding = {effect, qc_arena_vprintf(model->arena, format, args)};
    va_end(args);
    QC_PUSH(model->arena, &verdict->findings, finding);
}

/* ---- schemes ------------------------------------------------------------------------------------------- */

static bool has_strategy(const check_args *a, const char *name)
{
    return a->present && strcmp(a->strategy, name) == 0;
}

static bool is_int(const check_args *a, int64_t bits)
{
    return a->present && a->bits == bits && strcmp(a->type, "int") == 0;
}

static bool is_float(const check_args *a, int64_t bits)
{
    return a->present && a->bits == bits && strcmp(a->type, "float") == 0;
}

static bool is_nvfp4(const check_args *a)
{
    return is_float(a, 4) && has_strategy(a, "tensor_group") && a->group_elems == 16 && a->symmetric;
}

static bool is_packed(const check_group *g)
{
    return g->format && strcmp(g->format, "pack-quantized") == 0;
}

/* Integers of groups or channels with activations of 8 or 4 bits, packed. */
static bool is_wna8(const check_group *g)
{
    const check_args *w = &g->weights, *x = &g->input;
    return is_packed(g) && strcmp(w->type, "int") == 0 &&
           (has_strategy(w, "group") || has_strategy(w, "channel")) && (is_int(x, 8) || is_int(x, 4)) &&
           x->dynamic && x->symmetric && (has_strategy(x, "token") || has_strategy(x, "group"));
}

static check_vllm_family int_family(const check_group *g)
{
    const check_args *w = &g->weights, *x = &g->input;
    const bool rows = has_strategy(w, "channel"), grouped = has_strategy(w, "group");
    const bool token = x->present && x->dynamic && has_strategy(x, "token");
    if (is_int(w, 4) && grouped && w->symmetric && is_float(x, 8) && token && x->symmetric)
        return is_packed(g) ? CHECK_VLLM_W4A8_FP8 : CHECK_VLLM_NONE;
    if (is_wna8(g))
        return CHECK_VLLM_WNA8;
    if (!x->present) {
        bool width = w->symmetric ? w->bits >= 2 && w->bits <= 8 : w->bits == 4 || w->bits == 8;
        return is_packed(g) && (rows || grouped) && width ? CHECK_VLLM_WNA16 : CHECK_VLLM_NONE;
    }
    if (is_packed(g))
        return CHECK_VLLM_NONE;
    if (is_int(w, 8) && (rows || has_strategy(w, "tensor")) && w->symmetric && is_int(x, 8))
        return token                                      ? CHECK_VLLM_INT8_DYNAMIC
               : !x->dynamic && has_strategy(x, "tensor") ? CHECK_VLLM_INT8_STATIC
                                                          : CHECK_VLLM_NONE;
    return is_int(w, 4) && (rows || grouped) && is_int(x, 8) && token ? CHECK_VLLM_W4A8_INT : CHECK_VLLM_NONE;
}

static check_vllm_family float_family(const check_group *g)
{
    const check_args *w = &g->weights, *x = &g->input;
    if (is_nvfp4(w))
        return !x->present || (is_nvfp4(x) && x->local) ? CHECK_VLLM_NVFP4 : CHECK_VLLM_NONE;
    if (is_float(w, 4))
        return has_strategy(w, "group") && w->group_elems == 32 && w->symmetric ? CHECK_VLLM_MXFP4
                                                                                : CHECK_VLLM_NONE;
    if (!is_float(w, 8) || !w->symmetric)
        return CHECK_VLLM_NONE;
    if (has_strategy(w, "group"))
        return w->scale == QC_F8E8M0 ? CHECK_VLLM_MXFP8 : CHECK_VLLM_NONE;
    if (!has_strategy(w, "tensor") && !has_strategy(w, "channel") && !has_strategy(w, "block"))
        return CHECK_VLLM_NONE;
    bool fixed = is_float(x, 8) && !x->dynamic && has_strategy(x, "tensor") && x->symmetric;
    return is_float(x, 8) && (x->dynamic || fixed) ? CHECK_VLLM_FP8 : CHECK_VLLM_FP8_WEIGHT;
}

check_vllm_family check_vllm_family_of(const check_group *g)
{
    if (!g->weights.present || g->weights.dynamic || g->weights.local)
        return CHECK_VLLM_NONE;
    return strcmp(g->weights.type, "int") == 0 ? int_family(g) : float_family(g);
}

static const char *fp8_experts(const check_group *g)
{
    const check_args *w = &g->weights, *x = &g->input;
    if (has_strategy(w, "channel") && !x->dynamic)
        return "no scheme for experts has FP8 weights of strategy channel with static inputs";
    if (has_strategy(w, "channel") && !has_strategy(x, "token"))
        return "FP8 experts with weights of strategy channel need inputs of strategy token";
    if (has_strategy(w, "tensor") && !has_strategy(x, "tensor"))
        return "FP8 experts with weights of strategy tensor need inputs of strategy tensor";
    if (has_strategy(w, "block") && !x->dynamic)
        return "FP8 experts with weights in blocks need dynamic inputs";
    return NULL;
}

const char *check_vllm_experts(const check_group *g)
{
    const check_args *w = &g->weights;
    switch (check_vllm_family_of(g)) {
    case CHECK_VLLM_INT8_STATIC:
        return "no scheme for experts has INT8 with static inputs";
    case CHECK_VLLM_INT8_DYNAMIC:
        return has_strategy(w, "channel") ? NULL : "INT8 experts need weights of strategy channel";
    case CHECK_VLLM_FP8:
        return fp8_experts(g);
    case CHECK_VLLM_FP8_WEIGHT:
        return "no scheme for experts has FP8 weights with plain inputs";
    case CHECK_VLLM_WNA16:
        return w->bits == 4 || w->bits == 8 ? NULL : "packed integers of experts are of 4 or 8 bits";
    case CHECK_VLLM_WNA8:
        return "no scheme for experts has packed integers with integer inputs";
    case CHECK_VLLM_NONE: /* said of the group */
    case CHECK_VLLM_NVFP4:
    case CHECK_VLLM_MXFP4:
    case CHECK_VLLM_MXFP8:
    case CHECK_VLLM_W4A8_FP8:
    case CHECK_VLLM_W4A8_INT:
        break;
    }
    return NULL;
}

static const char *const families[] = {
    [CHECK_VLLM_NVFP4] = "NVFP4 (compute capability 7.5; 4-bit products from 10.0)",
    [CHECK_VLLM_MXFP4] = "MXFP4 (compute capability 8.0; inputs are quantized from 10.0)",
    [CHECK_VLLM_MXFP8] = "MXFP8",
    [CHECK_VLLM_W4A8_FP8] = "W4A8-FP8 (compute capability 9.0 exactly)",
    [CHECK_VLLM_WNA8] = "packed integers with integer inputs",
    [CHECK_VLLM_WNA16] = "WNA16, weights only (compute capability 7.5)",
    [CHECK_VLLM_FP8] = "FP8 W8A8 (compute capability 8.9; weights only below)",
    [CHECK_VLLM_FP8_WEIGHT] = "FP8 W8A16: inputs are not quantized",
    [CHECK_VLLM_INT8_STATIC] = "INT8 W8A8, static inputs (compute capability 7.5)",
    [CHECK_VLLM_INT8_DYNAMIC] = "INT8 W8A8, dynamic inputs (compute capability 7.5)",
    [CHECK_VLLM_W4A8_INT] = "W4A8, integers (CPU)",
};

/* ---- arguments ----------------------------------------------------------------------------------------- */

/* Why no scheme is this one: the reasons that have a remedy. */
static const char *refusal_of(const check_group *g)
{
    const check_args *w = &g->weights, *x = &g->input;
    if (is_int(w, 4) && is_float(x, 8) && !is_packed(g))
        return ": 4-bit integers with FP8 inputs must be stored as pack-quantized";
    if (strcmp(w->type, "int") == 0 && !x->present && !is_packed(g))
        return ": integers without quantized inputs must be stored as pack-quantized";
    if (strcmp(w->type, "int") == 0 && !x->present && !w->symmetric)
        return ": asymmetric weights are of 4 or 8 bits";
    if (is_int(w, 8) && x->present && !w->symmetric)
        return ": INT8 weights must be symmetric";
    if (is_nvfp4(w) && x->present)
        return ": inputs beside NVFP4 weights are NVFP4, dynamic \"local\"";
    return "";
}

static void check_keys(
    const check_model *m, check_verdict *v, const check_group *g, const check_args *a, const char *where)
{
    static const char *const known[] = {"num_bits", "type", "symmetric", "group_size", "strategy",
        "block_structure", "dynamic", "actorder", "scale_dtype", "zp_dtype", "observer", "observer_kwargs"};
    for (const qc_json *key = a->present ? a->json->first : NULL; key; key = key->next) {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            found = found || strcmp(known[i], key->key) == 0;
        if (!found)
            check_find(
                m, v, CHECK_REFUSED, "%s.%s has the key %s, which no loader knows", g->name, where, key->key);
    }
}

static void check_args_of(
    const check_model *m, check_verdict *v, const check_group *g, const check_args *a, const char *where)
{
    if (!a->present)
        return;
    check_keys(m, v, g, a, where);
    const bool grouped = has_strategy(a, "group") || has_strategy(a, "tensor_group");
    const char *name = qc_arena_printf(m->arena, "%s.%s", g->name, where);
    if (has_strategy(a, "token") && !a->dynamic)
        check_find(m, v, CHECK_REFUSED, "%s: strategy token must be dynamic", name);
    if (grouped && a->group_elems < 1)
        check_find(m, v, CHECK_REFUSED, "%s: strategy %s needs a group_size", name, a->strategy);
    if (has_strategy(a, "block") && a->block_rows < 1)
        check_find(m, v, CHECK_REFUSED, "%s: strategy block needs a block_structure", name);
    if (a->dynamic && !grouped && !has_strategy(a, "token") && !has_strategy(a, "tensor"))
        check_find(m, v, CHECK_REFUSED, "%s: strategy %s cannot be dynamic", name, a->strategy);
    if (a->local && !has_strategy(a, "tensor_group"))
        check_find(m, v, CHECK_REFUSED, "%s: dynamic \"local\" goes with strategy tensor_group alone", name);
    if (a->actorder && strcmp(a->actorder, "static") != 0 && strcmp(a->actorder, "weight") != 0)
        check_find(m, v, CHECK_REFUSED, "%s: actorder %s is refused; only static is read", name, a->actorder);
}

static void check_group_of_config(const check_model *m, check_verdict *v, const check_group *g)
{
    check_args_of(m, v, g, &g->weights, "weights");
    check_args_of(m, v, g, &g->input, "input_activations");
    check_args_of(m, v, g, &g->output, "output_activations");
    if (!g->weights.present) {
        if (g->target_count != 1 || !qc_ends_with(g->targets[0], "Attention"))
            check_find(m, v, CHECK_REFUSED,
                "%s quantizes no weights: that is read as attention only with one target, a class whose name "
                "ends in Attention",
                g->name);
        return;
    }
    check_vllm_family family = check_vllm_family_of(g);
    if (family == CHECK_VLLM_NONE) {
        check_find(
            m, v, CHECK_REFUSED, "%s: no scheme has such weights and inputs%s", g->name, refusal_of(g));
        return;
    }
    check_kernel kernel = {g->name, families[family]};
    QC_PUSH(m->arena, &v->kernels, kernel);
}

static void check_kv(const check_model *m, check_verdict *v)
{
    const check_args *kv = &m->kv;
    if (!kv->present)
        return;
    if (!is_float(kv, 8))
        check_find(m, v, CHECK_REFUSED, "kv_cache_scheme: %s of %lld bits; only float of 8 is read%s",
            kv->type, (long long)kv->bits, is_nvfp4(kv) ? " (rule " QC_RULE_NVFP4_ATTENTION ")" : "");
    if (!has_strategy(kv, "tensor") && !has_strategy(kv, "attn_head"))
        check_find(m, v, CHECK_REFUSED, "kv_cache_scheme: strategy %s; only tensor and attn_head are read%s",
            kv->strategy,
            has_strategy(kv, "token") || has_strategy(kv, "channel") ? " (rule " QC_RULE_ATTENTION_SCALES ")"
                                                                     : "");
    if (!kv->symmetric || !qc_json_get(kv->json, "symmetric"))
        check_find(m, v, CHECK_REFUSED, "kv_cache_scheme: symmetric must be written, and true");
    if (has_strategy(kv, "attn_head") && !m->has_groups)
        check_find(m, v, CHECK_REFUSED,
            "kv_cache_scheme: strategy attn_head needs config_groups beside it, even {}");
}

static void check_sparsity(const check_model *m, check_verdict *v)
{
    const qc_json *sparsity = qc_json_get(m->quantization, "sparsity_config");
    if (sparsity && sparsity->kind == QC_JSON_OBJECT && qc_json_get(sparsity, "format") &&
        qc_json_get(sparsity, "targets"))
        check_find(m, v, CHECK_REFUSED, "sparsity_config: sparse weights are no longer read");
}

void check_vllm_config(const check_model *m, check_verdict *v)
{
    for (size_t i = 0; i < m->group_count; i++)
        check_group_of_config(m, v, &m->groups[i]);
    check_kv(m, v);
}

qc_status check_vllm(const check_model *m, check_verdict *v)
{
    v->target = "vllm";
    if (!m->quantization)
        return QC_OK;
    if (!check_model_is_compressed_tensors(m))
        return qc_error(m->diag, m->directory,
            "quant_method is %s; of vLLM's rules those for compressed-tensors are known",
            m->method ? m->method : "not given");
    check_vllm_config(m, v);
    check_vllm_transforms(m, v);
    check_sparsity(m, v);
    return check_vllm_modules(m, v);
}
