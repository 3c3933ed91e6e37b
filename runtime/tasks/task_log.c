/* SPDX-License-Identifier: MIT
 *
 * task_log.c - samples that lm-evaluation-harness logged, read as a task: see task.h.
 *
 * A log has a line for each question and filter: `arguments` (a prompt and gen_kwargs, or pairs of a context and a
 * continuation), `resps` (the answers), `filtered_resps`, `target` and a value for each of `metrics`. What it does not hold
 * are the task's rules: a filter is only a name, and what delimits choices is part of the continuations. So the known rules are
 * tried, and those are taken that give all of the values it holds; if there are none, that is an error, for then
 * answers would be scored by other rules than the task's.
 */
#include "runtime/tasks/internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* ---- requests ------------------------------------------------------------------------------------------ */

static qc_status read_until(
    qc_task_reader *reader, const char *where, const qc_json *value, qc_task_generation *g)
{
    qc_task_text *texts;
    if (value->kind == QC_JSON_NULL)
        return QC_OK;
    if (value->kind == QC_JSON_STRING) {
        texts = QC_NEW_ARRAY(reader->arena, qc_task_text, 1);
        texts[0] = qc_task_text_of(value);
        g->until = texts;
        g->until_count = 1;
        return QC_OK;
    }
    if (qc_task_texts(reader, where, "\"until\"", value, &texts))
        return QC_ERROR;
    g->until = texts;
    g->until_count = value->length;
    return QC_OK;
}

/* max_gen_toks or what else it is called there; the first of these names counts. */
static qc_status read_max_tokens(
    qc_task_reader *reader, const char *where, const qc_json *object, qc_task_generation *g)
{
    static const char *const names[] = {
        "max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"};
    int64_t tokens = QC_TASK_DEFAULT_TOKENS;
    for (size_t i = sizeof names / sizeof *names; i-- > 0;)
        if (qc_json_int(reader->diag, where, object, names[i], false, &tokens))
            return QC_ERROR;
    if (tokens < 1 || tokens > INT32_MAX)
        return qc_error(reader->diag, where, "an answer of %" PRId64 " tokens cannot be generated", tokens);
    g->max_tokens = reader->options->max_tokens ? reader->options->max_tokens : (size_t)tokens;
    return QC_OK;
}

static qc_status read_sampling(
    qc_task_reader *reader, const char *where, const qc_json *object, qc_task_generation *g)
{
    qc_sampler_options *s = &g->sampling;
    qc_diag *diag = reader->diag;
    *s = (qc_sampler_options){.top_p = 1, .seed = reader->options->seed};
    bool said = qc_json_get(object, "do_sample") && qc_json_get(object, "do_sample")->kind != QC_JSON_NULL;
    bool sample = false;
    if (qc_json_bool(diag, where, object, "do_sample", false, &sample) ||
        qc_json_double(diag, where, object, "temperature", false, &s->temperature) ||
        qc_json_double(diag, where, object, "top_p", false, &s->top_p) ||
        qc_json_int(diag, where, object, "top_k", false, &s->top_k))
        return QC_ERROR;
    if (!(s->temperature >= 0) || !(s->top_p > 0 && s->top_p <= 1) || s->top_k < 0)
        return qc_error(diag, where,
            "temperature must not be negative, top_p must be in (0, 1], top_k must not be negative");
    if (said && sample && s->temperature == 0)
        return qc_error(diag, where, "do_sample needs a temperature above 0");
    if (said && !sample)
        s->temperature = 0;
    return QC_OK;
}

static qc_status read_generation(
    qc_task_reader *reader, const char *where, const qc_json *object, const qc_task_generation **generation)
{
    static const char *const known[] = {"until", "max_gen_toks", "max_new_tokens", "max_tokens",
        "max_completion_tokens", "do_sample", "temperature", "top_p", "top_k"};
    qc_task_generation *g = QC_NEW(reader->arena, qc_task_generation);
    for (const qc_json *m = object->first; m; m = m->next) {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && strcmp(known[i], m->key) != 0)
            i++;
        if (i == sizeof known / sizeof *known)
            return qc_error(reader->diag, where, "generation with \"%s\" is not supported", m->key);
        if (i == 0 && read_until(reader, where, m, g))
            return QC_ERROR;
    }
    g->written = object;
    *generation = g;
    return read_max_tokens(reader, where, object, g) || read_sampling(reader, where, object, g) ? QC_ERROR
                                                                                                : QC_OK;
}

