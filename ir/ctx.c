/* SPDX-License-Identifier: MIT
 *
 * ctx.c - the context: interned strings, dimensions and types, and where diagnostics go.
 *
 * A dimension is kept as a sum of terms sorted by the text of their atoms, so two equal polynomials have the
 * same text; the text is the interning key, and equality is pointer equality.
 */
#include "ir/ir.h"
#include "ir/op_info.h"

qc_ctx *qc_ctx_create(qc_out_of_memory_fn out_of_memory, qc_diagnostic_fn diagnostic, void *user)
{
    qc_arena arena;
    qc_arena_init(&arena, out_of_memory);
    qc_ctx *ctx = QC_NEW(&arena, qc_ctx);
    ctx->arena = arena;
    qc_arena_init(&ctx->scratch, out_of_memory);
    qc_diag_init(&ctx->diag, &ctx->scratch, diagnostic, user);
    qc_map_init(&ctx->strings, &ctx->arena);
    qc_map_init(&ctx->dims, &ctx->arena);
    qc_map_init(&ctx->types, &ctx->arena);
    qc_map_init(&ctx->attrs, &ctx->arena);
    qc_map_init(&ctx->type_texts, &ctx->arena);
    qc_map_init(&ctx->ops, &ctx->arena);
    qc_map_init(&ctx->patterns, &ctx->arena);
    for (size_t i = 0; i < qc_op_info_count; i++)
        qc_map_set(&ctx->ops, qc_op_infos[i].name, (void *)(uintptr_t)&qc_op_infos[i]);
    qc_op_make_defaults(ctx);
    return ctx;
}

void qc_ctx_destroy(qc_ctx *ctx)
{
    if (!ctx)
        return;
    qc_patterns_free(ctx);
    qc_arena_fini(&ctx->scratch);
    qc_arena arena = ctx->arena; /* the context lies in its own arena */
    qc_arena_fini(&arena);
}

qc_diag *qc_ctx_diag(qc_ctx *ctx)
{
    return &ctx->diag;
}

qc_arena *qc_ctx_arena(qc_ctx *ctx)
{
    return &ctx->arena;
}

size_t qc_ctx_error_count(const qc_ctx *ctx)
{
    return ctx->diag.error_count;
}

qc_status qc_ctx_error(qc_ctx *ctx, const char *where, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    qc_diag_report(&ctx->diag, QC_SEVERITY_ERROR, where, format, args);
    va_end(args);
    return QC_ERROR;
}

void qc_ctx_note(qc_ctx *ctx, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    qc_diag_report(&ctx->diag, QC_SEVERITY_NOTE, "", format, args);
    va_end(args);
}

void qc_ctx_warning(qc_ctx *ctx, const char *where, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    qc_diag_report(&ctx->diag, QC_SEVERITY_WARNING, where, format, args);
    va_end(args);
}

void qc_ctx_remark(qc_ctx *ctx, const char *where, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    qc_diag_report(&ctx->diag, QC_SEVERITY_REMARK, where, format, args);
    va_end(args);
}

const char *qc_intern(qc_ctx *ctx, const char *text, size_t length)
{
    return qc_map_add_n(&ctx->strings, text, length)->key;
}

/* ---- dimensions ---------------------------------------------------------------------------------------- */

/* More than a shape ever needs; products of sums written by hand stop here instead of exploding. */
enum { MAX_TERMS = 64, MAX_ATOMS = 16 };

static void term_print(qc_str *out, const qc_dim_term *term, bool first)
{
    int64_t c = term->coefficient;
    if (!first)
        qc_str_add(out, c < 0 ? " - " : " + ");
    else if (c < 0)
        qc_str_add(out, "-");
    uint64_t magnitude = c < 0 ? 0 - (uint64_t)c : (uint64_t)c;
    if (term->atom_count == 0 || magnitude != 1)
        qc_str_addf(out, "%llu", (unsigned long long)magnitude);
    if (term->atom_count) {
        if (magnitude != 1)
            qc_str_add_char(out, '*');
        qc_str_add(out, term->key);
    }
}

