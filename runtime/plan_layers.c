/* SPDX-License-Identifier: MIT
 *
 * plan_layers.c - linear, rmsnorm, rope, attention and the KV cache as kernel calls. What a kernel cannot do
 * (element types, scales that depend on data) is left to the op's decomposition or reference semantics.
 */
#include "ir/ctx.h"
#include "runtime/plan_internal.h"

static qc_dtype dtype_of(const qc_plan *plan, const qc_ref *ref)
{
    return plan->slots.items[ref->slot].dtype;
}

static qc_dtype dtype_attr(const qc_op *op, const char *name)
{
    const char *word = qc_attr_as_text(qc_op_attr(op, name));
    return qc_dtype_from_name(word, strlen(word));
}

static bool static_last(const qc_ref *ref, size_t *size)
{
    int64_t n;
    if (ref->rank == 0 || !qc_dim_as_int(ref->dims[ref->rank - 1], &n) || n < 1)
        return false;
    *size = (size_t)n;
    return true;
}

/* ---- linear -------------------------------------------------------------------------------------------- */

typedef struct linear {
    const qc_host_linear *prepared;
    size_t depth;
} linear;

static qc_status run_linear(qc_run *run, const qc_step *step)
{
    const linear *l = step->data;
    size_t count;
    if (!qc_run_count(run, step, step->in[0], &count))
        return qc_error(&run->worker->diag, step->where, "nothing says how large its input is");
    return qc_host_linear_run(l->prepared, &run->worker->diag, qc_run_at(run, step, step->in[0]), 0,
        qc_run_at(run, step, step->out), 0, count / l->depth, (qc_host_sequences){NULL, 0});
}

/* Tiles of the input and of the sums; see backends/host/linear.c. */
static size_t linear_bytes(const qc_plan *plan, const qc_step *step, size_t tokens, size_t past)
{
    const linear *l = step->data;
    (void)plan;
    (void)past;
    size_t rows = tokens < 64 ? tokens : 64;
    return 2 * rows * (l->depth + 1024) * sizeof(float);
}

qc_status qc_plan_linear(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_value *w = qc_op_operand(op, 1), *bias = qc_op_operand(op, 2);
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    size_t depth;
    if (!x)
        return QC_ERROR;
    const qc_value *plain = plan->request.calibrating ? qc_value_without_codes(w) : w;
    qc_dtype input = dtype_of(plan, x), output = qc_type_dtype(qc_value_type(qc_op_result(op, 0)));
    if (!qc_plan_is_weight(plan, w) || (bias && !qc_plan_is_weight(plan, bias)) ||
        !qc_is_value_dtype(input) || !qc_is_value_dtype(output) ||
        !qc_is_value_dtype(qc_type_dtype(qc_value_type(plain))) ||
        (bias && !qc_is_value_dtype(qc_type_dtype(qc_value_type(bias)))) || !static_last(x, &depth))
        return QC_OK;
    linear *l = QC_NEW(&plan->arena, linear);
    l->depth = depth;
    l->prepared = qc_bank_linear(plan->env.bank, qc_plan_where(plan, op), w, bias, input, output);
    if (!l->prepared)
        return QC_ERROR;
    int in = x->slot, out = qc_plan_result(plan, op, output, x->by_token);
    qc_plan_step(plan, run_linear, op, out, &in, 1, true, l)->bytes = linear_bytes;
    *done = true;
    return QC_OK;
}

/* ---- rmsnorm ------------------------------------------------------------------------------------------- */

typedef struct norm {
    qc_dtype dtype, weight_dtype;
    size_t size;
    float eps;
} norm;

static qc_status run_rmsnorm(qc_run *run, const qc_step *step)
{
    const norm *n = step->data;
    size_t count;
    if (!qc_run_count(run, step, step->in[0], &count))
        return qc_error(&run->worker->diag, step->where, "nothing says how large its input is");
    qc_host_rmsnorm(run->plan->env.engine, &(qc_host_norm){.dtype = n->dtype,
                                               .x = qc_run_at(run, step, step->in[0]),
                                               .y = qc_run_at(run, step, step->out),
                                               .tokens = count / n->size,
                                               .heads = 1,
                                               .token_stride = n->size,
                                               .size = n->size,
                                               .weight_dtype = n->weight_dtype,
                                               .weight = qc_run_at(run, step, step->in[1]),
                                               .eps = n->eps,
                                               .style = QC_HOST_NORM_ROUND_THEN_SCALE});
    return QC_OK;
}

