/* SPDX-License-Identifier: MIT
 *
 * weights_rows.c - rows of the values of weight expressions, in one thread; see weights_internal.h.
 *
 * A row is asked for and asks for the rows of its operands, in scratch memory that the chunk owns. A quantize makes
 * its scales and zero points from the rows that it has in hands where they are made of nothing else, so that a tensor
 * is read once.
 */
#include "runtime/weights_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ir/dtype/codec.h"
#include "ir/dtype/pack.h"

/* ---- memory -------------------------------------------------------------------------------------------- */

enum { SCRATCH_ALIGN = 64 };

typedef struct scratch_extra {
    struct scratch_extra *next;
} scratch_extra;

static void free_extras(scratch *s)
{
    while (s->extras) {
        scratch_extra *next = s->extras->next;
        free(s->extras);
        s->extras = next;
    }
}

void qc_scratch_reset(scratch *s)
{
    if (s->extras) {
        free_extras(s);
        free(s->base);
        s->base = aligned_alloc(SCRATCH_ALIGN, s->wanted_bytes);
        s->capacity_bytes = s->base ? s->wanted_bytes : 0;
    }
    s->used_bytes = s->wanted_bytes = 0;
}

void qc_scratch_free(scratch *s)
{
    free_extras(s);
    free(s->base);
    *s = (scratch){0};
}

void *qc_weights_scratch(scratch *s, size_t size_bytes, failure *f)
{
    size_t rounded = (size_bytes / SCRATCH_ALIGN + 1) * SCRATCH_ALIGN;
    s->wanted_bytes += rounded;
    if (rounded <= s->capacity_bytes - s->used_bytes) {
        void *memory = s->base + s->used_bytes;
        s->used_bytes += rounded;
        return memory;
    }
    scratch_extra *extra = aligned_alloc(SCRATCH_ALIGN, rounded + SCRATCH_ALIGN);
    if (!extra) {
        *f = (failure){.kind = FAILURE_MEMORY, .size_bytes = size_bytes};
        return NULL;
    }
    extra->next = s->extras;
    s->extras = extra;
    return (char *)extra + SCRATCH_ALIGN;
}