/* One of `arguments`: {"arg_0", "arg_1"}, or in older logs a list of two. */
static qc_status read_request(
    qc_task_reader *reader, const char *where, const qc_json *args, qc_task_request *request, bool *generate)
{
    bool list = args->kind == QC_JSON_ARRAY;
    const qc_json *context = list ? qc_json_at(args, 0) : qc_json_get(args, "arg_0"),
                  *other = list ? qc_json_at(args, 1) : qc_json_get(args, "arg_1");
    if (!context || context->kind != QC_JSON_STRING || !other ||
        (other->kind != QC_JSON_STRING && other->kind != QC_JSON_OBJECT))
        return qc_error(reader->diag, where,
            "\"arguments\" must hold a prompt (arg_0) and how to go on from it, or what is to follow it "
            "(arg_1); "
            "log-likelihoods of whole texts and other requests are not run");
    *generate = other->kind == QC_JSON_OBJECT;
    *request = (qc_task_request){.context = qc_task_text_of(context), .text = {"", 0}};
    if (*generate)
        return read_generation(reader, where, other, &request->generation);
    request->continuation = qc_task_text_of(other);
    return other->length ? QC_OK : qc_error(reader->diag, where, "a continuation is empty");
}

static qc_status read_requests(
    qc_task_reader *reader, const qc_task_line *line, qc_task_doc *doc, qc_task_kind *kind)
{
    const qc_json *arguments = qc_json_get(line->value, "arguments");
    if (!arguments || (arguments->kind != QC_JSON_OBJECT && arguments->kind != QC_JSON_ARRAY) ||
        arguments->length == 0)
        return qc_error(
            reader->diag, line->where, "a logged sample must have \"arguments\": one or more requests");
    doc->requests = QC_NEW_ARRAY(reader->arena, qc_task_request, arguments->length);
    size_t generated = 0;
    for (const qc_json *args = arguments->first; args; args = args->next) {
        bool generate = false;
        if (read_request(reader, line->where, args, &doc->requests[doc->request_count++], &generate))
            return QC_ERROR;
        generated += generate;
    }
    if (generated && arguments->length > 1)
        return qc_error(
            reader->diag, line->where, "a sample with several generated answers is not supported");
    *kind = generated ? QC_TASK_GENERATE : arguments->length > 1 ? QC_TASK_CHOICE : QC_TASK_LIKELIHOOD;
    return QC_OK;
}

/* ---- answers ------------------------------------------------------------------------------------------- */

static bool read_number(const qc_json *value, double *number)
{
    if (value && value->kind == QC_JSON_NUMBER) {
        *number = value->number;
        return true;
    }
    if (!value || value->kind != QC_JSON_STRING || value->length == 0)
        return false;
    const char *at = value->text + (*value->text == '-' || *value->text == '+');
    size_t digits = strspn(at, "0123456789");
    at += digits;
    if (*at == '.') {
        size_t more = strspn(at + 1, "0123456789");
        at += 1 + more;
        digits += more;
    }
    if (digits && (*at == 'e' || *at == 'E')) {
        at += 1 + (at[1] == '-' || at[1] == '+');
        digits = strspn(at, "0123456789");
        at += digits;
    }
    if (digits == 0 || at != value->text + value->length)
        return false;
    *number = qc_decimal_to_f64(value->text, value->length);
    return isfinite(*number);
}

static bool read_truth(const qc_json *value, bool *truth)
{
    if (!value || (value->kind != QC_JSON_BOOL && value->kind != QC_JSON_STRING))
        return false;
    *truth = value->kind == QC_JSON_BOOL ? value->boolean : strcmp(value->text, "True") == 0;
    return value->kind == QC_JSON_BOOL || *truth || strcmp(value->text, "False") == 0;
}

