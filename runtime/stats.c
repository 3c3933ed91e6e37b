/* SPDX-License-Identifier: MIT
 *
 * stats.c - the statistics file: see stats.h. It is a safetensors file, so any tool can look into it.
 */
#include "runtime/stats.h"

#include <math.h>

#include "ir/support/io.h"
#include "ir/support/safetensors.h"

/* The two tensors of a kind. */
typedef struct kind_row {
    const char *what;
    const char *endings[2];
    const char *types[2];
} kind_row;

static const kind_row kinds[] = {
    [QC_STATS_MINMAX] = {"ranges of sequences", {".min", ".max"}, {"F32", "F32"}},
    [QC_STATS_SQUARES] = {"sums of squares of columns", {".squares", ".tokens"}, {"F64", "I64"}},
    [QC_STATS_MEANS] = {"sums of columns", {".sums", ".tokens"}, {"F64", "I64"}},
    [QC_STATS_CHANNELS] = {"ranges of columns", {".channel_min", ".channel_max"}, {"F32", "F32"}},
    [QC_STATS_TOKENS] = {"tokens of experts", {".routed_tokens", ".seen_tokens"}, {"I64", "I64"}},
};

static bool has_ranges(qc_stats_kind kind)
{
    return kind == QC_STATS_MINMAX || kind == QC_STATS_CHANNELS;
}

static size_t range_count(const qc_stats_record *r)
{
    return r->kind == QC_STATS_MINMAX ? r->sequences * r->heads : r->columns;
}

const char *qc_stats_kind_text(qc_stats_kind kind)
{
    return kinds[kind].what;
}

/* ---- records ------------------------------------------------------------------------------------------- */

void qc_stats_init(qc_stats *stats, qc_arena *arena)
{
    stats->arena = arena;
    qc_map_init(&stats->records, arena);
}

static const char *key_of(qc_arena *arena, const char *tap, qc_stats_kind kind)
{
    return qc_arena_printf(arena, "%s%s", tap, kinds[kind].endings[0]);
}

qc_stats_record *qc_stats_find(const qc_stats *stats, const char *tap, qc_stats_kind kind)
{
    return qc_map_get(&stats->records, key_of(stats->arena, tap, kind));
}

static qc_stats_record *record_new(
    qc_arena *arena, const char *tap, qc_stats_kind kind, size_t sequences, size_t width)
{
    qc_stats_record *r = QC_NEW(arena, qc_stats_record);
    *r = (qc_stats_record){.tap = qc_arena_strdup(arena, tap), .kind = kind};
    if (kind == QC_STATS_MINMAX) {
        r->sequences = sequences;
        r->heads = width;
    } else {
        r->columns = width;
    }
    if (kind == QC_STATS_TOKENS) {
        r->routed = qc_arena_calloc(arena, width + 1, sizeof *r->routed);
        r->seen = qc_arena_calloc(arena, width + 1, sizeof *r->seen);
        return r;
    }
    if (!has_ranges(kind)) {
        r->sums = qc_arena_calloc(arena, width + 1, sizeof *r->sums);
        return r;
    }
    const size_t count = range_count(r);
    r->min = QC_NEW_ARRAY(arena, float, count + 1);
    r->max = QC_NEW_ARRAY(arena, float, count + 1);
    for (size_t i = 0; i < count; i++) {
        r->min[i] = INFINITY;
        r->max[i] = -INFINITY;
    }
    return r;
}

