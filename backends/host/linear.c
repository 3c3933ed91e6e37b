/* SPDX-License-Identifier: MIT
 *
 * linear.c - y = x W^T + b over packed rows of several sequences.
 *
 * Two ways. Panels: the weight lies in panels of 16 output features ([K][16] each, own element type); tiles
 * of x are widened to f32 and multiplied by simd_gemm.c, where an element's sum is one chain over k: no
 * tiling shows in the bits. oneDNN: fixed tiles, 16 rows for sequences of at most 16 rows and 64 for others,
 * each tiled from its own first row, the last tile padded with zeros; fixed blocks of columns. Either way the
 * sums are f32, then the bias is added, then one rounding.
 */
#include <stdlib.h>

#include "backends/host/engine.h"
#include "backends/host/onednn.h"
#include "ir/dtype/codec.h"

enum {
    TILE_ROWS = 64,
    SHORT_TILE_ROWS = 16,
    A_PAD = 16,       /* keeps rows of a tile off the same cache set */
    WIDE_CHUNK = 24,  /* panels that one task takes */
    NARROW_CHUNK = 8, /* the same where there are few rows: tasks enough for all threads */
    SERIAL_PRODUCTS = 1 << 20,
    SERIAL_PACKED = 1 << 16, /* elements of a weight that one thread lays out sooner than another wakes */
    MAX_COLUMN_BLOCK = 512   /* columns of one oneDNN product */
};

struct qc_host_linear {
    qc_host_engine *engine;
    size_t columns, depth;
    qc_dtype weight_dtype, input_dtype, output_dtype;
    float *bias; /* [columns] or NULL */
    void *packed;
    bool native;
    size_t block_columns, block_count; /* oneDNN: blocks of columns, the last may be narrower */
    size_t block_bytes;
    const qc_host_onednn_kernel *full[2], *last[2]; /* by row class: 64, 16 */
    size_t scratch_bytes, short_rows;
};

static bool is_native(const qc_host_engine *engine, const qc_host_linear_spec *spec)
{
    return engine->onednn && spec->weight_dtype == QC_BF16 && spec->input_dtype == QC_BF16;
}

static size_t column_block(size_t columns)
{
    size_t blocks = qc_host_ceil_div(columns, MAX_COLUMN_BLOCK);
    return qc_host_min(columns, (qc_host_ceil_div(columns, blocks) + 63) / 64 * 64);
}

size_t qc_host_linear_bytes(const qc_host_engine *engine, const qc_host_linear_spec *spec)
{
    size_t columns = qc_host_ceil_div(spec->out_features, QC_HOST_PANEL) * QC_HOST_PANEL;
    size_t depth = is_native(engine, spec) ? (spec->in_features + 63) / 64 * 64 : spec->in_features;
    size_t bias = spec->bias ? spec->out_features * sizeof(float) : 0;

    if (is_native(engine, spec))
        columns = (columns + 63) / 64 * 64;
    return columns * depth * qc_host_dtype_bytes(spec->weight_dtype) + bias + sizeof(qc_host_linear);
}

/* ---- packing ------------------------------------------------------------------------------------------- */

/* Panel [depth][16] of rows first .. first + 15 of the weight; absent rows are zeros. */
#define PACK_PANEL(T)                                                                                        \
    static void pack_panel_##T(const T *weight, size_t stride, size_t rows, size_t depth, T *restrict panel) \
    {                                                                                                        \
        for (size_t k0 = 0; k0 < depth; k0 += 64) {                                                          \
            size_t end = qc_host_min(k0 + 64, depth);                                                        \
            for (size_t r = 0; r < QC_HOST_PANEL; r++)                                                       \
                for (size_t k = k0; k < end; k++)                                                            \
                    panel[k * QC_HOST_PANEL + r] = r < rows ? weight[r * stride + k] : 0;                    \
        }                                                                                                    \
    }
PACK_PANEL(uint16_t)
PACK_PANEL(uint32_t)

