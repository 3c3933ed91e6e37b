/* SPDX-License-Identifier: MIT
 *
 * expression.c - the tree of an expression. The grammar is Jinja's (3.1), which is not quite
 * Python's: `~` binds tighter than `+`, filters and tests tighter than arithmetic, `**` goes from left to right.
 */
#include "frontends/text/chat_template/internal.h"

#include <stdarg.h>

/* ---- tokens -------------------------------------------------------------------------------------------- */

qc_status qc_chat_parse_error(qc_chat_parser *p, uint32_t line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    qc_diag_report(p->diag, QC_SEVERITY_ERROR, qc_chat_place(p->template, p->diag, line), format, args);
    va_end(args);
    return QC_ERROR;
}

bool qc_chat_at_name(const qc_chat_parser *p, const char *name)
{
    return p->at->kind == QC_CHAT_T_NAME && strcmp(p->at->text, name) == 0;
}

static bool is_operator(const qc_chat_token *token, const char *text)
{
    return token->kind == QC_CHAT_T_OPERATOR && token->length == strlen(text) &&
           memcmp(token->text, text, token->length) == 0;
}

bool qc_chat_at_operator(const qc_chat_parser *p, const char *text)
{
    return is_operator(p->at, text);
}

bool qc_chat_skip_name(qc_chat_parser *p, const char *name)
{
    bool here = qc_chat_at_name(p, name);
    p->at += here;
    return here;
}

bool qc_chat_skip_operator(qc_chat_parser *p, const char *text)
{
    bool here = qc_chat_at_operator(p, text);
    p->at += here;
    return here;
}

const char *qc_chat_token_text(const qc_chat_parser *p, const qc_chat_token *token)
{
    switch (token->kind) {
    case QC_CHAT_T_END:
        return "the end of the template";
    case QC_CHAT_T_DATA:
        return "text";
    case QC_CHAT_T_BLOCK_BEGIN:
        return "'{%'";
    case QC_CHAT_T_BLOCK_END:
        return "'%}'";
    case QC_CHAT_T_PRINT_BEGIN:
        return "'{{'";
    case QC_CHAT_T_PRINT_END:
        return "'}}'";
    case QC_CHAT_T_STRING:
        return "a string";
    default: {
        int length = token->length > 40 ? 40 : (int)token->length;
        return qc_arena_printf(p->diag->arena, "'%.*s'", length, token->text);
    }
    }
}

qc_status qc_chat_expect_operator(qc_chat_parser *p, const char *text)
{
    if (qc_chat_skip_operator(p, text))
        return QC_OK;
    return qc_chat_parse_error(
        p, p->at->line, "'%s' is expected, not %s", text, qc_chat_token_text(p, p->at));
}

static const qc_chat_token *expect_name(qc_chat_parser *p)
{
    if (p->at->kind == QC_CHAT_T_NAME)
        return p->at++;
    qc_chat_parse_error(p, p->at->line, "a name is expected, not %s", qc_chat_token_text(p, p->at));
    return NULL;
}

qc_chat_node *qc_chat_node_new(qc_chat_parser *p, qc_chat_node_kind kind, uint32_t line)
{
    qc_chat_node *node = QC_NEW(p->arena, qc_chat_node);
    node->kind = kind;
    node->line = line;
    return node;
}

static qc_chat_node *named_node(qc_chat_parser *p, qc_chat_node_kind kind, const qc_chat_token *token)
{
    qc_chat_node *node = qc_chat_node_new(p, kind, token->line);
    node->name = token->text;
    node->name_length = token->length;
    return node;
}

static qc_chat_node *constant(qc_chat_parser *p, uint32_t line, qc_chat_value value)
{
    qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_CONSTANT, line);
    node->value = value;
    return node;
}

/* ---- primaries ----------------------------------------------------------------------------------------- */

