/* SPDX-License-Identifier: MIT
 *
 * dialect.c - checkpoints of modules that were imported as tensors: what is otherwise than after a graph.
 *
 * llm-compressor has two ways to a checkpoint, oneshot and model_free_ptq, and the second writes: config groups under
 * the user's names (a preset: its own), ignore as it was given, no sparsity_config, no recipe.yaml; the source's shards
 * under their names, without __metadata__, always with an index of its own form; every other file as it is. A fused set
 * of weights with one global scale goes to the shard of its first member. Weights in other containers and hidden files,
 * which it copies, are left out here, and a note says so.
 */
#include <string.h>
#include <sys/stat.h>

#include "ir/support/io.h"
#include "runtime/export/compressed_tensors/internal.h"

/* ---- how the module came to be ------------------------------------------------------------------------- */

static const qc_attr *import_field(const qc_module *module, const char *name)
{
    const qc_symbol *symbol = qc_module_find_symbol(module, "import");
    return symbol && strcmp(qc_symbol_kind(symbol), "import") == 0
               ? qc_attr_find(qc_symbol_fields(symbol), name)
               : NULL;
}

bool ct_is_dequantized(const qc_module *module)
{
    return import_field(module, "dequantized") != NULL;
}

void ct_read_import(ct_plan *plan)
{
    const qc_attr *mode = import_field(plan->module, "mode");
    plan->as_tensors = mode && strcmp(qc_attr_as_text(mode), "tensors") == 0;
    plan->dequantized = ct_is_dequantized(plan->module);
}

/* A name without dots, or whose module is no node, belongs to the root or the nearest node above. */
bool ct_in_tree(const ct_plan *plan, const char *tensor)
{
    for (size_t length = strlen(tensor) + 1; length-- > 0;) {
        if (length && tensor[length] != '.')
            continue;
        qc_arena *arena = (qc_arena *)(uintptr_t)&plan->arena;
        const qc_node *node = qc_module_find_node(plan->module, qc_arena_strndup(arena, tensor, length));
        const char *rest = length ? tensor + length + 1 : tensor;
        for (size_t i = 0; node && i < qc_node_tensor_count(node); i++)
            if (strcmp(qc_node_tensor(node, i), rest) == 0)
                return true;
    }
    return false;
}

/* ---- config.json --------------------------------------------------------------------------------------- */

/* Will a loader take the module of the tensor for one that a config group names, although it has no codes? A matrix of a
 * type that is not quantized, or the experts of a layer in one tensor. */
static bool looks_quantized(const ct_tensor *t)
{
    if (t->source != CT_COPY)
        return false;
    if (t->rank == 3)
        return qc_ends_with(t->name, ".gate_up_proj") || qc_ends_with(t->name, ".down_proj");
    return t->rank == 2 && t->shape[0] && t->shape[1] && qc_ends_with(t->name, ".weight") &&
           strcmp(t->dtype, "BF16") != 0 && strcmp(t->dtype, "F16") != 0 && strcmp(t->dtype, "F32") != 0;
}

static bool is_ignored(const ct_plan *plan, const char *path)
{
    const qc_node *node = qc_module_find_node(plan->module, path);
    for (size_t i = 0; node && i < plan->ignore.count; i++)
        if (qc_node_matches(node, plan->ignore.items[i]))
            return true;
    return false;
}

void ct_take_ignore(ct_plan *plan)
{
    qc_map seen;
    qc_map_init(&seen, &plan->arena);
    for (size_t g = 0; g < plan->groups.count; g++) {
        const qc_attr *list = plan->groups.items[g].ignore;
        for (size_t i = 0; list && i < qc_attr_count(list); i++) {
            const char *pattern = qc_attr_as_text(qc_attr_item(list, i));
            if (qc_map_set(&seen, pattern, NULL))
                QC_PUSH(&plan->arena, &plan->ignore, pattern);
        }
    }
    for (size_t i = 0; plan->groups.count && i < plan->tensors.count; i++) {
        const ct_tensor *t = plan->tensors.items[i];
        const char *dot = strrchr(t->name, '.');
        const char *path = dot ? qc_arena_strndup(&plan->arena, t->name, (size_t)(dot - t->name)) : "";
        if (looks_quantized(t) && !is_ignored(plan, path) && qc_map_set(&seen, path, NULL))
            QC_PUSH(&plan->arena, &plan->ignore, path);
    }
}

