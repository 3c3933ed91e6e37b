/* SPDX-License-Identifier: MIT
 *
 * parse.c - IR text to a module. docs/ir.md is the grammar. One error is reported, with file, line and
 * column; result types that can be inferred may be left out and are checked when they are there.
 */
#include "ir/lex.h"

typedef struct parser {
    qc_lexer l;
    qc_module *module;
    qc_func *func;
    qc_map values;  /* name -> qc_value *, of the function */
    qc_node *block; /* of the at-block, or NULL */
    qc_arena arena; /* names of one function */
} parser;

static bool expect_word(parser *p, const char *what, const char **word, size_t *length)
{
    if (qc_lex_word(&p->l, word, length))
        return true;
    qc_lex_error(&p->l, p->l.at, "expected %s", what);
    return false;
}

/* A bare or quoted name. */
static const char *name_text(parser *p, const char *what)
{
    const char *word, *text = NULL;
    size_t length;
    if (qc_lex_peek(&p->l, '"'))
        return qc_lex_string(&p->l, &text) ? text : NULL;
    return expect_word(p, what, &word, &length) ? qc_intern(p->l.ctx, word, length) : NULL;
}

static const char *symbol_name(parser *p)
{
    const char *word;
    size_t length;
    if (!qc_lex_expect(&p->l, "@") || !expect_word(p, "a name after '@'", &word, &length))
        return NULL;
    return qc_intern(p->l.ctx, word, length);
}

/* ---- operations
 * ---------------------------------------------------------------------------------------------- */

typedef struct result_name {
    const char *at, *name;
    size_t length;
} result_name;

static qc_value *value_use(parser *p)
{
    const char *name;
    size_t length;
    qc_lex_skip(&p->l);
    const char *at = p->l.at;
    if (!qc_lex_value_name(&p->l, &name, &length))
        return NULL;
    qc_value *value = qc_map_get_n(&p->values, name, length);
    if (!value)
        qc_lex_error(&p->l, at, "%%%.*s is not defined before this", (int)length, name);
    return value;
}

static bool value_define(parser *p, const result_name *r, qc_value *value)
{
    if (qc_map_find_n(&p->values, r->name, r->length)) {
        qc_lex_error(&p->l, r->at, "%%%.*s is defined twice", (int)r->length, r->name);
        return false;
    }
    qc_map_set_n(&p->values, r->name, r->length, value);
    size_t hint = r->length;
    while (hint > 0 && r->name[hint - 1] >= '0' && r->name[hint - 1] <= '9')
        hint--;
    bool suffixed = hint > 0 && hint < r->length && r->name[hint - 1] == '.';
    hint = suffixed ? hint - 1 : hint == 0 ? 0 : r->length;
    qc_value_set_hint(value, hint ? qc_intern(p->l.ctx, r->name, hint) : NULL);
    return true;
}

typedef struct op_parts {
    const qc_op_info *info;
    const char *at;         /* of the op's name */
    const char *line_start; /* of its line */
    uint32_t line;
    QC_VEC(result_name) results;
    qc_value *operands[16];
    QC_VEC(qc_value *) variadic;
    const qc_attr *attrs[QC_MAX_ATTRS];
    qc_data_list data;
    bool has_data;
    const qc_type *types[4];
    size_t type_count;
    qc_node *node;
} op_parts;

static void parse_positional_attr(parser *p, op_parts *o)
{
    int slot = o->info->positional;
    if (o->info->attrs[slot].kind == QC_ATTR_DATA) {
        o->has_data = qc_parse_data_tokens(&p->l, &o->data);
        return;
    }
    qc_lex_skip(&p->l);
    const char *at = p->l.at;
    o->attrs[slot] = qc_parse_attr(&p->l);
    if (o->attrs[slot] &&
        qc_attr_check(&p->l.ctx->diag, qc_lex_place(&p->l, at), o->info, slot, o->attrs[slot]) != QC_OK)
        p->l.failed = true;
}

static void parse_named_operand(parser *p, op_parts *o)
{
    const char *word, *at = p->l.at;
    size_t length;
    if (!expect_word(p, "an operand", &word, &length))
        return;
    const char *name = qc_intern(p->l.ctx, word, length);
    int slot = qc_op_operand_slot(o->info, name);
    if (slot < 0 || !o->info->operands[slot].optional) {
        qc_lex_error(&p->l, at, "%s has no optional operand '%s'", o->info->name, name);
        return;
    }
    if (o->operands[slot]) {
        qc_lex_error(&p->l, at, "operand '%s' is given twice", name);
        return;
    }
    if (qc_lex_expect(&p->l, "="))
        o->operands[slot] = value_use(p);
}

