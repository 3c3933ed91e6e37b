/* SPDX-License-Identifier: MIT
 *
 * qk_error.c - see qk_error.h. The base model's plan gives q and k of every layer; a recipe's plan begins with these values
 * and ends with the numbers that its codes stand for, so nothing of a recipe is computed here in another way than where it
 * runs. The difference of scores is one product, [q', -q] [k', k]^T.
 */
#include "runtime/compare/qk_error.h"

#include <stdlib.h>

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "passes/quant.h"
#include "qc/build.h"
#include "runtime/compare/source.h"
#include "runtime/executor_internal.h"

/* Queries and keys of all layers, as a plan takes or gives them: q, k of layer 0, q, k of layer 1, ... */
typedef struct probe {
    const char *name;
    qc_module *module; /* a copy, with `dequantize` where attention reads codes */
    const qc_value **from, **to;
    qc_value_kinds kinds;
    qc_bank *bank;
    qc_plan *plan;
    qc_worker worker;
    bool has_worker;
} probe;

typedef struct layer {
    size_t heads, kv_heads, size;
    qc_qk_mask mask;
} layer;

typedef struct measurement {
    qc_ctx *ctx;
    qc_arena *arena;
    const qc_qk_options *options;
    qc_host_engine *engine;
    qc_weights *weights;
    qc_rope_tables *rope;
    qc_decomposer *decomposer;
    layer *layers;
    size_t layer_count;
    probe base, *probes; /* one a recipe */
    size_t count;
    float *x, *w, *scores; /* of one head: [tokens, 2 size] each, [tokens, tokens] */
    double *denominators;  /* [layers, heads of the widest] of a sequence */
    size_t widest;
} measurement;

double qc_qk_row_square(const float *scores, size_t row, size_t keys, const qc_qk_mask *mask)
{
    size_t end = mask->causal ? row + 1 : keys, chunk = mask->chunk;
    size_t first = mask->window && row + 1 > mask->window ? row + 1 - mask->window : 0;
    double sum = 0, squares = 0;
    if (chunk && row / chunk * chunk > first)
        first = row / chunk * chunk;
    if (chunk && end - row / chunk * chunk > chunk)
        end = row / chunk * chunk + chunk;
    for (size_t j = first; j < end; j++) {
        sum += (double)scores[j];
        squares += (double)scores[j] * (double)scores[j];
    }
    double rest = end > first ? squares - sum * sum / (double)(end - first) : 0;
    return rest > 0 ? rest : 0;
}

/* ---- probes -------------------------------------------------------------------------------------------- */

static const qc_op *next_attention(const qc_op *op)
{
    while (op && !qc_op_is_attention(op))
        op = qc_op_next(op);
    return op;
}

static size_t dim_of(const qc_value *value, int index)
{
    const qc_dim *dim = qc_type_dim(qc_value_type(value), index);
    int64_t n;
    return dim && qc_dim_as_int(dim, &n) && n > 0 ? (size_t)n : 0;
}

static layer layer_of(const qc_op *op)
{
    const qc_value *q = qc_op_operand_named(op, "q");
    int64_t window = qc_attr_as_int(qc_op_attr(op, "window")),
            chunk = qc_attr_as_int(qc_op_attr(op, "chunk"));
    return (layer){.heads = dim_of(q, 1),
        .kv_heads = dim_of(qc_op_operand_named(op, "k"), 1),
        .size = dim_of(q, 3),
        .mask = {.causal = qc_attr_as_bool(qc_op_attr(op, "causal")),
            .window = window > 0 ? (size_t)window : 0,
            .chunk = chunk > 0 ? (size_t)chunk : 0}};
}

/* What the cache was given, where the value comes out of one. */
static qc_value *before_cache(qc_value *value)
{
    const qc_op *cache = qc_quant_cache_of(value);
    return cache ? qc_op_operand(cache, 0) : value;
}

