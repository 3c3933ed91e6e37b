/* SPDX-License-Identifier: MIT
 *
 * args.c - QuantizationArgs: fields, defaults and checks of compressed-tensors 0.19, in its order. What passes its
 * checks and qc cannot do is refused where it is expanded.
 */
#include "frontends/recipe/internal.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

typedef struct args_state {
    qc_recipe_args *args;
    const char *what;
    uint32_t dynamic_line, group_line, strategy_line, block_line, symmetric_line;
} args_state;

/* ---- observers ----------------------------------------------------------------------------------------- */

static const char *const observers[] = {"static_minmax", "memoryless_minmax", "minmax", "mse",
    "memoryless_mse", "nvfp4_expanded_mse", "imatrix_mse", "nvfp4_expanded_imatrix"};
static const char *const foreign_observers[] = {"fouroversix"};

/* llm-compressor finds them whatever their case, and takes '-' and ' ' for '_'. */
qc_status recipe_observer(recipe_reader *r, const qc_yaml_entry *entry, const char **observer)
{
    const char *text;
    *observer = NULL;
    if (entry->value->kind == QC_YAML_NULL)
        return QC_OK;
    if (recipe_string(r, entry, &text) != QC_OK)
        return QC_ERROR;
    char *name = qc_arena_strdup(r->arena, text);
    for (char *c = name; *c; c++)
        *c = *c == '-' || *c == ' ' ? '_' : *c;
    int index = recipe_word(name, observers, COUNT(observers));
    if (index >= 0) {
        *observer = observers[index];
        return QC_OK;
    }
    if (recipe_word(name, foreign_observers, COUNT(foreign_observers)) >= 0)
        return recipe_fail(r, entry->value->line, "qc does not have the observer %s", text);
    return recipe_unknown(r, entry->value->line, "the observer", text, observers, COUNT(observers));
}

static qc_status add_kwarg(recipe_reader *r, const qc_yaml_entry *entry, qc_str *flow, qc_str *options)
{
    static const char *const names[] = {
        "averaging_constant", "maxshrink", "patience", "grid", "norm", "expand", "chunk_size", "strict"};
    const qc_yaml *value = entry->value;
    bool known = false;
    for (size_t i = 0; i < COUNT(names); i++)
        known = known || strcmp(names[i], entry->key) == 0;
    if (!known)
        return recipe_unknown(r, entry->line, "the observer's argument", entry->key, names, COUNT(names));
    if (value->kind != QC_YAML_INT && value->kind != QC_YAML_FLOAT && value->kind != QC_YAML_BOOL)
        return recipe_wrong_kind(r, entry, "a number");
    if (value->kind == QC_YAML_FLOAT && value->number - value->number != 0)
        return recipe_fail(r, value->line, "%s must be finite", entry->key);
    qc_str_addf(flow, "%s%s: ", flow->length > 1 ? ", " : "", entry->key);
    qc_str_addf(options, "%s%s=", options->length > 1 ? ", " : "", entry->key);
    if (value->kind == QC_YAML_BOOL) {
        qc_str_add(flow, value->boolean ? "true" : "false");
        qc_str_add(options, value->boolean ? "true" : "false");
    } else if (value->kind == QC_YAML_INT) {
        qc_str_add_int(flow, value->integer);
        qc_str_add_int(options, value->integer);
    } else {
        qc_recipe_add_float(flow, value->number);
        qc_str_add_f64(options, value->number);
    }
    return QC_OK;
}

static qc_status read_kwargs(recipe_reader *r, const qc_yaml_entry *entry, args_state *s)
{
    if (entry->value->kind != QC_YAML_MAP)
        return recipe_wrong_kind(r, entry, "a map");
    qc_str flow, options;
    qc_status status = QC_OK;
    qc_str_init(&flow, r->arena);
    qc_str_init(&options, r->arena);
    qc_str_add_char(&flow, '{');
    qc_str_add_char(&options, '{');
    for (size_t i = 0; i < entry->value->entries.count && status == QC_OK; i++)
        status = add_kwarg(r, &entry->value->entries.items[i], &flow, &options);
    qc_str_add_char(&flow, '}');
    qc_str_add_char(&options, '}');
    if (flow.length > 2) {
        s->args->observer_kwargs = qc_arena_strdup(r->arena, flow.data);
        s->args->observer_options = qc_arena_strdup(r->arena, options.data);
    }
    qc_str_fini(&flow);
    qc_str_fini(&options);
    return status;
}

