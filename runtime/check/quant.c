/* SPDX-License-Identifier: MIT
 *
 * quant.c - quantization_config as data, modules from the names of tensors, and which config group each
 * module belongs to; see quant.h.
 *
 * The class of a module is guessed from its name, because only an architecture knows it: a matrix is a Linear,
 * unless its name says embedding. That is what the targets Linear and Embedding of nearly all checkpoints need.
 */
#include "runtime/check/quant.h"

#include <string.h>

#include "frontends/hf/alias.h"

static const char *const part_names[CHECK_PART_COUNT] = {
    [CHECK_WEIGHT] = "weight",
    [CHECK_WEIGHT_PACKED] = "weight_packed",
    [CHECK_WEIGHT_SCALE] = "weight_scale",
    [CHECK_WEIGHT_GLOBAL_SCALE] = "weight_global_scale",
    [CHECK_WEIGHT_ZERO_POINT] = "weight_zero_point",
    [CHECK_WEIGHT_SHAPE] = "weight_shape",
    [CHECK_WEIGHT_G_IDX] = "weight_g_idx",
    [CHECK_WEIGHT_SCALE_INV] = "weight_scale_inv",
    [CHECK_INPUT_SCALE] = "input_scale",
    [CHECK_INPUT_ZERO_POINT] = "input_zero_point",
    [CHECK_INPUT_GLOBAL_SCALE] = "input_global_scale",
    [CHECK_OUTPUT_SCALE] = "output_scale",
    [CHECK_OUTPUT_ZERO_POINT] = "output_zero_point",
    [CHECK_Q_SCALE] = "q_scale",
    [CHECK_K_SCALE] = "k_scale",
    [CHECK_V_SCALE] = "v_scale",
    [CHECK_KV_SCALE] = "kv_scale",
    [CHECK_PROB_SCALE] = "prob_scale",
    [CHECK_Q_GLOBAL_SCALE] = "q_global_scale",
    [CHECK_K_GLOBAL_SCALE] = "k_global_scale",
    [CHECK_V_GLOBAL_SCALE] = "v_global_scale",
    [CHECK_K_CENTER] = "k_center",
};

const char *check_part_name(check_part part)
{
    return part_names[part];
}

bool check_is_code(const char *dtype)
{
    return strcmp(dtype, "F8_E4M3") == 0 || strcmp(dtype, "F8_E5M2") == 0 || strcmp(dtype, "I8") == 0;
}

bool check_is_plain(const char *dtype)
{
    return strcmp(dtype, "BF16") == 0 || strcmp(dtype, "F16") == 0 || strcmp(dtype, "F32") == 0 ||
           strcmp(dtype, "F64") == 0;
}

const char *check_tensor_text(qc_arena *arena, const qc_st_tensor *tensor)
{
    return qc_arena_printf(
        arena, "%s %s", tensor->dtype, check_shape_text(arena, tensor->shape, tensor->rank));
}

/* ---- quantization_config ------------------------------------------------------------------------------- */

/* A place in the config, for messages. */
typedef struct place {
    check_model *model;
    const char *where;
    const qc_json *object; /* NULL: absent */
} place;

static place inside(const place *p, const char *key)
{
    return (place){p->model, qc_arena_printf(p->model->arena, "%s.%s", p->where, key),
        p->object && p->object->kind == QC_JSON_OBJECT ? qc_json_get(p->object, key) : NULL};
}

static bool is_absent(const qc_json *value)
{
    return !value || value->kind == QC_JSON_NULL;
}

static qc_status read_strings(const place *p, const char ***strings, size_t *count)
{
    if (is_absent(p->object))
        return QC_OK;
    if (p->object->kind != QC_JSON_ARRAY)
        return qc_error(p->model->diag, p->where, "must be a list of strings");
    *strings = QC_NEW_ARRAY(p->model->arena, const char *, p->object->length + 1);
    for (const qc_json *item = p->object->first; item; item = item->next) {
        if (item->kind != QC_JSON_STRING)
            return qc_error(p->model->diag, p->where, "must be a list of strings");
        if (qc_target_check(p->model->ctx, item->text) != QC_OK)
            return QC_ERROR;
        (*strings)[(*count)++] = item->text;
    }
    return QC_OK;
}

