/* SPDX-License-Identifier: MIT
 *
 * text.c - see text.h. The rules were read off PyYAML's output with default_flow_style=None and width=88, as
 * llm-compressor calls it.
 */
#include "frontends/recipe/internal.h"

enum { BEST_WIDTH = 88, INDENT_FIELDS = 6 };

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

void qc_recipe_add_indent(qc_str *out, int columns)
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

/* A single space behind the width is where the emitter folds the text: the line break reads back as that space. */
void qc_recipe_add_scalar(qc_str *out, int indent, const char *text)
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
            qc_recipe_add_indent(out, indent);
            continue;
        }
        if (!plain && *p == '\'')
            qc_str_add_char(out, '\'');
        qc_str_add_char(out, *p);
    }
    if (!plain)
        qc_str_add_char(out, '\'');
}

void qc_recipe_add_list(qc_str *out, int indent, const char *key, const char *const *items, size_t count)
{
    qc_recipe_add_indent(out, indent);
    qc_recipe_add_scalar(out, indent, key);
    qc_str_add(out, ": [");
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            qc_str_add_char(out, ',');
        if (column(out) > BEST_WIDTH) {
            qc_str_add_char(out, '\n');
            qc_recipe_add_indent(out, indent + 2);
        } else if (i > 0) {
            qc_str_add_char(out, ' ');
        }
        qc_recipe_add_scalar(out, indent + 4, items[i]);
    }
    qc_str_add(out, "]\n");
}

void qc_recipe_add_float(qc_str *out, double value)
{
    if (value != value || value - value != 0) {
        qc_str_add(out, value != value ? ".nan" : value > 0 ? ".inf" : "-.inf");
        return;
    }
    size_t start = out->length;
    qc_str_add_f64(out, value);
    const char *text = out->data + start, *e = strchr(text, 'e');
    if (!e || strchr(text, '.'))
        return;
    char exponent[16]; /* 1e-05 would read back as a string */
    size_t length = strlen(e);
    memcpy(exponent, e, length < sizeof exponent ? length + 1 : 0);
    out->length = (size_t)(e - out->data);
    qc_str_add(out, ".0");
    qc_str_add(out, exponent);
}

static void add_field(qc_str *out, int indent, const char *key, const char *value)
{
    qc_recipe_add_indent(out, indent);
    qc_str_addf(out, "%s: %s\n", key, value ? value : "null");
}

void qc_recipe_add_args(qc_str *out, int indent, const char *key, const qc_recipe_args *args)
{
    if (!args->present) {
        add_field(out, indent, key, NULL);
        return;
    }
    qc_recipe_add_indent(out, indent);
    qc_str_addf(out, "%s:\n", key);
    indent += 2;
    qc_recipe_add_indent(out, indent);
    qc_str_addf(out, "num_bits: %d\n", args->num_bits);
    add_field(out, indent, "type", args->is_float ? "float" : "int");
    add_field(out, indent, "symmetric", args->symmetric ? "true" : "false");
    qc_recipe_add_indent(out, indent);
    qc_str_add(out, "group_size: ");
    if (args->group_size)
        qc_str_add_int(out, args->group_size);
    else
        qc_str_add(out, "null");
    qc_str_add_char(out, '\n');
    add_field(out, indent, "strategy", args->strategy);
    if (args->block_rows) {
        qc_recipe_add_indent(out, indent);
        qc_str_add(out, "block_structure: [");
        qc_str_add_int(out, args->block_rows);
        qc_str_add(out, ", ");
        qc_str_add_int(out, args->block_columns);
        qc_str_add(out, "]\n");
    } else {
        add_field(out, indent, "block_structure", NULL);
    }
    add_field(out, indent, "dynamic", args->dynamic);
    add_field(out, indent, "actorder", args->actorder);
    add_field(out, indent, "scale_dtype", args->scale_dtype);
    add_field(out, indent, "zp_dtype", args->symmetric ? NULL : args->zp_dtype);
    add_field(out, indent, "observer", args->observer);
    add_field(out, indent, "observer_kwargs", args->observer_kwargs ? args->observer_kwargs : "{}");
}

/* ---- modifiers ----------------------------------------------------------------------------------------- */

