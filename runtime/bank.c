/* SPDX-License-Identifier: MIT
 *
 * bank.c - see bank.h. Entries are found by what they are made of: the tensor's name and the ops on the way for
 * what lies in a file, else the value; for a product also its bias and element types.
 */
#include "runtime/bank.h"

#include <stdlib.h>

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "ir/experts.h"
#include "ir/support/str.h"
#include "runtime/value_kinds.h"

typedef struct entry {
    void *data;
    size_t bytes;
    bool keep; /* somebody holds a pointer to the elements */
    qc_host_linear *linear;
    qc_host_linear **linears; /* of experts, `expert_count` of them */
    size_t expert_count;
    size_t rows;
} entry;

struct qc_bank {
    qc_bank_options options;
    qc_arena arena;
    qc_map entries; /* key -> entry * */
    size_t bytes, peak_bytes;
    qc_module *experts; /* the expressions of single experts; NULL: none yet */
};

qc_bank *qc_bank_create(const qc_bank_options *options)
{
    qc_bank *bank = calloc(1, sizeof *bank);
    if (!bank) {
        qc_ctx_error(options->ctx, "", "out of memory");
        return NULL;
    }
    bank->options = *options;
    qc_arena_init(&bank->arena, qc_ctx_arena(options->ctx)->oom);
    qc_map_init(&bank->entries, &bank->arena);
    return bank;
}

void qc_bank_destroy(qc_bank *bank)
{
    if (!bank)
        return;
    for (size_t i = 0; i < bank->entries.count; i++) {
        entry *e = bank->entries.entries[i].value;
        if (!bank->options.dry)
            free(e->data);
        qc_host_linear_destroy(e->linear);
        for (size_t k = 0; k < e->expert_count; k++)
            qc_host_linear_destroy(e->linears[k]);
    }
    if (bank->experts)
        qc_module_destroy(bank->experts);
    qc_arena_fini(&bank->arena);
    free(bank);
}

size_t qc_bank_bytes(const qc_bank *bank)
{
    return bank->bytes;
}

size_t qc_bank_peak_bytes(const qc_bank *bank)
{
    return bank->peak_bytes;
}

static void count_bytes(qc_bank *bank, size_t bytes)
{
    bank->bytes += bytes;
    bank->peak_bytes = bank->bytes > bank->peak_bytes ? bank->bytes : bank->peak_bytes;
}

/* Something of a dry bank to point at. */
static const char nothing;

static bool is_stored(const qc_op *op)
{
    return op && (qc_op_is(op, "weight") || qc_op_is(op, "expert_weight"));
}

/* Elements of its one operand in another order, form or type. */
static bool is_form(const qc_op *op)
{
    return op && (qc_op_is(op, "slice") || qc_op_is(op, "transpose") || qc_op_is(op, "reshape") ||
                     qc_op_is(op, "cast"));
}

/* Is it what lies in the file, or a form of that? Such values have names. */
static bool is_named(const qc_value *value)
{
    const qc_op *op = qc_value_op(value);
    while (is_form(op))
        op = qc_value_op(qc_op_operand(op, 0));
    return is_stored(op);
}

static void name_form(qc_bank *bank, qc_str *s, const qc_op *op)
{
    static const char *const numbers[] = {"axis", "start", "stop", "step"};
    const qc_attr *perm = qc_op_attr(op, "perm");
    qc_str_addf(
        s, " %s %s", qc_op_name(op), qc_type_text(bank->options.ctx, qc_value_type(qc_op_result(op, 0))));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (qc_op_attr(op, numbers[i]))
            qc_str_addf(s, " %lld", (long long)qc_attr_as_int(qc_op_attr(op, numbers[i])));
    for (size_t i = 0; i < qc_attr_count(perm); i++)
        qc_str_addf(s, " %lld", (long long)qc_attr_as_int(qc_attr_item(perm, i)));
}

static const char *key_of(qc_bank *bank, const char *kind, const qc_value *value)
{
    const qc_op *op = qc_value_op(value);
    qc_str s;
    if (!is_named(value))
        return qc_arena_printf(&bank->arena, "%s %p", kind, (const void *)value);
    qc_str_init(&s, &bank->arena);
    qc_str_add(&s, kind);
    for (; is_form(op); op = qc_value_op(qc_op_operand(op, 0)))
        name_form(bank, &s, op);
    qc_str_addf(&s, " %s %lld %s", qc_attr_as_text(qc_op_attr(op, "tensor")),
        (long long)qc_attr_as_int(qc_op_attr(op, "index")),
        qc_type_text(bank->options.ctx, qc_value_type(qc_op_result(op, 0))));
    const char *key = qc_arena_strdup(&bank->arena, s.data);
    qc_str_fini(&s);
    return key;
}

