/* SPDX-License-Identifier: MIT
 *
 * test_compare.c - recipes as they are written, observers of several recipes in one graph, and the error of q k^T against
 * sums over pairs of tokens that are written out here.
 */
#include "tests/unit/check.h"

#include <math.h>

#include "frontends/hf/hf.h"
#include "ir/ctx.h"
#include "ir/support/io.h"
#include "passes/manager.h"
#include "runtime/calibrate.h"
#include "runtime/compare/compare.h"
#include "runtime/compare/unite.h"
#include "tests/unit/messages.h"

static messages heard;

static qc_ctx *open_ctx(qc_arena *arena)
{
    heard = (messages){0};
    qc_arena_init(arena, NULL);
    return qc_ctx_create(NULL, keep_message, &heard);
}

/* ---- recipes ------------------------------------------------------------------------------------------- */

static void test_recipes(void)
{
    qc_arena arena;
    qc_ctx *ctx = open_ctx(&arena);
    qc_compare_recipes r;
    CHECK(qc_compare_recipes_read(ctx, &arena, "--recipes",
              "quant-fp8-attn{granularity=head}, a b = fold-r3 + quant-nvfp4-attn{search=mse, "
              "layers=[\"0-3\", 5]},fp8_dynamic+"
              "quant-kv",
              &r) == QC_OK);
    CHECK_INT(r.count, 3);
    CHECK_STR(r.items[0].label, "quant-fp8-attn{granularity=head}");
    CHECK_STR(r.items[0].pipeline, "quant-fp8-attn{granularity=head}");
    CHECK_STR(r.items[1].label, "a b");
    CHECK_STR(r.items[1].text, "fold-r3 + quant-nvfp4-attn{search=mse, layers=[\"0-3\", 5]}");
    CHECK_STR(r.items[1].pipeline, "fold-r3,quant-nvfp4-attn{search=mse, layers=[\"0-3\", 5]}");
    CHECK_STR(r.items[2].pipeline, "quant-linear{scheme=FP8_DYNAMIC},quant-kv");
    CHECK(qc_compare_recipes_read(ctx, &arena, "--recipes", "x=quant-fp8-attn{ignore=[\"a,b+c=d}\"]}", &r) ==
          QC_OK);
    CHECK_INT(r.count, 1);
    CHECK_STR(r.items[0].pipeline, "quant-fp8-attn{ignore=[\"a,b+c=d}\"]}");
    qc_ctx_destroy(ctx);
    qc_arena_fini(&arena);
}

static void test_recipe_files(void)
{
    static const char text[] = "# attention\n\none=quant-fp8-attn,quant-linear{scheme=W8A8}\n  quant-kv  \n";
    char path[] = "/tmp/qc-recipes-XXXXXX";
    int fd = mkstemp(path);
    qc_arena arena;
    qc_ctx *ctx = open_ctx(&arena);
    qc_compare_recipes r;
    CHECK(fd >= 0);
    CHECK(qc_write_file(qc_ctx_diag(ctx), path, text, sizeof text - 1) == QC_OK);
    CHECK(qc_compare_recipes_read(ctx, &arena, "--recipes",
              qc_arena_printf(&arena, "first=quant-int8-attn,@%s", path), &r) == QC_OK);
    CHECK_INT(r.count, 3);
    CHECK_STR(r.items[1].label, "one");
    CHECK_STR(r.items[1].pipeline, "quant-fp8-attn,quant-linear{scheme=W8A8}");
    CHECK_STR(r.items[2].label, "quant-kv");
    CHECK(qc_write_file(qc_ctx_diag(ctx), path, "# no\n", 5) == QC_OK);
    CHECK(qc_compare_recipes_read(ctx, &arena, "--recipes", qc_arena_printf(&arena, "@%s", path), &r) ==
          QC_ERROR);
    CHECK(said(&heard, "names no recipe"));
    CHECK(qc_write_file(qc_ctx_diag(ctx), path, "\na={\n", 5) == QC_OK);
    CHECK(qc_compare_recipes_read(ctx, &arena, "--recipes", qc_arena_printf(&arena, "@%s", path), &r) ==
          QC_ERROR);
    CHECK(said(&heard, qc_arena_printf(&arena, "%s:2: a brace", path)));
    remove(path);
    qc_ctx_destroy(ctx);
    qc_arena_fini(&arena);
}

