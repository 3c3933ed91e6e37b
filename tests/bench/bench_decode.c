/* SPDX-License-Identifier: MIT
 *
 * bench_decode.c - one query against a cache of 1k, 4k and 8k tokens: caches of codes beside a bf16 cache.
 *
 * Heads as SmolLM2-135M has them (9 query heads on 3 key heads of 64) and as an 8B model has (32 on 8 of 128), in
 * pages of 16 tokens as a run keeps them. Every type goes over as many layers' caches as a token does (30 of the
 * small model, 4 of the large), so that a cache comes from memory where a run's would. Types take turns; the
 * least time of each layer counts, which is short enough to be spared by the scheduler now and then.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/host/host.h"
#include "tests/unit/host_util.h"

enum { PAGE = 16, GROUP = 16 };

typedef struct form {
    const char *name;
    qc_dtype codes;
    enum { VALUES, HEAD, TOKEN, NVFP4 } scales;
} form;

static const form forms[] = {{"bf16", QC_BF16, VALUES}, {"e4m3, a head", QC_F8E4M3, HEAD},
    {"e4m3, a token and head", QC_F8E4M3, TOKEN}, {"e5m2, a head", QC_F8E5M2, HEAD},
    {"int8, a head", QC_I8, HEAD}, {"int4, a head", QC_I4, HEAD}, {"int4, a token and head", QC_I4, TOKEN},
    {"nvfp4", QC_F4E2M1, NVFP4}};
enum { FORMS = sizeof forms / sizeof *forms };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct cache {
    qc_host_heads heads;
    void *data, *scales;
    const void **pages, **scale_pages;
} cache;

/* Codes that are finite numbers of every type; scales of 1. */
static cache make_cache(const form *f, size_t tokens, size_t heads, size_t size)
{
    static const float ones[64] = {
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    size_t bits = (size_t)qc_dtype_bits(f->codes), row = heads * size * bits / 8,
           count = (tokens + PAGE - 1) / PAGE;
    size_t per_row = f->scales == NVFP4 ? size / GROUP : 1;
    size_t scale_row = heads * per_row * (f->scales == NVFP4 ? 1 : sizeof(float));
    cache c = {
        .heads = {.dtype = f->codes, .page_tokens = PAGE, .token_stride = heads * size, .head_stride = size}};
    uint32_t seed = 1;

    c.data = malloc(count * PAGE * row);
    c.scales = malloc(count * PAGE * scale_row);
    c.pages = malloc(count * sizeof *c.pages);
    c.scale_pages = malloc(count * sizeof *c.scale_pages);
    for (size_t i = 0; i < count * PAGE * row; i++) {
        seed = seed * 1664525u + 1013904223u;
        ((uint8_t *)c.data)[i] = (uint8_t)(seed >> 24 & (f->scales == VALUES ? 0x3f : 0xbb));
    }
    for (size_t p = 0; p < count; p++) {
        c.pages[p] = (char *)c.data + p * PAGE * row;
        c.scale_pages[p] = (char *)c.scales + p * PAGE * scale_row;
    }
    c.heads.pages = c.pages;
    if (f->scales == HEAD) {
        c.heads.scale = ones;
        c.heads.scale_stride = 1;
    } else if (f->scales != VALUES) {
        c.heads.scales = (qc_host_scales){.dtype = f->scales == NVFP4 ? QC_F8E4M3 : QC_F32,
            .pages = c.scale_pages,
            .token_stride = heads * per_row,
            .head_stride = per_row,
            .group = f->scales == NVFP4 ? GROUP : 0};
        c.heads.global = f->scales == NVFP4 ? 7.0f : 0.0f;
        for (size_t i = 0; i < count * PAGE * heads * per_row; i++)
            if (f->scales == NVFP4)
                ((uint8_t *)c.scales)[i] = 0x38;
            else
                ((float *)c.scales)[i] = 1.0f;
    }
    return c;
}

static void free_cache(cache *c)
{
    free(c->data), free(c->scales), free(c->pages), free(c->scale_pages);
}

typedef struct model {
    const char *name;
    size_t query_heads, kv_heads, size, layers;
} model;

/* Lowers best[l] to the time of layer l. */
static void run_layers(const qc_host_engine *engine, qc_diag *diag, const model *m, size_t tokens,
    cache *const *caches, void *q, void *out, double *best)
{
    for (size_t l = 0; l < m->layers; l++) {
        const qc_host_attention at = {.dtype = QC_BF16,
            .q = {.dtype = QC_BF16,
                .data = q,
                .token_stride = m->query_heads * m->size,
                .head_stride = m->size},
            .k = caches[l][0].heads,
            .v = caches[l][1].heads,
            .out = out,
            .out_token_stride = m->query_heads * m->size,
            .out_head_stride = m->size,
            .queries = 1,
            .past = tokens - 1,
            .keys = tokens,
            .query_heads = m->query_heads,
            .kv_heads = m->kv_heads,
            .head_size = m->size,
            .scale = 0.01f,
            .causal = true};
        double before = now();
        if (qc_host_attention_run(engine, diag, "decode", &at) != QC_OK)
            exit(1);
        double took = now() - before;
        best[l] = took < best[l] ? took : best[l];
    }
}

static void measure(const qc_host_engine *engine, qc_diag *diag, const model *m, size_t tokens)
{
    double best[FORMS] = {0}, least[FORMS][64], start = now(), seconds = 6.0;
    cache *caches[FORMS][64];
    void *q = random_values(1, m->query_heads * m->size, QC_BF16, 1.0),
         *out = malloc(m->query_heads * m->size * 2);

    for (size_t f = 0; f < FORMS; f++) {
        for (size_t l = 0; l < m->layers; l++) {
            least[f][l] = 1e9;
            caches[f][l] = malloc(2 * sizeof(cache));
            for (int k = 0; k < 2; k++)
                caches[f][l][k] = make_cache(&forms[f], tokens, m->kv_heads, m->size);
        }
    }
    for (int turn = 0; turn < 3 || now() - start < seconds; turn++)
        for (size_t f = 0; f < FORMS; f++)
            run_layers(engine, diag, m, tokens, caches[f], q, out, least[f]);
    for (size_t f = 0; f < FORMS; f++)
        for (size_t l = 0; l < m->layers; l++)
            best[f] += least[f][l];
    for (size_t f = 0; f < FORMS; f++)
        printf("%s, %zu tokens, %d threads: %-22s %8.3f ms a layer, %.2f times bf16\n", m->name, tokens,
            qc_host_engine_thread_count(engine), forms[f].name, best[f] * 1e3 / (double)m->layers,
            best[0] / best[f]);
    for (size_t f = 0; f < FORMS; f++)
        for (size_t l = 0; l < m->layers; l++) {
            free_cache(&caches[f][l][0]);
            free_cache(&caches[f][l][1]);
            free(caches[f][l]);
        }
    free(q), free(out);
}

int main(void)
{
    static const model models[] = {
        {"9 heads on 3 of 64", 9, 3, 64, 30}, {"32 heads on 8 of 128", 32, 8, 128, 4}};
    static const size_t tokens[] = {1024, 4096, 8192};
    qc_arena arena;
    qc_diag diag;

    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, NULL, NULL);
    for (int all = 0; all < 2; all++) {
        qc_host_engine *engine =
            qc_host_engine_create(&diag, &(qc_host_options){.thread_count = all ? 0 : 1});
        if (!all)
            printf("%s\n", qc_host_engine_description(engine));
        for (size_t m = 0; m < 2; m++)
            for (size_t t = 0; t < 3; t++)
                measure(engine, &diag, &models[m], tokens[t]);
        qc_host_engine_destroy(engine);
    }
    qc_arena_fini(&arena);
    return 0;
}