static void add_groups(const recipe_modifier *m, qc_str *out)
{
    qc_recipe_add_indent(out, INDENT_FIELDS);
    qc_str_add(out, m->groups.count ? "config_groups:\n" : "config_groups: {}\n");
    for (size_t i = 0; i < m->groups.count; i++) {
        const recipe_group *g = &m->groups.items[i];
        qc_recipe_add_indent(out, INDENT_FIELDS + 2);
        qc_recipe_add_scalar(out, INDENT_FIELDS + 2, g->name);
        qc_str_add(out, ":\n");
        qc_recipe_add_list(out, INDENT_FIELDS + 4, "targets", g->targets.items, g->targets.count);
        qc_recipe_add_args(out, INDENT_FIELDS + 4, "weights", &g->weights);
        qc_recipe_add_args(out, INDENT_FIELDS + 4, "input_activations", &g->input);
        add_field(out, INDENT_FIELDS + 4, "output_activations", NULL);
        add_field(out, INDENT_FIELDS + 4, "format", g->format);
    }
}

static void add_scheme(const recipe_modifier *m, qc_str *out)
{
    qc_recipe_add_indent(out, INDENT_FIELDS);
    if (!m->scheme_is_map) {
        qc_str_addf(out, "scheme: %s\n", m->groups.items[0].written_preset);
        return;
    }
    qc_str_add(out, "scheme:\n");
    for (size_t i = 0; i < m->groups.count; i++)
        qc_recipe_add_list(out, INDENT_FIELDS + 2, m->groups.items[i].written_preset,
            m->groups.items[i].targets.items, m->groups.items[i].targets.count);
}

static void add_observers(const recipe_modifier *m, qc_str *out)
{
    const struct {
        const char *field, *key, *name;
    } observers[] = {
        {"weight_observer", "weights", m->weight_observer},
        {"input_observer", "input", m->input_observer},
        {"output_observer", "output", m->output_observer},
    };
    const char *joint = "observer: {";
    for (size_t i = 0; i < 3; i++) {
        if (!observers[i].name)
            continue;
        if (!m->observer_map) {
            add_field(out, INDENT_FIELDS, observers[i].field, observers[i].name);
            continue;
        }
        qc_recipe_add_indent(out, joint[0] == 'o' ? INDENT_FIELDS : 0);
        qc_str_addf(out, "%s%s: %s", joint, observers[i].key, observers[i].name);
        joint = ", ";
    }
    if (m->observer_map && joint[0] == ',')
        qc_str_add(out, "}\n");
    else if (m->observer_map)
        add_field(out, INDENT_FIELDS, "observer", "{}");
}

void recipe_numbers_text(const recipe_modifier *m, qc_str *out)
{
    static const char *const number_names[] = {"index", "start", "end", "update"};
    for (size_t i = 0; i < 4; i++) {
        if (!m->numbers[i])
            continue;
        qc_recipe_add_indent(out, INDENT_FIELDS);
        qc_str_addf(out, "%s: ", number_names[i]);
        if (i == 0)
            qc_str_add_int(out, m->numbers[i]->value->integer);
        else
            qc_recipe_add_float(out, m->numbers[i]->value->number);
        qc_str_add_char(out, '\n');
    }
}

void recipe_modifier_text(const recipe_modifier *m, qc_str *out)
{
    if (m->has_groups)
        add_groups(m, out);
    qc_recipe_add_list(out, INDENT_FIELDS, "targets", m->targets.items, m->targets.count);
    qc_recipe_add_list(out, INDENT_FIELDS, "ignore", m->ignore.items, m->ignore.count);
    if (m->has_scheme)
        add_scheme(m, out);
    if (m->kv.present)
        qc_recipe_add_args(out, INDENT_FIELDS, "kv_cache_scheme", &m->kv);
    add_observers(m, out);
    add_field(
        out, INDENT_FIELDS, "bypass_divisibility_checks", m->bypass_divisibility_checks ? "true" : "false");
    add_field(
        out, INDENT_FIELDS, "requires_calibration_data", m->requires_calibration_data ? "true" : "false");
    recipe_numbers_text(m, out);
}
