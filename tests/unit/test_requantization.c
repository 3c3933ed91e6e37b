/* SPDX-License-Identifier: MIT
 *
 * test_requantization.c - sources that are quantized already: FP8 blocks as DeepSeek stores them and
 * compressed-tensors, read as numbers, quantized again, written, and what that costs.
 */
#include "tests/unit/hf_checkpoint.h"

#include <fcntl.h>
#include <math.h>

#include "ir/dtype/codec.h"
#include "passes/manager.h"
#include "runtime/export/compressed_tensors/export.h"
#include "runtime/requantization.h"
#include "runtime/weights.h"

#define FP8                                                                                                  \
    "{'quantization_config': {'quant_method': 'fp8', 'fmt': 'e4m3', 'activation_scheme': 'dynamic', "        \
    "'weight_block_size': [4, 3]}}"

static const struct {
    const char *name;
    int64_t rows, columns;
} parts[] = {{"self_attn.q_proj", 8, 8}, {"self_attn.k_proj", 4, 8}, {"self_attn.v_proj", 4, 8},
    {"self_attn.o_proj", 8, 8}, {"mlp.gate_proj", 6, 8}, {"mlp.up_proj", 6, 8}, {"mlp.down_proj", 8, 6}};

enum { PART_COUNT = sizeof parts / sizeof *parts };

static void put_blocks(checkpoint *c)
{
    for (size_t i = 0; i < PART_COUNT; i++) {
        const char *name = qc_arena_printf(&c->arena, "model.layers.0.%s.weight", parts[i].name);
        put(c, name, "F8_E4M3", 2, parts[i].rows, parts[i].columns, 1);
        put(c, qc_arena_printf(&c->arena, "%s_scale_inv", name), "F32", 2, (parts[i].rows + 3) / 4,
            (parts[i].columns + 2) / 3, 1);
    }
}

/* Codes that differ and scales that differ, in the file. */
static void vary(checkpoint *c)
{
    qc_st_set set;
    const char *path = qc_path_join(&c->arena, c->directory, "model.safetensors");
    CHECK_INT(qc_st_open_file(&c->diag, &c->arena, path, &set), QC_OK);
    int fd = open(path, O_WRONLY);
    CHECK(fd >= 0);
    for (size_t t = 0; t < set.tensor_count && fd >= 0; t++) {
        const qc_st_tensor *tensor = &set.tensors[t];
        unsigned char bytes[256];
        CHECK(tensor->size_bytes <= sizeof bytes);
        size_t size = (size_t)tensor->size_bytes;
        if (strcmp(tensor->dtype, "F8_E4M3") == 0)
            for (size_t i = 0; i < size; i++)
                bytes[i] = (unsigned char)(i * 37 % 0x7f | (i % 3 == 0 ? 0x80 : 0));
        else if (strcmp(tensor->dtype, "F32") == 0)
            for (size_t i = 0; i < size / 4; i++) {
                float scale = 0.013f * (float)(i + 1);
                memcpy(bytes + 4 * i, &scale, 4);
            }
        else
            continue;
        CHECK_INT(pwrite(fd, bytes, size, (off_t)tensor->offset_bytes), (int64_t)size);
    }
    close(fd);
    qc_st_close(&set);
}

static void write_source(checkpoint *c)
{
    write_config(c);
    write_tensors(c, "model.safetensors", 0, c->tensor_count);
    vary(c);
}

/* The module after the pipeline; NULL after an error. */
static qc_module *make(checkpoint *c, qc_ctx *ctx, qc_hf_mode mode, const char *text)
{
    qc_hf_options options = {.mode = mode, .dequantize = true};
    c->j = (journal){0};
    qc_module *module = qc_hf_import(ctx, c->directory, &options);
    if (!module || !text)
        return module;
    qc_registry *registry = qc_registry_create(ctx, NULL);
    qc_pipeline *pipeline = qc_pipeline_create(registry);
    qc_run_settings settings = {0};
    bool ok = qc_pipeline_parse(pipeline, "test", text) == QC_OK &&
              qc_pipeline_run(pipeline, module, &settings) == QC_OK;
    qc_registry_destroy(registry);
    if (ok)
        return module;
    qc_module_destroy(module);
    return NULL;
}