static qc_dim *dim_new(qc_ctx *ctx, const qc_dim_term *terms, uint32_t count, const qc_str *text)
{
    qc_dim *dim = QC_NEW(&ctx->arena, qc_dim);
    qc_dim_term *copy = QC_NEW_ARRAY(&ctx->arena, qc_dim_term, count + 1);
    for (uint32_t i = 0; i < count; i++) {
        copy[i] = terms[i];
        copy[i].atoms = QC_NEW_ARRAY(&ctx->arena, const qc_dim_atom *, terms[i].atom_count);
        for (uint32_t j = 0; j < terms[i].atom_count; j++)
            copy[i].atoms[j] = terms[i].atoms[j];
    }
    dim->ctx = ctx;
    dim->term_count = count;
    dim->terms = copy;
    dim->is_int = count == 0 || (count == 1 && terms[0].atom_count == 0);
    dim->value = count ? terms[0].coefficient : 0;
    qc_map_entry *entry = qc_map_add_n(&ctx->dims, text->data, text->length);
    entry->value = dim;
    dim->text = entry->key;
    return dim;
}

/* Interns the polynomial whose sorted, merged terms are given. */
static const qc_dim *dim_intern(qc_ctx *ctx, const qc_dim_term *terms, uint32_t count)
{
    qc_str text;
    qc_str_init(&text, &ctx->arena);
    for (uint32_t i = 0; i < count; i++)
        term_print(&text, &terms[i], i == 0);
    if (count == 0)
        qc_str_add(&text, "0");
    qc_dim *dim = qc_map_get_n(&ctx->dims, text.data, text.length);
    if (!dim)
        dim = dim_new(ctx, terms, count, &text);
    qc_str_fini(&text);
    return dim;
}

const qc_dim *qc_dim_int(qc_ctx *ctx, int64_t value)
{
    if (value >= 0 && value < QC_SMALL_DIMS && ctx->small_dims[value])
        return ctx->small_dims[value];
    qc_dim_term term = {.coefficient = value, .key = ""};
    const qc_dim *dim = dim_intern(ctx, &term, value != 0);
    if (value >= 0 && value < QC_SMALL_DIMS)
        ctx->small_dims[value] = dim;
    return dim;
}

static const qc_dim *dim_from_atom(qc_ctx *ctx, const qc_dim_atom *atom, const char *key)
{
    qc_dim_term term = {.coefficient = 1, .atom_count = 1, .atoms = &atom, .key = key};
    return dim_intern(ctx, &term, 1);
}

const qc_dim *qc_dim_symbol(qc_ctx *ctx, const char *name)
{
    qc_dim *known = qc_map_get(&ctx->dims, name);
    if (known)
        return known;
    qc_dim_atom *atom = QC_NEW(&ctx->arena, qc_dim_atom);
    atom->symbol = atom->text = qc_intern(ctx, name, strlen(name));
    return dim_from_atom(ctx, atom, atom->text);
}

/* Terms sort by key, the constant (empty key) last, so that "P + S + 1" reads naturally. */
static int key_compare(const char *a, const char *b)
{
    if (!*a || !*b)
        return (*a ? 0 : 1) - (*b ? 0 : 1);
    return strcmp(a, b);
}

/* The least integer counts as overflow: its negative cannot be written as a term. */
static bool sum_coefficients(int64_t a, int64_t b, int64_t sign, int64_t *out)
{
    int64_t t;
    return !__builtin_mul_overflow(b, sign, &t) && !__builtin_add_overflow(a, t, out) && *out != INT64_MIN;
}

static const qc_dim *dim_combine(qc_ctx *ctx, const qc_dim *a, const qc_dim *b, int64_t sign)
{
    if (!a || !b)
        return NULL;
    qc_dim_term terms[2 * MAX_TERMS + 1];
    uint32_t i = 0, j = 0, n = 0;
    while (i < a->term_count || j < b->term_count) {
        int order = i == a->term_count   ? 1
                    : j == b->term_count ? -1
                                         : key_compare(a->terms[i].key, b->terms[j].key);
        int64_t left = order <= 0 ? a->terms[i].coefficient : 0,
                right = order >= 0 ? b->terms[j].coefficient : 0;
        terms[n] = order <= 0 ? a->terms[i] : b->terms[j];
        if (!sum_coefficients(left, right, sign, &terms[n].coefficient))
            return NULL;
        n += terms[n].coefficient != 0;
        i += order <= 0;
        j += order >= 0;
    }
    return n <= MAX_TERMS ? dim_intern(ctx, terms, n) : NULL;
}

const qc_dim *qc_dim_add(qc_ctx *ctx, const qc_dim *a, const qc_dim *b)
{
    return dim_combine(ctx, a, b, 1);
}

const qc_dim *qc_dim_sub(qc_ctx *ctx, const qc_dim *a, const qc_dim *b)
{
    return dim_combine(ctx, a, b, -1);
}

