/* SPDX-License-Identifier: MIT
 *
 * vllm_modules.c - what vLLM says of a checkpoint's modules: which of them become one layer, which group it takes
 * for each, and tensors that it does not know (see vllm.c).
 *
 * vLLM matches the names in targets as compressed-tensors does, but a class by substring of its own classes, without
 * regard to case: "Linear" is every linear, routers included, and not lm_head, which is a ParallelLMHead.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "ir/dtype/codec.h"
#include "ir/support/io.h"
#include "runtime/check/allow.h"
#include "runtime/check/quant.h"

typedef struct visit {
    const check_model *model;
    check_verdict *verdict;
    qc_arena *arena;
    qc_map mixed;            /* paths of experts that are quantized by several schemes */
    qc_map experts;          /* path of the experts -> the first quantized module among them */
    int64_t heads, kv_heads; /* 0: not known */
} visit;

/* ---- which group --------------------------------------------------------------------------------------- */

static bool is_part_of(const char *word, const char *text)
{
    size_t n = strlen(word);
    for (; *text; text++) {
        size_t i = 0;
        while (i < n && text[i] && tolower((unsigned char)text[i]) == tolower((unsigned char)word[i]))
            i++;
        if (i == n)
            return true;
    }
    return n == 0;
}

static bool has_class(const check_module *m, const char *target)
{
    static const char *const linears[] = {"ColumnParallelLinear", "RowParallelLinear", "QKVParallelLinear",
        "MergedColumnParallelLinear", "ReplicatedLinear"};
    bool found = false;
    if (m->kind == CHECK_EMBEDDING)
        return is_part_of(target, "VocabParallelEmbedding");
    if (m->kind == CHECK_LM_HEAD)
        return is_part_of(target, "ParallelLMHead");
    for (size_t i = 0; m->kind == CHECK_LINEAR && i < sizeof linears / sizeof *linears; i++)
        found = found || is_part_of(target, linears[i]);
    return found;
}

/* The module under the name by which vLLM asks for its scheme: experts are gate_proj, up_proj and down_proj to it even where
 * the model calls them w1, w3 and w2. */
static check_module asked_for(const visit *v, const check_module *m)
{
    static const char *const names[][2] = {{"w1", "gate_proj"}, {"w3", "up_proj"}, {"w2", "down_proj"}};
    const char *last = strrchr(m->path, '.');
    check_module named = *m;
    for (size_t i = 0; last && strstr(m->path, ".experts.") && i < sizeof names / sizeof *names; i++) {
        if (strcmp(last + 1, names[i][0]) != 0)
            continue;
        named.path = qc_arena_printf(v->arena, "%.*s.%s", (int)(last - m->path), m->path, names[i][1]);
        named.node = qc_module_find_node(v->model->tree, named.path);
        if (!named.node)
            named.node = qc_module_add_node(v->model->tree, named.path, qc_node_class(m->node));
    }
    return named;
}

/* As check_matches. Names of Transformers' modules are turned into vLLM's where they are spelt out; patterns meet names that
 * are made from those in the checkpoint. */
static bool vllm_matches(const check_module *m, const char *target, bool *by_class)
{
    *by_class = !qc_starts_with(target, "re:") && !qc_node_is_named(m->node, target);
    return qc_starts_with(target, "re:") ? qc_node_matches_stored(m->node, target)
                                         : qc_node_matches(m->node, target);
}

static const check_group *group_of(const visit *v, const check_module *module, bool *by_class)
{
    const check_model *model = v->model;
    const check_module named = asked_for(v, module), *m = &named;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < model->group_count; i++) {
            const check_group *g = &model->groups[i];
            for (size_t k = 0; g->weights.present && k < g->target_count; k++) {
                bool class_name, by_path = vllm_matches(m, g->targets[k], &class_name) && !class_name;
                if (pass == 0 ? by_path : class_name && has_class(m, g->targets[k])) {
                    *by_class = pass == 1;
                    return g;
                }
            }
        }
    return NULL;
}

static bool is_ignored(const visit *v, const check_module *module)
{
    const check_module named = asked_for(v, module), *m = &named;
    bool by_class;
    for (size_t i = 0; i < v->model->ignore_count; i++)
        if (vllm_matches(m, v->model->ignore[i], &by_class) && !by_class)
            return true;
    return false;
}

