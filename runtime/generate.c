/* SPDX-License-Identifier: MIT
 *
 * generate.c - see generate.h. The prompt's tokens go through the stream decoder too, unprinted, because how
 * a token reads may hang on the one before it (a space, half a character).
 */
#include "runtime/generate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "frontends/hf/hf.h"
#include "frontends/text/chat.h"
#include "ir/ctx.h"
#include "ir/support/io.h"

static qc_status encode_chat(
    qc_model *model, qc_tokenizer_scratch *scratch, qc_arena *arena, const char *prompt, qc_token_ids *ids)
{
    qc_diag *diag = qc_ctx_diag(model->ctx);
    const qc_chat_template *template;
    static const qc_chat_options options = {.add_generation_prompt = true};
    if (qc_chat_require(diag, arena, model->directory, &template))
        return QC_ERROR;
    qc_json *messages = qc_json_new(arena, QC_JSON_ARRAY), *message = qc_json_new(arena, QC_JSON_OBJECT);
    qc_json_set(arena, message, "role", qc_json_new_string(arena, "user"));
    qc_json_set(arena, message, "content", qc_json_new_string(arena, prompt));
    qc_json_push(arena, messages, message);
    return qc_chat_encode(
        template, model->tokenizer, scratch, diag, "--prompt", messages, &options, arena, ids);
}

qc_status qc_generate_prepare(qc_model *model, qc_arena *arena, const char *prompt, bool chat,
    size_t max_tokens, qc_generate_plan *plan)
{
    qc_diag *diag = qc_ctx_diag(model->ctx);
    qc_token_ids ids = {0};
    if (qc_text_check(diag, "--prompt", prompt, strlen(prompt)))
        return QC_ERROR;
    qc_tokenizer_scratch *scratch = qc_tokenizer_scratch_create(model->tokenizer, arena->oom);
    qc_status status = chat ? encode_chat(model, scratch, arena, prompt, &ids)
                            : qc_tokenizer_encode(
                                  model->tokenizer, scratch, diag, prompt, strlen(prompt), true, arena, &ids);
    qc_tokenizer_scratch_destroy(scratch);
    if (status != QC_OK)
        return status;
    if (ids.count == 0)
        return qc_error(diag, "--prompt", "the prompt has no token to go on from");
    size_t positions = (size_t)model->positions;
    *plan = (qc_generate_plan){ids.items, ids.count, max_tokens, 0};
    if (max_tokens == 0) {
        plan->max_tokens = QC_GENERATE_DEFAULT_TOKENS;
        if (positions > ids.count && positions - ids.count < plan->max_tokens)
            plan->max_tokens = positions - ids.count;
    }
    uint64_t room = ids.count + (uint64_t)plan->max_tokens;
    if (!qc_executor_cache_bytes(model->executor, room, &plan->cache_bytes))
        return qc_error(diag, "--max-tokens", "a KV cache of %" PRIu64 " tokens is too large", room);
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    if (plan->cache_bytes > memory) /* it would be had page by page, and the machine come to a halt */
        return qc_error(diag, "--max-tokens",
            "a KV cache of %" PRIu64 " tokens takes %" PRIu64 " MiB, this machine has %" PRIu64, room,
            plan->cache_bytes >> 20, memory >> 20);
    if (positions && plan->max_tokens + ids.count > positions)
        qc_warning(diag, model->path, "%zu tokens of prompt and up to %zu more; the model was made for %zu",
            ids.count, plan->max_tokens, positions);
    return QC_OK;
}

typedef struct generation {
    qc_model *model;
    qc_diag *diag;
    qc_session *session;
    qc_sampler *sampler;
    float *logits; /* [vocabulary] of the last token */
    qc_hf_generation config;
    qc_token_stream stream;
    qc_str text;
    qc_text_fn emit;
    void *user;
} generation;

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool is_end(const generation *g, int32_t token)
{
    for (size_t i = 0; i < g->config.eos_count; i++)
        if (g->config.eos_ids[i] == token)
            return true;
    return false;
}

static qc_status emit_text(generation *g)
{
    qc_status status = g->text.length ? g->emit(g->user, g->text.data, g->text.length) : QC_OK;
    qc_str_clear(&g->text);
    return status;
}

/* The prompt has been run: g->logits are those of its last token. */
static qc_status generate_tokens(generation *g, size_t max_tokens, qc_generate_report *report)
{
    for (;;) {
        int32_t token;
        if (qc_sampler_next(g->sampler, g->diag, g->logits, &token))
            return QC_ERROR;
        report->ended = is_end(g, token);
        if (report->ended)
            break;
        report->tokens++;
        qc_token_stream_push(&g->stream, token, &g->text);
        if (emit_text(g))
            return QC_ERROR;
        if (report->tokens == max_tokens)
            break;
        if (qc_session_run(g->session, &token, 1, true, g->logits))
            return QC_ERROR;
    }
    qc_token_stream_finish(&g->stream, &g->text);
    return emit_text(g);
}

static qc_status run(generation *g, const qc_generate_plan *plan, qc_generate_report *report)
{
    for (size_t i = 0; i < plan->prompt_count; i++)
        qc_token_stream_push(&g->stream, plan->prompt[i], &g->text);
    qc_str_clear(&g->text);
    double start = now_seconds();
    if (qc_session_run(g->session, plan->prompt, plan->prompt_count, true, g->logits))
        return QC_ERROR;
    double middle = now_seconds();
    report->prompt_seconds = middle - start;
    qc_status status = generate_tokens(g, plan->max_tokens, report);
    report->seconds = now_seconds() - middle;
    return status;
}

/* End tokens; a model that has neither file (IR alone) ends nowhere. */
static qc_status read_config(generation *g)
{
    qc_arena *arena = qc_ctx_arena(g->model->ctx);
    const char *directory = g->model->directory;
    if (!directory || (!qc_is_file(qc_path_join(arena, directory, "generation_config.json")) &&
                          !qc_is_file(qc_path_join(arena, directory, "config.json"))))
        return QC_OK;
    return qc_hf_read_generation(g->diag, arena, directory, &g->config);
}

qc_status qc_generate_run(qc_model *model, const qc_generate_plan *plan, const qc_sampler_options *sampling,
    qc_text_fn emit, void *user, qc_generate_report *report)
{
    size_t vocabulary = (size_t)qc_executor_vocabulary(model->executor);
    qc_arena *arena = qc_ctx_arena(model->ctx);
    generation g = {.model = model, .diag = qc_ctx_diag(model->ctx), .emit = emit, .user = user};
    *report = (qc_generate_report){0};
    if (read_config(&g))
        return QC_ERROR;
    qc_str_init(&g.text, arena);
    qc_token_stream_init(&g.stream, model->tokenizer, true, arena);
    g.sampler = qc_sampler_create(g.diag, vocabulary, sampling);
    g.logits = calloc(vocabulary, sizeof *g.logits);
    if (g.sampler && !g.logits)
        qc_error(g.diag, model->path, "out of memory for %zu logits", vocabulary);
    if (g.sampler && g.logits)
        g.session = qc_session_create(model->executor, plan->prompt_count + plan->max_tokens);
    qc_status status = g.session ? run(&g, plan, report) : QC_ERROR;
    if (g.session)
        qc_session_destroy(g.session);
    qc_sampler_destroy(g.sampler);
    free(g.logits);
    qc_token_stream_fini(&g.stream);
    qc_str_fini(&g.text);
    return status;
}