static const char *name_of(qc_arena *arena, const char *part, const char *suffix)
{
    return qc_arena_printf(arena, "%s_%s", part, suffix);
}

/* The numbers that attention computes with, of the tokens of this run. */
static qc_value *read_part(measurement *m, qc_op *op, const char *part)
{
    qc_value *codes = before_cache(qc_op_operand_named(op, part));
    qc_value *scale = before_cache(qc_op_operand_named(op, name_of(m->arena, part, "scale")));
    if (!scale)
        return codes;
    qc_builder *b = qc_builder_before(op);
    qc_make(b, "dequantize");
    qc_make_operand(b, "x", codes);
    qc_make_operand(b, "scale", scale);
    qc_make_operand(b, "global", qc_op_operand_named(op, name_of(m->arena, part, "global")));
    qc_make_attr(b, "to", qc_op_attr(op, "probs"));
    qc_make_attr(b, "group", qc_op_attr(op, name_of(m->arena, part, "group")));
    qc_value *value = qc_make_end(b, part);
    return qc_builder_ok(b) ? value : NULL;
}

static qc_status add_part(measurement *m, probe *p, qc_op *op, size_t index, const char *part)
{
    qc_source source = qc_source_find(qc_op_operand_named(op, part));
    p->from[index] = source.value;
    p->to[index] = read_part(m, op, part);
    const qc_type *type = p->to[index] ? qc_value_type(p->to[index]) : NULL;
    if (!type)
        return QC_ERROR;
    if (qc_type_rank(type) != 4 || qc_type_dim(type, 2) != qc_dim_symbol(m->ctx, "S"))
        return qc_ctx_error(m->ctx, p->name, "%s of attention is not what this run's tokens give", part);
    return QC_OK;
}

/* *coded: does an attention read codes of q or k? */
static qc_status open_probe(measurement *m, probe *p, const char *name, const qc_module *module, bool *coded)
{
    size_t at = 0;
    p->name = name;
    p->module = qc_module_clone(module);
    *coded = false;
    qc_func *func = qc_module_func(p->module, "main");
    for (const qc_op *op = next_attention(qc_func_first_op(func)); op; op = next_attention(qc_op_next(op)))
        at++;
    if (at != m->layer_count)
        return qc_ctx_error(m->ctx, name, "has %zu attention ops, the model %zu", at, m->layer_count);
    p->from = QC_NEW_ARRAY(m->arena, const qc_value *, 2 * at + 1);
    p->to = QC_NEW_ARRAY(m->arena, const qc_value *, 2 * at + 1);
    qc_op *op = qc_func_first_op(func);
    for (size_t i = 0; i < m->layer_count; op = qc_op_next(op)) {
        if (!qc_op_is_attention(op))
            continue;
        layer l = layer_of(op), *known = &m->layers[i];
        if (l.heads != known->heads || l.kv_heads != known->kv_heads || l.size != known->size)
            return qc_ctx_error(m->ctx, name, "the heads of attention %zu differ from the model's", i);
        if (add_part(m, p, op, 2 * i, "q") != QC_OK || add_part(m, p, op, 2 * i + 1, "k") != QC_OK)
            return QC_ERROR;
        *coded |= qc_op_operand_named(op, "q_scale") || qc_op_operand_named(op, "k_scale");
        i++;
    }
    return QC_OK;
}

/* `given`: q and k come from outside. */
static qc_status plan_probe(measurement *m, probe *p, bool given)
{
    const qc_func *func = qc_module_func(p->module, "main");
    qc_value_kinds_init(&p->kinds, m->arena);
    qc_value_kinds_add(&p->kinds, func);
    p->bank = qc_bank_create(&(qc_bank_options){.ctx = m->ctx,
        .engine = m->engine,
        .weights = m->weights,
        .lender = m->options->lender ? m->options->lender->bank : NULL});
    if (!p->bank)
        return QC_ERROR;
    qc_plan_env env = {.ctx = m->ctx,
        .module = p->module,
        .engine = m->engine,
        .bank = p->bank,
        .rope = m->rope,
        .decomposer = m->decomposer,
        .kinds = &p->kinds};
    p->plan = qc_plan_create(&env, &(qc_plan_request){.func = func,
                                       .inputs = p->from,
                                       .input_count = given ? 2 * m->layer_count : 0,
                                       .outputs = given ? p->to : p->from,
                                       .output_count = 2 * m->layer_count});
    if (!p->plan)
        return QC_ERROR;
    qc_worker_init(&p->worker, m->ctx);
    p->has_worker = true;
    return QC_OK;
}

