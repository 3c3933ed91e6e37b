/* SPDX-License-Identifier: MIT
 *
 * task_prompts.c - see task_prompts.h and, for the rules, task_run.h.
 */
#include "runtime/tasks/task_prompts.h"

#include "frontends/text/chat.h"
#include "frontends/text/python_text.h"
#include "ir/ctx.h"
#include "runtime/tasks/internal.h"

typedef struct encoder {
    qc_model *model;
    qc_diag *diag;
    qc_arena *arena;
    qc_tokenizer_scratch *scratch;
    qc_str text;
    int32_t bos;            /* -1: none */
    int32_t front;          /* BOS, else EOS: what stands for an empty context */
    const char *front_text; /* a text that begins with it gets no special tokens */
    size_t front_length;
    bool add_bos;
} encoder;

static qc_status encode(encoder *e, const char *where, const char *text, size_t length, qc_token_ids *ids)
{
    bool begun =
        e->front_length && length >= e->front_length && memcmp(text, e->front_text, e->front_length) == 0;
    *ids = (qc_token_ids){0};
    if (e->add_bos) { /* room for it, which is given up if the tokenizer puts one there */
        ids->items = QC_NEW_ARRAY(e->arena, int32_t, length + 8);
        ids->capacity = length + 8;
        ids->items[ids->count++] = e->bos;
    }
    size_t first = ids->count;
    if (qc_text_check(e->diag, where, text, length) ||
        qc_tokenizer_encode(e->model->tokenizer, e->scratch, e->diag, text, length, !begun, e->arena, ids))
        return QC_ERROR;
    if (first && ids->count > first && ids->items[first] == e->bos) {
        ids->items++;
        ids->count--;
        ids->capacity--;
    }
    return QC_OK;
}

/* ---- prompts ------------------------------------------------------------------------------------------- */

static qc_status check_prompt(encoder *e, const char *where, const qc_task_prompt *prompt, bool generate)
{
    int64_t vocabulary = qc_executor_vocabulary(e->model->executor), positions = e->model->positions;
    if (positions > 0 && prompt->count + generate > (size_t)positions)
        return qc_error(e->diag, where, "the prompt has %zu tokens%s, the model has positions for %lld",
            prompt->count, generate ? " to be continued" : "", (long long)positions);
    for (size_t i = 0; i < prompt->count; i++)
        if (prompt->ids[i] < 0 || prompt->ids[i] >= vocabulary)
            return qc_error(e->diag, where,
                "the tokenizer gives id %ld, but the model's vocabulary has %lld tokens",
                (long)prompt->ids[i], (long long)vocabulary);
    for (size_t i = 0; i < prompt->scored && prompt->targets; i++)
        if (prompt->targets[i] < 0 || prompt->targets[i] >= vocabulary)
            return qc_error(e->diag, where,
                "the tokenizer gives id %ld, but the model's vocabulary has %lld tokens",
                (long)prompt->targets[i], (long long)vocabulary);
    return QC_OK;
}

static qc_status encode_question(
    encoder *e, const char *where, const qc_task_request *request, qc_task_prompt *prompt)
{
    qc_token_ids ids;
    if (encode(e, where, request->context.data, request->context.length, &ids))
        return QC_ERROR;
    if (ids.count == 0)
        return qc_error(e->diag, where, "the prompt has no token to go on from");
    *prompt = (qc_task_prompt){ids.items, NULL, ids.count, 1};
    return check_prompt(e, where, prompt, true);
}

/* An empty context: its place is taken by BOS (or EOS), unless the continuation begins with that itself. */
static qc_status encode_alone(
    encoder *e, const char *where, const qc_task_request *request, qc_token_ids *context, qc_token_ids *rest)
{
    if (e->front < 0)
        return qc_error(e->diag, where,
            "the context is empty, and the tokenizer names neither a BOS nor an EOS token to stand for it");
    *rest = (qc_token_ids){0};
    if (qc_tokenizer_encode(e->model->tokenizer, e->scratch, e->diag, request->continuation.data,
            request->continuation.length, false, e->arena, rest))
        return QC_ERROR;
    *context = (qc_token_ids){.items = QC_NEW(e->arena, int32_t), .count = 1};
    context->items[0] = e->front;
    if (rest->count && rest->items[0] == e->front) {
        rest->items++;
        rest->count--;
    }
    return QC_OK;
}

static qc_status encode_pair(
    encoder *e, const char *where, const qc_task_request *request, qc_task_prompt *prompt)
{
    qc_token_ids context, rest;
    size_t length = qc_python_rstrip(request->context.data, request->context.length);
    if (request->context.length == 0) {
        if (encode_alone(e, where, request, &context, &rest))
            return QC_ERROR;
    } else {
        qc_token_ids whole;
        qc_str_clear(&e->text);
        qc_str_add_bytes(&e->text, request->context.data, request->context.length);
        qc_str_add_bytes(&e->text, request->continuation.data, request->continuation.length);
        if (encode(e, where, e->text.data, e->text.length, &whole) ||
            encode(e, where, request->context.data, length, &context))
            return QC_ERROR;
        size_t cut = context.count < whole.count ? context.count : whole.count;
        rest = (qc_token_ids){.items = whole.items + cut, .count = whole.count - cut};
    }
    if (context.count == 0 || rest.count == 0)
        return qc_error(e->diag, where, "the %s of a request has no token of its own",
            rest.count ? "context" : "continuation");
    int32_t *both = QC_NEW_ARRAY(e->arena, int32_t, context.count + rest.count);
    memcpy(both, context.items, context.count * sizeof *both);
    memcpy(both + context.count, rest.items, rest.count * sizeof *both);
    *prompt = (qc_task_prompt){both, both + context.count, context.count + rest.count - 1, rest.count};
    return check_prompt(e, where, prompt, false);
}

