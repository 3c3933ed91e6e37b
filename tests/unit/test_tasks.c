/* SPDX-License-Identifier: MIT
 *
 * test_tasks.c - the rules of tasks against what lm-evaluation-harness 0.4.13 gives for the same texts (its RegexFilter and
 * exact_match), its table, names of logs, and what is refused.
 */
#include "frontends/text/python_text.h"
#include "runtime/tasks/internal.h"

#include "tests/unit/check.h"
#include "tests/unit/messages.h"

static messages said_so;
static qc_arena arena;
static qc_diag diag;

static void begin(void)
{
    said_so = (messages){0};
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep_message, &said_so);
}

static bool is_text(qc_task_text text, const char *expected)
{
    return text.length == strlen(expected) && memcmp(text.data, expected, text.length) == 0;
}

/* ---- rules --------------------------------------------------------------------------------------------- */

/* Text; strict-match of gsm8k, gsm8k_cot and gsm8k_cot_llama; flexible-extract. */
static const char *const extracted[][5] = {
    {"#### 18", "18", "[invalid]", "[invalid]", "18"},
    {"a\n#### 1,250. b #### 7", "1,250.", "[invalid]", "[invalid]", "7"},
    {"#### $18", "[invalid]", "[invalid]", "[invalid]", "$18"},
    {"no number", "[invalid]", "[invalid]", "[invalid]", "[invalid]"},
    {"The answer is 5.", "[invalid]", "5", "[invalid]", "5."},
    {"The answer is -3.5, so. The answer is 12!", "[invalid]", "-3.5,", "[invalid]", "12"},
    {"The answer is 7", "[invalid]", "[invalid]", "[invalid]", "7"},
    {"The final answer is 6", "[invalid]", "[invalid]", "6", "6"},
    {"The final answer is $1,200. The final answer is 9 x", "[invalid]", "[invalid]", "9", "9"},
    {"5", "[invalid]", "[invalid]", "[invalid]", "5"},
    {"-5", "[invalid]", "[invalid]", "[invalid]", "-5"},
    {"x-", "[invalid]", "[invalid]", "[invalid]", "[invalid]"},
    {"3.", "[invalid]", "[invalid]", "[invalid]", "3."},
    {"$", "[invalid]", "[invalid]", "[invalid]", "[invalid]"},
    {"..", "[invalid]", "[invalid]", "[invalid]", ".."},
    {"$20 and $5.", "[invalid]", "[invalid]", "[invalid]", "$5."},
    {"1 2 3", "[invalid]", "[invalid]", "[invalid]", "3"},
    {"10-3=7", "[invalid]", "[invalid]", "[invalid]", "7"},
    {"\331\243 4\302\262", "[invalid]", "[invalid]", "[invalid]", "4"},
    {"####  4", "[invalid]", "[invalid]", "[invalid]", "4"},
    {"#### -", "[invalid]", "[invalid]", "[invalid]", "[invalid]"},
    {"#### 5\n#### 6", "5", "[invalid]", "[invalid]", "6"},
    {"\303\2517\303\251", "[invalid]", "[invalid]", "[invalid]", "7"},
    {"- 8", "[invalid]", "[invalid]", "[invalid]", "8"},
    {"-,9", "[invalid]", "[invalid]", "[invalid]", "-,9"},
};

static void test_filters(void)
{
    static const char *const names[] = {"strict-match", "strict-match", "strict-match", "flexible-extract"};
    static const size_t indices[] = {0, 1, 2, 0};
    begin();
    qc_task_matcher *matcher = qc_task_matcher_create(&diag, &arena);
    for (size_t i = 0; i < sizeof extracted / sizeof *extracted; i++)
        for (size_t f = 0; f < 4; f++) {
            const qc_task_filter *filter = qc_task_filter_named(names[f], strlen(names[f]), indices[f]);
            qc_task_text part;
            CHECK(qc_task_filter_apply(matcher, "here", filter, qc_task_text_z(extracted[i][0]), &part) ==
                  QC_OK);
            if (!is_text(part, extracted[i][f + 1]))
                CHECK_FAIL("'%s' by filter %zu is '%.*s', expected '%s'", extracted[i][0], f,
                    (int)part.length, part.data, extracted[i][f + 1]);
        }
    CHECK(qc_task_filter_named("strict-match", 12, 3) == NULL);
    CHECK(qc_task_filter_named("strict-matches", 14, 0) == NULL);
    qc_task_matcher_destroy(matcher);
    qc_arena_fini(&arena);
}

