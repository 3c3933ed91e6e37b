/* SPDX-License-Identifier: MIT
 *
 * dim.c - evaluating dimensions: sums of products of symbols and floor divisions, see dim.h.
 */
#include "ir/dim.h"

#include <string.h>

#include "ir/ir.h"

static bool evaluate_atom(
    const qc_dim_atom *atom, const qc_dim_binding *bindings, size_t count, int64_t *value)
{
    if (!atom->symbol) {
        if (!qc_dim_evaluate(atom->dividend, bindings, count, value))
            return false;
        int64_t quotient = *value / atom->divisor;
        *value = quotient - (*value % atom->divisor < 0);
        return true;
    }
    for (size_t i = 0; i < count; i++)
        if (strcmp(bindings[i].symbol, atom->symbol) == 0) {
            *value = bindings[i].value;
            return true;
        }
    return false;
}

bool qc_dim_evaluate(const qc_dim *dim, const qc_dim_binding *bindings, size_t count, int64_t *value)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < dim->term_count; i++) {
        int64_t product = dim->terms[i].coefficient, factor;
        for (uint32_t j = 0; j < dim->terms[i].atom_count; j++)
            if (!evaluate_atom(dim->terms[i].atoms[j], bindings, count, &factor) ||
                __builtin_mul_overflow(product, factor, &product))
                return false;
        if (__builtin_add_overflow(sum, product, &sum))
            return false;
    }
    *value = sum;
    return true;
}