/* ---- fields -------------------------------------------------------------------------------------------- */

static qc_status read_num_bits(recipe_reader *r, const qc_yaml_entry *entry, args_state *s)
{
    int64_t bits;
    if (recipe_int(r, entry, &bits) != QC_OK)
        return QC_ERROR;
    if (bits < 1 || bits > 64)
        return recipe_fail(r, entry->value->line, "num_bits cannot be %lld", (long long)bits);
    s->args->num_bits = (int)bits;
    return QC_OK;
}

/* One of the words, in its spelling; NULL for null where `null` is allowed. */
static qc_status read_word(recipe_reader *r, const qc_yaml_entry *entry, bool null, const char *const *words,
    size_t count, const char **word)
{
    const char *text;
    *word = NULL;
    if (null && entry->value->kind == QC_YAML_NULL)
        return QC_OK;
    if (recipe_string(r, entry, &text) != QC_OK)
        return QC_ERROR;
    int index = recipe_word(text, words, count);
    if (index < 0)
        return recipe_unknown(r, entry->value->line, entry->key, text, words, count);
    *word = words[index];
    return QC_OK;
}

static qc_status read_type(recipe_reader *r, const qc_yaml_entry *entry, args_state *s)
{
    static const char *const words[] = {"int", "float"};
    const char *word;
    if (read_word(r, entry, false, words, COUNT(words), &word) != QC_OK)
        return QC_ERROR;
    s->args->is_float = word == words[1];
    return QC_OK;
}

static qc_status read_symmetric(recipe_reader *r, const qc_yaml_entry *entry, args_state *s)
{
    s->symmetric_line = entry->value->line;
    return recipe_bool(r, entry, &s->args->symmetric);
}

static qc_status read_group_size(recipe_reader *r, const qc_yaml_entry *entry, args_state *s)
{
    s->group_line = entry->value->line;
    if (entry->value->kind == QC_YAML_NULL)
        return QC_OK;
    if (recipe_int(r, entry, &s->args->group_size) != QC_OK)
        return QC_ERROR;
    if (s->args->group_size < -1 || s->args->group_size == 0 || s->args->group_size > INT32_MAX)
        return recipe_fail(r, entry->value->line,
            "group_size cannot be %lld: it is above 0 for groups, -1 for channels",
            (long long)s->args->group_size);
    return QC_OK;
}

static qc_status read_strategy(recipe_reader *r, const qc_yaml_entry *entry, args_state *s)
{
    static const char *const words[] = {
        "tensor", "channel", "group", "block", "token", "tensor_group", "attn_head"};
    s->strategy_line = entry->value->line;
    return read_word(r, entry, true, words, COUNT(words), &s->args->strategy);
}

static qc_status read_block(recipe_reader *r, const qc_yaml_entry *entry, args_state *s)
{
    const qc_yaml *value = entry->value;
    int64_t sizes[2] = {0, 0};
    s->block_line = value->line;
    if (value->kind == QC_YAML_NULL)
        return QC_OK;
    if (value->kind == QC_YAML_STRING) { /* as older recipes have it: 128x128 */
        const char *x = strchr(value->text, 'x');
        char *text = qc_arena_strdup(r->arena, value->text);
        qc_yaml parts[2] = {{.text = text}, {.text = x ? text + (x - value->text) + 1 : ""}};
        text[x ? x - value->text : 0] = '\0';
        for (int i = 0; i < 2; i++)
            sizes[i] = qc_yaml_resolve(&parts[i]) && parts[i].kind == QC_YAML_INT ? parts[i].integer : 0;
    } else if (value->kind == QC_YAML_LIST && value->entries.count == 2) {
        for (int i = 0; i < 2; i++) {
            const qc_yaml *item = value->entries.items[i].value;
            sizes[i] = item->kind == QC_YAML_INT ? item->integer : 0;
        }
    }
    if (sizes[0] < 1 || sizes[1] < 1 || sizes[0] > INT32_MAX || sizes[1] > INT32_MAX)
        return recipe_fail(r, value->line, "block_structure is [rows, columns], two integers above 0");
    s->args->block_rows = sizes[0];
    s->args->block_columns = sizes[1];
    return QC_OK;
}

