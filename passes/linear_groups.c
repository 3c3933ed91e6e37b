/* SPDX-License-Identifier: MIT
 *
 * linear_groups.c - see linear_groups.h.
 *
 * A module that several targets name belongs to the group of the first of them in this order, which is
 * compressed-tensors': targets that name its path, spelt out before patterns, then those that name its class;
 * within each kind alphabetical. Of a target that stands in several groups the last one counts. Groups are in the
 * order of their keys, numbers in these compared as numbers.
 */
#include "passes/linear_groups.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/support/str.h"
#include "passes/schemes.h"

/* ---- one group ----------------------------------------------------------------------------------------- */

/* Asked for by its arithmetic, or the module is one of weights alone. */
static bool is_bare(qc_pass_ctx *pc, const qc_module *module)
{
    const char *arith = qc_pass_option_text(pc, "arith"), *bare = strstr(arith, "_bare");
    if (bare)
        return true;
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            if (qc_op_is(op, "keep"))
                return true;
    return false;
}

static qc_status read_part(
    qc_pass_ctx *pc, const char *what, const char *arg, const qc_attr *written, const qc_attr **part)
{
    size_t size = strlen(qc_pass_ctx_name(pc)) + strlen(what) + strlen(arg) + 8;
    char *where = qc_pass_alloc(pc, size);
    *part = NULL;
    if (qc_attr_count(written) == 0)
        return QC_OK;
    snprintf(where, size, "%s: %s%s", qc_pass_ctx_name(pc), what, arg);
    return qc_scheme_part_complete(qc_pass_ctx_get(pc), where, arg, written, part);
}

static qc_status read_preset(
    qc_pass_ctx *pc, const char *what, const char *text, qc_linear_group *group, bool *leaves_alone)
{
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    const qc_scheme_preset *preset = qc_scheme_preset_find(text);
    if (!preset) {
        const char *names[64];
        size_t count = 0;
        for (; count < 64 && qc_scheme_preset_at(count); count++)
            names[count] = qc_scheme_preset_at(count)->name;
        const char *near = qc_nearest_name(text, names, count);
        qc_pass_fail(pc, NULL, "%sthere is no scheme '%s'%s%s%s", what, text, near ? ", nearest is '" : "",
            near ? near : "", near ? "'" : "");
        return QC_ERROR;
    }
    group->weights = qc_scheme_preset_part(ctx, preset, "weights");
    group->input = qc_scheme_preset_part(ctx, preset, "input");
    *leaves_alone = !preset->weights[0] && !preset->input[0];
    return QC_OK;
}

/* The part with its observer unset where the text that it was made from names none. */
static const qc_attr *without_observer(qc_pass_ctx *pc, const qc_attr *part, bool named)
{
    enum { MOST = 16 };
    const char *keys[MOST];
    const qc_attr *values[MOST];
    size_t count = qc_attr_count(part);
    if (!part || named || count > MOST || !qc_attr_find(part, "observer"))
        return part;
    for (size_t i = 0; i < count; i++) {
        keys[i] = qc_attr_key(part, i);
        values[i] = strcmp(keys[i], "observer") == 0 ? qc_attr_word(qc_pass_ctx_get(pc), "unset")
                                                     : qc_attr_item(part, i);
    }
    return qc_attr_map(qc_pass_ctx_get(pc), keys, values, count);
}

/* The weights' part with what the option `search` asks for: local scales under a global one are searched; any other range
 * is searched as the observer memoryless_mse does. */