static void parse_operands(parser *p, op_parts *o)
{
    int next = 0, rows = o->info->operand_count;
    bool variadic = rows && o->info->operands[rows - 1].variadic, any = false;
    while (!p->l.failed) {
        bool more =
            any ? qc_lex_take(&p->l, ",")
                : qc_lex_peek(&p->l, '%') || (rows && !qc_lex_peek(&p->l, '{') && !qc_lex_peek(&p->l, ':') &&
                                                 !qc_lex_is_word(&p->l, "at") && !qc_lex_peek(&p->l, '}') &&
                                                 !qc_lex_is_word(&p->l, "return"));
        if (!more)
            return;
        any = true;
        qc_lex_skip(&p->l);
        const char *at = p->l.at;
        if (!qc_lex_peek(&p->l, '%')) {
            parse_named_operand(p, o);
            continue;
        }
        qc_value *value = value_use(p);
        while (next < rows && o->info->operands[next].optional)
            next++;
        if (variadic && next == rows - 1)
            QC_PUSH(&p->l.ctx->scratch, &o->variadic, value);
        else if (next < rows)
            o->operands[next++] = value;
        else
            qc_lex_error(&p->l, at, "%s takes no further operand", o->info->name);
    }
}

static int attr_slot(const qc_op_info *info, const char *word, size_t length)
{
    for (int i = 0; i < info->attr_count; i++)
        if (!strncmp(info->attrs[i].name, word, length) && !info->attrs[i].name[length])
            return i;
    return -1;
}

static void parse_attrs(parser *p, op_parts *o)
{
    if (!qc_lex_take(&p->l, "{"))
        return;
    bool any = false;
    while (!p->l.failed && !qc_lex_take(&p->l, "}")) {
        if (any && !qc_lex_expect(&p->l, ","))
            return;
        any = true;
        qc_lex_skip(&p->l);
        const char *at = p->l.at, *word;
        size_t length;
        if (!expect_word(p, "an attribute name", &word, &length))
            return;
        int slot = attr_slot(o->info, word, length);
        if (slot < 0) {
            qc_lex_error(&p->l, at, "%s has no attribute '%.*s'", o->info->name, (int)length, word);
            return;
        }
        if (o->attrs[slot] || (o->has_data && slot == o->info->positional)) {
            qc_lex_error(&p->l, at, "attribute '%.*s' is given twice", (int)length, word);
            return;
        }
        const qc_attr *value = qc_lex_take(&p->l, "=") ? qc_parse_attr(&p->l) : qc_attr_bool(p->l.ctx, true);
        if (!value)
            return;
        if (o->info->attrs[slot].kind == QC_ATTR_FLOAT && value->kind == QC_ATTR_INT)
            value = qc_attr_float(p->l.ctx, (double)value->u.integer);
        o->attrs[slot] = value;
        if (qc_attr_check(&p->l.ctx->diag, qc_lex_place(&p->l, at), o->info, slot, value) != QC_OK)
            p->l.failed = true;
    }
}

/* The node of a path written after `at`: whole, or ".leaf" inside a block. */
static qc_node *find_at(parser *p, const char *path)
{
    char buffer[512];
    if (*path != '.' || !p->block)
        return qc_module_find_node(p->module, path);
    size_t block = strlen(p->block->path), leaf = strlen(path);
    if (block + leaf >= sizeof buffer)
        return NULL;
    memcpy(buffer, p->block->path, block);
    memcpy(buffer + block, path, leaf + 1);
    return qc_map_get_n(&p->module->nodes, buffer, block + leaf);
}

static qc_node *parse_at(parser *p)
{
    const char *at = p->l.at, *path = NULL;
    if (!qc_lex_string(&p->l, &path))
        return NULL;
    qc_node *node = find_at(p, path);
    if (!node)
        qc_lex_error(&p->l, at, "no module line declares \"%s%s\"",
            *path == '.' && p->block ? p->block->path : "", path);
    return node;
}

static void parse_result_types(parser *p, op_parts *o)
{
    if (!qc_lex_take(&p->l, ":"))
        return;
    do {
        if (o->type_count == (size_t)o->info->result_count || o->type_count == 4) {
            qc_lex_error(&p->l, p->l.at, "%s has %d results", o->info->name, o->info->result_count);
            return;
        }
        o->types[o->type_count++] = qc_parse_type(&p->l);
    } while (!p->l.failed && qc_lex_take(&p->l, ","));
}

