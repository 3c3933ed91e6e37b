/* SPDX-License-Identifier: MIT
 *
 * test_stats.c - the statistics file: what is saved reads back, parts merge to the bytes of the whole, and
 * every refusal by its words.
 */
#include "tests/unit/check.h"

#include <unistd.h>

#include "ir/support/io.h"
#include "ir/support/safetensors.h"
#include "runtime/stats.h"
#include "tests/unit/messages.h"

typedef struct job {
    messages said;
    qc_arena arena;
    qc_diag diag;
    char directory[32];
} job;

static bool begin(job *j)
{
    *j = (job){.directory = "qc-test-stats-XXXXXX"};
    qc_arena_init(&j->arena, NULL);
    qc_diag_init(&j->diag, &j->arena, keep_message, &j->said);
    return mkdtemp(j->directory) != NULL;
}

static void end(job *j)
{
    CHECK_INT(qc_remove_tree(&j->diag, j->directory), QC_OK);
    qc_arena_fini(&j->arena);
}

/* Records of sequences [first, first + count): every value says where it belongs. */
static qc_stats make(job *j, size_t first, size_t count)
{
    static const struct {
        const char *tap;
        size_t heads;
    } taps[] = {{"a.k", 2}, {"a.q", 4}, {"b.input", 1}};
    qc_stats stats;
    qc_stats_init(&stats, &j->arena);
    for (size_t t = 0; t < 3; t++) {
        qc_stats_record *r = qc_stats_add(&stats, taps[t].tap, QC_STATS_MINMAX, count, taps[t].heads);
        for (size_t i = 0; i < count * taps[t].heads; i++) {
            r->max[i] = (float)(100 * t + first * taps[t].heads + i);
            r->min[i] = -r->max[i] - 0.5f;
        }
    }
    qc_stats_record *squares = qc_stats_add(&stats, "c.input@imatrix", QC_STATS_SQUARES, 0, 3),
                    *means = qc_stats_add(&stats, "a.k@mean", QC_STATS_MEANS, 0, 4),
                    *columns = qc_stats_add(&stats, "a.k", QC_STATS_CHANNELS, 0, 4);
    for (size_t i = first; i < first + count; i++) {
        squares->tokens += (int64_t)(10 + i);
        means->tokens += (int64_t)(10 + i);
        for (size_t c = 0; c < 3; c++)
            squares->sums[c] += 0.125 * (double)(i + c + 1);
        for (size_t c = 0; c < 4; c++) {
            /* the largest in the middle, the smallest at the end */
            means->sums[c] += 0x1p-24 * (double)(i + 1) - 0x1p20 * (double)c;
            columns->min[c] = fminf(columns->min[c], -(float)(i + c));
            columns->max[c] = fmaxf(columns->max[c], (float)(i * (5 - i)) + (float)c);
        }
    }
    return stats;
}

static char *save(job *j, const qc_stats *stats, const char *name, size_t *length)
{
    char *path = qc_path_join(&j->arena, j->directory, name), *bytes = NULL;
    CHECK_INT(qc_stats_save(&j->diag, stats, path), QC_OK);
    CHECK_INT(qc_read_file(&j->diag, &j->arena, path, 1 << 20, &bytes, length), QC_OK);
    return bytes;
}

static void test_round_trip(void)
{
    job j;
    size_t length, again_length;
    if (!begin(&j))
        SKIP("no directory can be made here");
    qc_stats stats = make(&j, 0, 5), read;
    char *bytes = save(&j, &stats, "whole", &length);
    qc_stats_init(&read, &j.arena);
    CHECK_INT(qc_stats_load(&j.diag, &read, qc_path_join(&j.arena, j.directory, "whole")), QC_OK);
    CHECK_INT(read.records.count, 6);
    const qc_stats_record *squares = qc_stats_find(&read, "c.input@imatrix", QC_STATS_SQUARES);
    CHECK(squares && squares->kind == QC_STATS_SQUARES && squares->columns == 3 && squares->tokens == 60);
    CHECK(squares && squares->sums[2] == 3.125);
    const qc_stats_record *means = qc_stats_find(&read, "a.k@mean", QC_STATS_MEANS);
    CHECK(means && means->columns == 4 && means->tokens == 60 && means->sums[0] == 15 * 0x1p-24);
    CHECK(means && means->sums[3] == 15 * 0x1p-24 - 15 * 0x1p20);
    const qc_stats_record *columns = qc_stats_find(&read, "a.k", QC_STATS_CHANNELS);
    CHECK(columns && columns->columns == 4 && columns->min[3] == -7 && columns->max[3] == 9);
    CHECK(columns && columns != qc_stats_find(&read, "a.k", QC_STATS_MINMAX));
    const qc_stats_record *r = qc_stats_find(&read, "a.q", QC_STATS_MINMAX);
    CHECK(r && r->sequences == 5 && r->heads == 4 && r->max[7] == 107.0f && r->min[7] == -107.5f);
    CHECK(qc_stats_find(&read, "a.v", QC_STATS_MINMAX) == NULL);
    CHECK(qc_stats_find(&read, "a.q", QC_STATS_SQUARES) == NULL);
    char *again = save(&j, &read, "again", &again_length);
    CHECK(length == again_length && memcmp(bytes, again, length) == 0);
    end(&j);
}

