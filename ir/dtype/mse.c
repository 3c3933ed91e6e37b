/* SPDX-License-Identifier: MIT
 *
 * mse.c - see mse.h. The arithmetic is that of llm-compressor 0.14 on a CPU: every step in D, the exponent of
 * the norm rounded to D, powers rounded to D, sums in f32 and rounded to D once. A sum in f32 depends on its
 * order: torch_sum below has the one of PyTorch on a processor with 8 f32 lanes.
 */
#include "ir/dtype/mse.h"

#include <math.h>
#include <stdlib.h>

#include "ir/dtype/steps.h"

bool qc_mse_from_observer(const char *name, size_t length, qc_mse *mse)
{
    static const struct {
        const char *name;
        qc_mse mse;
    } observers[] = {
        {"mse", {.maxshrink = 0.2, .grid = 100, .norm = 2.4, .expand = 1, .patience = 5}},
        {"memoryless_mse",
            {.maxshrink = 0.2, .grid = 100, .norm = 2.4, .expand = 1, .patience = 5, .memoryless = true}},
        {"nvfp4_expanded_mse", {.maxshrink = 1 - 0.8 / 1.8,
                                   .grid = 200,
                                   .norm = 2.4,
                                   .expand = 1.8,
                                   .patience = 1000,
                                   .memoryless = true}},
        {"imatrix_mse", {.maxshrink = 0.95,
                            .grid = 20,
                            .norm = 3,
                            .expand = 1,
                            .patience = 5,
                            .memoryless = true,
                            .imatrix = true}},
        {"nvfp4_expanded_imatrix", {.maxshrink = 1 - 0.8 / 1.8,
                                       .grid = 200,
                                       .norm = 2.4,
                                       .expand = 1.8,
                                       .patience = 1000,
                                       .memoryless = true,
                                       .imatrix = true}},
    };
    for (size_t i = 0; i < sizeof observers / sizeof observers[0]; i++)
        if (strlen(observers[i].name) == length && memcmp(observers[i].name, name, length) == 0) {
            *mse = observers[i].mse;
            return true;
        }
    return false;
}

static double step_limit(const qc_mse *mse)
{
    double steps = trunc(mse->maxshrink * mse->grid);
    return mse->imatrix ? (steps < 1 ? 1 : steps) + 1 : steps;
}

const char *qc_mse_fault(const qc_mse *mse)
{
    if (!(mse->grid > 0) || !isfinite(mse->grid))
        return "grid must be a positive number";
    if (!(mse->maxshrink >= 0 && mse->maxshrink <= 1))
        return "maxshrink must lie between 0 and 1";
    if (!(mse->norm > 0) || !isfinite(mse->norm))
        return "norm must be a positive number";
    if (!(mse->expand >= 1) || !isfinite(mse->expand))
        return "expand must be at least 1";
    if (mse->patience < 0)
        return "patience must not be negative";
    if (step_limit(mse) > QC_MSE_MAX_STEPS)
        return "maxshrink * grid must not be above 4,000";
    return NULL;
}

int qc_mse_steps(const qc_mse *mse)
{
    return (int)step_limit(mse);
}

int qc_mse_stop_step(const qc_mse *mse, const uint64_t *improved)
{
    const int steps = qc_mse_steps(mse);
    for (int i = 0, stale = 0; i < steps; i++) {
        stale = improved[i / 64] >> (i % 64) & 1 ? 0 : stale + 1;
        if (stale > 0 && stale >= mse->patience && !(mse->imatrix && mse->patience == 0))
            return i + 1;
    }
    return steps;
}

bool qc_mse_improved_after(const uint64_t *improved, int stop_step)
{
    for (int i = stop_step; i < QC_MSE_MAX_STEPS; i++)
        if (improved[i / 64] >> (i % 64) & 1)
            return true;
    return false;
}

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
    accumulate(x, vectors, 8, lanes);
    for (size_t k = 0; k < 8; k++)
        sum += lanes[k];
    return sum;
}

/* ---- powers -------------------------------------------------------------------------------------------- */

/* |x|^norm as PyTorch takes it in a type, of magnitudes only. */
static float power(step_type type, float x, float norm)
{
    if (norm == 2.0f)
        return round_step(type, x * x);
    if (norm == 3.0f)
        return round_step(type, round_step(type, x * x) * x);
    if (norm == 0.5f)
        return round_step(type, sqrtf(x));
    return round_step(type, type == STEP_F32 ? powf(x, norm) : (float)pow((double)x, (double)norm));
}

enum { MAGNITUDES = 32768 };

/* Of every magnitude of a 16-bit type. */
static void fill_powers(step_type type, float norm, float *powers)
{
    for (uint32_t i = 0; i < MAGNITUDES; i++) {
        float x = type == STEP_BF16 ? qc_bf16_to_f32((uint16_t)i) : qc_f16_to_f32((uint16_t)i);
        powers[i] = power(type, x, norm);
    }
}