/* The product of two terms, as a polynomial of one term; NULL when it is too large. */
static const qc_dim *term_multiply(qc_ctx *ctx, const qc_dim_term *a, const qc_dim_term *b)
{
    const qc_dim_atom *atoms[MAX_ATOMS];
    qc_dim_term out = {.atom_count = a->atom_count + b->atom_count, .atoms = atoms};
    if (out.atom_count > MAX_ATOMS ||
        __builtin_mul_overflow(a->coefficient, b->coefficient, &out.coefficient) ||
        out.coefficient == INT64_MIN)
        return NULL;
    uint32_t i = 0, j = 0;
    qc_str key;
    qc_str_init(&key, &ctx->arena);
    for (uint32_t n = 0; n < out.atom_count; n++) {
        bool left =
            j == b->atom_count || (i < a->atom_count && strcmp(a->atoms[i]->text, b->atoms[j]->text) <= 0);
        atoms[n] = left ? a->atoms[i++] : b->atoms[j++];
        qc_str_add(&key, n ? "*" : "");
        qc_str_add(&key, atoms[n]->text);
    }
    out.key = qc_intern(ctx, key.data, key.length);
    qc_str_fini(&key);
    return dim_intern(ctx, &out, 1);
}

const qc_dim *qc_dim_mul(qc_ctx *ctx, const qc_dim *a, const qc_dim *b)
{
    if (!a || !b)
        return NULL;
    const qc_dim *sum = qc_dim_int(ctx, 0);
    for (uint32_t i = 0; i < a->term_count && sum; i++)
        for (uint32_t j = 0; j < b->term_count && sum; j++)
            sum = qc_dim_add(ctx, sum, term_multiply(ctx, &a->terms[i], &b->terms[j]));
    return sum;
}

