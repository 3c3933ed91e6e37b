/* SPDX-License-Identifier: MIT
 *
 * moe_tree.c - the modules of a layer's experts, and how the checkpoint stores them. Every architecture has files of
 * both kinds: tensors of each expert (the hub's, and whatever llm-compressor wrote) and those that hold all (the hub's
 * of Llama 4 and gpt-oss, and what Transformers 5 holds). What the files have decides:
 *
 *   <experts>.0.gate_proj.weight ...   each expert, as numbers or codes; Mixtral's w1, w3, w2 are gate, up, down
 *   <experts>.gate_up_proj             all, [experts, 2 * inner, hidden], of Llama 4 and gpt-oss transposed, of Qwen3-VL either
 *   <experts>.gate_up_proj_blocks      all, [experts, 2 * inner, hidden / 32, 16] bytes of MXFP4, with _scales
 *
 * Two of them in one layer, experts that are missing or too many, and routers that are codes are errors.
 */
#include "frontends/hf/moe.h"

#include <stdlib.h>

#include "frontends/hf/tree.h"

static const char *const part_names[][QC_HF_EXPERT_PARTS] = {
    {"gate_proj", "up_proj", "down_proj"}, {"w1", "w3", "w2"}};

enum { NAMINGS = sizeof part_names / sizeof *part_names };

/* What the files hold below <experts>. */
typedef struct findings {
    const char *each, *fused, *mxfp4; /* the first tensor of the kind; NULL: none */
    const char *by_naming[NAMINGS];
    const char *beyond; /* a tensor of an expert that config.json does not count */
    bool *present;      /* one an expert */
} findings;

static const char *key_text(qc_hf_state *s, const char *first, const char *second)
{
    return qc_arena_printf(s->arena, "%s, %s", first, second);
}

static void complain(qc_hf_state *s, const char *tensor, const char *what)
{
    qc_hf_tensor_error(s, tensor ? qc_st_find(&s->set, tensor) : NULL, what);
}

/* ---- what there is ------------------------------------------------------------------------------------- */

/* A tensor of one expert: `rest` is its name behind "<experts>.". */
static void find_each(const qc_hf_state *s, findings *f, const char *name, const char *rest)
{
    int64_t expert = 0;
    const char *at = rest;
    for (; *at >= '0' && *at <= '9'; at++)
        expert = expert > INT32_MAX ? expert : 10 * expert + (*at - '0');
    if (at == rest || *at++ != '.')
        return;
    for (size_t n = 0; n < NAMINGS; n++)
        for (int part = 0; part < QC_HF_EXPERT_PARTS; part++) {
            const size_t length = strlen(part_names[n][part]);
            if (strncmp(at, part_names[n][part], length) != 0 || at[length] != '.')
                continue;
            f->each = f->each ? f->each : name;
            f->by_naming[n] = f->by_naming[n] ? f->by_naming[n] : name;
            if (expert < s->config.moe.experts && !(rest[0] == '0' && rest[1] != '.'))
                f->present[expert] = true;
            else
                f->beyond = name;
        }
}

/* `present`: room for one an expert. */
static findings find(qc_hf_state *s, const qc_node *experts, bool *present)
{
    const char *path = qc_node_path(experts);
    const size_t length = strlen(path);
    findings f = {.present = present};
    for (size_t i = 0; i < s->set.tensor_count; i++) {
        const char *name = s->set.tensors[i].name, *rest = name + length + 1;
        if (strncmp(name, path, length) != 0 || name[length] != '.')
            continue;
        if (strcmp(rest, "gate_up_proj") == 0 || strcmp(rest, "down_proj") == 0)
            f.fused = name;
        else if (strcmp(rest, "gate_up_proj_blocks") == 0 || strcmp(rest, "down_proj_blocks") == 0)
            f.mxfp4 = name;
        else
            find_each(s, &f, name, rest);
    }
    return f;
}

/* Experts without any tensor, by number. */
static void check_present(qc_hf_state *s, const findings *f, const qc_node *experts)
{
    enum { LISTED = 16 };
    const int64_t count = s->config.moe.experts;
    const char *names = "";
    int64_t missing = 0;
    for (int64_t e = 0; e < count; e++)
        if (!f->present[e] && missing++ < LISTED)
            names = qc_arena_printf(s->arena, "%s%s%lld", names, missing > 1 ? ", " : "", (long long)e);
    if (missing)
        complain(s, NULL,
            qc_arena_printf(s->arena, "experts %s%s of %s are missing: %lld of %lld (%s)", names,
                missing > LISTED ? ", ..." : "", qc_node_path(experts), (long long)missing, (long long)count,
                s->config.moe.experts_key));
}

