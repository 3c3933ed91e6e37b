/* SPDX-License-Identifier: MIT
 *
 * infer_quant.c - types and invariants of the ops of quantization. What a scheme says is read by scheme.h; here is
 * which shapes follow from it. A scale of granularity group or block counts its columns in groups, the last of
 * which may be short.
 *
 * A bank is [E, rows, columns], the weights of E experts. With `experts = E` each of them is a tensor of its own, and
 * what one of them has as [..] the bank has as [E, ..], with [1] as [E, 1, 1].
 */
#include "ir/experts.h"
#include "ir/ir.h"
#include "ir/scheme.h"
#include "op_table.h"

static qc_ctx *ctx_of(const qc_op *op)
{
    return op->func->module->ctx;
}

static const qc_type *operand_type(const qc_op *op, size_t slot)
{
    const qc_value *value = qc_op_operand(op, slot);
    return value ? value->type : NULL;
}

#define FAIL(...) return qc_error(&ctx_of(op)->diag, where, __VA_ARGS__)

static bool word_is(const qc_op *op, const char *attr, const char *word)
{
    return strcmp(qc_attr_as_text(qc_op_attr(op, attr)), word) == 0;
}

static qc_status read_part(const qc_op *op, const char *where, qc_scheme_part *part)
{
    return qc_scheme_read(&ctx_of(op)->diag, where, op->func->module,
        qc_attr_as_text(qc_op_attr(op, "scheme")), qc_attr_as_text(qc_op_attr(op, "arg")), part);
}

static bool are_statistics(const qc_op *op, const qc_type *x, int rank)
{
    return x->rank == rank && x->dims[0] == qc_dim_int(ctx_of(op), 2);
}

static int64_t experts_of(const qc_op *op)
{
    return qc_attr_as_int(qc_op_attr(op, "experts"));
}

/* [E, rows, columns] */
static bool is_bank(const qc_op *op, const qc_type *x)
{
    return x->rank == 3 && x->dims[0] == qc_dim_int(ctx_of(op), experts_of(op));
}

/* Of statistics, x is [2, E]. */
static qc_status check_experts(const qc_op *op, const char *where, const qc_type *x, bool stat)
{
    const char *name = op->info->name;
    int64_t experts = experts_of(op);
    if (experts < 0)
        FAIL("%s: experts must not be negative", name);
    if (experts > 0 && stat && (!are_statistics(op, x, 2) || x->dims[1] != qc_dim_int(ctx_of(op), experts)))
        FAIL("%s: statistics of %lld experts must be [2, %lld], not %s", name, (long long)experts,
            (long long)experts, x->text);
    if (experts > 0 && !stat && !is_bank(op, x))
        FAIL("%s: the weights of %lld experts must be [%lld, rows, columns], not %s", name,
            (long long)experts, (long long)experts, x->text);
    return QC_OK;
}

/* A global scale is f32[1], or one a row of x [rows, columns], or one an expert of a bank. */
static qc_status check_global(
    const qc_op *op, const char *where, const qc_type *x, const qc_type *global, const char *name)
{
    const qc_dim *one = qc_dim_int(ctx_of(op), 1);
    if (!global)
        return QC_OK;
    bool fits = global->dtype == QC_F32;
    if (global->rank == 1)
        fits = fits && global->dims[0] == one;
    else
        fits = fits && global->rank == x->rank && (x->rank == 2 || x->rank == 3) &&
               global->dims[0] == x->dims[0] && global->dims[1] == one && global->dims[x->rank - 1] == one;
    if (!fits)
        FAIL("%s: a global scale is f32[1]%s, not %s", name,
            x->rank == 2   ? " or one a row"
            : x->rank == 3 ? " or one an expert"
                           : "",
            global->text);
    return QC_OK;
}

/* ---- observe ------------------------------------------------------------------------------------------- */

static bool observes_moments(const qc_op *op)
{
    return word_is(op, "observer", "imatrix") || word_is(op, "observer", "mean");
}

