/* SPDX-License-Identifier: MIT
 *
 * registry.c - the passes that are known: names, options, licences (qc/pass.h, manager.h).
 *
 * Invariants: names are kebab-case and unique; the default of an option is a value of the option.
 */
#include <dlfcn.h>
#include <stdlib.h>

#include "passes/internal.h"

#define QC_PASS(symbol) void qc_pass_##symbol(qc_registry *registry);
#include "passes/passes.def"
#undef QC_PASS

qc_registry *qc_registry_create(qc_ctx *ctx, qc_oom_fn oom)
{
    qc_arena arena;
    qc_arena_init(&arena, oom);
    qc_registry *registry = QC_NEW(&arena, qc_registry);
    registry->ctx = ctx;
    registry->arena = arena;
    registry->origin = "built-in";
    qc_map_init(&registry->by_name, &registry->arena);
    qc_registry_add_built_in_analyses(registry);
#define QC_PASS(symbol) qc_pass_##symbol(registry);
#include "passes/passes.def"
#undef QC_PASS
    return registry;
}

void qc_registry_destroy(qc_registry *registry)
{
    if (!registry)
        return;
    for (size_t i = 0; i < registry->libraries.count; i++)
        dlclose(registry->libraries.items[i]);
    qc_arena arena = registry->arena; /* which holds the registry itself */
    qc_arena_fini(&arena);
}

/* Words of a-z 0-9 joined by single '-' (`separator`), the first letter not a digit. */
static bool is_name(const char *name, char separator)
{
    if (!name || name[0] < 'a' || name[0] > 'z')
        return false;
    for (size_t i = 1; name[i]; i++) {
        bool letter = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9');
        bool joint = name[i] == separator && name[i - 1] != separator && name[i + 1] != '\0';
        if (!letter && !joint)
            return false;
    }
    return true;
}

qc_pass *qc_registry_add(qc_registry *registry, const char *name, const char *summary, qc_pass_fn run)
{
    if (!is_name(name, '-') || !summary || !run) {
        qc_ctx_error(
            registry->ctx, name ? name : "", "a pass needs a kebab-case name, a summary and a function");
        return NULL;
    }
    qc_pass *old = qc_map_get(&registry->by_name, name);
    if (old) {
        qc_ctx_error(registry->ctx, name, "a pass of this name is registered already (%s)", old->origin);
        return NULL;
    }
    qc_pass *pass = QC_NEW(&registry->arena, qc_pass);
    pass->registry = registry;
    pass->name = qc_arena_strdup(&registry->arena, name);
    pass->summary = qc_arena_strdup(&registry->arena, summary);
    pass->origin = registry->origin;
    pass->run = run;
    QC_PUSH(&registry->arena, &registry->passes, pass);
    qc_map_set(&registry->by_name, name, pass);
    return pass;
}

qc_pass *qc_registry_add_stage(
    qc_registry *registry, const char *name, const char *summary, qc_pass_fn run, void *user)
{
    qc_pass *pass = qc_registry_add(registry, name, summary, run);
    if (pass) {
        pass->stage = true;
        pass->user = user;
    }
    return pass;
}

void qc_pass_add_option(qc_pass *pass, const char *name, qc_option_kind kind, const char *default_text,
    const char *values, const char *help)
{
    if (!pass)
        return; /* qc_registry_add has said why */
    qc_arena *arena = &pass->registry->arena;
    qc_ctx *ctx = pass->registry->ctx;
    if (!is_name(name, '_') || !default_text || !help || (kind == QC_OPTION_WORD) != (values != NULL) ||
        qc_pass_option_index(pass, name) >= 0) {
        qc_ctx_error(ctx, pass->name, "option '%s' is declared wrongly or twice", name ? name : "");
        return;
    }
    qc_pass_option option = {
        .name = qc_arena_strdup(arena, name),
        .kind = kind,
        .default_text = qc_arena_strdup(arena, default_text),
        .values = values ? qc_arena_strdup(arena, values) : NULL,
        .help = qc_arena_strdup(arena, help),
    };
    option.default_value = qc_option_value_parse(ctx, arena, pass->name, pass, &option, default_text);
    if (option.default_value)
        QC_PUSH(arena, &pass->options, option);
}

void qc_pass_set_licence(qc_pass *pass, qc_licence licence)
{
    if (pass)
        pass->licence = licence;
}

void qc_pass_set_description(qc_pass *pass, const char *description)
{
    if (pass)
        pass->description = qc_arena_strdup(&pass->registry->arena, description);
}

void qc_pass_add_kept_analysis(qc_pass *pass, const char *analysis)
{
    if (!pass)
        return;
    const qc_registry *registry = pass->registry;
    for (size_t i = 0; i < registry->analyses.count; i++)
        if (strcmp(registry->analyses.items[i]->name, analysis) == 0) {
            QC_PUSH(&pass->registry->arena, &pass->kept, registry->analyses.items[i]->name);
            return;
        }
    qc_ctx_error(registry->ctx, pass->name, "keeps an unknown analysis '%s'", analysis);
}

const qc_pass *qc_registry_find(const qc_registry *registry, const char *name)
{
    return qc_map_get(&registry->by_name, name);
}

size_t qc_registry_count(const qc_registry *registry)
{
    return registry->passes.count;
}

const qc_pass *qc_registry_at(const qc_registry *registry, size_t index)
{
    return index < registry->passes.count ? registry->passes.items[index] : NULL;
}

const char *qc_pass_name(const qc_pass *pass)
{
    return pass->name;
}

const char *qc_pass_summary(const qc_pass *pass)
{
    return pass->summary;
}

const char *qc_pass_origin(const qc_pass *pass)
{
    return pass->origin;
}

bool qc_pass_is_stage(const qc_pass *pass)
{
    return pass->stage;
}

size_t qc_pass_option_total(const qc_pass *pass)
{
    return pass->options.count;
}

const char *qc_pass_option_name(const qc_pass *pass, size_t index)
{
    return index < pass->options.count ? pass->options.items[index].name : NULL;
}

int qc_pass_option_index(const qc_pass *pass, const char *name)
{
    for (size_t i = 0; i < pass->options.count; i++)
        if (strcmp(pass->options.items[i].name, name) == 0)
            return (int)i;
    return -1;
}