static void test_recipes_refused(void)
{
    static const struct {
        const char *text, *what;
    } cases[] = {
        {"", "names no recipe"},
        {"a,,b", "a recipe is empty"},
        {"a+", "an empty part"},
        {"=a", "the label of 'a' is empty"},
        {"x=a,x=b", "two recipes are called 'x'"},
        {"a,a", "two recipes are called 'a'; LABEL=RECIPE names them"},
        {"a{b", "left open or closed twice"},
        {"a}", "left open or closed twice"},
        {"a{b=[c}", "left open or closed twice"},
        {"a{b=\"c}", "left open or closed twice"},
        {"missing.yaml", "missing.yaml"},
        {"@missing", "missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qc_arena arena;
        qc_ctx *ctx = open_ctx(&arena);
        qc_compare_recipes r;
        CHECK(qc_compare_recipes_read(ctx, &arena, "--recipes", cases[i].text, &r) == QC_ERROR);
        CHECK_INT(heard.count, 1);
        CHECK(said(&heard, cases[i].what));
        qc_ctx_destroy(ctx);
        qc_arena_fini(&arena);
    }
}

/* ---- one graph for several recipes --------------------------------------------------------------------- */

typedef struct models {
    qc_arena arena;
    qc_ctx *ctx;
    qc_registry *registry;
    qc_module *base;
    qc_numbering numbering;
    qc_unite *unite;
} models;

static bool open_models(models *m)
{
    const char *root = getenv("QC_SOURCE_ROOT");
    qc_hf_options options = {.dtype = QC_DTYPE_NONE};
    m->ctx = open_ctx(&m->arena);
    m->registry = qc_registry_create(m->ctx, NULL);
    m->base =
        qc_hf_import(m->ctx, qc_path_join(&m->arena, root ? root : ".", "tests/data/stories260k"), &options);
    if (!m->base) {
        CHECK_FAIL("%s", heard.last);
        return false;
    }
    qc_numbering_init(&m->numbering, &m->arena);
    m->unite = qc_unite_create(&m->arena, &m->numbering, m->base);
    return true;
}

static void close_models(models *m)
{
    qc_module_destroy(qc_unite_module(m->unite));
    qc_module_destroy(m->base);
    qc_registry_destroy(m->registry);
    qc_ctx_destroy(m->ctx);
    qc_arena_fini(&m->arena);
}

static qc_module *apply(qc_registry *registry, const qc_module *base, const char *text)
{
    qc_run_settings settings = {0};
    qc_module *module = qc_module_clone(base);
    qc_pipeline *pipeline = qc_pipeline_create(registry);
    CHECK_INT(qc_pipeline_parse(pipeline, "test", text), QC_OK);
    if (qc_pipeline_run(pipeline, module, &settings) != QC_OK)
        CHECK_FAIL("%s: %s", text, heard.last);
    return module;
}

/* Observers in the united module once it took the recipe; -1: it does not fit. */
static int take(models *m, const char *text, qc_module **module)
{
    bool fits = false;
    *module =
        apply(m->registry, m->base, qc_arena_printf(&m->arena, "%s,insert-observers,share-observers", text));
    CHECK_INT(qc_unite_take(m->unite, *module, &fits), QC_OK);
    CHECK_INT(qc_module_verify(qc_unite_module(m->unite), "test"), QC_OK);
    return fits ? (int)qc_unite_observer_count(m->unite) : -1;
}

static size_t count_ops(const qc_module *module, const char *name)
{
    size_t count = 0;
    for (const qc_op *op = qc_func_first_op(qc_module_func(module, "main")); op; op = qc_op_next(op))
        count += qc_op_is(op, name);
    return count;
}

/* The model has 5 layers. */
static void test_unite(void)
{
    models m;
    qc_module *used[8] = {NULL};
    if (!open_models(&m))
        return;
    CHECK_INT(take(&m, "quant-fp8-attn", &used[0]), 15);
    CHECK_INT(take(&m, "quant-int8-attn{granularity=head}", &used[1]), 15);
    CHECK_INT(take(&m, "quant-kv{observer=minmax}", &used[2]), 15);
    CHECK_INT(take(&m, "quant-fp8-attn{observer=mse}", &used[3]), 30);
    CHECK_INT(take(&m, "quant-fp8-attn{observer=mse, granularity=head}", &used[4]), 45);
    CHECK_INT(take(&m, "fold-r3,quant-fp8-attn", &used[5]), 55); /* v is observed already */
    CHECK_INT(count_ops(qc_unite_module(m.unite), "hadamard"), 10);
    CHECK_INT(take(&m, "fold-r3,quant-int8-attn", &used[6]), 55);
    CHECK_INT(
        take(&m, "quant-linear{scheme=FP8}", &used[7]), 55 + 21); /* q, k, v share; o; gate, up share; down */
    CHECK_INT(count_ops(qc_unite_module(m.unite), "observe"), 76);
    for (size_t i = 0; i < 8; i++)
        qc_module_destroy(used[i]);
    close_models(&m);
}

static void test_unite_refuses(void)
{
    models m;
    qc_module *used[2];
    bool fits = false;
    if (!open_models(&m))
        return;
    CHECK_INT(take(&m, "fold-r1,quant-kv", &used[0]), -1);
    CHECK_INT(qc_unite_observer_count(m.unite), 0);
    CHECK_INT(count_ops(qc_unite_module(m.unite), "observe"), 0);
    qc_unite *own = qc_unite_create(&m.arena, &m.numbering, used[0]);
    CHECK_INT(qc_unite_observer_count(own), 10);
    CHECK_INT(take(&m, "fold-r1,quant-fp8-attn{granularity=head}", &used[1]), -1);
    CHECK_INT(qc_unite_take(own, used[1], &fits), QC_OK);
    CHECK(fits);
    CHECK_INT(qc_unite_observer_count(own), 15);
    for (size_t i = 0; i < 2; i++)
        qc_module_destroy(used[i]);
    qc_module_destroy(qc_unite_module(own));
    close_models(&m);
}

/* Statistics of the united graph are those of each recipe alone. */
static void test_united_statistics(void)
{
    models m;
    qc_module *used;
    qc_stats alone, together;
    qc_token_sequence sequences[] = {
        {(const int32_t[]){1, 403, 407, 261, 378}, 5, 1}, {(const int32_t[]){1, 9, 20}, 3, 2}};
    qc_dataset dataset = {sequences, 2, 8};
    if (!open_models(&m))
        return;
    CHECK_INT(take(&m, "quant-linear{scheme=FP8},quant-fp8-attn", &used), 15 + 21);
    qc_stats_init(&alone, &m.arena);
    qc_stats_init(&together, &m.arena);
    CHECK_INT(qc_calibrate(m.ctx, used, &dataset, NULL, &alone), QC_OK);
    CHECK_INT(qc_calibrate(m.ctx, qc_unite_module(m.unite), &dataset, NULL, &together), QC_OK);
    CHECK_INT(alone.records.count, together.records.count);
    for (size_t i = 0; i < alone.records.count; i++) {
        const qc_stats_record *a = alone.records.entries[i].value;
        const qc_stats_record *b = qc_map_get(&together.records, alone.records.entries[i].key);
        CHECK(b && a->kind == b->kind && a->heads == b->heads && a->columns == b->columns);
        if (b && a->kind == QC_STATS_MINMAX)
            CHECK(memcmp(a->min, b->min, a->sequences * a->heads * sizeof *a->min) == 0 &&
                  memcmp(a->max, b->max, a->sequences * a->heads * sizeof *a->max) == 0);
    }
    qc_module_destroy(used);
    close_models(&m);
}

/* ---- scores -------------------------------------------------------------------------------------------- */

/* Two query heads and one key head of 4, by token id. */
static const float queries[6][8] = {{1.2f, -3.7f, 0.4f, 2.6f, -1.1f, 0.3f, 2.2f, -0.6f},
    {0.7f, 1.4f, -2.9f, 0.2f, 3.3f, -1.6f, 0.9f, 1.8f}, {-2.3f, 0.6f, 1.7f, -0.8f, 0.1f, 2.7f, -3.2f, 0.5f},
    {3.1f, 2.4f, -0.3f, -1.9f, 1.4f, -0.7f, 0.2f, -2.8f},
    {-0.9f, -1.3f, 2.1f, 3.6f, -2.4f, 1.1f, 0.8f, -0.4f}, {0.3f, 2.8f, 1.6f, -3.4f, 2.6f, 0.7f, -1.2f, 1.9f}};
static const float keys[6][4] = {{4.3f, -0.6f, 1.8f, -2.2f}, {3.7f, 1.3f, -0.9f, 0.4f},
    {5.1f, -2.4f, 0.7f, 1.6f}, {4.8f, 0.2f, -1.7f, -0.3f}, {3.2f, 2.6f, 1.1f, -1.4f},
    {4.6f, -1.8f, -2.3f, 0.8f}};

static void add_floats(qc_str *out, const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        qc_str_add(out, i ? ", " : "");
        qc_str_add_f32(out, values[i]);
    }
}

