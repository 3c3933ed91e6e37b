/* SPDX-License-Identifier: MIT
 *
 * test_moe.c - models with experts under the reference semantics against Transformers: logits, what routers gave, which
 * experts were chosen. Models: QC_DATA (golden.safetensors there is from the eager loop over experts), and the small ones
 * of tests/data.
 */
#include "tests/unit/shard.h"
#include "tests/unit/stored_model.h"

enum { LAYERS_MAX = 8 };

/* What one layer's router did in the last run. */
typedef struct routing {
    qc_tensor logits, ids;
} routing;

typedef struct fixture {
    stored_model m; /* the first: who gets a model has the fixture */
    routing layers[LAYERS_MAX];
} fixture;

static void copy_tensor(qc_diag *diag, const qc_tensor *from, qc_tensor *to)
{
    qc_tensor_free(to);
    if (qc_tensor_create(diag, "copy", from->dtype, from->rank, from->dims, to) == QC_OK)
        memcpy(to->data, from->data, qc_tensor_bytes(from->dtype, from->count));
}

/* Routers: `linear` gives the logits, the last topk the experts. */
static void watch(void *user, const qc_value *value, const qc_tensor *tensor)
{
    fixture *f = user;
    const qc_op *op = qc_value_op(value);
    const qc_node *node = op ? qc_op_node(op) : NULL;
    int layer;
    if (!node || !strstr(qc_node_class(node), "outer") ||
        sscanf(qc_node_path(node), "model.layers.%d.", &layer) != 1 || layer >= LAYERS_MAX)
        return;
    if (qc_op_is(op, "linear"))
        copy_tensor(qc_ctx_diag(f->m.ctx), tensor, &f->layers[layer].logits);
    else if (qc_op_is(op, "topk"))
        copy_tensor(qc_ctx_diag(f->m.ctx), tensor, &f->layers[layer].ids);
}

static bool open_model(fixture *f, const char *directory, qc_dtype dtype, bool dequantize)
{
    *f = (fixture){0};
    return open_stored_model(
        &f->m, directory, &(qc_hf_options){.dtype = dtype, .dequantize = dequantize}, watch);
}

static void close_model(fixture *f)
{
    for (int i = 0; i < LAYERS_MAX; i++) {
        qc_tensor_free(&f->layers[i].logits);
        qc_tensor_free(&f->layers[i].ids);
    }
    close_stored_model(&f->m);
}

static bool run_model(fixture *f, const qc_tensor *ids, qc_tensor *logits)
{
    const qc_func *func = qc_module_func(f->m.module, "main");
    qc_status status = qc_reference_run(f->m.reference, func, ids, 1, logits);
    if (status != QC_OK)
        CHECK_FAIL("%s", f->m.said.last);
    return status == QC_OK;
}

static float element(const qc_tensor *t, int64_t index)
{
    float value;
    qc_tensor_read(t, index, 1, &value);
    return value;
}

/* The largest difference over the range of what is expected, rows [0, rows). */
static double gap(const qc_tensor *actual, const qc_tensor *expected)
{
    float low = INFINITY, high = -INFINITY, most = 0;
    if (actual->count != expected->count)
        return INFINITY;
    for (int64_t i = 0; i < expected->count; i++) {
        const float e = element(expected, i), d = fabsf(element(actual, i) - e);
        low = fminf(low, e);
        high = fmaxf(high, e);
        most = d > most || isnan(d) ? d : most;
    }
    return isnan(most) ? INFINITY : (double)most / (double)(high - low);
}

/* Are the experts of a token the same ones? Those expected are in ascending order. */
static bool same_experts(const qc_tensor *ids, const qc_tensor *expected, int64_t token)
{
    const int64_t k = qc_tensor_dim(expected, -1);
    if (ids->count != expected->count)
        return false;
    for (int64_t i = 0; i < k; i++) {
        bool found = false;
        for (int64_t j = 0; j < k; j++)
            found |= qc_tensor_int(ids, token * k + j) == qc_tensor_int(expected, token * k + i);
        if (!found)
            return false;
    }
    return true;
}

