/* SPDX-License-Identifier: MIT
 *
 * eval.c - walks the tree of a template: expressions, then statements. Names are looked up in the scopes
 * of the bodies around, inmost first: assignments go to the inmost one, which is why a `set` in a loop ends with its
 * turn, as in Jinja.
 */
#include "frontends/text/chat_template/internal.h"

/* ---- names --------------------------------------------------------------------------------------------- */

qc_chat_value *qc_chat_find_variable(const qc_chat_scope *scope, const char *name)
{
    for (; scope; scope = scope->outer)
        for (size_t i = scope->count; i-- > 0;)
            if (scope->items[i].name == name)
                return &scope->items[i].value;
    return NULL;
}

void qc_chat_set_variable(qc_chat_run *run, const char *name, qc_chat_value value)
{
    qc_chat_scope *scope = run->scope;
    for (size_t i = 0; i < scope->count; i++)
        if (scope->items[i].name == name) {
            scope->items[i].value = value;
            return;
        }
    QC_PUSH(&run->arena, scope, (struct qc_chat_variable){name, value});
}

qc_chat_scope *qc_chat_open_scope(qc_chat_run *run, qc_chat_scope *outer)
{
    qc_chat_scope *scope = QC_NEW(&run->arena, qc_chat_scope), *before = run->scope;
    scope->outer = outer;
    run->scope = scope;
    return before;
}

static qc_status eval_name(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result)
{
    const qc_chat_value *found = qc_chat_find_variable(run->scope, node->name);
    if (found) {
        *result = *found;
        return QC_OK;
    }
    const qc_chat_builtin *function = qc_chat_function_find(node->name, node->name_length);
    if (!function) {
        *result = qc_chat_missing(node->name);
        return QC_OK;
    }
    if (!function->run)
        return qc_chat_fail(run, node, "the function '%s' is not supported", node->name);
    qc_chat_callable *callable = QC_NEW(&run->arena, qc_chat_callable);
    callable->builtin = function;
    *result = (qc_chat_value){.kind = QC_CHAT_CALLABLE, .callable = callable};
    return QC_OK;
}

/* ---- calls --------------------------------------------------------------------------------------------- */

typedef struct arguments {
    qc_chat_list args, named;
    QC_VEC(const char *) keys;
} arguments;

static qc_status spread_named(qc_chat_run *run, const qc_chat_node *node, qc_chat_value value, arguments *a)
{
    if (value.kind != QC_CHAT_DICT)
        return qc_chat_fail(run, node, "'**' takes a dict, not a %s", qc_chat_type_name(value));
    for (size_t i = 0; i < value.dict->count; i++) {
        qc_chat_value key = value.dict->keys[i];
        if (key.kind != QC_CHAT_STRING || memchr(key.text, 0, key.length))
            return qc_chat_fail(run, node, "'**' takes a dict of names");
        QC_PUSH(&run->arena, &a->keys, qc_arena_strndup(&run->arena, key.text, key.length));
        qc_chat_push(run, &a->named, value.dict->values[i]);
    }
    return qc_chat_step(run, node, value.dict->count);
}

static qc_status eval_arguments(qc_chat_run *run, const qc_chat_nodes *nodes, arguments *a)
{
    for (size_t i = 0; i < nodes->count; i++) {
        const qc_chat_node *node = nodes->items[i];
        bool plain = node->kind != QC_CHAT_KEYWORD && node->kind != QC_CHAT_SPREAD &&
                     node->kind != QC_CHAT_SPREAD_NAMED;
        qc_chat_value value, *items;
        size_t count;
        if (qc_chat_eval(run, plain ? node : node->first, &value))
            return QC_ERROR;
        if (plain) {
            qc_chat_push(run, &a->args, value);
        } else if (node->kind == QC_CHAT_KEYWORD) {
            QC_PUSH(&run->arena, &a->keys, node->name);
            qc_chat_push(run, &a->named, value);
        } else if (node->kind == QC_CHAT_SPREAD_NAMED) {
            if (spread_named(run, node, value, a))
                return QC_ERROR;
        } else {
            if (qc_chat_items(run, node, value, &items, &count))
                return QC_ERROR;
            for (size_t k = 0; k < count; k++)
                qc_chat_push(run, &a->args, items[k]);
        }
    }
    return QC_OK;
}

