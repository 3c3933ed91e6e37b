/* SPDX-License-Identifier: MIT
 *
 * baseline.c - how far the weights of a quantized checkpoint are from those it was made of.
 *
 * Both checkpoints are read by blocks of rows, on all threads. Order of sums, so that they do not depend on threads:
 * within a row lane j of 8 takes elements j, j + 8, ...; lanes are added in order, then rows of a block, then
 * blocks; a block has as many rows as 2^18 elements make, at least one. All in f64 of exact f32 values.
 */
#include "runtime/check/baseline.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/dtype/codec.h"

enum { BLOCK_ELEMS = 1 << 18, LANES = 8, MAX_COMPLAINTS = 20 };

/* Rows [first, first + rows) of a pair. */
typedef struct block {
    size_t pair;
    int64_t first, rows;
    check_sums sums;
} block;

typedef struct job {
    qc_diag *diag;
    qc_arena *arena;
    const qc_check_baseline_options *options;
    check_baseline result;
    qc_st_set set, base_set;
    check_model model, base;
    QC_VEC(check_pair) pairs;
    block *blocks;
    size_t block_count;
    uint64_t done_bytes, total_bytes;
    size_t complaints;
    bool failed;
} job;

/* ---- what is compared with what ------------------------------------------------------------------------ */

static void complain(job *j, const char *where, const char *what)
{
    if (++j->complaints <= MAX_COMPLAINTS)
        qc_error(j->diag, where, "%s", what);
}

static bool is_true(const qc_json *value)
{
    return value && value->kind == QC_JSON_BOOL && value->boolean;
}

static bool is_tied(const check_model *m)
{
    return is_true(qc_json_get(m->config, "tie_word_embeddings"));
}

/* lm_head of a model whose embedding serves as such. */
static const qc_st_tensor *tied_embedding(const check_model *m, const char *name)
{
    if (strcmp(name, "lm_head.weight") != 0 || !is_tied(m))
        return NULL;
    for (size_t i = 0; i < m->set->tensor_count; i++)
        if (qc_ends_with(m->set->tensors[i].name, "embed_tokens.weight"))
            return &m->set->tensors[i];
    return NULL;
}

static bool same_shape(const check_weight *base, const check_weight *w)
{
    const qc_st_tensor *t = base->codes;
    return base->part || (t->rank == 2 && t->shape[0] == w->rows && t->shape[1] == w->columns);
}

static uint64_t bytes_of_base(const check_pair *p)
{
    const check_weight *b = &p->base;
    return b->part ? (uint64_t)(b->rows * b->columns) * (uint64_t)qc_dtype_bits(b->code) / 8
                   : b->codes->size_bytes;
}

static void add_pair(job *j, const check_pair *p)
{
    if (p->coded.rows < 1 || p->coded.columns < 1)
        return;
    QC_PUSH(j->arena, &j->pairs, *p);
    j->total_bytes += p->coded.codes->size_bytes + bytes_of_base(p);
}

static int64_t rows_of_block(const check_pair *p)
{
    return p->coded.columns < BLOCK_ELEMS ? BLOCK_ELEMS / p->coded.columns : 1;
}

/* The pairs' blocks, in order. */
static void make_blocks(job *j)
{
    size_t count = 0;
    for (size_t i = 0; i < j->pairs.count; i++) {
        const check_pair *p = &j->pairs.items[i];
        count += (size_t)((p->coded.rows - 1) / rows_of_block(p) + 1);
    }
    j->blocks = QC_NEW_ARRAY(j->arena, block, count + 1);
    for (size_t i = 0; i < j->pairs.count; i++) {
        const check_pair *p = &j->pairs.items[i];
        const int64_t step = rows_of_block(p), rows = p->coded.rows;
        for (int64_t first = 0; first < rows; first += step)
            j->blocks[j->block_count++] =
                (block){.pair = i, .first = first, .rows = rows - first < step ? rows - first : step};
    }
}

