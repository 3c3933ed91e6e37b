/* SPDX-License-Identifier: MIT
 *
 * quant.h - a quantized checkpoint as its files tell it, without an architecture: quantization_config, the
 * modules that the names of tensors imply, which config group each belongs to, and the weights behind the codes.
 *
 *   quant.c    quantization_config, modules, targets
 *   fused.c    experts that a baseline has in one tensor
 *   weight.c   the tensors of one weight: which there must be, and rows of codes and values
 *   rules.c    what contradicts the quantization
 *   vllm.c, vllm_modules.c   what vLLM would say
 *   transforms.c   rotations: both
 *
 * Tensors per format as compressed-tensors 0.19 writes them (compressors/, quantization/quant_args.py).
 */
#ifndef QC_RUNTIME_CHECK_QUANT_H
#define QC_RUNTIME_CHECK_QUANT_H

#include "ir/dtype/arith.h"
#include "qc/ir.h"
#include "runtime/check/internal.h"

/* One object of arguments: of weights, of inputs, of the KV cache. */
typedef struct check_args {
    bool present;
    const qc_json *json;
    qc_dtype code;    /* element type of the codes; QC_DTYPE_NONE: one that no format has */
    const char *type; /* "int" or "float", as written */
    int64_t bits;
    const char *strategy; /* tensor, channel, group, tensor_group, block, token, attn_head */
    bool symmetric;
    bool dynamic, local; /* local: dynamic under a static global scale */
    int64_t group_elems; /* 0: none */
    int64_t block_rows, block_columns;
    qc_dtype scale;       /* QC_F8E4M3, QC_F8E8M0 (MX); QC_DTYPE_NONE: the model's type */
    const char *actorder; /* NULL: none */
} check_args;

typedef struct check_group {
    const char *name;
    const char **targets;
    size_t target_count;
    check_args weights, input, output;
    const char *format; /* its own, else that of the whole; NULL: neither is given */
} check_group;

typedef enum check_part {
    CHECK_WEIGHT,
    CHECK_WEIGHT_PACKED,
    CHECK_WEIGHT_SCALE,
    CHECK_WEIGHT_GLOBAL_SCALE,
    CHECK_WEIGHT_ZERO_POINT,
    CHECK_WEIGHT_SHAPE,
    CHECK_WEIGHT_G_IDX,
    CHECK_WEIGHT_SCALE_INV,
    CHECK_INPUT_SCALE,
    CHECK_INPUT_ZERO_POINT,
    CHECK_INPUT_GLOBAL_SCALE,
    CHECK_OUTPUT_SCALE,
    CHECK_OUTPUT_ZERO_POINT,
    CHECK_Q_SCALE,
    CHECK_K_SCALE,
    CHECK_V_SCALE,
    CHECK_KV_SCALE,
    CHECK_PROB_SCALE,
    CHECK_Q_GLOBAL_SCALE,
    CHECK_K_GLOBAL_SCALE,
    CHECK_V_GLOBAL_SCALE,
    CHECK_K_CENTER,
    CHECK_PART_COUNT
} check_part;

typedef enum check_kind {
    CHECK_LINEAR, /* everything of two dimensions that is none of the next two */
    CHECK_EMBEDDING,
    CHECK_LM_HEAD,
    CHECK_OTHER, /* no matrix: norms, attention, convolutions */
} check_kind;

typedef struct check_module {
    const char *path;
    const qc_st_tensor *parts[CHECK_PART_COUNT];
    check_kind kind;
    const qc_node *node;
} check_module;

typedef struct check_model {
    qc_diag *diag;
    qc_arena *arena;
    const char *directory;
    const qc_st_set *set;
    const qc_json *config; /* config.json; NULL: none */
    /* quantization_config */
    const qc_json *quantization; /* NULL: not quantized */
    const char *method, *format; /* NULL where not given */
    bool has_groups;             /* the key config_groups is there */
    check_group *groups;
    size_t group_count;
    const char **ignore;
    size_t ignore_count;
    check_args kv;
    check_module *modules; /* in order of their first tensors */
    size_t module_count;
    qc_map by_path; /* -> check_module * */
    qc_ctx *ctx;    /* patterns, and nodes to match with them */
    qc_module *tree;
} check_model;

