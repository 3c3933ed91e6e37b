/* SPDX-License-Identifier: MIT
 *
 * bench_host.c - how fast the CPU kernels are on the layer of a small model (SmolLM2-135M: hidden 576, 9
 * heads on 3 key heads of 64, MLP 1536) at 512 tokens.
 *
 * Prints, for one thread and for all: GF/s of each linear and, measured in the same run, of one prepacked
 * oneDNN product of the whole matrix on one thread, in the type this processor multiplies in; GF/s of
 * attention, counting the visible half only; and the share that attention takes of a layer. Best of the
 * repetitions in 0.2 s.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "backends/host/host.h"
#include "backends/host/onednn.h"
#include "tests/unit/host_util.h"

enum { TOKENS = 512, HEADS = 9, KV_HEADS = 3, HEAD = 64, HIDDEN = HEADS * HEAD, MLP = 1536 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Sets `best` to the least time of the statement over 0.2 s. */
#define MEASURE(best, statement)                                                                             \
    do {                                                                                                     \
        double start = now();                                                                                \
        best = 1e9;                                                                                          \
        while (now() - start < 0.2) {                                                                        \
            double before = now();                                                                           \
            statement;                                                                                       \
            double took = now() - before;                                                                    \
            best = took < best ? took : best;                                                                \
        }                                                                                                    \
    } while (0)

static void *aligned(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);
    memset(p, 0, bytes);
    return p;
}

/* Seconds of one product by oneDNN, one thread; 0 where there is none. */
static double raw_seconds(qc_diag *diag, size_t rows, size_t columns, size_t depth)
{
    qc_dtype dtype = qc_host_onednn_has_bf16() ? QC_BF16 : QC_F32;
    qc_host_onednn *context = qc_host_onednn_create(diag);
    double best = 0.0;

    if (!context)
        return 0.0;
    const qc_host_onednn_kernel *kernel =
        qc_host_onednn_get(context, diag, "raw", rows, columns, depth, dtype);
    if (kernel) {
        void *x = random_values(1, rows * depth, dtype, 1.0),
             *w = random_values(2, columns * depth, dtype, 1.0);
        void *packed = aligned(qc_host_onednn_weight_bytes(kernel)), *a = aligned(rows * depth * 4);
        void *scratch = aligned(qc_host_onednn_scratch_bytes(kernel)), *c = aligned(rows * columns * 4);
        qc_host_onednn_runner *runner = qc_host_onednn_runner_create(context);
        memcpy(a, x, rows * depth * dtype_bytes(dtype));
        if (qc_host_onednn_pack(kernel, diag, "raw", w, depth, packed) == QC_OK)
            MEASURE(best, qc_host_onednn_run(runner, kernel, a, packed, c, scratch));
        qc_host_onednn_runner_destroy(runner);
        free(x), free(w), free(packed), free(a), free(scratch), free(c);
    }
    qc_host_onednn_destroy(context);
    return best;
}

static double linear_seconds(
    qc_host_engine *engine, qc_diag *diag, size_t rows, size_t columns, size_t depth, double raw, int threads)
{
    void *x = random_values(1, rows * depth, QC_BF16, 1.0),
         *w = random_values(2, columns * depth, QC_BF16, 1.0);
    void *y = malloc(rows * columns * 2);
    double best = 0.0, flops = 2.0 * (double)rows * (double)columns * (double)depth;
    qc_host_linear *l = qc_host_linear_create(engine, diag, "w",
        &(qc_host_linear_spec){.out_features = columns,
            .in_features = depth,
            .weight_dtype = QC_BF16,
            .weight = w,
            .input_dtype = QC_BF16});

    if (l)
        MEASURE(best, qc_host_linear_run(l, diag, x, 0, y, 0, rows, (qc_host_sequences){NULL, 0}));
    printf("linear M %zu N %zu K %zu, %d threads: %.1f GF/s", rows, columns, depth, threads,
        flops / best * 1e-9);
    if (raw > 0.0)
        printf("; oneDNN on one thread %.1f; %.0f %% of that times the threads", flops / raw * 1e-9,
            100.0 * raw / best / threads);
    puts("");
    qc_host_linear_destroy(l);
    free(x), free(w), free(y);
    return best;
}

static double attention_seconds(
    const qc_host_engine *engine, qc_diag *diag, size_t queries, size_t past, int threads)
{
    size_t keys = past + queries;
    void *q = random_values(3, queries * HIDDEN, QC_BF16, 2.0),
         *k = random_values(4, keys * KV_HEADS * HEAD, QC_BF16, 2.0);
    void *v = random_values(5, keys * KV_HEADS * HEAD, QC_BF16, 2.0), *out = malloc(queries * HIDDEN * 2);
    double best,
        flops = 4.0 * HIDDEN * ((double)past * (double)queries + (double)queries * (double)(queries + 1) / 2);
    qc_host_attention at = {.dtype = QC_BF16,
        .q = {.dtype = QC_BF16, .data = q, .token_stride = HIDDEN, .head_stride = HEAD},
        .k = {.dtype = QC_BF16, .data = k, .token_stride = KV_HEADS * HEAD, .head_stride = HEAD},
        .v = {.dtype = QC_BF16, .data = v, .token_stride = KV_HEADS * HEAD, .head_stride = HEAD},
        .out = out,
        .out_token_stride = HIDDEN,
        .out_head_stride = HEAD,
        .queries = queries,
        .past = past,
        .keys = keys,
        .query_heads = HEADS,
        .kv_heads = KV_HEADS,
        .head_size = HEAD,
        .scale = 0.125f,
        .causal = true};

    MEASURE(best, qc_host_attention_run(engine, diag, "attention", &at));
    printf("attention %zu queries on %zu keys, %d threads: %.3f ms, %.1f GF/s\n", queries, keys, threads,
        best * 1e3, flops / best * 1e-9);
    free(q), free(k), free(v), free(out);
    return best;
}