/* The group that says how the module's codes are to be read: the one that targets it, else the only one that fits. */
static bool choose_group(job *j, const check_module *module, check_weight *weight)
{
    const check_group *targeting = check_group_of(&j->model, module, NULL);
    check_problems first = {0}, other = {0};
    if (targeting)
        check_weight_fit(&j->model, module, targeting, weight, &first);
    if (targeting && first.count == 0)
        return true;
    size_t fitting = 0;
    for (size_t i = 0; i < j->model.group_count; i++) {
        const check_group *g = &j->model.groups[i];
        check_weight candidate;
        size_t before = other.count;
        if (!g->weights.present || g == targeting)
            continue;
        check_weight_fit(&j->model, module, g, &candidate, &other);
        if (other.count == before && ++fitting == 1)
            *weight = candidate;
    }
    if (fitting == 1)
        return true;
    complain(j, j->result.directory,
        first.count ? first.items[0]
        : fitting > 1
            ? qc_arena_printf(j->arena, "%s fits several config groups and is targeted by none", module->path)
        : other.count ? other.items[0]
                      : qc_arena_printf(j->arena, "%s is quantized, but no config group is", module->path));
    return false;
}

/* The baseline's tensor of that name, as a weight of plain numbers; of an expert its part of all of them. */
static bool find_base(job *j, const char *name, const check_weight *like, check_weight *weight)
{
    const qc_st_tensor *t = qc_st_find(&j->base_set, name);
    t = t ? t : tied_embedding(&j->base, name);
    if (!t && check_weight_of_expert(&j->base, name, like->rows, like->columns, weight))
        return true;
    if (!t) {
        complain(j, j->result.base_directory,
            qc_arena_printf(j->arena, "has no %s, which %s has", name, j->result.directory));
        return false;
    }
    if (check_weight_plain(j->diag, &j->base, t, weight) == QC_OK)
        return true;
    j->complaints++;
    return false;
}

static void pair_codes(job *j, const check_module *module)
{
    check_pair p = {.name = qc_arena_printf(j->arena, "%s.weight", module->path), .path = module->path};
    if (!choose_group(j, module, &p.coded) || !find_base(j, p.name, &p.coded, &p.base))
        return;
    if (!same_shape(&p.base, &p.coded)) {
        complain(j, j->result.base_directory,
            qc_arena_printf(j->arena, "%s is %s, but [%" PRId64 ", %" PRId64 "] in %s", p.base.codes->name,
                check_shape_text(j->arena, p.base.codes->shape, p.base.codes->rank), p.coded.rows,
                p.coded.columns, j->result.directory));
        return;
    }
    if (check_weight_load(j->diag, &j->model, &p.coded) != QC_OK) {
        j->complaints++;
        return;
    }
    p.to = p.base.code == QC_F64 ? QC_F32 : p.base.code;
    add_pair(j, &p);
}

/* A tensor that is not quantized. Integers are no weights. */
static void pair_plain(job *j, const qc_st_tensor *t)
{
    check_pair p = {.name = t->name, .path = t->name, .to = QC_F32};
    if (!check_is_plain(t->dtype) || check_is_transform(&j->model, t->name))
        return;
    if (check_weight_plain(j->diag, &j->model, t, &p.coded) != QC_OK ||
        !find_base(j, t->name, &p.coded, &p.base))
        return;
    const qc_st_tensor *b = p.base.codes;
    if (p.base.part) {
        add_pair(j, &p);
        return;
    }
    if (t->rank != b->rank ||
        (t->rank && memcmp(t->shape, b->shape, (size_t)t->rank * sizeof *t->shape) != 0)) {
        complain(j, j->result.base_directory,
            qc_arena_printf(j->arena, "%s is %s, but %s in %s", b->name,
                check_shape_text(j->arena, b->shape, b->rank), check_shape_text(j->arena, t->shape, t->rank),
                j->result.directory));
        return;
    }
    add_pair(j, &p);
}

/* Belongs to codes or to attention: nothing of its own to compare. */
static bool is_parameter_of_codes(const char *name)
{
    const char *dot = strrchr(name, '.');
    for (int part = CHECK_WEIGHT_SCALE; dot && part < CHECK_PART_COUNT; part++)
        if (strcmp(dot + 1, check_part_name((check_part)part)) == 0)
            return true;
    return dot && qc_ends_with(name, "_zero_point");
}