/* The name that the scheme has, as far as nobody before has it. */
const char *ct_group_name(ct_plan *plan, size_t group)
{
    const qc_attr *name = qc_attr_find(qc_symbol_fields(plan->groups.items[group].symbol), "name");
    size_t before = 0;
    if (!plan->as_tensors || !name)
        return qc_arena_printf(&plan->arena, "group_%zu", group);
    for (size_t i = 0; i < group; i++) {
        const qc_attr *other = qc_attr_find(qc_symbol_fields(plan->groups.items[i].symbol), "name");
        before += other && qc_attr_equal(other, name);
    }
    const char *text = qc_attr_as_text(name);
    return before ? qc_arena_printf(&plan->arena, "%s_%zu", text, before) : text;
}

/* Names that input embeddings, heads and routers of experts have in the models people publish; of each the first. */
void ct_note_table(ct_plan *plan, const char *path)
{
    static const char *const names[] = {"embed_tokens", "tok_embeddings", "word_embeddings", "wte",
        "embed_in", "embedding", "lm_head", "embed_out", "gate", "router"};
    const char *last = strrchr(path, '.');
    last = last ? last + 1 : path;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], last) == 0 && !qc_map_get(&plan->tables, last))
            qc_map_set(&plan->tables, names[i], qc_arena_strdup(&plan->arena, path));
}

void ct_warn_of_tables(ct_plan *plan)
{
    qc_str paths, options;
    const size_t count = plan->tables.count;
    plan->not_for_vllm |= count > 0;
    if (count == 0 || plan->quiet)
        return;
    qc_str_init(&paths, &plan->arena);
    qc_str_init(&options, &plan->arena);
    for (size_t i = 0; i < count; i++) {
        qc_str_addf(&paths, "%s%s", i ? ", " : "", (const char *)plan->tables.entries[i].value);
        qc_str_addf(&options, " --ignore='re:.*%s$'", plan->tables.entries[i].key);
    }
    qc_warning(qc_ctx_diag(plan->ctx), paths.data,
        "quantized as linear layers, as every matrix of a model without a graph; vLLM reads embeddings, "
        "heads and routers unquantized");
    qc_ctx_note(plan->ctx, "what leaves them alone:%s", options.data);
    qc_str_fini(&paths);
    qc_str_fini(&options);
}

/* ---- shards -------------------------------------------------------------------------------------------- */

static bool made_by(const qc_value *value, const char *op_name)
{
    return value && qc_value_op(value) && qc_op_is(qc_value_op(value), op_name);
}

/* The stored tensor that a value goes with: the first that it is made of, by way of the global scale where it has one.
 * NULL when it is made of none. */
static const qc_st_tensor *home_of(const ct_plan *plan, const qc_value *value)
{
    while (value && !made_by(value, "weight")) {
        const qc_op *op = qc_value_op(value);
        if (!op)
            return NULL;
        const qc_value *next = qc_op_operand_named(op, "global");
        for (size_t i = 0; !next && i < qc_op_operand_count(op); i++)
            if (strcmp(qc_op_operand_name(op, i), "importance") != 0)
                next = qc_op_operand(op, i);
        value = next;
    }
    return value ? qc_st_find(qc_weights_tensors(plan->weights),
                       qc_attr_as_text(qc_op_attr(qc_value_op(value), "tensor")))
                 : NULL;
}

static size_t module_length(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? (size_t)(dot - name) : 0;
}

/* What has neither bytes nor a value (a shape, zeros) goes where the rest of its module is. */
uint32_t ct_split_as_source(ct_plan *plan)
{
    const qc_st_set *set = qc_weights_tensors(plan->weights);
    uint32_t *numbers = QC_NEW_ARRAY(&plan->arena, uint32_t, set->file_count + 1), count = 0;
    qc_map homes; /* path of a module -> its file + 1 */
    qc_map_init(&homes, &plan->arena);
    for (size_t i = 0; i < plan->tensors.count; i++) {
        ct_tensor *t = plan->tensors.items[i];
        const qc_st_tensor *home = t->stored ? t->stored : home_of(plan, t->value);
        t->shard = home ? home->file : UINT32_MAX;
        if (home && !t->stored)
            qc_map_set_n(&homes, t->name, module_length(t->name), (void *)(uintptr_t)(home->file + 1));
    }
    for (size_t i = 0; i < plan->tensors.count; i++) {
        ct_tensor *t = plan->tensors.items[i];
        if (t->shard == UINT32_MAX) {
            uintptr_t home = (uintptr_t)qc_map_get_n(&homes, t->name, module_length(t->name));
            t->shard = home ? (uint32_t)home - 1 : 0;
        }
        numbers[t->shard] = 1;
    }
    plan->shard_names = QC_NEW_ARRAY(&plan->arena, const char *, set->file_count + 1);
    for (size_t f = 0; f < set->file_count; f++)
        if (numbers[f]) {
            plan->shard_names[count] = set->files[f].name;
            numbers[f] = count++;
        }
    for (size_t i = 0; i < plan->tensors.count; i++)
        plan->tensors.items[i]->shard = numbers[plan->tensors.items[i]->shard];
    return count;
}