static const char *layer_name(fixture *f, const char *kind, int layer)
{
    return qc_arena_printf(qc_ctx_arena(f->m.ctx), "%s.%d", kind, layer);
}

/* Layers with experts that the goldens have. */
static int check_routing(fixture *f, double tolerance)
{
    int count = 0;
    for (int layer = 0; layer < LAYERS_MAX; layer++) {
        qc_tensor logits = {0}, experts = {0};
        if (!qc_st_find(&f->m.golden, layer_name(f, "router", layer)))
            continue;
        count++;
        if (read_stored(qc_ctx_diag(f->m.ctx), &f->m.golden, layer_name(f, "router", layer), &logits) ==
                QC_OK &&
            read_stored(qc_ctx_diag(f->m.ctx), &f->m.golden, layer_name(f, "experts", layer), &experts) ==
                QC_OK) {
            int64_t other = 0;
            const double off = gap(&f->layers[layer].logits, &logits);
            for (int64_t t = 0; t < experts.dims[0]; t++)
                other += !same_experts(&f->layers[layer].ids, &experts, t);
            if (!(off <= tolerance) || other)
                CHECK_FAIL("layer %d: router off by %.3g, %lld tokens routed otherwise", layer, off,
                    (long long)other);
        }
        qc_tensor_free(&logits);
        qc_tensor_free(&experts);
    }
    return count;
}

/* In bf16 the roundings of a sum decide now and then which expert is next best, and from there on the row is another: what
 * comes before is compared. Gives the number of positions compared. */
static int64_t check_bf16(fixture *f, const qc_tensor *logits, const qc_tensor *expected, double tolerance)
{
    const int64_t batch = expected->dims[0], length = expected->dims[1], width = expected->dims[2];
    int64_t compared = 0;
    for (int64_t b = 0; b < batch; b++) {
        int64_t until = length;
        for (int layer = 0; layer < LAYERS_MAX; layer++) {
            qc_tensor experts = {0};
            const char *name = layer_name(f, "experts_bf16", layer);
            if (!qc_st_find(&f->m.golden, name) ||
                read_stored(qc_ctx_diag(f->m.ctx), &f->m.golden, name, &experts) != QC_OK)
                continue;
            for (int64_t s = 0; s < until; s++)
                if (!same_experts(&f->layers[layer].ids, &experts, b * length + s))
                    until = s;
            qc_tensor_free(&experts);
        }
        float most = 0;
        for (int64_t i = b * length * width; i < (b * length + until) * width; i++)
            most = fmaxf(most, fabsf(element(logits, i) - element(expected, i)));
        printf("# row %lld: %lld positions routed alike, there within %.3g\n", (long long)b, (long long)until,
            (double)most);
        CHECK((double)most <= tolerance);
        compared += until;
    }
    return compared;
}

/* `tolerance`: f32 of the range; bf16 in absolute terms. */
static void check_model(const char *directory, qc_dtype dtype, double tolerance, bool dequantize)
{
    fixture f;
    qc_tensor ids = {0}, expected = {0}, logits = {0};
    if (!open_model(&f, directory, dtype, dequantize)) {
        close_model(&f);
        return;
    }
    qc_diag *diag = qc_ctx_diag(f.m.ctx);
    const char *name = dtype == QC_F32 ? "logits" : "logits_bf16";
    if (read_stored(diag, &f.m.golden, "input_ids", &ids) != QC_OK ||
        read_stored(diag, &f.m.golden, name, &expected) != QC_OK)
        CHECK_FAIL("%s", f.m.said.last);
    else if (run_model(&f, &ids, &logits)) {
        CHECK(qc_tensor_same_shape(&logits, &expected));
        if (dtype == QC_F32) {
            const double off = gap(&logits, &expected);
            printf("# %s: logits off by %.3g of their range\n", directory, off);
            CHECK(off <= tolerance);
            CHECK(check_routing(&f, tolerance) > 0);
        } else {
            CHECK(check_bf16(&f, &logits, &expected, tolerance) >= 16);
        }
    }
    qc_tensor_free(&ids);
    qc_tensor_free(&expected);
    qc_tensor_free(&logits);
    close_model(&f);
}