/* [rows, columns], or "128x128" as older files write it. */
static qc_status read_block(const place *p, check_args *args)
{
    const qc_json *block = qc_json_get(p->object, "block_structure");
    if (is_absent(block))
        return QC_OK;
    const qc_json *rows = qc_json_at(block, 0), *columns = qc_json_at(block, 1);
    long long r = 0, c = 0;
    if (block->kind == QC_JSON_ARRAY && block->length == 2 && rows->is_integer && columns->is_integer)
        r = (long long)rows->integer, c = (long long)columns->integer;
    else if (block->kind == QC_JSON_STRING && strlen(block->text) < 32 &&
             strspn(block->text, "0123456789x") == strlen(block->text) && strchr(block->text, 'x')) {
        r = (long long)qc_decimal_to_f64(block->text, strcspn(block->text, "x"));
        const char *second = strchr(block->text, 'x') + 1;
        c = (long long)qc_decimal_to_f64(second, strspn(second, "0123456789"));
    }
    if (r < 1 || c < 1 || r > INT32_MAX || c > INT32_MAX)
        return qc_error(p->model->diag, p->where, "block_structure must be two positive numbers");
    args->block_rows = r;
    args->block_columns = c;
    return QC_OK;
}

static qc_status read_dynamic(const place *p, check_args *args)
{
    const qc_json *dynamic = qc_json_get(p->object, "dynamic");
    if (is_absent(dynamic))
        return QC_OK;
    args->local = dynamic->kind == QC_JSON_STRING && strcmp(dynamic->text, "local") == 0;
    args->dynamic = dynamic->kind == QC_JSON_BOOL && dynamic->boolean;
    if (dynamic->kind != QC_JSON_BOOL && !args->local)
        return qc_error(p->model->diag, p->where, "dynamic must be true, false or \"local\"");
    return QC_OK;
}

static qc_dtype code_of(const char *type, int64_t bits)
{
    static const qc_dtype ints[] = {QC_I2, QC_I3, QC_I4, QC_I5, QC_I6, QC_I7, QC_I8};
    if (strcmp(type, "int") == 0)
        return bits >= 2 && bits <= 8 ? ints[bits - 2] : QC_DTYPE_NONE;
    if (strcmp(type, "float") != 0)
        return QC_DTYPE_NONE;
    return bits == 8 ? QC_F8E4M3 : bits == 4 ? QC_F4E2M1 : QC_DTYPE_NONE;
}

/* The element type of stored scales: named, or, as the writers of 4-bit floats infer it, implied by the group. */
static qc_dtype scale_of(const qc_json *object, const check_args *args)
{
    const qc_json *scale = qc_json_get(object, "scale_dtype");
    const char *name = scale && scale->kind == QC_JSON_STRING ? scale->text : "";
    name += qc_starts_with(name, "torch.") ? strlen("torch.") : 0;
    if (args->code == QC_F4E2M1)
        return args->group_elems == 32 ? QC_F8E8M0 : args->group_elems == 16 ? QC_F8E4M3 : QC_DTYPE_NONE;
    bool mx = args->code == QC_F8E4M3 && args->group_elems == 32 && strcmp(name, "uint8") == 0;
    return mx ? QC_F8E8M0 : QC_DTYPE_NONE;
}

static qc_status read_args(const place *p, check_args *args)
{
    qc_diag *diag = p->model->diag;
    int64_t group = 0;
    const char *strategy = NULL;
    *args = (check_args){.bits = 8, .type = "int", .strategy = "tensor", .symmetric = true};
    if (is_absent(p->object))
        return QC_OK;
    if (p->object->kind != QC_JSON_OBJECT)
        return qc_error(diag, p->where, "must be an object or null");
    args->present = true;
    args->json = p->object;
    const qc_json *actorder = qc_json_get(p->object, "actorder");
    if (!is_absent(actorder) && !(actorder->kind == QC_JSON_BOOL && !actorder->boolean))
        args->actorder = actorder->kind == QC_JSON_STRING ? actorder->text : "group";
    if (qc_json_int(diag, p->where, p->object, "num_bits", false, &args->bits) != QC_OK ||
        qc_json_string(diag, p->where, p->object, "type", false, &args->type) != QC_OK ||
        qc_json_bool(diag, p->where, p->object, "symmetric", false, &args->symmetric) != QC_OK ||
        qc_json_int(diag, p->where, p->object, "group_size", false, &group) != QC_OK ||
        qc_json_string(diag, p->where, p->object, "strategy", false, &strategy) != QC_OK ||
        read_block(p, args) != QC_OK || read_dynamic(p, args) != QC_OK)
        return QC_ERROR;
    if (group < -1 || group > INT32_MAX)
        return qc_error(
            diag, p->where, "group_size %s is no size", qc_json_get(p->object, "group_size")->text);
    args->group_elems = group > 0 ? group : 0;
    if (strategy)
        args->strategy = strategy;
    else
        args->strategy = group > 0 ? "group" : group < 0 ? "channel" : "tensor";
    args->code = code_of(args->type, args->bits);
    args->scale = scale_of(p->object, args);
    return QC_OK;
}