static qc_status pack_panels(
    qc_host_linear *l, qc_diag *diag, const char *where, const qc_host_linear_spec *spec)
{
    size_t panels = qc_host_ceil_div(l->columns, QC_HOST_PANEL), stride = spec->weight_stride;
    size_t panel_elems = l->depth * QC_HOST_PANEL, bytes = qc_host_dtype_bytes(l->weight_dtype);
    bool small = (double)l->columns * (double)l->depth < SERIAL_PACKED;
    int threads = small ? 1 : qc_host_threads(l->engine);

    if (l->depth > SIZE_MAX / QC_HOST_PANEL / 8 || !(l->packed = qc_host_alloc(panels, panel_elems * bytes)))
        return qc_error(diag, where, "out of memory for a weight of %zu x %zu", l->columns, l->depth);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t p = 0; p < panels; p++) {
        size_t first = p * QC_HOST_PANEL, rows = qc_host_min(l->columns - first, QC_HOST_PANEL);
        if (bytes == 2)
            pack_panel_uint16_t((const uint16_t *)spec->weight + first * stride, stride, rows, l->depth,
                (uint16_t *)l->packed + p * panel_elems);
        else
            pack_panel_uint32_t((const uint32_t *)spec->weight + first * stride, stride, rows, l->depth,
                (uint32_t *)l->packed + p * panel_elems);
    }
    return QC_OK;
}

/* The kernels of one row class; false where oneDNN has none. */
static bool get_kernels(qc_host_linear *l, const char *where, int class, size_t rows)
{
    struct qc_host_onednn *dnn = l->engine->onednn;
    size_t last_columns = l->columns - (l->block_count - 1) * l->block_columns;

    l->full[class] = qc_host_onednn_get(dnn, NULL, where, rows, l->block_columns, l->depth, QC_BF16);
    l->last[class] = qc_host_onednn_get(dnn, NULL, where, rows, last_columns, l->depth, QC_BF16);
    return l->full[class] && l->last[class];
}

/* Cuts the columns and finds the kernels. Short tiles are as long as others where the library has no kernel
 * for them that reads the same packed weight. */
static bool find_native(qc_host_linear *l, const char *where)
{
    l->block_columns = column_block(l->columns);
    l->block_count = qc_host_ceil_div(l->columns, l->block_columns);
    l->short_rows = SHORT_TILE_ROWS;
    if (!get_kernels(l, where, 0, TILE_ROWS))
        return false;
    if (!get_kernels(l, where, 1, SHORT_TILE_ROWS)) {
        l->short_rows = TILE_ROWS;
        l->full[1] = l->full[0];
        l->last[1] = l->last[0];
    }
    for (int c = 0; c < 2; c++) {
        size_t full = qc_host_onednn_scratch_bytes(l->full[c]),
               last = qc_host_onednn_scratch_bytes(l->last[c]);
        size_t need = full > last ? full : last;
        l->scratch_bytes = need > l->scratch_bytes ? need : l->scratch_bytes;
    }
    size_t full_bytes = qc_host_onednn_weight_bytes(l->full[0]),
           last_bytes = qc_host_onednn_weight_bytes(l->last[0]);
    l->block_bytes = ((full_bytes > last_bytes ? full_bytes : last_bytes) + 63) / 64 * 64;
    return true;
}

static qc_status pack_native(
    qc_host_linear *l, qc_diag *diag, const char *where, const qc_host_linear_spec *spec)
{
    if (!(l->packed = qc_host_alloc(l->block_count, l->block_bytes)))
        return qc_error(diag, where, "out of memory for a weight of %zu x %zu", l->columns, l->depth);
    for (size_t b = 0; b < l->block_count; b++)
        if (qc_host_onednn_pack(b + 1 < l->block_count ? l->full[0] : l->last[0], diag, where,
                (const uint16_t *)spec->weight + b * l->block_columns * spec->weight_stride,
                spec->weight_stride, (char *)l->packed + b * l->block_bytes) != QC_OK)
            return QC_ERROR;
    return QC_OK;
}

static qc_status check_spec(qc_diag *diag, const char *where, const qc_host_linear_spec *spec)
{
    if (!spec->out_features || !spec->in_features)
        return qc_error(
            diag, where, "a linear of %zu x %zu has no elements", spec->out_features, spec->in_features);
    if (!qc_host_is_value_dtype(spec->weight_dtype) || !qc_host_is_value_dtype(spec->input_dtype) ||
        !qc_host_is_value_dtype(spec->output_dtype) ||
        (spec->bias && !qc_host_is_value_dtype(spec->bias_dtype)))
        return qc_error(diag, where, "the host multiplies bf16, f16 and f32, not %s by %s",
            qc_dtype_name(spec->input_dtype), qc_dtype_name(spec->weight_dtype));
    return QC_OK;
}

