/* SPDX-License-Identifier: MIT
 *
 * parse.c - IR text to a module. docs/ir.md is the grammar. One error is reported, with file, line and
 * column; result types that can be inferred may be left out and are checked when they are there.
 */
#include "ir/lex.h"

/* A value of the function by its name, which lies in the text. */
typedef struct named_value {
    const char *name;
    uint32_t length, hash;
    qc_value *value;
} named_value;

typedef struct result_name {
    const char *at, *name;
    size_t length;
} result_name;

typedef struct parser {
    qc_lexer l;
    qc_module *module;
    qc_func *func;
    qc_node *block; /* of the at-block, or NULL */
    named_value
        *slots; /* hash table of the function's values, open addressing, three quarters full at most */
    size_t slot_count, value_count;
    qc_arena values;  /* of the slots */
    qc_arena scratch; /* of everything else */
    /* Of the op that is being read; kept to be filled again. */
    QC_VEC(result_name) results;
    QC_VEC(qc_value *) variadic;
    qc_data_list data;
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
    if (!qc_lex_expect_char(&p->l, '@') || !expect_word(p, "a name after '@'", &word, &length))
        return NULL;
    return qc_intern(p->l.ctx, word, length);
}

/* ---- values -------------------------------------------------------------------------------------------- */

static void values_clear(parser *p)
{
    qc_arena_fini(&p->values);
    p->slots = NULL;
    p->slot_count = p->value_count = 0;
}

static uint32_t name_hash(const char *name, size_t length)
{
    uint32_t hash = 2166136261u; /* FNV-1a (Fowler, Noll, Vo) */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    return hash ^ hash >> 15;
}

/* The slot that holds the name, or the empty one where it belongs; there must be one. */
static named_value *value_slot(const parser *p, const char *name, size_t length, uint32_t hash)
{
    for (size_t i = hash;; i++) {
        named_value *slot = &p->slots[i & (p->slot_count - 1)];
        if (!slot->value ||
            (slot->hash == hash && slot->length == length && !memcmp(slot->name, name, length)))
            return slot;
    }
}

static void values_grow(parser *p)
{
    named_value *old = p->slots;
    size_t old_count = p->slot_count;
    p->slot_count = old_count ? 4 * old_count : 64;
    p->slots = QC_NEW_ARRAY(&p->values, named_value, p->slot_count);
    for (size_t i = 0; i < old_count; i++)
        if (old[i].value)
            *value_slot(p, old[i].name, old[i].length, old[i].hash) = old[i];
}

static qc_value *value_use(parser *p)
{
    const char *name, *at = qc_lex_here(&p->l);
    size_t length;
    if (!qc_lex_value_name(&p->l, &name, &length))
        return NULL;
    qc_value *value = p->slot_count ? value_slot(p, name, length, name_hash(name, length))->value : NULL;
    if (!value)
        qc_lex_error(&p->l, at, "%%%.*s is not defined before this", (int)length, name);
    return value;
}

static void value_define(parser *p, const result_name *r, qc_value *value)
{
    if (4 * p->value_count >= 3 * p->slot_count)
        values_grow(p);
    uint32_t hash = name_hash(r->name, r->length);
    named_value *slot = value_slot(p, r->name, r->length, hash);
    if (slot->value) {
        qc_lex_error(&p->l, r->at, "%%%.*s is defined twice", (int)r->length, r->name);
        return;
    }
    *slot = (named_value){r->name, (uint32_t)r->length, hash, value};
    p->value_count++;
    /* The hint is the name without the number that tells it from others; a name of another form has none. */
    size_t hint = r->length;
    while (hint > 0 && r->name[hint - 1] >= '0' && r->name[hint - 1] <= '9')
        hint--;
    bool suffixed = hint > 0 && hint < r->length && r->name[hint - 1] == '.';
    hint = suffixed ? hint - 1 : r->length;
    bool good = hint > 0 && !(r->name[0] >= '0' && r->name[0] <= '9') && !memchr(r->name, '.', hint);
    value->hint = good ? qc_intern(p->l.ctx, r->name, hint) : NULL;
}

/* ---- operations ---------------------------------------------------------------------------------------- */

typedef struct op_parts {
    const qc_op_info *info;
    const char *at;         /* of the op's name */
    const char *line_start; /* of its line */
    uint32_t line;
    qc_value *operands[QC_MAX_OPERANDS];
    const qc_attr *attrs[QC_MAX_ATTRS];
    bool has_data;
    const qc_type *types[QC_MAX_RESULTS];
    size_t type_count;
    qc_node *node;
} op_parts;

