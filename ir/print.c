/* SPDX-License-Identifier: MIT
 *
 * print.c - the canonical text of a module. docs/ir.md is the grammar; print(parse(t)) == t for canonical t.
 *
 * Names: a value prints as %hint, the n-th later one of the same hint as %hint.n; unhinted values are
 * numbered. The numbers follow from the order of the text alone, so a module read back prints the same. `at`
 * blocks: an op of the current block's module prints plainly, an op of a leaf directly below it gets a
 * trailing at ".leaf"; any other op closes the block and opens that of its module (of its parent for a leaf).
 */
#include <stdlib.h>

#include "ir/dtype/codec.h"
#include "ir/ir.h"

/* ---- attributes ---------------------------------------------------------------------------------------- */

static void element_print(qc_str *out, qc_dtype dtype, const void *bytes, size_t index)
{
    switch (dtype) {
    case QC_F64: {
        double x;
        memcpy(&x, (const char *)bytes + 8 * index, 8);
        qc_str_add_f64(out, x);
        return;
    }
    case QC_I64:
    case QC_U64: {
        int64_t x;
        memcpy(&x, (const char *)bytes + 8 * index, 8);
        if (dtype == QC_I64)
            qc_str_add_int(out, x);
        else
            qc_str_addf(out, "%llu", (unsigned long long)x);
        return;
    }
    default:
        break;
    }
    float x;
    size_t bits = (size_t)qc_dtype_bits(dtype);
    if (bits < 8) {
        uint8_t code = (uint8_t)qc_code_get(bytes, (int)bits, index);
        qc_decode_f32(dtype, &code, &x, 1);
    } else if (dtype == QC_I32 || dtype == QC_U32) {
        uint32_t u;
        memcpy(&u, (const char *)bytes + 4 * index, 4);
        qc_str_add_int(out, dtype == QC_I32 ? (int64_t)(int32_t)u : (int64_t)u);
        return;
    } else {
        qc_decode_f32(dtype, (const char *)bytes + index * (bits / 8), &x, 1);
    }
    if (!qc_dtype_is_float(dtype))
        qc_str_add_int(out, (int64_t)x);
    else if (dtype == QC_BF16)
        qc_str_add_bf16(out, x);
    else if (dtype == QC_F16)
        qc_str_add_f16(out, x);
    else
        qc_str_add_f32(out, x);
}

static void word_print(qc_str *out, const char *word)
{
    if (qc_is_identifier(word))
        qc_str_add(out, word);
    else
        qc_str_add_quoted(out, word, strlen(word));
}

static void entry_print(qc_str *out, const char *key, const qc_attr *value)
{
    word_print(out, key);
    if (value->kind == QC_ATTR_BOOL && value->u.boolean)
        return; /* a true flag is its name */
    qc_str_add(out, " = ");
    qc_attr_print_to(out, value);
}

static void list_print(qc_str *out, const qc_attr *attr)
{
    bool map = attr->kind == QC_ATTR_MAP;
    qc_str_add_char(out, map ? '{' : '[');
    for (size_t i = 0; i < attr->u.list.count; i++) {
        if (i)
            qc_str_add(out, ", ");
        if (map)
            entry_print(out, attr->u.list.keys[i], attr->u.list.items[i]);
        else
            qc_attr_print_to(out, attr->u.list.items[i]);
    }
    qc_str_add_char(out, map ? '}' : ']');
}

void qc_attr_print_to(qc_str *out, const qc_attr *attr)
{
    switch (attr->kind) {
    case QC_ATTR_BOOL:
        qc_str_add(out, attr->u.boolean ? "true" : "false");
        break;
    case QC_ATTR_INT:
        qc_str_add_int(out, attr->u.integer);
        break;
    case QC_ATTR_FLOAT:
        qc_str_add_f64(out, attr->u.number);
        break;
    case QC_ATTR_STRING:
        qc_str_add_quoted(out, attr->u.text, strlen(attr->u.text));
        break;
    case QC_ATTR_WORD:
        qc_str_add(out, attr->u.text);
        break;
    case QC_ATTR_SYMBOL:
        qc_str_add_char(out, '@');
        qc_str_add(out, attr->u.text);
        break;
    case QC_ATTR_LIST:
    case QC_ATTR_MAP:
        list_print(out, attr);
        break;
    case QC_ATTR_DATA:
        qc_str_add_char(out, '[');
        for (size_t i = 0; i < attr->u.data.count; i++) {
            if (i)
                qc_str_add(out, ", ");
            element_print(out, attr->u.data.dtype, attr->u.data.bytes, i);
        }
        qc_str_add_char(out, ']');
        break;
    }
}