static qc_chat_call make_call(const qc_chat_node *at, const char *name, const arguments *a)
{
    return (qc_chat_call){.at = at,
        .name = name,
        .args = a->args.items,
        .count = a->args.count,
        .keys = a->keys.items,
        .named = a->named.items,
        .named_count = a->named.count};
}

/* The value given for a parameter, by position or name; false when there is none. */
static bool find_argument(const qc_chat_call *call, size_t index, const char *name, qc_chat_value *value)
{
    if (index < call->count)
        return *value = call->args[index], true;
    for (size_t i = 0; i < call->named_count; i++)
        if (strcmp(call->keys[i], name) == 0)
            return *value = call->named[i], true;
    return false;
}

static qc_status check_macro_call(qc_chat_run *run, const qc_chat_call *call, const qc_chat_node *macro)
{
    if (call->count > macro->others.count)
        return qc_chat_fail(run, call->at, "the macro '%s' takes at most %zu arguments, not %zu", macro->name,
            macro->others.count, call->count);
    for (size_t i = 0; i < call->named_count; i++) {
        size_t k = call->count;
        while (k < macro->others.count && strcmp(macro->others.items[k]->name, call->keys[i]) != 0)
            k++;
        if (k == macro->others.count)
            return qc_chat_fail(
                run, call->at, "the macro '%s' cannot take the argument '%s'", macro->name, call->keys[i]);
    }
    return QC_OK;
}

static qc_status bind_macro(qc_chat_run *run, const qc_chat_call *call, const qc_chat_node *macro)
{
    for (size_t i = 0; i < macro->others.count; i++) {
        const qc_chat_node *parameter = macro->others.items[i];
        qc_chat_value value = qc_chat_missing(parameter->name);
        if (!find_argument(call, i, parameter->name, &value) && parameter->first &&
            qc_chat_eval(run, parameter->first, &value))
            return QC_ERROR;
        qc_chat_set_variable(run, parameter->name, value);
    }
    return QC_OK;
}

static qc_status call_macro(
    qc_chat_run *run, const qc_chat_call *call, const qc_chat_callable *callable, qc_chat_value *result)
{
    const qc_chat_node *macro = callable->macro;
    qc_chat_text out = {0}, *out_before = run->out;
    if (check_macro_call(run, call, macro))
        return QC_ERROR;
    qc_chat_scope *before = qc_chat_open_scope(run, callable->scope);
    run->out = &out;
    qc_status status = bind_macro(run, call, macro) ? QC_ERROR : qc_chat_run_body(run, &macro->items);
    run->out = out_before;
    run->scope = before;
    *result = qc_chat_text_value(&out);
    return status;
}

qc_status qc_chat_call_value(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value callee, qc_chat_value *result)
{
    if (qc_chat_defined(run, call->at, callee))
        return QC_ERROR;
    if (callee.kind != QC_CHAT_CALLABLE)
        return qc_chat_fail(run, call->at, "a %s cannot be called", qc_chat_type_name(callee));
    const qc_chat_callable *callable = callee.callable;
    if (callable->macro)
        return call_macro(run, call, callable, result);
    qc_chat_call named = *call;
    named.name = callable->builtin->name;
    if (!callable->builtin->run)
        return qc_chat_fail(run, call->at, "'%s' of a %s is not supported", named.name, callable->type);
    return callable->builtin->run(run, &named, callable->subject, result);
}

static qc_status eval_call(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result)
{
    qc_chat_value callee;
    arguments a = {0};
    if (qc_chat_eval(run, node->first, &callee) || eval_arguments(run, &node->items, &a))
        return QC_ERROR;
    const qc_chat_call call = make_call(node, "", &a);
    return qc_chat_call_value(run, &call, callee, result);
}

/* A filter or a test. */
static qc_status eval_builtin(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result)
{
    qc_chat_value subject;
    arguments a = {0};
    if (qc_chat_eval(run, node->first, &subject) || eval_arguments(run, &node->items, &a))
        return QC_ERROR;
    const qc_chat_call call = make_call(node, node->builtin->name, &a);
    return node->builtin->run(run, &call, subject, result);
}

/* ---- loop.cycle and loop.changed ----------------------------------------------------------------------- */

static qc_status loop_cycle(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    if (call->count == 0 || call->named_count)
        return qc_chat_fail(run, call->at, "cycle takes the values to go through");
    *result = call->args[subject.loop->index % call->count];
    return QC_OK;
}