/* x [R, n], rows [3, R], w [E, out, n] */
static qc_status infer_observe_experts(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0), *rows = operand_type(op, 1), *w = operand_type(op, 2);
    qc_ctx *ctx = ctx_of(op);
    if (!rows || experts_of(op) < 1)
        FAIL("observe: granularity expert needs rows, and how many experts there are");
    if (x->rank != 2 || rows->rank != 2 || rows->dims[0] != qc_dim_int(ctx, 3) || rows->dims[1] != x->dims[0])
        FAIL("observe: rows %s do not fit x %s", rows->text, x->text);
    if (w && (!is_bank(op, w) || w->dims[2] != x->dims[1]))
        FAIL("observe: w %s is not [%lld, rows, columns of x %s]", w->text, (long long)experts_of(op),
            x->text);
    const qc_dim *dims[2] = {qc_dim_int(ctx, 2), qc_dim_int(ctx, experts_of(op))};
    types[0] = qc_type_make(ctx, where, x->dtype, 2, dims);
    return types[0] ? QC_OK : QC_ERROR;
}

qc_status qc_infer_observe(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0);
    qc_ctx *ctx = ctx_of(op);
    const qc_dim *one = qc_dim_int(ctx, 1);
    bool head = word_is(op, "granularity", "head"), channel = word_is(op, "granularity", "channel");
    if (word_is(op, "granularity", "expert"))
        return infer_observe_experts(op, where, types);
    if (operand_type(op, 1) || operand_type(op, 2) || experts_of(op))
        FAIL("observe: rows, w and experts are for granularity expert");
    if ((head || (channel && !observes_moments(op))) && x->rank != 4)
        FAIL("observe: granularity %s needs x [B, heads, S, d], not %s", head ? "head" : "channel", x->text);
    if (channel && x->rank < 1)
        FAIL("observe: granularity channel needs columns, x is %s", x->text);
    const qc_dim *columns = channel ? x->dims[x->rank - 1] : NULL;
    if (channel && observes_moments(op)) {
        const qc_dim *dims[3] = {x->rank == 4 ? x->dims[1] : columns, one, columns};
        types[0] = qc_type_make(ctx, where, QC_F32, x->rank == 4 ? 3 : 1, dims);
    } else {
        const qc_dim *dims[3] = {qc_dim_int(ctx, 2), head || channel ? x->dims[1] : one, columns};
        types[0] = qc_type_make(ctx, where, x->dtype, channel ? 3 : 2, dims);
    }
    return types[0] ? QC_OK : QC_ERROR;
}

/* Is a share of values, by its name in `args`, above 0 and at most `most`? */
static bool is_share(const qc_op *op, const char *name, double most)
{
    const qc_attr *value = qc_attr_find(qc_op_attr(op, "args"), name);
    return !value || (qc_attr_as_float(value) > 0 && qc_attr_as_float(value) <= most);
}

qc_status qc_verify_observe(const qc_op *op, const char *where)
{
    bool channel = word_is(op, "granularity", "channel");
    bool searches = strstr(qc_attr_as_text(qc_op_attr(op, "observer")), "mse") != NULL;
    double averaging = qc_attr_as_float(qc_op_attr(op, "averaging"));
    qc_scheme_part part;
    if (observes_moments(op) && !channel)
        FAIL("observe: observer %s needs granularity channel", qc_attr_as_text(qc_op_attr(op, "observer")));
    if (channel && !observes_moments(op) && !word_is(op, "observer", "static_minmax"))
        FAIL("observe: granularity channel knows the observers static_minmax, imatrix and mean");
    if (!(averaging > 0 && averaging <= 1))
        FAIL("observe: averaging must be above 0 and at most 1, not %g", averaging);
    if (!is_share(op, "percentile", 100) || !is_share(op, "recall", 1))
        FAIL("observe: percentile must be above 0 and at most 100, recall above 0 and at most 1");
    if (searches && !qc_op_attr(op, "scheme"))
        FAIL("observe: an observer that searches needs the scheme that it searches for");
    if (word_is(op, "granularity", "expert") &&
        !qc_expert_name_is_valid(qc_attr_as_text(qc_op_attr(op, "tap"))))
        FAIL("observe: the tap of all experts must have {e} once, for the number of the expert");
    if (qc_attr_as_int(qc_op_attr(op, "min_tokens")) < 1)
        FAIL("observe: min_tokens must be at least 1");
    if (word_is(op, "fallback", "weights") && !operand_type(op, 2))
        FAIL("observe: fallback weights needs w");
    return searches ? read_part(op, where, &part) : QC_OK;
}

/* ---- scales -------------------------------------------------------------------------------------------- */