qc_host_linear *qc_host_linear_create(
    qc_host_engine *engine, qc_diag *diag, const char *where, const qc_host_linear_spec *spec)
{
    qc_host_linear_spec full = *spec;

    full.output_dtype = spec->output_dtype ? spec->output_dtype : spec->input_dtype;
    full.weight_stride = spec->weight_stride ? spec->weight_stride : spec->in_features;
    if (check_spec(diag, where, &full) != QC_OK)
        return NULL;
    qc_host_linear *l = calloc(1, sizeof *l);
    if (!l) {
        qc_error(diag, where, "out of memory");
        return NULL;
    }
    l->engine = engine;
    l->columns = full.out_features;
    l->depth = full.in_features;
    l->weight_dtype = full.weight_dtype;
    l->input_dtype = full.input_dtype;
    l->output_dtype = full.output_dtype;
    l->native = is_native(engine, &full) && find_native(l, where);
    qc_status status = l->native ? pack_native(l, diag, where, &full) : pack_panels(l, diag, where, &full);
    if (status == QC_OK && full.bias) {
        l->bias = qc_host_alloc(l->columns, sizeof *l->bias);
        if (l->bias)
            engine->simd->load(full.bias_dtype, full.bias, l->bias, l->columns);
        else
            status = qc_error(diag, where, "out of memory");
    }
    if (status != QC_OK) {
        qc_host_linear_destroy(l);
        return NULL;
    }
    return l;
}

void qc_host_linear_destroy(qc_host_linear *linear)
{
    if (!linear)
        return;
    free(linear->packed);
    free(linear->bias);
    free(linear);
}

/* ---- running ------------------------------------------------------------------------------------------- */

/* Rows of x and y, in strides of elements; the work is cut into tiles of them. */
typedef struct run {
    const qc_host_linear *linear; /* NULL: each sequence has its own */
    const qc_host_linear *const *linears;
    const char *x;
    char *y;
    size_t x_stride, y_stride, rows;
    qc_host_sequences sequences;
} run;

typedef struct tile {
    const qc_host_linear *linear;
    size_t row, rows, tile_rows;
} tile;

/* The fixed tiles of all sequences. `tiles` NULL: only counts them. Where an element's sum does not depend on its tile
 * all rows of one weight are one sequence. */
static size_t cut_tiles(const run *r, const qc_host_linear *shape, tile *tiles)
{
    size_t whole[2] = {0, r->rows}, count = 0;
    qc_host_sequences sequences = r->sequences;

    if (!sequences.starts || (r->linear && !shape->native))
        sequences = (qc_host_sequences){.starts = whole, .count = 1};
    for (size_t s = 0; s < sequences.count; s++) {
        size_t first = sequences.starts[s], length = sequences.starts[s + 1] - first;
        size_t tile_rows = shape->native && length <= shape->short_rows ? shape->short_rows : TILE_ROWS;
        for (size_t row = 0; row < length; row += tile_rows, count++)
            if (tiles)
                tiles[count] = (tile){r->linear ? r->linear : r->linears[s], first + row,
                    qc_host_min(length - row, tile_rows), tile_rows};
    }
    return count;
}

/* Bias, rounding, and away: a tile of sums to rows of y. */
static void finish_tile(
    const run *r, const tile *t, float *sums, size_t sums_stride, size_t column, size_t columns)
{
    const qc_host_linear *l = t->linear;
    const qc_host_simd *simd = l->engine->simd;
    size_t bytes = qc_host_dtype_bytes(l->output_dtype);

    for (size_t i = 0; i < t->rows; i++) {
        float *sum = sums + i * sums_stride;
        if (l->bias)
            simd->binary(QC_HOST_ADD, sum, l->bias + column, 1, sum, columns);
        simd->store(l->output_dtype, sum, r->y + ((t->row + i) * r->y_stride + column) * bytes, columns);
    }
}

