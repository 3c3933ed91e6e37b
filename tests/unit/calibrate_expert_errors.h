/* SPDX-License-Identifier: MIT
 *
 * calibrate_expert_errors.h - of test_calibrate_experts.c: what cannot be calibrated, and what statistics lack, by its words.
 */
#ifndef QC_TESTS_CALIBRATE_EXPERT_ERRORS_H
#define QC_TESTS_CALIBRATE_EXPERT_ERRORS_H

/* ---- errors -------------------------------------------------------------------------------------------- */

static void set_all(expert_model *m, const char *name, float value)
{
    for (size_t i = 0; i < m->tensor_count; i++)
        if (strcmp(m->tensors[i].name, name) == 0) {
            float values[WIDTH * INNER];
            for (size_t k = 0; k < WIDTH * INNER; k++)
                values[k] = value;
            qc_encode_f32(m->dtype, values, m->tensors[i].user, WIDTH * INNER);
        }
}

/* The message of a calibration and its resolution, when the weights of one tensor are all `value`. */
static void check_error(expert_model m, const char *tensor, float value, const char *says)
{
    job j;
    if (!write_expert_model(&m))
        SKIP("no directory can be made here");
    set_all(&m, tensor, value);
    qc_diag diag;
    messages quiet = {0};
    qc_diag_init(&diag, &m.arena, keep_message, &quiet);
    CHECK(write_shard(&diag, &m.arena, m.directory, m.tensors, m.tensor_count));
    if (open_job(&j, &m)) {
        bool failed =
            calibrate(&j, 2, 0) != QC_OK || qc_calibrate_resolve(j.ctx, j.module, &j.stats) != QC_OK;
        CHECK(failed && said(&j.said, says));
    }
    close_job(&j);
    remove_expert_model(&m);
}

static void keep_errors(void *user, qc_severity severity, const char *where, const char *what)
{
    if (severity == QC_SEVERITY_ERROR)
        keep_message(user, severity, where, what);
}

static void test_errors(void)
{
    expert_model m = {.dtype = QC_F32, .sum = "each", .observed = true, .end = true, .all = true};
    check_error(
        m, "m1.e.1.up.weight", 3e38f, "m1.e.1.down.input: a value is infinite or NaN, in sequence 0 of");
    check_error(m, "m1.e.3.up.weight", 0, "m1.e.3.down.input: its statistics are all zero");
    m.all = false;
    m.spread = 100;
    check_error(m, "shared", 0.25f, "--moe-calib=routed{fallback=layer}");
    m.fallback = "layer";
    m.min_tokens = 10000;
    check_error(m, "shared", 0.25f, "--moe-calib=all");
}

/* What cannot be run expert by expert, in the text of the second layer. */
static void check_text(const char *old, const char *new, const char *says)
{
    expert_model m = {.dtype = QC_F32, .sum = "each", .observed = true, .end = true};
    job j;
    if (!write_expert_model(&m))
        SKIP("no directory can be made here");
    if (open_job(&j, &m)) {
        const char *text = expert_model_text(&m, &j.arena), *at = strstr(text, old);
        CHECK(at != NULL);
        const char *other =
            qc_arena_printf(&j.arena, "%.*s%s%s", (int)(at - text), text, new, at + strlen(old));
        qc_module_destroy(j.module);
        j.module = qc_module_parse(j.ctx, "test", other, strlen(other));
        if (j.module) {
            qc_module_set_source(j.module, m.directory);
            CHECK(calibrate(&j, 2, 0) != QC_OK && said(&j.said, says));
        } else {
            CHECK_FAIL("%s", j.said.last);
        }
    }
    close_job(&j);
    remove_expert_model(&m);
}