static bool parts_complete(parser *p, op_parts *o)
{
    const qc_op_info *info = o->info;
    if (o->has_data && o->type_count)
        o->attrs[info->positional] = qc_parse_data_encode(&p->l, &o->data, o->types[0]->dtype);
    else if (o->has_data)
        qc_lex_error(&p->l, o->at, "%s: the type must be written", info->name);
    for (int i = 0; i < info->operand_count; i++)
        if (!info->operands[i].optional && !info->operands[i].variadic && !o->operands[i])
            qc_lex_error(&p->l, o->at, "%s: operand '%s' is missing", info->name, info->operands[i].name);
    for (int i = 0; i < info->attr_count; i++)
        if (info->attrs[i].required && !o->attrs[i])
            qc_lex_error(&p->l, o->at, "%s: attribute '%s' is missing", info->name, info->attrs[i].name);
    if (o->results.count != (size_t)info->result_count)
        qc_lex_error(&p->l, o->at, "%s has %d results, %zu are named", info->name, info->result_count,
            o->results.count);
    return !p->l.failed;
}

/* Where the op's name stands; its line may be over by now. */
static const char *op_place(parser *p, const op_parts *o)
{
    qc_lexer then = p->l;
    then.line = o->line;
    then.line_start = o->line_start;
    const char *place = qc_lex_place(&then, o->at);
    p->l.place = then.place;
    return place;
}

static void make_op(parser *p, op_parts *o)
{
    const qc_op_info *info = o->info;
    bool variadic = info->operand_count && info->operands[info->operand_count - 1].variadic;
    size_t fixed = (size_t)info->operand_count - variadic;
    qc_op *op = qc_op_create(p->func, info, fixed + (variadic ? o->variadic.count : 0));
    op->line = o->line;
    op->node = o->node;
    for (size_t i = 0; i < op->operand_count; i++)
        qc_op_set_operand(op, i, i < fixed ? o->operands[i] : o->variadic.items[i - fixed]);
    for (int i = 0; i < info->attr_count; i++)
        if (o->attrs[i] && !qc_attr_equal(o->attrs[i], qc_op_default_attr(p->l.ctx, info, (size_t)i)))
            op->attrs[i] = o->attrs[i];
    const qc_type *types[4] = {0};
    if (info->traits & QC_TRAIT_TYPED)
        memcpy(types, o->types, sizeof types);
    qc_diag *diag = &p->l.ctx->diag;
    size_t errors = diag->error_count;
    const char *where = op_place(p, o);
    if (qc_op_infer(op, where, types) != QC_OK) {
        if (diag->error_count == errors)
            qc_error(diag, where, "%s: its operands give no type", info->name);
        p->l.failed = true;
        qc_op_erase(op);
        return;
    }
    for (uint32_t i = 0; i < op->result_count; i++)
        op->results[i].type = types[i];
    qc_op_insert(op, NULL);
    if (info->verify && info->verify(op, where) != QC_OK)
        p->l.failed = true;
    for (uint32_t i = 0; i < op->result_count && !p->l.failed; i++) {
        if (i < o->type_count && o->types[i] != types[i])
            qc_lex_error(&p->l, o->at, "%s: the type %s is written, its operands give %s", info->name,
                o->types[i]->text, types[i]->text);
        value_define(p, &o->results.items[i], &op->results[i]);
    }
}

/* Is the next token the first of its line? There `at` opens a block; behind an op it names the op's own node.
 */
static bool begins_line(qc_lexer *l)
{
    qc_lex_skip(l);
    for (const char *c = l->at; c > l->text && c[-1] != '\n'; c--)
        if (c[-1] != ' ' && c[-1] != '\t')
            return false;
    return true;
}

