/* SPDX-License-Identifier: MIT
 *
 * heads.c - addresses of rows in flat arrays and in pages, their scales, and the values of their codes.
 *
 * A chunk of tokens is widened at a time: its row addresses and factors are gathered first, walking from page to
 * page, then one call of simd_codes.c turns all its codes into values.
 */
#include "backends/host/heads.h"

#include <math.h>

#include "ir/dtype/codec.h"

static bool is_code_type(qc_dtype dtype)
{
    return dtype == QC_F8E4M3 || dtype == QC_F8E5M2 || dtype == QC_I8 || dtype == QC_I4 || dtype == QC_F4E2M1;
}

static bool is_scale_type(qc_dtype dtype)
{
    return qc_host_is_value_dtype(dtype) || dtype == QC_F8E4M3 || dtype == QC_F8E5M2 || dtype == QC_F8E8M0;
}

/* What the bytes in memory are: QC_DTYPE_NONE where the two types do not fit. */
static qc_dtype codes_of(const qc_host_heads *heads)
{
    if (heads->codes == QC_DTYPE_NONE || heads->codes == heads->dtype)
        return heads->dtype;
    if (heads->dtype == QC_U8 && heads->codes == QC_F4E2M1)
        return QC_F4E2M1;
    return heads->dtype == QC_I8 && heads->codes == QC_I4 ? QC_I8 : QC_DTYPE_NONE;
}

/* NaN as the one whose bits rounding keeps. */
static float factor_of(float scale, float global)
{
    float factor = global != 0.0f ? scale / global : scale;
    return isnan(factor) ? NAN : factor;
}

void qc_host_view_init(
    const qc_host_engine *engine, const qc_host_heads *heads, size_t size, qc_dtype d, qc_host_view *view)
{
    const qc_host_scales *scales = &heads->scales;

    *view = (qc_host_view){.engine = engine, .heads = heads, .size = size};
    view->padded = qc_host_ceil_div(size, QC_HOST_PANEL) * QC_HOST_PANEL;
    if (qc_host_is_value_dtype(heads->dtype)) {
        view->dtype = heads->dtype;
        return;
    }
    view->dtype = d;
    view->codes = codes_of(heads);
    view->packed = heads->dtype == QC_I4 || heads->dtype == QC_F4E2M1;
    view->group = heads->scale    ? (heads->scale_column_stride ? 1 : size)
                  : scales->group ? scales->group
                                  : size;
    view->per_row = qc_host_ceil_div(size, view->group);
    if (scales->dtype && qc_dtype_bits(scales->dtype) == 8) {
        uint8_t codes[256];
        for (size_t i = 0; i < 256; i++)
            codes[i] = (uint8_t)i;
        qc_decode_f32(scales->dtype, codes, view->factors, 256);
        for (size_t i = 0; i < 256; i++)
            view->factors[i] = factor_of(view->factors[i], heads->global);
    }
}

qc_status qc_host_view_check(const qc_host_view *view, qc_diag *diag, const char *where, const char *name)
{
    const qc_host_heads *h = view->heads;
    bool dynamic = h->scales.dtype != QC_DTYPE_NONE;

    if ((h->pages || h->scales.pages) && h->page_tokens == 0)
        return qc_error(diag, where, "pages of %s hold no tokens", name);
    if (qc_host_is_value_dtype(h->dtype)) {
        if (h->scale || dynamic || h->codes)
            return qc_error(
                diag, where, "%s holds values of %s, so it has no scales", name, qc_dtype_name(h->dtype));
        return QC_OK;
    }
    if (!is_code_type(view->codes))
        return qc_error(diag, where, "the host has no attention on %s of %s in %s", name,
            qc_dtype_name(h->codes ? h->codes : h->dtype), qc_dtype_name(h->dtype));
    if (dynamic == (h->scale != NULL))
        return qc_error(diag, where, "codes of %s need scales, static or dynamic", name);
    if (dynamic && !is_scale_type(h->scales.dtype))
        return qc_error(diag, where, "scales of %s cannot be %s", name, qc_dtype_name(h->scales.dtype));
    if (view->packed && (h->token_stride % 2 || h->head_stride % 2))
        return qc_error(diag, where, "rows of packed %s must start at bytes", name);
    return QC_OK;
}

size_t qc_host_view_value_bytes(const qc_host_view *view)
{
    return view->codes ? QC_HOST_CHUNK * view->padded * qc_host_dtype_bytes(view->dtype) : 0;
}

size_t qc_host_view_factor_elems(const qc_host_view *view)
{
    return view->codes ? (view->heads->scale ? 1 : QC_HOST_CHUNK) * view->per_row : 0;
}

/* The scales of one token and head. */
static void dynamic_factors(const qc_host_view *view, const char *at, float *factors)
{
    const uint16_t *half = (const void *)at;
    float global = view->heads->global;

    switch (view->heads->scales.dtype) {
    case QC_F32:
        for (size_t g = 0; g < view->per_row; g++)
            factors[g] = factor_of(((const float *)(const void *)at)[g], global);
        break;
    case QC_BF16:
        for (size_t g = 0; g < view->per_row; g++)
            factors[g] = factor_of(qc_bf16_to_f32(half[g]), global);
        break;
    case QC_F16:
        for (size_t g = 0; g < view->per_row; g++)
            factors[g] = factor_of(qc_f16_to_f32(half[g]), global);
        break;
    default:
        for (size_t g = 0; g < view->per_row; g++)
            factors[g] = view->factors[(uint8_t)at[g]];
        break;
    }
}

