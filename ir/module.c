/* SPDX-License-Identifier: MIT
 *
 * module.c - modules: source, dimension symbols, the module tree, symbols, functions; cloning.
 */
#include "ir/ir.h"

static const char *text_copy(qc_module *module, const char *text)
{
    return qc_intern(module->ctx, text, strlen(text));
}

qc_module *qc_module_create(qc_ctx *ctx)
{
    qc_arena arena;
    qc_arena_init(&arena, ctx->arena.oom);
    qc_module *module = QC_NEW(&arena, qc_module);
    module->arena = arena;
    module->ctx = ctx;
    qc_map_init(&module->nodes, &module->arena);
    qc_map_init(&module->symbols, &module->arena);
    qc_map_init(&module->funcs, &module->arena);
    return module;
}

void qc_module_destroy(qc_module *module)
{
    if (!module)
        return;
    qc_arena arena = module->arena; /* the module lies in its own arena */
    qc_arena_fini(&arena);
}

qc_ctx *qc_module_ctx(const qc_module *module)
{
    return module->ctx;
}

void qc_module_declare_dim(qc_module *module, const char *name)
{
    name = text_copy(module, name);
    for (size_t i = 0; i < module->dims.count; i++)
        if (module->dims.items[i] == name) /* interned */
            return;
    QC_PUSH(&module->arena, &module->dims, name);
}

/* ---- source -------------------------------------------------------------------------------------------- */

const char *qc_module_source(const qc_module *module)
{
    return module->source;
}

void qc_module_set_source(qc_module *module, const char *path)
{
    module->source = text_copy(module, path);
}

void qc_module_add_shard(qc_module *module, const char *name, uint64_t size_bytes, const char *header_sha256)
{
    qc_shard shard = {text_copy(module, name), text_copy(module, header_sha256), size_bytes};
    QC_PUSH(&module->arena, &module->shards, shard);
}

size_t qc_module_shard_count(const qc_module *module)
{
    return module->shards.count;
}

const char *qc_module_shard(
    const qc_module *module, size_t index, uint64_t *size_bytes, const char **header_sha256)
{
    if (index >= module->shards.count)
        return NULL;
    *size_bytes = module->shards.items[index].size_bytes;
    *header_sha256 = module->shards.items[index].header_sha256;
    return module->shards.items[index].name;
}

/* ---- module tree --------------------------------------------------------------------------------------- */

qc_node *qc_node_find_parent(const qc_module *module, const char *path)
{
    if (!*path)
        return NULL;
    for (size_t length = strlen(path); length > 0;) {
        do
            length--;
        while (length > 0 && path[length] != '.');
        qc_node *node = qc_map_get_n(&module->nodes, path, length);
        if (node)
            return node;
    }
    return NULL;
}

const char *qc_node_inherited_alias(const qc_node *node)
{
    const qc_node *above = node->parent;
    return above && above->alias
               ? qc_arena_printf(&node->module->arena, "%s%s", above->alias, node->path + strlen(above->path))
               : NULL;
}

/* A node that is in the map of paths alone as yet; NULL, and *known, where there is one of this path. */
static qc_node *new_node(qc_module *module, const char *path, const char *class_name, qc_node **known)
{
    qc_map_entry *entry = qc_map_add_n(&module->nodes, path, strlen(path));
    *known = entry->value;
    if (entry->value)
        return NULL;
    qc_node *node = QC_NEW(&module->arena, qc_node);
    entry->value = node;
    node->module = module;
    node->path = entry->key; /* lives as long as the node */
    node->class_name = text_copy(module, class_name);
    node->parent = qc_node_find_parent(module, path);
    if (node->parent)
        node->parent->has_children = true;
    node->alias = qc_node_inherited_alias(node);
    return node;
}

qc_node *qc_module_add_node(qc_module *module, const char *path, const char *class_name)
{
    qc_node *known, *node = new_node(module, path, class_name, &known);
    if (!node)
        return known;
    *(module->last_node ? &module->last_node->next : &module->first_node) = node;
    module->last_node = node;
    return node;
}

qc_node *qc_module_insert_node(qc_module *module, qc_node *after, const char *path, const char *class_name)
{
    qc_node *known, *node = new_node(module, path, class_name, &known);
    if (!node)
        return known;
    node->next = after->next;
    after->next = node;
    if (module->last_node == after)
        module->last_node = node;
    return node;
}

