/* SPDX-License-Identifier: MIT
 *
 * recipe.c - see recipe.h: files, stages, modifiers in order.
 *
 * llm-compressor attaches the schemes of all modifiers before it runs the first, so that a module which two of them
 * name belongs to the later one. Quantizing passes leave alone what is quantized already; hence the passes of the
 * last modifier come first. Rotations, which stand before all of them, keep their order.
 */
#include <ctype.h>

#include "frontends/recipe/internal.h"
#include "ir/ctx.h"
#include "ir/support/io.h"

enum { MAX_RECIPE_BYTES = 1 << 20 };

typedef QC_VEC(recipe_modifier) recipe_modifiers;

/* ---- files --------------------------------------------------------------------------------------------- */

static bool ends_with_lower(const char *path, const char *ending)
{
    size_t length = strlen(path), tail = strlen(ending);
    for (size_t i = 0; i < tail; i++)
        if (length < tail || tolower((unsigned char)path[length - tail + i]) != ending[i])
            return false;
    return true;
}

/* At --- or +++? */
static bool is_fence(const char *text, size_t length, size_t at)
{
    return length - at >= 3 && (memcmp(text + at, "---", 3) == 0 || memcmp(text + at, "+++", 3) == 0);
}

/* The text between the first --- (or +++) that begins a line and the next one, anywhere. */
static qc_status front_matter(recipe_reader *r, const char **text, size_t *length, uint32_t *first_line)
{
    size_t at = 0;
    bool line_start = true;
    while (at < *length && !(line_start && is_fence(*text, *length, at))) {
        line_start = (*text)[at] == '\n' || (line_start && strchr(" \t\r", (*text)[at]));
        at++;
    }
    size_t end = at + 3;
    while (end < *length && !is_fence(*text, *length, end))
        end++;
    if (at >= *length || end >= *length)
        return recipe_fail(r, 1, "no YAML between two lines of --- at the top of this Markdown file");
    *first_line = 1;
    for (size_t i = 0; i < at + 3; i++)
        *first_line += (*text)[i] == '\n';
    *text += at + 3;
    *length = end - at - 3;
    return QC_OK;
}

static const qc_yaml *read_json(recipe_reader *r, const char *text, size_t length)
{
    const qc_json *json = qc_json_parse(r->diag, r->arena, r->where, text, length);
    return json ? qc_yaml_from_json(r->diag, r->arena, r->where, json) : NULL;
}

static bool is_json(const char *text, size_t length)
{
    qc_arena arena;
    qc_diag silent;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&silent, &arena, NULL, NULL);
    bool json = qc_json_parse(&silent, &arena, "", text, length) != NULL;
    qc_arena_fini(&arena);
    return json;
}

/* QuantizationModifier(...), as the guides write it. */
static bool is_python(const recipe_reader *r, const char *text, size_t length)
{
    static const char call[] = "Modifier(";
    return ends_with_lower(r->where, ".py") || memmem(text, length, call, sizeof call - 1);
}

static const qc_yaml *fail_as_python(recipe_reader *r)
{
    recipe_fail(r, 1,
        "is Python: QuantizationModifier(scheme=\"NVFP4\", ignore=[\"lm_head\"]) is the YAML quant_stage: "
        "{quant_modifiers: {QuantizationModifier: {scheme: NVFP4, ignore: [lm_head]}}}, or --scheme=NVFP4 "
        "--ignore=lm_head");
    return NULL;
}

static const qc_yaml *read_tree(recipe_reader *r, const char *text, size_t length)
{
    uint32_t first_line = 1;
    bool yaml = ends_with_lower(r->where, ".yaml") || ends_with_lower(r->where, ".yml");
    if (!yaml && is_python(r, text, length))
        return fail_as_python(r);
    if (ends_with_lower(r->where, ".md") && front_matter(r, &text, &length, &first_line) != QC_OK)
        return NULL;
    if (ends_with_lower(r->where, ".json") || (!yaml && is_json(text, length)))
        return read_json(r, text, length);
    return qc_yaml_parse(r->diag, r->arena, r->where, first_line, text, length);
}

/* ---- stages -------------------------------------------------------------------------------------------- */

static const char *const foreign_modifiers[] = {"AWQModifier", "AutoRoundModifier", "ConstantPruningModifier",
    "GPTQModifier", "LogarithmicEqualizationModifier", "MagnitudePruningModifier", "REAPPruningModifier",
    "SmoothQuantModifier", "SparseGPTModifier", "WandaPruningModifier"};
enum { FOREIGN_COUNT = sizeof foreign_modifiers / sizeof *foreign_modifiers };

static qc_status no_such_modifier(recipe_reader *r, const qc_yaml_entry *entry)
{
    const char *names[FOREIGN_COUNT + 3] = {"QuantizationModifier", "SpinQuantModifier", "QuIPModifier"};
    for (size_t i = 0; i < FOREIGN_COUNT; i++) {
        if (strcmp(foreign_modifiers[i], entry->key) == 0)
            return recipe_fail(r, entry->line, "qc does not have %s", entry->key);
        names[i + 3] = foreign_modifiers[i];
    }
    return recipe_unknown(r, entry->line, "the modifier", entry->key, names, FOREIGN_COUNT + 3);
}