/* Weights are code * scale of the block, in f32, rounded to bf16. */
static void test_values(void)
{
    BEGIN(c, FP8);
    put_blocks(c);
    write_source(c);
    qc_ctx *ctx = qc_ctx_create(NULL, keep, &c->j);
    qc_module *module = make(c, ctx, QC_HF_TENSORS, NULL);
    qc_weights *weights = module ? qc_weights_open(ctx, module, NULL) : NULL;
    CHECK(weights != NULL);
    size_t seen = 0;
    for (const qc_op *op = weights ? qc_func_first_op(qc_module_func(module, "main")) : NULL; op;
         op = qc_op_next(op)) {
        const char *path = qc_op_node(op) ? qc_node_path(qc_op_node(op)) : "";
        const qc_value *w = qc_op_is(op, "keep") ? qc_op_operand(op, 0) : NULL;
        if (!w || !qc_op_is(qc_value_op(w), "dequantize"))
            continue;
        uint16_t got[64];
        size_t rows = strstr(path, "k_proj") || strstr(path, "v_proj") ? 4
                      : strstr(path, "gate") || strstr(path, "up_")    ? 6
                                                                       : 8;
        size_t columns = strstr(path, "down") ? 6 : 8, across = (columns + 2) / 3;
        CHECK_INT(qc_weights_evaluate(weights, w, got), QC_OK);
        for (size_t i = 0; i < rows * columns; i++) {
            uint8_t code = (uint8_t)(i * 37 % 0x7f | (i % 3 == 0 ? 0x80 : 0));
            float value, scale = 0.013f * (float)(i / columns / 4 * across + i % columns / 3 + 1);
            uint16_t wanted;
            qc_decode_f32(QC_F8E4M3, &code, &value, 1);
            value *= scale;
            qc_encode_f32(QC_BF16, &value, &wanted, 1);
            CHECK_INT(got[i], wanted);
        }
        seen++;
    }
    CHECK_INT(seen, PART_COUNT);
    qc_weights_close(weights);
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
    end(c);
}

/* The tree loses the scales, in both modes; without dequantize the graph runs on codes. */
static void test_imports(void)
{
    BEGIN(c, FP8);
    put_blocks(c);
    write_source(c);
    const char *ir = import_as(c, &(qc_hf_options){.dequantize = true});
    CHECK(holds(ir, "import @import {dequantized = \"fp8 in blocks of [4, 3]\", mode = graph}\n"));
    CHECK(holds(ir, "q_proj\" Linear {weight}\n"));
    CHECK(holds(ir, " {block = [4, 3], to = bf16} : bf16[8, 8] at \".q_proj\"\n"));
    CHECK_INT(occurrences(ir, "scheme @"), 0);
    CHECK_INT(occurrences(ir, "quantize"), PART_COUNT * 1 + 1); /* dequantize, and the symbol */
    ir = import_as(c, NULL);
    CHECK(holds(ir, "q_proj\" Linear {weight, weight_scale_inv}\n"));
    CHECK(holds(ir, "scheme @fp8 {arith = ct_cpu, input = {dynamic, granularity = group, group = 3, scale = "
                    "f32, symmetric, "
                    "type = f8e4m3}, targets = [\"Linear\"], weights = {block = [4, 3], granularity = block, "
                    "observer = unset, "
                    "scale = f32, symmetric, type = f8e4m3}}\n"));
    ir = import_as(c, &(qc_hf_options){.mode = QC_HF_TENSORS});
    CHECK_INT(occurrences(ir, " keep %"), 2); /* what is no code */
    put(c, "mtp.0.proj.weight", "F8_E4M3", 2, 4, 4, 1);
    put(c, "mtp.0.proj.weight_scale_inv", "F32", 2, 1, 2, 1);
    write_source(c);
    CHECK(import_as(c, &(qc_hf_options){.dequantize = true}) == NULL);
    CHECK(said(&c->j,
        "mtp.0.proj.weight_scale_inv is the scale of a weight that is no part of LlamaForCausalLM: only "
        "--import=tensors dequantizes that"));
    ir = import_as(c, &(qc_hf_options){.mode = QC_HF_TENSORS, .dequantize = true});
    CHECK_INT(occurrences(ir, " keep %"), PART_COUNT + 3);
    CHECK(holds(ir, "module \"mtp.0.proj\" Linear {weight}\n"));
    end(c);
}