static void static_factors(const qc_host_view *view, size_t head, float *factors)
{
    const qc_host_heads *h = view->heads;
    for (size_t g = 0; g < view->per_row; g++)
        factors[g] = factor_of(h->scale[head * h->scale_stride + g * h->scale_column_stride], h->global);
}

/* Walks over the rows of tokens [token, end), a run of one page, or all, at a time. */
typedef struct walk {
    size_t token, end;
    size_t page, in_page, page_tokens; /* page_tokens SIZE_MAX: nothing lies in pages */
} walk;

static walk walk_from(const qc_host_view *view, size_t token, size_t count)
{
    const qc_host_heads *h = view->heads;
    walk w = {.token = token, .end = token + count, .in_page = token, .page_tokens = SIZE_MAX};

    if (h->pages || h->scales.pages) {
        w.page_tokens = h->page_tokens;
        w.page = token / w.page_tokens;
        w.in_page = token % w.page_tokens;
    }
    return w;
}

static size_t run_of(const walk *w)
{
    return qc_host_min(w->end - w->token, w->page_tokens - w->in_page);
}

static void step(walk *w, size_t run)
{
    w->token += run;
    w->in_page = 0;
    w->page++;
}

/* Token w->token's part of an array with that many bytes between tokens. */
static const char *place(
    const walk *w, const void *data, const void *const *pages, size_t token_bytes, size_t head_bytes)
{
    const char *base = pages ? pages[w->page] : data;
    return base + (pages ? w->in_page : w->token) * token_bytes + head_bytes;
}

typedef struct row_bytes {
    size_t token, head; /* from token to token; to the head and the column */
} row_bytes;

static row_bytes bytes_of(const qc_host_view *view, size_t head, size_t column)
{
    const qc_host_heads *h = view->heads;
    size_t bits = (size_t)qc_dtype_bits(h->dtype);
    return (row_bytes){h->token_stride * bits / 8, (head * h->head_stride + column) * bits / 8};
}

/* Addresses of rows, and the factors of their codes. */
static void gather(
    const qc_host_view *view, size_t head, size_t token, size_t count, size_t column, qc_host_chunk *chunk)
{
    const qc_host_heads *h = view->heads;
    const row_bytes bytes = bytes_of(view, head, column);
    size_t scale_bytes = h->scales.dtype ? (size_t)qc_dtype_bits(h->scales.dtype) / 8 : 0;
    const void **rows = chunk->rows;
    float *factors = chunk->factors;

    for (walk w = walk_from(view, token, count); w.token < w.end;) {
        size_t run = run_of(&w);
        const char *row = place(&w, h->data, h->pages, bytes.token, bytes.head);
        for (size_t l = 0; l < run; l++, row += bytes.token)
            *rows++ = row;
        if (scale_bytes) {
            const char *scale = place(&w, h->scales.data, h->scales.pages,
                h->scales.token_stride * scale_bytes, head * h->scales.head_stride * scale_bytes);
            for (size_t l = 0; l < run; l++, scale += h->scales.token_stride * scale_bytes) {
                dynamic_factors(view, scale, factors);
                factors += view->per_row;
            }
        }
        step(&w, run);
    }
    if (view->codes && !scale_bytes)
        static_factors(view, head, chunk->factors);
}

/* Codes of gathered rows to values. */
static void widen(const qc_host_view *view, const qc_host_chunk *chunk, size_t count, size_t column,
    size_t columns, void *values, size_t stride, size_t block)
{
    const qc_host_codes codes = {.codes = view->codes,
        .packed = view->packed,
        .dtype = view->dtype,
        .rows = count,
        .columns = columns,
        .first = column,
        .row = chunk->rows,
        .factors = chunk->factors,
        .factor_stride = view->heads->scale ? 0 : view->per_row,
        .group = view->group,
        .values = values,
        .stride = stride,
        .block = block};
    view->engine->simd->codes(&codes);
}

void qc_host_view_rows(
    const qc_host_view *view, size_t head, size_t token, size_t count, qc_host_chunk *chunk)
{
    gather(view, head, token, count, 0, chunk);
    if (!view->codes)
        return;
    widen(view, chunk, count, 0, view->size, chunk->values, view->padded, QC_HOST_PANEL);
    for (size_t i = 0; i < count; i++)
        chunk->rows[i] = (const char *)chunk->values + i * view->padded * qc_host_dtype_bytes(view->dtype);
}

void qc_host_view_panels(const qc_host_view *view, size_t head, size_t token, size_t count, size_t column,
    size_t columns, qc_host_chunk *chunk, void *panels)
{
    const size_t bytes = qc_host_dtype_bytes(view->dtype), wide = QC_HOST_PANEL * bytes;

    gather(view, head, token, count, column, chunk);
    if (view->codes) {
        widen(view, chunk, count, column, columns, panels, QC_HOST_PANEL, QC_HOST_CHUNK * QC_HOST_PANEL);
        return;
    }
    for (size_t c = 0; c < columns; c += QC_HOST_PANEL) {
        char *panel = (char *)panels + c * QC_HOST_CHUNK * bytes;
        size_t width = qc_host_min(columns - c, QC_HOST_PANEL) * bytes;
        if (wide == 32 && width == 32)
            for (size_t l = 0; l < count; l++)
                memcpy(panel + l * 32, (const char *)chunk->rows[l] + c * bytes, 32);
        else
            for (size_t l = 0; l < count; l++) {
                memcpy(panel + l * wide, (const char *)chunk->rows[l] + c * bytes, width);
                memset(panel + l * wide + width, 0, wide - width);
            }
    }
}
