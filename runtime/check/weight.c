/* SPDX-License-Identifier: MIT
 *
 * weight.c - one weight of a checkpoint: which tensors it consists of, and its rows as codes and values; see
 * quant.h.
 *
 *   weight          a byte a code, or plain numbers
 *   weight_packed   f4e2m1 two to a byte (U8), or integers in a stream of bits over the words of a row (I32)
 *   weight_scale    [1] or [], [rows, 1], [rows, groups], [blocks, blocks]; bytes of E8M0 under MX
 *   weight_zero_point   I8 in the shape of the scales; beside packed integers as words along the rows
 *   weight_global_scale, weight_shape, weight_g_idx
 */
#include <inttypes.h>
#include <string.h>

#include "ir/dtype/codec.h"
#include "ir/dtype/pack.h"
#include "ir/dtype/quantizer.h"
#include "ir/support/io.h"
#include "runtime/check/quant.h"

/* ---- which tensors ------------------------------------------------------------------------------------- */

typedef struct fit {
    const check_model *model;
    const check_module *module;
    const check_group *group;
    check_weight *w;
    check_problems *problems;
} fit;

static void problem(fit *f, const char *text)
{
    QC_PUSH(f->model->arena, f->problems, text);
}

static bool is_one_of(const char *types, const char *type)
{
    size_t length = strlen(type);
    for (const char *at = strstr(types, type); at; at = strstr(at + 1, type))
        if ((at == types || at[-1] == ' ') && (at[length] == 0 || at[length] == ' '))
            return true;
    return false;
}

/* The tensor, when it is there and of one of `types` (separated by spaces) and of the shape; else a problem. Rank 1 of one
 * element may also be a scalar. */
static const qc_st_tensor *expect(fit *f, check_part part, const char *types, int rank, const int64_t *shape)
{
    qc_arena *arena = f->model->arena;
    const qc_st_tensor *t = f->module->parts[part];
    if (!t) {
        problem(
            f, qc_arena_printf(arena, "%s has no %s beside it", f->w->codes->name, check_part_name(part)));
        return NULL;
    }
    bool scalar = rank == 1 && shape[0] == 1 && t->rank == 0;
    bool same = scalar || (t->rank == rank && memcmp(t->shape, shape, (size_t)rank * sizeof *shape) == 0);
    if (same && is_one_of(types, t->dtype))
        return t;
    problem(f, qc_arena_printf(arena, "%s is %s; %s expects %s of %s", t->name, check_tensor_text(arena, t),
                   f->group->name, check_shape_text(arena, shape, rank), types));
    return NULL;
}

static int64_t pieces(int64_t count, int64_t size)
{
    return (count + size - 1) / size;
}

/* Storage and shape, from the tensor that holds the codes. */
static bool fit_codes(fit *f)
{
    const qc_st_tensor *packed = f->module->parts[CHECK_WEIGHT_PACKED];
    const qc_st_tensor *plain = f->module->parts[CHECK_WEIGHT];
    check_weight *w = f->w;
    qc_arena *arena = f->model->arena;
    const check_args *a = &f->group->weights;
    w->code = a->code;
    w->codes = packed ? packed : plain;
    if (!w->codes) {
        problem(f, qc_arena_printf(arena, "%s has neither weight nor weight_packed", f->module->path));
        return false;
    }
    bool ints = qc_dtype_is_int(a->code);
    w->storage = !packed ? CHECK_BYTES : strcmp(packed->dtype, "I32") == 0 ? CHECK_WORDS : CHECK_NIBBLES;
    bool right = w->storage == CHECK_WORDS     ? ints
                 : w->storage == CHECK_NIBBLES ? a->code == QC_F4E2M1 && strcmp(packed->dtype, "U8") == 0
                 : ints                        ? strcmp(plain->dtype, "I8") == 0
                                               : a->code == QC_F8E4M3 && strcmp(plain->dtype, "F8_E4M3") == 0;
    if (a->code == QC_DTYPE_NONE)
        problem(f, qc_arena_printf(arena,
                       "%s: %s has codes of type %s with %" PRId64 " bits, which is no known "
                       "element type",
                       f->module->path, f->group->name, a->type, a->bits));
    else if (!right)
        problem(f, qc_arena_printf(arena, "%s is %s; %s says codes of %s", w->codes->name,
                       check_tensor_text(arena, w->codes), f->group->name, qc_dtype_name(a->code)));
    else if (w->codes->rank != 2)
        problem(f, qc_arena_printf(arena, "%s is %s; codes form a matrix", w->codes->name,
                       check_tensor_text(arena, w->codes)));
    else
        return true;
    return false;
}