bool qc_mse_importance(const float *mean_squares, int64_t columns, float *importance)
{
    bool some = false;
    double sum = 0;
    for (int64_t c = 0; c < columns; c++) {
        if (!isfinite(mean_squares[c]) || mean_squares[c] < 0)
            return false;
        some = some || mean_squares[c] > 0;
        sum += (double)mean_squares[c];
    }
    if (!some)
        return false;
    float mean = (float)(sum / (double)columns) + 0x1p-126f;
    for (int64_t c = 0; c < columns; c++)
        importance[c] = mean_squares[c] / mean;
    return true;
}

/* ---- the search ---------------------------------------------------------------------------------------- */

typedef struct search {
    qc_quantizer q; /* without global scale */
    const qc_mse *mse;
    step_type model;
    float norm;
    const float *powers; /* of magnitudes of 16 bits; else NULL */
    float *x, *errors;   /* a range, in f32 */
} search;

static float error_of(const search *s, const float *importance, size_t count, float min, float max)
{
    float scale, zero_point;
    const qc_quantizer *q = &s->q;
    const step_type step = s->model;
    qc_quantizer_scale(q, min, max, 0, &scale, &zero_point);
    for (size_t i = 0; i < count; i++) {
        float t = step_quotient(step, s->x[i], scale, zero_point + 0.0f);
        uint8_t code = (uint8_t)step_code(q->grid.storage, t, q->grid.min, q->grid.max);
        float y = step_value(q->grid.storage, code);
        y = round_step(step, round_step(step, y - zero_point) * scale);
        if (s->mse->imatrix) {
            float e = power(STEP_F32, fabsf(y - s->x[i]), s->norm);
            s->errors[i] = importance ? e * importance[i] : e;
        } else {
            float d = fabsf(round_step(step, y - s->x[i]));
            s->errors[i] = !s->powers          ? power(step, d, s->norm)
                           : step == STEP_BF16 ? s->powers[qc_f32_bits(d) >> 16]
                                               : s->powers[qc_f16_from_f32(d) & 0x7fffu];
        }
    }
    step_type sum_type = s->mse->imatrix ? STEP_F32 : step;
    return round_step(sum_type, torch_sum(sum_type, s->errors, count));
}

static void search_range(const search *s, const float *importance, size_t count, int stop_step,
    float *best_min, float *best_max, uint64_t *improved)
{
    const float expand = (float)s->mse->expand;
    const float min = round_step(s->model, *best_min * expand),
                max = round_step(s->model, *best_max * expand);
    float best = s->mse->imatrix ? 0x1.fffffep127f : (float)qc_dtype_max(s->q.model_dtype);
    *best_min = min;
    *best_max = max;
    for (int i = 0; i < stop_step; i++) {
        const float p = (float)(1 - i / s->mse->grid);
        float low = round_step(s->model, min * p), high = round_step(s->model, max * p);
        float error = error_of(s, importance, count, low, high);
        if (!(error < best))
            continue;
        best = error;
        *best_min = low;
        *best_max = high;
        improved[i / 64] |= UINT64_C(1) << (i % 64);
    }
}

bool qc_mse_search(const qc_quantizer *q, const qc_mse *mse, const void *x, int64_t rows, int64_t columns,
    int64_t group, const float *importance, int stop_step, float *best_min, float *best_max,
    uint64_t *improved)
{
    search s = {.q = *q, .mse = mse, .model = step_of(q->model_dtype)};
    const size_t width = (size_t)(group < columns ? group : columns),
                 elem_bytes = s.model == STEP_F32 ? 4 : 2;
    const bool tabled = s.model != STEP_F32 && !mse->imatrix;
    float *memory = malloc((2 * width + (tabled ? MAGNITUDES : 0)) * sizeof *memory);
    if (!memory)
        return false;
    if (q->global)
        s.q.scale_type = QC_DTYPE_NONE;
    s.q.global = false;
    s.x = memory;
    s.errors = memory + width;
    s.norm = round_step(mse->imatrix ? STEP_F32 : s.model, (float)mse->norm);
    if (tabled) {
        s.powers = memory + 2 * width;
        fill_powers(s.model, s.norm, memory + 2 * width);
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c += group, best_min++, best_max++) {
            size_t count = (size_t)(columns - c < group ? columns - c : group);
            const char *at = (const char *)x + (size_t)(r * columns + c) * elem_bytes;
            qc_arith_minmax(q->model_dtype, at, count, best_min, best_max);
            qc_decode_f32(q->model_dtype, at, s.x, count);
            search_range(
                &s, importance ? importance + c : NULL, count, stop_step, best_min, best_max, improved);
        }
    free(memory);
    return true;
}
