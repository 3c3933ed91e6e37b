/* SPDX-License-Identifier: MIT
 *
 * match.c - targets as recipes write them. "re:PATTERN" means Python's re.match: anchored at the start, not
 * at the end. PCRE2 reads the patterns that people use for module paths as Python does.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "ir/ir.h"

/* Python's {,n} means {0,n}; PCRE2 takes it as the characters. Outside of classes and escapes. */
static void add_zero_bounds(qc_str *out, const char *pattern)
{
    bool class = false;
    for (const char *c = pattern; *c; c++) {
        qc_str_add_char(out, *c);
        if (*c == '\\' && c[1])
            qc_str_add_char(out, *++c);
        else if (*c == '[' && !class) {
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
}

static pcre2_code *compile(qc_ctx *ctx, const char *pattern, int *error, size_t *offset)
{
    pcre2_code *code = qc_map_get(&ctx->patterns, pattern);
    if (code)
        return code;
    qc_str text;
    qc_str_init(&text, &ctx->arena);
    add_zero_bounds(&text, pattern);
    code = pcre2_compile((PCRE2_SPTR)text.data, text.length, PCRE2_UTF | PCRE2_UCP, error, offset, NULL);
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

qc_status qc_target_check(qc_ctx *ctx, const char *target)
{
    int error;
    size_t offset;
    if (!qc_starts_with(target, "re:") || compile(ctx, target + 3, &error, &offset))
        return QC_OK;
    PCRE2_UCHAR message[160];
    pcre2_get_error_message(error, message, sizeof message);
    return qc_error(&ctx->diag, target, "bad pattern at offset %zu: %s", offset, (const char *)message);
}

bool qc_node_matches(const qc_node *node, const char *target)
{
    if (!qc_starts_with(target, "re:"))
        return !strcmp(target, node->path) || !strcmp(target, node->class_name);
    int error;
    size_t offset;
    pcre2_code *code = compile(node->module->ctx, target + 3, &error, &offset);
    if (!code)
        return false;
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(code, NULL);
    int found =
        data ? pcre2_match(code, (PCRE2_SPTR)node->path, strlen(node->path), 0, PCRE2_ANCHORED, data, NULL)
             : PCRE2_ERROR_NOMEMORY;
    pcre2_match_data_free(data);
    if (found < 0 && found != PCRE2_ERROR_NOMATCH) { /* too many steps, or a path that is no UTF-8 */
        PCRE2_UCHAR message[160];
        pcre2_get_error_message(found, message, sizeof message);
        qc_error(&node->module->ctx->diag, target, "matching \"%s\": %s", node->path, (const char *)message);
    }
    return found >= 0;
}
