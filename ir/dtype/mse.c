/* SPDX-License-Identifier: MIT
 *
 * mse.c - parameters of the search of mse.h: defaults, limits, its end, and weights of columns. The search
 * itself is in mse_search.c.
 */
#include "ir/dtype/mse.h"

#include <math.h>
#include <string.h>

#include "ir/dtype/columns.h"

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
        {"mse_mean", {.maxshrink = 0.9,
                         .grid = 50,
                         .norm = 2,
                         .expand = 1,
                         .patience = 5,
                         .mean = true,
                         .imatrix = true}},
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

bool qc_mse_fold(const char *observer, size_t length, qc_fold *fold)
{
    qc_share share;
    qc_mse mse;
    if (qc_fold_from_observer(observer, length, fold))
        return true;
    *fold = QC_FOLD_RUNNING;
    if (qc_share_from_observer(observer, length, &share))
        return true;
    if (!qc_mse_from_observer(observer, length, &mse))
        return false;
    *fold = mse.memoryless ? QC_FOLD_LAST : mse.mean ? QC_FOLD_MEAN : QC_FOLD_MOVING_AVERAGE;
    return true;
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
