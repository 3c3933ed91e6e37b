/* SPDX-License-Identifier: MIT
 *
 * calibrate_records.c - the numbers that sequences give, put into records.
 *
 * Each sequence's ranges go to rows of its own, those of columns are joined, which knows no order, and sums wait for
 * their turn, so nothing depends on which thread did what when.
 */
#include <stdlib.h>

#include "ir/ctx.h"
#include "runtime/calibrate_internal.h"

/* Where the numbers of an observe go. */
typedef struct observed_records {
    qc_observed observed;
    qc_stats_record *ranges[2], *columns[2]; /* the second ones under R3; NULL: there are none */
    qc_stats_record *sums;
} observed_records;

static observed_records records_of(qc_stats *stats, const char *tap, size_t rows, qc_observed observed)
{
    observed_records o = {.observed = observed};
    if (observed.kind != QC_OBSERVED_RANGES) {
        const bool squares = observed.kind == QC_OBSERVED_SQUARES;
        o.sums = qc_stats_add(stats, tap, squares ? QC_STATS_SQUARES : QC_STATS_MEANS, 0, observed.columns);
        return o;
    }
    for (int i = 0; i < (observed.rotated ? 2 : 1); i++) {
        const char *name = i == 0 ? tap : qc_arena_printf(stats->arena, "%s@R3", tap);
        o.ranges[i] = qc_stats_add(stats, name, QC_STATS_MINMAX, rows, observed.heads);
        if (observed.columns)
            o.columns[i] = qc_stats_add(stats, name, QC_STATS_CHANNELS, 0, observed.columns);
    }
    return o;
}

qc_status qc_observed_set_init(qc_observed_set *set, qc_ctx *ctx, const qc_plan *plan,
    const qc_op *const *observes, size_t count, qc_stats *stats, size_t rows)
{
    *set = (qc_observed_set){.count = count, .rows = rows};
    set->records = calloc(count + 1, sizeof *set->records);
    set->waiting = calloc(rows + 1, sizeof *set->waiting);
    set->tokens = calloc(rows + 1, sizeof *set->tokens);
    if (!set->records || !set->waiting || !set->tokens)
        return qc_ctx_error(ctx, "", "out of memory for statistics");
    for (size_t i = 0; i < count; i++) {
        const qc_observed observed = qc_plan_observed(plan, i);
        set->records[i] = records_of(stats, qc_attr_as_text(qc_op_attr(observes[i], "tap")), rows, observed);
        set->numbers += observed.numbers;
        set->sums += set->records[i].sums ? observed.numbers : 0;
    }
    return QC_OK;
}

void qc_observed_set_fini(qc_observed_set *set)
{
    for (size_t i = 0; set->waiting && i < set->rows; i++) /* of sequences behind one that failed */
        free(set->waiting[i]);
    free(set->records);
    free(set->waiting);
    free(set->tokens);
    *set = (qc_observed_set){0};
}

uint64_t qc_observed_bytes(qc_observed o, size_t rows)
{
    const bool ranges = o.kind == QC_OBSERVED_RANGES;
    const uint64_t heads = ranges ? 2 * (uint64_t)o.heads * rows : 0;
    const uint64_t once = heads * sizeof(float) + o.columns * sizeof(double);
    return once * (o.rotated ? 2 : 1);
}

/* Ranges have a row a sequence, or are joined to what the columns had; both in any order. */
static void keep_ranges(const observed_records *o, size_t row, const float *numbers)
{
    for (size_t i = 0; i < 2 && o->ranges[i]; i++) {
        qc_stats_record *heads = o->ranges[i], *columns = o->columns[i];
        memcpy(heads->min + row * heads->heads, numbers, heads->heads * sizeof *numbers);
        numbers += heads->heads;
        memcpy(heads->max + row * heads->heads, numbers, heads->heads * sizeof *numbers);
        numbers += heads->heads;
        for (size_t c = 0; columns && c < columns->columns; c++) {
            columns->min[c] = qc_stats_smaller(columns->min[c], numbers[c]);
            columns->max[c] = qc_stats_larger(columns->max[c], numbers[columns->columns + c]);
        }
        numbers += columns ? 2 * columns->columns : 0;
    }
}

/* Adds the sums of a row to the records. */
static void add_sums(const qc_observed_set *set, const float *sums, size_t tokens)
{
    for (size_t i = 0; i < set->count; i++) {
        qc_stats_record *r = set->records[i].sums;
        for (size_t c = 0; r && c < r->columns; c++)
            r->sums[c] += (double)*sums++;
        if (r)
            r->tokens += (int64_t)tokens;
    }
}

/* The sums of a row, without what else it gave. */
static float *only_sums(const qc_observed_set *set, float *numbers, const float *sums)
{
    memmove(numbers, sums, set->sums * sizeof *numbers);
    float *less = realloc(numbers, set->sums * sizeof *numbers);
    return less ? less : numbers;
}

/* Sums are added in the order of rows: those of a later one wait. The numbers are [ranges, sums]. */
void qc_observed_set_hand_in(qc_observed_set *set, size_t row, size_t tokens, float *numbers)
{
#ifdef _OPENMP
#pragma omp critical(qc_calibrate_hand_in)
#endif
    {
        const float *at = numbers;
        for (size_t i = 0; i < set->count; i++)
            if (!set->records[i].sums) {
                keep_ranges(&set->records[i], row, at);
                at += set->records[i].observed.numbers;
            }
        set->tokens[row] = tokens;
        if (set->sums > 0)
            set->waiting[row] = only_sums(set, numbers, at);
        else
            free(numbers);
        for (; set->turn < set->rows && set->waiting[set->turn]; set->turn++) {
            add_sums(set, set->waiting[set->turn], set->tokens[set->turn]);
            free(set->waiting[set->turn]);
            set->waiting[set->turn] = NULL;
        }
    }
}

void qc_observed_set_lay_out(const qc_observed_set *set, float *numbers, float **observed)
{
    float *sums = numbers + (set->numbers - set->sums);
    for (size_t i = 0; i < set->count; i++) {
        float **at = set->records[i].sums ? &sums : &numbers;
        observed[i] = *at;
        *at += set->records[i].observed.numbers;
    }
}
