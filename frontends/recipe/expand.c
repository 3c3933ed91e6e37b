/* SPDX-License-Identifier: MIT
 *
 * expand.c - a QuantizationModifier as passes: quant-linear for groups with weights, an attention pass for each group
 * without, quant-kv for kv_cache_scheme.
 *
 * Groups are numbered in their order, whatever they are called: quant-linear takes the last of the groups that name one
 * target. kv_cache_scheme comes behind the attention groups, which it does not override.
 */
#include <strings.h>

#include "frontends/recipe/internal.h"
#include "passes/manager.h"
#include "passes/schemes.h"

/* ---- parts --------------------------------------------------------------------------------------------- */

static const struct {
    const char *strategy, *granularity;
    bool global;
} granularities[] = {
    {"tensor", "tensor", false},
    {"channel", "channel", false},
    {"group", "group", false},
    {"tensor_group", "group", true},
    {"block", "block", false},
    {"token", "token", false},
    {"attn_head", "head", false},
};

static const struct {
    const char *dtype, *scale;
} scales[] = {
    {"torch.float8_e4m3fn", "f8e4m3"},
    {"torch.uint8", "f8e8m0"},
    {"torch.bfloat16", "bf16"},
    {"torch.float16", "f16"},
    {"torch.float32", "f32"},
};

static const char *type_name(recipe_reader *r, const qc_recipe_args *args)
{
    if (args->is_float)
        return args->num_bits == 8 ? "f8e4m3" : "f4e2m1";
    return qc_arena_printf(r->arena, "i%d", args->num_bits);
}

/* The part as an option value of quant-linear; NULL after an error. */
static const char *part_text(recipe_reader *r, const char *what, const qc_recipe_args *args)
{
    const char *scale = NULL, *text;
    size_t g = 0;
    while (strcmp(granularities[g].strategy, args->strategy) != 0)
        g++;
    for (size_t i = 0; args->scale_dtype && i < sizeof scales / sizeof *scales; i++)
        if (strcmp(scales[i].dtype, args->scale_dtype) == 0)
            scale = scales[i].scale;
    if (args->scale_dtype && !scale)
        return recipe_fail(
                   r, args->line, "%s: scale_dtype %s is no type for scales", what, args->scale_dtype),
               NULL;
    qc_str out;
    qc_str_init(&out, r->arena);
    qc_str_addf(&out, "{type=%s, granularity=%s", type_name(r, args), granularities[g].granularity);
    if (args->group_size > 0)
        qc_str_addf(&out, ", group=%lld", (long long)args->group_size);
    if (args->block_rows)
        qc_str_addf(
            &out, ", block=[%lld, %lld]", (long long)args->block_rows, (long long)args->block_columns);
    if (!args->symmetric)
        qc_str_add(&out, ", symmetric=false");
    bool dynamic = strcmp(args->dynamic, "false") != 0, all_dynamic = strcmp(args->dynamic, "true") == 0;
    qc_str_add(&out, dynamic ? ", dynamic" : "");
    qc_str_add(&out, granularities[g].global ? ", global" : "");
    if (scale)
        qc_str_addf(&out, ", scale=%s", scale);
    if (args->observer && !all_dynamic &&
        (args->observer_given || strcmp(args->observer, "memoryless_minmax") != 0))
        qc_str_addf(&out, ", observer=%s", args->observer);
    if (args->observer_options && !all_dynamic)
        qc_str_addf(&out, ", observer_args=%s", args->observer_options);
    if (args->actorder)
        qc_str_addf(&out, ", actorder=%s", args->actorder);
    qc_str_add_char(&out, '}');
    text = qc_arena_strdup(r->arena, out.data);
    qc_str_fini(&out);
    return text;
}

/* Does quant-linear take the part? Asked here, where the line is known. */
static qc_status check_part(
    recipe_reader *r, uint32_t line, const char *what, const char *arg, const char *text)
{
    const char *name, *where = qc_arena_printf(r->arena, "%s: %s", recipe_place(r, line), what);
    const qc_attr *written, *part;
    if (qc_parse_spec(r->ctx, r->arena, where, qc_arena_printf(r->arena, "part%s", text), &name, &written) !=
        QC_OK)
        return QC_ERROR;
    return qc_scheme_part_complete(r->ctx, where, arg, written, &part);
}

