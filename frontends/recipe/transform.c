/* SPDX-License-Identifier: MIT
 *
 * transform.c - SpinQuantModifier and QuIPModifier: fields, defaults and checks of llm-compressor 0.14, as passes and as
 * recipe.yaml.
 *
 * Whatever the order in `rotations`, SpinQuant folds the norms and centers the embedding first, then applies R1, R2, R3,
 * R4; QuIP applies v, then u. What transform_config says depends on the model (its head size), so that recipe.yaml gets it
 * from the `transform` symbols when it is written: the recorded text names them alone. A transform_config that is given is
 * taken when it says what the other fields say, as in a recipe that llm-compressor saved.
 */
#include "frontends/recipe/internal.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { INDENT_FIELDS = 6, MAX_TARGETS = 6, MAX_BLOCK = 1 << 22 };

/* One place of a rotation, as llm-compressor lists it. */
typedef struct apply_row {
    const char *rotation, *location;
    bool inverse;
    const char *targets[MAX_TARGETS]; /* none: those of the modifier */
} apply_row;

static const apply_row spin_rows[] = {
    {"R1", "weight_output", false, {"re:.*embed_tokens$", "re:.*o_proj$", "re:.*down_proj$"}},
    {"R1", "weight_input", true,
        {"re:.*q_proj$", "re:.*k_proj$", "re:.*v_proj$", "re:.*up_proj$", "re:.*gate_proj$", "lm_head"}},
    {"R2", "weight_output", false, {"re:.*v_proj$"}},
    {"R2", "weight_input", true, {"re:.*o_proj$"}},
    {"R3", "q_attn", false, {"re:.*self_attn$"}},
    {"R3", "k_cache", false, {"re:.*self_attn$"}},
    {"R4", "input", false, {"re:.*down_proj$"}},
    {"R4", "weight_input", true, {"re:.*down_proj$"}},
};
static const apply_row quip_rows[] = {
    {"v", "input", false, {NULL}},
    {"v", "weight_input", true, {NULL}},
    {"u", "weight_output", false, {NULL}},
    {"u", "output", true, {NULL}},
};

static const char *const spin_rotations[] = {"R1", "R2", "R3", "R4"}, *const quip_rotations[] = {"v", "u"};

static bool is_null(const qc_yaml_entry *entry)
{
    return entry->value->kind == QC_YAML_NULL;
}

static bool has_rotation(const recipe_transform *t, const char *name)
{
    for (size_t i = 0; i < t->rotations.count; i++)
        if (strcmp(t->rotations.items[i], name) == 0)
            return true;
    return false;
}

const char *const *recipe_transform_names(const recipe_transform *t, size_t *count)
{
    *count = t->quip ? COUNT(quip_rotations) : COUNT(spin_rotations);
    return t->quip ? quip_rotations : spin_rotations;
}

bool recipe_transform_has(const recipe_transform *t, const char *rotation)
{
    return has_rotation(t, rotation);
}

/* ---- fields -------------------------------------------------------------------------------------------- */

static qc_status read_rotations(recipe_reader *r, const qc_yaml_entry *entry, recipe_transform *t)
{
    size_t count;
    const char *const *known = recipe_transform_names(t, &count);
    if (recipe_strings(r, entry, false, &t->rotations) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < t->rotations.count; i++) {
        int index = recipe_word(t->rotations.items[i], known, count);
        if (index < 0)
            return recipe_unknown(
                r, entry->value->entries.items[i].line, "the rotation", t->rotations.items[i], known, count);
        t->rotations.items[i] = known[index];
    }
    return QC_OK;
}

