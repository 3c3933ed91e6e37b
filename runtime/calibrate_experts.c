/* SPDX-License-Identifier: MIT
 *
 * calibrate_experts.c - the experts of a layer, a few at a time, over all sequences.
 *
 * The segment before has left the router's choice, the weights of it, and x. First the tokens of each expert are counted.
 * Then, for some experts at a time, in ascending order: their weights are read, and of every sequence the rows that each
 * is to see go through it, are observed, and, where the router chose it, added to the sequence's sum, which lies behind
 * the sequence's other values. So each sum is made in the order of experts, as expert_combine has it, whatever is
 * resident at a time. Experts that no token is to see are not read.
 */
#include <limits.h>
#include <stdlib.h>
#include <time.h>

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "runtime/calibrate_internal.h"

enum { EXPERT_NAMES_BYTES = 1024, RECORD_NAMES_BYTES = 512 };

/* One expert that is resident. */
typedef struct expert {
    int64_t number;
    qc_expert_body *body;
    qc_bank *bank;
    qc_plan *plan;
    qc_observed_set observed;
    size_t *rows; /* of its records, of each sequence */
} expert;

/* Where things lie in the block of a sequence. */
typedef struct layout {
    size_t *offsets; /* of the segment's inputs */
    size_t sums, inputs_end, end;
} layout;

typedef struct experts_run {
    qc_calibration_pass *p;
    const qc_expert_region *r;
    qc_arena arena;
    size_t *row_bytes;         /* of the segment's inputs */
    size_t ids, *inputs;       /* which of those are the ids, and the region's inputs */
    qc_dtype dtype, sum_dtype; /* of rows that are summed, and of their sums */
    size_t width, sum_bytes;   /* columns of the sum, bytes of a token of it; 0: there is none */
    uint32_t *counts;          /* tokens [experts, sequences] */
    expert *resident;
    size_t resident_count;
    bool first, last; /* of the groups of experts */
    atomic_uint_least64_t rows_run, rows_routed;
} experts_run;

/* ---- the block of a sequence --------------------------------------------------------------------------- */

static bool find_input(const qc_segment *s, const qc_value *value, size_t *index)
{
    for (*index = 0; *index < s->input_count; ++*index)
        if (s->inputs[*index] == value)
            return true;
    return false;
}

static size_t dtype_bytes(qc_dtype dtype)
{
    return (size_t)qc_dtype_bits(dtype) / 8;
}

/* What is known of the segment before it runs. */
static qc_status describe(experts_run *e, qc_ctx *ctx, const qc_segment *s)
{
    const qc_expert_region *r = s->region;
    bool found = find_input(s, r->ids, &e->ids);
    e->r = r;
    e->row_bytes = QC_NEW_ARRAY(&e->arena, size_t, s->input_count + 1);
    e->inputs = QC_NEW_ARRAY(&e->arena, size_t, r->input_count + 1);
    for (size_t i = 0; i < s->input_count; i++)
        e->row_bytes[i] = qc_segment_row_bytes(s->inputs[i]);
    for (size_t i = 0; i < r->input_count; i++)
        found = found && find_input(s, r->inputs[i].value, &e->inputs[i]);
    if (!found)
        return qc_ctx_error(ctx, r->path, "what its experts read is not computed before them");
    if (r->combine) {
        const qc_type *type = qc_value_type(qc_op_result(r->combine, 0));
        int64_t width;
        if (!qc_dim_as_int(qc_type_dim(type, -1), &width) || dtype_bytes(qc_type_dtype(type)) == 0)
            return qc_ctx_error(ctx, r->path, "the width of its experts' sum is not a number");
        e->dtype = qc_type_dtype(type);
        e->sum_dtype = r->once ? QC_F32 : e->dtype;
        e->width = (size_t)width;
        e->sum_bytes = e->width * dtype_bytes(e->sum_dtype);
    }
    return QC_OK;
}

