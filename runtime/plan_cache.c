/* SPDX-License-Identifier: MIT
 *
 * plan_cache.c - caches as steps: what is stored is made (codes by plan_quant.c), packed, and put into pages.
 * A run that keeps nothing leaves it in the slot that the cache's slot is an alias of, rows [tokens, heads]
 * as in the pages. Attention reads either; everything else reads copies of the rows, codes one byte each.
 */
#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "ir/dtype/pack.h"
#include "runtime/plan_internal.h"

enum { PARALLEL_ROWS = 1024 }; /* fewer are not worth waking threads for */

/* data: rows of `columns` codes of `bits` bits. */
typedef struct rows {
    int bits;
    size_t columns, row_bytes;
} rows;

static void pack_row(const rows *r, const uint8_t *codes, uint8_t *packed)
{
    if (r->bits == 4) {
        qc_pack_nibbles(codes, r->columns, packed);
        return;
    }
    memset(packed, 0, r->row_bytes);
    for (size_t i = 0; i < r->columns; i++)
        qc_code_put(packed, r->bits, i, codes[i]);
}

static void unpack_row(const rows *r, bool is_signed, const uint8_t *packed, uint8_t *codes)
{
    for (size_t i = 0; i < r->columns; i++) {
        uint32_t code = qc_code_get(packed, r->bits, i);
        codes[i] = (uint8_t)(is_signed ? (uint32_t)qc_code_signed(code, r->bits) : code);
    }
}

static int threads_of(const qc_run *run, size_t count)
{
    return count < PARALLEL_ROWS ? 1 : qc_host_engine_thread_count(run->plan->env.engine);
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static qc_status run_pack(qc_run *run, const qc_step *step)
{
    const rows *r = step->data;
    const uint8_t *codes = qc_run_at(run, step, step->in[0]);
    uint8_t *packed = qc_run_at(run, step, step->out);
    size_t count;
    if (!qc_run_count(run, step, step->in[0], &count))
        return qc_error(&run->worker->diag, step->where, "nothing says how large a value is");
    count /= r->columns;
#pragma omp parallel for schedule(static) num_threads(threads_of(run, count))
    for (size_t i = 0; i < count; i++)
        pack_row(r, codes + i * r->columns, packed + i * r->row_bytes);
    return QC_OK;
}

/* The same codes, rows from whole bytes on. */
static int packed_slot(qc_plan *plan, const qc_op *op, int codes, const rows *r)
{
    const qc_slot from = *qc_plan_slot_at(plan, codes);
    const qc_dim *dims[4] = {
        from.dims[0], from.dims[1], from.dims[2], qc_dim_int(plan->env.ctx, (int64_t)r->row_bytes)};
    rows *copy = QC_NEW(&plan->arena, rows);
    *copy = *r;
    int slot = qc_plan_slot(plan, QC_U8, 4, dims, true);
    qc_plan_step(plan, run_pack, op, slot, &codes, 1, true, copy);
    return slot;
}

static qc_status run_cache_write(qc_run *run, const qc_step *step)
{
    const qc_slot *slot = &run->plan->slots.items[step->out];
    const qc_cache_layout *l = &run->plan->caches.items[slot->index];
    if (!run->caches)
        return QC_OK;
    void *const *pages = run->caches[slot->index];
    const char *from = qc_run_at(run, step, step->in[0]);
    size_t token_bytes = l->heads * l->row_bytes;
    for (size_t i = 0; i < run->tokens; i++, from += token_bytes) {
        size_t token = run->past + i;
        char *page = pages[token / l->page_tokens];
        if (!l->by_head)
            memcpy(page + qc_cache_row_offset(l, token, 0), from, token_bytes);
        for (size_t h = 0; l->by_head && h < l->heads; h++)
            memcpy(page + qc_cache_row_offset(l, token, h), from + h * l->row_bytes, l->row_bytes);
    }
    return QC_OK;
}

/* Operands of the tokens, stored by tokens. */
static qc_status store_by_token(qc_plan *plan, const qc_op *op)
{
    for (size_t i = 0; i < qc_op_operand_count(op); i++) {
        const qc_value *value = qc_op_operand(op, i);
        if (!value || qc_plan_is_weight(plan, value))
            continue;
        const qc_ref *ref = qc_plan_ref(plan, value);
        if (!ref)
            return QC_ERROR;
        if (ref->by_token || ref->rank != 4)
            continue;
        qc_ref by_token = *ref;
        by_token.slot = qc_plan_by_token(plan, op, ref);
        by_token.by_token = true;
        qc_plan_set_ref(plan, value, by_token);
    }
    return QC_OK;
}

/* What the cache stores, in rows by tokens; codes of less than 8 bits still a byte each, or (*packed) not. */
static qc_status stored_rows(qc_plan *plan, const qc_op *op, qc_dtype stored, int *slot, bool *packed)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    bool done = false;
    *packed = false;
    *slot = x->slot;
    if (!qc_op_attr(op, "scheme"))
        return QC_OK;
    qc_ref codes = *x;
    if (qc_plan_codes(plan, op, slot, &done) != QC_OK || done)
        return done ? QC_OK : QC_ERROR;
    codes.by_token = false;
    codes.slot = qc_plan_slot(plan, stored, codes.rank, codes.dims, false);
    if (qc_plan_eval_into(plan, op, qc_plan_op_info("quantize"), &codes) != QC_OK)
        return QC_ERROR;
    *slot = qc_plan_by_token(plan, op, &codes);
    *packed = qc_dtype_bits(stored) < 8;
    return QC_OK;
}

