/* SPDX-License-Identifier: MIT
 *
 * quant_attention.c - codes and scales for q, k and v of attention: what quant-fp8-attn, quant-int8-attn,
 * quant-nvfp4-attn and quant-kv share.
 *
 * q is quantized where attention reads it, after RoPE and rotations; k and v before cache_append, so that the cache holds
 * codes; attention takes the scales as operands. Scales of k and v that are computed as the model runs are kept beside
 * their codes, in a cache of their own. An op is quantized with all parts that were asked for or not at all.
 *
 * Where attention is latent (MLA), a cache holds the latent and the shared rotated key of a token: without queries to
 * quantize, codes are those of that, one entry a token for keys and values of all heads.
 *
 * Keys may be centered first (Zhang et al., SageAttention, 2024): q (k - m)^T is q k^T less a number that all keys of one
 * query share, which softmax does not see. m is the mean of each column, out of calibration.
 *
 * The symbol must select what was quantized, no more: its targets are those that were asked for (or the
 * classes of the attention modules) when these, less `ignore`, name exactly the quantized modules, else their
 * paths.
 */
#include <stdio.h>
#include <string.h>

#include "passes/quant.h"

/* What the options ask for. */
typedef struct request {
    const qc_quant_attention_pass *what;
    const qc_attr *input; /* the part */
    bool q, k, v;         /* which operands get codes */
    bool skip_windows, center_k;
    qc_dtype probs;
    double probs_scale;
} request;

typedef struct selection {
    qc_op **ops; /* attention ops in order */
    bool *taken;
    size_t count, taken_count, matched;
    const char *reason; /* why the last of those that match was left alone */
} selection;

/* ---- which ops ----------------------------------------------------------------------------------------- */

/* The first component of the path that is a number: model.layers.12.self_attn gives 12; -1 when there is
 * none. */
static int64_t layer_number(const char *path)
{
    for (const char *at = path; at; at = strchr(at, '.'), at = at ? at + 1 : NULL) {
        size_t digits = strspn(at, "0123456789");
        if (digits > 0 && digits < 10 && (at[digits] == '.' || at[digits] == '\0')) {
            int64_t number = 0;
            for (size_t i = 0; i < digits; i++)
                number = number * 10 + (at[i] - '0');
            return number;
        }
    }
    return -1;
}

/* "3" or "0-3"; false when it is neither. */
static bool layer_range(const char *text, int64_t *first, int64_t *last)
{
    int64_t *number = first;
    size_t digits = 0;
    *first = *last = 0;
    for (; *text; text++) {
        if (*text == '-' && number == first && digits > 0) {
            number = last;
            digits = 0;
        } else if (*text >= '0' && *text <= '9' && digits++ < 9) {
            *number = *number * 10 + (*text - '0');
        } else {
            return false;
        }
    }
    if (number == first)
        *last = *first;
    return digits > 0;
}

static bool in_layers(qc_pass_ctx *pc, const qc_node *node)
{
    size_t count = qc_pass_option_count(pc, "layers");
    int64_t layer = layer_number(qc_node_path(node)), first, last;
    for (size_t i = 0; i < count; i++) {
        const char *item = qc_pass_option_item(pc, "layers", i);
        if (layer_range(item, &first, &last)) {
            if (first <= layer && layer <= last)
                return true;
            continue;
        }
        for (const qc_node *at = node; at; at = qc_node_parent(at))
            if (qc_node_matches(at, item))
                return true;
    }
    return count == 0;
}

static const char *why_not_part(const qc_op *op, const char *part, const char *scale, qc_pass_ctx *pc)
{
    const qc_value *value = qc_op_operand_named(op, part);
    const qc_op *cache = qc_quant_cache_of(value);
    char *text = qc_pass_alloc(pc, 64);
    const char *reason = NULL;
    if (qc_op_operand_named(op, scale))
        reason = " is quantized already";
    else if (!qc_quant_is_plain(value))
        reason = " is neither bf16, f16 nor f32";
    else if (cache && (qc_value_use_count(value) != 1 || qc_quant_is_returned(value)))
        reason = "'s cache is read by others too";
    if (!reason)
        return NULL;
    strcpy(text, part);
    return strcat(text, reason);
}

/* Is only a part of the keys before a query seen: those in a window, or those of its chunk? */
static bool is_local(const qc_op *op)
{
    return qc_attr_as_int(qc_op_attr(op, "window")) > 0 || qc_attr_as_int(qc_op_attr(op, "chunk")) > 0;
}