static layout lay_out(const experts_run *e, const qc_segment *s, size_t tokens, size_t *offsets)
{
    layout l = {.offsets = offsets};
    for (size_t i = 0; i < s->input_count; i++)
        l.inputs_end = qc_block_next(l.inputs_end, e->row_bytes[i], tokens, &offsets[i]);
    l.end = qc_block_next(l.inputs_end, e->sum_bytes, tokens, &l.sums);
    return l;
}

/* ---- counting ------------------------------------------------------------------------------------------ */

/* The slot of the token that chose the expert, -1 when it did not. */
static int32_t slot_of(const int32_t *ids, int64_t chosen, int64_t number)
{
    for (int64_t k = 0; k < chosen; k++)
        if (ids[k] == number)
            return (int32_t)k;
    return -1;
}

static size_t offset_of_ids(const experts_run *e, size_t tokens)
{
    size_t at = 0, offset = 0;
    for (size_t i = 0; i <= e->ids; i++)
        at = qc_block_next(at, e->row_bytes[i], tokens, &offset);
    return offset;
}

static qc_status count_sequence(void *user, qc_calibration_worker *w, size_t index)
{
    experts_run *e = user;
    const qc_calibration_pass *p = e->p;
    const qc_expert_region *r = e->r;
    const size_t tokens = p->c->dataset->sequences[index].count, sequences = p->c->dataset->count;
    const size_t bytes = e->row_bytes[e->ids] * tokens;
    if (!qc_calibration_room(w, &w->rows, &w->rows_bytes, bytes) ||
        qc_hidden_store_read(p->store, &w->plan.diag, index, offset_of_ids(e, tokens), w->rows, bytes) !=
            QC_OK)
        return QC_ERROR;
    const int32_t *ids = (const int32_t *)(const void *)w->rows;
    for (size_t t = 0; t < tokens; t++)
        for (int64_t k = 0; k < r->chosen; k++) {
            int32_t id = ids[t * (size_t)r->chosen + (size_t)k];
            if (id < 0 || id >= r->experts)
                return qc_error(&w->plan.diag, r->path, "token %zu chose expert %d of %lld", t, (int)id,
                    (long long)r->experts);
            if (slot_of(ids + t * (size_t)r->chosen, r->chosen, id) != k)
                return qc_error(&w->plan.diag, r->path, "token %zu chose expert %d twice", t, (int)id);
            e->counts[(size_t)id * sequences + index]++;
        }
    return QC_OK;
}

static uint64_t routed_tokens(const experts_run *e, int64_t number)
{
    const size_t sequences = e->p->c->dataset->count;
    uint64_t total = 0;
    for (size_t s = 0; s < sequences; s++)
        total += e->counts[(size_t)number * sequences + s];
    return total;
}

static qc_status count_tokens(experts_run *e, qc_stats *stats)
{
    const qc_calibration *c = e->p->c;
    const qc_expert_region *r = e->r;
    e->counts = calloc((size_t)r->experts * c->dataset->count, sizeof *e->counts);
    if (!e->counts)
        return qc_ctx_error(c->ctx, r->path, "out of memory to count the tokens of its experts");
    if (qc_calibration_visit(e->p, count_sequence, e, false) != QC_OK)
        return QC_ERROR;
    qc_stats_record *record = qc_stats_add(stats, r->path, QC_STATS_TOKENS, 0, (size_t)r->experts);
    for (int64_t i = 0; i < r->experts; i++) {
        record->routed[i] = (int64_t)routed_tokens(e, i);
        record->seen[i] = r->all ? (int64_t)c->dataset->token_count : record->routed[i];
    }
    return QC_OK;
}

/* ---- one expert ---------------------------------------------------------------------------------------- */