/* The answer to one request: a list of one, for a request is made once. */
static qc_status read_answer(
    qc_task_reader *reader, const qc_task_line *line, const qc_json *list, qc_task_request *request)
{
    const qc_json *answer = list->kind == QC_JSON_ARRAY ? list->first : NULL;
    if (list->kind == QC_JSON_ARRAY && list->length > 1 && answer->kind != QC_JSON_NUMBER)
        return qc_error(
            reader->diag, line->where, "a request with %zu answers is not supported", list->length);
    if (request->generation) {
        if (!answer || answer->kind != QC_JSON_STRING)
            return qc_error(reader->diag, line->where, "\"resps\" must hold a text for a generated answer");
        request->text = qc_task_text_of(answer);
        return QC_OK;
    }
    const qc_json *pair = answer && answer->kind == QC_JSON_ARRAY ? answer : list;
    if (pair->kind != QC_JSON_ARRAY || pair->length != 2 || !read_number(pair->first, &request->log_prob) ||
        !read_truth(pair->last, &request->greedy))
        return qc_error(reader->diag, line->where,
            "\"resps\" must hold a log-likelihood and whether the continuation is the likeliest, for each of "
            "the requests");
    return QC_OK;
}

static qc_status read_answers(qc_task_reader *reader, const qc_task_line *line, qc_task_doc *doc)
{
    const qc_json *resps = qc_json_get(line->value, "resps");
    size_t i = 0;
    if (!resps || resps->kind != QC_JSON_ARRAY || resps->length != doc->request_count)
        return qc_error(reader->diag, line->where,
            "\"resps\" must be a list of %zu, the answers to \"arguments\"", doc->request_count);
    for (const qc_json *item = resps->first; item; item = item->next)
        if (read_answer(reader, line, item, &doc->requests[i++]))
            return QC_ERROR;
    return QC_OK;
}

/* ---- samples ------------------------------------------------------------------------------------------- */

static const char *filter_of(const qc_json *sample)
{
    const qc_json *filter = qc_json_get(sample, "filter");
    return filter && filter->kind == QC_JSON_STRING ? filter->text : "none";
}

static bool is_equal(qc_task_text a, qc_task_text b)
{
    return a.length == b.length && memcmp(a.data, b.data, a.length) == 0;
}

/* A question that another filter has had already must be the same question. */
static qc_status check_same(
    qc_task_reader *reader, const qc_task_line *line, const qc_task_doc *old, const qc_task_doc *doc)
{
    bool same = old->request_count == doc->request_count && is_equal(old->target, doc->target);
    for (size_t i = 0; same && i < doc->request_count; i++) {
        const qc_task_request *a = &old->requests[i], *b = &doc->requests[i];
        same = is_equal(a->context, b->context) && is_equal(a->text, b->text) && a->log_prob == b->log_prob;
        if (same && !a->generation)
            same = is_equal(a->continuation, b->continuation);
    }
    return same ? QC_OK
                : qc_error(reader->diag, line->where,
                      "document %" PRId64 " has another prompt, target or answer here than in line %" PRIu32,
                      doc->id, old->line);
}

static qc_status read_doc(qc_task_reader *reader, const qc_task_line *line, qc_task_doc *doc)
{
    const qc_json *target = qc_json_get(line->value, "target");
    if (qc_json_int(reader->diag, line->where, line->value, "doc_id", true, &doc->id))
        return QC_ERROR;
    if (!target || (target->kind != QC_JSON_STRING && target->kind != QC_JSON_NUMBER))
        return qc_error(
            reader->diag, line->where, "a logged sample must have a \"target\", a string or a number");
    doc->target = qc_task_text_of(target);
    doc->value = qc_json_get(line->value, "doc");
    if (!doc->value)
        doc->value = qc_json_new(reader->arena, QC_JSON_OBJECT);
    return QC_OK;
}