static void check_attr(parser *p, const op_parts *o, int slot, const char *at)
{
    if (qc_attr_fits(o->info, slot, o->attrs[slot]))
        return;
    qc_attr_check(&p->l.ctx->diag, qc_lex_place(&p->l, at), o->info, slot, o->attrs[slot]);
    p->l.failed = true;
}

static void parse_positional_attr(parser *p, op_parts *o)
{
    int slot = o->info->positional;
    if (o->info->attrs[slot].kind == QC_ATTR_DATA) {
        o->has_data = qc_parse_data_tokens(&p->l, &p->data);
        return;
    }
    const char *at = qc_lex_here(&p->l);
    o->attrs[slot] = qc_parse_attr(&p->l);
    if (o->attrs[slot])
        check_attr(p, o, slot, at);
}

static void parse_named_operand(parser *p, op_parts *o)
{
    const char *word, *at = qc_lex_here(&p->l);
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
    if (qc_lex_expect_char(&p->l, '='))
        o->operands[slot] = value_use(p);
}

/* Is the next token the first of its line? There `at` opens a block; behind an op it names the op's own node.
 */
static bool begins_line(qc_lexer *l)
{
    const char *c = qc_lex_here(l);
    while (c > l->text && (c[-1] == ' ' || c[-1] == '\t'))
        c--;
    return c == l->text || c[-1] == '\n';
}

static bool operands_follow(parser *p, const op_parts *o)
{
    char c = qc_lex_here(&p->l) < p->l.end ? *p->l.at : '}';
    if (p->l.failed || c == '{' || c == ':' || c == '}' || begins_line(&p->l))
        return false;
    return c == '%' || (o->info->operand_count && !qc_lex_is_word(&p->l, "at"));
}

static void parse_operands(parser *p, op_parts *o)
{
    int next = 0, rows = o->info->operand_count;
    bool variadic = rows && o->info->operands[rows - 1].variadic;
    if (!operands_follow(p, o))
        return;
    do {
        const char *at = qc_lex_here(&p->l);
        if (!qc_lex_peek(&p->l, '%')) {
            parse_named_operand(p, o);
            continue;
        }
        qc_value *value = value_use(p);
        while (next < rows && o->info->operands[next].optional)
            next++;
        if (variadic && next == rows - 1)
            QC_PUSH(&p->scratch, &p->variadic, value);
        else if (next < rows)
            o->operands[next++] = value;
        else
            qc_lex_error(&p->l, at, "%s takes no further operand", o->info->name);
    } while (!p->l.failed && qc_lex_take_char(&p->l, ','));
}

static int attr_slot(const qc_op_info *info, const char *word, size_t length)
{
    for (int i = 0; i < info->attr_count; i++)
        if (!strncmp(info->attrs[i].name, word, length) && !info->attrs[i].name[length])
            return i;
    return -1;
}

static void parse_attr_entry(parser *p, op_parts *o)
{
    const char *at = qc_lex_here(&p->l), *word;
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
    const qc_attr *value = qc_lex_take_char(&p->l, '=') ? qc_parse_attr(&p->l) : qc_attr_bool(p->l.ctx, true);
    if (!value)
        return;
    if (o->info->attrs[slot].kind == QC_ATTR_FLOAT && value->kind == QC_ATTR_INT)
        value = qc_attr_float(p->l.ctx, (double)value->u.integer);
    o->attrs[slot] = value;
    check_attr(p, o, slot, at);
}

static void parse_attrs(parser *p, op_parts *o)
{
    if (!qc_lex_take_char(&p->l, '{') || qc_lex_take_char(&p->l, '}'))
        return;
    do
        parse_attr_entry(p, o);
    while (!p->l.failed && qc_lex_take_char(&p->l, ','));
    qc_lex_expect_char(&p->l, '}');
}

/* The node of a path written after `at`: whole, or ".leaf" inside a block. */
static qc_node *find_at(parser *p, const char *path, size_t length)
{
    char buffer[256];
    if (!length || *path != '.' || !p->block)
        return qc_map_get_n(&p->module->nodes, path, length);
    size_t block = strlen(p->block->path), whole = block + length;
    char *joined = whole <= sizeof buffer ? buffer : qc_arena_alloc(&p->scratch, whole);
    memcpy(joined, p->block->path, block);
    memcpy(joined + block, path, length);
    return qc_map_get_n(&p->module->nodes, joined, whole);
}

