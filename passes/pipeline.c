/* SPDX-License-Identifier: MIT
 *
 * pipeline.c - pipelines as text: parsing with the registry at hand, canonical printing (manager.h).
 *
 * Canonical: options in the order of their declaration, only those that were given, values as option_value.c
 * spells them. Given options print although they equal the default: a pass may ask whether an option was
 * given.
 */
#include <string.h>

#include "passes/experts.h"
#include "passes/option_value.h"

qc_pipeline *qc_pipeline_create(qc_registry *registry)
{
    qc_pipeline *pipeline = QC_NEW(&registry->arena, qc_pipeline);
    pipeline->registry = registry;
    return pipeline;
}

static const qc_pass *find_pass(qc_option_parser *p, const qc_registry *registry, const char *name)
{
    const qc_pass *pass = qc_registry_find(registry, name);
    if (pass)
        return pass;
    QC_VEC(const char *) names = {0};
    for (size_t i = 0; i < registry->passes.count; i++)
        QC_PUSH(p->arena, &names, registry->passes.items[i]->name);
    const char *nearest = qc_nearest_name(name, names.items, names.count);
    return qc_option_parser_error(p, "unknown pass '%s'%s%s%s", name, nearest ? ", nearest is '" : "",
        nearest ? nearest : "", nearest ? "'" : "");
}

static int find_option(qc_option_parser *p, const qc_pass *pass, const char *key)
{
    int index = qc_pass_option_index(pass, key);
    if (index >= 0)
        return index;
    QC_VEC(const char *) names = {0};
    for (size_t i = 0; i < pass->options.count; i++)
        QC_PUSH(p->arena, &names, pass->options.items[i].name);
    const char *nearest = qc_nearest_name(key, names.items, names.count);
    qc_option_parser_error(p, "unknown option '%s'%s%s%s", key,
        nearest            ? ", nearest is '"
        : names.count == 0 ? "; this pass has none"
                           : "",
        nearest ? nearest : "", nearest ? "'" : "");
    return -1;
}

/* The options of one instance, behind the opening brace. */
static qc_status parse_options(qc_option_parser *p, qc_pass_instance *item)
{
    for (bool first = true; !qc_option_parser_take(p, '}'); first = false) {
        if (!first && !qc_option_parser_take(p, ','))
            return qc_option_parser_error(p, "expected ',' or '}' behind an option"), QC_ERROR;
        const char *key = qc_option_parser_bare(p);
        if (!key)
            return qc_option_parser_error(p, "expected the name of an option"), QC_ERROR;
        int index = find_option(p, item->pass, key);
        if (index < 0)
            return QC_ERROR;
        const qc_pass_option *option = &item->pass->options.items[index];
        if (item->values[index])
            return qc_option_parser_error(p, "option '%s' is given twice", key), QC_ERROR;
        if (qc_option_parser_take(p, '='))
            item->values[index] = qc_option_parser_value(p, option);
        else if (option->kind == QC_OPTION_BOOL)
            item->values[index] = qc_attr_bool(p->ctx, true);
        else
            return qc_option_parser_error(p, "option '%s' needs a value: %s=...", key, key), QC_ERROR;
        if (!item->values[index])
            return QC_ERROR;
    }
    return QC_OK;
}

qc_status qc_pipeline_parse(qc_pipeline *pipeline, const char *where, const char *text)
{
    qc_registry *registry = pipeline->registry;
    size_t count = pipeline->items.count;
    qc_option_parser p;
    qc_option_parser_init(&p, registry->ctx, &registry->arena, where, NULL, text);
    if (!qc_option_parser_peek(&p))
        return QC_OK;
    do {
        p.pass = NULL;
        const char *name = qc_option_parser_bare(&p);
        const qc_pass *pass = name ? find_pass(&p, registry, name) : NULL;
        if (!name)
            qc_option_parser_error(&p, "expected the name of a pass at character %zu of '%s'",
                (size_t)(p.at - p.start) + 1, text);
        if (!pass)
            break;
        p.pass = name;
        qc_pass_instance item = {pass, QC_NEW_ARRAY(&registry->arena, const qc_attr *, pass->options.count)};
        if (qc_option_parser_take(&p, '{') && parse_options(&p, &item) != QC_OK)
            break;
        QC_PUSH(&registry->arena, &pipeline->items, item);
        if (!qc_option_parser_peek(&p))
            return QC_OK;
        if (qc_option_parser_peek(&p) != ',')
            qc_option_parser_error(&p, "expected ',' between passes at character %zu of '%s'",
                (size_t)(p.at - p.start) + 1, text);
    } while (qc_option_parser_take(&p, ','));
    pipeline->items.count = count;
    return QC_ERROR;
}

