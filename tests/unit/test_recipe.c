/* SPDX-License-Identifier: MIT
 *
 * test_recipe.c - recipes: what they expand into, what recipe.yaml will say (llm-compressor 0.14 was asked), and what
 * is said of wrong ones.
 */
#include <dirent.h>
#include <unistd.h>

#include "check.h"
#include "frontends/recipe/recipe.h"
#include "ir/ctx.h"
#include "ir/support/io.h"
#include "messages.h"
#include "passes/manager.h"

typedef struct fixture {
    messages said;
    qc_arena arena;
    qc_ctx *ctx;
    qc_registry *registry;
    qc_pipeline *pipeline;
    qc_recipe recipe;
} fixture;

static void setup(fixture *f)
{
    memset(f, 0, sizeof *f);
    qc_arena_init(&f->arena, NULL);
    f->ctx = qc_ctx_create(NULL, keep_message, &f->said);
    f->registry = qc_registry_create(f->ctx, NULL);
    f->pipeline = qc_pipeline_create(f->registry);
}

static void teardown(fixture *f)
{
    qc_registry_destroy(f->registry);
    qc_ctx_destroy(f->ctx);
    qc_arena_fini(&f->arena);
}

/* The canonical pipeline of the recipe; NULL when it or its pipeline is refused. */
static const char *expand_as(fixture *f, const char *path, const char *text)
{
    if (qc_recipe_parse(f->ctx, &f->arena, path, text, strlen(text), &f->recipe) != QC_OK ||
        qc_pipeline_parse(f->pipeline, path, f->recipe.pipeline) != QC_OK)
        return NULL;
    qc_str out;
    qc_str_init(&out, &f->arena);
    qc_pipeline_print(f->pipeline, &out);
    const char *pipeline = qc_arena_strdup(&f->arena, out.data);
    qc_str_fini(&out);
    return pipeline;
}

/* The same without what is recorded of the recipe. */
static const char *passes_of(fixture *f, const char *path, const char *text)
{
    char *pipeline = (char *)expand_as(f, path, text);
    char *record = pipeline ? strstr(pipeline, ",record-recipe{") : NULL;
    if (record)
        *record = '\0';
    return pipeline;
}

/* A modifier's fields inside of a stage. */
static const char *wrapped(fixture *f, const char *fields)
{
    return qc_arena_printf(
        &f->arena, "quant_stage:\n  quant_modifiers:\n    QuantizationModifier:\n%s", fields);
}

static char *file_of(fixture *f, const char *path)
{
    char *text = NULL;
    size_t length;
    qc_diag diag;
    qc_diag_init(&diag, &f->arena, keep_message, &f->said);
    if (qc_read_file(&diag, &f->arena, path, 1 << 20, &text, &length) != QC_OK)
        CHECK_FAIL("%s", f->said.last);
    return text;
}

static const char *in_source(fixture *f, const char *path)
{
    const char *root = getenv("QC_SOURCE_ROOT");
    return qc_arena_printf(&f->arena, "%s/%s", root ? root : ".", path);
}

/* ---- what they expand into ----------------------------------------------------------------------------- */