/* The entry of that key, new ones empty. */
static entry *entry_of(qc_bank *bank, const char *key)
{
    entry *e = qc_map_get(&bank->entries, key);
    if (!e) {
        e = QC_NEW(&bank->arena, entry);
        qc_map_set(&bank->entries, key, e);
    }
    return e;
}

/* The lender's entry of what is made of these weights as they are in the file (`second` may be NULL), or NULL. Keys of
 * anything else are addresses, which mean nothing to another bank. */
static entry *lent(const qc_bank *bank, const char *key, const qc_value *first, const qc_value *second)
{
    const qc_bank *lender = bank->options.lender;
    bool named = lender && is_named(first) && (!second || is_named(second));
    return named ? qc_map_get(&lender->entries, key) : NULL;
}

static const qc_value *plain(const qc_bank *bank, const qc_value *value)
{
    return bank->options.without_codes ? qc_value_without_codes(value) : value;
}

static qc_status allocate(qc_bank *bank, entry *e, size_t bytes)
{
    e->bytes = bytes;
    e->data = bank->options.dry ? (void *)(uintptr_t)&nothing : malloc(bytes ? bytes : 1);
    if (!e->data)
        return qc_ctx_error(bank->options.ctx, "", "out of memory for %zu bytes of weights", bytes);
    count_bytes(bank, bytes);
    return QC_OK;
}

static void release(qc_bank *bank, entry *e)
{
    if (!bank->options.dry)
        free(e->data);
    e->data = NULL;
    bank->bytes -= e->bytes;
}

static qc_status evaluate(qc_bank *bank, const qc_value *value, void *data)
{
    const qc_op *op = qc_value_op(value);
    size_t bytes;
    if (bank->options.dry)
        return QC_OK;
    if (op && qc_op_is(op, "const")) {
        const qc_attr *constant = qc_op_attr(op, "value");
        if (!qc_value_size_bytes(bank->options.ctx, value, &bytes))
            return QC_ERROR;
        memcpy(data, qc_attr_data_bytes(constant), bytes);
        return QC_OK;
    }
    if (!bank->options.weights)
        return qc_ctx_error(bank->options.ctx, "", "the module has weights, but no source to read them from");
    return qc_weights_evaluate(bank->options.weights, value, data);
}

static entry *elements_of(qc_bank *bank, const qc_value *value)
{
    const char *key = key_of(bank, "elements", value);
    entry *borrowed = lent(bank, key, value, NULL), *e = entry_of(bank, key);
    size_t bytes;
    if (borrowed && borrowed->data && borrowed->keep)
        return borrowed;
    if (e->data)
        return e;
    if (!qc_value_size_bytes(bank->options.ctx, value, &bytes) || allocate(bank, e, bytes) != QC_OK)
        return NULL;
    if (evaluate(bank, value, e->data) == QC_OK)
        return e;
    release(bank, e);
    return NULL;
}

const void *qc_bank_elements(qc_bank *bank, const qc_value *value)
{
    entry *e = elements_of(bank, plain(bank, value));
    if (!e)
        return NULL;
    e->keep = true;
    return e->data;
}

const float *qc_bank_floats(qc_bank *bank, const qc_value *value)
{
    value = plain(bank, value);
    const entry *elements = elements_of(bank, value);
    entry *e = entry_of(bank, key_of(bank, "floats", value));
    int64_t count;
    if (!elements || e->data)
        return elements ? e->data : NULL;
    if (!qc_type_static_count(qc_value_type(value), &count) ||
        allocate(bank, e, (size_t)count * sizeof(float)) != QC_OK)
        return NULL;
    e->keep = true;
    if (!bank->options.dry)
        qc_decode_f32(qc_type_dtype(qc_value_type(value)), elements->data, e->data, (size_t)count);
    return e->data;
}

static bool static_dim(const qc_value *value, int index, size_t *size)
{
    const qc_dim *dim = qc_type_dim(qc_value_type(value), index);
    int64_t n;
    if (!dim || !qc_dim_as_int(dim, &n) || n < 1)
        return false;
    *size = (size_t)n;
    return true;
}

