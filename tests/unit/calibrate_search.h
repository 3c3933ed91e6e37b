/* SPDX-License-Identifier: MIT
 *
 * calibrate_search.h - part of test_calibrate.c: ranges with the least error and sums of squares, of a function whose
 * activations the test knows, against what a plain loop finds.
 */
#ifndef QC_TESTS_CALIBRATE_SEARCH_H
#define QC_TESTS_CALIBRATE_SEARCH_H

#include "ir/dtype/mse.h"

enum { ROWS = 8, COLUMNS = 12, SEQUENCES = 9 };

/* Parses `text`, whose weight w is a table [8, 12] that lies in a new directory. */
static bool open_text(job *j, char *directory, float *table, const char *text)
{
    uint16_t bytes[ROWS * COLUMNS];
    int64_t shape[2] = {ROWS, COLUMNS};
    qc_st_out out = {.name = "w", .dtype = "BF16", .rank = 2, .shape = shape, .user = bytes};
    uint32_t seed = 77;
    begin(j);
    for (size_t i = 0; i < ROWS * COLUMNS; i++) {
        seed = seed * 1664525u + 1013904223u;
        float x = (float)(int32_t)seed / 2147483648.0f;
        bytes[i] = qc_bf16_from_f32(x * x * x * 5.0f);
        table[i] = qc_bf16_to_f32(bytes[i]);
    }
    if (!mkdtemp(directory) || !write_shard(qc_ctx_diag(j->ctx), &j->arena, directory, &out, 1))
        return false;
    j->module = qc_module_parse(j->ctx, "test", text, strlen(text));
    if (!j->module || qc_module_verify(j->module, NULL) != QC_OK) {
        CHECK_FAIL("%s", j->said.last);
        return false;
    }
    qc_module_set_source(j->module, directory);
    return true;
}

/* A function that looks up rows of a table [8, 12] and observes them in three ways. */
static bool open_table(job *j, char *directory, float *table)
{
    static const char text[] =
        "qc 1\ndim B, S, P\nmodule \"\" Root\nmodule \"a\" Linear\n"
        "scheme @s {arith = ct_cpu, input = {granularity = tensor, observer = mse, type = i4}, targets = "
        "[\"a\"]}\n"
        "func @main(%ids: i64[B, S]) -> bf16[B, S, 12] {\n"
        "  at \"a\" {\n"
        "  %w = weight \"w\" : bf16[8, 12]\n  %x = embedding %ids, %w : bf16[B, S, 12]\n"
        "  %a = observe %x {arg = input, granularity = tensor, observer = mse, scheme = @s, tap = \"a\"} : "
        "bf16[2, 1]\n"
        "  %h = split_heads %x {heads = 3} : bf16[B, 3, S, 4]\n"
        "  %b = observe %h {arg = input, granularity = head, observer = memoryless_mse, scheme = @s, tap = "
        "\"b\"} : "
        "bf16[2, 3]\n"
        "  %c = observe %x {granularity = channel, observer = imatrix, tap = \"c\"} : f32[12]\n"
        "  %d = observe %h {granularity = tensor, tap = \"d\"} : bf16[2, 1]\n"
        "  }\n  return %x\n}\n";
    return open_text(j, directory, table, text);
}

/* Sequences of rows of the table. */
static void table_data(job *j)
{
    random_data(j, SEQUENCES, 40);
    for (size_t s = 0; s < SEQUENCES; s++)
        for (size_t t = 0; t < j->data.sequences[s].count; t++)
            ((int32_t *)(uintptr_t)j->data.sequences[s].ids)[t] %= ROWS;
}

