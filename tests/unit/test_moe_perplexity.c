/* SPDX-License-Identifier: MIT
 *
 * test_moe_perplexity.c - a trained model with experts, some of them hardly ever chosen, on text that it has not seen:
 * the perplexities that PyTorch's runs gave (QC_DATA, models/moe_stories/README.md).
 */
#include "ir/ctx.h"
#include "ir/support/io.h"
#include "ir/support/safetensors.h"
#include "runtime/eval.h"
#include "tests/unit/check.h"
#include "tests/unit/messages.h"

/* Windows of 256 tokens, the first of which is not scored. */
static bool read_windows(qc_ctx *ctx, const qc_st_set *set, const char *name, qc_eval_windows *windows)
{
    const qc_st_tensor *t = qc_st_find(set, name);
    qc_arena *arena = qc_ctx_arena(ctx);
    if (!t || t->rank != 2 || strcmp(t->dtype, "I32") != 0)
        return false;
    int32_t *ids = qc_arena_alloc(arena, (size_t)t->size_bytes);
    if (qc_st_read(qc_ctx_diag(ctx), set, t, ids) != QC_OK)
        return false;
    *windows = (qc_eval_windows){.count = (size_t)t->shape[0], .context = t->shape[1]};
    windows->items = QC_NEW_ARRAY(arena, qc_eval_window, windows->count);
    for (size_t i = 0; i < windows->count; i++)
        windows->items[i] = (qc_eval_window){ids + i * (size_t)t->shape[1], (size_t)t->shape[1], 1};
    windows->scored = windows->count * (size_t)(t->shape[1] - 1);
    return true;
}

static void check_texts(qc_dtype dtype, const double expected[4])
{
    static const char *const texts[] = {"tinystories", "tinyshakespeare", "gsm8k_questions", "wikitext2"};
    const char *data = getenv("QC_DATA");
    if (!data)
        SKIP("QC_DATA is not set");
    messages said = {0};
    qc_ctx *ctx = qc_ctx_create(NULL, keep_message, &said);
    qc_arena *arena = qc_ctx_arena(ctx);
    const char *directory = qc_path_join(arena, data, "models/moe_stories");
    qc_model_options options = {.dtype = dtype, .backend = QC_BACKEND_HOST};
    qc_model model = {0};
    qc_st_set tokens = {0};
    if (qc_model_open(ctx, directory, &options, &model) != QC_OK ||
        qc_model_load_weights(&model, &options) != QC_OK ||
        qc_st_open_file(qc_ctx_diag(ctx), arena, qc_path_join(arena, directory, "eval_tokens.safetensors"),
            &tokens) != QC_OK)
        CHECK_FAIL("%s", said.last);
    for (int i = 0; i < 4 && tokens.tensor_count > 0; i++) {
        qc_eval_windows windows;
        qc_eval_options run = {0};
        qc_eval_result result;
        CHECK(read_windows(ctx, &tokens, texts[i], &windows));
        if (qc_eval_run(&model, NULL, &windows, &run, &result) != QC_OK) {
            CHECK_FAIL("%s", said.last);
            break;
        }
        printf("# %s: %.3f, PyTorch %.3f\n", texts[i], exp(result.loss.mean), expected[i]);
        CHECK_NEAR(exp(result.loss.mean), expected[i], dtype == QC_F32 ? 0.001 : 0.003);
    }
    qc_st_close(&tokens);
    qc_model_close(&model);
    qc_ctx_destroy(ctx);
}

static void test_f32(void)
{
    static const double perplexities[] = {9.704, 12.053, 6.587, 7.952};
    check_texts(QC_F32, perplexities);
}

static void test_bf16(void)
{
    static const double perplexities[] = {9.705, 12.056, 6.589, 7.955};
    check_texts(QC_BF16, perplexities);
}

int main(void)
{
    RUN(test_f32);
    RUN(test_bf16);
    return check_done();
}
