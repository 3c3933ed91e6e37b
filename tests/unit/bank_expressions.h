/* SPDX-License-Identifier: MIT
 *
 * bank_expressions.h - random expressions of banks, the weights of all experts of a layer, over stored tensors in the
 * layouts that checkpoints have: one tensor an expert or one of all, [out, in] or [in, out], two projections beside or
 * between each other, codes of MXFP4, blocks of FP8 and words of integers with their scales.
 */
#ifndef QC_TESTS_BANK_EXPRESSIONS_H
#define QC_TESTS_BANK_EXPRESSIONS_H

#include "ir/dtype/codec.h"
#include "ir/support/random.h"
#include "ir/support/str.h"
#include "ir/tensor.h"

enum { BANK_TENSORS = 64 };

typedef struct bank_expression {
    qc_arena arena;
    qc_diag diag;
    qc_random random;
    qc_str body;
    int64_t experts, rows, columns; /* of the value that was made last */
    const char *last;               /* its name */
    const char *names[BANK_TENSORS];
    qc_tensor tensors[BANK_TENSORS];
    int tensor_count, value_count;
} bank_expression;

static inline void bank_begin(bank_expression *b, uint64_t seed)
{
    memset(b, 0, sizeof *b);
    qc_arena_init(&b->arena, NULL);
    qc_diag_init(&b->diag, &b->arena, NULL, NULL);
    qc_random_seed(&b->random, seed);
    qc_str_init(&b->body, &b->arena);
}

static inline void bank_end(bank_expression *b)
{
    for (int i = 0; i < b->tensor_count; i++)
        qc_tensor_free(&b->tensors[i]);
    qc_str_fini(&b->body);
    qc_arena_fini(&b->arena);
}

static inline int bank_one_of(bank_expression *b, int count)
{
    return (int)qc_random_below(&b->random, (uint64_t)count);
}

/* What an element of a stored tensor may be, by its role. */
typedef enum bank_content { BANK_NUMBERS, BANK_BITS, BANK_EXPONENTS, BANK_SCALES } bank_content;

static inline void bank_fill(bank_expression *b, bank_content content, qc_tensor *t)
{
    for (int64_t i = 0; i < t->count; i++) {
        float value = (float)(qc_random_unit(&b->random) - 0.5) * 2.0f;
        uint8_t *byte = (uint8_t *)t->data + i;
        if (content == BANK_SCALES)
            value = fabsf(value) * 0.01f + 0.001f;
        if (content == BANK_EXPONENTS)
            *byte = (uint8_t)(120 + qc_random_below(&b->random, 8));
        else if (content == BANK_BITS && t->dtype == QC_I32)
            ((uint32_t *)t->data)[i] = (uint32_t)qc_random_next(&b->random);
        else if (content == BANK_BITS)
            *byte = (uint8_t)qc_random_below(&b->random, 256);
        else
            qc_tensor_write(t, i, 1, &value);
    }
}

static inline void bank_store(
    bank_expression *b, const char *name, qc_dtype dtype, int rank, const int64_t *dims, bank_content content)
{
    qc_tensor *t = &b->tensors[b->tensor_count];
    if (b->tensor_count == BANK_TENSORS || qc_tensor_create(&b->diag, name, dtype, rank, dims, t) != QC_OK) {
        CHECK_FAIL("no tensor %s", name);
        return;
    }
    bank_fill(b, content, t);
    b->names[b->tensor_count++] = qc_arena_strdup(&b->arena, name);
}

/* Begins a line "%vN = ", the value that was made last. */
static inline const char *bank_line(bank_expression *b)
{
    b->last = qc_arena_printf(&b->arena, "%%v%d", b->value_count++);
    qc_str_addf(&b->body, "  %s = ", b->last);
    return b->last;
}

