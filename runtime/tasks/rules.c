/* SPDX-License-Identifier: MIT
 *
 * rules.c - see rules.h. Filters: RegexFilter (findall, then group_select) and take_first; metric:
 * exact_match_hf_evaluate (re.sub of each pattern, lower case). The patterns are those of gsm8k.yaml,
 * gsm8k-cot.yaml and gsm8k-cot-llama.yaml of lm-evaluation-harness 0.4.
 */
#include "runtime/tasks/rules.h"

#include "frontends/text/python_text.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum {
    MATCH_LIMIT = 20 * 1000 * 1000, /* steps of one match */
    HEAP_LIMIT_KIB = 64 * 1024,
    MAX_PATTERNS = 16,
};

#define NUMBER "(-?[$0-9.,]{2,})|(-?[0-9]+)"

static const qc_task_filter filters[] = {
    {"strict-match", "gsm8k", "#### (\\-?[0-9\\.\\,]+)", false},
    {"strict-match", "gsm8k_cot", "The answer is (\\-?[0-9\\.\\,]+).", false},
    {"strict-match", "gsm8k_cot_llama", "The final answer is ((-?[$0-9.,]{2,})|(-?[0-9]+))", true},
    {"flexible-extract", "gsm8k", NUMBER, true},
    {"none", "any", NULL, false},
};

static const char *const gsm8k_ignored[] = {",", "\\$", "(?s).*#### ", "\\.$"};

static const qc_task_match matches[] = {
    {"gsm8k", gsm8k_ignored, sizeof gsm8k_ignored / sizeof *gsm8k_ignored, true},
    {"exact_match with ignore_case", NULL, 0, true},
    {"exact_match", NULL, 0, false},
};

const qc_task_filter *qc_task_filter_named(const char *name, size_t length, size_t index)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (strlen(filters[i].name) == length && memcmp(filters[i].name, name, length) == 0 && index-- == 0)
            return &filters[i];
    return NULL;
}

const qc_task_match *qc_task_match_at(size_t index)
{
    return index < sizeof matches / sizeof *matches ? &matches[index] : NULL;
}

qc_task_rules qc_task_gsm8k_rules(void)
{
    return (qc_task_rules){
        {qc_task_filter_named("strict-match", 12, 0), qc_task_filter_named("flexible-extract", 16, 0)}, 2,
        &matches[0]};
}

/* ---- patterns ------------------------------------------------------------------------------------------ */

struct qc_task_matcher {
    qc_diag *diag;
    pcre2_match_context *context;
    pcre2_match_data *data;
    size_t count;
    const char *patterns[MAX_PATTERNS];
    pcre2_code *codes[MAX_PATTERNS];
    qc_str texts[2], other; /* of exact_match */
};

qc_task_matcher *qc_task_matcher_create(qc_diag *diag, qc_arena *arena)
{
    qc_task_matcher *m = QC_NEW(arena, qc_task_matcher);
    m->diag = diag;
    qc_str_init(&m->texts[0], arena);
    qc_str_init(&m->texts[1], arena);
    qc_str_init(&m->other, arena);
    m->context = pcre2_match_context_create(NULL);
    m->data = pcre2_match_data_create(8, NULL);
    if (!m->context || !m->data) {
        qc_task_matcher_destroy(m);
        qc_error(diag, "", "out of memory for patterns");
        return NULL;
    }
    pcre2_set_match_limit(m->context, MATCH_LIMIT);
    pcre2_set_heap_limit(m->context, HEAP_LIMIT_KIB);
    return m;
}

void qc_task_matcher_destroy(qc_task_matcher *matcher)
{
    if (!matcher)
        return;
    for (size_t i = 0; i < matcher->count; i++)
        pcre2_code_free(matcher->codes[i]);
    pcre2_match_data_free(matcher->data);
    pcre2_match_context_free(matcher->context);
    qc_str_fini(&matcher->texts[0]);
    qc_str_fini(&matcher->texts[1]);
    qc_str_fini(&matcher->other);
}

static const pcre2_code *compiled(qc_task_matcher *m, const char *pattern)
{
    for (size_t i = 0; i < m->count; i++)
        if (m->patterns[i] == pattern)
            return m->codes[i];
    int number = 0;
    PCRE2_SIZE offset;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    pcre2_code *code = NULL;
    if (context && m->count < MAX_PATTERNS) {
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C,
            &number, &offset, context);
    }
    pcre2_compile_context_free(context);
    if (!code) {
        qc_error(m->diag, pattern, "the pattern cannot be compiled (%d)", number);
        return NULL;
    }
    m->patterns[m->count] = pattern;
    m->codes[m->count++] = code;
    return code;
}

