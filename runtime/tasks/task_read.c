/* SPDX-License-Identifier: MIT
 *
 * task_read.c - tasks from questions and answers: see task.h. Prompts are put together as
 * lm-evaluation-harness does it: for each shot its question, a space, its answer and an empty line, then the
 * question that is asked. Logged samples are read in task_log.c.
 */
#include "frontends/text/chat.h"
#include "ir/support/io.h"
#include "runtime/tasks/internal.h"

#include <inttypes.h>

enum { MAX_TASK_BYTES = 1 << 30 };

/* ---- shared by both readers ---------------------------------------------------------------------------- */

qc_task_text qc_task_text_of(const qc_json *string)
{
    return (qc_task_text){string->text, string->length};
}

qc_task_text qc_task_text_z(const char *text)
{
    return (qc_task_text){text, strlen(text)};
}

const char *qc_task_where(const qc_task *task, qc_arena *arena, const qc_task_doc *doc)
{
    return qc_arena_printf(arena, "%s:%" PRIu32, task->path, doc->line);
}

qc_status qc_task_texts(
    qc_task_reader *reader, const char *where, const char *what, const qc_json *list, qc_task_text **texts)
{
    size_t count = 0;
    if (list->kind != QC_JSON_ARRAY)
        return qc_error(reader->diag, where, "%s must be a list of strings", what);
    *texts = QC_NEW_ARRAY(reader->arena, qc_task_text, list->length);
    for (const qc_json *item = list->first; item; item = item->next) {
        if (item->kind != QC_JSON_STRING)
            return qc_error(reader->diag, where, "%s must be a list of strings", what);
        (*texts)[count++] = qc_task_text_of(item);
    }
    return QC_OK;
}

static bool is_blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!strchr(" \t\r", text[i]))
            return false;
    return true;
}

qc_status qc_task_each_line(
    qc_task_reader *reader, const char *path, const char *text, size_t length, qc_task_line_fn take)
{
    size_t count = 0;
    uint32_t number = 0;
    for (size_t at = 0; at < length; number++) {
        const char *end = memchr(text + at, '\n', length - at);
        size_t size = end ? (size_t)(end - text) - at : length - at;
        qc_task_line line = {
            number + 1, qc_arena_printf(reader->arena, "%s:%" PRIu32, path, number + 1), NULL};
        if (!is_blank(text + at, size)) {
            line.value = qc_json_parse_line(reader->diag, reader->arena, path, line.number, text + at, size);
            if (!line.value)
                return QC_ERROR;
            if (line.value->kind != QC_JSON_OBJECT)
                return qc_error(reader->diag, line.where, "a line of a task must be a JSON object");
            if (take(reader, &line))
                return QC_ERROR;
            count++;
        }
        at += size + 1;
    }
    return count ? QC_OK : qc_error(reader->diag, path, "the file holds no line: there is nothing to ask");
}

const char *qc_task_name(qc_arena *arena, const char *path, bool logged)
{
    const char *base = qc_path_base(path), *dot = strrchr(base, '.');
    size_t length = dot && dot > base ? (size_t)(dot - base) : strlen(base);
    if (logged && qc_starts_with(base, "samples_")) {
        base += 8;
        length -= 8;
        /* NAME_2026-01-31T12-34-56.789: the fraction is what was taken for an ending, or follows it */
        for (size_t i = length; i-- > 1;)
            if (base[i] == '_' && i + 11 < length && base[i + 5] == '-' && base[i + 8] == '-' &&
                base[i + 11] == 'T')
                return qc_arena_strndup(arena, base, i);
    }
    return qc_arena_strndup(arena, base, length);
}

/* ---- questions ----------------------------------------------------------------------------------------- */

static qc_status read_string(
    qc_task_reader *reader, const qc_task_line *line, const char *key, const qc_json **value)
{
    *value = qc_json_get(line->value, key);
    if (!*value || (*value)->kind == QC_JSON_NULL)
        return qc_error(reader->diag, line->where, "there is no \"%s\"; a line of this task has %s", key,
            reader->task->kind == QC_TASK_CHOICE ? "\"question\" or \"context\", \"choices\" and \"answer\""
                                                 : "\"question\" and \"answer\"");
    if ((*value)->kind != QC_JSON_STRING)
        return qc_error(reader->diag, line->where, "\"%s\" must be a string", key);
    if ((*value)->length == 0)
        return qc_error(reader->diag, line->where, "\"%s\" is empty", key);
    return QC_OK;
}

