/* SPDX-License-Identifier: MIT
 *
 * bench_experts.c - products of rows sorted by expert, on one projection of Qwen3-30B-A3B's layer: 128 experts of
 * 768 x 2048 in bf16, 8 of them a token, chosen at random.
 *
 * Prints, for 1, 512 and 4096 tokens: the time of the grouped product; of the same rows and the same multiplications through one
 * weight of that size that stays in the caches (linear), which is the limit of the arithmetic; and the rate at which
 * the grouped product reads weights, beside that of a copy of as many bytes. Then the rows around it: choosing, sorting, gathering,
 * summing back. Best of three or more repetitions, which take turns, in half a second.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "backends/host/host.h"
#include "tests/unit/host_util.h"

enum { EXPERTS = 128, CHOSEN = 8, HIDDEN = 2048, INNER = 768, MOST_TOKENS = 4096 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Least time so far of a statement that is repeated in a loop with others. */
#define LEAST(best, statement)                                                                               \
    do {                                                                                                     \
        double before = now();                                                                               \
        statement;                                                                                           \
        double took = now() - before;                                                                        \
        best = took < best ? took : best;                                                                    \
    } while (0)

typedef struct layer {
    qc_host_linear *experts[EXPERTS];
    uint16_t *scores, *x, *xs, *ys,
        *out; /* [tokens, EXPERTS], [tokens, HIDDEN], rows, rows [.., INNER], tokens */
    int32_t *ids, *rows;
    size_t tokens, starts[EXPERTS + 1];
} layer;

static void route(const qc_host_engine *engine, qc_diag *diag, layer *l)
{
    size_t count = l->tokens * CHOSEN;
    qc_host_topk(engine, diag, "bench", QC_BF16, l->scores, l->tokens, EXPERTS, CHOSEN, l->ids);
    qc_host_expert_rows(diag, "bench", l->ids, l->tokens, CHOSEN, EXPERTS, l->rows);
    qc_host_expert_starts(diag, "bench", l->rows, count, EXPERTS, l->starts);
}

static void gather(const qc_host_engine *engine, qc_diag *diag, layer *l)
{
    size_t count = l->tokens * CHOSEN;
    qc_host_gather_rows(
        engine, diag, "bench", l->x, l->tokens, HIDDEN * sizeof *l->x, l->rows + count, count, l->xs);
}

static void combine(const qc_host_engine *engine, qc_diag *diag, layer *l)
{
    const qc_host_combination c = {
        .dtype = QC_BF16, .rows = l->tokens * CHOSEN, .columns = HIDDEN, .tokens = l->tokens, .k = CHOSEN};
    qc_host_expert_combine(engine, diag, "bench", &c, l->xs, l->rows, l->out);
}

static void grouped(qc_diag *diag, layer *l)
{
    qc_host_linear_run_groups((const qc_host_linear *const *)l->experts, diag, l->xs, 0, l->ys, 0,
        (qc_host_sequences){l->starts, EXPERTS});
}

static void dense(qc_diag *diag, layer *l)
{
    qc_host_linear_run(
        l->experts[0], diag, l->xs, 0, l->ys, 0, l->tokens * CHOSEN, (qc_host_sequences){NULL, 0});
}

static size_t experts_used(const layer *l)
{
    size_t used = 0;
    for (size_t e = 0; e < EXPERTS; e++)
        used += l->starts[e + 1] > l->starts[e];
    return used;
}

static void run(const qc_host_engine *engine, qc_diag *diag, layer *l, const char *from, char *to)
{
    double routed = 1e9, gathered = 1e9, product = 1e9, limit = 1e9, combined = 1e9, copied = 1e9;
    double flops = 2.0 * (double)(l->tokens * CHOSEN) * HIDDEN * INNER;
    route(engine, diag, l);
    size_t bytes = experts_used(l) * (size_t)HIDDEN * INNER * 2;
    double start = now();
    for (int i = 0; i < 3 || now() - start < 0.5; i++) {
        LEAST(routed, route(engine, diag, l));
        LEAST(gathered, gather(engine, diag, l));
        LEAST(product, grouped(diag, l));
        LEAST(limit, dense(diag, l));
        LEAST(copied, memcpy(to, from, bytes));
        LEAST(combined, combine(engine, diag, l));
    }
    printf("%zu tokens, %d threads, %zu experts: grouped %.3f ms, %.1f GF/s, %.0f %% of one weight's %.1f; "
           "reads weights at %.1f GB/s, a copy at %.1f; routing %.3f ms, gathering %.3f, summing %.3f\n",
        l->tokens, qc_host_engine_thread_count(engine), experts_used(l), product * 1e3,
        flops / product * 1e-9, 100.0 * limit / product, flops / limit * 1e-9, (double)bytes / product * 1e-9,
        (double)bytes / copied * 1e-9, routed * 1e3, gathered * 1e3, combined * 1e3);
}

static bool make_layer(qc_host_engine *engine, qc_diag *diag, layer *l)
{
    bool made = true;
    for (size_t e = 0; e < EXPERTS; e++) {
        void *w = random_values(100 + (uint32_t)e, (size_t)HIDDEN * INNER, QC_BF16, 0.05);
        l->experts[e] = qc_host_linear_create(engine, diag, "bench",
            &(qc_host_linear_spec){.out_features = INNER,
                .in_features = HIDDEN,
                .weight_dtype = QC_BF16,
                .weight = w,
                .input_dtype = QC_BF16});
        made = made && l->experts[e];
        free(w);
    }
    l->scores = random_values(1, (size_t)MOST_TOKENS * EXPERTS, QC_BF16, 1.0);
    l->x = random_values(2, (size_t)MOST_TOKENS * HIDDEN, QC_BF16, 1.0);
    l->xs = calloc((size_t)MOST_TOKENS * CHOSEN * HIDDEN, sizeof *l->xs);
    l->ys = calloc((size_t)MOST_TOKENS * CHOSEN * INNER, sizeof *l->ys);
    l->out = calloc((size_t)MOST_TOKENS * HIDDEN, sizeof *l->out);
    l->ids = calloc((size_t)MOST_TOKENS * CHOSEN, sizeof *l->ids);
    l->rows = calloc((size_t)MOST_TOKENS * CHOSEN * 3, sizeof *l->rows);
    return made && l->scores && l->x && l->xs && l->ys && l->out && l->ids && l->rows;
}

static void free_layer(layer *l)
{
    for (size_t e = 0; e < EXPERTS; e++)
        qc_host_linear_destroy(l->experts[e]);
    free(l->scores), free(l->x), free(l->xs), free(l->ys), free(l->out), free(l->ids), free(l->rows);
}

int main(void)
{
    static const size_t tokens[] = {1, 512, MOST_TOKENS};
    size_t bytes = (size_t)EXPERTS * HIDDEN * INNER * 2;
    char *from = calloc(bytes, 1), *to = malloc(bytes);
    qc_arena arena;
    qc_diag diag;

    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, NULL, NULL);
    for (int all = 0; all < 2 && from && to; all++) {
        layer l = {0};
        qc_host_engine *engine =
            qc_host_engine_create(&diag, &(qc_host_options){.thread_count = all ? 0 : 1});
        if (!all)
            printf("%s\n", qc_host_engine_description(engine));
        if (make_layer(engine, &diag, &l))
            for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
                l.tokens = tokens[i];
                run(engine, &diag, &l, from, to);
            }
        free_layer(&l);
        qc_host_engine_destroy(engine);
    }
    free(from), free(to);
    qc_arena_fini(&arena);
    return 0;
}
