/* SPDX-License-Identifier: MIT
 *
 * plan_attention.c - attention as a kernel call, on codes and values of this run or out of pages, under scales
 * that are known before the run or were made in it. What the kernel does not take is left to the decomposition.
 */
#include "ir/ctx.h"
#include "runtime/plan_internal.h"

/* Strides of rows: in one piece by tokens, and within a page. */
typedef struct strides {
    size_t token, head;
    size_t page_token, page_head, page_tokens; /* page_tokens 0: lies in no pages */
} strides;

typedef struct attention {
    qc_host_attention host; /* all but pointers, counts and strides */
    strides rows[3], scales[3];
} attention;

static qc_dtype dtype_attr(const qc_op *op, const char *name)
{
    const char *word = qc_attr_as_text(qc_op_attr(op, name));
    return qc_dtype_from_name(word, strlen(word));
}

/* ---- running ------------------------------------------------------------------------------------------- */

/* Pages if there are any; else false and where the rows lie. */
static bool locate(
    const qc_run *run, const qc_step *step, int slot, const void **data, const void *const **pages)
{
    *pages = qc_run_pages(run, slot);
    *data = *pages ? NULL : qc_run_at(run, step, slot);
    return *pages != NULL;
}

static void fill(const qc_run *run, const qc_step *step, qc_host_attention *a)
{
    const attention *at = step->data;
    qc_host_heads *heads[3] = {&a->q, &a->k, &a->v};
    a->queries = run->tokens;
    a->past = run->past;
    a->keys = run->past + run->tokens;
    for (size_t i = 0; i < 3; i++) {
        qc_host_heads *h = heads[i];
        const strides *s = &at->rows[i];
        bool paged = locate(run, step, step->in[i], &h->data, &h->pages);
        h->page_tokens = paged ? s->page_tokens : 0;
        h->token_stride = paged ? s->page_token : s->token;
        h->head_stride = paged ? s->page_head : s->head;
        if (step->in[3 + i] < 0)
            continue;
        s = &at->scales[i];
        paged = locate(run, step, step->in[3 + i], &h->scales.data, &h->scales.pages);
        h->scales.token_stride = paged ? s->page_token : s->token;
        h->scales.head_stride = paged ? s->page_head : s->head;
    }
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

/* ---- planning ------------------------------------------------------------------------------------------ */

/* Strides of rows of `columns` elements, those of less than 8 bits filled up to whole bytes where they are
 * packed, which caches are. */
static strides strides_of(const qc_plan *plan, const qc_slot *slot, size_t heads, size_t columns)
{
    bool paged = slot->place == QC_PLACE_PAGES;
    const qc_cache_layout *l = paged ? &plan->caches.items[slot->index] : NULL;
    size_t row = paged ? l->row_bytes * 8 / (size_t)qc_dtype_bits(slot->dtype) : columns;
    strides s = {.token = heads * row, .head = row};
    if (paged) {
        s.page_tokens = l->page_tokens;
        s.page_token = l->by_head ? row : heads * row;
        s.page_head = l->by_head ? l->page_tokens * row : row;
    }
    return s;
}

/* The type of codes, or of values of D, as the kernel knows them; false: it does not. */
static bool take_type(
    const qc_slot *slot, const qc_value *value, qc_dtype d, qc_host_heads *heads, bool *codes)
{
    qc_dtype type = qc_type_dtype(qc_value_type(value));
    heads->dtype = slot->dtype;
    *codes = heads->dtype != d;
    if (!*codes) /* while calibrating there are scales, but no codes yet */
        return true;
    if (type == QC_F4E2M1 && heads->dtype == QC_U8)
        heads->codes = type;
    else if (type != heads->dtype && !(type == QC_I4 && heads->dtype == QC_I8))
        return false;
    return type == QC_F8E4M3 || type == QC_F8E5M2 || type == QC_I8 || type == QC_I4 || type == QC_F4E2M1;
}

/* Scales known before the run: one, one a head, or one for each column of each head. */
static qc_status take_static(
    qc_plan *plan, const qc_value *scale, int64_t count, int64_t size, qc_host_heads *heads, bool *fits)
{
    const qc_type *type = qc_value_type(scale);
    int64_t dims[4] = {1, 1, 1, 1};
    int rank = qc_type_rank(type);
    *fits = rank <= 4;
    for (int i = 0; *fits && i < rank; i++)
        *fits = qc_dim_as_int(qc_type_dim(type, i), &dims[4 - rank + i]);
    *fits = *fits && dims[0] == 1 && (dims[1] == 1 || dims[1] == count) && dims[2] == 1 &&
            (dims[3] == 1 || dims[3] == size);
    if (!*fits)
        return QC_OK;
    heads->scale_stride = dims[1] == 1 ? 0 : (size_t)dims[3];
    heads->scale_column_stride = dims[3] == 1 ? 0 : 1;
    heads->scale = qc_bank_floats(plan->env.bank, scale);
    return heads->scale ? QC_OK : QC_ERROR;
}

/* Scales of each token and head, or of groups of its columns. */
static bool take_dynamic(
    qc_plan *plan, const qc_ref *ref, const qc_ref *x, int64_t group, qc_host_heads *heads, strides *s)
{
    int64_t count, size, groups;
    const qc_slot *slot = qc_plan_slot_at(plan, ref->slot);
    if (ref->rank != 4 || !ref->by_token || ref->dims[1] != x->dims[1] || ref->dims[2] != x->dims[2] ||
        !qc_dim_as_int(x->dims[1], &count) || !qc_dim_as_int(x->dims[3], &size) ||
        !qc_dim_as_int(ref->dims[3], &groups) || groups != (group ? (size + group - 1) / group : 1) ||
        qc_dtype_bits(slot->dtype) < 8 || !qc_dtype_is_float(slot->dtype))
        return false;
    heads->scales.dtype = slot->dtype;
    heads->scales.group = (size_t)group;
    *s = strides_of(plan, slot, (size_t)count, (size_t)groups);
    return true;
}

static qc_status take_global(qc_plan *plan, const qc_value *global, qc_host_heads *heads, bool *fits)
{
    int64_t count;
    if (!global)
        return QC_OK;
    *fits =
        qc_plan_is_weight(plan, global) && qc_type_static_count(qc_value_type(global), &count) && count == 1;
    const float *number = *fits ? qc_bank_floats(plan->env.bank, global) : NULL;
    heads->global = number ? *number : 0.0f;
    return *fits && !number ? QC_ERROR : QC_OK;
}

static qc_status take_scales(qc_plan *plan, const qc_op *op, size_t i, const qc_ref *x, qc_host_heads *heads,
    attention *a, int *slot, bool *fits)
{
    static const char *const groups[] = {"q_group", "k_group", "v_group"};
    const qc_value *scale = qc_op_operand(op, 3 + i);
    int64_t group = qc_attr_as_int(qc_op_attr(op, groups[i])), count = 0, size = 0;
    qc_dim_as_int(x->dims[1], &count);
    qc_dim_as_int(x->dims[3], &size);
    *fits = scale != NULL;
    if (!*fits || take_global(plan, qc_op_operand(op, 6 + i), heads, fits) != QC_OK)
        return *fits ? QC_ERROR : QC_OK;
    if (*fits && group == 0 && qc_plan_is_weight(plan, scale))
        return take_static(plan, scale, count, size, heads, fits);
    const qc_ref *ref = *fits && !qc_plan_is_weight(plan, scale) ? qc_plan_stored(plan, scale) : NULL;
    if (*fits && !ref && !qc_plan_is_weight(plan, scale))
        return QC_ERROR;
    *fits = ref && take_dynamic(plan, ref, x, group, heads, &a->scales[i]) &&
            a->scales[i].page_tokens == a->rows[i].page_tokens;
    if (*fits)
        *slot = ref->slot;
    return QC_OK;
}

/* Operand q, k or v and its scales; their slots. `fits` turns false when the kernel cannot take it. */
static qc_status take_operand(
    qc_plan *plan, const qc_op *op, size_t i, qc_dtype d, attention *a, int *slots, bool *fits)
{
    qc_host_heads *heads = i == 0 ? &a->host.q : i == 1 ? &a->host.k : &a->host.v;
    const qc_value *value = qc_op_operand(op, i);
    const qc_ref *ref = qc_plan_stored(plan, value);
    int64_t count, size;
    bool codes;
    if (!ref)
        return QC_ERROR;
    const qc_ref x = *ref; /* planning operands may move refs */
    *fits = *fits && x.rank == 4 && qc_dim_as_int(x.dims[1], &count) && qc_dim_as_int(x.dims[3], &size) &&
            x.dims[2] == (i == 0 ? plan->sequence : plan->total) &&
            take_type(qc_plan_slot_at(plan, x.slot), value, d, heads, &codes);
    if (!*fits)
        return QC_OK;
    slots[i] = qc_plan_by_token(plan, op, &x);
    a->rows[i] = strides_of(plan, qc_plan_slot_at(plan, slots[i]), (size_t)count, (size_t)size);
    heads->token_stride = a->rows[i].token;
    heads->head_stride = a->rows[i].head;
    return codes ? take_scales(plan, op, i, &x, heads, a, &slots[3 + i], fits) : QC_OK;
}

static bool take_sizes(const qc_op *op, qc_host_attention *h)
{
    int64_t sizes[4];
    const qc_type *q = qc_value_type(qc_op_operand(op, 0)), *v = qc_value_type(qc_op_operand(op, 2));
    if (!qc_dim_as_int(qc_type_dim(q, 1), &sizes[0]) || !qc_dim_as_int(qc_type_dim(q, 3), &sizes[1]) ||
        !qc_dim_as_int(qc_type_dim(v, 1), &sizes[2]) || !qc_dim_as_int(qc_type_dim(v, 3), &sizes[3]))
        return false;
    h->query_heads = (size_t)sizes[0];
    h->head_size = (size_t)sizes[1];
    h->kv_heads = (size_t)sizes[2];
    h->value_size = (size_t)sizes[3];
    h->out_token_stride = h->query_heads * h->value_size;
    h->out_head_stride = h->value_size;
    return true;
}

/* One number a query head, known before the run. */
static qc_status take_sinks(qc_plan *plan, const qc_op *op, qc_host_attention *h, bool *fits)
{
    const qc_value *sinks = qc_op_operand_named(op, "sinks");
    int64_t count;
    if (!sinks || !*fits)
        return QC_OK;
    *fits = qc_plan_is_weight(plan, sinks) && qc_type_static_count(qc_value_type(sinks), &count) &&
            (size_t)count == h->query_heads;
    if (*fits)
        h->sinks = qc_bank_floats(plan->env.bank, sinks);
    return *fits && !h->sinks ? QC_ERROR : QC_OK;
}

qc_status qc_plan_attention(qc_plan *plan, const qc_op *op, bool *done)
{
    attention *a = QC_NEW(&plan->arena, attention);
    qc_host_attention *h = &a->host;
    qc_dtype d = dtype_attr(op, "probs"), scores = dtype_attr(op, "scores");
    int64_t window = qc_attr_as_int(qc_op_attr(op, "window")),
            chunk = qc_attr_as_int(qc_op_attr(op, "chunk"));
    int slots[6] = {-1, -1, -1, -1, -1, -1};
    bool fits = qc_is_value_dtype(d) && qc_is_value_dtype(scores) && dtype_attr(op, "softmax") == QC_F32 &&
                window >= 0 && chunk >= 0 && take_sizes(op, h);
    for (size_t i = 0; i < 3; i++)
        if (take_operand(plan, op, i, d, a, slots, &fits) != QC_OK)
            return QC_ERROR;
    if (take_sinks(plan, op, h, &fits) != QC_OK)
        return QC_ERROR;
    *done = fits;
    if (!fits)
        return QC_OK;
    h->dtype = h->probs_dtype = d;
    h->scores_dtype = scores;
    h->probs_codes = dtype_attr(op, "probs_codes");
    h->probs_scale = (float)qc_attr_as_float(qc_op_attr(op, "probs_scale"));
    h->causal = qc_attr_as_bool(qc_op_attr(op, "causal"));
    h->scale = (float)qc_attr_as_float(qc_op_attr(op, "scale"));
    h->window = (size_t)window;
    h->chunk = (size_t)chunk;
    h->softcap = (float)qc_attr_as_float(qc_op_attr(op, "softcap"));
    int out = qc_plan_result(plan, op, d, true);
    qc_plan_step(plan, run_attention, op, out, slots, 6, false, a)->bytes = attention_bytes;
    return QC_OK;
}
