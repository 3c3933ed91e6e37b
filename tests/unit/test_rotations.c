/* SPDX-License-Identifier: MIT
 *
 * test_rotations.c - rotations without quantization leave a model's logits within the rounding of f32, on every
 * architecture (tests/data/README.md; QC_DATA adds more models).
 *
 * The bound: a rotated model computes the same real numbers by other roundings. Each of its linears sums up to `width`
 * products, whose rounding errors add like a random walk to about sqrt(width) * 2^-24 of the result's norm, both
 * before and after the rotation; what one linear adds is carried to the logits by residual sums and norms, which
 * keep relative errors about as they are. As if all of them added without cancelling that is
 * linears * sqrt(width) * 2^-24. What is not the same real number (a centered embedding) is far beyond it.
 */
#include "tests/unit/check.h"
#include "tests/unit/messages.h"

#include "frontends/hf/hf.h"
#include "ir/ctx.h"
#include "ir/support/io.h"
#include "passes/manager.h"
#include "runtime/executor.h"

enum { TOKENS = 24 };

typedef struct model {
    messages said;
    qc_ctx *ctx;
    qc_module *module;
    const char *directory;
} model;

static bool open_model(model *m, const char *directory)
{
    *m = (model){.directory = directory};
    m->ctx = qc_ctx_create(NULL, keep_message, &m->said);
    m->module = qc_hf_import(m->ctx, directory, &(qc_hf_options){.dtype = QC_F32});
    if (!m->module)
        CHECK_FAIL("%s: %s", directory, m->said.last);
    return m->module != NULL;
}

static void close_model(model *m)
{
    if (m->module)
        qc_module_destroy(m->module);
    qc_ctx_destroy(m->ctx);
}

static bool apply(model *m, const char *passes)
{
    qc_registry *registry = qc_registry_create(m->ctx, NULL);
    qc_pipeline *pipeline = qc_pipeline_create(registry);
    qc_run_settings settings = {0};
    bool ok = qc_pipeline_parse(pipeline, "test", passes) == QC_OK &&
              qc_pipeline_run(pipeline, m->module, &settings) == QC_OK;
    qc_registry_destroy(registry);
    return ok && qc_module_verify(m->module, passes) == QC_OK;
}

/* [TOKENS, *vocabulary], NULL after a failed check. */
static float *logits_of(model *m, size_t *vocabulary)
{
    qc_executor *executor = qc_executor_create(m->ctx, m->module, &(qc_executor_options){.threads = 2});
    if (!executor) {
        CHECK_FAIL("%s: %s", m->directory, m->said.last);
        return NULL;
    }
    *vocabulary = (size_t)qc_executor_vocabulary(executor);
    int32_t ids[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)((unsigned)(i * 37 + 11) % (unsigned)*vocabulary);
    float *logits = malloc(TOKENS * *vocabulary * sizeof *logits);
    qc_session *session = qc_session_create(executor, TOKENS);
    if (!logits || !session || qc_session_run(session, ids, TOKENS, false, logits) != QC_OK) {
        CHECK_FAIL("%s: %s", m->directory, m->said.last);
        free(logits);
        logits = NULL;
    }
    qc_session_destroy(session);
    qc_executor_destroy(executor);
    return logits;
}

static double bound_of(const model *m)
{
    int64_t linears = 0, width = 0, columns;
    for (const qc_op *op = qc_func_first_op(qc_module_first_func(m->module)); op; op = qc_op_next(op))
        if (qc_op_is(op, "linear") || qc_op_is(op, "expert_linear")) {
            linears++;
            const qc_type *w = qc_value_type(qc_op_operand_named(op, "w"));
            width = qc_dim_as_int(qc_type_dim(w, -1), &columns) && columns > width ? columns : width;
        }
    return (double)linears * sqrt((double)width) * 0x1p-24;
}

static double distance(const float *a, const float *b, size_t count)
{
    double square = 0, whole = 0;
    for (size_t i = 0; i < count; i++) {
        square += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        whole += (double)b[i] * (double)b[i];
    }
    return sqrt(square / whole);
}

/* How far the passes move the logits, relative to their norm; -1 when something failed. */
static double moved_by(const char *directory, const char *passes, const float *plain, double *bound)
{
    model m;
    size_t vocabulary;
    double moved = -1;
    if (open_model(&m, directory)) {
        *bound = bound_of(&m);
        float *rotated = NULL;
        if (apply(&m, passes))
            rotated = logits_of(&m, &vocabulary);
        else
            CHECK_FAIL("%s, %s: %s", directory, passes, m.said.last);
        if (rotated)
            moved = distance(rotated, plain, TOKENS * vocabulary);
        free(rotated);
    }
    close_model(&m);
    return moved;
}