static char *model_path(const char *name)
{
    static char path[4096];
    const char *data = getenv("QC_DATA");
    if (!data)
        return NULL;
    snprintf(path, sizeof path, "%s/models/%s", data, name);
    return path;
}

static void check_data(const char *name)
{
    const char *path = model_path(name);
    if (!path)
        SKIP("QC_DATA is not set");
    check_model(path, QC_F32, 1e-4, false);
    check_model(path, QC_BF16, 0.8, false);
}

static void test_mixtral(void)
{
    check_data("mixtral");
}

static void test_qwen2_moe(void)
{
    check_data("qwen2_moe");
}

static void test_qwen3_moe(void)
{
    check_data("qwen3_moe");
}

static void test_llama4(void)
{
    check_data("llama4");
}

static void test_gpt_oss(void)
{
    check_data("gpt_oss");
}

static void test_deepseek_v3(void)
{
    check_data("deepseek_v3");
}

static void test_glm4_moe(void)
{
    check_data("glm4_moe");
}

static void test_moe_stories(void)
{
    check_data("moe_stories");
}

/* ---- tests/data ---------------------------------------------------------------------------------------- */

static const char *tree_path(const char *name)
{
    static char path[4096];
    const char *root = getenv("QC_SOURCE_ROOT");
    snprintf(path, sizeof path, "%s/tests/data/moe_models/%s", root ? root : ".", name);
    return path;
}

static void test_small_models(void)
{
    static const char *const names[] = {
        "mixtral", "qwen2_moe", "qwen3_moe", "llama4", "gpt_oss", "deepseek_v3", "glm4_moe"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        check_model(tree_path(names[i]), QC_F32, 1e-4, false);
        check_model(tree_path(names[i]), QC_BF16, 0.8, false);
    }
}

/* Blocks of MXFP4 are numbers of bf16, whether they stay blocks in the module or not. */
static void test_mxfp4_source(void)
{
    check_model(tree_path("gpt_oss_mxfp4"), QC_F32, 1e-4, false);
    check_model(tree_path("gpt_oss_mxfp4"), QC_F32, 1e-4, true);
}

/* FP8 blocks, with a layer for next-token prediction behind the last, which takes no part: as numbers, and as they are
 * run, with inputs rounded to FP8 in groups of as many columns. */
static void test_fp8_source(void)
{
    fixture f;
    qc_tensor ids = {0}, expected = {0}, logits = {0};
    check_model(tree_path("deepseek_v3_fp8"), QC_F32, 1e-4, true);
    if (open_model(&f, tree_path("deepseek_v3_fp8"), QC_F32, false)) {
        qc_diag *diag = qc_ctx_diag(f.m.ctx);
        if (read_stored(diag, &f.m.golden, "input_ids", &ids) == QC_OK &&
            read_stored(diag, &f.m.golden, "logits_quantized", &expected) == QC_OK &&
            run_model(&f, &ids, &logits)) {
            const double off = gap(&logits, &expected);
            printf("# with quantized inputs off by %.3g of their range\n", off);
            CHECK(off <= 1e-4);
        } else {
            CHECK_FAIL("%s", f.m.said.last);
        }
    }
    qc_tensor_free(&ids);
    qc_tensor_free(&expected);
    qc_tensor_free(&logits);
    close_model(&f);
}

/* ---- the same numbers, stored in another way ------------------------------------------------------------ */

