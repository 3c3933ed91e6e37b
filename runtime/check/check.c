/* SPDX-License-Identifier: MIT
 *
 * check.c - listing a checkpoint; see check.h.
 */
#include "runtime/check/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ir/support/io.h"
#include "runtime/check/merge.h"
#include "runtime/check/quant.h"

enum { MAX_CONFIG_BYTES = 64 << 20 };

void check_add_safe(qc_str *out, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p < 0x20 || *p == 0x7f)
            qc_str_addf(out, "\\x%02x", *p);
        else
            qc_str_add_char(out, (char)*p);
    }
}

const char *check_shape_text(qc_arena *arena, const int64_t *shape, int rank)
{
    const char *text = "[";
    for (int i = 0; i < rank; i++)
        text = qc_arena_printf(arena, "%s%s%" PRId64, text, i ? ", " : "", shape[i]);
    return qc_arena_printf(arena, "%s]", text);
}

/* What a listing is made of. */
typedef struct listing {
    qc_arena *arena;
    const char *path;
    qc_st_set set;
    const qc_st_tensor **tensors; /* by name */
    const qc_json *quantization;  /* quantization_config, or NULL */
    check_problems problems;
    check_verdict verdict;
} listing;

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const qc_st_tensor *const *)a)->name, (*(const qc_st_tensor *const *)b)->name);
}

static int64_t element_count(const qc_st_tensor *t)
{
    int64_t count = 1;
    for (int i = 0; i < t->rank; i++)
        count *= t->shape[i];
    return count;
}

qc_status check_open(qc_diag *diag, qc_arena *arena, const char *path, qc_st_set *set, const qc_json **config)
{
    bool directory = !qc_is_file(path);
    qc_status status =
        directory ? qc_st_open_directory(diag, arena, path, set) : qc_st_open_file(diag, arena, path, set);
    *config = NULL;
    if (status != QC_OK)
        return QC_ERROR;
    const char *config_path = qc_path_join(arena, path, "config.json");
    if (!directory || !qc_is_file(config_path))
        return QC_OK;
    char *data;
    size_t length;
    if (qc_read_file(diag, arena, config_path, MAX_CONFIG_BYTES, &data, &length) == QC_OK)
        *config = qc_json_parse(diag, arena, config_path, data, length);
    if (*config)
        return QC_OK;
    qc_st_close(set);
    return QC_ERROR;
}

/* What is wrong with the config is one of the problems. */
static void keep_problem(void *user, qc_severity severity, const char *where, const char *what)
{
    listing *l = user;
    if (severity == QC_SEVERITY_ERROR)
        QC_PUSH(l->arena, &l->problems, qc_arena_printf(l->arena, "%s%s%s", where, *where ? ": " : "", what));
}

static qc_status judge(qc_diag *diag, listing *l, const qc_json *config, const char *target)
{
    check_model model;
    qc_diag problems;
    qc_diag_init(&problems, l->arena, keep_problem, l);
    qc_status status = check_model_open(&problems, l->arena, l->path, &l->set, config, &model);
    model.diag = diag; /* what goes wrong from here on is no property of the checkpoint */
    if (status == QC_OK)
        status = check_rules(&model, &l->problems);
    else
        status = model.tree ? QC_OK : QC_ERROR;
    if (status == QC_OK && target)
        status = check_vllm(&model, &l->verdict);
    check_model_close(&model);
    return status;
}