static const qc_st_tensor *codes_of(const check_module *m)
{
    const qc_st_tensor *w = m->parts[CHECK_WEIGHT], *packed = m->parts[CHECK_WEIGHT_PACKED];
    return packed ? packed : w && check_is_code(w->dtype) ? w : NULL;
}

/* ---- one module ---------------------------------------------------------------------------------------- */

static void check_plain(visit *v, const check_module *m)
{
    bool by_class;
    if (m->kind != CHECK_LINEAR || is_ignored(v, m) || !group_of(v, m, &by_class))
        return;
    if (by_class && !qc_ends_with(m->path, "_proj")) /* the others are contradictions for everyone */
        check_find(v->model, v->verdict, CHECK_WRONG,
            "%s.weight is %s, but a class target reaches it: a quantized layer is made of it, without "
            "scales; "
            "ignore must name it",
            m->path, m->parts[CHECK_WEIGHT]->dtype);
}

static void check_unknown(visit *v, const check_module *m)
{
    static const check_part unknown[] = {CHECK_WEIGHT_G_IDX, CHECK_WEIGHT_SCALE_INV, CHECK_PROB_SCALE,
        CHECK_Q_GLOBAL_SCALE, CHECK_K_GLOBAL_SCALE, CHECK_V_GLOBAL_SCALE, CHECK_K_CENTER};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        if (m->parts[unknown[i]])
            check_find(v->model, v->verdict, CHECK_REFUSED, "%s is an unknown tensor%s",
                m->parts[unknown[i]]->name,
                unknown[i] == CHECK_K_CENTER ? " (rule " QC_RULE_CENTER_K ")" : "");
    if (m->parts[CHECK_KV_SCALE])
        check_find(v->model, v->verdict, CHECK_WRONG, "%s is taken for k alone; v keeps 1",
            m->parts[CHECK_KV_SCALE]->name);
    const char *last = strrchr(m->path, '.');
    if (m->parts[CHECK_WEIGHT] && last && strchr(last, '_') &&
        (qc_ends_with(last, "_q_attn") || qc_ends_with(last, "_k_cache")))
        check_find(v->model, v->verdict, CHECK_REFUSED,
            "%s is an unknown tensor: rotations of q and k are not executed (rule " QC_RULE_R3 ")",
            m->parts[CHECK_WEIGHT]->name);
}

/* "model.layers.0.mlp.experts" of a module of an expert, or NULL. */
static const char *experts_of(visit *v, const check_module *m)
{
    const char *at = strstr(m->path, ".experts.");
    return at ? qc_arena_strndup(v->arena, m->path, (size_t)(at - m->path) + strlen(".experts")) : NULL;
}

static bool same_arguments(visit *v, const check_group *a, const check_group *b)
{
    const check_args *const of_a[] = {&a->weights, &a->input}, *const of_b[] = {&b->weights, &b->input};
    bool same = true;
    for (int i = 0; a != b && i < 2; i++) {
        qc_str x, y;
        qc_str_init(&x, v->arena);
        qc_str_init(&y, v->arena);
        if (of_a[i]->present)
            qc_json_write(&x, of_a[i]->json, -1, true);
        if (of_b[i]->present)
            qc_json_write(&y, of_b[i]->json, -1, true);
        same = same && strcmp(x.data, y.data) == 0;
        qc_str_fini(&x);
        qc_str_fini(&y);
    }
    return same;
}

/* Columns of the codes, which groups of experts must divide. */
static int64_t columns_of(const check_module *m, const check_group *g)
{
    const qc_st_tensor *packed = m->parts[CHECK_WEIGHT_PACKED], *codes = codes_of(m);
    if (!codes || codes->rank != 2)
        return 0;
    if (!packed)
        return codes->shape[1];
    return g->weights.bits == 0
               ? 0
               : codes->shape[1] * (strcmp(packed->dtype, "U8") == 0 ? 2 : 32 / g->weights.bits);
}