static const qc_dim *pieces(qc_ctx *ctx, const qc_dim *dim, int64_t size)
{
    return qc_dim_floordiv(ctx, qc_dim_add(ctx, dim, qc_dim_int(ctx, size - 1)), size);
}

/* The shape of scale and zero point of a bank: that of each expert, behind the number of experts. */
static qc_status bank_scale_type(
    qc_op *op, const char *where, const qc_scheme_part *part, qc_dtype dtype, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0);
    qc_ctx *ctx = ctx_of(op);
    bool stat = word_is(op, "from", "stat");
    const qc_dim *one = qc_dim_int(ctx, 1), *dims[3] = {qc_dim_int(ctx, experts_of(op)), one, one};
    if (check_experts(op, where, x, stat) != QC_OK)
        return QC_ERROR;
    if (part->granularity == QC_GRANULARITY_HEAD)
        FAIL("%s: granularity head is not for experts", op->info->name);
    if (stat && part->granularity != QC_GRANULARITY_TENSOR)
        FAIL("%s: granularity %s needs data, not statistics", op->info->name,
            qc_granularity_name(part->granularity));
    if (part->granularity == QC_GRANULARITY_BLOCK)
        dims[1] = pieces(ctx, x->dims[1], part->block_rows);
    else if (part->granularity != QC_GRANULARITY_TENSOR)
        dims[1] = x->dims[1];
    if (part->granularity == QC_GRANULARITY_BLOCK || part->granularity == QC_GRANULARITY_GROUP)
        dims[2] = pieces(ctx, x->dims[2],
            part->granularity == QC_GRANULARITY_GROUP ? part->group_elems : part->block_columns);
    types[0] = qc_type_make(ctx, where, dtype, 3, dims);
    return types[0] ? QC_OK : QC_ERROR;
}

/* The shape of scale and zero point; `name` is the op's. */
static qc_status scale_type(
    qc_op *op, const char *where, const qc_scheme_part *part, qc_dtype dtype, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0);
    const char *name = op->info->name;
    qc_ctx *ctx = ctx_of(op);
    const qc_dim *one = qc_dim_int(ctx, 1), *dims[QC_MAX_RANK];
    bool stat = word_is(op, "from", "stat"), channel = part->granularity == QC_GRANULARITY_CHANNEL;
    int rank = 0;
    if (experts_of(op))
        return bank_scale_type(op, where, part, dtype, types);
    if (stat && !are_statistics(op, x, 3) && (channel || !are_statistics(op, x, 2)))
        FAIL("%s: statistics must be %s[2, heads, d], not %s", name, channel ? "" : "[2, n] or ", x->text);
    if (stat && !channel && part->granularity != QC_GRANULARITY_TENSOR &&
        part->granularity != QC_GRANULARITY_HEAD)
        FAIL("%s: granularity %s needs data, not statistics", name, qc_granularity_name(part->granularity));
    switch (part->granularity) {
    case QC_GRANULARITY_TENSOR:
        dims[rank++] = one;
        break;
    case QC_GRANULARITY_HEAD:
        if (!stat && x->rank != 4)
            FAIL("%s: granularity head needs x [B, heads, S, d], not %s", name, x->text);
        dims[0] = x->dims[1], dims[1] = one, dims[2] = one, rank = 3;
        break;
    case QC_GRANULARITY_CHANNEL:
        if (x->rank == 2)
            dims[0] = x->dims[0], dims[1] = one, rank = 2;
        else if (x->rank == 4 || stat)
            dims[0] = x->dims[1], dims[1] = one, dims[2] = x->dims[x->rank - 1], rank = 3;
        else
            FAIL("%s: granularity channel needs a weight [rows, columns] or x [B, heads, S, d], not %s", name,
                x->text);
        break;
    case QC_GRANULARITY_BLOCK:
        if (x->rank != 2)
            FAIL("%s: granularity block needs a weight [rows, columns], not %s", name, x->text);
        dims[0] = pieces(ctx, x->dims[0], part->block_rows);
        dims[1] = pieces(ctx, x->dims[1], part->block_columns), rank = 2;
        break;
    case QC_GRANULARITY_TOKEN:
    case QC_GRANULARITY_GROUP:
        if (x->rank < 1)
            FAIL("%s: granularity %s needs columns, x is %s", name, qc_granularity_name(part->granularity),
                x->text);
        for (rank = 0; rank < x->rank; rank++)
            dims[rank] = x->dims[rank];
        dims[rank - 1] =
            part->granularity == QC_GRANULARITY_TOKEN ? one : pieces(ctx, dims[rank - 1], part->group_elems);
        break;
    }
    types[0] = qc_type_make(ctx, where, dtype, rank, dims);
    return types[0] ? QC_OK : QC_ERROR;
}