/* Chooses moe->layout by what was found. */
static void judge(qc_hf_state *s, qc_hf_moe *moe, bool *present)
{
    const findings f = find(s, moe->experts, present);
    const char *path = qc_node_path(moe->experts);
    const char *one = f.each ? f.each : f.fused, *other = f.mxfp4 ? f.mxfp4 : f.fused;
    if (!f.each && !f.fused && !f.mxfp4)
        complain(s, NULL,
            qc_arena_printf(s->arena,
                "the experts of %s are missing: neither %s.0.%s.weight nor %s.gate_up_proj is stored", path,
                path, part_names[strcmp(qc_node_class(moe->experts), "MixtralExperts") == 0][0], path));
    else if (one && other && one != other)
        complain(s, one,
            qc_arena_printf(s->arena,
                "the experts of %s are stored in two ways, as in %s and as in %s; which counts is not known",
                path, one, other));
    else if (f.by_naming[0] && f.by_naming[1])
        complain(s, f.by_naming[0],
            qc_arena_printf(s->arena, "the experts of %s have two kinds of names, as in %s and as in %s",
                path, f.by_naming[0], f.by_naming[1]));
    else if (f.beyond)
        complain(s, f.beyond,
            qc_arena_printf(s->arena, "tensor %s is of an expert that config.json does not count: %s is %lld",
                f.beyond, s->config.moe.experts_key, (long long)s->config.moe.experts));
    else if (f.each)
        check_present(s, &f, moe->experts);
    moe->layout = f.each ? QC_HF_EXPERTS_EACH : f.fused ? QC_HF_EXPERTS_FUSED : QC_HF_EXPERTS_MXFP4;
    moe->names = part_names[f.by_naming[1] ? 1 : 0];
}

/* False after an error. */
static bool choose_layout(qc_hf_state *s, qc_hf_moe *moe)
{
    const size_t errors = s->error_count;
    bool *present = calloc((size_t)s->config.moe.experts, sizeof *present);
    if (present)
        judge(s, moe, present);
    else
        complain(s, NULL, "out of memory");
    free(present);
    return s->error_count == errors;
}

/* ---- tensors of each expert ---------------------------------------------------------------------------- */

static const char *weight_dtype(const qc_hf_state *s, const qc_hf_linear *linear)
{
    const qc_st_tensor *t =
        qc_st_find(&s->set, qc_arena_printf(s->arena, "%s.weight", qc_node_path(linear->node)));
    return t ? t->dtype : "";
}

static const char *group_text(const qc_hf_state *s, const qc_hf_linear *linear)
{
    return linear->group ? qc_arena_printf(s->arena, "quantized by @%s", linear->group->symbol)
                         : "not quantized";
}

/* What holds for expert 0 must hold for all: they are one bank in the graph. */
static void check_alike(qc_hf_state *s, const qc_hf_linear *first, const qc_hf_linear *linear)
{
    if (linear->group != first->group)
        complain(s, NULL,
            qc_arena_printf(s->arena, "experts of a layer must be quantized alike: %s is %s, %s is %s",
                qc_node_path(first->node), group_text(s, first), qc_node_path(linear->node),
                group_text(s, linear)));
    else if (strcmp(weight_dtype(s, first), weight_dtype(s, linear)) != 0)
        complain(s, NULL,
            qc_arena_printf(s->arena,
                "experts of a layer must be of one element type: %s.weight is %s, %s.weight is %s",
                qc_node_path(first->node), weight_dtype(s, first), qc_node_path(linear->node),
                weight_dtype(s, linear)));
}