static void test_expansion(void)
{
    static const struct {
        const char *fields, *passes;
    } rows[] = {
        {"      {targets: Linear, scheme: NVFP4, ignore: [lm_head]}",
            "quant-linear{scheme=NVFP4, targets=[\"Linear\"], ignore=[\"lm_head\"]}"},
        {"      {scheme: fp8_dynamic}", "quant-linear{scheme=FP8_DYNAMIC, targets=[\"Linear\"]}"},
        {"      {scheme: W4A16, weight_observer: MSE}", "quant-linear{weights={granularity=group, group=128, "
                                                        "observer=mse, type=i4}, targets=[\"Linear\"]}"},
        {"      {scheme: FP8, observer: {weights: minmax, input: memoryless-minmax}}",
            "quant-linear{weights={granularity=tensor, observer=minmax, type=f8e4m3}, "
            "input={granularity=tensor, "
            "observer=memoryless_minmax, type=f8e4m3}, targets=[\"Linear\"]}"},
        {"      {scheme: FP8_DYNAMIC, input_observer: mse}",
            "quant-linear{scheme=FP8_DYNAMIC, targets=[\"Linear\"]}"},
        {"      {scheme: {W8A8: [Linear], UNQUANTIZED: 're:.*down'}, ignore: ['re:a, b']}",
            "quant-linear{groups={group_0={scheme=W8A8, targets=[\"Linear\"]}, group_1={scheme=UNQUANTIZED, "
            "targets=[\"re:.*down\"]}}, ignore=[\"re:a, b\"]}"},
        {"      {kv_cache_scheme: {num_bits: 8, type: float}}",
            "quant-kv{granularity=tensor, observer=unset}"},
        {"      {kv_cache_scheme: {num_bits: 4, type: int, strategy: attn_head}}",
            "quant-kv{type=int4, granularity=head, observer=unset}"},
        {"      config_groups:\n        group_0:\n          targets: [LlamaAttention]\n          "
         "input_activations: "
         "{num_bits: 4, type: int, strategy: tensor}",
            "quant-int8-attn{type=int4, granularity=tensor, observer=minmax, targets=[\"LlamaAttention\"]}"},
        {"      {kv_cache_scheme: {type: FLOAT, strategy: ATTN_HEAD, observer: minmax, observer_kwargs: "
         "{averaging_constant: 0.5}}, ignore: [lm_head, 're:.*layers.0.*', model.layers.1.self_attn]}",
            "quant-kv{granularity=head, observer=minmax, observer_args={averaging_constant=0.5}}"},
        {"      config_groups:\n        group_0:\n          targets: [LlamaAttention]\n          "
         "input_activations: "
         "{num_bits: 8.0, type: float, strategy: attn_head}\n      kv_cache_scheme: {type: float, strategy: "
         "attn_head}",
            "quant-fp8-attn{granularity=head, observer=minmax, targets=[\"LlamaAttention\"]}"},
        {"      config_groups: {a: {targets: [LlamaAttention], input_activations: {type: float}}}\n      "
         "ignore: "
         "[model.layers.1.self_attn]\n      kv_cache_scheme: {type: float}",
            "quant-fp8-attn{granularity=tensor, observer=minmax, targets=[\"LlamaAttention\"], "
            "ignore=[\"model.layers.1.self_attn\"]},quant-kv{granularity=tensor, observer=unset}"},
        {"      config_groups:\n        group_0:\n          targets: ['re:.*3.self_attn$']\n          "
         "input_activations: "
         "{num_bits: '8', observer: static_minmax}\n      kv_cache_scheme: {type: float}",
            "quant-int8-attn{granularity=tensor, observer=static_minmax, targets=[\"re:.*3.self_attn$\"]},"
            "quant-kv{granularity=tensor, observer=unset}"},
        {"      config_groups:\n        group_0:\n          targets: [Linear]\n          weights: {num_bits: "
         "8, "
         "type: float, "
         "block_structure: 128x64, strategy: block}\n          format: float-quantized\n",
            "quant-linear{groups={group_0={format=float-quantized, targets=[\"Linear\"], "
            "weights={block=[128, 64], "
            "granularity=block, type=f8e4m3}}}}"},
        {"      config_groups:\n        group_0:\n          targets: [Linear]\n          weights: {num_bits: "
         "4, "
         "group_size: 64, "
         "symmetric: no, zp_dtype: int8, scale_dtype: bfloat16, actorder: static, observer: mse, "
         "observer_kwargs: {grid: "
         "50, maxshrink: 0.5}}\n          input_activations: {dynamic: true, strategy: token}\n",
            "quant-linear{weights={actorder=static, granularity=group, group=64, observer=mse, "
            "observer_args={grid=50, "
            "maxshrink=0.5}, scale=bf16, symmetric=false, type=i4}, input={dynamic=true, granularity=token, "
            "type=i8}, "
            "targets=[\"Linear\"]}"},
        {"      config_groups:\n        all:\n          targets: [Linear]\n          weights: {num_bits: "
         "8, "
         "group_size: -1}\n",
            "quant-linear{groups={group_0={name=\"all\", targets=[\"Linear\"], weights={granularity=channel, "
            "type=i8}}}}"},
        {"      config_groups:\n        group_0:\n          targets: [Linear]\n          weights: &n "
         "{num_bits: 4, "
         "type: float, "
         "strategy: tensor_group, group_size: 16, scale_dtype: float8_e4m3fn}\n          input_activations: "
         "{<<: *n, "
         "dynamic: LOCAL}\n",
            "quant-linear{weights={global=true, granularity=group, group=16, scale=f8e4m3, type=f4e2m1}, "
            "input={dynamic=true, global=true, granularity=group, group=16, observer=minmax, scale=f8e4m3, "
            "type=f4e2m1}, "
            "targets=[\"Linear\"]}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f;
        setup(&f);
        CHECK_STR(passes_of(&f, "r.yaml", wrapped(&f, rows[i].fields)), rows[i].passes);
        if (f.said.severity == QC_SEVERITY_ERROR)
            CHECK_FAIL("%s", f.said.last);
        teardown(&f);
    }
}

/* Every preset alone, and with an observer of its own: parts that quant-linear takes. */
static void test_presets(void)
{
    static const char *const names[] = {"W8A8", "INT8", "W2A16", "W3A16", "W4A16", "W5A16", "W6A16", "W7A16",
        "W8A16", "W4A16_ASYM", "W2A8", "W3A8", "W4A8", "W5A8", "W6A8", "W7A8", "W2A4", "W3A4", "W4A4",
        "W4AFP8", "FP8", "FP8_DYNAMIC", "FP8_BLOCK", "NVFP4", "NVFP4A16", "MXFP4", "MXFP4A16", "MXFP8",
        "MXFP8A16"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        fixture f;
        setup(&f);
        const char *fields = qc_arena_printf(&f.arena, "      {scheme: %s}", names[i]);
        CHECK_STR(passes_of(&f, "r.yaml", wrapped(&f, fields)),
            qc_arena_printf(&f.arena, "quant-linear{scheme=%s, targets=[\"Linear\"]}", names[i]));
        bool data = strcmp(names[i], "FP8") == 0 || strcmp(names[i], "NVFP4") == 0;
        CHECK((f.recipe.needs_data != NULL) == data);
        teardown(&f);
        setup(&f);
        fields = qc_arena_printf(&f.arena,
            "      {scheme: %s, weight_observer: memoryless_mse, input_observer: minmax}", names[i]);
        const char *passes = passes_of(&f, "r.yaml", wrapped(&f, fields));
        CHECK(passes && strstr(passes, "observer=memoryless_mse"));
        CHECK(passes && (strstr(passes, "observer=minmax") != NULL) == data);
        teardown(&f);
    }
}

/* Of several modifiers the later one has the modules that both name: its pass comes first. */
static void test_several_modifiers(void)
{
    fixture f;
    setup(&f);
    const char *text =
        "a_stage:\n  one_modifiers:\n    QuantizationModifier: {scheme: FP8_DYNAMIC}\n"
        "  two_modifiers:\n    QuantizationModifier: {kv_cache_scheme: {type: float}}\n"
        "b_stage:\n  one_modifiers:\n    QuantizationModifier: {scheme: W4A16, targets: 're:.*mlp.*'}\n"
        "args: {x: 1}\n";
    const char *pipeline = expand_as(&f, "r.yaml", text);
    CHECK(pipeline &&
          qc_starts_with(pipeline,
              "quant-linear{scheme=W4A16, targets=[\"re:.*mlp.*\"]},quant-kv{granularity=tensor, "
              "observer=unset},quant-linear{scheme=FP8_DYNAMIC, targets=[\"Linear\"]},"
              "record-recipe{stage=a, text=\"  one_modifiers:\\n    QuantizationModifier:\\n      targets"));
    CHECK(pipeline &&
          strstr(pipeline, "covers=[\"Linear\", \"kv_cache_scheme\"]},record-recipe{stage=b, text=\"  one_"));
    CHECK_STR(f.recipe.needs_data, "r.yaml:5: kv_cache_scheme has static scales");
    /* The canonical text stands for the same pipeline. */
    if (pipeline) {
        qc_pipeline *again = qc_pipeline_create(f.registry);
        qc_str out;
        qc_str_init(&out, &f.arena);
        CHECK_INT(qc_pipeline_parse(again, "again", pipeline), QC_OK);
        qc_pipeline_print(again, &out);
        CHECK_STR(out.data, pipeline);
        qc_str_fini(&out);
    }
    teardown(&f);
}

static void test_needs_data(void)
{
    static const struct {
        const char *fields, *part;
    } rows[] = {
        {"      scheme: FP8", "r.yaml:4: FP8 has static inputs"},
        {"      scheme: NVFP4", "r.yaml:4: NVFP4 has static global scales of its inputs"},
        {"      scheme: W4A16\n      weight_observer: imatrix_mse",
            "r.yaml:4: W4A16 with imatrix_mse asks what the inputs are"},
        {"      config_groups:\n        g:\n          targets: [Linear]\n          weights: {}\n          "
         "input_activations: {}",
            "r.yaml:8: input_activations of g are static"},
        {"      scheme: NVFP4A16\n      weight_observer: nvfp4_expanded_imatrix",
            "r.yaml:4: NVFP4A16 with nvfp4_expanded_imatrix asks what the inputs are"},
        {"      config_groups:\n        g:\n          targets: [Linear]\n          weights: {observer: "
         "imatrix_mse}",
            "r.yaml:7: weights of g with imatrix_mse ask what the inputs are"},
        {"      scheme: W8A8", NULL},
        {"      scheme: MXFP4", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f;
        setup(&f);
        CHECK(expand_as(&f, "r.yaml", wrapped(&f, rows[i].fields)) != NULL);
        if (rows[i].part)
            CHECK_STR(f.recipe.needs_data, rows[i].part);
        else
            CHECK(f.recipe.needs_data == NULL);
        teardown(&f);
    }
}

static void test_remarks(void)
{
    fixture f;
    setup(&f);
    CHECK(expand_as(&f, "r.yaml", wrapped(&f, "      kv_cache_scheme:\n        {type: float}")) != NULL);
    CHECK(said(&f.said, "r.yaml:4: kv_cache_scheme: no observer is named"));
    CHECK_INT(f.said.severity, QC_SEVERITY_REMARK);
    teardown(&f);
    setup(&f);
    CHECK(expand_as(
        &f, "r.yaml", wrapped(&f, "      {scheme: FP8, kv_cache_scheme: {type: float, observer: minmax}}")));
    CHECK_INT(f.said.count, 0);
    teardown(&f);
}

/* ---- what is wrong ------------------------------------------------------------------------------------- */

#define GROUP(text) "      config_groups:\n        g:\n          targets: [Linear]\n" text
#define WEIGHTS(text) GROUP("          weights: {" text "}\n")
#define INPUT(text) GROUP("          weights: {}\n          input_activations: {" text "}\n")
#define ATTENTION(text)                                                                                      \
    "      config_groups:\n        g:\n          targets: [LlamaAttention]\n          input_activations: "   \
    "{" text "}\n"

static void test_bad_modifiers(void)
{
    static const struct {
        const char *fields, *message;
    } rows[] = {
        {"      wieght_observer: mse\n", "r.yaml:4: QuantizationModifier: the field 'wieght_observer' is not "
                                         "known, nearest is 'weight_observer'"},
        {"      scheme: FP8\n      group: quant\n", "r.yaml:5: group is what stands before _modifiers"},
        {"      ignore: [lm_head]\n", "r.yaml:3: QuantizationModifier says nothing to quantize"},
        {"      {}", "r.yaml:3: QuantizationModifier says nothing to quantize"},
        {"      [a]", "r.yaml:4: QuantizationModifier is a map, not a list"},
        {"      scheme: FP9\n", "r.yaml:4: the scheme 'FP9' is not known, nearest is 'FP8'"},
        {"      scheme: w4a17\n", "r.yaml:4: the scheme 'W4A17' is not known, nearest is 'W4A16'"},
        {"      scheme: {FP8: [Linear], nothing: [x]}\n", "r.yaml:4: the scheme 'NOTHING' is not known"},
        {"      scheme: {}\n", "r.yaml:4: scheme is empty"},
        {"      scheme: 8\n",
            "r.yaml:4: scheme is a preset or a map from presets to targets, not an integer ('8')"},
        {"      scheme: FP8\n      config_groups: {}\n",
            "r.yaml:3: QuantizationModifier: give scheme or config_groups"},
        {"      scheme: FP8\n      ignore: lm_head\n",
            "r.yaml:5: ignore is a list of strings, not a string ('lm_head')"},
        {"      scheme: FP8\n      ignore: null\n", "r.yaml:5: ignore is a list of strings, not null"},
        {"      scheme: FP8\n      ignore: [a, 1]\n", "r.yaml:5: ignore holds strings, not an integer"},
        {"      scheme: FP8\n      targets:\n      - Linear\n      - 're:a('\n",
            "r.yaml:7: re:a(: bad pattern at offset 2: missing closing parenthesis"},
        {"      scheme: FP8\n      targets: ['']\n", "r.yaml:5: targets: an empty name"},
        {"      scheme: FP8\n      weight_observer: mze\n",
            "r.yaml:5: the observer 'mze' is not known, nearest is 'mse'"},
        {"      scheme: FP8\n      weight_observer: fouroversix\n",
            "r.yaml:5: qc does not have the observer fouroversix"},
        {"      scheme: FP8\n      observer: mse\n",
            "r.yaml:5: observer is a map with weights, input or output, not a string"},
        {"      scheme: FP8\n      observer: {weight: mse}\n",
            "r.yaml:5: observer: the field 'weight' is not known, nearest is 'weights'"},
        {"      scheme: FP8\n      observer: {weights: mse}\n      input_observer: mse\n",
            "r.yaml:3: QuantizationModifier: give observer, or weight_observer and the like, not both"},
        {"      scheme: FP8\n      bypass_divisibility_checks: maybe\n",
            "r.yaml:5: bypass_divisibility_checks is true or false, not a string ('maybe')"},
        {"      scheme: FP8\n      start: soon\n", "r.yaml:5: start is a number, not a string ('soon')"},
        {"      scheme: FP8\n      index: 0.5\n", "r.yaml:5: index is an integer, not a number ('0.5')"},
        {"      config_groups: [a]\n", "r.yaml:4: config_groups is a map of groups, not a list"},
        {"      config_groups: {FP8: [Linear]}\n", "r.yaml:4: FP8 is a map, not a list"},
        {"      config_groups:\n        g: {weights: {}}\n", "r.yaml:5: g has no targets"},
        {"      config_groups:\n        g: {targets: Linear, weights: {}}\n",
            "r.yaml:5: targets is a list of strings, not a string ('Linear')"},
        {GROUP("          wieghts: {}\n"),
            "r.yaml:7: g: the field 'wieghts' is not known, nearest is 'weights'"},
        {GROUP("          weights: {}\n          output_activations: {}\n"),
            "r.yaml:8: qc does not quantize output_activations"},
        {GROUP("          weights: {}\n          format: packquantized\n"),
            "r.yaml:8: the format 'packquantized' is not known, nearest is 'pack-quantized'"},
        {GROUP("          input_activations: {}\n"),
            "r.yaml:5: g: input_activations without weights are for attention, which 'Linear' is not"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f;
        setup(&f);
        CHECK(expand_as(&f, "r.yaml", wrapped(&f, rows[i].fields)) == NULL);
        if (!said(&f.said, rows[i].message))
            CHECK_FAIL("row %zu", i);
        CHECK_INT(qc_ctx_error_count(f.ctx), 1);
        teardown(&f);
    }
}

static void test_bad_args(void)
{
    static const struct {
        const char *fields, *message;
    } rows[] = {
        {WEIGHTS("bits: 8"), "r.yaml:7: weights: the field 'bits' is not known"},
        {WEIGHTS("num_bit: 8"), "r.yaml:7: weights: the field 'num_bit' is not known, nearest is 'num_bits'"},
        {WEIGHTS("num_bits: eight"), "r.yaml:7: num_bits is an integer, not a string ('eight')"},
        {WEIGHTS("num_bits: null"), "r.yaml:7: num_bits is an integer, not null"},
        {WEIGHTS("num_bits: 4.5"), "r.yaml:7: num_bits is an integer, not a number ('4.5')"},
        {WEIGHTS("num_bits: 0"), "r.yaml:7: num_bits cannot be 0"},
        {WEIGHTS("num_bits: 9"), "r.yaml:7: weights: integers have 2 to 8 bits, not 9"},
        {WEIGHTS("num_bits: 6, type: float"), "r.yaml:7: weights: floats have 4 or 8 bits, not 6"},
        {WEIGHTS("type: floats"), "r.yaml:7: type 'floats' is not known, nearest is 'float'"},
        {WEIGHTS("type: 1"), "r.yaml:7: type is a string, not an integer ('1')"},
        {WEIGHTS("symmetric: 2"), "r.yaml:7: symmetric is true or false, not an integer ('2')"},
        {WEIGHTS("type: float, symmetric: false"), "r.yaml:7: weights: codes of floats are symmetric"},
        {WEIGHTS("strategy: chanel"), "r.yaml:7: strategy 'chanel' is not known, nearest is 'channel'"},
        {WEIGHTS("strategy: token"), "r.yaml:7: weights: strategy token must be dynamic"},
        {WEIGHTS("strategy: token, dynamic: true"), "r.yaml:7: weights: strategy token is not for weights"},
        {WEIGHTS("strategy: attn_head"), "r.yaml:7: weights: strategy attn_head is not for weights"},
        {WEIGHTS("strategy: group"), "r.yaml:7: weights: strategy group needs a group_size above 0"},
        {WEIGHTS("strategy: channel, group_size: 64"),
            "r.yaml:7: weights: strategy channel has no group_size"},
        {WEIGHTS("group_size: 0"), "r.yaml:7: group_size cannot be 0"},
        {WEIGHTS("group_size: -2"), "r.yaml:7: group_size cannot be -2"},
        {WEIGHTS("strategy: block"), "r.yaml:7: weights: strategy block needs a block_structure"},
        {WEIGHTS("block_structure: [1, 2]"), "r.yaml:7: weights: strategy tensor has no block_structure"},
        {WEIGHTS("strategy: block, block_structure: [1, 2, 3]"),
            "r.yaml:7: block_structure is [rows, columns]"},
        {WEIGHTS("strategy: block, block_structure: 128"), "r.yaml:7: block_structure is [rows, columns]"},
        {WEIGHTS("strategy: block, block_structure: 128x"), "r.yaml:7: block_structure is [rows, columns]"},
        {WEIGHTS("strategy: block, block_structure: x8"), "r.yaml:7: block_structure is [rows, columns]"},
        {WEIGHTS("dynamic: sometimes"),
            "r.yaml:7: dynamic is true, false or local, not a string ('sometimes')"},
        {WEIGHTS("dynamic: local"), "r.yaml:7: weights: dynamic local is for strategy tensor_group"},
        {WEIGHTS("strategy: channel, dynamic: true"),
            "r.yaml:7: weights: strategy channel cannot be dynamic"},
        {WEIGHTS("dynamic: true"), "r.yaml:7: weights: scales of weights are not dynamic"},
        {WEIGHTS("actorder: group"), "r.yaml:7: actorder group was removed from compressed-tensors"},
        {WEIGHTS("actorder: true"), "r.yaml:7: actorder true was removed from compressed-tensors"},
        {WEIGHTS("actorder: wieght"), "r.yaml:7: actorder 'wieght' is not known, nearest is 'weight'"},
        {WEIGHTS("scale_dtype: torch.flaot16"),
            "r.yaml:7: the element type 'torch.flaot16' is not known, nearest is 'torch.float16'"},
        {WEIGHTS("scale_dtype: torch.int64"),
            "r.yaml:7: weights: scale_dtype torch.int64 is no type for scales"},
        {WEIGHTS("scale_dtype: torch.uint8"), "r.yaml:7: weights: scale=f8e8m0 belongs to"},
        {WEIGHTS("symmetric: false, zp_dtype: torch.int16"),
            "r.yaml:7: weights: zero points are stored as torch.int8, not as torch.int16"},
        {WEIGHTS("observer: 5"), "r.yaml:7: observer is a string, not an integer ('5')"},
        {WEIGHTS("observer_kwargs: [a]"), "r.yaml:7: observer_kwargs is a map, not a list"},
        {WEIGHTS("observer_kwargs: {maxshrnk: 1.0}"),
            "r.yaml:7: the observer's argument 'maxshrnk' is not known, nearest is 'maxshrink'"},
        {WEIGHTS("observer_kwargs: {grid: 1e-3}"), "r.yaml:7: grid is a number, not a string ('1e-3')"},
        {WEIGHTS("observer_kwargs: {grid: .inf}"), "r.yaml:7: grid must be finite"},
        {WEIGHTS("observer_kwargs: {grid: -1}"), "r.yaml:7: weights: observer_args: grid is a number from 0"},
        {WEIGHTS("type: float, num_bits: 4"), "r.yaml:7: weights: f4e2m1 comes in groups of 16"},
        {WEIGHTS("type: float, num_bits: 4, strategy: tensor_group, group_size: 16"),
            "r.yaml:7: weights: tensor_group without scale_dtype: torch.float8_e4m3fn"},
        {INPUT("strategy: channel"), "r.yaml:8: input_activations: strategy channel is not for inputs"},
        {INPUT("strategy: group, group_size: 128"),
            "r.yaml:8: input_activations: scales a group are dynamic"},
        {INPUT("actorder: weight"), "r.yaml:8: actorder is for weights, not for input_activations"},
        {INPUT("observer: imatrix_mse"), "r.yaml:8: input_activations: observer 'imatrix_mse' is none of"},
        {ATTENTION("strategy: group, group_size: 16"),
            "r.yaml:7: input_activations: strategy group cannot be applied to attention"},
        {ATTENTION("num_bits: 5"), "r.yaml:7: input_activations: attention is quantized to 8 bits"},
        {ATTENTION("dynamic: true"), "r.yaml:7: input_activations: attention has static scales"},
        {ATTENTION("symmetric: false"), "r.yaml:7: input_activations: codes of attention are symmetric"},
        {ATTENTION("scale_dtype: torch.float32"),
            "r.yaml:7: input_activations: scales of attention have the model's type"},
        {ATTENTION("observer: imatrix_mse"),
            "r.yaml:7: input_activations: the observer imatrix_mse is for weights"},
        {"      kv_cache_scheme: {strategy: token, dynamic: true}\n",
            "r.yaml:4: kv_cache_scheme: strategy token cannot be"},
        {"      kv_cache_scheme: true\n", "r.yaml:4: kv_cache_scheme is a map, not a bool"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f;
        setup(&f);
        CHECK(expand_as(&f, "r.yaml", wrapped(&f, rows[i].fields)) == NULL);
        if (!said(&f.said, rows[i].message))
            CHECK_FAIL("row %zu", i);
        CHECK_INT(qc_ctx_error_count(f.ctx), 1);
        teardown(&f);
    }
}

static void test_bad_files(void)
{
    static const struct {
        const char *path, *text, *message;
    } rows[] = {
        {"r.yaml", "", "r.yaml:1: a recipe is a map of NAME_stage, not null"},
        {"r.yaml", "- a\n", "r.yaml:1: a recipe is a map of NAME_stage, not a list"},
        {"r.yaml", "{}\n", "r.yaml:1: the recipe has no modifier"},
        {"r.py", "recipe = 1\n", "r.py:1: is Python: QuantizationModifier("},
        {"r.txt", "QuantizationModifier(scheme='FP8')\n", "r.txt:1: is Python"},
        {"r.yaml", "a_stage: {}\n", "r.yaml:1: the recipe has no modifier"},
        {"r.yaml", "QuantizationModifier: {scheme: FP8}\n",
            "r.yaml:1: 'QuantizationModifier' at the top: llm-compressor would skip what is not NAME_stage"},
        {"r.yaml", "\nquant_modifiers:\n  QuantizationModifier: {scheme: FP8}\n",
            "r.yaml:2: 'quant_modifiers' at the top"},
        {"r.yaml", "a_stage:\n  QuantizationModifier: {scheme: FP8}\n",
            "r.yaml:2: 'QuantizationModifier' in a stage"},
        {"r.yaml", "a_stage: 1\n", "r.yaml:1: a_stage is a map of NAME_modifiers, not an integer"},
        {"r.yaml", "a_stage:\n  b_modifiers: 1\n",
            "r.yaml:2: b_modifiers is a map of modifiers, not an integer"},
        {"r.yaml", "args: 1\n", "r.yaml:1: args is a map, not an integer"},
        {"r.yaml", "a_stage:\n  run_type: oneshot\n  b_modifiers:\n    GPTQModifier: {}\n",
            "r.yaml:4: qc does not have GPTQModifier"},
        {"r.yaml", "a_stage:\n  b_modifiers:\n    QuantisationModifier: {}\n",
            "r.yaml:3: the modifier 'QuantisationModifier' is not known, nearest is 'QuantizationModifier'"},
        {"r.yaml", "a_stage:\n  b_modifiers:\n    Sprinkle: {}\n",
            "r.yaml:3: the modifier 'Sprinkle' is not known"},
        {"r.yaml", "a_stage:\n  b_modifiers:\n    QuantizationModifier:\n",
            "r.yaml:3: QuantizationModifier is a map, not null"},
        {"r.yaml",
            "a_stage:\n  b_modifiers:\n    QuantizationModifier: {scheme: FP8}\n  c_modifiers:\n    "
            "QuantizationModifier:\n      scheme: UNQUANTIZED\n",
            "r.yaml:6: UNQUANTIZED in a modifier behind others"},
        {"r.json", "{\"a_stage\": {\"a_stage\": 1}, \"a_stage\": 2}", "r.json:1:"},
        {"r.json",
            "{\"a_stage\":\n {\"b_modifiers\":\n {\"QuantizationModifier\":\n {\"shceme\": \"FP8\"}}}}",
            "r.json:4: QuantizationModifier: the field 'shceme' is not known, nearest is 'scheme'"},
        {"r.json", "a: 1", "r.json:1:1:"},
        {"r.md", "# No recipe\n", "r.md:1: no YAML between two lines of ---"},
        {"r.md", "---\na: 1\n", "r.md:1: no YAML between two lines of ---"},
        {"R.MD", "\n ---\na_stage:\n  b_modifiers:\n    AWQModifier: {}\n---\n",
            "R.MD:5: qc does not have AWQModifier"},
        {"recipe", "a_stage:\n  b_modifiers:\n    AWQModifier: {}\n",
            "recipe:3: qc does not have AWQModifier"},
        {"recipe", "{\"a_stage\": {\"b_modifiers\":\n {\"AWQModifier\": 1e-3}}}",
            "recipe:2: qc does not have AWQModifier"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f;
        setup(&f);
        CHECK(expand_as(&f, rows[i].path, rows[i].text) == NULL);
        if (!said(&f.said, rows[i].message))
            CHECK_FAIL("row %zu", i);
        CHECK_INT(qc_ctx_error_count(f.ctx), 1);
        teardown(&f);
    }
    fixture f;
    setup(&f);
    CHECK_INT(qc_recipe_read(f.ctx, &f.arena, "/no/such/recipe.yaml", &f.recipe), QC_ERROR);
    CHECK(said(&f.said, "/no/such/recipe.yaml: "));
    teardown(&f);
}

/* Modifiers that llm-compressor has and qc has not are refused, never skipped. */
static void test_foreign_modifiers(void)
{
    static const char *const names[] = {"AWQModifier", "AutoRoundModifier", "ConstantPruningModifier",
        "GPTQModifier", "LogarithmicEqualizationModifier", "MagnitudePruningModifier", "REAPPruningModifier",
        "SmoothQuantModifier", "SparseGPTModifier", "WandaPruningModifier"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        fixture f;
        setup(&f);
        CHECK(expand_as(&f, "r.yaml",
                  qc_arena_printf(&f.arena,
                      "a_stage:\n  b_modifiers:\n    %s: {}\n    QuantizationModifier: {scheme: FP8}\n",
                      names[i])) == NULL);
        CHECK(said(&f.said, qc_arena_printf(&f.arena, "r.yaml:3: qc does not have %s", names[i])));
        teardown(&f);
    }
}

/* ---- files --------------------------------------------------------------------------------------------- */

/* recipe.yaml as the record in the pipeline has it. */
static const char *record_of(fixture *f, const char *path, const char *text)
{
    if (!expand_as(f, path, text))
        return NULL;
    const char *at = f->recipe.pipeline;
    qc_str out;
    qc_str_init(&out, &f->arena);
    while ((at = strstr(at, "record-recipe{"))) {
        const char *name;
        const qc_attr *options;
        const char *end = strstr(at + 1, ",record-recipe{");
        size_t length = end ? (size_t)(end - at) : strlen(at);
        CHECK_INT(
            qc_parse_spec(f->ctx, &f->arena, "t", qc_arena_strndup(&f->arena, at, length), &name, &options),
            QC_OK);
        qc_str_addf(&out, "%s_stage:\n%s", qc_attr_as_text(qc_attr_find(options, "stage")),
            qc_attr_as_text(qc_attr_find(options, "text")));
        at += length;
    }
    const char *record = qc_arena_strdup(&f->arena, out.data);
    qc_str_fini(&out);
    return record;
}

/* The text without transform_config, which the record only names: the exporter writes it. */
static const char *without_transforms(fixture *f, const char *text)
{
    static const char key[] = "      transform_config:", inner[] = "        ";
    if (!text)
        return NULL;
    qc_str out;
    qc_str_init(&out, &f->arena);
    bool inside = false;
    for (const char *line = text, *end; *line; line = end) {
        end = line + strcspn(line, "\n");
        end += *end == '\n';
        inside = qc_starts_with(line, key) || (inside && qc_starts_with(line, inner));
        if (!inside)
            qc_str_add_bytes(&out, line, (size_t)(end - line));
    }
    const char *rest = qc_arena_strdup(&f->arena, out.data);
    qc_str_fini(&out);
    return rest;
}

/* Folders with recipe.in.yaml and the recipe.yaml that llm-compressor made of it. Counts what was compared. */
static size_t compare_goldens(const char *folder)
{
    DIR *directory = opendir(folder);
    size_t count = 0;
    CHECK(directory != NULL);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        fixture f;
        setup(&f);
        const char *in = qc_arena_printf(&f.arena, "%s/%s/recipe.in.yaml", folder, entry->d_name);
        const char *out = qc_arena_printf(&f.arena, "%s/%s/recipe.yaml", folder, entry->d_name);
        if (entry->d_name[0] != '.' && qc_is_file(in) && qc_is_file(out)) {
            const char *record = record_of(&f, in, file_of(&f, in));
            bool refused = !record && strstr(f.said.last, "qc does not have ");
            if (!refused) {
                CHECK_STR(without_transforms(&f, record), without_transforms(&f, file_of(&f, out)));
                count++;
            }
        }
        teardown(&f);
    }
    if (directory)
        closedir(directory);
    return count;
}

static void test_golden_records(void)
{
    fixture f;
    setup(&f);
    CHECK_INT(compare_goldens(in_source(&f, "tests/data/goldens")), 5);
    CHECK_INT(compare_goldens(in_source(&f, "tests/data/small_goldens")), 8);
    CHECK_INT(compare_goldens(in_source(&f, "tests/data/format_goldens")), 18);
    teardown(&f);
}

static void test_all_golden_records(void)
{
    const char *data = getenv("QC_DATA");
    if (!data)
        SKIP("QC_DATA is not set");
    fixture f;
    setup(&f);
    CHECK(compare_goldens(qc_arena_printf(&f.arena, "%s/goldens", data)) > 40);
    teardown(&f);
}

static void test_record(void)
{
    fixture f;
    setup(&f);
    const char *text =
        "a_stage:\n  a_modifiers:\n    QuantizationModifier:\n      targets: Linear\n      scheme: {int8: "
        "Linear, W4A16: ['re:.*x,y$', 'a: b', '123', 'yes', 'x #y', long name of a pattern that is rather "
        "very long so that the line breaks, another long name of a pattern]}\n      observer: {weights: mse, "
        "input: minmax}\n      start: 0\n      index: 2\n      end: 0.00001\n";
    CHECK_STR(record_of(&f, "r.yaml", text),
        "a_stage:\n  a_modifiers:\n    QuantizationModifier:\n      targets: [Linear]\n      ignore: []\n    "
        "  scheme:\n"
        "        int8: [Linear]\n        W4A16: ['re:.*x,y$', 'a: b', '123', 'yes', 'x #y', long name of a "
        "pattern that is\n"
        "            rather very long so that the line breaks, another long name of a pattern]\n"
        "      observer: {weights: mse, input: minmax}\n      bypass_divisibility_checks: false\n"
        "      requires_calibration_data: false\n      index: 2\n      start: 0.0\n      end: 1.0e-05\n");
    teardown(&f);
    setup(&f);
    text = "a_stage:\n  a_modifiers:\n    QuantizationModifier:\n      config_groups:\n        g:\n          "
           "targets: "
           "[Linear]\n          weights: {num_bits: '8', group_size: -1, symmetric: 'yes', type: int, "
           "strategy: channel, "
           "actorder: static, observer: mse, observer_kwargs: {maxshrink: 0.1, grid: 50, patience: 3}, "
           "zp_dtype: int8}\n";
    CHECK_STR(record_of(&f, "r.yaml", text),
        "a_stage:\n  a_modifiers:\n    QuantizationModifier:\n      config_groups:\n        g:\n          "
        "targets: [Linear]\n"
        "          weights:\n            num_bits: 8\n            type: int\n            symmetric: true\n"
        "            group_size: -1\n            strategy: channel\n            block_structure: null\n"
        "            dynamic: false\n            actorder: static\n            scale_dtype: null\n"
        "            zp_dtype: null\n            observer: mse\n"
        "            observer_kwargs: {maxshrink: 0.1, grid: 50, patience: 3}\n          input_activations: "
        "null\n"
        "          output_activations: null\n          format: null\n      targets: [Linear]\n      ignore: "
        "[]\n"
        "      bypass_divisibility_checks: false\n      requires_calibration_data: false\n");
    teardown(&f);
}

static void test_files(void)
{
    static const struct {
        const char *name, *passes;
    } rows[] = {
        {"fp8-kv.yaml", "quant-linear{weights={granularity=tensor, type=f8e4m3}, input={granularity=tensor, "
                        "observer=minmax, type=f8e4m3}, targets=[\"Linear\"], ignore=[\"lm_head\"]},"
                        "quant-kv{granularity=tensor, observer=unset}"},
        {"nvfp4.yaml", "quant-linear{scheme=NVFP4, targets=[\"Linear\"], ignore=[\"lm_head\"]}"},
        {"mixed.yaml",
            "quant-linear{groups={group_0={input={dynamic=true, granularity=token, type=f8e4m3}, "
            "name=\"attention\", targets=[\"re:.*self_attn\\\\.[qkvo]_proj$\"], "
            "weights={granularity=channel, type=f8e4m3}}, "
            "group_1={name=\"mlp\", targets=[\"re:.*mlp\\\\.(gate|up)_proj$\", "
            "\"model.layers.0.self_attn.o_proj\"], "
            "weights={granularity=group, group=32, observer=memoryless_mse, observer_args={grid=50.0, "
            "maxshrink=0.5}, "
            "symmetric=false, type=i4}}, group_2={name=\"table\", targets=[\"Embedding\"], "
            "weights={granularity=channel, "
            "type=f8e4m3}}}, "
            "ignore=[\"lm_head\"]}"},
        {"attention.json",
            "quant-fp8-attn{granularity=head, observer=static_minmax, targets=[\"LlamaAttention\"]}"},
        {"card.md", "quant-linear{weights={granularity=group, group=128, observer=mse, type=i8}, "
                    "targets=[\"re:.*down_proj$\"]},quant-linear{scheme=W8A8, targets=[\"Linear\"], "
                    "ignore=[\"re:.*down_proj$\", \"lm_head\"]}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f;
        setup(&f);
        const char *path = in_source(&f, qc_arena_printf(&f.arena, "tests/data/recipes/%s", rows[i].name));
        CHECK_STR(passes_of(&f, path, file_of(&f, path)), rows[i].passes);
        if (f.said.severity == QC_SEVERITY_ERROR)
            CHECK_FAIL("%s", f.said.last);
        teardown(&f);
    }
}

int main(void)
{
    RUN(test_expansion);
    RUN(test_presets);
    RUN(test_several_modifiers);
    RUN(test_needs_data);
    RUN(test_remarks);
    RUN(test_bad_modifiers);
    RUN(test_bad_args);
    RUN(test_bad_files);
    RUN(test_foreign_modifiers);
    RUN(test_golden_records);
    RUN(test_all_golden_records);
    RUN(test_record);
    RUN(test_files);
    return check_done();
}