qc_status qc_infer_qparams(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0), *global = operand_type(op, 1);
    qc_scheme_part part;
    if (read_part(op, where, &part) != QC_OK)
        return QC_ERROR;
    if (part.global != (global != NULL))
        FAIL("qparams: @%s %s global scale", qc_attr_as_text(qc_op_attr(op, "scheme")),
            part.global ? "needs a" : "knows no");
    if (check_global(op, where, x, global, "qparams") != QC_OK)
        return QC_ERROR;
    return scale_type(op, where, &part, part.scale_type == QC_DTYPE_NONE ? x->dtype : part.scale_type, types);
}

qc_status qc_infer_zero_point(qc_op *op, const char *where, const qc_type **types)
{
    qc_scheme_part part;
    if (read_part(op, where, &part) != QC_OK)
        return QC_ERROR;
    if (part.symmetric)
        FAIL("zero_point: @%s is symmetric", qc_attr_as_text(qc_op_attr(op, "scheme")));
    return scale_type(op, where, &part, part.zero_point_type, types);
}

qc_status qc_infer_global_scale(qc_op *op, const char *where, const qc_type **types)
{
    const qc_dim *one = qc_dim_int(ctx_of(op), 1);
    qc_scheme_part part;
    if (read_part(op, where, &part) != QC_OK)
        return QC_ERROR;
    if (!part.global)
        FAIL("global_scale: @%s knows no global scale", qc_attr_as_text(qc_op_attr(op, "scheme")));
    if (op->operand_count < 2)
        FAIL("global_scale: it needs at least one operand");
    bool stat = word_is(op, "from", "stat");
    for (uint32_t i = 1; i < op->operand_count; i++) {
        const qc_type *x = operand_type(op, i);
        if (check_experts(op, where, x, stat) != QC_OK)
            return QC_ERROR;
        if (stat && !are_statistics(op, x, 2) && !are_statistics(op, x, 3))
            FAIL("global_scale: statistics must be [2, n] or [2, heads, d], not %s", x->text);
    }
    const qc_dim *dims[3] = {experts_of(op) ? qc_dim_int(ctx_of(op), experts_of(op)) : one, one, one};
    types[0] = qc_type_make(ctx_of(op), where, QC_F32, experts_of(op) ? 3 : 1, dims);
    return types[0] ? QC_OK : QC_ERROR;
}

/* ---- codes --------------------------------------------------------------------------------------------- */

bool qc_scale_fits(qc_ctx *ctx, const qc_type *x, const qc_type *scale, int64_t group)
{
    const qc_dim *one = qc_dim_int(ctx, 1);
    if (scale->rank > x->rank || (group && scale->rank != x->rank))
        return false;
    for (int i = 1; i <= scale->rank; i++) {
        const qc_dim *s = scale->dims[scale->rank - i], *d = x->dims[x->rank - i];
        if (group && i == 1 ? s != pieces(ctx, d, group) : s != d && (group || s != one))
            return false;
    }
    return true;
}

/* `group` and the block's sizes are 0 where there are none. */
static qc_status check_scale(
    const qc_op *op, const char *where, int64_t group, int64_t block_rows, int64_t block_columns)
{
    const qc_type *x = operand_type(op, 0), *scale = operand_type(op, 1), *global = operand_type(op, 2),
                  *zero = operand_type(op, 3);
    const char *name = op->info->name;
    qc_ctx *ctx = ctx_of(op);
    bool fits;
    if (block_rows) {
        int rows = x->rank - 2; /* the first dimension of a bank counts experts */
        fits = (x->rank == 2 || x->rank == 3) && scale->rank == x->rank &&
               (x->rank == 2 || scale->dims[0] == x->dims[0]) &&
               scale->dims[rows] == pieces(ctx, x->dims[rows], block_rows) &&
               scale->dims[rows + 1] == pieces(ctx, x->dims[rows + 1], block_columns);
    } else {
        fits = (x->rank >= 1 || !group) && qc_scale_fits(ctx, x, scale, group);
    }
    if (!fits && !group && !block_rows)
        FAIL("%s: scale %s does not broadcast to x %s", name, scale->text, x->text);
    if (!fits)
        FAIL("%s: scale %s is not one a %s of x %s", name, scale->text, group ? "group" : "block", x->text);
    if (check_global(op, where, x, global, name) != QC_OK)
        return QC_ERROR;
    bool same = !zero || zero->rank == scale->rank;
    for (int i = 0; zero && same && i < zero->rank; i++)
        same = zero->dims[i] == scale->dims[i];
    if (!same)
        FAIL("%s: zero_point %s has not the shape of scale %s", name, zero->text, scale->text);
    return QC_OK;
}

