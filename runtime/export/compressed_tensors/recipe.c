/* SPDX-License-Identifier: MIT
 *
 * recipe.c - recipe.yaml: the recipe that would have asked llm-compressor for the same, as it saves it.
 *
 * One QuantizationModifier; a linear scheme that equals a preset goes by the preset's name, everything else
 * as a config group with all fields. The text is what PyYAML's emitter makes: block style, lists of plain
 * strings in flow style, broken behind column 88, quotes only where a plain scalar would read back as
 * something else.
 */
#include <string.h>

#include "runtime/export/compressed_tensors/internal.h"

enum { INDENT_FIELDS = 6, BEST_WIDTH = 88 };

/* ---- scalars ------------------------------------------------------------------------------------------- */

/* Would YAML 1.1 read the text as null, a boolean, a number, a date or a merge key? Says yes too often rather
 * than too seldom for numbers: quotes are never wrong. */
static bool reads_as_other(const char *text)
{
    static const char *const words[] = {"~", "null", "Null", "NULL", "yes", "Yes", "YES", "no", "No", "NO",
        "true", "True", "TRUE", "false", "False", "FALSE", "on", "On", "ON", "off", "Off", "OFF", "<<", "=",
        ".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i], text) == 0)
            return true;
    const char *digits = text + (*text == '+' || *text == '-');
    if (digits > text && *digits == '.' && strchr("iI", digits[1]))
        return reads_as_other(digits);
    return *digits && strspn(digits, "0123456789._eExXaAbBcCdDfF:+-oO") == strlen(digits) &&
           ((*digits >= '0' && *digits <= '9') || *digits == '.');
}

/* Can the text stand plain inside a flow list? */
static bool is_plain(const char *text)
{
    if (!*text || strchr("?:,[]{}#&*!|>'\"%@` ", text[0]) || reads_as_other(text))
        return false;
    if (text[0] == '-' && (!text[1] || text[1] == ' ' || strncmp(text, "---", 3) == 0))
        return false;
    size_t length = strlen(text);
    if (text[length - 1] == ' ' || strncmp(text, "...", 3) == 0)
        return false;
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f || strchr(",?[]{}:", *p) || (*p == '#' && p[-1] == ' '))
            return false;
    return true;
}

static void add_indent(qc_str *out, int columns)
{
    for (int i = 0; i < columns; i++)
        qc_str_add_char(out, ' ');
}

/* In characters, of which UTF-8 has one for every byte but those that continue another. */
static size_t column(const qc_str *out)
{
    size_t count = 0;
    for (size_t at = out->length; at > 0 && out->data[at - 1] != '\n'; at--)
        count += ((unsigned char)out->data[at - 1] & 0xc0) != 0x80;
    return count;
}

/* A scalar inside a flow list whose further lines stand at `indent`. A single space behind the width is where the
 * emitter folds the text: the line break reads back as that space. */
static void add_scalar(qc_str *out, int indent, const char *text)
{
    bool printable = true;
    for (const char *p = text; *p; p++)
        printable = printable && (unsigned char)*p >= 0x20 && *p != 0x7f;
    if (!printable) {
        qc_str_add_quoted(out, text, strlen(text));
        return;
    }
    const bool plain = is_plain(text);
    if (!plain)
        qc_str_add_char(out, '\'');
    for (const char *p = text; *p; p++) {
        if (*p == ' ' && p > text && p[-1] != ' ' && p[1] && p[1] != ' ' && column(out) > BEST_WIDTH) {
            qc_str_add_char(out, '\n');
            add_indent(out, indent);
            continue;
        }
        if (!plain && *p == '\'')
            qc_str_add_char(out, '\'');
        qc_str_add_char(out, *p);
    }
    if (!plain)
        qc_str_add_char(out, '\'');
}

/* "key: [a, 'b']" at `indent`. */
static void add_list(qc_str *out, int indent, const char *key, const qc_attr *items)
{
    add_indent(out, indent);
    qc_str_addf(out, "%s: [", key);
    for (size_t i = 0; items && i < qc_attr_count(items); i++) {
        if (i > 0)
            qc_str_add_char(out, ',');
        if (column(out) > BEST_WIDTH) {
            qc_str_add_char(out, '\n');
            add_indent(out, indent + 2);
        } else if (i > 0) {
            qc_str_add_char(out, ' ');
        }
        add_scalar(out, indent + 4, qc_attr_as_text(qc_attr_item(items, i)));
    }
    qc_str_add(out, "]\n");
}

/* ---- fields -------------------------------------------------------------------------------------------- */

