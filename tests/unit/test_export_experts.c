/* SPDX-License-Identifier: MIT
 *
 * test_export_experts.c - layers of experts as checkpoints: names, what becomes of tensors that hold all experts, what gate
 * and up share, latent caches, and what is refused. Equal bytes are for tests/tools/test_expert_goldens.sh.
 */
#include "tests/unit/export_job.h"

/* A model of tests/data/moe_models, through the pipeline; NULL where no directory can be made. */
static job *prepared(const char *model, const char *pipeline)
{
    job *j = job_begin();
    if (!j)
        return NULL;
    job_make(j, job_path(j, qc_arena_printf(&j->arena, "tests/data/moe_models/%s", model)), pipeline);
    job_forget(j);
    return j;
}

#define PREPARE(model, pipeline)                                                                             \
    job *j = prepared(model, pipeline);                                                                      \
    if (!j)                                                                                                  \
    SKIP("no directory can be made here")

#define FP8 "linearize-moe,quant-linear{scheme=FP8_DYNAMIC, ignore=[lm_head]}"

static void refused(job *j, const char *what)
{
    CHECK_INT(job_export(j, j->out, true, 0), QC_ERROR);
    CHECK(job_said(j, what));
    CHECK(access(j->out, F_OK) != 0);
    job_forget(j);
}

/* The expert_linear op that stands for this part of the experts of the first layer that has any. */
static qc_op *bank_of(job *j, const char *part)
{
    for (qc_op *op = qc_func_first_op(qc_module_first_func(j->module)); op; op = qc_op_next(op))
        if (qc_op_is(op, "expert_linear") && qc_ends_with(qc_attr_as_text(qc_op_attr(op, "module")), part))
            return op;
    CHECK(!"there is no such op");
    return NULL;
}

static bool opened(job *j, const char *directory, qc_st_set *set)
{
    bool ok = qc_st_open_directory(&j->diag, &j->arena, directory, set) == QC_OK;
    CHECK(ok);
    return ok;
}

/* How many names have this part. */
static size_t count_names(const qc_st_set *set, const char *part)
{
    size_t count = 0;
    for (size_t i = 0; i < set->tensor_count; i++)
        count += strstr(set->tensors[i].name, part) != NULL;
    return count;
}

static void check_bytes(job *j, const qc_st_set *a, const char *of_a, const qc_st_set *b, const char *of_b)
{
    const qc_st_tensor *x = qc_st_find(a, of_a), *y = qc_st_find(b, of_b);
    CHECK(x && y && x->size_bytes == y->size_bytes);
    if (!x || !y || x->size_bytes != y->size_bytes)
        return;
    char *p = qc_arena_alloc(&j->arena, (size_t)x->size_bytes),
         *q = qc_arena_alloc(&j->arena, (size_t)y->size_bytes);
    CHECK(qc_st_read(&j->diag, a, x, p) == QC_OK && qc_st_read(&j->diag, b, y, q) == QC_OK);
    CHECK(memcmp(p, q, (size_t)x->size_bytes) == 0);
}

/* Each expert has its own tensors, the tensors of all are gone; parts are in the order of reading, turned and taken apart. */
static void test_one_tensor(void)
{
    PREPARE("gpt_oss", FP8);
    qc_st_set source, set;
    CHECK_INT(job_export(j, j->out, false, 0), QC_OK);
    if (opened(j, j->out, &set) && opened(j, qc_module_source(j->module), &source)) {
        const qc_st_tensor *all = qc_st_find(&source, "model.layers.0.mlp.experts.gate_up_proj");
        const qc_st_tensor *one = qc_st_find(&set, "model.layers.0.mlp.experts.1.up_proj.weight");
        const qc_st_tensor *bias = qc_st_find(&set, "model.layers.0.mlp.experts.1.up_proj.bias");
        CHECK(all && one && bias);
        CHECK_INT(count_names(&set, "experts.gate_up_proj"), 0);
        CHECK_INT(count_names(&set, "experts.down_proj"), 0);
        if (all && one && bias) {
            CHECK_INT(count_names(&set, "layers.0.mlp.experts."), all->shape[0] * 9);
            CHECK_STR(one->dtype, "F8_E4M3");
            CHECK_INT(one->shape[0], all->shape[2] / 2);
            CHECK_INT(one->shape[1], all->shape[1]);
            CHECK_STR(bias->dtype, "BF16");
            CHECK_INT(bias->shape[0], all->shape[2] / 2);
        }
        qc_st_close(&set);
        qc_st_close(&source);
    }
    job_end(j);
}

/* Experts that no pass has made linear layers of stay as they are. */
static void test_left_alone(void)
{
    PREPARE("llama4", "quant-linear{scheme=FP8_DYNAMIC, targets=\"re:.*self_attn.*\"}");
    qc_st_set source, set;
    CHECK_INT(job_export(j, j->out, false, 0), QC_OK);
    if (opened(j, j->out, &set) && opened(j, qc_module_source(j->module), &source)) {
        const char *name = NULL;
        for (size_t i = 0; i < source.tensor_count; i++)
            if (qc_ends_with(source.tensors[i].name, ".experts.gate_up_proj"))
                name = source.tensors[i].name;
        CHECK(name != NULL);
        if (name)
            check_bytes(j, &set, name, &source, name);
        CHECK_INT(count_names(&set, ".experts.0."), 0);
        qc_st_close(&set);
        qc_st_close(&source);
    }
    job_end(j);
}

