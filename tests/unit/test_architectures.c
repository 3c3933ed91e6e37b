/* SPDX-License-Identifier: MIT
 *
 * test_architectures.c - whole models under the reference semantics: one small random model of each architecture, with
 * the logits of Transformers (golden.safetensors beside it): in f32 within 1e-4 of their range; in bf16 no further from
 * the f32 logits than Transformers' own bf16 logits are, give or take a quarter. The models lie in QC_DATA/models; those
 * that the tree has are run in any case.
 */
#include "tests/unit/stored_model.h"

typedef struct distances {
    double largest, mean_square, range;
} distances;

static float element(const qc_tensor *tensor, int64_t index)
{
    float value;
    qc_tensor_read(tensor, index, 1, &value);
    return value;
}

/* Over the first `positions` of each row of [B, S, vocabulary]. */
static distances distance(const qc_tensor *actual, const qc_tensor *expected, const int64_t *positions)
{
    distances d = {0};
    const int64_t length = expected->dims[1], width = expected->dims[2];
    double least = INFINITY, most = -INFINITY, count = 0;
    for (int64_t b = 0; b < expected->dims[0]; b++)
        for (int64_t i = 0; i < positions[b] * width; i++) {
            const int64_t at = b * length * width + i;
            const double e = (double)element(expected, at), off = fabs((double)element(actual, at) - e);
            least = fmin(least, e);
            most = fmax(most, e);
            d.largest = off <= d.largest ? d.largest : off;
            d.mean_square += off * off;
            count++;
        }
    d.mean_square /= count;
    d.range = most - least;
    return d;
}

/* The distance between the router's last chosen and first left out of n logits. */
static float margin(const qc_tensor *logits, int64_t token, int64_t chosen)
{
    const int64_t n = logits->dims[1];
    float last = INFINITY, next = -INFINITY;
    for (int64_t e = 0; e < n; e++) {
        int64_t above = 0;
        const float x = element(logits, token * n + e);
        for (int64_t o = 0; o < n; o++)
            above += element(logits, token * n + o) > x;
        if (above < chosen)
            last = fminf(last, x);
        else
            next = fmaxf(next, x);
    }
    return last - next;
}

/* Positions of each row before the first where the bf16 run of Transformers chose other experts than its f32 run, or where
 * its router was within an ulp or two of another choice: from there on logits may be those of other weights. */
static void same_routing(stored_model *f, int64_t rows, int64_t length, int64_t *positions)
{
    for (int64_t b = 0; b < rows; b++)
        positions[b] = length;
    for (int layer = 0; layer < 8; layer++) {
        char names[3][40];
        qc_tensor chosen[2] = {{0}, {0}}, logits = {0};
        snprintf(names[0], sizeof names[0], "experts.%d", layer);
        snprintf(names[1], sizeof names[1], "experts_bf16.%d", layer);
        snprintf(names[2], sizeof names[2], "router_bf16.%d", layer);
        if (!qc_st_find(&f->golden, names[0]))
            continue;
        qc_diag *diag = qc_ctx_diag(f->ctx);
        if (read_stored(diag, &f->golden, names[0], &chosen[0]) == QC_OK &&
            read_stored(diag, &f->golden, names[1], &chosen[1]) == QC_OK &&
            read_stored(diag, &f->golden, names[2], &logits) == QC_OK) {
            const int64_t k = chosen[0].dims[1];
            const int32_t *a = chosen[0].data, *z = chosen[1].data;
            for (int64_t t = rows * length - 1; t >= 0; t--)
                if ((memcmp(a + t * k, z + t * k, (size_t)k * sizeof *a) != 0 ||
                        margin(&logits, t, k) < 0x1p-6f) &&
                    t % length < positions[t / length])
                    positions[t / length] = t % length;
        }
        qc_tensor_free(&chosen[0]);
        qc_tensor_free(&chosen[1]);
        qc_tensor_free(&logits);
    }
}

static void check_logits(stored_model *f, const char *name, qc_dtype dtype, const qc_tensor *logits)
{
    qc_tensor expected = {0}, rounded = {0};
    qc_diag *diag = qc_ctx_diag(f->ctx);
    int64_t positions[16] = {0};
    if (read_stored(diag, &f->golden, "logits", &expected) == QC_OK &&
        read_stored(diag, &f->golden, "logits_bf16", &rounded) == QC_OK) {
        CHECK(qc_tensor_same_shape(logits, &expected));
        CHECK(expected.dims[0] <= 16);
        for (int b = 0; b < 16; b++)
            positions[b] = expected.dims[1];
        if (dtype == QC_BF16)
            same_routing(f, expected.dims[0], expected.dims[1], positions);
        const distances ours = distance(logits, &expected, positions),
                        theirs = distance(&rounded, &expected, positions);
        if (dtype == QC_F32) {
            CHECK(ours.range > 0);
            printf("# %s: %.3g of the range\n", name, ours.largest / ours.range);
            CHECK(ours.largest <= 1e-4 * ours.range);
        } else {
            CHECK(theirs.mean_square > 0);
            printf("# %s in bf16: %.3g from f32; Transformers %.3g\n", name, sqrt(ours.mean_square),
                sqrt(theirs.mean_square));
            CHECK(sqrt(ours.mean_square) <= 1.25 * sqrt(theirs.mean_square));
        }
    }
    qc_tensor_free(&expected);
    qc_tensor_free(&rounded);
}

