/* SPDX-License-Identifier: MIT
 *
 * test_recipe_transforms.c - SpinQuantModifier and QuIPModifier: the passes that they expand into, what is recorded for
 * recipe.yaml, and what is refused (llm-compressor 0.14 was asked what it takes).
 */
#include "check.h"
#include "recipe_fixture.h"

/* The passes before the record; NULL when the recipe is refused. */
static const char *expand(fixture *f, const char *modifiers)
{
    const char *text = qc_arena_printf(&f->arena, "quant_stage:\n  quant_modifiers:\n%s", modifiers);
    if (qc_recipe_parse(f->ctx, &f->arena, "r.yaml", text, strlen(text), &f->recipe) != QC_OK)
        return NULL;
    char *passes = qc_arena_strdup(&f->arena, f->recipe.pipeline);
    char *record = strstr(passes, "record-recipe{");
    CHECK(record != NULL);
    if (record)
        record[record > passes ? -1 : 0] = '\0';
    return passes;
}

#define SPIN(fields) "    SpinQuantModifier: {" fields "}\n"
#define QUIP(fields) "    QuIPModifier: {" fields "}\n"
#define NORMS "fold-norms{center=true}"

static void test_expansion(void)
{
    static const struct {
        const char *modifiers, *passes;
    } rows[] = {
        {SPIN(""), NORMS ",fold-r1{matrix=hadamard},fold-r2{matrix=hadamard}"},
        {SPIN("rotations: []"), NORMS},
        {SPIN("rotations: [r4, R3, r3]"),
            NORMS ",fold-r3{matrix=hadamard, compute=f64},insert-r4{matrix=hadamard, compute=f64}"},
        {SPIN("rotations: [R1, R2, R3, R4], transform_type: random-hadamard, transform_block_size: '64', "
              "precision: torch.float, randomize: 0, learnable: off, mappings: null"),
            NORMS ",fold-r1{matrix=random_hadamard, size=64},fold-r2{matrix=random_hadamard},"
                  "fold-r3{matrix=random_hadamard, compute=f32},"
                  "insert-r4{matrix=random_hadamard, size=64, compute=f32}"},
        {QUIP(""), "insert-quip{rotations=[v], matrix=random_hadamard, compute=f64, targets=[\"Linear\"], "
                   "ignore=[\"lm_head\"]}"},
        {QUIP("rotations: [U, V], transform_type: hadamard, targets: ['re:.*mlp.*', a], ignore: [], "
              "transform_block_size: 16.0, precision: double"),
            "insert-quip{rotations=[v, u], matrix=hadamard, size=16, compute=f64, targets=[\"re:.*mlp.*\", "
            "\"a\"], ignore=[]}"},
        {SPIN("rotations: [R2]")
                QUIP("rotations: [u], ignore: x") "    QuantizationModifier: {scheme: W4A16}\n",
            NORMS ",fold-r2{matrix=hadamard},insert-quip{rotations=[u], matrix=random_hadamard, compute=f64, "
                  "targets=[\"Linear\"], ignore=[\"x\"]},quant-linear{scheme=W4A16, targets=[\"Linear\"]}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f;
        setup(&f);
        CHECK_STR(expand(&f, rows[i].modifiers), rows[i].passes);
        if (f.said.severity == QC_SEVERITY_ERROR)
            CHECK_FAIL("%s", f.said.last);
        CHECK(f.recipe.needs_data == NULL);
        teardown(&f);
    }
}

/* The fields in llm-compressor's order; transform_config names the symbols that the exporter writes out. */
static void test_record(void)
{
    fixture f;
    setup(&f);
    CHECK(expand(&f,
        SPIN("rotations: [r4, R1], transform_block_size: 32, start: 1, index: 3")
            QUIP("targets: ['re:.*q_proj$'], ignore: [], precision: float32") "    QuantizationModifier: "
                                                                              "{scheme: W4A16}\n"));
    CHECK(strstr(f.recipe.pipeline,
        "    SpinQuantModifier:\\n      requires_calibration_data: false\\n      index: 3\\n      start: "
        "1.0\\n"
        "      rotations: [R4, R1]\\n      transform_type: hadamard\\n      randomize: false\\n"
        "      learnable: false\\n      precision: torch.float64\\n      transform_block_size: 32\\n"
        "      transform_config: [R1, R4]\\n"));
    CHECK(strstr(f.recipe.pipeline,
        "    QuIPModifier:\\n      requires_calibration_data: false\\n      rotations: [v]\\n"
        "      transform_type: random-hadamard\\n      targets: ['re:.*q_proj$']\\n      randomize: false\\n"
        "      learnable: false\\n      precision: torch.float32\\n      ignore: []\\n"
        "      transform_config: [v]\\n    QuantizationModifier:\\n"));
    CHECK(strstr(f.recipe.pipeline, "covers=[\"R1\", \"R4\", \"v\", \"Linear\"]"));
    teardown(&f);
    setup(&f);
    CHECK(expand(&f, QUIP("")));
    CHECK(strstr(f.recipe.pipeline, "      targets: Linear\\n"));
    CHECK(strstr(f.recipe.pipeline, "      ignore: lm_head\\n"));
    teardown(&f);
}

#define R2_CONFIG(type, head_dim, target, more)                                                              \
    "    SpinQuantModifier:\n      rotations: [R2]\n      transform_config:\n        config_groups:\n"       \
    "          R2:\n            type: " type "\n            apply:\n"                                        \
    "            - targets: ['re:.*v_proj$']\n              location: weight_output\n"                       \
    "              inverse: false\n              ignore: []\n"                                               \
    "            - targets: ['" target "']\n              location: weight_input\n"                          \
    "              inverse: true\n              ignore: []\n            randomize: false\n"                  \
    "            requires_grad: false\n            head_dim: " head_dim "\n"                                 \
    "            precision: torch.float64\n" more

/* A recipe that llm-compressor saved says the same in transform_config as in its fields. */
static void test_saved_config(void)
{
    static const char *const others[] = {
        R2_CONFIG("random-hadamard", "64", "re:.*o_proj$", ""),
        R2_CONFIG("hadamard", "64", "re:.*out$", ""),
        R2_CONFIG("hadamard", "null", "re:.*o_proj$", ""),
        R2_CONFIG("hadamard", "64", "re:.*o_proj$", "          R9: {type: hadamard, apply: []}\n"),
        SPIN("transform_config: {config_groups: {}}"),
        SPIN("rotations: [], transform_config: {config_groups: {}, more: 1}"),
        QUIP("transform_config: {config_groups: {v: {type: hadamard, apply: []}}}"),
    };
    fixture f;
    setup(&f);
    CHECK_STR(expand(&f, R2_CONFIG("hadamard", "64", "re:.*o_proj$", "")),
        NORMS ",fold-r2{matrix=hadamard, size=64}");
    teardown(&f);
    setup(&f);
    CHECK_STR(expand(&f, SPIN("rotations: [], transform_config: {config_groups: {}}")), NORMS);
    teardown(&f);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        setup(&f);
        CHECK(expand(&f, others[i]) == NULL);
        CHECK(said(&f.said, "transform_config asks for something else than the fields beside it"));
        teardown(&f);
    }
}

