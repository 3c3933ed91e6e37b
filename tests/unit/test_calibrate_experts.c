/* SPDX-License-Identifier: MIT
 *
 * test_calibrate_experts.c - experts one by one against the whole function: what their layers give, bit for bit,
 * against one plan of everything; what is observed in each expert, against a reference run of everything; the same over
 * threads, memory and groups of experts; ranges of those that saw too little; every error by its words.
 */
#include "tests/unit/expert_model.h"

#include <math.h>

#include "backends/reference/reference.h"
#include "frontends/text/dataset.h"
#include "runtime/calibrate_internal.h"
#include "runtime/plan.h"
#include "runtime/segments.h"

typedef struct job {
    messages said;
    qc_ctx *ctx;
    qc_arena arena;
    qc_module *module;
    qc_dataset data;
    qc_stats stats;
    qc_calibrate_cost cost;
} job;

static void random_data(job *j, size_t count, size_t longest)
{
    qc_token_sequence *sequences = QC_NEW_ARRAY(&j->arena, qc_token_sequence, count);
    uint32_t seed = 11;
    j->data = (qc_dataset){.sequences = sequences, .count = count};
    for (size_t i = 0; i < count; i++) {
        size_t tokens = 1 + i * 5 % longest;
        int32_t *ids = QC_NEW_ARRAY(&j->arena, int32_t, tokens);
        for (size_t k = 0; k < tokens; k++) {
            seed = seed * 1664525u + 1013904223u;
            ids[k] = (int32_t)(seed >> 16) % WORDS;
        }
        sequences[i] = (qc_token_sequence){ids, tokens, i + 1};
        j->data.token_count += tokens;
    }
}

static bool open_job(job *j, expert_model *m)
{
    *j = (job){0};
    j->ctx = qc_ctx_create(NULL, keep_message, &j->said);
    qc_arena_init(&j->arena, NULL);
    const char *text = expert_model_text(m, &j->arena);
    j->module = qc_module_parse(j->ctx, "test", text, strlen(text));
    if (!j->module) {
        CHECK_FAIL("%s\n%s", j->said.last, text);
        return false;
    }
    qc_module_set_source(j->module, m->directory);
    random_data(j, 9, 13);
    return true;
}

static void close_job(job *j)
{
    if (j->module)
        qc_module_destroy(j->module);
    qc_ctx_destroy(j->ctx);
    qc_arena_fini(&j->arena);
}

static qc_status calibrate(job *j, int threads, uint64_t max_memory)
{
    qc_calibrate_options options = {.threads = threads, .max_memory_bytes = max_memory, .cost = &j->cost};
    qc_stats_init(&j->stats, &j->arena);
    return qc_calibrate(j->ctx, j->module, &j->data, &options, &j->stats);
}

static bool same_stats(const qc_stats *a, const qc_stats *b)
{
    bool same = a->records.count == b->records.count && a->records.count > 0;
    for (size_t i = 0; same && i < a->records.count; i++) {
        const qc_stats_record *x = a->records.entries[i].value, *y = qc_stats_find(b, x->tap, x->kind);
        const size_t floats =
            (x->kind == QC_STATS_MINMAX ? x->sequences * x->heads : x->columns) * sizeof(float);
        same = y && x->sequences == y->sequences && x->heads == y->heads && x->columns == y->columns;
        if (same && x->kind == QC_STATS_TOKENS)
            same = memcmp(x->routed, y->routed, x->columns * sizeof *x->routed) == 0 &&
                   memcmp(x->seen, y->seen, x->columns * sizeof *x->seen) == 0;
        else if (same)
            same = memcmp(x->min, y->min, floats) == 0 && memcmp(x->max, y->max, floats) == 0;
        if (!same)
            printf("# %s differs\n", x->tap);
    }
    return same;
}

static const qc_value *value_of(const job *j, const char *hint)
{
    for (const qc_op *op = qc_func_first_op(qc_module_func(j->module, "main")); op; op = qc_op_next(op))
        if (qc_value_hint(qc_op_result(op, 0)) && strcmp(qc_value_hint(qc_op_result(op, 0)), hint) == 0)
            return qc_op_result(op, 0);
    CHECK_FAIL("there is no %s", hint);
    return NULL;
}

