/* SPDX-License-Identifier: MIT
 *
 * ir.h - reading and changing the IR: dimensions, types, attributes, values, operations, functions, the
 * module tree, symbols. Making operations is in build.h. docs/ir.md explains the ideas and the text form.
 */
#ifndef QC_IR_H
#define QC_IR_H

#include "qc/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- context ------------------------------------------------------------------------------------------- */

/* Called when small memory runs out; must not return (longjmp or end the process). */
typedef void (*qc_out_of_memory_fn)(size_t size_bytes);
/* Gets every diagnostic: `where` is a file, file:line:col, tensor or module path, or "". */
typedef void (*qc_diagnostic_fn)(void *user, qc_severity severity, const char *where, const char *what);

QC_API qc_ctx *qc_ctx_create(qc_out_of_memory_fn out_of_memory, qc_diagnostic_fn diagnostic, void *user);
QC_API void qc_ctx_destroy(qc_ctx *ctx);
QC_API qc_status qc_ctx_error(qc_ctx *ctx, const char *where, const char *format, ...)
    QC_PRINTF(3, 4) QC_COLD;
QC_API void qc_ctx_warning(qc_ctx *ctx, const char *where, const char *format, ...) QC_PRINTF(3, 4) QC_COLD;
QC_API void qc_ctx_note(qc_ctx *ctx, const char *format, ...) QC_PRINTF(2, 3) QC_COLD;
QC_API void qc_ctx_remark(qc_ctx *ctx, const char *where, const char *format, ...) QC_PRINTF(3, 4) QC_COLD;
QC_API size_t qc_ctx_error_count(const qc_ctx *ctx);

/* ---- dimensions: integer polynomials over named symbols, with floordiv; canonical, so == compares ------ */

QC_API const qc_dim *qc_dim_int(qc_ctx *ctx, int64_t value);
QC_API const qc_dim *qc_dim_symbol(qc_ctx *ctx, const char *name);
/* NULL when a coefficient overflows 64 bits, or the polynomial has more than 64 terms or 16 factors in one. */
QC_API const qc_dim *qc_dim_add(qc_ctx *ctx, const qc_dim *a, const qc_dim *b);
QC_API const qc_dim *qc_dim_sub(qc_ctx *ctx, const qc_dim *a, const qc_dim *b);
QC_API const qc_dim *qc_dim_mul(qc_ctx *ctx, const qc_dim *a, const qc_dim *b);
/* Rounds toward minus infinity; divisor > 0. Whole parts and common factors come out. */
QC_API const qc_dim *qc_dim_floordiv(qc_ctx *ctx, const qc_dim *a, int64_t divisor);
/* True, and the value, when the dimension is a plain integer. */
QC_API bool qc_dim_as_int(const qc_dim *dim, int64_t *value);

/* ---- types --------------------------------------------------------------------------------------------- */

#define QC_MAX_RANK 8

/* Interned: two equal types of one context are the same pointer. NULL (with a diagnostic) when the rank is
 * over QC_MAX_RANK or the number of elements of a static shape overflows 63 bits. */
QC_API const qc_type *qc_type_tensor(qc_ctx *ctx, qc_dtype dtype, int rank, const qc_dim *const *dims);
QC_API qc_dtype qc_type_dtype(const qc_type *type);
QC_API int qc_type_rank(const qc_type *type);
/* index may be negative: -1 is the last. NULL when out of range. */
QC_API const qc_dim *qc_type_dim(const qc_type *type, int index);
/* The same shape with another element type. */
QC_API const qc_type *qc_type_with_dtype(qc_ctx *ctx, const qc_type *type, qc_dtype dtype);
/* Elements of a static shape; false when a dimension is symbolic. */
QC_API bool qc_type_static_count(const qc_type *type, int64_t *count);
/* "bf16[B, S, 64]", owned by the context. */
QC_API const char *qc_type_text(qc_ctx *ctx, const qc_type *type);

/* ---- attributes: immutable values, interned: equal ones of a context are the same pointer -------------- */