qc_status qc_plan_rmsnorm(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_value *w = qc_op_operand(op, 1);
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    const qc_ref *weight = x && qc_plan_is_weight(plan, w) ? qc_plan_ref(plan, w) : NULL;
    size_t size, weight_size;
    if (!x || (!weight && qc_plan_is_weight(plan, w)))
        return QC_ERROR;
    if (!weight || !static_last(x, &size) || weight->rank != 1 || !static_last(weight, &weight_size) ||
        size != weight_size || !qc_is_value_dtype(dtype_of(plan, x)) ||
        !qc_is_value_dtype(dtype_of(plan, weight)))
        return QC_OK;
    norm *n = QC_NEW(&plan->arena, norm);
    *n = (norm){
        dtype_of(plan, x), dtype_of(plan, weight), size, (float)qc_attr_as_float(qc_op_attr(op, "eps"))};
    int in[2] = {x->slot, weight->slot}, out = qc_plan_result(plan, op, n->dtype, x->by_token);
    qc_plan_step(plan, run_rmsnorm, op, out, in, 2, true, n);
    *done = true;
    return QC_OK;
}

/* ---- rope ---------------------------------------------------------------------------------------------- */

typedef struct rope {
    const qc_rope_table *table;
    qc_dtype dtype;
    size_t heads, size;
} rope;

/* Rows of a table that depends on the length of the sequence: cosines, then sines. */
static qc_status run_rope_table(qc_run *run, const qc_step *step)
{
    const qc_rope_table *t = step->data;
    size_t half = run->tokens * (size_t)t->dims / 2 * ((size_t)qc_dtype_bits(t->dtype) / 8);
    char *out = qc_run_at(run, step, step->out);
    float *row = QC_NEW_ARRAY(&run->worker->scratch, float, (size_t)t->dims);
    qc_status status = qc_rope_table_compute(
        t, &run->worker->diag, run->past, run->tokens, run->past + run->tokens, row, out, out + half);
    qc_arena_fini(&run->worker->scratch);
    return status;
}

static qc_status run_rope(qc_run *run, const qc_step *step)
{
    const rope *r = step->data;
    const qc_rope_table *t = r->table;
    size_t columns = (size_t)t->dims / 2, row_bytes = columns * ((size_t)qc_dtype_bits(t->dtype) / 8);
    const char *cos, *sin;
    if (step->in[1] >= 0) {
        cos = qc_run_at(run, step, step->in[1]);
        sin = cos + run->tokens * row_bytes;
    } else {
        if (run->past + run->tokens > t->length)
            return qc_error(
                &run->worker->diag, step->where, "the rotary table ends at position %zu", t->length);
        cos = (const char *)t->cos + run->past * row_bytes;
        sin = (const char *)t->sin + run->past * row_bytes;
    }
    qc_host_rope_apply(run->plan->env.engine, &(qc_host_rope){.dtype = r->dtype,
                                                  .x = qc_run_at(run, step, step->in[0]),
                                                  .y = qc_run_at(run, step, step->out),
                                                  .tokens = run->tokens,
                                                  .heads = r->heads,
                                                  .head_size = r->size,
                                                  .token_stride = r->heads * r->size,
                                                  .head_stride = r->size,
                                                  .rotary_size = r->size,
                                                  .cos = cos,
                                                  .sin = sin,
                                                  .table_dtype = t->dtype,
                                                  .table_stride = columns,
                                                  .style = QC_HOST_ROPE_HALVES});
    return QC_OK;
}