static qc_status read_dynamic(recipe_reader *r, const qc_yaml_entry *entry, args_state *s)
{
    static const char *const words[] = {"local"};
    bool value;
    s->dynamic_line = entry->value->line;
    if (entry->value->kind == QC_YAML_STRING && recipe_word(entry->value->text, words, 1) < 0)
        return recipe_wrong_kind(r, entry, "true, false or local");
    if (entry->value->kind == QC_YAML_STRING) {
        s->args->dynamic = words[0];
        return QC_OK;
    }
    if (recipe_bool(r, entry, &value) != QC_OK)
        return QC_ERROR;
    s->args->dynamic = value ? "true" : "false";
    return QC_OK;
}

static qc_status read_actorder(recipe_reader *r, const qc_yaml_entry *entry, args_state *s)
{
    static const char *const words[] = {"weight", "static"}, *const removed[] = {"group", "dynamic"};
    const qc_yaml *value = entry->value;
    if (value->kind == QC_YAML_BOOL && !value->boolean)
        return QC_OK;
    if (value->kind == QC_YAML_BOOL ||
        (value->kind == QC_YAML_STRING && recipe_word(value->text, removed, COUNT(removed)) >= 0))
        return recipe_fail(r, value->line,
            "actorder %s was removed from compressed-tensors; it can be weight or null",
            value->kind == QC_YAML_BOOL ? "true" : value->text);
    return read_word(r, entry, true, words, COUNT(words), &s->args->actorder);
}

static qc_status read_dtype(recipe_reader *r, const qc_yaml_entry *entry, const char **dtype)
{
    static const char *const names[] = {"torch.float8_e4m3fn", "torch.uint8", "torch.int8", "torch.bfloat16",
        "torch.float16", "torch.float32", "torch.float64", "torch.int16", "torch.int32", "torch.int64",
        "torch.float8_e5m2", "torch.float8_e8m0fnu"};
    const char *text;
    *dtype = NULL;
    if (entry->value->kind == QC_YAML_NULL)
        return QC_OK;
    if (recipe_string(r, entry, &text) != QC_OK)
        return QC_ERROR;
    const char *name = qc_starts_with(text, "torch.") ? text : qc_arena_printf(r->arena, "torch.%s", text);
    for (size_t i = 0; i < COUNT(names); i++)
        if (strcmp(names[i], name) == 0)
            *dtype = names[i];
    return *dtype ? QC_OK
                  : recipe_unknown(r, entry->value->line, "the element type", text, names, COUNT(names));
}

static qc_status read_scale_dtype(recipe_reader *r, const qc_yaml_entry *entry, args_state *s)
{
    return read_dtype(r, entry, &s->args->scale_dtype);
}

static qc_status read_zp_dtype(recipe_reader *r, const qc_yaml_entry *entry, args_state *s)
{
    return read_dtype(r, entry, &s->args->zp_dtype);
}

static qc_status read_observer(recipe_reader *r, const qc_yaml_entry *entry, args_state *s)
{
    s->args->observer_given = entry->value->kind != QC_YAML_NULL;
    return recipe_observer(r, entry, &s->args->observer);
}

static const struct {
    const char *name;
    qc_status (*read)(recipe_reader *r, const qc_yaml_entry *entry, args_state *s);
} fields[] = {
    {"num_bits", read_num_bits},
    {"type", read_type},
    {"symmetric", read_symmetric},
    {"group_size", read_group_size},
    {"strategy", read_strategy},
    {"block_structure", read_block},
    {"dynamic", read_dynamic},
    {"actorder", read_actorder},
    {"scale_dtype", read_scale_dtype},
    {"zp_dtype", read_zp_dtype},
    {"observer", read_observer},
    {"observer_kwargs", read_kwargs},
};

/* ---- checks -------------------------------------------------------------------------------------------- */

static bool strategy_is(const args_state *s, const char *name)
{
    return strcmp(s->args->strategy, name) == 0;
}