static void check_expert(visit *v, const check_module *m, const check_group *g)
{
    const char *path = experts_of(v, m);
    if (!path)
        return;
    const check_module *first = qc_map_get(&v->experts, path);
    const int64_t group = g->weights.group_elems, columns = columns_of(m, g);
    bool by_class;
    if (group > 0 && columns % group != 0 && 32 % (g->weights.bits ? g->weights.bits : 1) == 0)
        check_find(v->model, v->verdict, CHECK_REFUSED,
            "%s has %lld columns, which is no multiple of its groups' %lld", m->path, (long long)columns,
            (long long)group);
    if (first) {
        if (!same_arguments(v, g, group_of(v, first, &by_class)) && qc_map_set(&v->mixed, path, NULL))
            check_find(v->model, v->verdict, CHECK_REFUSED,
                "%s and %s are experts of one layer in two schemes (rule " QC_RULE_EXPERTS ")", first->path,
                m->path);
        return;
    }
    qc_map_set(&v->experts, path, (void *)(uintptr_t)m);
    const char *why = check_vllm_experts(g);
    if (why)
        check_find(v->model, v->verdict, CHECK_REFUSED, "%s: %s (rule " QC_RULE_EXPERTS ")", path, why);
}

/* The experts of a layer are all quantized or none, and each has what the first has: what is missing keeps initial values. */
static void check_whole(visit *v, const char *path, const check_module *first)
{
    const size_t length = strlen(path) + 1;
    const char *names[8];
    int64_t count = 0, name_count = 0;
    for (size_t i = 0; i < v->model->module_count; i++) {
        const check_module *m = &v->model->modules[i];
        const char *dot = strncmp(m->path, path, length - 1) == 0 && m->path[length - 1] == '.'
                              ? strchr(m->path + length, '.')
                              : NULL;
        if (!dot)
            continue;
        int64_t e = strtoll(m->path + length, NULL, 10);
        e = e < (int64_t)v->model->module_count ? e
                                                : (int64_t)v->model->module_count; /* then one is missing */
        count = e >= count ? e + 1 : count;
        if (e == 0 && name_count < 8)
            names[name_count++] = dot + 1;
        if (m->parts[CHECK_WEIGHT] && !codes_of(m)) {
            check_find(v->model, v->verdict, CHECK_REFUSED,
                "%s is quantized and %s is not, but they are experts of one layer (rule " QC_RULE_EXPERTS ")",
                first->path, m->path);
            return;
        }
    }
    for (int64_t e = 0; e < count; e++)
        for (int64_t k = 0; k < name_count; k++) {
            const char *wanted = qc_arena_printf(v->arena, "%s.%lld.%s", path, (long long)e, names[k]);
            if (check_model_find(v->model, wanted))
                continue;
            check_find(v->model, v->verdict, CHECK_WRONG,
                "%s has no tensors: that part of the expert keeps initial values", wanted);
            return;
        }
}

static void check_coded(visit *v, const check_module *m, const qc_st_tensor *codes)
{
    bool by_class;
    const check_group *g = group_of(v, m, &by_class);
    const qc_st_tensor *scale = m->parts[CHECK_WEIGHT_SCALE];
    const check_module named = asked_for(v, m);
    if (!g) {
        if (named.path != m->path && check_group_of(v->model, m, NULL))
            check_find(v->model, v->verdict, CHECK_REFUSED,
                "%s holds codes, but no target names %s, for which it asks (rule " QC_RULE_EXPERTS ")",
                codes->name, named.path);
        if (m->kind == CHECK_LM_HEAD && check_group_of(v->model, m, NULL))
            check_find(v->model, v->verdict, CHECK_REFUSED,
                "%s holds codes, but only a class target reaches it, which is no linear here: its scales are "
                "unknown tensors. A target must name it: \"re:.*lm_head$\"",
                codes->name);
        return;
    }
    if (qc_ends_with(m->path, ".shared_expert_gate"))
        check_find(v->model, v->verdict, CHECK_REFUSED,
            "%s holds codes, but the gate of a shared expert is no quantized layer: its scales are unknown "
            "tensors (rule " QC_RULE_ROUTER ")",
            codes->name);
    if (m->kind == CHECK_EMBEDDING && check_vllm_family_of(g) != CHECK_VLLM_WNA16)
        check_find(v->model, v->verdict, CHECK_REFUSED,
            "%s: embeddings are read only as integers of strategy group or channel, pack-quantized",
            codes->name);
    if (scale && strcmp(scale->dtype, "F8_E8M0") == 0)
        check_find(v->model, v->verdict, CHECK_WRONG, "%s is F8_E8M0 and read by value; its bytes must be U8",
            scale->name);
    check_expert(v, m, g);
}