static bool is_reserved(const char *name)
{
    static const char *const names[] = {"true", "false", "True", "False", "none", "None"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static qc_chat_node *parse_name(qc_chat_parser *p, bool namespaces)
{
    const qc_chat_token *token = p->at++;
    if (is_reserved(token->text)) {
        char first = (char)(token->text[0] | 32);
        return constant(p, token->line, first == 'n' ? qc_chat_none() : qc_chat_bool(first == 't'));
    }
    if (namespaces && qc_chat_skip_operator(p, ".")) {
        qc_chat_node *node = named_node(p, QC_CHAT_NAMESPACE_ITEM, token);
        const qc_chat_token *attribute = expect_name(p);
        if (!attribute)
            return NULL;
        node->value = qc_chat_string(attribute->text, attribute->length);
        return node;
    }
    p->loop_read |= strcmp(token->text, "loop") == 0;
    if (p->in_macro && (strcmp(token->text, "varargs") == 0 || strcmp(token->text, "kwargs") == 0 ||
                           strcmp(token->text, "caller") == 0))
        return qc_chat_parse_error(p, token->line, "'%s' in a macro is not supported", token->text), NULL;
    return named_node(p, QC_CHAT_NAME, token);
}

static qc_chat_node *parse_string(qc_chat_parser *p)
{
    const qc_chat_token *first = p->at++;
    if (p->at->kind != QC_CHAT_T_STRING)
        return constant(p, first->line, qc_chat_string(first->text, first->length));
    qc_str all; /* strings side by side are one */
    qc_str_init(&all, p->arena);
    qc_str_add_bytes(&all, first->text, first->length);
    for (; p->at->kind == QC_CHAT_T_STRING; p->at++)
        qc_str_add_bytes(&all, p->at->text, p->at->length);
    qc_chat_value value = qc_chat_string(qc_arena_strndup(p->arena, all.data, all.length), all.length);
    qc_str_fini(&all);
    return constant(p, first->line, value);
}

static qc_chat_node *parse_list(qc_chat_parser *p)
{
    qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_MAKE_LIST, p->at++->line);
    while (!qc_chat_at_operator(p, "]")) {
        if (node->items.count && qc_chat_expect_operator(p, ","))
            return NULL;
        if (qc_chat_at_operator(p, "]"))
            break;
        qc_chat_node *item = qc_chat_parse_expression(p);
        if (!item)
            return NULL;
        QC_PUSH(p->arena, &node->items, item);
    }
    p->at++;
    return node;
}

static qc_chat_node *parse_dict(qc_chat_parser *p)
{
    qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_MAKE_DICT, p->at++->line);
    while (!qc_chat_at_operator(p, "}")) {
        if (node->items.count && qc_chat_expect_operator(p, ","))
            return NULL;
        if (qc_chat_at_operator(p, "}"))
            break;
        qc_chat_node *key = qc_chat_parse_expression(p);
        qc_chat_node *value = key && !qc_chat_expect_operator(p, ":") ? qc_chat_parse_expression(p) : NULL;
        if (!value)
            return NULL;
        QC_PUSH(p->arena, &node->items, key);
        QC_PUSH(p->arena, &node->items, value);
    }
    p->at++;
    return node;
}

static qc_chat_node *parse_primary(qc_chat_parser *p, bool namespaces)
{
    const qc_chat_token *token = p->at;
    if (token->kind == QC_CHAT_T_NAME)
        return parse_name(p, namespaces);
    if (token->kind == QC_CHAT_T_STRING)
        return parse_string(p);
    if (token->kind == QC_CHAT_T_INTEGER)
        return p->at++, constant(p, token->line, qc_chat_int(token->integer));
    if (token->kind == QC_CHAT_T_FLOAT)
        return p->at++, constant(p, token->line, qc_chat_float(token->number));
    if (qc_chat_skip_operator(p, "(")) {
        qc_chat_node *node = qc_chat_parse_tuple(p, true, true, NULL);
        return node && !qc_chat_expect_operator(p, ")") ? node : NULL;
    }
    if (qc_chat_at_operator(p, "["))
        return parse_list(p);
    if (qc_chat_at_operator(p, "{"))
        return parse_dict(p);
    qc_chat_parse_error(p, token->line, "an expression is expected, not %s", qc_chat_token_text(p, token));
    return NULL;
}

/* ---- what follows a primary ---------------------------------------------------------------------------- */