/* The key without its ending, NULL when it ends otherwise. */
static const char *without_ending(recipe_reader *r, const char *key, const char *ending)
{
    return qc_ends_with(key, ending) ? qc_arena_strndup(r->arena, key, strlen(key) - strlen(ending)) : NULL;
}

static qc_status read_group(recipe_reader *r, const qc_yaml_entry *entry, const char *stage,
    const char *group, recipe_modifiers *modifiers)
{
    if (entry->value->kind != QC_YAML_MAP)
        return recipe_wrong_kind(r, entry, "a map of modifiers");
    for (size_t i = 0; i < entry->value->entries.count; i++) {
        const qc_yaml_entry *item = &entry->value->entries.items[i];
        recipe_modifier m = {.stage = stage, .group = group};
        qc_status (*read)(recipe_reader * r, const qc_yaml_entry *entry, recipe_modifier *m) = NULL;
        if (strcmp(item->key, "QuantizationModifier") == 0)
            read = recipe_modifier_read;
        else if (strcmp(item->key, "SpinQuantModifier") == 0 || strcmp(item->key, "QuIPModifier") == 0)
            read = recipe_transform_read;
        if (!read)
            return no_such_modifier(r, item);
        if (read(r, item, &m) != QC_OK)
            return QC_ERROR;
        QC_PUSH(r->arena, modifiers, m);
    }
    return QC_OK;
}

