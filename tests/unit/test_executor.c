/* SPDX-License-Identifier: MIT
 *
 * test_executor.c - models on the CPU against the logits of Transformers (tests/data/README.md; QC_DATA adds
 * more models), against the reference semantics op by op, and against themselves: over threads, sequences,
 * chunks and the cache.
 */
#include "tests/unit/executor_model.h"

/* ---- against Transformers ------------------------------------------------------------------------------ */

/* f32: within 1e-4 of the range. bf16: as near to the f32 logits as PyTorch's bf16 run is; both round at the same
 * places, so their errors are alike in size, and the mean over many logits may differ by little. */
static void check_model(const char *name)
{
    model m;
    if (!open_model(&m, name, QC_F32)) {
        end(&m);
        SKIP("QC_DATA does not say where the models are");
    }
    if (!load(&m, 0, QC_BACKEND_HOST))
        return;
    size_t count = m.rows * m.columns * (size_t)qc_executor_vocabulary(m.executor);
    float *f32 = golden_values(&m, "logits"), *bf16 = golden_values(&m, "logits_bf16"),
          *ours = run_all(&m, 1);
    difference d = compare(ours, f32, count);
    printf("# %s f32: max %.3g of range %.3g\n", name, d.max, d.range);
    CHECK(d.max <= 1e-4 * d.range);
    free(ours);
    end(&m);
    if (open_model(&m, name, QC_BF16) && load(&m, 0, QC_BACKEND_HOST)) {
        ours = run_all(&m, 1);
        d = compare(ours, f32, count);
        difference torch = compare(bf16, f32, count), both = compare(ours, bf16, count);
        printf(
            "# %s bf16 against f32: mean %.3g max %.3g, PyTorch's mean %.3g max %.3g; between: mean %.3g\n",
            name, d.mean, d.max, torch.mean, torch.max, both.mean);
        CHECK(d.mean <= 1.1 * torch.mean);
        CHECK(d.max <= 1.5 * torch.max);
        free(ours);
    }
    end(&m);
    free(f32);
    free(bf16);
}

static void test_stories(void)
{
    check_model("stories260k");
}
static void test_llama(void)
{
    check_model("llama");
}
static void test_llama_bias(void)
{
    check_model("llama_bias");
}
static void test_mistral(void)
{
    check_model("mistral");
}
static void test_qwen2(void)
{
    check_model("qwen2");
}
static void test_qwen3(void)
{
    check_model("qwen3");
}

/* ---- against itself ------------------------------------------------------------------------------------ */

static void test_threads(void)
{
    static const int threads[] = {1, 2, 3, 7};
    static const size_t repeats[] = {1, 2, 8}; /* of 2 rows: 2, 4 and 16 sequences */
    model m;
    float *first = NULL;
    if (!open_model(&m, "stories260k", QC_BF16))
        return;
    for (size_t t = 0; t < 4; t++) {
        if (!load(&m, threads[t], QC_BACKEND_HOST))
            return;
        for (size_t r = 0; r < 3; r++) {
            size_t elems = m.rows * m.columns * (size_t)qc_executor_vocabulary(m.executor);
            float *logits = run_all(&m, repeats[r]);
            for (size_t i = 0; first && i < repeats[r]; i++)
                CHECK(memcmp(logits + i * elems, first, elems * sizeof *first) == 0);
            if (first)
                free(logits);
            else
                first = logits;
        }
    }
    free(first);
    end(&m);
}

/* Token by token and in chunks, behind a cache; the last token alone. The products of few rows may be summed in
 * another order by oneDNN, so logits agree to rounding, in f32 closely. */
static void check_session(qc_dtype dtype, qc_backend backend, double tolerance)
{
    static const size_t chunks[][4] = {{1, 1, 1, 1}, {5, 17, 1, 2}, {48, 0, 0, 0}};
    model m;
    if (!open_model(&m, "stories260k", dtype) || !load(&m, 0, QC_BACKEND_HOST))
        return;
    float *whole = run_all(&m, 1);
    size_t vocabulary = (size_t)qc_executor_vocabulary(m.executor);
    if (!load(&m, 2, backend))
        return;
    float *logits = calloc(m.columns * vocabulary, sizeof *logits);
    for (size_t c = backend == QC_BACKEND_HOST ? 0 : 1; c < 3; c++) {
        qc_session *s = qc_session_create(m.executor, m.columns);
        for (size_t at = 0, i = 0; s && at < m.columns; i++) {
            size_t count = chunks[c][i % 4] < m.columns - at ? chunks[c][i % 4] : m.columns - at;
            bool last_only = i % 3 == 1 || c == 2;
            if (count == 0)
                continue;
            if (qc_session_run(s, m.ids + at, count, last_only, logits) != QC_OK) {
                CHECK_FAIL("%s", m.said.last);
                break;
            }
            at += count;
            size_t rows = last_only ? 1 : count;
            difference d = compare(logits, whole + (at - rows) * vocabulary, rows * vocabulary);
            CHECK(d.max <= tolerance * d.range);
            CHECK_INT(qc_session_length(s), at);
        }
        CHECK_INT(qc_session_run(s, m.ids, 1, true, logits), QC_ERROR);
        CHECK(said(&m.said, "do not fit into a cache of 48"));
        qc_session_clear(s);
        CHECK_INT(qc_session_run(s, m.ids, 1, true, logits), QC_OK);
        difference d = compare(logits, whole, vocabulary);
        CHECK(d.max <= tolerance * d.range);
        qc_session_destroy(s);
    }
    free(logits);
    free(whole);
    end(&m);
}

