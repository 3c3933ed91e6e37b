/* SPDX-License-Identifier: MIT
 *
 * mse_search.c - the search of mse.h.
 *
 * The arithmetic is that of llm-compressor 0.14 on a CPU: every step in D, the exponent of the norm rounded to
 * D, powers rounded to D, sums in f32 and rounded to D once. A sum in f32 depends on its order: torch_sum below
 * has the one of PyTorch on a processor with 8 f32 lanes.
 *
 * A piece of some groups stays in the nearest cache for all steps; each step is a few loops over it. The power
 * of a 16-bit number is looked up: there are 32,768 of them.
 */
#include <math.h>
#include <stdlib.h>

#include "ir/dtype/kernels.h"
#include "ir/dtype/mse.h"

/* ---- sums ---------------------------------------------------------------------------------------------- */

/* Adds rows of `width` numbers, `count` of them: partial sums of 2^power rows, those summed in their turn, and
 * so on through four levels. PyTorch's cascade sum. */
static void cascade(const float *x, size_t count, size_t width, float *sum)
{
    enum { LEVELS = 4, WIDEST = 32 };
    float level[LEVELS][WIDEST] = {{0}};
    unsigned power = 0;
    while (((size_t)1 << power) < count)
        power++;
    power = power / LEVELS > 4 ? power / LEVELS : 4;
    const size_t step = (size_t)1 << power, mask = step - 1;
    size_t i = 0;
    while (i + step <= count) {
        for (size_t j = 0; j < step; j++, i++)
            for (size_t k = 0; k < width; k++)
                level[0][k] += x[i * width + k];
        for (unsigned j = 1; j < LEVELS; j++) {
            for (size_t k = 0; k < width; k++) {
                level[j][k] += level[j - 1][k];
                level[j - 1][k] = 0;
            }
            if ((i & mask << (j * power)) != 0)
                break;
        }
    }
    for (; i < count; i++)
        for (size_t k = 0; k < width; k++)
            level[0][k] += x[i * width + k];
    for (unsigned j = 1; j < LEVELS; j++)
        for (size_t k = 0; k < width; k++)
            level[0][k] += level[j][k];
    memcpy(sum, level[0], width * sizeof *sum);
}

/* Four accumulators of `lanes` numbers each over `count` vectors. */
static void accumulate(const float *x, size_t count, size_t lanes, float *sum)
{
    float four[32];
    cascade(x, count / 4, 4 * lanes, four);
    for (size_t i = count / 4 * 4; i < count; i++)
        for (size_t k = 0; k < lanes; k++)
            four[k] += x[i * lanes + k];
    for (size_t j = 1; j < 4; j++)
        for (size_t k = 0; k < lanes; k++)
            four[k] += four[j * lanes + k];
    memcpy(sum, four, lanes * sizeof *sum);
}

/* As `accumulate` with 8 lanes where no level but the first is filled. */
static void accumulate_few(const float *restrict x, size_t count, float *restrict sum)
{
    float four[32] = {0};
    size_t i = 0;
    for (; i + 4 <= count; i += 4)
        for (size_t k = 0; k < 32; k++)
            four[k] += x[8 * i + k];
    for (; i < count; i++)
        for (size_t k = 0; k < 8; k++)
            four[k] += x[8 * i + k];
    for (size_t k = 0; k < 8; k++)
        sum[k] = four[k] + four[8 + k] + four[16 + k] + four[24 + k];
}

/* Sums of groups of 16 numbers of 16 bits: halves are added first, then lane after lane. */
QC_WIDE static void sums_of_16(const float *restrict x, size_t groups, float *restrict sums)
{
    for (size_t g = 0; g < groups; g++) {
        float sum = 0;
        for (size_t k = 0; k < 8; k++)
            sum += x[16 * g + k] + x[16 * g + 8 + k];
        sums[g] = sum;
    }
}

/* The sum of `count` numbers of a type. Numbers of 16 bits come in vectors of 16, whose halves are added
 * first; `x` is overwritten. */
static float torch_sum(step_type type, float *x, size_t count)
{
    const size_t vector = type == STEP_F32 ? 8 : 16, vectors = count / vector;
    float lanes[8], sum = 0;
    if (vectors == 0) {
        accumulate(x, count, 1, lanes);
        return lanes[0];
    }
    for (size_t i = vectors * vector; i < count; i++)
        sum += x[i];
    if (vector == 16)
        for (size_t v = 0; v < vectors; v++)
            for (size_t k = 0; k < 8; k++)
                x[8 * v + k] = x[16 * v + k] + x[16 * v + 8 + k];
    if (vectors < 64)
        accumulate_few(x, vectors, lanes);
    else
        accumulate(x, vectors, 8, lanes);
    for (size_t k = 0; k < 8; k++)
        sum += lanes[k];
    return sum;
}