static qc_status read_layout(
    qc_plan *plan, const qc_op *op, qc_cache_layout *layout, int64_t *columns, qc_dtype stored)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    const qc_type *type = qc_value_type(qc_op_result(op, 0));
    int64_t heads;
    if (!x)
        return QC_ERROR;
    if (x->rank != 4 || x->dims[2] != plan->sequence || qc_type_dim(type, 2) != plan->total ||
        !qc_dim_as_int(x->dims[1], &heads) || !qc_dim_as_int(x->dims[3], columns) || heads < 1 ||
        *columns < 1 || *columns > INT32_MAX)
        return qc_ctx_error(plan->env.ctx, qc_plan_where(plan, op), "a cache must hold [B, heads, P + S, d]");
    *layout = (qc_cache_layout){.heads = (size_t)heads,
        .row_bytes = ((size_t)*columns * (size_t)qc_dtype_bits(stored) + 7) / 8,
        .page_tokens = (size_t)qc_attr_as_int(qc_op_attr(op, "page")),
        .by_head = strcmp(qc_attr_as_text(qc_op_attr(op, "layout")), "hnd") == 0};
    return QC_OK;
}

qc_status qc_plan_cache_write(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_value *result = qc_op_result(op, 0);
    qc_dtype stored = qc_type_dtype(qc_value_type(result));
    qc_cache_layout layout;
    int64_t columns;
    int slot;
    bool packed;
    if (store_by_token(plan, op) != QC_OK || read_layout(plan, op, &layout, &columns, stored) != QC_OK ||
        stored_rows(plan, op, stored, &slot, &packed) != QC_OK)
        return QC_ERROR;
    const rows r = {qc_dtype_bits(stored), (size_t)columns, layout.row_bytes};
    if (r.bits < 8 && !packed)
        slot = packed_slot(plan, op, slot, &r);
    int out = qc_plan_result(plan, op, stored, true);
    qc_slot *cache = qc_plan_slot_at(plan, out);
    cache->place = QC_PLACE_PAGES;
    cache->alias = slot;
    cache->index = plan->caches.count;
    QC_PUSH(&plan->arena, &plan->caches, layout);
    qc_map_set_n(&plan->stored, (const char *)&result, sizeof result,
        qc_map_get_n(&plan->refs, (const char *)&result, sizeof result));
    qc_plan_step(plan, run_cache_write, op, out, &slot, 1, false, NULL);
    *done = true;
    return QC_OK;
}