void qc_node_replace(qc_node *node, const char *class_name)
{
    node->class_name = text_copy(node->module, class_name);
    node->tensors.count = 0;
}

qc_node *qc_module_find_node(const qc_module *module, const char *path)
{
    return qc_map_get(&module->nodes, path);
}

qc_node *qc_module_first_node(const qc_module *module)
{
    return module->first_node;
}

qc_node *qc_node_next(const qc_node *node)
{
    return node->next;
}

const char *qc_node_path(const qc_node *node)
{
    return node->path;
}

const char *qc_node_class(const qc_node *node)
{
    return node->class_name;
}

qc_node *qc_node_parent(const qc_node *node)
{
    return node->parent;
}

const char *qc_node_alias(const qc_node *node)
{
    return node->alias;
}

void qc_node_set_alias(qc_node *node, const char *path)
{
    const bool none = !*node->path || (strcmp(path, node->path) == 0 && !node->alias);
    if (!none && (!node->alias || strcmp(path, node->alias) != 0))
        node->alias = text_copy(node->module, path);
}

void qc_node_add_tensor(qc_node *node, const char *name)
{
    QC_PUSH(&node->module->arena, &node->tensors, text_copy(node->module, name));
}

size_t qc_node_tensor_count(const qc_node *node)
{
    return node->tensors.count;
}

const char *qc_node_tensor(const qc_node *node, size_t index)
{
    return index < node->tensors.count ? node->tensors.items[index] : NULL;
}

/* ---- symbols ------------------------------------------------------------------------------------------- */

qc_symbol *qc_module_add_symbol(qc_module *module, const char *kind, const char *name, const qc_attr *fields)
{
    if (qc_module_find_symbol(module, name))
        return NULL;
    qc_symbol *symbol = QC_NEW(&module->arena, qc_symbol);
    symbol->kind = text_copy(module, kind);
    symbol->name = text_copy(module, name);
    symbol->fields = fields;
    *(module->last_symbol ? &module->last_symbol->next : &module->first_symbol) = symbol;
    module->last_symbol = symbol;
    qc_map_set(&module->symbols, symbol->name, symbol);
    return symbol;
}

qc_symbol *qc_module_find_symbol(const qc_module *module, const char *name)
{
    return qc_map_get(&module->symbols, name);
}

qc_symbol *qc_module_first_symbol(const qc_module *module)
{
    return module->first_symbol;
}

qc_symbol *qc_symbol_next(const qc_symbol *symbol)
{
    return symbol->next;
}

const char *qc_symbol_kind(const qc_symbol *symbol)
{
    return symbol->kind;
}

const char *qc_symbol_name(const qc_symbol *symbol)
{
    return symbol->name;
}

const qc_attr *qc_symbol_fields(const qc_symbol *symbol)
{
    return symbol->fields;
}

void qc_symbol_set_fields(qc_symbol *symbol, const qc_attr *fields)
{
    symbol->fields = fields;
}

/* ---- functions ----------------------------------------------------------------------------------------- */

qc_func *qc_module_add_func(qc_module *module, const char *name)
{
    qc_func *func = QC_NEW(&module->arena, qc_func);
    func->module = module;
    func->name = text_copy(module, name);
    *(module->last_func ? &module->last_func->next : &module->first_func) = func;
    module->last_func = func;
    if (!qc_map_get(&module->funcs, func->name))
        qc_map_set(&module->funcs, func->name, func);
    return func;
}

qc_func *qc_module_func(const qc_module *module, const char *name)
{
    return qc_map_get(&module->funcs, name);
}

qc_func *qc_module_first_func(const qc_module *module)
{
    return module->first_func;
}

qc_func *qc_func_next(const qc_func *func)
{
    return func->next;
}

const char *qc_func_name(const qc_func *func)
{
    return func->name;
}

qc_module *qc_func_module(const qc_func *func)
{
    return func->module;
}

qc_value *qc_func_add_argument(qc_func *func, const char *hint, const qc_type *type)
{
    qc_value *value = QC_NEW(&func->module->arena, qc_value);
    value->type = type;
    value->func = func;
    value->index = (uint32_t)func->arguments.count;
    value->argument = true;
    qc_value_set_hint(value, hint);
    QC_PUSH(&func->module->arena, &func->arguments, value);
    return value;
}

