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

qc_stats_record *qc_stats_add(qc_stats *stats, const char *tap, size_t sequences, size_t heads)
{
    qc_stats_record *record = qc_stats_find(stats, tap);
    if (record && record->sequences == sequences && record->heads == heads)
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

qc_status qc_stats_load(qc_diag *diag, qc_stats *stats, const char *path)
{
    qc_st_set set;
    if (qc_st_open_file(diag, stats->arena, path, &set) != QC_OK)
        return QC_ERROR;
    qc_status status = QC_OK;
    size_t records = 0;
    for (size_t i = 0; i < set.tensor_count && status == QC_OK; i++) {
        const qc_st_tensor *t = &set.tensors[i];
        if (qc_ends_with(t->name, ".min") && strlen(t->name) > 4) {
            status = read_record(diag, stats, &set, t, path);
            records++;
        } else if (!qc_ends_with(t->name, ".max")) {
            status = qc_error(diag, path, "%s is no statistic: names end in .min or .max", t->name);
        }
    }
    if (status == QC_OK && records == 0)
        status = qc_error(diag, path, "there are no statistics in it");
    qc_st_close(&set);
    return status;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

qc_status qc_stats_save(qc_diag *diag, const qc_stats *stats, const char *path)
{
    qc_arena *arena = stats->arena;
    size_t count = 0, header_bytes;
    char *header;
    qc_st_out *tensors = QC_NEW_ARRAY(arena, qc_st_out, stats->records.count * 2 + 1);
    for (size_t i = 0; i < stats->records.count; i++) {
        const qc_stats_record *r = stats->records.entries[i].value;
        int64_t *shape = QC_NEW_ARRAY(arena, int64_t, 2);
        shape[0] = (int64_t)r->sequences;
        shape[1] = (int64_t)r->heads;
        tensors[count++] = (qc_st_out){.name = qc_arena_printf(arena, "%s.min", r->tap),
            .dtype = "F32",
            .rank = 2,
            .shape = shape,
            .user = r->min};
        tensors[count++] = (qc_st_out){.name = qc_arena_printf(arena, "%s.max", r->tap),
            .dtype = "F32",
            .rank = 2,
            .shape = shape,
            .user = r->max};
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

qc_status qc_stats_merge(qc_diag *diag, qc_stats *a, const qc_stats *b, const char *b_name)
{
    if (a->records.count != b->records.count)
        return qc_error(
            diag, b_name, "it holds %zu statistics, the others %zu", b->records.count, a->records.count);
    for (size_t i = 0; i < a->records.count; i++) {
        const qc_stats_record *x = a->records.entries[i].value, *y = qc_stats_find(b, x->tap);
        if (!y || y->heads != x->heads)
            return qc_error(diag, b_name, "%s is missing or has other heads", x->tap);
    }
    for (size_t i = 0; i < a->records.count; i++) {
        const qc_stats_record *x = a->records.entries[i].value, *y = qc_stats_find(b, x->tap);
        size_t left = x->sequences * x->heads, right = y->sequences * y->heads;
        qc_stats_record *r = record_new(a->arena, x->tap, x->sequences + y->sequences, x->heads);
        memcpy(r->min, x->min, left * sizeof(float));
        memcpy(r->max, x->max, left * sizeof(float));
        memcpy(r->min + left, y->min, right * sizeof(float));
        memcpy(r->max + left, y->max, right * sizeof(float));
        a->records.entries[i].value = r;
    }
    return QC_OK;
}
