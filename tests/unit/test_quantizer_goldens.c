/* SPDX-License-Identifier: MIT
 *
 * test_quantizer_goldens.c - every quantized weight of checkpoints that llm-compressor wrote, byte for byte:
 * codes as the file packs them, scales, zero points and global scales, for each kind of data-free scheme. Of
 * some checkpoints only hashes are kept.
 */
#include "check.h"

#include "ir/dtype/codec.h"
#include "ir/dtype/mse.h"
#include "ir/dtype/pack.h"
#include "ir/support/io.h"
#include "ir/support/safetensors.h"

typedef enum layout { ONE_BYTE, NIBBLES, WORDS } layout;

typedef struct golden {
    const char *name;
    qc_dtype type, scale_type;
    int group, block; /* both 0: one scale a row; group -1: one scale a tensor */
    bool global, asymmetric;
    const char *observer, *dialect;
    layout layout;
} golden;

static const golden goldens[] = {
    {.name = "fp8_dynamic", .type = QC_F8E4M3},
    {.name = "fp8_static", .type = QC_F8E4M3, .group = -1},
    {.name = "fp8_block", .type = QC_F8E4M3, .block = 128},
    {.name = "mf_fp8_block", .type = QC_F8E4M3, .block = 128, .dialect = "ct_cpu_bare"},
    {.name = "mf_fp8_dynamic", .type = QC_F8E4M3, .dialect = "ct_cpu_bare"},
    {.name = "w8a8", .type = QC_I8},
    {.name = "nvfp4a16",
        .type = QC_F4E2M1,
        .scale_type = QC_F8E4M3,
        .group = 16,
        .global = true,
        .layout = NIBBLES},
    {.name = "mf_nvfp4a16",
        .type = QC_F4E2M1,
        .scale_type = QC_F8E4M3,
        .group = 16,
        .global = true,
        .dialect = "ct_cpu_bare",
        .layout = NIBBLES},
    {.name = "nvfp4a16_mse",
        .type = QC_F4E2M1,
        .scale_type = QC_F8E4M3,
        .group = 16,
        .global = true,
        .observer = "memoryless_mse",
        .layout = NIBBLES},
    {.name = "nvfp4a16_expanded_mse",
        .type = QC_F4E2M1,
        .scale_type = QC_F8E4M3,
        .group = 16,
        .global = true,
        .observer = "nvfp4_expanded_mse",
        .layout = NIBBLES},
    {.name = "mxfp4a16", .type = QC_F4E2M1, .scale_type = QC_F8E8M0, .group = 32, .layout = NIBBLES},
    {.name = "mxfp4", .type = QC_F4E2M1, .scale_type = QC_F8E8M0, .group = 32, .layout = NIBBLES},
    {.name = "mxfp8", .type = QC_F8E4M3, .scale_type = QC_F8E8M0, .group = 32},
    {.name = "w2a16", .type = QC_I2, .group = 128, .layout = WORDS},
    {.name = "w3a16", .type = QC_I3, .group = 128, .layout = WORDS},
    {.name = "w4a16", .type = QC_I4, .group = 128, .layout = WORDS},
    {.name = "w4a16_g32", .type = QC_I4, .group = 32, .layout = WORDS},
    {.name = "mf_w4a16", .type = QC_I4, .group = 128, .dialect = "ct_cpu_bare", .layout = WORDS},
    {.name = "w8a16", .type = QC_I8, .group = 128, .layout = WORDS},
    {.name = "w4a8", .type = QC_I4, .group = 128},
    {.name = "w4a16_asym", .type = QC_I4, .group = 128, .asymmetric = true, .layout = WORDS},
    {.name = "w4a16_channel_asym", .type = QC_I4, .asymmetric = true, .layout = WORDS},
    {.name = "w4a16_mse", .type = QC_I4, .group = 128, .observer = "memoryless_mse", .layout = WORDS},
    {.name = "w4a16_asym_mse",
        .type = QC_I4,
        .group = 128,
        .asymmetric = true,
        .observer = "memoryless_mse",
        .layout = WORDS},
};

