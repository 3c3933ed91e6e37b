/* SPDX-License-Identifier: MIT
 *
 * calibrate_observers.h - part of test_calibrate.c: ranges of columns and of shares, means, and ranges under R3, of a
 * function whose activations the test knows, against what a plain loop finds.
 */
#ifndef QC_TESTS_CALIBRATE_OBSERVERS_H
#define QC_TESTS_CALIBRATE_OBSERVERS_H

enum { HEADS = 3, SIZE = 4 }; /* of the columns of the table */

/* Looks up rows of a table [8, 12] as 3 heads of 4, and observes them in seven ways. */
static bool open_heads(job *j, char *directory, float *table)
{
    static const char text[] =
        "qc 1\ndim B, S, P\nmodule \"\" Root\nmodule \"a\" Linear\n"
        "scheme @s {arith = ct_cpu, input = {granularity = head, observer = mse_mean, symmetric, type = i8}, "
        "targets = [\"a\"]}\n"
        "func @main(%ids: i64[B, S]) -> bf16[B, S, 12] {\n"
        "  at \"a\" {\n"
        "  %w = weight \"w\" : bf16[8, 12]\n  %x = embedding %ids, %w : bf16[B, S, 12]\n"
        "  %h = split_heads %x {heads = 3} : bf16[B, 3, S, 4]\n"
        "  %a = observe %h {granularity = tensor, tap = \"a.q\"} : bf16[2, 1]\n"
        "  %b = observe %h {granularity = channel, tap = \"a.v\"} : bf16[2, 3, 4]\n"
        "  %c = observe %h {granularity = channel, observer = mean, tap = \"a.k@mean\"} : f32[3, 1, 4]\n"
        "  %d = observe %h {args = {percentile = 80.0}, granularity = head, observer = percentile, tap = "
        "\"d\"} : "
        "bf16[2, 3]\n"
        "  %e = observe %x {args = {recall = 0.5}, granularity = tensor, observer = recall_window, tap = "
        "\"e\"} : "
        "bf16[2, 1]\n"
        "  %f = observe %h {arg = input, granularity = head, observer = mse_mean, scheme = @s, tap = \"f\"} "
        ": "
        "bf16[2, 3]\n"
        "  %g = observe %h {granularity = channel, observer = imatrix, tap = \"g\"} : f32[3, 1, 4]\n"
        "  }\n  return %x\n}\n";
    return open_text(j, directory, table, text);
}

typedef struct sums {
    double sums[COLUMNS], squares[COLUMNS];
    float low[COLUMNS], high[COLUMNS]; /* of columns */
    float turned_low[COLUMNS], turned_high[COLUMNS];
} sums;