static void test_session_f32(void)
{
    check_session(QC_F32, QC_BACKEND_HOST, 1e-5);
}

static void test_session_bf16(void)
{
    check_session(QC_BF16, QC_BACKEND_HOST, 0.02);
}

static void test_session_f16(void)
{
    check_session(QC_F16, QC_BACKEND_HOST, 0.004);
}

static void test_session_reference(void)
{
    check_session(QC_F32, QC_BACKEND_REFERENCE, 1e-5);
}

static void test_wrong_ids(void)
{
    int32_t ids[2] = {1, 512};
    qc_sequence sequences[2] = {{ids, 1}, {ids, 2}};
    float logits[1024];
    collected c = {.row_elems = 512, .logits = logits};
    model m;
    if (!open_model(&m, "stories260k", QC_BF16) || !load(&m, 2, QC_BACKEND_HOST))
        return;
    CHECK_INT(qc_executor_run_many(m.executor, sequences, 2, collect, &c, NULL, NULL), QC_ERROR);
    CHECK(said(&m.said, "sequence 1: token id 512 is outside the vocabulary of 512"));
    qc_session *s = qc_session_create(m.executor, 4);
    ids[0] = -1;
    CHECK_INT(qc_session_run(s, ids, 1, false, logits), QC_ERROR);
    CHECK(said(&m.said, "token id -1 is outside"));
    qc_session_destroy(s);
    end(&m);
}

/* ---- a quantized model --------------------------------------------------------------------------------- */

static bool apply(model *m, const char *pipeline_text)
{
    qc_registry *registry = qc_registry_create(m->ctx, NULL);
    qc_pipeline *pipeline = qc_pipeline_create(registry);
    qc_run_settings settings = {0};
    bool ok = qc_pipeline_parse(pipeline, "test", pipeline_text) == QC_OK &&
              qc_pipeline_run(pipeline, m->module, &settings) == QC_OK;
    if (!ok)
        CHECK_FAIL("%s", m->said.last);
    qc_registry_destroy(registry);
    return ok;
}

/* Codes, scales and dequantized products against the reference semantics of the same IR. */
static void check_quantized(const char *pipeline)
{
    model m;
    if (!open_model(&m, "stories260k", QC_F32) || !apply(&m, pipeline) || !load(&m, 2, QC_BACKEND_HOST))
        return;
    m.columns = 20; /* the reference is slow */
    m.rows = 1;
    float *host = run_all(&m, 1);
    size_t vocabulary = (size_t)qc_executor_vocabulary(m.executor);
    int64_t cache_bytes = qc_executor_cache_bytes_per_token(m.executor);
    if (!load(&m, 2, QC_BACKEND_REFERENCE))
        return;
    CHECK_INT(qc_executor_cache_bytes_per_token(m.executor), cache_bytes);
    float *reference = run_all(&m, 1);
    difference d = compare(host, reference, m.columns * vocabulary);
    printf("# %s: mean %.3g max %.3g of range %.3g, cache %d bytes a token\n", pipeline, d.mean, d.max,
        d.range, (int)cache_bytes);
    /* A sum that ends on the other side of a tie moves a code, and all codes behind it: over all layers that is
     * as good as another rounding, so few are quantized at a time. */
    CHECK(d.mean <= 1e-4 * d.range);
    free(host);
    free(reference);
    end(&m);
}

static void test_quantized_attention(void)
{
    check_quantized("quant-fp8-attn,resolve-observers{missing=one}");
    check_quantized("fold-r3,quant-fp8-attn,resolve-observers{missing=one}");
}

static void test_quantized_cache(void)
{
    check_quantized("quant-kv,resolve-observers{missing=one}");
}

static void test_quantized_linears(void)
{
    check_quantized(
        "quant-linear{scheme=FP8_DYNAMIC, ignore=[lm_head, \"re:.*mlp.*\", \"re:.*[okv]_proj\"]}");
    check_quantized("quant-linear{scheme=FP8_DYNAMIC, ignore=[lm_head, \"re:.*layers.[1-4].*\"]}");
    check_quantized("quant-linear{scheme=FP8_DYNAMIC, ignore=[\"re:.*proj\"]}");
}