static qc_status read_type(recipe_reader *r, const qc_yaml_entry *entry, recipe_transform *t)
{
    static const char *const words[] = {"hadamard", "random-hadamard", "random-matrix"};
    if (recipe_string(r, entry, &t->type) != QC_OK)
        return QC_ERROR;
    if (strcmp(t->type, words[2]) == 0)
        return recipe_fail(r, entry->value->line,
            "transform_type random-matrix draws a matrix that no seed fixes; qc has hadamard and "
            "random-hadamard");
    if (strcmp(t->type, words[0]) == 0 || strcmp(t->type, words[1]) == 0)
        return QC_OK;
    return recipe_unknown(r, entry->value->line, "transform_type", t->type, words, COUNT(words));
}

/* Fields that llm-compressor has and does not execute. */
static qc_status read_off(recipe_reader *r, const qc_yaml_entry *entry, recipe_transform *t)
{
    bool on;
    (void)t;
    if (recipe_bool(r, entry, &on) != QC_OK)
        return QC_ERROR;
    return on ? recipe_fail(
                    r, entry->value->line, "%s: llm-compressor does not support it, nor does qc", entry->key)
              : QC_OK;
}

static qc_status read_precision(recipe_reader *r, const qc_yaml_entry *entry, recipe_transform *t)
{
    static const char *const f64[] = {"float64", "double"}, *const f32[] = {"float32", "float"};
    static const char prefix[] = "torch.";
    const char *text;
    if (recipe_string(r, entry, &text) != QC_OK)
        return QC_ERROR;
    text += qc_starts_with(text, prefix) ? sizeof prefix - 1 : 0;
    for (size_t i = 0; i < 2; i++)
        if (strcmp(text, f64[i]) == 0 || strcmp(text, f32[i]) == 0) {
            t->f32 = strcmp(text, f32[i]) == 0;
            t->precision_line = entry->value->line;
            return QC_OK;
        }
    return recipe_fail(
        r, entry->value->line, "precision '%s': qc rotates in float64 or float32", entry->value->text);
}

static qc_status read_block_size(recipe_reader *r, const qc_yaml_entry *entry, recipe_transform *t)
{
    t->block_size = 0;
    if (is_null(entry))
        return QC_OK;
    if (recipe_int(r, entry, &t->block_size) != QC_OK)
        return QC_ERROR;
    if (t->block_size < 1 || t->block_size > MAX_BLOCK)
        return recipe_fail(
            r, entry->value->line, "transform_block_size cannot be %lld", (long long)t->block_size);
    return QC_OK;
}

/* llm-compressor puts its own in their place, whatever is given. */
static qc_status read_mappings(recipe_reader *r, const qc_yaml_entry *entry, recipe_transform *t)
{
    (void)t;
    return is_null(entry)
               ? QC_OK
               : recipe_fail(r, entry->line,
                     "%s: qc finds the modules in the graph; it does not take mappings", entry->key);
}

static qc_status read_targets(recipe_reader *r, const qc_yaml_entry *entry, recipe_transform *t)
{
    t->single_target = entry->value->kind == QC_YAML_STRING;
    return recipe_patterns(r, entry, true, &t->targets);
}

static qc_status read_ignore(recipe_reader *r, const qc_yaml_entry *entry, recipe_transform *t)
{
    t->single_ignore = entry->value->kind == QC_YAML_STRING;
    return recipe_patterns(r, entry, true, &t->ignore);
}

static qc_status read_config(recipe_reader *r, const qc_yaml_entry *entry, recipe_transform *t)
{
    (void)r;
    t->config = is_null(entry) ? NULL : entry;
    return QC_OK;
}

static const struct {
    const char *name;
    qc_status (*read)(recipe_reader *r, const qc_yaml_entry *entry, recipe_transform *t);
    bool spin, quip;
} fields[] = {
    {"rotations", read_rotations, true, true},
    {"transform_type", read_type, true, true},
    {"randomize", read_off, true, true},
    {"learnable", read_off, true, true},
    {"precision", read_precision, true, true},
    {"transform_block_size", read_block_size, true, true},
    {"mappings", read_mappings, true, false},
    {"norm_mappings", read_mappings, true, false},
    {"targets", read_targets, false, true},
    {"ignore", read_ignore, false, true},
    {"transform_config", read_config, true, true},
    {"index", NULL, true, true},
    {"group", NULL, true, true},
    {"start", NULL, true, true},
    {"end", NULL, true, true},
    {"update", NULL, true, true},
    {"requires_calibration_data", NULL, true, true},
};