static void test_what_is_wrong(void)
{
    static const qc_hf_options modes[] = {{.dequantize = true}, {.mode = QC_HF_TENSORS, .dequantize = true}};
    BEGIN(c, FP8);
    put_blocks(c);
    for (size_t i = 0; i < 2; i++) {
        put(c, "model.layers.0.self_attn.q_proj.weight_scale_inv", "F32", 2, 2, 2, 1);
        write_source(c);
        CHECK(import_as(c, &modes[i]) == NULL);
        CHECK(said(&c->j, "q_proj.weight_scale_inv has shape [2, 2], but config.json implies [2, 3]"));
        put(c, "model.layers.0.self_attn.q_proj.weight_scale_inv", "I32", 2, 2, 3, 1);
        write_source(c);
        CHECK(import_as(c, &modes[i]) == NULL);
        CHECK(said(&c->j, "q_proj.weight_scale_inv has element type I32; expected BF16, F16 or F32"));
        put_blocks(c);
        change(c, "{'quantization_config': {'quant_method': 'awq', 'bits': 4}}");
        write_source(c);
        CHECK(import_as(c, &modes[i]) == NULL);
        CHECK(said(&c->j,
            "quant_method 'awq' is not supported; supported are compressed-tensors, fp8 in blocks and mxfp4"));
        change(c, "{'quantization_config': {'quant_method': 'fp8', 'weight_block_size': [4]}}");
        write_source(c);
        CHECK(import_as(c, &modes[i]) == NULL);
        CHECK(said(&c->j, "weight_block_size must be [rows, columns]"));
        change(c, "{'quantization_config': {'quant_method': 'fp8', 'weight_block_size': [4, 4], "
                  "'activation_scheme': 'static'}}");
        write_source(c);
        CHECK(import_as(c, &modes[i]) == NULL);
        CHECK(said(&c->j, "activation_scheme 'static' is not supported"));
        change(c, FP8);
    }
    end(c);
}