static int64_t floor_divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static int64_t gcd(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* rest floordiv divisor as an atom; every coefficient of rest is in 1..divisor-1. A common factor of divisor
 * and symbolic terms goes away, and so does a floordiv within:
 *   floor((g x + c) / (g d)) = floor((x + floor(c / g)) / d),  floor((floor(x / e) + c) / d) = floor((x + e c) / (e d)).
 */
static const qc_dim *floordiv_atom(qc_ctx *ctx, qc_dim_term *rest, uint32_t count, int64_t divisor)
{
    int64_t common = divisor;
    for (uint32_t i = 0; i < count; i++)
        common = rest[i].atom_count ? gcd(common, rest[i].coefficient) : common;
    divisor /= common;
    for (uint32_t i = 0; i < count; i++)
        rest[i].coefficient /= common;
    if (rest[count - 1].coefficient == 0)
        count--; /* the constant stands last */
    const qc_dim_term *first = &rest[0];
    int64_t constant = count == 2 && !rest[1].atom_count ? rest[1].coefficient : 0, merged;
    if (first->coefficient == 1 && first->atom_count == 1 && !first->atoms[0]->symbol &&
        (count == 1 || constant) && !__builtin_mul_overflow(divisor, first->atoms[0]->divisor, &merged)) {
        const qc_dim *inner = qc_dim_int(ctx, constant), *factor = qc_dim_int(ctx, first->atoms[0]->divisor);
        return qc_dim_floordiv(
            ctx, qc_dim_add(ctx, first->atoms[0]->dividend, qc_dim_mul(ctx, inner, factor)), merged);
    }
    qc_dim_atom *atom = QC_NEW(&ctx->arena, qc_dim_atom);
    atom->dividend = dim_intern(ctx, rest, count);
    atom->divisor = divisor;
    const char *text = atom->dividend->text;
    bool bare = count == 1 && first->coefficient == 1 && first->atom_count == 1;
    atom->text = qc_arena_printf(
        &ctx->arena, bare ? "(%s floordiv %lld)" : "((%s) floordiv %lld)", text, (long long)divisor);
    return dim_from_atom(ctx, atom, atom->text);
}

/* Every coefficient is split in a multiple of the divisor and a rest: only the rest stays under floordiv. */
const qc_dim *qc_dim_floordiv(qc_ctx *ctx, const qc_dim *a, int64_t divisor)
{
    if (!a || divisor <= 0)
        return NULL;
    qc_dim_term whole[MAX_TERMS] = {{0}}, rest[MAX_TERMS] = {{0}};
    uint32_t wholes = 0, rests = 0;
    bool symbolic = false;
    for (uint32_t i = 0; i < a->term_count; i++) {
        int64_t q = floor_divide(a->terms[i].coefficient, divisor), r = a->terms[i].coefficient - q * divisor;
        whole[wholes] = rest[rests] = a->terms[i];
        whole[wholes].coefficient = q;
        rest[rests].coefficient = r;
        wholes += q != 0;
        rests += r != 0;
        symbolic = symbolic || (r != 0 && a->terms[i].atom_count);
    }
    const qc_dim *sum = dim_intern(ctx, whole, wholes);
    return symbolic ? qc_dim_add(ctx, sum, floordiv_atom(ctx, rest, rests, divisor)) : sum;
}

bool qc_dim_as_int(const qc_dim *dim, int64_t *value)
{
    if (dim && dim->is_int && value)
        *value = dim->value;
    return dim && dim->is_int;
}

/* ---- types --------------------------------------------------------------------------------------------- */

typedef struct type_key {
    int dtype, rank;
    const qc_dim *dims[QC_MAX_RANK];
} type_key;

static qc_type *type_new(qc_ctx *ctx, const type_key *key, size_t key_bytes)
{
    qc_type *type = QC_NEW(&ctx->arena, qc_type);
    type->dtype = (qc_dtype)key->dtype;
    type->rank = key->rank;
    qc_str text;
    qc_str_init(&text, &ctx->arena);
    qc_str_addf(&text, "%s[", qc_dtype_name(type->dtype));
    for (int i = 0; i < key->rank; i++) {
        type->dims[i] = key->dims[i];
        qc_str_add(&text, i ? ", " : "");
        qc_str_add(&text, key->dims[i]->text);
    }
    qc_str_add_char(&text, ']');
    type->text = qc_intern(ctx, text.data, text.length);
    qc_str_fini(&text);
    qc_map_set_n(&ctx->types, (const char *)key, key_bytes, type);
    return type;
}

const qc_type *qc_type_make(
    qc_ctx *ctx, const char *where, qc_dtype dtype, int rank, const qc_dim *const *dims)
{
    type_key key = {.dtype = (int)dtype, .rank = rank};
    int64_t count = 1;
    if (dtype <= QC_DTYPE_NONE || dtype >= QC_DTYPE_COUNT) {
        qc_error(&ctx->diag, where, "a tensor without an element type");
        return NULL;
    }
    if (rank < 0 || rank > QC_MAX_RANK) {
        qc_error(&ctx->diag, where, "a tensor of rank %d; at most %d is possible", rank, QC_MAX_RANK);
        return NULL;
    }
    for (int i = 0; i < rank; i++) {
        key.dims[i] = dims[i];
        if (!dims[i])
            qc_error(&ctx->diag, where, "dimension %d of a tensor is too large", i);
        else if (dims[i]->is_int && dims[i]->value < 0)
            qc_error(&ctx->diag, where, "dimension %d of a tensor is negative: %s", i, dims[i]->text);
        else if (dims[i]->is_int && __builtin_mul_overflow(count, dims[i]->value, &count))
            qc_error(&ctx->diag, where, "the number of elements of a tensor overflows 63 bits");
        else
            continue;
        return NULL;
    }
    size_t key_bytes = offsetof(type_key, dims) + (size_t)rank * sizeof *key.dims;
    qc_type *type = qc_map_get_n(&ctx->types, (const char *)&key, key_bytes);
    return type ? type : type_new(ctx, &key, key_bytes);
}

const qc_type *qc_type_tensor(qc_ctx *ctx, qc_dtype dtype, int rank, const qc_dim *const *dims)
{
    return qc_type_make(ctx, "", dtype, rank, dims);
}

qc_dtype qc_type_dtype(const qc_type *type)
{
    return type ? type->dtype : QC_DTYPE_NONE;
}

int qc_type_rank(const qc_type *type)
{
    return type ? type->rank : 0;
}

const qc_dim *qc_type_dim(const qc_type *type, int index)
{
    if (!type)
        return NULL;
    if (index < 0)
        index += type->rank;
    return index >= 0 && index < type->rank ? type->dims[index] : NULL;
}

const qc_type *qc_type_with_dtype(qc_ctx *ctx, const qc_type *type, qc_dtype dtype)
{
    return type ? qc_type_tensor(ctx, dtype, type->rank, type->dims) : NULL;
}

bool qc_type_static_count(const qc_type *type, int64_t *count)
{
    if (!type)
        return false;
    *count = 1;
    for (int i = 0; i < type->rank; i++) {
        if (!type->dims[i]->is_int)
            return false;
        *count *= type->dims[i]->value;
    }
    return true;
}

const char *qc_type_text(qc_ctx *ctx, const qc_type *type)
{
    (void)ctx;
    return type ? type->text : "none";
}
