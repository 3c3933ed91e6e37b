/* SPDX-License-Identifier: MIT
 *
 * weights_scale.c - scales that need a look at a whole tensor first; see weights_internal.h.
 *
 * Ranges are independent of each other but for two things: a scale of the whole tensor or a global scale of several
 * tensors is made from the extremes of all, and a search ends early after a number of steps in which no range of the
 * tensor improved (ir/dtype/mse.h). Each is a pass of its own over the rows. What a search chooses is kept, as far as
 * QC_WEIGHTS_KEPT_BYTES go, so that the pass that makes the codes need not search again.
 */
#include "runtime/weights_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a part asks for ------------------------------------------------------------------------------ */

qc_status qc_weights_mse(
    qc_ctx *ctx, const char *where, const qc_scheme_part *part, qc_mse *mse, bool *searches)
{
    return qc_scheme_mse(qc_ctx_diag(ctx), where, part, NULL, mse, searches);
}

bool qc_weights_layout(const qc_scheme_part *part, const value_info *x, layout *l)
{
    int64_t columns = x->rank ? x->dims[x->rank - 1] : 1;
    *l = (layout){.columns = columns, .group = columns, .per_line = 1, .block_rows = 1};
    l->lines_per_row = columns ? x->row_elems / columns : 0;
    l->kind = LAYOUT_LINES;
    switch (part->granularity) {
    case QC_GRANULARITY_TENSOR:
        l->kind = LAYOUT_ONE;
        return true;
    case QC_GRANULARITY_CHANNEL:
        return x->rank == 2 && columns > 0;
    case QC_GRANULARITY_TOKEN:
        return x->rank >= 2 && columns > 0;
    case QC_GRANULARITY_GROUP:
        l->group = part->group_elems < columns ? part->group_elems : columns;
        if (columns > 0)
            l->per_line = (columns - 1) / part->group_elems + 1;
        return x->rank >= 2 && columns > 0;
    case QC_GRANULARITY_BLOCK:
        l->kind = LAYOUT_BLOCKS;
        l->block_rows = part->block_rows;
        l->group = part->block_columns;
        if (columns > 0)
            l->per_line = (columns - 1) / part->block_columns + 1;
        return x->rank == 2 && columns > 0;
    case QC_GRANULARITY_HEAD:
        return false;
    }
    return false;
}

/* ---- searches ------------------------------------------------------------------------------------------ */

typedef struct search_job {
    qc_weights *weights;
    const value_info *info;
    search *search;
    int stop_step;
    uint64_t improved[QC_MSE_WORDS];
} search_job;

static bool search_chunk(void *user, scratch *s, int64_t first, int64_t count, failure *f)
{
    search_job *j = user;
    const value_info *v = j->info;
    int64_t n = qc_weights_scale_count(&v->layout, count), at = qc_weights_scale_count(&v->layout, first);
    const void *x = qc_weights_finite_rows(s, j->weights, v->x, first, count, f);
    float *own = x ? qc_weights_scratch(s, (size_t)n * 2 * sizeof *own, f) : NULL;
    uint64_t improved[QC_MSE_WORDS] = {0};
    if (!own)
        return false;
    float *mins = j->search->mins ? j->search->mins + at : own;
    float *maxs = j->search->maxs ? j->search->maxs + at : own + n, amax = 0;
    if (!qc_weights_search_rows(s, v, x, count, j->stop_step, mins, maxs, improved, f))
        return false;
    for (int64_t i = 0; i < n; i++) {
        amax = fmaxf(amax, fabsf(mins[i]));
        amax = fmaxf(amax, fabsf(maxs[i]));
    }
#ifdef _OPENMP
#pragma omp critical(qc_weights_search)
#endif
    {
        j->search->amax = fmaxf(j->search->amax, amax);
        for (size_t i = 0; i < QC_MSE_WORDS; i++)
            j->improved[i] |= improved[i];
    }
    return true;
}

static qc_status search_pass(search_job *j)
{
    const value_info *v = j->info;
    memset(j->improved, 0, sizeof j->improved);
    j->search->amax = 0;
    return qc_weights_run(
        j->weights, 0, v->x->rows, qc_weights_row_bytes(v->x), v->layout.block_rows, search_chunk, j);
}

/* One range for everything: its error is one sum, so all elements are held while it is searched. */
static qc_status search_whole(search_job *j)
{
    const value_info *v = j->info;
    qc_weights *w = j->weights;
    size_t bytes = qc_weights_bytes(v->x->dtype, v->x->count);
    void *x = malloc(bytes ? bytes : 1);
    if (!x)
        return qc_ctx_error(w->ctx, "", "out of memory (%zu bytes more were needed for weights)", bytes);
    qc_status status = qc_weights_run_rows(w, v->x, 0, v->x->rows, 1, x);
    memset(j->improved, 0, sizeof j->improved);
    if (status == QC_OK && !qc_mse_search(&v->quantizer, &v->mse, x, 1, v->x->count, v->x->count, NULL,
                               j->stop_step, j->search->mins, j->search->maxs, j->improved))
        status = qc_ctx_error(w->ctx, "", "out of memory");
    int stop = qc_mse_stop_step(&v->mse, j->improved);
    if (status == QC_OK && qc_mse_improved_after(j->improved, stop) &&
        !qc_mse_search(&v->quantizer, &v->mse, x, 1, v->x->count, v->x->count, NULL, stop, j->search->mins,
            j->search->maxs, j->improved))
        status = qc_ctx_error(w->ctx, "", "out of memory");
    free(x);
    j->search->stop_step = stop;
    if (status == QC_OK)
        j->search->amax = fmaxf(fabsf(*j->search->mins), fabsf(*j->search->maxs));
    return status;
}