/* ---- layers made of several modules -------------------------------------------------------------------- */

/* Both tensors are there, of one type, and hold other bytes. */
static qc_status differ(visit *v, const qc_st_tensor *a, const qc_st_tensor *b, bool *different)
{
    unsigned char x[8] = {0}, y[8] = {0};
    *different = false;
    if (!a || !b || strcmp(a->dtype, b->dtype) != 0 || a->size_bytes > sizeof x || b->size_bytes > sizeof y)
        return QC_OK;
    if (qc_st_read(v->model->diag, v->model->set, a, x) != QC_OK ||
        qc_st_read(v->model->diag, v->model->set, b, y) != QC_OK)
        return QC_ERROR;
    *different = memcmp(x, y, sizeof x) != 0;
    return QC_OK;
}

static qc_status check_shared(visit *v, const check_module *a, const check_module *b, const check_group *g)
{
    static const struct {
        check_vllm_family family;
        check_part part;
        const char *why;
    } shared[] = {
        {CHECK_VLLM_NVFP4, CHECK_WEIGHT_GLOBAL_SCALE, "the larger one is taken for both, weights stay"},
        {CHECK_VLLM_NVFP4, CHECK_INPUT_GLOBAL_SCALE, "the larger one is taken for both"},
        {CHECK_VLLM_INT8_STATIC, CHECK_INPUT_SCALE, "the one loaded last is taken for both"},
        {CHECK_VLLM_INT8_STATIC, CHECK_INPUT_ZERO_POINT, "the one loaded last is taken for both"},
    };
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) {
        const qc_st_tensor *x = a->parts[shared[i].part], *y = b->parts[shared[i].part];
        bool different;
        if (shared[i].family != check_vllm_family_of(g))
            continue;
        if (differ(v, x, y, &different) != QC_OK)
            return QC_ERROR;
        if (different)
            check_find(v->model, v->verdict, CHECK_WRONG, "%s and %s differ in one layer: %s", x->name,
                y->name, shared[i].why);
    }
    return QC_OK;
}

static void check_block_rows(visit *v, const check_module *m, const check_group *g)
{
    const qc_st_tensor *codes = codes_of(m);
    if (codes && codes->rank == 2 && strcmp(g->weights.strategy, "block") == 0 && g->weights.block_rows > 0 &&
        codes->shape[0] % g->weights.block_rows != 0)
        check_find(v->model, v->verdict, CHECK_REFUSED,
            "%s has %lld rows, which is no multiple of its blocks' %lld", codes->name,
            (long long)codes->shape[0], (long long)g->weights.block_rows);
}

/* `b` goes into one layer with `a`. */
static qc_status check_two(visit *v, const check_module *a, const check_module *b)
{
    bool by_class;
    const check_group *of_a = codes_of(a) ? group_of(v, a, &by_class) : NULL;
    const check_group *of_b = codes_of(b) ? group_of(v, b, &by_class) : NULL;
    if (!of_a != !of_b) {
        check_find(v->model, v->verdict, CHECK_REFUSED,
            "%s is quantized and %s is not, but they are one layer", of_a ? a->path : b->path,
            of_a ? b->path : a->path);
        return QC_OK;
    }
    if (!of_a)
        return QC_OK;
    if (!same_arguments(v, of_a, of_b)) {
        check_find(
            v->model, v->verdict, CHECK_REFUSED, "%s and %s are one layer in two schemes", a->path, b->path);
        return QC_OK;
    }
    return check_shared(v, a, b, of_a);
}

static qc_status check_layer(visit *v, const check_module *m)
{
    static const char *const sets[][3] = {{"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj", NULL},
        {"w1", "w3", NULL}, {"q_a_proj", "kv_a_proj_with_mqa", NULL}};
    const char *dot = strrchr(m->path, '.');
    const char *last = dot ? dot + 1 : m->path;
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
        if (strcmp(last, sets[s][0]) != 0)
            continue;
        bool joined = false, by_class;
        const check_group *g = codes_of(m) ? group_of(v, m, &by_class) : NULL;
        for (int i = 1; i < 3 && sets[s][i]; i++) {
            const char *path =
                qc_arena_printf(v->arena, "%.*s%s", (int)(last - m->path), m->path, sets[s][i]);
            const check_module *other = check_model_find(v->model, path);
            if (!other)
                continue;
            joined = true;
            if (check_two(v, m, other) != QC_OK)
                return QC_ERROR;
            if (g)
                check_block_rows(v, other, g);
        }
        if (joined && g)
            check_block_rows(v, m, g);
    }
    return QC_OK;
}

