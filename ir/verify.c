/* SPDX-License-Identifier: MIT
 *
 * verify.c - every invariant of a module. Runs silently first; when something is broken the module is
 * printed, so that each report names line and column of text that a person can read, and shows the line.
 */
#include "ir/ir.h"
#include "op_table.h"

typedef struct verifier {
    const qc_module *module;
    qc_diag *diag;
    const char *text_name; /* NULL during the silent run */
    qc_str text;           /* the printed module, second run */
    size_t failures;
} verifier;

static qc_status report(verifier *v, uint32_t line, const char *format, ...) QC_PRINTF(3, 4);

static const char *line_text(const verifier *v, uint32_t line, size_t *length)
{
    const char *at = v->text.data;
    for (uint32_t i = 1; i < line && at; i++) {
        at = strchr(at, '\n');
        at = at ? at + 1 : NULL;
    }
    *length = at ? strcspn(at, "\n") : 0;
    return at;
}

static const char *place(verifier *v, uint32_t line)
{
    if (!v->text_name)
        return "";
    size_t length;
    const char *text = line_text(v, line, &length);
    size_t column = text ? strspn(text, " ") + 1 : 1;
    return qc_arena_printf(&v->module->ctx->scratch, "%s:%u:%zu", v->text_name, line, column);
}

static void show_line(verifier *v, uint32_t line)
{
    size_t length;
    const char *text = v->text_name ? line_text(v, line, &length) : NULL;
    if (text) {
        size_t blank = strspn(text, " ");
        qc_note(v->diag, "%.*s", (int)(length - blank > 300 ? 300 : length - blank), text + blank);
    }
}

static qc_status report(verifier *v, uint32_t line, const char *format, ...)
{
    v->failures++;
    va_list args;
    va_start(args, format);
    qc_diag_report(v->diag, QC_SEVERITY_ERROR, place(v, line), format, args);
    va_end(args);
    show_line(v, line);
    return QC_ERROR;
}

static bool word_allowed(const char *values, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = values; at; at = strchr(at, '|')) {
        at += *at == '|';
        if (!strncmp(at, word, length) && (at[length] == '|' || !at[length]))
            return true;
    }
    return false;
}

qc_status qc_attr_check(
    qc_diag *diag, const char *where, const qc_op_info *info, int slot, const qc_attr *attr)
{
    const qc_attr_info *a = &info->attrs[slot];
    bool float_from_int = a->kind == QC_ATTR_FLOAT && attr->kind == QC_ATTR_INT;
    if (attr->kind != a->kind || float_from_int) {
        static const char *const kinds[] = {"true or false", "an integer",
            "a float (with a point or exponent)", "a string", "a word", "a @symbol", "a list", "a map",
            "data"};
        return qc_error(diag, where, "%s: attribute %s must be %s", info->name, a->name, kinds[a->kind]);
    }
    if (a->values && !word_allowed(a->values, attr->u.text))
        return qc_error(diag, where, "%s: attribute %s must be one of %s, not %s", info->name, a->name,
            a->values, attr->u.text);
    if (a->is_dtype && qc_dtype_from_name(attr->u.text, strlen(attr->u.text)) == QC_DTYPE_NONE)
        return qc_error(
            diag, where, "%s: attribute %s: '%s' is not an element type", info->name, a->name, attr->u.text);
    return QC_OK;
}

static qc_status verify_attrs(verifier *v, const qc_op *op)
{
    for (int i = 0; i < op->info->attr_count; i++) {
        if (!op->attrs[i]) {
            if (op->info->attrs[i].required)
                return report(
                    v, op->line, "%s: attribute %s is missing", op->info->name, op->info->attrs[i].name);
            continue;
        }
        if (qc_attr_check(v->diag, place(v, op->line), op->info, i, op->attrs[i]) != QC_OK) {
            v->failures++;
            show_line(v, op->line);
            return QC_ERROR;
        }
    }
    return QC_OK;
}