/* ---- the whole function as one plan -------------------------------------------------------------------- */

typedef struct whole {
    qc_host_engine *engine;
    qc_rope_tables *rope;
    qc_decomposer *decomposer;
    qc_weights *weights;
    qc_bank *bank;
    qc_value_kinds kinds;
    qc_plan *plan;
    qc_worker worker;
} whole;

static bool open_whole(whole *w, job *j, const qc_value *const *outputs, size_t count)
{
    const qc_func *func = qc_module_func(j->module, "main");
    *w = (whole){.engine = qc_host_engine_create(qc_ctx_diag(j->ctx), &(qc_host_options){.thread_count = 1}),
        .rope = qc_rope_tables_create(j->ctx),
        .decomposer = qc_decomposer_create(j->ctx),
        .weights = qc_weights_open(j->ctx, j->module, NULL)};
    qc_value_kinds_init(&w->kinds, &j->arena);
    qc_value_kinds_add(&w->kinds, func);
    qc_worker_init(&w->worker, j->ctx);
    if (!w->weights)
        return false;
    w->bank = qc_bank_create(
        &(qc_bank_options){.ctx = j->ctx, .engine = w->engine, .weights = w->weights, .without_codes = true});
    qc_plan_env env = {j->ctx, j->module, w->engine, w->bank, w->rope, w->decomposer, &w->kinds};
    w->plan = qc_plan_create(&env,
        &(qc_plan_request){.func = func, .outputs = outputs, .output_count = count, .calibrating = true});
    if (!w->plan)
        CHECK_FAIL("%s", j->said.last);
    return w->plan != NULL;
}

static void close_whole(whole *w)
{
    qc_plan_destroy(w->plan);
    qc_bank_destroy(w->bank);
    qc_weights_close(w->weights);
    qc_worker_fini(&w->worker);
    qc_decomposer_destroy(w->decomposer);
    qc_rope_tables_destroy(w->rope);
    qc_host_engine_destroy(w->engine);
}

/* Ranges of each column of x [tokens, 8] of sequence s against the record. */
static void check_columns(const qc_stats_record *r, size_t s, qc_dtype dtype, const void *x, size_t tokens)
{
    float *values = as_f32(dtype, x, tokens * WIDTH);
    for (size_t c = 0; c < WIDTH; c++) {
        float min = INFINITY, max = -INFINITY;
        for (size_t t = 0; t < tokens; t++) {
            min = fminf(min, values[t * WIDTH + c]);
            max = fmaxf(max, values[t * WIDTH + c]);
        }
        if (r->min[s * WIDTH + c] != min || r->max[s * WIDTH + c] != max)
            CHECK_FAIL("%s, sequence %zu, column %zu: [%a, %a], not [%a, %a]", r->tap, s, c,
                (double)r->min[s * WIDTH + c], (double)r->max[s * WIDTH + c], (double)min, (double)max);
    }
    free(values);
}

/* What both layers give, as a plan of everything has it: bit for bit. */
static void check_outputs(job *j, const expert_model *m)
{
    static const char *const hints[] = {"x2", "x3"}, *const taps[] = {"middle", "end"};
    const qc_value *values[2] = {value_of(j, hints[0]), value_of(j, hints[1])};
    const void *outputs[2];
    whole w;
    if (open_whole(&w, j, values, 2))
        for (size_t s = 0; s < j->data.count; s++) {
            const qc_token_sequence *sequence = &j->data.sequences[s];
            qc_run run = {.plan = w.plan,
                .worker = &w.worker,
                .ids = sequence->ids,
                .tokens = sequence->count,
                .outputs = outputs};
            if (qc_plan_run(&run) != QC_OK) {
                qc_worker_report(&w.worker, j->ctx);
                CHECK_FAIL("%s", j->said.last);
                break;
            }
            for (size_t i = 0; i < (m->end ? 2 : 1); i++) {
                const qc_stats_record *r = qc_stats_find(&j->stats, taps[i], QC_STATS_MINMAX);
                CHECK(r && r->sequences == j->data.count && r->heads == WIDTH);
                if (r)
                    check_columns(r, s, m->dtype, outputs[i], sequence->count);
            }
        }
    close_whole(&w);
}