/* Leading tokens of `ids`[limit] that are those of the prompt too, and need no logits there. */
static size_t common(const int32_t *ids, size_t limit, const qc_task_prompt *prompt)
{
    size_t i = 0;
    while (i < limit && i + prompt->scored < prompt->count && ids[i] == prompt->ids[i])
        i++;
    return i;
}

/* ---- chat ---------------------------------------------------------------------------------------------- */

static void add_message(qc_arena *arena, qc_json *messages, const char *role, qc_task_text text)
{
    qc_json *message = qc_json_new(arena, QC_JSON_OBJECT);
    qc_json_set(arena, message, "role", qc_json_new_string(arena, role));
    qc_json_set(arena, message, "content",
        qc_json_new_string(arena, qc_arena_strndup(arena, text.data, text.length)));
    qc_json_push(arena, messages, message);
}

/* Questions and answers as turns of a conversation; choices then follow without a space, for the answer has
 * begun already. */
static qc_status render_chat(encoder *e, qc_task *task)
{
    const qc_chat_template *template;
    const qc_chat_options options = {.add_generation_prompt = true};
    if (task->logged)
        return qc_error(
            e->diag, task->path, "logged samples hold their prompts as they are: no --chat for them");
    if (qc_chat_require(e->diag, e->arena, e->model->directory, &template))
        return QC_ERROR;
    for (size_t i = 0; i < task->doc_count; i++) {
        qc_task_doc *doc = &task->docs[i];
        qc_json *messages = qc_json_new(e->arena, QC_JSON_ARRAY);
        for (size_t s = 0; s < task->shot_count; s++) {
            add_message(e->arena, messages, "user", task->shot_docs[s].question);
            add_message(e->arena, messages, "assistant", task->shot_docs[s].target);
        }
        add_message(e->arena, messages, "user", doc->question);
        qc_str_clear(&e->text);
        if (qc_chat_template_render(
                template, e->diag, qc_task_where(task, e->arena, doc), messages, &options, &e->text))
            return QC_ERROR;
        qc_task_text text = {qc_arena_strndup(e->arena, e->text.data, e->text.length), e->text.length};
        for (size_t r = 0; r < doc->request_count; r++) {
            doc->requests[r].context = text;
            if (doc->choices)
                doc->requests[r].continuation = doc->choices[r];
        }
    }
    return QC_OK;
}

/* ---- all ----------------------------------------------------------------------------------------------- */

static qc_status open_encoder(encoder *e, bool add_bos)
{
    const qc_tokenizer *tokenizer = e->model->tokenizer;
    e->bos = qc_tokenizer_bos_id(tokenizer);
    e->front = e->bos >= 0 ? e->bos : qc_tokenizer_eos_id(tokenizer);
    e->add_bos = add_bos;
    if (e->front >= 0)
        e->front_text = qc_tokenizer_id_to_token(tokenizer, e->front, &e->front_length);
    if (!e->front_text)
        e->front_length = 0;
    if (add_bos && e->bos < 0)
        return qc_error(e->diag, "--add-bos", "the tokenizer of %s names no BOS token", e->model->directory);
    return QC_OK;
}

static qc_status encode_doc(encoder *e, const qc_task *task, qc_task_doc *doc, qc_task_prompts *prompts)
{
    prompts->where = qc_task_where(task, e->arena, doc);
    prompts->count = doc->request_count;
    prompts->items = QC_NEW_ARRAY(e->arena, qc_task_prompt, doc->request_count);
    for (size_t i = 0; i < doc->request_count; i++) {
        qc_task_prompt *prompt = &prompts->items[i];
        if (task->kind == QC_TASK_GENERATE ? encode_question(e, prompts->where, &doc->requests[i], prompt)
                                           : encode_pair(e, prompts->where, &doc->requests[i], prompt))
            return QC_ERROR;
        const qc_task_prompt *first = &prompts->items[0];
        prompts->shared = common(first->ids, i ? prompts->shared : prompt->count, prompt);
    }
    return QC_OK;
}

qc_status qc_task_encode(qc_model *model, qc_task *task, const qc_task_run_options *options, qc_arena *arena,
    qc_task_prompts **prompts, size_t *shared)
{
    encoder e = {.model = model, .diag = qc_ctx_diag(model->ctx), .arena = arena};
    *prompts = QC_NEW_ARRAY(arena, qc_task_prompts, task->doc_count);
    *shared = 0;
    qc_str_init(&e.text, arena);
    e.scratch = qc_tokenizer_scratch_create(model->tokenizer, arena->oom);
    qc_status status = open_encoder(&e, options->add_bos);
    if (status == QC_OK && options->chat)
        status = render_chat(&e, task);
    for (size_t i = 0; i < task->doc_count && status == QC_OK; i++) {
        qc_task_prompts *p = &(*prompts)[i];
        status = encode_doc(&e, task, &task->docs[i], p);
        if (status == QC_OK) {
            const qc_task_prompts *first = &(*prompts)[0];
            size_t limit = i ? *shared : p->shared, k = 0;
            while (k < limit && k < p->shared && p->items[0].ids[k] == first->items[0].ids[k])
                k++;
            *shared = k;
        }
    }
    qc_tokenizer_scratch_destroy(e.scratch);
    qc_str_fini(&e.text);
    return status;
}