static void add_each(qc_hf_state *s, qc_hf_moe *moe)
{
    const qc_hf_moe_rule *rule = s->config.arch->moe;
    const int64_t inner = s->config.moe.intermediate, hidden = s->config.hidden;
    const char *up_keys = key_text(s, rule->intermediate_key, "hidden_size");
    const char *down_keys = key_text(s, "hidden_size", rule->intermediate_key);
    for (int64_t e = 0; e < s->config.moe.experts; e++) {
        const qc_node *expert = qc_hf_tree_node(
            s, moe->experts, qc_arena_printf(s->arena, "%lld", (long long)e), rule->expert_class);
        for (int i = 0; i < QC_HF_EXPERT_PARTS; i++) {
            static const int order[QC_HF_EXPERT_PARTS] = {
                QC_HF_UP, QC_HF_GATE, QC_HF_DOWN}; /* llm-compressor's */
            const int part = order[i];
            const bool down = part == QC_HF_DOWN;
            qc_hf_linear linear = qc_hf_tree_linear(s, expert, moe->names[part], down ? hidden : inner,
                down ? inner : hidden, rule->bias, down ? down_keys : up_keys);
            if (e == 0)
                moe->parts[part] = linear;
            check_alike(s, &moe->parts[part], &linear);
        }
    }
}

/* ---- tensors of all experts ---------------------------------------------------------------------------- */

/* Says so when the matrices lie the other way round than the architecture has them. */
static bool is_turned(qc_hf_state *s, const char *name, const qc_hf_expectation *e, bool transposed)
{
    const qc_st_tensor *t = qc_st_find(&s->set, name);
    if (!t || t->rank != 3 || e->shape[1] == e->shape[2] || t->shape[0] != e->shape[0] ||
        t->shape[1] != e->shape[2] || t->shape[2] != e->shape[1])
        return false;
    complain(s, name,
        qc_arena_printf(s->arena,
            "tensor %s is [%lld, %lld, %lld], which is [experts, %s]; the experts of %s are [experts, %s]",
            name, (long long)t->shape[0], (long long)t->shape[1], (long long)t->shape[2],
            transposed ? "out, in" : "in, out", s->config.arch->info.architecture,
            transposed ? "in, out" : "out, in"));
    return true;
}

static void own_fused(
    qc_hf_state *s, const qc_hf_moe *moe, const char *short_name, int64_t out, int64_t in, const char *keys)
{
    qc_node *node = moe->experts;
    const bool transposed = moe->transposed;
    const qc_hf_expectation e = {
        3, {s->config.moe.experts, transposed ? in : out, transposed ? out : in}, QC_DTYPE_NONE, keys};
    if (!is_turned(s, qc_arena_printf(s->arena, "%s.%s", qc_node_path(node), short_name), &e, transposed))
        qc_hf_own_tensor(s, node, short_name, &e);
}

static void own_biases(qc_hf_state *s, qc_node *node)
{
    const qc_hf_moe_config *m = &s->config.moe;
    const char *keys = key_text(s, m->experts_key, s->config.arch->moe->intermediate_key);
    const qc_hf_expectation up = {2, {m->experts, 2 * m->intermediate}, QC_DTYPE_NONE, keys};
    const qc_hf_expectation down = {
        2, {m->experts, s->config.hidden}, QC_DTYPE_NONE, key_text(s, m->experts_key, "hidden_size")};
    if (!s->config.arch->moe->bias)
        return;
    qc_hf_own_tensor(s, node, "gate_up_proj_bias", &up);
    qc_hf_own_tensor(s, node, "down_proj_bias", &down);
}

/* Which way the matrices of all lie. Transformers goes by the shape where it takes both; of a square one it cannot tell, but
 * gate and up together or down are none. */
static bool is_transposed(qc_hf_state *s, const qc_hf_moe *moe)
{
    const qc_hf_moe_rule *rule = s->config.arch->moe;
    const int64_t up = 2 * s->config.moe.intermediate, hidden = s->config.hidden;
    const bool square = up == hidden;
    const qc_st_tensor *t = qc_st_find(&s->set, qc_arena_printf(s->arena, "%s.%s", qc_node_path(moe->experts),
                                                    square ? "down_proj" : "gate_up_proj"));
    if (!rule->either_way || !t || t->rank != 3)
        return rule->transposed;
    return t->shape[1] != (square ? hidden : up);
}

