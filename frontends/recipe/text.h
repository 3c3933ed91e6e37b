/* SPDX-License-Identifier: MIT
 *
 * text.h - writing recipe.yaml as PyYAML's emitter does: block style, lists and maps of plain scalars in flow style,
 * broken behind column 88, quotes only where a plain scalar would read back as something else.
 */
#ifndef QC_FRONTENDS_RECIPE_TEXT_H
#define QC_FRONTENDS_RECIPE_TEXT_H

#include "ir/support/str.h"

/* QuantizationArgs of compressed-tensors: resolved, as its pydantic model holds them. */
typedef struct qc_recipe_args {
    bool present;
    uint32_t line; /* in the recipe, 0: not from one */
    int num_bits;
    bool is_float, symmetric;
    int64_t group_size;   /* 0: null */
    const char *strategy; /* "tensor", "channel", "group", "block", "token", "tensor_group", "attn_head" */
    int64_t block_rows, block_columns; /* 0: null */
    const char *dynamic;               /* "true", "false", "local" */
    const char *actorder;              /* "weight", "static"; NULL: null */
    const char *scale_dtype,
        *zp_dtype;                /* "torch.int8"; NULL: null. zp_dtype is written for asymmetric ones only */
    const char *observer;         /* NULL: null */
    bool observer_given;          /* by the recipe or by a preset */
    const char *observer_kwargs;  /* a flow map: "{maxshrink: 0.1}"; NULL: {} */
    const char *observer_options; /* the same as option values of a pass: "{maxshrink=0.1}"; NULL: none */
} qc_recipe_args;

void qc_recipe_add_indent(qc_str *out, int columns);
/* A scalar inside a flow collection, or a key, whose further lines stand at `indent`. */
void qc_recipe_add_scalar(qc_str *out, int indent, const char *text);
/* "KEY: [a, 'b']" and a line break, at `indent`. */
void qc_recipe_add_list(qc_str *out, int indent, const char *key, const char *const *items, size_t count);
/* "KEY:" and all fields in the order of the class, or "KEY: null". */
void qc_recipe_add_args(qc_str *out, int indent, const char *key, const qc_recipe_args *args);
/* A float as PyYAML writes it: 0.1, 1.0e-05, .inf. */
void qc_recipe_add_float(qc_str *out, double value);

#endif
