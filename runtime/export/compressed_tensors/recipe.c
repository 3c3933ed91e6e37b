/* SPDX-License-Identifier: MIT
 *
 * recipe.c - recipe.yaml: the recipe that the module was quantized by, or the one that would have asked llm-compressor
 * for the same, as it saves it.
 *
 * What a recipe asked for is recorded in the module (record-recipe) and written under its own names. Whatever else is
 * quantized gets a QuantizationModifier, in a stage of its own where there is a record: a linear scheme that equals a
 * preset goes by the preset's name, everything else is a config group with all fields.
 */
#include <string.h>

#include "frontends/recipe/text.h"
#include "passes/schemes.h"
#include "runtime/export/compressed_tensors/internal.h"

enum { INDENT_FIELDS = 6 };

/* ---- fields -------------------------------------------------------------------------------------------- */

static void add_list(qc_str *out, int indent, const char *key, const qc_attr *items, qc_arena *arena)
{
    size_t count = items ? qc_attr_count(items) : 0;
    const char **texts = QC_NEW_ARRAY(arena, const char *, count + 1);
    for (size_t i = 0; i < count; i++)
        texts[i] = qc_attr_as_text(qc_attr_item(items, i));
    qc_recipe_add_list(out, indent, key, texts, count);
}

/* "{maxshrink: 0.1}"; NULL where there are none. */
static const char *kwargs_text(qc_arena *arena, const qc_attr *args)
{
    qc_str out;
    if (!args || qc_attr_count(args) == 0)
        return NULL;
    qc_str_init(&out, arena);
    for (size_t i = 0; i < qc_attr_count(args); i++) {
        const qc_attr *value = qc_attr_item(args, i);
        qc_str_addf(&out, "%s%s: ", i ? ", " : "{", qc_attr_key(args, i));
        if (qc_attr_get_kind(value) == QC_ATTR_FLOAT)
            qc_recipe_add_float(&out, qc_attr_as_float(value));
        else if (qc_attr_get_kind(value) == QC_ATTR_INT)
            qc_str_add_int(&out, qc_attr_as_int(value));
        else if (qc_attr_get_kind(value) == QC_ATTR_BOOL)
            qc_str_add(&out, qc_attr_as_bool(value) ? "true" : "false");
        else
            qc_recipe_add_scalar(&out, INDENT_FIELDS, qc_attr_as_text(value));
    }
    qc_str_add_char(&out, '}');
    const char *text = qc_arena_strdup(arena, out.data);
    qc_str_fini(&out);
    return text;
}

static void add_args(qc_str *out, int indent, const char *key, const ct_args *args, qc_arena *arena)
{
    const qc_scheme_part *p = &args->part;
    qc_recipe_args fields = {.present = args->present};
    if (args->present)
        fields = (qc_recipe_args){
            .present = true,
            .num_bits = (int)qc_dtype_bits(p->type),
            .is_float = args->is_float,
            .symmetric = p->symmetric,
            .group_size = p->group_elems,
            .strategy = args->strategy,
            .block_rows = p->block_rows,
            .block_columns = p->block_columns,
            .dynamic = args->local     ? "local"
                       : args->dynamic ? "true"
                                       : "false",
            .actorder = *p->actorder ? p->actorder : NULL,
            .scale_dtype = ct_torch_dtype(p->scale_type),
            .zp_dtype = ct_torch_dtype(p->zero_point_type),
            .observer = args->observer,
            .observer_kwargs = kwargs_text(arena, p->observer_args),
        };
    qc_recipe_add_args(out, indent, key, &fields);
}

static void add_line(qc_str *out, int indent, const char *text)
{
    qc_recipe_add_indent(out, indent);
    qc_str_add(out, text);
    qc_str_add_char(out, '\n');
}

/* ---- what is recorded ---------------------------------------------------------------------------------- */

static bool is_record(const qc_symbol *symbol)
{
    return strcmp(qc_symbol_kind(symbol), "recipe") == 0;
}