static const char *checked_part(
    recipe_reader *r, const char *what, const char *arg, const qc_recipe_args *args)
{
    const char *strategies = strcmp(arg, "weights") == 0 ? "|tensor|channel|group|tensor_group|block|"
                                                         : "|tensor|token|group|tensor_group|";
    if (!strstr(strategies, qc_arena_printf(r->arena, "|%s|", args->strategy)))
        return recipe_fail(r, args->line, "%s: strategy %s is not for %s", what, args->strategy,
                   strcmp(arg, "weights") == 0 ? "weights" : "inputs of linears"),
               NULL;
    if (strcmp(arg, "weights") == 0 && strcmp(args->dynamic, "false") != 0)
        return recipe_fail(r, args->line, "weights: scales of weights are not dynamic"), NULL;
    if (strcmp(args->strategy, "tensor_group") == 0 && !args->scale_dtype)
        return recipe_fail(r, args->line,
                   "%s: tensor_group without scale_dtype: torch.float8_e4m3fn: llm-compressor would round "
                   "scales when it "
                   "saves them, behind the codes",
                   what),
               NULL;
    const char *text = part_text(r, what, args);
    return text && check_part(r, args->line, what, arg, text) == QC_OK ? text : NULL;
}

/* The part of a preset with another observer, in place of its own. Parts that are dynamic have none. */
static const char *override_observer(recipe_reader *r, const char *text, const char *observer)
{
    static const char own[] = ", observer=";
    bool local = strstr(text, ", global") != NULL;
    if (!observer || !text[0] || (strstr(text, ", dynamic") && !local))
        return text;
    const char *at = strstr(text, own), *rest = at ? at + sizeof own - 1 : NULL;
    if (!at)
        return qc_arena_printf(r->arena, "%.*s, observer=%s}", (int)strlen(text) - 1, text, observer);
    return qc_arena_printf(
        r->arena, "%.*s, observer=%s%s", (int)(at - text), text, observer, rest + strcspn(rest, ",}"));
}

/* ---- options ------------------------------------------------------------------------------------------- */

static void add_names(qc_str *out, const char *key, const recipe_names *names)
{
    qc_str_addf(out, ", %s=[", key);
    for (size_t i = 0; i < names->count; i++) {
        qc_str_add(out, i ? ", " : "");
        qc_str_add_quoted(out, names->items[i], strlen(names->items[i]));
    }
    qc_str_add_char(out, ']');
}

/* Any pattern can, and names with "att" inside. */
static bool may_name_attention(const char *target)
{
    return qc_starts_with(target, "re:") || strcasestr(target, "att");
}

/* Of `ignore` what can name an attention module. */
static void add_ignored_attention(recipe_reader *r, qc_str *out, const recipe_names *ignore)
{
    recipe_names names = {0};
    for (size_t i = 0; i < ignore->count; i++)
        if (may_name_attention(ignore->items[i]))
            QC_PUSH(r->arena, &names, ignore->items[i]);
    if (names.count)
        add_names(out, "ignore", &names);
}

/* ---- linears ------------------------------------------------------------------------------------------- */

static bool is_attention(const recipe_group *g)
{
    return !g->preset && !g->weights.present && g->input.present;
}

/* Has it another name than `key`? Some checkpoints show it. */
static bool is_named(const recipe_group *g, const char *key)
{
    return !g->preset && strcmp(g->name, key) != 0;
}

/* ", scheme=X" or ", weights={}, input={}" */
static qc_status add_what(
    recipe_reader *r, const recipe_modifier *m, const recipe_group *g, const char *key, qc_str *out)
{
    const char *weights = "", *input = "";
    if (g->preset) {
        const qc_scheme_preset *preset = qc_scheme_preset_find(g->preset);
        weights = override_observer(r, preset->weights, m->weight_observer);
        input = override_observer(r, preset->input, m->input_observer);
        if (weights == preset->weights && input == preset->input) {
            qc_str_addf(out, ", scheme=%s", g->preset);
            return QC_OK;
        }
        if (weights[0] && check_part(r, g->line, "weights", "weights", weights) != QC_OK)
            return QC_ERROR;
        if (input[0] && check_part(r, g->line, "input_activations", "input", input) != QC_OK)
            return QC_ERROR;
    }
    if (g->weights.present && !(weights = checked_part(r, "weights", "weights", &g->weights)))
        return QC_ERROR;
    if (g->input.present && !(input = checked_part(r, "input_activations", "input", &g->input)))
        return QC_ERROR;
    if (weights[0])
        qc_str_addf(out, ", weights=%s", weights);
    else
        qc_str_add(out, ", scheme=UNQUANTIZED");
    if (input[0])
        qc_str_addf(out, ", input=%s", input);
    if (g->format && strcmp(g->format, "dense") != 0)
        qc_str_addf(out, ", format=%s", g->format);
    if (is_named(g, key)) {
        qc_str_add(out, ", name=");
        qc_str_add_quoted(out, g->name, strlen(g->name));
    }
    return QC_OK;
}

