/* SPDX-License-Identifier: MIT
 *
 * ir.h - the structures behind the handles of qc/ir.h. Only ir/ includes this, and whoever must read the IR
 * at the speed of memory (the reference interpreter); passes, front ends and the runtime use the public
 * functions.
 *
 * Lifetimes: qc_ctx owns interned strings, dims, types, attributes; qc_module owns ops, values, nodes,
 * symbols in one arena and never frees singly. Uses form a doubly linked list per value, so erasing and
 * replacing are O(uses).
 */
#ifndef QC_IR_INTERNAL_H
#define QC_IR_INTERNAL_H

#include "ir/support/diag.h"
#include "ir/support/map.h"
#include "ir/support/str.h"
#include "ir/op_info.h"
#include "qc/build.h"
#include "qc/ir.h"

enum { QC_SMALL_DIMS = 256, QC_MAX_ATTR_DEPTH = 64 };

struct qc_ctx {
    qc_arena arena;
    qc_diag diag;
    qc_map strings, dims, types, attrs;      /* interning tables; keys are canonical bytes */
    const qc_dim *small_dims[QC_SMALL_DIMS]; /* plain integers, NULL until they are asked for */
    qc_map type_texts;                       /* spelling in IR text -> type */
    qc_map ops;                              /* op name -> const qc_op_info * */
    const qc_attr **defaults;                /* of attributes: [op][slot], NULL where there is none */
    qc_map patterns;                         /* compiled regular expressions of targets */
    qc_arena scratch;                        /* of long diagnostics */
};

/* A dimension: sum of terms coefficient * product of atoms; terms sorted, no zero coefficients. */
typedef struct qc_dim_atom {
    const char *text;              /* by which atoms sort */
    const char *symbol;            /* interned name, or NULL for a floordiv */
    const struct qc_dim *dividend; /* floordiv: dividend / divisor */
    int64_t divisor;
} qc_dim_atom;

typedef struct qc_dim_term {
    int64_t coefficient;
    uint32_t atom_count;
    const qc_dim_atom **atoms; /* sorted by text */
    const char *key;           /* text of the atoms: "P*S", "" for the constant */
} qc_dim_term;

struct qc_dim {
    qc_ctx *ctx;
    uint32_t term_count;
    const qc_dim_term *terms;
    const char *text; /* canonical */
    bool is_int;
    int64_t value; /* when is_int */
};

struct qc_type {
    qc_dtype dtype;
    int rank;
    const qc_dim *dims[QC_MAX_RANK];
    const char *text;
};

struct qc_attr {
    qc_attr_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double number;
        const char *text;
        struct {
            size_t count;
            const qc_attr *const *items;
            const char *const *keys; /* MAP */
        } list;
        struct {
            size_t count;
            qc_dtype dtype;
            const void *bytes;
        } data;
    } u;
};

typedef struct qc_use {
    qc_op *op;
    struct qc_use *prev, *next; /* of the value's list */
    qc_value *value;
} qc_use;

struct qc_value {
    const qc_type *type; /* NULL: poison */
    qc_op *op;           /* NULL: function argument */
    qc_func *func;
    const char *hint; /* interned; NULL: numbered */
    qc_use *uses;
    uint32_t index;  /* of the result or argument */
    uint32_t number; /* scratch of printer, verifier, clone */
    bool argument;   /* of the function; neither this nor op: poison */
};

struct qc_op {
    const qc_op_info *info;
    qc_func *func;
    qc_op *prev, *next;
    qc_node *node;
    uint32_t operand_count, result_count;
    qc_use *operands; /* slots in table order */
    qc_value *results;
    const qc_attr **attrs; /* slots in table order; NULL = default */
    uint32_t line;         /* in the text it was parsed from or printed to last; 0 unknown */
    uint32_t order;        /* scratch: position in the function */
    bool linked;
};

struct qc_func {
    qc_module *module;
    const char *name;
    qc_func *next;
    QC_VEC(qc_value *) arguments;
    QC_VEC(qc_value *) results;
    qc_op *first, *last;
    uint32_t line;
};

struct qc_node {
    qc_module *module;
    const char *path, *class_name;
    const char *alias; /* NULL: none */
    qc_node *parent, *next;
    QC_VEC(const char *) tensors;
    bool has_children;
};

