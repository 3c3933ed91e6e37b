/* SPDX-License-Identifier: MIT
 *
 * internal.h - the parts of the exporter and what they hand each other.
 *
 *   plan.c    module            -> plan: tensors to write, notes
 *   plan_weights.c                 what a linear, embedding or kept weight stores
 *   plan_experts.c                 the same of each expert
 *   groups.c  scheme symbols    -> config groups, formats
 *   config.c  plan + config.json -> config.json
 *   recipe.c  plan              -> recipe.yaml
 *   tied.c                         input and output embeddings
 *   transforms.c                   rotations: transform_config, matrices
 *   attention.c                    what attention modules store
 *   shards.c  plan              -> files with their tensors, index
 *   dialect.c                      what is otherwise for modules imported as tensors
 *   side_files.c                   tokenizer, templates, code, licences
 *   write.c                        the data
 *   export.c                       OUT.partial, the rename
 */
#ifndef QC_RUNTIME_CT_INTERNAL_H
#define QC_RUNTIME_CT_INTERNAL_H

#include "ir/ctx.h"
#include "ir/dtype/hadamard.h"
#include "ir/experts.h"
#include "ir/scheme.h"
#include "ir/support/safetensors.h"
#include "runtime/export/compressed_tensors/export.h"
#include "runtime/export/compressed_tensors/transforms.h"
#include "runtime/weights.h"

/* What llm-compressor's files say of themselves. */
#define CT_VERSION "0.19.0"
#define CT_DEFAULT_SHARD_BYTES 20000000000u

/* The arguments of one quantized kind of value, as config.json shows them. */
typedef struct ct_args {
    bool present, is_float;
    bool dynamic, local;  /* "dynamic": true, "local" */
    const char *strategy; /* "tensor", "channel", "token", "attn_head", "group", "tensor_group", "block" */
    const char *observer; /* NULL: null */
    qc_scheme_part part;
} ct_args;

/* How codes lie in a file. */
typedef enum ct_packing {
    CT_PLAIN,      /* a byte each */
    CT_NIBBLES,    /* two a byte, the first in the low half */
    CT_WORDS,      /* a dense stream of offset binary in the 32-bit words of a row */
    CT_WORDS_DOWN, /* the same along columns: zero points */
} ct_packing;

/* How a format stores weights. */
typedef struct ct_form {
    ct_packing packing;
    qc_dtype scale_type; /* QC_DTYPE_NONE: the model's */
    const char *weight;  /* name of the codes */
} ct_form;

/* A config group: a scheme that some module carries. Attention groups have no weights and format "dense". */
typedef struct ct_group {
    const qc_symbol *symbol;
    const qc_attr *targets, *ignore; /* lists; ignore may be NULL */
    const qc_attr *named;            /* list of modules in place of targets in config.json; NULL: none */
    ct_args weights, input;
    const char *format;
    ct_form form;
    bool attention;
    size_t first_module; /* index in the tree of the first module that carries it */
} ct_group;

typedef enum ct_source {
    CT_COPY,       /* bytes of `stored` */
    CT_VALUE,      /* elements of `value`, or codes of a quantize; brings `scale` and `zero_point` along */
    CT_SCALE,      /* comes along with `codes` */
    CT_ZERO_POINT, /* the same */
    CT_ZEROS,
    CT_BYTES,  /* `bytes` */
    CT_MATRIX, /* the entries of `matrix` */
} ct_source;