static inline const char *bank_dims(bank_expression *b, const char *dtype, int rank, const int64_t *dims)
{
    const char *text = qc_arena_printf(&b->arena, "%s[", dtype);
    for (int i = 0; i < rank; i++)
        text = qc_arena_printf(&b->arena, "%s%s%lld", text, i ? ", " : "", (long long)dims[i]);
    return qc_arena_printf(&b->arena, "%s]", text);
}

/* A stored bank [E, ...]: one tensor, or one an expert. */
static inline const char *bank_stored(
    bank_expression *b, const char *name, qc_dtype dtype, int rank, const int64_t *dims, bank_content content)
{
    bool fused = bank_one_of(b, 2) == 0;
    const char *value = bank_line(b);
    const char *pattern = qc_arena_printf(&b->arena, fused ? "%s" : "experts.{e}.%s", name);
    if (fused)
        bank_store(b, name, dtype, rank, dims, content);
    for (int64_t e = 0; !fused && e < dims[0]; e++)
        bank_store(b, qc_arena_printf(&b->arena, "experts.%lld.%s", (long long)e, name), dtype, rank - 1,
            dims + 1, content);
    qc_str_addf(&b->body, "%s \"%s\" : %s\n", fused ? "weight" : "expert_weight", pattern,
        bank_dims(b, qc_dtype_name(dtype), rank, dims));
    return value;
}

static inline void bank_is(bank_expression *b, int64_t rows, int64_t columns)
{
    b->rows = rows;
    b->columns = columns;
}

/* Numbers as they are stored: plain, transposed, one of two projections beside or between each other. */
static inline void bank_numbers(bank_expression *b, const char *name, int64_t rows, int64_t columns)
{
    int kind = bank_one_of(b, 5), half = bank_one_of(b, 2);
    int64_t plain[3] = {b->experts, rows, columns}, both[3] = {b->experts, 2 * rows, columns},
            turned[3] = {b->experts, columns, rows}, turned_both[3] = {b->experts, columns, 2 * rows};
    const char *x = bank_stored(b, name, QC_BF16, 3,
        kind == 0   ? plain
        : kind == 1 ? turned
        : kind == 4 ? turned_both
                    : both,
        BANK_NUMBERS);
    bank_is(b, rows, columns);
    if (kind == 0)
        return;
    const int64_t start = kind == 2 ? half * rows : half, stop = kind == 2 ? start + rows : 2 * rows;
    if (kind >= 2) {
        bank_line(b);
        qc_str_addf(&b->body, "slice %s {axis = %d, start = %lld, step = %d, stop = %lld}\n", x,
            kind == 4 ? 2 : 1, (long long)start, kind == 2 ? 1 : 2, (long long)stop);
        x = b->last;
    }
    if (kind == 1 || kind == 4) {
        bank_line(b);
        qc_str_addf(&b->body, "transpose %s {perm = [0, 2, 1]}\n", x);
    }
}

/* gpt-oss: [E, rows, columns / 32, 16] bytes of two codes and [E, rows, columns / 32] exponents. */
static inline void bank_mxfp4(bank_expression *b, int64_t rows, int64_t columns)
{
    int64_t blocks[4] = {b->experts, rows, columns / 32, 16}, scales[3] = {b->experts, rows, columns / 32};
    const char *x = bank_stored(b, "blocks", QC_U8, 4, blocks, BANK_BITS);
    const char *s = bank_stored(b, "scales", QC_U8, 3, scales, BANK_EXPONENTS);
    const char *bytes = bank_line(b);
    qc_str_addf(&b->body, "reshape %s : u8[%lld, %lld, %lld]\n", x, (long long)b->experts, (long long)rows,
        (long long)columns / 2);
    const char *codes = bank_line(b);
    qc_str_addf(&b->body, "unpack %s {axis = 2} : f4e2m1[%lld, %lld, %lld]\n", bytes, (long long)b->experts,
        (long long)rows, (long long)columns);
    const char *scale = bank_line(b);
    qc_str_addf(&b->body, "unpack %s {axis = -1} : f8e8m0[%lld, %lld, %lld]\n", s, (long long)b->experts,
        (long long)rows, (long long)columns / 32);
    const char *real = bank_line(b);
    qc_str_addf(&b->body, "dequantize %s, %s {group = 32, to = bf16}\n", codes, scale);
    bank_is(b, rows, columns);
    if (bank_one_of(b, 2)) { /* gate and up take turns */
        bank_line(b);
        qc_str_addf(&b->body, "slice %s {axis = 1, start = %d, step = 2, stop = %lld}\n", real,
            bank_one_of(b, 2), (long long)rows);
        bank_is(b, rows / 2, columns);
    }
}