static void parse_op(parser *p)
{
    op_parts o = {0};
    if (qc_lex_peek(&p->l, '%')) {
        do {
            result_name r;
            qc_lex_skip(&p->l);
            r.at = p->l.at;
            if (!qc_lex_value_name(&p->l, &r.name, &r.length))
                return;
            QC_PUSH(&p->l.ctx->scratch, &o.results, r);
        } while (qc_lex_take(&p->l, ","));
        if (!qc_lex_expect(&p->l, "="))
            return;
    }
    qc_lex_skip(&p->l);
    o.at = p->l.at;
    o.line = p->l.line;
    o.line_start = p->l.line_start;
    const char *word;
    size_t length;
    if (!expect_word(p, "an operation", &word, &length))
        return;
    o.info = qc_map_get_n(&p->l.ctx->ops, word, length);
    if (!o.info) {
        const char **names = QC_NEW_ARRAY(&p->l.ctx->scratch, const char *, qc_op_info_count);
        for (size_t i = 0; i < qc_op_info_count; i++)
            names[i] = qc_op_infos[i].name;
        const char *name = qc_intern(p->l.ctx, word, length),
                   *near = qc_nearest_name(name, names, qc_op_info_count);
        qc_lex_error(&p->l, o.at, "there is no op '%s'%s%s%s", name, near ? "; did you mean '" : "",
            near ? near : "", near ? "'?" : "");
        return;
    }
    if (o.info->positional >= 0)
        parse_positional_attr(p, &o);
    if (!p->l.failed)
        parse_operands(p, &o);
    if (!p->l.failed)
        parse_attrs(p, &o);
    if (!p->l.failed)
        parse_result_types(p, &o);
    o.node = p->block;
    if (!p->l.failed && !begins_line(&p->l) && qc_lex_take(&p->l, "at"))
        o.node = parse_at(p);
    if (!p->l.failed && parts_complete(p, &o))
        make_op(p, &o);
}

/* ---- functions
 * ----------------------------------------------------------------------------------------------- */

static void parse_block(parser *p)
{
    p->block = parse_at(p);
    qc_lex_expect(&p->l, "{");
    while (!p->l.failed && !qc_lex_take(&p->l, "}"))
        parse_op(p);
    p->block = NULL;
}

static void parse_arguments(parser *p)
{
    qc_lex_expect(&p->l, "(");
    while (!p->l.failed && !qc_lex_take(&p->l, ")")) {
        if (p->func->arguments.count && !qc_lex_expect(&p->l, ","))
            return;
        result_name r;
        qc_lex_skip(&p->l);
        r.at = p->l.at;
        if (!qc_lex_value_name(&p->l, &r.name, &r.length) || !qc_lex_expect(&p->l, ":"))
            return;
        const qc_type *type = qc_parse_type(&p->l);
        if (type)
            value_define(p, &r, qc_func_add_argument(p->func, NULL, type));
    }
}

static void parse_return(parser *p, const qc_type *const *declared, size_t count)
{
    const char *at = p->l.at;
    if (qc_lex_peek(&p->l, '%'))
        do {
            qc_lex_skip(&p->l);
            const char *place = p->l.at;
            qc_value *value = value_use(p);
            if (!value)
                return;
            size_t index = p->func->results.count;
            if (index < count && declared[index] != value->type)
                qc_lex_error(&p->l, place, "the function declares %s, this is %s", declared[index]->text,
                    value->type->text);
            qc_func_add_result(p->func, value);
        } while (qc_lex_take(&p->l, ","));
    if (!p->l.failed && p->func->results.count != count)
        qc_lex_error(
            &p->l, at, "the function declares %zu results, %zu are returned", count, p->func->results.count);
}

static void parse_func(parser *p)
{
    QC_VEC(const qc_type *) declared = {0};
    const char *at = p->l.at, *name = symbol_name(p);
    if (!name)
        return;
    if (qc_module_func(p->module, name)) {
        qc_lex_error(&p->l, at, "the function @%s is defined twice", name);
        return;
    }
    qc_arena_fini(&p->arena);
    qc_map_init(&p->values, &p->arena);
    p->func = qc_module_add_func(p->module, name);
    p->func->line = p->l.line;
    parse_arguments(p);
    if (!p->l.failed && qc_lex_take(&p->l, "->"))
        do
            QC_PUSH(&p->l.ctx->scratch, &declared, qc_parse_type(&p->l));
        while (!p->l.failed && qc_lex_take(&p->l, ","));
    qc_lex_expect(&p->l, "{");
    while (!p->l.failed && !qc_lex_is_word(&p->l, "return")) {
        if (qc_lex_take(&p->l, "at"))
            parse_block(p);
        else
            parse_op(p);
    }
    if (qc_lex_take(&p->l, "return"))
        parse_return(p, declared.items, declared.count);
    qc_lex_expect(&p->l, "}");
}

/* ---- module lines
 * -------------------------------------------------------------------------------------------- */