/* Written again: the old codes, scales and configuration are gone, what nothing asks for is plain. */
static void test_export(void)
{
    static const qc_hf_mode modes[] = {QC_HF_GRAPH, QC_HF_TENSORS};
    BEGIN(c, FP8);
    put_blocks(c);
    write_source(c);
    for (size_t m = 0; m < 2; m++) {
        qc_ctx *ctx = qc_ctx_create(NULL, keep, &c->j);
        qc_module *module = make(c, ctx, modes[m],
            "quant-linear{scheme=FP8_DYNAMIC, ignore=[lm_head, \"re:.*embed\", \"re:.*mlp\"]}");
        const char *out = qc_path_join(&c->arena, c->directory, "out"), *serve;
        qc_export_options options = {.force = true, .threads = 2};
        qc_requantization loss;
        CHECK(module != NULL);
        CHECK_INT(module ? qc_requantization_measure(ctx, module, NULL, 1, &loss) : QC_ERROR, QC_OK);
        CHECK_INT(loss.count, 4);
        CHECK_INT(loss.plain, 3);
        CHECK(loss.mean > 0.001 && loss.mean <= loss.largest && loss.largest < 0.05);
        CHECK(loss.largest_of && strstr(loss.largest_of, "self_attn."));
        CHECK_INT(module ? qc_export_compressed_tensors(ctx, module, NULL, out, &options, &serve) : QC_ERROR,
            QC_OK);
        qc_st_set set;
        CHECK_INT(qc_st_open_directory(&c->diag, &c->arena, out, &set), QC_OK);
        /* Scales of the old go, four new ones come; a graph ties the head, which equals the embedding here. */
        CHECK_INT(set.tensor_count, c->tensor_count - PART_COUNT + 4 - (modes[m] == QC_HF_GRAPH));
        const qc_st_tensor *q = qc_st_find(&set, "model.layers.0.self_attn.q_proj.weight"),
                           *up = qc_st_find(&set, "model.layers.0.mlp.up_proj.weight");
        CHECK_STR(q ? q->dtype : "", "F8_E4M3");
        CHECK_STR(up ? up->dtype : "", "BF16");
        CHECK(qc_st_find(&set, "model.layers.0.self_attn.q_proj.weight_scale") != NULL);
        CHECK(qc_st_find(&set, "model.layers.0.self_attn.q_proj.weight_scale_inv") == NULL);
        qc_st_close(&set);
        char *config;
        size_t length;
        CHECK_INT(qc_read_file(&c->diag, &c->arena, qc_path_join(&c->arena, out, "config.json"), 1 << 20,
                      &config, &length),
            QC_OK);
        CHECK(holds(config, "\"quant_method\": \"compressed-tensors\""));
        CHECK_INT(occurrences(config, "weight_block_size"), 0);
        qc_module_destroy(module);
        qc_ctx_destroy(ctx);
    }
    end(c);
}

/* Nothing asks: a source that stays quantized is not written. */
static void test_refusal(void)
{
    BEGIN(c, FP8);
    put_blocks(c);
    write_source(c);
    qc_ctx *ctx = qc_ctx_create(NULL, keep, &c->j);
    c->j = (journal){0};
    qc_module *module = qc_hf_import(ctx, c->directory, NULL);
    CHECK(module != NULL);
    const char *out = qc_path_join(&c->arena, c->directory, "out");
    CHECK_INT(module ? qc_export_check_output(ctx, module, NULL, out, false) : QC_OK, QC_ERROR);
    CHECK(said(&c->j, "config.json: the source is quantized already (it has a quantization_config)"));
    CHECK(said(&c->j, "its weights are dequantized and quantized again"));
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
    end(c);
}

/* Tensors that nobody quantizes arrive as they are, whatever their type, shape and name. */
static void test_strange_tensors(void)
{
    static const struct {
        const char *name, *dtype;
        int rank;
        int64_t d0, d1;
    } strange[] = {{"exponents.weight", "F8_E8M0", 2, 4, 4}, {"nibbles.weight", "F4", 2, 4, 4},
        {"sixes.weight", "F6_E2M3", 2, 4, 4}, {"words.weight", "U16", 2, 4, 4},
        {"flags.weight", "BOOL", 2, 4, 4}, {"doubles.weight", "F64", 2, 4, 4},
        {"empty.weight", "BF16", 2, 0, 4}, {"scalar", "F32", 0, 1, 1}, {"a..b.\"c\"\n.d", "I64", 1, 3, 1},
        {"\xc3\xa9 \xe2\x82\xac.weight", "C64", 1, 2, 1}, {".weight", "BF16", 1, 2, 1}};
    enum { COUNT = sizeof strange / sizeof *strange };
    BEGIN(c, "{'architectures': ['Zebra7ForCausalLM'], 'model_type': 'zebra7'}");
    for (size_t i = 0; i < COUNT; i++)
        put(c, strange[i].name, strange[i].dtype, strange[i].rank, strange[i].d0, strange[i].d1, 1);
    write_config(c);
    write_tensors(c, "model.safetensors", 0, c->tensor_count);
    qc_ctx *ctx = qc_ctx_create(NULL, keep, &c->j);
    qc_module *module =
        make(c, ctx, QC_HF_AUTO, "quant-linear{scheme=FP8_DYNAMIC, ignore=[lm_head, \"re:.*embed\"]}");
    const char *out = qc_path_join(&c->arena, c->directory, "out"), *serve;
    CHECK_INT(module ? qc_export_compressed_tensors(ctx, module, NULL, out, NULL, &serve) : QC_ERROR, QC_OK);
    qc_st_set set;
    CHECK_INT(qc_st_open_directory(&c->diag, &c->arena, out, &set), QC_OK);
    CHECK_INT(set.tensor_count, c->tensor_count + PART_COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        const qc_st_tensor *t = qc_st_find(&set, strange[i].name);
        unsigned char bytes[256] = {0};
        CHECK(t != NULL && t->size_bytes <= sizeof bytes);
        if (!t)
            continue;
        CHECK_STR(t->dtype, strange[i].dtype);
        CHECK_INT(t->rank, strange[i].rank);
        CHECK_INT(qc_st_read(&c->diag, &set, t, bytes), QC_OK);
        for (size_t k = 0; k < t->size_bytes; k++)
            CHECK_INT(bytes[k], 0x3c);
    }
    qc_st_close(&set);
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
    end(c);
}