static void panel_task(const run *r, const tile *t, size_t panel, size_t panels, float *a, float *c)
{
    const qc_host_linear *l = t->linear;
    const qc_host_simd *simd = l->engine->simd;
    size_t in_bytes = qc_host_dtype_bytes(l->input_dtype),
           weight_bytes = qc_host_dtype_bytes(l->weight_dtype);
    size_t a_stride = qc_host_min(l->depth, QC_HOST_DEPTH_STEP) + A_PAD;
    qc_host_product product = {.rows = t->rows,
        .panels = panels,
        .a = a,
        .a_stride = a_stride,
        .b_dtype = l->weight_dtype,
        .panel_stride = l->depth * QC_HOST_PANEL,
        .c = c,
        .c_stride = panels * QC_HOST_PANEL};

    for (size_t k = 0; k < l->depth; k += QC_HOST_DEPTH_STEP) {
        product.depth = qc_host_min(l->depth - k, QC_HOST_DEPTH_STEP);
        for (size_t i = 0; i < t->rows; i++)
            simd->load(l->input_dtype, r->x + ((t->row + i) * r->x_stride + k) * in_bytes, a + i * a_stride,
                product.depth);
        product.b = (const char *)l->packed + (panel * l->depth + k) * QC_HOST_PANEL * weight_bytes;
        product.add = k > 0;
        simd->product(&product);
    }
    size_t column = panel * QC_HOST_PANEL;
    finish_tile(r, t, c, product.c_stride, column, qc_host_min(panels * QC_HOST_PANEL, l->columns - column));
}

static qc_status run_panels(
    const run *r, const qc_host_linear *l, const tile *tiles, size_t tile_count, qc_diag *diag)
{
    /* waking threads costs some microseconds, a million multiplications on one thread some twenty */
    bool small = (double)r->rows * (double)l->columns * (double)l->depth < SERIAL_PRODUCTS;
    int threads = small ? 1 : qc_host_threads(l->engine);
    size_t panels = qc_host_ceil_div(l->columns, QC_HOST_PANEL), tile_rows = qc_host_min(r->rows, TILE_ROWS);
    bool wide = tile_count * qc_host_ceil_div(panels, WIDE_CHUNK) >= (size_t)threads * 4 || threads == 1;
    size_t chunk = qc_host_min(panels, wide ? WIDE_CHUNK : NARROW_CHUNK),
           chunks = qc_host_ceil_div(panels, chunk);
    size_t a_elems = tile_rows * (qc_host_min(l->depth, QC_HOST_DEPTH_STEP) + A_PAD);
    size_t thread_elems = (a_elems + tile_rows * chunk * QC_HOST_PANEL + 15) / 16 * 16;
    float *scratch = qc_host_alloc((size_t)threads * thread_elems, sizeof *scratch);

    if (!scratch)
        return qc_error(diag, "host", "out of memory for a product of %zu rows", r->rows);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (size_t task = 0; task < tile_count * chunks; task++) {
        float *a = scratch + (size_t)qc_host_thread_index() * thread_elems;
        size_t panel = task % chunks * chunk;
        /* inside a caller's region this loop is a team of one: index 0 */
        panel_task(r, &tiles[task / chunks], panel, qc_host_min(panels - panel, chunk), a, a + a_elems);
    }
    free(scratch);
    return QC_OK;
}

static int native_task(const run *r, const tile *t, size_t block, qc_host_onednn_runner *runner, uint16_t *a,
    float *c, void *scratch)
{
    const qc_host_linear *l = t->linear;
    int class = t->tile_rows == TILE_ROWS ? 0 : 1;
    bool is_last = block + 1 == l->block_count;
    const uint16_t *x = (const uint16_t *)(const void *)r->x + t->row * r->x_stride;
    size_t column = block * l->block_columns, columns = is_last ? l->columns - column : l->block_columns;

    if (t->rows < t->tile_rows || r->x_stride != l->depth) {
        for (size_t i = 0; i < t->rows; i++)
            memcpy(a + i * l->depth, x + i * r->x_stride, l->depth * sizeof *a);
        memset(a + t->rows * l->depth, 0, (t->tile_rows - t->rows) * l->depth * sizeof *a);
        x = a;
    }
    int status = qc_host_onednn_run(runner, is_last ? l->last[class] : l->full[class], x,
        (const char *)l->packed + block * l->block_bytes, c, scratch);
    if (status == 0)
        finish_tile(r, t, c, columns, column, columns);
    return status;
}