static qc_status loop_changed(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    bool equal = false;
    qc_chat_list *now = qc_chat_list_new(run, QC_CHAT_TUPLE, call->count);
    for (size_t i = 0; i < call->count; i++)
        qc_chat_push(run, now, call->args[i]);
    if (subject.loop->changed && qc_chat_equal(run, call->at, qc_chat_list_value(subject.loop->changed),
                                     qc_chat_list_value(now), &equal))
        return QC_ERROR;
    subject.loop->changed = now;
    *result = qc_chat_bool(!equal);
    return QC_OK;
}

static const qc_chat_builtin loop_methods[] = {{"cycle", loop_cycle}, {"changed", loop_changed}};

/* ---- expressions --------------------------------------------------------------------------------------- */

/* subject.name: what Python has under the name, else the item; namespaces and loops have fields. */
static qc_status eval_attribute(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result)
{
    qc_chat_value subject;
    bool found = false;
    if (qc_chat_eval(run, node->first, &subject) || qc_chat_defined(run, node, subject))
        return QC_ERROR;
    if (subject.kind == QC_CHAT_LOOP) {
        const qc_chat_builtin *method = qc_chat_builtin_find(loop_methods, 2, node->name, node->name_length);
        if (method) {
            qc_chat_callable *callable = QC_NEW(&run->arena, qc_chat_callable);
            callable->builtin = method;
            callable->subject = subject;
            *result = (qc_chat_value){.kind = QC_CHAT_CALLABLE, .callable = callable};
            return QC_OK;
        }
    }
    if (subject.kind == QC_CHAT_CALLABLE)
        return qc_chat_fail(
            run, node, "the attribute '%s' of a %s is not supported", node->name, qc_chat_type_name(subject));
    if (qc_chat_attribute(run, node, subject, node->name, node->name_length, &found, result))
        return QC_ERROR;
    if (found)
        return QC_OK;
    return qc_chat_get_item(run, node, subject, qc_chat_string(node->name, node->name_length), result);
}

static qc_status eval_list(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result)
{
    qc_chat_flavor flavor = node->kind == QC_CHAT_MAKE_TUPLE ? QC_CHAT_TUPLE : QC_CHAT_PLAIN;
    qc_chat_list *list = qc_chat_list_new(run, flavor, node->items.count);
    for (size_t i = 0; i < node->items.count; i++) {
        qc_chat_value value;
        if (qc_chat_eval(run, node->items.items[i], &value))
            return QC_ERROR;
        qc_chat_push(run, list, value);
    }
    *result = qc_chat_list_value(list);
    return QC_OK;
}

static qc_status eval_dict(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result)
{
    qc_chat_dict *dict = qc_chat_dict_new(run);
    for (size_t i = 0; i + 1 < node->items.count; i += 2) {
        qc_chat_value key, value;
        if (qc_chat_eval(run, node->items.items[i], &key) ||
            qc_chat_eval(run, node->items.items[i + 1], &value))
            return QC_ERROR;
        if (!qc_chat_is_hashable(key))
            return qc_chat_fail(run, node, "a %s cannot be the key of a dict", qc_chat_type_name(key));
        qc_chat_dict_set(run, dict, key, value);
    }
    *result = (qc_chat_value){.kind = QC_CHAT_DICT, .dict = dict};
    return QC_OK;
}

static qc_status eval_slice(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result)
{
    qc_chat_value subject, bounds[3];
    if (qc_chat_eval(run, node->first, &subject))
        return QC_ERROR;
    for (int i = 0; i < 3; i++) {
        bounds[i] = qc_chat_none();
        if (node->items.items[i] && qc_chat_eval(run, node->items.items[i], &bounds[i]))
            return QC_ERROR;
    }
    return qc_chat_get_slice(run, node, subject, bounds, result);
}

static qc_status eval_compare(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result)
{
    qc_chat_value left, right;
    if (qc_chat_eval(run, node->first, &left))
        return QC_ERROR;
    for (size_t i = 0; i < node->items.count; i++) {
        const qc_chat_node *part = node->items.items[i];
        if (qc_chat_eval(run, part->first, &right) ||
            qc_chat_binary(run, part, part->op, left, right, result))
            return QC_ERROR;
        if (!result->boolean)
            break;
        left = right;
    }
    return QC_OK;
}