/* The slot of such a table in this plan, -1 for tables that all runs share. */
static int table_slot(qc_plan *plan, const qc_op *op, const qc_rope_table *table)
{
    if (!table->by_length)
        return -1;
    void *known = qc_map_get_n(&plan->row_tables, (const char *)&table, sizeof table);
    if (known)
        return (int)(uintptr_t)known - 1;
    const qc_dim *dims[3] = {plan->batch, plan->sequence, qc_dim_int(plan->env.ctx, table->dims)};
    int slot = qc_plan_slot(plan, table->dtype, 3, dims, false);
    qc_plan_step(plan, run_rope_table, op, slot, NULL, 0, false, table);
    qc_map_set_n(&plan->row_tables, (const char *)&table, sizeof table, (void *)(uintptr_t)(slot + 1));
    return slot;
}

qc_status qc_plan_rope(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    const qc_op *positions = qc_value_op(qc_op_operand(op, 1));
    qc_dtype tables = dtype_attr(op, "tables");
    int64_t heads, size;
    if (!x)
        return QC_ERROR;
    if (x->rank != 4 || x->dims[2] != plan->sequence || !qc_dim_as_int(x->dims[1], &heads) ||
        !qc_dim_as_int(x->dims[3], &size) || size < 2 || size % 2 || !positions ||
        !qc_op_is(positions, "positions") || !qc_is_value_dtype(dtype_of(plan, x)) ||
        !qc_is_value_dtype(tables))
        return QC_OK;
    rope *r = QC_NEW(&plan->arena, rope);
    *r = (rope){.dtype = dtype_of(plan, x), .heads = (size_t)heads, .size = (size_t)size};
    r->table = qc_rope_tables_get(
        plan->env.rope, qc_attr_as_float(qc_op_attr(op, "theta")), qc_op_attr(op, "scaling"), size, tables);
    int in[2] = {qc_plan_by_token(plan, op, x), table_slot(plan, op, r->table)};
    int out = qc_plan_result(plan, op, r->dtype, true);
    qc_plan_step(plan, run_rope, op, out, in, 2, false, r);
    *done = true;
    return QC_OK;
}

/* ---- the cache ----------------------------------------------------------------------------------------- */

static qc_status run_cache_append(qc_run *run, const qc_step *step)
{
    const qc_slot *cache = &run->plan->slots.items[step->out];
    size_t row_bytes = run->plan->cache_rows.items[cache->index];
    if (run->caches)
        memcpy((char *)run->caches[cache->index] + run->past * row_bytes, qc_run_at(run, step, step->in[0]),
            run->tokens * row_bytes);
    return QC_OK;
}

qc_status qc_plan_cache_append(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    const char *where = qc_plan_where(plan, op);
    if (!x)
        return QC_ERROR;
    if (x->rank != 4 || qc_type_dim(qc_value_type(qc_op_result(op, 0)), 2) != plan->total)
        return qc_ctx_error(plan->env.ctx, where, "a cache must hold [B, heads, P + S, d]");
    int slot = qc_plan_by_token(plan, op, x);
    const qc_slot *in = qc_plan_slot_at(plan, slot);
    size_t row_bits = in->row_elems * (size_t)qc_dtype_bits(in->dtype);
    if (!in->token_rows || row_bits % 8)
        return qc_ctx_error(plan->env.ctx, where, "a cache must hold whole bytes for each token");
    int out = qc_plan_result(plan, op, in->dtype, true);
    qc_slot *cache = qc_plan_slot_at(plan, out);
    cache->place = QC_PLACE_CACHE;
    cache->alias = slot;
    cache->index = plan->cache_rows.count;
    QC_PUSH(&plan->arena, &plan->cache_rows, row_bits / 8);
    qc_plan_step(plan, run_cache_append, op, out, &slot, 1, false, NULL);
    *done = true;
    return QC_OK;
}

/* ---- attention ----------------------------------------------------------------------------------------- */

typedef struct attention {
    qc_host_attention host; /* all but pointers and counts */
} attention;

static void fill(const qc_run *run, const qc_step *step, qc_host_attention *a)
{
    a->queries = run->tokens;
    a->past = run->past;
    a->keys = run->past + run->tokens;
    a->q.data = qc_run_at(run, step, step->in[0]);
    a->k.data = qc_run_at(run, step, step->in[1]);
    a->v.data = qc_run_at(run, step, step->in[2]);
    a->out = qc_run_at(run, step, step->out);
}