/* The arguments in parentheses, into node->items. */
static qc_status parse_arguments(qc_chat_parser *p, qc_chat_node *node)
{
    uint32_t line = p->at->line;
    bool keywords = false, spread = false, spread_named = false;
    if (qc_chat_expect_operator(p, "("))
        return QC_ERROR;
    while (!qc_chat_at_operator(p, ")")) {
        if (node->items.count && qc_chat_expect_operator(p, ","))
            return QC_ERROR;
        if (qc_chat_at_operator(p, ")"))
            break;
        qc_chat_node *argument = NULL;
        bool wrong = spread_named;
        if (qc_chat_skip_operator(p, "*")) {
            wrong |= spread;
            spread = true;
            argument = qc_chat_node_new(p, QC_CHAT_SPREAD, line);
        } else if (qc_chat_skip_operator(p, "**")) {
            spread_named = true;
            argument = qc_chat_node_new(p, QC_CHAT_SPREAD_NAMED, line);
        } else if (p->at->kind == QC_CHAT_T_NAME && is_operator(p->at + 1, "=")) {
            keywords = true;
            argument = named_node(p, QC_CHAT_KEYWORD, p->at);
            p->at += 2;
        } else {
            wrong |= keywords || spread;
        }
        if (wrong)
            return qc_chat_parse_error(p, line, "the arguments of a call are in a wrong order");
        qc_chat_node *value = qc_chat_parse_expression(p);
        if (!value)
            return QC_ERROR;
        if (argument)
            argument->first = value;
        QC_PUSH(p->arena, &node->items, argument ? argument : value);
    }
    p->at++;
    return QC_OK;
}

static qc_chat_node *parse_call(qc_chat_parser *p, qc_chat_node *callee)
{
    qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_CALL, p->at->line);
    node->first = callee;
    return parse_arguments(p, node) ? NULL : node;
}

static qc_chat_node *parse_attribute(qc_chat_parser *p, qc_chat_node *subject)
{
    uint32_t line = p->at++->line;
    const qc_chat_token *token = p->at;
    if (token->kind == QC_CHAT_T_INTEGER) {
        qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_GET_ITEM, line);
        p->at++;
        node->first = subject;
        node->second = constant(p, line, qc_chat_int(token->integer));
        return node;
    }
    token = expect_name(p);
    if (!token)
        return NULL;
    qc_chat_node *node = named_node(p, QC_CHAT_GET_ATTRIBUTE, token);
    node->line = line;
    node->first = subject;
    return node;
}

/* The rest of a slice behind its first colon. */
static qc_chat_node *parse_slice(qc_chat_parser *p, qc_chat_node *subject, qc_chat_node *start, uint32_t line)
{
    qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_GET_SLICE, line);
    node->first = subject;
    QC_PUSH(p->arena, &node->items, start);
    for (int i = 0; i < 2; i++) {
        qc_chat_node *bound = NULL;
        bool here = i == 0 || qc_chat_skip_operator(p, ":");
        if (here && !qc_chat_at_operator(p, ":") && !qc_chat_at_operator(p, "]") &&
            !qc_chat_at_operator(p, ",")) {
            bound = qc_chat_parse_expression(p);
            if (!bound)
                return NULL;
        }
        QC_PUSH(p->arena, &node->items, bound);
    }
    return node;
}

static qc_chat_node *parse_subscript(qc_chat_parser *p, qc_chat_node *subject)
{
    uint32_t line = p->at++->line;
    qc_chat_node *node, *key = NULL;
    if (!qc_chat_at_operator(p, ":")) {
        key = qc_chat_parse_expression(p);
        if (!key)
            return NULL;
    }
    if (qc_chat_skip_operator(p, ":")) {
        node = parse_slice(p, subject, key, line);
    } else {
        node = qc_chat_node_new(p, QC_CHAT_GET_ITEM, line);
        node->first = subject;
        node->second = key;
    }
    if (node && qc_chat_at_operator(p, ","))
        return qc_chat_parse_error(p, line, "a subscript of several values is not supported"), NULL;
    return node && !qc_chat_expect_operator(p, "]") ? node : NULL;
}

static qc_chat_node *parse_postfix(qc_chat_parser *p, qc_chat_node *node)
{
    while (node)
        if (qc_chat_at_operator(p, "."))
            node = parse_attribute(p, node);
        else if (qc_chat_at_operator(p, "["))
            node = parse_subscript(p, node);
        else if (qc_chat_at_operator(p, "("))
            node = parse_call(p, node);
        else
            break;
    return node;
}

