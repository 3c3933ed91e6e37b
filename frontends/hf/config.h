/* SPDX-License-Identifier: MIT
 *
 * config.h - config.json of a decoder model, both dialects, as plain numbers: version 4 (torch_dtype,
 * rope_theta, rope_scaling with "type" or "rope_type") and version 5 (dtype, rope_parameters). Everything is
 * checked here; who reads a qc_hf_config may multiply its numbers in 64 bits without overflow.
 */
#ifndef QC_FRONTENDS_HF_CONFIG_H
#define QC_FRONTENDS_HF_CONFIG_H

#include "frontends/hf/arch.h"
#include "frontends/hf/wrapper.h"
#include "ir/support/json.h"

struct qc_hf_config {
    const qc_hf_arch *arch;       /* of a wrapper: of its text model */
    const qc_hf_wrapper *wrapper; /* NULL: the model is of text alone */
    const char *path;             /* of config.json, for messages */
    qc_dtype dtype;               /* QC_DTYPE_NONE when the file does not say */
    int64_t vocabulary, hidden, intermediate, layers, positions;
    double norm_eps;
    double embedding_scale;     /* 1: none */
    double residual_multiplier; /* of what attention and MLP add; 1: none */
    double logits_divisor;      /* 1: none */
    double logits_cap;          /* c: logits become tanh(logits / c) * c; 0: none */
    bool tied;
    qc_hf_mlp_config mlp;
    qc_hf_attention_config attention;
    qc_hf_moe_config moe;
    const qc_json *quantization; /* the object quantization_config, NULL when absent */
};

/* What config.json says of itself, for who does not know the architecture. */
typedef struct qc_hf_outline {
    const char *path;            /* of config.json */
    const qc_json *root;         /* NULL: there is no such file */
    const char *name;            /* architectures[0], else model_type; NULL when it has neither */
    const qc_hf_arch *arch;      /* NULL when the table has no such row; of a wrapper: of its text model */
    qc_dtype dtype;              /* QC_DTYPE_NONE when it does not say, or another one than bf16, f16, f32 */
    const qc_json *quantization; /* the object quantization_config, also of text_config; NULL when absent */
} qc_hf_outline;

/* Reads it; a missing file is no error, one that holds no JSON object is. */
qc_status qc_hf_outline_read(qc_diag *diag, qc_arena *arena, const char *directory, qc_hf_outline *outline);

/* Reads and checks DIRECTORY/config.json. */
qc_status qc_hf_config_read(qc_diag *diag, qc_arena *arena, const char *directory, qc_hf_config *config);

/* The same from text, which errors call `path`. */
qc_status qc_hf_config_parse(
    qc_diag *diag, qc_arena *arena, const char *path, const char *text, size_t length, qc_hf_config *config);

/* The root object of a JSON file of at most 16 MiB; NULL after an error. */
const qc_json *qc_hf_read_json_object(qc_diag *diag, qc_arena *arena, const char *path);

/* Reads an integer from 1 to 2^31 - 1; an absent key or null leaves *value. */
qc_status qc_hf_config_size(
    qc_diag *diag, const qc_hf_config *config, const qc_json *root, const char *key, int64_t *value);

/* Reads a number; an absent key or null leaves *value. Zero, negative and infinite ones are errors. */
qc_status qc_hf_config_positive(
    qc_diag *diag, const qc_hf_config *config, const qc_json *root, const char *key, double *value);

/* Whether a linear layer has a bias. */
qc_status qc_hf_config_bias(
    qc_diag *diag, const qc_hf_config *config, const qc_json *root, qc_hf_bias rule, bool *bias);

/* Refuses by name what changes the arithmetic and is not known; warns about other unknown keys. */
qc_status qc_hf_config_check_keys(qc_diag *diag, const qc_json *root, const qc_hf_config *config);

/* Is the value what an absent key would be: null, false, or an empty string, array or object? */
bool qc_hf_json_is_off(const qc_json *value);

#endif
