/* SPDX-License-Identifier: MIT
 *
 * test_manager.c - what the pass manager holds passes to: their claims, the verifier, analyses, reproducers.
 */
#include "check.h"
#include "messages.h"

#include <unistd.h>

#include "ir/support/io.h"
#include "passes/analysis.h"
#include "passes/manager.h"

static const char source[] = "qc 1\n"
                             "dim B\n"
                             "module \"\" Tiny\n"
                             "module \"a\" Linear {weight}\n"
                             "func @main(%x: bf16[B, 8]) -> bf16[B, 8] {\n"
                             "  %w = weight \"a.weight\" : bf16[8, 8] at \"a\"\n"
                             "  %y = linear %x, %w : bf16[B, 8] at \"a\"\n"
                             "  %z = neg %y : bf16[B, 8]\n"
                             "  return %z\n"
                             "}\n";

typedef struct fixture {
    messages log;
    qc_ctx *ctx;
    qc_registry *registry;
    qc_module *module;
    qc_arena arena;
    qc_run_settings settings;
    char printed[4096]; /* "before dce;after dce;" */
    int reports;
} fixture;

static void print(void *user, const char *when, const char *pass, const char *text, size_t length)
{
    fixture *f = user;
    size_t at = strlen(f->printed);
    snprintf(f->printed + at, sizeof f->printed - at, "%s %s %d;", when, pass, text[length - 1] == '\n');
}

static void report(void *user, const qc_run_report *r)
{
    fixture *f = user;
    f->reports += r->index < r->count && r->seconds >= 0 && r->verify_seconds >= 0;
}

static void setup(fixture *f)
{
    memset(f, 0, sizeof *f);
    qc_arena_init(&f->arena, NULL);
    f->ctx = qc_ctx_create(NULL, keep_message, &f->log);
    f->registry = qc_registry_create(f->ctx, NULL);
    f->module = qc_module_parse(f->ctx, "source", source, sizeof source - 1);
    f->settings = (qc_run_settings){.print = print, .report = report, .user = f};
    CHECK(f->module != NULL);
}

static void teardown(fixture *f)
{
    qc_module_destroy(f->module);
    qc_registry_destroy(f->registry);
    qc_ctx_destroy(f->ctx);
    qc_arena_fini(&f->arena);
}

static qc_status run(fixture *f, const char *text)
{
    qc_pipeline *pipeline = qc_pipeline_create(f->registry);
    CHECK(qc_pipeline_parse(pipeline, "--pipeline", text) == QC_OK);
    return qc_pipeline_run(pipeline, f->module, &f->settings);
}

static qc_op *last_op(qc_module *module)
{
    return qc_func_last_op(qc_module_first_func(module));
}

/* ---- claims -------------------------------------------------------------------------------------------- */

static qc_pass_result lies(qc_pass_ctx *pc, qc_module *module)
{
    (void)pc;
    qc_value_set_hint(qc_op_result(last_op(module), 0), "changed");
    return QC_PASS_UNCHANGED;
}

static qc_pass_result says_nothing(qc_pass_ctx *pc, qc_module *module)
{
    (void)pc, (void)module;
    return QC_PASS_FAILED;
}

static qc_pass_result goes_on(qc_pass_ctx *pc, qc_module *module)
{
    (void)module;
    qc_pass_fail(pc, NULL, "something is wrong");
    return QC_PASS_UNCHANGED;
}

static qc_pass_result asks_wrongly(qc_pass_ctx *pc, qc_module *module)
{
    (void)module;
    return qc_pass_option_bool(pc, "nothing") ? QC_PASS_CHANGED : QC_PASS_UNCHANGED;
}

static qc_pass_result gives_nonsense(qc_pass_ctx *pc, qc_module *module)
{
    (void)pc, (void)module;
    return (qc_pass_result)7;
}

static void test_claims(void)
{
    static const struct {
        const char *name;
        qc_pass_fn run;
        const char *message;
    } passes[] = {
        {"lies", lies, "lies: the pass says that it changed nothing, but the module is another"},
        {"says-nothing", says_nothing, "says-nothing: the pass failed without saying why"},
        {"goes-on", goes_on, "goes-on: the pass reported an error and went on; it must fail then"},
        {"asks-wrongly", asks_wrongly,
            "asks-wrongly: the pass reported an error and went on; it must fail then"},
        {"gives-nonsense", gives_nonsense, "gives-nonsense: the pass gave 7, which is no result"},
    };
    for (size_t i = 0; i < sizeof passes / sizeof passes[0]; i++) {
        fixture f;
        setup(&f);
        qc_registry_add(f.registry, passes[i].name, "misbehaves", passes[i].run);
        CHECK(run(&f, passes[i].name) == QC_ERROR);
        CHECK_STR(f.log.last, passes[i].message);
        teardown(&f);
    }
}