static qc_status add_search(qc_pass_ctx *pc, const qc_attr *written, qc_linear_group *group)
{
    enum { MOST = 24 };
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    const qc_attr *part = group->weights, *search = qc_pass_option_attr(pc, "search");
    const char *word = qc_attr_as_text(search), *keys[MOST + 1];
    const qc_attr *values[MOST + 1];
    bool global = qc_attr_as_bool(qc_attr_find(part, "global")), observer = qc_attr_find(written, "observer");
    size_t count = 0;
    if (strcmp(word, "none") == 0 || !part)
        return QC_OK;
    if (!global && (strcmp(word, "mse") != 0 || observer)) {
        if (observer)
            qc_pass_fail(pc, NULL, "search=%s and the observer of weights exclude each other", word);
        else
            qc_pass_fail(pc, NULL,
                "search=%s is for local scales under a global one (NVFP4): weights of type %s in granularity "
                "%s "
                "have search=mse",
                word, qc_attr_as_text(qc_attr_find(part, "type")),
                qc_attr_as_text(qc_attr_find(part, "granularity")));
        return QC_ERROR;
    }
    const char *field = global ? "search" : "observer";
    for (size_t i = 0; i < qc_attr_count(part) && count < MOST; i++) {
        if (strcmp(qc_attr_key(part, i), field) == 0)
            continue;
        keys[count] = qc_attr_key(part, i);
        values[count++] = qc_attr_item(part, i);
    }
    keys[count] = field;
    values[count++] = global ? search : qc_attr_word(ctx, "memoryless_mse");
    return read_part(pc, "", "weights", qc_attr_map(ctx, keys, values, count), &group->weights);
}

/* The group that the options scheme, weights, input and targets describe. */
static qc_status read_single(qc_pass_ctx *pc, bool bare, qc_linear_group *group)
{
    bool weights = qc_pass_option_given(pc, "weights"), leaves_alone = false;
    const char *scheme = qc_pass_option_text(pc, "scheme");
    bool preset = strcmp(scheme, "none") != 0 && (!weights || qc_pass_option_given(pc, "scheme"));
    *group = (qc_linear_group){.key = "", .targets = qc_pass_option_attr(pc, "targets")};
    if (preset && read_preset(pc, "", scheme, group, &leaves_alone) != QC_OK)
        return QC_ERROR;
    if (preset && bare) {
        group->name = qc_attr_string(qc_pass_ctx_get(pc), qc_scheme_preset_find(scheme)->name);
        group->weights = without_observer(pc, group->weights, false); /* no preset names one for weights */
    }
    if (weights && read_part(pc, "", "weights", qc_pass_option_attr(pc, "weights"), &group->weights) != QC_OK)
        return QC_ERROR;
    if (qc_pass_option_given(pc, "input") &&
        read_part(pc, "", "input", qc_pass_option_attr(pc, "input"), &group->input) != QC_OK)
        return QC_ERROR;
    if (weights && bare)
        group->weights = without_observer(
            pc, group->weights, qc_attr_find(qc_pass_option_attr(pc, "weights"), "observer") != NULL);
    if (add_search(pc, weights ? qc_pass_option_attr(pc, "weights") : NULL, group) != QC_OK)
        return QC_ERROR;
    if (!group->weights && !(leaves_alone && !group->input)) {
        qc_pass_fail(pc, NULL, "nothing says how to quantize the weights: give scheme or weights");
        return QC_ERROR;
    }
    return QC_OK;
}

/* A list of strings out of a list or one text; NULL when it is neither. */
static const qc_attr *string_list(qc_pass_ctx *pc, const qc_attr *attr)
{
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    bool list = qc_attr_get_kind(attr) == QC_ATTR_LIST;
    size_t count = list ? qc_attr_count(attr) : 1;
    const qc_attr **items = qc_pass_alloc(pc, (count + 1) * sizeof *items);
    for (size_t i = 0; i < count; i++) {
        const qc_attr *item = list ? qc_attr_item(attr, i) : attr;
        qc_attr_kind kind = qc_attr_get_kind(item);
        if (kind != QC_ATTR_STRING && kind != QC_ATTR_WORD)
            return NULL;
        items[i] = qc_attr_string(ctx, qc_attr_as_text(item));
    }
    return count > 0 ? qc_attr_list(ctx, items, count) : NULL;
}

/* A field that is a word or a string, as a string. */
static qc_status read_text(
    qc_pass_ctx *pc, const char *what, const qc_attr *entry, const char *field, const qc_attr **text)
{
    const qc_attr *value = qc_attr_find(entry, field);
    *text = NULL;
    if (!value)
        return QC_OK;
    if (!qc_attr_as_text(value)[0]) {
        qc_pass_fail(pc, NULL, "%s%s is a text", what, field);
        return QC_ERROR;
    }
    *text = qc_attr_string(qc_pass_ctx_get(pc), qc_attr_as_text(value));
    return QC_OK;
}

