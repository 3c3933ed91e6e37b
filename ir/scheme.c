/* SPDX-License-Identifier: MIT
 *
 * scheme.c - see scheme.h.
 */
#include "ir/scheme.h"

static const char *const granularities[] = {
    [QC_GRANULARITY_TENSOR] = "tensor",
    [QC_GRANULARITY_HEAD] = "head",
    [QC_GRANULARITY_TOKEN] = "token",
    [QC_GRANULARITY_CHANNEL] = "channel",
    [QC_GRANULARITY_GROUP] = "group",
    [QC_GRANULARITY_BLOCK] = "block",
};
enum { GRANULARITY_COUNT = sizeof granularities / sizeof granularities[0] };

/* What is being read, for messages. */
typedef struct reader {
    qc_diag *diag;
    const char *where, *scheme, *arg;
    const qc_attr *entry;
} reader;

const char *qc_granularity_name(qc_granularity granularity)
{
    return granularities[granularity];
}

static const char *text_of(const reader *r, const char *field)
{
    return qc_attr_as_text(qc_attr_find(r->entry, field));
}

static qc_status read_granularity(const reader *r, qc_scheme_part *part)
{
    const char *name = text_of(r, "granularity");
    size_t i = 0;
    while (i < GRANULARITY_COUNT && strcmp(name, granularities[i]) != 0)
        i++;
    if (i == GRANULARITY_COUNT)
        return qc_error(
            r->diag, r->where, "@%s has the unknown granularity '%s' for its %s", r->scheme, name, r->arg);
    part->granularity = (qc_granularity)i;
    const qc_attr *group = qc_attr_find(r->entry, "group"), *block = qc_attr_find(r->entry, "block");
    if (part->granularity == QC_GRANULARITY_GROUP) {
        part->group_elems = group ? qc_attr_as_int(group) : 0;
        if (part->group_elems < 1)
            return qc_error(r->diag, r->where, "@%s: granularity group of its %s needs `group`, at least 1",
                r->scheme, r->arg);
    }
    if (part->granularity == QC_GRANULARITY_BLOCK) {
        part->block_rows = qc_attr_count(block) == 2 ? qc_attr_as_int(qc_attr_item(block, 0)) : 0;
        part->block_columns = qc_attr_count(block) == 2 ? qc_attr_as_int(qc_attr_item(block, 1)) : 0;
        if (part->block_rows < 1 || part->block_columns < 1)
            return qc_error(r->diag, r->where,
                "@%s: granularity block of its %s needs `block`, [rows, columns]", r->scheme, r->arg);
    }
    return QC_OK;
}

/* An element type that may be left out. */
static qc_status read_type(const reader *r, const char *field, qc_dtype absent, qc_dtype *dtype)
{
    const qc_attr *attr = qc_attr_find(r->entry, field);
    *dtype = absent;
    if (!attr)
        return QC_OK;
    const char *name = qc_attr_as_text(attr);
    *dtype = qc_dtype_from_name(name, strlen(name));
    bool scale = strcmp(field, "scale") == 0;
    bool fits = scale ? qc_dtype_is_float(*dtype) && qc_dtype_bits(*dtype) >= 8 && *dtype != QC_F64
                      : qc_dtype_bits(*dtype) >= 8 && *dtype != QC_BOOL;
    if (*dtype == QC_DTYPE_NONE || !fits)
        return qc_error(
            r->diag, r->where, "@%s: %s of its %s cannot be of type '%s'", r->scheme, field, r->arg, name);
    return QC_OK;
}

/* What the part adds to the plain rule: a search, room above the largest scale, room above the ranges. */
static qc_status read_search(const reader *r, qc_scheme_part *part)
{
    static const char *const names[] = {"none", "mse", "four_six"};
    const char *name = text_of(r, "search");
    const qc_attr *scale_max = qc_attr_find(r->entry, "scale_max"),
                  *headroom = qc_attr_find(r->entry, "headroom");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0 || (i == 0 && !name[0])) {
            part->search = (qc_search)i;
            break;
        } else if (i + 1 == sizeof names / sizeof *names) {
            return qc_error(
                r->diag, r->where, "@%s has the unknown search '%s' for its %s", r->scheme, name, r->arg);
        }
    part->scale_max = scale_max ? (float)qc_attr_as_float(scale_max) : 0.0f;
    part->headroom = headroom ? (float)qc_attr_as_float(headroom) : 1.0f;
    if ((part->search != QC_SEARCH_NONE || scale_max) && !part->global)
        return qc_error(
            r->diag, r->where, "@%s: search and scale_max of its %s need a global scale", r->scheme, r->arg);
    if (scale_max && !(part->scale_max >= 1 && part->scale_max <= 448))
        return qc_error(r->diag, r->where, "@%s: scale_max of its %s must be 1 to 448", r->scheme, r->arg);
    if (!(part->headroom >= 1 && part->headroom <= 1024))
        return qc_error(r->diag, r->where, "@%s: headroom of its %s must be 1 to 1024", r->scheme, r->arg);
    return QC_OK;
}

