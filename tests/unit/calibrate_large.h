/* SPDX-License-Identifier: MIT
 *
 * calibrate_large.h - of test_calibrate_experts.c: experts so large that it shows how many are in memory.
 */
#ifndef QC_TESTS_CALIBRATE_LARGE_H
#define QC_TESTS_CALIBRATE_LARGE_H

/* ---- memory of large experts --------------------------------------------------------------------------- */

enum { LARGE_WIDTH = 512, LARGE_INNER = 1024 };
static const uint64_t large_expert_bytes = (uint64_t)3 * LARGE_WIDTH * LARGE_INNER * sizeof(uint16_t);

/* One layer of `experts` experts of 3 MiB each. */
static const char *large_text(qc_arena *arena, int experts)
{
    return qc_arena_printf(arena,
        "qc 1\ndim B, S\nmodule \"\" Root\nmodule \"e\" Experts\n"
        "func @main(%%ids: i64[B, S]) -> bf16[B, S, 512] {\n  at \"e\" {\n"
        "  %%t = weight \"t\" : bf16[16, 512]\n  %%x0 = embedding %%ids, %%t : bf16[B, S, 512]\n"
        "  %%w = weight \"w\" : bf16[512, 512]\n  %%x = linear %%x0, %%w : bf16[B, S, 512]\n"
        "  %%r = weight \"r\" : bf16[%d, 512]\n  %%l = linear %%x, %%r : bf16[B, S, %d]\n"
        "  %%top = topk %%l {k = 2} : i32[B, S, 2]\n"
        "  %%rows = expert_rows %%top {experts = %d} : i32[3, 2*B*S]\n"
        "  %%xs = expert_gather %%x, %%rows : bf16[2*B*S, 512]\n"
        "  %%wg = expert_weight \"{e}.g\" : bf16[%d, 1024, 512]\n"
        "  %%wu = expert_weight \"{e}.u\" : bf16[%d, 1024, 512]\n"
        "  %%wd = expert_weight \"{e}.d\" : bf16[%d, 512, 1024]\n"
        "  %%g = expert_linear %%xs, %%wg, %%rows : bf16[2*B*S, 1024]\n"
        "  %%u = expert_linear %%xs, %%wu, %%rows : bf16[2*B*S, 1024]\n"
        "  %%m = mul %%g, %%u : bf16[2*B*S, 1024]\n"
        "  %%o = observe %%m, rows=%%rows {granularity = expert, experts = %d, tap = \"e.{e}.d.input\"} : "
        "bf16[2, %d]\n"
        "  %%d = expert_linear %%m, %%wd, %%rows : bf16[2*B*S, 512]\n"
        "  %%y = expert_combine %%d, %%rows, %%top : bf16[B, S, 512]\n"
        "  %%e = observe %%y {granularity = tensor, tap = \"end\"} : bf16[2, 1]\n"
        "  }\n  return %%y\n}\n",
        experts, experts, experts, experts, experts, experts, experts, experts);
}

static bool write_large(qc_diag *diag, qc_arena *arena, const char *directory, int experts)
{
    static const char *const names[] = {"g", "u", "d"};
    void *data = random_values(3, (size_t)LARGE_WIDTH * LARGE_INNER, QC_BF16, 0.1);
    qc_st_out *out = QC_NEW_ARRAY(arena, qc_st_out, 3 * (size_t)experts + 3);
    size_t count = 0;
    for (int i = -3; i < 3 * experts; i++) {
        int64_t *shape = QC_NEW_ARRAY(arena, int64_t, 2);
        shape[0] = i == -3      ? LARGE_WIDTH
                   : i == -2    ? WORDS
                   : i == -1    ? experts
                   : i % 3 == 2 ? LARGE_WIDTH
                                : LARGE_INNER;
        shape[1] = i >= 0 && i % 3 == 2 ? LARGE_INNER : LARGE_WIDTH;
        out[count++] = (qc_st_out){.name = i == -3   ? "w"
                                           : i == -2 ? "t"
                                           : i == -1 ? "r"
                                                     : qc_arena_printf(arena, "%d.%s", i / 3, names[i % 3]),
            .dtype = "BF16",
            .rank = 2,
            .shape = shape,
            .user = data};
    }
    bool ok = write_shard(diag, arena, directory, out, count);
    free(data);
    return ok;
}

