/* SPDX-License-Identifier: MIT
 *
 * parser.c - the tree of statements. A statement of Jinja's that chat templates do not use
 * (`include`, `extends`, `block`, `call` ...) is refused by name.
 */
#include "frontends/text/chat_template/internal.h"

typedef qc_chat_node *(*statement_fn)(qc_chat_parser *p, uint32_t line);

static qc_chat_node *parse_statement(qc_chat_parser *p);

/* ---- bodies -------------------------------------------------------------------------------------------- */

/* Do the names in `ends` (with blanks between) hold this token? */
static bool is_end(const qc_chat_token *token, const char *ends)
{
    for (const char *at = ends; at && token->kind == QC_CHAT_T_NAME;) {
        size_t length = strcspn(at, " ");
        if (length == token->length && memcmp(at, token->text, length) == 0)
            return true;
        at = at[length] ? at + length + 1 : NULL;
    }
    return false;
}

static qc_status expect_block_end(qc_chat_parser *p)
{
    if (p->at->kind != QC_CHAT_T_BLOCK_END)
        return qc_chat_parse_error(p, p->at->line, "'%%}' is expected, not %s", qc_chat_token_text(p, p->at));
    p->at++;
    return QC_OK;
}

static qc_status parse_print(qc_chat_parser *p, qc_chat_nodes *body)
{
    qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_PRINT, p->at++->line);
    qc_chat_node *value = qc_chat_parse_tuple(p, true, false, NULL);
    if (!value)
        return QC_ERROR;
    if (p->at->kind != QC_CHAT_T_PRINT_END)
        return qc_chat_parse_error(p, p->at->line, "'}}' is expected, not %s", qc_chat_token_text(p, p->at));
    p->at++;
    QC_PUSH(p->arena, &node->items, value);
    QC_PUSH(p->arena, body, node);
    return QC_OK;
}

/* Statements and text up to a block that begins with one of `ends`, which stays the current token (NULL: up to
 * the end of the template). `of` and `line` say what is open then. */
static qc_status parse_until(
    qc_chat_parser *p, const char *ends, const char *of, uint32_t line, qc_chat_nodes *body)
{
    for (;;) {
        const qc_chat_token *token = p->at;
        if (token->kind == QC_CHAT_T_DATA) {
            qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_DATA, token->line);
            node->value = qc_chat_string(token->text, token->length);
            QC_PUSH(p->arena, body, node);
            p->at++;
        } else if (token->kind == QC_CHAT_T_PRINT_BEGIN) {
            if (parse_print(p, body))
                return QC_ERROR;
        } else if (token->kind == QC_CHAT_T_BLOCK_BEGIN) {
            p->at++;
            if (is_end(p->at, ends))
                return QC_OK;
            qc_chat_node *node = parse_statement(p);
            if (!node || expect_block_end(p))
                return QC_ERROR;
            QC_PUSH(p->arena, body, node);
        } else if (ends) {
            return qc_chat_parse_error(p, line, "the '%s' does not end", of);
        } else {
            return QC_OK;
        }
    }
}

/* The rest of a block's head, and its body; the name that ends it is the current token. */
static qc_status parse_block(
    qc_chat_parser *p, const char *ends, const char *of, uint32_t line, qc_chat_nodes *body)
{
    if (p->depth >= QC_CHAT_PARSE_DEPTH)
        return qc_chat_parse_error(
            p, line, "expressions and blocks are nested deeper than %d", QC_CHAT_PARSE_DEPTH);
    qc_chat_skip_operator(p, ":");
    if (expect_block_end(p))
        return QC_ERROR;
    p->depth++;
    qc_status status = parse_until(p, ends, of, line, body);
    p->depth--;
    return status;
}

/* The same up to one end, which is passed over. */
static qc_status parse_whole(
    qc_chat_parser *p, const char *end, const char *of, uint32_t line, qc_chat_nodes *body)
{
    if (parse_block(p, end, of, line, body))
        return QC_ERROR;
    p->at++;
    return QC_OK;
}

/* ---- statements ---------------------------------------------------------------------------------------- */

static qc_chat_node *parse_set(qc_chat_parser *p, uint32_t line)
{
    qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_SET, line);
    node->first = qc_chat_parse_target(p, true, true, NULL);
    if (!node->first)
        return NULL;
    if (qc_chat_skip_operator(p, "=")) {
        node->second = qc_chat_parse_tuple(p, true, false, NULL);
        return node->second ? node : NULL;
    }
    node->kind = QC_CHAT_SET_BLOCK;
    node->second = qc_chat_parse_filters(p, qc_chat_node_new(p, QC_CHAT_BLOCK_VALUE, line), false);
    return node->second && !parse_whole(p, "endset", "set", line, &node->items) ? node : NULL;
}

