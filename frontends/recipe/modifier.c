/* SPDX-License-Identifier: MIT
 *
 * modifier.c - QuantizationModifier: fields, presets and defaults of llm-compressor 0.14.
 *
 * Observers that neither a preset nor the recipe names: memoryless_minmax for weights, minmax, the moving average, for
 * static activations; kv_cache_scheme stays without one, which calibrates as minmax does.
 */
#include <ctype.h>

#include "frontends/recipe/internal.h"
#include "passes/schemes.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static bool is_null(const qc_yaml_entry *entry)
{
    return entry->value->kind == QC_YAML_NULL;
}

/* ---- config_groups ------------------------------------------------------------------------------------- */

static qc_status read_format(recipe_reader *r, const qc_yaml_entry *entry, const char **format)
{
    static const char *const names[] = {"dense", "int-quantized", "float-quantized", "naive-quantized",
        "pack-quantized", "nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp8-quantized"};
    if (is_null(entry))
        return QC_OK;
    if (recipe_string(r, entry, format) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < COUNT(names); i++)
        if (strcmp(names[i], *format) == 0)
            return QC_OK;
    return recipe_unknown(r, entry->value->line, "the format", *format, names, COUNT(names));
}

/* A key of a scheme; *known is false, without an error, when it is none. */
static qc_status read_group_field(recipe_reader *r, const qc_yaml_entry *entry, recipe_group *g, bool *known)
{
    const char *key = entry->key;
    *known = true;
    if (strcmp(key, "targets") == 0)
        return recipe_patterns(r, entry, false, &g->targets);
    if (strcmp(key, "weights") == 0)
        return is_null(entry) ? QC_OK : recipe_args_read(r, key, entry, &g->weights);
    if (strcmp(key, "input_activations") == 0)
        return is_null(entry) ? QC_OK : recipe_args_read(r, key, entry, &g->input);
    if (strcmp(key, "output_activations") == 0)
        return is_null(entry) ? QC_OK
                              : recipe_fail(r, entry->line, "qc does not quantize output_activations");
    if (strcmp(key, "format") == 0)
        return read_format(r, entry, &g->format);
    *known = false;
    return QC_OK;
}

static qc_status read_group(recipe_reader *r, const qc_yaml_entry *entry, recipe_group *g)
{
    static const char *const names[] = {
        "targets", "weights", "input_activations", "output_activations", "format"};
    *g = (recipe_group){.name = entry->key, .line = entry->line};
    if (entry->value->kind != QC_YAML_MAP)
        return recipe_wrong_kind(r, entry, "a map");
    for (size_t i = 0; i < entry->value->entries.count; i++) {
        const qc_yaml_entry *field = &entry->value->entries.items[i];
        bool known;
        if (read_group_field(r, field, g, &known) != QC_OK)
            return QC_ERROR;
        if (!known)
            return recipe_unknown(r, field->line, qc_arena_printf(r->arena, "%s: the field", entry->key),
                field->key, names, COUNT(names));
    }
    if (!qc_yaml_find(entry->value, "targets"))
        return recipe_fail(r, entry->line, "%s has no targets", entry->key);
    if (g->input.actorder)
        return recipe_fail(r, g->input.line, "actorder is for weights, not for input_activations");
    return QC_OK;
}

static qc_status read_config_groups(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    if (is_null(entry))
        return QC_OK;
    if (entry->value->kind != QC_YAML_MAP)
        return recipe_wrong_kind(r, entry, "a map of groups");
    m->has_groups = true;
    for (size_t i = 0; i < entry->value->entries.count; i++) {
        recipe_group g;
        if (read_group(r, &entry->value->entries.items[i], &g) != QC_OK)
            return QC_ERROR;
        QC_PUSH(r->arena, &m->groups, g);
    }
    return QC_OK;
}

/* ---- scheme -------------------------------------------------------------------------------------------- */