/* Rows and columns of packed integers are data of a tensor. */
static bool fit_shape(fit *f)
{
    check_weight *w = f->w;
    w->grid = qc_grid_of(w->code);
    w->rows = w->codes->shape[0];
    w->columns = w->codes->shape[1];
    if (w->storage == CHECK_NIBBLES && w->columns > INT64_MAX / 2)
        return false;
    w->columns *= w->storage == CHECK_NIBBLES ? 2 : 1;
    if (w->storage != CHECK_WORDS)
        return true;
    const qc_st_tensor *t = expect(f, CHECK_WEIGHT_SHAPE, "I64", 1, (const int64_t[1]){2});
    int64_t shape[2];
    if (!t || qc_st_read(f->model->diag, f->model->set, t, shape) != QC_OK)
        return false;
    bool small = shape[1] > 0 && shape[1] < INT64_C(1) << 40;
    if (shape[0] != w->rows || !small ||
        (int64_t)qc_pack_word_count(qc_dtype_bits(w->code), (size_t)shape[1]) != w->columns) {
        problem(f, qc_arena_printf(f->model->arena,
                       "%s says [%" PRId64 ", %" PRId64 "], which %s %s cannot hold in %s", t->name, shape[0],
                       shape[1], w->codes->name, check_tensor_text(f->model->arena, w->codes),
                       qc_dtype_name(w->code)));
        return false;
    }
    w->columns = shape[1];
    return true;
}

/* The layout of scales that the arguments ask for. */
static bool fit_granularity(fit *f)
{
    check_weight *w = f->w;
    const check_args *a = &f->group->weights;
    const char *s = a->strategy;
    bool grouped = (strcmp(s, "group") == 0 || strcmp(s, "tensor_group") == 0) && a->group_elems > 0;
    bool blocks = strcmp(s, "block") == 0 && a->block_rows > 0;
    w->block_rows = 1;
    w->group_elems = w->columns;
    if (strcmp(s, "tensor") == 0)
        w->block_rows = w->rows;
    else if (grouped)
        w->group_elems = a->group_elems;
    else if (blocks)
        w->block_rows = a->block_rows, w->group_elems = a->block_columns;
    else if (strcmp(s, "channel") != 0) {
        problem(f,
            qc_arena_printf(f->model->arena, "%s: weights of strategy %s cannot be read", f->group->name, s));
        return false;
    }
    if (w->rows < 1 || w->columns < 1) {
        problem(f, qc_arena_printf(f->model->arena, "%s is empty", w->codes->name));
        return false;
    }
    w->scale_rows = pieces(w->rows, w->block_rows);
    w->scale_columns = pieces(w->columns, w->group_elems);
    return true;
}

