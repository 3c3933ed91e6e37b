/* SPDX-License-Identifier: MIT
 *
 * test_export.c - compressed-tensors checkpoints against what llm-compressor 0.14.0.1 wrote for the same
 * model and recipe (tests/data/goldens, made with the scripts of llm-compressor's own entry point; QC_DATA
 * adds more models), and every refusal by its words.
 */
#include "tests/unit/export_job.h"

static const char model_path[] = "tests/data/stories260k";

/* Exports with the golden's scales and compares every file that the golden describes. */
static void check_golden(
    job *j, const char *model, const char *golden, const char *pipeline, uint64_t max_shard)
{
    const char *small = qc_path_join(&j->arena, golden, "small.golden");
    const char *whole = qc_path_join(&j->arena, golden, "model.safetensors");
    if (!job_make(j, model, pipeline))
        return;
    job_settle_all(j, qc_is_file(small) ? small : whole);
    CHECK_INT(job_export(j, j->out, false, max_shard), QC_OK);
    if (!qc_is_directory(j->out)) {
        printf("# %s", j->said_text);
        return;
    }
    CHECK_STR(job_text(j, j->out, "config.json"), job_text(j, golden, "config.json"));
    CHECK_STR(job_text(j, j->out, "recipe.yaml"), job_text(j, golden, "recipe.yaml"));
    const char *index = qc_path_join(&j->arena, golden, "model.safetensors.index.json");
    CHECK_INT(qc_is_file(qc_path_join(&j->arena, j->out, "model.safetensors.index.json")), qc_is_file(index));
    if (qc_is_file(index))
        CHECK_STR(job_text(j, j->out, "model.safetensors.index.json"),
            job_text(j, golden, "model.safetensors.index.json"));
    if (qc_is_file(whole)) {
        CHECK_STR(job_sha256(j, qc_path_join(&j->arena, j->out, "model.safetensors")), job_sha256(j, whole));
        return;
    }
    const char *text = job_text(j, golden, "golden.json");
    qc_json *json = qc_json_parse(&j->diag, &j->arena, "golden.json", text, strlen(text));
    const qc_json *files = qc_json_get(json, "files");
    CHECK(files && files->first);
    for (const qc_json *f = files ? files->first : NULL; f; f = f->next)
        CHECK_STR(job_sha256(j, qc_path_join(&j->arena, j->out, f->key)), qc_json_get(f, "sha256")->text);
}

/* serve_tail: of the command that is proposed; NULL: none is. */
static void in_tree(const char *name, const char *pipeline, uint64_t max_shard, const char *serve_tail)
{
    job *j = job_begin();
    if (!j)
        SKIP("no directory can be made here");
    const char *golden = qc_path_join(&j->arena, job_path(j, "tests/data/goldens"), name);
    check_golden(j, job_path(j, model_path), golden, pipeline, max_shard);
    char expected[256];
    if (serve_tail) {
        snprintf(expected, sizeof expected, "vllm serve %s%s", j->out, serve_tail);
        CHECK_STR(j->serve, expected);
    } else {
        CHECK(!j->serve);
    }
    CHECK(!qc_is_directory(qc_arena_printf(&j->arena, "%s.partial", j->out)));
    job_end(j);
}

static void test_fp8_dynamic(void)
{
    in_tree("fp8_dynamic", "quant-linear{scheme=FP8_DYNAMIC, ignore=[lm_head]}", 0, "");
}

static void test_fp8_static_in_shards(void)
{
    in_tree("fp8_static", "quant-linear{scheme=FP8, ignore=[lm_head]}", 100000, "");
}

static void test_attention_per_head(void)
{
    in_tree("attn_fp8_head_static", "quant-fp8-attn{granularity=head}", 0, " --kv-cache-dtype fp8");
}

static void test_kv_cache(void)
{
    in_tree("kv_fp8_tensor", "quant-kv{granularity=tensor, observer=unset}", 0, " --kv-cache-dtype fp8");
}

static void test_tied_head_gets_its_own_tensor(void)
{
    /* vLLM reads a quantized head only where a target names it. */
    in_tree("fp8_dynamic_lm_head", "quant-linear{scheme=FP8_DYNAMIC}", 0, NULL);
}

/* A head that is stored although it equals the embedding is written once, and the config says so. */
static void test_equal_head_is_tied(void)
{
    job *j = job_begin();
    if (!j)
        SKIP("no directory can be made here");
    const char *model = job_copy_model(j, "model");
    job_add_head(j, model, 0);
    job_change_config(j, model, "tie_word_embeddings", qc_json_new_bool(&j->arena, false));
    check_golden(j, model, job_path(j, "tests/data/goldens/fp8_dynamic"),
        "quant-linear{scheme=FP8_DYNAMIC, ignore=[lm_head]}", 0);
    job_end(j);
}

