/* SPDX-License-Identifier: MIT
 *
 * match.c - the patterns of tokenizer.json at work: regular expressions by PCRE2 (compiled to
 * machine code where it can), literals by memmem.
 *
 * Which successive matches count follows the reference library, where an empty match that touches the match
 * before it is passed over.
 */
#include "frontends/text/tokenizer/internal.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum {
    PATTERN_LIMIT_BYTES = 64 * 1024,
    JIT_STACK_BYTES = 8 * 1024 * 1024,
};

struct qc_text_regex {
    pcre2_code *code;
    bool jit;
};

struct qc_text_matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

/* NULL after an error, of which *problem says what is wrong. */
static pcre2_code *compile(const qc_str *pattern, qc_arena *arena, const char **problem)
{
    int number;
    PCRE2_SIZE offset;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) {
        *problem = "out of memory";
        return NULL;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern->data, pattern->length,
        PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &number, &offset, context);
    pcre2_compile_context_free(context);
    if (!code) {
        char message[160];
        pcre2_get_error_message(number, (PCRE2_UCHAR *)message, sizeof message);
        *problem = qc_arena_strdup(arena, message);
    }
    return code;
}

qc_text_regex *qc_text_regex_compile(
    qc_diag *diag, qc_arena *arena, const char *where, const char *pattern, size_t length)
{
    const char *problem = NULL;
    qc_str written;
    pcre2_code *code = NULL;
    if (length > PATTERN_LIMIT_BYTES) {
        qc_error(diag, where, "a regular expression of %zu bytes is not supported", length);
        return NULL;
    }
    qc_str_init(&written, diag->arena);
    if (qc_text_regex_translate(diag->arena, pattern, length, &written, &problem))
        code = compile(&written, diag->arena, &problem);
    qc_str_fini(&written);
    if (!code) {
        qc_error(diag, where, "the regular expression \"%s\" is not supported: %s",
            qc_arena_strndup(diag->arena, pattern, length), problem);
        return NULL;
    }
    qc_text_regex *regex = QC_NEW(arena, qc_text_regex);
    regex->code = code;
    regex->jit = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0;
    return regex;
}

static bool matches_nothing(const qc_text_pattern *pattern)
{
    uint32_t empty = 0;
    if (!pattern->regex)
        return pattern->literal_length == 0;
    pcre2_pattern_info(pattern->regex->code, PCRE2_INFO_MATCHEMPTY, &empty);
    return empty != 0;
}

void qc_text_regex_free(qc_text_regex *regex)
{
    pcre2_code_free(regex->code);
}

qc_text_matcher *qc_text_matcher_create(qc_arena *arena)
{
    qc_text_matcher *matcher = QC_NEW(arena, qc_text_matcher);
    matcher->data = pcre2_match_data_create(1, NULL);
    matcher->context = pcre2_match_context_create(NULL);
    matcher->stack = pcre2_jit_stack_create(64 * 1024, JIT_STACK_BYTES, NULL); /* NULL without JIT */
    if (!matcher->data || !matcher->context)
        qc_arena_calloc(arena, SIZE_MAX, SIZE_MAX); /* the arena says what happens when memory runs out */
    if (matcher->stack)
        pcre2_jit_stack_assign(matcher->context, NULL, matcher->stack);
    return matcher;
}

void qc_text_matcher_destroy(qc_text_matcher *matcher)
{
    if (!matcher)
        return;
    pcre2_jit_stack_free(matcher->stack);
    pcre2_match_context_free(matcher->context);
    pcre2_match_data_free(matcher->data);
}

int qc_text_regex_find(const qc_text_regex *regex, qc_text_matcher *matcher, const char *text, size_t length,
    size_t from, size_t *start, size_t *end)
{
    int result = PCRE2_ERROR_JIT_STACKLIMIT;
    if (regex->jit)
        result =
            pcre2_jit_match(regex->code, (PCRE2_SPTR)text, length, from, 0, matcher->data, matcher->context);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT)
        result = pcre2_match(regex->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
            matcher->data, matcher->context);
    if (result == PCRE2_ERROR_NOMATCH)
        return 0;
    if (result < 0)
        return -1;
    const PCRE2_SIZE *offsets = pcre2_get_ovector_pointer(matcher->data);
    *start = offsets[0];
    *end = offsets[1];
    return 1;
}

qc_status qc_text_pattern_load(
    qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *object, const char *what, qc_text_pattern *pattern)
{
    const qc_json *literal = qc_json_get(object, "String"), *regex = qc_json_get(object, "Regex");
    if (literal && literal->kind == QC_JSON_STRING) {
        pattern->literal = qc_arena_strndup(tokenizer->arena, literal->text, literal->length);
        pattern->literal_length = literal->length;
        return QC_OK;
    }
    if (!regex || regex->kind != QC_JSON_STRING)
        return qc_error(
            diag, tokenizer->path, "%s pattern must be {\"String\": ...} or {\"Regex\": ...}", what);
    qc_text_regex *compiled =
        qc_text_regex_compile(diag, tokenizer->arena, tokenizer->path, regex->text, regex->length);
    if (!compiled)
        return QC_ERROR;
    QC_PUSH(tokenizer->arena, &tokenizer->regexes, compiled);
    pattern->regex = compiled;
    return QC_OK;
}

qc_status qc_text_replace_load(
    qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *object, const char *what, qc_text_pattern *pattern)
{
    if (qc_text_pattern_load(diag, tokenizer, object, what, pattern) != QC_OK)
        return QC_ERROR;
    if (matches_nothing(pattern))
        return qc_error(diag, tokenizer->path, "%s: a pattern that may match nothing is not supported", what);
    return QC_OK;
}

/* The first occurrence at or after `from`, as qc_text_regex_find gives it. */
static int find_literal(const qc_text_search *search, size_t *start, size_t *end)
{
    const qc_text_pattern *pattern = search->pattern;
    const char *from = search->text + search->from;
    const char *found = from;
    if (pattern->literal_length)
        found = memmem(from, search->length - search->from, pattern->literal, pattern->literal_length);
    if (!found)
        return 0;
    *start = (size_t)(found - search->text);
    *end = *start + pattern->literal_length;
    return 1;
}

int qc_text_search_next(qc_text_search *search, size_t *start, size_t *end)
{
    while (search->from <= search->length) {
        int found = search->pattern->regex ? qc_text_regex_find(search->pattern->regex, search->matcher,
                                                 search->text, search->length, search->from, start, end)
                                           : find_literal(search, start, end);
        if (found <= 0)
            return found;
        if (*start != *end || !search->any || search->last_end != *end) {
            search->from = search->last_end = *end;
            search->any = true;
            return 1;
        }
        size_t size = 1;
        if (search->from < search->length)
            qc_text_get(search->text + search->from, search->length - search->from, &size);
        search->from += size;
    }
    return 0;
}