static qc_module *make_module(qc_ctx *ctx, qc_arena *arena, const char *attention)
{
    qc_str text;
    qc_str_init(&text, arena);
    qc_str_add(&text,
        "qc 1\ndim B, P, S\nmodule \"\" Tiny\nmodule \"layers.0.attn\" TinyAttention\n"
        "func @main(%ids: i64[B, S]) -> f32[B, S, 8] {\n  at \"layers.0.attn\" {\n    %qt = const [");
    add_floats(&text, queries[0], 48);
    qc_str_add(&text, "] : f32[6, 8]\n    %kt = const [");
    add_floats(&text, keys[0], 24);
    qc_str_addf(&text,
        "] : f32[6, 4]\n    %%q = embedding %%ids, %%qt : f32[B, S, 8]\n    %%k = embedding %%ids, %%kt : "
        "f32[B, S, 4]\n"
        "    %%qh = split_heads %%q {heads = 2} : f32[B, 2, S, 4]\n    %%kh = split_heads %%k {heads = 1} : "
        "f32[B, 1, S, 4]\n"
        "    %%kc = cache_append %%kh {slot = k} : f32[B, 1, P + S, 4]\n"
        "    %%vc = cache_append %%kh {slot = v} : f32[B, 1, P + S, 4]\n"
        "    %%o = attention %%qh, %%kc, %%vc {%sprobs = f32, scale = 0.5, scores = f32, softmax = f32} : "
        "f32[B, 2, S, 4]\n"
        "    %%m = merge_heads %%o : f32[B, S, 8]\n  }\n  return %%m\n}\n",
        attention);
    qc_module *module = qc_module_parse(ctx, "test", text.data, text.length);
    if (!module)
        CHECK_FAIL("%s", heard.last);
    qc_str_fini(&text);
    return module;
}