static void fit_scales(fit *f)
{
    check_weight *w = f->w;
    const check_args *a = &f->group->weights;
    const bool whole = strcmp(a->strategy, "tensor") == 0;
    const int rank = whole ? 1 : 2;
    int64_t shape[2] = {w->scale_rows, w->scale_columns};
    const char *types = a->scale == QC_F8E8M0   ? "U8 F8_E8M0"
                        : a->scale == QC_F8E4M3 ? "F8_E4M3"
                                                : "BF16 F16 F32";
    w->scale = expect(f, CHECK_WEIGHT_SCALE, types, rank, shape);
    if (a->scale == QC_F8E4M3)
        w->global_scale = expect(f, CHECK_WEIGHT_GLOBAL_SCALE, "F32", 1, (const int64_t[1]){1});
    w->g_idx = f->module->parts[CHECK_WEIGHT_G_IDX];
    if (w->g_idx)
        w->g_idx = expect(f, CHECK_WEIGHT_G_IDX, "I32", 1, &w->columns);
    if (a->symmetric)
        return;
    if (w->storage == CHECK_WORDS && !whole) {
        shape[0] = (int64_t)qc_pack_word_count(qc_dtype_bits(w->code), (size_t)w->scale_rows);
        w->zero_point = expect(f, CHECK_WEIGHT_ZERO_POINT, "I32", 2, shape);
    } else
        w->zero_point = expect(f, CHECK_WEIGHT_ZERO_POINT, "I8", rank, shape);
}

void check_weight_fit(const check_model *model, const check_module *module, const check_group *group,
    check_weight *weight, check_problems *problems)
{
    fit f = {model, module, group, weight, problems};
    *weight = (check_weight){.module = module, .group = group};
    if (fit_codes(&f) && fit_shape(&f) && fit_granularity(&f))
        fit_scales(&f);
}

qc_status check_weight_plain(
    qc_diag *diag, const check_model *model, const qc_st_tensor *tensor, check_weight *weight)
{
    if (!check_is_plain(tensor->dtype))
        return qc_error(diag, model->set->files[tensor->file].path, "%s is %s, not a weight of plain numbers",
            tensor->name, tensor->dtype);
    *weight = (check_weight){.storage = CHECK_PLAIN,
        .code = qc_dtype_from_safetensors_name(tensor->dtype),
        .codes = tensor,
        .rows = 1,
        .columns = 1};
    for (int i = 0; i < tensor->rank; i++) {
        weight->rows = i + 1 < tensor->rank ? weight->rows * tensor->shape[i] : weight->rows;
        weight->columns = tensor->shape[i];
    }
    return QC_OK;
}

qc_status check_weight_load(qc_diag *diag, const check_model *model, check_weight *w)
{
    if (w->global_scale && qc_st_read(diag, model->set, w->global_scale, &w->global) != QC_OK)
        return QC_ERROR;
    if (w->global_scale && !(w->global > 0))
        return qc_error(diag, model->set->files[w->global_scale->file].path, "%s holds %g",
            w->global_scale->name, (double)w->global);
    if (!w->g_idx)
        return QC_OK;
    int32_t *groups = QC_NEW_ARRAY(model->arena, int32_t, (size_t)w->columns);
    if (qc_st_read(diag, model->set, w->g_idx, groups) != QC_OK)
        return QC_ERROR;
    bool unset = true; /* -1 throughout: written, but never filled */
    for (int64_t c = 0; c < w->columns; c++)
        unset = unset && groups[c] == -1;
    for (int64_t c = 0; !unset && c < w->columns; c++)
        if (groups[c] < 0 || groups[c] >= w->scale_columns)
            return qc_error(diag, model->set->files[w->g_idx->file].path,
                "%s: column %" PRId64 " is in group %" PRId32 " of %" PRId64, w->g_idx->name, c, groups[c],
                w->scale_columns);
    w->column_groups = unset ? NULL : groups;
    return QC_OK;
}

