/* SPDX-License-Identifier: MIT
 *
 * eval.c - the meaning of a rewrite: the reference runs the function before and after it, on the same data.
 *
 *   // EVAL: B=1, S=5 exact         results equal to the bit
 *   // EVAL: B=1, S=5 rel=0.05      |after - before| / |before| in the Euclidean norm, and no more than that
 *
 * Inputs and weights come from a fixed generator (SplitMix64), seeded by their names: about normal with
 * variance 1, weights a quarter of that; ids are 0 to 7.
 */
#include <math.h>
#include <stdlib.h>

#include "backends/reference/reference.h"
#include "ir/experts.h"
#include "tests/filetest/filetest.h"

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t seed_of(const char *name)
{
    uint64_t seed = 1469598103934665603u;
    for (; *name; name++)
        seed = (seed ^ (unsigned char)*name) * 1099511628211u;
    return seed;
}

/* Twelve uniform numbers make a normal one nearly enough. */
static float normal(uint64_t *state)
{
    double sum = -6.0;
    for (int i = 0; i < 12; i++)
        sum += (double)(next_random(state) >> 11) * 0x1p-53;
    return (float)sum;
}

/* The size of a dimension under the bindings of the directive; -1 when a symbol has none. Only plain integers
 * and symbols occur in arguments. */
static int64_t bound_dim(const filetest *t, const qc_dim *dim)
{
    int64_t value;
    if (qc_dim_as_int(dim, &value))
        return value;
    for (const char *at = t->eval; (at = strchr(at, '=')) != NULL; at++) {
        const char *start = at;
        while (start > t->eval &&
               ((start[-1] >= 'A' && start[-1] <= 'Z') || (start[-1] >= 'a' && start[-1] <= 'z')))
            start--;
        char *name = qc_arena_strndup((qc_arena *)&t->arena, start, (size_t)(at - start));
        if (qc_dim_symbol(t->ctx, name) == dim)
            return atoll(at + 1);
    }
    return -1;
}

static bool make_tensor(
    filetest *t, qc_diag *diag, const qc_type *type, const char *name, float factor, qc_tensor *out)
{
    int64_t dims[QC_MAX_RANK];
    for (int i = 0; i < qc_type_rank(type); i++)
        if ((dims[i] = bound_dim(t, qc_type_dim(type, i))) < 0) {
            filetest_complain(t, "EVAL does not bind every dimension of the arguments");
            return false;
        }
    if (qc_tensor_create(diag, name, qc_type_dtype(type), qc_type_rank(type), dims, out) != QC_OK)
        return false;
    uint64_t state = seed_of(name);
    for (int64_t i = 0; i < out->count; i++) {
        float value =
            qc_dtype_is_int(out->dtype) ? (float)(next_random(&state) & 7) : factor * normal(&state);
        if (i % 13 == 5 || i % 13 == 7)
            value = i % 13 == 5 ? -0.0f : 0.0f; /* rewrites that are wrong for zeros must show */
        if (out->dtype == QC_I64)
            ((int64_t *)out->data)[i] = (int64_t)value;
        else
            qc_tensor_write(out, i, 1, &value);
    }
    return true;
}

/* ---- weights: the types of the module before the pass say what the checkpoint stores ------------------- */

typedef struct weights {
    filetest *t;
    const qc_module *before;
    qc_tensor current;
} weights;

/* The type of the stored tensor that the op reads under this name; NULL where it reads another. */
static const qc_type *stored_type(weights *w, const qc_op *op, const char *name)
{
    const qc_type *type = qc_op_result_count(op) ? qc_value_type(qc_op_result(op, 0)) : NULL;
    const qc_dim *dims[QC_MAX_RANK];
    int64_t experts;
    if (qc_op_is(op, "weight"))
        return strcmp(qc_attr_as_text(qc_op_attr(op, "tensor")), name) == 0 ? type : NULL;
    if (!qc_op_is(op, "expert_weight") || !qc_dim_as_int(qc_type_dim(type, 0), &experts))
        return NULL;
    for (int64_t e = 0; e < experts; e++) {
        const char *own = qc_expert_name(&w->t->arena, qc_attr_as_text(qc_op_attr(op, "tensor")), e);
        if (strcmp(own, name) != 0)
            continue;
        for (int i = 1; i < qc_type_rank(type); i++)
            dims[i - 1] = qc_type_dim(type, i);
        return qc_type_tensor(w->t->ctx, qc_type_dtype(type), qc_type_rank(type) - 1, dims);
    }
    return NULL;
}