typedef enum qc_attr_kind {
    QC_ATTR_BOOL,
    QC_ATTR_INT,
    QC_ATTR_FLOAT,  /* double; prints as the shortest decimal that reads back */
    QC_ATTR_STRING, /* "quoted" */
    QC_ATTR_WORD,   /* bareword: an enumerator or an element type */
    QC_ATTR_SYMBOL, /* @name */
    QC_ATTR_LIST,
    QC_ATTR_MAP,  /* keys sorted */
    QC_ATTR_DATA, /* elements of a constant, stored in their element type */
} qc_attr_kind;

QC_API const qc_attr *qc_attr_bool(qc_ctx *ctx, bool value);
QC_API const qc_attr *qc_attr_int(qc_ctx *ctx, int64_t value);
QC_API const qc_attr *qc_attr_float(qc_ctx *ctx, double value);
QC_API const qc_attr *qc_attr_string(qc_ctx *ctx, const char *text);
QC_API const qc_attr *qc_attr_word(qc_ctx *ctx, const char *word);
QC_API const qc_attr *qc_attr_symbol(qc_ctx *ctx, const char *name);
QC_API const qc_attr *qc_attr_list(qc_ctx *ctx, const qc_attr *const *items, size_t count);
QC_API const qc_attr *qc_attr_map(
    qc_ctx *ctx, const char *const *keys, const qc_attr *const *values, size_t count);
/* Copies count elements of `dtype` in their storage form. For the positional attribute of `const` alone. */
QC_API const qc_attr *qc_attr_data(qc_ctx *ctx, qc_dtype dtype, const void *bytes, size_t count);

QC_API qc_attr_kind qc_attr_get_kind(const qc_attr *attr);
/* Defaults when attr is NULL or of another kind: false, 0, 0.0 (an INT reads as float too), "". */
QC_API bool qc_attr_as_bool(const qc_attr *attr);
QC_API int64_t qc_attr_as_int(const qc_attr *attr);
QC_API double qc_attr_as_float(const qc_attr *attr);
QC_API const char *qc_attr_as_text(const qc_attr *attr);               /* STRING, WORD, SYMBOL (without @) */
QC_API size_t qc_attr_count(const qc_attr *attr);                      /* LIST, MAP, DATA */
QC_API const qc_attr *qc_attr_item(const qc_attr *attr, size_t index); /* LIST, MAP */
QC_API const char *qc_attr_key(const qc_attr *attr, size_t index);     /* MAP */
QC_API const qc_attr *qc_attr_find(const qc_attr *map, const char *key);
QC_API qc_dtype qc_attr_data_dtype(const qc_attr *attr);
QC_API const void *qc_attr_data_bytes(const qc_attr *attr);
QC_API bool qc_attr_equal(const qc_attr *a, const qc_attr *b);

/* ---- modules ------------------------------------------------------------------------------------------- */

QC_API qc_module *qc_module_create(qc_ctx *ctx);
QC_API void qc_module_destroy(qc_module *module);
QC_API qc_ctx *qc_module_ctx(const qc_module *module);
/* A deep copy in the same context. */
QC_API qc_module *qc_module_clone(const qc_module *module);
/* Declares a dimension symbol (once); needed before types that use it are printed. */
QC_API void qc_module_declare_dim(qc_module *module, const char *name);
QC_API qc_func *qc_module_func(const qc_module *module, const char *name); /* NULL when absent */
QC_API qc_func *qc_module_first_func(const qc_module *module);
QC_API qc_func *qc_func_next(const qc_func *func);

/* Where the weights come from: a directory, and the shards with sizes and the SHA-256 of each header. */
QC_API const char *qc_module_source(const qc_module *module); /* NULL when none */
QC_API void qc_module_set_source(qc_module *module, const char *path);
QC_API void qc_module_add_shard(
    qc_module *module, const char *name, uint64_t size_bytes, const char *header_sha256);
QC_API size_t qc_module_shard_count(const qc_module *module);
/* The name of a shard; NULL when out of range. */
QC_API const char *qc_module_shard(
    const qc_module *module, size_t index, uint64_t *size_bytes, const char **header_sha256);