qc_status qc_task_take_sample(qc_task_reader *reader, const qc_task_line *line)
{
    qc_task_doc doc = {.line = line->number};
    qc_task_kind kind = QC_TASK_GENERATE;
    char id[32];
    if (read_requests(reader, line, &doc, &kind) || read_doc(reader, line, &doc) ||
        read_answers(reader, line, &doc))
        return QC_ERROR;
    if (reader->docs.count == 0)
        reader->task->kind = kind;
    if (reader->task->kind != kind)
        return qc_error(reader->diag, line->where, "its requests are of another kind than those before it");
    int length = snprintf(id, sizeof id, "%" PRId64, doc.id);
    qc_map_entry *entry = qc_map_add_n(&reader->doc_ids, id, (size_t)length);
    size_t index = entry->value ? (size_t)(uintptr_t)entry->value - 1 : reader->docs.count;
    if (entry->value) {
        if (check_same(reader, line, &reader->docs.items[index], &doc))
            return QC_ERROR;
    } else {
        QC_PUSH(reader->arena, &reader->docs, doc);
        entry->value = (void *)(uintptr_t)(index + 1);
    }
    qc_task_sample sample = {index, line->number, line->value};
    QC_PUSH(reader->arena, &reader->samples, sample);
    return QC_OK;
}

/* ---- rules --------------------------------------------------------------------------------------------- */

static const char *sample_where(qc_task_reader *reader, const qc_task_sample *sample)
{
    return qc_arena_printf(reader->arena, "%s:%" PRIu32, reader->task->path, sample->line);
}

/* Makes the rows of a filter, from its first sample. */
static qc_status add_filter(qc_task_reader *reader, const qc_task_sample *sample, const char *filter)
{
    static const char *const names[][4] = {[QC_TASK_GENERATE] = {"exact_match"},
        [QC_TASK_CHOICE] = {"acc", "acc_norm", "acc_bytes"},
        [QC_TASK_LIKELIHOOD] = {"acc", "perplexity"}};
    const char *const *known = names[reader->task->kind], *where = sample_where(reader, sample);
    const qc_json *metrics = qc_json_get(sample->value, "metrics");
    size_t before = reader->task->row_count;
    if (metrics && metrics->kind == QC_JSON_ARRAY)
        for (const qc_json *m = metrics->first; m; m = m->next) {
            bool good = false;
            for (size_t i = 0; i < 4 && known[i] && m->kind == QC_JSON_STRING; i++)
                good = good || strcmp(known[i], m->text) == 0;
            if (!good)
                return qc_error(reader->diag, where, "the metric %s is not supported for such samples",
                    m->kind == QC_JSON_STRING ? m->text : "");
        }
    for (size_t i = 0; i < 4 && known[i]; i++)
        if (qc_json_get(sample->value, known[i]))
            qc_task_add_row(reader->task, reader->arena, filter, known[i]);
    if (reader->task->row_count == before)
        return qc_error(reader->diag, where, "it has no score: %s or the like", known[0]);
    return QC_OK;
}

/* Stored score of a sample in a row of the task. */
static qc_status stored_score(
    qc_task_reader *reader, const qc_task_sample *sample, const qc_task_row *row, double *score)
{
    const qc_json *value = qc_json_get(sample->value, row->metric);
    if (value && value->kind == QC_JSON_BOOL) {
        *score = value->boolean;
        return QC_OK;
    }
    if (!value || value->kind != QC_JSON_NUMBER)
        return qc_error(reader->diag, sample_where(reader, sample), "it has no number \"%s\"", row->metric);
    *score = value->number;
    return QC_OK;
}

/* Do the task's rules give what all samples of the filter hold? If not, *bad is the first of which they do not. With
 * `metrics` false only the parts that filters take out are compared. */
static qc_status compare_filter(qc_task_reader *reader, qc_task_matcher *matcher, size_t filter,
    const char *name, bool metrics, const qc_task_sample **bad)
{
    qc_task *task = reader->task;
    *bad = NULL;
    for (size_t i = 0; i < reader->samples.count; i++) {
        const qc_task_sample *s = &reader->samples.items[i];
        qc_task_doc *doc = &reader->docs.items[s->doc];
        if (strcmp(filter_of(s->value), name) != 0)
            continue;
        if (qc_task_score_doc(matcher, task, sample_where(reader, s), doc))
            return QC_ERROR;
        if (task->kind == QC_TASK_GENERATE) {
            const qc_json *list = qc_json_get(s->value, "filtered_resps"), *stored = qc_json_at(list, 0);
            if (!stored || stored->kind != QC_JSON_STRING || list->length != 1)
                return qc_error(
                    reader->diag, sample_where(reader, s), "\"filtered_resps\" must hold one text");
            if (!is_equal(qc_task_text_of(stored), doc->filtered[filter]))
                *bad = s;
        }
        for (size_t r = 0; metrics && r < task->row_count && !*bad; r++) {
            double score = 0;
            if (strcmp(task->rows[r].filter, name) != 0)
                continue;
            if (stored_score(reader, s, &task->rows[r], &score))
                return QC_ERROR;
            if (!(fabs(score - doc->scores[r]) < 1e-9))
                *bad = s;
        }
        if (*bad)
            break;
    }
    return QC_OK;
}

