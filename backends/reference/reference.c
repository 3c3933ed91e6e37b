/* SPDX-License-Identifier: MIT
 *
 * reference.c - see reference.h.
 *
 * Algorithm. Walk backwards from the wanted values and count the uses that needed ops make; then run the
 * needed ops in order, freeing a value when its count falls to 0. A composite op runs its decomposition as a
 * function of its own, with the same bindings of dimension symbols: its types are made of the same
 * dimensions.
 */
#include "backends/reference/reference.h"

#include <stdlib.h>

#include "ir/decompose.h"
#include "ir/eval.h"
#include "ir/ir.h"

/* Decompositions may hold composite ops; this deep and no deeper. */
#define MAX_DEPTH 8

typedef struct cache_entry {
    qc_tensor tokens;  /* [B, G, P, d], empty before the first run */
    qc_tensor pending; /* the same behind the run in progress */
} cache_entry;

struct qc_reference {
    const qc_module *module;
    qc_reference_options options;
    qc_diag *diag;
    qc_arena arena; /* names and entries of the cache */
    qc_map cache;   /* "path/slot" -> cache_entry * */
    int64_t past_length;
    qc_decomposer *decomposer;
};

typedef struct binding {
    const char *symbol;
    int64_t value;
} binding;

typedef QC_VEC(binding) bindings;

typedef struct state {
    qc_tensor tensor;
    uint32_t uses; /* still to come */
    bool borrowed;
} state;

/* One function in the course of a run. */
typedef struct frame {
    qc_reference *reference;
    const qc_func *func;
    const char *path; /* module path of the composite op that this decomposes; "" at the top */
    int depth;
    bool whole; /* all results are wanted, so effects happen */
    bindings *bound;
    qc_arena arena;   /* of the frame */
    qc_arena scratch; /* emptied after each op */
    qc_map states;    /* qc_value * -> state * */
} frame;

static state *state_of(frame *f, const qc_value *value)
{
    state *s = qc_map_get_n(&f->states, (const char *)&value, sizeof value);
    if (!s) {
        s = QC_NEW(&f->arena, state);
        qc_map_set_n(&f->states, (const char *)&value, sizeof value, s);
    }
    return s;
}

static void frame_init(frame *f, qc_reference *reference, const qc_func *func, bindings *bound)
{
    *f = (frame){.reference = reference, .func = func, .path = "", .bound = bound};
    qc_arena_init(&f->arena, reference->arena.oom);
    qc_arena_init(&f->scratch, reference->arena.oom);
    qc_map_init(&f->states, &f->arena);
}

static void frame_fini(frame *f)
{
    for (size_t i = 0; i < f->states.count; i++) {
        state *s = f->states.entries[i].value;
        if (!s->borrowed)
            qc_tensor_free(&s->tensor);
    }
    qc_arena_fini(&f->scratch);
    qc_arena_fini(&f->arena);
}

/* ---- dimensions ---------------------------------------------------------------------------------------- */

static const binding *find_binding(const bindings *bound, const char *symbol)
{
    for (size_t i = 0; i < bound->count; i++)
        if (strcmp(bound->items[i].symbol, symbol) == 0)
            return &bound->items[i];
    return NULL;
}

static qc_status dim_value(frame *f, const char *where, const qc_dim *dim, int64_t *value);

static qc_status atom_value(frame *f, const char *where, const qc_dim_atom *atom, int64_t *value)
{
    if (atom->symbol) {
        const binding *b = find_binding(f->bound, atom->symbol);
        if (!b)
            return qc_error(
                f->reference->diag, where, "nothing says how large the dimension %s is", atom->symbol);
        *value = b->value;
        return QC_OK;
    }
    if (dim_value(f, where, atom->dividend, value) != QC_OK)
        return QC_ERROR;
    int64_t quotient = *value / atom->divisor;
    *value = quotient - (*value % atom->divisor < 0);
    return QC_OK;
}

static qc_status dim_value(frame *f, const char *where, const qc_dim *dim, int64_t *value)
{
    int64_t sum = 0;

    for (uint32_t i = 0; i < dim->term_count; i++) {
        int64_t product = dim->terms[i].coefficient, factor;
        for (uint32_t j = 0; j < dim->terms[i].atom_count; j++) {
            if (atom_value(f, where, dim->terms[i].atoms[j], &factor) != QC_OK)
                return QC_ERROR;
            if (__builtin_mul_overflow(product, factor, &product))
                return qc_error(f->reference->diag, where, "dimension %s overflows", dim->text);
        }
        if (__builtin_add_overflow(sum, product, &sum))
            return qc_error(f->reference->diag, where, "dimension %s overflows", dim->text);
    }
    *value = sum;
    return QC_OK;
}