static void parse_source(parser *p)
{
    const char *text, *hash;
    int64_t bytes;
    if (p->module->source)
        qc_lex_error(&p->l, p->l.at, "a second source line");
    if (p->l.failed || !qc_lex_string(&p->l, &text))
        return;
    qc_module_set_source(p->module, text);
    if (!qc_lex_take(&p->l, "{"))
        return;
    while (!p->l.failed && !qc_lex_take(&p->l, "}")) {
        if (!qc_lex_expect(&p->l, "shard") || !qc_lex_string(&p->l, &text) ||
            !qc_lex_expect(&p->l, "bytes") || !qc_lex_int(&p->l, &bytes) || !qc_lex_expect(&p->l, "header") ||
            !qc_lex_string(&p->l, &hash))
            return;
        if (bytes < 0 || strlen(hash) != 64)
            qc_lex_error(&p->l, p->l.at, "a shard needs its size in bytes and 64 hex digits of SHA-256");
        qc_module_add_shard(p->module, text, (uint64_t)bytes, hash);
    }
}

static void parse_dims(parser *p)
{
    do {
        const char *word;
        size_t length;
        if (!expect_word(p, "the name of a dimension", &word, &length))
            return;
        qc_module_declare_dim(p->module, qc_intern(p->l.ctx, word, length));
    } while (qc_lex_take(&p->l, ","));
}

static void parse_node(parser *p)
{
    const char *at = p->l.at, *path;
    if (!qc_lex_string(&p->l, &path))
        return;
    if (qc_module_find_node(p->module, path)) {
        qc_lex_error(&p->l, at, "the module \"%s\" is declared twice", path);
        return;
    }
    const char *class_name = name_text(p, "a class name");
    if (!class_name)
        return;
    qc_node *node = qc_module_add_node(p->module, path, class_name);
    if (!qc_lex_take(&p->l, "{"))
        return;
    do {
        const char *tensor = name_text(p, "the name of a tensor");
        if (!tensor)
            return;
        qc_node_add_tensor(node, tensor);
    } while (qc_lex_take(&p->l, ","));
    qc_lex_expect(&p->l, "}");
}

static void parse_symbol(parser *p, const char *kind)
{
    const char *at = p->l.at, *name = symbol_name(p);
    if (!name)
        return;
    const qc_attr *fields = qc_parse_map(&p->l);
    if (fields && !qc_module_add_symbol(p->module, kind, name, fields))
        qc_lex_error(&p->l, at, "the symbol @%s is defined twice", name);
}

static void parse_item(parser *p)
{
    static const char *const kinds[] = {"scheme", "kv_scheme", "transform"};
    if (qc_lex_take(&p->l, "func")) {
        parse_func(p);
    } else if (qc_lex_take(&p->l, "module")) {
        parse_node(p);
    } else if (qc_lex_take(&p->l, "dim")) {
        parse_dims(p);
    } else if (qc_lex_take(&p->l, "source")) {
        parse_source(p);
    } else {
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            if (qc_lex_take(&p->l, kinds[i])) {
                parse_symbol(p, kinds[i]);
                return;
            }
        qc_lex_error(&p->l, p->l.at, "expected source, dim, module, scheme, kv_scheme, transform or func");
    }
}

static void parse_module(parser *p)
{
    int64_t version = 0;
    if (!qc_lex_take(&p->l, "qc")) {
        qc_lex_error(&p->l, p->l.at, "not IR text: the first line must be 'qc 1'");
        return;
    }
    const char *at = p->l.at;
    if (qc_lex_int(&p->l, &version) && version != 1)
        qc_lex_error(
            &p->l, at, "version %lld of the text form; this program reads version 1", (long long)version);
    qc_lex_skip(&p->l);
    while (!p->l.failed && p->l.at < p->l.end) {
        parse_item(p);
        qc_lex_skip(&p->l);
    }
}

qc_module *qc_module_parse(qc_ctx *ctx, const char *name, const char *text, size_t length)
{
    qc_str copy; /* numbers are read up to a NUL */
    qc_str_init(&copy, &ctx->arena);
    qc_str_add_bytes(&copy, text, length);
    parser p = {.module = qc_module_create(ctx)};
    p.l = (qc_lexer){.ctx = ctx,
        .name = name,
        .text = copy.data,
        .line_start = copy.data,
        .at = copy.data,
        .end = copy.data + length,
        .line = 1};
    qc_arena_init(&p.arena, ctx->arena.oom);
    qc_map_init(&p.values, &p.arena);
    parse_module(&p);
    qc_arena_fini(&p.arena);
    qc_str_fini(&copy);
    if (!p.l.failed)
        return p.module;
    qc_module_destroy(p.module);
    return NULL;
}