/* Answer, target; equal by gsm8k's rules, without regard to case, as they are. */
static const struct {
    const char *answer, *target;
    bool equal[3];
} matched[] = {
    {"18", "x\n#### 18", {true, false, false}},
    {"1,250", "#### 1250", {true, false, false}},
    {"$25", "25", {true, false, false}},
    {"25.", "25", {true, false, false}},
    {"25.0", "25", {false, false, false}},
    {"[invalid]", "18", {false, false, false}},
    {"#### 5\n#### 6", "6", {true, false, false}},
    {"A", "a", {true, true, false}},
    {"\303\211", "\303\251", {true, true, false}},
    {"5.\n", "5\n", {true, false, false}},
    {"5..", "5.", {false, false, false}},
    {"18", "18 ", {false, false, false}},
    {"", "#### ", {true, false, false}},
    {"7", "a #### 6 #### 7", {true, false, false}},
    {".", "", {true, false, false}},
};

static void test_matches(void)
{
    begin();
    qc_task_matcher *matcher = qc_task_matcher_create(&diag, &arena);
    for (size_t i = 0; i < sizeof matched / sizeof *matched; i++)
        for (size_t k = 0; k < 3; k++) {
            bool equal = !matched[i].equal[k];
            CHECK(qc_task_match_apply(matcher, "here", qc_task_match_at(k), qc_task_text_z(matched[i].answer),
                      qc_task_text_z(matched[i].target), &equal) == QC_OK);
            if (equal != matched[i].equal[k])
                CHECK_FAIL("'%s' and '%s' by rules %zu", matched[i].answer, matched[i].target, k);
        }
    CHECK(qc_task_match_at(3) == NULL);
    qc_task_matcher_destroy(matcher);
    qc_arena_fini(&arena);
}

/* A text that is not UTF-8 (no JSON holds one) ends a search with an error; a long one does not take long. */
static void test_hostile_texts(void)
{
    enum { LENGTH = 1 << 20 };
    begin();
    qc_task_matcher *matcher = qc_task_matcher_create(&diag, &arena);
    const qc_task_rules rules = qc_task_gsm8k_rules();
    qc_task_text part;
    CHECK(qc_task_filter_apply(matcher, "FILE:3", rules.filters[0], qc_task_text_z("\xff 1"), &part) ==
          QC_ERROR);
    CHECK(said(&said_so, "FILE:3: the pattern \"####"));
    char *text = malloc(LENGTH + 1);
    memset(text, '#', LENGTH);
    text[LENGTH] = 0;
    bool equal = true;
    CHECK(qc_task_filter_apply(matcher, "", rules.filters[1], qc_task_text_z(text), &part) == QC_OK);
    CHECK(is_text(part, "[invalid]"));
    CHECK(qc_task_match_apply(matcher, "", rules.match, qc_task_text_z(text), qc_task_text_z("1"), &equal) ==
              QC_OK &&
          !equal);
    free(text);
    qc_task_matcher_destroy(matcher);
    qc_arena_fini(&arena);
}