typedef struct ct_tensor {
    const char *name, *dtype;
    int rank;
    const int64_t *shape;
    ct_source source;
    const qc_st_tensor *stored;
    const qc_value *value;
    const void *bytes;
    const qc_hadamard *matrix;
    qc_dtype encoding;       /* of elements of a value, scales and zero points in the file */
    ct_packing packing;      /* of codes and zero points */
    int bits;                /* of a packed code */
    bool quantized;          /* codes or a scale */
    bool behind;             /* comes behind the rest of its module in the state dict */
    uint64_t storage_bytes;  /* what PyTorch's tensor takes, where that is more than its elements */
    bool codes_of_weight;    /* a value to be stored in the form that `packing` says */
    bool written;            /* or at work */
    struct ct_tensor *scale; /* of codes: what comes along with them, or NULL */
    struct ct_tensor *zero_point;
    struct ct_tensor *codes; /* the way back */
    const char
        *owner; /* of a module that the tree does not have, and comes behind all of this one; NULL: none */
    uint32_t owner_rank; /* among those of one owner */
    uint64_t order;      /* in PyTorch's state dict */
    uint64_t size_bytes;
    uint32_t shard;       /* filled by ct_split */
    uint64_t file_offset; /* from the start of the shard; filled by the writer */
} ct_tensor;

typedef struct ct_refusal {
    const char *rule, *where, *what;
} ct_refusal;

typedef struct ct_plan {
    qc_ctx *ctx;
    qc_arena arena;
    const qc_module *module;
    qc_weights *weights;
    bool before_data; /* only to see whether it can be exported once the statistics are there */
    bool quiet;       /* warnings were given before */
    bool as_tensors;  /* imported as tensors: files as model_free_ptq writes them, see dialect.c */
    bool dequantized; /* codes of the source were read as numbers: its own quantization goes */
    qc_map by_name;   /* -> ct_tensor *, also those dropped */
    QC_VEC(ct_tensor *) tensors;
    QC_VEC(ct_group) groups; /* in tree order of their first module */
    ct_args kv;              /* kv_cache_scheme */
    bool quantized;          /* is anything? */
    bool kv_only;            /* by a kv_scheme, without attention group */
    ct_transforms transforms;
    bool rotated;   /* by any of them */
    qc_map linears; /* addresses of nodes -> the linear or expert_linear op that is there */
    /* Experts: their parts of the weights are values of a module of their own (plan_experts.c). */
    qc_module *scratch; /* NULL: none */
    qc_builder *builder;
    qc_map experts;              /* addresses of nodes -> what was copied for their experts */
    QC_VEC(const qc_op *) banks; /* expert_linear ops whose experts are stored by themselves */
    const qc_allowed *allowed;
    qc_map told;                 /* rules that were warned of, or are in `refusals` */
    QC_VEC(ct_refusal) refusals; /* one a rule that is broken and not allowed */
    QC_VEC(const char *) ignore;
    const char *format;              /* of the whole checkpoint */
    const char **shard_names;        /* of the source's shards that get tensors; NULL: numbered anew */
    int tie;                         /* -1: as the config says; else tie_word_embeddings */
    QC_VEC(const char *) kv_skipped; /* attention modules without scales although others have them */
    qc_map tables;                   /* quantized embeddings, heads, routers: name -> path of the first */
    bool not_for_vllm;               /* a warning said that vLLM would not read it */
} ct_plan;

/* plan.c; plan->ctx, module and weights are set. */
qc_status ct_plan_make(ct_plan *plan);
/* A weight that an op reads as it is stored. */
typedef struct ct_read {
    const qc_value *value;
    bool small; /* a vector, or the matrix of a router */
} ct_read;

/* What one walk over the ops knows. */
typedef struct ct_walk {
    ct_plan *plan;
    qc_map fixed;     /* addresses of values that depend on no model input */
    qc_map positions; /* addresses of nodes -> index in the tree + 1 */
    qc_map quantized; /* paths of modules with a config group -> its symbol */
    QC_VEC(const qc_op *) attentions;
    QC_VEC(ct_read) reads;
    qc_map latents; /* addresses of nodes with a latent cache -> the op that quantizes it, or NULL */
} ct_walk;

/* plan.c, for plan_weights.c. */
/* A module that an op computes with: that of its own node, or of one of the experts that it stands for. */
typedef struct ct_site {
    const qc_op *op;
    const char *path;     /* "" outside of the tree */
    const qc_node *node;  /* NULL outside of the tree */
    qc_expert_copy *copy; /* of an expert; NULL: what the op computes with is the module's */
} ct_site;