static qc_status read_generate(qc_task_reader *reader, const qc_task_line *line, qc_task_doc *doc)
{
    const qc_json *question, *answer = qc_json_get(line->value, "answer");
    if (qc_json_get(line->value, "choices"))
        return qc_error(reader->diag, line->where, "it has \"choices\", the lines before it have none");
    if (read_string(reader, line, "question", &question))
        return QC_ERROR;
    if (answer && answer->kind == QC_JSON_NUMBER && answer->is_integer)
        doc->target = qc_task_text_of(answer); /* its token */
    else if (read_string(reader, line, "answer", &answer))
        return QC_ERROR;
    else
        doc->target = qc_task_text_of(answer);
    doc->question = qc_task_text_z(qc_arena_printf(reader->arena, "Question: %s\nAnswer:", question->text));
    return strlen(question->text) == question->length && strlen(doc->target.data) >= doc->target.length
               ? QC_OK
               : qc_error(reader->diag, line->where, "a text holds a NUL");
}

/* Index of the right one: a number from 0 on, or the choice itself. */
static qc_status read_gold(
    qc_task_reader *reader, const qc_task_line *line, const qc_json *choices, qc_task_doc *doc)
{
    const qc_json *answer = qc_json_get(line->value, "answer");
    if (!answer || (answer->kind != QC_JSON_NUMBER && answer->kind != QC_JSON_STRING))
        return qc_error(
            reader->diag, line->where, "\"answer\" must be the index of a choice, from 0 on, or its text");
    if (answer->kind == QC_JSON_NUMBER) {
        if (!answer->is_integer || answer->integer < 0 || (uint64_t)answer->integer >= choices->length)
            return qc_error(reader->diag, line->where, "answer %s is no index of %zu choices, from 0 on",
                answer->text, choices->length);
        doc->gold = (size_t)answer->integer;
        return QC_OK;
    }
    for (size_t i = 0; i < choices->length; i++)
        if (doc->choices[i].length == answer->length &&
            memcmp(doc->choices[i].data, answer->text, answer->length) == 0) {
            doc->gold = i;
            return QC_OK;
        }
    return qc_error(reader->diag, line->where, "the answer \"%s\" is none of the %zu choices", answer->text,
        choices->length);
}

static qc_status read_choice(qc_task_reader *reader, const qc_task_line *line, qc_task_doc *doc)
{
    const qc_json *question = qc_json_get(line->value, "question"),
                  *context = qc_json_get(line->value, "context"),
                  *choices = qc_json_get(line->value, "choices");
    qc_task_text *texts = NULL;
    if (!choices)
        return qc_error(reader->diag, line->where, "there are no \"choices\", the lines before it have some");
    if ((question || !context) && read_string(reader, line, "question", &question))
        return QC_ERROR;
    if (context && read_string(reader, line, "context", &context))
        return QC_ERROR;
    if (qc_task_texts(reader, line->where, "\"choices\"", choices, &texts))
        return QC_ERROR;
    if (choices->length < 2)
        return qc_error(
            reader->diag, line->where, "there must be two choices or more, not %zu", choices->length);
    doc->choices = texts;
    for (size_t i = 0; i < choices->length; i++)
        if (texts[i].length == 0 || strlen(texts[i].data) != texts[i].length)
            return qc_error(reader->diag, line->where, "choice %zu is empty or holds a NUL", i);
    if (read_gold(reader, line, choices, doc))
        return QC_ERROR;
    doc->question = qc_task_text_z(
        !question ? context->text
                  : qc_arena_printf(reader->arena, "%s%sQuestion: %s\nAnswer:", context ? context->text : "",
                        context ? "\n" : "", question->text));
    doc->target = texts[doc->gold];
    doc->request_count = choices->length;
    return QC_OK;
}

/* The first line says what the task is. */
static qc_status read_shape(qc_task_reader *reader, const qc_task_line *line)
{
    const qc_json *v = line->value;
    if (qc_json_get(v, "choices"))
        reader->task->kind = QC_TASK_CHOICE;
    else if (qc_json_get(v, "question") && qc_json_get(v, "answer"))
        reader->task->kind = QC_TASK_GENERATE;
    else
        return qc_error(reader->diag, line->where,
            "no task has such lines: they hold \"question\" and \"answer\", or \"choices\" too, or "
            "\"arguments\" and \"resps\" as lm-evaluation-harness logs samples; this one has %s",
            v->length ? qc_chat_member_names(reader->arena, v) : "nothing");
    return QC_OK;
}

