/* SPDX-License-Identifier: MIT
 *
 * match.c - targets as recipes write them. "re:PATTERN" means Python's re.match: anchored at the start, not
 * at the end. PCRE2 reads the patterns that people use for module paths as Python does.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdio.h>

#include "ir/ctx.h"
#include "ir/ir.h"

/* What follows `(?` in Python: groups, looks, comments, conditions, flags. */
static bool is_extension(const char *at)
{
    if (*at == '<')
        return at[1] == '=' || at[1] == '!';
    if (*at == 'P')
        return at[1] == '<' || at[1] == '=';
    return *at && strchr(":=!>#(imsxau-", *at);
}

/* What PCRE2 takes and Python refuses or reads otherwise; NULL when there is nothing. */
static const char *not_python(const char *at, bool in_class)
{
    if (at[0] == '\\' && ((at[1] >= 'a' && at[1] <= 'z') || (at[1] >= 'A' && at[1] <= 'Z')) &&
        !strchr(in_class ? "abfnrtvxdDsSwW" : "abfnrtvxdDsSwWABZ", at[1]))
        return "Python knows no such escape";
    if (!in_class && at[0] == '(' && at[1] == '*')
        return "nothing to repeat";
    if (!in_class && at[0] == '(' && at[1] == '?' && !is_extension(at + 2))
        return "Python knows no such group";
    return NULL;
}

/* The pattern as PCRE2 spells it: Python's {,n} means {0,n}, its \Z is \z, its \v one character. False, with the
 * place and what is wrong there, for what Python does not have. */
static bool translate(qc_str *out, const char *pattern, const char **problem, size_t *offset)
{
    bool class = false;
    for (const char *c = pattern; *c; c++) {
        *problem = not_python(c, class);
        *offset = (size_t)(c - pattern);
        if (*problem)
            return false;
        if (*c == '\\' && c[1]) {
            c++;
            qc_str_add(out, *c == 'v' ? "\\x0b" : "\\");
            if (*c != 'v')
                qc_str_add_char(out, *c == 'Z' && !class ? 'z' : *c);
            continue;
        }
        qc_str_add_char(out, *c);
        if (*c == '[' && !class) {
            class = true;
            if (c[1] == '^')
                qc_str_add_char(out, *++c);
            if (c[1] == ']') /* first in a class it is a member */
                qc_str_add_char(out, *++c);
        } else if (*c == ']')
            class = false;
        else if (*c == '{' && !class && c[1] == ',' && c[2 + strspn(c + 2, "0123456789")] == '}')
            qc_str_add_char(out, '0');
    }
    return true;
}

/* NULL when it does not compile; then *message says why, at *offset of the pattern. */
static pcre2_code *compile(qc_ctx *ctx, const char *pattern, char message[160], size_t *offset)
{
    pcre2_code *code = qc_map_get(&ctx->patterns, pattern);
    if (code)
        return code;
    const char *problem;
    int error;
    qc_str text;
    qc_str_init(&text, &ctx->arena);
    if (translate(&text, pattern, &problem, offset)) {
        code = pcre2_compile((PCRE2_SPTR)text.data, text.length,
            PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, offset, NULL);
        if (!code)
            pcre2_get_error_message(error, (PCRE2_UCHAR *)message, 160);
    } else {
        snprintf(message, 160, "%s", problem);
    }
    qc_str_fini(&text);
    if (code)
        qc_map_set(&ctx->patterns, pattern, code);
    return code;
}

void qc_patterns_free(qc_ctx *ctx)
{
    for (size_t i = 0; i < ctx->patterns.count; i++)
        pcre2_code_free(ctx->patterns.entries[i].value);
}

qc_status qc_target_check_at(qc_ctx *ctx, const char *where, const char *target)
{
    char message[160];
    size_t offset;
    if (!qc_starts_with(target, "re:") || compile(ctx, target + 3, message, &offset))
        return QC_OK;
    return qc_error(&ctx->diag, where, "%s%sbad pattern at offset %zu: %s", where == target ? "" : target,
        where == target ? "" : ": ", offset, message);
}

qc_status qc_target_check(qc_ctx *ctx, const char *target)
{
    return qc_target_check_at(ctx, target, target);
}

/* QC_ERROR after a diagnostic. */
static qc_status match_path(
    const qc_node *node, pcre2_code *code, const char *target, const char *path, bool *found)
{
    char message[160];
    qc_module *module = node->module;
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(code, NULL);
    int result = data ? pcre2_match(code, (PCRE2_SPTR)path, strlen(path), 0, PCRE2_ANCHORED, data, NULL)
                      : PCRE2_ERROR_NOMEMORY;
    pcre2_match_data_free(data);
    *found = result >= 0;
    if (result >= 0 || result == PCRE2_ERROR_NOMATCH)
        return QC_OK;
    /* too many steps, or a path that is no UTF-8 */
    pcre2_get_error_message(result, (PCRE2_UCHAR *)message, sizeof message);
    module->endless_pattern = qc_arena_strdup(&module->arena, target); /* one error, not one a module */
    return qc_error(&module->ctx->diag, target, "matching \"%s\": %s", path, message);
}

bool qc_node_is_named(const qc_node *node, const char *path)
{
    return !strcmp(path, node->path) || (node->alias && !strcmp(path, node->alias));
}

static bool matches(const qc_node *node, const char *target, const char *alias)
{
    if (!qc_starts_with(target, "re:"))
        return !strcmp(target, node->path) || !strcmp(target, node->class_name) ||
               (alias && !strcmp(target, alias)) ||
               !strcmp(target, "Module"); /* the class that all others descend from */
    char message[160];
    size_t offset;
    bool found = false;
    qc_module *module = node->module;
    if (module->endless_pattern && strcmp(module->endless_pattern, target) == 0)
        return false;
    pcre2_code *code = compile(module->ctx, target + 3, message, &offset);
    if (!code || match_path(node, code, target, node->path, &found) != QC_OK)
        return false;
    return found || (alias && match_path(node, code, target, alias, &found) == QC_OK && found);
}

bool qc_node_matches(const qc_node *node, const char *target)
{
    return matches(node, target, node->alias);
}

bool qc_node_matches_stored(const qc_node *node, const char *target)
{
    return matches(node, target, NULL);
}