/* ---- operations ---------------------------------------------------------------------------------------- */

/* A type that is not there is the verifier's business; it prints the module. */
static void type_print(qc_str *out, const qc_value *value)
{
    qc_str_add(out, value && value->type ? value->type->text : "none");
}

/* The next number of a hint in this function (interned: its address identifies it). */
static uint32_t next_number(qc_map *counts, qc_arena *arena, const char *hint)
{
    uint32_t *count = qc_map_get_n(counts, (const char *)&hint, sizeof hint);
    if (!count) {
        count = QC_NEW(arena, uint32_t);
        qc_map_set_n(counts, (const char *)&hint, sizeof hint, count);
    }
    return (*count)++;
}

void qc_func_number_values(qc_func *func)
{
    qc_arena arena;
    qc_arena_init(&arena, func->module->arena.oom);
    qc_map counts;
    qc_map_init(&counts, &arena);
    uint32_t order = 0;
    for (size_t i = 0; i < func->arguments.count; i++)
        func->arguments.items[i]->number = next_number(&counts, &arena, func->arguments.items[i]->hint);
    for (qc_op *op = func->first; op; op = op->next) {
        op->order = order++;
        for (uint32_t i = 0; i < op->result_count; i++)
            op->results[i].number = next_number(&counts, &arena, op->results[i].hint);
    }
    qc_arena_fini(&arena);
}

void qc_value_print_to(qc_str *out, const qc_value *value)
{
    if (!value) {
        qc_str_add(out, "%<missing>");
        return;
    }
    qc_str_add_char(out, '%');
    if (!value->hint) {
        qc_str_add_int(out, value->number);
        return;
    }
    qc_str_add(out, value->hint);
    if (value->number) {
        qc_str_add_char(out, '.');
        qc_str_add_int(out, value->number);
    }
}

static void operands_print(qc_str *out, const qc_op *op)
{
    bool first = true;
    for (int optional = 0; optional < 2; optional++)
        for (uint32_t i = 0; i < op->operand_count; i++) {
            uint32_t row = i < (uint32_t)op->info->operand_count ? i : (uint32_t)op->info->operand_count - 1;
            const qc_operand_info *o = &op->info->operands[row];
            if (o->optional != (optional == 1) || (o->optional && !op->operands[i].value))
                continue;
            qc_str_add(out, first ? " " : ", ");
            first = false;
            if (o->optional) {
                qc_str_add(out, o->name);
                qc_str_add_char(out, '=');
            }
            qc_value_print_to(out, op->operands[i].value);
        }
}

static void attrs_print(qc_str *out, const qc_op *op)
{
    bool any = false;
    for (int i = 0; i < op->info->attr_count; i++) {
        if (!op->attrs[i] || i == op->info->positional)
            continue;
        qc_str_add(out, any ? ", " : " {");
        any = true;
        entry_print(out, op->info->attrs[i].name, op->attrs[i]);
    }
    if (any)
        qc_str_add_char(out, '}');
}

void qc_op_print_to(const qc_op *op, qc_str *out)
{
    for (uint32_t i = 0; i < op->result_count; i++) {
        qc_str_add(out, i ? ", " : "");
        qc_value_print_to(out, &op->results[i]);
    }
    qc_str_add(out, op->result_count ? " = " : "");
    qc_str_add(out, op->info->name);
    if (op->info->positional >= 0 && op->attrs[op->info->positional]) {
        qc_str_add_char(out, ' ');
        qc_attr_print_to(out, op->attrs[op->info->positional]);
    }
    operands_print(out, op);
    attrs_print(out, op);
    for (uint32_t i = 0; i < op->result_count; i++) {
        qc_str_add(out, i ? ", " : " : ");
        type_print(out, &op->results[i]);
    }
}

/* ---- functions and modules ----------------------------------------------------------------------------- */

typedef struct printer {
    qc_str *out;
    const qc_node *block;
    uint32_t line;
} printer;

static void end_line(printer *p)
{
    qc_str_add_char(p->out, '\n');
    p->line++;
}

static void close_block(printer *p)
{
    if (p->block) {
        qc_str_add(p->out, "  }");
        end_line(p);
    }
    p->block = NULL;
}

static void open_block(printer *p, const qc_node *node)
{
    close_block(p);
    qc_str_add(p->out, "  at ");
    qc_str_add_quoted(p->out, node->path, strlen(node->path));
    qc_str_add(p->out, " {");
    end_line(p);
    p->block = node;
}