enum { TENSORS_MAX = 512 };

typedef struct copy {
    fixture *f;
    qc_arena *arena;
    qc_st_out tensors[TENSORS_MAX];
    size_t count;
} copy;

static uint16_t *add_tensor(copy *c, const char *name, int rank, int64_t d0, int64_t d1, int64_t d2)
{
    int64_t *shape = QC_NEW_ARRAY(c->arena, int64_t, 3);
    shape[0] = d0;
    shape[1] = d1;
    shape[2] = d2;
    uint16_t *data = QC_NEW_ARRAY(c->arena, uint16_t, (size_t)(d0 * d1 * d2));
    c->tensors[c->count++] =
        (qc_st_out){.name = name, .dtype = "BF16", .rank = rank, .shape = shape, .user = data};
    return data;
}

static uint16_t *read_bf16(copy *c, const qc_st_tensor *t)
{
    uint16_t *data = qc_arena_alloc(c->arena, (size_t)t->size_bytes);
    return qc_st_read(qc_ctx_diag(c->f->m.ctx), &c->f->m.weights, t, data) == QC_OK ? data : NULL;
}

static const char *const part_names[] = {"gate_proj", "up_proj", "down_proj"};

/* A tensor of all experts, [experts, in, out] or a bias [experts, out], as one an expert. */
static void split(copy *c, const qc_st_tensor *t, bool interleaved)
{
    const uint16_t *from = read_bf16(c, t);
    const bool up = strstr(t->name, "gate_up_proj") != NULL, bias = t->rank == 2;
    const char *experts = qc_arena_strndup(c->arena, t->name, (size_t)(strrchr(t->name, '.') - t->name));
    const int64_t in = bias ? 1 : t->shape[1], all = t->shape[t->rank - 1], parts = up ? 2 : 1,
                  out = all / parts;
    for (int64_t e = 0; from && e < t->shape[0]; e++)
        for (int64_t part = 0; part < parts; part++) {
            const char *name = qc_arena_printf(c->arena, "%s.%lld.%s.%s", experts, (long long)e,
                part_names[up ? part : 2], bias ? "bias" : "weight");
            uint16_t *to = add_tensor(c, name, bias ? 1 : 2, out, bias ? 1 : in, 1);
            for (int64_t o = 0; o < out; o++)
                for (int64_t i = 0; i < in; i++)
                    to[o * in + i] =
                        from[(e * in + i) * all + (interleaved ? parts * o + part : part * out + o)];
        }
}

/* Mixtral's tensors of each expert as two of all, under the names that Transformers 5 has. */
static void fuse(copy *c, int layer, int64_t experts, int64_t inner, int64_t hidden)
{
    const char *block = qc_arena_printf(c->arena, "model.layers.%d.mlp.experts", layer);
    uint16_t *up =
        add_tensor(c, qc_arena_printf(c->arena, "%s.gate_up_proj", block), 3, experts, 2 * inner, hidden);
    uint16_t *down =
        add_tensor(c, qc_arena_printf(c->arena, "%s.down_proj", block), 3, experts, hidden, inner);
    static const char *const names[] = {"w1", "w3", "w2"};
    const size_t size = (size_t)(inner * hidden);
    for (int64_t e = 0; e < experts; e++)
        for (int part = 0; part < 3; part++) {
            const char *name = qc_arena_printf(c->arena,
                "model.layers.%d.block_sparse_moe.experts.%lld.%s.weight", layer, (long long)e, names[part]);
            const uint16_t *from = read_bf16(c, qc_st_find(&c->f->m.weights, name));
            uint16_t *to = part == 2 ? down + (size_t)e * size : up + (2 * (size_t)e + (size_t)part) * size;
            if (from)
                memcpy(to, from, 2 * size);
        }
}