static qc_node *parse_at(parser *p)
{
    const char *at = qc_lex_here(&p->l), *path;
    size_t length;
    if (!qc_lex_string_view(&p->l, &path, &length))
        return NULL;
    qc_node *node = find_at(p, path, length);
    if (!node)
        qc_lex_error(&p->l, at, "no module line declares \"%s%.*s\"",
            length && *path == '.' && p->block ? p->block->path : "", (int)length, path);
    return node;
}

static void parse_result_types(parser *p, op_parts *o)
{
    if (!qc_lex_take_char(&p->l, ':'))
        return;
    do {
        if (o->type_count == (size_t)o->info->result_count) {
            qc_lex_error(&p->l, qc_lex_here(&p->l), "%s has no result for this type", o->info->name);
            return;
        }
        o->types[o->type_count++] = qc_parse_type(&p->l);
    } while (!p->l.failed && qc_lex_take_char(&p->l, ','));
}

static bool parts_complete(parser *p, op_parts *o)
{
    const qc_op_info *info = o->info;
    if (o->has_data && o->type_count)
        o->attrs[info->positional] = qc_parse_data_encode(&p->l, &p->data, o->types[0]->dtype);
    else if (o->has_data)
        qc_lex_error(&p->l, o->at, "%s: the result type must be written, it cannot be inferred", info->name);
    for (int i = 0; i < info->operand_count; i++)
        if (!info->operands[i].optional && !info->operands[i].variadic && !o->operands[i])
            qc_lex_error(&p->l, o->at, "%s: operand '%s' is missing", info->name, info->operands[i].name);
    for (int i = 0; i < info->attr_count; i++)
        if (info->attrs[i].required && !o->attrs[i])
            qc_lex_error(&p->l, o->at, "%s: attribute '%s' is missing", info->name, info->attrs[i].name);
    if (p->results.count != (size_t)info->result_count)
        qc_lex_error(&p->l, o->at, "%s gives %d values, %zu are named", info->name, info->result_count,
            p->results.count);
    return !p->l.failed;
}

/* Infers and checks silently first: the place of an op is only put together for an error. */
static qc_status infer(parser *p, const op_parts *o, qc_op *op, const qc_type **types)
{
    const qc_op_info *info = op->info;
    qc_diag *diag = &p->l.ctx->diag, saved = *diag;
    for (int speak = 0; speak < 2; speak++) {
        const char *where = "";
        if (speak) {
            qc_lexer then = p->l; /* the line of the op may be over by now */
            then.line = o->line;
            then.line_start = o->line_start;
            where = qc_lex_place(&then, o->at);
        }
        diag->callback = speak ? saved.callback : NULL;
        memset(types, 0, QC_MAX_RESULTS * sizeof *types);
        if (info->traits & QC_TRAIT_TYPED)
            memcpy(types, o->types, sizeof o->types);
        bool good = qc_op_infer(op, where, types) == QC_OK;
        for (uint32_t i = 0; good && i < op->result_count; i++)
            op->results[i].type = types[i];
        if (good && (!info->verify || info->verify(op, where) == QC_OK)) {
            *diag = saved;
            return QC_OK;
        }
        if (!speak)
            *diag = saved;
    }
    p->l.failed = true;
    return QC_ERROR;
}

static void make_op(parser *p, op_parts *o)
{
    const qc_op_info *info = o->info;
    bool variadic = info->operand_count && info->operands[info->operand_count - 1].variadic;
    size_t fixed = (size_t)info->operand_count - variadic;
    qc_op *op = qc_op_create(p->func, info, fixed + (variadic ? p->variadic.count : 0));
    op->line = o->line;
    op->node = o->node;
    for (size_t i = 0; i < op->operand_count; i++)
        qc_op_set_operand(op, i, i < fixed ? o->operands[i] : p->variadic.items[i - fixed]);
    for (int i = 0; i < info->attr_count; i++)
        if (o->attrs[i] && o->attrs[i] != qc_op_default_attr(p->l.ctx, info, (size_t)i))
            op->attrs[i] = o->attrs[i];
    const qc_type *types[QC_MAX_RESULTS];
    if (infer(p, o, op, types) != QC_OK)
        return;
    qc_op_insert(op, NULL);
    for (uint32_t i = 0; i < op->result_count && !p->l.failed; i++) {
        if (i < o->type_count && o->types[i] != types[i])
            qc_lex_error(&p->l, o->at, "%s: the type %s is written, its operands give %s", info->name,
                o->types[i]->text, types[i]->text);
        value_define(p, &p->results.items[i], &op->results[i]);
    }
}