static void drop(qc_weights *w, search *s)
{
    search **link = &w->searches;
    while (*link != s)
        link = &(*link)->next;
    *link = s->next;
    w->search_bytes -= s->bytes;
    free(s->mins);
    free(s);
}

/* Makes room by giving up, oldest first, what no stream uses. */
static bool make_room(qc_weights *w, size_t bytes)
{
    for (search *s = w->searches, *next; s && w->search_bytes + bytes > QC_WEIGHTS_KEPT_BYTES; s = next) {
        next = s->next;
        if (s->users == 0)
            drop(w, s);
    }
    return w->search_bytes + bytes <= QC_WEIGHTS_KEPT_BYTES;
}

static search *find_search(const qc_weights *w, const search *key)
{
    for (search *s = w->searches; s; s = s->next)
        if (s->x == key->x && s->importance == key->importance && strcmp(s->scheme, key->scheme) == 0 &&
            strcmp(s->arg, key->arg) == 0)
            return s;
    return NULL;
}

static search *new_search(qc_weights *w, const search *key, int64_t ranges, bool needed)
{
    size_t bytes = (size_t)ranges * 2 * sizeof(float);
    search *s = malloc(sizeof *s);
    if (!s)
        return NULL;
    *s = *key;
    if (make_room(w, bytes) || needed) {
        s->mins = malloc(bytes ? bytes : 1);
        s->maxs = s->mins ? s->mins + ranges : NULL;
        s->bytes = s->mins ? bytes : 0;
    }
    if (needed && !s->mins) {
        free(s);
        return NULL;
    }
    w->search_bytes += s->bytes;
    search **link = &w->searches;
    while (*link)
        link = &(*link)->next;
    *link = s;
    return s;
}

qc_status qc_weights_search(qc_weight_stream *s, value_info *v)
{
    qc_weights *w = s->weights;
    const qc_op *op = qc_value_op(v->value);
    search key = {.x = v->x->value,
        .importance = v->column_weights ? qc_op_operand_named(op, "importance") : NULL,
        .scheme = qc_attr_as_text(qc_op_attr(op, "scheme")),
        .arg = qc_attr_as_text(qc_op_attr(op, "arg"))};
    search *found = find_search(w, &key);
    if (!found) {
        const bool one = v->layout.kind == LAYOUT_ONE;
        found = new_search(w, &key, qc_weights_scale_count(&v->layout, v->x->rows), one);
        search_job j = {.weights = w, .info = v, .search = found, .stop_step = qc_mse_steps(&v->mse)};
        if (!found)
            return qc_ctx_error(w->ctx, "", "out of memory");
        qc_status status = one ? search_whole(&j) : search_pass(&j);
        if (status == QC_OK && !one) {
            found->stop_step = j.stop_step = qc_mse_stop_step(&v->mse, j.improved);
            if (qc_mse_improved_after(j.improved, j.stop_step))
                status = search_pass(&j);
        }
        if (status != QC_OK) {
            drop(w, found);
            return status;
        }
    }
    found->users++;
    QC_PUSH(&s->arena, &s->searches, found);
    v->search = found;
    return QC_OK;
}

void qc_weights_release_searches(qc_weight_stream *s)
{
    for (size_t i = 0; i < s->searches.count; i++)
        s->searches.items[i]->users--;
    s->searches.count = 0;
}

void qc_weights_drop_searches(qc_weights *w)
{
    for (search *s = w->searches, *next; s; s = next) {
        next = s->next;
        if (s->users == 0)
            drop(w, s);
    }
}

void qc_weights_free_searches(qc_weights *w)
{
    while (w->searches)
        drop(w, w->searches);
}

/* ---- one number for everything ------------------------------------------------------------------------- */

qc_status qc_weights_amax(qc_weight_stream *s, value_info *v, bool searches, float *amax)
{
    float min = 0, max = 0;
    if (searches) {
        if (qc_weights_search(s, v) != QC_OK)
            return QC_ERROR;
        *amax = v->search->amax;
        return QC_OK;
    }
    if (qc_weights_run_minmax(s->weights, v->x, &min, &max) != QC_OK)
        return QC_ERROR;
    *amax = fmaxf(fabsf(min), fabsf(max));
    return QC_OK;
}

qc_status qc_weights_tensor_scale(qc_weight_stream *s, value_info *v, float *scale, float *zero_point)
{
    float min, max;
    if (v->search) {
        min = *v->search->mins;
        max = *v->search->maxs;
    } else if (qc_weights_run_minmax(s->weights, v->x, &min, &max) != QC_OK) {
        return QC_ERROR;
    }
    qc_quantizer_scale(&v->quantizer, min, max, v->global, scale, zero_point);
    if (!isfinite(*scale))
        return qc_ctx_error(s->weights->ctx, v->x->tensor ? v->x->tensor->name : s->weights->directory,
            "its numbers are too large: no scale of %s is large enough",
            qc_dtype_name(v->part.scale_type != QC_DTYPE_NONE ? v->part.scale_type : v->x->dtype));
    return QC_OK;
}
