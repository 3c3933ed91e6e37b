/* SPDX-License-Identifier: MIT
 *
 * transforms.h - rotations as `transform` symbols of a module describe them:
 *
 *   transform @R4 {type = random_hadamard, size = 384, block = false, precision = f64, apply = [
 *       {targets = ["re:.*down_proj$"], ignore = [], location = input, inverse = false}, ...]}
 *
 * type: hadamard or random_hadamard. size: of the matrix, absent where it is that of each place. block: the matrix is
 * smaller than the dimension and was asked for by its size. head_dim: of rotations of heads. precision: of the product at
 * run time. Places `input`, `output`, `q_attn` and `k_cache` are rotated at run time, `weight_input` and `weight_output` are
 * in the weights.
 */
#ifndef QC_RUNTIME_CT_TRANSFORMS_H
#define QC_RUNTIME_CT_TRANSFORMS_H

#include "ir/support/arena.h"
#include "ir/support/str.h"
#include "qc/ir.h"

typedef struct ct_place {
    const char *location;
    bool inverse;
    bool online;                     /* at run time */
    const qc_attr *targets, *ignore; /* lists; ignore may be NULL */
} ct_place;

/* Matrices of one transform share a generator of signs, of which those before have drawn. */
typedef struct ct_matrix {
    int64_t size, drawn;
} ct_matrix;

typedef struct ct_transform {
    const char *name; /* "R4" */
    bool random, f32;
    int64_t size;     /* of the matrix; 0: that of each place */
    int64_t head_dim; /* as transform_config calls the size of blocks; 0: null */
    ct_place *places;
    size_t place_count;
    QC_VEC(ct_matrix) matrices; /* found in the graph */
} ct_transform;

typedef struct ct_transforms {
    ct_transform *items; /* in the order of the symbols */
    size_t count;
} ct_transforms;

/* Reads the symbols of the module; texts and lists are the module's. Errors name the symbol. */
qc_status ct_transforms_read(
    qc_ctx *ctx, qc_arena *arena, const qc_module *module, ct_transforms *transforms);
/* "random-hadamard", "torch.float64" */
const char *ct_transform_type(const ct_transform *transform);
const char *ct_transform_precision(const ct_transform *transform);
bool ct_place_names(const ct_place *place, const qc_node *node);
/* The rotation at run time that is at `location` of the module; NULL: none. *place may be NULL. */
ct_transform *ct_transform_at(
    const ct_transforms *transforms, const qc_node *node, const char *location, const ct_place **place);
/* Is the op that rotation, by the matrix that the transform has for its size? The first op of a size says which. */
bool ct_transform_is(qc_arena *arena, ct_transform *transform, const ct_place *place, const qc_op *hadamard);

#endif