/* What a cache holds for all heads together where attention is latent (MLA), and no queries are asked for. */
static qc_op *latent_of(const qc_op *op, const request *r)
{
    if (r->what->queries)
        return NULL;
    for (qc_op *at = qc_op_prev(op); at; at = qc_op_prev(at)) {
        if (qc_op_is(at, "latent_kv") && qc_op_node(at) == qc_op_node(op))
            return at;
        if (qc_op_is(at, "attention")) /* of the layer before */
            return NULL;
    }
    return NULL;
}

static const char *why_not_latent(const qc_op *latent)
{
    const qc_value *value = qc_op_result(latent, 0);
    size_t slot;
    for (size_t i = 0; i < qc_value_use_count(value); i++)
        if (qc_op_is(qc_value_use(value, i, &slot), "quantize"))
            return "its latent is quantized already";
    return qc_quant_is_plain(value) ? NULL : "its latent is neither bf16, f16 nor f32";
}

/* NULL when the op is to be quantized. */
static const char *why_not(qc_pass_ctx *pc, const qc_op *op, const request *r)
{
    const char *reason = NULL;
    const qc_op *latent = latent_of(op, r);
    if (qc_pass_option_matches(pc, "ignore", qc_op_node(op), false))
        return "the module is ignored or disabled";
    if (r->skip_windows && is_local(op))
        return qc_attr_as_int(qc_op_attr(op, "window")) > 0
                   ? "its window slides, and such layers are skipped"
                   : "it sees keys of one chunk, and such layers are skipped as sliding ones are";
    if (latent)
        return why_not_latent(latent);
    if (r->q)
        reason = why_not_part(op, "q", "q_scale", pc);
    if (!reason && r->k)
        reason = why_not_part(op, "k", "k_scale", pc);
    if (!reason && r->v)
        reason = why_not_part(op, "v", "v_scale", pc);
    if (!reason && r->probs != QC_DTYPE_NONE && qc_op_attr_given(op, "probs_codes"))
        reason = "its probabilities are quantized already";
    return reason;
}

static void select_ops(qc_pass_ctx *pc, qc_module *module, const request *r, selection *s)
{
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            s->count += qc_op_is(op, "attention");
    s->ops = qc_pass_alloc(pc, s->count * sizeof *s->ops);
    s->taken = qc_pass_alloc(pc, s->count * sizeof *s->taken);
    size_t i = 0;
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            if (qc_op_is(op, "attention"))
                s->ops[i++] = op;
    for (i = 0; i < s->count; i++) {
        const qc_op *op = s->ops[i];
        const qc_node *node = qc_op_node(op);
        const char *reason;
        if (!node)
            reason = "it belongs to no module";
        else if (!qc_pass_option_matches(pc, "targets", node, true))
            reason = "no target names its module";
        else if (!in_layers(pc, node))
            reason = "its layer was not asked for";
        else
            s->matched++, s->reason = reason = why_not(pc, op, r);
        s->taken[i] = reason == NULL;
        s->taken_count += reason == NULL;
        if (reason)
            qc_pass_remark(pc, op, "attention left alone: %s", reason);
    }
}

/* A number or a range in `layers` without attention in it is a slip, as a target that names nothing is. */
static void warn_of_layers(qc_pass_ctx *pc, const selection *s)
{
    for (size_t i = 0; i < qc_pass_option_count(pc, "layers"); i++) {
        const char *item = qc_pass_option_item(pc, "layers", i);
        int64_t first, last;
        size_t k = 0;
        if (!layer_range(item, &first, &last))
            continue;
        for (; k < s->count; k++) {
            const qc_node *node = qc_op_node(s->ops[k]);
            const int64_t layer = node ? layer_number(qc_node_path(node)) : -1;
            if (first <= layer && layer <= last)
                break;
        }
        if (k == s->count)
            qc_ctx_warning(qc_pass_ctx_get(pc), qc_pass_ctx_name(pc),
                "layers: '%s' names no layer with attention", item);
    }
}

/* ---- the symbol ---------------------------------------------------------------------------------------- */

static bool is_taken(const selection *s, const qc_node *node)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->taken[i] && qc_op_node(s->ops[i]) == node)
            return true;
    return false;
}

static bool list_has(const qc_attr *const *items, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(qc_attr_as_text(items[i]), text) == 0)
            return true;
    return false;
}