static qc_status unknown_rules(qc_task_reader *reader, const qc_task_sample *bad, const char *filter)
{
    return qc_error(reader->diag, sample_where(reader, bad),
        "no known rule of the filter %s gives what this sample holds for its answer: the task is scored by "
        "other rules than those of gsm8k, gsm8k_cot and multiple choice",
        filter);
}

static qc_status choose_filter(
    qc_task_reader *reader, qc_task_matcher *matcher, size_t index, const char *name)
{
    const qc_task_sample *bad = NULL, *first = NULL;
    const qc_task_filter *filter = NULL;
    for (size_t k = 0; (filter = qc_task_filter_named(name, strlen(name), k)); k++) {
        reader->task->rules.filters[index] = filter;
        if (compare_filter(reader, matcher, index, name, false, &bad))
            return QC_ERROR;
        if (!bad)
            return QC_OK;
        first = first ? first : bad;
    }
    for (size_t i = 0; !first; i++)
        if (strcmp(filter_of(reader->samples.items[i].value), name) == 0)
            first = &reader->samples.items[i];
    return unknown_rules(reader, first, name);
}

static qc_status choose_match(qc_task_reader *reader, qc_task_matcher *matcher)
{
    qc_task *task = reader->task;
    const qc_task_sample *bad = NULL, *first = NULL;
    const char *filter = "";
    for (size_t k = 0; (task->rules.match = qc_task_match_at(k)); k++) {
        bad = NULL;
        for (size_t f = 0; f < task->rules.filter_count && !bad; f++) {
            if (compare_filter(reader, matcher, f, task->rules.filters[f]->name, true, &bad))
                return QC_ERROR;
            if (bad && !first) {
                first = bad;
                filter = task->rules.filters[f]->name;
            }
        }
        if (!bad)
            return QC_OK;
    }
    return unknown_rules(reader, first, filter);
}

/* The continuations are the choices behind `delimiter`, and the target is the index or the text of one of them. */
static bool cut_choices(qc_task_reader *reader, const char *delimiter, bool by_text)
{
    size_t skip = strlen(delimiter);
    for (size_t d = 0; d < reader->docs.count; d++) {
        qc_task_doc *doc = &reader->docs.items[d];
        qc_task_text *choices = QC_NEW_ARRAY(reader->arena, qc_task_text, doc->request_count);
        doc->gold = doc->request_count;
        for (size_t i = 0; i < doc->request_count; i++) {
            qc_task_text whole = doc->requests[i].continuation;
            if (whole.length <= skip || memcmp(whole.data, delimiter, skip) != 0)
                return false;
            choices[i] = (qc_task_text){whole.data + skip, whole.length - skip};
            char number[32];
            snprintf(number, sizeof number, "%zu", i);
            if (doc->gold > i && is_equal(doc->target, by_text ? choices[i] : qc_task_text_z(number)))
                doc->gold = i;
        }
        if (doc->gold == doc->request_count)
            return false;
        doc->choices = choices;
    }
    return true;
}

static qc_status choose_delimiter(qc_task_reader *reader, qc_task_matcher *matcher, const char *filter)
{
    static const char *const delimiters[] = {" ", "", "\n"};
    const qc_task_sample *bad = NULL, *first = NULL;
    for (size_t i = 0; i < 2 * (sizeof delimiters / sizeof *delimiters); i++) {
        if (!cut_choices(reader, delimiters[i / 2], i % 2))
            continue;
        if (compare_filter(reader, matcher, 0, filter, true, &bad))
            return QC_ERROR;
        if (!bad)
            return QC_OK;
        first = first ? first : bad;
    }
    if (first)
        return unknown_rules(reader, first, filter);
    return qc_error(reader->diag, reader->task->path,
        "the targets of its samples are neither indices of the continuations nor one of them each");
}