static void add_fused(qc_hf_state *s, qc_hf_moe *moe)
{
    const qc_hf_moe_config *m = &s->config.moe;
    const char *keys = qc_arena_printf(
        s->arena, "%s, hidden_size, %s", m->experts_key, s->config.arch->moe->intermediate_key);
    moe->transposed = is_transposed(s, moe);
    own_fused(s, moe, "gate_up_proj", 2 * m->intermediate, s->config.hidden, keys);
    own_fused(s, moe, "down_proj", s->config.hidden, m->intermediate, keys);
    own_biases(s, moe->experts);
}

static void own_blocks(
    qc_hf_state *s, qc_node *node, const char *name, int64_t out, int64_t in, const char *keys)
{
    const int64_t experts = s->config.moe.experts;
    const qc_hf_expectation blocks = {4, {experts, out, in / 32, 16}, QC_U8, keys};
    const qc_hf_expectation scales = {3, {experts, out, in / 32}, QC_U8, keys};
    if (in % 32 != 0) {
        complain(s, NULL,
            qc_arena_printf(s->arena,
                "%s.%s_blocks has blocks of 32, and %lld columns (%s) are no multiple of that",
                qc_node_path(node), name, (long long)in, keys));
        return;
    }
    qc_hf_own_tensor(s, node, qc_arena_printf(s->arena, "%s_blocks", name), &blocks);
    qc_hf_own_tensor(s, node, qc_arena_printf(s->arena, "%s_scales", name), &scales);
}

static void add_mxfp4(qc_hf_state *s, qc_hf_moe *moe)
{
    const qc_hf_moe_config *m = &s->config.moe;
    const char *keys = qc_arena_printf(
        s->arena, "%s, hidden_size, %s", m->experts_key, s->config.arch->moe->intermediate_key);
    if (!s->quantization.mxfp4) {
        complain(s, NULL,
            qc_arena_printf(s->arena,
                "the experts of %s are blocks of MXFP4, but config.json has no quantization_config with "
                "quant_method mxfp4",
                qc_node_path(moe->experts)));
        return;
    }
    own_blocks(s, moe->experts, "gate_up_proj", 2 * m->intermediate, s->config.hidden, keys);
    own_blocks(s, moe->experts, "down_proj", s->config.hidden, m->intermediate, keys);
    own_biases(s, moe->experts);
}

/* ---- the block ----------------------------------------------------------------------------------------- */

/* A router that a scheme reached would choose other experts; no loader reads one either. */
static void check_router(qc_hf_state *s, const qc_node *router)
{
    static const char *const codes[] = {"weight_packed", "weight_scale", "weight_scale_inv", "qweight"};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        const char *name = qc_arena_printf(s->arena, "%s.%s", qc_node_path(router), codes[i]);
        if (qc_st_find(&s->set, name)) {
            complain(s, name,
                qc_arena_printf(s->arena,
                    "router %s is quantized (tensor %s); routers are read as numbers only",
                    qc_node_path(router), name));
            return;
        }
    }
}

static void add_router(qc_hf_state *s, qc_hf_moe *moe)
{
    const qc_hf_moe_rule *rule = s->config.arch->moe;
    const int64_t experts = s->config.moe.experts;
    const qc_hf_expectation weight = {
        2, {experts, s->config.hidden}, QC_DTYPE_NONE, key_text(s, s->config.moe.experts_key, "hidden_size")};
    const qc_hf_expectation one = {1, {experts}, QC_DTYPE_NONE, s->config.moe.experts_key};
    const size_t errors = s->error_count;
    moe->router = qc_hf_tree_node(s, moe->node, rule->router, rule->router_class);
    check_router(s, moe->router);
    if (s->error_count != errors)
        return;
    qc_hf_own_tensor(s, moe->router, "weight", &weight);
    if (rule->router_bias)
        qc_hf_own_tensor(s, moe->router, "bias", &one);
    if (rule->routing == QC_HF_ROUTING_GROUPED_SIGMOID)
        qc_hf_own_tensor(s, moe->router, "e_score_correction_bias", &one);
}

static void add_experts(qc_hf_state *s, qc_hf_moe *moe)
{
    const qc_hf_moe_rule *rule = s->config.arch->moe;
    moe->experts = qc_hf_tree_node(s, moe->node, "experts", rule->experts_class);
    if (!choose_layout(s, moe))
        return;
    switch (moe->layout) {
    case QC_HF_EXPERTS_EACH:
        add_each(s, moe);
        break;
    case QC_HF_EXPERTS_FUSED:
        add_fused(s, moe);
        break;
    case QC_HF_EXPERTS_MXFP4:
        add_mxfp4(s, moe);
        break;
    }
    if (!rule->clamped)
        moe->activation = qc_hf_tree_node(s, moe->experts, "act_fn", qc_hf_activation_class(&s->config));
}