qc_chat_node *qc_chat_parse_filters(qc_chat_parser *p, qc_chat_node *subject, bool inside)
{
    while (inside || qc_chat_skip_operator(p, "|")) {
        inside = false;
        const qc_chat_token *token = expect_name(p);
        if (!token)
            return NULL;
        qc_chat_node *node = named_node(p, QC_CHAT_FILTER, token);
        node->first = subject;
        node->builtin = qc_chat_filter_find(token->text, token->length);
        if (!node->builtin || !node->builtin->run)
            return qc_chat_parse_error(p, token->line,
                       node->builtin ? "the filter '%s' is not supported" : "there is no filter '%s'",
                       token->text),
                   NULL;
        if (qc_chat_at_operator(p, "(") && parse_arguments(p, node))
            return NULL;
        subject = node;
    }
    return subject;
}

/* Does a token begin the argument of a test that has no parentheses? */
static bool begins_argument(const qc_chat_parser *p)
{
    switch (p->at->kind) {
    case QC_CHAT_T_NAME:
        return !qc_chat_at_name(p, "else") && !qc_chat_at_name(p, "or") && !qc_chat_at_name(p, "and");
    case QC_CHAT_T_STRING:
    case QC_CHAT_T_INTEGER:
    case QC_CHAT_T_FLOAT:
        return true;
    default:
        return qc_chat_at_operator(p, "[") || qc_chat_at_operator(p, "{");
    }
}

static qc_chat_node *parse_test(qc_chat_parser *p, qc_chat_node *subject)
{
    uint32_t line = p->at++->line;
    bool negated = qc_chat_skip_name(p, "not");
    const qc_chat_token *token = expect_name(p);
    if (!token)
        return NULL;
    qc_chat_node *node = named_node(p, QC_CHAT_TEST, token);
    node->line = line;
    node->first = subject;
    node->builtin = qc_chat_test_find(token->text, token->length);
    if (!node->builtin || !node->builtin->run)
        return qc_chat_parse_error(p, line,
                   node->builtin ? "the test '%s' is not supported" : "there is no test '%s'", token->text),
               NULL;
    if (qc_chat_at_operator(p, "(")) {
        if (parse_arguments(p, node))
            return NULL;
    } else if (begins_argument(p)) {
        if (qc_chat_at_name(p, "is"))
            return qc_chat_parse_error(p, line, "a test cannot follow a test"), NULL;
        qc_chat_node *argument = parse_postfix(p, parse_primary(p, false));
        if (!argument)
            return NULL;
        QC_PUSH(p->arena, &node->items, argument);
    }
    if (!negated)
        return node;
    qc_chat_node *not = qc_chat_node_new(p, QC_CHAT_NOT, line);
    not ->first = node;
    return not ;
}

static qc_chat_node *parse_filters_and_tests(qc_chat_parser *p, qc_chat_node *node)
{
    while (node)
        if (qc_chat_at_operator(p, "|"))
            node = qc_chat_parse_filters(p, node, false);
        else if (qc_chat_at_name(p, "is"))
            node = parse_test(p, node);
        else if (qc_chat_at_operator(p, "("))
            node = parse_call(p, node);
        else
            break;
    return node;
}

/* ---- operators, from tight to loose -------------------------------------------------------------------- */

static bool too_deep(qc_chat_parser *p)
{
    if (p->depth < QC_CHAT_PARSE_DEPTH)
        return false;
    qc_chat_parse_error(
        p, p->at->line, "expressions and blocks are nested deeper than %d", QC_CHAT_PARSE_DEPTH);
    return true;
}

static qc_chat_node *parse_unary(qc_chat_parser *p, bool filters)
{
    uint32_t line = p->at->line;
    bool minus = qc_chat_at_operator(p, "-");
    qc_chat_node *node;
    if (too_deep(p))
        return NULL;
    if (minus || qc_chat_at_operator(p, "+")) {
        node = qc_chat_node_new(p, QC_CHAT_UNARY, line);
        node->op = minus ? QC_CHAT_SUB : QC_CHAT_ADD;
        p->at++;
        p->depth++;
        node->first = parse_unary(p, false);
        p->depth--;
        node = node->first ? node : NULL;
    } else {
        node = parse_primary(p, false);
    }
    node = parse_postfix(p, node);
    return filters ? parse_filters_and_tests(p, node) : node;
}

/* The levels of binary operators that go from left to right, tightest last. */
typedef struct level {
    struct {
        const char *text;
        qc_chat_operator op;
    } operators[5];
} level;