qc_status qc_infer_quantize(qc_op *op, const char *where, const qc_type **types)
{
    qc_scheme_part part;
    const char *scheme = qc_attr_as_text(qc_op_attr(op, "scheme"));
    if (read_part(op, where, &part) != QC_OK)
        return QC_ERROR;
    if (part.global != (operand_type(op, 2) != NULL))
        FAIL("quantize: @%s %s global scale", scheme, part.global ? "needs a" : "knows no");
    if (part.symmetric != (operand_type(op, 3) == NULL))
        FAIL("quantize: @%s %s zero point", scheme, part.symmetric ? "knows no" : "needs a");
    if (check_scale(op, where, part.group_elems, part.block_rows, part.block_columns) != QC_OK)
        return QC_ERROR;
    types[0] = qc_type_with_dtype(ctx_of(op), operand_type(op, 0), part.type);
    return types[0] ? QC_OK : QC_ERROR;
}

/* The two sizes of the attribute `block`; 0, 0 without it. */
static qc_status read_block(const qc_op *op, const char *where, int64_t *rows, int64_t *columns)
{
    const qc_attr *block = qc_op_attr(op, "block");
    *rows = *columns = 0;
    if (qc_attr_count(block) == 0)
        return QC_OK;
    *rows = qc_attr_as_int(qc_attr_item(block, 0));
    *columns = qc_attr_count(block) == 2 ? qc_attr_as_int(qc_attr_item(block, 1)) : 0;
    if (*rows < 1 || *columns < 1)
        FAIL("dequantize: block must be [rows, columns], each at least 1");
    return QC_OK;
}

qc_status qc_infer_dequantize(qc_op *op, const char *where, const qc_type **types)
{
    const char *name = qc_attr_as_text(qc_op_attr(op, "to"));
    qc_dtype to = qc_dtype_from_name(name, strlen(name));
    int64_t group = qc_attr_as_int(qc_op_attr(op, "group")), rows, columns;
    if (!qc_dtype_is_float(to))
        FAIL("dequantize: to must be a float type");
    if (group < 0)
        FAIL("dequantize: group must not be negative");
    if (read_block(op, where, &rows, &columns) != QC_OK)
        return QC_ERROR;
    if (group && rows)
        FAIL("dequantize: group and block exclude each other");
    if (check_scale(op, where, group, rows, columns) != QC_OK)
        return QC_ERROR;
    types[0] = qc_type_with_dtype(ctx_of(op), operand_type(op, 0), to);
    return types[0] ? QC_OK : QC_ERROR;
}

static qc_status verify_scheme_symbol(const qc_op *op, const char *where)
{
    const char *name = qc_attr_as_text(qc_op_attr(op, "scheme"));
    const qc_symbol *symbol = qc_module_find_symbol(op->func->module, name);
    if (!symbol || (strcmp(symbol->kind, "scheme") != 0 && strcmp(symbol->kind, "kv_scheme") != 0))
        FAIL("%s: @%s is not a scheme", op->info->name, name);
    return QC_OK;
}

/* `importance` (may be NULL) has one number for each column of x, of a bank perhaps for those of each expert. */
static qc_status verify_importance(
    const qc_op *op, const char *where, const qc_type *importance, const qc_type *x)
{
    bool each = importance && importance->rank == 2 && experts_of(op) && importance->dims[0] == x->dims[0];
    if (importance && ((importance->rank != 1 && !each) || x->rank < 1 ||
                          importance->dims[importance->rank - 1] != x->dims[x->rank - 1]))
        FAIL("%s: importance %s is not one number a column of %s", op->info->name, importance->text, x->text);
    return verify_scheme_symbol(op, where);
}

