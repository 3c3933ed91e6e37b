/* SPDX-License-Identifier: MIT
 *
 * hf.h - Hugging Face checkpoints (config.json with safetensors) as IR modules.
 *
 * The importer reads metadata alone: config.json and the headers of the shards; of the tensor data only the
 * scales of an already quantized checkpoint. The module names the directory as its source, holds the module
 * tree in the order of PyTorch's named_modules() with every stored tensor at its node, and one function
 *
 *   @main(%ids: i64[B, S]) -> D[B, S, vocabulary]
 *
 * whose arithmetic is that of Transformers 5 with eager attention in element type D. Arithmetic that the
 * importer does not know is refused by name.
 *
 * Without an architecture, a directory of safetensors becomes a module of its tensors: `import @import {mode = tensors}`,
 * a tree made from the names, and @main() with a `keep` for every weight of two dimensions. Whatever needs no
 * activations (data-free schemes) works on that.
 */
#ifndef QC_FRONTENDS_HF_H
#define QC_FRONTENDS_HF_H

#include "ir/support/diag.h"
#include "qc/ir.h"

typedef enum qc_hf_mode {
    QC_HF_GRAPH,   /* what the architecture computes; an unknown one is an error */
    QC_HF_TENSORS, /* the tensors alone, whatever the architecture */
    QC_HF_AUTO,    /* the graph where the architecture is known, else the tensors, and a remark says so */
} qc_hf_mode;

typedef struct qc_hf_options {
    qc_hf_mode mode;
    /* Weights that are quantized already are read as what their codes stand for, as one that quantizes again needs
     * them: plain values of D, without schemes, quantized inputs or scales of attention. The module says so:
     * `import @import {dequantized = "fp8 blocks [128, 128]", ...}`. Tensors that are then meaningless (scales) are in no
     * node of the tree. */
    bool dequantize;
    /* The element type D to compute in: QC_BF16, QC_F16 or QC_F32; QC_DTYPE_NONE: the checkpoint's own
     * ("dtype" or "torch_dtype" of config.json, else the type of its tensors). Stored tensors of a narrower
     * type are converted exactly, those of another one get a cast, as Transformers does when it loads them.
     */
    qc_dtype dtype;
} qc_hf_options;

/* Imports the checkpoint in `directory`; `options` may be NULL. NULL after an error, which the context was
 * told. The caller destroys the module. */
qc_module *qc_hf_import(qc_ctx *ctx, const char *directory, const qc_hf_options *options);

/* One supported architecture, for lists and error messages. */
typedef struct qc_hf_arch_info {
    const char *architecture;    /* "LlamaForCausalLM" */
    const char *model_type;      /* "llama" */
    const char *attention_class; /* "LlamaAttention", what a recipe targets */
    const char *supported;       /* features, in words */
} qc_hf_arch_info;

/* Row `index` of the table, false behind the last. */
bool qc_hf_list_archs(size_t index, qc_hf_arch_info *info);
/* Do models of this type hold gate and up of an expert by turns in one tensor? False for types that are not known. */
bool qc_hf_experts_by_turns(const char *model_type);

/* The token ids that steer generation. */
typedef struct qc_hf_generation {
    int64_t bos_id;         /* -1: none */
    const int64_t *eos_ids; /* generation stops at any of them */
    size_t eos_count;
} qc_hf_generation;

/* From generation_config.json, or from config.json where there is none; ids live in `arena`. Neither file
 * need have the keys; neither file existing is an error. */
qc_status qc_hf_read_generation(
    qc_diag *diag, qc_arena *arena, const char *directory, qc_hf_generation *generation);

#endif
