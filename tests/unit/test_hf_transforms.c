/* SPDX-License-Identifier: MIT
 *
 * test_hf_transforms.c - importing rotated checkpoints: transform_config becomes ops and symbols, stored matrices are
 * compared with those of their kind, and what is not executed is refused.
 */
#include "tests/unit/hf_checkpoint.h"

#include "ir/dtype/hadamard.h"

#define ATTN "model.layers.0.self_attn"
#define DOWN "model.layers.0.mlp.down_proj"
#define TRANSFORMS(groups)                                                                                   \
    "{'quantization_config': {'quant_method': 'compressed-tensors', 'transform_config': {'config_groups': "  \
    "{" groups "}}}}"
#define GROUP(name, type, head_dim, precision, apply)                                                        \
    "'" name "': {'type': '" type "', 'head_dim': " head_dim ", 'precision': '" precision                    \
    "', 'apply': [" apply "]}"
#define AT(location, target, more) "{'location': '" location "', 'targets': ['" target "']" more "}"

/* H of the size, in the checkpoint's arena. */
static double *matrix(checkpoint *c, int64_t size, bool random, int64_t drawn)
{
    qc_hadamard h;
    double *out = QC_NEW_ARRAY(&c->arena, double, (size_t)(size * size));
    CHECK_INT(qc_hadamard_make_drawn(&c->diag, &c->arena, "test", size, random, drawn, &h), QC_OK);
    qc_hadamard_matrix(&h, out);
    return out;
}

static void put_matrix(checkpoint *c, const char *name, int64_t size, double *data)
{
    put(c, name, "F64", 2, size, size, 1);
    fill(c, name, data);
}

/* R3 of SpinQuant: behind RoPE, k in front of the cache. */
static void test_attention(void)
{
    static const char config[] = TRANSFORMS(GROUP("R3", "hadamard", "4", "torch.float64",
        AT("q_attn", "re:.*self_attn$", ", 'inverse': false, 'ignore': []") "," AT(
            "k_cache", "re:.*self_attn$", "")));
    BEGIN(c, config);
    const char *ir = import(c);
    CHECK(holds(ir,
        "transform @R3 {apply = [{location = q_attn, targets = [\"re:.*self_attn$\"]}, {location = "
        "k_cache, targets = [\"re:.*self_attn$\"]}], head_dim = 4, precision = f64, size = 4, type = "
        "hadamard}\n"));
    CHECK(holds(ir, "= hadamard %q.2 {compute = f64, size = 4} : bf16[B, 2, S, 4]\n"));
    CHECK(holds(ir, "= hadamard %k.2 {compute = f64, size = 4} : bf16[B, 1, S, 4]\n"));
    CHECK(holds(ir, " = cache_append %k.3 {slot = k}"));
    CHECK(said(&c->j, "warning: "));
    CHECK(said(
        &c->j, "transform_config.R3 rotates by a matrix of size 4 as the model runs, and none is stored"));
    put_matrix(c, ATTN ".R3_q_attn.weight", 4, matrix(c, 4, false, 0));
    CHECK(import(c) != NULL);
    CHECK_INT(c->j.length, 0); /* the matrix is no stranger */
    put(c, ATTN ".R3_q_attn.weight", "F64", 2, 4, 4, 1);
    CHECK(import(c) == NULL);
    CHECK(said(
        &c->j, "tensor " ATTN ".R3_q_attn.weight is not the hadamard matrix that transform_config.R3 names"));
    put_matrix(c, ATTN ".R3_q_attn.weight", 2, matrix(c, 2, false, 0));
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "tensor " ATTN ".R3_q_attn.weight is of size 2, but transform_config.R3 says 4"));
    put(c, ATTN ".R3_q_attn.weight", "I8", 2, 4, 4, 1);
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, ".R3_q_attn.weight is no square matrix of floats, as transform_config.R3 needs"));
    end(c);
}

