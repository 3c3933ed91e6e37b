/* SPDX-License-Identifier: MIT
 *
 * run.c - the statements of a template, and a whole rendering with its limits.
 */
#include "frontends/text/chat_template/internal.h"

#include <stdarg.h>

/* ---- errors and limits --------------------------------------------------------------------------------- */

enum { DEFAULT_STEPS = 50000000, DEFAULT_MEMORY_BYTES = 512 << 20 };

qc_status qc_chat_fail(qc_chat_run *run, const qc_chat_node *at, const char *format, ...)
{
    if (run->failed)
        return QC_ERROR;
    run->failed = true;
    va_list args;
    va_start(args, format);
    char *what = qc_arena_vprintf(run->diag->arena, format, args);
    va_end(args);
    for (char *c = what; *c; c++) /* a diagnostic is one line */
        *c = (char)((unsigned char)*c < 0x20 ? ' ' : *c);
    const char *place = at ? qc_chat_place(run->template, run->diag, at->line) : run->template->where;
    return run->where ? qc_error(run->diag, run->where, "%s: %s", place, what)
                      : qc_error(run->diag, place, "%s", what);
}

qc_status qc_chat_step(qc_chat_run *run, const qc_chat_node *at, size_t cost)
{
    if (run->failed)
        return QC_ERROR;
    if (cost >= run->steps_left)
        return qc_chat_fail(run, at, "the template takes more steps than are allowed");
    run->steps_left -= cost;
    if (run->full)
        return qc_chat_fail(run, at, "a text is longer than %d MiB", QC_CHAT_TEXT_LIMIT_BYTES >> 20);
    if (run->arena.total_bytes > run->max_memory_bytes)
        return qc_chat_fail(
            run, at, "the template takes more than %zu MiB of memory", run->max_memory_bytes >> 20);
    return QC_OK;
}

/* ---- assignments --------------------------------------------------------------------------------------- */

static qc_status assign(qc_chat_run *run, const qc_chat_node *target, qc_chat_value value)
{
    qc_chat_value *items;
    size_t count;
    if (target->kind == QC_CHAT_NAME) {
        qc_chat_set_variable(run, target->name, value);
        return QC_OK;
    }
    if (target->kind == QC_CHAT_NAMESPACE_ITEM) {
        const qc_chat_value *space = qc_chat_find_variable(run->scope, target->name);
        if (!space || space->kind != QC_CHAT_NAMESPACE)
            return qc_chat_fail(
                run, target, "'%s' is no namespace, so its parts cannot be assigned to", target->name);
        qc_chat_dict_set(run, space->dict, target->value, value);
        return QC_OK;
    }
    if (qc_chat_items(run, target, value, &items, &count))
        return QC_ERROR;
    if (count != target->items.count)
        return qc_chat_fail(
            run, target, "%zu values cannot be assigned to %zu names", count, target->items.count);
    for (size_t i = 0; i < count; i++)
        if (assign(run, target->items.items[i], items[i]))
            return QC_ERROR;
    return QC_OK;
}

static qc_status run_set(qc_chat_run *run, const qc_chat_node *node)
{
    qc_chat_value value;
    return qc_chat_eval(run, node->second, &value) ? QC_ERROR : assign(run, node->first, value);
}

/* The output of a body, through the filters behind `second`. */
static qc_status capture(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result)
{
    qc_chat_text out = {0}, *out_before = run->out;
    qc_chat_value value_before = run->block_value;
    qc_chat_scope *before = qc_chat_open_scope(run, run->scope);
    run->out = &out;
    qc_status status = qc_chat_run_body(run, &node->items);
    run->out = out_before;
    run->scope = before;
    if (status || run->flow)
        return status;
    run->block_value = qc_chat_text_value(&out);
    status = qc_chat_eval(run, node->second, result);
    run->block_value = value_before;
    return status;
}

static qc_status run_block(qc_chat_run *run, const qc_chat_node *node)
{
    qc_chat_value value = qc_chat_none();
    if (capture(run, node, &value))
        return QC_ERROR;
    if (run->flow) /* the body left the loop around it: there is nothing to assign or write */
        return QC_OK;
    return node->kind == QC_CHAT_SET_BLOCK ? assign(run, node->first, value)
                                           : qc_chat_add_str(run, node, value, run->out);
}

/* ---- bodies -------------------------------------------------------------------------------------------- */

static qc_status run_scoped(qc_chat_run *run, const qc_chat_nodes *body)
{
    qc_chat_scope *before = qc_chat_open_scope(run, run->scope);
    qc_status status = qc_chat_run_body(run, body);
    run->scope = before;
    return status;
}

