/* SPDX-License-Identifier: MIT
 *
 * test_eval.c - statistics, windows, and an evaluation over two executors of the test's own: a table of
 * logits, the row chosen by the last token. Expected numbers are numpy's (f64 log-softmax, std with ddof 1,
 * quantile).
 */
#include "runtime/eval.h"

#include "tests/unit/check.h"

/* ---- executors of four tokens -------------------------------------------------------------------------- */

struct qc_executor {
    float rows[4][4];
    int64_t vocabulary;
};

static qc_executor table_a = {{{0, 1, 2, 3}, {3, 2, 1, 0.5f}, {0, 0, 0, 0}, {-1, 4, 2.5f, 0}}, 4};
static qc_executor table_b = {
    {{0.1f, 0.8f, 2.3f, 3}, {3, 3.5f, 1, 0.5f}, {0.5f, 0, -0.5f, 0}, {-1, 2, 2.5f, 1}}, 4};

qc_executor *qc_executor_create(qc_ctx *ctx, qc_module *module, const qc_executor_options *options)
{
    (void)ctx;
    (void)module;
    (void)options;
    return NULL;
}

void qc_executor_destroy(qc_executor *executor)
{
    (void)executor;
}

int64_t qc_executor_vocabulary(const qc_executor *executor)
{
    return executor->vocabulary;
}

qc_status qc_executor_run_many(qc_executor *executor, const qc_sequence *sequences, size_t count,
    qc_emit_fn emit, void *user, qc_progress_fn progress, void *progress_user)
{
    float logits[16][4];
    (void)progress;
    (void)progress_user;
    for (size_t i = 0; i < count; i++) {
        for (size_t t = 0; t < sequences[i].count && t < 16; t++)
            memcpy(logits[t], executor->rows[sequences[i].ids[t]], sizeof logits[t]);
        if (emit(user, i, logits[0]))
            return QC_ERROR;
    }
    return QC_OK;
}

/* ---- statistics ---------------------------------------------------------------------------------------- */

static char last_message[512];

static void keep_message(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user;
    (void)severity;
    snprintf(last_message, sizeof last_message, "%s: %s", where, what);
}

static void test_mean(void)
{
    static const double values[] = {3.5, -1.25, 7.0, 0.5, 2.0, 9.75, 4.0};
    qc_mean mean = {0};
    CHECK(isnan(qc_mean_error(&mean)));
    qc_mean_add(&mean, values[0]);
    CHECK(mean.mean == 3.5);
    CHECK(isnan(qc_mean_error(&mean)));
    for (size_t i = 1; i < 7; i++)
        qc_mean_add(&mean, values[i]);
    CHECK_INT(mean.count, 7);
    CHECK_NEAR(mean.mean, 3.642857142857143, 1e-14);
    CHECK_NEAR(qc_mean_error(&mean), 1.424547905369938, 1e-14);
}

static void test_quantile(void)
{
    double values[] = {3.5, -1.25, 7.0, 0.5, 2.0, 9.75, 4.0};
    CHECK(qc_quantile(values, 7, 0) == -1.25);
    CHECK(qc_quantile(values, 7, 0.25) == 1.25);
    CHECK(qc_quantile(values, 7, 0.5) == 3.5);
    CHECK_NEAR(qc_quantile(values, 7, 0.9), 8.1, 1e-14);
    CHECK_NEAR(qc_quantile(values, 7, 0.999), 9.7335, 1e-12);
    CHECK(qc_quantile(values, 7, 1) == 9.75);
    CHECK(qc_quantile(values, 1, 0.999) == -1.25);
    CHECK(isnan(qc_quantile(values, 0, 0.5)));
}

/* Of 0, 1, .. 99: s = sqrt(0.9 * 0.1 / 100) = 0.03, quantiles at 0.93 and 0.87 are 92.07 and 86.13. */
static void test_quantile_error(void)
{
    double values[100];
    for (int i = 0; i < 100; i++)
        values[i] = i;
    CHECK_NEAR(qc_quantile_error(values, 100, 0.9), 2.97, 1e-12);
    CHECK(isnan(qc_quantile_error(values, 100, 0.999))); /* too few to tell */
    CHECK(isnan(qc_quantile_error(values, 0, 0.5)));
}

/* ---- windows ------------------------------------------------------------------------------------------- */

static const int32_t ten[] = {10, 11, 12, 13, 14, 15, 16, 17, 18, 19}, bos[] = {1};

static qc_status cut(qc_arena *arena, size_t count, bool prefix, int64_t context, qc_eval_windows *windows)
{
    qc_diag diag;
    qc_diag_init(&diag, arena, keep_message, NULL);
    return qc_eval_windows_cut(&diag, arena, "text", ten, count, bos, prefix, context, windows);
}