static uint32_t line_or(uint32_t line, const args_state *s)
{
    return line ? line : s->args->line;
}

static qc_status check_strategy(recipe_reader *r, args_state *s)
{
    qc_recipe_args *a = s->args;
    if (!a->strategy)
        a->strategy = a->group_size > 0 ? "group" : a->group_size == -1 ? "channel" : "tensor";
    bool dynamic = strcmp(a->dynamic, "false") != 0;
    bool grouped = strategy_is(s, "group") || strategy_is(s, "tensor_group");
    uint32_t line = line_or(s->strategy_line, s);
    if (strategy_is(s, "token") && !dynamic)
        return recipe_fail(r, line, "%s: strategy token must be dynamic", s->what);
    if (grouped && a->group_size <= 0)
        return recipe_fail(r, line, "%s: strategy %s needs a group_size above 0", s->what, a->strategy);
    if (!grouped && a->group_size > 0)
        return recipe_fail(
            r, line_or(s->group_line, s), "%s: strategy %s has no group_size", s->what, a->strategy);
    if (strategy_is(s, "block") && !a->block_rows)
        return recipe_fail(r, line, "%s: strategy block needs a block_structure", s->what);
    if (!strategy_is(s, "block") && a->block_rows)
        return recipe_fail(
            r, line_or(s->block_line, s), "%s: strategy %s has no block_structure", s->what, a->strategy);
    if (dynamic && !grouped && !strategy_is(s, "token") && !strategy_is(s, "tensor"))
        return recipe_fail(
            r, line_or(s->dynamic_line, s), "%s: strategy %s cannot be dynamic", s->what, a->strategy);
    if (strcmp(a->dynamic, "local") == 0 && !strategy_is(s, "tensor_group"))
        return recipe_fail(
            r, line_or(s->dynamic_line, s), "%s: dynamic local is for strategy tensor_group", s->what);
    return QC_OK;
}

static qc_status check_type(recipe_reader *r, args_state *s)
{
    qc_recipe_args *a = s->args;
    if (a->is_float && a->num_bits != 8 && a->num_bits != 4)
        return recipe_fail(r, a->line, "%s: floats have 4 or 8 bits, not %d", s->what, a->num_bits);
    if (!a->is_float && (a->num_bits < 2 || a->num_bits > 8))
        return recipe_fail(r, a->line, "%s: integers have 2 to 8 bits, not %d", s->what, a->num_bits);
    if (a->is_float && !a->symmetric)
        return recipe_fail(r, line_or(s->symmetric_line, s), "%s: codes of floats are symmetric", s->what);
    if (!a->symmetric && !a->zp_dtype)
        a->zp_dtype = "torch.int8";
    if (!a->symmetric && strcmp(a->zp_dtype, "torch.int8") != 0)
        return recipe_fail(
            r, a->line, "%s: zero points are stored as torch.int8, not as %s", s->what, a->zp_dtype);
    return QC_OK;
}

qc_status recipe_args_read(
    recipe_reader *r, const char *what, const qc_yaml_entry *entry, qc_recipe_args *args)
{
    const char *names[COUNT(fields)];
    args_state s = {.args = args, .what = what};
    *args = (qc_recipe_args){
        .present = true, .line = entry->line, .num_bits = 8, .symmetric = true, .dynamic = "false"};
    if (entry->value->kind != QC_YAML_MAP)
        return recipe_wrong_kind(r, entry, "a map");
    for (size_t i = 0; i < COUNT(fields); i++)
        names[i] = fields[i].name;
    for (size_t i = 0; i < entry->value->entries.count; i++) {
        const qc_yaml_entry *field = &entry->value->entries.items[i];
        size_t index = 0;
        while (index < COUNT(fields) && strcmp(fields[index].name, field->key) != 0)
            index++;
        if (index == COUNT(fields))
            return recipe_unknown(r, field->line, qc_arena_printf(r->arena, "%s: the field", what),
                field->key, names, COUNT(names));
        if (fields[index].read(r, field, &s) != QC_OK)
            return QC_ERROR;
    }
    if (check_strategy(r, &s) != QC_OK)
        return QC_ERROR;
    return check_type(r, &s);
}
