/* SPDX-License-Identifier: MIT
 *
 * decompose.c - see decompose.h. The text made from an op determines its decomposition, so it is the key of
 * the cache.
 */
#include <stdlib.h>

#include "ir/decompose.h"
#include "ir/ir.h"

struct qc_decomposer {
    qc_ctx *ctx;
    qc_arena arena;
    qc_map modules; /* text -> qc_module * */
};

typedef struct writer {
    const qc_op *op;
    qc_arena *arena;
    qc_str text;
    qc_map names; /* name in the table -> name in the text, where the two differ or a line has defined it */
} writer;

static qc_status fail(writer *w, const char *what, const char *line)
{
    return qc_error(
        qc_ctx_diag(w->op->func->module->ctx), w->op->info->name, "%s in its decomposition: %s", what, line);
}

static const qc_type *operand_type(const qc_op *op, const char *name)
{
    const qc_value *value = qc_op_operand_named(op, name);
    return value ? value->type : NULL;
}

static size_t word_length(const char *text)
{
    size_t length = 0;
    while ((text[length] >= 'a' && text[length] <= 'z') || (text[length] >= 'A' && text[length] <= 'Z') ||
           (text[length] >= '0' && text[length] <= '9') || text[length] == '_')
        length++;
    return length;
}

/* Is operand or attribute `name` there, and neither false nor 0? With a word: is the attribute that word? */
static bool present(const qc_op *op, const char *name, const char *word)
{
    const qc_attr *attr;

    if (qc_op_operand_slot(op->info, name) >= 0)
        return qc_op_operand_named(op, name) != NULL;
    attr = qc_op_attr(op, name);
    if (word)
        return strcmp(qc_attr_as_text(attr), word) == 0;
    switch (attr ? attr->kind : QC_ATTR_BOOL) {
    case QC_ATTR_BOOL:
        return qc_attr_as_bool(attr);
    case QC_ATTR_INT:
    case QC_ATTR_FLOAT:
        return qc_attr_as_float(attr) < 0 || qc_attr_as_float(attr) > 0;
    default:
        return true;
    }
}

/* ${dtype:x}, ${dim:x:i}, ${group:q:k}; what is none of these is an attribute. False when it is not to be
 * had. */
static bool write_fact(writer *w, char *field)
{
    char *first = strchr(field, ':'), *second = first ? strchr(first + 1, ':') : NULL;

    if (!first)
        return false;
    *first++ = 0;
    if (second)
        *second++ = 0;
    const qc_type *type = operand_type(w->op, first);
    if (!type)
        return false;
    if (strcmp(field, "dtype") == 0) {
        qc_str_add(&w->text, qc_dtype_name(type->dtype));
        return true;
    }
    if (strcmp(field, "dim") == 0 && second) {
        const qc_dim *dim = qc_type_dim(type, atoi(second));
        if (dim)
            qc_str_add(&w->text, dim->text);
        return dim != NULL;
    }
    if (strcmp(field, "group") == 0 && second) {
        const qc_type *other = operand_type(w->op, second);
        int64_t heads, groups;
        if (!other || !qc_dim_as_int(qc_type_dim(type, 1), &heads) ||
            !qc_dim_as_int(qc_type_dim(other, 1), &groups) || groups < 1 || heads % groups != 0)
            return false;
        qc_str_add_int(&w->text, heads / groups);
        return true;
    }
    return false;
}

/* Takes `key = ` off the end of the text, and the comma before it. */
static void drop_item(writer *w, const char **at)
{
    while (w->text.length > 0 && w->text.data[w->text.length - 1] != '{' &&
           w->text.data[w->text.length - 1] != ',')
        w->text.length--;
    if (w->text.length > 0 && w->text.data[w->text.length - 1] == ',')
        w->text.length--;
    else if ((*at)[0] == ',')
        *at += (*at)[1] == ' ' ? 2 : 1;
    w->text.data[w->text.length] = 0;
}