static void close_probe(probe *p)
{
    if (p->has_worker)
        qc_worker_fini(&p->worker);
    qc_plan_destroy(p->plan);
    qc_bank_destroy(p->bank);
    if (p->module)
        qc_module_destroy(p->module);
}

/* Where each q and k lies until the probe's next run. */
static qc_status run_probe(
    measurement *m, probe *p, const qc_sequence *sequence, const void *const *inputs, const void **outputs)
{
    qc_run run = {.plan = p->plan,
        .worker = &p->worker,
        .ids = sequence->ids,
        .tokens = sequence->count,
        .inputs = inputs,
        .outputs = outputs};
    return qc_plan_run(&run) == QC_OK ? QC_OK : qc_worker_report(&p->worker, m->ctx);
}

/* ---- errors -------------------------------------------------------------------------------------------- */

/* Column block `block` of two: values of a head, times `sign`. */
static void put(const measurement *m, const probe *p, size_t output, const void *data, size_t tokens,
    size_t heads, size_t head, size_t size, float sign, float *to, size_t block)
{
    qc_dtype dtype = qc_plan_output_dtype(p->plan, output);
    size_t bytes = (size_t)qc_dtype_bits(dtype) / 8;
    (void)m;
    for (size_t t = 0; t < tokens; t++) {
        float *row = to + t * 2 * size + block * size;
        qc_decode_f32(dtype, (const char *)data + (t * heads + head) * size * bytes, row, size);
        for (size_t c = 0; c < size; c++)
            row[c] *= sign;
    }
}

/* Scores x w^T of one head, [tokens, tokens]; `columns` of the 2 size are read. */
static qc_status multiply(measurement *m, size_t tokens, size_t columns, size_t stride)
{
    qc_diag *diag = qc_ctx_diag(m->ctx);
    qc_host_linear_spec spec = {.out_features = tokens,
        .in_features = columns,
        .weight_dtype = QC_F32,
        .weight = m->w,
        .weight_stride = stride,
        .input_dtype = QC_F32,
        .output_dtype = QC_F32};
    qc_host_linear *linear = qc_host_linear_create(m->engine, diag, "q k^T", &spec);
    if (!linear)
        return QC_ERROR;
    qc_status status =
        qc_host_linear_run(linear, diag, m->x, stride, m->scores, 0, tokens, (qc_host_sequences){0});
    qc_host_linear_destroy(linear);
    return status;
}

static double sum_of_rows(const measurement *m, const layer *l, size_t tokens)
{
    double sum = 0;
    for (size_t i = 0; i < tokens; i++)
        sum += qc_qk_row_square(m->scores + i * tokens, i, tokens, &l->mask);
    return sum;
}

static qc_status measure_base(measurement *m, const void *const *outputs, size_t tokens)
{
    for (size_t i = 0; i < m->layer_count; i++) {
        const layer *l = &m->layers[i];
        for (size_t h = 0; h < l->heads; h++) {
            put(m, &m->base, 2 * i, outputs[2 * i], tokens, l->heads, h, l->size, 1, m->x, 0);
            put(m, &m->base, 2 * i + 1, outputs[2 * i + 1], tokens, l->kv_heads, h / (l->heads / l->kv_heads),
                l->size, 1, m->w, 0);
            if (multiply(m, tokens, l->size, 2 * l->size) != QC_OK)
                return QC_ERROR;
            m->denominators[i * m->widest + h] = sum_of_rows(m, l, tokens);
        }
    }
    return QC_OK;
}