static qc_status run_if(qc_chat_run *run, const qc_chat_node *node)
{
    for (;;) {
        qc_chat_value condition;
        if (qc_chat_eval(run, node->first, &condition))
            return QC_ERROR;
        if (qc_chat_truth(condition))
            return qc_chat_run_body(run, &node->items);
        bool is_elif = node->others.count == 1 && node->others.items[0]->kind == QC_CHAT_IF;
        if (!is_elif)
            return qc_chat_run_body(run, &node->others);
        node = node->others.items[0];
    }
}

/* Is the item taken by the `if` of the loop? */
static qc_status takes(qc_chat_run *run, const qc_chat_node *node, qc_chat_value item, bool *taken)
{
    qc_chat_value condition = qc_chat_bool(true);
    qc_chat_scope *before = qc_chat_open_scope(run, run->scope);
    qc_status status = assign(run, node->first, item);
    if (status == QC_OK && node->third)
        status = qc_chat_eval(run, node->third, &condition);
    run->scope = before;
    *taken = qc_chat_truth(condition);
    return status;
}

/* The scope of a turn: the one of the turn before, emptied, unless a macro may still see that. */
static void open_turn(qc_chat_run *run, const qc_chat_node *node, qc_chat_scope *outer, qc_chat_scope **turn)
{
    if (*turn && !node->has_macros) {
        (*turn)->count = 0;
        run->scope = *turn;
        return;
    }
    qc_chat_open_scope(run, outer);
    *turn = run->scope;
}

/* One turn, in an open scope. *ended: the body ran to its end. */
static qc_status run_turn(
    qc_chat_run *run, const qc_chat_node *node, qc_chat_value item, qc_chat_loop *loop, bool *ended)
{
    if (loop)
        qc_chat_set_variable(run, run->template->loop, (qc_chat_value){.kind = QC_CHAT_LOOP, .loop = loop});
    qc_status status = assign(run, node->first, item) ? QC_ERROR : qc_chat_run_body(run, &node->items);
    *ended |= run->flow == QC_CHAT_GO_ON;
    return status;
}

/* Items that the `if` takes, before the first turn: `loop.last` must know them. */
static qc_status choose_items(
    qc_chat_run *run, const qc_chat_node *node, qc_chat_value **items, size_t *count)
{
    qc_chat_list *list = qc_chat_list_new(run, QC_CHAT_PLAIN, 0);
    for (size_t i = 0; i < *count; i++) {
        bool taken;
        if (takes(run, node, (*items)[i], &taken))
            return QC_ERROR;
        if (taken)
            qc_chat_push(run, list, (*items)[i]);
    }
    *items = list->items;
    *count = list->count;
    return QC_OK;
}

static qc_status run_turns(
    qc_chat_run *run, const qc_chat_node *node, const qc_chat_value *items, size_t count, bool *ended)
{
    bool choose = node->third && !node->uses_loop;
    qc_chat_scope *outer = run->scope, *turn = NULL;
    qc_status status = QC_OK;
    qc_chat_loop *loop = NULL;
    if (node->uses_loop) {
        loop = QC_NEW(&run->arena, qc_chat_loop);
        *loop = (qc_chat_loop){.items = items, .count = count, .depth = 0};
    }
    for (size_t i = 0; status == QC_OK && i < count; i++) {
        bool taken = true;
        if (choose)
            status = takes(run, node, items[i], &taken);
        if (status || !taken)
            continue;
        if (loop)
            loop->index = i;
        open_turn(run, node, outer, &turn);
        status = run_turn(run, node, items[i], loop, ended);
        run->scope = outer;
        bool out = run->flow == QC_CHAT_GO_OUT;
        run->flow = QC_CHAT_GO_ON;
        if (out)
            break;
    }
    return status;
}

static qc_status run_for(qc_chat_run *run, const qc_chat_node *node)
{
    qc_chat_value sequence, *items;
    size_t count;
    bool ended = false;
    if (qc_chat_eval(run, node->second, &sequence) || qc_chat_items(run, node, sequence, &items, &count))
        return QC_ERROR;
    if (node->third && node->uses_loop && choose_items(run, node, &items, &count))
        return QC_ERROR;
    if (run_turns(run, node, items, count, &ended))
        return QC_ERROR;
    /* As in Jinja's compiled code, a turn that was left early does not count for `else`. */
    return ended ? QC_OK : run_scoped(run, &node->others);
}

static qc_status run_with(qc_chat_run *run, const qc_chat_node *node)
{
    qc_chat_list *values = qc_chat_list_new(run, QC_CHAT_PLAIN, node->others.count);
    qc_status status = QC_OK;
    for (size_t i = 0; i < node->others.count; i++) {
        qc_chat_value value;
        if (qc_chat_eval(run, node->others.items[i]->second, &value))
            return QC_ERROR;
        qc_chat_push(run, values, value);
    }
    qc_chat_scope *before = qc_chat_open_scope(run, run->scope);
    for (size_t i = 0; status == QC_OK && i < node->others.count; i++)
        status = assign(run, node->others.items[i]->first, values->items[i]);
    if (status == QC_OK)
        status = qc_chat_run_body(run, &node->items);
    run->scope = before;
    return status;
}