/* What the system says of the process: "VmHWM", the most that it took, "VmRSS", what it takes; 0 where it does not say. */
static uint64_t taken_bytes(const char *what)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, what, strlen(what)) == 0)
            sscanf(line + strlen(what), ": %llu kB", &kib);
    return file && fclose(file) == 0 ? (uint64_t)kib << 10 : 0;
}

/* From now on VmHWM begins with what is taken now. */
static void forget_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (file) {
        fputs("5", file);
        fclose(file);
    }
}

/* A job on so many experts, whose checkpoint goes to `directory`; false after a failure, which close_large cleans up. */
static bool open_large(job *j, char *directory, int experts)
{
    *j = (job){0};
    j->ctx = qc_ctx_create(NULL, keep_message, &j->said);
    qc_arena_init(&j->arena, NULL);
    const char *text = large_text(&j->arena, experts);
    j->module = mkdtemp(directory) && write_large(qc_ctx_diag(j->ctx), &j->arena, directory, experts)
                    ? qc_module_parse(j->ctx, "test", text, strlen(text))
                    : NULL;
    if (!j->module) {
        CHECK_FAIL("%s", j->said.last);
        return false;
    }
    qc_module_set_source(j->module, directory);
    random_data(j, 20, 100);
    return true;
}

static void close_large(job *j, const char *directory)
{
    CHECK_INT(qc_remove_tree(qc_ctx_diag(j->ctx), directory), QC_OK);
    close_job(j);
}

/* The planned peak of so many experts over what the process takes already; what it takes is below that. */
static uint64_t large_peak(int experts)
{
    char directory[] = "qc-test-experts-XXXXXX";
    uint64_t planned = 0, before = 0;
    job j;
    if (open_large(&j, directory, experts)) {
        qc_calibrate_options options = {.threads = 2};
        before = taken_bytes("VmRSS");
        CHECK_INT(qc_calibrate_plan(j.ctx, j.module, &j.data, &options, &planned), QC_OK);
        forget_peak();
        if (calibrate(&j, 2, 0) != QC_OK)
            CHECK_FAIL("%s", j.said.last);
        printf("# %d experts of %llu MiB: planned %llu KiB, took %llu KiB\n", experts,
            (unsigned long long)(large_expert_bytes >> 20), (unsigned long long)(planned >> 10),
            (unsigned long long)(taken_bytes("VmHWM") >> 10));
        CHECK(taken_bytes("VmHWM") <= planned);
    }
    close_large(&j, directory);
    return planned - before;
}

/* Memory does not grow with the number of experts. */
static void test_large(void)
{
    uint64_t few = large_peak(4), many = large_peak(32);
    CHECK(many < few + 10 * large_expert_bytes);
}

/* As many experts at a time as there is memory for: one more for what one more takes. */
static void test_residents(void)
{
    char directory[] = "qc-test-experts-XXXXXX";
    job j;
    if (open_large(&j, directory, 32)) {
        qc_calibration c;
        random_data(&j, 1000, 100);
        CHECK_INT(
            qc_calibration_begin(&c, j.ctx, j.module, &j.data, &(qc_calibrate_options){.threads = 2}), QC_OK);
        const uint64_t one = c.peak_bytes - c.hidden_memory;
        CHECK(c.experts == 1 && c.hidden_memory > 20 * large_expert_bytes);
        qc_calibration_end(&c);
        const qc_calibrate_options options = {
            .threads = 2, .max_memory_bytes = one + 4 * large_expert_bytes + (2 << 20)};
        CHECK_INT(qc_calibration_begin(&c, j.ctx, j.module, &j.data, &options), QC_OK);
        CHECK(c.experts > 2 && c.experts <= 6 && c.peak_bytes <= options.max_memory_bytes);
        qc_calibration_end(&c);
    }
    close_large(&j, directory);
}

#endif