/* The names of the source, and one global scale for gate and up of an expert. */
static void test_shared_global_scale(void)
{
    PREPARE("mixtral", "quant-linear{scheme=NVFP4A16, ignore=[lm_head]}");
    qc_st_set set;
    CHECK_INT(job_export(j, j->out, false, 0), QC_OK);
    if (opened(j, j->out, &set)) {
#define EXPERT "model.layers.0.block_sparse_moe.experts.2."
        CHECK_INT(count_names(&set, "gate_proj"), 0);
        CHECK(qc_st_find(&set, EXPERT "w2.weight_packed") && !qc_st_find(&set, EXPERT "w2.weight"));
        check_bytes(j, &set, EXPERT "w1.weight_global_scale", &set, EXPERT "w3.weight_global_scale");
        const qc_st_tensor *global = qc_st_find(&set, EXPERT "w1.weight_global_scale");
        CHECK(global && global->rank == 1 && global->shape[0] == 1);
        CHECK_INT(count_names(&set, "block_sparse_moe.gate.weight"), count_names(&set, "gate.weight"));
        CHECK(strstr(job_text(j, j->out, "config.json"), "\"model.layers.0.block_sparse_moe.gate\""));
        qc_st_close(&set);
    }
    job_end(j);
}

static void test_latent_cache(void)
{
    PREPARE("deepseek_v3", "quant-kv");
    qc_st_set set;
    CHECK_INT(qc_export_check_module(j->ctx, j->module, NULL, NULL), QC_OK);
    refused(j, "model.layers.0.self_attn: an activation has no scale yet: it takes calibration data");
    for (qc_op *op = qc_func_first_op(qc_module_first_func(j->module)), *next; op; op = next) {
        next = qc_op_next(op);
        if (!qc_op_is(op, "qparams"))
            continue;
        const unsigned char half[2] = {0, 0x3f};
        const qc_dim *one = qc_dim_int(j->ctx, 1);
        qc_builder *b = qc_builder_before(op);
        qc_make(b, "const");
        qc_make_attr(b, "value", qc_attr_data(j->ctx, QC_BF16, half, 1));
        qc_make_type(b, qc_type_tensor(j->ctx, QC_BF16, 1, &one));
        qc_value *scale = qc_make_end(b, "scale");
        qc_value_replace_all_uses(qc_op_result(op, 0), scale);
        qc_op_erase(op);
    }
    CHECK_INT(job_export(j, j->out, false, 0), QC_OK);
    CHECK(!strstr(j->said_text, "not quantized"));
    if (opened(j, j->out, &set)) {
        const qc_st_tensor *k = qc_st_find(&set, "model.layers.0.self_attn.k_scale");
        CHECK(k && k->rank == 1 && k->shape[0] == 1);
        check_bytes(j, &set, "model.layers.0.self_attn.k_scale", &set, "model.layers.0.self_attn.v_scale");
        CHECK_INT(count_names(&set, "_scale"), 2 * count_names(&set, "k_scale"));
        qc_st_close(&set);
    }
    job_end(j);
}

/* Modules that say otherwise than the tree, or nothing. */
static void test_modules(void)
{
    PREPARE("gpt_oss", FP8);
    qc_op *gate = bank_of(j, "gate_proj");
    if (gate) {
        const qc_attr *module = qc_op_attr(gate, "module");
        CHECK(qc_op_set_attr(gate, "module", NULL));
        refused(j, "its experts are quantized but in one tensor, which no loader reads");
        CHECK(qc_op_set_attr(gate, "module", qc_attr_string(j->ctx, "{e}.other_proj")));
        refused(j, "experts.0.other_proj: an expert's linear layer is not in the module tree");
        CHECK(qc_op_set_attr(gate, "module", qc_attr_string(j->ctx, "{e}.up_proj")));
        refused(j, "two operations store different values under this name");
        CHECK(qc_op_set_attr(gate, "module", module));
    }
    CHECK_INT(job_export(j, j->out, false, 0), QC_OK);
    job_end(j);
}

/* vLLM's rules, before data is asked for. */
static void test_rules(void)
{
    static const struct {
        const char *model, *pipeline, *what;
    } cases[] = {
        {"qwen3_moe",
            "quant-linear{scheme=W8A8, input={type=i8, granularity=tensor, observer=static_minmax}, "
            "ignore=[lm_head]}",
            "no scheme for experts has INT8 with static inputs (rule experts)"},
        {"qwen3_moe",
            "quant-linear{scheme=FP8, weights={type=f8e4m3, granularity=channel}, ignore=[lm_head]}",
            "FP8 weights of strategy channel with static inputs (rule experts)"},
        {"qwen3_moe", "quant-linear{scheme=FP8_DYNAMIC, targets=\"re:.*experts.*down_proj\"}",
            "its experts are quantized in part, and vLLM reads all of a layer or none (rule experts)"},
        {"qwen2_moe", "quant-linear{scheme=FP8_DYNAMIC, ignore=[lm_head]}", "(rule router)"},
        {"deepseek_v3", "quant-fp8-attn", "(rule latent)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        PREPARE(cases[i].model, cases[i].pipeline);
        CHECK_INT(qc_export_check_module(j->ctx, j->module, NULL, NULL), QC_ERROR);
        CHECK(job_said(j, cases[i].what));
        job_end(j);
    }
}

int main(void)
{
    RUN(test_one_tensor);
    RUN(test_left_alone);
    RUN(test_shared_global_scale);
    RUN(test_latent_cache);
    RUN(test_modules);
    RUN(test_rules);
    return check_done();
}