static void copy_others(copy *c, const char *but, const char *old_block)
{
    for (size_t i = 0; i < c->f->m.weights.tensor_count; i++) {
        const qc_st_tensor *t = &c->f->m.weights.tensors[i];
        const char *name = t->name, *block = old_block ? strstr(name, old_block) : NULL;
        if (strstr(name, but))
            continue;
        if (block)
            name =
                qc_arena_printf(c->arena, "%.*smlp%s", (int)(block - name), name, block + strlen(old_block));
        c->tensors[c->count++] = (qc_st_out){
            .name = name, .dtype = t->dtype, .rank = t->rank, .shape = t->shape, .user = read_bf16(c, t)};
    }
}

/* Logits of a directory for the fixed ids. */
static bool logits_of(const char *directory, qc_tensor *logits)
{
    fixture f;
    bool ok = false;
    qc_tensor ids = {0};
    const int64_t dims[2] = {2, 12};
    if (open_model(&f, directory, QC_BF16, false) &&
        qc_tensor_create(qc_ctx_diag(f.m.ctx), "ids", QC_I64, 2, dims, &ids) == QC_OK) {
        for (int64_t i = 0; i < ids.count; i++)
            ((int64_t *)ids.data)[i] = (7 * i + 3) % 64;
        ok = run_model(&f, &ids, logits);
    }
    qc_tensor_free(&ids);
    close_model(&f);
    return ok;
}

static void check_layout(const char *model, bool interleaved)
{
    fixture f;
    qc_tensor expected = {0}, actual = {0};
    char directory[] = "qc-test-moe-XXXXXX";
    const bool mixtral = strcmp(model, "mixtral") == 0;
    if (!mkdtemp(directory))
        SKIP("no directory can be made here");
    if (open_model(&f, tree_path(model), QC_BF16, false)) {
        qc_diag *diag = qc_ctx_diag(f.m.ctx);
        copy *c = calloc(1, sizeof *c);
        c->f = &f;
        c->arena = qc_ctx_arena(f.m.ctx);
        copy_others(c, ".experts.", mixtral ? "block_sparse_moe" : NULL);
        for (size_t i = 0; !mixtral && i < f.m.weights.tensor_count; i++)
            if (strstr(f.m.weights.tensors[i].name, ".experts."))
                split(c, &f.m.weights.tensors[i], interleaved);
        for (int layer = 0; mixtral && layer < 2; layer++)
            fuse(c, layer, 4, 32, 32);
        CHECK(write_shard(diag, c->arena, directory, c->tensors, c->count));
        CHECK_INT(qc_copy_file(diag, qc_path_join(c->arena, tree_path(model), "config.json"),
                      qc_path_join(c->arena, directory, "config.json")),
            QC_OK);
        free(c);
    }
    close_model(&f);
    if (logits_of(tree_path(model), &expected) && logits_of(directory, &actual)) {
        CHECK(qc_tensor_same_shape(&actual, &expected));
        CHECK(memcmp(actual.data, expected.data, qc_tensor_bytes(expected.dtype, expected.count)) == 0);
    }
    qc_tensor_free(&expected);
    qc_tensor_free(&actual);
    messages said = {0};
    qc_arena arena;
    qc_diag diag;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep_message, &said);
    CHECK_INT(qc_remove_tree(&diag, directory), QC_OK);
    qc_arena_fini(&arena);
}

static void test_layouts_agree(void)
{
    check_layout("mixtral", false);
    check_layout("llama4", false);
    check_layout("gpt_oss", true);
}

int main(void)
{
    RUN(test_mixtral);
    RUN(test_qwen2_moe);
    RUN(test_qwen3_moe);
    RUN(test_llama4);
    RUN(test_gpt_oss);
    RUN(test_deepseek_v3);
    RUN(test_glm4_moe);
    RUN(test_moe_stories);
    RUN(test_small_models);
    RUN(test_mxfp4_source);
    RUN(test_fp8_source);
    RUN(test_layouts_agree);
    return check_done();
}