static qc_status eval_concat(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result)
{
    qc_chat_text out = {0};
    for (size_t i = 0; i < node->items.count; i++) {
        qc_chat_value value;
        if (qc_chat_eval(run, node->items.items[i], &value) || qc_chat_add_str(run, node, value, &out))
            return QC_ERROR;
    }
    *result = qc_chat_text_value(&out);
    return QC_OK;
}

static qc_status eval_unary(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result)
{
    qc_chat_value value;
    if (qc_chat_eval(run, node->first, &value) || qc_chat_defined(run, node, value))
        return QC_ERROR;
    if (value.kind == QC_CHAT_FLOAT) {
        *result = qc_chat_float(node->op == QC_CHAT_SUB ? -value.number : value.number);
        return QC_OK;
    }
    if (value.kind != QC_CHAT_INT && value.kind != QC_CHAT_BOOL)
        return qc_chat_fail(run, node, "a %s has no sign", qc_chat_type_name(value));
    return qc_chat_binary(run, node, node->op, qc_chat_int(0), value, result);
}

static qc_status eval_condition(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result)
{
    qc_chat_value condition;
    if (qc_chat_eval(run, node->first, &condition))
        return QC_ERROR;
    const qc_chat_node *branch = qc_chat_truth(condition) ? node->second : node->third;
    *result = qc_chat_missing(NULL);
    return branch ? qc_chat_eval(run, branch, result) : QC_OK;
}

/* and, or: the value of the side that decides. */
static qc_status eval_logic(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result)
{
    if (qc_chat_eval(run, node->first, result))
        return QC_ERROR;
    return qc_chat_truth(*result) == (node->kind == QC_CHAT_OR) ? QC_OK
                                                                : qc_chat_eval(run, node->second, result);
}

static qc_status eval_pair(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result)
{
    qc_chat_value left, right;
    if (qc_chat_eval(run, node->first, &left) || qc_chat_eval(run, node->second, &right))
        return QC_ERROR;
    return node->kind == QC_CHAT_BINARY ? qc_chat_binary(run, node, node->op, left, right, result)
                                        : qc_chat_get_item(run, node, left, right, result);
}

static qc_status eval_node(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result)
{
    switch (node->kind) {
    case QC_CHAT_CONSTANT:
        *result = node->value;
        return QC_OK;
    case QC_CHAT_BLOCK_VALUE:
        *result = run->block_value;
        return QC_OK;
    case QC_CHAT_NAME:
        return eval_name(run, node, result);
    case QC_CHAT_MAKE_LIST:
    case QC_CHAT_MAKE_TUPLE:
        return eval_list(run, node, result);
    case QC_CHAT_MAKE_DICT:
        return eval_dict(run, node, result);
    case QC_CHAT_GET_ATTRIBUTE:
        return eval_attribute(run, node, result);
    case QC_CHAT_GET_SLICE:
        return eval_slice(run, node, result);
    case QC_CHAT_CALL:
        return eval_call(run, node, result);
    case QC_CHAT_FILTER:
    case QC_CHAT_TEST:
        return eval_builtin(run, node, result);
    case QC_CHAT_NOT:
        if (qc_chat_eval(run, node->first, result))
            return QC_ERROR;
        *result = qc_chat_bool(!qc_chat_truth(*result));
        return QC_OK;
    case QC_CHAT_AND:
    case QC_CHAT_OR:
        return eval_logic(run, node, result);
    case QC_CHAT_UNARY:
        return eval_unary(run, node, result);
    case QC_CHAT_BINARY:
    case QC_CHAT_GET_ITEM:
        return eval_pair(run, node, result);
    case QC_CHAT_CONCAT:
        return eval_concat(run, node, result);
    case QC_CHAT_COMPARE:
        return eval_compare(run, node, result);
    case QC_CHAT_CONDITION:
        return eval_condition(run, node, result);
    default: /* the parser puts no statement here */
        return qc_chat_fail(run, node, "an expression is expected");
    }
}

qc_status qc_chat_eval(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result)
{
    *result = qc_chat_missing(NULL);
    if (qc_chat_step(run, node, 1))
        return QC_ERROR;
    if (run->depth >= QC_CHAT_RUN_DEPTH)
        return qc_chat_fail(run, node, "evaluations are nested deeper than %d", QC_CHAT_RUN_DEPTH);
    run->depth++;
    qc_status status = eval_node(run, node, result);
    run->depth--;
    return status;
}