/* One element makes it another tensor. */
static void test_other_head_is_kept(void)
{
    job *j = job_begin();
    if (!j)
        SKIP("no directory can be made here");
    const char *model = job_copy_model(j, "model");
    job_add_head(j, model, 1);
    job_change_config(j, model, "tie_word_embeddings", qc_json_new_bool(&j->arena, false));
    if (job_make(j, model, "quant-linear{scheme=FP8_DYNAMIC, ignore=[lm_head]}")) {
        CHECK_INT(job_export(j, j->out, false, 0), QC_OK);
        qc_st_set set;
        CHECK_INT(qc_st_open_directory(&j->diag, &j->arena, j->out, &set), QC_OK);
        CHECK(qc_st_find(&set, "lm_head.weight") != NULL);
        qc_st_close(&set);
        CHECK(strstr(job_text(j, j->out, "config.json"), "\"tie_word_embeddings\": false") != NULL);
    }
    job_end(j);
}

/* A kv_cache_scheme alone targets every Linear in llm-compressor's eyes, and what is targeted is untied; all else
 * leaves a config that says tied, and stores a head of its own, as it is. */
static void test_other_head_of_a_tied_config(void)
{
    static const struct {
        const char *pipeline, *scales, *said;
    } rows[] = {
        {"quant-kv{granularity=tensor, observer=unset}", "kv_fp8_tensor", "\"tie_word_embeddings\": false"},
        {"quant-fp8-attn{granularity=head}", "attn_fp8_head_static", "\"tie_word_embeddings\": true"},
        {"quant-linear{scheme=FP8_DYNAMIC, ignore=[lm_head]}", NULL, "\"tie_word_embeddings\": true"},
        {"quant-linear{scheme=FP8_DYNAMIC}", NULL, "\"tie_word_embeddings\": false"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        job *j = job_begin();
        if (!j)
            SKIP("no directory can be made here");
        const char *model = job_copy_model(j, "model");
        job_add_head(j, model, 1);
        if (job_make(j, model, rows[i].pipeline)) {
            if (rows[i].scales)
                job_settle_all(j, qc_arena_printf(&j->arena, "%s/%s/small.golden",
                                      job_path(j, "tests/data/goldens"), rows[i].scales));
            CHECK_INT(job_export(j, j->out, false, 0), QC_OK);
            CHECK(strstr(job_text(j, j->out, "config.json"), rows[i].said) != NULL);
        }
        job_end(j);
    }
}

/* llm-compressor writes the element type that it found in the weights into a config that names none. */
static void test_config_without_dtype(void)
{
    job *j = job_begin();
    if (!j)
        SKIP("no directory can be made here");
    const char *model = job_copy_model(j, "model");
    job_change_config(j, model, "torch_dtype", qc_json_new(&j->arena, QC_JSON_NULL));
    if (job_make(j, model, "quant-linear{scheme=FP8_DYNAMIC, ignore=[lm_head]}")) {
        CHECK_INT(job_export(j, j->out, false, 0), QC_OK);
        CHECK_STR(job_text(j, j->out, "config.json"),
            job_text(j, job_path(j, "tests/data/goldens/fp8_dynamic"), "config.json"));
    }
    job_end(j);
}

/* recipe.yaml as PyYAML 6.0 emits it with llm-compressor's width of 88: where lists break, what is quoted, and
 * where a long text is folded. */
static void test_recipe_of_a_long_ignore_list(void)
{
    static const char expected[] =
        "quant_stage:\n"
        "  quant_modifiers:\n"
        "    QuantizationModifier:\n"
        "      targets: [Linear]\n"
        "      ignore: [lm_head, model.layers.0.self_attn.q_proj, model.layers.0.self_attn.k_proj,\n"
        "        're:.*mlp.down_proj$', \xc3\xa9t\xc3\xa9, '''q''', 'yes', '1', '', '~', "
        "'re:.*a b c d e f g h i\n"
        "          j k l m n o p q r s t u v w x y z', model.layers.1.mlp.up_proj]\n"
        "      scheme: FP8_DYNAMIC\n"
        "      bypass_divisibility_checks: false\n"
        "      requires_calibration_data: false\n";
    job *j = job_begin();
    if (!j)
        SKIP("no directory can be made here");
    if (job_make(j, job_path(j, model_path),
            "quant-linear{scheme=FP8_DYNAMIC, ignore=[lm_head, model.layers.0.self_attn.q_proj, "
            "model.layers.0.self_attn.k_proj, \"re:.*mlp.down_proj$\", \"\xc3\xa9t\xc3\xa9\", \"'q'\", "
            "\"yes\", "
            "\"1\", \"\", \"~\", \"re:.*a b c d e f g h i j k l m n o p q r s t u v w x y z\", "
            "model.layers.1.mlp.up_proj]}")) {
        CHECK_INT(job_export(j, j->out, false, 0), QC_OK);
        CHECK_STR(job_text(j, j->out, "recipe.yaml"), expected);
    }
    job_end(j);
}

/* The goldens on another model, with planted edge cases. */
static void test_more_goldens(void)
{
    static const struct {
        const char *name, *pipeline;
    } rows[] = {
        {"fp8_dynamic", "quant-linear{scheme=FP8_DYNAMIC, ignore=[lm_head]}"},
        {"fp8_dynamic_lm_head", "quant-linear{scheme=FP8_DYNAMIC}"},
        {"fp8_static", "quant-linear{scheme=FP8, ignore=[lm_head]}"},
        {"attn_fp8_head_static", "quant-fp8-attn{granularity=head}"},
        {"attn_fp8_tensor", "quant-fp8-attn{granularity=tensor, observer=minmax}"},
        {"kv_fp8_tensor", "quant-kv{granularity=tensor, observer=unset}"},
        {"kv_fp8_head_static", "quant-kv{granularity=head}"},
        {"fp8_static_kv", "quant-linear{scheme=FP8, ignore=[lm_head]}, quant-kv{observer=unset}"},
        {"fp8_static_kv_static", "quant-linear{scheme=FP8, ignore=[lm_head]}, quant-kv"},
    };
    const char *data = getenv("QC_DATA");
    if (!data)
        SKIP("QC_DATA is not set");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        job *j = job_begin();
        if (!j)
            SKIP("no directory can be made here");
        int before = check_case_failures;
        check_golden(j, qc_path_join(&j->arena, data, "models/grid_llama"),
            qc_arena_printf(&j->arena, "%s/goldens/%s", data, rows[i].name), rows[i].pipeline, 0);
        if (check_case_failures != before)
            printf("# in %s\n", rows[i].name);
        job_end(j);
    }
}