static qc_status read_listing(
    qc_diag *diag, qc_arena *arena, const char *path, const char *target, listing *l)
{
    *l = (listing){.arena = arena, .path = path};
    const qc_json *config;
    if (target && strcmp(target, "vllm") != 0)
        return qc_error(diag, "", "target '%s' has no rules here; known is vllm", target);
    if (check_open(diag, arena, path, &l->set, &config) != QC_OK)
        return QC_ERROR;
    l->tensors = QC_NEW_ARRAY(arena, const qc_st_tensor *, l->set.tensor_count + 1);
    for (size_t i = 0; i < l->set.tensor_count; i++)
        l->tensors[i] = &l->set.tensors[i];
    qsort(l->tensors, l->set.tensor_count, sizeof *l->tensors, by_name);
    const qc_json *q = check_quantization_of(config);
    l->quantization = q && q->kind == QC_JSON_OBJECT ? q : NULL;
    qc_status status = judge(diag, l, config, target);
    if (status != QC_OK)
        qc_st_close(&l->set);
    return status;
}

/* ---- text ---------------------------------------------------------------------------------------------- */

static const char *text_of(const qc_json *value, const char *fallback)
{
    return value && (value->kind == QC_JSON_STRING || value->kind == QC_JSON_NUMBER) ? value->text : fallback;
}

static bool is_true(const qc_json *value)
{
    return value && value->kind == QC_JSON_BOOL && value->boolean;
}

/* "8-bit float, channel, static (memoryless_minmax)" */
static void add_args(qc_str *out, const qc_json *args)
{
    if (!args || args->kind != QC_JSON_OBJECT) {
        qc_str_add(out, "none");
        return;
    }
    const qc_json *dynamic = qc_json_get(args, "dynamic"), *group = qc_json_get(args, "group_size"),
                  *block = qc_json_get(args, "block_structure");
    check_add_safe(out, text_of(qc_json_get(args, "num_bits"), "?"));
    qc_str_add(out, "-bit ");
    check_add_safe(out, text_of(qc_json_get(args, "type"), "?"));
    qc_str_add(out, ", ");
    check_add_safe(out, text_of(qc_json_get(args, "strategy"), "?"));
    if (group && group->kind == QC_JSON_NUMBER)
        qc_str_addf(out, " of %s", group->text);
    if (block && block->kind == QC_JSON_ARRAY && block->first && block->first->next)
        qc_str_addf(out, " of %s x %s", text_of(block->first, "?"), text_of(block->first->next, "?"));
    if (!is_true(qc_json_get(args, "symmetric")))
        qc_str_add(out, ", asymmetric");
    if (is_true(dynamic)) {
        qc_str_add(out, ", dynamic");
        return;
    }
    bool local = dynamic && dynamic->kind == QC_JSON_STRING;
    qc_str_add(out, local ? ", dynamic under a static global scale (" : ", static (");
    check_add_safe(out, text_of(qc_json_get(args, "observer"), "no observer named"));
    qc_str_add_char(out, ')');
}

static void add_strings(qc_str *out, const qc_json *list)
{
    bool any = false;
    for (const qc_json *item = list && list->kind == QC_JSON_ARRAY ? list->first : NULL; item;
         item = item->next) {
        qc_str_add(out, any ? ", " : "");
        check_add_safe(out, text_of(item, "?"));
        any = true;
    }
    if (!any)
        qc_str_add(out, "nothing");
}

static void add_groups(qc_str *out, const qc_json *groups)
{
    for (const qc_json *g = groups && groups->kind == QC_JSON_OBJECT ? groups->first : NULL; g; g = g->next) {
        qc_str_add(out, "  ");
        check_add_safe(out, g->key);
        qc_str_add(out, ": ");
        add_strings(out, qc_json_get(g, "targets"));
        qc_str_add(out, "\n    weights: ");
        add_args(out, qc_json_get(g, "weights"));
        qc_str_add(out, "\n    inputs: ");
        add_args(out, qc_json_get(g, "input_activations"));
        qc_str_add(out, "\n    format: ");
        check_add_safe(out, text_of(qc_json_get(g, "format"), "not given"));
        qc_str_add_char(out, '\n');
    }
}

/* How many names end so. */
static size_t count_ending(const listing *l, const char *ending)
{
    size_t count = 0;
    for (size_t i = 0; i < l->set.tensor_count; i++)
        count += qc_ends_with(l->tensors[i]->name, ending);
    return count;
}