/* Calibration runs whole sequences, so nothing lies before a call. */
qc_status qc_plan_cache_append(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    if (!x)
        return QC_ERROR;
    if (x->rank != 4 || qc_type_dim(qc_value_type(qc_op_result(op, 0)), 2) != plan->total)
        return qc_ctx_error(plan->env.ctx, qc_plan_where(plan, op), "a cache must hold [B, heads, P + S, d]");
    int slot = qc_plan_by_token(plan, op, x);
    int out = qc_plan_result(plan, op, qc_plan_slot_at(plan, slot)->dtype, true);
    qc_plan_slot_at(plan, out)->place = QC_PLACE_ALIAS;
    qc_plan_slot_at(plan, out)->alias = slot;
    *done = true;
    return QC_OK;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

typedef struct gathering {
    rows rows;
    bool is_signed;
    size_t cache;
} gathering;

static qc_status run_gather(qc_run *run, const qc_step *step)
{
    const gathering *g = step->data;
    const qc_cache_layout *l = &run->plan->caches.items[g->cache];
    const void *const *pages = qc_run_pages(run, step->in[0]);
    const char *flat = pages ? NULL : qc_run_at(run, step, step->in[0]);
    size_t count = (run->past + run->tokens) * l->heads;
    size_t bytes = g->rows.bits < 8 ? g->rows.columns : g->rows.row_bytes;
    char *to = qc_run_at(run, step, step->out);
#pragma omp parallel for schedule(static) num_threads(threads_of(run, count))
    for (size_t i = 0; i < count; i++) {
        size_t token = i / l->heads, head = i % l->heads;
        const char *row =
            pages ? (const char *)pages[token / l->page_tokens] + qc_cache_row_offset(l, token, head)
                  : flat + i * l->row_bytes;
        if (g->rows.bits < 8)
            unpack_row(&g->rows, g->is_signed, (const uint8_t *)row, (uint8_t *)to + i * bytes);
        else
            memcpy(to + i * bytes, row, bytes);
    }
    return QC_OK;
}

const qc_ref *qc_plan_stored(qc_plan *plan, const qc_value *value)
{
    const qc_ref *ref = qc_map_get_n(&plan->stored, (const char *)&value, sizeof value);
    return ref ? ref : qc_plan_ref(plan, value);
}

qc_status qc_plan_gather_operands(qc_plan *plan, const qc_op *op)
{
    for (size_t i = 0; i < qc_op_operand_count(op); i++) {
        const qc_value *value = qc_op_operand(op, i);
        const qc_ref *ref = value ? qc_map_get_n(&plan->refs, (const char *)&value, sizeof value) : NULL;
        if (!ref || qc_plan_slot_at(plan, ref->slot)->place != QC_PLACE_PAGES)
            continue;
        const qc_slot cache = *qc_plan_slot_at(plan, ref->slot);
        int64_t columns = 0;
        qc_dim_as_int(ref->dims[3], &columns);
        gathering *g = QC_NEW(&plan->arena, gathering);
        *g = (gathering){
            .rows = {qc_dtype_bits(cache.dtype), (size_t)columns, plan->caches.items[cache.index].row_bytes},
            .is_signed = qc_dtype_is_int(cache.dtype),
            .cache = cache.index};
        qc_ref copy = *ref;
        int from = ref->slot;
        copy.slot = qc_plan_slot(plan, qc_code_slot(cache.dtype), copy.rank, copy.dims, true);
        qc_plan_step(plan, run_gather, op, copy.slot, &from, 1, false, g);
        qc_plan_set_ref(plan, value, copy);
    }
    return QC_OK;
}