static qc_status expand_linears(recipe_reader *r, const recipe_modifier *m, qc_str *out)
{
    size_t count = 0, first = 0;
    for (size_t i = m->groups.count; i-- > 0;)
        if (!is_attention(&m->groups.items[i])) {
            count++;
            first = i;
        }
    if (count == 0)
        return QC_OK;
    const recipe_group *only = &m->groups.items[first];
    qc_str_add(out, ",quant-linear{");
    if (count == 1 && !only->format && !is_named(only, "group_0")) {
        size_t start = out->length;
        if (add_what(r, m, only, "group_0", out) != QC_OK)
            return QC_ERROR;
        memmove(out->data + start, out->data + start + 2, out->length - start - 1); /* the first ", " */
        out->length -= 2;
        add_names(out, "targets", &only->targets);
    } else {
        qc_str_add(out, "groups={");
        for (size_t i = 0, number = 0; i < m->groups.count; i++) {
            recipe_group *g = &m->groups.items[i];
            if (is_attention(g))
                continue;
            const char *key = qc_arena_printf(r->arena, "group_%zu", number);
            qc_str_addf(out, "%s%s={", number++ ? ", " : "", key);
            size_t start = out->length;
            add_names(out, "targets", &g->targets);
            memmove(out->data + start, out->data + start + 2, out->length - start - 1);
            out->length -= 2;
            if (add_what(r, m, g, key, out) != QC_OK)
                return QC_ERROR;
            qc_str_add_char(out, '}');
        }
        qc_str_add_char(out, '}');
    }
    if (m->ignore.count)
        add_names(out, "ignore", &m->ignore);
    qc_str_add_char(out, '}');
    return QC_OK;
}

/* ---- attention ----------------------------------------------------------------------------------------- */

/* Codes of 4-bit floats in groups of 16, under a static global scale. */
static bool is_nvfp4(const qc_recipe_args *args)
{
    return args->is_float && args->num_bits == 4 && strcmp(args->strategy, "tensor_group") == 0;
}

/* What attention and the KV cache can have: one static scale a tensor or a head, or NVFP4. */
static qc_status check_states(recipe_reader *r, const char *what, const qc_recipe_args *args)
{
    const char *wrong = NULL;
    if (is_nvfp4(args)) {
        if (args->group_size != 16 || strcmp(args->dynamic, "local") != 0)
            wrong = "attention in NVFP4 has groups of 16, dynamic local";
        else if (args->scale_dtype && strcmp(args->scale_dtype, "torch.float8_e4m3fn") != 0)
            wrong = "scales of NVFP4 are torch.float8_e4m3fn";
    } else if (strcmp(args->strategy, "tensor") != 0 && strcmp(args->strategy, "attn_head") != 0)
        wrong = qc_arena_printf(r->arena,
            "strategy %s cannot be applied to attention: it is tensor or attn_head, or tensor_group for "
            "NVFP4",
            args->strategy);
    else if (args->num_bits != 8 && (args->is_float || args->num_bits != 4))
        wrong = "attention is quantized to 8 bits, or to INT4 or NVFP4";
    else if (strcmp(args->dynamic, "false") != 0)
        wrong = "attention has static scales";
    else if (!args->symmetric)
        wrong = "codes of attention are symmetric";
    else if (args->scale_dtype)
        wrong = "scales of attention have the model's type: scale_dtype is null";
    if (!wrong && args->observer &&
        (qc_starts_with(args->observer, "nvfp4_") || qc_starts_with(args->observer, "imatrix_")))
        wrong = qc_arena_printf(r->arena, "the observer %s is for weights", args->observer);
    return wrong ? recipe_fail(r, args->line, "%s: %s", what, wrong) : QC_OK;
}