void ct_source_index_text(const ct_plan *plan, uint32_t shard_count, qc_str *text)
{
    qc_arena arena;
    qc_arena_init(&arena, plan->arena.oom);
    qc_json *index = qc_json_new(&arena, QC_JSON_OBJECT), *metadata = qc_json_new(&arena, QC_JSON_OBJECT);
    qc_json *map = qc_json_new(&arena, QC_JSON_OBJECT);
    int64_t bytes = 0;
    for (size_t i = 0; i < plan->tensors.count; i++) {
        const ct_tensor *t = plan->tensors.items[i];
        bytes += (int64_t)t->size_bytes;
        qc_json_set(&arena, map, t->name,
            qc_json_new_string(&arena, ct_shard_name(plan, &arena, t->shard, shard_count)));
    }
    qc_json_set(&arena, metadata, "total_size", qc_json_new_int(&arena, bytes));
    qc_json_set(&arena, index, "metadata", metadata);
    qc_json_set(&arena, index, "weight_map", map);
    qc_json_write(text, index, 2, true);
    qc_arena_fini(&arena);
}

/* ---- files --------------------------------------------------------------------------------------------- */

/* Where files come from and go to. */
typedef struct copying {
    ct_plan *plan;
    struct stat outputs[2]; /* OUT.partial, and OUT where it is to be replaced: they may lie in the source */
    const char *left_out;
} copying;

static bool is_output(const copying *c, const struct stat *info)
{
    for (size_t i = 0; i < 2; i++)
        if (c->outputs[i].st_ino == info->st_ino && c->outputs[i].st_dev == info->st_dev)
            return true;
    return false;
}

/* Takes no part: hidden files, links to folders (which may go anywhere), weights in other containers. */
static bool is_left_out(const char *name, const char *path, const struct stat *info)
{
    struct stat link;
    if (name[0] == '.' || lstat(path, &link) != 0)
        return true;
    if (S_ISDIR(info->st_mode))
        return S_ISLNK(link.st_mode);
    return !S_ISREG(info->st_mode) || ct_is_weights_file(name);
}

static qc_status copy_folder(copying *c, const char *from, const char *to, const char *inside)
{
    qc_diag *diag = qc_ctx_diag(c->plan->ctx);
    qc_arena *arena = &c->plan->arena;
    char **names;
    size_t count;
    if (qc_list_directory(diag, arena, from, &names, &count) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < count; i++) {
        const char *path = qc_path_join(arena, from, names[i]), *target = qc_path_join(arena, to, names[i]);
        const char *shown = qc_arena_printf(arena, "%s%s", inside, names[i]);
        struct stat info;
        if (!*inside && (ct_is_replaced(names[i]) || ct_is_shard(c->plan, names[i])))
            continue;
        const bool there = stat(path, &info) == 0, folder = there && S_ISDIR(info.st_mode);
        qc_status status = QC_OK;
        if (folder && is_output(c, &info))
            continue;
        if (!there || is_left_out(names[i], path, &info))
            c->left_out = qc_arena_printf(
                arena, "%s%s%s%s", c->left_out, *c->left_out ? ", " : "", shown, folder ? "/" : "");
        else if (!folder)
            status = qc_copy_file(diag, path, target);
        else if ((status = ct_make_directory(diag, target)) == QC_OK)
            status = copy_folder(c, path, target, qc_arena_printf(arena, "%s/", shown));
        if (status != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

qc_status ct_copy_all_files(ct_plan *plan, const char *from, const char *to)
{
    static const char ending[] = ".partial";
    copying c = {.plan = plan, .left_out = ""};
    size_t length = strlen(to);
    if (qc_ends_with(to, ending))
        length -= sizeof ending - 1;
    if (stat(to, &c.outputs[0]) != 0 || stat(qc_arena_strndup(&plan->arena, to, length), &c.outputs[1]) != 0)
        c.outputs[1] = c.outputs[0]; /* nothing is replaced */
    if (copy_folder(&c, from, to, "") != QC_OK)
        return QC_ERROR;
    if (*c.left_out)
        qc_ctx_note(plan->ctx, "not copied from %s: %s", from, c.left_out);
    return QC_OK;
}