/* Classes (or paths) of the quantized modules in tree order, each once. */
static const qc_attr *names_of(qc_pass_ctx *pc, const qc_module *module, const selection *s, bool paths)
{
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    const qc_attr **items = qc_pass_alloc(pc, (s->count + 1) * sizeof *items);
    size_t count = 0;
    for (const qc_node *node = qc_module_first_node(module); node; node = qc_node_next(node)) {
        const char *name = paths ? qc_node_path(node) : qc_node_class(node);
        if (is_taken(s, node) && !list_has(items, count, name))
            items[count++] = qc_attr_string(ctx, name);
    }
    return qc_attr_list(ctx, items, count);
}

static bool list_matches(const qc_attr *list, const qc_node *node)
{
    for (size_t i = 0; list && i < qc_attr_count(list); i++)
        if (qc_node_matches(node, qc_attr_as_text(qc_attr_item(list, i))))
            return true;
    return false;
}

static bool selects_exactly(const selection *s, const qc_attr *targets, const qc_attr *ignore)
{
    for (size_t i = 0; i < s->count; i++) {
        const qc_node *node = qc_op_node(s->ops[i]);
        if (node && (list_matches(targets, node) && !list_matches(ignore, node)) != s->taken[i])
            return false;
    }
    return true;
}

static const char *make_symbol(qc_pass_ctx *pc, qc_module *module, const request *r, const selection *s)
{
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    const qc_attr *targets = qc_quant_list_option(pc, "targets"),
                  *ignore = qc_quant_list_option(pc, "ignore");
    if (!targets)
        targets = names_of(pc, module, s, false);
    if (!selects_exactly(s, targets, ignore)) {
        targets = names_of(pc, module, s, true);
        ignore = NULL;
    }
    static const char *const keys[] = {"arith", "ignore", "input", "targets", NULL};
    const qc_attr *values[] = {
        qc_attr_word(ctx, qc_pass_option_text(pc, "arith")),
        ignore,
        r->input,
        targets,
    };
    return qc_quant_symbol(pc, module, r->what->kind, r->what->base, -1, qc_quant_map(ctx, keys, values));
}

/* ---- shapes -------------------------------------------------------------------------------------------- */

/* Do the columns of q, k and v fall into whole groups? */
static qc_status check_groups(qc_pass_ctx *pc, const qc_op *op, const request *r)
{
    static const char *const parts[] = {"q", "k", "v"};
    const bool wanted[] = {r->q, r->k, r->v};
    int64_t group = qc_attr_as_int(qc_attr_find(r->input, "group")), size;
    for (size_t i = 0; group > 0 && i < 3; i++) {
        const qc_type *type = qc_value_type(qc_op_operand_named(op, parts[i]));
        if (!wanted[i] || (qc_dim_as_int(qc_type_dim(type, -1), &size) && size % group == 0))
            continue;
        qc_pass_fail(pc, op,
            "%s has heads of %s, and the head dimension must be a multiple of %lld for NVFP4", parts[i],
            qc_type_text(qc_pass_ctx_get(pc), type), (long long)group);
        return QC_ERROR;
    }
    return QC_OK;
}

/* A latent is keys and values at once. Its columns are no heads, and loaders take one number for all: a static scale. */
static qc_status check_latent(qc_pass_ctx *pc, const qc_op *op, const request *r)
{
    const char *granularity = qc_attr_as_text(qc_attr_find(r->input, "granularity"));
    if (!r->k || !r->v)
        qc_pass_fail(
            pc, op, "its cache holds a latent (MLA), which is keys and values at once: k and v go together");
    else if (strcmp(granularity, "tensor") != 0 || r->center_k)
        qc_pass_fail(pc, op,
            "a latent cache has one static scale: granularity tensor, of FP8 or integers, and no center_k");
    else
        return QC_OK;
    return QC_ERROR;
}

/* A number that all keys of a query share leaves the softmax as it is, unless something stands in it that does not share
 * it: a sink, or a cap of each score. */
static qc_status check_centering(qc_pass_ctx *pc, const qc_op *op, const request *r)
{
    bool sinks = qc_op_operand_named(op, "sinks") != NULL;
    if (!r->center_k || !r->k || (!sinks && qc_attr_as_float(qc_op_attr(op, "softcap")) == 0))
        return QC_OK;
    qc_pass_fail(pc, op, "center_k: %s, so the softmax sees what is subtracted from the keys",
        sinks ? "its sinks are scores without keys" : "its scores are capped");
    return QC_ERROR;
}

static qc_status check_shapes(qc_pass_ctx *pc, const selection *s, const request *r)
{
    for (size_t i = 0; i < s->count; i++) {
        const qc_op *latent = s->taken[i] ? latent_of(s->ops[i], r) : NULL;
        qc_status status = QC_OK;
        if (latent)
            status = check_latent(pc, s->ops[i], r);
        else if (s->taken[i] &&
                 (check_groups(pc, s->ops[i], r) != QC_OK || check_centering(pc, s->ops[i], r) != QC_OK))
            status = QC_ERROR;
        if (status != QC_OK)
            return status;
    }
    return QC_OK;
}

