/* SPDX-License-Identifier: MIT
 *
 * stats.c - the statistics file: see stats.h. It is a safetensors file, so any tool can look into it.
 */
#include "runtime/stats.h"

#include <math.h>

#include "ir/support/io.h"
#include "ir/support/safetensors.h"

void qc_stats_init(qc_stats *stats, qc_arena *arena)
{
    stats->arena = arena;
    qc_map_init(&stats->records, arena);
}

qc_stats_record *qc_stats_find(const qc_stats *stats, const char *tap)
{
    return qc_map_get(&stats->records, tap);
}

static qc_stats_record *record_new(qc_arena *arena, const char *tap, size_t sequences, size_t heads)
{
    qc_stats_record *record = QC_NEW(arena, qc_stats_record);
    record->tap = qc_arena_strdup(arena, tap);
    record->sequences = sequences;
    record->heads = heads;
    record->min = QC_NEW_ARRAY(arena, float, sequences *heads + 1);
    record->max = QC_NEW_ARRAY(arena, float, sequences *heads + 1);
    for (size_t i = 0; i < sequences * heads; i++) {
        record->min[i] = INFINITY;
        record->max[i] = -INFINITY;
    }
    return record;
}

qc_stats_record *qc_stats_add_squares(qc_stats *stats, const char *tap, size_t columns)
{
    qc_stats_record *record = qc_stats_find(stats, tap);
    if (record && record->kind == QC_STATS_SQUARES && record->columns == columns)
        return record;
    record = QC_NEW(stats->arena, qc_stats_record);
    record->tap = qc_arena_strdup(stats->arena, tap);
    record->kind = QC_STATS_SQUARES;
    record->columns = columns;
    record->squares = qc_arena_calloc(stats->arena, columns + 1, sizeof(double));
    qc_map_set(&stats->records, tap, record);
    return record;
}