static void find_pairs(job *j)
{
    for (size_t i = 0; i < j->set.tensor_count; i++) {
        const qc_st_tensor *t = &j->set.tensors[i];
        const char *dot = strrchr(t->name, '.');
        if (is_parameter_of_codes(t->name))
            continue;
        bool packed = dot && strcmp(dot, ".weight_packed") == 0;
        if (packed || (dot && strcmp(dot, ".weight") == 0 && check_is_code(t->dtype)))
            pair_codes(
                j, check_model_find(&j->model, qc_arena_strndup(j->arena, t->name, (size_t)(dot - t->name))));
        else
            pair_plain(j, t);
    }
}

/* Every weight of the baseline is in the checkpoint, in whatever form. */
static void find_missing(job *j)
{
    for (size_t i = 0; i < j->base_set.tensor_count; i++) {
        const qc_st_tensor *t = &j->base_set.tensors[i];
        if (qc_st_find(&j->set, t->name) || !check_is_plain(t->dtype) || check_is_fused(&j->model, t) ||
            qc_ends_with(t->name, "rotary_emb.inv_freq"))
            continue;
        bool weight = qc_ends_with(t->name, ".weight");
        const char *packed = qc_arena_printf(j->arena, "%s_packed", t->name);
        if (!(weight && qc_st_find(&j->set, packed)) && !tied_embedding(&j->model, t->name))
            complain(j, j->result.directory,
                qc_arena_printf(j->arena, "has no %s, which %s has", t->name, j->result.base_directory));
    }
}

/* Rotations that were fused into the weights: then only a baseline with the same ones is one. */
static void warn_of_rotations(job *j)
{
    const qc_json *groups =
        qc_json_get(qc_json_get(j->model.quantization, "transform_config"), "config_groups");
    for (const qc_json *g = groups && groups->kind == QC_JSON_OBJECT ? groups->first : NULL; g; g = g->next) {
        const qc_json *apply = qc_json_get(g, "apply");
        for (const qc_json *a = apply && apply->kind == QC_JSON_ARRAY ? apply->first : NULL; a; a = a->next) {
            const qc_json *at = qc_json_get(a, "location");
            if (at && at->kind == QC_JSON_STRING && qc_starts_with(at->text, "weight_")) {
                qc_warning(j->diag, j->result.directory,
                    "transform_config: %s was fused into weights; against a baseline without it, errors are "
                    "not those of quantization",
                    g->key);
                return;
            }
        }
    }
}

/* ---- sums ---------------------------------------------------------------------------------------------- */

static void add_sums(check_sums *total, const check_sums *part)
{
    total->error_squares += part->error_squares;
    total->squares += part->squares;
    total->max_error = part->max_error > total->max_error ? part->max_error : total->max_error;
    if (total->first_not_finite < 0)
        total->first_not_finite = part->first_not_finite;
    total->not_finite += part->not_finite;
    total->saturated += part->saturated;
    total->zeros += part->zeros;
    total->outside += part->outside;
}

/* One row; elements that are not finite on either side are left out when `careful`. */
static void sum_row(const float *w, const float *v, int64_t n, bool careful, check_sums *row)
{
    double errors[LANES] = {0}, squares[LANES] = {0}, most[LANES] = {0};
    *row = (check_sums){.first_not_finite = -1};
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t lanes = n - i < LANES ? n - i : LANES;
        for (int64_t k = 0; k < lanes; k++) {
            double x = (double)w[i + k], d = x - (double)v[i + k];
            if (careful && !isfinite(d)) {
                row->first_not_finite = row->not_finite++ ? row->first_not_finite : i + k;
                continue;
            }
            errors[k] += d * d;
            squares[k] += x * x;
            most[k] = fabs(d) > most[k] ? fabs(d) : most[k];
        }
    }
    for (int k = 0; k < LANES; k++) {
        row->error_squares += errors[k];
        row->squares += squares[k];
        row->max_error = most[k] > row->max_error ? most[k] : row->max_error;
    }
}