static void test_refused(void)
{
    static const struct {
        const char *modifiers, *said;
    } rows[] = {
        {SPIN("rotations: [R1, R5]"), "r.yaml:3: the rotation 'R5' is not known"},
        {SPIN("rotations: R1"), "r.yaml:3: rotations is a list of strings, not a string ('R1')"},
        {SPIN("rotations: null"), "r.yaml:3: rotations is a list of strings, not null"},
        {SPIN("rotations: [1]"), "r.yaml:3: rotations holds strings, not an integer"},
        {QUIP("rotations: [w]"), "r.yaml:3: the rotation 'w' is not known"},
        {SPIN("transform_type: random-matrix"), "r.yaml:3: transform_type random-matrix draws a matrix"},
        {SPIN("transform_type: Hadamard"), "r.yaml:3: transform_type 'Hadamard' is not known"},
        {SPIN("transform_type: null"), "r.yaml:3: transform_type is a string, not null"},
        {SPIN("randomize: true"), "r.yaml:3: randomize: llm-compressor does not support it, nor does qc"},
        {QUIP("learnable: 'yes'"), "r.yaml:3: learnable: llm-compressor does not support it, nor does qc"},
        {SPIN("precision: bfloat16"), "r.yaml:3: precision 'bfloat16': qc rotates in float64 or float32"},
        {SPIN("precision: null"), "r.yaml:3: precision is a string, not null"},
        {SPIN("transform_block_size: 0"), "r.yaml:3: transform_block_size cannot be 0"},
        {SPIN("transform_block_size: -4"), "r.yaml:3: transform_block_size cannot be -4"},
        {SPIN("transform_block_size: many"), "r.yaml:3: transform_block_size is an integer, not a string"},
        {SPIN("mappings: {embedding: a}"), "r.yaml:3: mappings: qc finds the modules in the graph"},
        {SPIN("norm_mappings: []"), "r.yaml:3: norm_mappings: qc finds the modules in the graph"},
        {SPIN("targets: Linear"), "r.yaml:3: SpinQuantModifier: the field 'targets' is not known"},
        {QUIP("mappings: null"), "r.yaml:3: QuIPModifier: the field 'mappings' is not known"},
        {QUIP("target: Linear"),
            "r.yaml:3: QuIPModifier: the field 'target' is not known, nearest is 'targets'"},
        {QUIP("ignore: null"), "r.yaml:3: ignore is a string or a list of strings, not null"},
        {QUIP("targets: ['re:(']"), "r.yaml:3"},
        {SPIN("start: soon"), "r.yaml:3: start is a number, not a string ('soon')"},
        {"    SpinQuantModifier:\n", "r.yaml:3: SpinQuantModifier is a map, not null"},
        {"    QuIPModifier: [v]\n", "r.yaml:3: QuIPModifier is a map, not a list"},
        {"    QuantizationModifier: {scheme: W4A16}\n" SPIN(""),
            "r.yaml:4: SpinQuantModifier behind a QuantizationModifier would rotate weights whose scales"},
        {QUIP("") "  more_modifiers:\n" QUIP("rotations: [u]"),
            "r.yaml:5: QuIPModifier is there twice (line 3)"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f;
        setup(&f);
        if (expand(&f, rows[i].modifiers))
            CHECK_FAIL("%s is taken", rows[i].modifiers);
        CHECK(said(&f.said, rows[i].said));
        teardown(&f);
    }
}

/* Attention in NVFP4, which llm-compressor fails at. */
static void test_nvfp4_attention(void)
{
#define NVFP4(more)                                                                                          \
    "{num_bits: 4, type: float, strategy: tensor_group, group_size: 16, dynamic: local, symmetric: "         \
    "true" more "}"
    static const struct {
        const char *modifiers, *passes, *said;
    } rows[] = {
        {"    QuantizationModifier: {config_groups: {group_0: {targets: [LlamaAttention], "
         "input_activations: " NVFP4(", observer: static_minmax, scale_dtype: torch.float8_e4m3fn") "}}}\n",
            "quant-nvfp4-attn{observer=static_minmax, targets=[\"LlamaAttention\"]}", NULL},
        {"    QuantizationModifier: {kv_cache_scheme: " NVFP4("") "}\n",
            "quant-kv{type=nvfp4, observer=unset}", NULL},
        {"    QuantizationModifier: {kv_cache_scheme: " NVFP4(", scale_dtype: torch.uint8") "}\n", NULL,
            "r.yaml:3: kv_cache_scheme: scales of NVFP4 are torch.float8_e4m3fn"},
        {"    QuantizationModifier: {kv_cache_scheme: {num_bits: 4, type: float, strategy: tensor_group, "
         "group_size: 32, dynamic: local}}\n",
            NULL, "r.yaml:3: kv_cache_scheme: attention in NVFP4 has groups of 16, dynamic local"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f;
        setup(&f);
        const char *passes = expand(&f, rows[i].modifiers);
        if (rows[i].passes)
            CHECK_STR(passes, rows[i].passes);
        else
            CHECK(!passes && said(&f.said, rows[i].said));
        teardown(&f);
    }
}

int main(void)
{
    RUN(test_expansion);
    RUN(test_record);
    RUN(test_saved_config);
    RUN(test_refused);
    RUN(test_nvfp4_attention);
    return check_done();
}