/* QuIP on both sides: one rotation for linears that read one value, signs of a size behind those of the sizes before. */
static void test_linears(void)
{
    static const char config[] = TRANSFORMS(GROUP("v", "random-hadamard", "null", "torch.float32",
        AT("input", "Linear", ", 'ignore': ['lm_head', 're:.*down_proj']") "," AT(
            "weight_input", "Linear", "")) "," GROUP("u", "random-hadamard", "null", "torch.float64",
        AT("output", "re:.*[kq]_proj", ", 'inverse': true")));
    BEGIN(c, config);
    const char *ir = import(c);
    CHECK(holds(ir, "= hadamard %x {matrix = random_hadamard, size = 8} : bf16[B, S, 8] at \".q_proj\"\n"));
    /* q, k and v share one; o, and gate with up */
    CHECK_INT(occurrences(ir, "{matrix = random_hadamard, size = 8}"), 3);
    CHECK(holds(
        ir, "{compute = f64, inverse, matrix = random_hadamard, size = 8} : bf16[B, S, 8] at \".q_proj\"\n"));
    CHECK(holds(ir, "{compute = f64, drawn = 8, inverse, matrix = random_hadamard, size = 4} : bf16[B, S, 4] "
                    "at \".k_proj\"\n"));
    CHECK(holds(ir, "transform @v {"));
    CHECK(
        holds(ir, "{ignore = [\"lm_head\", \"re:.*down_proj\"], location = input, targets = [\"Linear\"]}"));
    CHECK(said(
        &c->j, "transform_config.v rotates by a matrix of size 8 as the model runs, and none is stored"));
    CHECK(said(
        &c->j, "transform_config.u rotates by a matrix of size 4 as the model runs, and none is stored"));
    put_matrix(c, ATTN ".q_proj.u_output.weight", 8, matrix(c, 8, true, 0));
    put_matrix(c, ATTN ".k_proj.u_output.weight", 4, matrix(c, 4, true, 8));
    put_matrix(c, ATTN ".q_proj.v_input.weight", 8, matrix(c, 8, true, 0));
    CHECK(import(c) != NULL);
    CHECK_INT(c->j.length, 0);
    double *other = matrix(c, 4, true, 8);
    other[5] = -other[5];
    fill(c, ATTN ".k_proj.u_output.weight", other);
    CHECK(import(c) == NULL);
    CHECK(said(
        &c->j, ".k_proj.u_output.weight is not the random-hadamard matrix that transform_config.u names"));
    end(c);
}

/* The rotation stands before the codes of a quantized input. */
static void test_quantized_input(void)
{
    BEGIN(c,
        "{'quantization_config': {'quant_method': 'compressed-tensors', 'format': 'float-quantized', "
        "'config_groups': {'group_0': {'targets': ['re:.*down_proj$'], 'weights': {'num_bits': 8, 'type': "
        "'float', 'strategy': 'channel', 'symmetric': true}, 'input_activations': {'num_bits': 8, 'type': "
        "'float', 'strategy': 'token', 'dynamic': true, 'symmetric': true}}}, 'transform_config': "
        "{'config_groups': {" GROUP(
            "R4", "hadamard", "2", "torch.float32", AT("input", "re:.*down_proj$", "")) "}}}}");
    put(c, DOWN ".weight", "F8_E4M3", 2, 8, 6, 1);
    put(c, DOWN ".weight_scale", "BF16", 2, 8, 1, 1);
    const char *ir = import(c);
    CHECK(holds(ir, " = hadamard %m {size = 2} : bf16[B, S, 6] at \".down_proj\"\n"));
    const char *rotated = ir ? strstr(ir, " = hadamard %m") : NULL;
    CHECK(rotated && strstr(rotated, " = quantize ") && !strstr(ir, " = quantize %m,"));
    end(c);
}