static qc_status run_print(qc_chat_run *run, const qc_chat_node *node)
{
    for (size_t i = 0; i < node->items.count; i++) {
        qc_chat_value value;
        if (qc_chat_eval(run, node->items.items[i], &value) || qc_chat_add_str(run, node, value, run->out))
            return QC_ERROR;
    }
    return QC_OK;
}

static qc_status run_statement(qc_chat_run *run, const qc_chat_node *node)
{
    switch (node->kind) {
    case QC_CHAT_DATA:
        qc_chat_text_add(run, run->out, node->value.text, node->value.length);
        return QC_OK;
    case QC_CHAT_PRINT:
        return run_print(run, node);
    case QC_CHAT_SET:
        return run_set(run, node);
    case QC_CHAT_SET_BLOCK:
    case QC_CHAT_FILTER_BLOCK:
        return run_block(run, node);
    case QC_CHAT_IF:
        return run_if(run, node);
    case QC_CHAT_FOR:
        return run_for(run, node);
    case QC_CHAT_MACRO: {
        qc_chat_callable *callable = QC_NEW(&run->arena, qc_chat_callable);
        callable->macro = node;
        callable->scope = run->scope;
        qc_chat_set_variable(
            run, node->name, (qc_chat_value){.kind = QC_CHAT_CALLABLE, .callable = callable});
        return QC_OK;
    }
    case QC_CHAT_WITH:
        return run_with(run, node);
    case QC_CHAT_GENERATION:
        return run_scoped(run, &node->items);
    case QC_CHAT_BREAK:
        run->flow = QC_CHAT_GO_OUT;
        return QC_OK;
    case QC_CHAT_CONTINUE:
        run->flow = QC_CHAT_GO_NEXT;
        return QC_OK;
    default: /* the parser puts no expression here */
        return qc_chat_fail(run, node, "a statement is expected");
    }
}

qc_status qc_chat_run_body(qc_chat_run *run, const qc_chat_nodes *body)
{
    qc_status status = QC_OK;
    if (body->count && run->depth >= QC_CHAT_RUN_DEPTH)
        return qc_chat_fail(run, body->items[0], "evaluations are nested deeper than %d", QC_CHAT_RUN_DEPTH);
    run->depth++;
    for (size_t i = 0; status == QC_OK && run->flow == QC_CHAT_GO_ON && i < body->count; i++)
        status = qc_chat_step(run, body->items[i], 1) ? QC_ERROR : run_statement(run, body->items[i]);
    run->depth--;
    return status;
}

/* ---- a rendering --------------------------------------------------------------------------------------- */

/* A variable that the template may read; names it never mentions need none. */
static void set_named(qc_chat_run *run, const char *name, qc_chat_value value)
{
    const char *interned = qc_map_get(&run->template->names, name);
    if (interned)
        qc_chat_set_variable(run, interned, value);
}

static qc_status run_template(qc_chat_run *run, const qc_json *messages, qc_str *out)
{
    const qc_chat_template *template = run->template;
    const qc_chat_options *options = run->options;
    qc_chat_text text = {0};
    run->out = &text;
    qc_chat_open_scope(run, NULL);
    for (size_t i = 0; i < template->token_count; i++)
        set_named(run, template->tokens[i].name, template->tokens[i].value);
    set_named(run, "messages", qc_chat_from_json(run, messages));
    set_named(run, "tools", options->tools ? qc_chat_from_json(run, options->tools) : qc_chat_none());
    set_named(run, "documents", qc_chat_none());
    set_named(run, "add_generation_prompt", qc_chat_bool(options->add_generation_prompt));
    qc_chat_open_scope(run, run->scope);
    if (qc_chat_run_body(run, &template->body) || qc_chat_step(run, NULL, 0))
        return QC_ERROR;
    qc_str_add_bytes(out, text.data ? text.data : "", text.length);
    return QC_OK;
}

qc_status qc_chat_template_render(const qc_chat_template *template, qc_diag *diag, const char *where,
    const qc_json *messages, const qc_chat_options *options, qc_str *out)
{
    static const qc_chat_options defaults;
    options = options ? options : &defaults;
    qc_chat_run run = {.template = template,
        .options = options,
        .diag = diag,
        .where = where,
        .steps_left = options->max_steps ? options->max_steps : DEFAULT_STEPS,
        .max_memory_bytes = options->max_memory_bytes ? options->max_memory_bytes : DEFAULT_MEMORY_BYTES};
    qc_arena_init(&run.arena, template->arena->oom);
    qc_status status = run_template(&run, messages, out);
    qc_arena_fini(&run.arena);
    return status;
}