static void add_args(qc_str *out, int indent, const char *key, const ct_args *args)
{
    add_indent(out, indent);
    if (!args->present) {
        qc_str_addf(out, "%s: null\n", key);
        return;
    }
    qc_str_addf(out, "%s:\n", key);
    const struct {
        const char *name, *value;
    } fields[] = {
        {"num_bits", "8"},
        {"type", args->is_float ? "float" : "int"},
        {"symmetric", "true"},
        {"group_size", "null"},
        {"strategy", args->strategy},
        {"block_structure", "null"},
        {"dynamic", args->dynamic ? "true" : "false"},
        {"actorder", "null"},
        {"scale_dtype", "null"},
        {"zp_dtype", "null"},
        {"observer", args->observer ? args->observer : "null"},
        {"observer_kwargs", "{}"},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        add_indent(out, indent + 2);
        qc_str_addf(out, "%s: %s\n", fields[i].name, fields[i].value);
    }
}

static bool args_are(
    const ct_args *a, bool is_float, const char *strategy, bool dynamic, const char *observer)
{
    if (!a->present || a->is_float != is_float || strcmp(a->strategy, strategy) != 0 || a->dynamic != dynamic)
        return false;
    return observer && a->observer ? strcmp(observer, a->observer) == 0 : observer == a->observer;
}

/* llm-compressor's name for the scheme, or NULL. */
static const char *preset_name(const ct_group *g)
{
    static const char memoryless[] = "memoryless_minmax";
    if (g->attention)
        return NULL;
    if (args_are(&g->weights, true, "channel", false, memoryless) &&
        args_are(&g->input, true, "token", true, NULL))
        return "FP8_DYNAMIC";
    if (args_are(&g->weights, true, "tensor", false, memoryless) &&
        args_are(&g->input, true, "tensor", false, "static_minmax"))
        return "FP8";
    if (args_are(&g->weights, false, "channel", false, memoryless) &&
        args_are(&g->input, false, "token", true, NULL))
        return "W8A8";
    return NULL;
}

static void add_groups(const ct_plan *plan, qc_str *out)
{
    add_indent(out, INDENT_FIELDS);
    qc_str_add(out, "config_groups:\n");
    for (size_t i = 0; i < plan->groups.count; i++) {
        const ct_group *g = &plan->groups.items[i];
        add_indent(out, INDENT_FIELDS + 2);
        qc_str_addf(out, "group_%zu:\n", i);
        add_list(out, INDENT_FIELDS + 4, "targets", g->targets);
        add_args(out, INDENT_FIELDS + 4, "weights", &g->weights);
        add_args(out, INDENT_FIELDS + 4, "input_activations", &g->input);
        add_indent(out, INDENT_FIELDS + 4);
        qc_str_add(out, "output_activations: null\n");
        add_indent(out, INDENT_FIELDS + 4);
        qc_str_add(out, "format: null\n");
    }
}

static bool needs_data(const ct_plan *plan)
{
    bool needs = plan->kv.present;
    for (size_t i = 0; i < plan->groups.count; i++)
        needs = needs || (plan->groups.items[i].input.present && !plan->groups.items[i].input.dynamic);
    return needs;
}

void ct_recipe_text(const ct_plan *plan, qc_str *text)
{
    const ct_group *first = plan->groups.count ? &plan->groups.items[0] : NULL, *linear = NULL;
    for (size_t i = 0; i < plan->groups.count && !linear; i++)
        if (!plan->groups.items[i].attention)
            linear = &plan->groups.items[i];
    const char *preset = plan->groups.count == 1 ? preset_name(first) : NULL;
    qc_str_add(text, "quant_stage:\n  quant_modifiers:\n    QuantizationModifier:\n");
    if (first && !preset)
        add_groups(plan, text);
    if (preset) {
        add_list(text, INDENT_FIELDS, "targets", first->targets);
    } else {
        add_indent(text, INDENT_FIELDS);
        qc_str_add(text, "targets: [Linear]\n");
    }
    add_list(text, INDENT_FIELDS, "ignore", linear ? linear->ignore : first ? first->ignore : NULL);
    if (preset) {
        add_indent(text, INDENT_FIELDS);
        qc_str_addf(text, "scheme: %s\n", preset);
    }
    if (plan->kv_only)
        add_args(text, INDENT_FIELDS, "kv_cache_scheme", &plan->kv);
    add_indent(text, INDENT_FIELDS);
    qc_str_add(text, "bypass_divisibility_checks: false\n");
    add_indent(text, INDENT_FIELDS);
    qc_str_addf(text, "requires_calibration_data: %s\n", needs_data(plan) ? "true" : "false");
}