/* The module tree, in the order PyTorch's named_modules() has; the root has path "". */
QC_API qc_node *qc_module_add_node(qc_module *module, const char *path, const char *class_name);
/* The same, behind `after` in that order. */
QC_API qc_node *qc_module_insert_node(
    qc_module *module, qc_node *after, const char *path, const char *class_name);
/* The module in this place is another one, of this class and without tensors of its own. */
QC_API void qc_node_replace(qc_node *node, const char *class_name);
QC_API qc_node *qc_module_find_node(const qc_module *module, const char *path);
QC_API qc_node *qc_module_first_node(const qc_module *module);
QC_API qc_node *qc_node_next(const qc_node *node); /* in tree order */
QC_API const char *qc_node_path(const qc_node *node);
QC_API const char *qc_node_class(const qc_node *node);
QC_API qc_node *qc_node_parent(const qc_node *node); /* NULL for the root */
/* The other path that targets may name the node by, where the library that recipes are written for calls the module
 * otherwise than the checkpoint does; NULL: none. Nodes made below a node with an alias have one that begins with it. */
QC_API const char *qc_node_alias(const qc_node *node);
/* To be set before there are nodes below; the root has none. */
QC_API void qc_node_set_alias(qc_node *node, const char *path);
/* Parameters and buffers that the checkpoint stores for this node, by their short names. */
QC_API void qc_node_add_tensor(qc_node *node, const char *name);
QC_API size_t qc_node_tensor_count(const qc_node *node);
QC_API const char *qc_node_tensor(const qc_node *node, size_t index);

/* Symbols: kind is "scheme", "kv_scheme", "transform" or "import" (how the module came to be); `fields` is a map. */
QC_API qc_symbol *qc_module_add_symbol(qc_module *module, const char *kind, const char *name,
    const qc_attr *fields); /* NULL when the name is taken */
QC_API qc_symbol *qc_module_find_symbol(const qc_module *module, const char *name);
QC_API qc_symbol *qc_module_first_symbol(const qc_module *module);
QC_API qc_symbol *qc_symbol_next(const qc_symbol *symbol);
QC_API const char *qc_symbol_kind(const qc_symbol *symbol);
QC_API const char *qc_symbol_name(const qc_symbol *symbol);
QC_API const qc_attr *qc_symbol_fields(const qc_symbol *symbol);
QC_API void qc_symbol_set_fields(qc_symbol *symbol, const qc_attr *fields);
/* Does a module-tree node match a target as recipes write it: "re:PATTERN" (Python's re.match on the path),
 * the whole path, or the class name? Its alias is a path as good as the other. A bad pattern never matches; check it with
 * qc_target_check first. */
QC_API bool qc_node_matches(const qc_node *node, const char *target);
/* The same by the path of the checkpoint alone, as those match who read names out of files. */
QC_API bool qc_node_matches_stored(const qc_node *node, const char *target);
/* Is this the whole path, or the alias? */
QC_API bool qc_node_is_named(const qc_node *node, const char *path);
QC_API qc_status qc_target_check(qc_ctx *ctx, const char *target);

/* ---- functions, operations, values --------------------------------------------------------------------- */

QC_API qc_func *qc_module_add_func(qc_module *module, const char *name);
QC_API const char *qc_func_name(const qc_func *func);
QC_API qc_module *qc_func_module(const qc_func *func);
QC_API qc_value *qc_func_add_argument(qc_func *func, const char *hint, const qc_type *type);
QC_API size_t qc_func_argument_count(const qc_func *func);
QC_API qc_value *qc_func_argument(const qc_func *func, size_t index);
QC_API void qc_func_add_result(qc_func *func, qc_value *value);
QC_API size_t qc_func_result_count(const qc_func *func);
QC_API qc_value *qc_func_result(const qc_func *func, size_t index);
QC_API qc_op *qc_func_first_op(const qc_func *func);
QC_API qc_op *qc_func_last_op(const qc_func *func);