static void check_model(const char *directory)
{
    static const char *const rotations[] = {
        "fold-norms",
        "fold-r1",
        "fold-r1{matrix=random_hadamard}",
        "fold-r1{matrix=random_hadamard, size=4}",
        "fold-r2",
        "fold-r2{matrix=random_hadamard}",
        "fold-r3",
        "fold-r3{matrix=random_hadamard, compute=f64}",
        "insert-r4",
        "insert-r4{matrix=random_hadamard, compute=f64}",
        "insert-quip{rotations=[v, u]}",
        "fold-norms,fold-r1,fold-r2,fold-r3,insert-r4",
        "fold-r1{matrix=random_hadamard},fold-r2{matrix=random_hadamard},fold-r3{matrix=random_hadamard},"
        "insert-r4{matrix=random_hadamard},insert-quip{size=4}",
    };
    model m;
    size_t vocabulary;
    double bound = 0, worst = 0;
    float *plain = open_model(&m, directory) ? logits_of(&m, &vocabulary) : NULL;
    close_model(&m);
    for (size_t i = 0; plain && i < sizeof rotations / sizeof *rotations; i++) {
        double moved = moved_by(directory, rotations[i], plain, &bound);
        worst = moved > worst ? moved : worst;
        if (!(moved >= 0 && moved <= bound))
            CHECK_FAIL(
                "%s: %s moves the logits by %.3g, more than %.3g", directory, rotations[i], moved, bound);
    }
    printf("# %s: at most %.3g, bound %.3g\n", directory, worst, bound);
    free(plain);
}

static const char *path_of(qc_arena *arena, const char *folder, const char *name)
{
    const char *root = getenv("QC_SOURCE_ROOT");
    return qc_path_join(arena, qc_path_join(arena, root ? root : ".", folder), name);
}

static void test_models_in_the_tree(void)
{
    static const char *const names[] = {"grid", "grid_f16", "grid_f32", "mistral", "qwen2", "qwen3"};
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_model(path_of(&arena, "tests/data/small_models", names[i]));
    check_model(path_of(&arena, "tests/data", "stories260k"));
    qc_arena_fini(&arena);
}

static void test_more_models(void)
{
    static const char *const names[] = {"llama", "llama_bias", "mistral", "qwen2", "qwen3", "grid_llama"};
    const char *data = getenv("QC_DATA");
    if (!data)
        SKIP("QC_DATA is not set");
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_model(qc_arena_printf(&arena, "%s/models/%s", data, names[i]));
    qc_arena_fini(&arena);
}

/* What each architecture allows: norms behind attention and MLP stand in the way of R1, values that are cut out of what a
 * linear gives in that of R2. */
enum { REFUSES_R1 = 1, REFUSES_R2 = 2 };

static const struct {
    const char *name;
    int refuses;
} architectures[] = {
    {"phi3", REFUSES_R2},
    {"phi4mini", REFUSES_R2},
    {"gemma2", REFUSES_R1},
    {"gemma3", REFUSES_R1},
    {"olmo2", REFUSES_R1},
    {"glm4", REFUSES_R1},
    {"granite", 0},
    {"mixtral", 0},
    {"qwen2_moe", 0},
    {"qwen3_moe", 0},
    {"llama4", 0},
    {"gpt_oss", 0},
    {"deepseek_v3", REFUSES_R2},
    {"glm4_moe", 0},
    {"moe_stories", 0},
};