const qc_host_linear *qc_bank_linear(qc_bank *bank, const char *where, const qc_value *w,
    const qc_value *bias, qc_dtype input, qc_dtype output)
{
    qc_ctx *ctx = bank->options.ctx;
    w = plain(bank, w);
    bias = bias ? plain(bank, bias) : NULL;
    const char *key = qc_arena_printf(&bank->arena, "%s %s %d %d", key_of(bank, "linear", w),
        bias ? key_of(bank, "", bias) : "", (int)input, (int)output);
    const entry *borrowed = lent(bank, key, w, bias);
    if (borrowed && borrowed->linear)
        return borrowed->linear;
    entry *e = entry_of(bank, key);
    if (e->linear || (bank->options.dry && e->bytes))
        return bank->options.dry ? (const void *)&nothing : e->linear;
    qc_host_linear_spec spec = {.weight_dtype = qc_type_dtype(qc_value_type(w)),
        .bias_dtype = bias ? qc_type_dtype(qc_value_type(bias)) : QC_DTYPE_NONE,
        .input_dtype = input,
        .output_dtype = output};
    if (!static_dim(w, 0, &spec.out_features) || !static_dim(w, 1, &spec.in_features)) {
        qc_ctx_error(ctx, where, "the weight of a linear must have a static shape with elements");
        return NULL;
    }
    entry *elements = elements_of(bank, w), *bias_elements = bias ? elements_of(bank, bias) : NULL;
    if (!elements || (bias && !bias_elements))
        return NULL;
    spec.weight = elements->data;
    spec.bias = bias ? bias_elements->data : NULL;
    e->bytes = qc_host_linear_bytes(bank->options.engine, &spec);
    count_bytes(bank, e->bytes);
    if (!bank->options.dry)
        e->linear = qc_host_linear_create(bank->options.engine, qc_ctx_diag(ctx), where, &spec);
    if (!elements->keep)
        release(bank, elements);
    return bank->options.dry ? (const void *)&nothing : e->linear;
}

/* ---- banks of experts ---------------------------------------------------------------------------------- */

/* One expert's part of two banks (`bias` may be NULL), as values of the module of experts. */
static qc_status copy_expert(qc_bank *bank, qc_arena *arena, const qc_value *w, const qc_value *bias,
    int64_t expert, const qc_value **own_w, const qc_value **own_bias)
{
    qc_func *func = qc_module_func(bank->experts, "experts");
    if (!func)
        func = qc_module_add_func(bank->experts, "experts");
    qc_builder *b = qc_builder_at_end(func);
    qc_expert_copy copy;
    qc_expert_copy_init(&copy, arena, b, qc_bank_experts(w), expert);
    *own_w = qc_expert_copy_value(&copy, w);
    *own_bias = bias && *own_w ? qc_expert_copy_value(&copy, bias) : NULL;
    return *own_w && (!bias || *own_bias) && qc_builder_ok(b) ? QC_OK : QC_ERROR;
}

/* Prepares one expert; the buffers hold its weight and its bias for a while. */
static qc_host_linear *prepare_expert(qc_bank *bank, const char *where, qc_host_linear_spec *spec,
    const qc_value *w, const qc_value *bias, int64_t expert, void *w_data, void *bias_data)
{
    const qc_value *own_w, *own_bias;
    qc_arena arena;
    qc_arena_init(&arena, qc_ctx_arena(bank->options.ctx)->oom);
    qc_status status = copy_expert(bank, &arena, w, bias, expert, &own_w, &own_bias);
    qc_arena_fini(&arena);
    if (status != QC_OK || evaluate(bank, own_w, w_data) != QC_OK ||
        (bias && evaluate(bank, own_bias, bias_data) != QC_OK))
        return NULL;
    spec->weight = w_data;
    spec->bias = bias ? bias_data : NULL;
    return qc_host_linear_create(bank->options.engine, qc_ctx_diag(bank->options.ctx), where, spec);
}

static qc_status prepare_experts(qc_bank *bank, const char *where, qc_host_linear_spec *spec, entry *e,
    const qc_value *w, const qc_value *bias)
{
    qc_ctx *ctx = bank->options.ctx;
    size_t count = e->expert_count, bytes, bias_bytes = 0;
    if (!qc_value_size_bytes(ctx, w, &bytes) || (bias && !qc_value_size_bytes(ctx, bias, &bias_bytes)))
        return QC_ERROR;
    size_t held = bytes / count + bias_bytes / count, each = qc_host_linear_bytes(bank->options.engine, spec);
    e->bytes = each * count;
    count_bytes(bank, e->bytes + held);
    bank->bytes -= held;
    if (bank->options.dry)
        return QC_OK;
    void *w_data = malloc(bytes / count + 1), *bias_data = malloc(bias_bytes / count + 1);
    qc_status status =
        w_data && bias_data ? QC_OK : qc_ctx_error(ctx, where, "out of memory for an expert's weights");
    for (size_t i = 0; i < count && status == QC_OK; i++) {
        e->linears[i] = prepare_expert(bank, where, spec, w, bias, (int64_t)i, w_data, bias_data);
        status = e->linears[i] ? QC_OK : QC_ERROR;
    }
    free(w_data);
    free(bias_data);
    return status;
}