static double coded(const float *x, int column, bool rotate, bool code)
{
    static const int signs[4][4] = {{1, 1, 1, 1}, {1, -1, 1, -1}, {1, 1, -1, -1}, {1, -1, -1, 1}};
    double value = x[column];
    for (int i = 0; rotate && i < 4; i++)
        value = (i ? value : 0) + 0.5 * signs[i][column] * (double)x[i];
    return code ? rint(value) : value;
}

/* Of one sequence: scale 1, so codes are rounded numbers. */
static double direct_error(const int32_t *ids, int count, bool rotate, bool code_q, int window)
{
    double total = 0;
    for (int h = 0; h < 2; h++) {
        double error = 0, energy = 0;
        for (int i = 0; i < count; i++) {
            double s[16], t[16], s_mean = 0, t_mean = 0;
            int first = window && i + 1 > window ? i + 1 - window : 0;
            for (int j = first; j <= i; j++) {
                s[j] = t[j] = 0;
                for (int c = 0; c < 4; c++) {
                    const float *q = queries[ids[i]] + 4 * h, *k = keys[ids[j]];
                    s[j] += (double)q[c] * (double)k[c];
                    t[j] += coded(q, c, rotate, code_q) * coded(k, c, rotate, true);
                }
                s_mean += s[j] / (i + 1 - first);
                t_mean += t[j] / (i + 1 - first);
            }
            for (int j = first; j <= i; j++) {
                double u = s[j] - s_mean, w = t[j] - t_mean;
                error += (w - u) * (w - u);
                energy += u * u;
            }
        }
        total += error / energy / 2;
    }
    return total;
}