/* A graph knows nothing of a tower of its own or a head for more tokens: their matrices are copied and ignored. */
static void test_strangers(void)
{
    BEGIN(c, NULL);
    put(c, "vision_tower.blocks.0.proj.weight", "BF16", 2, 4, 4, 1);
    put(c, "vision_tower.patch.weight", "BF16", 3, 4, 4, 4);
    put(c, "mtp.norm.weight", "BF16", 1, 8, 1, 1);
    put(c, "mtp.proj.weight", "BF16", 2, 8, 8, 1);
    write_config(c);
    write_tensors(c, "model.safetensors", 0, c->tensor_count);
    qc_ctx *ctx = qc_ctx_create(NULL, keep, &c->j);
    qc_module *module = make(c, ctx, QC_HF_AUTO, "quant-linear{scheme=FP8_DYNAMIC, ignore=lm_head}");
    CHECK(said(&c->j, "warning: "));
    CHECK(said(&c->j, "4 tensors are no part of LlamaForCausalLM; they are kept and not used: "));
    CHECK(said(&c->j, "remark: "));
    CHECK(
        said(&c->j, "kept and not used: mtp.norm.weight, mtp.proj.weight, vision_tower.blocks.0.proj.weight, "
                    "vision_tower.patch.weight"));
    const char *out = qc_path_join(&c->arena, c->directory, "out"), *serve;
    CHECK_INT(module ? qc_export_compressed_tensors(ctx, module, NULL, out, NULL, &serve) : QC_ERROR, QC_OK);
    char *config = NULL;
    size_t length;
    CHECK_INT(qc_read_file(&c->diag, &c->arena, qc_path_join(&c->arena, out, "config.json"), 1 << 20, &config,
                  &length),
        QC_OK);
    CHECK(holds(config, "\"ignore\": [\n      \"lm_head\",\n      \"mtp.proj\",\n      "
                        "\"vision_tower.blocks.0.proj\"\n    ]"));
    qc_st_set set;
    CHECK_INT(qc_st_open_directory(&c->diag, &c->arena, out, &set), QC_OK);
    const qc_st_tensor *tower = qc_st_find(&set, "vision_tower.blocks.0.proj.weight");
    CHECK_STR(tower ? tower->dtype : "", "BF16");
    CHECK(qc_st_find(&set, "vision_tower.patch.weight") != NULL);
    qc_st_close(&set);
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
    end(c);
}

int main(void)
{
    RUN(test_values);
    RUN(test_imports);
    RUN(test_what_is_wrong);
    RUN(test_export);
    RUN(test_refusal);
    RUN(test_strange_tensors);
    RUN(test_strangers);
    return check_done();
}