/* The preset's name in the table's spelling; NULL after an error. */
static const char *find_preset(recipe_reader *r, uint32_t line, const char *name)
{
    const qc_scheme_preset *preset = qc_scheme_preset_find(name);
    if (preset)
        return preset->name;
    QC_VEC(const char *) names = {0};
    for (size_t i = 0; (preset = qc_scheme_preset_at(i)); i++)
        QC_PUSH(r->arena, &names, preset->name);
    char *upper = qc_arena_strdup(r->arena, name);
    for (char *c = upper; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    recipe_unknown(r, line, "the scheme", upper, names.items, names.count);
    return NULL;
}

static qc_status add_preset(recipe_reader *r, recipe_modifier *m, uint32_t line, const char *name)
{
    recipe_group g = {.name = qc_arena_printf(r->arena, "group_%zu", m->groups.count), .line = line};
    g.preset = find_preset(r, line, name);
    g.written_preset = name;
    QC_PUSH(r->arena, &m->groups, g);
    return g.preset ? QC_OK : QC_ERROR;
}

static qc_status read_scheme(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    const qc_yaml *value = entry->value;
    if (is_null(entry))
        return QC_OK;
    m->has_scheme = true;
    if (value->kind == QC_YAML_STRING)
        return add_preset(r, m, value->line, value->text); /* its targets follow when all fields are known */
    if (value->kind != QC_YAML_MAP)
        return recipe_wrong_kind(r, entry, "a preset or a map from presets to targets");
    m->scheme_is_map = true;
    for (size_t i = 0; i < value->entries.count; i++) {
        const qc_yaml_entry *item = &value->entries.items[i];
        if (add_preset(r, m, item->line, item->key) != QC_OK ||
            recipe_patterns(r, item, true, &m->groups.items[m->groups.count - 1].targets) != QC_OK)
            return QC_ERROR;
    }
    return m->groups.count ? QC_OK : recipe_fail(r, value->line, "scheme is empty");
}

/* ---- the modifier's own fields ------------------------------------------------------------------------- */

static qc_status read_targets(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    return recipe_patterns(r, entry, true, &m->targets);
}

static qc_status read_ignore(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    return recipe_patterns(r, entry, false, &m->ignore);
}

static qc_status read_kv(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    return is_null(entry) ? QC_OK : recipe_args_read(r, entry->key, entry, &m->kv);
}

static qc_status read_weight_observer(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    return recipe_observer(r, entry, &m->weight_observer);
}

static qc_status read_input_observer(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    return recipe_observer(r, entry, &m->input_observer);
}

static qc_status read_output_observer(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    return recipe_observer(r, entry, &m->output_observer);
}

static qc_status read_observer(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    static const char *const keys[] = {"weights", "input", "output"};
    const char **values[] = {&m->weight_observer, &m->input_observer, &m->output_observer};
    if (is_null(entry))
        return QC_OK;
    if (entry->value->kind != QC_YAML_MAP)
        return recipe_wrong_kind(r, entry, "a map with weights, input or output");
    m->observer_map = true;
    for (size_t i = 0; i < entry->value->entries.count; i++) {
        const qc_yaml_entry *item = &entry->value->entries.items[i];
        size_t k = 0;
        while (k < COUNT(keys) && strcmp(keys[k], item->key) != 0)
            k++;
        if (k == COUNT(keys))
            return recipe_unknown(r, item->line, "observer: the field", item->key, keys, COUNT(keys));
        if (is_null(item))
            return recipe_wrong_kind(r, item, "a string");
        if (recipe_observer(r, item, values[k]) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

static qc_status read_bypass(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    return recipe_bool(r, entry, &m->bypass_divisibility_checks);
}

static qc_status read_requires(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    return recipe_bool(r, entry, &m->requires_calibration_data);
}

static qc_status read_group_name(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    (void)m;
    return recipe_fail(r, entry->line,
        "group is what stands before _modifiers; llm-compressor refuses a recipe that repeats it");
}

static qc_status read_number(
    recipe_reader *r, const qc_yaml_entry *entry, const qc_yaml_entry **number, qc_yaml_kind kind)
{
    if (is_null(entry))
        return QC_OK;
    if (entry->value->kind != QC_YAML_INT && entry->value->kind != kind)
        return recipe_wrong_kind(r, entry, kind == QC_YAML_INT ? "an integer" : "a number");
    *number = entry;
    return QC_OK;
}

static qc_status read_index(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    return read_number(r, entry, &m->numbers[0], QC_YAML_INT);
}

static qc_status read_start(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    return read_number(r, entry, &m->numbers[1], QC_YAML_FLOAT);
}

static qc_status read_end(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    return read_number(r, entry, &m->numbers[2], QC_YAML_FLOAT);
}

static qc_status read_update(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    return read_number(r, entry, &m->numbers[3], QC_YAML_FLOAT);
}

static const struct {
    const char *name;
    qc_status (*read)(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m);
} fields[] = {
    {"config_groups", read_config_groups},
    {"targets", read_targets},
    {"ignore", read_ignore},
    {"scheme", read_scheme},
    {"kv_cache_scheme", read_kv},
    {"weight_observer", read_weight_observer},
    {"input_observer", read_input_observer},
    {"output_observer", read_output_observer},
    {"observer", read_observer},
    {"bypass_divisibility_checks", read_bypass},
    {"requires_calibration_data", read_requires},
    {"index", read_index},
    {"group", read_group_name},
    {"start", read_start},
    {"end", read_end},
    {"update", read_update},
};

qc_status recipe_base_field(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    for (size_t i = 0; i < COUNT(fields); i++)
        if (strcmp(fields[i].name, entry->key) == 0)
            return fields[i].read(r, entry, m);
    return QC_ERROR;
}

/* ---- what is left out ---------------------------------------------------------------------------------- */

static void need_data(recipe_reader *r, recipe_modifier *m, uint32_t line, const char *what, const char *why)
{
    m->requires_calibration_data = true;
    if (!r->needs_data)
        r->needs_data = qc_arena_printf(r->arena, "%s: %s %s", recipe_place(r, line), what, why);
}

/* Overrides first, then what was given, then the default of the place. */
static void fill_observer(
    recipe_reader *r, const char *what, qc_recipe_args *args, const char *override, const char *other)
{
    if (!args->present || (!override && args->observer))
        return;
    if (override) {
        args->observer = override;
        args->observer_given = true;
    } else if (strcmp(args->dynamic, "true") != 0)
        args->observer = other;
    if (!override && args->observer && strcmp(other, "minmax") == 0)
        qc_remark(r->diag, recipe_place(r, args->line),
            "%s: no observer is named, so llm-compressor's moving average minmax is taken; observer: "
            "static_minmax "
            "takes the range of all data",
            what);
}

/* The observer of the weights: does it look at activations? */
static bool watches_inputs(const char *observer)
{
    return observer && strstr(observer, "imatrix") != NULL;
}

static void fill_group(recipe_reader *r, recipe_modifier *m, recipe_group *g)
{
    const char *input = qc_arena_printf(r->arena, "input_activations of %s", g->name);
    const char *weights = qc_arena_printf(r->arena, "weights of %s", g->name);
    if (g->preset) {
        const qc_scheme_preset *preset = qc_scheme_preset_find(g->preset);
        const qc_attr *part = qc_scheme_preset_part(r->ctx, preset, "input");
        bool dynamic = part && qc_attr_as_bool(qc_attr_find(part, "dynamic"));
        bool global = part && qc_attr_as_bool(qc_attr_find(part, "global"));
        if (part && (!dynamic || global))
            need_data(r, m, g->line, g->preset,
                global ? "has static global scales of its inputs" : "has static inputs");
        if (watches_inputs(m->weight_observer) && preset->weights[0])
            need_data(r, m, g->line, g->preset,
                qc_arena_printf(r->arena, "with %s asks what the inputs are", m->weight_observer));
        return;
    }
    fill_observer(r, weights, &g->weights, m->weight_observer, "memoryless_minmax");
    fill_observer(r, input, &g->input, m->input_observer, "minmax");
    if (g->input.present && strcmp(g->input.dynamic, "true") != 0)
        need_data(r, m, g->input.line, input,
            strcmp(g->input.dynamic, "local") == 0 ? "have a static global scale" : "are static");
    if (g->weights.present && watches_inputs(g->weights.observer))
        need_data(r, m, g->weights.line, weights,
            qc_arena_printf(r->arena, "with %s ask what the inputs are", g->weights.observer));
}

static qc_status finish(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    if (m->has_groups && m->has_scheme)
        return recipe_fail(r, m->line, "%s: give scheme or config_groups, not both", entry->key);
    const qc_yaml *fields_given = entry->value;
    bool single = qc_yaml_find(fields_given, "weight_observer") ||
                  qc_yaml_find(fields_given, "input_observer") ||
                  qc_yaml_find(fields_given, "output_observer");
    if (single && m->observer_map)
        return recipe_fail(
            r, m->line, "%s: give observer, or weight_observer and the like, not both", entry->key);
    if (!m->groups.count && !m->kv.present)
        return recipe_fail(r, m->line,
            "%s says nothing to quantize: give scheme, config_groups or kv_cache_scheme", entry->key);
    if (m->has_scheme && !m->scheme_is_map)
        m->groups.items[0].targets = m->targets;
    if (m->kv.present) {
        need_data(r, m, m->kv.line, "kv_cache_scheme", "has static scales");
        if (!m->kv.observer)
            qc_remark(r->diag, recipe_place(r, m->kv.line),
                "kv_cache_scheme: no observer is named, so llm-compressor's moving average minmax is taken; "
                "observer: "
                "static_minmax takes the range of all data");
    }
    for (size_t i = 0; i < m->groups.count; i++)
        fill_group(r, m, &m->groups.items[i]);
    return QC_OK;
}

qc_status recipe_modifier_read(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    const char *names[COUNT(fields)];
    m->line = entry->line;
    QC_PUSH(r->arena, &m->targets, "Linear");
    if (entry->value->kind != QC_YAML_MAP)
        return recipe_wrong_kind(r, entry, "a map");
    for (size_t i = 0; i < COUNT(fields); i++)
        names[i] = fields[i].name;
    for (size_t i = 0; i < entry->value->entries.count; i++) {
        const qc_yaml_entry *field = &entry->value->entries.items[i];
        size_t index = 0;
        while (index < COUNT(fields) && strcmp(fields[index].name, field->key) != 0)
            index++;
        if (index == COUNT(fields))
            return recipe_unknown(r, field->line, qc_arena_printf(r->arena, "%s: the field", entry->key),
                field->key, names, COUNT(names));
        if (fields[index].read(r, field, m) != QC_OK)
            return QC_ERROR;
    }
    return finish(r, entry, m);
}