static void check_window(const qc_eval_windows *windows, size_t index, const int32_t *ids, size_t count)
{
    CHECK(index < windows->count);
    if (index >= windows->count)
        return;
    CHECK_INT(windows->items[index].count, count);
    CHECK_INT(windows->items[index].first, 1);
    CHECK(memcmp(windows->items[index].ids, ids, count * sizeof *ids) == 0);
}

static void test_windows_with_prefix(void)
{
    qc_arena arena;
    qc_eval_windows windows;
    qc_arena_init(&arena, NULL);
    CHECK(cut(&arena, 10, true, 4, &windows) == QC_OK); /* BOS and three; the last has BOS and one */
    CHECK_INT(windows.count, 4);
    CHECK_INT(windows.scored, 10);
    check_window(&windows, 0, (int32_t[]){1, 10, 11, 12}, 4);
    check_window(&windows, 2, (int32_t[]){1, 16, 17, 18}, 4);
    check_window(&windows, 3, (int32_t[]){1, 19}, 2);
    CHECK(cut(&arena, 10, true, 100, &windows) == QC_OK);
    CHECK_INT(windows.count, 1);
    CHECK_INT(windows.scored, 10);
    qc_arena_fini(&arena);
}

static void test_windows_without_prefix(void)
{
    qc_arena arena;
    qc_eval_windows windows;
    qc_arena_init(&arena, NULL);
    CHECK(cut(&arena, 10, false, 4, &windows) == QC_OK);
    CHECK_INT(windows.count, 3);
    CHECK_INT(windows.scored, 3 + 3 + 1);
    check_window(&windows, 0, ten, 4);
    check_window(&windows, 2, ten + 8, 2);
    CHECK(cut(&arena, 9, false, 4, &windows) == QC_OK); /* one token alone scores nothing */
    CHECK_INT(windows.count, 2);
    CHECK_INT(windows.scored, 6);
    qc_arena_fini(&arena);
}

static void test_windows_refused(void)
{
    qc_arena arena;
    qc_eval_windows windows;
    qc_arena_init(&arena, NULL);
    CHECK(cut(&arena, 10, true, 1, &windows) == QC_ERROR);
    CHECK_STR(last_message, "text: a context of 1 tokens leaves none to score; it takes at least 2");
    CHECK(cut(&arena, 10, false, 1, &windows) == QC_ERROR);
    CHECK(cut(&arena, 1, false, 4, &windows) == QC_ERROR);
    CHECK_STR(last_message, "text: the text has 1 token: nothing to score");
    CHECK(cut(&arena, 0, true, 4, &windows) == QC_ERROR);
    qc_arena_fini(&arena);
}

/* ---- evaluation ---------------------------------------------------------------------------------------- */

static uint64_t progress_done, progress_total;

static void keep_progress(void *user, const char *what, const char *unit, uint64_t done, uint64_t total)
{
    (void)user;
    (void)what;
    (void)unit;
    CHECK(done >= progress_done && done <= total);
    progress_done = done;
    progress_total = total;
}

static qc_eval_window items[] = {
    {(const int32_t[]){0, 1, 2, 3, 1}, 5, 1},
    {(const int32_t[]){3, 0, 0, 2}, 4, 2},
    {(const int32_t[]){2, 3}, 2, 1},
};
static const qc_eval_windows three = {.items = items, .count = 3, .scored = 7};

static void out_of_memory(size_t size_bytes)
{
    (void)size_bytes;
    exit(99);
}

static qc_status evaluate(qc_executor *model, qc_executor *baseline, int threads, qc_eval_result *result)
{
    qc_ctx *ctx = qc_ctx_create(out_of_memory, keep_message, NULL);
    qc_model a = {.ctx = ctx, .path = "model", .executor = model},
             b = {.ctx = ctx, .path = "baseline", .executor = baseline};
    qc_eval_options options = {.threads = threads, .progress = keep_progress};
    progress_done = progress_total = 0;
    qc_status status = qc_eval_run(&a, baseline ? &b : NULL, &three, &options, result);
    qc_ctx_destroy(ctx);
    return status;
}

static void test_perplexity(void)
{
    qc_eval_result r;
    CHECK(evaluate(&table_b, NULL, 1, &r) == QC_OK);
    CHECK_INT(r.loss.count, 7);
    CHECK_NEAR(r.loss.mean, 2.056369000750528, 1e-6);
    CHECK_NEAR(qc_mean_error(&r.loss), 0.36452153668662574, 1e-6);
    CHECK(!r.has_baseline);
    CHECK_INT(progress_done, 7);
    CHECK_INT(progress_total, 7);
}

static qc_executor *open_table(void *user, size_t index)
{
    size_t *open = user;
    *open += index;
    return index ? &table_a : &table_b;
}

static void close_table(void *user, size_t index)
{
    size_t *open = user;
    *open -= index;
}

