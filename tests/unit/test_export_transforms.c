/* SPDX-License-Identifier: MIT
 *
 * test_export_transforms.c - rotated modules as checkpoints: what is written, the graph against its `transform` symbols,
 * and rules that a user allows. Equal bytes are for tests/tools/test_formats.sh.
 */
#include "tests/unit/export_job.h"

#include "ir/dtype/hadamard.h"

#define LAYER "model.layers.0."

/* stories260k, through the pipeline. */
static job *prepared(const char *pipeline)
{
    job *j = job_begin();
    if (!j)
        return NULL;
    job_make(j, job_copy_model(j, "model"), pipeline);
    job_forget(j);
    return j;
}

#define PREPARE(pipeline)                                                                                    \
    job *j = prepared(pipeline);                                                                             \
    if (!j)                                                                                                  \
    SKIP("no directory can be made here")

static qc_status export_allowing(job *j, const char *rule)
{
    const qc_export_options options = {
        .force = true, .threads = 2, .allowed = {.rules = &rule, .count = rule ? 1 : 0}};
    job_forget(j);
    return qc_export_compressed_tensors(j->ctx, j->module, NULL, j->out, &options, &j->serve);
}

static void refused(job *j, const char *what)
{
    CHECK_INT(export_allowing(j, NULL), QC_ERROR);
    CHECK(job_said(j, what));
    CHECK(access(j->out, F_OK) != 0);
}

/* The first op of that name at a module whose path ends so. */
static qc_op *find_op(job *j, const char *name, const char *path)
{
    for (qc_op *op = qc_func_first_op(qc_module_first_func(j->module)); op; op = qc_op_next(op))
        if (qc_op_is(op, name) && qc_op_node(op) && qc_ends_with(qc_node_path(qc_op_node(op)), path))
            return op;
    CHECK(!"there is no such op");
    return NULL;
}

static const qc_st_tensor *stored(job *j, qc_st_set *set, const char *name)
{
    CHECK_INT(qc_st_open_directory(&j->diag, &j->arena, j->out, set), QC_OK);
    const qc_st_tensor *t = qc_st_find(set, name);
    if (!t)
        printf("# there is no %s\n", name);
    return t;
}

/* One matrix for all layers, in the first; ones in the place of norms; a config with transform_config alone. */
static void test_written(void)
{
    PREPARE("fold-r1{matrix=random_hadamard}, insert-r4{matrix=random_hadamard, compute=f64}");
    CHECK_INT(export_allowing(j, NULL), QC_OK);
    CHECK(job_said(
        j, "warning: @R4: vLLM rotates inputs and outputs at run time with --tensor-parallel-size 1"));
    CHECK(!strstr(j->said_text, "error: "));
    CHECK(j->serve != NULL);
    qc_st_set set;
    const qc_st_tensor *t = stored(j, &set, LAYER "mlp.down_proj.R4_input.weight");
    CHECK(t && t->rank == 2 && t->shape[0] == 172 && !strcmp(t->dtype, "F64"));
    qc_hadamard h;
    CHECK_INT(qc_hadamard_make(&j->diag, &j->arena, "test", 172, true, &h), QC_OK);
    double *wanted = QC_NEW_ARRAY(&j->arena, double, 172 * 172),
           *is = QC_NEW_ARRAY(&j->arena, double, 172 * 172);
    qc_hadamard_matrix(&h, wanted);
    CHECK(t && qc_st_read(&j->diag, &set, t, is) == QC_OK && !memcmp(is, wanted, 172 * 172 * sizeof *is));
    size_t matrices = 0;
    for (size_t i = 0; i < set.tensor_count; i++)
        matrices += strstr(set.tensors[i].name, "R4_input") != NULL;
    CHECK_INT(matrices, 1);
    const qc_st_tensor *norm = qc_st_find(&set, LAYER "input_layernorm.weight");
    uint16_t ones[64];
    CHECK(norm && norm->size_bytes == sizeof ones && qc_st_read(&j->diag, &set, norm, ones) == QC_OK &&
          ones[0] == 0x3f80 && ones[63] == 0x3f80);
    qc_st_close(&set);
    const char *config = job_text(j, j->out, "config.json");
    CHECK(strstr(config, "\"quant_method\": \"compressed-tensors\""));
    CHECK(strstr(config, "\"type\": \"random-hadamard\""));
    CHECK(!strstr(config, "config_groups\": {\n      \"group_0\""));
    const char *recipe = job_text(j, j->out, "recipe.yaml");
    CHECK(strstr(recipe,
        "    SpinQuantModifier:\n      requires_calibration_data: false\n      rotations: [R1, R4]\n"
        "      transform_type: random-hadamard\n"));
    CHECK(strstr(recipe, "          R4:\n            type: random-hadamard\n            apply:\n"
                         "            - targets: ['re:.*down_proj$']\n              location: input\n"));
    CHECK(!strstr(recipe, "QuantizationModifier"));
    job_end(j);
}

