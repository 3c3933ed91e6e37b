/* SPDX-License-Identifier: MIT
 *
 * test_dataset.c - data sets: which ids come out of a file, and what is said of a bad one.
 */
#include <unistd.h>

#include "check.h"
#include "frontends/text/dataset.h"
#include "ir/support/io.h"
#include "messages.h"

typedef struct fixture {
    messages said;
    qc_arena arena;
    qc_diag diag;
} fixture;

static void fixture_init(fixture *f)
{
    memset(f, 0, sizeof *f);
    qc_arena_init(&f->arena, NULL);
    qc_diag_init(&f->diag, &f->arena, keep_message, &f->said);
}

/* Writes `text` into a file whose name ends in `suffix`; the name is good until the next call. */
static const char *file_with(const char *text, const char *suffix)
{
    static char path[128];
    snprintf(
        path, sizeof path, "%s/qc-dataset-XXXXXX%s", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", suffix);
    int fd = mkstemps(path, (int)strlen(suffix));
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    return path;
}

static qc_status read_text(
    fixture *m, const char *text, const char *suffix, const qc_dataset_options *options, qc_dataset *dataset)
{
    const char *path = file_with(text, suffix);
    qc_status status = qc_dataset_read(&m->diag, &m->arena, path, NULL, options, dataset);
    unlink(path);
    return status;
}

static void test_ids_in_file_order(void)
{
    fixture m;
    fixture_init(&m);
    qc_dataset d;
    qc_dataset_options options = {.vocabulary = 10, .max_tokens = 3};
    CHECK(read_text(&m, "{\"input_ids\": [1, 2]}\n\n{\"text\": 5, \"input_ids\": [3, 4, 5, 6]}", ".jsonl",
              &options, &d) == QC_OK);
    CHECK_INT(d.count, 2);
    CHECK_INT(d.sequences[0].count, 2);
    CHECK_INT(d.sequences[1].count, 3); /* cut on the right */
    CHECK_INT(d.sequences[1].ids[2], 5);
    CHECK_INT(d.sequences[1].line, 3);
    CHECK_INT(d.token_count, 5);
    qc_arena_fini(&m.arena);
}

static void test_samples_and_shuffle(void)
{
    fixture m;
    fixture_init(&m);
    qc_dataset d, e;
    const char *text =
        "{\"input_ids\": [0]}\n{\"input_ids\": [1]}\n{\"input_ids\": [2]}\n{\"input_ids\": [3]}\n"
        "{\"input_ids\": [4]}\n{\"input_ids\": [5]}\n{\"input_ids\": [6]}\n{\"input_ids\": [7]}\n";
    qc_dataset_options options = {.vocabulary = 10, .max_samples = 3};
    CHECK(read_text(&m, text, ".jsonl", &options, &d) == QC_OK);
    CHECK_INT(d.count, 3);
    for (size_t i = 0; i < d.count; i++)
        CHECK_INT(d.sequences[i].ids[0], i);
    options = (qc_dataset_options){.vocabulary = 10, .shuffle = true, .seed = 1};
    CHECK(read_text(&m, text, ".jsonl", &options, &d) == QC_OK &&
          read_text(&m, text, ".jsonl", &options, &e) == QC_OK);
    bool moved = false;
    unsigned seen = 0;
    for (size_t i = 0; i < d.count; i++) {
        CHECK_INT(d.sequences[i].ids[0], e.sequences[i].ids[0]);
        moved = moved || d.sequences[i].ids[0] != (int32_t)i;
        seen |= 1u << d.sequences[i].ids[0];
    }
    CHECK(moved);
    CHECK_INT(seen, 255);
    qc_arena_fini(&m.arena);
}

static void test_random(void)
{
    fixture m;
    fixture_init(&m);
    qc_dataset d, e;
    qc_dataset_options options = {.vocabulary = 7, .max_samples = 5, .max_tokens = 100, .seed = 3};
    CHECK(qc_dataset_random(&m.diag, &m.arena, &options, &d) == QC_OK);
    CHECK(qc_dataset_random(&m.diag, &m.arena, &options, &e) == QC_OK);
    CHECK_INT(d.token_count, 500);
    unsigned seen = 0;
    for (size_t i = 0; i < d.count; i++)
        for (size_t j = 0; j < d.sequences[i].count; j++) {
            CHECK_INT(d.sequences[i].ids[j], e.sequences[i].ids[j]);
            CHECK(d.sequences[i].ids[j] >= 0 && d.sequences[i].ids[j] < 7);
            seen |= 1u << d.sequences[i].ids[j];
        }
    CHECK_INT(seen, 127);
    qc_arena_fini(&m.arena);
}

static void test_bad_files(void)
{
    static const struct {
        const char *text, *suffix, *field, *message;
    } cases[] = {
        {"", ".jsonl", NULL, "there is no sequence in it"},
        {"\n  \n", ".jsonl", NULL, "there is no sequence in it"},
        {"", ".txt", NULL, "there is no sequence in it"},
        {"{\"input_ids\": [1]}\n{\"input_ids\": [1}\n", ".jsonl", NULL, ".jsonl:2:17: "},
        {"{\"input_ids\": [1]}\n[1]\n", ".jsonl", NULL, ".jsonl:2: each line must be a JSON object"},
        {"{\"input_ids\": [1]}\n{\"input_ids\": [10]}\n", ".jsonl", NULL,
            ".jsonl:2: token id 10 is not in the vocabulary of 10 tokens"},
        {"{\"input_ids\": [-1]}\n", ".jsonl", NULL, ".jsonl:1: token id -1 is not"},
        {"{\"input_ids\": [1.5]}\n", ".jsonl", NULL, ".jsonl:1: input_ids must hold integers"},
        {"{\"input_ids\": []}\n", ".jsonl", NULL, ".jsonl:1: the sequence is empty"},
        {"{\"input_ids\": 3}\n", ".jsonl", NULL, ".jsonl:1: input_ids must be a string, a list"},
        {"{\"prompt\": \"x\"}\n", ".jsonl", NULL, "--calib-field=NAME reads another"},
        {"{\"text\": \"x\"}\n", ".jsonl", "prompt", ".jsonl:1: the line has no prompt; it has \"text\""},
        {"{}\n", ".jsonl", "prompt", ".jsonl:1: the line has no prompt; it has nothing"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}\n", ".jsonl", NULL,
            ".jsonl:1: messages need a tokenizer.json and a chat template"},
        {"{\"text\": \"x\"}\n", ".jsonl", NULL, ".jsonl:1: text needs a tokenizer.json"},
        {"words", ".txt", NULL, ".txt: text needs a tokenizer.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture m;
        fixture_init(&m);
        qc_dataset d;
        qc_dataset_options options = {.vocabulary = 10, .field = cases[i].field};
        CHECK(read_text(&m, cases[i].text, cases[i].suffix, &options, &d) == QC_ERROR);
        CHECK_INT(m.diag.error_count, 1);
        CHECK(said(&m.said, cases[i].message));
        qc_arena_fini(&m.arena);
    }
}

static void test_missing_file(void)
{
    fixture m;
    fixture_init(&m);
    qc_dataset d;
    qc_dataset_options options = {0};
    CHECK(qc_dataset_read(&m.diag, &m.arena, "no-such-file.jsonl", NULL, &options, &d) == QC_ERROR);
    CHECK(said(&m.said, "no-such-file.jsonl: "));
    qc_arena_fini(&m.arena);
}

int main(void)
{
    RUN(test_ids_in_file_order);
    RUN(test_samples_and_shuffle);
    RUN(test_random);
    RUN(test_bad_files);
    RUN(test_missing_file);
    return check_done();
}
