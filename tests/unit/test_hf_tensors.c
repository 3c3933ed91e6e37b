/* SPDX-License-Identifier: MIT
 *
 * test_hf_tensors.c - importing checkpoints as tensors: unknown architectures, odd names and types, what an index
 * does not say.
 */
#include "tests/unit/hf_checkpoint.h"

#define INVENTED "{'architectures': ['Zebra7ForCausalLM'], 'model_type': 'zebra7'}"

static const qc_hf_options as_tensors = {.mode = QC_HF_TENSORS}, as_found = {.mode = QC_HF_AUTO};

static const char *import_tensors(checkpoint *c, const qc_hf_options *options)
{
    write_config(c);
    write_tensors(c, "model.safetensors", 0, c->tensor_count);
    return import_as(c, options);
}

/* The text is the same after it was read again. */
static bool reads_back(const char *text)
{
    journal j = {0};
    qc_ctx *ctx = qc_ctx_create(NULL, keep, &j);
    qc_module *module = text ? qc_module_parse(ctx, "test", text, strlen(text)) : NULL;
    char *again = module ? qc_module_print(module, NULL) : NULL;
    bool same = again && strcmp(text, again) == 0;
    if (!same)
        printf("# %s\n", j.text);
    qc_text_free(again);
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
    return same;
}

static void test_unknown_architecture(void)
{
    BEGIN(c, INVENTED);
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "architecture 'Zebra7ForCausalLM' is not supported"));
    put_layer(c, 2);
    put_layer(c, 10);
    const char *ir = import_tensors(c, &as_found);
    CHECK(said(&c->j, "names the architecture Zebra7ForCausalLM, which is not known: imported as tensors, "
                      "without a graph"));
    CHECK_INT(c->j.counts[QC_SEVERITY_WARNING], 0);
    CHECK(holds(ir, "module \"\" Zebra7ForCausalLM\n"));
    CHECK(holds(ir, "import @import {mode = tensors}\n"));
    CHECK(holds(ir, "module \"model.layers.0.self_attn\" Module\n"
                    "module \"model.layers.0.self_attn.k_proj\" Linear {weight}\n"));
    CHECK(holds(ir, "module \"model.norm\" Module {weight}\n"));
    CHECK(holds(ir, "module \"model.layers.0.input_layernorm\" Module {weight}\n"));
    CHECK(holds(ir, "func @main() {\n  at \"lm_head\" {\n    %w = weight \"lm_head.weight\" : bf16[10, 8]\n"
                    "    %0 = keep %w : bf16[10, 8]\n"));
    CHECK(holds(ir, "module \"model.embed_tokens\" Linear {weight}\n"));
    CHECK_INT(occurrences(ir, " keep %"), 3 * 7 + 2);
    const char *second = ir ? strstr(ir, "model.layers.2.mlp") : NULL,
               *tenth = ir ? strstr(ir, "model.layers.10.mlp") : NULL;
    CHECK(second && tenth && second < tenth);
    CHECK(reads_back(ir));
    end(c);
}

static void test_known_architecture(void)
{
    BEGIN(c, NULL);
    const char *ir = import_tensors(c, &as_found);
    CHECK_INT(occurrences(ir, "keep"), 0);
    CHECK_INT(occurrences(ir, "import @import"), 0);
    ir = import_tensors(c, &as_tensors);
    CHECK(holds(ir, "module \"\" LlamaForCausalLM\n"));
    CHECK(holds(ir, "module \"model.layers.0.self_attn\" LlamaAttention\n"));
    CHECK_INT(occurrences(ir, " keep %"), 9);
    CHECK_INT(c->j.length, 0);
    change(c, "{'hidden_act': 'gelu'}");
    CHECK(import_tensors(c, &as_found) == NULL);
    CHECK(said(&c->j, "hidden_act 'gelu' is not supported"));
    CHECK(said(&c->j, "note: : --import=tensors quantizes weights without knowing the architecture"));
    CHECK(import_tensors(c, &as_tensors) != NULL);
    end(c);
}

static void test_without_config(void)
{
    BEGIN(c, NULL);
    write_tensors(c, "model.safetensors", 0, c->tensor_count);
    CHECK(import_as(c, NULL) == NULL);
    const char *ir = import_as(c, &as_found);
    CHECK(said(&c->j, "has no config.json: imported as tensors"));
    CHECK(holds(ir, "module \"\" Module\n"));
    write_text(c, "config.json", "[]");
    CHECK(import_as(c, &as_found) == NULL);
    CHECK(said(&c->j, "config.json: must hold a JSON object"));
    write_text(c, "config.json", "{}");
    CHECK(import_as(c, &as_found) != NULL);
    CHECK(said(&c->j, "names no architecture: imported as tensors"));
    end(c);
}