static void test_f32_matrix(void)
{
    PREPARE("insert-quip{rotations=[u], matrix=hadamard, size=4, compute=f32, targets=[\"re:.*q_proj$\"]}");
    CHECK_INT(export_allowing(j, NULL), QC_OK);
    qc_st_set set;
    const qc_st_tensor *t = stored(j, &set, LAYER "self_attn.q_proj.u_output.weight");
    const float wanted[16] = {1, 1, 1, 1, 1, -1, 1, -1, 1, 1, -1, -1, 1, -1, -1, 1};
    float is[16];
    CHECK(t && t->size_bytes == sizeof is && !strcmp(t->dtype, "F32") &&
          qc_st_read(&j->diag, &set, t, is) == QC_OK && !memcmp(is, wanted, sizeof is));
    qc_st_close(&set);
    const char *config = job_text(j, j->out, "config.json"), *recipe = job_text(j, j->out, "recipe.yaml");
    CHECK(strstr(config, "\"precision\": \"torch.float32\"") && strstr(config, "\"head_dim\": 4"));
    CHECK(strstr(recipe, "    QuIPModifier:\n      requires_calibration_data: false\n      rotations: [u]\n"
                         "      transform_type: hadamard\n      targets: ['re:.*q_proj$']\n"));
    CHECK(strstr(recipe, "      transform_block_size: 4\n      ignore: [lm_head]\n"));
    job_end(j);
}

/* What the symbols say must be in the graph, and nothing else. */
static void test_graph_and_symbols(void)
{
    static const struct {
        const char *pipeline, *path, *attr;
        int64_t value;
        const char *said;
    } rows[] = {
        {"insert-r4{matrix=random_hadamard}", "down_proj", "size", 4,
            "error: " LAYER
            "mlp.down_proj: @R4 says that its input is rotated as the model runs, the graph does not"},
        {"insert-quip{rotations=[u], size=4}", "q_proj", "axis", 0,
            "q_proj: @u says that its output is rotated"},
        {"fold-r3", "self_attn", "size", 2, "self_attn: @R3 says that its "},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PREPARE(rows[i].pipeline);
        qc_op *op = find_op(j, "hadamard", rows[i].path);
        /* the weight's own rotation stands in front of the value's: take the one on activations */
        while (op && qc_type_rank(qc_value_type(qc_op_result(op, 0))) < 3)
            op = qc_op_next(op);
        while (op && !qc_op_is(op, "hadamard"))
            op = qc_op_next(op);
        CHECK(op != NULL);
        qc_op_set_attr(op, rows[i].attr, qc_attr_int(j->ctx, rows[i].value));
        refused(j, rows[i].said);
        job_end(j);
    }
    PREPARE("insert-r4{matrix=random_hadamard}");
    qc_op *linear = find_op(j, "linear", "up_proj");
    qc_builder *b = qc_builder_before(linear);
    qc_make(b, "hadamard");
    qc_make_operand(b, "x", qc_op_operand_named(linear, "x"));
    qc_make_attr_int(b, "size", 64);
    qc_value *rotated = qc_make_end(b, "x");
    CHECK(qc_builder_ok(b));
    qc_op_set_operand_named(linear, "x", rotated);
    refused(j, "hadamard stands where config.json has rmsnorm");
    job_end(j);
}