/* ---- the end of a log ---------------------------------------------------------------------------------- */

/* Every filter has every document once. */
static qc_status check_complete(qc_task_reader *reader, const char *const *filters, size_t filter_count)
{
    const qc_task_sample **seen =
        QC_NEW_ARRAY(reader->arena, const qc_task_sample *, reader->docs.count *filter_count);
    for (size_t i = 0; i < reader->samples.count; i++) {
        const qc_task_sample *s = &reader->samples.items[i];
        size_t f = 0;
        while (strcmp(filters[f], filter_of(s->value)) != 0)
            f++;
        const qc_task_sample **slot = &seen[s->doc * filter_count + f];
        if (*slot)
            return qc_error(reader->diag, sample_where(reader, s),
                "document %" PRId64 " with filter %s is in line %" PRIu32 " already",
                reader->docs.items[s->doc].id, filters[f], (*slot)->line);
        *slot = s;
    }
    for (size_t d = 0; d < reader->docs.count; d++)
        for (size_t f = 0; f < filter_count; f++)
            if (!seen[d * filter_count + f])
                return qc_error(reader->diag,
                    qc_task_where(reader->task, reader->arena, &reader->docs.items[d]),
                    "there is no sample of document %" PRId64 " with filter %s", reader->docs.items[d].id,
                    filters[f]);
    return QC_OK;
}

static qc_status choose_rules(qc_task_reader *reader, const char *const *filters, size_t filter_count)
{
    qc_task *task = reader->task;
    qc_task_matcher *matcher = qc_task_matcher_create(reader->diag, reader->arena);
    const qc_task_sample *bad = NULL;
    if (!matcher)
        return QC_ERROR;
    qc_status status = QC_OK;
    task->rules.match = NULL;
    if (task->kind == QC_TASK_GENERATE) {
        for (size_t f = 0; f < filter_count && status == QC_OK; f++) {
            task->rules.filter_count = f + 1;
            status = choose_filter(reader, matcher, f, filters[f]);
        }
        if (status == QC_OK)
            status = choose_match(reader, matcher);
    } else if (task->kind == QC_TASK_CHOICE) {
        status = choose_delimiter(reader, matcher, filters[0]);
    } else {
        status = compare_filter(reader, matcher, 0, filters[0], true, &bad);
        if (status == QC_OK && bad)
            status = unknown_rules(reader, bad, filters[0]);
    }
    qc_task_matcher_destroy(matcher);
    return status;
}

qc_status qc_task_finish_log(qc_task_reader *reader)
{
    qc_task *task = reader->task;
    const char *filters[QC_TASK_MAX_FILTERS];
    size_t filter_count = 0;
    for (size_t i = 0; i < reader->samples.count; i++) {
        const qc_task_sample *s = &reader->samples.items[i];
        const char *name = filter_of(s->value);
        size_t f = 0;
        while (f < filter_count && strcmp(filters[f], name) != 0)
            f++;
        if (f < filter_count)
            continue;
        if (filter_count == (task->kind == QC_TASK_GENERATE ? QC_TASK_MAX_FILTERS : 1))
            return qc_error(reader->diag, sample_where(reader, s),
                "filter %s: so many filters are not supported for such samples", name);
        filters[filter_count++] = name;
        if (add_filter(reader, s, name))
            return QC_ERROR;
    }
    task->docs = reader->docs.items;
    task->doc_count = reader->docs.count;
    for (size_t i = 0; i < task->doc_count; i++) {
        task->docs[i].scores = QC_NEW_ARRAY(reader->arena, double, task->row_count);
        task->docs[i].filtered = QC_NEW_ARRAY(reader->arena, qc_task_text, filter_count);
    }
    return check_complete(reader, filters, filter_count) || choose_rules(reader, filters, filter_count)
               ? QC_ERROR
               : QC_OK;
}
