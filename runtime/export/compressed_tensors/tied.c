/* SPDX-License-Identifier: MIT
 *
 * tied.c - input and output embeddings. Where the module of the head stores what that of the table stores, tensor by
 * tensor, they are one table: it is written once, and config.json says that they are tied. A head that takes another
 * form than the table, or the other way round, unties them.
 *
 * What codes and scales hold is not computed for this: they are equal when they come in the same way from equal bytes.
 */
#include <string.h>

#include "ir/support/io.h"
#include "runtime/export/compressed_tensors/internal.h"

static bool is_plain_weight(const qc_value *value, const char **name)
{
    const qc_op *op = value ? qc_value_op(value) : NULL;
    if (!op || !qc_op_is(op, "weight"))
        return false;
    *name = qc_attr_as_text(qc_op_attr(op, "tensor"));
    return true;
}

/* The name of the input embedding's table, and whether some linear layer computes with that same tensor. */
static const char *find_table(ct_plan *plan, bool *shared)
{
    const char *table = NULL, *name;
    *shared = false;
    for (const qc_func *f = qc_module_first_func(plan->module); f; f = qc_func_next(f)) {
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op)) {
            if (!table && qc_op_is(op, "embedding")) {
                const qc_node *node = qc_op_node(op);
                table = node ? qc_arena_printf(&plan->arena, "%s.weight", qc_node_path(node)) : NULL;
            } else if (table && qc_op_is(op, "linear") &&
                       is_plain_weight(qc_op_operand_named(op, "w"), &name)) {
                *shared = *shared || strcmp(name, table) == 0;
            }
        }
    }
    return table;
}

static qc_status equal_bytes(ct_plan *plan, const qc_st_tensor *a, const qc_st_tensor *b, bool *equal)
{
    enum { BLOCK = 1 << 16 };
    const qc_st_set *set = qc_weights_tensors(plan->weights);
    const qc_st_file *fa = &set->files[a->file], *fb = &set->files[b->file];
    qc_diag *diag = qc_ctx_diag(plan->ctx);
    char *x = qc_arena_alloc(&plan->arena, BLOCK), *y = qc_arena_alloc(&plan->arena, BLOCK);
    *equal = a->size_bytes == b->size_bytes;
    for (uint64_t at = 0; *equal && at < a->size_bytes; at += BLOCK) {
        size_t n = a->size_bytes - at < BLOCK ? (size_t)(a->size_bytes - at) : BLOCK;
        if (qc_pread_all(diag, fa->fd, fa->path, x, n, a->offset_bytes + at) != QC_OK ||
            qc_pread_all(diag, fb->fd, fb->path, y, n, b->offset_bytes + at) != QC_OK)
            return QC_ERROR;
        *equal = memcmp(x, y, n) == 0;
    }
    return QC_OK;
}

/* ---- codes --------------------------------------------------------------------------------------------- */

/* The same element type, granularity, observer ... of weights, in the same arithmetic. */
static bool same_scheme(const ct_plan *plan, const qc_op *a, const qc_op *b)
{
    static const char *const fields[] = {"arith", "weights"};
    const qc_symbol *x = qc_module_find_symbol(plan->module, ct_text_attr(a, "scheme")),
                    *y = qc_module_find_symbol(plan->module, ct_text_attr(b, "scheme"));
    bool same = x && y && strcmp(ct_text_attr(a, "arg"), "weights") == 0 &&
                strcmp(ct_text_attr(b, "arg"), "weights") == 0;
    for (size_t i = 0; same && x != y && i < 2; i++) {
        const qc_attr *of_x = qc_attr_find(qc_symbol_fields(x), fields[i]),
                      *of_y = qc_attr_find(qc_symbol_fields(y), fields[i]);
        same = of_x && of_y && qc_attr_equal(of_x, of_y);
    }
    return same;
}

/* Two tensors of the source with the same elements. */
static qc_status same_stored(ct_plan *plan, const qc_op *a, const qc_op *b, bool *same)
{
    const qc_st_set *set = qc_weights_tensors(plan->weights);
    const qc_st_tensor *x = qc_st_find(set, ct_text_attr(a, "tensor")),
                       *y = qc_st_find(set, ct_text_attr(b, "tensor"));
    *same = x && x == y;
    if (*same || !x || !y || strcmp(x->dtype, y->dtype) != 0)
        return QC_OK;
    return equal_bytes(plan, x, y, same);
}

/* Do both values come in one way from the same elements? */
static qc_status same_value(ct_plan *plan, const qc_value *x, const qc_value *y, bool *same)
{
    const qc_op *a = x ? qc_value_op(x) : NULL, *b = y ? qc_value_op(y) : NULL;
    *same = x == y;
    if (*same || !a || !b || qc_value_type(x) != qc_value_type(y) || !qc_op_is(a, qc_op_name(b)))
        return QC_OK;
    if (qc_op_is(a, "weight"))
        return same_stored(plan, a, b, same);
    bool scheme = qc_op_is(a, "quantize") || qc_op_is(a, "qparams") || qc_op_is(a, "zero_point") ||
                  qc_op_is(a, "global_scale");
    *same = qc_op_operand_count(a) == qc_op_operand_count(b) &&
            (qc_op_is(a, "cast") || (scheme && same_scheme(plan, a, b)));
    for (size_t i = 0; *same && i < qc_op_operand_count(a); i++)
        if (same_value(plan, qc_op_operand(a, i), qc_op_operand(b, i), same) != QC_OK)
            return QC_ERROR;
    return QC_OK;
}