/* ---- powers -------------------------------------------------------------------------------------------- */

/* |x|^norm as PyTorch takes it in a type, of magnitudes only. Its cubes round the square in bf16, and not in f16. */
static float power(step_type type, float x, float norm)
{
    if (norm == 2.0f)
        return round_step(type, x * x);
    if (norm == 3.0f)
        return round_step(type, (type == STEP_BF16 ? round_step(type, x * x) : x * x) * x);
    if (norm == 0.5f)
        return round_step(type, sqrtf(x));
    return round_step(type, (float)pow((double)x, (double)norm));
}

enum { MAGNITUDES = 32768 };

/* Of every magnitude of a 16-bit type: 2^e * m to the n-th is the product of the powers of its factors, in f64
 * so that its rounding to f32 is as good as that of pow itself. */
static void fill_powers(step_type type, float norm, float *powers)
{
    const uint32_t steps = type == STEP_BF16 ? 128 : 1024; /* of the fraction */
    const bool general = norm != 2.0f && norm != 3.0f && norm != 0.5f;
    const int bias = type == STEP_BF16 ? 127 : 15;
    double fractions[1024];
    for (uint32_t i = 0; general && i < steps; i++)
        fractions[i] = pow(1.0 + (double)i / steps, (double)norm);
    for (uint32_t block = 0; block < MAGNITUDES / steps; block++) {
        const double scale = exp2(((double)block - bias) * (double)norm);
        for (uint32_t i = 0; i < steps; i++) {
            const uint32_t bits = block * steps + i;
            if (general && block > 0 && block + 1 < MAGNITUDES / steps)
                powers[bits] = round_step(type, (float)(scale * fractions[i]));
            else
                powers[bits] = power(type,
                    type == STEP_BF16 ? qc_bf16_to_f32((uint16_t)bits) : qc_f16_to_f32((uint16_t)bits), norm);
        }
    }
}

/* ---- loops over a piece -------------------------------------------------------------------------------- */

/* The number of the grid that is nearest to a quotient. */
QC_INLINE float nearest(qc_dtype storage, float t, float lo, float hi)
{
    const float round = 12582912.0f;
    if (storage == QC_I8) {
        t = t > lo ? t : lo;
        t = t < hi ? t : hi;
        return (t + round) - round;
    }
    uint32_t u = qc_f32_bits(t), sign = u & 0x80000000u;
    float m, x = qc_f32_from_bits(u & 0x7fffffffu);
    if (storage == QC_F8E4M3) {
        m = step_nearest_e4m3(x);
    } else {
        x = x < 6.0f ? x : 6.0f;
        u = qc_f32_bits(x);
        float halves = (x + 6291456.0f) - 6291456.0f; /* below 1 */
        float usual = qc_f32_from_bits((u + 0x1fffffu + (u >> 22 & 1u)) & 0xffc00000u);
        m = x < 1.0f ? halves : usual;
    }
    return qc_f32_from_bits(qc_f32_bits(m) | sign);
}

/* What is left of quotients once they are values again: their distances from x. `exact`: not rounded. */
#define DISTANCES(name, step, storage)                                                                       \
    QC_WIDE static void name(float *t, const float *x, size_t count, size_t group, const float *scales,      \
        const float *zero_points, qc_grid grid, bool exact)                                                  \
    {                                                                                                        \
        const float lo = grid.min, hi = grid.max;                                                            \
        for (size_t start = 0, g = 0; start < count; start += group, g++) {                                  \
            const float scale = scales[g], zero_point = zero_points[g];                                      \
            for (size_t i = start; i < start + group; i += KERNEL_STEP) {                                    \
                float *restrict to = t + i;                                                                  \
                const float *restrict from = x + i;                                                          \
                for (size_t j = 0; j < KERNEL_STEP; j++) {                                                   \
                    float y = nearest(storage, to[j], lo, hi);                                               \
                    y = round_step(step, (y - zero_point) * scale) - from[j];                                \
                    to[j] = qc_f32_from_bits(qc_f32_bits(exact ? y : round_step(step, y)) & 0x7fffffffu);    \
                }                                                                                            \
            }                                                                                                \
        }                                                                                                    \
    }