/* The range with the least error among [min, max] * (1 - i / 100), i < 20, under asymmetric INT4. */
static void search_plainly(const float *x, size_t count, float *min, float *max)
{
    qc_quantizer q = {.arith = qc_arith_find("ct_cpu", 6), .model_dtype = QC_BF16, .grid = qc_grid_of(QC_I4)};
    float low = x[0], high = x[0], best = INFINITY;
    int without = 0;
    for (size_t i = 0; i < count; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    for (int step = 0; step < 20 && without < 5; step++) {
        float p = 1.0f - (float)step / 100.0f, l = qc_round_bf16(low * p), h = qc_round_bf16(high * p), scale,
              zero;
        double error = 0;
        qc_quantizer_scale(&q, l, h, 0, &scale, &zero);
        for (size_t i = 0; i < count; i++) {
            uint16_t bits = qc_bf16_from_f32(x[i]), back;
            uint8_t code;
            qc_quantizer_quantize(&q, &bits, 1, scale, 0, zero, &code);
            qc_quantizer_dequantize(&q, QC_BF16, &code, 1, scale, 0, zero, &back);
            float e = fabsf(qc_round_bf16(qc_bf16_to_f32(back) - x[i]));
            error += (double)qc_round_bf16((float)pow((double)e, 2.40625));
        }
        without++;
        if (qc_round_bf16((float)error) < best) {
            best = qc_round_bf16((float)error);
            *min = l;
            *max = h;
            without = 0;
        }
    }
}

static void check_tables(job *j, const float *table)
{
    const qc_stats_record *a = qc_stats_find(&j->stats, "a", QC_STATS_MINMAX),
                          *b = qc_stats_find(&j->stats, "b", QC_STATS_MINMAX),
                          *c = qc_stats_find(&j->stats, "c", QC_STATS_SQUARES),
                          *d = qc_stats_find(&j->stats, "d", QC_STATS_MINMAX);
    double squares[COLUMNS] = {0};
    qc_mse mse;
    qc_quantizer q = {.arith = qc_arith_find("ct_cpu", 6), .model_dtype = QC_BF16, .grid = qc_grid_of(QC_I4)};
    CHECK(qc_mse_from_observer("memoryless_mse", 14, &mse));
    CHECK(a && b && c && d && a->heads == 1 && b->heads == 3 && d->heads == 3 && c->columns == COLUMNS);
    CHECK_INT(c->tokens, (int64_t)j->data.token_count);
    for (size_t s = 0; s < j->data.count; s++) {
        const qc_token_sequence *sequence = &j->data.sequences[s];
        size_t tokens = sequence->count;
        float *x = QC_NEW_ARRAY(&j->arena, float, tokens *COLUMNS), min = 0, max = 0;
        uint16_t *heads = QC_NEW_ARRAY(&j->arena, uint16_t, tokens * COLUMNS);
        double of_sequence[COLUMNS] = {0};
        for (size_t t = 0; t < tokens; t++)
            for (size_t i = 0; i < COLUMNS; i++) {
                x[t * COLUMNS + i] = table[(size_t)sequence->ids[t] * COLUMNS + i];
                heads[(i / 4 * tokens + t) * 4 + i % 4] = qc_bf16_from_f32(x[t * COLUMNS + i]);
            }
        search_plainly(x, tokens * COLUMNS, &min, &max);
        CHECK(a->min[s] == min && a->max[s] == max);
        float mins[3], maxs[3];
        uint64_t improved[QC_MSE_WORDS] = {0};
        int64_t columns = (int64_t)tokens * 4;
        CHECK(qc_mse_search(
            &q, &mse, heads, 3, columns, columns, NULL, qc_mse_steps(&mse), mins, maxs, improved));
        int stop = qc_mse_stop_step(&mse, improved);
        CHECK(qc_mse_search(&q, &mse, heads, 3, columns, columns, NULL, stop, mins, maxs, improved));
        CHECK(
            memcmp(mins, b->min + 3 * s, sizeof mins) == 0 && memcmp(maxs, b->max + 3 * s, sizeof maxs) == 0);
        for (size_t i = 0; i < tokens * COLUMNS; i++)
            of_sequence[i % COLUMNS] += (double)x[i] * (double)x[i];
        for (size_t i = 0; i < COLUMNS; i++)
            squares[i] += (double)(float)of_sequence[i];
    }
    CHECK(memcmp(squares, c->sums, sizeof squares) == 0);
}

static void test_searches(void)
{
    char directory[] = "qc-test-calibrate-XXXXXX";
    float table[ROWS * COLUMNS];
    qc_stats first;
    job j;
    if (!open_table(&j, directory, table))
        SKIP("no directory can be made here");
    table_data(&j);
    for (int threads = 1; threads <= 4; threads++) {
        if (!calibrate(&j, threads, 0))
            return;
        check_tables(&j, table);
        if (threads > 1)
            CHECK(same_stats(&first, &j.stats));
        first = j.stats;
    }
    CHECK_INT(qc_calibrate_resolve(j.ctx, j.module, &j.stats), QC_OK);
    CHECK_INT(qc_module_verify(j.module, "calibrate"), QC_OK);
    const qc_stats_record *a = qc_stats_find(&j.stats, "a", QC_STATS_MINMAX),
                          *c = qc_stats_find(&j.stats, "c", QC_STATS_SQUARES);
    size_t constants = 0;
    for (const qc_op *op = qc_func_first_op(qc_module_func(j.module, "main")); op; op = qc_op_next(op)) {
        if (!qc_op_is(op, "const"))
            continue;
        const qc_attr *value = qc_op_attr(op, "value");
        if (constants == 0) { /* a moving average of what was searched */
            float max = a->max[0], stored;
            for (size_t s = 1; s < SEQUENCES; s++)
                max = qc_round_bf16(qc_round_bf16(max * 0.99f) + qc_round_bf16(a->max[s] * 0.01f));
            qc_decode_f32(QC_BF16, (const uint16_t *)qc_attr_data_bytes(value) + 1, &stored, 1);
            CHECK(stored == max);
        } else if (constants == 2) {
            const float *means = qc_attr_data_bytes(value);
            for (size_t i = 0; i < COLUMNS; i++)
                CHECK(means[i] == (float)(c->sums[i] / (double)c->tokens));
        }
        constants++;
    }
    CHECK_INT(constants, 4);
    CHECK_INT(qc_remove_tree(qc_ctx_diag(j.ctx), directory), QC_OK);
    end(&j);
}

/* Statistics of the wrong kind or size under a tap. */
static void test_kinds(void)
{
    char directory[] = "qc-test-calibrate-XXXXXX";
    float table[ROWS * COLUMNS];
    job j;
    if (!open_table(&j, directory, table))
        SKIP("no directory can be made here");
    qc_stats_add(&j.stats, "a", QC_STATS_SQUARES, 0, COLUMNS);
    CHECK_INT(qc_calibrate_resolve(j.ctx, j.module, &j.stats), QC_ERROR);
    CHECK(said(&j.said, "a: its statistics are sums of squares of columns, not ranges of sequences"));
    qc_stats_init(&j.stats, &j.arena);
    qc_stats_record *a = qc_stats_add(&j.stats, "a", QC_STATS_MINMAX, 1, 1),
                    *b = qc_stats_add(&j.stats, "b", QC_STATS_MINMAX, 1, 3);
    for (size_t i = 0; i < 3; i++)
        a->min[0] = b->min[i] = -1, a->max[0] = b->max[i] = 1;
    qc_stats_add(&j.stats, "c", QC_STATS_MINMAX, 1, 1);
    CHECK_INT(qc_calibrate_resolve(j.ctx, j.module, &j.stats), QC_ERROR);
    CHECK(said(&j.said, "c: its statistics are ranges of sequences, not sums of squares of columns"));
    CHECK_INT(qc_remove_tree(qc_ctx_diag(j.ctx), directory), QC_OK);
    end(&j);
}

#endif