/* What is no weight to quantize, and stays in the tree: of another shape, type, name. */
static void test_left_alone(void)
{
    static const struct {
        const char *name, *dtype;
        int rank;
        int64_t d0, d1, d2;
    } others[] = {{"a.weight", "BF16", 1, 8, 1, 1}, {"b.weight", "BF16", 3, 2, 4, 4},
        {"c.weight", "I32", 2, 4, 4, 1}, {"d.weight", "F8_E8M0", 2, 4, 4, 1}, {"e.weight", "F4", 2, 4, 4, 1},
        {"f.weight", "U16", 2, 4, 4, 1}, {"g.weight", "BF16", 2, 0, 4, 1}, {"h.weight", "F16", 2, 4, 0, 1},
        {"i.weight", "F64", 2, 4, 4, 1}, {"j.weights", "BF16", 2, 4, 4, 1},
        {"postnorm.weight", "BF16", 2, 4, 4, 1}, {"k", "BF16", 2, 4, 4, 1}, {"l.weight", "BF16", 0, 1, 1, 1},
        {"mlp.experts.gate_up_proj", "BF16", 3, 2, 4, 4}, {"m.weight", "BOOL", 2, 4, 4, 1}};
    BEGIN(c, INVENTED);
    c->tensor_count = 0;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        put(c, others[i].name, others[i].dtype, others[i].rank, others[i].d0, others[i].d1, others[i].d2);
    put(c, "z.weight", "F32", 2, 4, 4, 1);
    const char *ir = import_tensors(c, &as_found);
    CHECK_INT(occurrences(ir, " keep %"), 1);
    CHECK(holds(ir, "%w = weight \"z.weight\" : f32[4, 4]\n    %0 = keep %w : f32[4, 4]\n"));
    CHECK(holds(ir, "module \"\" Zebra7ForCausalLM {k}\n"));
    CHECK(holds(ir, "module \"j\" Module {weights}\n"));
    CHECK(said(&c->j, "1 tensor left alone, with the experts of a layer in one (three dimensions): "
                      "mlp.experts.gate_up_proj"));
    CHECK_INT(c->j.counts[QC_SEVERITY_WARNING], 1);
    CHECK(said(&c->j, "1 tensor left alone, of three dimensions (convolutions): b.weight"));
    CHECK(said(&c->j,
        "4 tensors left alone, named like weights, but no matrices with elements: a.weight, g.weight, "
        "h.weight, ..."));
    CHECK(said(&c->j,
        "6 tensors left alone, named like weights, but not BF16, F16 or F32: c.weight, d.weight, e.weight, "
        "..."));
    CHECK(reads_back(ir));
    end(c);
}

static void test_odd_names(void)
{
    static const char *const names[] = {"weight", ".weight", "a..b.weight", "..weight", "x y.\"q\".weight",
        "\xc3\xa9.weight", "a\\b\n.weight", "model.layers.007.weight", "model.layers.7.weight", "-.weight",
        "@.weight", "model.layers.99999999999999999999999.weight", "{}.weight", "a.b.c.weight", "0.weight"};
    BEGIN(c, INVENTED);
    c->tensor_count = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        put(c, names[i], "BF16", 2, 2, 2, 1);
    const char *ir = import_tensors(c, &as_found);
    CHECK_INT(occurrences(ir, " keep %"), (int)(sizeof names / sizeof *names));
    CHECK(reads_back(ir));
    end(c);
}

static void test_what_the_index_leaves_out(void)
{
    BEGIN(c, INVENTED);
    write_config(c);
    write_text(c, "model.safetensors.index.json",
        "{\"weight_map\": {\"model.embed_tokens.weight\": \"a.safetensors\", \"lm_head.weight\": "
        "\"b.safetensors\"}}");
    checkpoint *two = c;
    put(two, "twice.weight", "BF16", 2, 4, 4, 1);
    write_tensors(two, "a.safetensors", 0, c->tensor_count);
    CHECK(import_as(c, &as_found) == NULL);
    CHECK(said(&c->j, "shard 'b.safetensors' is missing, which holds tensor 'lm_head.weight'"));
    write_tensors(two, "b.safetensors", 0, c->tensor_count);
    write_text(c, "stray.safetensors", "not one of them");
    const char *ir = import_as(c, &as_found);
    CHECK(said(&c->j, "warning: "));
    CHECK(said(&c->j, "24 tensors of the shards are left out: the index does not list them there"));
    CHECK(said(&c->j, "stray.safetensors is left out: no shard of this checkpoint"));
    CHECK_INT(occurrences(ir, " keep %"), 2);
    CHECK_INT(occurrences(ir, "  shard "), 2);
    end(c);
}

int main(void)
{
    RUN(test_unknown_architecture);
    RUN(test_known_architecture);
    RUN(test_without_config);
    RUN(test_left_alone);
    RUN(test_odd_names);
    RUN(test_what_the_index_leaves_out);
    return check_done();
}
