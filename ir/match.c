/* SPDX-License-Identifier: MIT
 *
 * match.c - targets as recipes write them. "re:PATTERN" means Python's re.match: anchored at the start, not
 * at the end. PCRE2 reads the patterns that people use for module paths as Python does.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "ir/ir.h"

static pcre2_code *compile(qc_ctx *ctx, const char *pattern, int *error, size_t *offset)
{
    pcre2_code *code = qc_map_get(&ctx->patterns, pattern);
    if (code)
        return code;
    code =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, error, offset, NULL);
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
             : -1;
    pcre2_match_data_free(data);
    return found >= 0;
}