/* ---- the verifier -------------------------------------------------------------------------------------- */

/* Puts an op before the one that makes its operand. */
static qc_pass_result breaks(qc_pass_ctx *pc, qc_module *module)
{
    (void)pc;
    qc_op_move_before(last_op(module), qc_func_first_op(qc_module_first_func(module)));
    return QC_PASS_CHANGED;
}

static void test_verifier_and_reproducer(void)
{
    fixture f;
    char *text = NULL;
    size_t length;
    qc_diag diag;
    setup(&f);
    char *path = qc_arena_printf(&f.arena, "reproducer-%d.qc", (int)getpid());
    qc_registry_add(f.registry, "breaks", "breaks the order of ops", breaks);
    f.settings.reproducer = path;
    f.settings.version = "0.1.0";
    CHECK(run(&f, "dce,cse,breaks,dce") == QC_ERROR);
    CHECK_INT(qc_ctx_error_count(f.ctx), 1);
    CHECK_INT(f.reports, 2); /* of the passes that came through */
    qc_diag_init(&diag, &f.arena, keep_message, &f.log);
    CHECK(qc_read_file(&diag, &f.arena, path, 1 << 20, &text, &length) == QC_OK);
    if (text) {
        CHECK_STR(qc_reproducer_pipeline(&f.arena, text), "breaks,dce");
        CHECK(strncmp(text, "// pipeline: breaks,dce\n// qc 0.1.0\nqc 1\n", 41) == 0);
        /* It fails again, in the same way. */
        qc_module_destroy(f.module);
        f.module = qc_module_parse(f.ctx, "reproducer", text, length);
        CHECK(f.module != NULL);
        f.settings.reproducer = NULL;
        CHECK(f.module && run(&f, qc_reproducer_pipeline(&f.arena, text)) == QC_ERROR);
    }
    CHECK(qc_reproducer_pipeline(&f.arena, source) == NULL);
    unlink(path);
    teardown(&f);
}

static void test_printing(void)
{
    static const char *const names[] = {"cse"};
    fixture f;
    setup(&f);
    f.settings.print_before = f.settings.print_after = names;
    f.settings.print_before_count = f.settings.print_after_count = 1;
    CHECK(run(&f, "dce,cse,canonicalize") == QC_OK);
    CHECK_STR(f.printed, "before cse 1;after cse 1;");
    f.printed[0] = '\0';
    f.settings.print_before_count = 0;
    f.settings.print_after_all = true;
    CHECK(run(&f, "dce,cse") == QC_OK);
    CHECK_STR(f.printed, "after dce 1;after cse 1;");
    teardown(&f);
}

static void test_disable(void)
{
    static const char *const patterns[] = {"re:("};
    fixture f;
    setup(&f);
    f.settings.disable = patterns;
    f.settings.disable_count = 1;
    CHECK(run(&f, "dce") == QC_ERROR);
    teardown(&f);
}

/* ---- analyses ------------------------------------------------------------------------------------------ */

static int computations;

static const void *count_ops(qc_arena *arena, const qc_module *module)
{
    size_t *count = QC_NEW(arena, size_t);
    computations++;
    for (const qc_op *op = qc_func_first_op(qc_module_first_func(module)); op; op = qc_op_next(op))
        ++*count;
    return count;
}

static bool counts_equal(const void *a, const void *b)
{
    return *(const size_t *)a == *(const size_t *)b;
}

static const qc_analysis_kind op_count = {"op-count", count_ops, counts_equal};

/* Asks for the analysis; the user pointer gets what it says. */
static qc_pass_result asks(qc_pass_ctx *pc, qc_module *module)
{
    (void)module;
    *(size_t *)qc_pass_ctx_user(pc) = *(const size_t *)qc_pass_analysis(pc, "op-count");
    return QC_PASS_UNCHANGED;
}

static qc_pass_result adds_op(qc_pass_ctx *pc, qc_module *module)
{
    (void)pc;
    qc_op *op = last_op(module);
    qc_builder *b = qc_builder_before(op);
    qc_make(b, "abs");
    qc_make_operand(b, "x", qc_op_operand(op, 0));
    qc_op_set_operand(op, 0, qc_make_end(b, NULL));
    return qc_builder_ok(b) ? QC_PASS_CHANGED : QC_PASS_FAILED;
}