/* Does some record speak of this target, or of kv_cache_scheme? */
static bool is_covered(const ct_plan *plan, const char *target)
{
    for (const qc_symbol *s = qc_module_first_symbol(plan->module); s; s = qc_symbol_next(s)) {
        const qc_attr *covers = is_record(s) ? qc_attr_find(qc_symbol_fields(s), "covers") : NULL;
        for (size_t i = 0; covers && i < qc_attr_count(covers); i++)
            if (strcmp(qc_attr_as_text(qc_attr_item(covers, i)), target) == 0)
                return true;
    }
    return false;
}

static bool is_recorded(const ct_plan *plan, const ct_group *g)
{
    for (size_t i = 0; i < qc_attr_count(g->targets); i++)
        if (!is_covered(plan, qc_attr_as_text(qc_attr_item(g->targets, i))))
            return false;
    return true;
}

/* "NAME_stage:"; the second of a name is NAME_2_stage, since a map has each key once. */
static void add_stage(qc_str *out, const char *name, qc_map *seen, qc_arena *arena)
{
    const char *key = qc_arena_printf(arena, "%s_stage", name);
    for (int i = 2; !qc_map_set(seen, key, seen); i++)
        key = qc_arena_printf(arena, "%s_%d_stage", name, i);
    qc_recipe_add_scalar(out, 2, key);
    qc_str_add(out, ":\n");
}

/* ---- rotations ----------------------------------------------------------------------------------------- */

static const ct_transform *find_transform(const ct_plan *plan, const char *name, size_t length)
{
    for (size_t i = 0; i < plan->transforms.count; i++)
        if (strncmp(plan->transforms.items[i].name, name, length) == 0 &&
            !plan->transforms.items[i].name[length])
            return &plan->transforms.items[i];
    return NULL;
}

static void add_transform(qc_str *out, const ct_transform *t, qc_arena *arena)
{
    enum { INDENT = INDENT_FIELDS + 4, PLACE = INDENT + 4 };
    add_line(out, INDENT, qc_arena_printf(arena, "%s:", t->name));
    add_line(out, INDENT + 2, qc_arena_printf(arena, "type: %s", ct_transform_type(t)));
    add_line(out, INDENT + 2, t->place_count ? "apply:" : "apply: []");
    for (size_t i = 0; i < t->place_count; i++) {
        const ct_place *p = &t->places[i];
        size_t start = out->length;
        add_list(out, PLACE, "targets", p->targets, arena);
        out->data[start + PLACE - 2] = '-';
        add_line(out, PLACE, qc_arena_printf(arena, "location: %s", p->location));
        add_line(out, PLACE, p->inverse ? "inverse: true" : "inverse: false");
        add_list(out, PLACE, "ignore", p->ignore, arena);
    }
    add_line(out, INDENT + 2, "randomize: false");
    add_line(out, INDENT + 2, "requires_grad: false");
    add_line(out, INDENT + 2,
        t->head_dim ? qc_arena_printf(arena, "head_dim: %lld", (long long)t->head_dim) : "head_dim: null");
    add_line(out, INDENT + 2, qc_arena_printf(arena, "precision: %s", ct_transform_precision(t)));
}

/* "R1, R2]": the transforms of these names, those that the module has. */
static void add_transform_config(const ct_plan *plan, qc_str *out, const char *names, qc_arena *arena)
{
    const char *at = names;
    bool any = false;
    add_line(out, INDENT_FIELDS, "transform_config:");
    while (*at && *at != ']' && *at != '\n') {
        const size_t length = strcspn(at, ",]\n");
        const ct_transform *t = find_transform(plan, at, length);
        if (t && !any)
            add_line(out, INDENT_FIELDS + 2, "config_groups:");
        if (t)
            add_transform(out, t, arena);
        any = any || t;
        at += length;
        at += strspn(at, ", ");
    }
    if (!any)
        add_line(out, INDENT_FIELDS + 2, "config_groups: {}");
}