static void add_quantization(qc_str *out, const listing *l)
{
    const qc_json *q = l->quantization;
    if (!q) {
        qc_str_add(out, "quantization: none\n");
        return;
    }
    qc_str_add(out, "quantization: ");
    check_add_safe(out, text_of(qc_json_get(q, "quant_method"), "no method named"));
    if (qc_json_get(q, "version")) {
        qc_str_add_char(out, ' ');
        check_add_safe(out, text_of(qc_json_get(q, "version"), ""));
    }
    if (qc_json_get(q, "format")) {
        qc_str_add(out, ", format ");
        check_add_safe(out, text_of(qc_json_get(q, "format"), "?"));
    }
    qc_str_add_char(out, '\n');
    add_groups(out, qc_json_get(q, "config_groups"));
    qc_str_add(out, "  KV cache: ");
    add_args(out, qc_json_get(q, "kv_cache_scheme"));
    qc_str_add(out, "\n  ignored: ");
    add_strings(out, qc_json_get(q, "ignore"));
    qc_str_addf(out, "\n  scales: %zu of weights, %zu of inputs; of attention %zu q, %zu k, %zu v\n",
        count_ending(l, ".weight_scale"),
        count_ending(l, ".input_scale") + count_ending(l, ".input_global_scale"),
        count_ending(l, ".q_scale") + count_ending(l, ".q_global_scale"),
        count_ending(l, ".k_scale") + count_ending(l, ".k_global_scale"),
        count_ending(l, ".v_scale") + count_ending(l, ".v_global_scale"));
}

static void add_totals(qc_str *out, const listing *l)
{
    qc_map bytes; /* element type -> bytes of it */
    qc_map_init(&bytes, l->arena);
    uint64_t total = 0;
    for (size_t i = 0; i < l->set.tensor_count; i++) {
        const qc_st_tensor *t = l->tensors[i];
        uint64_t *sum = qc_map_get(&bytes, t->dtype);
        if (!sum) {
            sum = QC_NEW(l->arena, uint64_t);
            qc_map_set(&bytes, t->dtype, sum);
        }
        *sum += t->size_bytes;
        total += t->size_bytes;
    }
    qc_str_addf(out, "%zu tensors in %zu %s, %" PRIu64 " bytes", l->set.tensor_count, l->set.file_count,
        l->set.file_count == 1 ? "file" : "files", total);
    for (size_t i = 0; i < bytes.count; i++)
        qc_str_addf(
            out, "%s%s %" PRIu64, i ? ", " : ": ", bytes.entries[i].key, *(uint64_t *)bytes.entries[i].value);
    qc_str_add_char(out, '\n');
}

static const char *const effects[] = {[CHECK_REFUSED] = "refused", [CHECK_WRONG] = "wrong"};

static void add_verdict(qc_str *out, const listing *l, bool every_expert)
{
    const check_verdict *v = &l->verdict;
    if (!v->target)
        return;
    for (size_t i = 0; i < v->kernels.count; i++) {
        qc_str_addf(out, "%s: ", v->target);
        check_add_safe(out, v->kernels.items[i].group);
        qc_str_addf(out, " is %s\n", v->kernels.items[i].what);
    }
    check_merge findings;
    check_merge_init(&findings, l->arena, every_expert);
    for (size_t i = 0; i < v->findings.count; i++)
        check_merge_add(&findings, v->findings.items[i].what, effects[v->findings.items[i].effect]);
    for (size_t i = 0; i < findings.lines.count; i++) {
        const check_merged *line = findings.lines.items[i];
        qc_str_addf(out, "%s: %s: ", v->target, effects[v->findings.items[line->first].effect]);
        check_add_safe(out, check_merged_name(l->arena, line));
        qc_str_add_char(out, '\n');
    }
    if (v->findings.count == 0 && l->problems.count == 0)
        qc_str_addf(out, "%s: nothing against it\n", v->target);
}

