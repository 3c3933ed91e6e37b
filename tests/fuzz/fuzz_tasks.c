/* SPDX-License-Identifier: MIT
 *
 * fuzz_tasks.c - any bytes as a task: the first says with how many shots, the rest is the file. What is taken can be scored, as if
 * nothing had been answered, and printed; its samples are read back and score the same. What is refused is said in one error.
 */
#include <stdio.h>
#include <stdlib.h>

#include "runtime/tasks/task.h"

/* A sample holds a line one level deeper than it was. */
enum { MAX_BRACKETS = 100 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_tasks: %s\n", what);
    abort();
}

static size_t brackets(const char *text, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += text[i] == '[' || text[i] == '{';
    return count;
}

static void check_scores(qc_diag *diag, qc_arena *arena, qc_task *task, bool reads_back)
{
    qc_task again;
    qc_str table, json, samples, second;
    qc_str *const all[] = {&table, &json, &samples, &second};
    for (size_t i = 0; i < 4; i++)
        qc_str_init(all[i], arena);
    demand(qc_task_score(diag, arena, task) == QC_OK, "a task that is taken is not scored");
    qc_task_print_table(task, arena, &table);
    qc_task_print_json(task, "model", arena, &json);
    qc_task_print_samples(task, arena, &samples);
    if (reads_back) {
        qc_task_options options = {.shots = -1};
        demand(qc_task_parse(diag, arena, "samples", samples.data, samples.length, &options, &again) == QC_OK,
            "samples are not read back");
        demand(again.row_count == task->row_count && again.doc_count == task->doc_count, "they hold less");
        demand(qc_task_score(diag, arena, &again) == QC_OK, "they are not scored");
        qc_task_print_samples(&again, arena, &second);
        demand(strcmp(samples.data, second.data) == 0, "they change when they are written again");
    }
    for (size_t i = 0; i < 4; i++)
        qc_str_fini(all[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qc_arena arena;
    qc_diag diag;
    qc_task task;
    if (size == 0)
        return 0;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, NULL, NULL);
    char *copy = malloc(size); /* of exactly this size, so that reading past it is seen */
    demand(copy != NULL, "out of memory");
    memcpy(copy, data, size);
    qc_task_options options = {.shots = data[0] % 4 - 1, .limit = data[0] / 4 % 4};
    qc_status status = qc_task_parse(&diag, &arena, "t.jsonl", copy + 1, size - 1, &options, &task);
    bool reads_back = brackets(copy, size) <= MAX_BRACKETS;
    free(copy);
    demand(diag.error_count == (status == QC_OK ? 0 : 1), "one error for each refusal");
    if (status == QC_OK)
        check_scores(&diag, &arena, &task, reads_back);
    demand(diag.error_count == (status == QC_OK ? 0 : 1), "an error later");
    qc_arena_fini(&arena);
    return 0;
}