/* ---- the whole function by its reference semantics ----------------------------------------------------- */

enum { LAYERS = 2, PLACES = 2, MOST_TOKENS = 16, MOST_ROWS = EXPERTS * MOST_TOKENS };
static const char *const places[PLACES] = {"gate", "down"};

typedef struct seen {
    int32_t rows[LAYERS][3 * MOST_ROWS];
    size_t count[LAYERS], columns[LAYERS][PLACES];
    float x[LAYERS][PLACES][MOST_ROWS * INNER];
} seen;

static void see(void *user, const qc_value *value, const qc_tensor *tensor)
{
    seen *s = ((seen **)user)[1];
    const char *hint = qc_value_hint(value);
    for (size_t l = 0; hint && l < LAYERS; l++) {
        const char *const names[] = {l ? "xs2" : "xs1", l ? "h2" : "h1"};
        if (strcmp(hint, l ? "rows2" : "rows1") == 0) {
            s->count[l] = (size_t)tensor->dims[1];
            memcpy(s->rows[l], tensor->data, 3 * s->count[l] * sizeof(int32_t));
        }
        for (size_t p = 0; p < PLACES; p++)
            if (strcmp(hint, names[p]) == 0) {
                s->columns[l][p] = (size_t)tensor->dims[1];
                float *x = as_f32(tensor->dtype, tensor->data, (size_t)tensor->count);
                memcpy(s->x[l][p], x, (size_t)tensor->count * sizeof *x);
                free(x);
            }
    }
}

