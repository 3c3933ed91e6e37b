/* SPDX-License-Identifier: MIT
 *
 * verify.c - every invariant of a module. Runs silently first; when something is broken the module is
 * printed, so that each report names line and column of text that a person can read, and shows the line.
 */
#include <math.h>

#include "ir/dtype/codec.h"
#include "ir/dtype/hadamard.h"
#include "ir/ir.h"
#include "ir/scheme.h"
#include "op_table.h"

typedef struct verifier {
    const qc_module *module;
    qc_diag *diag;
    const char *text_name; /* NULL during the silent run */
    qc_arena arena;
    qc_str text;                /* the printed module, second run */
    QC_VEC(const char *) lines; /* where they begin in the text */
    size_t failures;
} verifier;

static qc_status report(verifier *v, uint32_t line, const char *format, ...) QC_PRINTF(3, 4);

static void print_text(verifier *v, const char *after)
{
    v->text_name = after ? qc_arena_printf(&v->arena, "<IR after %s>", after) : "<IR>";
    qc_module_print_to(v->module, &v->text);
    for (const char *at = v->text.data; at; at = strchr(at, '\n')) {
        at += at != v->text.data; /* behind the newline */
        QC_PUSH(&v->arena, &v->lines, at);
    }
}

/* Line 0 is the module as a whole. */
static const char *place(verifier *v, uint32_t line)
{
    if (!v->text_name || !line || line > v->lines.count)
        return v->text_name ? v->text_name : "";
    size_t column = strspn(v->lines.items[line - 1], " ") + 1;
    return qc_arena_printf(&v->arena, "%s:%u:%zu", v->text_name, line, column);
}