static qc_chat_node *parse_filter_block(qc_chat_parser *p, uint32_t line)
{
    qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_FILTER_BLOCK, line);
    node->second = qc_chat_parse_filters(p, qc_chat_node_new(p, QC_CHAT_BLOCK_VALUE, line), true);
    return node->second && !parse_whole(p, "endfilter", "filter", line, &node->items) ? node : NULL;
}

static qc_chat_node *parse_if(qc_chat_parser *p, uint32_t line)
{
    qc_chat_node *all = NULL, *last = NULL;
    for (;;) {
        qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_IF, all ? p->at->line : line);
        if (last)
            QC_PUSH(p->arena, &last->others, node);
        all = all ? all : node;
        last = node;
        node->first = qc_chat_parse_tuple(p, false, false, NULL);
        if (!node->first || parse_block(p, "elif else endif", "if", line, &node->items))
            return NULL;
        if (qc_chat_skip_name(p, "endif"))
            return all;
        if (qc_chat_skip_name(p, "else"))
            return parse_whole(p, "endif", "if", line, &node->others) ? NULL : all;
        p->at++;
    }
}

static qc_chat_node *parse_for(qc_chat_parser *p, uint32_t line)
{
    qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_FOR, line);
    node->first = qc_chat_parse_target(p, true, false, "in");
    if (!node->first)
        return NULL;
    if (!qc_chat_skip_name(p, "in"))
        return qc_chat_parse_error(p, p->at->line, "'in' is expected, not %s", qc_chat_token_text(p, p->at)),
               NULL;
    node->second = qc_chat_parse_tuple(p, false, false, "recursive");
    if (!node->second)
        return NULL;
    if (qc_chat_skip_name(p, "if")) {
        node->third = qc_chat_parse_expression(p);
        if (!node->third)
            return NULL;
    }
    if (qc_chat_at_name(p, "recursive"))
        return qc_chat_parse_error(p, line, "a recursive 'for' is not supported"), NULL;
    bool loop_read = p->loop_read, macro_seen = p->macro_seen;
    p->loop_read = p->macro_seen = false;
    p->loops++;
    qc_status status = parse_block(p, "endfor else", "for", line, &node->items);
    p->loops--;
    node->uses_loop = p->loop_read;
    p->loop_read |= loop_read;
    node->has_macros = p->macro_seen;
    p->macro_seen |= macro_seen;
    if (status)
        return NULL;
    if (qc_chat_skip_name(p, "endfor"))
        return node;
    p->at++;
    return parse_whole(p, "endfor", "for", line, &node->others) ? NULL : node;
}

static qc_status parse_parameters(qc_chat_parser *p, qc_chat_node *macro)
{
    if (qc_chat_expect_operator(p, "("))
        return QC_ERROR;
    bool defaults = false;
    while (!qc_chat_at_operator(p, ")")) {
        if (macro->others.count && qc_chat_expect_operator(p, ","))
            return QC_ERROR;
        qc_chat_node *name = qc_chat_parse_target(p, false, false, NULL);
        if (!name)
            return QC_ERROR;
        if (name->kind != QC_CHAT_NAME)
            return qc_chat_parse_error(p, name->line, "a parameter of a macro must be a name");
        if (qc_chat_skip_operator(p, "=")) {
            defaults = true;
            name->first = qc_chat_parse_expression(p);
            if (!name->first)
                return QC_ERROR;
        } else if (defaults) {
            return qc_chat_parse_error(
                p, name->line, "a parameter without default follows one with a default");
        }
        QC_PUSH(p->arena, &macro->others, name);
    }
    p->at++;
    return QC_OK;
}

/* A body that is a function of its own in Jinja: loops around it are not its own. */
static qc_status parse_function_body(
    qc_chat_parser *p, const char *end, const char *of, uint32_t line, qc_chat_node *node)
{
    unsigned loops = p->loops;
    p->loops = 0;
    qc_status status = parse_whole(p, end, of, line, &node->items);
    p->loops = loops;
    return status;
}

