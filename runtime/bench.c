/* SPDX-License-Identifier: MIT
 *
 * bench.c - see bench.h. Times are by the monotonic clock; nothing else is measured, and no figure is a guess
 * but the bytes read, which are counted from the IR: every weight but those that only an embedding looks up
 * rows of, and of experts as many as a token goes through.
 */
#include "runtime/bench.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "ir/ctx.h"
#include "ir/support/json.h"
#include "runtime/sampler.h"

enum { PREFILL_RUNS = 5, COPY_RUNS = 5 };
#define COPY_BYTES ((size_t)256 << 20)
#define COPY_CHUNK_BYTES ((size_t)1 << 20)
#define ENOUGH_SECONDS 2.0 /* of repeated prefill runs */

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int thread_count(int threads)
{
#ifdef _OPENMP
    return threads ? threads : omp_get_max_threads();
#else
    (void)threads;
    return 1;
#endif
}

static qc_status measure_copy(qc_diag *diag, int threads, double *rate)
{
    char *from = malloc(COPY_BYTES), *to = malloc(COPY_BYTES);
    *rate = 0;
    if (!from || !to) {
        free(from);
        free(to);
        return qc_error(diag, "memory copy", "out of memory for two buffers of %zu bytes", COPY_BYTES);
    }
    for (int run = 0; run <= COPY_RUNS; run++) { /* the first one only makes the pages */
        double start = now_seconds();
#pragma omp parallel for schedule(static) num_threads(thread_count(threads))
        for (size_t at = 0; at < COPY_BYTES; at += COPY_CHUNK_BYTES) {
            if (run == 0)
                memset(from + at, 1, COPY_CHUNK_BYTES);
            memcpy(to + at, from + at, COPY_CHUNK_BYTES);
        }
        double now = 2.0 * (double)COPY_BYTES / (now_seconds() - start);
        if (run > 0 && now > *rate)
            *rate = now;
    }
    free(from);
    free(to);
    return QC_OK;
}

static bool only_looked_up(const qc_value *weight)
{
    for (size_t i = 0; i < qc_value_use_count(weight); i++) {
        size_t slot;
        if (!qc_op_is(qc_value_use(weight, i, &slot), "embedding"))
            return false;
    }
    return true;
}

/* Experts that a token goes through, of those that there are. */
typedef struct share {
    int64_t chosen, experts;
} share;

static bool is_stored(const qc_op *op)
{
    return qc_op_is(op, "weight") || qc_op_is(op, "expert_weight");
}

/* The share of the stored tensors under a bank of weights. Keys of the map are addresses of ops. */
static void mark_bank(qc_arena *arena, qc_map *shares, const qc_value *bank, share *s)
{
    QC_VEC(const qc_op *) stack = {0};
    if (bank && qc_value_op(bank))
        QC_PUSH(arena, &stack, qc_value_op(bank));
    while (stack.count) {
        const qc_op *op = stack.items[--stack.count];
        if (qc_map_get_n(shares, (const char *)&op, sizeof op))
            continue;
        qc_map_set_n(shares, (const char *)&op, sizeof op, s);
        for (size_t i = 0; i < qc_op_operand_count(op); i++)
            if (qc_op_operand(op, i) && qc_value_op(qc_op_operand(op, i)))
                QC_PUSH(arena, &stack, qc_value_op(qc_op_operand(op, i)));
    }
}

static void mark_experts(qc_arena *arena, qc_map *shares, const qc_op *op)
{
    const qc_value *rows = qc_op_operand_named(op, "rows");
    const qc_op *sort = rows ? qc_value_op(rows) : NULL;
    share *s = QC_NEW(arena, share);
    if (!sort || !qc_op_is(sort, "expert_rows") || qc_attr_as_bool(qc_op_attr(sort, "all")))
        return;
    s->experts = qc_attr_as_int(qc_op_attr(sort, "experts"));
    if (!qc_dim_as_int(qc_type_dim(qc_value_type(qc_op_operand(sort, 0)), -1), &s->chosen) || s->experts < 1)
        return;
    mark_bank(arena, shares, qc_op_operand_named(op, "w"), s);
    mark_bank(arena, shares, qc_op_operand_named(op, "bias"), s);
}

static uint64_t count_weight_bytes(const qc_module *module, qc_arena *arena)
{
    uint64_t bytes = 0;
    const qc_func *f = qc_module_first_func(module);
    qc_map shares;
    qc_map_init(&shares, arena);
    for (const qc_op *op = f ? qc_func_first_op(f) : NULL; op; op = qc_op_next(op))
        if (qc_op_is(op, "expert_linear"))
            mark_experts(arena, &shares, op);
    for (const qc_op *op = f ? qc_func_first_op(f) : NULL; op; op = qc_op_next(op)) {
        int64_t count;
        if (!is_stored(op) || only_looked_up(qc_op_result(op, 0)))
            continue;
        const qc_type *type = qc_value_type(qc_op_result(op, 0));
        const share *s = qc_map_get_n(&shares, (const char *)&op, sizeof op);
        if (!qc_type_static_count(type, &count))
            continue;
        uint64_t size = (uint64_t)count * (uint64_t)qc_dtype_bits(qc_type_dtype(type)) / 8;
        bytes += s ? size / (uint64_t)s->experts * (uint64_t)s->chosen : size;
    }
    return bytes;
}