static qc_status take_line(qc_task_reader *reader, const qc_task_line *line)
{
    qc_task_doc doc = {
        .id = (int64_t)reader->docs.count, .line = line->number, .value = line->value, .request_count = 1};
    if (reader->docs.count == 0 && read_shape(reader, line))
        return QC_ERROR;
    if (reader->task->kind == QC_TASK_CHOICE ? read_choice(reader, line, &doc)
                                             : read_generate(reader, line, &doc))
        return QC_ERROR;
    QC_PUSH(reader->arena, &reader->docs, doc);
    return QC_OK;
}

/* The first line tells a log from questions. */
static qc_status take_any(qc_task_reader *reader, const qc_task_line *line)
{
    if (reader->lines++ == 0)
        reader->task->logged = qc_json_get(line->value, "arguments") != NULL;
    return reader->task->logged ? qc_task_take_sample(reader, line) : take_line(reader, line);
}

/* ---- prompts ------------------------------------------------------------------------------------------- */

/* gen_kwargs of gsm8k.yaml. */
static const qc_task_generation *usual_generation(qc_task_reader *reader)
{
    static const char *const until[] = {"Question:", "</s>", "<|im_end|>"};
    enum { COUNT = sizeof until / sizeof *until };
    qc_arena *arena = reader->arena;
    qc_task_generation *g = QC_NEW(arena, qc_task_generation);
    qc_task_text *texts = QC_NEW_ARRAY(arena, qc_task_text, COUNT);
    qc_json *written = qc_json_new(arena, QC_JSON_OBJECT), *list = qc_json_new(arena, QC_JSON_ARRAY);
    for (size_t i = 0; i < COUNT; i++) {
        texts[i] = qc_task_text_z(until[i]);
        qc_json_push(arena, list, qc_json_new_string(arena, until[i]));
    }
    size_t most = reader->options->max_tokens;
    *g = (qc_task_generation){texts, COUNT, most ? most : QC_TASK_DEFAULT_TOKENS, {.top_p = 1}, written};
    qc_json_set(arena, written, "until", list);
    qc_json_set(arena, written, "do_sample", qc_json_new_bool(arena, false));
    qc_json_set(arena, written, "temperature", qc_json_new_double(arena, 0));
    if (most)
        qc_json_set(arena, written, "max_gen_toks", qc_json_new_int(arena, (int64_t)most));
    return g;
}

static void make_requests(
    qc_task_reader *reader, qc_task_doc *doc, const char *shots, const qc_task_generation *generation)
{
    qc_arena *arena = reader->arena;
    qc_task_text context = qc_task_text_z(qc_arena_printf(arena, "%s%s", shots, doc->question.data));
    doc->requests = QC_NEW_ARRAY(arena, qc_task_request, doc->request_count);
    for (size_t i = 0; i < doc->request_count; i++) {
        doc->requests[i] = (qc_task_request){.context = context, .generation = generation, .text = {"", 0}};
        if (reader->task->kind == QC_TASK_CHOICE)
            doc->requests[i].continuation =
                qc_task_text_z(qc_arena_printf(arena, " %s", doc->choices[i].data));
    }
}

static void make_prompts(qc_task_reader *reader)
{
    qc_task *task = reader->task;
    qc_str shots;
    qc_str_init(&shots, reader->arena);
    for (size_t i = 0; i < task->shot_count; i++) {
        qc_str_add(&shots, task->shot_docs[i].question.data);
        qc_str_add_char(&shots, ' ');
        qc_str_add_bytes(&shots, task->shot_docs[i].target.data, task->shot_docs[i].target.length);
        qc_str_add(&shots, "\n\n");
    }
    const qc_task_generation *generation = task->kind == QC_TASK_GENERATE ? usual_generation(reader) : NULL;
    for (size_t i = 0; i < task->doc_count; i++)
        make_requests(reader, &task->docs[i], shots.data, generation);
    qc_str_fini(&shots);
}