static void test_merge(void)
{
    job j;
    size_t length, merged_length;
    if (!begin(&j))
        SKIP("no directory can be made here");
    qc_stats whole = make(&j, 0, 6), a = make(&j, 0, 2), b = make(&j, 2, 3), c = make(&j, 5, 1);
    CHECK_INT(qc_stats_merge(&j.diag, &a, &b, "b"), QC_OK);
    CHECK_INT(qc_stats_merge(&j.diag, &a, &c, "c"), QC_OK);
    char *bytes = save(&j, &whole, "whole", &length), *merged = save(&j, &a, "merged", &merged_length);
    CHECK(length == merged_length && memcmp(bytes, merged, length) == 0);
    qc_stats_add(&b, "c.input", QC_STATS_MINMAX, 3, 1);
    CHECK_INT(qc_stats_merge(&j.diag, &a, &b, "b"), QC_ERROR);
    CHECK(said(&j.said, "b: it holds 7 statistics, the others 6"));
    qc_stats other = make(&j, 0, 1);
    qc_stats_add(&other, "a.q", QC_STATS_MINMAX, 1, 8);
    CHECK_INT(qc_stats_merge(&j.diag, &a, &other, "other"), QC_ERROR);
    CHECK(said(&j.said, "other: a.q is missing or has other heads"));
    qc_stats otherwise = make(&j, 0, 1);
    qc_stats_add(&otherwise, "a.k", QC_STATS_CHANNELS, 0, 5);
    CHECK_INT(qc_stats_merge(&j.diag, &a, &otherwise, "otherwise"), QC_ERROR);
    CHECK(said(&j.said, "otherwise: a.k is missing or has other heads or columns"));
    end(&j);
}

/* Four experts: the counts of tokens, and a range of those that saw some. */
static qc_stats make_experts(job *j, const int64_t tokens[4])
{
    qc_stats stats;
    qc_stats_init(&stats, &j->arena);
    qc_stats_record *r = qc_stats_add(&stats, "m.experts", QC_STATS_TOKENS, 0, 4);
    for (size_t e = 0; e < 4; e++) {
        r->routed[e] = r->seen[e] = tokens[e];
        if (!tokens[e])
            continue;
        const char *tap = qc_arena_printf(&j->arena, "m.experts.%zu.down.input", e);
        qc_stats_record *range = qc_stats_add(&stats, tap, QC_STATS_MINMAX, 1, 1);
        range->max[0] = (float)tokens[e];
        range->min[0] = -1.0f;
        qc_stats_record *squares = qc_stats_add(&stats, tap, QC_STATS_SQUARES, 0, 2);
        squares->tokens = tokens[e];
        squares->sums[1] = 0.5;
    }
    return stats;
}

/* Files may lack what is of experts that saw nothing, and of no others. */
static void test_experts(void)
{
    static const int64_t first[4] = {3, 0, 5, 0}, second[4] = {0, 2, 7, 0}, none[4] = {0};
    job j;
    size_t length, expert = 9;
    if (!begin(&j))
        SKIP("no directory can be made here");
    qc_stats a = make_experts(&j, first), b = make_experts(&j, second), read;
    save(&j, &a, "experts", &length);
    qc_stats_init(&read, &j.arena);
    CHECK_INT(qc_stats_load(&j.diag, &read, qc_path_join(&j.arena, j.directory, "experts")), QC_OK);
    CHECK_INT(read.records.count, 5);
    CHECK_INT(qc_stats_merge(&j.diag, &read, &b, "b"), QC_OK);
    const qc_stats_record *tokens = qc_stats_find_experts(&read, "m.experts.2.down.input", &expert);
    CHECK(tokens && expert == 2 && tokens->routed[2] == 12 && tokens->seen[0] == 3 && tokens->seen[3] == 0);
    CHECK(!qc_stats_find_experts(&read, "m.experts.4.down.input", &expert));
    CHECK(!qc_stats_find_experts(&read, "m.experts.down.input", &expert));
    const qc_stats_record *both = qc_stats_find(&read, "m.experts.2.down.input", QC_STATS_MINMAX),
                          *new = qc_stats_find(&read, "m.experts.1.down.input", QC_STATS_MINMAX);
    CHECK(both && both->sequences == 2 && both->max[1] == 7.0f);
    CHECK(new &&new->sequences == 1 && new->max[0] == 2.0f);
    const qc_stats_record *squares = qc_stats_find(&read, "m.experts.2.down.input", QC_STATS_SQUARES);
    CHECK(squares && squares->tokens == 12 && squares->sums[1] == 1);
    CHECK(!qc_stats_find(&read, "m.experts.3.down.input", QC_STATS_MINMAX));
    /* what is missing of an expert that saw tokens is missing */
    b = make_experts(&j, none);
    ((qc_stats_record *)qc_stats_find(&b, "m.experts", QC_STATS_TOKENS))->seen[1] = 2;
    CHECK_INT(qc_stats_merge(&j.diag, &read, &b, "b"), QC_ERROR);
    CHECK(said(&j.said, "b: m.experts.1.down.input is missing"));
    a = make_experts(&j, first);
    a.records.entries[0].value = qc_stats_add(&b, "n.experts", QC_STATS_TOKENS, 0, 4);
    CHECK_INT(qc_stats_merge(&j.diag, &b, &a, "a"), QC_ERROR);
    end(&j);
}