/* ---- the rewrite --------------------------------------------------------------------------------------- */

/* PART_SUFFIX, "k_scale" */
static const char *named(qc_pass_ctx *pc, const char *part, const char *suffix)
{
    size_t size = strlen(part) + strlen(suffix) + 2;
    char *text = qc_pass_alloc(pc, size);
    snprintf(text, size, "%s_%s", part, suffix);
    return text;
}

/* cache_append of x [B, G, S, n] to a cache beside `cache`, whose length it has. */
static qc_value *append(
    qc_pass_ctx *pc, qc_builder *b, qc_op *cache, qc_value *x, const char *slot, const char *hint)
{
    const qc_type *old = qc_value_type(qc_op_result(cache, 0));
    if (!qc_builder_ok(b))
        return x; /* it has no type then */
    const qc_type *type = qc_value_type(x);
    const qc_dim *dims[4] = {
        qc_type_dim(type, 0), qc_type_dim(type, 1), qc_type_dim(old, 2), qc_type_dim(type, 3)};
    qc_builder_set_node(b, qc_op_node(cache)); /* the state is named by its module */
    qc_make(b, "cache_append");
    qc_make_operand(b, "x", x);
    qc_make_attr_word(b, "slot", slot);
    qc_make_type(b, qc_type_tensor(qc_pass_ctx_get(pc), qc_type_dtype(type), 4, dims));
    return qc_make_end(b, hint);
}

/* k less the mean of each of its columns over the calibration data. */
static qc_value *center(qc_pass_ctx *pc, qc_builder *b, const qc_op *op, qc_value *k)
{
    qc_make(b, "observe");
    qc_make_operand(b, "x", k);
    qc_make_attr_string(b, "tap", qc_quant_attention_tap(pc, op, "k", k, "@mean"));
    qc_make_attr_word(b, "granularity", "channel");
    qc_make_attr_word(b, "observer", "mean");
    qc_value *mean = qc_make_end(b, "k_mean");
    if (qc_type_dtype(qc_value_type(k)) != QC_F32) {
        qc_make(b, "cast");
        qc_make_operand(b, "x", mean);
        qc_make_attr_word(b, "to", qc_dtype_name(qc_type_dtype(qc_value_type(k))));
        mean = qc_make_end(b, "k_center");
    }
    qc_make(b, "sub");
    qc_make_operand(b, "x", k);
    qc_make_operand(b, "z", mean);
    return qc_make_end(b, "k_centered");
}

static bool quantize_part(qc_pass_ctx *pc, qc_op *op, const char *part, const char *scheme, const request *r)
{
    qc_value *value = qc_op_operand_named(op, part);
    const qc_attr *group = qc_attr_find(r->input, "group");
    qc_quant_codes q = {0};
    qc_op *cache = strcmp(part, "q") == 0 ? NULL : qc_quant_cache_of(value);
    qc_builder *b = qc_builder_before(cache ? cache : op);
    qc_builder_set_node(b, qc_op_node(op));
    qc_value *x = cache ? qc_op_operand(cache, 0) : value;
    if (r->center_k && strcmp(part, "k") == 0)
        x = center(pc, b, op, x);
    qc_quant_make(pc, b, x, scheme, "input", r->input, part, &q);
    if (cache)
        q.codes = append(pc, b, cache, q.codes, part, qc_value_hint(qc_op_result(cache, 0)));
    if (cache && qc_attr_as_bool(qc_attr_find(r->input, "dynamic")))
        q.scale = append(pc, b, cache, q.scale, named(pc, part, "scale"), named(pc, part, "scales"));
    if (!qc_builder_ok(b))
        return false;
    qc_op_set_operand_named(op, part, q.codes);
    qc_op_set_operand_named(op, named(pc, part, "scale"), q.scale);
    if (q.global)
        qc_op_set_operand_named(op, named(pc, part, "global"), q.global);
    if (group)
        qc_op_set_attr(op, named(pc, part, "group"), group);
    if (cache)
        qc_op_erase(cache);
    return true;
}