/* Would both be the same bytes in a file? */
static qc_status same_tensor(ct_plan *plan, const ct_tensor *a, const ct_tensor *b, bool *same)
{
    *same = a == b;
    if (!a || !b || a == b)
        return QC_OK;
    bool alike = strcmp(a->dtype, b->dtype) == 0 && a->rank == b->rank && a->encoding == b->encoding &&
                 a->packing == b->packing && a->source == b->source;
    for (int i = 0; alike && i < a->rank; i++)
        alike = a->shape[i] == b->shape[i];
    if (!alike)
        return QC_OK;
    switch (a->source) {
    case CT_COPY:
        return equal_bytes(plan, a->stored, b->stored, same);
    case CT_BYTES:
        *same = memcmp(a->bytes, b->bytes, 8 * (size_t)a->shape[0]) == 0; /* weight_shape */
        return QC_OK;
    case CT_ZEROS:
        *same = true;
        return QC_OK;
    default:
        return same_value(plan, a->value, b->value, same);
    }
}

/* What the modules of table and head can store. */
static const char *const parts[] = {"weight", "weight_packed", "weight_scale", "weight_zero_point",
    "weight_global_scale", "weight_shape", "bias", "input_scale", "input_zero_point", "input_global_scale"};
enum { PART_COUNT = sizeof parts / sizeof parts[0] };

static const char *part_name(ct_plan *plan, const char *table_name, size_t i, bool head)
{
    int length = (int)(strlen(table_name) - strlen(".weight"));
    return head ? qc_arena_printf(&plan->arena, "lm_head.%s", parts[i])
                : qc_arena_printf(&plan->arena, "%.*s.%s", length, table_name, parts[i]);
}

/* Drops what the head stores when all of it is what the table stores too. */
static qc_status tie_codes(ct_plan *plan, const char *table_name, bool *tied)
{
    *tied = true;
    for (size_t i = 0; *tied && i < PART_COUNT; i++)
        if (same_tensor(plan, qc_map_get(&plan->by_name, part_name(plan, table_name, i, false)),
                qc_map_get(&plan->by_name, part_name(plan, table_name, i, true)), tied) != QC_OK)
            return QC_ERROR;
    for (size_t i = 0; *tied && i < PART_COUNT; i++)
        qc_map_set(&plan->by_name, part_name(plan, table_name, i, true), NULL);
    return QC_OK;
}

/* ---- both ---------------------------------------------------------------------------------------------- */

/* Is the weight of that name stored as packed codes instead? */
static bool is_packed(const ct_plan *plan, const char *name)
{
    qc_arena *arena = (qc_arena *)(uintptr_t)&plan->arena;
    return name && qc_map_get(&plan->by_name, qc_arena_printf(arena, "%s_packed", name));
}

qc_status ct_tie_embeddings(ct_plan *plan)
{
    static const char head_name[] = "lm_head.weight";
    bool shared;
    const char *table_name = find_table(plan, &shared);
    ct_tensor *head = qc_map_get(&plan->by_name, head_name);
    ct_tensor *table = table_name ? qc_map_get(&plan->by_name, table_name) : NULL;
    const bool packed = is_packed(plan, table_name), head_packed = is_packed(plan, head_name);
    if ((!table && !packed) || (head && head == table))
        return QC_OK;
    if (packed || head_packed || table->source != CT_COPY || (head && head->source != CT_COPY)) {
        /* One of them is stored in another form now: they are two tensors, unless both are in the same. */
        if (!head && !head_packed && shared) {
            const qc_st_tensor *stored = qc_st_find(qc_weights_tensors(plan->weights), table_name);
            if (!stored)
                return QC_OK;
            head = QC_NEW(&plan->arena, ct_tensor);
            *head = (ct_tensor){.name = head_name,
                .dtype = stored->dtype,
                .rank = stored->rank,
                .shape = stored->shape,
                .source = CT_COPY,
                .stored = stored};
            qc_map_set(&plan->by_name, head_name, head);
            QC_PUSH(&plan->arena, &plan->tensors, head);
        }
        if (!head && !head_packed)
            return QC_OK;
        bool tied = false;
        if (packed == head_packed && tie_codes(plan, table_name, &tied) != QC_OK)
            return QC_ERROR;
        plan->tie = tied;
        return QC_OK;
    }
    if (!head)
        return QC_OK;
    bool equal = strcmp(head->dtype, table->dtype) == 0 && head->rank == table->rank;
    if (equal && equal_bytes(plan, head->stored, table->stored, &equal) != QC_OK)
        return QC_ERROR;
    if (equal) {
        plan->tie = 1;
        qc_map_set(&plan->by_name, head_name, NULL);
    } else if (plan->kv_only && plan->groups.count == 0) {
        /* A recipe of a kv_cache_scheme alone still targets all of Linear, and llm-compressor unties what it targets. */
        plan->tie = 0;
    }
    return QC_OK;
}