ct_site ct_site_of(const qc_op *op);
bool ct_is_fixed(const ct_walk *w, const qc_value *value);
const char *ct_path_of(const qc_op *op);
const char *ct_where_of(const qc_op *op);
bool ct_made_by(const qc_value *value, const char *op_name);
const qc_value *ct_operand(const qc_value *value, const char *name);
const char *ct_text_attr(const qc_op *op, const char *name);
const char *ct_where(const ct_site *site);
qc_status ct_unresolved(const ct_walk *w, const char *where, const char *what);
const qc_symbol *ct_symbol_of(ct_walk *w, const qc_op *op);
/* The module carries the scheme. */
qc_status ct_use_group(ct_walk *w, const qc_symbol *symbol, bool attention, const ct_site *site);
/* The entry of that name, made or taken over from a stored tensor: the elements of `value`. NULL when it has no static
 * shape, or when two ops want different values under one name. */
ct_tensor *ct_put_tensor(ct_walk *w, const char *name, const qc_value *value);
/* The same under a short name of the module. */
ct_tensor *ct_put_value(ct_walk *w, const ct_site *site, const char *short_name, const qc_value *value);

/* Where the rule is allowed, a warning; else noted for the one error in which ct_plan_make names all rules. */
qc_status ct_refuse(ct_plan *plan, const char *rule, const char *where, const char *format, ...)
    QC_PRINTF(4, 5);

/* attention.c: scales of an attention op, its cache and its keys. */
qc_status ct_plan_attention(ct_walk *w, const qc_op *op);
/* The scale of what a latent cache holds; has the attention op such a cache? */
qc_status ct_plan_latent(ct_walk *w, const qc_op *quantize);
bool ct_is_latent(const ct_walk *w, const qc_op *attention);

/* transforms.c: transform_config; the matrices of rotations at run time, and what vLLM says of those. */
qc_json *ct_transform_config(const ct_plan *plan, qc_arena *arena);
qc_status ct_plan_matrices(ct_plan *plan);

/* plan_weights.c: what the module stores of quantized weights, and of its input. */
qc_status ct_plan_codes(ct_walk *w, const ct_site *site, const qc_value *codes);

/* plan_experts.c: what the experts of an expert_linear store. */
qc_status ct_plan_experts(ct_walk *w, const qc_op *op);
/* The module's part of what the op computes with; NULL after a diagnostic. */
const qc_value *ct_site_value(const ct_site *site, const qc_value *value);
/* Is it the part of one expert? */
bool ct_is_of_expert(const ct_plan *plan, const qc_value *value);
/* When nothing reads the plan's weights any more. */
void ct_close_experts(ct_plan *plan);

/* groups.c: the arguments that part `input` or `weights` of a symbol stands for. */
qc_status ct_read_args(ct_plan *plan, const qc_symbol *symbol, const char *part_name, ct_args *args);
qc_status ct_choose_format(ct_plan *plan, ct_group *g);
bool ct_same_group(const qc_symbol *a, const qc_symbol *b);
/* The config group of a symbol, NULL when it has none yet; the same, made when it is new: the module at `position` of the
 * tree carries it. */
ct_group *ct_find_group(ct_plan *plan, const qc_symbol *symbol, bool attention);
qc_status ct_add_group(ct_plan *plan, const qc_symbol *symbol, bool attention, size_t position);
/* Puts the groups into tree order and chooses the format of the whole. */
void ct_finish_groups(ct_plan *plan);
/* Groups whose targets would give a reader of config.json another module than theirs name their modules instead; `quantized`
 * holds the symbols of the modules that have a config group, by path. */
void ct_settle_targets(ct_plan *plan, const qc_map *quantized);

/* plan_names.c: numbers the tensors as PyTorch's state dict has them and fills plan->ignore; `quantized`
 * holds the paths of modules with a config group. */