static qc_status verify_operands(verifier *v, const qc_op *op)
{
    const qc_op_info *info = op->info;
    bool variadic = info->operand_count && info->operands[info->operand_count - 1].variadic;
    if (!variadic && op->operand_count != (uint32_t)info->operand_count)
        return report(
            v, op->line, "%s: %u operands instead of %d", info->name, op->operand_count, info->operand_count);
    for (uint32_t i = 0; i < op->operand_count; i++) {
        const qc_value *value = op->operands[i].value;
        uint32_t row = i < (uint32_t)info->operand_count ? i : (uint32_t)info->operand_count - 1;
        const char *name = info->operands[row].name;
        if (!value) {
            if (!info->operands[row].optional)
                return report(v, op->line, "%s: operand %s is missing", info->name, name);
            continue;
        }
        if (value->func != op->func)
            return report(v, op->line, "%s: operand %s belongs to another function", info->name, name);
        if (!value->type)
            return report(v, op->line, "%s: operand %s has no type", info->name, name);
        if (value->op && !value->op->linked)
            return report(v, op->line, "%s: operand %s was erased", info->name, name);
        if (value->op && value->op->order >= op->order)
            return report(v, op->line, "%s: operand %s is used before it is defined", info->name, name);
    }
    return QC_OK;
}

static qc_status verify_types(verifier *v, qc_op *op)
{
    const qc_type *types[4] = {0};
    if (op->info->traits & QC_TRAIT_TYPED)
        for (uint32_t i = 0; i < op->result_count; i++)
            types[i] = op->results[i].type;
    if (qc_op_infer(op, place(v, op->line), types) != QC_OK ||
        (op->info->verify && op->info->verify(op, place(v, op->line)) != QC_OK)) {
        v->failures++;
        show_line(v, op->line);
        return QC_ERROR;
    }
    for (uint32_t i = 0; i < op->result_count; i++)
        if (types[i] != op->results[i].type)
            return report(v, op->line, "%s: result type is %s, its operands give %s", op->info->name,
                op->results[i].type ? op->results[i].type->text : "none", types[i]->text);
    return QC_OK;
}

static bool dim_declared(const qc_module *module, const qc_dim *dim)
{
    for (uint32_t i = 0; i < dim->term_count; i++)
        for (uint32_t j = 0; j < dim->terms[i].atom_count; j++) {
            const qc_dim_atom *atom = dim->terms[i].atoms[j];
            if (!atom->symbol) {
                if (!dim_declared(module, atom->dividend))
                    return false;
                continue;
            }
            size_t k = 0;
            while (k < module->dims.count && strcmp(module->dims.items[k], atom->symbol) != 0)
                k++;
            if (k == module->dims.count)
                return false;
        }
    return true;
}

static qc_status verify_dims(verifier *v, const qc_type *type, uint32_t line)
{
    for (int i = 0; type && i < type->rank; i++)
        if (!dim_declared(v->module, type->dims[i]))
            return report(
                v, line, "dimension '%s' uses a symbol that no dim line declares", type->dims[i]->text);
    return QC_OK;
}

static void verify_func(verifier *v, qc_func *func)
{
    uint32_t order = 1;
    for (qc_op *op = func->first; op; op = op->next)
        op->order = order++;
    for (size_t i = 0; i < func->arguments.count; i++)
        verify_dims(v, func->arguments.items[i]->type, func->line);
    for (qc_op *op = func->first; op; op = op->next) {
        if (op->node && op->node->module != func->module) {
            report(v, op->line, "%s: its module-tree node belongs to another module", op->info->name);
            continue;
        }
        if (verify_operands(v, op) == QC_OK && verify_attrs(v, op) == QC_OK && verify_types(v, op) == QC_OK)
            for (uint32_t i = 0; i < op->result_count; i++)
                verify_dims(v, op->results[i].type, op->line);
    }
    for (size_t i = 0; i < func->results.count; i++) {
        const qc_value *value = func->results.items[i];
        if (value->func != func || !value->type || (value->op && !value->op->linked))
            report(v, func->line, "result %zu of @%s is not a value of the function", i, func->name);
    }
}

static void ignore(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user, (void)severity, (void)where, (void)what;
}

qc_status qc_module_verify(const qc_module *module, const char *after)
{
    qc_diag *diag = &module->ctx->diag;
    qc_diag saved = *diag;
    verifier v = {.module = module, .diag = diag};
    diag->callback = ignore;
    for (qc_func *f = module->first_func; f; f = f->next)
        verify_func(&v, f);
    *diag = saved;
    if (!v.failures)
        return QC_OK;
    qc_str_init(&v.text, &module->ctx->arena);
    qc_module_print_to(module, &v.text);
    v.text_name = after ? qc_arena_printf(&module->ctx->scratch, "<IR after %s>", after) : "<IR>";
    for (qc_func *f = module->first_func; f; f = f->next)
        verify_func(&v, f);
    qc_str_fini(&v.text);
    return QC_ERROR;
}