static qc_status expert_open(
    qc_calibration *c, const qc_expert_region *r, int64_t number, bool dry, expert *x)
{
    *x = (expert){.number = number};
    x->body = qc_expert_body_create(c->ctx, c->module, r, &c->kinds, number);
    if (!x->body)
        return QC_ERROR;
    x->bank = qc_bank_create(&(qc_bank_options){
        .ctx = c->ctx, .engine = c->engine, .weights = c->weights, .without_codes = true, .dry = dry});
    if (!x->bank)
        return QC_ERROR;
    qc_plan_env env = {.ctx = c->ctx,
        .module = x->body->module,
        .engine = c->engine,
        .bank = x->bank,
        .rope = c->rope,
        .decomposer = c->decomposer,
        .kinds = &x->body->kinds};
    x->plan = qc_plan_create(&env, &(qc_plan_request){.func = x->body->func,
                                       .inputs = x->body->inputs,
                                       .input_count = r->input_count,
                                       .outputs = &x->body->output,
                                       .output_count = x->body->output != NULL,
                                       .observes = x->body->observes,
                                       .observe_count = r->observe_count,
                                       .calibrating = true});
    return x->plan ? QC_OK : QC_ERROR;
}

static void expert_close(expert *x)
{
    qc_observed_set_fini(&x->observed);
    free(x->rows);
    qc_plan_destroy(x->plan);
    qc_bank_destroy(x->bank);
    qc_expert_body_destroy(x->body);
    *x = (expert){0};
}

/* Records have a row for each sequence that has tokens for it. */
static qc_status add_records(experts_run *e, expert *x, qc_stats *stats)
{
    const qc_calibration *c = e->p->c;
    const size_t sequences = c->dataset->count;
    size_t rows = 0;
    x->rows = malloc((sequences + 1) * sizeof *x->rows);
    if (!x->rows)
        return qc_ctx_error(c->ctx, e->r->path, "out of memory for statistics");
    for (size_t s = 0; s < sequences; s++) {
        x->rows[s] = rows;
        rows += e->r->all || e->counts[(size_t)x->number * sequences + s] > 0;
    }
    return qc_observed_set_init(
        &x->observed, c->ctx, x->plan, x->body->observes, e->r->observe_count, stats, rows);
}

/* One sequence at work. */
typedef struct task {
    experts_run *e;
    qc_calibration_worker *w;
    qc_arena *arena; /* for a moment */
    size_t index, tokens;
    char *block;
    layout l;
} task;

/* ---- one sequence through one expert ------------------------------------------------------------------- */

/* The tokens that an expert sees, and what of the worker's memory holds their rows. */
typedef struct seen {
    size_t count;
    int32_t *tokens, *slots; /* slot -1: the router did not choose it */
    const void **inputs;
    float *sum, *row; /* width each */
} seen;

static size_t seen_bytes(const experts_run *e, size_t tokens)
{
    size_t at = 0, offset;
    at = qc_block_next(at, sizeof(int32_t), tokens, &offset);
    at = qc_block_next(at, sizeof(int32_t), tokens, &offset);
    for (size_t i = 0; i < e->r->input_count; i++)
        at = qc_block_next(at, e->row_bytes[e->inputs[i]], tokens, &offset);
    at = qc_block_next(at, sizeof(float), e->width, &offset);
    return qc_block_next(at, sizeof(float), e->width, &offset);
}

/* Rows of tokens, or their weights for the expert. */
static void copy_rows(
    const qc_expert_input *input, const seen *v, const char *from, size_t row_bytes, int64_t chosen, char *to)
{
    const size_t bytes = input->is_score ? row_bytes / (size_t)chosen : row_bytes;
    for (size_t i = 0; i < v->count; i++) {
        const char *row = from + (size_t)v->tokens[i] * row_bytes;
        const int32_t slot = v->slots[i];
        if (!input->is_score)
            memcpy(to + i * bytes, row, bytes);
        else if (slot >= 0 || input->first)
            memcpy(to + i * bytes, row + (slot < 0 ? 0 : (size_t)slot) * bytes, bytes);
        else
            memset(to + i * bytes, 0, bytes);
    }
}

