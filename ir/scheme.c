/* SPDX-License-Identifier: MIT
 *
 * scheme.c - see scheme.h.
 */
#include "ir/scheme.h"

static const char *const granularities[] = {"tensor", "head", "token", "channel"};

qc_status qc_scheme_read(qc_diag *diag, const char *where, const qc_module *module, const char *scheme,
    const char *arg, qc_scheme_part *part)
{
    const qc_symbol *symbol = qc_module_find_symbol(module, scheme);
    if (!symbol)
        return qc_error(diag, where, "no symbol @%s in the module", scheme);
    const qc_attr *fields = qc_symbol_fields(symbol), *entry = qc_attr_find(fields, arg);
    if (!entry || qc_attr_get_kind(entry) != QC_ATTR_MAP)
        return qc_error(diag, where, "@%s has no part '%s'", scheme, arg);
    *part = (qc_scheme_part){
        .symmetric = qc_attr_as_bool(qc_attr_find(entry, "symmetric")),
        .dynamic = qc_attr_as_bool(qc_attr_find(entry, "dynamic")),
        .observer = qc_attr_as_text(qc_attr_find(entry, "observer")),
    };

    const char *arith = qc_attr_as_text(qc_attr_find(fields, "arith"));
    part->arith = qc_arith_find(arith, strlen(arith));
    if (!part->arith)
        return qc_error(diag, where, "@%s names the unknown arithmetic '%s'", scheme, arith);

    const char *type = qc_attr_as_text(qc_attr_find(entry, "type"));
    part->type = qc_dtype_from_name(type, strlen(type));
    part->grid = qc_grid_of(part->type);
    if (part->grid.storage == QC_DTYPE_NONE)
        return qc_error(diag, where, "@%s quantizes its %s to '%s', which has no codes", scheme, arg, type);

    const char *granularity = qc_attr_as_text(qc_attr_find(entry, "granularity"));
    for (size_t i = 0; i < sizeof granularities / sizeof granularities[0]; i++) {
        if (strcmp(granularity, granularities[i]) == 0) {
            part->granularity = (qc_granularity)i;
            return QC_OK;
        }
    }
    return qc_error(diag, where, "@%s has the unknown granularity '%s' for its %s", scheme, granularity, arg);
}