static void op_line(printer *p, qc_op *op)
{
    const qc_node *node = op->node, *parent = node ? node->parent : NULL;
    bool leaf_below = node && !node->has_children && parent && *parent->path;
    const qc_node *block = leaf_below && node != p->block ? parent : node;
    if (block != p->block) {
        if (block)
            open_block(p, block);
        else
            close_block(p);
    }
    qc_str_add(p->out, p->block ? "    " : "  ");
    op->line = p->line;
    qc_op_print_to(op, p->out);
    if (node != block) {
        qc_str_add(p->out, " at ");
        const char *relative = node->path + strlen(block->path);
        qc_str_add_quoted(p->out, relative, strlen(relative));
    }
    end_line(p);
}

static void func_print(printer *p, qc_func *func)
{
    qc_func_number_values(func);
    func->line = p->line;
    qc_str_add(p->out, "func @");
    qc_str_add(p->out, func->name);
    qc_str_add_char(p->out, '(');
    for (size_t i = 0; i < func->arguments.count; i++) {
        qc_str_add(p->out, i ? ", " : "");
        qc_value_print_to(p->out, func->arguments.items[i]);
        qc_str_add(p->out, ": ");
        type_print(p->out, func->arguments.items[i]);
    }
    qc_str_add_char(p->out, ')');
    for (size_t i = 0; i < func->results.count; i++) {
        qc_str_add(p->out, i ? ", " : " -> ");
        type_print(p->out, func->results.items[i]);
    }
    qc_str_add(p->out, " {");
    end_line(p);
    for (qc_op *op = func->first; op; op = op->next)
        op_line(p, op);
    close_block(p);
    qc_str_add(p->out, "  return");
    for (size_t i = 0; i < func->results.count; i++) {
        qc_str_add(p->out, i ? ", " : " ");
        qc_value_print_to(p->out, func->results.items[i]);
    }
    end_line(p);
    qc_str_add_char(p->out, '}');
    end_line(p);
}

static void source_print(printer *p, const qc_module *module)
{
    qc_str_add(p->out, "source ");
    qc_str_add_quoted(p->out, module->source, strlen(module->source));
    if (module->shards.count) {
        qc_str_add(p->out, " {");
        end_line(p);
        for (size_t i = 0; i < module->shards.count; i++) {
            const qc_shard *s = &module->shards.items[i];
            qc_str_add(p->out, "  shard ");
            qc_str_add_quoted(p->out, s->name, strlen(s->name));
            qc_str_addf(
                p->out, " bytes %llu header \"%s\"", (unsigned long long)s->size_bytes, s->header_sha256);
            end_line(p);
        }
        qc_str_add_char(p->out, '}');
    }
    end_line(p);
}

static void node_print(printer *p, const qc_node *node)
{
    qc_str_add(p->out, "module ");
    qc_str_add_quoted(p->out, node->path, strlen(node->path));
    qc_str_add_char(p->out, ' ');
    word_print(p->out, node->class_name);
    const char *inherited = node->alias ? qc_node_inherited_alias(node) : NULL;
    if (node->alias && !(inherited && strcmp(inherited, node->alias) == 0)) {
        qc_str_add(p->out, " as ");
        qc_str_add_quoted(p->out, node->alias, strlen(node->alias));
    }
    for (size_t i = 0; i < node->tensors.count; i++) {
        qc_str_add(p->out, i ? ", " : " {");
        word_print(p->out, node->tensors.items[i]);
    }
    qc_str_add(p->out, node->tensors.count ? "}" : "");
    end_line(p);
}

void qc_module_print_to(const qc_module *module, qc_str *out)
{
    printer p = {.out = out, .line = 1};
    qc_str_add(out, "qc 1");
    end_line(&p);
    if (module->source)
        source_print(&p, module);
    for (size_t i = 0; i < module->dims.count; i++) {
        qc_str_add(out, i ? ", " : "dim ");
        qc_str_add(out, module->dims.items[i]);
    }
    if (module->dims.count)
        end_line(&p);
    for (const qc_node *n = module->first_node; n; n = n->next)
        node_print(&p, n);
    for (const qc_symbol *s = module->first_symbol; s; s = s->next) {
        qc_str_addf(out, "%s @%s ", s->kind, s->name);
        qc_attr_print_to(out, s->fields);
        end_line(&p);
    }
    for (qc_func *f = module->first_func; f; f = f->next)
        func_print(&p, f);
}

char *qc_module_print(const qc_module *module, size_t *length)
{
    qc_str out;
    qc_str_init(&out, &module->ctx->arena);
    qc_module_print_to(module, &out);
    if (length)
        *length = out.length;
    return out.data;
}

void qc_text_free(char *text)
{
    free(text);
}