static void find_seen(const experts_run *e, const expert *x, const int32_t *ids, size_t tokens, seen *v)
{
    v->count = 0;
    for (size_t t = 0; t < tokens; t++) {
        int32_t slot = slot_of(ids + t * (size_t)e->r->chosen, e->r->chosen, x->number);
        if (slot < 0 && !e->r->all)
            continue;
        v->tokens[v->count] = (int32_t)t;
        v->slots[v->count++] = slot;
    }
}

/* False, with an error, when there is no memory. */
static bool take_seen(const task *t, const expert *x, seen *v)
{
    const experts_run *e = t->e;
    qc_calibration_worker *w = t->w;
    size_t at = 0, offset;
    if (!qc_calibration_room(w, &w->rows, &w->rows_bytes, seen_bytes(e, t->tokens)))
        return false;
    at = qc_block_next(at, sizeof(int32_t), t->tokens, &offset);
    v->tokens = (int32_t *)(void *)(w->rows + offset);
    at = qc_block_next(at, sizeof(int32_t), t->tokens, &offset);
    v->slots = (int32_t *)(void *)(w->rows + offset);
    find_seen(e, x, (const int32_t *)(const void *)(t->block + t->l.offsets[e->ids]), t->tokens, v);
    for (size_t i = 0; i < e->r->input_count; i++) {
        const qc_expert_input *input = &e->r->inputs[i];
        const size_t row_bytes = e->row_bytes[e->inputs[i]];
        const char *from = t->block + t->l.offsets[e->inputs[i]];
        at = qc_block_next(at, row_bytes, t->tokens, &offset);
        v->inputs[i] = from;
        if (v->count == t->tokens && !input->is_score)
            continue;
        copy_rows(input, v, from, row_bytes, e->r->chosen, w->rows + offset);
        v->inputs[i] = w->rows + offset;
    }
    at = qc_block_next(at, sizeof(float), e->width, &offset);
    v->sum = (float *)(void *)(w->rows + offset);
    qc_block_next(at, sizeof(float), e->width, &offset);
    v->row = (float *)(void *)(w->rows + offset);
    return true;
}

/* Adds the rows of tokens that chose the expert, in f32, rounded to the type of the sum. */
static void add_rows(const experts_run *e, const seen *v, const char *rows, char *sums)
{
    const size_t bytes = e->width * dtype_bytes(e->dtype);
    for (size_t i = 0; i < v->count; i++) {
        char *sum = sums + (size_t)v->tokens[i] * e->sum_bytes;
        if (v->slots[i] < 0)
            continue;
        qc_decode_f32(e->dtype, rows + i * bytes, v->row, e->width);
        qc_decode_f32(e->sum_dtype, sum, v->sum, e->width);
        for (size_t c = 0; c < e->width; c++)
            v->sum[c] += v->row[c];
        qc_encode_f32(e->sum_dtype, v->sum, sum, e->width);
    }
}

static qc_status run_expert(const task *t, expert *x)
{
    experts_run *e = t->e;
    qc_diag *diag = &t->w->plan.diag;
    const size_t routed = e->counts[(size_t)x->number * e->p->c->dataset->count + t->index];
    const void *output[1];
    seen v = {.inputs = QC_NEW_ARRAY(t->arena, const void *, e->r->input_count + 1)};
    float **observed = QC_NEW_ARRAY(t->arena, float *, e->r->observe_count + 1);
    if (!e->r->all && routed == 0)
        return QC_OK;
    if (!take_seen(t, x, &v))
        return QC_ERROR;
    float *numbers = malloc((x->observed.numbers + 1) * sizeof *numbers);
    if (!numbers)
        return qc_error(diag, "", "out of memory for what is observed");
    qc_observed_set_lay_out(&x->observed, numbers, observed);
    qc_run run = {.plan = x->plan,
        .worker = &t->w->plan,
        .ids = e->p->c->dataset->sequences[t->index].ids,
        .tokens = v.count,
        .inputs = v.inputs,
        .outputs = output,
        .observed = observed};
    if (qc_plan_run(&run) != QC_OK) {
        free(numbers);
        return QC_ERROR;
    }
    if (e->sum_bytes)
        add_rows(e, &v, output[0], t->block + t->l.sums);
    qc_observed_set_hand_in(&x->observed, x->rows[t->index], v.count, numbers);
    atomic_fetch_add(&e->rows_run, v.count);
    atomic_fetch_add(&e->rows_routed, routed);
    return QC_OK;
}

