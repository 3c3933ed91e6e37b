/* SPDX-License-Identifier: MIT
 *
 * describe.c - the registry as text: --list-passes, the help of one pass, the reference part of
 * docs/passes.md. All three derive from what the passes declare, so that no option can be undocumented.
 */
#include "passes/option_value.h"

static const char *const licence_names[] = {
    [QC_LICENCE_EXACT] = "exact",
    [QC_LICENCE_REASSOCIATES] = "reassociates",
    [QC_LICENCE_LOSSY] = "lossy",
};

static const char *const licence_meanings[] = {
    [QC_LICENCE_EXACT] = "every value keeps its bits",
    [QC_LICENCE_REASSOCIATES] = "the same real numbers, rounded elsewhere",
    [QC_LICENCE_LOSSY] = "spends accuracy",
};

void qc_registry_list(const qc_registry *registry, qc_str *out)
{
    size_t widest = 0;
    for (size_t i = 0; i < registry->passes.count; i++) {
        size_t length = strlen(registry->passes.items[i]->name);
        widest = length > widest ? length : widest;
    }
    for (size_t i = 0; i < registry->passes.count; i++) {
        const qc_pass *pass = registry->passes.items[i];
        qc_str_addf(out, "%-*s  %-12s  %s", (int)widest, pass->name,
            pass->stage ? "stage" : licence_names[pass->licence], pass->summary);
        if (strcmp(pass->origin, "built-in") != 0)
            qc_str_addf(out, " (%s)", pass->origin);
        qc_str_add_char(out, '\n');
    }
}

static void add_default(const qc_pass_option *option, qc_str *out)
{
    if (option->kind == QC_OPTION_STRING && option->default_text[0] == '\0')
        qc_str_add(out, "\"\"");
    else
        qc_option_print(option, option->default_value, out);
}

static qc_status unknown_pass(const qc_registry *registry, const char *where, const char *name)
{
    qc_arena arena;
    qc_arena_init(&arena, registry->arena.oom);
    QC_VEC(const char *) names = {0};
    for (size_t i = 0; i < registry->passes.count; i++)
        QC_PUSH(&arena, &names, registry->passes.items[i]->name);
    const char *nearest = qc_nearest_name(name, names.items, names.count);
    qc_ctx_error(registry->ctx, where, "unknown pass '%s'%s%s%s", name, nearest ? ", nearest is '" : "",
        nearest ? nearest : "", nearest ? "'" : "");
    qc_arena_fini(&arena);
    return QC_ERROR;
}

qc_status qc_registry_help(const qc_registry *registry, const char *where, const char *name, qc_str *out)
{
    const qc_pass *pass = qc_registry_find(registry, name);
    if (!pass)
        return unknown_pass(registry, where, name);
    qc_str_addf(out, "%s: %s\n", pass->name, pass->summary);
    if (!pass->stage)
        qc_str_addf(out, "%s: %s\n", licence_names[pass->licence], licence_meanings[pass->licence]);
    if (pass->description)
        qc_str_addf(out, "\n%s\n", pass->description);
    for (size_t i = 0; i < pass->options.count; i++) {
        const qc_pass_option *option = &pass->options.items[i];
        qc_str_addf(out, "%s  %s=%s", i ? "" : "\noptions:\n", option->name,
            option->values ? option->values : qc_option_kind_name(option->kind));
        qc_str_add(out, " (");
        add_default(option, out);
        qc_str_addf(out, ")  %s\n", option->help);
    }
    return QC_OK;
}

/* A | would end a cell of the table. */
static void add_cell(qc_str *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            qc_str_add_char(out, '\\');
        qc_str_add_char(out, *text);
    }
}

void qc_registry_markdown(const qc_registry *registry, qc_str *out)
{
    for (size_t i = 0; i < registry->passes.count; i++) {
        const qc_pass *pass = registry->passes.items[i];
        qc_str_addf(out, "%s## %s\n\n%s.", i ? "\n" : "", pass->name, pass->summary);
        if (!pass->stage)
            qc_str_addf(
                out, " Licence: %s (%s).", licence_names[pass->licence], licence_meanings[pass->licence]);
        qc_str_add_char(out, '\n');
        if (pass->description)
            qc_str_addf(out, "\n%s\n", pass->description);
        if (pass->options.count == 0)
            continue;
        qc_str_add(out, "\n| option | values | default | meaning |\n|---|---|---|---|\n");
        for (size_t k = 0; k < pass->options.count; k++) {
            const qc_pass_option *option = &pass->options.items[k];
            qc_str_addf(out, "| `%s` | ", option->name);
            add_cell(out, option->values ? option->values : qc_option_kind_name(option->kind));
            qc_str_add(out, " | `");
            add_default(option, out);
            qc_str_add(out, "` | ");
            add_cell(out, option->help);
            qc_str_add(out, " |\n");
        }
    }
}