static const level sums = {{{"+", QC_CHAT_ADD}, {"-", QC_CHAT_SUB}}},
                   products = {{{"*", QC_CHAT_MUL}, {"/", QC_CHAT_DIV}, {"//", QC_CHAT_FLOORDIV},
                       {"%", QC_CHAT_MOD}}},
                   powers = {{{"**", QC_CHAT_POW}}};

static qc_chat_node *parse_concat(qc_chat_parser *p);

static qc_chat_node *parse_operand(qc_chat_parser *p, const level *l);

static qc_chat_node *parse_level(qc_chat_parser *p, const level *l)
{
    uint32_t line = p->at->line;
    qc_chat_node *left = parse_operand(p, l);
    while (left) {
        size_t i = 0;
        while (l->operators[i].text && !qc_chat_at_operator(p, l->operators[i].text))
            i++;
        if (!l->operators[i].text)
            break;
        /* Jinja's compiler loses the brackets of (-2) ** x: what it computes hangs on x being constant. */
        if (l == &powers && left->kind == QC_CHAT_UNARY)
            return qc_chat_parse_error(p, line, "a power of a number with a sign is not supported"), NULL;
        p->at++;
        qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_BINARY, line);
        node->op = l->operators[i].op;
        node->first = left;
        node->second = parse_operand(p, l);
        left = node->second ? node : NULL;
        line = p->at->line;
    }
    return left;
}

static qc_chat_node *parse_operand(qc_chat_parser *p, const level *l)
{
    return l == &sums ? parse_concat(p) : l == &products ? parse_level(p, &powers) : parse_unary(p, true);
}

static qc_chat_node *parse_concat(qc_chat_parser *p)
{
    uint32_t line = p->at->line;
    qc_chat_node *first = parse_level(p, &products), *node = NULL;
    while (first && qc_chat_skip_operator(p, "~")) {
        if (!node) {
            node = qc_chat_node_new(p, QC_CHAT_CONCAT, line);
            QC_PUSH(p->arena, &node->items, first);
        }
        qc_chat_node *next = parse_level(p, &products);
        if (!next)
            return NULL;
        QC_PUSH(p->arena, &node->items, next);
    }
    return node ? node : first;
}

static bool comparison(qc_chat_parser *p, qc_chat_operator *op)
{
    static const struct {
        const char *text;
        qc_chat_operator op;
    } operators[] = {{"==", QC_CHAT_EQ}, {"!=", QC_CHAT_NE}, {"<=", QC_CHAT_LE}, {">=", QC_CHAT_GE},
        {"<", QC_CHAT_LT}, {">", QC_CHAT_GT}};
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (qc_chat_skip_operator(p, operators[i].text))
            return *op = operators[i].op, true;
    if (qc_chat_skip_name(p, "in"))
        return *op = QC_CHAT_IN, true;
    if (qc_chat_at_name(p, "not") && p->at[1].kind == QC_CHAT_T_NAME && strcmp(p->at[1].text, "in") == 0)
        return p->at += 2, *op = QC_CHAT_NOT_IN, true;
    return false;
}

static qc_chat_node *parse_compare(qc_chat_parser *p)
{
    uint32_t line = p->at->line;
    qc_chat_node *first = parse_level(p, &sums), *node = NULL;
    qc_chat_operator op;
    while (first && comparison(p, &op)) {
        if (!node) {
            node = qc_chat_node_new(p, QC_CHAT_COMPARE, line);
            node->first = first;
        }
        qc_chat_node *part = qc_chat_node_new(p, QC_CHAT_COMPARE, line);
        part->op = op;
        part->first = parse_level(p, &sums);
        if (!part->first)
            return NULL;
        QC_PUSH(p->arena, &node->items, part);
    }
    return node ? node : first;
}

static qc_chat_node *parse_not(qc_chat_parser *p)
{
    uint32_t line = p->at->line;
    if (!qc_chat_skip_name(p, "not"))
        return parse_compare(p);
    if (too_deep(p))
        return NULL;
    qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_NOT, line);
    p->depth++;
    node->first = parse_not(p);
    p->depth--;
    return node->first ? node : NULL;
}