/* A checkpoint: its tensors, or the hashes of all and some tensors. */
typedef struct checkpoint {
    qc_arena *arena;
    qc_diag *diag;
    qc_st_set set;
    bool opened;
    const qc_json *hashes; /* NULL where all tensors are there */
    const char *name;
    int compared;
} checkpoint;

/* Arrays of one weight. */
typedef struct weight {
    const char *module;
    uint16_t *x;
    int64_t rows, columns, group, groups, scales;
    float *mins, *maxs, *scale, *zero_point, global;
} weight;

static void print_diagnostic(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user;
    (void)severity;
    printf("# %s: %s\n", where, what);
}

static void compare(checkpoint *c, const char *module, const char *suffix, const void *data, size_t size)
{
    const char *name = qc_arena_printf(c->arena, "%s.%s", module, suffix);
    c->compared++;
    if (c->hashes) {
        const qc_json *entry = qc_json_get(c->hashes, name),
                      *expected = entry ? qc_json_get(entry, "sha256") : NULL;
        qc_sha256 h;
        char hex[65];
        qc_sha256_init(&h);
        qc_sha256_add(&h, data, size);
        qc_sha256_hex(&h, hex);
        if (!expected || strcmp(expected->text, hex) != 0)
            CHECK_FAIL("%s: %s differs", c->name, name);
        return;
    }
    const qc_st_tensor *t = qc_st_find(&c->set, name);
    void *stored = t ? qc_arena_alloc(c->arena, t->size_bytes + 1) : NULL;
    if (!t || t->size_bytes != size || qc_st_read(c->diag, &c->set, t, stored) != QC_OK ||
        memcmp(stored, data, size) != 0)
        CHECK_FAIL("%s: %s differs", c->name, name);
}

static qc_quantizer quantizer_of(const golden *g)
{
    const char *dialect = g->dialect ? g->dialect : "ct_cpu";
    return (qc_quantizer){
        .arith = qc_arith_find(dialect, strlen(dialect)),
        .model_dtype = QC_BF16,
        .grid = qc_grid_of(g->type),
        .symmetric = !g->asymmetric,
        .global = g->global,
        .scale_type = g->scale_type,
    };
}

/* Reads a weight and finds its ranges. */
static bool weight_read(checkpoint *c, const qc_st_set *base, const golden *g, const char *module, weight *w)
{
    const qc_st_tensor *t = qc_st_find(base, qc_arena_printf(c->arena, "%s.weight", module));
    const qc_quantizer q = quantizer_of(g);
    if (!t || t->rank != 2)
        return false;
    *w = (weight){.module = module, .rows = (int64_t)t->shape[0], .columns = (int64_t)t->shape[1]};
    w->x = qc_arena_alloc(c->arena, t->size_bytes + 1);
    CHECK_INT(qc_st_read(c->diag, base, t, w->x), QC_OK);
    if (g->group < 0) {
        w->columns *= w->rows;
        w->rows = 1;
    }
    w->group = g->group > 0 ? g->group : g->block > 0 ? g->block : w->columns;
    w->groups = (w->columns + w->group - 1) / w->group;
    w->scales = w->groups * (g->block ? (w->rows + g->block - 1) / g->block : w->rows);
    float *floats = qc_arena_alloc(c->arena, (size_t)w->scales * 4 * sizeof(float));
    w->mins = floats;
    w->maxs = floats + w->scales;
    w->scale = floats + 2 * w->scales;
    w->zero_point = floats + 3 * w->scales;
    if (g->observer) {
        qc_mse mse;
        uint64_t improved[QC_MSE_WORDS] = {0};
        CHECK(qc_mse_from_observer(g->observer, strlen(g->observer), &mse));
        int stop = qc_mse_steps(&mse);
        do {
            CHECK(qc_mse_search(
                &q, &mse, w->x, w->rows, w->columns, w->group, NULL, stop, w->mins, w->maxs, improved));
            stop = qc_mse_stop_step(&mse, improved);
        } while (qc_mse_improved_after(improved, stop) && (memset(improved, 0, sizeof improved), true));
    } else if (g->block) {
        qc_quantizer_blocks_ranges(&q, w->x, w->rows, w->columns, g->block, g->block, w->mins, w->maxs);
    } else {
        qc_quantizer_rows_ranges(&q, w->x, w->rows, w->columns, w->group, w->mins, w->maxs);
    }
    return true;
}