static void check_model(const char *directory, const char *name, qc_dtype dtype)
{
    stored_model f;
    qc_tensor ids = {0}, logits = {0};
    if (open_stored_model(&f, directory, &(qc_hf_options){.dtype = dtype}, NULL) &&
        read_stored(qc_ctx_diag(f.ctx), &f.golden, "input_ids", &ids) == QC_OK) {
        const qc_func *func = qc_module_func(f.module, "main");
        if (qc_reference_run(f.reference, func, &ids, 1, &logits) == QC_OK)
            check_logits(&f, name, dtype, &logits);
        else
            CHECK_FAIL("%s: %s", name, f.said.last);
    }
    qc_tensor_free(&ids);
    qc_tensor_free(&logits);
    close_stored_model(&f);
}

/* Token by token through the cache there are the very bits of one run over everything: windows, chunks, temperatures and
 * positions count from the start. The first call is longer than the original length of phi3's longrope, which chooses its
 * factors by the length of a call. */
static void check_cache(const char *directory)
{
    stored_model f;
    qc_tensor ids = {0}, whole = {0}, part = {0};
    const int64_t prefill = 18;
    if (open_stored_model(&f, directory, &(qc_hf_options){.dtype = QC_BF16}, NULL) &&
        read_stored(qc_ctx_diag(f.ctx), &f.golden, "input_ids", &ids) == QC_OK &&
        run_columns(&f, &ids, 0, ids.dims[1], &whole)) {
        const int64_t length = ids.dims[1], width = whole.dims[2];
        CHECK(length > prefill);
        qc_reference_reset(f.reference);
        for (int64_t at = 0, count = prefill; at < length; at += count, count = 1) {
            if (!run_columns(&f, &ids, at, count, &part))
                break;
            for (int64_t b = 0; b < ids.dims[0]; b++) {
                const uint16_t *expected = (const uint16_t *)whole.data + (b * length + at) * width;
                const uint16_t *actual = (const uint16_t *)part.data + b * count * width;
                if (memcmp(actual, expected, (size_t)(count * width) * sizeof *actual) != 0)
                    CHECK_FAIL("%s: other logits from position %d on", directory, (int)at);
            }
            qc_tensor_free(&part);
        }
        CHECK_INT(qc_reference_past_length(f.reference), length);
    }
    qc_tensor_free(&ids);
    qc_tensor_free(&whole);
    close_stored_model(&f);
}

/* In QC_DATA/models, and in the tree. */
static const char *const data_models[] = {"llama", "llama_bias", "mistral", "qwen2", "qwen3", "phi3",
    "phi4mini", "gemma2", "gemma3", "olmo2", "granite", "mixtral", "qwen2_moe", "qwen3_moe", "llama4",
    "gpt_oss", "deepseek_v3", "glm4_moe"};
static const char *const tree_models[] = {"phi3", "gemma2", "gemma3", "olmo2", "granite", "glm4",
    "gemma3_vision", "mistral3", "llama4_vision", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"};

static void check_all(const char *parent, const char *const *models, size_t count, qc_dtype dtype)
{
    char directory[4096];
    for (size_t i = 0; i < count; i++) {
        snprintf(directory, sizeof directory, "%s/%s", parent, models[i]);
        check_model(directory, models[i], dtype);
    }
}

static void check_data(qc_dtype dtype)
{
    const char *data = getenv("QC_DATA");
    char parent[4000];
    if (!data)
        SKIP("QC_DATA is not set");
    snprintf(parent, sizeof parent, "%s/models", data);
    check_all(parent, data_models, sizeof data_models / sizeof *data_models, dtype);
}

static void check_tree(qc_dtype dtype)
{
    const char *root = getenv("QC_SOURCE_ROOT");
    char parent[4000];
    snprintf(parent, sizeof parent, "%s/tests/data/dense_models", root ? root : ".");
    check_all(parent, tree_models, sizeof tree_models / sizeof *tree_models, dtype);
}

static void test_data_f32(void)
{
    check_data(QC_F32);
}

static void test_data_bf16(void)
{
    check_data(QC_BF16);
}

static void test_tree_cache(void)
{
    const char *root = getenv("QC_SOURCE_ROOT");
    char directory[4096];
    for (size_t i = 0; i < sizeof tree_models / sizeof *tree_models; i++) {
        snprintf(
            directory, sizeof directory, "%s/tests/data/dense_models/%s", root ? root : ".", tree_models[i]);
        check_cache(directory);
    }
}

static void test_tree_f32(void)
{
    check_tree(QC_F32);
}

static void test_tree_bf16(void)
{
    check_tree(QC_BF16);
}

int main(void)
{
    RUN(test_tree_f32);
    RUN(test_tree_bf16);
    RUN(test_tree_cache);
    RUN(test_data_f32);
    RUN(test_data_bf16);
    return check_done();
}