static qc_status measure_prefill(qc_session *session, const int32_t *ids, qc_bench_report *r, float *logits)
{
    double best = 0, spent = 0;
    for (int run = 0; run < PREFILL_RUNS && (run < 2 || spent < ENOUGH_SECONDS); run++) {
        qc_session_clear(session);
        double start = now_seconds();
        if (qc_session_run(session, ids, r->prefill_tokens, true, logits))
            return QC_ERROR;
        double took = now_seconds() - start;
        spent += took;
        if (run == 0 || took < best)
            best = took;
    }
    r->prefill_rate = (double)r->prefill_tokens / best;
    return QC_OK;
}

static qc_status measure_decode(qc_session *session, const int32_t *ids, qc_bench_report *r, float *logits)
{
    double start = now_seconds();
    for (size_t i = 0; i < r->decode_tokens; i++)
        if (qc_session_run(session, ids + r->prefill_tokens + i, 1, true, logits))
            return QC_ERROR;
    r->decode_rate = (double)r->decode_tokens / (now_seconds() - start);
    return QC_OK;
}

qc_status qc_bench_run(qc_model *model, size_t prefill, size_t decode, int threads, qc_bench_report *report)
{
    qc_diag *diag = qc_ctx_diag(model->ctx);
    size_t vocabulary = (size_t)qc_executor_vocabulary(model->executor), total = prefill + decode;
    qc_bench_report *r = report;
    *r = (qc_bench_report){.prefill_tokens = prefill, .decode_tokens = decode};
    if (measure_copy(diag, threads, &r->copy_rate))
        return QC_ERROR;
    int32_t *ids = calloc(total, sizeof *ids);
    float *logits = calloc(vocabulary, sizeof *logits);
    qc_session *session = ids && logits ? qc_session_create(model->executor, total) : NULL;
    qc_status status = QC_OK;
    if (!ids || !logits)
        status = qc_error(diag, model->path, "out of memory for %zu tokens", total);
    else if (!session)
        status = QC_ERROR;
    if (status == QC_OK) {
        qc_random random;
        qc_random_seed(&random, 0);
        for (size_t i = 0; i < total; i++)
            ids[i] = (int32_t)(qc_random_unit(&random) * (double)vocabulary);
        status = measure_prefill(session, ids, r, logits);
    }
    if (status == QC_OK)
        status = measure_decode(session, ids, r, logits);
    if (session)
        qc_session_destroy(session);
    free(ids);
    free(logits);
    qc_arena arena;
    qc_arena_init(&arena, qc_ctx_arena(model->ctx)->oom);
    r->weight_bytes = count_weight_bytes(model->module, &arena);
    qc_arena_fini(&arena);
    uint64_t per_token = (uint64_t)qc_executor_cache_bytes_per_token(model->executor);
    r->cache_bytes_per_token = per_token;
    r->cache_bytes = per_token * prefill + per_token * (decode + 1) / 2;
    r->read_rate = r->decode_rate * (double)(r->weight_bytes + r->cache_bytes);
    return status;
}

void qc_bench_print_text(const qc_bench_report *r, qc_str *out)
{
    qc_str_addf(out, "prefill      %10.1f tokens/s (%zu tokens)\n", r->prefill_rate, r->prefill_tokens);
    qc_str_addf(out, "decode       %10.1f tokens/s (%zu tokens)\n", r->decode_rate, r->decode_tokens);
    qc_str_addf(out,
        "decode reads %10.3f GB/s (%.3f MB of weights and %.3f MB of KV cache a token, as stored)\n",
        r->read_rate * 1e-9, (double)r->weight_bytes * 1e-6, (double)r->cache_bytes * 1e-6);
    qc_str_addf(out, "KV cache     %10" PRIu64 " bytes/token\n", r->cache_bytes_per_token);
    qc_str_addf(out, "memory copy  %10.3f GB/s (read and written), decoding reads %.1f %% of that\n",
        r->copy_rate * 1e-9, 100 * r->read_rate / r->copy_rate);
}

static void set_number(qc_arena *arena, qc_json *object, const char *key, double value)
{
    qc_json_set(arena, object, key, qc_json_new_double(arena, value));
}

static void set_count(qc_arena *arena, qc_json *object, const char *key, uint64_t value)
{
    qc_json_set(arena, object, key, qc_json_new_int(arena, (int64_t)value));
}

void qc_bench_print_json(const char *model, const qc_bench_report *r, qc_arena *arena, qc_str *out)
{
    qc_json *o = qc_json_new(arena, QC_JSON_OBJECT);
    qc_json_set(arena, o, "model", qc_json_new_string(arena, model));
    set_count(arena, o, "prefill_tokens", r->prefill_tokens);
    set_number(arena, o, "prefill_tokens_per_second", r->prefill_rate);
    set_count(arena, o, "decode_tokens", r->decode_tokens);
    set_number(arena, o, "decode_tokens_per_second", r->decode_rate);
    set_count(arena, o, "decode_weight_bytes", r->weight_bytes);
    set_count(arena, o, "decode_cache_bytes", r->cache_bytes);
    set_count(arena, o, "kv_bytes_per_token", r->cache_bytes_per_token);
    set_number(arena, o, "decode_gb_per_second", r->read_rate * 1e-9);
    set_number(arena, o, "memory_copy_gb_per_second", r->copy_rate * 1e-9);
    set_number(arena, o, "decode_share_of_memory_copy", r->read_rate / r->copy_rate);
    qc_json_write(out, o, -1, false);
    qc_str_add_char(out, '\n');
}