/* DeepSeek: f8e4m3 and a scale a block; integers in words and a scale a group. */
static inline void bank_codes(bank_expression *b, int64_t rows, int64_t columns)
{
    if (bank_one_of(b, 2)) {
        int64_t x[3] = {b->experts, rows, columns}, s[3] = {b->experts, (rows + 3) / 4, (columns + 15) / 16};
        const char *codes = bank_stored(b, "weight", QC_F8E4M3, 3, x, BANK_NUMBERS);
        const char *scale = bank_stored(b, "weight_scale_inv", QC_F32, 3, s, BANK_SCALES);
        bank_line(b);
        qc_str_addf(&b->body, "dequantize %s, %s {block = [4, 16], to = bf16}\n", codes, scale);
    } else {
        bool by_rows = rows % 8 == 0 && bank_one_of(b, 2);
        int64_t x[3] = {b->experts, by_rows ? rows / 8 : rows, by_rows ? columns : columns / 8};
        int64_t s[3] = {b->experts, rows, columns / 16};
        const char *words = bank_stored(b, "packed", QC_I32, 3, x, BANK_BITS);
        const char *scale = bank_stored(b, "scale", QC_BF16, 3, s, BANK_SCALES);
        const char *codes = bank_line(b);
        qc_str_addf(&b->body, "unpack %s {axis = %d} : i4[%lld, %lld, %lld]\n", words, by_rows ? 1 : 2,
            (long long)b->experts, (long long)rows, (long long)columns);
        bank_line(b);
        qc_str_addf(&b->body, "dequantize %s, %s {group = 16, to = bf16}\n", codes, scale);
    }
    bank_is(b, rows, columns);
}

/* What rotations and folded norms do to weights. */
static inline void bank_change(bank_expression *b)
{
    const char *x = b->last;
    int64_t vector[1] = {b->columns};
    int kind = bank_one_of(b, 5);
    if (kind == 4) {
        const char *name = qc_arena_printf(&b->arena, "norm.%d", b->value_count);
        bank_store(b, name, QC_BF16, 1, vector, BANK_NUMBERS);
        const char *w = bank_line(b);
        qc_str_addf(&b->body, "weight \"%s\" : bf16[%lld]\n", name, (long long)b->columns);
        const char *wide = bank_line(b), *factors = NULL;
        qc_str_addf(&b->body, "cast %s {to = f32}\n", x);
        factors = bank_line(b);
        qc_str_addf(&b->body, "cast %s {to = f32}\n", w);
        const char *product = bank_line(b);
        qc_str_addf(&b->body, "mul %s, %s\n", wide, factors);
        bank_line(b);
        qc_str_addf(&b->body, "cast %s {to = bf16}\n", product);
        return;
    }
    bank_line(b);
    if (kind == 0)
        qc_str_addf(&b->body, "hadamard %s {compute = f64, size = %d}\n", x, b->columns % 32 ? 16 : 32);
    else if (kind == 1 && b->rows % 4 == 0)
        qc_str_addf(
            &b->body, "hadamard %s {axis = 1, compute = f64, matrix = random_hadamard, size = 4}\n", x);
    else if (kind == 2)
        qc_str_addf(&b->body, "center %s\n", x);
    else
        qc_str_addf(&b->body, "neg %s\n", x);
}