/* A lone symbol that has no value yet takes the one it stands at. */
static void bind_symbol(frame *f, const qc_dim *dim, int64_t value)
{
    if (dim->term_count != 1 || dim->terms[0].coefficient != 1 || dim->terms[0].atom_count != 1)
        return;
    const char *symbol = dim->terms[0].atoms[0]->symbol;
    if (symbol && !find_binding(f->bound, symbol))
        QC_PUSH(&f->arena, f->bound, (binding){symbol, value});
}

static qc_status take_inputs(frame *f, const qc_tensor *const *inputs, size_t count)
{
    qc_diag *diag = f->reference->diag;
    const char *where = f->func->name;

    if (count != f->func->arguments.count)
        return qc_error(diag, where, "takes %zu inputs, not %zu", f->func->arguments.count, count);
    for (size_t i = 0; i < count; i++) {
        const qc_type *type = f->func->arguments.items[i]->type;
        if (type->dtype != inputs[i]->dtype || type->rank != inputs[i]->rank)
            return qc_error(diag, where, "input %zu is %s, not %s", i, qc_tensor_text(&f->scratch, inputs[i]),
                type->text);
        for (int j = 0; j < type->rank && f->depth == 0; j++) /* a decomposition's are bound by then */
            bind_symbol(f, type->dims[j], inputs[i]->dims[j]);
    }
    for (size_t i = 0; i < count; i++) {
        const qc_type *type = f->func->arguments.items[i]->type;
        for (int j = 0; j < type->rank; j++) {
            int64_t size;
            if (dim_value(f, where, type->dims[j], &size) != QC_OK)
                return QC_ERROR;
            if (size != inputs[i]->dims[j])
                return qc_error(diag, where, "input %zu is %s, but dimension %d of %s is %lld", i,
                    qc_tensor_text(&f->scratch, inputs[i]), j, type->text, (long long)size);
        }
        state *s = state_of(f, f->func->arguments.items[i]);
        s->tensor = *inputs[i];
        s->borrowed = true;
    }
    return QC_OK;
}

/* ---- the cache ----------------------------------------------------------------------------------------- */

static qc_status append(
    void *user, qc_diag *diag, const char *module_path, const char *slot, const qc_tensor *x, qc_tensor *all)
{
    qc_reference *reference = user;
    qc_arena *arena = &reference->arena;
    const char *key = qc_arena_printf(arena, "%s/%s", module_path, slot);
    cache_entry *entry = qc_map_get(&reference->cache, key);

    if (!entry) {
        entry = QC_NEW(arena, cache_entry);
        qc_map_set(&reference->cache, key, entry);
    }
    const qc_tensor *old = &entry->tokens;
    int64_t past = reference->past_length, length = x->dims[2], size = x->dims[3];
    if (entry->pending.data)
        return qc_error(diag, key, "the function appends to this cache twice");
    if (past > 0 && (!old->data || old->dtype != x->dtype || old->dims[0] != x->dims[0] ||
                        old->dims[1] != x->dims[1] || old->dims[2] != past || old->dims[3] != size))
        return qc_error(diag, key, "the cache holds %s, which %s does not continue",
            old->data ? qc_tensor_text(arena, old) : "nothing", qc_tensor_text(arena, x));
    for (int64_t i = 0; i < x->dims[0] * x->dims[1]; i++) {
        if (past > 0)
            qc_tensor_copy(all, i * (past + length) * size, old, i * past * size, past * size);
        qc_tensor_copy(all, (i * (past + length) + past) * size, x, i * length * size, length * size);
    }
    if (qc_tensor_create(diag, key, all->dtype, all->rank, all->dims, &entry->pending) != QC_OK)
        return QC_ERROR;
    qc_tensor_copy(&entry->pending, 0, all, 0, all->count);
    return QC_OK;
}

/* After a run: what it appended counts, or is forgotten. */
static void settle_cache(qc_reference *reference, bool keep)
{
    for (size_t i = 0; i < reference->cache.count; i++) {
        cache_entry *entry = reference->cache.entries[i].value;
        if (!entry->pending.data)
            continue;
        qc_tensor_free(keep ? &entry->tokens : &entry->pending);
        if (!keep)
            continue;
        entry->tokens = entry->pending;
        entry->pending = (qc_tensor){0};
        reference->past_length = entry->tokens.dims[2];
    }
}

/* ---- running ------------------------------------------------------------------------------------------- */

static qc_status run_frame(frame *f, const qc_tensor *const *inputs, size_t input_count,
    const qc_value *const *wanted, size_t wanted_count, qc_tensor *outputs);