qc_stats_record *qc_stats_add(qc_stats *stats, const char *tap, size_t sequences, size_t heads)
{
    qc_stats_record *record = qc_stats_find(stats, tap);
    if (record && record->kind == QC_STATS_MINMAX && record->sequences == sequences && record->heads == heads)
        return record;
    record = record_new(stats->arena, tap, sequences, heads);
    qc_map_set(&stats->records, tap, record);
    return record;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

/* One of the two tensors of a record into values[count], checked to be finite. */
static qc_status read_values(qc_diag *diag, const qc_st_set *set, const qc_st_tensor *tensor,
    const char *path, float *values, size_t count)
{
    if (qc_st_read(diag, set, tensor, values) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return qc_error(diag, path, "%s holds a value that is not finite", tensor->name);
    return QC_OK;
}

static qc_status read_record(
    qc_diag *diag, qc_stats *stats, const qc_st_set *set, const qc_st_tensor *min, const char *path)
{
    char *tap = qc_arena_strndup(stats->arena, min->name, strlen(min->name) - 4);
    const qc_st_tensor *max = qc_st_find(set, qc_arena_printf(stats->arena, "%s.max", tap));
    if (!max)
        return qc_error(diag, path, "%s has no .max beside its .min", tap);
    const qc_st_tensor *both[] = {min, max};
    for (size_t i = 0; i < 2; i++)
        if (strcmp(both[i]->dtype, "F32") != 0 || both[i]->rank != 2 || both[i]->shape[0] < 1 ||
            both[i]->shape[1] < 1 || both[i]->shape[0] != min->shape[0] || both[i]->shape[1] != min->shape[1])
            return qc_error(
                diag, path, "%s must be F32 [sequences, heads], alike for .min and .max", both[i]->name);
    qc_stats_record *record = qc_stats_add(stats, tap, (size_t)min->shape[0], (size_t)min->shape[1]);
    size_t count = record->sequences * record->heads;
    if (read_values(diag, set, min, path, record->min, count) != QC_OK ||
        read_values(diag, set, max, path, record->max, count) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < count; i++)
        if (record->min[i] > record->max[i])
            return qc_error(diag, path, "%s: a minimum is above its maximum", tap);
    return QC_OK;
}

static qc_status read_squares(
    qc_diag *diag, qc_stats *stats, const qc_st_set *set, const qc_st_tensor *squares, const char *path)
{
    char *tap = qc_arena_strndup(stats->arena, squares->name, strlen(squares->name) - strlen(".squares"));
    const qc_st_tensor *tokens = qc_st_find(set, qc_arena_printf(stats->arena, "%s.tokens", tap));
    if (!tokens)
        return qc_error(diag, path, "%s has no .tokens beside its .squares", tap);
    if (strcmp(squares->dtype, "F64") != 0 || squares->rank != 1 || squares->shape[0] < 1 ||
        strcmp(tokens->dtype, "I64") != 0 || tokens->rank != 1 || tokens->shape[0] != 1)
        return qc_error(diag, path, "%s must be F64 [columns], and its .tokens I64 [1]", squares->name);
    qc_stats_record *record = qc_stats_add_squares(stats, tap, (size_t)squares->shape[0]);
    if (qc_st_read(diag, set, squares, record->squares) || qc_st_read(diag, set, tokens, &record->tokens))
        return QC_ERROR;
    if (record->tokens < 1)
        return qc_error(diag, path, "%s is of %lld tokens", squares->name, (long long)record->tokens);
    for (size_t i = 0; i < record->columns; i++)
        if (!(record->squares[i] >= 0) || !isfinite(record->squares[i]))
            return qc_error(diag, path, "%s holds a value that is no sum of squares", squares->name);
    return QC_OK;
}

static bool is_named(const qc_st_tensor *tensor, const char *ending)
{
    return qc_ends_with(tensor->name, ending) && strlen(tensor->name) > strlen(ending);
}

qc_status qc_stats_load(qc_diag *diag, qc_stats *stats, const char *path)
{
    qc_st_set set;
    if (qc_st_open_file(diag, stats->arena, path, &set) != QC_OK)
        return QC_ERROR;
    qc_status status = QC_OK;
    size_t records = 0;
    for (size_t i = 0; i < set.tensor_count && status == QC_OK; i++) {
        const qc_st_tensor *t = &set.tensors[i];
        if (is_named(t, ".min") || is_named(t, ".squares")) {
            status = is_named(t, ".min") ? read_record(diag, stats, &set, t, path)
                                         : read_squares(diag, stats, &set, t, path);
            records++;
        } else if (!is_named(t, ".max") && !is_named(t, ".tokens")) {
            status = qc_error(diag, path,
                "%s is no statistic: names end in .min and .max, or .squares and .tokens", t->name);
        }
    }
    if (status == QC_OK && records == 0)
        status = qc_error(diag, path, "there are no statistics in it");
    qc_st_close(&set);
    return status;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

/* The two tensors of a record. */
static void add_tensors(qc_arena *arena, qc_stats_record *r, qc_st_out *two)
{
    int64_t *shape = QC_NEW_ARRAY(arena, int64_t, 2);
    if (r->kind == QC_STATS_SQUARES) {
        shape[0] = (int64_t)r->columns;
        shape[1] = 1;
        two[0] = (qc_st_out){.name = qc_arena_printf(arena, "%s.squares", r->tap),
            .dtype = "F64",
            .rank = 1,
            .shape = shape,
            .user = r->squares};
        two[1] = (qc_st_out){.name = qc_arena_printf(arena, "%s.tokens", r->tap),
            .dtype = "I64",
            .rank = 1,
            .shape = shape + 1,
            .user = &r->tokens};
        return;
    }
    shape[0] = (int64_t)r->sequences;
    shape[1] = (int64_t)r->heads;
    for (int i = 0; i < 2; i++)
        two[i] = (qc_st_out){.name = qc_arena_printf(arena, "%s.%s", r->tap, i ? "max" : "min"),
            .dtype = "F32",
            .rank = 2,
            .shape = shape,
            .user = i ? r->max : r->min};
}

qc_status qc_stats_save(qc_diag *diag, const qc_stats *stats, const char *path)
{
    qc_arena *arena = stats->arena;
    size_t count = 0, header_bytes;
    char *header;
    qc_st_out *tensors = QC_NEW_ARRAY(arena, qc_st_out, stats->records.count * 2 + 1);
    for (size_t i = 0; i < stats->records.count; i++) {
        add_tensors(arena, stats->records.entries[i].value, tensors + count);
        count += 2;
    }
    if (qc_st_layout(diag, arena, tensors, count, false, &header, &header_bytes) != QC_OK)
        return QC_ERROR;
    qc_str file;
    qc_str_init(&file, arena);
    qc_str_add_bytes(&file, header, header_bytes);
    for (size_t i = 0; i < count; i++)
        qc_str_add_bytes(&file, tensors[i].user, (size_t)tensors[i].size_bytes);
    qc_status status = qc_write_file(diag, path, file.data, file.length);
    qc_str_fini(&file);
    return status;
}

static qc_stats_record *add_squares(qc_arena *arena, const qc_stats_record *x, const qc_stats_record *y)
{
    qc_stats_record *r = QC_NEW(arena, qc_stats_record);
    *r = *x;
    r->tokens += y->tokens;
    r->squares = qc_arena_calloc(arena, x->columns + 1, sizeof(double));
    for (size_t i = 0; i < x->columns; i++)
        r->squares[i] = x->squares[i] + y->squares[i];
    return r;
}

qc_status qc_stats_merge(qc_diag *diag, qc_stats *a, const qc_stats *b, const char *b_name)
{
    if (a->records.count != b->records.count)
        return qc_error(
            diag, b_name, "it holds %zu statistics, the others %zu", b->records.count, a->records.count);
    for (size_t i = 0; i < a->records.count; i++) {
        const qc_stats_record *x = a->records.entries[i].value, *y = qc_stats_find(b, x->tap);
        if (!y || y->kind != x->kind || y->heads != x->heads || y->columns != x->columns)
            return qc_error(diag, b_name, "%s is missing or has other heads or columns", x->tap);
    }
    for (size_t i = 0; i < a->records.count; i++) {
        const qc_stats_record *x = a->records.entries[i].value, *y = qc_stats_find(b, x->tap);
        size_t left = x->sequences * x->heads, right = y->sequences * y->heads;
        if (x->kind == QC_STATS_SQUARES) {
            a->records.entries[i].value = add_squares(a->arena, x, y);
            continue;
        }
        qc_stats_record *r = record_new(a->arena, x->tap, x->sequences + y->sequences, x->heads);
        memcpy(r->min, x->min, left * sizeof(float));
        memcpy(r->max, x->max, left * sizeof(float));
        memcpy(r->min + left, y->min, right * sizeof(float));
        memcpy(r->max + left, y->max, right * sizeof(float));
        a->records.entries[i].value = r;
    }
    return QC_OK;
}