qc_status qc_pipeline_insert(qc_pipeline *pipeline, const char *before, const char *where, const char *text)
{
    size_t count = pipeline->items.count, at = 0;
    while (before && at < count && strcmp(pipeline->items.items[at].pass->name, before) != 0)
        at++;
    if (qc_pipeline_parse(pipeline, where, text) != QC_OK)
        return QC_ERROR;
    qc_pass_instance *items = pipeline->items.items;
    size_t added = pipeline->items.count - count;
    qc_pass_instance *own = QC_NEW_ARRAY(&pipeline->registry->arena, qc_pass_instance, added + 1);
    memcpy(own, items + count, added * sizeof *items);
    memmove(items + at + added, items + at, (count - at) * sizeof *items);
    memcpy(items + at, own, added * sizeof *items);
    return QC_OK;
}

qc_status qc_pipeline_add_experts(
    qc_pipeline *pipeline, const char *where, const qc_module *module, const char *calibrate)
{
    static const char *const users[] = {"quant-linear", "fold-norms", "fold-r1", "insert-r4", "insert-quip"};
    bool wanted = false, fused = false;
    if (calibrate && qc_experts_any(module) && qc_pipeline_has(pipeline, "insert-observers") &&
        !qc_pipeline_has(pipeline, "calibrate-all-experts") &&
        qc_pipeline_insert(pipeline, "insert-observers", where, calibrate) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < sizeof users / sizeof users[0]; i++)
        wanted |= qc_pipeline_has(pipeline, users[i]);
    for (const qc_func *f = qc_module_first_func(module); wanted && f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            fused |= qc_linear_is_fused(op);
    if (!fused || qc_pipeline_has(pipeline, "linearize-moe"))
        return QC_OK;
    return qc_pipeline_insert(pipeline, NULL, where, "linearize-moe");
}

qc_status qc_pipeline_set_default(
    qc_pipeline *pipeline, const char *where, const char *option, const char *text)
{
    qc_registry *registry = pipeline->registry;
    bool any = false;
    for (size_t i = 0; i < pipeline->items.count; i++) {
        qc_pass_instance *item = &pipeline->items.items[i];
        int index = qc_pass_option_index(item->pass, option);
        any = any || index >= 0;
        if (index < 0 || item->values[index])
            continue;
        item->values[index] = qc_option_value_parse(
            registry->ctx, &registry->arena, where, item->pass, &item->pass->options.items[index], text);
        if (!item->values[index])
            return QC_ERROR;
    }
    return any ? QC_OK : qc_ctx_error(registry->ctx, where, "no pass that runs has an option '%s'", option);
}

size_t qc_pipeline_count(const qc_pipeline *pipeline)
{
    return pipeline->items.count;
}

const char *qc_pipeline_name(const qc_pipeline *pipeline, size_t index)
{
    return index < pipeline->items.count ? pipeline->items.items[index].pass->name : NULL;
}

bool qc_pipeline_has(const qc_pipeline *pipeline, const char *name)
{
    for (size_t i = 0; i < pipeline->items.count; i++)
        if (strcmp(pipeline->items.items[i].pass->name, name) == 0)
            return true;
    return false;
}

void qc_pass_instance_print(const qc_pass_instance *item, qc_str *out)
{
    const char *joint = "{";
    qc_str_add(out, item->pass->name);
    for (size_t i = 0; i < item->pass->options.count; i++) {
        if (!item->values[i])
            continue;
        qc_str_addf(out, "%s%s=", joint, item->pass->options.items[i].name);
        qc_option_print(&item->pass->options.items[i], item->values[i], out);
        joint = ", ";
    }
    qc_str_add(out, joint[0] == '{' ? "" : "}");
}

void qc_pipeline_print_with(const qc_pipeline *pipeline, const char *joint, qc_str *out)
{
    for (size_t i = 0; i < pipeline->items.count; i++) {
        qc_str_add(out, i ? joint : "");
        qc_pass_instance_print(&pipeline->items.items[i], out);
    }
}

void qc_pipeline_print(const qc_pipeline *pipeline, qc_str *out)
{
    qc_pipeline_print_with(pipeline, ",", out);
}

qc_status qc_parse_spec(qc_ctx *ctx, qc_arena *arena, const char *where, const char *text, const char **name,
    const qc_attr **options)
{
    qc_option_parser p;
    qc_option_parser_init(&p, ctx, arena, where, NULL, text);
    *name = qc_option_parser_bare(&p);
    if (!*name) {
        qc_option_parser_error(&p, "expected a name in '%s'", text);
        return QC_ERROR;
    }
    *options = qc_option_parser_take(&p, '{') ? qc_option_parser_map(&p, 1) : qc_attr_map(ctx, NULL, NULL, 0);
    if (*options && qc_option_parser_peek(&p)) {
        qc_option_parser_error(
            &p, "'%s' goes on behind its end at character %zu", text, (size_t)(p.at - p.start) + 1);
        return QC_ERROR;
    }
    return *options ? QC_OK : QC_ERROR;
}