#define DISTANCES_OF(name, step)                                                                             \
    DISTANCES(name##_e4m3, step, QC_F8E4M3)                                                                  \
    DISTANCES(name##_e2m1, step, QC_F4E2M1)                                                                  \
    DISTANCES(name##_int, step, QC_I8)
DISTANCES_OF(bf16, STEP_BF16)
DISTANCES_OF(f16, STEP_F16)
DISTANCES_OF(f32, STEP_F32)

typedef void distances_loop(float *t, const float *x, size_t count, size_t group, const float *scales,
    const float *zero_points, qc_grid grid, bool exact);

static distances_loop *const distances_loops[][3] = {
    [STEP_BF16] = {bf16_e4m3, bf16_e2m1, bf16_int},
    [STEP_F16] = {f16_e4m3, f16_e2m1, f16_int},
    [STEP_F32] = {f32_e4m3, f32_e2m1, f32_int},
};

/* Powers of distances in bf16, in place. */
QC_WIDE static void look_up_bf16(float *x, size_t count, const float *restrict powers)
{
    for (size_t i = 0; i < count; i++)
        x[i] = powers[qc_f32_bits(x[i]) >> 16];
}

static void look_up_f16(float *x, size_t count, const float *restrict powers)
{
    for (size_t i = 0; i < count; i++)
        x[i] = powers[qc_bits_f16_encode(qc_f32_bits(x[i]))];
}

QC_INLINE uint64_t bits_of(double x)
{
    uint64_t u;
    memcpy(&u, &x, 8);
    return u;
}

QC_INLINE double double_of(uint64_t u)
{
    double x;
    memcpy(&x, &u, 8);
    return x;
}

/* x[i]^norm of magnitudes, in f64 and so nearly always the f32 number nearest to it: 2^(norm * log2 x). With
 * x = 2^e * m and m between the roots of 1/2 and 2, ln m = 2 artanh((m - 1) / (m + 1)) by its series up to the
 * 19th power, and 2^f of the rest f by the exponential series up to the 12th; both stop below 2^-50. Sums with
 * 2^52 and 2^52 * 1.5 turn integers into numbers and back, which vectors of f64 cannot. */
QC_WIDE static void raise(float *restrict x, size_t count, double norm)
{
    const uint64_t root = UINT64_C(0x3fe6a09e667f3bcd), one = UINT64_C(1023) << 52;
    const double whole = 6755399441055744.0, ln2 = 0.69314718055994530942;
    for (size_t i = 0; i < count; i++) {
        const uint64_t u = bits_of((double)x[i]),
                       e = (u - root + (UINT64_C(1024) << 52)) >> 52; /* e + 1024 */
        const double m = double_of(u - (e << 52) + (UINT64_C(1024) << 52));
        const double exponent = double_of(e | UINT64_C(0x4330000000000000)) - 4503599627371520.0;
        const double s = (m - 1) / (m + 1), z = s * s;
        double sum = 1.0 / 17 + z * (1.0 / 19);
        sum = 1.0 / 13 + z * (1.0 / 15 + z * sum);
        sum = 1.0 / 9 + z * (1.0 / 11 + z * sum);
        sum = 1.0 / 5 + z * (1.0 / 7 + z * sum);
        sum = 1.0 + z * (1.0 / 3 + z * sum);
        double y = norm * (exponent + s * sum * (2 / ln2));
        y = y > -1000 ? y : -1000;
        y = y < 1000 ? y : 1000;
        const double k = y + whole, f = (y - (k - whole)) * ln2;
        double power = 1.0 / 39916800 + f * (1.0 / 479001600);
        power = 1.0 / 362880 + f * (1.0 / 3628800 + f * power);
        power = 1.0 / 5040 + f * (1.0 / 40320 + f * power);
        power = 1.0 / 120 + f * (1.0 / 720 + f * power);
        power = 1.0 / 6 + f * (1.0 / 24 + f * power);
        power = 1.0 + f * (1.0 + f * (0.5 + f * power));
        const float result = (float)(power * double_of((bits_of(k) << 52) + one));
        x[i] = x[i] == x[i] ? result : x[i];
    }
}

QC_WIDE static void squares(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = x[i] * x[i];
}

QC_WIDE static void cubes(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = x[i] * x[i] * x[i];
}

/* Powers of distances in f32, in place. */
static void powers_f32(float *x, size_t count, float norm)
{
    if (norm == 2.0f)
        squares(x, count);
    else if (norm == 3.0f)
        cubes(x, count);
    else if (norm == 0.5f)
        for (size_t i = 0; i < count; i++)
            x[i] = sqrtf(x[i]);
    else
        raise(x, count, (double)norm);
}

/* ---- the search ---------------------------------------------------------------------------------------- */

enum { PIECE_ELEMS = 2048 };

typedef struct search {
    qc_quantizer q; /* without global scale */
    const qc_mse *mse;
    step_type model;
    float norm;
    const float *powers; /* of magnitudes of 16 bits; else NULL */
    /* room for a piece, one number an element: the elements and their errors */
    float *x, *errors;
    /* one number a group */
    float *min, *max, *low, *high, *scale, *zero_point, *factor, *shift, *error, *best;
    uint64_t *improved;
    int stop_step;
} search;

/* A piece: groups of one row. */
typedef struct piece {
    const void *at; /* in D */
    const float *importance;
    size_t count, group, groups; /* the last group may be short */
    bool regular;                /* whole groups of a multiple of KERNEL_STEP, without NaN */
} piece;

static size_t group_count(const piece *p, size_t g)
{
    size_t left = p->count - g * p->group;
    return left < p->group ? left : p->group;
}

/* Errors of one group, element by element. */
static void plain_errors(const search *s, const piece *p, size_t g)
{
    const qc_grid grid = s->q.grid;
    const float scale = s->scale[g], zero_point = s->zero_point[g];
    for (size_t i = g * p->group; i < g * p->group + group_count(p, g); i++) {
        float t = step_quotient(s->model, s->x[i], scale, zero_point + 0.0f);
        float y = step_value(grid.storage, (uint8_t)step_code(grid.storage, t, grid.min, grid.max));
        y = round_step(s->model, round_step(s->model, y - zero_point) * scale) - s->x[i];
        float d = fabsf(s->mse->imatrix ? y : round_step(s->model, y));
        s->errors[i] = d;
        if (s->powers)
            s->errors[i] =
                s->powers[s->model == STEP_BF16 ? qc_f32_bits(d) >> 16 : qc_f16_from_f32(d) & 0x7fffu];
    }
    if (!s->powers)
        powers_f32(s->errors + g * p->group, group_count(p, g), s->norm);
}

#define SHRINK(name, step)                                                                                   \
    QC_WIDE static void name(const float *restrict min, const float *restrict max, size_t count,             \
        float factor, float *restrict low, float *restrict high)                                             \
    {                                                                                                        \
        for (size_t g = 0; g < count; g++) {                                                                 \
            low[g] = round_step(step, min[g] * factor);                                                      \
            high[g] = round_step(step, max[g] * factor);                                                     \
        }                                                                                                    \
    }
SHRINK(shrink_bf16, STEP_BF16)
SHRINK(shrink_f16, STEP_F16)
SHRINK(shrink_f32, STEP_F32)

static void shrink(
    step_type step, const float *min, const float *max, size_t count, float factor, float *low, float *high)
{
    (step == STEP_BF16     ? shrink_bf16
        : step == STEP_F16 ? shrink_f16
                           : shrink_f32)(min, max, count, factor, low, high);
}

/* Takes over the ranges with smaller errors; whether there were any. */
QC_WIDE static bool keep_better(const float *restrict errors, const float *restrict low,
    const float *restrict high, size_t count, float *restrict best, float *restrict best_min,
    float *restrict best_max)
{
    int any = 0;
    for (size_t g = 0; g < count; g++) {
        const bool better = errors[g] < best[g];
        best_min[g] = better ? low[g] : best_min[g];
        best_max[g] = better ? high[g] : best_max[g];
        best[g] = better ? errors[g] : best[g];
        any |= better ? 1 : 0;
    }
    return any != 0;
}

/* Errors of a regular piece. False: some scale is not one that the loops take. */
static bool vector_errors(const search *s, const piece *p)
{
    const qc_dtype storage = s->q.grid.storage;
    const bool multiply = qc_kernel_by_reciprocal(s->model, s->model);
    for (size_t g = 0; g < p->groups; g++)
        s->shift[g] = s->zero_point[g] + 0.0f;
    if (!qc_kernel_factors(s->scale, p->groups, 0, multiply, s->factor) ||
        !qc_kernel_quotients(s->model, s->model, storage, !s->q.symmetric, p->at, p->count, p->group,
            s->factor, s->shift, s->errors))
        return false;
    distances_loops[s->model][storage == QC_F8E4M3   ? 0
                              : storage == QC_F4E2M1 ? 1
                                                     : 2](
        s->errors, s->x, p->count, p->group, s->scale, s->zero_point, s->q.grid, s->mse->imatrix);
    if (s->powers && s->model == STEP_BF16)
        look_up_bf16(s->errors, p->count, s->powers);
    else if (s->powers)
        look_up_f16(s->errors, p->count, s->powers);
    else
        powers_f32(s->errors, p->count, s->norm);
    return true;
}

/* One step: the error of every group under [low, high]. */
static void step_errors(const search *s, const piece *p)
{
    const step_type type = s->mse->imatrix ? STEP_F32 : s->model;
    qc_quantizer_scales(&s->q, s->low, s->high, (int64_t)p->groups, 0, s->scale, s->zero_point);
    if (!p->regular || !vector_errors(s, p))
        for (size_t g = 0; g < p->groups; g++)
            plain_errors(s, p, g);
    if (p->importance)
        for (size_t i = 0; i < p->count; i++)
            s->errors[i] *= p->importance[i];
    if (type != STEP_F32 && p->group == 16 && p->regular)
        sums_of_16(s->errors, p->groups, s->error);
    else
        for (size_t g = 0; g < p->groups; g++)
            s->error[g] = torch_sum(type, s->errors + g * p->group, group_count(p, g));
    for (size_t g = 0; g < p->groups; g++)
        s->error[g] = round_step(type, s->error[g]);
}

static void search_piece(const search *s, const piece *p, float *best_min, float *best_max)
{
    const float expand = (float)s->mse->expand;
    const float most = s->mse->imatrix ? 0x1.fffffep127f : (float)qc_dtype_max(s->q.model_dtype);
    qc_quantizer_rows_ranges(&s->q, p->at, 1, (int64_t)p->count, (int64_t)p->group, s->min, s->max);
    for (size_t g = 0; g < p->groups; g++) {
        best_min[g] = s->min[g] = round_step(s->model, s->min[g] * expand);
        best_max[g] = s->max[g] = round_step(s->model, s->max[g] * expand);
        s->best[g] = most;
    }
    for (int i = 0; i < s->stop_step; i++) {
        const float factor = (float)(1 - i / s->mse->grid);
        shrink(s->model, s->min, s->max, p->groups, factor, s->low, s->high);
        step_errors(s, p);
        if (keep_better(s->error, s->low, s->high, p->groups, s->best, best_min, best_max))
            s->improved[i / 64] |= UINT64_C(1) << (i % 64);
    }
}

/* Room for everything, in one block of memory that starts at the powers or else at x. */
static float *reserve(search *s, size_t elems, size_t groups, size_t powers)
{
    float **const arrays[] = {&s->min, &s->max, &s->low, &s->high, &s->scale, &s->zero_point, &s->factor,
        &s->shift, &s->error, &s->best};
    const size_t count = sizeof arrays / sizeof arrays[0];
    float *memory = malloc((powers + 2 * elems + count * groups) * sizeof *memory);
    if (!memory)
        return NULL;
    s->x = memory + powers;
    s->errors = s->x + elems;
    for (size_t i = 0; i < count; i++)
        *arrays[i] = s->errors + elems + i * groups;
    return memory;
}

bool qc_mse_search(const qc_quantizer *q, const qc_mse *mse, const void *x, int64_t rows, int64_t columns,
    int64_t group, const float *importance, int stop_step, float *best_min, float *best_max,
    uint64_t *improved)
{
    search s = {
        .q = *q, .mse = mse, .model = step_of(q->model_dtype), .improved = improved, .stop_step = stop_step};
    const size_t wide = (size_t)columns, width = (size_t)group < wide ? (size_t)group : wide;
    if (width == 0)
        return true;
    const size_t most = width < PIECE_ELEMS ? PIECE_ELEMS / width : 1; /* groups of a piece */
    const size_t elem_bytes = s.model == STEP_F32 ? 4 : 2;
    const bool tabled = s.model != STEP_F32 && !mse->imatrix;
    if (q->global)
        s.q.scale_type = QC_DTYPE_NONE;
    s.q.global = false;
    s.norm = round_step(mse->imatrix ? STEP_F32 : s.model, (float)mse->norm);
    float *memory = reserve(&s, most * width, most, tabled ? MAGNITUDES : 0);
    if (!memory)
        return false;
    if (tabled) {
        fill_powers(s.model, s.norm, memory);
        s.powers = memory;
    }
    for (int64_t r = 0; r < rows; r++)
        for (size_t c = 0; c < wide; c += most * width) {
            piece p = {.at = (const char *)x + ((size_t)r * wide + c) * elem_bytes, .group = width};
            p.count = wide - c < most * width ? wide - c : most * width;
            p.groups = (p.count + width - 1) / width;
            p.importance = importance ? importance + c : NULL;
            p.regular = p.count % width == 0 && width % KERNEL_STEP == 0 &&
                        !qc_kernel_has_nan(s.model, p.at, p.count);
            qc_decode_f32(q->model_dtype, p.at, s.x, p.count);
            search_piece(&s, &p, best_min, best_max);
            best_min += p.groups;
            best_max += p.groups;
        }
    free(memory);
    return true;
}
