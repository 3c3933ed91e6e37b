/* SPDX-License-Identifier: MIT
 *
 * fuzz_hf_config.c - any bytes as the config.json of a checkpoint, its quantization_config included. What is
 * taken must be within the bounds that the rest of the importer computes with; what is refused must be said.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "frontends/hf/import.h"
#include "ir/ctx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_hf_config: %s\n", what);
    abort();
}

static void check_args(const qc_hf_args *a)
{
    if (!a->present)
        return;
    demand(a->code != QC_DTYPE_NONE && a->granularity != NULL, "codes under scales");
    demand(a->group >= 0 && (a->group > 0) == (strcmp(a->granularity, "group") == 0), "groups of columns");
    demand((a->block[0] > 0 && a->block[1] > 0) == (strcmp(a->granularity, "block") == 0), "blocks");
    demand(a->symmetric || qc_dtype_is_int(a->code), "zero points of integers");
}

static void check_rope(const qc_hf_rope *rope, int64_t head_dim)
{
    demand(rope->theta > 0 && isfinite(rope->theta), "a base");
    demand(rope->dims >= 2 && rope->dims % 2 == 0 && rope->dims <= head_dim, "pairs of columns of a head");
    demand((rope->type != QC_HF_ROPE_YARN && rope->type != QC_HF_ROPE_LONGROPE) ||
               (rope->attention_factor > 0 && isfinite(rope->attention_factor)),
        "an attention factor for yarn and longrope");
}

static void check_moe(const qc_hf_config *c)
{
    const qc_hf_moe_config *m = &c->moe;
    const int64_t sizes[] = {m->experts, m->top_k, m->intermediate, m->dense};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        demand(sizes[i] > 0 && sizes[i] <= INT32_MAX, "sizes of experts within 31 bits");
    demand(m->shared >= 0 && m->shared <= INT32_MAX, "a shared expert within 31 bits");
    demand(m->experts <= 65536 && m->top_k <= m->experts, "as many experts as are chosen");
    demand(isfinite(m->scaling) && m->layers != NULL, "a factor, and which layers have experts");
    if (c->arch->moe->routing == QC_HF_ROUTING_GROUPED_SIGMOID)
        demand(m->groups > 0 && m->experts % m->groups == 0 && m->experts / m->groups >= 2 &&
                   m->top_groups > 0 && m->top_groups <= m->groups &&
                   m->top_k <= m->top_groups * (m->experts / m->groups),
            "groups that experts can be chosen from");
}

static void check_quantization(qc_arena *arena, const qc_hf_config *config)
{
    qc_ctx *ctx = qc_ctx_create(NULL, NULL, NULL);
    qc_hf_state state = {.ctx = ctx,
        .diag = qc_ctx_diag(ctx),
        .arena = arena,
        .directory = "input",
        .config = *config,
        .dtype = QC_BF16};
    qc_status status = qc_hf_quantization_read(&state);
    const qc_hf_quantization *q = &state.quantization;
    demand((status == QC_OK) == (qc_ctx_diag(ctx)->error_count == 0), "an error for each refused scheme");
    for (size_t i = 0; status == QC_OK && i < q->group_count; i++) {
        check_args(&q->groups[i].weights);
        check_args(&q->groups[i].input);
        demand(
            !q->groups[i].weights.present || q->groups[i].storage != QC_HF_STORAGE_NONE, "a place for codes");
    }
    qc_ctx_destroy(ctx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    qc_diag diag;
    qc_diag_init(&diag, &arena, NULL, NULL);
    qc_hf_config c;
    qc_status status = qc_hf_config_parse(&diag, &arena, "input", (const char *)data, size, &c);
    demand((status == QC_OK) == (diag.error_count == 0), "an error for each refusal");
    if (status == QC_OK) {
        const int64_t sizes[] = {c.vocabulary, c.hidden, c.intermediate, c.layers, c.attention.heads,
            c.attention.kv_heads, c.attention.head_dim};
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            demand(sizes[i] > 0 && sizes[i] <= INT32_MAX, "sizes within 31 bits");
        demand(c.attention.heads % c.attention.kv_heads == 0, "heads that fit each other");
        demand((c.attention.heads + 2 * c.attention.kv_heads) * c.attention.head_dim <= INT32_MAX ||
                   c.arch->attention.projection == QC_HF_PROJECTION_LATENT,
            "rows of projections within 31 bits");
        demand(c.norm_eps >= 0 && c.attention.score_scale > 0 && isfinite(c.attention.score_scale) &&
                   c.attention.softcap >= 0,
            "norm and scores");
        for (int i = 0; i < 2; i++)
            check_rope(&c.attention.ropes[i], c.attention.head_dim);
        for (int64_t i = 0; i < c.layers; i++) {
            const qc_hf_attention_span *span = &c.attention.spans[i];
            demand(span->window >= 0 && span->window <= INT32_MAX, "windows within 31 bits");
            demand(span->chunk >= 0 && span->chunk <= INT32_MAX, "chunks within 31 bits");
            demand(span->rope >= -1 && span->rope < 2, "one of the ropes");
        }
        if (c.arch->moe)
            check_moe(&c);
        check_quantization(&arena, &c);
    }
    qc_arena_fini(&arena);
    return 0;
}
