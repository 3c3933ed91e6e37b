/* SPDX-License-Identifier: MIT
 *
 * recipes.c - see recipes.h.
 */
#include "runtime/compare/recipes.h"

#include <string.h>

#include "frontends/recipe/recipe.h"
#include "ir/ctx.h"
#include "ir/support/io.h"
#include "passes/schemes.h"

enum { MAX_FILE_BYTES = 1 << 20 };

typedef struct reader {
    qc_ctx *ctx;
    qc_arena *arena;
    const char *where;
    QC_VEC(qc_compare_recipe) found;
} reader;

/* ---- cutting texts ------------------------------------------------------------------------------------- */

/* The first of `separators` behind `text` that is in no braces, brackets or quotes, else the end; NULL when
 * these do not close. */
static const char *find(const char *text, const char *separators)
{
    char open[64];
    size_t depth = 0;
    for (; *text; text++) {
        if (*text == '"') {
            for (text++; *text && *text != '"'; text++)
                text += *text == '\\' && text[1];
            if (!*text)
                return NULL;
        } else if (*text == '{' || *text == '[') {
            if (depth == sizeof open)
                return NULL;
            open[depth++] = *text == '{' ? '}' : ']';
        } else if (*text == '}' || *text == ']') {
            if (depth == 0 || open[--depth] != *text)
                return NULL;
        } else if (depth == 0 && strchr(separators, *text)) {
            return text;
        }
    }
    return depth == 0 ? text : NULL;
}

static const char *trimmed(qc_arena *arena, const char *start, const char *end)
{
    while (start < end && strchr(" \t\r", *start))
        start++;
    while (end > start && strchr(" \t\r", end[-1]))
        end--;
    return qc_arena_strndup(arena, start, (size_t)(end - start));
}

/* ---- terms --------------------------------------------------------------------------------------------- */

static bool is_recipe_file(const char *text)
{
    return qc_ends_with(text, ".yaml") || qc_ends_with(text, ".yml") || qc_ends_with(text, ".json") ||
           qc_ends_with(text, ".md");
}

static qc_status add_term(reader *r, const char *term, qc_str *pipeline)
{
    const qc_scheme_preset *preset = qc_scheme_preset_find(term);
    if (!term[0])
        return qc_ctx_error(r->ctx, r->where, "a recipe has an empty part");
    qc_str_add(pipeline, pipeline->length ? "," : "");
    if (preset) {
        qc_str_addf(pipeline, "quant-linear{scheme=%s}", preset->name);
    } else if (is_recipe_file(term)) {
        qc_recipe recipe;
        if (qc_recipe_read(r->ctx, r->arena, term, &recipe) != QC_OK)
            return QC_ERROR;
        qc_str_add(pipeline, recipe.pipeline);
    } else {
        qc_str_add(pipeline, term);
    }
    return QC_OK;
}

static qc_status add_terms(reader *r, const char *text, const char *joints, qc_str *pipeline)
{
    for (const char *at = text;; at++) {
        const char *end = find(at, joints); /* it closes: whoever cut the text has looked */
        if (add_term(r, trimmed(r->arena, at, end), pipeline) != QC_OK)
            return QC_ERROR;
        at = end;
        if (!*at)
            return QC_OK;
    }
}

static qc_status add_recipe(reader *r, const char *text, const char *joints)
{
    const char *equals = find(text, "") ? find(text, "=") : NULL;
    if (!equals)
        return qc_ctx_error(
            r->ctx, r->where, "a brace, bracket or quote is left open or closed twice in '%s'", text);
    qc_compare_recipe recipe = {.label = text, .text = text};
    if (*equals) {
        recipe.label = trimmed(r->arena, text, equals);
        recipe.text = trimmed(r->arena, equals + 1, equals + strlen(equals));
    }
    if (!recipe.label[0])
        return qc_ctx_error(r->ctx, r->where, "the label of '%s' is empty", recipe.text);
    for (size_t i = 0; i < r->found.count; i++)
        if (strcmp(r->found.items[i].label, recipe.label) == 0)
            return qc_ctx_error(
                r->ctx, r->where, "two recipes are called '%s'; LABEL=RECIPE names them", recipe.label);
    if (r->found.count == QC_COMPARE_MAX_RECIPES)
        return qc_ctx_error(r->ctx, r->where, "more than %d recipes", QC_COMPARE_MAX_RECIPES);
    qc_str pipeline;
    qc_str_init(&pipeline, r->arena);
    qc_status status = add_terms(r, recipe.text, joints, &pipeline);
    recipe.pipeline = qc_arena_strndup(r->arena, pipeline.data, pipeline.length);
    qc_str_fini(&pipeline);
    if (status == QC_OK)
        QC_PUSH(r->arena, &r->found, recipe);
    return status;
}

/* ---- lists --------------------------------------------------------------------------------------------- */

static qc_status add_file(reader *r, const char *path)
{
    char *text;
    size_t length, line = 0, before = r->found.count;
    const char *outer = r->where;
    if (qc_read_file(qc_ctx_diag(r->ctx), r->arena, path, MAX_FILE_BYTES, &text, &length) != QC_OK)
        return QC_ERROR;
    if (strlen(text) != length)
        return qc_ctx_error(r->ctx, path, "holds a NUL byte: it is no text");
    qc_status status = QC_OK;
    for (const char *at = text; *at && status == QC_OK;) {
        size_t size = strcspn(at, "\n");
        const char *one = trimmed(r->arena, at, at + size);
        r->where = qc_arena_printf(r->arena, "%s:%zu", path, ++line);
        if (one[0] && one[0] != '#')
            status = add_recipe(r, one, "+,");
        at += size + (at[size] == '\n');
    }
    r->where = outer;
    if (status == QC_OK && r->found.count == before)
        return qc_ctx_error(r->ctx, path, "names no recipe");
    return status;
}

qc_status qc_compare_recipes_read(
    qc_ctx *ctx, qc_arena *arena, const char *where, const char *text, qc_compare_recipes *recipes)
{
    reader r = {.ctx = ctx, .arena = arena, .where = where};
    for (const char *at = text;; at++) {
        const char *end = find(at, ",");
        if (!end)
            return qc_ctx_error(
                ctx, where, "a brace, bracket or quote is left open or closed twice in '%s'", at);
        const char *one = trimmed(arena, at, end);
        if (!one[0])
            return qc_ctx_error(ctx, where, text[0] ? "a recipe is empty" : "names no recipe");
        if ((one[0] == '@' ? add_file(&r, one + 1) : add_recipe(&r, one, "+")) != QC_OK)
            return QC_ERROR;
        at = end;
        if (!*at)
            break;
    }
    *recipes = (qc_compare_recipes){r.found.items, r.found.count};
    return QC_OK;
}