static void test_python_texts(void)
{
    static const struct {
        const char *text, *lower;
        size_t rstrip, length;
    } cases[] = {{"", "", 0, 0}, {"aB \t\n", "ab \t\n", 2, 5}, {"\xc3\x84\xc2\xa0", "\xc3\xa4\xc2\xa0", 2, 2},
        {"x\xe3\x80\x80 ", "x\xe3\x80\x80 ", 1, 3}, {"\xe2\x80\x8b", "\xe2\x80\x8b", 3, 1},
        {"\xf0\x90\x90\x80", "\xf0\x90\x90\xa8", 4, 1}, {"\xc4\xb0", "i\xcc\x87", 2, 1}, {" ", " ", 0, 1}};
    begin();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qc_str lower;
        qc_str_init(&lower, &arena);
        size_t length = strlen(cases[i].text);
        qc_python_lower(cases[i].text, length, &lower);
        CHECK_STR(lower.data, cases[i].lower);
        CHECK_INT(qc_python_rstrip(cases[i].text, length), cases[i].rstrip);
        CHECK_INT(qc_python_length(cases[i].text, length), cases[i].length);
        qc_str_fini(&lower);
    }
    qc_arena_fini(&arena);
}

/* ---- tables and names ---------------------------------------------------------------------------------- */

static void check_table(qc_task *task, const char *expected)
{
    qc_str out;
    qc_str_init(&out, &arena);
    qc_task_print_table(task, &arena, &out);
    CHECK_STR(out.data, expected);
    qc_str_fini(&out);
}

/* The expected tables are those of its make_table. */
static void test_tables(void)
{
    begin();
    qc_task_row rows[] = {{"strict-match", "exact_match", true, 0.5, 0.1},
        {"flexible-extract", "exact_match", true, 0.25, 0.0356}};
    qc_task task = {.name = "gsm8k_few", .version = "3", .shots = 5, .rows = rows, .row_count = 2};
    check_table(&task, "|  Tasks  |Version|     Filter     |n-shot|  Metric   |   |Value|   |Stderr|\n"
                       "|---------|------:|----------------|-----:|-----------|---|----:|---|-----:|\n"
                       "|gsm8k_few|      3|flexible-extract|     5|exact_match|↑  | 0.25|±  |0.0356|\n"
                       "|         |       |strict-match    |     5|exact_match|↑  | 0.50|±  |0.1000|\n");
    rows[0].value = 0.183649;
    rows[1].value = 0.26801;
    rows[0].error = 0.0111;
    rows[1].error = 0.01270;
    task.name = "gsm8k_platinum";
    check_table(&task,
        "|    Tasks     |Version|     Filter     |n-shot|  Metric   |   |Value |   |Stderr|\n"
        "|--------------|------:|----------------|-----:|-----------|---|-----:|---|-----:|\n"
        "|gsm8k_platinum|      3|flexible-extract|     5|exact_match|↑  |0.2680|±  |0.0127|\n"
        "|              |       |strict-match    |     5|exact_match|↑  |0.1836|±  |0.0111|\n");
    qc_task_row lambada[] = {
        {"none", "perplexity", false, 1787.5, NAN}, {"none", "acc", true, 0.625, 0.0346}};
    qc_task other = {.name = "g|x", .shots = -1, .rows = lambada, .row_count = 2};
    check_table(&other, "|Tasks|Version|Filter|n-shot|  Metric  |   | Value  |   |Stderr|\n"
                        "|-----|-------|------|------|----------|---|-------:|---|------|\n"
                        "|g\\|x  |    N/A|none  |      |acc       |↑  |   0.625|±  |0.0346|\n"
                        "|     |       |none  |      |perplexity|↓  |1787.500|±  |   N/A|\n");
    qc_arena_fini(&arena);
}

static void test_names(void)
{
    begin();
    CHECK_STR(qc_task_name(&arena, "a/b/gsm8k_few.jsonl", false), "gsm8k_few");
    CHECK_STR(qc_task_name(&arena, "samples_x.jsonl", false), "samples_x");
    CHECK_STR(
        qc_task_name(&arena, "d/samples_gsm8k_cot_2026-11-21T16-38-03.249124.jsonl", true), "gsm8k_cot");
    CHECK_STR(qc_task_name(&arena, "samples_gsm8k.jsonl", true), "gsm8k");
    CHECK_STR(qc_task_name(&arena, "log", true), "log");
    qc_arena_fini(&arena);
}

int main(void)
{
    RUN(test_filters);
    RUN(test_matches);
    RUN(test_hostile_texts);
    RUN(test_python_texts);
    RUN(test_tables);
    RUN(test_names);
    return check_done();
}