static void test_subjects(void)
{
    qc_eval_result r, both[2];
    double first[7], second[7];
    size_t open = 0;
    qc_ctx *ctx = qc_ctx_create(out_of_memory, keep_message, NULL);
    qc_eval_options options = {.threads = 1, .progress = keep_progress};
    qc_eval_subjects subjects = {2, (const char *const[]){"b", "a"}, open_table, close_table, &open};
    progress_done = progress_total = 0;
    CHECK(qc_eval_run_subjects(ctx, &table_a, "base", &subjects, &three, &options, both,
              (double *const[]){first, second}) == QC_OK);
    CHECK_INT(progress_done, 21);
    CHECK_INT(open, 0);
    CHECK(evaluate(&table_b, &table_a, 1, &r) == QC_OK);
    CHECK(memcmp(&r, &both[0], sizeof r) == 0);
    CHECK(both[1].divergence.mean == 0 && both[1].agreement.mean == 1);
    double sum = 0;
    for (size_t i = 0; i < 7; i++) {
        sum += first[i];
        CHECK(second[i] == 0);
    }
    CHECK_NEAR(sum / 7, r.divergence.mean, 1e-12);
    qc_ctx_destroy(ctx);
}

static void test_comparison(void)
{
    qc_eval_result r, again;
    CHECK(evaluate(&table_b, &table_a, 1, &r) == QC_OK);
    CHECK_NEAR(r.loss.mean, 2.056369000750528, 1e-6);
    CHECK_NEAR(r.baseline_loss.mean, 1.8250886855129527, 1e-6);
    CHECK_NEAR(qc_mean_error(&r.baseline_loss), 0.393249975990969, 1e-6);
    CHECK_NEAR(r.divergence.mean, 0.12685799496921232, 1e-6);
    CHECK_NEAR(qc_mean_error(&r.divergence), 0.06754514076851878, 1e-6);
    CHECK_NEAR(r.divergence_q999, 0.48501097250016245, 1e-6);
    CHECK_NEAR(r.divergence_max, 0.48646511421705985, 1e-6);
    CHECK_NEAR(r.agreement.mean, 5.0 / 7.0, 1e-15);
    CHECK_INT(progress_done, 14);
    CHECK(evaluate(&table_b, &table_a, 3, &again) == QC_OK);
    CHECK(memcmp(&r.divergence, &again.divergence, sizeof r.divergence) == 0);
    CHECK(memcmp(&r.loss, &again.loss, sizeof r.loss) == 0);
    CHECK(evaluate(&table_a, &table_a, 1, &r) == QC_OK);
    CHECK(r.divergence.mean == 0 && r.divergence_max == 0 && r.agreement.mean == 1);
}

static void test_refused(void)
{
    qc_eval_result r;
    qc_executor bad = table_a, small = table_a;
    bad.rows[2][1] = NAN;
    CHECK(evaluate(&bad, NULL, 1, &r) == QC_ERROR);
    CHECK_STR(last_message,
        "model: the logits for token 4 of sequence 1 are not finite or rule it out: there "
        "is no perplexity");
    CHECK(evaluate(&table_a, &bad, 1, &r) == QC_ERROR);
    CHECK(strncmp(last_message, "baseline: ", 10) == 0);
    small.vocabulary = 3;
    CHECK(evaluate(&table_a, &small, 1, &r) == QC_ERROR);
    CHECK_STR(last_message, "baseline: has a vocabulary of 3 tokens, the model one of 4");
}

static void test_printing(void)
{
    qc_eval_result r;
    qc_arena arena;
    qc_str out;
    qc_arena_init(&arena, NULL);
    qc_str_init(&out, &arena);
    CHECK(evaluate(&table_a, &table_a, 1, &r) == QC_OK);
    qc_eval_print_text(&three, &r, &out);
    CHECK_STR(out.data, "perplexity             6.2033 +- 2.4395\n"
                        "baseline perplexity    6.2033 +- 2.4395\n"
                        "KL divergence          0.000000 +- 0.000000\n"
                        "KL divergence, 99.9 %  0.000000\n"
                        "KL divergence, max     0.000000\n"
                        "top-1 agreement        1.00000 +- 0.00000\n"
                        "tokens                 7 scored in 3 sequences\n");
    qc_str_clear(&out);
    r.has_baseline = false;
    r.loss = (qc_mean){.count = 1, .mean = 0};
    qc_eval_print_json("m", NULL, "d\"", &three, &r, &arena, &out);
    CHECK_STR(out.data,
        "{\"model\": \"m\", \"data\": \"d\\\"\", \"context\": null, \"sequences\": 3, \"tokens\": 7, "
        "\"perplexity\": 1.0, \"perplexity_stderr\": null, \"nll\": 0.0}\n");
    qc_str_fini(&out);
    qc_arena_fini(&arena);
}

int main(void)
{
    RUN(test_mean);
    RUN(test_quantile);
    RUN(test_quantile_error);
    RUN(test_windows_with_prefix);
    RUN(test_windows_without_prefix);
    RUN(test_windows_refused);
    RUN(test_perplexity);
    RUN(test_comparison);
    RUN(test_subjects);
    RUN(test_refused);
    RUN(test_printing);
    return check_done();
}