/* ---- hooks
 * --------------------------------------------------------------------------------------------------- */

#define FAIL(...) return qc_error(&op->func->module->ctx->diag, where, __VA_ARGS__)

qc_status qc_verify_weight(const qc_op *op, const char *where)
{
    int64_t count;
    if (!qc_type_static_count(op->results[0].type, &count))
        FAIL("weight: the shape %s must be static", op->results[0].type->text);
    return QC_OK;
}

qc_status qc_verify_const(const qc_op *op, const char *where)
{
    const qc_attr *data = qc_op_attr(op, "value");
    const qc_type *type = op->results[0].type;
    int64_t count;
    if (!qc_type_static_count(type, &count) || (size_t)count != qc_attr_count(data))
        FAIL("const: %zu elements for the type %s", qc_attr_count(data), type->text);
    if (qc_attr_data_dtype(data) != type->dtype)
        FAIL("const: elements of %s for the type %s", qc_dtype_name(qc_attr_data_dtype(data)), type->text);
    if (count > 1024)
        FAIL("const: %lld elements; more than 1,024 belong into a weight", (long long)count);
    return QC_OK;
}

qc_status qc_verify_reshape(const qc_op *op, const char *where)
{
    qc_ctx *ctx = op->func->module->ctx;
    const qc_type *x = op->operands[0].value->type, *y = op->results[0].type;
    const qc_dim *a = qc_dim_int(ctx, 1), *b = a;
    for (int i = 0; i < x->rank; i++)
        a = qc_dim_mul(ctx, a, x->dims[i]);
    for (int i = 0; i < y->rank; i++)
        b = qc_dim_mul(ctx, b, y->dims[i]);
    if (!a || a != b || x->dtype != y->dtype)
        FAIL("reshape: %s has not the elements of %s", y->text, x->text);
    return QC_OK;
}

qc_status qc_verify_attention(const qc_op *op, const char *where)
{
    if (qc_attr_as_int(qc_op_attr(op, "window")) < 0)
        FAIL("attention: window must not be negative");
    if (qc_attr_as_int(qc_op_attr(op, "window")) > 0 && !qc_attr_as_bool(qc_op_attr(op, "causal")))
        FAIL("attention: a window needs causal");
    return QC_OK;
}

qc_status qc_verify_hadamard(const qc_op *op, const char *where)
{
    int64_t size = qc_attr_as_int(qc_op_attr(op, "size")), last;
    const qc_type *x = op->operands[0].value->type;
    if (size < 1 || (size & (size - 1)))
        FAIL("hadamard: size %lld is not a power of two", (long long)size);
    if (x->rank < 1 || !qc_dim_as_int(x->dims[x->rank - 1], &last) || last % size)
        FAIL("hadamard: the last dimension of %s is not a multiple of %lld", x->text, (long long)size);
    return QC_OK;
}

qc_status qc_verify_cache_append(const qc_op *op, const char *where)
{
    qc_ctx *ctx = op->func->module->ctx;
    const qc_type *x = op->operands[0].value->type, *y = op->results[0].type;
    if (!op->node)
        FAIL("cache_append: the cache is named by its module, but the op has none");
    if (x->rank != 4 || y->rank != 4 || x->dtype != y->dtype || x->dims[0] != y->dims[0] ||
        x->dims[1] != y->dims[1] || x->dims[3] != y->dims[3] ||
        qc_dim_sub(ctx, y->dims[2], x->dims[2]) != qc_dim_symbol(ctx, "P"))
        FAIL("cache_append: %s must be %s with P more along dimension 2", y->text, x->text);
    return QC_OK;
}

static qc_status verify_scheme_symbol(const qc_op *op, const char *where)
{
    const char *name = qc_attr_as_text(qc_op_attr(op, "scheme"));
    const qc_symbol *symbol = qc_module_find_symbol(op->func->module, name);
    if (!symbol || (strcmp(symbol->kind, "scheme") != 0 && strcmp(symbol->kind, "kv_scheme") != 0))
        FAIL("%s: @%s is not a scheme", op->info->name, name);
    return QC_OK;
}

qc_status qc_verify_qparams(const qc_op *op, const char *where)
{
    return verify_scheme_symbol(op, where);
}

qc_status qc_verify_quantize(const qc_op *op, const char *where)
{
    return verify_scheme_symbol(op, where);
}