/* ---- attention ----------------------------------------------------------------------------------------- */

static int64_t element_count(const qc_st_tensor *t)
{
    int64_t count = 1;
    for (int i = 0; i < t->rank; i++)
        count *= t->shape[i];
    return count;
}

static void check_attention(visit *v, const check_module *m)
{
    static const check_part parts[] = {CHECK_Q_SCALE, CHECK_K_SCALE, CHECK_V_SCALE};
    const check_args *kv = &v->model->kv;
    if (m->parts[CHECK_Q_SCALE] &&
        check_model_find(v->model, qc_arena_printf(v->arena, "%s.kv_a_proj_with_mqa", m->path)))
        check_find(v->model, v->verdict, CHECK_WRONG,
            "%s: scales of q, k and v beside a latent cache (MLA), which takes k_scale for its own "
            "(rule " QC_RULE_LATENT ")",
            m->path);
    for (size_t i = 0; kv->present && i < sizeof parts / sizeof *parts; i++) {
        const qc_st_tensor *t = m->parts[parts[i]];
        const bool head = strcmp(kv->strategy, "attn_head") == 0;
        const int64_t wanted = !head ? 1 : i == 0 ? v->heads : v->kv_heads;
        if (t && wanted && element_count(t) != wanted)
            check_find(v->model, v->verdict, CHECK_REFUSED, "%s is %s; kv_cache_scheme says %s: %lld %s",
                t->name, check_tensor_text(v->arena, t), kv->strategy, (long long)wanted,
                wanted == 1 ? "element" : "elements");
    }
}

static void read_heads(visit *v)
{
    const qc_json *root = v->model->config, *text = qc_json_get(root, "text_config");
    const qc_json *heads = qc_json_get(text ? text : root, "num_attention_heads");
    const qc_json *kv_heads = qc_json_get(text ? text : root, "num_key_value_heads");
    v->heads = heads && heads->is_integer && heads->integer > 0 ? heads->integer : 0;
    v->kv_heads = kv_heads && kv_heads->is_integer && kv_heads->integer > 0 ? kv_heads->integer : v->heads;
}

/* ---- all ----------------------------------------------------------------------------------------------- */

/* Without an index vLLM reads every safetensors file of the folder. */
static qc_status check_files(visit *v)
{
    const char *directory = v->model->directory;
    char **names;
    size_t count;
    if (!qc_is_directory(directory) ||
        qc_is_file(qc_path_join(v->arena, directory, "model.safetensors.index.json")))
        return QC_OK;
    if (qc_list_directory(v->model->diag, v->arena, directory, &names, &count) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < count; i++)
        if (qc_ends_with(names[i], ".safetensors") && strcmp(names[i], "model.safetensors") != 0)
            check_find(v->model, v->verdict, CHECK_REFUSED,
                "%s lies beside model.safetensors, and without an index its tensors are read too", names[i]);
    return QC_OK;
}

qc_status check_vllm_modules(const check_model *model, check_verdict *verdict)
{
    visit v = {.model = model, .verdict = verdict, .arena = model->arena};
    qc_map_init(&v.experts, model->arena);
    qc_map_init(&v.mixed, model->arena);
    read_heads(&v);
    for (size_t i = 0; i < model->module_count; i++) {
        const check_module *m = &model->modules[i];
        const qc_st_tensor *codes = codes_of(m);
        if (codes && !is_ignored(&v, m))
            check_coded(&v, m, codes);
        else if (!codes && m->parts[CHECK_WEIGHT])
            check_plain(&v, m);
        check_unknown(&v, m);
        check_attention(&v, m);
        if (check_layer(&v, m) != QC_OK)
            return QC_ERROR;
    }
    for (size_t i = 0; i < v.experts.count; i++)
        check_whole(&v, v.experts.entries[i].key, v.experts.entries[i].value);
    return check_files(&v);
}