static void test_refused(void)
{
    static const struct {
        const char *config, *said;
    } rows[] = {
        {TRANSFORMS(GROUP("R4", "hadamard", "null", "torch.float64", AT("input", "re:.*down_proj$", ""))),
            "transform_config: R4 has no hadamard matrix of size 6 for the input of " DOWN},
        {TRANSFORMS(GROUP("R4", "hadamard", "4", "torch.float64", AT("input", "re:.*down_proj$", ""))),
            "transform_config: R4 has no hadamard matrix of size 4 for the input of " DOWN},
        {TRANSFORMS(
             GROUP("R3", "random-hadamard", "3", "torch.float64", AT("q_attn", "re:.*self_attn$", ""))),
            "transform_config: R3 has no random-hadamard matrix of size 3 for the q_attn of " ATTN},
        {TRANSFORMS(GROUP("v", "hadamard", "2", "torch.float64", AT("input", "Linear", "")) "," GROUP(
             "R4", "hadamard", "2", "torch.float64", AT("input", "re:.*down_proj$", ""))),
            "transform_config: R4 and v both rotate the input of " DOWN},
        {TRANSFORMS(GROUP("R4", "random-matrix", "2", "torch.float64", AT("input", "x", ""))),
            "R4: type 'random-matrix' of a rotation at run time is not supported"},
        {TRANSFORMS(GROUP("R4", "hadamard", "2", "torch.bfloat16", AT("input", "x", ""))),
            "R4: precision 'bfloat16' of a rotation at run time is not supported"},
        {TRANSFORMS(GROUP("R4", "hadamard", "2", "torch.float64", AT("inputs", "x", ""))),
            "R4: location 'inputs' is not supported"},
        {TRANSFORMS(GROUP("R4", "hadamard", "-2", "torch.float64", AT("input", "x", ""))),
            "R4: head_dim -2 is no size"},
        {TRANSFORMS(GROUP("R4", "hadamard", "2", "torch.float64", "{'location': 'input', 'targets': 'x'}")),
            "R4: targets must be a list of strings"},
        {TRANSFORMS(GROUP("R4", "hadamard", "2", "torch.float64", AT("input", "re:(", ""))), "R4"},
        {TRANSFORMS("'R4': {'type': 'hadamard', 'randomize': true, 'apply': [" AT("input", "x", "") "]}"),
            "R4: a randomized rotation at run time is not supported"},
        {TRANSFORMS("'R4': {'apply': []}"), "R4: type is missing"},
        {TRANSFORMS("'R4': 1"), "R4: must be an object"},
        {TRANSFORMS(GROUP("R 4", "hadamard", "2", "torch.float64", "") "," GROUP(
             "R_4", "hadamard", "2", "torch.float64", "")),
            "transform_config has two groups that are both @R_4"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        BEGIN(c, rows[i].config);
        CHECK(import(c) == NULL);
        CHECK(said(&c->j, rows[i].said));
        end(c);
    }
    /* In the weights alone, any kind is fine. */
    BEGIN(c, TRANSFORMS(GROUP("R1", "random-matrix", "null", "torch.bfloat16", AT("weight_input", "x", ""))));
    const char *ir = import(c);
    CHECK(ir && !strstr(ir, "hadamard") && !strstr(ir, "transform @"));
    end(c);
}

/* Keys less a constant, in front of their codes. */
static void test_center(void)
{
    BEGIN(c,
        "{'quantization_config': {'quant_method': 'compressed-tensors', 'config_groups': {}, "
        "'kv_cache_scheme': {'num_bits': 8, 'type': 'float', 'strategy': 'tensor', 'symmetric': true}}}");
    put(c, ATTN ".k_scale", "BF16", 1, 1, 1, 1);
    put(c, ATTN ".v_scale", "BF16", 1, 1, 1, 1);
    put(c, ATTN ".k_center", "BF16", 3, 1, 1, 4);
    const char *ir = import(c);
    CHECK(holds(ir, "%k_center = const [0.0115, 0.0115, 0.0115, 0.0115] : bf16[1, 1, 4]\n"));
    CHECK(holds(ir, "%k_centered = sub %k.2, %k_center : bf16[B, 1, S, 4]\n"));
    CHECK(holds(ir, "= quantize %k_centered, %k_scale"));
    CHECK_INT(c->j.length, 0);
    put(c, ATTN ".k_center", "BF16", 1, 4, 1, 1);
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "k_center has shape [4], but config.json implies [1, 1, 4]"));
    put(c, ATTN ".k_center", "F16", 3, 1, 1, 4);
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "k_center is F16 in a model that computes in bf16"));
    put(c, ATTN ".k_center", "BF16", 3, 1, 1, 4);
    unsigned char nan[8] = {0xc0, 0x7f, 0xc0, 0x7f, 0xc0, 0x7f, 0xc0, 0x7f};
    fill(c, ATTN ".k_center", nan);
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "k_center: element 0 is not finite"));
    end(c);
}

int main(void)
{
    RUN(test_attention);
    RUN(test_linears);
    RUN(test_quantized_input);
    RUN(test_refused);
    RUN(test_center);
    return check_done();
}