static void test_refused(void)
{
    check_text("    %h2 = mul %a2, %u2 : f32[3*B*S, 12]\n",
        "    %h3 = mul %a2, %u2 : f32[3*B*S, 12]\n    %h2 = reshape %h3 : f32[3*B*S, 12]\n",
        "m2.e: reshape: experts one by one cannot be calibrated through it");
    check_text("    %x3 = add %x2, %c2",
        "    %c9 = expert_combine %y2, %rows2, %top2 : f32[B, S, 8]\n    %c8 = add %c2, %c9 : f32[B, S, 8]\n"
        "    %x3 = add %x2, %c8",
        "main: expert_combine: a second one of these rows");
    check_text("    %xg2 = expert_gather %x2", "    %xg2 = expert_gather %x0",
        "m2.e: expert_gather: its operand is no data of tokens");
    check_text("%o2gate = observe %xs2, rows=%rows2, w=%wt2 {granularity = expert, experts = 4, tap = "
               "\"m2.e.{e}.gate.input\"} : "
               "f32[2, 4]",
        "%o2gate = observe %xs2 {granularity = tensor, tap = \"m2.gate\"} : f32[2, 1]",
        "m2.gate: rows of experts are observed expert by expert");
    check_text("  at \"m2.e\" {\n", "  at \"m1.e\" {\n", "m1.e: two layers of experts have this name");
}

/* Refused, by its words; and kept statistics that lack an expert. */
static void test_lacking(void)
{
    expert_model m = {
        .dtype = QC_F32, .sum = "each", .observed = true, .end = true, .spread = 100, .min_tokens = 2};
    job j = {0};
    if (!write_expert_model(&m))
        SKIP("no directory can be made here");
    if (open_job(&j, &m) && calibrate(&j, 2, 0) == QC_OK) {
        qc_ctx *ctx = qc_ctx_create(NULL, keep_errors, &j.said);
        const char *text = expert_model_text(&m, &j.arena);
        qc_module *module = qc_module_parse(ctx, "test", text, strlen(text));
        CHECK_INT(qc_calibrate_resolve(ctx, module, &j.stats), QC_ERROR);
        CHECK(said(&j.said, "m1.e: 1 of 4 experts saw fewer than 2 tokens: 2 (0 tokens)"));
        qc_module_destroy(module);
        m.spread = 0;
        m.all = true;
        text = expert_model_text(&m, &j.arena);
        module = qc_module_parse(ctx, "test", text, strlen(text));
        qc_module_set_source(module, m.directory);
        qc_stats all, less;
        qc_stats_init(&all, &j.arena);
        qc_stats_init(&less, &j.arena);
        CHECK_INT(qc_calibrate(ctx, module, &j.data, NULL, &all), QC_OK);
        for (size_t i = 0; i < all.records.count; i++) {
            qc_stats_record *r = all.records.entries[i].value;
            if (strcmp(r->tap, "m2.e.1.down.input") != 0)
                qc_map_set(&less.records, all.records.entries[i].key, r);
        }
        CHECK_INT(qc_calibrate_resolve(ctx, module, &less), QC_ERROR);
        CHECK(said(&j.said, "m2.e.1.down.input: there are no statistics of it"));
        qc_module_destroy(module);
        qc_ctx_destroy(ctx);
    } else {
        CHECK_FAIL("%s", j.said.last);
    }
    close_job(&j);
    remove_expert_model(&m);
}

/* As many tokens as the rarest of the chosen experts saw are enough, one more is not. */
static void test_border(void)
{
    expert_model m = {
        .dtype = QC_F32, .sum = "each", .observed = true, .end = true, .spread = 100, .fallback = "layer"};
    job j = {0};
    int64_t least = INT64_MAX;
    if (!write_expert_model(&m))
        SKIP("no directory can be made here");
    if (open_job(&j, &m) && calibrate(&j, 2, 0) == QC_OK) {
        const qc_stats_record *r = qc_stats_find(&j.stats, "m1.e", QC_STATS_TOKENS);
        for (size_t e = 0; r && e < EXPERTS; e++)
            least = r->seen[e] > 0 && r->seen[e] < least ? r->seen[e] : least;
        for (int more = 0; r && more < 2; more++) {
            size_t lacking = 0;
            m.min_tokens = (int)least + more;
            for (size_t e = 0; e < EXPERTS; e++)
                lacking += r->seen[e] < m.min_tokens;
            const char *text = expert_model_text(&m, &j.arena);
            qc_module *module = qc_module_parse(j.ctx, "test", text, strlen(text));
            CHECK_INT(qc_calibrate_resolve(j.ctx, module, &j.stats), QC_OK);
            CHECK(said(&j.said, qc_arena_printf(&j.arena, "m1.e: %zu of 4 experts saw fewer than %d token",
                                    lacking, m.min_tokens)));
            qc_module_destroy(module);
        }
    } else {
        CHECK_FAIL("%s", j.said.last);
    }
    close_job(&j);
    remove_expert_model(&m);
}

#endif