/* Do two modules share a global scale? */
static bool share(const char *a, const char *b)
{
    static const char *const sets[] = {"q_proj k_proj v_proj", "gate_proj up_proj"};
    const char *leaf_a = strrchr(a, '.') + 1, *leaf_b = strrchr(b, '.') + 1;
    if (leaf_a - a != leaf_b - b || strncmp(a, b, (size_t)(leaf_a - a)) != 0)
        return false;
    if (strcmp(leaf_a, leaf_b) == 0)
        return true;
    for (int i = 0; i < 2; i++)
        if (strstr(sets[i], leaf_a) && strstr(sets[i], leaf_b))
            return true;
    return false;
}

static void compare_scales(checkpoint *c, const golden *g, const weight *w)
{
    const qc_dtype type = g->scale_type == QC_DTYPE_NONE ? QC_BF16 : g->scale_type;
    uint16_t *encoded = qc_arena_alloc(c->arena, (size_t)w->scales * 2);
    qc_encode_f32(type, w->scale, encoded, (size_t)w->scales);
    compare(c, w->module, "weight_scale", encoded, (size_t)(w->scales * qc_dtype_bits(type) / 8));
    if (g->global)
        compare(c, w->module, "weight_global_scale", &w->global, sizeof w->global);
    if (!g->asymmetric)
        return;
    /* packed down the rows: one stream for each group */
    const int bits = qc_grid_of(g->type).bits;
    const size_t words = qc_pack_word_count(bits, (size_t)w->rows), groups = (size_t)w->groups;
    uint32_t *packed = qc_arena_alloc(c->arena, words * groups * 4),
             *column = qc_arena_alloc(c->arena, words * 4);
    int8_t *zero_points = qc_arena_alloc(c->arena, (size_t)w->rows);
    for (size_t i = 0; i < groups; i++) {
        for (size_t r = 0; r < (size_t)w->rows; r++)
            zero_points[r] = (int8_t)w->zero_point[r * groups + i];
        qc_pack_words(bits, zero_points, (size_t)w->rows, column);
        for (size_t k = 0; k < words; k++)
            packed[k * groups + i] = column[k];
    }
    compare(c, w->module, "weight_zero_point", packed, words * groups * 4);
}

static void compare_codes(checkpoint *c, const golden *g, const weight *w)
{
    const qc_quantizer q = quantizer_of(g);
    const size_t count = (size_t)(w->rows * w->columns), columns = (size_t)w->columns;
    const float *zero_points = g->asymmetric ? w->zero_point : NULL;
    uint8_t *codes = qc_arena_alloc(c->arena, count + 1);
    if (g->block)
        qc_quantizer_blocks_codes(
            &q, w->x, w->rows, w->columns, g->block, g->block, w->scale, w->global, zero_points, codes);
    else
        qc_quantizer_rows_codes(
            &q, w->x, w->rows, w->columns, w->group, w->scale, w->global, zero_points, codes);
    if (g->layout == NIBBLES) {
        qc_pack_nibbles(codes, count, codes);
        compare(c, w->module, "weight_packed", codes, count / 2);
    } else if (g->layout == WORDS) {
        const size_t words = qc_pack_word_count(q.grid.bits, columns);
        uint32_t *packed = qc_arena_alloc(c->arena, words * (size_t)w->rows * 4);
        for (size_t r = 0; r < (size_t)w->rows; r++)
            qc_pack_words(q.grid.bits, (const int8_t *)codes + r * columns, columns, packed + r * words);
        compare(c, w->module, "weight_packed", packed, words * (size_t)w->rows * 4);
    } else {
        compare(c, w->module, "weight", codes, count);
    }
}