size_t qc_weights_bytes(qc_dtype dtype, int64_t count)
{
    int bits = qc_dtype_bits(dtype);
    return (size_t)count * (size_t)(bits < 8 ? 1 : bits / 8);
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static int64_t first_nonfinite16(const uint16_t *p, int64_t count, uint16_t mask)
{
    uint16_t bad = 0;
    for (int64_t i = 0; i < count; i++)
        bad |= (uint16_t)((p[i] & mask) == mask);
    if (!bad)
        return -1;
    int64_t i = 0;
    while ((p[i] & mask) != mask)
        i++;
    return i;
}

static int64_t first_nonfinite8(const uint8_t *p, int64_t count, uint8_t mask)
{
    uint8_t bad = 0;
    for (int64_t i = 0; i < count; i++)
        bad |= (uint8_t)((p[i] & mask) == mask);
    if (!bad)
        return -1;
    int64_t i = 0;
    while ((p[i] & mask) != mask)
        i++;
    return i;
}

static int64_t first_nonfinite32(const float *p, int64_t count)
{
    const uint32_t mask = 0x7f800000u;
    uint32_t bad = 0, bits;
    for (int64_t i = 0; i < count; i++) {
        memcpy(&bits, &p[i], sizeof bits);
        bad |= (uint32_t)((bits & mask) == mask);
    }
    for (int64_t i = 0; bad && i < count; i++) {
        memcpy(&bits, &p[i], sizeof bits);
        if ((bits & mask) == mask)
            return i;
    }
    return -1;
}

static int64_t first_nonfinite64(const uint64_t *p, int64_t count)
{
    const uint64_t mask = 0x7ff0000000000000u;
    for (int64_t i = 0; i < count; i++)
        if ((p[i] & mask) == mask)
            return i;
    return -1;
}

/* The first element that is no finite number; -1 when there is none. An f8e5m2 exponent of all ones and the
 * f8e4m3 code 0x7f are what those formats have of infinities and NaN. */
static int64_t first_nonfinite(qc_dtype dtype, const void *data, int64_t count)
{
    switch (dtype) {
    case QC_BF16:
        return first_nonfinite16(data, count, 0x7f80);
    case QC_F16:
        return first_nonfinite16(data, count, 0x7c00);
    case QC_F32:
        return first_nonfinite32(data, count);
    case QC_F64:
        return first_nonfinite64(data, count);
    case QC_F8E4M3:
        return first_nonfinite8(data, count, 0x7f);
    case QC_F8E5M2:
        return first_nonfinite8(data, count, 0x7c);
    default:
        return -1;
    }
}

static bool read_bytes(
    const qc_weights *w, const qc_st_tensor *tensor, void *out, size_t length, uint64_t offset, failure *f)
{
    int fd = w->set.files[tensor->file].fd;
    char *p = out;
    while (length) {
        ssize_t n = pread(fd, p, length, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            *f = (failure){.kind = FAILURE_READ, .tensor = tensor, .error = n < 0 ? errno : 0};
            return false;
        }
        p += n;
        offset += (uint64_t)n;
        length -= (size_t)n;
    }
    return true;
}

size_t qc_weights_row_bytes(const value_info *v)
{
    return qc_weights_bytes(v->dtype, v->row_elems) * (size_t)v->spread;
}

/* The tensor that a value is, or is made of. */
static const qc_st_tensor *tensor_of(const value_info *v)
{
    while (v->x && !v->tensor)
        v = v->x;
    return v->tensor;
}

bool qc_weights_all_finite(const value_info *v, const void *rows, int64_t first, int64_t count, failure *f)
{
    int64_t bad = first_nonfinite(v->dtype, rows, count * v->row_elems);
    if (bad >= 0 && v->tensors)
        *f = (failure){.kind = FAILURE_NONFINITE,
            .tensor = v->tensors[first + bad / v->row_elems],
            .element = bad % v->row_elems};
    else if (bad >= 0)
        *f = (failure){.kind = v->tensor ? FAILURE_NONFINITE : FAILURE_OVERFLOW,
            .tensor = tensor_of(v),
            .element = v->tensor_first + first * v->row_elems + bad};
    return bad < 0;
}

/* Elements [first, first + count) of a tensor of the source, not looked at. */
static bool read_tensor(scratch *s, const qc_weights *w, const qc_st_tensor *tensor, qc_dtype to,
    int64_t first, int64_t count, void *out, failure *f)
{
    qc_dtype from = qc_dtype_from_safetensors_name(tensor->dtype);
    size_t bytes = qc_weights_bytes(from, count);
    void *raw = from == to ? out : qc_weights_scratch(s, bytes, f);
    if (!raw || !read_bytes(w, tensor, raw, bytes, tensor->offset_bytes + qc_weights_bytes(from, first), f))
        return false;
    if (from != to)
        qc_convert(from, raw, to, out, (size_t)count);
    return true;
}

bool qc_weights_read_elems(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, void *out, failure *f)
{
    if (!read_tensor(s, w, v->tensor, v->dtype, v->tensor_first + first, count, out, f))
        return false;
    int64_t bad = first_nonfinite(v->dtype, out, count);
    if (bad >= 0)
        *f = (failure){
            .kind = FAILURE_NONFINITE, .tensor = v->tensor, .element = v->tensor_first + first + bad};
    return bad < 0;
}

/* Rows of a weight, not looked at. */
static bool read_rows(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, void *out, failure *f)
{
    if (!v->tensors)
        return read_tensor(
            s, w, v->tensor, v->dtype, v->tensor_first + first * v->row_elems, count * v->row_elems, out, f);
    for (int64_t r = 0; r < count; r++)
        if (!read_tensor(s, w, v->tensors[first + r], v->dtype, 0, v->row_elems,
                (char *)out + qc_weights_bytes(v->dtype, r * v->row_elems), f))
            return false;
    return true;
}

static bool weight_rows(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, void *out, failure *f)
{
    return read_rows(s, w, v, first, count, out, f) && qc_weights_all_finite(v, out, first, count, f);
}

/* ---- scales -------------------------------------------------------------------------------------------- */

int64_t qc_weights_scale_count(const layout *l, int64_t count)
{
    if (l->kind == LAYOUT_ONE)
        return 1;
    return (count + l->block_rows - 1) / l->block_rows * l->lines_per_row * l->per_line;
}

const void *qc_weights_operand_rows(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, failure *f)
{
    const void *whole = v->ready ? v->ready : v->data;
    if (whole)
        return (const char *)whole + qc_weights_bytes(v->dtype, first * v->row_elems);
    void *rows = qc_weights_scratch(s, qc_weights_bytes(v->dtype, count * v->row_elems), f);
    return rows && qc_weights_rows(s, w, v, first, count, rows, f) ? rows : NULL;
}

/* The same, but tensors of the source are not looked at: whoever takes the range of the rows sees what is in them. */
const void *qc_weights_raw_rows(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, failure *f)
{
    if (!v->tensor || v->ready)
        return qc_weights_operand_rows(s, w, v, first, count, f);
    void *rows = qc_weights_scratch(s, qc_weights_bytes(v->dtype, count * v->row_elems), f);
    return rows && read_rows(s, w, v, first, count, rows, f) ? rows : NULL;
}

/* Rows of what is to be quantized. Tensors of the source are looked at as they are read; what was computed from them may
 * have overflowed. */
const void *qc_weights_finite_rows(
    scratch *s, const qc_weights *w, const value_info *x, int64_t first, int64_t count, failure *f)
{
    const void *rows = qc_weights_operand_rows(s, w, x, first, count, f);
    return rows && (x->tensor || qc_weights_all_finite(x, rows, first, count, f)) ? rows : NULL;
}

/* A range that holds what is not finite gives a scale that is not; so does one that is too large for the scale's type,
 * or for the difference of its ends. */
bool qc_weights_check_numbers(const value_info *x, const void *rows, int64_t first, int64_t count,
    const float *numbers, int64_t n, qc_dtype type, failure *f)
{
    int64_t bad = first_nonfinite32(numbers, n);
    if (bad < 0)
        return true;
    if (qc_weights_all_finite(x, rows, first, count, f))
        *f = (failure){.kind = FAILURE_SCALE,
            .tensor = tensor_of(x),
            .element = first * x->row_elems + bad * (count * x->row_elems / n),
            .scale = type};
    return false;
}

/* The type of the scales that qparams `v` makes. */
static qc_dtype scale_type_of(const value_info *v)
{
    return v->part.scale_type != QC_DTYPE_NONE ? v->part.scale_type : v->x->dtype;
}

/* The blocks that begin in `count` rows of x, each with its rows behind each other, padded with zeros. */
static void *gather_blocks(scratch *s, const value_info *v, const void *x, int64_t count, failure *f)
{
    const layout *l = &v->layout;
    int64_t across = l->per_line, down = (count + l->block_rows - 1) / l->block_rows;
    int64_t block_elems = l->block_rows * l->group;
    size_t each = qc_weights_bytes(v->x->dtype, 1), bytes = (size_t)(down * across * block_elems) * each;
    char *out = qc_weights_scratch(s, bytes, f);
    if (!out)
        return NULL;
    memset(out, 0, bytes);
    for (int64_t r = 0; r < count; r++) {
        const char *line = (const char *)x + (size_t)(r * l->columns) * each;
        int64_t block = r / l->block_rows * across, inner = r % l->block_rows;
        for (int64_t c = 0; c < across; c++) {
            int64_t left = l->columns - c * l->group, width = left < l->group ? left : l->group;
            memcpy(out + (size_t)((block + c) * block_elems + inner * l->group) * each,
                line + (size_t)(c * l->group) * each, (size_t)width * each);
        }
    }
    return out;
}

bool qc_weights_search_rows(scratch *s, const value_info *v, const void *x, int64_t count, int stop_step,
    float *mins, float *maxs, uint64_t *improved, failure *f)
{
    const layout *l = &v->layout;
    int64_t lines = count * l->lines_per_row, columns = l->columns, group = l->group;
    if (l->kind == LAYOUT_BLOCKS) {
        x = gather_blocks(s, v, x, count, f);
        lines = qc_weights_scale_count(l, count);
        columns = group = l->block_rows * l->group;
    }
    uint64_t ignored[QC_MSE_WORDS] = {0};
    if (!x)
        return false;
    if (qc_mse_search(&v->quantizer, &v->mse, x, lines, columns, group, v->column_weights, stop_step, mins,
            maxs, improved ? improved : ignored))
        return true;
    *f = (failure){.kind = FAILURE_MEMORY, .size_bytes = (size_t)(columns * lines)};
    return false;
}

/* Scales and zero points (may be NULL) that qparams or zero_point `v` gives to rows [first, first + count) of x, which
 * begin a block. */
static bool make_scales(scratch *s, const value_info *v, const void *x, int64_t first, int64_t count,
    float *scales, float *zero_points, failure *f)
{
    const layout *l = &v->layout;
    int64_t n = qc_weights_scale_count(l, count);
    const qc_quantizer *q = &v->quantizer;
    if (!v->search && l->kind == LAYOUT_LINES)
        qc_quantizer_rows_scales(
            q, x, count * l->lines_per_row, l->columns, l->group, v->global, scales, zero_points);
    else if (!v->search)
        qc_quantizer_blocks_scales(
            q, x, count, l->columns, l->block_rows, l->group, v->global, scales, zero_points);
    if (!v->search)
        return true;
    const float *mins, *maxs;
    if (v->search->mins) {
        int64_t at = qc_weights_scale_count(l, first);
        mins = v->search->mins + at;
        maxs = v->search->maxs + at;
    } else {
        float *ranges = qc_weights_scratch(s, (size_t)n * 2 * sizeof *ranges, f);
        if (!ranges ||
            !qc_weights_search_rows(s, v, x, count, v->search->stop_step, ranges, ranges + n, NULL, f))
            return false;
        mins = ranges;
        maxs = ranges + n;
    }
    qc_quantizer_scales(q, mins, maxs, n, v->global, scales, zero_points);
    return true;
}

/* Scales or zero points `v` of the blocks that rows [first, first + count) of x lie in, as f32. */
static const float *load_scales(scratch *s, const qc_weights *w, const value_info *v, const layout *l,
    int64_t first, int64_t count, failure *f)
{
    int64_t from = 0, rows = 1;
    if (l->kind != LAYOUT_ONE) {
        from = first / l->block_rows;
        rows = (first + count - 1) / l->block_rows + 1 - from;
    }
    int64_t n = l->kind == LAYOUT_ONE ? 1 : rows * v->row_elems;
    const void *stored = qc_weights_operand_rows(s, w, v, from, rows, f);
    float *scales = stored ? qc_weights_scratch(s, (size_t)n * sizeof *scales, f) : NULL;
    /* Zero points of less than 8 bits are a byte each. */
    if (scales)
        qc_decode_f32(qc_dtype_bits(v->dtype) < 8 ? QC_I8 : v->dtype, stored, scales, (size_t)n);
    return scales;
}

/* ---- codes --------------------------------------------------------------------------------------------- */

/* Is `scale` what can be made from rows of x as they go by? */
static bool comes_along(const value_info *scale, const value_info *x)
{
    return scale && !scale->ready && !scale->data && scale->x == x &&
           (strcmp(scale->op, "qparams") == 0 || strcmp(scale->op, "zero_point") == 0);
}

/* Codes of rows [first, first + count) out of `rows`, which are [from, from + all) and hold whole blocks. */
static bool quantize_rows(scratch *s, const value_info *v, const char *rows, int64_t first, int64_t count,
    int64_t from, int64_t all, const float *scales, const float *zero_points, uint8_t *codes, failure *f)
{
    const layout *l = &v->layout;
    const qc_quantizer *q = &v->quantizer;
    if (l->kind != LAYOUT_BLOCKS) {
        int64_t lines = l->kind == LAYOUT_ONE ? 1 : count * l->lines_per_row;
        int64_t columns = count * v->row_elems / (lines ? lines : 1);
        rows += qc_weights_bytes(v->x->dtype, (first - from) * v->row_elems);
        qc_quantizer_rows_codes(q, rows, lines, columns, l->kind == LAYOUT_ONE ? columns : l->group, scales,
            v->global, zero_points, codes);
        return true;
    }
    uint8_t *block = codes;
    if (all != count && !(block = qc_weights_scratch(s, (size_t)(all * v->row_elems), f)))
        return false;
    qc_quantizer_blocks_codes(
        q, rows, all, l->columns, l->block_rows, l->group, scales, v->global, zero_points, block);
    if (block != codes)
        memcpy(codes, block + (first - from) * v->row_elems, (size_t)(count * v->row_elems));
    return true;
}

bool qc_weights_codes(scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count,
    void *codes, const float **scales, const float **zero_points, failure *f)
{
    const layout *l = &v->layout;
    const value_info *x = v->x, *scale = v->scale, *zero = v->zero_point;
    const bool made = comes_along(scale, x), zero_made = zero && comes_along(zero, x);
    int64_t from = first, to = first + count;
    if (l->kind == LAYOUT_BLOCKS) {
        from -= from % l->block_rows;
        to += l->block_rows - 1 - (to - 1) % l->block_rows;
        to = to < v->rows ? to : v->rows;
    }
    const bool seen = made && !scale->search && x->tensor;
    const char *rows = seen ? qc_weights_raw_rows(s, w, x, from, to - from, f)
                            : qc_weights_finite_rows(s, w, x, from, to - from, f);
    if (!rows)
        return false;
    *zero_points = NULL;
    if (made || zero_made) {
        int64_t n = qc_weights_scale_count(l, to - from);
        size_t bytes = (size_t)n * sizeof(float);
        float *new_scales = qc_weights_scratch(s, bytes, f), *new_zeros = qc_weights_scratch(s, bytes, f);
        if (!new_scales || !new_zeros ||
            !make_scales(
                s, made ? scale : zero, rows, from, to - from, new_scales, zero_made ? new_zeros : NULL, f) ||
            !qc_weights_check_numbers(
                x, rows, from, to - from, new_scales, n, scale_type_of(made ? scale : zero), f))
            return false;
        *scales = made ? new_scales : NULL;
        *zero_points = zero_made ? new_zeros : NULL;
    }
    if (!made && !(*scales = load_scales(s, w, scale, l, first, count, f)))
        return false;
    if (zero && !zero_made && !(*zero_points = load_scales(s, w, zero, l, first, count, f)))
        return false;
    return quantize_rows(s, v, rows, first, count, from, to - from, *scales, *zero_points, codes, f);
}

static bool same_layout(const layout *a, const layout *b)
{
    return a->kind == b->kind && a->group == b->group && a->block_rows == b->block_rows;
}

static bool dequantize_rows(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, void *out, failure *f)
{
    const value_info *ci = v->x;
    const layout *l = &v->layout;
    const float *scales, *zeros = NULL;
    const uint8_t *codes;
    if (!ci->ready && strcmp(ci->op, "quantize") == 0 && ci->scale == v->scale &&
        ci->zero_point == v->zero_point && same_layout(l, &ci->layout)) {
        uint8_t *made = qc_weights_scratch(s, (size_t)(count * v->row_elems), f);
        if (!made || !qc_weights_codes(s, w, ci, first, count, made, &scales, &zeros, f))
            return false;
        codes = made;
    } else {
        codes = qc_weights_operand_rows(s, w, ci, first, count, f);
        scales = codes ? load_scales(s, w, v->scale, l, first, count, f) : NULL;
        if (!scales || (v->zero_point && !(zeros = load_scales(s, w, v->zero_point, l, first, count, f))))
            return false;
    }
    const qc_quantizer *q = &v->quantizer;
    if (l->kind == LAYOUT_BLOCKS) {
        /* from the start of a block on */
        int64_t from = first - first % l->block_rows, all = first + count - from;
        const uint8_t *block_codes = codes;
        char *block = out;
        if (from != first) {
            uint8_t *padded = qc_weights_scratch(s, (size_t)(all * v->row_elems), f);
            block = qc_weights_scratch(s, qc_weights_bytes(v->dtype, all * v->row_elems), f);
            if (!padded || !block)
                return false;
            memset(padded, 0, (size_t)((first - from) * v->row_elems));
            memcpy(padded + (first - from) * v->row_elems, codes, (size_t)(count * v->row_elems));
            block_codes = padded;
        }
        qc_quantizer_blocks_dequantize(q, v->dtype, block_codes, all, l->columns, l->block_rows, l->group,
            scales, v->global, zeros, block);
        if (block != out)
            memcpy(out, block + qc_weights_bytes(v->dtype, (first - from) * v->row_elems),
                qc_weights_bytes(v->dtype, count * v->row_elems));
        return true;
    }
    int64_t lines = l->kind == LAYOUT_ONE ? 1 : count * l->lines_per_row;
    int64_t columns = count * v->row_elems / (lines ? lines : 1);
    qc_quantizer_rows_dequantize(q, v->dtype, codes, lines, columns,
        l->kind == LAYOUT_ONE ? columns : l->group, scales, v->global, zeros, out);
    return true;
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

/* Rows of scales or zero points by themselves. */
static bool scale_rows(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, void *out, failure *f)
{
    const layout *l = &v->layout;
    const value_info *x = v->x;
    int64_t from = first * l->block_rows, to = (first + count) * l->block_rows;
    to = to < x->rows ? to : x->rows;
    int64_t n = qc_weights_scale_count(l, to - from);
    const void *rows = qc_weights_finite_rows(s, w, x, from, to - from, f);
    float *scales = rows ? qc_weights_scratch(s, (size_t)n * 2 * sizeof *scales, f) : NULL;
    if (!scales ||
        !make_scales(s, v, rows, from, to - from, scales, v->part.symmetric ? NULL : scales + n, f) ||
        !qc_weights_check_numbers(x, rows, from, to - from, scales, n, scale_type_of(v), f))
        return false;
    qc_encode_f32(v->dtype, strcmp(v->op, "zero_point") == 0 ? scales + n : scales, out, (size_t)n);
    return true;
}

static bool cast_rows(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, void *out, failure *f)
{
    const void *x = qc_weights_operand_rows(s, w, v->x, first, count, f);
    if (x)
        qc_convert(v->x->dtype, x, v->dtype, out, (size_t)(count * v->row_elems));
    return x != NULL;
}

static bool unpack_rows(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, void *out, failure *f)
{
    const char *x = qc_weights_operand_rows(s, w, v->x, first, count, f);
    if (!x)
        return false;
    size_t row_bytes = qc_weights_bytes(v->x->dtype, v->x->row_elems);
    for (int64_t r = 0; r < count; r++) {
        uint8_t *codes = (uint8_t *)out + r * v->row_elems;
        if (v->dtype == QC_F8E8M0)
            memcpy(codes, x + (size_t)r * row_bytes, (size_t)v->row_elems);
        else if (v->dtype == QC_F4E2M1)
            qc_unpack_nibbles((const uint8_t *)x + (size_t)r * row_bytes, (size_t)v->row_elems, codes);
        else
            qc_unpack_words(
                qc_dtype_bits(v->dtype), x + (size_t)r * row_bytes, (size_t)v->row_elems, (int8_t *)codes);
    }
    return true;
}

bool qc_weights_rows(
    scratch *s, const qc_weights *w, const value_info *v, int64_t first, int64_t count, void *out, failure *f)
{
    const void *whole = v->ready ? v->ready : v->data;
    const float *scales, *zeros;
    if (whole) {
        memcpy(out, (const char *)whole + qc_weights_bytes(v->dtype, first * v->row_elems),
            qc_weights_bytes(v->dtype, count * v->row_elems));
        return true;
    }
    if (v->tensor)
        return weight_rows(s, w, v, first, count, out, f);
    if (v->move)
        return qc_weights_move_rows(s, w, v, first, count, out, f);
    if (v->turn)
        return qc_weights_turn_rows(s, w, v, first, count, out, f);
    if (strcmp(v->op, "cast") == 0)
        return cast_rows(s, w, v, first, count, out, f);
    if (strcmp(v->op, "unpack") == 0)
        return unpack_rows(s, w, v, first, count, out, f);
    if (strcmp(v->op, "dequantize") == 0)
        return dequantize_rows(s, w, v, first, count, out, f);
    if (strcmp(v->op, "quantize") == 0)
        return qc_weights_codes(s, w, v, first, count, out, &scales, &zeros, f);
    return scale_rows(s, w, v, first, count, out, f);
}