/* What the latent cache holds, as codes and back, before whoever reads it. */
static bool quantize_latent(qc_pass_ctx *pc, qc_op *latent, const char *scheme, const request *r)
{
    qc_value *value = qc_op_result(latent, 0);
    const size_t count = qc_value_use_count(value);
    qc_op **users = qc_pass_alloc(pc, (count + 1) * sizeof *users);
    size_t *slots = qc_pass_alloc(pc, (count + 1) * sizeof *slots);
    for (size_t i = 0; i < count; i++)
        users[i] = qc_value_use(value, i, &slots[i]);
    qc_quant_codes q = {0};
    qc_builder *b = qc_builder_after(latent);
    qc_builder_set_node(b, qc_op_node(latent));
    qc_quant_make(pc, b, value, scheme, "input", r->input, "k", &q);
    qc_value *back = qc_quant_unmake(b, &q, r->input, qc_type_dtype(qc_value_type(value)), "kv_latent");
    if (!qc_builder_ok(b))
        return false;
    for (size_t i = 0; i < count; i++)
        qc_op_set_operand(users[i], slots[i], back);
    qc_pass_count(pc, "latent caches quantized", 1);
    return true;
}

static bool quantize_op(qc_pass_ctx *pc, qc_op *op, const char *scheme, const request *r)
{
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    qc_op *latent = latent_of(op, r);
    if (latent)
        return quantize_latent(pc, latent, scheme, r);
    if ((r->q && !quantize_part(pc, op, "q", scheme, r)) ||
        (r->k && !quantize_part(pc, op, "k", scheme, r)) || (r->v && !quantize_part(pc, op, "v", scheme, r)))
        return false;
    if (r->probs != QC_DTYPE_NONE) {
        qc_op_set_attr(op, "probs_codes", qc_attr_word(ctx, qc_dtype_name(r->probs)));
        qc_op_set_attr(op, "probs_scale", qc_attr_float(ctx, r->probs_scale));
        qc_pass_count(pc, "attention ops whose probabilities are quantized", 1);
    }
    qc_pass_count(pc, "attention ops quantized", 1);
    return true;
}

/* ---- the pass ------------------------------------------------------------------------------------------ */

static qc_status read_request(qc_pass_ctx *pc, const qc_quant_attention_pass *what, request *r)
{
    *r = (request){
        .what = what,
        .q = what->queries && qc_pass_option_bool(pc, "q"),
        .k = qc_pass_option_bool(pc, "k"),
        .v = qc_pass_option_bool(pc, "v"),
        .skip_windows = strcmp(qc_pass_option_text(pc, "skip"), "sliding") == 0,
        .center_k = qc_pass_option_bool(pc, "center_k"),
    };
    r->probs = qc_quant_attention_probs(pc, what, &r->probs_scale);
    if (!r->q && !r->k && !r->v) {
        qc_pass_fail(pc, NULL, "%s are all switched off: nothing is left to quantize",
            what->queries ? "q, k and v" : "k and v");
        return QC_ERROR;
    }
    return qc_quant_attention_part(pc, what, &r->input);
}

qc_pass_result qc_quant_attention(qc_pass_ctx *pc, qc_module *module, const qc_quant_attention_pass *what)
{
    static const char *const patterns[] = {"targets", "ignore", "layers", NULL};
    selection s = {0};
    request r;
    if (read_request(pc, what, &r) != QC_OK ||
        qc_quant_check_patterns(pc, module, "attention", patterns) != QC_OK)
        return QC_PASS_FAILED;
    const size_t errors = qc_ctx_error_count(qc_pass_ctx_get(pc));
    select_ops(pc, module, &r, &s);
    if (qc_ctx_error_count(qc_pass_ctx_get(pc)) > errors) /* matching a pattern took too many steps */
        return QC_PASS_FAILED;
    if (s.count == 0)
        return qc_quant_need_graph(pc, module, "attention to quantize") != QC_OK
                   ? QC_PASS_FAILED
                   : qc_pass_fail(pc, NULL, "the model has no attention op to quantize");
    if (s.matched == 0)
        return qc_pass_fail(pc, NULL, "targets and layers select none of the %zu attention ops", s.count);
    warn_of_layers(pc, &s);
    if (s.taken_count == 0) {
        qc_ctx_warning(qc_pass_ctx_get(pc), qc_pass_ctx_name(pc),
            "none of the %zu attention ops that are asked for was quantized: %s", s.matched, s.reason);
        return QC_PASS_UNCHANGED;
    }
    if (check_shapes(pc, &s, &r) != QC_OK)
        return QC_PASS_FAILED;
    const char *scheme = make_symbol(pc, module, &r, &s);
    for (size_t i = 0; i < s.count; i++)
        if (s.taken[i] && !quantize_op(pc, s.ops[i], scheme, &r))
            return QC_PASS_FAILED;
    return QC_PASS_CHANGED;
}