/* A line a tensor; experts whose tensors are of one type and shape have one together. */
static void add_tensors(qc_str *out, const listing *l, bool every_expert)
{
    check_merge merge;
    size_t width = 0;
    check_merge_init(&merge, l->arena, every_expert);
    for (size_t i = 0; i < l->set.tensor_count; i++) {
        const qc_st_tensor *t = l->tensors[i];
        check_merge_add(&merge, t->name,
            qc_arena_printf(l->arena, "%s %s", t->dtype, check_shape_text(l->arena, t->shape, t->rank)));
    }
    const char **names = QC_NEW_ARRAY(l->arena, const char *, merge.lines.count + 1);
    for (size_t i = 0; i < merge.lines.count; i++) {
        names[i] = check_merged_name(l->arena, merge.lines.items[i]);
        width = strlen(names[i]) > width ? strlen(names[i]) : width;
    }
    width = width > 80 ? 80 : width;
    for (size_t i = 0; i < merge.lines.count; i++) {
        const check_merged *line = merge.lines.items[i];
        const qc_st_tensor *t = l->tensors[line->first];
        const char *shape = check_shape_text(l->arena, t->shape, t->rank);
        size_t before = out->length;
        check_add_safe(out, names[i]);
        while (out->length - before < width)
            qc_str_add_char(out, ' ');
        if (line->count > 1)
            shape = qc_arena_printf(l->arena, "%zu x %s", line->count, shape);
        qc_str_addf(out, "  %-8s  %-16s  %" PRIu64 "\n", t->dtype, shape, t->size_bytes * line->count);
    }
}