static qc_status read_shots(qc_task_reader *reader)
{
    char *text;
    size_t length;
    const char *path = reader->options->shots_path;
    return qc_read_file(reader->diag, reader->arena, path, MAX_TASK_BYTES, &text, &length) ||
                   qc_task_each_line(reader, path, text, length, take_line)
               ? QC_ERROR
               : QC_OK;
}

/* Which lines are shots, and which are asked. */
static qc_status share_out(qc_task_reader *reader)
{
    const qc_task_options *o = reader->options;
    qc_task *task = reader->task;
    const qc_task_doc *all = reader->docs.items;
    size_t count = reader->docs.count;
    int64_t usual = task->kind == QC_TASK_GENERATE ? QC_TASK_GSM8K_SHOTS : 0;
    task->shots = o->shots < 0 ? usual : o->shots;
    task->shot_count = (size_t)task->shots;
    task->docs = reader->docs.items;
    task->doc_count = count;
    task->shot_docs = all;
    if (o->shots_path) {
        qc_task_kind kind = task->kind;
        reader->docs.items = NULL;
        reader->docs.count = reader->docs.capacity = 0;
        if (read_shots(reader))
            return QC_ERROR;
        if (task->kind != kind)
            return qc_error(reader->diag, o->shots_path, "its lines are of another kind than the task's");
        if (task->shot_count > reader->docs.count)
            return qc_error(reader->diag, o->shots_path, "%zu shots are asked for, the file has %zu lines",
                task->shot_count, reader->docs.count);
        task->shot_docs = reader->docs.items;
    } else if (task->shot_count >= count) {
        return qc_error(reader->diag, task->path,
            "of %zu lines %zu are shots: there is none left to ask (--fewshot, --fewshot-file)", count,
            task->shot_count);
    } else {
        task->docs += task->shot_count;
        task->doc_count -= task->shot_count;
    }
    for (size_t i = 0; i < task->doc_count; i++)
        task->docs[i].id = (int64_t)i;
    return QC_OK;
}

static void add_rows(qc_task *task, qc_arena *arena)
{
    if (task->kind == QC_TASK_GENERATE) {
        for (size_t i = 0; i < task->rules.filter_count; i++)
            qc_task_add_row(task, arena, task->rules.filters[i]->name, "exact_match");
    } else {
        qc_task_add_row(task, arena, "none", "acc");
        qc_task_add_row(task, arena, "none", "acc_norm");
        qc_task_add_row(task, arena, "none", "acc_bytes");
    }
}

qc_status qc_task_parse(qc_diag *diag, qc_arena *arena, const char *path, const char *text, size_t length,
    const qc_task_options *options, qc_task *task)
{
    qc_task_reader reader = {.diag = diag, .arena = arena, .options = options, .task = task};
    *task = (qc_task){.path = path, .shots = -1};
    qc_map_init(&reader.doc_ids, arena);
    if (qc_task_each_line(&reader, path, text, length, take_any))
        return QC_ERROR;
    task->name = qc_task_name(arena, path, task->logged);
    if (task->logged && (options->shots >= 0 || options->shots_path))
        return qc_error(diag, path, "logged samples hold their prompts: --fewshot does nothing to them");
    if (task->logged ? qc_task_finish_log(&reader) : share_out(&reader))
        return QC_ERROR;
    task->line_count = task->doc_count;
    if (options->limit && options->limit < task->doc_count)
        task->doc_count = options->limit;
    if (!task->logged) {
        task->version = task->kind == QC_TASK_GENERATE ? "3" : "1";
        task->rules = task->kind == QC_TASK_GENERATE ? qc_task_gsm8k_rules() : (qc_task_rules){0};
        make_prompts(&reader);
        add_rows(task, arena);
    }
    for (size_t i = 0; i < task->doc_count; i++)
        if (!task->docs[i].scores)
            task->docs[i].scores = QC_NEW_ARRAY(arena, double, task->row_count);
    return QC_OK;
}

qc_status qc_task_read(
    qc_diag *diag, qc_arena *arena, const char *path, const qc_task_options *options, qc_task *task)
{
    char *text;
    size_t length;
    return qc_read_file(diag, arena, path, MAX_TASK_BYTES, &text, &length) ||
                   qc_task_parse(diag, arena, path, text, length, options, task)
               ? QC_ERROR
               : QC_OK;
}
