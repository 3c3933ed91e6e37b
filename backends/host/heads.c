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

void qc_host_view_rows(const qc_host_view *view, size_t head, size_t token, size_t count, size_t column,
    size_t columns, qc_host_chunk *chunk)
{
    const qc_host_heads *h = view->heads;
    size_t bits = (size_t)qc_dtype_bits(h->dtype), scale_bytes = 0, page_tokens = SIZE_MAX;
    const char *data = h->data, *scales = h->scales.data;
    size_t page = 0, in_page = token;

    if (h->scales.dtype)
        scale_bytes = (size_t)qc_dtype_bits(h->scales.dtype) / 8;
    if (h->pages || h->scales.pages) {
        page_tokens = h->page_tokens;
        page = token / page_tokens;
        in_page = token % page_tokens;
    }
    for (size_t i = 0; i < count;) {
        size_t run = qc_host_min(count - i, page_tokens - in_page);
        size_t flat = h->pages ? in_page : token + i, flat_scale = h->scales.pages ? in_page : token + i;
        const char *row = h->pages ? h->pages[page] : data;
        row += (flat * h->token_stride + head * h->head_stride + column) * bits / 8;
        for (size_t l = 0; l < run; l++, row += h->token_stride * bits / 8)
            chunk->rows[i + l] = row;
        if (scale_bytes) {
            const char *scale = h->scales.pages ? h->scales.pages[page] : scales;
            scale += (flat_scale * h->scales.token_stride + head * h->scales.head_stride) * scale_bytes;
            for (size_t l = 0; l < run; l++, scale += h->scales.token_stride * scale_bytes)
                dynamic_factors(view, scale, chunk->factors + (i + l) * view->per_row);
        }
        i += run;
        in_page = 0;
        page++;
    }
    if (!view->codes)
        return;
    if (!scale_bytes)
        static_factors(view, head, chunk->factors);
    size_t stride = qc_host_ceil_div(columns, QC_HOST_PANEL) * QC_HOST_PANEL;
    const qc_host_codes codes = {.codes = view->codes,
        .packed = view->packed,
        .dtype = view->dtype,
        .rows = count,
        .columns = columns,
        .first = column,
        .row = chunk->rows,
        .factors = chunk->factors,
        .factor_stride = scale_bytes ? view->per_row : 0,
        .group = view->group,
        .values = chunk->values,
        .stride = stride};
    view->engine->simd->codes(&codes);
    for (size_t i = 0; i < count; i++)
        chunk->rows[i] = (const char *)chunk->values + i * stride * qc_host_dtype_bytes(view->dtype);
}