size_t qc_func_argument_count(const qc_func *func)
{
    return func->arguments.count;
}

qc_value *qc_func_argument(const qc_func *func, size_t index)
{
    return index < func->arguments.count ? func->arguments.items[index] : NULL;
}

void qc_func_add_result(qc_func *func, qc_value *value)
{
    QC_PUSH(&func->module->arena, &func->results, value);
}

size_t qc_func_result_count(const qc_func *func)
{
    return func->results.count;
}

qc_value *qc_func_result(const qc_func *func, size_t index)
{
    return index < func->results.count ? func->results.items[index] : NULL;
}

qc_op *qc_func_first_op(const qc_func *func)
{
    return func->first;
}

qc_op *qc_func_last_op(const qc_func *func)
{
    return func->last;
}

/* ---- clone --------------------------------------------------------------------------------------------- */

static void clone_values(const qc_func *from, qc_func *func, qc_value **values)
{
    uint32_t next = 0;
    for (size_t i = 0; i < from->arguments.count; i++) {
        qc_value *argument = from->arguments.items[i];
        argument->number = next;
        values[next++] = qc_func_add_argument(func, argument->hint, argument->type);
    }
    for (qc_op *op = from->first; op; op = op->next) {
        qc_op *copy = qc_op_create(func, op->info, op->operand_count);
        copy->node = op->node ? qc_module_find_node(func->module, op->node->path) : NULL;
        copy->line = op->line;
        memcpy(copy->attrs, op->attrs, (size_t)op->info->attr_count * sizeof *copy->attrs);
        for (uint32_t i = 0; i < op->result_count; i++) {
            op->results[i].number = next;
            copy->results[i].type = op->results[i].type;
            copy->results[i].hint = op->results[i].hint;
            values[next++] = &copy->results[i];
        }
        qc_op_insert(copy, NULL);
    }
}

/* NULL for what is no value of the function (erased, poison, another function's): the verifier calls it
 * missing. */
static qc_value *cloned(const qc_func *from, qc_value *const *values, const qc_value *value)
{
    bool inside = value && value->func == from && (value->op ? value->op->linked : value->argument);
    return inside ? values[value->number] : NULL;
}

static void clone_func(const qc_func *from, qc_module *into)
{
    qc_arena arena;
    qc_arena_init(&arena, into->arena.oom);
    qc_func *func = qc_module_add_func(into, from->name);
    func->line = from->line;
    size_t count = from->arguments.count;
    for (qc_op *op = from->first; op; op = op->next)
        count += op->result_count;
    qc_value **values = QC_NEW_ARRAY(&arena, qc_value *, count);
    clone_values(from, func, values);
    qc_op *copy = func->first;
    for (qc_op *op = from->first; op; op = op->next, copy = copy->next)
        for (uint32_t i = 0; i < op->operand_count; i++)
            qc_op_set_operand(copy, i, cloned(from, values, op->operands[i].value));
    for (size_t i = 0; i < from->results.count; i++)
        qc_func_add_result(func, cloned(from, values, from->results.items[i]));
    qc_arena_fini(&arena);
}

qc_module *qc_module_clone(const qc_module *module)
{
    qc_module *copy = qc_module_create(module->ctx);
    copy->source = module->source;
    for (size_t i = 0; i < module->shards.count; i++)
        QC_PUSH(&copy->arena, &copy->shards, module->shards.items[i]);
    for (size_t i = 0; i < module->dims.count; i++)
        QC_PUSH(&copy->arena, &copy->dims, module->dims.items[i]);
    for (qc_node *n = module->first_node; n; n = n->next) {
        qc_node *node = qc_module_add_node(copy, n->path, n->class_name);
        if (n->alias)
            qc_node_set_alias(node, n->alias);
        for (size_t i = 0; i < n->tensors.count; i++)
            QC_PUSH(&copy->arena, &node->tensors, n->tensors.items[i]);
    }
    for (qc_symbol *s = module->first_symbol; s; s = s->next)
        qc_module_add_symbol(copy, s->kind, s->name, s->fields);
    for (qc_func *f = module->first_func; f; f = f->next)
        clone_func(f, copy);
    return copy;
}