/* Counts of codes at an end of the grid, of those that stand for 0, and of those that are no number of the grid. */
static void count_codes(const check_weight *w, int64_t rows, const check_rows *b, check_sums *sums)
{
    uint64_t counts[256] = {0};
    const bool is_int = w->grid.storage == QC_I8, symmetric = w->group->weights.symmetric;
    for (int64_t i = 0; i < rows * w->columns; i++)
        counts[b->codes[i]]++;
    for (int code = 0; code < 256; code++) {
        float value = is_int                         ? (float)(int8_t)code
                      : w->grid.storage == QC_F4E2M1 ? qc_f4e2m1_to_f32((uint8_t)code)
                                                     : qc_f8e4m3_to_f32((uint8_t)code);
        sums->saturated += value == w->grid.min || value == w->grid.max ? counts[code] : 0;
        sums->outside += value < w->grid.min || value > w->grid.max ? counts[code] : 0;
        sums->zeros += symmetric && value == 0 ? counts[code] : 0;
    }
    int64_t elems, n = check_row_scales(w, &elems);
    for (int64_t r = 0; !symmetric && r < rows; r++)
        for (int64_t g = 0; g < n; g++) {
            const int64_t end = (g + 1) * elems < w->columns ? (g + 1) * elems : w->columns;
            const uint8_t zero = (uint8_t)(int8_t)b->zero_points[r * n + g];
            for (int64_t c = g * elems; c < end; c++)
                sums->zeros += b->codes[r * w->columns + c] == zero;
        }
}

/* A thread's buffers: grown, never shrunk. */
typedef struct worker {
    qc_arena arena;
    qc_diag diag;
    char where[512], what[512]; /* of its first error */
    void *memory;
    size_t capacity;
} worker;

static void keep(void *user, qc_severity severity, const char *where, const char *what)
{
    worker *k = user;
    if (severity != QC_SEVERITY_ERROR || k->diag.error_count > 1)
        return;
    snprintf(k->where, sizeof k->where, "%s", where);
    snprintf(k->what, sizeof k->what, "%s", what);
}

static qc_status sum_block(job *j, worker *k, block *b)
{
    const check_pair *p = &j->pairs.items[b->pair];
    const int64_t columns = p->coded.columns;
    const size_t values = (size_t)(b->rows * columns) * sizeof(float);
    const size_t coded = check_rows_bytes(&p->coded, b->rows), base = check_rows_bytes(&p->base, b->rows);
    if (2 * values + coded + base + 64 > k->capacity) {
        free(k->memory);
        k->capacity = 2 * values + coded + base + 64;
        k->memory = malloc(k->capacity);
        if (!k->memory) {
            k->capacity = 0;
            return qc_error(&k->diag, p->name, "out of memory for %" PRId64 " rows", b->rows);
        }
    }
    check_rows of_coded, of_base;
    char *at = k->memory;
    check_rows_init(&of_coded, &p->coded, b->rows, at);
    check_rows_init(&of_base, &p->base, b->rows, at + coded);
    float *w = (float *)(void *)(at + coded + base), *v = w + b->rows * columns;
    if (check_weight_rows(&k->diag, &j->model, &p->coded, p->to, b->first, b->rows, &of_coded, v) != QC_OK ||
        check_weight_rows(&k->diag, &j->base, &p->base, p->to, b->first, b->rows, &of_base, w) != QC_OK)
        return QC_ERROR;
    b->sums = (check_sums){.first_not_finite = -1};
    for (int64_t r = 0; r < b->rows; r++) {
        check_sums row;
        sum_row(w + r * columns, v + r * columns, columns, false, &row);
        if (!isfinite(row.error_squares))
            sum_row(w + r * columns, v + r * columns, columns, true, &row);
        if (row.first_not_finite >= 0)
            row.first_not_finite += (b->first + r) * columns;
        add_sums(&b->sums, &row);
    }
    if (p->coded.storage != CHECK_PLAIN)
        count_codes(&p->coded, b->rows, &of_coded, &b->sums);
    return QC_OK;
}

static void tell_progress(job *j, const block *b)
{
    const check_pair *p = &j->pairs.items[b->pair];
    const uint64_t bytes = p->coded.codes->size_bytes + bytes_of_base(p);
    /* in whole steps that add up: the share up to the end of the block less that up to its beginning */
    const uint64_t rows = (uint64_t)p->coded.rows;
    j->done_bytes += bytes / rows * (uint64_t)b->rows;
    if (j->options->progress && j->done_bytes < j->total_bytes)
        j->options->progress(j->options->progress_user, "compare", "B", j->done_bytes, j->total_bytes);
}