/* A hadamard of another size than a power of two is ours alone. */
static void test_foreign_sizes(void)
{
    PREPARE("insert-r4");
    refused(j, "@R4: compressed-tensors has a hadamard for powers of two alone, not for 172");
    job_end(j);
}

static void test_rules(void)
{
    static const struct {
        const char *pipeline, *rule, *tensor;
    } rows[] = {
        {"fold-r3", "r3", LAYER "self_attn.R3_q_attn.weight"},
        {"quant-kv{granularity=token}", "attention-scales", LAYER "self_attn.k_proj.weight"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PREPARE(rows[i].pipeline);
        refused(j, qc_arena_printf(&j->arena, " (rule %s)\n", rows[i].rule));
        CHECK(job_said(
            j, qc_arena_printf(&j->arena, "note: : --allow=%s writes it all the same", rows[i].rule)));
        CHECK_INT(qc_export_check_module(j->ctx, j->module, NULL, NULL), QC_ERROR);
        CHECK_INT(export_allowing(j, "center-k"), QC_ERROR); /* another rule */
        CHECK_INT(export_allowing(j, rows[i].rule), QC_OK);
        CHECK(job_said(j, qc_arena_printf(&j->arena, " (allowed: %s)\n", rows[i].rule)));
        CHECK(j->serve == NULL);
        const qc_allowed allowed = {.rules = &rows[i].rule, .count = 1};
        CHECK_INT(qc_export_check_module(j->ctx, j->module, NULL, &allowed), QC_OK);
        qc_st_set set;
        CHECK(stored(j, &set, rows[i].tensor) != NULL);
        qc_st_close(&set);
        job_end(j);
    }
}

/* Symbols that no pass makes. */
static void test_bad_symbols(void)
{
    static const struct {
        const char *fields, *said;
    } rows[] = {
        {"{type = wavelet, apply = []}", "@R9: a transform has a type, hadamard or random_hadamard"},
        {"{type = hadamard}",
            "@R9: a transform has a type, hadamard or random_hadamard, and a list of places"},
        {"{type = hadamard, apply = [{location = input}]}", "@R9: a place of a transform has targets"},
        {"{type = hadamard, apply = [{location = inputs, targets = []}]}",
            "@R9: a transform has no location inputs"},
        {"{type = hadamard, size = -1, apply = []}", "@R9: a size below 0"},
        {"{type = hadamard, size = 12, apply = []}",
            "@R9: compressed-tensors has a hadamard for powers of two"},
        {"{type = hadamard, apply = [{location = q_attn, targets = [\"re:.*self_attn$\"]}]}",
            "self_attn: @R9 says that its q is rotated as the model runs, the graph does not"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PREPARE("fold-r1");
        const char *name;
        const qc_attr *fields;
        const char *spec = qc_arena_printf(&j->arena, "x%s", rows[i].fields);
        for (char *c = strstr(spec, " = "); c; c = strstr(c, " = ")) /* as option values are written */
            memmove(c + 1, c + 3, strlen(c + 3) + 1), *c = '=';
        CHECK_INT(qc_parse_spec(j->ctx, &j->arena, "test", spec, &name, &fields), QC_OK);
        CHECK(qc_module_add_symbol(j->module, "transform", "R9", fields) != NULL);
        refused(j, rows[i].said);
        job_end(j);
    }
}

int main(void)
{
    RUN(test_written);
    RUN(test_f32_matrix);
    RUN(test_graph_and_symbols);
    RUN(test_foreign_sizes);
    RUN(test_rules);
    RUN(test_bad_symbols);
    return check_done();
}