/* What is wrong is told; the rest is read all the same. */
static void read_groups(const place *p, check_model *m)
{
    if (is_absent(p->object))
        return;
    if (p->object->kind != QC_JSON_OBJECT) {
        qc_error(m->diag, p->where, "must be an object");
        return;
    }
    m->groups = QC_NEW_ARRAY(m->arena, check_group, p->object->length + 1);
    for (const qc_json *item = p->object->first; item; item = item->next) {
        place at = inside(p, item->key);
        check_group *g = &m->groups[m->group_count++];
        *g = (check_group){.name = item->key};
        if (item->kind != QC_JSON_OBJECT) {
            qc_error(m->diag, at.where, "must be an object");
            continue;
        }
        place targets = inside(&at, "targets"), weights = inside(&at, "weights");
        place input = inside(&at, "input_activations"), output = inside(&at, "output_activations");
        read_strings(&targets, &g->targets, &g->target_count);
        read_args(&weights, &g->weights);
        read_args(&input, &g->input);
        read_args(&output, &g->output);
        qc_json_string(m->diag, at.where, item, "format", false, &g->format);
        if (!g->format && m->format && strcmp(m->format, "mixed-precision") != 0)
            g->format = m->format;
    }
}

bool check_model_is_compressed_tensors(const check_model *model)
{
    return model->method && strcmp(model->method, "compressed-tensors") == 0;
}

const qc_json *check_quantization_of(const qc_json *config)
{
    const qc_json *places[] = {qc_json_get(config, "quantization_config"),
        qc_json_get(qc_json_get(config, "text_config"), "quantization_config"),
        qc_json_get(config, "compression_config")};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (!is_absent(places[i]))
            return places[i];
    return NULL;
}

static void read_config(check_model *m)
{
    m->quantization = check_quantization_of(m->config);
    if (!m->quantization)
        return;
    const char *where = qc_arena_printf(m->arena, "%s/config.json: quantization_config", m->directory);
    place root = {m, where, m->quantization};
    if (root.object->kind != QC_JSON_OBJECT) {
        qc_error(m->diag, where, "must be an object");
        m->quantization = NULL;
        return;
    }
    qc_json_string(m->diag, where, root.object, "quant_method", false, &m->method);
    if (!check_model_is_compressed_tensors(m))
        return;
    qc_json_string(m->diag, where, root.object, "format", false, &m->format);
    m->has_groups = qc_json_get(root.object, "config_groups") != NULL;
    place groups = inside(&root, "config_groups"), ignore = inside(&root, "ignore");
    place kv = inside(&root, "kv_cache_scheme");
    read_groups(&groups, m);
    read_strings(&ignore, &m->ignore, &m->ignore_count);
    read_args(&kv, &m->kv);
}

/* ---- modules ------------------------------------------------------------------------------------------- */

static bool contains(const char *text, const char *word)
{
    return strstr(text, word) != NULL;
}

bool check_is_transform(const check_model *m, const char *name)
{
    static const char *const locations[] = {
        "input", "output", "q_attn", "k_cache", "weight_input", "weight_output"};
    const qc_json *groups = qc_json_get(qc_json_get(m->quantization, "transform_config"), "config_groups");
    for (const qc_json *g = groups && groups->kind == QC_JSON_OBJECT ? groups->first : NULL; g; g = g->next) {
        for (size_t i = 0; i < sizeof locations / sizeof *locations; i++) {
            const char *module = qc_arena_printf(m->arena, ".%s_%s", g->key, locations[i]);
            if (qc_ends_with(name, module) ||
                qc_ends_with(name, qc_arena_printf(m->arena, "%s.weight", module)))
                return true;
        }
    }
    return false;
}

static check_kind kind_of(const check_model *m, const check_module *module)
{
    const qc_st_tensor *w = module->parts[CHECK_WEIGHT];
    const char *last = strrchr(module->path, '.');
    last = last ? last + 1 : module->path;
    bool matrix = module->parts[CHECK_WEIGHT_PACKED] || (w && w->rank == 2);
    if (!matrix || check_is_transform(m, module->path))
        return CHECK_OTHER;
    if (strcmp(last, "lm_head") == 0)
        return CHECK_LM_HEAD;
    bool embedding = contains(last, "embed") || strcmp(last, "wte") == 0 || strcmp(last, "wpe") == 0;
    return embedding && !contains(last, "proj") ? CHECK_EMBEDDING : CHECK_LINEAR;
}