static void work(job *j, worker *k)
{
    qc_arena_init(&k->arena, j->arena->oom);
    qc_diag_init(&k->diag, &k->arena, keep, k);
#pragma omp for schedule(dynamic)
    for (size_t i = 0; i < j->block_count; i++) {
        bool failed;
#pragma omp atomic read
        failed = j->failed;
        if (failed)
            continue;
        qc_status status = sum_block(j, k, &j->blocks[i]);
#pragma omp critical(check_baseline)
        {
            if (status == QC_OK)
                tell_progress(j, &j->blocks[i]);
            else {
                if (!j->failed)
                    qc_error(j->diag, k->where, "%s", k->what);
#pragma omp atomic write
                j->failed = true;
            }
        }
    }
    free(k->memory);
    qc_arena_fini(&k->arena);
}

static qc_status sum_all(job *j)
{
    const int threads = j->options->threads > 0 ? j->options->threads : omp_get_max_threads();
#pragma omp parallel num_threads(threads)
    {
        worker k = {.memory = NULL};
        work(j, &k);
    }
    if (j->failed)
        return QC_ERROR;
    if (j->options->progress && j->total_bytes)
        j->options->progress(j->options->progress_user, "compare", "B", j->total_bytes, j->total_bytes);
    for (size_t i = 0; i < j->pairs.count; i++)
        j->pairs.items[i].sums = (check_sums){.first_not_finite = -1};
    for (size_t i = 0; i < j->block_count; i++)
        add_sums(&j->pairs.items[j->blocks[i].pair].sums, &j->blocks[i].sums);
    for (size_t i = 0; i < j->pairs.count; i++) {
        check_pair *p = &j->pairs.items[i];
        p->relative_error = p->sums.error_squares > 0 ? sqrt(p->sums.error_squares / p->sums.squares) : 0;
    }
    return QC_OK;
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

static qc_status open_both(job *j)
{
    const char *a = j->result.directory, *b = j->result.base_directory;
    const qc_json *config = NULL, *base_config = NULL;
    if (check_open(j->diag, j->arena, a, &j->set, &config) != QC_OK ||
        check_open(j->diag, j->arena, b, &j->base_set, &base_config) != QC_OK ||
        check_model_open(j->diag, j->arena, a, &j->set, config, &j->model) != QC_OK)
        return QC_ERROR;
    if (!j->model.quantization)
        return qc_error(j->diag, a, "has no quantization_config: nothing in it is quantized");
    if (!check_model_is_compressed_tensors(&j->model))
        return qc_error(j->diag, a, "quant_method is %s; errors are computed for compressed-tensors",
            j->model.method ? j->model.method : "not given");
    const qc_json *q = qc_json_get(base_config, "quantization_config");
    if (q && q->kind == QC_JSON_OBJECT)
        return qc_error(j->diag, b, "is quantized itself; a baseline holds the weights before quantization");
    return check_model_open(j->diag, j->arena, b, &j->base_set, base_config, &j->base);
}

static qc_status compare(job *j)
{
    if (open_both(j) != QC_OK)
        return QC_ERROR;
    find_pairs(j);
    find_missing(j);
    if (j->complaints > MAX_COMPLAINTS)
        qc_error(j->diag, j->result.directory, "%zu more of these", j->complaints - MAX_COMPLAINTS);
    if (j->complaints)
        return QC_ERROR;
    bool any = false;
    for (size_t i = 0; i < j->pairs.count; i++)
        any = any || j->pairs.items[i].coded.group;
    if (!any)
        return qc_error(j->diag, j->result.directory, "no weight is quantized");
    warn_of_rotations(j);
    make_blocks(j);
    return sum_all(j);
}

qc_status qc_check_baseline(qc_diag *diag, qc_arena *arena, const char *directory, const char *baseline,
    const qc_check_baseline_options *options, qc_str *out, size_t *problem_count)
{
    job j = {.diag = diag,
        .arena = arena,
        .options = options,
        .result = {.directory = directory, .base_directory = baseline}};
    qc_status status = compare(&j);
    if (status == QC_OK) {
        j.result.pairs = j.pairs.items;
        j.result.pair_count = j.pairs.count;
        check_errors_report(arena, &j.result, options, out);
        *problem_count = j.result.problems.count;
    }
    check_model_close(&j.model);
    check_model_close(&j.base);
    qc_st_close(&j.set);
    qc_st_close(&j.base_set);
    return status;
}