static qc_status stored_weight(void *user, qc_diag *diag, const char *name, qc_tensor *stored)
{
    weights *w = user;
    qc_tensor_free(&w->current);
    for (const qc_func *f = qc_module_first_func(w->before); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op)) {
            const qc_type *type = stored_type(w, op, name);
            if (!type)
                continue;
            if (!make_tensor(w->t, diag, type, name, 0.25f, &w->current))
                return QC_ERROR;
            *stored = w->current;
            return QC_OK;
        }
    return qc_error(diag, name, "the checkpoint has no such tensor");
}

/* ---- running and comparing ----------------------------------------------------------------------------- */

#define MAX_VALUES 8

static bool run(filetest *t, qc_diag *diag, weights *w, const qc_module *module, qc_tensor *outputs)
{
    const qc_func *func = qc_module_first_func(module);
    qc_tensor inputs[MAX_VALUES] = {{0}};
    qc_reference_options options = {.user = w, .weight = stored_weight};
    size_t count = qc_func_argument_count(func);
    bool ok = count <= MAX_VALUES && qc_func_result_count(func) <= MAX_VALUES;
    for (size_t i = 0; ok && i < count; i++) {
        char *name = qc_arena_printf(&t->arena, "argument %zu", i);
        ok = make_tensor(t, diag, qc_value_type(qc_func_argument(func, i)), name, 1.0f, &inputs[i]);
    }
    qc_reference *reference = ok ? qc_reference_create(module, &options) : NULL;
    ok = reference && qc_reference_run(reference, func, inputs, count, outputs) == QC_OK;
    qc_reference_destroy(reference);
    for (size_t i = 0; i < count && i < MAX_VALUES; i++)
        qc_tensor_free(&inputs[i]);
    return ok;
}

/* Over all results; NaN where it cannot be said. */
static double relative_error(const qc_tensor *a, const qc_tensor *b, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        if (!qc_tensor_same_shape(&a[i], &b[i]))
            return NAN;
        for (int64_t k = 0; k < a[i].count; k++) {
            float x, y;
            qc_tensor_read(&a[i], k, 1, &x);
            qc_tensor_read(&b[i], k, 1, &y);
            difference += ((double)y - x) * ((double)y - x);
            norm += (double)x * x;
        }
    }
    return sqrt(difference / norm);
}

static bool same_bits(const qc_tensor *a, const qc_tensor *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (a[i].dtype != b[i].dtype || !qc_tensor_same_shape(&a[i], &b[i]) ||
            memcmp(a[i].data, b[i].data, qc_tensor_bytes(a[i].dtype, a[i].count)) != 0)
            return false;
    return true;
}

static void on_diagnostic(void *user, qc_severity severity, const char *where, const char *what)
{
    filetest *t = user;
    if (severity == QC_SEVERITY_ERROR)
        filetest_complain(t, qc_arena_printf(&t->arena, "EVAL: %s: %s", where, what));
}

void filetest_eval(filetest *t, const qc_module *before, const qc_module *after)
{
    qc_diag diag;
    qc_diag_init(&diag, &t->arena, on_diagnostic, t);
    qc_tensor x[MAX_VALUES] = {{0}}, y[MAX_VALUES] = {{0}};
    weights w = {.t = t, .before = before};
    size_t count = qc_func_result_count(qc_module_first_func(before));
    const char *rel = strstr(t->eval, "rel=");
    if (!run(t, &diag, &w, before, x) || !run(t, &diag, &w, after, y)) {
        filetest_complain(t, "EVAL: the reference failed");
    } else if (rel) {
        double error = relative_error(x, y, count), limit = atof(rel + 4);
        if (!(error <= limit))
            filetest_complain(
                t, qc_arena_printf(&t->arena, "EVAL: relative error %.3g, at most %.3g", error, limit));
    } else if (!strstr(t->eval, "exact")) {
        filetest_complain(t, "EVAL says neither exact nor rel=");
    } else if (!same_bits(x, y, count)) {
        filetest_complain(t, "EVAL: the bits of the results differ");
    }
    qc_tensor_free(&w.current);
    for (size_t i = 0; i < MAX_VALUES; i++) {
        qc_tensor_free(&x[i]);
        qc_tensor_free(&y[i]);
    }
}