static void add_text(qc_str *out, const listing *l, bool every_expert)
{
    add_tensors(out, l, every_expert);
    add_totals(out, l);
    add_quantization(out, l);
    check_merge problems;
    check_merge_init(&problems, l->arena, every_expert);
    for (size_t i = 0; i < l->problems.count; i++)
        check_merge_add(&problems, l->problems.items[i], "");
    for (size_t i = 0; i < problems.lines.count; i++) {
        qc_str_add(out, "problem: ");
        check_add_safe(out, check_merged_name(l->arena, problems.lines.items[i]));
        qc_str_add_char(out, '\n');
    }
    add_verdict(out, l, every_expert);
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static qc_json *verdict_json(const listing *l)
{
    qc_arena *arena = l->arena;
    qc_json *v = qc_json_new(arena, QC_JSON_OBJECT), *groups = qc_json_new(arena, QC_JSON_OBJECT);
    qc_json *findings = qc_json_new(arena, QC_JSON_ARRAY);
    for (size_t i = 0; i < l->verdict.kernels.count; i++)
        qc_json_set(arena, groups, l->verdict.kernels.items[i].group,
            qc_json_new_string(arena, l->verdict.kernels.items[i].what));
    for (size_t i = 0; i < l->verdict.findings.count; i++) {
        const check_finding *f = &l->verdict.findings.items[i];
        qc_json *o = qc_json_new(arena, QC_JSON_OBJECT);
        qc_json_set(arena, o, "effect", qc_json_new_string(arena, effects[f->effect]));
        qc_json_set(arena, o, "what", qc_json_new_string(arena, f->what));
        qc_json_push(arena, findings, o);
    }
    qc_json_set(arena, v, "name", qc_json_new_string(arena, l->verdict.target));
    qc_json_set(arena, v, "groups", groups);
    qc_json_set(arena, v, "findings", findings);
    return v;
}

static void add_json(qc_str *out, listing *l)
{
    qc_arena *arena = l->arena;
    qc_json *root = qc_json_new(arena, QC_JSON_OBJECT), *files = qc_json_new(arena, QC_JSON_ARRAY);
    qc_json *tensors = qc_json_new(arena, QC_JSON_ARRAY), *problems = qc_json_new(arena, QC_JSON_ARRAY);
    int64_t elements = 0, bytes = 0;
    for (size_t i = 0; i < l->set.file_count; i++) {
        qc_json *f = qc_json_new(arena, QC_JSON_OBJECT);
        qc_json_set(arena, f, "name", qc_json_new_string(arena, l->set.files[i].name));
        qc_json_set(arena, f, "bytes", qc_json_new_int(arena, (int64_t)l->set.files[i].size_bytes));
        qc_json_push(arena, files, f);
    }
    for (size_t i = 0; i < l->set.tensor_count; i++) {
        const qc_st_tensor *t = l->tensors[i];
        qc_json *o = qc_json_new(arena, QC_JSON_OBJECT), *shape = qc_json_new(arena, QC_JSON_ARRAY);
        for (int k = 0; k < t->rank; k++)
            qc_json_push(arena, shape, qc_json_new_int(arena, t->shape[k]));
        qc_json_set(arena, o, "name", qc_json_new_string(arena, t->name));
        qc_json_set(arena, o, "dtype", qc_json_new_string(arena, t->dtype));
        qc_json_set(arena, o, "shape", shape);
        qc_json_set(arena, o, "bytes", qc_json_new_int(arena, (int64_t)t->size_bytes));
        qc_json_set(arena, o, "file", qc_json_new_string(arena, l->set.files[t->file].name));
        qc_json_push(arena, tensors, o);
        elements += element_count(t);
        bytes += (int64_t)t->size_bytes;
    }
    for (size_t i = 0; i < l->problems.count; i++)
        qc_json_push(arena, problems, qc_json_new_string(arena, l->problems.items[i]));
    qc_json_set(arena, root, "path", qc_json_new_string(arena, l->path));
    qc_json_set(arena, root, "files", files);
    qc_json_set(arena, root, "tensors", tensors);
    qc_json_set(arena, root, "elements", qc_json_new_int(arena, elements));
    qc_json_set(arena, root, "bytes", qc_json_new_int(arena, bytes));
    qc_json *q = l->quantization ? (qc_json *)(uintptr_t)l->quantization : qc_json_new(arena, QC_JSON_NULL);
    q->next = NULL;
    qc_json_set(arena, root, "quantization_config", q);
    qc_json_set(arena, root, "problems", problems);
    if (l->verdict.target)
        qc_json_set(arena, root, "target", verdict_json(l));
    qc_json_write(out, root, 2, false);
    qc_str_add_char(out, '\n');
}

qc_status qc_check_list(qc_diag *diag, qc_arena *arena, const char *directory,
    const qc_check_list_options *options, qc_str *out, size_t *problem_count)
{
    listing l;
    if (read_listing(diag, arena, directory, options->target, &l) != QC_OK)
        return QC_ERROR;
    if (options->json)
        add_json(out, &l);
    else
        add_text(out, &l, options->every_expert);
    *problem_count = l.problems.count + l.verdict.findings.count;
    qc_st_close(&l.set);
    return QC_OK;
}

qc_status qc_check_target(
    qc_diag *diag, qc_arena *arena, const char *directory, const char *target, qc_check_findings *findings)
{
    check_model model;
    check_verdict verdict = {0};
    qc_st_set set;
    const qc_json *config;
    *findings = (qc_check_findings){0};
    if (strcmp(target, "vllm") != 0)
        return qc_error(diag, "", "target '%s' has no rules here; known is vllm", target);
    if (check_open(diag, arena, directory, &set, &config) != QC_OK)
        return QC_ERROR;
    qc_status status = check_model_open(diag, arena, directory, &set, config, &model);
    if (status == QC_OK)
        status = check_vllm(&model, &verdict);
    for (size_t i = 0; i < verdict.findings.count; i++) {
        const check_finding *f = &verdict.findings.items[i];
        QC_PUSH(arena, findings, qc_arena_printf(arena, "%s: %s", effects[f->effect], f->what));
    }
    check_model_close(&model);
    qc_st_close(&set);
    return status;
}