static qc_chat_node *parse_logic(qc_chat_parser *p, bool or)
{
    uint32_t line = p->at->line;
    qc_chat_node *left = or ? parse_logic(p, false) : parse_not(p);
    while (left && qc_chat_skip_name(p, or ? "or" : "and")) {
        qc_chat_node *node = qc_chat_node_new(p, or ? QC_CHAT_OR : QC_CHAT_AND, line);
        node->first = left;
        node->second = or ? parse_logic(p, false) : parse_not(p);
        left = node->second ? node : NULL;
        line = p->at->line;
    }
    return left;
}

qc_chat_node *qc_chat_parse_expression(qc_chat_parser *p)
{
    uint32_t line = p->at->line;
    if (too_deep(p))
        return NULL;
    p->depth++;
    qc_chat_node *node = parse_logic(p, true);
    while (node && qc_chat_skip_name(p, "if")) {
        qc_chat_node *condition = qc_chat_node_new(p, QC_CHAT_CONDITION, line);
        condition->second = node;
        condition->first = parse_logic(p, true);
        node = condition->first ? condition : NULL;
        if (node && qc_chat_skip_name(p, "else")) {
            condition->third = qc_chat_parse_expression(p);
            node = condition->third ? condition : NULL;
        }
        line = p->at->line;
    }
    p->depth--;
    return node;
}

/* ---- tuples and targets -------------------------------------------------------------------------------- */

static bool ends_tuple(const qc_chat_parser *p, const char *until)
{
    return p->at->kind == QC_CHAT_T_PRINT_END || p->at->kind == QC_CHAT_T_BLOCK_END ||
           qc_chat_at_operator(p, ")") || (until && qc_chat_at_name(p, until));
}

/* Items with commas between, until an end; *tuple: there was a comma. */
static qc_status parse_items(qc_chat_parser *p, qc_chat_node *(*parse)(qc_chat_parser *, bool), bool flag,
    const char *until, qc_chat_nodes *items, bool *tuple)
{
    for (*tuple = false;;) {
        if (items->count && qc_chat_expect_operator(p, ","))
            return QC_ERROR;
        if (ends_tuple(p, until))
            return QC_OK;
        qc_chat_node *item = parse(p, flag);
        if (!item)
            return QC_ERROR;
        QC_PUSH(p->arena, items, item);
        if (!qc_chat_at_operator(p, ","))
            return QC_OK;
        *tuple = true;
    }
}

static qc_chat_node *parse_item(qc_chat_parser *p, bool conditions)
{
    return conditions ? qc_chat_parse_expression(p) : parse_logic(p, true);
}

qc_chat_node *qc_chat_parse_tuple(qc_chat_parser *p, bool conditions, bool parenthesised, const char *until)
{
    qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_MAKE_TUPLE, p->at->line);
    bool tuple;
    if (parse_items(p, parse_item, conditions, until, &node->items, &tuple))
        return NULL;
    if (!tuple && node->items.count)
        return node->items.items[0];
    if (!tuple && !parenthesised)
        return qc_chat_parse_error(
                   p, p->at->line, "an expression is expected, not %s", qc_chat_token_text(p, p->at)),
               NULL;
    return node;
}

static qc_status check_target(qc_chat_parser *p, const qc_chat_node *node)
{
    if (node->kind == QC_CHAT_NAME || node->kind == QC_CHAT_NAMESPACE_ITEM)
        return QC_OK;
    if (node->kind != QC_CHAT_MAKE_TUPLE)
        return qc_chat_parse_error(p, node->line, "only names can be assigned to");
    for (size_t i = 0; i < node->items.count; i++)
        if (check_target(p, node->items.items[i]))
            return QC_ERROR;
    return QC_OK;
}

qc_chat_node *qc_chat_parse_target(qc_chat_parser *p, bool tuples, bool namespaces, const char *until)
{
    qc_chat_node *node;
    if (tuples) {
        node = qc_chat_node_new(p, QC_CHAT_MAKE_TUPLE, p->at->line);
        bool tuple;
        if (parse_items(p, parse_primary, namespaces, until, &node->items, &tuple))
            return NULL;
        if (node->items.count == 0)
            return qc_chat_parse_error(p, node->line, "a name to assign to is expected"), NULL;
        node = tuple ? node : node->items.items[0];
    } else {
        node = parse_primary(p, namespaces);
    }
    return node && !check_target(p, node) ? node : NULL;
}