qc_status qc_verify_qparams(const qc_op *op, const char *where)
{
    return verify_importance(op, where, operand_type(op, 2), operand_type(op, 0));
}

qc_status qc_verify_zero_point(const qc_op *op, const char *where)
{
    return verify_importance(op, where, operand_type(op, 1), operand_type(op, 0));
}

qc_status qc_verify_global_scale(const qc_op *op, const char *where)
{
    for (uint32_t i = 1; i < op->operand_count; i++)
        if (verify_importance(op, where, operand_type(op, 0), operand_type(op, i)) != QC_OK)
            return QC_ERROR;
    return QC_OK;
}

qc_status qc_verify_quantize(const qc_op *op, const char *where)
{
    if (verify_scheme_symbol(op, where) != QC_OK ||
        qc_verify_scale(op, where, qc_op_operand(op, 2), "global") != QC_OK)
        return QC_ERROR;
    return qc_verify_scale(op, where, qc_op_operand(op, 1), "scale");
}

qc_status qc_verify_dequantize(const qc_op *op, const char *where)
{
    if (qc_verify_scale(op, where, qc_op_operand(op, 2), "global") != QC_OK)
        return QC_ERROR;
    return qc_verify_scale(op, where, qc_op_operand(op, 1), "scale");
}

/* ---- unpack -------------------------------------------------------------------------------------------- */

qc_status qc_verify_unpack(const qc_op *op, const char *where)
{
    const qc_type *x = operand_type(op, 0), *y = op->results[0].type;
    int64_t axis = qc_attr_as_int(qc_op_attr(op, "axis")), from[QC_MAX_RANK], to[QC_MAX_RANK];
    int bits = qc_dtype_bits(y->dtype), rank = x->rank;
    bool bytes = y->dtype == QC_F4E2M1 || y->dtype == QC_F8E8M0;
    if (!bytes && !(qc_dtype_is_int(y->dtype) && bits >= 2 && bits <= 8 && y->dtype != QC_U8))
        FAIL("unpack: the result must be f4e2m1, f8e8m0 or i2 to i8, not %s", y->text);
    if (x->dtype != (bytes ? QC_U8 : QC_I32))
        FAIL("unpack: %s comes out of %s, not %s", qc_dtype_name(y->dtype), bytes ? "u8" : "i32", x->text);
    if (rank != 2 && rank != 3)
        FAIL("unpack: x must be [rows, columns] or [experts, rows, columns], not %s", x->text);
    axis += axis < 0 ? rank : 0;
    if (axis != rank - 1 && (axis != rank - 2 || bytes))
        FAIL("unpack: axis must be that of columns, or for integers that of rows, not %lld of %s",
            (long long)qc_attr_as_int(qc_op_attr(op, "axis")), x->text);
    bool fits = y->rank == rank;
    for (int i = 0; fits && i < rank; i++)
        fits = qc_dim_as_int(x->dims[i], &from[i]) && qc_dim_as_int(y->dims[i], &to[i]) && to[i] >= 0 &&
               to[i] <= INT64_MAX / 64;
    for (int i = 0; fits && i < rank; i++) {
        int64_t word_bits = bytes ? 8 : 32;
        fits = from[i] == (i == axis ? (to[i] * bits + word_bits - 1) / word_bits : to[i]);
    }
    if (!fits)
        FAIL("unpack: %s does not hold %s", x->text, y->text);
    return QC_OK;
}

/* ---- caches -------------------------------------------------------------------------------------------- */

qc_status qc_infer_cache_read(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0), *scale = operand_type(op, 1), *global = operand_type(op, 2);
    const char *name = qc_attr_as_text(qc_op_attr(op, "to"));
    qc_dtype to = qc_dtype_from_name(name, strlen(name));
    int64_t group = qc_attr_as_int(qc_op_attr(op, "group"));
    if (!qc_dtype_is_float(to))
        FAIL("cache_read: to must be a float type");
    if (!scale && (global || group))
        FAIL("cache_read: %s but no scale", global ? "a global scale" : "groups");
    if (group < 0 || (scale && !qc_scale_fits(ctx_of(op), x, scale, group)))
        FAIL("cache_read: scale %s does not fit %s", scale ? scale->text : "", x->text);
    types[0] = qc_type_with_dtype(ctx_of(op), x, to);
    return types[0] ? QC_OK : QC_ERROR;
}