static qc_status run_native(
    const run *r, const qc_host_linear *l, const tile *tiles, size_t tile_count, qc_diag *diag)
{
    int threads = qc_host_threads(l->engine), failed = 0;
    size_t a_bytes = (TILE_ROWS * l->depth * sizeof(uint16_t) + 63) / 64 * 64;
    size_t c_bytes = TILE_ROWS * l->block_columns * sizeof(float);
    size_t thread_bytes = a_bytes + c_bytes + (l->scratch_bytes + 63) / 64 * 64;
    char *buffers = qc_host_alloc((size_t)threads, thread_bytes);

    if (!buffers)
        return qc_error(diag, "host", "out of memory for a product of %zu rows", r->rows);
#pragma omp parallel num_threads(threads)
    {
        char *mine = buffers + (size_t)qc_host_thread_index() * thread_bytes;
        qc_host_onednn_runner *runner = qc_host_onednn_runner_create(l->engine->onednn);
        int status = runner ? 0 : 1;
#pragma omp for schedule(dynamic)
        for (size_t task = 0; task < tile_count * l->block_count; task++)
            if (status == 0)
                status = native_task(r, &tiles[task / l->block_count], task % l->block_count, runner,
                    (uint16_t *)(void *)mine, (float *)(void *)(mine + a_bytes), mine + a_bytes + c_bytes);
        qc_host_onednn_runner_destroy(runner);
#pragma omp critical(qc_host_linear_status)
        failed = status ? status : failed;
    }
    free(buffers);
    if (failed)
        return qc_error(diag, "host", "oneDNN failed in a product of %zu rows: %s", r->rows,
            qc_host_onednn_status_name(failed));
    return QC_OK;
}

/* `shape`: any of the weights; they were made alike. */
static qc_status run_tiles(run *r, const qc_host_linear *shape, qc_diag *diag)
{
    tile few[16], *tiles = few;

    r->x_stride = r->x_stride ? r->x_stride : shape->depth;
    r->y_stride = r->y_stride ? r->y_stride : shape->columns;
    size_t count = cut_tiles(r, shape, NULL);
    if (count > sizeof few / sizeof *few && !(tiles = qc_host_alloc(count, sizeof *tiles)))
        return qc_error(diag, "host", "out of memory for a product of %zu rows", r->rows);
    cut_tiles(r, shape, tiles);
    qc_status status =
        shape->native ? run_native(r, shape, tiles, count, diag) : run_panels(r, shape, tiles, count, diag);
    if (tiles != few)
        free(tiles);
    return status;
}

qc_status qc_host_linear_run(const qc_host_linear *linear, qc_diag *diag, const void *x, size_t x_stride,
    void *y, size_t y_stride, size_t rows, qc_host_sequences sequences)
{
    run r = {.linear = linear,
        .x = x,
        .y = y,
        .x_stride = x_stride,
        .y_stride = y_stride,
        .rows = rows,
        .sequences = sequences};

    return rows == 0 ? QC_OK : run_tiles(&r, linear, diag);
}

static bool made_alike(const qc_host_linear *a, const qc_host_linear *b)
{
    return a->columns == b->columns && a->depth == b->depth && a->native == b->native &&
           a->weight_dtype == b->weight_dtype && a->input_dtype == b->input_dtype &&
           a->output_dtype == b->output_dtype;
}

qc_status qc_host_linear_run_groups(const qc_host_linear *const *linears, qc_diag *diag, const void *x,
    size_t x_stride, void *y, size_t y_stride, qc_host_sequences groups)
{
    const qc_host_linear *shape = NULL;
    run r = {.linears = linears,
        .x = x,
        .y = y,
        .x_stride = x_stride,
        .y_stride = y_stride,
        .rows = groups.count ? groups.starts[groups.count] : 0,
        .sequences = groups};

    for (size_t g = 0; g < groups.count; g++) {
        if (groups.starts[g + 1] == groups.starts[g])
            continue;
        shape = shape ? shape : linears[g];
        if (!made_alike(shape, linears[g]))
            return qc_error(diag, "host", "the weights of groups of rows have different sizes or types");
    }
    return shape ? run_tiles(&r, shape, diag) : QC_OK;
}