/* "weight_packed" */
const char *check_part_name(check_part part);
/* A type that codes of a byte each have: F8_E4M3, F8_E5M2, I8. */
bool check_is_code(const char *dtype);
bool check_is_plain(const char *dtype); /* BF16, F16, F32, F64 */
/* "BF16 [256, 2]" */
const char *check_tensor_text(qc_arena *arena, const qc_st_tensor *tensor);

/* Reads what config.json says and sorts the tensors of `set` into modules. `config` may be NULL; of another
 * quant_method only the name is read. Ends with check_model_close in any case. Everything that is wrong with
 * the config is told to `diag`. */
qc_status check_model_open(qc_diag *diag, qc_arena *arena, const char *directory, const qc_st_set *set,
    const qc_json *config, check_model *model);
void check_model_close(check_model *model);
/* Adds a node to the tree, under the name that Transformers has for the module, too. */
qc_node *check_add_node(const check_model *model, const char *path, const char *class_name);
const check_module *check_model_find(const check_model *model, const char *path);
bool check_model_is_compressed_tensors(const check_model *model);
/* A matrix that is applied while the model runs, or its module: transform_config names them GROUP_LOCATION. */
bool check_is_transform(const check_model *model, const char *name);
/* Does `target` name the module: "re:PATTERN", its path, or (by_class) its class: Linear or Embedding? */
bool check_matches(const check_module *module, const char *target, bool *by_class);
/* The entry of `ignore` that names the module, or NULL. */
const char *check_ignored_by(const check_model *model, const check_module *module);
/* The group with weights that it belongs to, as compressed-tensors assigns it: exact names before patterns before
 * classes, within a kind by the text of the target; `ignore` aside. NULL: none. *target may be NULL. */
const check_group *check_group_of(const check_model *model, const check_module *module, const char **target);

/* quantization_config of a config.json, wherever loaders look for it; NULL: none. */
const qc_json *check_quantization_of(const qc_json *config);

/* ---- rules.c, vllm.c ------------------------------------------------------------------------ */

/* What contradicts the quantization, whoever loads it. */
qc_status check_rules(const check_model *model, check_problems *problems);

/* The part of it that transform_config asks for. */
void check_transform_rules(const check_model *model, check_problems *problems);

typedef enum check_effect {
    CHECK_REFUSED, /* the loader stops */
    CHECK_WRONG,   /* it loads, and computes something else than was meant */
} check_effect;

typedef struct check_finding {
    check_effect effect;
    const char *what;
} check_finding;

/* What a loader makes of a config group. */
typedef struct check_kernel {
    const char *group, *what;
} check_kernel;

typedef struct check_verdict {
    const char *target; /* "vllm" */
    QC_VEC(check_finding) findings;
    QC_VEC(check_kernel) kernels;
} check_verdict;

/* What vLLM makes of the checkpoint. Fails where its rules are not known: for another quant_method. */
qc_status check_vllm(const check_model *model, check_verdict *verdict);
/* The part of it that the config groups and the cache scheme decide, without modules. */
void check_vllm_config(const check_model *model, check_verdict *verdict);
void check_find(const check_model *model, check_verdict *verdict, check_effect effect, const char *format,
    ...) QC_PRINTF(4, 5);
/* What it makes of rotations (transforms.c). */
void check_vllm_transforms(const check_model *model, check_verdict *verdict);
/* Its part that goes through the modules (vllm_modules.c). */
qc_status check_vllm_modules(const check_model *model, check_verdict *verdict);
typedef enum check_vllm_family {
    CHECK_VLLM_NONE,
    CHECK_VLLM_NVFP4,
    CHECK_VLLM_MXFP4,
    CHECK_VLLM_MXFP8,
    CHECK_VLLM_W4A8_FP8,
    CHECK_VLLM_WNA8,
    CHECK_VLLM_WNA16,
    CHECK_VLLM_FP8,
    CHECK_VLLM_FP8_WEIGHT,
    CHECK_VLLM_INT8_STATIC,
    CHECK_VLLM_INT8_DYNAMIC,
    CHECK_VLLM_W4A8_INT,
} check_vllm_family;
check_vllm_family check_vllm_family_of(const check_group *group);
/* Why there is no scheme for experts of such weights and inputs, although linear layers may have one; NULL: there is. */
const char *check_vllm_experts(const check_group *group);