static qc_status weight_of(void *user, qc_diag *diag, const char *name, qc_tensor *stored)
{
    return give_tensor(((void **)user)[0], diag, name, stored);
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The range of an expert's rows: of all values, or [-a, a] that 90 of 100 magnitudes do not exceed. */
static size_t range_of(const seen *s, size_t l, size_t p, int32_t e, float *min, float *max)
{
    float magnitudes[MOST_ROWS * INNER];
    size_t rows = 0, count = 0, columns = s->columns[l][p];
    *min = INFINITY;
    *max = -INFINITY;
    for (size_t r = 0; r < s->count[l]; r++) {
        if (s->rows[l][r] != e)
            continue;
        rows++;
        for (size_t c = 0; c < columns; c++) {
            float v = s->x[l][p][r * columns + c];
            *min = fminf(*min, v);
            *max = fmaxf(*max, v);
            magnitudes[count++] = fabsf(v);
        }
    }
    if (l == 1 && p == 1 && count) {
        qsort(magnitudes, count, sizeof *magnitudes, compare_floats);
        *max = magnitudes[(size_t)ceil(0.9 * (double)count) - 1];
        *min = -*max;
    }
    return rows;
}

/* Sums in f32 and in f64 differ in last bits, which bf16 may round apart. */
static bool near(float a, float b, qc_dtype dtype)
{
    return fabsf(a - b) <= (dtype == QC_F32 ? 1e-5f : 0.03f) * fmaxf(1, fabsf(b));
}

static void check_seen(job *j, const expert_model *m, const seen *s, size_t sequence,
    size_t rows[LAYERS][EXPERTS], int64_t routed[LAYERS][EXPERTS])
{
    char tap[64];
    for (size_t l = 0; l < LAYERS; l++)
        for (int32_t e = 0; e < EXPERTS; e++) {
            size_t count = 0;
            for (size_t p = 0; p < PLACES; p++) {
                float min, max;
                snprintf(tap, sizeof tap, "m%zu.e.%d.%s.input", l + 1, (int)e, places[p]);
                count = range_of(s, l, p, e, &min, &max);
                const qc_stats_record *r = qc_stats_find(&j->stats, tap, QC_STATS_MINMAX);
                const size_t at = rows[l][e];
                if (count && (!r || at >= r->sequences || !near(r->min[at], min, m->dtype) ||
                                 !near(r->max[at], max, m->dtype)))
                    CHECK_FAIL("%s, sequence %zu: %g to %g, not %g to %g", tap, sequence,
                        r ? (double)r->min[at] : 0, r ? (double)r->max[at] : 0, (double)min, (double)max);
            }
            rows[l][e] += count > 0;
            for (size_t r = 0; r < s->count[l]; r++)
                routed[l][e] += s->rows[l][r] == e && s->rows[l][2 * s->count[l] + r] >= 0;
        }
}

/* Ranges of every expert, sequence by sequence, and the counts. */
static void check_experts(job *j, expert_model *m)
{
    static seen s;
    void *user[2] = {m, &s};
    size_t rows[LAYERS][EXPERTS] = {{0}};
    int64_t routed[LAYERS][EXPERTS] = {{0}};
    expert_model bare = *m;
    bare.observed = false;
    const char *text = expert_model_text(&bare, &j->arena);
    qc_module *module = qc_module_parse(j->ctx, "bare", text, strlen(text));
    qc_reference *reference = qc_reference_create(
        module, &(qc_reference_options){.user = user, .weight = weight_of, .observe = see});
    for (size_t i = 0; i < j->data.count; i++) {
        const qc_token_sequence *sequence = &j->data.sequences[i];
        int64_t ids[MOST_TOKENS];
        for (size_t t = 0; t < sequence->count; t++)
            ids[t] = sequence->ids[t];
        qc_tensor input = {.dtype = QC_I64,
            .rank = 2,
            .dims = {1, (int64_t)sequence->count},
            .count = (int64_t)sequence->count,
            .data = ids};
        qc_tensor output;
        qc_reference_reset(reference);
        if (qc_reference_run(reference, qc_module_func(module, "main"), &input, 1, &output) != QC_OK) {
            CHECK_FAIL("%s", j->said.last);
            break;
        }
        qc_tensor_free(&output);
        check_seen(j, m, &s, i, rows, routed);
    }
    for (size_t l = 0; l < LAYERS; l++) {
        const qc_stats_record *counts = qc_stats_find(&j->stats, l ? "m2.e" : "m1.e", QC_STATS_TOKENS);
        CHECK(counts && counts->columns == EXPERTS);
        for (size_t e = 0; counts && e < EXPERTS; e++) {
            CHECK_INT(counts->routed[e], routed[l][e]);
            CHECK_INT(counts->seen[e], m->all ? (int64_t)j->data.token_count : routed[l][e]);
        }
    }
    qc_reference_destroy(reference);
    qc_module_destroy(module);
}

static void check_model(qc_dtype dtype, bool all, const char *sum, bool end)
{
    expert_model m = {.dtype = dtype, .all = all, .sum = sum, .observed = true, .end = end};
    job j;
    if (!write_expert_model(&m))
        SKIP("no directory can be made here");
    if (open_job(&j, &m)) {
        if (calibrate(&j, 2, 0) == QC_OK) {
            check_outputs(&j, &m);
            check_experts(&j, &m);
            CHECK_INT(j.cost.rows_routed, CHOSEN * j.data.token_count);
            CHECK_INT(j.cost.rows_run, (all ? LAYERS * EXPERTS : CHOSEN) * j.data.token_count);
        } else {
            CHECK_FAIL("%s", j.said.last);
        }
    }
    close_job(&j);
    remove_expert_model(&m);
}

static void test_routed(void)
{
    check_model(QC_F32, false, "each", true);
    check_model(QC_BF16, false, "each", true);
    check_model(QC_BF16, false, "once", true);
    check_model(QC_F32, false, "each", false);
}

static void test_all(void)
{
    check_model(QC_F32, true, "each", true);
    check_model(QC_BF16, true, "each", true);
    check_model(QC_BF16, true, "once", true);
    check_model(QC_BF16, true, "once", false);
}

/* ---- against itself ------------------------------------------------------------------------------------ */

static void test_threads(void)
{
    static const int threads[] = {1, 2, 3, 12};
    expert_model m = {.dtype = QC_BF16, .sum = "each", .observed = true, .end = true};
    job j;
    qc_stats first;
    if (!write_expert_model(&m))
        SKIP("no directory can be made here");
    if (open_job(&j, &m)) {
        CHECK_INT(calibrate(&j, 1, 0), QC_OK);
        first = j.stats;
        for (size_t i = 0; i < 4; i++)
            CHECK(calibrate(&j, threads[i], 0) == QC_OK && same_stats(&first, &j.stats));
        CHECK_INT(j.cost.experts_at_once, 1);
    }
    close_job(&j);
    remove_expert_model(&m);
}

/* What layers give is that of the router, whoever sees what for the statistics. */
static void test_true_routing(void)
{
    expert_model m = {.dtype = QC_BF16, .sum = "each", .observed = true, .end = true};
    job j[2];
    if (!write_expert_model(&m))
        SKIP("no directory can be made here");
    for (int all = 0; all < 2; all++) {
        m.all = all;
        CHECK(open_job(&j[all], &m) && calibrate(&j[all], 2, 0) == QC_OK);
    }
    static const char *const taps[] = {"middle", "end"};
    for (size_t i = 0; i < 2; i++) {
        const qc_stats_record *a = qc_stats_find(&j[0].stats, taps[i], QC_STATS_MINMAX),
                              *b = qc_stats_find(&j[1].stats, taps[i], QC_STATS_MINMAX);
        CHECK(a && b && memcmp(a->min, b->min, a->sequences * a->heads * sizeof(float)) == 0 &&
              memcmp(a->max, b->max, a->sequences * a->heads * sizeof(float)) == 0);
    }
    close_job(&j[0]);
    close_job(&j[1]);
    remove_expert_model(&m);
}

/* Hidden states wait on disk, and so do unfinished sums: as many experts are resident as make that the least. */
static void check_memory(bool all, const char *sum)
{
    expert_model m = {.dtype = QC_F32, .all = all, .sum = sum, .observed = true, .end = true};
    job j;
    uint64_t most, less;
    if (!write_expert_model(&m))
        SKIP("no directory can be made here");
    if (open_job(&j, &m)) {
        random_data(&j, 300, 300);
        CHECK_INT(calibrate(&j, 2, 0), QC_OK);
        CHECK_INT(j.cost.experts_at_once, 1);
        qc_stats first = j.stats;
        qc_calibrate_options options = {.threads = 2};
        CHECK_INT(qc_calibrate_plan(j.ctx, j.module, &j.data, &options, &most), QC_OK);
        options.max_memory_bytes = most - j.data.token_count * WIDTH * sizeof(float);
        CHECK_INT(qc_calibrate_plan(j.ctx, j.module, &j.data, &options, &less), QC_OK);
        CHECK(less <= options.max_memory_bytes && less > most / 4);
        CHECK(calibrate(&j, 2, options.max_memory_bytes) == QC_OK && same_stats(&first, &j.stats));
        CHECK_INT(j.cost.experts_at_once, EXPERTS);
        CHECK_INT(calibrate(&j, 1, 1 << 20), QC_ERROR);
        CHECK(said(&j.said, "more than the limit of 1 MiB"));
    }
    close_job(&j);
    remove_expert_model(&m);
}

static void test_memory(void)
{
    check_memory(false, "once");
    check_memory(true, "each");
}

/* Weights so large that two experts do not fit beside the rest: groups of one, sums on disk between them. */
static void test_groups(void)
{
    expert_model m = {.dtype = QC_F32, .sum = "each", .observed = true, .end = true};
    job j;
    if (!write_expert_model(&m))
        SKIP("no directory can be made here");
    if (open_job(&j, &m)) {
        random_data(&j, 60, 200);
        CHECK_INT(calibrate(&j, 1, 0), QC_OK);
        qc_stats first = j.stats;
        for (int64_t experts = 1; experts <= EXPERTS; experts++) {
            qc_calibration c;
            qc_stats_init(&j.stats, &j.arena);
            CHECK_INT(
                qc_calibration_begin(&c, j.ctx, j.module, &j.data, &(qc_calibrate_options){.threads = 2}),
                QC_OK);
            c.experts = experts;
            c.hidden_memory /= 3;
            CHECK_INT(qc_calibration_run(&c, &j.stats), QC_OK);
            CHECK(same_stats(&first, &j.stats));
            qc_calibration_end(&c);
        }
    }
    close_job(&j);
    remove_expert_model(&m);
}

/* The parts of the data, each of which reaches other experts, and what is put together of their files. */
static void test_merge(void)
{
    expert_model m = {.dtype = QC_BF16, .sum = "each", .observed = true, .end = true, .spread = 1.5f};
    job j;
    qc_stats merged = {0};
    bool missing = false;
    if (!write_expert_model(&m))
        SKIP("no directory can be made here");
    if (open_job(&j, &m)) {
        CHECK_INT(calibrate(&j, 2, 0), QC_OK);
        const qc_dataset all = j.data;
        qc_stats everything = j.stats, read;
        for (size_t i = 0; i < all.count; i++) {
            const char *path = qc_path_join(&j.arena, m.directory, qc_arena_printf(&j.arena, "stats%zu", i));
            j.data = (qc_dataset){&all.sequences[i], 1, all.sequences[i].count};
            CHECK_INT(calibrate(&j, 2, 0), QC_OK);
            missing = missing || j.stats.records.count < everything.records.count;
            qc_stats_init(&read, &j.arena);
            CHECK_INT(qc_stats_save(qc_ctx_diag(j.ctx), &j.stats, path), QC_OK);
            CHECK_INT(qc_stats_load(qc_ctx_diag(j.ctx), &read, path), QC_OK);
            if (i == 0)
                merged = read;
            else
                CHECK_INT(qc_stats_merge(qc_ctx_diag(j.ctx), &merged, &read, "more"), QC_OK);
        }
        CHECK(missing && same_stats(&everything, &merged) && same_stats(&merged, &everything));
    }
    close_job(&j);
    remove_expert_model(&m);
}

#include "tests/unit/calibrate_large.h"

/* ---- segments ------------------------------------------------------------------------------------------ */

static void test_segments(void)
{
    expert_model m = {.dtype = QC_BF16, .sum = "each", .observed = true};
    job j;
    qc_segments s;
    qc_value_kinds kinds;
    if (!write_expert_model(&m))
        SKIP("no directory can be made here");
    if (open_job(&j, &m)) {
        const qc_func *func = qc_module_func(j.module, "main");
        qc_value_kinds_init(&kinds, &j.arena);
        qc_value_kinds_add(&kinds, func);
        CHECK_INT(qc_segments_find(&j.arena, func, &kinds, &s), QC_OK);
        CHECK_INT(s.count, 4);
        const qc_expert_region *first = s.items[1].region, *last = s.items[3].region;
        CHECK(!s.items[0].region && first && !s.items[2].region && last);
        if (first && last) {
            CHECK(strcmp(first->path, "m1.e") == 0 && strcmp(last->path, "m2.e") == 0);
            CHECK(first->combine && !last->combine && !first->all && !first->once);
            CHECK_INT(first->observe_count, 2);
            CHECK_INT(first->input_count, 2);
            CHECK_INT(first->weight_bytes, 2 * (2 * WIDTH * INNER + INNER * WIDTH + WIDTH));
            CHECK_INT(s.items[1].output_count, 2); /* x1, and the sum */
            CHECK_INT(s.items[3].output_count, 0);
        }
    }
    close_job(&j);
    remove_expert_model(&m);
}

/* ---- ranges of experts become constants ---------------------------------------------------------------- */

/* [2, E] of the layer's place; false when nothing there is a constant. */
static bool constant_of(const job *j, const expert_model *m, const char *hint, float values[2 * EXPERTS])
{
    const qc_op *op = qc_value_op(value_of(j, hint));
    if (!op || !qc_op_is(op, "const"))
        return false;
    const qc_attr *data = qc_op_attr(op, "value");
    CHECK_INT(qc_attr_count(data), 2 * EXPERTS);
    qc_decode_f32(m->dtype, qc_attr_data_bytes(data), values, 2 * EXPERTS);
    return true;
}

static float amax_of(const expert_model *m, const char *name)
{
    float amax = 0;
    for (size_t i = 0; i < m->tensor_count; i++)
        if (strcmp(m->tensors[i].name, name) == 0) {
            float *x = as_f32(m->dtype, m->tensors[i].user, WIDTH * INNER);
            for (size_t k = 0; k < WIDTH * INNER; k++)
                amax = fmaxf(amax, fabsf(x[k]));
            free(x);
        }
    return amax;
}

/* With a bias that keeps the router from expert 2. */
static void check_fallback(const char *fallback, int min_tokens)
{
    expert_model m = {.dtype = QC_BF16,
        .sum = "each",
        .observed = true,
        .end = true,
        .spread = 100,
        .fallback = fallback,
        .min_tokens = min_tokens};
    float values[2 * EXPERTS];
    job j;
    if (!write_expert_model(&m))
        SKIP("no directory can be made here");
    if (open_job(&j, &m) && calibrate(&j, 2, 0) == QC_OK) {
        CHECK(!qc_stats_find(&j.stats, "m1.e.2.down.input", QC_STATS_MINMAX));
        if (qc_calibrate_resolve(j.ctx, j.module, &j.stats) != QC_OK)
            CHECK_FAIL("%s", j.said.last);
        CHECK(said(&j.said, "m1.e: 1 of 4 experts saw fewer than "));
        CHECK(said(&j.said, strcmp(fallback, "layer") == 0 ? "get the range of the others: 2 (0 tokens)"
                                                           : "get the range of their weights: 2 (0 tokens)"));
        CHECK_INT(qc_module_verify(j.module, "calibrate"), QC_OK);
        CHECK(constant_of(&j, &m, "o1down", values));
        float min = INFINITY, max = -INFINITY;
        for (size_t e = 0; e < EXPERTS; e++) {
            char tap[64];
            snprintf(tap, sizeof tap, "m1.e.%zu.down.input", e);
            const qc_stats_record *r = qc_stats_find(&j.stats, tap, QC_STATS_MINMAX);
            float low = INFINITY, high = -INFINITY;
            for (size_t s = 0; r && s < r->sequences; s++) {
                low = fminf(low, r->min[s]);
                high = fmaxf(high, r->max[s]);
            }
            if (r)
                CHECK(values[e] == low && values[EXPERTS + e] == high);
            min = fminf(min, low);
            max = fmaxf(max, high);
        }
        if (strcmp(fallback, "weights") == 0) {
            max = amax_of(&m, "m1.e.2.down.weight");
            min = -max;
        }
        CHECK(values[2] == min && values[EXPERTS + 2] == max);
    } else {
        CHECK_FAIL("%s", j.said.last);
    }
    close_job(&j);
    remove_expert_model(&m);
}

static void test_fallbacks(void)
{
    check_fallback("layer", 1);
    check_fallback("layer", 3);
    check_fallback("weights", 1);
}

/* All tokens through all experts: nothing is missing, and behind the calibration rows are those of the router again. */
static void test_resolved_all(void)
{
    expert_model m = {
        .dtype = QC_BF16, .sum = "each", .all = true, .observed = true, .end = true, .spread = 100};
    float values[2 * EXPERTS];
    job j;
    if (!write_expert_model(&m))
        SKIP("no directory can be made here");
    if (open_job(&j, &m) && calibrate(&j, 2, 0) == QC_OK &&
        qc_calibrate_resolve(j.ctx, j.module, &j.stats) == QC_OK) {
        CHECK_INT(qc_module_verify(j.module, "calibrate"), QC_OK);
        CHECK(constant_of(&j, &m, "o2gate", values) && constant_of(&j, &m, "o1gate", values));
        for (size_t e = 1; e < EXPERTS; e++) /* every expert read every row of x */
            CHECK(values[e] == values[0] && values[EXPERTS + e] == values[EXPERTS]);
        for (const qc_op *op = qc_func_first_op(qc_module_func(j.module, "main")); op; op = qc_op_next(op))
            if (qc_op_is(op, "expert_rows"))
                CHECK(!qc_attr_as_bool(qc_op_attr(op, "all")));
    } else {
        CHECK_FAIL("%s", j.said.last);
    }
    close_job(&j);
    remove_expert_model(&m);
}

#include "tests/unit/calibrate_expert_errors.h"

int main(void)
{
    RUN(test_routed);
    RUN(test_all);
    RUN(test_threads);
    RUN(test_true_routing);
    RUN(test_memory);
    RUN(test_groups);
    RUN(test_merge);
    RUN(test_large);
    RUN(test_residents);
    RUN(test_segments);
    RUN(test_fallbacks);
    RUN(test_resolved_all);
    RUN(test_errors);
    RUN(test_refused);
    RUN(test_lacking);
    RUN(test_border);
    return check_done();
}
