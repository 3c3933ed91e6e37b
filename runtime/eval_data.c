/* SPDX-License-Identifier: MIT
 *
 * eval_data.c - the sequences of an evaluation: see eval.h.
 */
#include "runtime/eval.h"

#include "frontends/text/dataset.h"
#include "ir/ctx.h"
#include "ir/support/io.h"

#define MAX_TEXT_BYTES ((size_t)4 << 30)

qc_status qc_eval_windows_cut(qc_diag *diag, qc_arena *arena, const char *where, const int32_t *ids,
    size_t count, const int32_t *prefix, size_t prefix_count, int64_t context, qc_eval_windows *windows)
{
    size_t first = prefix_count ? prefix_count : 1;
    *windows = (qc_eval_windows){.context = context, .prefixed = prefix_count > 0};
    if (context < 0 || (uint64_t)context <= first)
        return qc_error(diag, where, "a context of %lld tokens leaves none to score; it takes at least %zu",
            (long long)context, first + 1);
    size_t step = (size_t)context - prefix_count, total = count / step + (count % step != 0);
    windows->items = QC_NEW_ARRAY(arena, qc_eval_window, total);
    for (size_t at = 0; at < count; at += step) {
        size_t part = count - at < step ? count - at : step;
        qc_eval_window w = {ids + at, prefix_count + part, first};
        if (w.count <= first)
            break;
        if (prefix_count) {
            int32_t *both = QC_NEW_ARRAY(arena, int32_t, w.count);
            memcpy(both, prefix, prefix_count * sizeof *both);
            memcpy(both + prefix_count, ids + at, part * sizeof *both);
            w.ids = both;
        }
        windows->items[windows->count++] = w;
        windows->scored += w.count - first;
    }
    if (windows->scored == 0)
        return qc_error(
            diag, where, "the text has %zu token%s: nothing to score", count, count == 1 ? "" : "s");
    return QC_OK;
}

static qc_status check_ids(
    qc_diag *diag, const char *where, const int32_t *ids, size_t count, int64_t vocabulary)
{
    for (size_t i = 0; vocabulary > 0 && i < count; i++)
        if (ids[i] < 0 || ids[i] >= vocabulary)
            return qc_error(diag, where,
                "the tokenizer gives id %ld, but the model's vocabulary has %lld tokens", (long)ids[i],
                (long long)vocabulary);
    return QC_OK;
}

static qc_status read_text(
    qc_model *model, qc_arena *arena, const char *path, int64_t context, qc_eval_windows *windows)
{
    qc_diag *diag = qc_ctx_diag(model->ctx);
    const int32_t *prefix;
    size_t prefix_count, length;
    char *text;
    qc_token_ids ids = {0};
    if (qc_model_prefix(model, &prefix, &prefix_count) ||
        qc_read_file(diag, arena, path, MAX_TEXT_BYTES, &text, &length))
        return QC_ERROR;
    if (length == 0)
        return qc_error(diag, path, "the file is empty");
    if (qc_text_check(diag, path, text, length))
        return QC_ERROR;
    qc_tokenizer_scratch *scratch = qc_tokenizer_scratch_create(model->tokenizer, arena->oom);
    qc_status status = qc_tokenizer_encode(model->tokenizer, scratch, diag, text, length, false, arena, &ids);
    qc_tokenizer_scratch_destroy(scratch);
    if (status != QC_OK)
        return status;
    if (context == 0) {
        context = QC_EVAL_DEFAULT_CONTEXT;
        if (model->positions > 0 && model->positions < context)
            context = model->positions;
    }
    if (check_ids(diag, path, ids.items, ids.count, qc_model_vocabulary(model)))
        return QC_ERROR;
    return qc_eval_windows_cut(
        diag, arena, path, ids.items, ids.count, prefix, prefix_count, context, windows);
}

static qc_status read_lines(
    qc_model *model, qc_arena *arena, const char *path, int64_t context, qc_eval_windows *windows)
{
    qc_diag *diag = qc_ctx_diag(model->ctx);
    qc_dataset_options options = {.max_tokens = (size_t)context,
        .vocabulary = qc_model_vocabulary(model),
        .model_directory = model->directory};
    qc_dataset set;
    if (qc_dataset_read(diag, arena, path, model->tokenizer, &options, &set))
        return QC_ERROR;
    *windows = (qc_eval_windows){.items = QC_NEW_ARRAY(arena, qc_eval_window, set.count), .context = context};
    for (size_t i = 0; i < set.count; i++) {
        const qc_token_sequence *s = &set.sequences[i];
        if (s->count < 2)
            continue;
        windows->items[windows->count++] = (qc_eval_window){s->ids, s->count, 1};
        windows->scored += s->count - 1;
    }
    if (windows->scored == 0)
        return qc_error(diag, path, "no sequence has a second token: nothing to score");
    return QC_OK;
}

/* Does a JSONL file want a tokenizer? Lines of input_ids alone do without one, and so does their model. */
static bool has_tokenizer(const qc_model *model, qc_arena *arena)
{
    return model->directory && qc_is_file(qc_path_join(arena, model->directory, "tokenizer.json"));
}

qc_status qc_eval_read(qc_model *model, const qc_model_options *options, qc_arena *arena, const char *path,
    int64_t context, qc_eval_windows *windows)
{
    bool lines = qc_ends_with(path, ".jsonl");
    if ((!lines || has_tokenizer(model, arena)) && !model->tokenizer &&
        qc_model_load_tokenizer(model, options))
        return QC_ERROR;
    qc_status status = lines ? read_lines(model, arena, path, context, windows)
                             : read_text(model, arena, path, context, windows);
    size_t longest = 0;
    for (size_t i = 0; status == QC_OK && i < windows->count; i++)
        longest = windows->items[i].count > longest ? windows->items[i].count : longest;
    if (model->positions > 0 && longest > (size_t)model->positions)
        qc_warning(qc_ctx_diag(model->ctx), path,
            "sequences of up to %zu tokens; the model was made for %lld (--context cuts them)", longest,
            (long long)model->positions);
    return status;
}