/* Returns how many arrays were compared. */
static int checkpoint_is_equal(
    qc_arena *arena, qc_diag *diag, const char *root, const qc_st_set *base, const golden *g)
{
    enum { MOST = 64 };
    checkpoint c = {.arena = arena, .diag = diag, .name = g->name};
    weight weights[MOST];
    int count = 0;
    char *text = NULL;
    size_t length = 0;
    const char *list = qc_arena_printf(arena, "%s/goldens/%s/golden.json", root, g->name);
    const char *file = qc_arena_printf(arena, "%s/goldens/%s/model.safetensors", root, g->name);
    FILE *whole = fopen(file, "rb");
    if (whole) {
        fclose(whole);
        c.opened = qc_st_open_directory(
                       diag, arena, qc_arena_printf(arena, "%s/goldens/%s", root, g->name), &c.set) == QC_OK;
    } else if (qc_read_file(diag, arena, list, 1 << 20, &text, &length) == QC_OK) {
        c.hashes = qc_json_get(qc_json_parse(diag, arena, list, text, length), "tensors");
    }
    if (!c.opened && !c.hashes) {
        CHECK_FAIL("%s: neither tensors nor hashes", g->name);
        return 0;
    }
    for (size_t i = 0; i < base->tensor_count && count < MOST; i++) {
        const char *name = base->tensors[i].name, *dot = strrchr(name, '.');
        if (!dot || strcmp(dot, ".weight") != 0)
            continue;
        const char *scale = qc_arena_printf(arena, "%s_scale", name);
        const char *module = qc_arena_strndup(arena, name, (size_t)(dot - name));
        if (c.hashes ? qc_json_get(c.hashes, scale) != NULL : qc_st_find(&c.set, scale) != NULL)
            count += weight_read(&c, base, g, module, &weights[count]);
    }
    const qc_quantizer q = quantizer_of(g);
    for (int i = 0; i < count; i++) {
        weight *w = &weights[i];
        float amax = 0;
        for (int j = 0; j < count; j++)
            for (int64_t k = 0; share(w->module, weights[j].module) && k < weights[j].scales; k++)
                amax = fmaxf(amax, fmaxf(-weights[j].mins[k], weights[j].maxs[k]));
        w->global = g->global ? qc_quantizer_global(&q, amax) : 0;
        qc_quantizer_scales(&q, w->mins, w->maxs, w->scales, w->global, w->scale, w->zero_point);
        compare_scales(&c, g, w);
        compare_codes(&c, g, w);
    }
    if (c.opened)
        qc_st_close(&c.set);
    return c.compared;
}

static void test_weights(void)
{
    const char *root = getenv("QC_DATA");
    if (!root || !root[0])
        SKIP("QC_DATA is not set");
    qc_arena arena;
    qc_diag diag;
    qc_st_set base;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, print_diagnostic, NULL);
    if (qc_st_open_directory(&diag, &arena, qc_arena_printf(&arena, "%s/models/grid_llama", root), &base) !=
        QC_OK) {
        CHECK_FAIL("the model does not open");
        return;
    }
    for (size_t i = 0; i < sizeof goldens / sizeof goldens[0]; i++) {
        int compared = checkpoint_is_equal(&arena, &diag, root, &base, &goldens[i]);
        if (compared < 28)
            CHECK_FAIL("%s: only %d arrays compared", goldens[i].name, compared);
    }
    qc_st_close(&base);
    qc_arena_fini(&arena);
}

int main(void)
{
    RUN(test_weights);
    return check_done();
}