static qc_status read_maps(qc_pass_ctx *pc, const char *what, const qc_attr *entry, qc_linear_group *group)
{
    static const char *const args[] = {"weights", "input"};
    const qc_attr **parts[] = {&group->weights, &group->input};
    for (size_t i = 0; i < 2; i++) {
        const qc_attr *written = qc_attr_find(entry, args[i]);
        if (written && qc_attr_get_kind(written) != QC_ATTR_MAP) {
            qc_pass_fail(pc, NULL, "%s%s is a map", what, args[i]);
            return QC_ERROR;
        }
        if (written && read_part(pc, what, args[i], written, parts[i]) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

static qc_status read_group(qc_pass_ctx *pc, const char *key, const qc_attr *entry, qc_linear_group *group)
{
    size_t size = strlen(key) + 16;
    char *what = qc_pass_alloc(pc, size);
    const qc_attr *targets = qc_attr_find(entry, "targets"), *scheme;
    bool leaves_alone = false;
    const char *wrong = NULL;
    snprintf(what, size, "groups: %s: ", key);
    for (size_t i = 0; i < qc_attr_count(entry); i++)
        if (!qc_quant_one_of(qc_attr_key(entry, i), "format|input|name|scheme|targets|weights")) {
            qc_pass_fail(pc, NULL, "%sunknown field '%s'", what, qc_attr_key(entry, i));
            return QC_ERROR;
        }
    *group = (qc_linear_group){.key = key, .targets = targets ? string_list(pc, targets) : NULL};
    if (read_text(pc, what, entry, "scheme", &scheme) != QC_OK ||
        read_text(pc, what, entry, "format", &group->format) != QC_OK ||
        read_text(pc, what, entry, "name", &group->name) != QC_OK ||
        read_maps(pc, what, entry, group) != QC_OK)
        return QC_ERROR;
    if (!group->targets)
        wrong = "targets are missing: classes, paths or re:PATTERN";
    else if (scheme && (group->weights || group->input))
        wrong = "scheme and weights or input exclude each other";
    else if (group->format && !qc_quant_one_of(qc_attr_as_text(group->format), QC_LINEAR_FORMATS))
        wrong = "format is one of " QC_LINEAR_FORMATS;
    else if (!scheme && !group->weights)
        wrong = "nothing says how to quantize the weights: give scheme or weights";
    if (wrong) {
        qc_pass_fail(pc, NULL, "%s%s", what, wrong);
        return QC_ERROR;
    }
    return scheme ? read_preset(pc, what, qc_attr_as_text(scheme), group, &leaves_alone) : QC_OK;
}

/* ---- all groups ---------------------------------------------------------------------------------------- */

/* As strcmp, but runs of digits compare as numbers: group_2 comes before group_10. */
static int compare_keys(const char *a, const char *b)
{
    while (*a && *b) {
        size_t digits_a = strspn(a, "0123456789"), digits_b = strspn(b, "0123456789");
        if (digits_a && digits_b) {
            size_t zeros_a = strspn(a, "0"), zeros_b = strspn(b, "0");
            zeros_a -= zeros_a == digits_a;
            zeros_b -= zeros_b == digits_b;
            size_t length_a = digits_a - zeros_a, length_b = digits_b - zeros_b;
            int order = length_a != length_b ? (length_a < length_b ? -1 : 1)
                                             : strncmp(a + zeros_a, b + zeros_b, length_a);
            if (order)
                return order;
            a += digits_a;
            b += digits_b;
        } else if (*a != *b) {
            return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
        } else {
            a++;
            b++;
        }
    }
    return (*a != '\0') - (*b != '\0');
}

static int compare_groups(const void *a, const void *b)
{
    return compare_keys(((const qc_linear_group *)a)->key, ((const qc_linear_group *)b)->key);
}

static int compare_targets(const void *a, const void *b)
{
    const qc_linear_target *x = a, *y = b;
    int regex_x = strstr(x->text, "re:") != NULL, regex_y = strstr(y->text, "re:") != NULL;
    if (regex_x != regex_y)
        return regex_x - regex_y;
    int order = strcmp(x->text, y->text);
    return order ? order
                 : (x->group < y->group) - (x->group > y->group); /* of one text the last group first */
}

static qc_status read_targets(qc_pass_ctx *pc, qc_linear_groups *groups)
{
    size_t count = 0;
    for (size_t i = 0; i < groups->count; i++)
        count += qc_attr_count(groups->groups[i].targets);
    groups->targets = qc_pass_alloc(pc, (count + 1) * sizeof *groups->targets);
    for (size_t i = 0; i < groups->count; i++)
        for (size_t k = 0; k < qc_attr_count(groups->groups[i].targets); k++) {
            const char *text = qc_attr_as_text(qc_attr_item(groups->groups[i].targets, k));
            if (qc_target_check(qc_pass_ctx_get(pc), text) != QC_OK)
                return QC_ERROR;
            groups->targets[groups->target_count++] = (qc_linear_target){text, i, false};
        }
    qsort(groups->targets, groups->target_count, sizeof *groups->targets, compare_targets);
    return QC_OK;
}

static qc_status read_several(qc_pass_ctx *pc, qc_linear_groups *groups)
{
    static const char *const others[] = {"scheme", "weights", "input", "targets", "search"};
    const qc_attr *map = qc_pass_option_attr(pc, "groups");
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (qc_pass_option_given(pc, others[i])) {
            qc_pass_fail(pc, NULL, "groups say it all: '%s' has no meaning beside them", others[i]);
            return QC_ERROR;
        }
    groups->groups = qc_pass_alloc(pc, qc_attr_count(map) * sizeof *groups->groups);
    for (size_t i = 0; i < qc_attr_count(map); i++) {
        const qc_attr *entry = qc_attr_item(map, i);
        if (qc_attr_get_kind(entry) != QC_ATTR_MAP) {
            qc_pass_fail(pc, NULL, "groups: %s is a map", qc_attr_key(map, i));
            return QC_ERROR;
        }
        if (read_group(pc, qc_attr_key(map, i), entry, &groups->groups[groups->count++]) != QC_OK)
            return QC_ERROR;
    }
    qsort(groups->groups, groups->count, sizeof *groups->groups, compare_groups);
    return read_targets(pc, groups);
}

qc_status qc_linear_groups_read(qc_pass_ctx *pc, const qc_module *module, qc_linear_groups *groups)
{
    const qc_attr *several = qc_pass_option_attr(pc, "groups");
    *groups = (qc_linear_groups){.bare = is_bare(pc, module)};
    if (qc_attr_count(several) > 0) {
        if (read_several(pc, groups) != QC_OK)
            return QC_ERROR;
        for (size_t i = 0; groups->bare && i < groups->count; i++) {
            qc_linear_group *g = &groups->groups[i];
            const qc_attr *written = qc_attr_find(qc_attr_find(several, g->key), "weights");
            g->weights = without_observer(pc, g->weights, qc_attr_find(written, "observer") != NULL);
            g->name = g->name ? g->name : qc_attr_string(qc_pass_ctx_get(pc), g->key);
        }
        return QC_OK;
    }
    groups->count = 1;
    groups->groups = qc_pass_alloc(pc, sizeof *groups->groups);
    if (read_single(pc, groups->bare, groups->groups) != QC_OK)
        return QC_ERROR;
    return read_targets(pc, groups);
}

qc_linear_group *qc_linear_groups_find(qc_linear_groups *groups, const qc_node *node)
{
    const qc_linear_target *by_name = NULL, *by_class = NULL;
    for (size_t i = 0; i < groups->target_count; i++) {
        qc_linear_target *target = &groups->targets[i];
        if (!qc_node_matches(node, target->text))
            continue;
        target->used = true;
        bool name = strncmp(target->text, "re:", 3) == 0 || qc_node_is_named(node, target->text);
        if (name && !by_name)
            by_name = target;
        else if (!name && !by_class)
            by_class = target;
    }
    const qc_linear_target *found = by_name ? by_name : by_class;
    return found ? &groups->groups[found->group] : NULL;
}