const qc_host_linear *const *qc_bank_expert_linears(qc_bank *bank, const char *where, const qc_module *module,
    const qc_value *w, const qc_value *bias, qc_dtype input, qc_dtype output)
{
    w = plain(bank, w);
    bias = bias ? plain(bank, bias) : NULL;
    const char *key = qc_arena_printf(&bank->arena, "%s %s %d %d", key_of(bank, "experts", w),
        bias ? key_of(bank, "", bias) : "", (int)input, (int)output);
    const entry *borrowed = lent(bank, key, w, bias);
    if (borrowed && borrowed->linears)
        return (const qc_host_linear *const *)borrowed->linears;
    entry *e = entry_of(bank, key);
    if (e->linears)
        return (const qc_host_linear *const *)e->linears;
    qc_host_linear_spec spec = {.weight_dtype = qc_type_dtype(qc_value_type(w)),
        .bias_dtype = bias ? qc_type_dtype(qc_value_type(bias)) : QC_DTYPE_NONE,
        .input_dtype = input,
        .output_dtype = output,
        .bias = bias ? &nothing : NULL};
    size_t count;
    if (!static_dim(w, 0, &count) || !static_dim(w, 1, &spec.out_features) ||
        !static_dim(w, 2, &spec.in_features)) {
        qc_ctx_error(bank->options.ctx, where, "a bank of weights must have a static shape with elements");
        return NULL;
    }
    if (!bank->experts)
        bank->experts = qc_experts_scratch(module);
    qc_host_linear **linears = QC_NEW_ARRAY(&bank->arena, qc_host_linear *, count);
    e->expert_count = count;
    e->linears = linears;
    if (prepare_experts(bank, where, &spec, e, w, bias) == QC_OK)
        return (const qc_host_linear *const *)linears;
    for (size_t i = 0; i < count; i++)
        qc_host_linear_destroy(linears[i]);
    *e = (entry){0};
    return NULL;
}

/* The rows of options.rows alone, read one by one where they stand apart. */
static qc_status read_rows(qc_bank *bank, const qc_value *value, size_t row_bytes, char *data)
{
    const qc_bank_rows *rows = bank->options.rows;
    if (!bank->options.weights)
        return qc_ctx_error(bank->options.ctx, "", "the module has weights, but no source to read them from");
    qc_weight_stream *stream = qc_weight_stream_open(bank->options.weights, value);
    qc_status status = stream ? QC_OK : QC_ERROR;
    for (size_t i = 0, run; status == QC_OK && i < rows->count; i += run) {
        for (run = 1; i + run < rows->count && rows->ids[i + run] == rows->ids[i] + (int32_t)run;)
            run++;
        status = qc_weight_stream_read(stream, rows->ids[i], (int64_t)run, data + i * row_bytes);
    }
    qc_weight_stream_close(stream);
    return status;
}

const void *qc_bank_table(qc_bank *bank, const qc_value *value, size_t *row_count)
{
    const qc_bank_rows *rows = bank->options.rows;
    size_t bytes, vocabulary;
    value = plain(bank, value);
    if (!static_dim(value, 0, &vocabulary)) {
        qc_ctx_error(bank->options.ctx, "", "an embedding table must have a static shape with elements");
        return NULL;
    }
    *row_count = rows ? rows->count : vocabulary;
    if (!rows)
        return qc_bank_elements(bank, value);
    entry *e = entry_of(bank, key_of(bank, "rows", value));
    if (e->data)
        return e->data;
    if (!qc_value_size_bytes(bank->options.ctx, value, &bytes))
        return NULL;
    size_t row_bytes = bytes / vocabulary;
    if (allocate(bank, e, row_bytes * rows->count) != QC_OK)
        return NULL;
    e->keep = true;
    if (!bank->options.dry && read_rows(bank, value, row_bytes, e->data) != QC_OK) {
        release(bank, e);
        return NULL;
    }
    return e->data;
}

void qc_bank_trim(qc_bank *bank)
{
    for (size_t i = 0; i < bank->entries.count; i++) {
        entry *e = bank->entries.entries[i].value;
        if (e->data && !e->keep)
            release(bank, e);
    }
}