/* Weights in every form of codes, and inputs of few linears through theirs. */
static void test_quantized_schemes(void)
{
    static const char *const inputs[] = {"type=i8, granularity=token",
        "type=i8, granularity=token, symmetric=false",
        "type=i4, granularity=group, group=16, symmetric=false",
        "type=f8e4m3, granularity=group, group=32, scale=f8e8m0",
        "type=f4e2m1, granularity=group, group=32, scale=f8e8m0"};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        char pipeline[512];
        snprintf(pipeline, sizeof pipeline,
            "quant-linear{weights={type=i4, granularity=group, group=8, symmetric=false}, input={%s, "
            "dynamic}, "
            "targets=[\"re:.*layers.0.self_attn.q_proj\"]}",
            inputs[i]);
        check_quantized(pipeline);
    }
    check_quantized("quant-linear{weights={type=f4e2m1, granularity=group, group=16, scale=f8e4m3, global}, "
                    "targets=[Linear], ignore=[lm_head, \"re:.*down_proj\"]}");
    check_quantized("quant-linear{weights={type=i3, granularity=channel}, targets=[Embedding]}");
}

/* Against Transformers and compressed-tensors, on checkpoints of every format: no further from them with eager
 * attention than their other attention kernel is. */
static void check_format(model *m, const char *name, const char *pipeline)
{
    qc_arena *arena = qc_ctx_arena(m->ctx);
    if (!apply(m, pipeline) || !load(m, 0, QC_BACKEND_HOST))
        return;
    size_t count = m->columns * (size_t)qc_executor_vocabulary(m->executor);
    float *theirs = golden_values(m, qc_arena_printf(arena, "%s.logits", name)), *ours = run_all(m, 1);
    float *noise = golden_values(m, qc_arena_printf(arena, "%s.noise", name));
    double differences = 0, squares = 0;
    for (size_t i = 0; i < count; i++) {
        differences += ((double)ours[i] - (double)theirs[i]) * ((double)ours[i] - (double)theirs[i]);
        squares += (double)theirs[i] * (double)theirs[i];
    }
    double distance = sqrt(differences / squares);
    printf("# %s: %.5f of Transformers' logits, its other kernel %.5f\n", name, distance, (double)*noise);
    CHECK(squares > 0 && distance <= (double)*noise);
    free(theirs);
    free(ours);
    free(noise);
}

static void test_formats(void)
{
    const char *root = getenv("QC_SOURCE_ROOT");
    char line[512], path[1024];
    snprintf(path, sizeof path, "%s/tests/unit/data/quantized_logits.txt", root ? root : ".");
    FILE *file = fopen(path, "r");
    size_t seen = 0;
    if (!file)
        SKIP("QC_SOURCE_ROOT does not say where the goldens are");
    while (fgets(line, sizeof line, file)) {
        char *space = strchr(line, ' ');
        model m;
        if (line[0] == '#' || !space || !open_model(&m, "stories260k", QC_BF16))
            continue;
        *space = 0;
        space[1 + strcspn(space + 1, "\n")] = 0;
        qc_st_close(&m.golden);
        snprintf(path, sizeof path, "%s/tests/unit/data/quantized_logits.safetensors", root ? root : ".");
        if (qc_st_open_file(qc_ctx_diag(m.ctx), qc_ctx_arena(m.ctx), path, &m.golden) != QC_OK) {
            CHECK_FAIL("%s", m.said.last);
            break;
        }
        m.rows = 1; /* the beginning of the golden's first row */
        m.columns = 24;
        check_format(&m, line, space + 1);
        seen++;
        end(&m);
    }
    fclose(file);
    CHECK_INT(seen, 11);
}

static void test_uncalibrated(void)
{
    model m;
    if (!open_model(&m, "stories260k", QC_BF16) || !apply(&m, "quant-fp8-attn,insert-observers"))
        return;
    m.executor = qc_executor_create(m.ctx, m.module, NULL);
    CHECK(m.executor == NULL);
    CHECK(said(&m.said, "nothing was calibrated"));
    end(&m);
}

#include "tests/unit/executor_ops.h"

int main(void)
{
    RUN(test_stories);
    RUN(test_llama);
    RUN(test_llama_bias);
    RUN(test_mistral);
    RUN(test_qwen2);
    RUN(test_qwen3);
    RUN(test_threads);
    RUN(test_session_f32);
    RUN(test_session_bf16);
    RUN(test_session_f16);
    RUN(test_session_reference);
    RUN(test_wrong_ids);
    RUN(test_quantized_attention);
    RUN(test_quantized_cache);
    RUN(test_quantized_linears);
    RUN(test_quantized_schemes);
    RUN(test_formats);
    RUN(test_uncalibrated);
    RUN(test_shapes);
    RUN(test_every_op);
    RUN(test_many_groups);
    RUN(test_not_finite);
    RUN(test_signatures);
    RUN(test_without_cache);
    return check_done();
}