static double rows_seconds(const qc_host_engine *engine, int threads)
{
    uint16_t *x = random_values(6, TOKENS * MLP, QC_BF16, 4.0),
             *u = random_values(7, TOKENS * MLP, QC_BF16, 4.0);
    uint16_t *y = malloc(TOKENS * MLP * 2), *w = random_values(8, HIDDEN, QC_BF16, 1.0);
    float min[HEADS], max[HEADS];
    double norm, silu, rope, add, range;
    qc_host_norm n = {.dtype = QC_BF16,
        .x = x,
        .y = y,
        .tokens = TOKENS,
        .heads = 1,
        .token_stride = HIDDEN,
        .size = HIDDEN,
        .weight_dtype = QC_BF16,
        .weight = w,
        .eps = 1e-5f};
    qc_host_rope r = {.dtype = QC_BF16,
        .x = x,
        .y = y,
        .tokens = TOKENS,
        .heads = HEADS + KV_HEADS,
        .head_size = HEAD,
        .token_stride = (HEADS + KV_HEADS) * HEAD,
        .head_stride = HEAD,
        .rotary_size = HEAD,
        .cos = u,
        .sin = u,
        .table_dtype = QC_BF16,
        .table_stride = HEAD};
    const qc_host_pairing pair = {.op = QC_HOST_ADD,
        .a_dtype = QC_BF16,
        .b_dtype = QC_BF16,
        .y_dtype = QC_BF16,
        .a = x,
        .b = u,
        .y = y,
        .rows = TOKENS,
        .columns = HIDDEN,
        .b_row_stride = HIDDEN,
        .b_column_stride = 1};

    MEASURE(norm, qc_host_rmsnorm(engine, &n));
    MEASURE(rope, qc_host_rope_apply(engine, &r));
    MEASURE(silu, qc_host_silu_mul(engine, QC_BF16, x, MLP, u, MLP, y, MLP, TOKENS, MLP));
    MEASURE(add, qc_host_binary(engine, &pair));
    MEASURE(range, qc_host_minmax_heads(engine, QC_BF16, x, TOKENS, HEADS, HEAD, HIDDEN, HEAD, min, max));
    printf("ms at %d threads: rmsnorm %.3f, rope of q and k %.3f, silu*up %.3f, add %.3f, min/max of 9 heads "
           "%.3f\n",
        threads, norm * 1e3, rope * 1e3, silu * 1e3, add * 1e3, range * 1e3);
    free(x), free(u), free(y), free(w);
    return 2 * norm + rope + silu + 2 * add;
}

int main(void)
{
    static const struct {
        size_t columns, depth, times;
    } linears[] = {{HIDDEN, HIDDEN, 2}, {KV_HEADS * HEAD, HIDDEN, 2}, {MLP, HIDDEN, 2}, {HIDDEN, MLP, 1}};
    double raw[4];
    qc_arena arena;
    qc_diag diag;

    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, NULL, NULL);
    for (int i = 0; i < 4; i++)
        raw[i] = raw_seconds(&diag, TOKENS, linears[i].columns, linears[i].depth);
    for (int all = 0; all < 2; all++) {
        qc_host_engine *engine =
            qc_host_engine_create(&diag, &(qc_host_options){.thread_count = all ? 0 : 1});
        int threads = qc_host_engine_thread_count(engine);
        if (!all)
            printf("%s\n", qc_host_engine_description(engine));
        double products = 0.0;
        for (int i = 0; i < 4; i++)
            products += (double)linears[i].times * linear_seconds(engine, &diag, TOKENS, linears[i].columns,
                                                       linears[i].depth, raw[i], threads);
        double attention = attention_seconds(engine, &diag, TOKENS, 0, threads);
        double rest = rows_seconds(engine, threads);
        printf("layer, %d threads: linears %.2f ms, attention %.2f ms (%.0f %%), the rest %.2f ms\n", threads,
            products * 1e3, attention * 1e3, 100.0 * attention / (products + attention + rest), rest * 1e3);
        linear_seconds(engine, &diag, 1, MLP, HIDDEN, 0.0, threads);
        linear_seconds(engine, &diag, 1, 49152, HIDDEN, 0.0, threads);
        attention_seconds(engine, &diag, 1, TOKENS, threads);
        qc_host_engine_destroy(engine);
    }
    qc_arena_fini(&arena);
    return 0;
}