static void test_scores(void)
{
    static const struct {
        const char *pipeline;
        bool rotate, code_q;
    } cases[] = {{"quant-int8-attn", false, true}, {"fold-r3,quant-int8-attn", true, true},
        {"quant-kv{type=int8}", false, false}};
    static const struct {
        const char *text;
        int window;
    } masks[] = {{"causal, ", 0}, {"causal, window = 3, ", 3}};
    static const int32_t first[] = {0, 1, 2, 3, 4, 5, 1, 3}, second[] = {5, 2, 4, 0, 1};
    qc_eval_window items[] = {{first, 8, 1}, {second, 5, 1}};
    qc_eval_windows windows = {.items = items, .count = 2, .scored = 11};
    for (size_t k = 0; k < 2; k++) {
        qc_arena arena;
        qc_ctx *ctx = open_ctx(&arena);
        qc_registry *registry = qc_registry_create(ctx, NULL);
        qc_module *base = make_module(ctx, &arena, masks[k].text), *modules[4];
        const char *names[] = {"a", "b", "c", "d"};
        qc_qk_error errors[4];
        qc_qk_options options = {.threads = 1};
        for (size_t i = 0; base && i < 3; i++)
            modules[i] = apply(registry, base,
                qc_arena_printf(&arena, "%s,resolve-observers{missing=one}", cases[i].pipeline));
        modules[3] = base ? apply(registry, base, "fold-r3") : NULL;
        CHECK_INT(qc_qk_error_measure(&arena, base, modules, names, 4, &windows, &options, errors), QC_OK);
        for (size_t i = 0; i < 3; i++) {
            double a = direct_error(first, 8, cases[i].rotate, cases[i].code_q, masks[k].window);
            double b = direct_error(second, 5, cases[i].rotate, cases[i].code_q, masks[k].window);
            CHECK(errors[i].coded);
            CHECK(a > 1e-4 && b > 1e-4);
            CHECK_INT(errors[i].error.count, 2);
            CHECK_NEAR(errors[i].error.mean, (a + b) / 2, 2e-6);
            CHECK_NEAR(qc_mean_error(&errors[i].error), fabs(a - b) / 2, 2e-6);
            CHECK_INT(errors[i].layers, 1);
            CHECK_NEAR(errors[i].by_layer[0], (a + b) / 2, 2e-6);
        }
        CHECK(!errors[3].coded && errors[3].by_layer == NULL);
        for (size_t i = 0; i < 4; i++)
            qc_module_destroy(modules[i]);
        qc_module_destroy(base);
        qc_registry_destroy(registry);
        qc_ctx_destroy(ctx);
        qc_arena_fini(&arena);
    }
}

static void test_rows(void)
{
    static const float scores[] = {1, 2, 4, 8};
    const qc_qk_mask causal = {.causal = true}, window = {.causal = true, .window = 2},
                     all = {.causal = false};
    const qc_qk_mask chunk = {.causal = true, .chunk = 3}, chunk_of_all = {.chunk = 2};
    CHECK(qc_qk_row_square(scores, 0, 4, &causal) == 0);
    CHECK_NEAR(qc_qk_row_square(scores, 1, 4, &causal), 0.5, 1e-12);
    CHECK_NEAR(qc_qk_row_square(scores, 3, 4, &window), 8, 1e-12);
    CHECK_NEAR(qc_qk_row_square(scores, 0, 4, &all), 85 - 225.0 / 4, 1e-12);
    CHECK(qc_qk_row_square(scores, 3, 4, &chunk) == 0);
    CHECK_NEAR(qc_qk_row_square(scores, 2, 4, &chunk), 21 - 49.0 / 3, 1e-12);
    CHECK_NEAR(qc_qk_row_square(scores, 0, 4, &chunk_of_all), 0.5, 1e-12);
    CHECK_NEAR(qc_qk_row_square(scores, 2, 4, &chunk_of_all), 8, 1e-12);
}

int main(void)
{
    RUN(test_recipes);
    RUN(test_recipe_files);
    RUN(test_recipes_refused);
    RUN(test_unite);
    RUN(test_unite_refuses);
    RUN(test_united_statistics);
    RUN(test_rows);
    RUN(test_scores);
    return check_done();
}