typedef struct said_plan {
    int times;
    uint64_t total_bytes, peak_bytes;
} said_plan;

static void hear_plan(void *user, uint64_t total_bytes, uint64_t peak_bytes)
{
    said_plan *p = user;
    p->times++;
    p->total_bytes = total_bytes;
    p->peak_bytes = peak_bytes;
}

static void test_plan_without_writing(void)
{
    job *j = job_begin();
    if (!j)
        SKIP("no directory can be made here");
    said_plan p = {0};
    job_make(j, job_copy_model(j, "model"), "quant-linear{scheme=FP8_DYNAMIC}");
    qc_export_options options = {.begin = hear_plan, .progress_user = &p, .dry_run = true};
    CHECK_INT(qc_export_compressed_tensors(j->ctx, j->module, NULL, j->out, &options, &j->serve), QC_OK);
    CHECK_INT(p.times, 1);
    CHECK(p.peak_bytes > 1 << 20 && p.peak_bytes < 512 << 20);
    CHECK(access(j->out, F_OK) != 0 && access(qc_arena_printf(&j->arena, "%s.partial", j->out), F_OK) != 0);
    CHECK_INT(job_export(j, j->out, false, 0), QC_OK);
    qc_st_set set;
    uint64_t written = 0;
    CHECK_INT(qc_st_open_directory(&j->diag, &j->arena, j->out, &set), QC_OK);
    for (size_t i = 0; i < set.tensor_count; i++)
        written += set.tensors[i].size_bytes;
    CHECK_INT(written, p.total_bytes);
    qc_st_close(&set);
    job_end(j);
}

int main(void)
{
    RUN(test_fp8_dynamic);
    RUN(test_fp8_static_in_shards);
    RUN(test_attention_per_head);
    RUN(test_kv_cache);
    RUN(test_tied_head_gets_its_own_tensor);
    RUN(test_equal_head_is_tied);
    RUN(test_other_head_is_kept);
    RUN(test_other_head_of_a_tied_config);
    RUN(test_config_without_dtype);
    RUN(test_recipe_of_a_long_ignore_list);
    RUN(test_plan_without_writing);
    RUN(test_more_goldens);
    return check_done();
}