/* [E, rows, columns] in bf16: of columns that 32 divides. */
static inline void bank_source(bank_expression *b)
{
    b->experts = 2 + bank_one_of(b, 3);
    int64_t rows = 2 + 2 * bank_one_of(b, 8), columns = 32 * (1 + bank_one_of(b, 3));
    int kind = bank_one_of(b, 4);
    if (kind == 0)
        bank_mxfp4(b, rows, columns);
    else if (kind == 1)
        bank_codes(b, rows, columns);
    else
        bank_numbers(b, "proj", rows, columns);
    for (int changes = bank_one_of(b, 3); changes > 0; changes--)
        bank_change(b);
}

static const char bank_schemes[] = "scheme @channel {arith = ct_cpu, targets = [\"Linear\"], weights = "
                                   "{granularity = channel, symmetric, type = f8e4m3}}\n"
                                   "scheme @tensor {arith = ct_cpu, targets = [\"Linear\"], weights = "
                                   "{granularity = tensor, symmetric, type = f8e4m3}}\n"
                                   "scheme @block {arith = ct_cpu, targets = [\"Linear\"], weights = {block "
                                   "= [4, 24], granularity = block, symmetric, "
                                   "type = f8e4m3}}\n"
                                   "scheme @group {arith = ct_cpu, targets = [\"Linear\"], weights = "
                                   "{granularity = group, group = 16, symmetric = false, "
                                   "type = i4}}\n"
                                   "scheme @search {arith = ct_cpu, targets = [\"Linear\"], weights = "
                                   "{granularity = group, group = 32, observer = "
                                   "memoryless_mse, symmetric, type = i4}}\n"
                                   "scheme @mx {arith = ct_cpu, targets = [\"Linear\"], weights = "
                                   "{granularity = group, group = 32, scale = f8e8m0, "
                                   "symmetric, type = f4e2m1}}\n"
                                   "scheme @nv {arith = ct_cpu, targets = [\"Linear\"], weights = {global, "
                                   "granularity = group, group = 16, scale = f8e4m3, "
                                   "symmetric, type = f4e2m1}}\n";

typedef enum bank_goal {
    BANK_WEIGHTS,
    BANK_SCALE,
    BANK_ZERO_POINT,
    BANK_GLOBAL,
    BANK_CODES,
    BANK_REAL,
    BANK_GOALS
} bank_goal;

/* How a scheme lays out a bank. */
typedef struct bank_scheme {
    const char *name, *codes, *scales;
    int64_t group, block_rows, block_columns;
    bool zeros, global;
} bank_scheme;

/* The type of the scales of all experts. */
static inline const char *bank_scale_type(bank_expression *b, const bank_scheme *s, const char *dtype)
{
    int64_t dims[3] = {b->experts, b->rows, 1};
    if (s->group)
        dims[2] = (b->columns + s->group - 1) / s->group;
    if (s->block_rows) {
        dims[1] = (b->rows + s->block_rows - 1) / s->block_rows;
        dims[2] = (b->columns + s->block_columns - 1) / s->block_columns;
    }
    if (strcmp(s->name, "tensor") == 0)
        dims[1] = 1;
    return bank_dims(b, dtype, 3, dims);
}