/* v H / 2 of four numbers, H Sylvester's. */
static void turn(const float *v, float *y)
{
    float a = v[0] + v[1], b = v[0] - v[1], c = v[2] + v[3], d = v[2] - v[3];
    y[0] = qc_round_bf16((a + c) * 0.5f);
    y[1] = qc_round_bf16((b + d) * 0.5f);
    y[2] = qc_round_bf16((a - c) * 0.5f);
    y[3] = qc_round_bf16((b - d) * 0.5f);
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void check_row(const float *min, const float *max, float low, float high, const char *what, size_t s)
{
    if (*min != low || *max != high)
        CHECK_FAIL("%s of sequence %zu: [%g, %g], expected [%g, %g]", what, s, *min, *max, low, high);
}

/* 80 of 100 magnitudes of each head. */
static void check_percentile(job *j, size_t s, const float *x, size_t tokens)
{
    const qc_stats_record *d = qc_stats_find(&j->stats, "d", QC_STATS_MINMAX);
    float *sorted = QC_NEW_ARRAY(&j->arena, float, tokens *SIZE);
    for (size_t h = 0; h < HEADS; h++) {
        size_t wanted = (tokens * SIZE * 8 + 9) / 10;
        for (size_t i = 0; i < tokens * SIZE; i++)
            sorted[i] = fabsf(x[i / SIZE * COLUMNS + h * SIZE + i % SIZE]);
        qsort(sorted, tokens * SIZE, sizeof *sorted, compare_floats);
        const float a = sorted[wanted - 1];
        check_row(&d->min[s * HEADS + h], &d->max[s * HEADS + h], -a, a, "percentile", s);
    }
}

/* The narrowest half of all. */
static void check_window(job *j, size_t s, const float *x, size_t tokens)
{
    const qc_stats_record *e = qc_stats_find(&j->stats, "e", QC_STATS_MINMAX);
    const size_t count = tokens * COLUMNS, wanted = (count + 1) / 2;
    float *sorted = QC_NEW_ARRAY(&j->arena, float, count), low = 0, high = INFINITY;
    memcpy(sorted, x, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_floats);
    for (size_t i = 0; i + wanted <= count; i++)
        if (sorted[i + wanted - 1] - sorted[i] < high - low) {
            low = sorted[i];
            high = sorted[i + wanted - 1];
        }
    check_row(&e->min[s], &e->max[s], low, high, "window", s);
}

/* No range of the search's grid has a smaller error than the one that it chose, up to where it gave up. */
static void check_mean_search(job *j, size_t s, const float *x, size_t tokens)
{
    const qc_stats_record *f = qc_stats_find(&j->stats, "f", QC_STATS_MINMAX);
    qc_quantizer q = {.arith = qc_arith_find("ct_cpu", 6),
        .model_dtype = QC_BF16,
        .grid = qc_grid_of(QC_I8),
        .symmetric = true};
    for (size_t h = 0; h < HEADS; h++) {
        float amin = INFINITY, amax = -INFINITY;
        double chosen = -1, first = 0;
        for (size_t i = 0; i < tokens * SIZE; i++) {
            float v = x[i / SIZE * COLUMNS + h * SIZE + i % SIZE];
            amin = fminf(amin, v);
            amax = fmaxf(amax, v);
        }
        bool found = false;
        for (int step = 0; step < 46; step++) {
            const float factor = (float)(1 - step / 50.0), low = qc_round_bf16(amin * factor),
                        high = qc_round_bf16(amax * factor);
            float scale, zero;
            double error = 0;
            qc_quantizer_scale(&q, low, high, 0, &scale, &zero);
            for (size_t i = 0; i < tokens * SIZE; i++) {
                uint16_t bits = qc_bf16_from_f32(x[i / SIZE * COLUMNS + h * SIZE + i % SIZE]), back;
                uint8_t code;
                qc_quantizer_quantize(&q, &bits, 1, scale, 0, zero, &code);
                qc_quantizer_dequantize(&q, QC_BF16, &code, 1, scale, 0, zero, &back);
                double e = (double)qc_bf16_to_f32(back) - (double)qc_bf16_to_f32(bits);
                error += e * e;
            }
            first = step == 0 ? error : first;
            if (low == f->min[s * HEADS + h] && high == f->max[s * HEADS + h] && !found) {
                found = true;
                chosen = error;
            }
        }
        CHECK(found && chosen <= first * 1.00001);
    }
}

static void add_sequence(sums *all, const float *x, size_t tokens)
{
    double of_sequence[COLUMNS] = {0}, squares[COLUMNS] = {0};
    for (size_t t = 0; t < tokens; t++)
        for (size_t h = 0; h < HEADS; h++) {
            float y[SIZE];
            turn(x + t * COLUMNS + h * SIZE, y);
            for (size_t i = 0; i < SIZE; i++) {
                const size_t c = h * SIZE + i;
                const float v = x[t * COLUMNS + c];
                of_sequence[c] += (double)v;
                squares[c] += (double)v * (double)v;
                all->low[c] = fminf(all->low[c], v);
                all->high[c] = fmaxf(all->high[c], v);
                all->turned_low[c] = fminf(all->turned_low[c], y[i]);
                all->turned_high[c] = fmaxf(all->turned_high[c], y[i]);
            }
        }
    for (size_t c = 0; c < COLUMNS; c++) {
        all->sums[c] += rint((double)(float)of_sequence[c] * 0x1p24) * 0x1p-24;
        all->squares[c] += (double)(float)squares[c];
    }
}

static void check_columns_of(job *j, const char *tap, const float *low, const float *high)
{
    const qc_stats_record *r = qc_stats_find(&j->stats, tap, QC_STATS_CHANNELS);
    CHECK(r && r->columns == COLUMNS);
    for (size_t c = 0; r && c < COLUMNS; c++)
        check_row(&r->min[c], &r->max[c], low[c], high[c], tap, c);
}

static void check_heads(job *j, const float *table)
{
    sums all = {0};
    for (size_t c = 0; c < COLUMNS; c++) {
        all.low[c] = all.turned_low[c] = INFINITY;
        all.high[c] = all.turned_high[c] = -INFINITY;
    }
    const qc_stats_record *a = qc_stats_find(&j->stats, "a.q", QC_STATS_MINMAX),
                          *turned = qc_stats_find(&j->stats, "a.q@R3", QC_STATS_MINMAX),
                          *means = qc_stats_find(&j->stats, "a.k@mean", QC_STATS_MEANS),
                          *squares = qc_stats_find(&j->stats, "g", QC_STATS_SQUARES);
    CHECK(a && a->heads == HEADS && turned && turned->heads == HEADS && means && squares);
    CHECK(!qc_stats_find(&j->stats, "a.v@R3", QC_STATS_MINMAX));
    for (size_t s = 0; a && turned && s < j->data.count; s++) {
        const qc_token_sequence *sequence = &j->data.sequences[s];
        float *x = QC_NEW_ARRAY(&j->arena, float, sequence->count *COLUMNS);
        sums one = all;
        for (size_t t = 0; t < sequence->count; t++)
            memcpy(x + t * COLUMNS, table + (size_t)sequence->ids[t] * COLUMNS, COLUMNS * sizeof *x);
        for (size_t c = 0; c < COLUMNS; c++) {
            one.low[c] = one.turned_low[c] = INFINITY;
            one.high[c] = one.turned_high[c] = -INFINITY;
        }
        add_sequence(&one, x, sequence->count);
        add_sequence(&all, x, sequence->count);
        for (size_t h = 0; h < HEADS; h++) {
            qsort(one.low + h * SIZE, SIZE, sizeof(float), compare_floats);
            qsort(one.high + h * SIZE, SIZE, sizeof(float), compare_floats);
            qsort(one.turned_low + h * SIZE, SIZE, sizeof(float), compare_floats);
            qsort(one.turned_high + h * SIZE, SIZE, sizeof(float), compare_floats);
            const size_t at = s * HEADS + h, last = h * SIZE + SIZE - 1;
            check_row(&a->min[at], &a->max[at], one.low[h * SIZE], one.high[last], "range", s);
            check_row(&turned->min[at], &turned->max[at], one.turned_low[h * SIZE], one.turned_high[last],
                "rotated range", s);
        }
        check_percentile(j, s, x, sequence->count);
        check_window(j, s, x, sequence->count);
        check_mean_search(j, s, x, sequence->count);
    }
    check_columns_of(j, "a.q", all.low, all.high);
    check_columns_of(j, "a.v", all.low, all.high);
    check_columns_of(j, "a.q@R3", all.turned_low, all.turned_high);
    CHECK(means && means->tokens == (int64_t)j->data.token_count);
    CHECK(means && memcmp(means->sums, all.sums, sizeof all.sums) == 0);
    CHECK(squares && memcmp(squares->sums, all.squares, sizeof all.squares) == 0);
}

/* Constants in the order of their observes. */
static void check_resolved(job *j)
{
    const qc_stats_record *columns = qc_stats_find(&j->stats, "a.v", QC_STATS_CHANNELS),
                          *means = qc_stats_find(&j->stats, "a.k@mean", QC_STATS_MEANS),
                          *d = qc_stats_find(&j->stats, "d", QC_STATS_MINMAX),
                          *f = qc_stats_find(&j->stats, "f", QC_STATS_MINMAX);
    size_t constants = 0;
    for (const qc_op *op = qc_func_first_op(qc_module_func(j->module, "main")); op; op = qc_op_next(op)) {
        float values[2 * COLUMNS] = {0};
        if (!qc_op_is(op, "const"))
            continue;
        const qc_attr *data = qc_op_attr(op, "value");
        qc_decode_f32(qc_attr_data_dtype(data), qc_attr_data_bytes(data), values, qc_attr_count(data));
        if (constants == 1)
            CHECK(memcmp(values, columns->min, COLUMNS * sizeof(float)) == 0 &&
                  memcmp(values + COLUMNS, columns->max, COLUMNS * sizeof(float)) == 0);
        for (size_t c = 0; c < COLUMNS && constants == 2; c++)
            CHECK(values[c] == (float)(means->sums[c] / (double)means->tokens));
        for (size_t h = 0; h < HEADS && constants == 3; h++) {
            float max = 0;
            for (size_t s = 0; s < d->sequences; s++)
                max = fmaxf(max, d->max[s * HEADS + h]);
            CHECK(values[h] == -max && values[HEADS + h] == max);
        }
        for (size_t h = 0; h < HEADS && constants == 5; h++) {
            double sum = 0;
            for (size_t s = 0; s < f->sequences; s++)
                sum += (double)f->max[s * HEADS + h];
            CHECK(values[HEADS + h] == qc_round_bf16((float)(sum / (double)f->sequences)));
        }
        constants++;
    }
    CHECK_INT(constants, 7);
}

static void test_observers(void)
{
    char directory[] = "qc-test-calibrate-XXXXXX";
    float table[ROWS * COLUMNS];
    qc_stats first = {0}, merged = {0};
    job j;
    if (!open_heads(&j, directory, table))
        SKIP("no directory can be made here");
    table_data(&j);
    j.rotated = true;
    for (int threads = 1; threads <= 4; threads++) {
        if (!calibrate(&j, threads, 0))
            return;
        check_heads(&j, table);
        if (threads > 1)
            CHECK(same_stats(&first, &j.stats));
        first = j.stats;
    }
    /* sequence by sequence, and put together again */
    const qc_dataset all = j.data;
    for (size_t i = 0; i < all.count; i++) {
        j.data = (qc_dataset){&all.sequences[i], 1, all.sequences[i].count};
        if (!calibrate(&j, 2, 0))
            return;
        if (i == 0)
            merged = j.stats;
        else
            CHECK_INT(qc_stats_merge(qc_ctx_diag(j.ctx), &merged, &j.stats, "more"), QC_OK);
    }
    CHECK(same_stats(&first, &merged));
    j.stats = first;
    CHECK_INT(qc_calibrate_resolve(j.ctx, j.module, &j.stats), QC_OK);
    CHECK_INT(qc_module_verify(j.module, "calibrate"), QC_OK);
    check_resolved(&j);
    CHECK_INT(qc_remove_tree(qc_ctx_diag(j.ctx), directory), QC_OK);
    end(&j);
}

#endif