/* The next match from `from` on; *offsets are those of its groups, *groups how many. 0 none, -1 after an error. */
static int find(qc_task_matcher *m, const char *where, const char *pattern, qc_task_text text, size_t from,
    const PCRE2_SIZE **offsets, size_t *groups)
{
    const pcre2_code *code = compiled(m, pattern);
    if (!code)
        return -1;
    int result = pcre2_match(code, (PCRE2_SPTR)text.data, text.length, from, 0, m->data, m->context);
    if (result == PCRE2_ERROR_NOMATCH)
        return 0;
    if (result < 1) {
        char message[160];
        pcre2_get_error_message(result, (PCRE2_UCHAR *)message, sizeof message);
        qc_error(m->diag, where, "the pattern \"%s\" cannot be matched: %s", pattern, message);
        return -1;
    }
    *offsets = pcre2_get_ovector_pointer(m->data);
    *groups = (size_t)result;
    return 1;
}

/* What findall gives for a match: the only group, or the first of several that is not empty, or all of it. */
static qc_task_text part_of(qc_task_text text, const PCRE2_SIZE *offsets, size_t groups)
{
    size_t group = 0;
    for (size_t i = groups; i-- > 1;)
        if (offsets[2 * i] != PCRE2_UNSET && offsets[2 * i + 1] > offsets[2 * i])
            group = i;
    return (qc_task_text){text.data + offsets[2 * group], offsets[2 * group + 1] - offsets[2 * group]};
}

/* None of the patterns of the table matches nothing, so each search starts behind the last match. */
qc_status qc_task_filter_apply(qc_task_matcher *m, const char *where, const qc_task_filter *filter,
    qc_task_text text, qc_task_text *part)
{
    static const char invalid[] = "[invalid]";
    const PCRE2_SIZE *offsets;
    size_t groups, from = 0;
    int found;
    *part = text;
    if (!filter->pattern)
        return QC_OK;
    *part = (qc_task_text){invalid, sizeof invalid - 1};
    while ((found = find(m, where, filter->pattern, text, from, &offsets, &groups)) == 1) {
        *part = part_of(text, offsets, groups);
        from = offsets[1];
        if (!filter->last)
            break;
    }
    return found < 0 ? QC_ERROR : QC_OK;
}

/* `text` without what the pattern matches. */
static qc_status remove_all(qc_task_matcher *m, const char *where, const char *pattern, qc_str *text)
{
    const PCRE2_SIZE *offsets;
    size_t groups, from = 0;
    int found;
    qc_task_text old = {text->data, text->length};
    qc_str_clear(&m->other);
    while ((found = find(m, where, pattern, old, from, &offsets, &groups)) == 1) {
        qc_str_add_bytes(&m->other, old.data + from, offsets[0] - from);
        from = offsets[1];
    }
    if (found < 0)
        return QC_ERROR;
    qc_str_add_bytes(&m->other, old.data + from, old.length - from);
    qc_str_clear(text);
    qc_str_add_bytes(text, m->other.data, m->other.length);
    return QC_OK;
}

qc_status qc_task_match_apply(qc_task_matcher *m, const char *where, const qc_task_match *match,
    qc_task_text answer, qc_task_text target, bool *equal)
{
    const qc_task_text both[2] = {answer, target};
    for (size_t i = 0; i < 2; i++) {
        qc_str *text = &m->texts[i];
        qc_str_clear(text);
        qc_str_add_bytes(text, both[i].data, both[i].length);
        for (size_t k = 0; k < match->ignored_count; k++)
            if (remove_all(m, where, match->ignored[k], text))
                return QC_ERROR;
        if (match->ignore_case) {
            qc_str_clear(&m->other);
            qc_python_lower(text->data, text->length, &m->other);
            qc_str_clear(text);
            qc_str_add_bytes(text, m->other.data, m->other.length);
        }
    }
    *equal = m->texts[0].length == m->texts[1].length &&
             memcmp(m->texts[0].data, m->texts[1].data, m->texts[0].length) == 0;
    return QC_OK;
}