/* Appends what leads to the goal; gives its type. */
static inline const char *bank_quantize(bank_expression *b, const bank_scheme *s, bank_goal goal)
{
    const char *x = b->last, *global = "", *zero = "";
    int64_t dims[3] = {b->experts, b->rows, b->columns}, ones[3] = {b->experts, 1, 1};
    const char *attrs = qc_arena_printf(
        &b->arena, "{arg = weights, experts = %lld, scheme = @%s}", (long long)b->experts, s->name);
    if (s->global) {
        const char *other = "";
        if (bank_one_of(b, 2)) { /* of a fused set */
            int64_t rows = b->rows;
            bank_numbers(b, "other", 3, b->columns);
            other = qc_arena_printf(&b->arena, ", %s", b->last);
            b->rows = rows;
        }
        global = qc_arena_printf(&b->arena, ", global=%s", bank_line(b));
        qc_str_addf(&b->body, "global_scale %s%s %s\n", x, other, attrs);
        if (goal == BANK_GLOBAL)
            return bank_dims(b, "f32", 3, ones);
    }
    if (s->zeros) {
        zero = qc_arena_printf(&b->arena, ", zero_point=%s", bank_line(b));
        qc_str_addf(&b->body, "zero_point %s %s\n", x, attrs);
        if (goal == BANK_ZERO_POINT)
            return bank_scale_type(b, s, "i8");
    }
    const char *scale = bank_line(b);
    qc_str_addf(&b->body, "qparams %s%s %s\n", x, global, attrs);
    if (goal == BANK_SCALE)
        return bank_scale_type(b, s, s->scales);
    const char *codes = bank_line(b);
    qc_str_addf(
        &b->body, "quantize %s, %s%s%s {arg = weights, scheme = @%s}\n", x, scale, global, zero, s->name);
    if (goal == BANK_CODES)
        return bank_dims(b, s->codes, 3, dims);
    bank_line(b);
    qc_str_addf(&b->body, "dequantize %s, %s%s%s {", codes, scale, global, zero);
    if (s->block_rows)
        qc_str_addf(
            &b->body, "block = [%lld, %lld], ", (long long)s->block_rows, (long long)s->block_columns);
    if (s->group)
        qc_str_addf(&b->body, "group = %lld, ", (long long)s->group);
    qc_str_add(&b->body, "to = bf16}\n");
    return bank_dims(b, "bf16", 3, dims);
}

/* Ends with one of: the weights, their scales, zero points, global scale, codes, what the codes stand for. Gives the text
 * of a module whose @main returns it, and nothing more. */
static inline const char *bank_text(bank_expression *b)
{
    static const bank_scheme schemes[] = {{"channel", "f8e4m3", "bf16", 0, 0, 0, false, false},
        {"tensor", "f8e4m3", "bf16", 0, 0, 0, false, false},
        {"block", "f8e4m3", "bf16", 0, 4, 24, false, false}, {"group", "i4", "bf16", 16, 0, 0, true, false},
        {"search", "i4", "bf16", 32, 0, 0, false, false}, {"mx", "f4e2m1", "f8e8m0", 32, 0, 0, false, false},
        {"nv", "f4e2m1", "f8e4m3", 16, 0, 0, false, true}};
    const bank_scheme *s = &schemes[bank_one_of(b, 7)];
    bank_goal goal = (bank_goal)bank_one_of(b, BANK_GOALS);
    int64_t dims[3] = {b->experts, b->rows, b->columns};
    if ((goal == BANK_ZERO_POINT && !s->zeros) || (goal == BANK_GLOBAL && !s->global))
        goal = BANK_CODES;
    const char *type = goal == BANK_WEIGHTS ? bank_dims(b, "bf16", 3, dims) : bank_quantize(b, s, goal);
    return qc_arena_printf(&b->arena, "qc 1\nmodule \"\" Root\n%sfunc @main() -> %s {\n%s  return %s\n}\n",
        bank_schemes, type, b->body.data, b->last);
}

/* qc_reference_options.weight over the tensors of the expression, which is `user`. */
static inline qc_status bank_weight(void *user, qc_diag *diag, const char *name, qc_tensor *stored)
{
    const bank_expression *b = user;
    for (int i = 0; i < b->tensor_count; i++)
        if (strcmp(b->names[i], name) == 0) {
            *stored = b->tensors[i];
            return QC_OK;
        }
    return qc_error(diag, name, "no such tensor");
}

#endif