/* The recorded text, with transforms written out where it names them. */
static void add_recorded(const ct_plan *plan, qc_str *out, const char *text, qc_arena *arena)
{
    static const char mark[] = "\n      transform_config: [";
    const char *at;
    while ((at = strstr(text, mark)) != NULL) {
        qc_str_add_bytes(out, text, (size_t)(at + 1 - text));
        add_transform_config(plan, out, at + sizeof mark - 1, arena);
        text = at + sizeof mark - 1;
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    qc_str_add(out, text);
}

/* The modifier of the family that the names belong to; nothing where the records cover them. */
static void add_rotations(const ct_plan *plan, const char *modifier, const char *const *names, size_t count,
    qc_str *out, qc_arena *arena)
{
    const ct_transform *first = NULL;
    const char *flow = "";
    for (size_t i = 0; i < count; i++) {
        const ct_transform *t = find_transform(plan, names[i], strlen(names[i]));
        if (!t || is_covered(plan, names[i]))
            continue;
        flow = qc_arena_printf(arena, "%s%s%s", flow, first ? ", " : "", names[i]);
        first = first ? first : t;
    }
    if (!first)
        return;
    const bool quip = strcmp(modifier, "QuIPModifier") == 0;
    add_line(out, 4, qc_arena_printf(arena, "%s:", modifier));
    add_line(out, INDENT_FIELDS, "requires_calibration_data: false");
    add_line(out, INDENT_FIELDS, qc_arena_printf(arena, "rotations: [%s]", flow));
    add_line(out, INDENT_FIELDS, qc_arena_printf(arena, "transform_type: %s", ct_transform_type(first)));
    if (quip)
        add_list(out, INDENT_FIELDS, "targets", first->places[0].targets, arena);
    add_line(out, INDENT_FIELDS, "randomize: false");
    add_line(out, INDENT_FIELDS, "learnable: false");
    add_line(out, INDENT_FIELDS, qc_arena_printf(arena, "precision: %s", ct_transform_precision(first)));
    if (first->head_dim && (quip || strcmp(first->name, "R1") == 0 || strcmp(first->name, "R4") == 0))
        add_line(out, INDENT_FIELDS,
            qc_arena_printf(arena, "transform_block_size: %lld", (long long)first->head_dim));
    if (quip)
        add_list(out, INDENT_FIELDS, "ignore", first->places[0].ignore, arena);
    add_transform_config(plan, out, flow, arena);
}

static const char *const spin_names[] = {"R1", "R2", "R3", "R4"}, *const quip_names[] = {"v", "u"};

static bool has_uncovered(const ct_plan *plan)
{
    for (size_t i = 0; i < plan->transforms.count; i++)
        if (!is_covered(plan, plan->transforms.items[i].name))
            return true;
    return false;
}

static void add_records(const ct_plan *plan, qc_str *out, qc_map *seen, qc_arena *arena)
{
    for (const qc_symbol *s = qc_module_first_symbol(plan->module); s; s = qc_symbol_next(s)) {
        if (!is_record(s))
            continue;
        const char *text = qc_attr_as_text(qc_attr_find(qc_symbol_fields(s), "text"));
        add_stage(out, qc_attr_as_text(qc_attr_find(qc_symbol_fields(s), "stage")), seen, arena);
        add_recorded(plan, out, text, arena);
        if (!qc_ends_with(text, "\n"))
            qc_str_add_char(out, '\n');
    }
}

/* ---- what is not --------------------------------------------------------------------------------------- */

static bool part_is(const qc_symbol *symbol, const char *arg, const qc_attr *part)
{
    const qc_attr *own = qc_attr_find(qc_symbol_fields(symbol), arg);
    return own && part ? qc_attr_equal(own, part) : !own && !part;
}

/* llm-compressor's name for the scheme, or NULL. */
static const char *preset_name(const ct_plan *plan, const ct_group *g)
{
    const qc_scheme_preset *preset;
    for (size_t i = 0; !g->attention && (preset = qc_scheme_preset_at(i)); i++)
        if (preset->weights[0] &&
            part_is(g->symbol, "weights", qc_scheme_preset_part(plan->ctx, preset, "weights")) &&
            part_is(g->symbol, "input", qc_scheme_preset_part(plan->ctx, preset, "input")))
            return preset->name;
    return NULL;
}

static bool asks_for_data(const ct_args *weights, const ct_args *input)
{
    return (input->present && !input->dynamic) ||
           (weights->observer && strstr(weights->observer, "imatrix") != NULL);
}

static void add_groups(const ct_plan *plan, const bool *wanted, qc_str *out, qc_arena *arena)
{
    add_line(out, INDENT_FIELDS, "config_groups:");
    for (size_t i = 0; i < plan->groups.count; i++) {
        const ct_group *g = &plan->groups.items[i];
        if (!wanted[i])
            continue;
        add_line(out, INDENT_FIELDS + 2, qc_arena_printf(arena, "group_%zu:", i));
        add_list(out, INDENT_FIELDS + 4, "targets", g->targets, arena);
        add_args(out, INDENT_FIELDS + 4, "weights", &g->weights, arena);
        add_args(out, INDENT_FIELDS + 4, "input_activations", &g->input, arena);
        add_line(out, INDENT_FIELDS + 4, "output_activations: null");
        add_line(out, INDENT_FIELDS + 4, "format: null");
    }
}

/* The modifier that asks for the wanted groups and, if `kv`, for the KV cache. */
static void add_modifier(const ct_plan *plan, const bool *wanted, bool kv, qc_str *out, qc_arena *arena)
{
    const ct_group *first = NULL, *linear = NULL;
    size_t count = 0;
    bool data = kv;
    for (size_t i = 0; i < plan->groups.count; i++) {
        const ct_group *g = &plan->groups.items[i];
        if (!wanted[i])
            continue;
        count++;
        first = first ? first : g;
        linear = linear || g->attention ? linear : g;
        data = data || asks_for_data(&g->weights, &g->input);
    }
    const char *preset = count == 1 ? preset_name(plan, first) : NULL;
    if (count > 0 && !preset)
        add_groups(plan, wanted, out, arena);
    if (preset)
        add_list(out, INDENT_FIELDS, "targets", first->targets, arena);
    else
        add_line(out, INDENT_FIELDS, "targets: [Linear]");
    add_list(out, INDENT_FIELDS, "ignore", linear ? linear->ignore : first ? first->ignore : NULL, arena);
    if (preset)
        add_line(out, INDENT_FIELDS, qc_arena_printf(arena, "scheme: %s", preset));
    if (kv)
        add_args(out, INDENT_FIELDS, "kv_cache_scheme", &plan->kv, arena);
    add_line(out, INDENT_FIELDS, "bypass_divisibility_checks: false");
    add_line(
        out, INDENT_FIELDS, qc_arena_printf(arena, "requires_calibration_data: %s", data ? "true" : "false"));
}

void ct_recipe_text(ct_plan *plan, qc_str *text)
{
    qc_arena *arena = &plan->arena;
    bool *wanted = QC_NEW_ARRAY(arena, bool, plan->groups.count + 1);
    bool kv = plan->kv_only && !is_covered(plan, "kv_cache_scheme"), any = kv;
    const bool rotations = has_uncovered(plan);
    qc_map seen;
    qc_map_init(&seen, arena);
    for (size_t i = 0; i < plan->groups.count; i++) {
        wanted[i] = !is_recorded(plan, &plan->groups.items[i]);
        any = any || wanted[i];
    }
    add_records(plan, text, &seen, arena);
    if (!any && !rotations && seen.count > 0)
        return;
    add_stage(text, "quant", &seen, arena);
    add_line(text, 2, "quant_modifiers:");
    add_rotations(plan, "SpinQuantModifier", spin_names, 4, text, arena);
    add_rotations(plan, "QuIPModifier", quip_names, 2, text, arena);
    if (!any)
        return;
    add_line(text, 4, "QuantizationModifier:");
    add_modifier(plan, wanted, kv, text, arena);
}