static qc_pass_result renames(qc_pass_ctx *pc, qc_module *module)
{
    (void)pc;
    qc_value_set_hint(qc_op_result(last_op(module), 0), "renamed");
    return QC_PASS_CHANGED;
}

static void setup_analyses(fixture *f, size_t *seen)
{
    setup(f);
    qc_registry_add_analysis(f->registry, &op_count);
    qc_registry_add_stage(f->registry, "asks", "asks for an analysis", asks, seen);
    qc_registry_add(f->registry, "adds", "adds an op", adds_op);
    qc_pass_add_kept_analysis(
        qc_registry_add(f->registry, "renames", "renames a value", renames), "op-count");
    qc_pass_add_kept_analysis(qc_registry_add(f->registry, "adds-badly", "adds an op", adds_op), "op-count");
    computations = 0;
}

static void test_invalidation(void)
{
    fixture f;
    size_t seen = 0;
    setup_analyses(&f, &seen);
    CHECK(run(&f, "asks,asks,dce,asks") == QC_OK); /* computed once: nothing changed */
    CHECK_INT(computations, 1);
    CHECK_INT(seen, 3);
    computations = 0;
    CHECK(run(&f, "asks,adds,asks") == QC_OK); /* dropped, computed again */
    CHECK_INT(computations, 2);
    CHECK_INT(seen, 4);
    computations = 0;
    CHECK(run(&f, "asks,renames,asks") == QC_OK); /* kept */
    CHECK_INT(computations, 1);
    computations = 0;
    CHECK(run(&f, "asks,adds-badly,asks") == QC_OK); /* kept wrongly: stale, and nobody looks */
    CHECK_INT(seen, 4);
    teardown(&f);
}

static void test_verify_keeps(void)
{
    fixture f;
    size_t seen = 0;
    setup_analyses(&f, &seen);
    f.settings.verify_keeps = true;
    CHECK(run(&f, "asks,renames,asks") == QC_OK);
    CHECK(run(&f, "adds-badly") == QC_OK); /* nothing was cached */
    CHECK(run(&f, "asks,adds-badly") == QC_ERROR);
    CHECK_STR(
        f.log.last, "adds-badly: the pass promised to keep the analysis 'op-count', which is another now");
    teardown(&f);
}

static void test_liveness(void)
{
    fixture f;
    setup(&f);
    const qc_func *func = qc_module_first_func(f.module);
    const qc_liveness *l = qc_liveness_compute(&f.arena, f.module);
    const qc_op *w = qc_func_first_op(func), *y = qc_op_next(w), *z = qc_op_next(y);
    CHECK_INT(qc_liveness_position(l, w), 0);
    CHECK_INT(qc_liveness_position(l, z), 2);
    CHECK_INT(qc_liveness_end(l, qc_func_argument(func, 0)), 1);
    CHECK_INT(qc_liveness_end(l, qc_op_result(w, 0)), 1);
    CHECK_INT(qc_liveness_end(l, qc_op_result(y, 0)), 2);
    CHECK(qc_liveness_end(l, qc_op_result(z, 0)) == QC_LIVE_OUT);
    teardown(&f);
}

static void test_node_ops(void)
{
    fixture f;
    size_t count;
    setup(&f);
    const qc_node_ops *n = qc_node_ops_compute(&f.arena, f.module);
    qc_op *const *ops = qc_node_ops_get(n, qc_module_find_node(f.module, "a"), &count);
    CHECK_INT(count, 2);
    CHECK(count == 2 && qc_op_is(ops[0], "weight") && qc_op_is(ops[1], "linear"));
    CHECK(qc_node_ops_get(n, qc_module_find_node(f.module, ""), &count) == NULL);
    CHECK_INT(count, 0);
    teardown(&f);
}

static qc_pass_result asks_unknown(qc_pass_ctx *pc, qc_module *module)
{
    (void)module;
    return qc_pass_analysis(pc, "none-such") ? QC_PASS_CHANGED : QC_PASS_FAILED;
}

static void test_unknown_analysis(void)
{
    fixture f;
    setup(&f);
    qc_registry_add(f.registry, "asks-unknown", "asks for nothing", asks_unknown);
    CHECK(run(&f, "asks-unknown") == QC_ERROR);
    CHECK_STR(f.log.last, "asks-unknown: the pass asks for an unknown analysis 'none-such'");
    teardown(&f);
}

int main(void)
{
    RUN(test_claims);
    RUN(test_verifier_and_reproducer);
    RUN(test_printing);
    RUN(test_disable);
    RUN(test_invalidation);
    RUN(test_verify_keeps);
    RUN(test_liveness);
    RUN(test_node_ops);
    RUN(test_unknown_analysis);
    return check_done();
}