static int part_of(const char *name)
{
    for (int i = 0; i < CHECK_PART_COUNT; i++)
        if (strcmp(part_names[i], name) == 0)
            return i;
    return -1;
}

qc_node *check_add_node(const check_model *model, const char *path, const char *class_name)
{
    const qc_json *list = qc_json_get(model->config, "architectures");
    const qc_json *first = list && list->kind == QC_JSON_ARRAY ? list->first : NULL;
    const char *alias =
        first && first->kind == QC_JSON_STRING ? qc_hf_alias(model->arena, first->text, path) : NULL;
    qc_node *node = qc_module_add_node(model->tree, path, class_name);
    if (alias)
        qc_node_set_alias(node, alias);
    return node;
}

static void find_modules(check_model *m)
{
    m->modules = QC_NEW_ARRAY(m->arena, check_module, m->set->tensor_count + 1);
    for (size_t i = 0; i < m->set->tensor_count; i++) {
        const qc_st_tensor *t = &m->set->tensors[i];
        const char *dot = strrchr(t->name, '.');
        int part = dot ? part_of(dot + 1) : -1;
        if (part < 0)
            continue;
        qc_map_entry *entry = qc_map_add_n(&m->by_path, t->name, (size_t)(dot - t->name));
        check_module *module = entry->value;
        if (!module) {
            entry->value = module = &m->modules[m->module_count++];
            module->path = qc_arena_strndup(m->arena, t->name, (size_t)(dot - t->name));
        }
        module->parts[part] = t;
    }
    for (size_t i = 0; i < m->module_count; i++) {
        check_module *module = &m->modules[i];
        module->kind = kind_of(m, module);
        const char *class_name = module->kind == CHECK_OTHER       ? ""
                                 : module->kind == CHECK_EMBEDDING ? "Embedding"
                                                                   : "Linear";
        module->node = check_add_node(m, module->path, class_name);
    }
}

const check_module *check_model_find(const check_model *model, const char *path)
{
    return qc_map_get(&model->by_path, path);
}

static void forward(void *user, qc_severity severity, const char *where, const char *what)
{
    if (severity == QC_SEVERITY_ERROR)
        qc_error(user, where, "%s", what);
}

qc_status check_model_open(qc_diag *diag, qc_arena *arena, const char *directory, const qc_st_set *set,
    const qc_json *config, check_model *model)
{
    size_t errors = diag->error_count;
    *model =
        (check_model){.diag = diag, .arena = arena, .directory = directory, .set = set, .config = config};
    qc_map_init(&model->by_path, arena);
    model->ctx = qc_ctx_create(arena->oom, forward, diag);
    model->tree = model->ctx ? qc_module_create(model->ctx) : NULL;
    if (!model->tree)
        return qc_error(diag, directory, "out of memory");
    read_config(model);
    find_modules(model);
    return diag->error_count == errors ? QC_OK : QC_ERROR;
}

void check_model_close(check_model *model)
{
    if (model->tree)
        qc_module_destroy(model->tree);
    if (model->ctx)
        qc_ctx_destroy(model->ctx);
    model->tree = NULL;
    model->ctx = NULL;
}

/* ---- targets ------------------------------------------------------------------------------------------- */

bool check_matches(const check_module *module, const char *target, bool *by_class)
{
    *by_class = !qc_starts_with(target, "re:") && !qc_node_is_named(module->node, target);
    return qc_node_matches(module->node, target);
}

const char *check_ignored_by(const check_model *model, const check_module *module)
{
    bool by_class;
    for (size_t i = 0; i < model->ignore_count; i++)
        if (check_matches(module, model->ignore[i], &by_class))
            return model->ignore[i];
    return NULL;
}

/* 0: the path itself, 1: a pattern, 2: a class. */
static int target_order(const check_module *module, const char *target)
{
    return qc_node_is_named(module->node, target) ? 0 : qc_starts_with(target, "re:") ? 1 : 2;
}

const check_group *check_group_of(const check_model *model, const check_module *module, const char **target)
{
    const check_group *found = NULL;
    const char *best = NULL;
    int best_order = 3;
    for (size_t i = 0; i < model->group_count; i++) {
        const check_group *g = &model->groups[i];
        for (size_t k = 0; g->weights.present && k < g->target_count; k++) {
            int order = target_order(module, g->targets[k]);
            bool nearer = order < best_order || (order == best_order && strcmp(g->targets[k], best) <= 0);
            if (nearer && qc_node_matches(module->node, g->targets[k])) {
                found = g;
                best = g->targets[k];
                best_order = order;
            }
        }
    }
    if (target)
        *target = best;
    return found;
}