static qc_status read_stage(
    recipe_reader *r, const qc_yaml_entry *entry, const char *stage, recipe_modifiers *modifiers)
{
    if (entry->value->kind != QC_YAML_MAP)
        return recipe_wrong_kind(r, entry, "a map of NAME_modifiers");
    for (size_t i = 0; i < entry->value->entries.count; i++) {
        const qc_yaml_entry *item = &entry->value->entries.items[i];
        const char *group = without_ending(r, item->key, "_modifiers");
        if (strcmp(item->key, "run_type") == 0)
            continue; /* of older recipes; llm-compressor skips it */
        if (!group)
            return recipe_fail(r, item->line,
                "'%s' in a stage: llm-compressor would skip what is not NAME_modifiers", item->key);
        if (read_group(r, item, stage, group, modifiers) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

static qc_status read_stages(recipe_reader *r, const qc_yaml *root, recipe_modifiers *modifiers)
{
    if (root->kind != QC_YAML_MAP)
        return recipe_fail(r, root->line, "a recipe is a map of NAME_stage, not %s", qc_yaml_kind_name(root));
    for (size_t i = 0; i < root->entries.count; i++) {
        const qc_yaml_entry *entry = &root->entries.items[i];
        const char *stage = without_ending(r, entry->key, "_stage");
        if (strcmp(entry->key, "args") == 0) {
            if (entry->value->kind != QC_YAML_MAP)
                return recipe_wrong_kind(r, entry, "a map");
            continue; /* kept by llm-compressor, never put in */
        }
        if (!stage)
            return recipe_fail(r, entry->line,
                "'%s' at the top: llm-compressor would skip what is not NAME_stage, with NAME_modifiers "
                "inside",
                entry->key);
        if (read_stage(r, entry, stage, modifiers) != QC_OK)
            return QC_ERROR;
    }
    return modifiers->count ? QC_OK : recipe_fail(r, root->line, "the recipe has no modifier");
}

/* ---- passes -------------------------------------------------------------------------------------------- */

/* The targets of every group, kv_cache_scheme, and rotations by name, once each. */
static void add_covers(recipe_reader *r, const recipe_modifiers *modifiers, const char *stage, qc_str *out)
{
    qc_map seen;
    qc_map_init(&seen, r->arena);
    for (size_t i = 0; i < modifiers->count; i++) {
        const recipe_modifier *m = &modifiers->items[i];
        if (strcmp(m->stage, stage) != 0)
            continue;
        size_t names = 0;
        const char *const *rotations = m->transform ? recipe_transform_names(m->transform, &names) : NULL;
        for (size_t k = 0; k < names; k++)
            if (recipe_transform_has(m->transform, rotations[k]))
                qc_map_set(&seen, rotations[k], r);
        for (size_t g = 0; g < m->groups.count; g++)
            for (size_t k = 0; k < m->groups.items[g].targets.count; k++)
                qc_map_set(&seen, m->groups.items[g].targets.items[k], r);
        if (m->kv.present)
            qc_map_set(&seen, "kv_cache_scheme", r);
    }
    qc_str_add(out, ", covers=[");
    for (size_t i = 0; i < seen.count; i++) {
        qc_str_add(out, i ? ", " : "");
        qc_str_add_quoted(out, seen.entries[i].key, seen.entries[i].key_length);
    }
    qc_str_add_char(out, ']');
}

/* record-recipe{...} for the modifiers of one stage, which begin at `first`. Returns the one behind them. */
static size_t add_record(recipe_reader *r, const recipe_modifiers *modifiers, size_t first, qc_str *out)
{
    const char *stage = modifiers->items[first].stage, *group = NULL;
    qc_str text;
    qc_str_init(&text, r->arena);
    size_t i = first;
    for (; i < modifiers->count && strcmp(modifiers->items[i].stage, stage) == 0; i++) {
        const recipe_modifier *m = &modifiers->items[i];
        if (!group || strcmp(group, m->group) != 0) {
            qc_recipe_add_indent(&text, 2);
            qc_recipe_add_scalar(&text, 4, qc_arena_printf(r->arena, "%s_modifiers", m->group));
            qc_str_add(&text, ":\n");
        }
        group = m->group;
        qc_str_addf(&text, "    %s:\n", m->transform ? m->transform->name : "QuantizationModifier");
        if (m->transform)
            recipe_transform_text(m, &text);
        else
            recipe_modifier_text(m, &text);
    }
    qc_str_add(out, ",record-recipe{stage=");
    qc_str_add_quoted(out, stage, strlen(stage));
    qc_str_add(out, ", text=");
    qc_str_add_quoted(out, text.data, text.length);
    add_covers(r, modifiers, stage, out);
    qc_str_add_char(out, '}');
    qc_str_fini(&text);
    return i;
}

/* Rotations come before what quantizes: scales are those of rotated weights. Each is there once. */
static qc_status check_transforms(recipe_reader *r, const recipe_modifiers *modifiers)
{
    const recipe_modifier *quantizer = NULL;
    for (size_t i = 0; i < modifiers->count; i++) {
        const recipe_modifier *m = &modifiers->items[i];
        quantizer = m->transform ? quantizer : m;
        for (size_t k = 0; m->transform && k < i; k++)
            if (modifiers->items[k].transform && modifiers->items[k].transform->quip == m->transform->quip)
                return recipe_fail(
                    r, m->line, "%s is there twice (line %u)", m->transform->name, modifiers->items[k].line);
        if (m->transform && quantizer)
            return recipe_fail(r, m->line,
                "%s behind a QuantizationModifier would rotate weights whose scales are known: put it in "
                "front",
                m->transform->name);
    }
    return QC_OK;
}

/* A group that leaves modules alone cannot take back what a modifier before it quantizes. */
static qc_status check_later(recipe_reader *r, const recipe_modifier *m)
{
    for (size_t i = 0; i < m->groups.count; i++) {
        const recipe_group *g = &m->groups.items[i];
        if (g->preset && strcmp(g->preset, "UNQUANTIZED") == 0)
            return recipe_fail(r, g->line,
                "UNQUANTIZED in a modifier behind others: put its targets into ignore of those before it");
    }
    return QC_OK;
}

static qc_status expand_all(recipe_reader *r, const recipe_modifiers *modifiers, qc_recipe *recipe)
{
    qc_str out;
    size_t first = 0; /* that quantizes */
    qc_status status = check_transforms(r, modifiers);
    qc_str_init(&out, r->arena);
    for (; first < modifiers->count && modifiers->items[first].transform; first++)
        recipe_transform_expand(modifiers->items[first].transform, &out);
    for (size_t i = first + 1; i < modifiers->count && status == QC_OK; i++)
        status = check_later(r, &modifiers->items[i]);
    for (size_t i = modifiers->count; i-- > first && status == QC_OK;)
        status = recipe_expand(r, &modifiers->items[i], &out);
    for (size_t i = 0; i < modifiers->count;)
        i = add_record(r, modifiers, i, &out);
    recipe->pipeline = qc_arena_strdup(r->arena, out.data + 1); /* without the first comma */
    recipe->needs_data = r->needs_data;
    qc_str_fini(&out);
    return status;
}

qc_status qc_recipe_parse(
    qc_ctx *ctx, qc_arena *arena, const char *path, const char *text, size_t length, qc_recipe *recipe)
{
    recipe_reader r = {.ctx = ctx, .diag = qc_ctx_diag(ctx), .arena = arena, .where = path};
    recipe_modifiers modifiers = {0};
    *recipe = (qc_recipe){0};
    if (length > MAX_RECIPE_BYTES)
        return qc_error(r.diag, path, "a recipe of more than %d bytes", MAX_RECIPE_BYTES);
    const qc_yaml *root = read_tree(&r, text, length);
    if (!root || read_stages(&r, root, &modifiers) != QC_OK)
        return QC_ERROR;
    return expand_all(&r, &modifiers, recipe);
}

qc_status qc_recipe_read(qc_ctx *ctx, qc_arena *arena, const char *path, qc_recipe *recipe)
{
    char *text;
    size_t length;
    *recipe = (qc_recipe){0};
    if (qc_read_file(qc_ctx_diag(ctx), arena, path, MAX_RECIPE_BYTES, &text, &length) != QC_OK)
        return QC_ERROR;
    return qc_recipe_parse(ctx, arena, path, text, length, recipe);
}