static qc_status run_attention(qc_run *run, const qc_step *step)
{
    qc_host_attention a = ((const attention *)step->data)->host;
    fill(run, step, &a);
    return qc_host_attention_run(run->plan->env.engine, &run->worker->diag, step->where, &a);
}

static size_t attention_bytes(const qc_plan *plan, const qc_step *step, size_t tokens, size_t past)
{
    qc_host_attention a = ((const attention *)step->data)->host;
    a.queries = tokens;
    a.past = past;
    a.keys = past + tokens;
    return qc_host_attention_bytes(plan->env.engine, &a);
}

/* Operand q, k or v: element type, strides and scale. `fits` turns false when the kernel cannot take it. */
static qc_status take_operand(
    qc_plan *plan, const qc_op *op, size_t operand, qc_dtype d, qc_host_heads *heads, bool *fits)
{
    const qc_value *scale = qc_op_operand(op, operand + 3);
    const qc_ref *ref = qc_plan_ref(plan, qc_op_operand(op, operand));
    int64_t count, size, scales;
    if (!ref)
        return QC_ERROR;
    *heads = (qc_host_heads){.dtype = dtype_of(plan, ref)};
    bool codes = heads->dtype == QC_F8E4M3 || heads->dtype == QC_F8E5M2 || heads->dtype == QC_I8;
    *fits = *fits && ref->rank == 4 && qc_dim_as_int(ref->dims[1], &count) &&
            qc_dim_as_int(ref->dims[3], &size) &&
            ref->dims[2] == (operand == 0 ? plan->sequence : plan->total) && (codes || heads->dtype == d);
    if (!*fits)
        return QC_OK;
    heads->token_stride = (size_t)(count * size);
    heads->head_stride = (size_t)size;
    if (!codes) /* while calibrating there are scales, but no codes yet */
        return QC_OK;
    *fits = scale && qc_plan_is_weight(plan, scale) && qc_type_static_count(qc_value_type(scale), &scales) &&
            (scales == 1 || (scales == count && qc_type_rank(qc_value_type(scale)) >= 3 &&
                                qc_type_dim(qc_value_type(scale), -3) == ref->dims[1]));
    if (!*fits)
        return QC_OK;
    heads->scale = qc_bank_floats(plan->env.bank, scale);
    heads->scale_stride = scales > 1;
    return heads->scale ? QC_OK : QC_ERROR;
}

qc_status qc_plan_attention(qc_plan *plan, const qc_op *op, bool *done)
{
    attention *a = QC_NEW(&plan->arena, attention);
    qc_host_attention *h = &a->host;
    qc_dtype d = dtype_attr(op, "probs"), scores = dtype_attr(op, "scores");
    bool fits = qc_is_value_dtype(d) && qc_is_value_dtype(scores) && dtype_attr(op, "softmax") == QC_F32;
    if (take_operand(plan, op, 0, d, &h->q, &fits) != QC_OK ||
        take_operand(plan, op, 1, d, &h->k, &fits) != QC_OK ||
        take_operand(plan, op, 2, d, &h->v, &fits) != QC_OK)
        return QC_ERROR;
    h->causal = qc_attr_as_bool(qc_op_attr(op, "causal"));
    int64_t window = qc_attr_as_int(qc_op_attr(op, "window"));
    *done =
        fits && window >= 0 && h->k.token_stride == h->v.token_stride && h->q.head_stride == h->k.head_stride;
    if (!*done)
        return QC_OK;
    h->dtype = h->probs_dtype = d;
    h->scores_dtype = scores;
    h->head_size = h->q.head_stride;
    h->query_heads = h->q.token_stride / h->head_size;
    h->kv_heads = h->k.token_stride / h->head_size;
    h->out_token_stride = h->q.token_stride;
    h->out_head_stride = h->head_size;
    h->scale = (float)qc_attr_as_float(qc_op_attr(op, "scale"));
    h->window = (size_t)window;
    int in[3];
    for (size_t i = 0; i < 3; i++)
        in[i] = qc_plan_by_token(plan, op, qc_plan_ref(plan, qc_op_operand(op, i)));
    int out = qc_plan_result(plan, op, d, true);
    qc_plan_step(plan, run_attention, op, out, in, 3, false, a)->bytes = attention_bytes;
    return QC_OK;
}