/* ---- one sequence -------------------------------------------------------------------------------------- */

/* The sum as the next segment reads it, behind the values that pass. */
static qc_status keep_sum(const task *t, size_t offset)
{
    const experts_run *e = t->e;
    qc_calibration_worker *w = t->w;
    const size_t row_bytes = e->width * dtype_bytes(e->dtype);
    const char *sums = t->block + t->l.sums, *rows = sums;
    if (e->sum_dtype != e->dtype) {
        size_t start;
        size_t bytes = qc_block_next(row_bytes * t->tokens, sizeof(float), e->width, &start);
        if (!qc_calibration_room(w, &w->rows, &w->rows_bytes, bytes))
            return QC_ERROR;
        float *row = (float *)(void *)(w->rows + start);
        for (size_t i = 0; i < t->tokens; i++) {
            qc_decode_f32(e->sum_dtype, sums + i * e->sum_bytes, row, e->width);
            qc_encode_f32(e->dtype, row, w->rows + i * row_bytes, e->width);
        }
        rows = w->rows;
    }
    return qc_hidden_store_write(e->p->store, &w->plan.diag, t->index, offset, rows, row_bytes * t->tokens);
}

static qc_status keep_outputs(const task *t)
{
    const experts_run *e = t->e;
    const qc_segment *s = e->p->segment;
    qc_diag *diag = &t->w->plan.diag;
    size_t at = 0, offset, from;
    for (size_t i = 0; i < s->output_count; i++) {
        bool sum = e->r->combine && s->outputs[i] == qc_op_result(e->r->combine, 0);
        size_t row_bytes = sum ? e->width * dtype_bytes(e->dtype) : qc_segment_row_bytes(s->outputs[i]);
        at = qc_block_next(at, row_bytes, t->tokens, &offset);
        qc_status status = QC_ERROR;
        if (sum)
            status = keep_sum(t, offset);
        else if (find_input(s, s->outputs[i], &from))
            status = qc_hidden_store_write(
                e->p->store, diag, t->index, offset, t->block + t->l.offsets[from], row_bytes * t->tokens);
        else
            qc_error(diag, e->r->path, "a value that is needed behind its experts is not there");
        if (status != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

static qc_status run_task(task *t)
{
    experts_run *e = t->e;
    qc_calibration_worker *w = t->w;
    const qc_hidden_store *store = e->p->store;
    bool in_memory = qc_hidden_store_block(store, t->index) != NULL;
    if (!in_memory && !qc_calibration_room(w, &w->buffer, &w->buffer_bytes, t->l.end))
        return QC_ERROR;
    t->block = qc_calibration_block(e->p, w, t->index, e->first ? t->l.inputs_end : t->l.end);
    if (!t->block)
        return QC_ERROR;
    if (e->first)
        memset(t->block + t->l.sums, 0, e->sum_bytes * t->tokens);
    for (size_t i = 0; i < e->resident_count; i++)
        if (run_expert(t, &e->resident[i]) != QC_OK)
            return QC_ERROR;
    if (e->last)
        return keep_outputs(t);
    if (in_memory || !e->sum_bytes)
        return QC_OK;
    return qc_hidden_store_write(
        store, &w->plan.diag, t->index, t->l.sums, t->block + t->l.sums, e->sum_bytes * t->tokens);
}

static qc_status run_sequence(void *user, qc_calibration_worker *w, size_t index)
{
    experts_run *e = user;
    const qc_segment *s = e->p->segment;
    qc_arena arena;
    qc_arena_init(&arena, w->plan.texts.oom);
    task t = {.e = e, .w = w, .arena = &arena, .index = index};
    t.tokens = e->p->c->dataset->sequences[index].count;
    t.l = lay_out(e, s, t.tokens, QC_NEW_ARRAY(&arena, size_t, s->input_count + 1));
    qc_status status = run_task(&t);
    qc_arena_fini(&arena);
    return status;
}

/* ---- all experts --------------------------------------------------------------------------------------- */

/* Those that have something to do. */
static size_t list_experts(const experts_run *e, int64_t *numbers)
{
    const qc_expert_region *r = e->r;
    size_t count = 0;
    for (int64_t i = 0; i < r->experts && (r->combine || r->observe_count); i++)
        if (r->all || routed_tokens(e, i) > 0)
            numbers[count++] = i;
    return count;
}

/* The system reads the weights of the next ones while these run. */
static qc_status read_ahead(const experts_run *e, const int64_t *numbers, size_t count)
{
    qc_calibration *c = e->p->c;
    for (size_t i = 0; i < count; i++) {
        qc_expert_body *body = qc_expert_body_create(c->ctx, c->module, e->r, &c->kinds, numbers[i]);
        if (!body)
            return QC_ERROR;
        for (size_t k = 0; k < body->weight_count; k++)
            qc_weights_read_ahead(c->weights, body->weights[k]);
        qc_expert_body_destroy(body);
    }
    return QC_OK;
}

/* `next`: experts that come behind them. */
static qc_status run_group(experts_run *e, const int64_t *numbers, size_t count, size_t next, qc_stats *stats)
{
    qc_status status = QC_OK;
    e->resident_count = 0;
    for (size_t i = 0; i < count && status == QC_OK; i++) {
        expert *x = &e->resident[e->resident_count++];
        status = expert_open(e->p->c, e->r, numbers[i], false, x);
        if (status == QC_OK)
            status = add_records(e, x, stats);
    }
    qc_calibration_forget_plans(e->p);
    if (status == QC_OK)
        status = read_ahead(e, numbers + count, next);
    if (status == QC_OK)
        status = qc_calibration_visit(e->p, run_sequence, e, false);
    for (size_t i = 0; i < e->resident_count; i++)
        expert_close(&e->resident[i]);
    qc_weights_forget(e->p->c->weights);
    return status;
}

static qc_status run_groups(experts_run *e, qc_stats *stats)
{
    const qc_calibration *c = e->p->c;
    const size_t at_once = (size_t)c->experts;
    int64_t *numbers = QC_NEW_ARRAY(&e->arena, int64_t, (size_t)e->r->experts);
    size_t count = list_experts(e, numbers), done = 0;
    e->resident = QC_NEW_ARRAY(&e->arena, expert, at_once);
    do {
        size_t group = count - done < at_once ? count - done : at_once, left = count - done - group;
        e->first = done == 0;
        e->last = done + group == count;
        if (run_group(e, numbers + done, group, left < at_once ? left : at_once, stats) != QC_OK)
            return QC_ERROR;
        done += group;
        if (count)
            qc_calibration_progress(e->p, c->dataset->token_count * done / count);
    } while (done < count);
    return QC_OK;
}

static void take_cost(const experts_run *e, const struct timespec *start)
{
    qc_calibrate_cost *cost = e->p->c->options.cost;
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (!cost)
        return;
    cost->rows_run += atomic_load(&e->rows_run);
    cost->rows_routed += atomic_load(&e->rows_routed);
    cost->expert_seconds +=
        (double)(end.tv_sec - start->tv_sec) + (double)(end.tv_nsec - start->tv_nsec) * 1e-9;
}

qc_status qc_calibration_run_experts(qc_calibration_pass *p, qc_stats *stats)
{
    experts_run e = {.p = p};
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    atomic_init(&e.rows_run, 0);
    atomic_init(&e.rows_routed, 0);
    qc_arena_init(&e.arena, qc_ctx_arena(p->c->ctx)->oom);
    qc_status status = describe(&e, p->c->ctx, p->segment);
    if (status == QC_OK)
        status = count_tokens(&e, stats);
    if (status == QC_OK)
        status = run_groups(&e, stats);
    take_cost(&e, &start);
    free(e.counts);
    qc_arena_fini(&e.arena);
    return status;
}

/* ---- memory -------------------------------------------------------------------------------------------- */

/* What computing the weight expressions of an expert takes beside their results. */
static uint64_t temporary_bytes(const qc_calibration *c, const qc_expert_body *body)
{
    uint64_t most = 0;
    for (size_t i = 0; i < body->weight_count; i++) {
        if (qc_op_is(qc_value_op(body->weights[i]), "const"))
            continue;
        qc_weight_needs of = qc_weights_needs(c->weights, body->weights[i], 1);
        uint64_t chunks = of.chunk_bytes * (uint64_t)qc_weights_threads(c->weights);
        chunks = chunks < QC_WEIGHTS_CHUNKS_BYTES ? chunks : QC_WEIGHTS_CHUNKS_BYTES;
        most = of.whole_bytes + chunks > most ? of.whole_bytes + chunks : most;
    }
    return most;
}

static qc_status measure(qc_calibration *c, const experts_run *e, const expert *x, qc_experts_needs *n)
{
    size_t arena, numbers = 0;
    if (!qc_plan_arena_bytes(x->plan, c->longest, 0, false, &arena))
        return qc_ctx_error(c->ctx, e->r->path, "no memory can hold a sequence of %zu tokens", c->longest);
    for (size_t i = 0; i < e->r->observe_count; i++) {
        const qc_observed o = qc_plan_observed(x->plan, i);
        n->records += qc_observed_bytes(o, c->dataset->count) * (uint64_t)e->r->experts;
        numbers += o.numbers * sizeof(float);
    }
    n->weights = qc_bank_bytes(x->bank);
    n->loading = qc_bank_peak_bytes(x->bank) + temporary_bytes(c, x->body);
    n->worker = arena + qc_plan_kernel_bytes(x->plan, c->longest, 0) + seen_bytes(e, c->longest) + numbers;
    return QC_OK;
}

qc_status qc_calibration_measure_experts(qc_calibration *c, size_t segment, qc_experts_needs *needs)
{
    const qc_segment *s = &c->segments.items[segment];
    const qc_expert_region *r = s->region;
    experts_run e = {0};
    expert x = {0};
    *needs = (qc_experts_needs){0};
    qc_arena_init(&e.arena, qc_ctx_arena(c->ctx)->oom);
    qc_status status = describe(&e, c->ctx, s);
    if (status == QC_OK && (r->combine || r->observe_count)) {
        status = expert_open(c, r, 0, true, &x);
        if (status == QC_OK)
            status = measure(c, &e, &x, needs);
        expert_close(&x);
    }
    for (size_t i = 0; status == QC_OK && i < s->input_count; i++)
        needs->row_bytes += e.row_bytes[i];
    needs->row_bytes += e.sum_bytes;
    needs->values = s->input_count + 1;
    needs->worker +=
        qc_block_bytes(needs->row_bytes, needs->values, c->longest) + c->longest * 2 * sizeof(int64_t);
    /* counts; names of tensors, and names and heads of records, which stay */
    needs->records += (uint64_t)r->experts * (c->dataset->count * sizeof(uint32_t) + EXPERT_NAMES_BYTES +
                                                 r->observe_count * RECORD_NAMES_BYTES);
    qc_arena_fini(&e.arena);
    return status;
}