qc_stats_record *qc_stats_add(
    qc_stats *stats, const char *tap, qc_stats_kind kind, size_t sequences, size_t width)
{
    qc_stats_record *r = qc_stats_find(stats, tap, kind);
    if (r && (kind == QC_STATS_MINMAX ? r->sequences == sequences && r->heads == width : r->columns == width))
        return r;
    r = record_new(stats->arena, tap, kind, sequences, width);
    qc_map_set(&stats->records, key_of(stats->arena, tap, kind), r);
    return r;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

/* The tensor's kind and which of its two it is; QC_STATS_KINDS when it has the name of none. Of `.tokens` the first kind. */
static size_t kind_of(const qc_st_tensor *tensor, size_t *which)
{
    for (size_t k = 0; k < QC_STATS_KINDS; k++)
        for (*which = 0; *which < 2; ++*which) {
            const char *ending = kinds[k].endings[*which];
            if (qc_ends_with(tensor->name, ending) && strlen(tensor->name) > strlen(ending))
                return k;
        }
    return QC_STATS_KINDS;
}

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

static qc_status read_ranges(qc_diag *diag, qc_stats *stats, const qc_st_set *set, const char *tap,
    qc_stats_kind kind, const qc_st_tensor *const *both, const char *path)
{
    const int rank = kind == QC_STATS_MINMAX ? 2 : 1;
    for (size_t i = 0; i < 2; i++) {
        bool fits = strcmp(both[i]->dtype, "F32") == 0 && both[i]->rank == rank;
        for (int d = 0; fits && d < rank; d++)
            fits = both[i]->shape[d] >= 1 && both[i]->shape[d] == both[0]->shape[d];
        if (!fits)
            return qc_error(diag, path, "%s must be F32 [%s], alike for %s and %s", both[i]->name,
                rank == 2 ? "sequences, heads" : "columns", kinds[kind].endings[0], kinds[kind].endings[1]);
    }
    qc_stats_record *r = qc_stats_add(
        stats, tap, kind, rank == 2 ? (size_t)both[0]->shape[0] : 0, (size_t)both[0]->shape[rank - 1]);
    const size_t count = range_count(r);
    if (read_values(diag, set, both[0], path, r->min, count) != QC_OK ||
        read_values(diag, set, both[1], path, r->max, count) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < count; i++)
        if (r->min[i] > r->max[i])
            return qc_error(diag, path, "%s: a minimum is above its maximum", tap);
    return QC_OK;
}

static qc_status read_sums(qc_diag *diag, qc_stats *stats, const qc_st_set *set, const char *tap,
    qc_stats_kind kind, const qc_st_tensor *const *both, const char *path)
{
    const qc_st_tensor *sums = both[0], *tokens = both[1];
    if (strcmp(sums->dtype, "F64") != 0 || sums->rank != 1 || sums->shape[0] < 1 ||
        strcmp(tokens->dtype, "I64") != 0 || tokens->rank != 1 || tokens->shape[0] != 1)
        return qc_error(diag, path, "%s must be F64 [columns], and its .tokens I64 [1]", sums->name);
    qc_stats_record *r = qc_stats_add(stats, tap, kind, 0, (size_t)sums->shape[0]);
    if (qc_st_read(diag, set, sums, r->sums) || qc_st_read(diag, set, tokens, &r->tokens))
        return QC_ERROR;
    if (r->tokens < 1)
        return qc_error(diag, path, "%s is of %lld tokens", sums->name, (long long)r->tokens);
    for (size_t i = 0; i < r->columns; i++)
        if (!isfinite(r->sums[i]) || (kind == QC_STATS_SQUARES && r->sums[i] < 0))
            return qc_error(diag, path, "%s holds a value that is no %s", sums->name,
                kind == QC_STATS_SQUARES ? "sum of squares" : "sum");
    return QC_OK;
}

static qc_status read_tokens(qc_diag *diag, qc_stats *stats, const qc_st_set *set, const char *tap,
    qc_stats_kind kind, const qc_st_tensor *const *both, const char *path)
{
    for (size_t i = 0; i < 2; i++)
        if (strcmp(both[i]->dtype, "I64") != 0 || both[i]->rank != 1 || both[i]->shape[0] < 1 ||
            both[i]->shape[0] != both[0]->shape[0])
            return qc_error(diag, path, "%s must be I64 [experts], alike for %s and %s", both[i]->name,
                kinds[kind].endings[0], kinds[kind].endings[1]);
    qc_stats_record *r = qc_stats_add(stats, tap, kind, 0, (size_t)both[0]->shape[0]);
    if (qc_st_read(diag, set, both[0], r->routed) || qc_st_read(diag, set, both[1], r->seen))
        return QC_ERROR;
    for (size_t e = 0; e < r->columns; e++)
        if (r->routed[e] < 0 || r->seen[e] < r->routed[e])
            return qc_error(diag, path, "%s: expert %zu was chosen by %lld tokens and saw %lld", tap, e,
                (long long)r->routed[e], (long long)r->seen[e]);
    return QC_OK;
}

static qc_status read_record(qc_diag *diag, qc_stats *stats, const qc_st_set *set, qc_stats_kind kind,
    const qc_st_tensor *first, const char *path)
{
    const char *const *endings = kinds[kind].endings;
    char *tap = qc_arena_strndup(stats->arena, first->name, strlen(first->name) - strlen(endings[0]));
    const qc_st_tensor *both[2] = {
        first, qc_st_find(set, qc_arena_printf(stats->arena, "%s%s", tap, endings[1]))};
    if (!both[1])
        return qc_error(diag, path, "%s has no %s beside its %s", tap, endings[1], endings[0]);
    return (kind == QC_STATS_TOKENS ? read_tokens
            : has_ranges(kind)      ? read_ranges
                                    : read_sums)(diag, stats, set, tap, kind, both, path);
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
        size_t which, kind = kind_of(t, &which);
        if (kind == QC_STATS_KINDS) {
            status = qc_error(diag, path,
                "%s is no statistic: names end in .min and .max, .channel_min and .channel_max, .squares or "
                ".sums "
                "and .tokens, .routed_tokens and .seen_tokens",
                t->name);
        } else if (which == 0) {
            status = read_record(diag, stats, &set, (qc_stats_kind)kind, t, path);
            records++;
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
    const bool minmax = r->kind == QC_STATS_MINMAX, ranges = has_ranges(r->kind),
               tokens = r->kind == QC_STATS_TOKENS;
    void *data[2] = {tokens   ? (void *)r->routed
                     : ranges ? (void *)r->min
                              : (void *)r->sums,
        tokens   ? (void *)r->seen
        : ranges ? (void *)r->max
                 : (void *)&r->tokens};
    for (int i = 0; i < 2; i++) {
        int64_t *shape = QC_NEW_ARRAY(arena, int64_t, 2);
        shape[0] = (int64_t)(minmax ? r->sequences : ranges || tokens || i == 0 ? r->columns : 1);
        shape[1] = (int64_t)r->heads;
        two[i] = (qc_st_out){.name = qc_arena_printf(arena, "%s%s", r->tap, kinds[r->kind].endings[i]),
            .dtype = kinds[r->kind].types[i],
            .rank = minmax ? 2 : 1,
            .shape = shape,
            .user = data[i]};
    }
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

/* ---- merging ------------------------------------------------------------------------------------------- */

static qc_stats_record *merge_records(qc_arena *arena, const qc_stats_record *x, const qc_stats_record *y)
{
    const bool minmax = x->kind == QC_STATS_MINMAX;
    qc_stats_record *r =
        record_new(arena, x->tap, x->kind, x->sequences + y->sequences, minmax ? x->heads : x->columns);
    r->tokens = x->tokens + y->tokens;
    if (minmax) {
        const size_t left = range_count(x), right = range_count(y);
        memcpy(r->min, x->min, left * sizeof(float));
        memcpy(r->max, x->max, left * sizeof(float));
        memcpy(r->min + left, y->min, right * sizeof(float));
        memcpy(r->max + left, y->max, right * sizeof(float));
        return r;
    }
    for (size_t i = 0; i < x->columns; i++) {
        if (x->kind == QC_STATS_TOKENS) {
            r->routed[i] = x->routed[i] + y->routed[i];
            r->seen[i] = x->seen[i] + y->seen[i];
        } else if (has_ranges(x->kind)) {
            r->min[i] = qc_stats_smaller(x->min[i], y->min[i]);
            r->max[i] = qc_stats_larger(x->max[i], y->max[i]);
        } else {
            r->sums[i] = x->sums[i] + y->sums[i];
        }
    }
    return r;
}

const qc_stats_record *qc_stats_find_experts(const qc_stats *stats, const char *tap, size_t *expert)
{
    for (const char *dot = strchr(tap, '.'); dot; dot = strchr(dot + 1, '.')) {
        size_t digits = strspn(dot + 1, "0123456789"), number = 0;
        if (digits == 0 || digits > 9 || (dot[1 + digits] != '.' && dot[1 + digits] != '\0'))
            continue;
        const qc_stats_record *r =
            qc_stats_find(stats, qc_arena_strndup(stats->arena, tap, (size_t)(dot - tap)), QC_STATS_TOKENS);
        for (size_t i = 1; i <= digits; i++)
            number = number * 10 + (size_t)(dot[i] - '0');
        *expert = number;
        if (r && number < r->columns)
            return r;
    }
    return NULL;
}

/* Has the file nothing to say of this tap, because it is of an expert that saw no token? */
static bool saw_nothing(const qc_stats *stats, const char *tap)
{
    size_t expert;
    const qc_stats_record *r = qc_stats_find_experts(stats, tap, &expert);
    return r && r->seen[expert] == 0;
}

/* Has `b` every record of `a` in the same shape, but for those of experts that saw nothing there? `named`: the file that
 * diagnostics name. */
static qc_status check_records(qc_diag *diag, const qc_stats *a, const qc_stats *b, const char *named)
{
    for (size_t i = 0; i < a->records.count; i++) {
        const qc_stats_record *x = a->records.entries[i].value, *y = qc_stats_find(b, x->tap, x->kind);
        if (!y && x->kind != QC_STATS_TOKENS && saw_nothing(b, x->tap))
            continue;
        if (!y || y->heads != x->heads || y->columns != x->columns)
            return qc_error(diag, named, "%s is missing or has other heads or columns", x->tap);
    }
    return QC_OK;
}

qc_status qc_stats_merge(qc_diag *diag, qc_stats *a, const qc_stats *b, const char *b_name)
{
    size_t missing = 0, own = a->records.count;
    for (size_t i = 0; i < b->records.count; i++) {
        const qc_stats_record *y = b->records.entries[i].value;
        bool here = qc_stats_find(a, y->tap, y->kind) != NULL;
        if (!here && !(y->kind != QC_STATS_TOKENS && saw_nothing(a, y->tap)))
            missing++;
    }
    if (missing)
        return qc_error(diag, b_name, "it holds %zu statistics, the others %zu", b->records.count, own);
    if (check_records(diag, a, b, b_name) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < own; i++) {
        const qc_stats_record *x = a->records.entries[i].value, *y = qc_stats_find(b, x->tap, x->kind);
        if (y)
            a->records.entries[i].value = merge_records(a->arena, x, y);
    }
    for (size_t i = 0; i < b->records.count; i++) {
        const qc_stats_record *y = b->records.entries[i].value;
        if (qc_stats_find(a, y->tap, y->kind))
            continue;
        const qc_stats_record *nothing =
            record_new(a->arena, y->tap, y->kind, 0, y->kind == QC_STATS_MINMAX ? y->heads : y->columns);
        qc_map_set(&a->records, key_of(a->arena, y->tap, y->kind), merge_records(a->arena, nothing, y));
    }
    return QC_OK;
}