static qc_chat_node *parse_macro(qc_chat_parser *p, uint32_t line)
{
    qc_chat_node *name = qc_chat_parse_target(p, false, false, NULL);
    if (!name)
        return NULL;
    qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_MACRO, line);
    if (name->kind != QC_CHAT_NAME)
        return qc_chat_parse_error(p, line, "the name of a macro is expected"), NULL;
    node->name = name->name;
    node->name_length = name->name_length;
    bool in_macro = p->in_macro;
    p->in_macro = p->macro_seen = true;
    qc_status status =
        parse_parameters(p, node) ? QC_ERROR : parse_function_body(p, "endmacro", "macro", line, node);
    p->in_macro = in_macro;
    return status ? NULL : node;
}

static qc_chat_node *parse_with(qc_chat_parser *p, uint32_t line)
{
    qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_WITH, line);
    while (p->at->kind != QC_CHAT_T_BLOCK_END) {
        if (node->others.count && qc_chat_expect_operator(p, ","))
            return NULL;
        qc_chat_node *set = qc_chat_node_new(p, QC_CHAT_SET, p->at->line);
        set->first = qc_chat_parse_target(p, false, false, NULL);
        if (!set->first || qc_chat_expect_operator(p, "="))
            return NULL;
        set->second = qc_chat_parse_expression(p);
        if (!set->second)
            return NULL;
        QC_PUSH(p->arena, &node->others, set);
    }
    return parse_whole(p, "endwith", "with", line, &node->items) ? NULL : node;
}

static qc_chat_node *parse_generation(qc_chat_parser *p, uint32_t line)
{
    qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_GENERATION, line);
    return parse_function_body(p, "endgeneration", "generation", line, node) ? NULL : node;
}

static qc_chat_node *parse_print_statement(qc_chat_parser *p, uint32_t line)
{
    qc_chat_node *node = qc_chat_node_new(p, QC_CHAT_PRINT, line);
    while (p->at->kind != QC_CHAT_T_BLOCK_END) {
        if (node->items.count && qc_chat_expect_operator(p, ","))
            return NULL;
        qc_chat_node *value = qc_chat_parse_expression(p);
        if (!value)
            return NULL;
        QC_PUSH(p->arena, &node->items, value);
    }
    return node;
}

static qc_chat_node *parse_break(qc_chat_parser *p, uint32_t line)
{
    if (p->loops == 0)
        return qc_chat_parse_error(p, line, "'break' outside of a loop"), NULL;
    return qc_chat_node_new(p, QC_CHAT_BREAK, line);
}

static qc_chat_node *parse_continue(qc_chat_parser *p, uint32_t line)
{
    if (p->loops == 0)
        return qc_chat_parse_error(p, line, "'continue' outside of a loop"), NULL;
    return qc_chat_node_new(p, QC_CHAT_CONTINUE, line);
}

static qc_chat_node *parse_statement(qc_chat_parser *p)
{
    static const struct {
        const char *name;
        statement_fn parse; /* NULL: Jinja's, and not supported */
    } statements[] = {{"set", parse_set}, {"if", parse_if}, {"for", parse_for}, {"macro", parse_macro},
        {"generation", parse_generation}, {"break", parse_break}, {"continue", parse_continue},
        {"with", parse_with}, {"filter", parse_filter_block}, {"print", parse_print_statement},
        {"call", NULL}, {"block", NULL}, {"extends", NULL}, {"include", NULL}, {"import", NULL},
        {"from", NULL}, {"autoescape", NULL}};
    const qc_chat_token *token = p->at;
    if (token->kind != QC_CHAT_T_NAME)
        return qc_chat_parse_error(
                   p, token->line, "the name of a block is expected, not %s", qc_chat_token_text(p, token)),
               NULL;
    p->at++;
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (strcmp(token->text, statements[i].name) == 0) {
            if (statements[i].parse)
                return statements[i].parse(p, token->line);
            qc_chat_parse_error(p, token->line, "the block '%s' is not supported", token->text);
            return NULL;
        }
    bool end = qc_starts_with(token->text, "end") || is_end(token, "else elif");
    qc_chat_parse_error(
        p, token->line, end ? "a '%s' closes nothing here" : "there is no block '%s'", token->text);
    return NULL;
}

qc_status qc_chat_parse_body(qc_diag *diag, qc_chat_template *template, const qc_chat_tokens *tokens)
{
    qc_chat_parser p = {.diag = diag, .template = template, .arena = template->arena, .at = tokens->items};
    return parse_until(&p, NULL, NULL, 0, &template->body);
}