QC_API qc_op *qc_op_next(const qc_op *op);
QC_API qc_op *qc_op_prev(const qc_op *op);
QC_API const char *qc_op_name(const qc_op *op);
QC_API bool qc_op_is(const qc_op *op, const char *name);
QC_API qc_func *qc_op_func(const qc_op *op);
QC_API qc_node *qc_op_node(const qc_op *op); /* where in the module tree it comes from; may be NULL */
QC_API void qc_op_set_node(qc_op *op, qc_node *node);
/* Operand slots in table order; an absent optional operand is NULL. Variadic operands are the last slots. */
QC_API size_t qc_op_operand_count(const qc_op *op);
QC_API qc_value *qc_op_operand(const qc_op *op, size_t slot);
QC_API qc_value *qc_op_operand_named(const qc_op *op, const char *name); /* NULL when absent */
QC_API void qc_op_set_operand(qc_op *op, size_t slot, qc_value *value);
/* NULL takes an optional operand away. False when the op has no such operand. */
QC_API bool qc_op_set_operand_named(qc_op *op, const char *name, qc_value *value);
/* The name of the slot in the op table ("xs" for each of variadic operands); NULL when out of range. */
QC_API const char *qc_op_operand_name(const qc_op *op, size_t slot);
QC_API size_t qc_op_result_count(const qc_op *op);
QC_API qc_value *qc_op_result(const qc_op *op, size_t index);
/* The attribute, or its default from the op table; NULL when there is neither. */
QC_API const qc_attr *qc_op_attr(const qc_op *op, const char *name);
/* NULL takes the attribute away (back to its default). False when the op has no such attribute. */
QC_API bool qc_op_set_attr(qc_op *op, const char *name, const qc_attr *value);
/* Is the attribute written on this op (and not merely its default)? */
QC_API bool qc_op_attr_given(const qc_op *op, const char *name);
/* Unlinks an op whose results have no uses. */
QC_API void qc_op_erase(qc_op *op);
QC_API void qc_op_move_before(qc_op *op, qc_op *before);
/* Does the op change or read state, or must it stay for another reason than its results? */
QC_API bool qc_op_has_effect(const qc_op *op);
/* The traits of docs/ops.md. */
QC_API bool qc_op_keeps_identity(const qc_op *op);
QC_API bool qc_op_is_independent(const qc_op *op);
QC_API bool qc_op_is_elementwise(const qc_op *op);
/* Is the result type written on the op (qc_make_type), because it cannot be inferred? */
QC_API bool qc_op_is_typed(const qc_op *op);
/* The attributes that this op's row declares, by index. */
QC_API size_t qc_op_attr_count(const qc_op *op);
QC_API const char *qc_op_attr_name(const qc_op *op, size_t index);

QC_API const qc_type *qc_value_type(const qc_value *value);
QC_API qc_op *qc_value_op(const qc_value *value); /* NULL for a function argument */
QC_API const char *qc_value_hint(const qc_value *value);
QC_API void qc_value_set_hint(qc_value *value, const char *hint);
QC_API size_t qc_value_use_count(const qc_value *value);
/* The i-th use in unspecified order; the slot is the operand slot (results of the function are not counted).
 */
QC_API qc_op *qc_value_use(const qc_value *value, size_t index, size_t *slot);
/* Every use, function results included, becomes a use of `with`. */
QC_API void qc_value_replace_all_uses(qc_value *value, qc_value *with);

/* ---- text ---------------------------------------------------------------------------------------------- */

/* Parses IR text; `name` is the file's name in diagnostics. NULL after exactly one error. The text may go. */
QC_API qc_module *qc_module_parse(qc_ctx *ctx, const char *name, const char *text, size_t length);
/* The canonical text; free with qc_text_free. */
QC_API char *qc_module_print(const qc_module *module, size_t *length);
QC_API void qc_text_free(char *text);
/* Checks every invariant; errors name line and column of the printed IR. `after` says what ran last, or NULL.
 */
QC_API qc_status qc_module_verify(const qc_module *module, const char *after);

#ifdef __cplusplus
}
#endif
#endif