struct qc_symbol {
    const char *kind, *name;
    const qc_attr *fields;
    qc_symbol *next;
};

typedef struct qc_shard {
    const char *name, *header_sha256;
    uint64_t size_bytes;
} qc_shard;

struct qc_module {
    qc_ctx *ctx;
    qc_arena arena;
    const char *source;
    QC_VEC(qc_shard) shards;
    QC_VEC(const char *) dims;
    qc_node *first_node, *last_node;
    qc_map nodes;
    qc_symbol *first_symbol, *last_symbol;
    qc_map symbols;
    qc_func *first_func, *last_func;
    qc_map funcs;                /* the first of each name */
    const char *endless_pattern; /* matched with too many steps, which was said; NULL: none */
};

struct qc_builder {
    qc_func *func;
    qc_op *before; /* NULL: at the end */
    qc_node *node;
    bool failed;
    const qc_op_info *info; /* op in the making */
    QC_VEC(qc_value *) operands;
    QC_VEC(qc_value *) variadic;
    const qc_attr *attrs[QC_MAX_ATTRS];
    QC_VEC(const qc_type *) types;
    qc_op *last;
};

const char *qc_intern(qc_ctx *ctx, const char *text, size_t length);
/* qc_type_tensor whose diagnostics name a place. */
const qc_type *qc_type_make(
    qc_ctx *ctx, const char *where, qc_dtype dtype, int rank, const qc_dim *const *dims);
/* [A-Za-z_][A-Za-z0-9_]* */
bool qc_is_identifier(const char *text);
/* Why the text form cannot say this value, or NULL when it can. */
const char *qc_attr_problem(const qc_attr *attr);
/* The default of attribute `slot` from the table; NULL when it has none. */
const qc_attr *qc_op_default_attr(qc_ctx *ctx, const qc_op_info *info, size_t slot);
/* Is `attr` a possible value of attribute `slot`? */
bool qc_attr_fits(const qc_op_info *info, int slot, const qc_attr *attr);
/* The same; reports through `where` when it is not. */
qc_status qc_attr_check(
    qc_diag *diag, const char *where, const qc_op_info *info, int slot, const qc_attr *attr);
void qc_op_make_defaults(qc_ctx *ctx);
int qc_op_attr_slot(const qc_op_info *info, const char *name);    /* -1 when unknown */
int qc_op_operand_slot(const qc_op_info *info, const char *name); /* -1 when unknown */
/* Fills result types of an op whose operands and attrs are set; reports through `where`. */
qc_status qc_op_infer(qc_op *op, const char *where, const qc_type **types);
/* Allocates an op, unlinked. operand_count slots (variadic included), results untyped. */
qc_op *qc_op_create(qc_func *func, const qc_op_info *info, size_t operand_count);
void qc_op_insert(qc_op *op, qc_op *before);
/* Prints and fills op->line and, when columns are wanted, the offset of each op's line in the text. */
void qc_module_print_to(const qc_module *module, qc_str *out);
void qc_op_print_to(const qc_op *op, qc_str *out);
void qc_attr_print_to(qc_str *out, const qc_attr *attr);
void qc_func_number_values(qc_func *func);
void qc_value_print_to(qc_str *out, const qc_value *value);
/* The node of the longest path that ends where `path` has a point; NULL for the root's. */
qc_node *qc_node_find_parent(const qc_module *module, const char *path);
/* The alias that the node has from the node above; NULL: none. A new string each time. */
const char *qc_node_inherited_alias(const qc_node *node);
void qc_patterns_free(qc_ctx *ctx);
qc_diag *qc_ctx_diag(qc_ctx *ctx);
qc_arena *qc_ctx_arena(qc_ctx *ctx);

/* A scale (may be NULL) that stands in the IR as a constant must be one that values can be divided by. */
qc_status qc_verify_scale(const qc_op *op, const char *where, const qc_value *scale, const char *name);
/* Does a scale stand for elements of x: by broadcasting, or, group > 0, one for each `group` columns? */
bool qc_scale_fits(qc_ctx *ctx, const qc_type *x, const qc_type *scale, int64_t group);

#endif