/* A file of up to two F32 tensors [rows, columns]. */
static void check_refused(
    const char *first, int64_t rows, const char *second, float value, const char *message)
{
    job j;
    char *header;
    size_t header_bytes, count = second ? 2 : 1;
    int64_t shapes[2][2] = {{rows, 2}, {2, 2}};
    qc_st_out out[2] = {{.name = first, .dtype = "F32", .rank = 2, .shape = shapes[0]},
        {.name = second, .dtype = "F32", .rank = 2, .shape = shapes[1]}};
    qc_stats stats;
    if (!begin(&j))
        SKIP("no directory can be made here");
    CHECK_INT(qc_st_layout(&j.diag, &j.arena, out, count, false, &header, &header_bytes), QC_OK);
    qc_str file;
    qc_str_init(&file, &j.arena);
    qc_str_add_bytes(&file, header, header_bytes);
    for (size_t i = 0; i < count; i++)
        for (uint64_t k = 0; k < out[i].size_bytes / sizeof value; k++) {
            float x = qc_ends_with(out[i].name, ".min") ? value : 1.0f;
            qc_str_add_bytes(&file, (const char *)&x, sizeof x);
        }
    char *path = qc_path_join(&j.arena, j.directory, "stats");
    CHECK_INT(qc_write_file(&j.diag, path, file.data, file.length), QC_OK);
    qc_str_fini(&file);
    qc_stats_init(&stats, &j.arena);
    CHECK_INT(qc_stats_load(&j.diag, &stats, path), message ? QC_ERROR : QC_OK);
    CHECK(!message || said(&j.said, message));
    end(&j);
}

static void test_refusals(void)
{
    check_refused("a.max", 2, "a.min", -1.0f, NULL);
    check_refused("a.min", 2, NULL, 0.0f, "a has no .max beside its .min");
    check_refused("a.max", 3, "a.min", 0.0f, "must be F32 [sequences, heads], alike for .min and .max");
    check_refused("a.max", 2, "a.min", NAN, "a.min holds a value that is not finite");
    check_refused("a.max", 2, "a.min", -INFINITY, "a.min holds a value that is not finite");
    check_refused("a.max", 2, "a.min", 2.0f, "a: a minimum is above its maximum");
    check_refused("a.weight", 2, NULL, 0.0f,
        "a.weight is no statistic: names end in .min and .max, .channel_min and .channel_max, .squares or "
        ".sums");
    check_refused("a.squares", 2, NULL, 0.0f, "a has no .tokens beside its .squares");
    check_refused(
        "a.squares", 2, "a.tokens", 0.0f, "a.squares must be F64 [columns], and its .tokens I64 [1]");
    check_refused("a.sums", 2, NULL, 0.0f, "a has no .tokens beside its .sums");
    check_refused("a.sums", 2, "a.tokens", 0.0f, "a.sums must be F64 [columns], and its .tokens I64 [1]");
    check_refused("a.channel_min", 2, NULL, 0.0f, "a has no .channel_max beside its .channel_min");
    check_refused("a.channel_max", 2, "a.channel_min", 0.0f,
        "must be F32 [columns], alike for .channel_min and .channel_max");
    check_refused("a.routed_tokens", 2, NULL, 0.0f, "a has no .seen_tokens beside its .routed_tokens");
    check_refused("a.routed_tokens", 2, "a.seen_tokens", 0.0f,
        "must be I64 [experts], alike for .routed_tokens and .seen_tokens");
    check_refused("a.tokens", 2, NULL, 0.0f, "there are no statistics in it");
    check_refused("a.max", 2, NULL, 0.0f, "there are no statistics in it");
}

static void test_missing_file(void)
{
    job j;
    qc_stats stats;
    if (!begin(&j))
        SKIP("no directory can be made here");
    qc_stats_init(&stats, &j.arena);
    CHECK_INT(qc_stats_load(&j.diag, &stats, qc_path_join(&j.arena, j.directory, "none")), QC_ERROR);
    CHECK(said(&j.said, "none"));
    end(&j);
}

int main(void)
{
    RUN(test_round_trip);
    RUN(test_merge);
    RUN(test_experts);
    RUN(test_refusals);
    RUN(test_missing_file);
    return check_done();
}