static void check_architecture(const char *directory, int refuses)
{
    static const struct {
        const char *passes;
        int refused_by;
    } rotations[] = {
        {"fold-norms", 0},
        {"fold-r1", REFUSES_R1},
        {"linearize-moe,fold-r1{matrix=random_hadamard, size=4}", REFUSES_R1},
        {"fold-r2", REFUSES_R2},
        {"fold-r3{matrix=random_hadamard}", 0},
        {"linearize-moe,insert-r4{size=4}", 0},
        {"linearize-moe,insert-quip{rotations=[v, u], size=4, ignore=[lm_head, \"re:.*shared_expert_gate\"]}",
            0},
    };
    model m;
    size_t vocabulary;
    double bound = 0, worst = 0;
    float *plain = open_model(&m, directory) ? logits_of(&m, &vocabulary) : NULL;
    close_model(&m);
    for (size_t i = 0; plain && i < sizeof rotations / sizeof *rotations; i++) {
        if (refuses & rotations[i].refused_by) {
            CHECK(open_model(&m, directory) && !apply(&m, rotations[i].passes));
            CHECK(said(
                &m.said, refuses & REFUSES_R1 ? "R1 does not commute with it" : "are not rotated alone"));
            close_model(&m);
            continue;
        }
        double moved = moved_by(directory, rotations[i].passes, plain, &bound);
        worst = moved > worst ? moved : worst;
        if (!(moved >= 0 && moved <= bound))
            CHECK_FAIL("%s: %s moves the logits by %.3g, more than %.3g", directory, rotations[i].passes,
                moved, bound);
    }
    printf("# %s: at most %.3g, bound %.3g\n", directory, worst, bound);
    free(plain);
}

/* Experts, routers, latent attention, norms with offsets, layers without RoPE: those that lie in the tree. */
static void test_architectures_in_the_tree(void)
{
    static const char *const folders[] = {"tests/data/dense_models", "tests/data/moe_models"};
    qc_arena arena;
    size_t found = 0;
    qc_arena_init(&arena, NULL);
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        for (size_t k = 0; k < sizeof folders / sizeof *folders; k++) {
            const char *directory = path_of(&arena, folders[k], architectures[i].name);
            if (!qc_is_file(qc_path_join(&arena, directory, "config.json")))
                continue;
            found++;
            check_architecture(directory, architectures[i].refuses);
        }
    CHECK(found >= 7);
    qc_arena_fini(&arena);
}

static void test_architectures(void)
{
    const char *data = getenv("QC_DATA");
    if (!data)
        SKIP("QC_DATA is not set");
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++) {
        const char *directory = qc_arena_printf(&arena, "%s/models/%s", data, architectures[i].name);
        if (qc_is_file(qc_path_join(&arena, directory, "config.json")))
            check_architecture(directory, architectures[i].refuses);
    }
    qc_arena_fini(&arena);
}

/* The bound tells: taking the mean from embeddings is no rotation. */
static void test_centering_is_seen(void)
{
    qc_arena arena;
    model m;
    size_t vocabulary;
    double bound = 0;
    qc_arena_init(&arena, NULL);
    const char *directory = path_of(&arena, "tests/data", "stories260k");
    float *plain = open_model(&m, directory) ? logits_of(&m, &vocabulary) : NULL;
    close_model(&m);
    if (plain) {
        double moved = moved_by(directory, "fold-norms{center=true}", plain, &bound);
        printf("# centered: %.3g, bound %.3g\n", moved, bound);
        CHECK(moved > 10 * bound);
    }
    free(plain);
    qc_arena_fini(&arena);
}

/* Sizes without a matrix end in words, whatever the pass; so does a second rotation. */
static void test_refusals(void)
{
    static const struct {
        const char *passes, *what;
    } rows[] = {
        {"fold-r1{size=6}", "no Hadamard matrix of size 6 is known"},
        {"fold-r2{size=6}", "no Hadamard matrix of size 6 is known"},
        {"fold-r3{size=6}", "no Hadamard matrix of size 6 is known"},
        {"insert-r4{size=6}", "no Hadamard matrix of size 6 is known"},
        {"insert-quip{size=6}", "no Hadamard matrix of size 6 is known"},
        {"fold-r3{size=16}", "size 16 does not divide 8, the head dimension"},
        {"fold-r1,fold-r1", "the model is rotated by R1 already"},
        {"insert-r4,insert-r4", "the model is rotated by R4 already"},
        {"quant-linear{scheme=FP8_DYNAMIC},fold-r1", "rotations must come before the quantizing passes"},
    };
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        model m;
        if (open_model(&m, path_of(&arena, "tests/data", "stories260k"))) {
            CHECK(!apply(&m, rows[i].passes));
            CHECK(said(&m.said, rows[i].what));
        }
        close_model(&m);
    }
    qc_arena_fini(&arena);
}

int main(void)
{
    RUN(test_models_in_the_tree);
    RUN(test_more_models);
    RUN(test_architectures_in_the_tree);
    RUN(test_architectures);
    RUN(test_centering_is_seen);
    RUN(test_refusals);
    return check_done();
}