/* The name of the block: the second of the rule's where the files have it and not the first. */
static const char *block_name(qc_hf_state *s, const qc_node *layer)
{
    const qc_hf_moe_rule *rule = s->config.arch->moe;
    if (rule->blocks[1]) {
        const char *router =
            qc_arena_printf(s->arena, "%s.%s.%s.weight", qc_node_path(layer), rule->blocks[1], rule->router);
        if (qc_st_find(&s->set, router))
            return rule->blocks[1];
    }
    return rule->blocks[0];
}

/* What says how wide the shared expert is. */
static const char *shared_key(const qc_hf_moe_rule *rule)
{
    return rule->sharing == QC_HF_SHARED_BY_KEY     ? "shared_expert_intermediate_size"
           : rule->sharing == QC_HF_SHARED_AS_COUNT ? "n_shared_experts * moe_intermediate_size"
                                                    : rule->intermediate_key;
}

void qc_hf_moe_tree(qc_hf_state *s, qc_hf_layer *layer, int64_t index)
{
    const qc_hf_moe_rule *rule = s->config.arch->moe;
    qc_hf_moe *moe = &layer->moe;
    (void)index;
    moe->node = qc_hf_tree_node(s, layer->node, block_name(s, layer->node), rule->block_class);
    if (!rule->experts_first)
        add_router(s, moe);
    add_experts(s, moe);
    if (rule->experts_first)
        add_router(s, moe);
    if (rule->shared)
        qc_hf_mlp_tree(s, moe->node, rule->shared, s->config.moe.shared, shared_key(rule), &moe->shared);
    if (rule->shared_gate)
        moe->shared_gate =
            qc_hf_tree_linear(s, moe->node, rule->shared_gate, 1, s->config.hidden, false, "hidden_size");
}

/* ---- layers behind the last ---------------------------------------------------------------------------- */

/* Is the tensor of such a layer? `prefix`: what is before its number. */
static bool is_next(const qc_hf_state *s, const char *prefix, const char *name)
{
    int64_t layer = 0;
    if (!qc_starts_with(name, prefix))
        return false;
    const char *digits = name + strlen(prefix), *at = digits;
    for (; *at >= '0' && *at <= '9' && layer <= INT32_MAX; at++)
        layer = 10 * layer + (*at - '0');
    return at > digits && *at == '.' && layer >= s->config.layers &&
           layer - s->config.layers < s->config.moe.next;
}

void qc_hf_moe_own_next(qc_hf_state *s)
{
    const char *prefix = qc_arena_printf(s->arena, "%s.layers.", qc_node_path(s->model.model));
    bool codes = false;
    size_t count = 0;
    if (!s->config.arch->moe || s->config.moe.next < 1)
        return;
    for (size_t i = 0; s->dequantize && i < s->set.tensor_count && !codes; i++)
        codes = qc_hf_is_scale_name(qc_hf_short_name(s->set.tensors[i].name)) &&
                is_next(s, prefix, s->set.tensors[i].name);
    for (size_t i = 0; i < s->set.tensor_count; i++) {
        const qc_st_tensor *t = &s->set.tensors[i];
        if (!is_next(s, prefix, t->name))
            continue;
        if (!codes) {
            const char *dot = strrchr(t->name, '.');
            qc_node *node = qc_hf_add_path(s, qc_arena_strndup(s->arena, t->name, (size_t)(dot - t->name)));
            qc_node_add_tensor(node, dot + 1);
        }
        qc_map_set(&s->owned, t->name, (void *)(uintptr_t)t->name);
        count++;
    }
    if (count && codes)
        qc_warning(s->diag, s->directory,
            "layers behind the last predict further tokens (MTP) and take no part; their %zu tensors are "
            "codes "
            "of the source's quantization, and left out",
            count);
    else if (count)
        qc_remark(s->diag, s->directory,
            "layers behind the last predict further tokens (MTP) and take no part; their %zu tensors are "
            "kept as "
            "they are, and not quantized",
            count);
}