static void show_line(verifier *v, uint32_t line)
{
    if (!v->text_name || !line || line > v->lines.count)
        return;
    const char *text = v->lines.items[line - 1] + strspn(v->lines.items[line - 1], " ");
    size_t length = strcspn(text, "\n");
    qc_note(v->diag, "%.*s", (int)(length > 300 ? 300 : length), text);
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

/* ---- operations ---------------------------------------------------------------------------------------- */

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

bool qc_attr_fits(const qc_op_info *info, int slot, const qc_attr *attr)
{
    const qc_attr_info *a = &info->attrs[slot];
    if (attr->kind != a->kind)
        return false;
    if (a->values)
        return word_allowed(a->values, attr->u.text);
    return !a->is_dtype || qc_dtype_from_name(attr->u.text, strlen(attr->u.text)) != QC_DTYPE_NONE;
}

qc_status qc_attr_check(
    qc_diag *diag, const char *where, const qc_op_info *info, int slot, const qc_attr *attr)
{
    static const char *const kinds[] = {"true or false", "an integer", "a float (with a point or exponent)",
        "a string", "a word", "a @symbol", "a list", "a map", "data"};
    const qc_attr_info *a = &info->attrs[slot];
    if (qc_attr_fits(info, slot, attr))
        return QC_OK;
    if (attr->kind != a->kind)
        return qc_error(diag, where, "%s: attribute %s must be %s", info->name, a->name, kinds[a->kind]);
    if (a->values)
        return qc_error(diag, where, "%s: attribute %s must be one of %s, not %s", info->name, a->name,
            a->values, attr->u.text);
    return qc_error(
        diag, where, "%s: attribute %s: '%s' is not an element type", info->name, a->name, attr->u.text);
}

static qc_status verify_attrs(verifier *v, const qc_op *op)
{
    const qc_op_info *info = op->info;
    for (int i = 0; i < info->attr_count; i++) {
        const qc_attr *attr = op->attrs[i];
        if (!attr) {
            if (info->attrs[i].required)
                return report(v, op->line, "%s: attribute %s is missing", info->name, info->attrs[i].name);
            continue;
        }
        if (!qc_attr_fits(info, i, attr)) {
            v->failures++;
            qc_attr_check(v->diag, place(v, op->line), info, i, attr);
            show_line(v, op->line);
            return QC_ERROR;
        }
        const char *problem = qc_attr_problem(attr);
        if (problem)
            return report(v, op->line, "%s: attribute %s holds %s", info->name, info->attrs[i].name, problem);
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
    const qc_type *types[QC_MAX_RESULTS] = {0};
    for (uint32_t i = 0; i < op->result_count; i++)
        if (!op->results[i].type)
            return report(v, op->line, "%s: its result has no type", op->info->name);
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
                op->results[i].type->text, types[i]->text);
    return QC_OK;
}

static bool symbol_declared(const qc_module *module, const char *symbol)
{
    for (size_t i = 0; i < module->dims.count; i++)
        if (module->dims.items[i] == symbol) /* both interned */
            return true;
    return false;
}

static bool dim_declared(const qc_module *module, const qc_dim *dim)
{
    for (uint32_t i = 0; i < dim->term_count; i++)
        for (uint32_t j = 0; j < dim->terms[i].atom_count; j++) {
            const qc_dim_atom *atom = dim->terms[i].atoms[j];
            if (atom->symbol ? !symbol_declared(module, atom->symbol) : !dim_declared(module, atom->dividend))
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

static void verify_op(verifier *v, qc_op *op)
{
    if (op->node && op->node->module != op->func->module)
        report(v, op->line, "%s: its module-tree node belongs to another module", op->info->name);
    else if (verify_operands(v, op) == QC_OK && verify_attrs(v, op) == QC_OK && verify_types(v, op) == QC_OK)
        for (uint32_t i = 0; i < op->result_count; i++)
            verify_dims(v, op->results[i].type, op->line);
}

/* Two appends to one cache would each see the other's tokens. */
static void verify_cache(verifier *v, qc_map *caches, qc_op *op)
{
    const char *slot = qc_attr_as_text(qc_op_attr(op, "slot"));
    const char *path = op->node ? op->node->path : "";
    if (!qc_map_set(caches, qc_arena_printf(&v->arena, "%s %s", slot, path), op))
        report(v, op->line, "%s: a second one to the cache %s of \"%s\"", op->info->name, slot, path);
}

static void verify_func(verifier *v, qc_func *func)
{
    uint32_t order = 1;
    qc_map caches; /* module path and slot */
    qc_map_init(&caches, &v->arena);
    if (!qc_is_identifier(func->name))
        report(v, func->line, "the function name '%s' is no identifier", func->name);
    if (qc_module_func(v->module, func->name) != func)
        report(v, func->line, "a second function @%s", func->name);
    for (qc_op *op = func->first; op; op = op->next)
        op->order = order++;
    for (size_t i = 0; i < func->arguments.count; i++)
        if (func->arguments.items[i]->type)
            verify_dims(v, func->arguments.items[i]->type, func->line);
        else
            report(v, func->line, "argument %zu of @%s has no type", i, func->name);
    for (qc_op *op = func->first; op; op = op->next) {
        verify_op(v, op);
        if (op->info->op == QC_OP_CACHE_APPEND || op->info->op == QC_OP_CACHE_WRITE)
            verify_cache(v, &caches, op);
    }
    for (size_t i = 0; i < func->results.count; i++) {
        const qc_value *value = func->results.items[i];
        if (!value || value->func != func || !value->type || (value->op && !value->op->linked))
            report(v, func->line, "result %zu of @%s is not a value of the function", i, func->name);
    }
}

/* ---- modules ------------------------------------------------------------------------------------------- */

/* What is known of the fields of a scheme and of its parts, all optional. */
typedef struct scheme_field {
    const char *name;
    qc_attr_kind kind;
    const char *text; /* of the kind */
} scheme_field;

static const scheme_field scheme_fields[] = {{"arith", QC_ATTR_WORD, "a word"},
    {"targets", QC_ATTR_LIST, "a list of strings"}, {"ignore", QC_ATTR_LIST, "a list of strings"},
    {"input", QC_ATTR_MAP, "a map"}, {"weights", QC_ATTR_MAP, "a map"},
    {"format", QC_ATTR_STRING, "a string"}, {"name", QC_ATTR_STRING, "a string"}};
static const scheme_field part_fields[] = {{"type", QC_ATTR_WORD, "a word"},
    {"granularity", QC_ATTR_WORD, "a word"}, {"observer", QC_ATTR_WORD, "a word"},
    {"symmetric", QC_ATTR_BOOL, "true or false"}, {"dynamic", QC_ATTR_BOOL, "true or false"},
    {"global", QC_ATTR_BOOL, "true or false"}, {"group", QC_ATTR_INT, "an integer"},
    {"block", QC_ATTR_LIST, "a list of integers"}, {"scale", QC_ATTR_WORD, "a word"},
    {"zero_point", QC_ATTR_WORD, "a word"}, {"actorder", QC_ATTR_WORD, "a word"},
    {"observer_args", QC_ATTR_MAP, "a map"}};

static bool field_fits(const scheme_field *field, const qc_attr *value)
{
    if (value->kind != field->kind)
        return false;
    qc_attr_kind item = strstr(field->text, "integers") ? QC_ATTR_INT : QC_ATTR_STRING;
    for (size_t i = 0; value->kind == QC_ATTR_LIST && i < value->u.list.count; i++)
        if (value->u.list.items[i]->kind != item)
            return false;
    return true;
}

static void verify_fields(verifier *v, const qc_symbol *s, const char *part, const qc_attr *map,
    const scheme_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const qc_attr *value = qc_attr_find(map, fields[i].name);
        if (value && !field_fits(&fields[i], value))
            report(v, 0, "symbol @%s: field %s%s must be %s", s->name, part, fields[i].name, fields[i].text);
    }
}

static void verify_scheme(verifier *v, const qc_symbol *s)
{
    verify_fields(v, s, "", s->fields, scheme_fields, sizeof scheme_fields / sizeof *scheme_fields);
    static const char *const parts[] = {"input", "weights"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const char *prefix = qc_arena_printf(&v->arena, "%s.", parts[i]);
        verify_fields(v, s, prefix, qc_attr_find(s->fields, parts[i]), part_fields,
            sizeof part_fields / sizeof *part_fields);
    }
}

static void verify_symbol(verifier *v, const qc_symbol *s)
{
    const bool scheme = strcmp(s->kind, "scheme") == 0 || strcmp(s->kind, "kv_scheme") == 0;
    if (!scheme && strcmp(s->kind, "transform") != 0 && strcmp(s->kind, "import") != 0 &&
        strcmp(s->kind, "recipe") != 0)
        report(v, 0, "symbol @%s is of the unknown kind '%s'", s->name, s->kind);
    if (!qc_is_identifier(s->name))
        report(v, 0, "the symbol name '%s' is no identifier", s->name);
    if (!s->fields || s->fields->kind != QC_ATTR_MAP) {
        report(v, 0, "symbol @%s: its fields are no map", s->name);
        return;
    }
    for (size_t i = 0; i < s->fields->u.list.count; i++) {
        const char *problem = qc_attr_problem(s->fields->u.list.items[i]);
        if (problem) {
            report(v, 0, "symbol @%s: field %s holds %s", s->name, s->fields->u.list.keys[i], problem);
            return;
        }
    }
    if (scheme)
        verify_scheme(v, s);
}

static void verify_module(verifier *v)
{
    const qc_module *module = v->module;
    for (size_t i = 0; i < module->dims.count; i++)
        if (!qc_is_identifier(module->dims.items[i]))
            report(v, 0, "the dimension name '%s' is no identifier", module->dims.items[i]);
    if (module->shards.count && !module->source)
        report(v, 0, "shards without a source");
    for (const qc_node *n = module->first_node; n; n = n->next)
        if (n->parent != qc_node_find_parent(module, n->path))
            report(v, 0, "the module \"%s\" stands before one that it is inside of", n->path);
    for (const qc_symbol *s = module->first_symbol; s; s = s->next)
        verify_symbol(v, s);
    for (qc_func *f = module->first_func; f; f = f->next)
        verify_func(v, f);
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
    qc_arena_init(&v.arena, module->ctx->arena.oom);
    diag->callback = ignore;
    verify_module(&v);
    *diag = saved;
    if (v.failures) {
        qc_str_init(&v.text, &v.arena);
        print_text(&v, after);
        verify_module(&v);
        qc_str_fini(&v.text);
    }
    qc_arena_fini(&v.arena);
    return v.failures ? QC_ERROR : QC_OK;
}

/* ---- hooks --------------------------------------------------------------------------------------------- */

#define FAIL(...) return qc_error(&op->func->module->ctx->diag, where, __VA_ARGS__)

qc_status qc_verify_weight(const qc_op *op, const char *where)
{
    int64_t count;
    if (!qc_type_static_count(op->results[0].type, &count))
        FAIL("weight: the shape %s must be static", op->results[0].type->text);
    if (qc_attr_as_int(qc_op_attr(op, "index")) < -1)
        FAIL("weight: index must be -1 for the whole tensor, or a number from 0 on");
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
    if (count > 65536)
        FAIL("const: %lld elements; more than 65,536 belong into a weight", (long long)count);
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

static qc_status verify_window(const qc_op *op, const char *where)
{
    if (qc_attr_as_int(qc_op_attr(op, "window")) < 0)
        FAIL("%s: window must not be negative", op->info->name);
    if (qc_attr_as_int(qc_op_attr(op, "chunk")) < 0)
        FAIL("%s: chunk must not be negative", op->info->name);
    return QC_OK;
}

qc_status qc_verify_scale(const qc_op *op, const char *where, const qc_value *scale, const char *name)
{
    const qc_attr *data =
        scale && scale->op && scale->op->info->op == QC_OP_CONST ? qc_op_attr(scale->op, "value") : NULL;
    for (size_t i = 0; i < qc_attr_count(data); i++) {
        qc_dtype dtype = qc_attr_data_dtype(data);
        size_t bits = (size_t)qc_dtype_bits(dtype);
        float value = 0;
        if (bits % 8 || !qc_dtype_is_float(dtype))
            FAIL("%s: %s is of %s, which no scale can be", op->info->name, name, qc_dtype_name(dtype));
        qc_decode_f32(dtype, (const char *)qc_attr_data_bytes(data) + i * (bits / 8), &value, 1);
        if (!(value > 0) || !isfinite(value))
            FAIL("%s: element %zu of %s is %g; scales are positive and finite", op->info->name, i, name,
                (double)value);
    }
    return QC_OK;
}

/* The codes of probabilities: exponentials lie in [0, 1]. */
static qc_status verify_probs(const qc_op *op, const char *where)
{
    const char *name = qc_attr_as_text(qc_op_attr(op, "probs_codes"));
    double scale = qc_attr_as_float(qc_op_attr(op, "probs_scale"));
    qc_dtype codes = qc_dtype_from_name(name, strlen(name));
    const qc_grid grid = qc_grid_of(codes);
    if (!name[0])
        return QC_OK;
    if (codes != QC_F8E4M3 && codes != QC_F8E5M2 && codes != QC_I8)
        FAIL("%s: probs_codes must be f8e4m3, f8e5m2 or i8", op->info->name);
    if (!(scale * (double)grid.max > 1 - 1e-6) || !isfinite(scale)) /* 1.0 / 127 in f32 is below 1 / 127 */
        FAIL("%s: under probs_scale %g a probability of 1 is beyond %s", op->info->name, scale, name);
    return QC_OK;
}

qc_status qc_verify_attention(const qc_op *op, const char *where)
{
    static const char *const scales[] = {"q_scale", "k_scale", "v_scale", "q_global", "k_global", "v_global"};
    for (size_t i = 0; i < 6; i++)
        if (qc_verify_scale(op, where, qc_op_operand(op, i + 3), scales[i]) != QC_OK)
            return QC_ERROR;
    if (!isfinite(qc_attr_as_float(qc_op_attr(op, "scale"))))
        FAIL("%s: scale must be finite", op->info->name);
    if (qc_attr_as_int(qc_op_attr(op, "window")) > 0 && !qc_attr_as_bool(qc_op_attr(op, "causal")))
        FAIL("%s: a window needs causal", op->info->name);
    double softcap = qc_attr_as_float(qc_op_attr(op, "softcap"));
    if (!(softcap >= 0) || !isfinite(softcap))
        FAIL("%s: softcap must be finite and not negative", op->info->name);
    const qc_value *sinks = qc_op_operand_named(op, "sinks");
    const qc_type *q = op->operands[0].value->type;
    if (sinks && (sinks->type->rank != 1 || sinks->type->dims[0] != q->dims[1]))
        FAIL("%s: sinks %s must be one for each head of q %s", op->info->name, sinks->type->text, q->text);
    return verify_window(op, where) != QC_OK ? QC_ERROR : verify_probs(op, where);
}

qc_status qc_verify_quantized_attention(const qc_op *op, const char *where)
{
    return qc_verify_attention(op, where);
}

qc_status qc_verify_attention_mask(const qc_op *op, const char *where)
{
    if (op->operands[0].value->type->rank != 4)
        FAIL("attention_mask: x must be [B, heads, S, P + S], not %s", op->operands[0].value->type->text);
    return verify_window(op, where);
}

qc_status qc_verify_softmax(const qc_op *op, const char *where)
{
    if (op->operands[0].value->type->rank < 1)
        FAIL("softmax: x has no dimension to sum over");
    return QC_OK;
}

qc_status qc_verify_rmsnorm(const qc_op *op, const char *where)
{
    const qc_type *x = op->operands[0].value->type, *w = op->operands[1].value->type;
    if (x->rank < 1 || w->rank != 1 || w->dims[0] != x->dims[x->rank - 1])
        FAIL("rmsnorm: w %s must have the size of the last dimension of x %s", w->text, x->text);
    double eps = qc_attr_as_float(qc_op_attr(op, "eps"));
    if (!(eps >= 0) || !isfinite(eps))
        FAIL("rmsnorm: eps must be finite and not negative");
    if (!isfinite(qc_attr_as_float(qc_op_attr(op, "offset"))))
        FAIL("rmsnorm: offset must be finite");
    return QC_OK;
}

/* Does the last dimension split in halves? */
static bool has_halves(const qc_type *x)
{
    int64_t size;
    return x->rank > 0 && qc_dim_as_int(x->dims[x->rank - 1], &size) && size % 2 == 0;
}

qc_status qc_verify_rotate_half(const qc_op *op, const char *where)
{
    if (!has_halves(op->operands[0].value->type))
        FAIL("rotate_half: the last dimension of %s is not even", op->operands[0].value->type->text);
    return QC_OK;
}

static qc_status verify_theta(const qc_op *op, const char *where)
{
    double theta = qc_attr_as_float(qc_op_attr(op, "theta"));
    if (!(theta > 0) || !isfinite(theta))
        FAIL("%s: theta must be positive", op->info->name);
    return QC_OK;
}

qc_status qc_verify_rope_cos(const qc_op *op, const char *where)
{
    return verify_theta(op, where);
}

qc_status qc_verify_rope_sin(const qc_op *op, const char *where)
{
    return verify_theta(op, where);
}

qc_status qc_verify_rope(const qc_op *op, const char *where)
{
    const qc_type *x = op->operands[0].value->type, *pos = op->operands[1].value->type;
    const char *tables = qc_attr_as_text(qc_op_attr(op, "tables"));
    if (x->rank != 4 || !has_halves(x))
        FAIL("rope: x must be [B, heads, S, d] with d even, not %s", x->text);
    if (pos->rank != 2 || pos->dims[0] != x->dims[0] || pos->dims[1] != x->dims[2])
        FAIL("rope: pos %s does not fit x %s", pos->text, x->text);
    if (!qc_dtype_is_float(qc_dtype_from_name(tables, strlen(tables))))
        FAIL("rope: tables must be a float type");
    int64_t dims = qc_attr_as_int(qc_op_attr(op, "dims")), size;
    if (dims < 0 || dims % 2 || (dims && (!qc_dim_as_int(x->dims[3], &size) || dims >= size)))
        FAIL("rope: dims must be 0 for all columns, or even and less than those of x %s, not %lld", x->text,
            (long long)dims);
    return verify_theta(op, where);
}

qc_status qc_verify_hadamard(const qc_op *op, const char *where)
{
    int64_t size = qc_attr_as_int(qc_op_attr(op, "size")), axis = qc_attr_as_int(qc_op_attr(op, "axis")),
            along;
    int64_t drawn = qc_attr_as_int(qc_op_attr(op, "drawn"));
    const qc_type *x = op->operands[0].value->type;
    if (!qc_hadamard_size_known(size))
        FAIL("hadamard: no matrix of size %lld is known: K * 2^m, K a multiple of 4 up to 256, 2 or 1",
            (long long)size);
    if (axis < -1 || axis > 1)
        FAIL("hadamard: axis must be -1, 0 or 1");
    if (drawn < 0 || drawn > QC_HADAMARD_MAX_DRAWN)
        FAIL("hadamard: drawn must be from 0 to %lld", (long long)QC_HADAMARD_MAX_DRAWN);
    if (axis == 0 && x->rank != 1 && x->rank != 2)
        FAIL("hadamard: axis 0 is for weights [rows, columns] and biases, not %s", x->text);
    if (axis == 1 && x->rank != 3)
        FAIL("hadamard: axis 1 is for banks [experts, rows, columns], not %s", x->text);
    if (x->rank < 1 || !qc_dim_as_int(x->dims[axis < 0 ? x->rank - 1 : axis], &along) || along % size)
        FAIL("hadamard: the %s dimension of %s is not a multiple of %lld",
            axis == 0   ? "first"
            : axis == 1 ? "second"
                        : "last",
            x->text, (long long)size);
    return QC_OK;
}

qc_status qc_verify_fill(const qc_op *op, const char *where)
{
    const qc_type *y = op->results[0].type;
    int64_t count;
    if (!qc_dtype_is_float(y->dtype) || qc_dtype_bits(y->dtype) < 16 || !qc_type_static_count(y, &count))
        FAIL("fill: the result must be bf16, f16 or f32 of a static shape, not %s", y->text);
    if (!isfinite(qc_attr_as_float(qc_op_attr(op, "value"))))
        FAIL("fill: value must be finite");
    return QC_OK;
}

/* A cache [B, G, P+S, d] of what is x [B, G, S, d], in element type `stored`. */
static qc_status verify_cache_type(const qc_op *op, const char *where, qc_dtype stored)
{
    qc_ctx *ctx = op->func->module->ctx;
    const qc_type *x = op->operands[0].value->type, *y = op->results[0].type;
    if (!op->node)
        FAIL("%s: the cache is named by its module, but the op has none", op->info->name);
    if (x->rank != 4 || y->rank != 4 || stored != y->dtype || x->dims[0] != y->dims[0] ||
        x->dims[1] != y->dims[1] || x->dims[3] != y->dims[3] ||
        qc_dim_sub(ctx, y->dims[2], x->dims[2]) != qc_dim_symbol(ctx, "P"))
        FAIL("%s: %s must be %s%s with P more along dimension 2", op->info->name, y->text, x->text,
            stored == x->dtype ? "" : " in the type of the codes");
    return QC_OK;
}

qc_status qc_verify_cache_append(const qc_op *op, const char *where)
{
    return verify_cache_type(op, where, op->operands[0].value->type->dtype);
}

qc_status qc_verify_cache_write(const qc_op *op, const char *where)
{
    const qc_type *x = op->operands[0].value->type;
    const qc_value *scale = op->operands[1].value, *global = op->operands[2].value;
    qc_dtype stored = x->dtype;
    int64_t group = 0;
    if (qc_attr_as_int(qc_op_attr(op, "page")) < 1)
        FAIL("cache_write: a page holds at least 1 token");
    if ((scale != NULL) != (qc_op_attr(op, "scheme") != NULL))
        FAIL("cache_write: scale and scheme go together");
    if (scale) {
        qc_scheme_part part;
        if (qc_scheme_read(&op->func->module->ctx->diag, where, op->func->module,
                qc_attr_as_text(qc_op_attr(op, "scheme")), qc_attr_as_text(qc_op_attr(op, "arg")),
                &part) != QC_OK)
            return QC_ERROR;
        stored = part.type;
        group = part.group_elems;
        if (part.global != (global != NULL) || !part.symmetric)
            FAIL("cache_write: @%s %s", qc_attr_as_text(qc_op_attr(op, "scheme")),
                !part.symmetric ? "has zero points, which a cache does not hold"
                : part.global   ? "needs a global scale"
                                : "knows no global scale");
        if (!qc_scale_fits(op->func->module->ctx, x, scale->type, group))
            FAIL("cache_write: scale %s does not fit %s", scale->type->text, x->text);
        if (qc_verify_scale(op, where, scale, "scale") != QC_OK ||
            qc_verify_scale(op, where, global, "global") != QC_OK)
            return QC_ERROR;
    }
    return verify_cache_type(op, where, stored);
}