static QC_COLD void unknown_op(parser *p, const char *at, const char *word, size_t length)
{
    const char **names = QC_NEW_ARRAY(&p->scratch, const char *, qc_op_info_count);
    for (size_t i = 0; i < qc_op_info_count; i++)
        names[i] = qc_op_infos[i].name;
    const char *name = qc_arena_strndup(&p->scratch, word, length),
               *near = qc_nearest_name(name, names, qc_op_info_count);
    qc_lex_error(&p->l, at, "there is no op '%s'%s%s%s", name, near ? "; did you mean '" : "",
        near ? near : "", near ? "'?" : "");
}

static void parse_result_names(parser *p)
{
    do {
        result_name r = {.at = qc_lex_here(&p->l)};
        if (!qc_lex_value_name(&p->l, &r.name, &r.length))
            return;
        QC_PUSH(&p->scratch, &p->results, r);
    } while (qc_lex_take_char(&p->l, ','));
    qc_lex_expect_char(&p->l, '=');
}

static void parse_op(parser *p)
{
    op_parts o = {0};
    p->results.count = p->variadic.count = p->data.count = 0;
    if (qc_lex_peek(&p->l, '%'))
        parse_result_names(p);
    o.at = qc_lex_here(&p->l);
    o.line = p->l.line;
    o.line_start = p->l.line_start;
    const char *word;
    size_t length;
    if (!expect_word(p, "an operation", &word, &length))
        return;
    o.info = qc_map_get_n(&p->l.ctx->ops, word, length);
    if (!o.info) {
        unknown_op(p, o.at, word, length);
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
    if (!p->l.failed && qc_lex_peek(&p->l, 'a') && !begins_line(&p->l) && qc_lex_take(&p->l, "at"))
        o.node = parse_at(p);
    if (!p->l.failed && parts_complete(p, &o))
        make_op(p, &o);
}

/* ---- functions ----------------------------------------------------------------------------------------- */

static void parse_block(parser *p)
{
    p->block = parse_at(p);
    qc_lex_expect_char(&p->l, '{');
    while (!p->l.failed && !qc_lex_take_char(&p->l, '}'))
        parse_op(p);
    p->block = NULL;
}

static void parse_arguments(parser *p)
{
    qc_lex_expect_char(&p->l, '(');
    while (!p->l.failed && !qc_lex_take_char(&p->l, ')')) {
        if (p->func->arguments.count && !qc_lex_expect_char(&p->l, ','))
            return;
        result_name r = {.at = qc_lex_here(&p->l)};
        if (!qc_lex_value_name(&p->l, &r.name, &r.length) || !qc_lex_expect_char(&p->l, ':'))
            return;
        const qc_type *type = qc_parse_type(&p->l);
        if (type)
            value_define(p, &r, qc_func_add_argument(p->func, NULL, type));
    }
}

static void parse_return(parser *p, const qc_type *const *declared, size_t count)
{
    const char *at = qc_lex_here(&p->l);
    if (qc_lex_peek(&p->l, '%'))
        do {
            const char *place = qc_lex_here(&p->l);
            qc_value *value = value_use(p);
            if (!value)
                return;
            size_t index = p->func->results.count;
            if (index < count && declared[index] != value->type)
                qc_lex_error(&p->l, place, "the function declares %s, this is %s", declared[index]->text,
                    value->type->text);
            qc_func_add_result(p->func, value);
        } while (qc_lex_take_char(&p->l, ','));
    if (!p->l.failed && p->func->results.count != count)
        qc_lex_error(
            &p->l, at, "the function declares %zu results, %zu are returned", count, p->func->results.count);
}

static void parse_func(parser *p)
{
    QC_VEC(const qc_type *) declared = {0};
    const char *at = qc_lex_here(&p->l), *name = symbol_name(p);
    if (!name)
        return;
    if (qc_module_func(p->module, name)) {
        qc_lex_error(&p->l, at, "the function @%s is defined twice", name);
        return;
    }
    values_clear(p);
    p->func = qc_module_add_func(p->module, name);
    p->func->line = p->l.line;
    parse_arguments(p);
    if (!p->l.failed && qc_lex_take(&p->l, "->"))
        do
            QC_PUSH(&p->scratch, &declared, qc_parse_type(&p->l));
        while (!p->l.failed && qc_lex_take_char(&p->l, ','));
    qc_lex_expect_char(&p->l, '{');
    while (!p->l.failed && !qc_lex_is_word(&p->l, "return")) {
        if (qc_lex_take(&p->l, "at"))
            parse_block(p);
        else if (qc_lex_peek(&p->l, '}'))
            qc_lex_expect(&p->l, "return");
        else
            parse_op(p);
    }
    if (qc_lex_take(&p->l, "return"))
        parse_return(p, declared.items, declared.count);
    qc_lex_expect_char(&p->l, '}');
}

/* ---- module lines -------------------------------------------------------------------------------------- */

static bool is_sha256(const char *text)
{
    return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

static void parse_shard(parser *p)
{
    const char *name, *hash;
    int64_t bytes;
    if (!qc_lex_expect(&p->l, "shard") || !qc_lex_string(&p->l, &name) || !qc_lex_expect(&p->l, "bytes"))
        return;
    const char *at = qc_lex_here(&p->l);
    if (qc_lex_int(&p->l, &bytes) && bytes < 0)
        qc_lex_error(&p->l, at, "the size of a shard is negative");
    if (!qc_lex_expect(&p->l, "header"))
        return;
    at = qc_lex_here(&p->l);
    if (!qc_lex_string(&p->l, &hash))
        return;
    if (!is_sha256(hash))
        qc_lex_error(&p->l, at, "the SHA-256 of a shard's header has 64 hex digits");
    qc_module_add_shard(p->module, name, (uint64_t)bytes, hash);
}

static void parse_source(parser *p)
{
    const char *at = qc_lex_here(&p->l), *text;
    if (p->module->source)
        qc_lex_error(&p->l, at, "a second source line");
    if (p->l.failed || !qc_lex_string(&p->l, &text))
        return;
    qc_module_set_source(p->module, text);
    if (qc_lex_take_char(&p->l, '{'))
        while (!p->l.failed && !qc_lex_take_char(&p->l, '}'))
            parse_shard(p);
}

static void parse_dims(parser *p)
{
    do {
        const char *word;
        size_t length;
        if (!expect_word(p, "the name of a dimension", &word, &length))
            return;
        qc_module_declare_dim(p->module, qc_intern(p->l.ctx, word, length));
    } while (qc_lex_take_char(&p->l, ','));
}

static void parse_node(parser *p)
{
    const char *at = qc_lex_here(&p->l), *path;
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
    if (qc_lex_take(&p->l, "as")) {
        const char *here = qc_lex_here(&p->l), *alias;
        if (!qc_lex_string(&p->l, &alias))
            return;
        if (!*path || !*alias)
            qc_lex_error(&p->l, here, "the root has one path alone, and nothing else has an empty one");
        else
            qc_node_set_alias(node, alias);
    }
    if (!qc_lex_take_char(&p->l, '{'))
        return;
    do {
        const char *tensor = name_text(p, "the name of a tensor");
        if (!tensor)
            return;
        qc_node_add_tensor(node, tensor);
    } while (qc_lex_take_char(&p->l, ','));
    qc_lex_expect_char(&p->l, '}');
}

static void parse_symbol(parser *p, const char *kind)
{
    const char *at = qc_lex_here(&p->l), *name = symbol_name(p);
    if (!name)
        return;
    const qc_attr *fields = qc_parse_map(&p->l);
    if (fields && !qc_module_add_symbol(p->module, kind, name, fields))
        qc_lex_error(&p->l, at, "the symbol @%s is defined twice", name);
}

static void parse_item(parser *p)
{
    static const char *const kinds[] = {"scheme", "kv_scheme", "transform", "import", "recipe"};
    if (qc_lex_take(&p->l, "module")) {
        parse_node(p);
    } else if (qc_lex_take(&p->l, "func")) {
        parse_func(p);
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
        qc_lex_error(&p->l, p->l.at,
            "expected source, dim, module, scheme, kv_scheme, transform, import, recipe or func");
    }
}

static void parse_module(parser *p)
{
    int64_t version = 0;
    if (!qc_lex_take(&p->l, "qc")) {
        qc_lex_error(&p->l, p->l.at, "not IR text: the first line must be 'qc 1'");
        return;
    }
    const char *at = qc_lex_here(&p->l);
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
    parser p = {.module = qc_module_create(ctx)};
    p.l = (qc_lexer){.ctx = ctx,
        .scratch = &p.scratch,
        .name = name,
        .text = text,
        .line_start = text,
        .at = text,
        .end = text + length,
        .line = 1};
    qc_arena_init(&p.scratch, ctx->arena.oom);
    qc_arena_init(&p.values, ctx->arena.oom);
    parse_module(&p);
    qc_arena_fini(&p.values);
    qc_arena_fini(&p.scratch);
    if (!p.l.failed)
        return p.module;
    qc_module_destroy(p.module);
    return NULL;
}