qc_status qc_scheme_read(qc_diag *diag, const char *where, const qc_module *module, const char *scheme,
    const char *arg, qc_scheme_part *part)
{
    const qc_symbol *symbol = qc_module_find_symbol(module, scheme);
    if (!symbol)
        return qc_error(diag, where, "no symbol @%s in the module", scheme);
    if (strcmp(qc_symbol_kind(symbol), "scheme") != 0 && strcmp(qc_symbol_kind(symbol), "kv_scheme") != 0)
        return qc_error(diag, where, "@%s is not a scheme", scheme);
    const qc_attr *fields = qc_symbol_fields(symbol), *entry = qc_attr_find(fields, arg);
    if (!entry || qc_attr_get_kind(entry) != QC_ATTR_MAP)
        return qc_error(diag, where, "@%s has no part '%s'", scheme, arg);
    const reader r = {diag, where, scheme, arg, entry};
    *part = (qc_scheme_part){
        .symmetric = qc_attr_as_bool(qc_attr_find(entry, "symmetric")),
        .dynamic = qc_attr_as_bool(qc_attr_find(entry, "dynamic")),
        .global = qc_attr_as_bool(qc_attr_find(entry, "global")),
        .observer = text_of(&r, "observer"),
        .observer_args = qc_attr_find(entry, "observer_args"),
        .actorder = text_of(&r, "actorder"),
    };

    const char *arith = qc_attr_as_text(qc_attr_find(fields, "arith"));
    part->arith = qc_arith_find(arith, strlen(arith));
    if (!part->arith)
        return qc_error(diag, where, "@%s names the unknown arithmetic '%s'", scheme, arith);

    const char *type = text_of(&r, "type");
    part->type = qc_dtype_from_name(type, strlen(type));
    part->grid = qc_grid_of(part->type);
    if (part->grid.storage == QC_DTYPE_NONE)
        return qc_error(diag, where, "@%s quantizes its %s to '%s', which has no codes", scheme, arg, type);
    if (!part->symmetric && qc_dtype_is_float(part->type))
        return qc_error(diag, where, "@%s: %s codes of its %s have no zero point", scheme, type, arg);
    if (read_granularity(&r, part) != QC_OK ||
        read_type(&r, "scale", QC_DTYPE_NONE, &part->scale_type) != QC_OK ||
        read_type(&r, "zero_point", QC_I8, &part->zero_point_type) != QC_OK || read_search(&r, part) != QC_OK)
        return QC_ERROR;
    return QC_OK;
}

qc_quantizer qc_scheme_quantizer(const qc_scheme_part *part, qc_dtype model_dtype)
{
    return (qc_quantizer){
        .arith = part->arith,
        .model_dtype = model_dtype,
        .grid = part->grid,
        .symmetric = part->symmetric,
        .global = part->global,
        .scale_type = part->scale_type,
        .search = part->search,
        .scale_max = part->scale_max,
    };
}

qc_quantizer qc_scheme_dequantizer(qc_dtype codes, qc_dtype to, qc_dtype scale, bool global, bool symmetric)
{
    bool own_type = scale == QC_F8E8M0 || scale == QC_F8E4M3;
    return (qc_quantizer){
        .arith = qc_arith_at(0),
        .model_dtype = to,
        .grid = qc_grid_of(codes),
        .symmetric = symmetric,
        .global = global,
        .scale_type = own_type ? scale : QC_DTYPE_NONE,
    };
}

qc_status qc_scheme_mse(qc_diag *diag, const char *where, const qc_scheme_part *part, const char *observer,
    qc_mse *mse, bool *searches)
{
    if (!observer)
        observer = part->observer;
    *searches = qc_mse_from_observer(observer, strlen(observer), mse);
    if (!*searches || !part->observer_args)
        return QC_OK;
    const struct {
        const char *name;
        double *value;
    } numbers[] = {
        {"maxshrink", &mse->maxshrink}, {"grid", &mse->grid}, {"norm", &mse->norm}, {"expand", &mse->expand}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const qc_attr *value = qc_attr_find(part->observer_args, numbers[i].name);
        if (value)
            *numbers[i].value = qc_attr_as_float(value);
    }
    const qc_attr *patience = qc_attr_find(part->observer_args, "patience");
    if (patience)
        mse->patience = (int)qc_attr_as_int(patience);
    const char *fault = qc_mse_fault(mse);
    return fault ? qc_error(diag, where, "observer %s: %s", observer, fault) : QC_OK;
}