/* One recipe on one sequence. */
static qc_status measure_recipe(measurement *m, probe *p, const qc_sequence *sequence,
    const void *const *base, const void **outputs, qc_qk_error *result)
{
    double total = 0;
    size_t heads = 0, tokens = sequence->count;
    if (run_probe(m, p, sequence, base, outputs) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < m->layer_count; i++) {
        const layer *l = &m->layers[i];
        double sum = 0;
        size_t counted = 0;
        for (size_t h = 0; h < l->heads; h++) {
            size_t g = h / (l->heads / l->kv_heads);
            double denominator = m->denominators[i * m->widest + h];
            if (!(denominator > 0))
                continue;
            put(m, p, 2 * i, outputs[2 * i], tokens, l->heads, h, l->size, 1, m->x, 0);
            put(m, &m->base, 2 * i, base[2 * i], tokens, l->heads, h, l->size, -1, m->x, 1);
            put(m, p, 2 * i + 1, outputs[2 * i + 1], tokens, l->kv_heads, g, l->size, 1, m->w, 0);
            put(m, &m->base, 2 * i + 1, base[2 * i + 1], tokens, l->kv_heads, g, l->size, 1, m->w, 1);
            if (multiply(m, tokens, 2 * l->size, 2 * l->size) != QC_OK)
                return QC_ERROR;
            sum += sum_of_rows(m, l, tokens) / denominator;
            counted++;
        }
        total += sum;
        heads += counted;
        result->by_layer[i] += counted ? sum / (double)counted : 0;
    }
    if (heads)
        qc_mean_add(&result->error, total / (double)heads);
    return QC_OK;
}

/* ---- the run ------------------------------------------------------------------------------------------- */

static qc_status find_layers(measurement *m, const qc_module *base)
{
    const qc_func *func = qc_module_func(base, "main");
    for (const qc_op *op = next_attention(qc_func_first_op(func)); op; op = next_attention(qc_op_next(op)))
        m->layer_count++;
    m->layers = QC_NEW_ARRAY(m->arena, layer, m->layer_count + 1);
    size_t i = 0;
    for (const qc_op *op = next_attention(qc_func_first_op(func)); op; op = next_attention(qc_op_next(op))) {
        layer l = m->layers[i++] = layer_of(op);
        if (!l.heads || !l.kv_heads || !l.size || l.heads % l.kv_heads)
            return qc_ctx_error(m->ctx, "", "attention %zu has no static heads", i - 1);
        m->widest = l.heads > m->widest ? l.heads : m->widest;
    }
    return QC_OK;
}

