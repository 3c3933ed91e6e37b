/* SPDX-License-Identifier: MIT
 *
 * fields.c - values of fields, with the conversions that pydantic makes in llm-compressor, and what is said of others.
 */
#include <strings.h>

#include "frontends/recipe/internal.h"
#include "ir/ctx.h"

const char *recipe_place(recipe_reader *r, uint32_t line)
{
    return qc_arena_printf(r->arena, "%s:%u", r->where, line);
}

qc_status recipe_fail(recipe_reader *r, uint32_t line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *what = qc_arena_vprintf(r->arena, format, args);
    va_end(args);
    return qc_error(r->diag, recipe_place(r, line), "%s", what);
}

qc_status recipe_wrong_kind(recipe_reader *r, const qc_yaml_entry *entry, const char *wanted)
{
    const qc_yaml *value = entry->value;
    bool show = value->kind == QC_YAML_STRING || value->kind == QC_YAML_INT || value->kind == QC_YAML_FLOAT;
    return recipe_fail(r, value->line, "%s is %s, not %s%s%s%s", entry->key ? entry->key : "an item", wanted,
        qc_yaml_kind_name(value), show ? " ('" : "", show ? value->text : "", show ? "')" : "");
}

qc_status recipe_unknown(recipe_reader *r, uint32_t line, const char *what, const char *name,
    const char *const *known, size_t count)
{
    const char *nearest = qc_nearest_name(name, known, count);
    return recipe_fail(r, line, "%s '%s' is not known%s%s%s", what, name, nearest ? ", nearest is '" : "",
        nearest ? nearest : "", nearest ? "'" : "");
}

qc_status recipe_int(recipe_reader *r, const qc_yaml_entry *entry, int64_t *value)
{
    const qc_yaml *node = entry->value;
    qc_yaml again = *node;
    if (node->kind == QC_YAML_STRING && (!qc_yaml_resolve(&again) || again.kind != QC_YAML_INT))
        return recipe_wrong_kind(r, entry, "an integer");
    if (again.kind == QC_YAML_FLOAT && again.number >= -1e15 && again.number <= 1e15 &&
        again.number == (double)(int64_t)again.number)
        *value = (int64_t)again.number;
    else if (again.kind == QC_YAML_INT)
        *value = again.integer;
    else
        return recipe_wrong_kind(r, entry, "an integer");
    return QC_OK;
}

qc_status recipe_bool(recipe_reader *r, const qc_yaml_entry *entry, bool *value)
{
    static const char *const words[] = {
        "0", "off", "f", "false", "n", "no", "1", "on", "t", "true", "y", "yes"};
    enum { WORDS = sizeof words / sizeof *words };
    const qc_yaml *node = entry->value;
    int word = node->kind == QC_YAML_STRING ? recipe_word(node->text, words, WORDS) : -1;
    if (node->kind == QC_YAML_BOOL)
        *value = node->boolean;
    else if ((node->kind == QC_YAML_INT || node->kind == QC_YAML_FLOAT) &&
             (node->number == 0 || node->number == 1))
        *value = node->number != 0;
    else if (word >= 0)
        *value = word >= WORDS / 2;
    else
        return recipe_wrong_kind(r, entry, "true or false");
    return QC_OK;
}

qc_status recipe_string(recipe_reader *r, const qc_yaml_entry *entry, const char **value)
{
    if (entry->value->kind != QC_YAML_STRING)
        return recipe_wrong_kind(r, entry, "a string");
    *value = entry->value->text;
    return QC_OK;
}

qc_status recipe_strings(recipe_reader *r, const qc_yaml_entry *entry, bool single, recipe_names *values)
{
    const qc_yaml *node = entry->value;
    values->count = 0;
    if (single && node->kind == QC_YAML_STRING) {
        QC_PUSH(r->arena, values, node->text);
        return QC_OK;
    }
    if (node->kind != QC_YAML_LIST)
        return recipe_wrong_kind(r, entry, single ? "a string or a list of strings" : "a list of strings");
    for (size_t i = 0; i < node->entries.count; i++) {
        const qc_yaml *item = node->entries.items[i].value;
        if (item->kind != QC_YAML_STRING)
            return recipe_fail(
                r, item->line, "%s holds strings, not %s", entry->key, qc_yaml_kind_name(item));
        QC_PUSH(r->arena, values, item->text);
    }
    return QC_OK;
}

qc_status recipe_patterns(recipe_reader *r, const qc_yaml_entry *entry, bool single, recipe_names *values)
{
    if (recipe_strings(r, entry, single, values) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < values->count; i++) {
        uint32_t line =
            entry->value->kind == QC_YAML_LIST ? entry->value->entries.items[i].line : entry->value->line;
        if (!*values->items[i])
            return recipe_fail(r, line, "%s: an empty name", entry->key);
        if (qc_target_check_at(r->ctx, recipe_place(r, line), values->items[i]) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

int recipe_word(const char *text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(text, words[i]) == 0)
            return (int)i;
    return -1;
}