static qc_status write_field(writer *w, const char **at, const char *line)
{
    const char *end = strchr(*at, '}');
    if (!end)
        return fail(w, "'${' without '}'", line);
    char *field = qc_arena_strndup(w->arena, *at, (size_t)(end - *at));
    *at = end + 1;
    if (strchr(field, ':'))
        return write_fact(w, field) ? QC_OK
                                    : fail(w, "a type or dimension that the operands do not have", line);
    if (qc_op_attr_slot(w->op->info, field) < 0)
        return fail(w, "an unknown attribute", line);
    const qc_attr *attr = qc_op_attr(w->op, field);
    if (attr)
        qc_attr_print_to(&w->text, attr);
    else
        drop_item(w, at);
    return QC_OK;
}

/* The right side of a line: values by their current names, fields filled in. */
static qc_status write_body(writer *w, const char *body, const char *line)
{
    for (const char *at = body; *at;) {
        if (*at == '%') {
            size_t length = word_length(at + 1);
            const char *name = qc_map_get_n(&w->names, at + 1, length);
            if (!name)
                return fail(w, "a value that is not defined", line);
            qc_str_add_char(&w->text, '%');
            qc_str_add(&w->text, name);
            at += 1 + length;
        } else if (at[0] == '$' && at[1] == '{') {
            at += 2;
            if (write_field(w, &at, line) != QC_OK)
                return QC_ERROR;
        } else {
            qc_str_add_char(&w->text, *at++);
        }
    }
    if (qc_ends_with(w->text.data, " {}")) {
        w->text.length -= 3;
        w->text.data[w->text.length] = 0;
    }
    return QC_OK;
}

static qc_status write_line(writer *w, const char *line)
{
    const char *at = line;

    while (*at == '?' || *at == '!') {
        size_t length = word_length(at + 1);
        const char *name = qc_arena_strndup(w->arena, at + 1, length);
        if (qc_op_operand_slot(w->op->info, name) < 0 && qc_op_attr_slot(w->op->info, name) < 0)
            return fail(w, "a condition on what the op does not have", line);
        const char *next = at + 1 + length, *word = NULL;
        if (*next == '=' && word_length(next + 1)) {
            word = qc_arena_strndup(w->arena, next + 1, word_length(next + 1));
            next += 1 + strlen(word);
        }
        if (present(w->op, name, word) != (*at == '?'))
            return QC_OK;
        at = next;
        at += strspn(at, " ");
    }
    size_t length = *at == '%' ? word_length(at + 1) : 0;
    const char *equals = at + 1 + length + (length ? strspn(at + 1 + length, " ") : 0);
    if (length == 0 || *equals != '=')
        return fail(w, "a line that defines no value", line);
    /* a second value of the same name gets another name in the text */
    char *name = qc_arena_strndup(w->arena, at + 1, length), *unique = name;
    for (int i = 2; qc_map_get(&w->names, unique); i++)
        unique = qc_arena_printf(w->arena, "%s_%d", name, i);
    qc_str_addf(&w->text, "  %%%s =", unique);
    if (write_body(w, equals + 1, line) != QC_OK)
        return QC_ERROR;
    qc_str_add_char(&w->text, '\n');
    qc_map_set(&w->names, name, unique);
    if (unique != name)
        qc_map_set(&w->names, unique, unique);
    return QC_OK;
}

static void write_head(writer *w)
{
    const qc_op *op = w->op;
    const qc_module *module = op->func->module;
    bool any = false;

    qc_str_add(&w->text, "qc 1\n");
    for (size_t i = 0; i < module->dims.count; i++)
        qc_str_addf(&w->text, "%s%s", i ? ", " : "dim ", module->dims.items[i]);
    qc_str_addf(&w->text, "%sfunc @%s(", module->dims.count ? "\n" : "", op->info->name);
    for (uint32_t i = 0; i < op->operand_count; i++) {
        const char *name = op->info->operands[i].name;
        const qc_value *value = op->operands[i].value;
        if (!value)
            continue;
        qc_str_addf(&w->text, "%s%%%s: %s", any ? ", " : "", name, value->type->text);
        qc_map_set(&w->names, name, (void *)name);
        any = true;
    }
    qc_str_add(&w->text, ") -> ");
    for (uint32_t i = 0; i < op->result_count; i++)
        qc_str_addf(&w->text, "%s%s", i ? ", " : "", op->results[i].type->text);
    qc_str_add(&w->text, " {\n");
}