/* ---- a transform_config that is given ------------------------------------------------------------------ */

static qc_status differs(recipe_reader *r, uint32_t line)
{
    return recipe_fail(r, line,
        "transform_config asks for something else than the fields beside it; qc takes rotations, "
        "transform_type and transform_block_size, not a transform_config of one's own");
}

static bool is_text(const qc_yaml *map, const char *key, const char *text)
{
    const qc_yaml_entry *entry = map->kind == QC_YAML_MAP ? qc_yaml_find(map, key) : NULL;
    return entry && entry->value->kind == QC_YAML_STRING && strcmp(entry->value->text, text) == 0;
}

/* Absent is false. */
static bool is_bool(const qc_yaml *map, const char *key, bool value)
{
    const qc_yaml_entry *entry = qc_yaml_find(map, key);
    return entry ? entry->value->kind == QC_YAML_BOOL && entry->value->boolean == value : !value;
}

static bool is_list(const qc_yaml *map, const char *key, const char *const *items, size_t count)
{
    const qc_yaml_entry *entry = qc_yaml_find(map, key);
    const qc_yaml *list = entry ? entry->value : NULL;
    if (!list || list->kind != QC_YAML_LIST)
        return !list && count == 0;
    if (list->entries.count != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (list->entries.items[i].value->kind != QC_YAML_STRING ||
            strcmp(list->entries.items[i].value->text, items[i]) != 0)
            return false;
    return true;
}

static bool is_row(const recipe_transform *t, const qc_yaml *one, const apply_row *row)
{
    size_t count = 0;
    if (one->kind != QC_YAML_MAP || !is_text(one, "location", row->location) ||
        !is_bool(one, "inverse", row->inverse))
        return false;
    while (count < MAX_TARGETS && row->targets[count])
        count++;
    if (count)
        return is_list(one, "targets", row->targets, count) && is_list(one, "ignore", NULL, 0);
    return is_list(one, "targets", t->targets.items, t->targets.count) &&
           is_list(one, "ignore", t->ignore.items, t->ignore.count);
}

/* The head size of R2 and R3, which the model must have; 0: null. */
static bool is_head_dim(recipe_transform *t, const char *rotation, const qc_yaml *scheme)
{
    const qc_yaml_entry *entry = qc_yaml_find(scheme, "head_dim");
    const bool heads = strcmp(rotation, "R2") == 0 || strcmp(rotation, "R3") == 0;
    int64_t size = 0;
    if (entry && entry->value->kind == QC_YAML_INT)
        size = entry->value->integer;
    else if (entry && !is_null(entry))
        return false;
    if (!heads)
        return size == t->block_size;
    t->head_dim = size;
    return size > 0 && size <= MAX_BLOCK;
}

static bool is_scheme(recipe_transform *t, const char *rotation, const qc_yaml *scheme)
{
    const apply_row *rows = t->quip ? quip_rows : spin_rows;
    const size_t row_count = t->quip ? COUNT(quip_rows) : COUNT(spin_rows);
    const qc_yaml_entry *apply = scheme->kind == QC_YAML_MAP ? qc_yaml_find(scheme, "apply") : NULL;
    size_t at = 0;
    if (!apply || apply->value->kind != QC_YAML_LIST || !is_text(scheme, "type", t->type) ||
        !is_bool(scheme, "randomize", false) || !is_bool(scheme, "requires_grad", false) ||
        !is_text(scheme, "precision", t->f32 ? "torch.float32" : "torch.float64") ||
        !is_head_dim(t, rotation, scheme))
        return false;
    for (size_t i = 0; i < row_count; i++) {
        if (strcmp(rows[i].rotation, rotation) != 0)
            continue;
        if (at == apply->value->entries.count ||
            !is_row(t, apply->value->entries.items[at++].value, &rows[i]))
            return false;
    }
    return at == apply->value->entries.count;
}

static qc_status check_config(recipe_reader *r, recipe_transform *t)
{
    const qc_yaml *config = t->config->value;
    const qc_yaml_entry *groups = config->kind == QC_YAML_MAP ? qc_yaml_find(config, "config_groups") : NULL;
    if (!groups || config->entries.count != 1 || groups->value->kind != QC_YAML_MAP)
        return differs(r, t->config->line);
    size_t count, wanted = 0;
    const char *const *names = recipe_transform_names(t, &count);
    for (size_t i = 0; i < count; i++) {
        const qc_yaml_entry *scheme = qc_yaml_find(groups->value, names[i]);
        if (!has_rotation(t, names[i]))
            continue;
        wanted++;
        if (!scheme || !is_scheme(t, names[i], scheme->value))
            return differs(r, scheme ? scheme->line : t->config->line);
    }
    return wanted == groups->value->entries.count ? QC_OK : differs(r, t->config->line);
}

/* ---- the modifier -------------------------------------------------------------------------------------- */

static qc_status read_field(recipe_reader *r, const qc_yaml_entry *modifier, const qc_yaml_entry *entry,
    recipe_modifier *m, recipe_transform *t)
{
    const char *names[COUNT(fields)];
    size_t count = 0;
    for (size_t i = 0; i < COUNT(fields); i++) {
        if (!(t->quip ? fields[i].quip : fields[i].spin))
            continue;
        names[count++] = fields[i].name;
        if (strcmp(fields[i].name, entry->key) == 0)
            return fields[i].read ? fields[i].read(r, entry, t) : recipe_base_field(r, entry, m);
    }
    return recipe_unknown(
        r, entry->line, qc_arena_printf(r->arena, "%s: the field", modifier->key), entry->key, names, count);
}

qc_status recipe_transform_read(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m)
{
    recipe_transform *t = QC_NEW(r->arena, recipe_transform);
    m->line = entry->line;
    m->transform = t;
    *t = (recipe_transform){.name = entry->key, .quip = strcmp(entry->key, "QuIPModifier") == 0};
    t->type = t->quip ? "random-hadamard" : "hadamard";
    t->single_target = t->single_ignore = true;
    QC_PUSH(r->arena, &t->targets, "Linear");
    QC_PUSH(r->arena, &t->ignore, "lm_head");
    QC_PUSH(r->arena, &t->rotations, t->quip ? "v" : "R1");
    if (!t->quip)
        QC_PUSH(r->arena, &t->rotations, "R2");
    if (entry->value->kind != QC_YAML_MAP)
        return recipe_wrong_kind(r, entry, "a map");
    for (size_t i = 0; i < entry->value->entries.count; i++)
        if (read_field(r, entry, &entry->value->entries.items[i], m, t) != QC_OK)
            return QC_ERROR;
    if (t->config && check_config(r, t) != QC_OK)
        return QC_ERROR;
    if (t->f32 && (t->quip || has_rotation(t, "R4")))
        qc_remark(r->diag, recipe_place(r, t->precision_line),
            "precision float32 is that of rotations at run time; weights are rotated in float64, where "
            "llm-compressor rotates those beside a rotation at run time in float32");
    return QC_OK;
}

/* ---- passes -------------------------------------------------------------------------------------------- */

static void add_size(qc_str *out, int64_t size)
{
    if (size)
        qc_str_addf(out, ", size=%lld", (long long)size);
}

static void add_names(qc_str *out, const char *key, const recipe_names *names)
{
    qc_str_addf(out, ", %s=[", key);
    for (size_t i = 0; i < names->count; i++) {
        qc_str_add(out, i ? ", " : "");
        qc_str_add_quoted(out, names->items[i], strlen(names->items[i]));
    }
    qc_str_add_char(out, ']');
}

void recipe_transform_expand(const recipe_transform *t, qc_str *out)
{
    const char *matrix = strcmp(t->type, "hadamard") == 0 ? "hadamard" : "random_hadamard",
               *compute = t->f32 ? "f32" : "f64";
    if (t->quip) {
        const char *both = has_rotation(t, "v") ? has_rotation(t, "u") ? "v, u" : "v" : "u";
        if (!t->rotations.count)
            return;
        qc_str_addf(out, ",insert-quip{rotations=[%s], matrix=%s", both, matrix);
        add_size(out, t->block_size);
        qc_str_addf(out, ", compute=%s", compute);
        add_names(out, "targets", &t->targets);
        add_names(out, "ignore", &t->ignore);
        qc_str_add_char(out, '}');
        return;
    }
    qc_str_add(out, ",fold-norms{center=true}");
    static const struct {
        const char *rotation, *pass;
        bool heads, online;
    } passes[] = {{"R1", "fold-r1", false, false}, {"R2", "fold-r2", true, false},
        {"R3", "fold-r3", true, true}, {"R4", "insert-r4", false, true}};
    for (size_t i = 0; i < COUNT(passes); i++) {
        if (!has_rotation(t, passes[i].rotation))
            continue;
        qc_str_addf(out, ",%s{matrix=%s", passes[i].pass, matrix);
        add_size(out, passes[i].heads ? t->head_dim : t->block_size);
        if (passes[i].online)
            qc_str_addf(out, ", compute=%s", compute);
        qc_str_add_char(out, '}');
    }
}

/* ---- recipe.yaml --------------------------------------------------------------------------------------- */

static void add_field(qc_str *out, const char *key, const char *value)
{
    qc_recipe_add_indent(out, INDENT_FIELDS);
    qc_str_addf(out, "%s: %s\n", key, value);
}

static void add_targets(qc_str *out, const char *key, const recipe_names *names, bool single)
{
    if (!single) {
        qc_recipe_add_list(out, INDENT_FIELDS, key, names->items, names->count);
        return;
    }
    qc_recipe_add_indent(out, INDENT_FIELDS);
    qc_str_addf(out, "%s: ", key);
    qc_recipe_add_scalar(out, INDENT_FIELDS + 2, names->items[0]);
    qc_str_add_char(out, '\n');
}

/* In the order of the classes: the base first. */
void recipe_transform_text(const recipe_modifier *m, qc_str *out)
{
    const recipe_transform *t = m->transform;
    size_t count;
    const char *const *names = recipe_transform_names(t, &count);
    add_field(out, "requires_calibration_data", m->requires_calibration_data ? "true" : "false");
    recipe_numbers_text(m, out);
    qc_recipe_add_list(out, INDENT_FIELDS, "rotations", t->rotations.items, t->rotations.count);
    add_field(out, "transform_type", t->type);
    if (t->quip)
        add_targets(out, "targets", &t->targets, t->single_target);
    add_field(out, "randomize", "false");
    add_field(out, "learnable", "false");
    add_field(out, "precision", t->f32 ? "torch.float32" : "torch.float64");
    if (t->block_size) {
        qc_recipe_add_indent(out, INDENT_FIELDS);
        qc_str_addf(out, "transform_block_size: %lld\n", (long long)t->block_size);
    }
    if (t->quip)
        add_targets(out, "ignore", &t->ignore, t->single_ignore);
    qc_recipe_add_indent(out, INDENT_FIELDS);
    qc_str_add(out, QC_RECIPE_TRANSFORMS);
    const char *comma = "";
    for (size_t i = 0; i < count; i++)
        if (has_rotation(t, names[i])) {
            qc_str_addf(out, "%s%s", comma, names[i]);
            comma = ", ";
        }
    qc_str_add(out, "]\n");
}