/* ---- weight.c ------------------------------------------------------------------------------------- */

typedef enum check_storage { CHECK_BYTES, CHECK_NIBBLES, CHECK_WORDS, CHECK_PLAIN } check_storage;

/* One weight, quantized or not. Element (r, c) has scale number r / block_rows * scale_columns + c / group. */
typedef struct check_weight {
    const check_module *module;
    const check_group *group; /* NULL: not quantized */
    check_storage storage;
    qc_dtype code; /* of its codes; the element type where plain */
    qc_grid grid;
    int64_t rows, columns;
    int64_t scale_rows, scale_columns, block_rows, group_elems;
    const qc_st_tensor *codes, *scale, *zero_point, *global_scale, *g_idx; /* the last three may be NULL */
    float global;                                                          /* 0: none */
    const int32_t *column_groups; /* of each column, where g_idx says so; else NULL */
    /* Plain: a part of a larger tensor, element (r, c) at first_elem + r * row_step + c * column_step. */
    bool part;
    int64_t first_elem, row_step, column_step;
} check_weight;

/* How `module` would hold its weight under `group`; every tensor that is missing or of another type or shape becomes
 * a problem. No problem: *weight is filled, but for what has to be read (check_weight_load). */
void check_weight_fit(const check_model *model, const check_module *module, const check_group *group,
    check_weight *weight, check_problems *problems);
/* Reads the global scale and the groups of columns. */
qc_status check_weight_load(qc_diag *diag, const check_model *model, check_weight *weight);
/* A weight of plain numbers. Fails, told to `diag`, for what is no float. */
qc_status check_weight_plain(
    qc_diag *diag, const check_model *model, const qc_st_tensor *tensor, check_weight *weight);
/* fused.c: the tensor NAME of one expert, as the part of a tensor of all experts that `model` has instead. False when it has
 * none, or of other sizes. */
bool check_weight_of_expert(
    const check_model *model, const char *name, int64_t rows, int64_t columns, check_weight *weight);
/* Is it a tensor of all experts, which `whole` stores one by one? */
bool check_is_fused(const check_model *whole, const qc_st_tensor *tensor);
/* "f8e4m3 channel", "i4 group 128 asymmetric", "bf16" */
const char *check_weight_text(qc_arena *arena, const check_weight *weight);

/* Room to decode up to `rows` rows; one thread's. */
typedef struct check_rows {
    unsigned char *bytes;        /* as stored: codes, or scales, or zero points */
    uint8_t *codes;              /* one each */
    float *scales, *zero_points; /* of each group of each row; zero points are all 0 where there are none */
} check_rows;

size_t check_rows_bytes(const check_weight *weight, int64_t rows);
/* Points the fields into `memory` of check_rows_bytes. */
void check_rows_init(check_rows *buffers, const check_weight *weight, int64_t rows, void *memory);
/* Values of rows [first, first + rows) and, unless the weight is plain, their codes, scales and zero points in
 * `buffers`. A value is what the model computes with in element type D `to` (QC_BF16, QC_F16 or QC_F32), widened:
 * (code - zero point) * scale, difference and product rounded to D; under a global scale rounded once. F64 comes
 * rounded to f32. */
qc_status check_weight_rows(qc_diag *diag, const check_model *model, const check_weight *weight, qc_dtype to,
    int64_t first, int64_t rows, check_rows *buffers, float *values);
/* Scales of a row, one for each `*elems` columns. */
int64_t check_row_scales(const check_weight *weight, int64_t *elems);

#endif