static bool is_needed(frame *f, const qc_op *op)
{
    if (f->whole && qc_op_has_effect(op))
        return true;
    for (uint32_t i = 0; i < op->result_count; i++)
        if (state_of(f, &op->results[i])->uses > 0)
            return true;
    return false;
}

/* Counts uses; ops stand before their users, so one walk backwards meets every user first. */
static const qc_op **needed_ops(frame *f, size_t *count)
{
    size_t total = 0;
    for (const qc_op *op = f->func->first; op; op = op->next)
        total++;
    const qc_op **ops = QC_NEW_ARRAY(&f->arena, const qc_op *, total + 1);
    size_t at = total;
    for (const qc_op *op = f->func->last; op; op = op->prev) {
        if (!is_needed(f, op))
            continue;
        ops[--at] = op;
        for (uint32_t i = 0; i < op->operand_count; i++)
            if (op->operands[i].value)
                state_of(f, op->operands[i].value)->uses++;
    }
    *count = total - at;
    return ops + at;
}

static const char *path_of(const frame *f, const qc_op *op)
{
    return op->node ? op->node->path : f->path;
}

static qc_status make_results(frame *f, const qc_op *op, qc_tensor *results)
{
    const char *where = qc_arena_printf(&f->scratch, "%s: %s", path_of(f, op), op->info->name);
    int64_t dims[QC_MAX_RANK];

    for (uint32_t i = 0; i < op->result_count; i++) {
        const qc_type *type = op->results[i].type;
        if (!type)
            return qc_error(f->reference->diag, where, "has no result type");
        for (int j = 0; j < type->rank; j++)
            if (dim_value(f, where, type->dims[j], &dims[j]) != QC_OK)
                return QC_ERROR;
        if (qc_tensor_create(f->reference->diag, where, type->dtype, type->rank, dims, &results[i]) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

static qc_status run_composite(
    frame *f, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    frame inner;
    size_t count = 0;

    if (f->depth == MAX_DEPTH)
        return qc_error(f->reference->diag, op->info->name, "is decomposed into itself");
    const qc_func *func = qc_decompose(f->reference->decomposer, op);
    if (!func)
        return QC_ERROR;
    const qc_tensor **present = QC_NEW_ARRAY(&f->scratch, const qc_tensor *, op->operand_count + 1);
    for (uint32_t i = 0; i < op->operand_count; i++)
        if (operands[i])
            present[count++] = operands[i];
    frame_init(&inner, f->reference, func, f->bound);
    inner.path = path_of(f, op);
    inner.depth = f->depth + 1;
    inner.whole = true;
    const qc_value *const *wanted = (const qc_value *const *)func->results.items;
    qc_status status = run_frame(&inner, present, count, wanted, func->results.count, results);
    frame_fini(&inner);
    return status;
}

static qc_status run_op(frame *f, const qc_op *op)
{
    qc_reference *reference = f->reference;
    const qc_tensor **operands = QC_NEW_ARRAY(&f->scratch, const qc_tensor *, op->operand_count + 1);
    qc_tensor *results = QC_NEW_ARRAY(&f->scratch, qc_tensor, op->result_count + 1);
    qc_eval eval = {.diag = reference->diag,
        .scratch = &f->scratch,
        .module = reference->module,
        .past_length = reference->past_length,
        .path = f->path,
        .user = op->info->traits & QC_TRAIT_EFFECT ? reference : reference->options.user,
        .weight = reference->options.weight,
        .cache_append = append};
    qc_status status;

    for (uint32_t i = 0; i < op->operand_count; i++)
        operands[i] = op->operands[i].value ? &state_of(f, op->operands[i].value)->tensor : NULL;
    if (op->info->decomposition) {
        status = run_composite(f, op, operands, results);
    } else {
        status = make_results(f, op, results);
        if (status == QC_OK)
            status = op->info->eval(&eval, op, operands, results);
    }
    for (uint32_t i = 0; i < op->result_count; i++) {
        state *s = state_of(f, &op->results[i]);
        s->tensor = results[i];
        if (status == QC_OK && f->depth == 0 && reference->options.observe)
            reference->options.observe(reference->options.user, &op->results[i], &s->tensor);
        if (s->uses == 0)
            qc_tensor_free(&s->tensor);
    }
    for (uint32_t i = 0; i < op->operand_count; i++) {
        state *s = op->operands[i].value ? state_of(f, op->operands[i].value) : NULL;
        if (s && --s->uses == 0 && !s->borrowed)
            qc_tensor_free(&s->tensor);
    }
    qc_arena_fini(&f->scratch);
    return status;
}

/* Moves a wanted value out, or copies it where something else still holds it. */
static qc_status give_output(frame *f, const qc_value *value, qc_tensor *output)
{
    state *s = state_of(f, value);

    if (--s->uses == 0 && !s->borrowed) {
        *output = s->tensor;
        s->tensor = (qc_tensor){0};
        return QC_OK;
    }
    if (qc_tensor_create(f->reference->diag, f->func->name, s->tensor.dtype, s->tensor.rank, s->tensor.dims,
            output) != QC_OK)
        return QC_ERROR;
    qc_tensor_copy(output, 0, &s->tensor, 0, s->tensor.count);
    return QC_OK;
}

static qc_status run_frame(frame *f, const qc_tensor *const *inputs, size_t input_count,
    const qc_value *const *wanted, size_t wanted_count, qc_tensor *outputs)
{
    size_t count;

    for (size_t i = 0; i < wanted_count; i++) {
        outputs[i] = (qc_tensor){0};
        state_of(f, wanted[i])->uses++;
    }
    if (f->whole && take_inputs(f, inputs, input_count) != QC_OK)
        return QC_ERROR;
    const qc_op **ops = needed_ops(f, &count);
    for (size_t i = 0; !f->whole && i < f->func->arguments.count; i++)
        if (state_of(f, f->func->arguments.items[i])->uses > 0)
            return qc_error(f->reference->diag, f->func->name, "the value depends on input %zu", i);
    for (size_t i = 0; i < count; i++)
        if (run_op(f, ops[i]) != QC_OK)
            return QC_ERROR;
    for (size_t i = 0; i < wanted_count; i++) {
        if (give_output(f, wanted[i], &outputs[i]) == QC_OK)
            continue;
        for (size_t j = 0; j < i; j++)
            qc_tensor_free(&outputs[j]);
        return QC_ERROR;
    }
    return QC_OK;
}

/* ---- the interface ------------------------------------------------------------------------------------- */

qc_reference *qc_reference_create(const qc_module *module, const qc_reference_options *options)
{
    qc_reference *reference = calloc(1, sizeof *reference);

    if (!reference) {
        qc_error(qc_ctx_diag(module->ctx), "", "no memory for the reference interpreter");
        return NULL;
    }
    reference->module = module;
    reference->diag = qc_ctx_diag(module->ctx);
    if (options)
        reference->options = *options;
    qc_arena_init(&reference->arena, qc_ctx_arena(module->ctx)->oom);
    qc_map_init(&reference->cache, &reference->arena);
    reference->decomposer = qc_decomposer_create(module->ctx);
    if (!reference->decomposer) {
        qc_reference_destroy(reference);
        return NULL;
    }
    return reference;
}

void qc_reference_destroy(qc_reference *reference)
{
    if (!reference)
        return;
    qc_reference_reset(reference);
    qc_decomposer_destroy(reference->decomposer);
    qc_arena_fini(&reference->arena);
    free(reference);
}

void qc_reference_reset(qc_reference *reference)
{
    for (size_t i = 0; i < reference->cache.count; i++) {
        cache_entry *entry = reference->cache.entries[i].value;
        qc_tensor_free(&entry->tokens);
        qc_tensor_free(&entry->pending);
    }
    reference->past_length = 0;
}

int64_t qc_reference_past_length(const qc_reference *reference)
{
    return reference->past_length;
}

qc_status qc_reference_run(qc_reference *reference, const qc_func *func, const qc_tensor *inputs,
    size_t input_count, qc_tensor *outputs)
{
    bindings bound = {0};
    frame f;

    frame_init(&f, reference, func, &bound);
    f.whole = true;
    QC_PUSH(&f.arena, &bound, (binding){QC_REFERENCE_PAST, reference->past_length});
    const qc_tensor **borrowed = QC_NEW_ARRAY(&f.arena, const qc_tensor *, input_count + 1);
    for (size_t i = 0; i < input_count; i++)
        borrowed[i] = &inputs[i];
    const qc_value *const *wanted = (const qc_value *const *)func->results.items;
    qc_status status = run_frame(&f, borrowed, input_count, wanted, func->results.count, outputs);
    settle_cache(reference, status == QC_OK);
    frame_fini(&f);
    return status;
}

qc_status qc_reference_evaluate(qc_reference *reference, const qc_value *value, qc_tensor *output)
{
    bindings bound = {0};
    frame f;

    frame_init(&f, reference, value->func, &bound);
    qc_status status = run_frame(&f, NULL, 0, &value, 1, output);
    frame_fini(&f);
    return status;
}