static const char *head_or_tensor(const qc_recipe_args *args)
{
    return strcmp(args->strategy, "tensor") == 0 ? "tensor" : "head";
}

/* A pattern that finds attention modules finds what lies below them, too, unless something ends it: llm-compressor
 * then leaves attention alone and quantizes the inputs of those linears, or stops. */
static qc_status check_anchored(recipe_reader *r, const recipe_group *g)
{
    for (size_t i = 0; i < g->targets.count; i++) {
        const char *target = g->targets.items[i];
        if (!qc_starts_with(target, "re:") || strchr(target, '$') || strstr(target, "\\Z") ||
            strstr(target, "(?!"))
            continue;
        return recipe_fail(r, g->line,
            "%s: '%s' names the linears below attention, too, whose inputs llm-compressor would take in its "
            "place: write '%s$'",
            g->name, target, target);
    }
    return QC_OK;
}

static qc_status expand_attention(
    recipe_reader *r, const recipe_modifier *m, const recipe_group *g, qc_str *out)
{
    if (check_anchored(r, g) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < g->targets.count; i++)
        if (strcmp(g->targets.items[i], "Linear") == 0 || strcmp(g->targets.items[i], "Embedding") == 0)
            return recipe_fail(r, g->line,
                "%s: input_activations without weights are for attention, which '%s' is not", g->name,
                g->targets.items[i]);
    if (check_states(r, "input_activations", &g->input) != QC_OK)
        return QC_ERROR;
    if (is_nvfp4(&g->input))
        qc_str_addf(out, ",quant-nvfp4-attn{observer=%s", g->input.observer);
    else
        qc_str_addf(out, ",%s{granularity=%s%s, observer=%s",
            g->input.is_float ? "quant-fp8-attn" : "quant-int8-attn", head_or_tensor(&g->input),
            g->input.num_bits == 4 ? ", type=int4" : "", g->input.observer);
    if (g->input.observer_options)
        qc_str_addf(out, ", observer_args=%s", g->input.observer_options);
    add_names(out, "targets", &g->targets);
    add_ignored_attention(r, out, &m->ignore);
    qc_str_add_char(out, '}');
    return QC_OK;
}

/* A group that names attention by its class leaves nothing for kv_cache_scheme, unless `ignore` takes some out. */
static bool covers_attention(const recipe_modifier *m)
{
    for (size_t i = 0; i < m->ignore.count; i++)
        if (may_name_attention(m->ignore.items[i]))
            return false;
    for (size_t i = 0; i < m->groups.count; i++) {
        const recipe_group *g = &m->groups.items[i];
        for (size_t k = 0; is_attention(g) && k < g->targets.count; k++)
            if (!qc_starts_with(g->targets.items[k], "re:") && qc_ends_with(g->targets.items[k], "Attention"))
                return true;
    }
    return false;
}

/* The cache of every layer: `ignore` is for modules of groups, and says nothing about kv_cache_scheme. */
static qc_status expand_kv(recipe_reader *r, const recipe_modifier *m, qc_str *out)
{
    if (check_states(r, "kv_cache_scheme", &m->kv) != QC_OK)
        return QC_ERROR;
    if (covers_attention(m))
        return QC_OK;
    const char *observer = m->kv.observer ? m->kv.observer : "unset";
    if (is_nvfp4(&m->kv))
        qc_str_addf(out, ",quant-kv{type=nvfp4, observer=%s", observer);
    else
        qc_str_addf(out, ",quant-kv{granularity=%s%s, observer=%s", head_or_tensor(&m->kv),
            m->kv.is_float        ? ""
            : m->kv.num_bits == 4 ? ", type=int4"
                                  : ", type=int8",
            observer);
    if (m->kv.observer_options)
        qc_str_addf(out, ", observer_args=%s", m->kv.observer_options);
    qc_str_add_char(out, '}');
    return QC_OK;
}

qc_status recipe_expand(recipe_reader *r, const recipe_modifier *m, qc_str *out)
{
    if (expand_linears(r, m, out) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < m->groups.count; i++)
        if (is_attention(&m->groups.items[i]) && expand_attention(r, m, &m->groups.items[i], out) != QC_OK)
            return QC_ERROR;
    return m->kv.present ? expand_kv(r, m, out) : QC_OK;
}