static qc_status write_text(writer *w)
{
    const qc_op *op = w->op;

    write_head(w);
    for (const char *at = op->info->decomposition; *at;) {
        size_t length = strcspn(at, "\n"), blank = strspn(at, " ");
        if (blank < length) {
            const char *line = qc_arena_strndup(w->arena, at + blank, length - blank);
            if (write_line(w, line) != QC_OK)
                return QC_ERROR;
        }
        at += length + (at[length] == '\n');
    }
    qc_str_add(&w->text, "  return ");
    for (uint32_t i = 0; i < op->result_count; i++) {
        const char *name = qc_map_get(&w->names, op->info->results[i]);
        if (!name)
            return fail(w, "no definition of the result", op->info->results[i]);
        qc_str_addf(&w->text, "%s%%%s", i ? ", " : "", name);
    }
    qc_str_add(&w->text, "\n}\n");
    return QC_OK;
}

const char *qc_decomposition_text(qc_arena *arena, const qc_op *op)
{
    writer w = {.op = op, .arena = arena};
    const char *text = NULL;

    if (!op->info->decomposition) {
        qc_error(qc_ctx_diag(op->func->module->ctx), op->info->name, "is no composite op");
        return NULL;
    }
    for (uint32_t i = 0; i < op->operand_count + op->result_count; i++) {
        const qc_value *value =
            i < op->operand_count ? op->operands[i].value : &op->results[i - op->operand_count];
        if (value && !value->type) {
            qc_error(qc_ctx_diag(op->func->module->ctx), op->info->name, "has a value without a type");
            return NULL;
        }
    }
    qc_str_init(&w.text, arena);
    qc_map_init(&w.names, arena);
    if (write_text(&w) == QC_OK)
        text = qc_arena_strdup(arena, w.text.data);
    qc_str_fini(&w.text);
    return text;
}

qc_decomposer *qc_decomposer_create(qc_ctx *ctx)
{
    qc_decomposer *d = calloc(1, sizeof *d);

    if (!d) {
        qc_error(qc_ctx_diag(ctx), "", "no memory for decompositions");
        return NULL;
    }
    d->ctx = ctx;
    qc_arena_init(&d->arena, qc_ctx_arena(ctx)->oom);
    qc_map_init(&d->modules, &d->arena);
    return d;
}

void qc_decomposer_destroy(qc_decomposer *decomposer)
{
    if (!decomposer)
        return;
    for (size_t i = 0; i < decomposer->modules.count; i++)
        qc_module_destroy(decomposer->modules.entries[i].value);
    qc_arena_fini(&decomposer->arena);
    free(decomposer);
}

const qc_func *qc_decompose(qc_decomposer *decomposer, const qc_op *op)
{
    qc_arena scratch;
    qc_module *module = NULL;

    qc_arena_init(&scratch, decomposer->arena.oom);
    const char *text = qc_decomposition_text(&scratch, op);
    if (text) {
        module = qc_map_get(&decomposer->modules, text);
        if (!module) {
            const char *name = qc_arena_printf(&decomposer->arena, "decomposition of %s", op->info->name);
            module = qc_module_parse(decomposer->ctx, name, text, strlen(text));
            if (module)
                qc_map_set(&decomposer->modules, text, module);
        }
    }
    qc_arena_fini(&scratch);
    return module ? qc_module_first_func(module) : NULL;
}