static qc_status prepare(measurement *m, const qc_module *base, qc_module *const *recipes,
    const char *const *names, const qc_qk_options *options, qc_qk_error *results)
{
    bool coded, any = false;
    for (size_t i = 0; i < m->count; i++) {
        if (open_probe(m, &m->probes[i], names[i], recipes[i], &results[i].coded) != QC_OK)
            return QC_ERROR;
        any |= results[i].coded;
    }
    if (!any)
        return QC_OK;
    m->engine =
        qc_host_engine_create(qc_ctx_diag(m->ctx), &(qc_host_options){.thread_count = options->threads});
    m->rope = qc_rope_tables_create(m->ctx);
    m->decomposer = qc_decomposer_create(m->ctx);
    if (!m->engine || !m->rope || !m->decomposer)
        return QC_ERROR;
    if (options->source || qc_module_source(base)) {
        m->weights = qc_weights_open(m->ctx, base, options->source);
        if (!m->weights)
            return QC_ERROR;
    }
    if (open_probe(m, &m->base, "the model", base, &coded) != QC_OK ||
        plan_probe(m, &m->base, false) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < m->count; i++) {
        if (!results[i].coded)
            continue;
        results[i].by_layer = QC_NEW_ARRAY(m->arena, double, m->layer_count);
        if (plan_probe(m, &m->probes[i], true) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

/* The sequences that are measured: evenly from all windows. */
static size_t choose(const qc_eval_windows *windows, qc_sequence *sequences, size_t *longest)
{
    size_t count = windows->count < QC_QK_SEQUENCES ? windows->count : QC_QK_SEQUENCES;
    *longest = 0;
    for (size_t i = 0; i < count; i++) {
        const qc_eval_window *w = &windows->items[i * windows->count / count];
        sequences[i] = (qc_sequence){w->ids, w->count < QC_QK_TOKENS ? w->count : QC_QK_TOKENS};
        *longest = sequences[i].count > *longest ? sequences[i].count : *longest;
    }
    return count;
}

static qc_status run(measurement *m, const qc_eval_windows *windows, qc_qk_error *results)
{
    qc_sequence sequences[QC_QK_SEQUENCES];
    size_t longest, count = choose(windows, sequences, &longest), size = 0;
    for (size_t i = 0; i < m->layer_count; i++)
        size = m->layers[i].size > size ? m->layers[i].size : size;
    m->x = calloc(longest * 2 * size, sizeof *m->x);
    m->w = calloc(longest * 2 * size, sizeof *m->w);
    m->scores = calloc(longest * longest, sizeof *m->scores);
    m->denominators = QC_NEW_ARRAY(m->arena, double, m->layer_count * m->widest);
    if (!m->x || !m->w || !m->scores)
        return qc_ctx_error(m->ctx, "", "out of memory for the scores of %zu tokens", longest);
    if (qc_rope_tables_ensure(m->rope, longest) != QC_OK)
        return QC_ERROR;
    const void **base = QC_NEW_ARRAY(m->arena, const void *, 2 * m->layer_count);
    const void **outputs = QC_NEW_ARRAY(m->arena, const void *, 2 * m->layer_count);
    for (size_t s = 0; s < count; s++) {
        if (run_probe(m, &m->base, &sequences[s], NULL, base) != QC_OK ||
            measure_base(m, base, sequences[s].count) != QC_OK)
            return QC_ERROR;
        for (size_t i = 0; i < m->count; i++)
            if (results[i].coded &&
                measure_recipe(m, &m->probes[i], &sequences[s], base, outputs, &results[i]) != QC_OK)
                return QC_ERROR;
        if (m->options->progress)
            m->options->progress(m->options->progress_user, "q k^T", "sequences", s + 1, count);
    }
    for (size_t i = 0; i < m->count; i++)
        for (size_t l = 0; results[i].coded && l < m->layer_count; l++)
            results[i].by_layer[l] /= (double)count;
    return QC_OK;
}

qc_status qc_qk_error_measure(qc_arena *arena, const qc_module *base, qc_module *const *recipes,
    const char *const *names, size_t count, const qc_eval_windows *windows, const qc_qk_options *options,
    qc_qk_error *results)
{
    measurement m = {.ctx = qc_module_ctx(base), .arena = arena, .options = options, .count = count};
    m.probes = QC_NEW_ARRAY(arena, probe, count);
    qc_status status = find_layers(&m, base);
    for (size_t i = 0; i < count; i++)
        results[i] = (qc_qk_error){.layers = m.layer_count};
    if (status == QC_OK && m.layer_count)
        status = prepare(&m, base, recipes, names, options, results);
    if (status == QC_OK && m.engine)
        status = run(&m, windows, results);
    free(m.x);
    free(m.w);
    free(m.scores);
    for (size_t i = 0; i < count; i++)
        close_probe(&m.probes[i]);
    close_probe(&m.base);
    qc_decomposer_destroy(m.decomposer);
    qc_rope_tables_destroy(m.rope);
    qc_weights_close(m.weights);
    qc_host_engine_destroy(m.engine);
    return status;
}