const char *check_weight_text(qc_arena *arena, const check_weight *w)
{
    const char *code = qc_dtype_name(w->code);
    if (!w->group)
        return code;
    const check_args *a = &w->group->weights;
    const char *how = strcmp(a->strategy, "block") == 0 ? qc_arena_printf(arena, "block %" PRId64 "x%" PRId64,
                                                              a->block_rows, a->block_columns)
                      : a->scale == QC_F8E8M0 ? qc_arena_printf(arena, "mx %" PRId64, a->group_elems)
                      : a->group_elems        ? qc_arena_printf(arena, "group %" PRId64, a->group_elems)
                                              : a->strategy;
    return qc_arena_printf(arena, "%s %s%s", code, how, a->symmetric ? "" : " asymmetric");
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

int64_t check_row_scales(const check_weight *w, int64_t *elems)
{
    *elems = w->column_groups ? 1 : w->group_elems;
    return w->column_groups ? w->columns : w->scale_columns;
}

static size_t row_bytes(const check_weight *w)
{
    size_t columns = (size_t)w->columns;
    switch (w->storage) {
    case CHECK_NIBBLES:
        return columns / 2;
    case CHECK_WORDS:
        return 4 * qc_pack_word_count(qc_dtype_bits(w->code), columns);
    case CHECK_BYTES:
        return columns;
    case CHECK_PLAIN:
        break;
    }
    return columns * (size_t)qc_dtype_bits(w->code) / 8;
}

/* Rows of words that hold the zero points of `rows` rows, wherever they begin. */
static size_t zero_word_rows(const check_weight *w, int64_t rows)
{
    return (size_t)(rows * qc_dtype_bits(w->code)) / 32 + 2;
}

static size_t rounded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* From the first to the last element that lie beside each other, of `rows` rows, in a part of a tensor. */
static int64_t span_of(const check_weight *w, int64_t rows)
{
    return w->row_step < w->column_step ? (rows - 1) * w->row_step + 1
                                        : (w->columns - 1) * w->column_step + 1;
}

static size_t raw_bytes(const check_weight *w, int64_t rows)
{
    size_t codes =
        w->part ? (size_t)span_of(w, rows) * (size_t)qc_dtype_bits(w->code) / 8 : (size_t)rows * row_bytes(w);
    size_t scales = 4 * (zero_word_rows(w, rows) + (size_t)rows) * (size_t)w->scale_columns;
    return rounded(codes > scales || w->storage == CHECK_PLAIN ? codes : scales);
}

size_t check_rows_bytes(const check_weight *w, int64_t rows)
{
    if (w->storage == CHECK_PLAIN)
        return raw_bytes(w, rows);
    int64_t elems;
    size_t scales = rounded(4 * (size_t)rows * (size_t)check_row_scales(w, &elems));
    return raw_bytes(w, rows) + rounded((size_t)(rows * w->columns)) + 2 * scales;
}

void check_rows_init(check_rows *b, const check_weight *w, int64_t rows, void *memory)
{
    int64_t elems;
    unsigned char *at = memory;
    *b = (check_rows){.bytes = at};
    if (w->storage == CHECK_PLAIN)
        return;
    b->codes = at += raw_bytes(w, rows);
    b->scales = (float *)(void *)(at += rounded((size_t)(rows * w->columns)));
    b->zero_points = (float *)(void *)(at + rounded(4 * (size_t)rows * (size_t)check_row_scales(w, &elems)));
}

static qc_status read_part(
    qc_diag *diag, const check_model *m, const qc_st_tensor *t, uint64_t offset, size_t length, void *buffer)
{
    const qc_st_file *f = &m->set->files[t->file];
    return qc_pread_all(diag, f->fd, f->path, buffer, length, t->offset_bytes + offset);
}

static qc_status read_codes(
    qc_diag *diag, const check_model *m, const check_weight *w, int64_t first, int64_t rows, check_rows *b)
{
    const size_t length = row_bytes(w);
    if (read_part(diag, m, w->codes, (uint64_t)first * length, (size_t)rows * length, b->bytes) != QC_OK)
        return QC_ERROR;
    for (int64_t r = 0; r < rows; r++) {
        const unsigned char *row = b->bytes + (size_t)r * length;
        uint8_t *codes = b->codes + r * w->columns;
        if (w->storage == CHECK_NIBBLES)
            qc_unpack_nibbles(row, (size_t)w->columns, codes);
        else if (w->storage == CHECK_WORDS)
            qc_unpack_words(qc_dtype_bits(w->code), row, (size_t)w->columns, (int8_t *)codes);
        else
            memcpy(codes, row, length);
    }
    return QC_OK;
}

/* Spreads scales of rows [first_scale, ...) over the rows of elements, in place and from the end: there are never fewer
 * rows of elements. */
static void spread(const check_weight *w, int64_t first, int64_t rows, float *values)
{
    const int64_t n = w->scale_columns, first_scale = first / w->block_rows;
    for (int64_t r = rows; r-- > 0;) {
        const float *from = values + ((first + r) / w->block_rows - first_scale) * n;
        memmove(values + r * n, from, (size_t)n * sizeof *values);
    }
}

/* The same where every column has a group of its own choice. `scratch` holds one row of scales. */
static void gather(const check_weight *w, int64_t rows, float *values, float *scratch)
{
    const int64_t n = w->scale_columns;
    for (int64_t r = rows; r-- > 0;) {
        memcpy(scratch, values + r * n, (size_t)n * sizeof *values);
        for (int64_t c = w->columns; c-- > 0;)
            values[r * w->columns + c] = scratch[w->column_groups[c]];
    }
}

/* Zero points of rows [first, first + rows) out of the words of each column. */
static void unpack_zero_points(const check_weight *w, int64_t first, int64_t rows, const unsigned char *words,
    int64_t first_word, float *values)
{
    const int bits = qc_dtype_bits(w->code);
    const size_t n = (size_t)w->scale_columns;
    for (int64_t r = 0; r < rows; r++)
        for (size_t g = 0; g < n; g++) {
            size_t bit = (size_t)((first + r) * bits - 32 * first_word);
            uint32_t low, high = 0;
            memcpy(&low, words + 4 * (bit / 32 * n + g), 4);
            if (bit % 32 + (size_t)bits > 32)
                memcpy(&high, words + 4 * ((bit / 32 + 1) * n + g), 4);
            uint64_t both = low | (uint64_t)high << 32;
            uint32_t code = (uint32_t)(both >> bit % 32) & ((1u << bits) - 1);
            values[(size_t)r * n + g] = (float)((int32_t)code - (1 << (bits - 1)));
        }
}

static qc_status read_zero_points(
    qc_diag *diag, const check_model *m, const check_weight *w, int64_t first, int64_t rows, check_rows *b)
{
    const int64_t n = w->scale_columns, row = first / w->block_rows;
    const int64_t count = (first + rows - 1) / w->block_rows - row + 1;
    if (!w->zero_point) {
        memset(b->zero_points, 0, (size_t)(rows * n) * sizeof *b->zero_points);
        return QC_OK;
    }
    if (strcmp(w->zero_point->dtype, "I32") != 0) {
        if (read_part(diag, m, w->zero_point, (uint64_t)(row * n), (size_t)(count * n), b->bytes) != QC_OK)
            return QC_ERROR;
        qc_decode_f32(QC_I8, b->bytes, b->zero_points, (size_t)(count * n));
        spread(w, first, rows, b->zero_points);
        return QC_OK;
    }
    const int bits = qc_dtype_bits(w->code);
    const int64_t word = first * bits / 32, last = ((first + rows) * bits - 1) / 32;
    if (read_part(diag, m, w->zero_point, 4 * (uint64_t)(word * n), 4 * (size_t)((last - word + 1) * n),
            b->bytes) != QC_OK)
        return QC_ERROR;
    unpack_zero_points(w, first, rows, b->bytes, word, b->zero_points);
    return QC_OK;
}

static qc_status read_scales(
    qc_diag *diag, const check_model *m, const check_weight *w, int64_t first, int64_t rows, check_rows *b)
{
    const qc_dtype type =
        w->group->weights.scale == QC_F8E8M0 ? QC_F8E8M0 : qc_dtype_from_safetensors_name(w->scale->dtype);
    const int64_t n = w->scale_columns, row = first / w->block_rows;
    const int64_t count = (first + rows - 1) / w->block_rows - row + 1;
    const size_t size = (size_t)qc_dtype_bits(type) / 8;
    if (read_part(diag, m, w->scale, (uint64_t)(row * n) * size, (size_t)(count * n) * size, b->bytes) !=
        QC_OK)
        return QC_ERROR;
    qc_decode_f32(type, b->bytes, b->scales, (size_t)(count * n));
    spread(w, first, rows, b->scales);
    return QC_OK;
}

/* By rows or by columns, whichever lie together. */
static qc_status part_rows(qc_diag *diag, const check_model *m, const check_weight *w, int64_t first,
    int64_t rows, check_rows *b, float *values)
{
    const bool by_columns = w->row_step < w->column_step;
    const int64_t lines = by_columns ? w->columns : rows, each = by_columns ? rows : w->columns;
    const int64_t line_step = by_columns ? w->column_step : w->row_step,
                  step = by_columns ? w->row_step : w->column_step;
    const size_t size = (size_t)qc_dtype_bits(w->code) / 8, span = (size_t)span_of(w, rows);
    const int64_t start = w->first_elem + first * w->row_step;
    for (int64_t l = 0; l < lines; l++) {
        if (read_part(diag, m, w->codes, (uint64_t)(start + l * line_step) * size, span * size, b->bytes) !=
            QC_OK)
            return QC_ERROR;
        for (int64_t i = 0; i < each; i++)
            qc_convert(w->code, b->bytes + (size_t)(i * step) * size, QC_F32,
                &values[by_columns ? i * w->columns + l : l * w->columns + i], 1);
    }
    return QC_OK;
}

static qc_status plain_rows(qc_diag *diag, const check_model *m, const check_weight *w, int64_t first,
    int64_t rows, check_rows *b, float *values)
{
    const size_t count = (size_t)(rows * w->columns), length = row_bytes(w);
    if (w->part)
        return part_rows(diag, m, w, first, rows, b, values);
    if (read_part(diag, m, w->codes, (uint64_t)first * length, (size_t)rows * length, b->bytes) != QC_OK)
        return QC_ERROR;
    qc_convert(w->code, b->bytes, QC_F32, values, count);
    return QC_OK;
}

qc_status check_weight_rows(qc_diag *diag, const check_model *m, const check_weight *w, qc_dtype to,
    int64_t first, int64_t rows, check_rows *b, float *values)
{
    if (w->storage == CHECK_PLAIN)
        return plain_rows(diag, m, w, first, rows, b, values);
    if (read_scales(diag, m, w, first, rows, b) != QC_OK ||
        read_zero_points(diag, m, w, first, rows, b) != QC_OK ||
        read_codes(diag, m, w, first, rows, b) != QC_OK)
        return QC_ERROR;
    if (w->column_groups) {
        gather(w, rows, b->scales, (float *)(void *)b->bytes);
        gather(w, rows, b->zero_points, (float *)(void *)b->bytes);
    }
    const qc_quantizer q = {.arith = qc_arith_at(0), /* values are the same in every dialect */
        .model_dtype = to,
        .grid = w->grid,
        .symmetric = w->group->weights.symmetric,
        .global = w->global_scale != NULL,
        .scale_type = w->group->weights.scale};
    int64_t elems;
    check_row_scales(w, &elems);
    qc_quantizer_rows_dequantize(
        &q, QC_F32, b->codes, rows, w->columns, elems, b->scales, w->global, b->zero_points, values);
    const int64_t count = w->global_scale && to != QC_F32 ? rows * w->columns : 0;
    for (int64_t i = 0; i < count; i++)
        values[i] = to == QC_BF16 ? qc_round_bf16(values[i]) : qc_round_to(to, values[i]);
    return QC_OK;
}
