/* SPDX-License-Identifier: MIT
 *
 * test_reference_model.c - a whole model under the reference semantics: stories260k as imported, against the
 * logits of Transformers (tests/data/README.md), in bf16 and f32, at once and token by token through the
 * cache.
 */
#include "tests/unit/stored_model.h"

static bool open_model(stored_model *f, qc_dtype dtype)
{
    const char *root = getenv("QC_SOURCE_ROOT");
    char directory[4096];
    snprintf(directory, sizeof directory, "%s/tests/data/stories260k", root ? root : ".");
    return open_stored_model(f, directory, &(qc_hf_options){.dtype = dtype}, NULL);
}

/* Root mean square of the difference over that of the expected logits, and how many rows have another
 * maximum. */
static double distance(const qc_tensor *actual, const qc_tensor *expected, int *other_maximum)
{
    double error = 0, size = 0;
    int64_t width = qc_tensor_dim(expected, -1);
    *other_maximum = 0;
    for (int64_t row = 0; row < expected->count / width; row++) {
        float best[2] = {-INFINITY, -INFINITY};
        int64_t at[2] = {0, 0};
        for (int64_t i = 0; i < width; i++) {
            float a, e;
            qc_tensor_read(actual, row * width + i, 1, &a);
            qc_tensor_read(expected, row * width + i, 1, &e);
            error += ((double)a - (double)e) * ((double)a - (double)e);
            size += (double)e * (double)e;
            at[0] = a > best[0] ? i : at[0];
            best[0] = a > best[0] ? a : best[0];
            at[1] = e > best[1] ? i : at[1];
            best[1] = e > best[1] ? e : best[1];
        }
        *other_maximum += at[0] != at[1];
    }
    return sqrt(error / size);
}

static void check_against(qc_dtype dtype, const char *name, double tolerance, int allowed)
{
    stored_model f;
    qc_tensor ids = {0}, expected = {0}, logits = {0};
    int other;

    if (open_model(&f, dtype) && read_stored(qc_ctx_diag(f.ctx), &f.golden, "input_ids", &ids) == QC_OK &&
        read_stored(qc_ctx_diag(f.ctx), &f.golden, name, &expected) == QC_OK &&
        run_columns(&f, &ids, 0, ids.dims[1], &logits)) {
        CHECK(qc_tensor_same_shape(&logits, &expected));
        double off = distance(&logits, &expected, &other);
        printf("# relative distance %.3g, %d other maxima\n", off, other);
        CHECK(off <= tolerance);
        CHECK(other <= allowed);
    }
    qc_tensor_free(&ids);
    qc_tensor_free(&expected);
    qc_tensor_free(&logits);
    close_stored_model(&f);
}

/* f32: only the order of sums and PyTorch's power differ. */
static void test_f32(void)
{
    check_against(QC_F32, "logits", 2e-6, 0);
}

/* bf16: a sum near a tie rounds the other way now and then, and the layers pass that on: a part of 2^-8. */
static void test_bf16(void)
{
    check_against(QC_BF16, "logits_bf16", 1e-3, 0);
}

/* Sums do not depend on what is masked, so the cache gives the very bits of one run over everything. */
static void test_token_by_token(void)
{
    stored_model f;
    qc_tensor ids = {0}, whole = {0}, part = {0};
    const int64_t prefill = 9, length = 12;

    if (open_model(&f, QC_BF16) && read_stored(qc_ctx_diag(f.ctx), &f.golden, "input_ids", &ids) == QC_OK &&
        run_columns(&f, &ids, 0, length, &whole)) {
        int64_t width = qc_tensor_dim(&whole, -1);
        qc_reference_reset(f.reference);
        for (int64_t at = 0; at < length; at += at == 0 ? prefill : 1) {
            int64_t count = at == 0 ? prefill : 1;
            if (!run_columns(&f, &ids, at, count, &part))
                break;
            for (int64_t b = 0; b < ids.dims[0]; b++) {
                const uint16_t *expected = (const uint16_t *)whole.data + (b * length + at) * width;
                const uint16_t *actual = (const uint16_t *)part.data + b * count * width;
                CHECK(memcmp(actual, expected, (size_t)(count * width) * sizeof *actual) == 0);
            }
            qc_tensor_free(&part);
        }
        CHECK_INT(qc_reference_past_length(f.reference), length);
    }
    qc_tensor_free(&ids);
    qc_tensor_free(&whole);
    close_stored_model(&f);
}

int main(void)
{
    RUN(test_f32);
    RUN(test_bf16);
    RUN(test_token_by_token);
    return check_done();
}