void ct_order_tensors(ct_plan *plan);
void ct_fill_ignore(ct_plan *plan, const qc_map *quantized);
/* What vLLM calls a Linear of Mixtral's experts (w1, w3, w2) when it asks for its scheme; NULL: as the model does. */
const char *ct_expert_alias(qc_arena *arena, const char *path);
/* tied.c: what input and output embeddings have in common is written once: plan->tie. */
qc_status ct_tie_embeddings(ct_plan *plan);

/* dialect.c: fills plan->as_tensors and dequantized. */
void ct_read_import(ct_plan *plan);
/* Does the tree of the module have a place for the stored tensor? */
bool ct_in_tree(const ct_plan *plan, const char *tensor);
/* Under as_tensors: plan->ignore as the user gave it; the name of a config group in config.json; each tensor to the shard of
 * the source that it comes from, their number; the index; all files of the source that are no weights. */
void ct_take_ignore(ct_plan *plan);
const char *ct_group_name(ct_plan *plan, size_t group);
uint32_t ct_split_as_source(ct_plan *plan);
void ct_source_index_text(const ct_plan *plan, uint32_t shard_count, qc_str *text);
qc_status ct_copy_all_files(ct_plan *plan, const char *from, const char *to);
/* Embeddings, heads and routers are linears there and not in loaders: remembers the quantized ones, and warns of them. */
void ct_note_table(ct_plan *plan, const char *path);
void ct_warn_of_tables(ct_plan *plan);

bool ct_is_dequantized(const qc_module *module);

/* config.c: refuses a source that has no config.json, or one that is quantized already unless the module dequantizes it. */
qc_status ct_check_source(
    qc_diag *diag, qc_arena *arena, const qc_module *module, const char *source_directory);
/* The text of config.json from the source's. */
qc_status ct_config_text(ct_plan *plan, const char *source_directory, qc_str *text);
/* "torch.bfloat16": how PyTorch calls the element types of scales and zero points; NULL for none. */
const char *ct_torch_dtype(qc_dtype dtype);
/* The JSON of quantization_config alone. */
qc_json *ct_quantization_config(ct_plan *plan, qc_arena *arena);

/* same_model.c: an error when the module computes what the config.json of its source does not say. */
qc_status ct_check_same_model(qc_ctx *ctx, const qc_module *module, const char *source_directory);
/* The element type that the module computes in; QC_DTYPE_NONE when it has no embedding to tell by. */
qc_dtype ct_computed_dtype(const qc_module *module);

/* recipe.c */
void ct_recipe_text(ct_plan *plan, qc_str *text);

/* shards.c: which file each tensor goes to (in state-dict order, greedily, as huggingface_hub splits). */
uint32_t ct_split(ct_plan *plan, uint64_t max_bytes);
/* "model.safetensors" or "model-00001-of-00002.safetensors", or as the source has it. */
const char *ct_shard_name(const ct_plan *plan, qc_arena *arena, uint32_t index, uint32_t count);
void ct_index_text(const ct_plan *plan, uint32_t shard_count, qc_str *text);

/* write.c: all shards, into a directory that is there. An error when the source changed meanwhile. */
typedef struct ct_write_options {
    const char *directory;
    uint32_t shard_count;
    uint64_t total_bytes;
    qc_progress_fn progress;
    void *progress_user;
} ct_write_options;
qc_status ct_write_tensors(ct_plan *plan, const ct_write_options *options);
/* The most memory that the process will hold while it writes. */
uint64_t ct_peak_bytes(const ct_plan *plan);

/* loaders.c: once the groups are finished */
qc_status ct_warn_of_loaders(ct_plan *plan);

/* export.c */
qc_status ct_make_directory(qc_diag *diag, const char *path);

/* side_files.c: files that the exporter writes itself, that hold weights, that are shards of the source. */
bool ct_is_replaced(const char *name);
bool ct_is_weights_file(const char *name);
bool ct_is_shard(const ct_plan *plan, const char *name);
/* Copies what belongs to the model; a note says what was left out. */
qc_status ct_copy_side_files(ct_plan *plan, const char *from, const char *to);

#endif
