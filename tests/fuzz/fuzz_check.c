/* SPDX-License-Identifier: MIT
 *
 * fuzz_check.c - any quantization_config beside any tensors, judged by qc-check's rules; what fits a config group is decoded.
 *
 * Input: {"config": config.json, "tensors": {"NAME": ["BF16", [2, 4]], ...}}. The tensors lie one behind the other in a
 * file of 64 KiB whose bytes count up; integers may have values of their own: ["I64", [2], [6, 32]].
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/check/quant.h"

enum { MAX_BYTES = 64 << 10, MAX_RANK = 8, MAX_TENSORS = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_check: %s\n", what);
    abort();
}

/* One entry of "tensors"; false: none that a safetensors file could hold. */
static bool read_tensor(qc_arena *arena, const qc_json *entry, uint64_t offset, qc_st_tensor *t)
{
    const qc_json *dtype = qc_json_at(entry, 0), *shape = qc_json_at(entry, 1);
    if (!dtype || dtype->kind != QC_JSON_STRING || !shape || shape->kind != QC_JSON_ARRAY ||
        shape->length > MAX_RANK)
        return false;
    int64_t *dims = QC_NEW_ARRAY(arena, int64_t, MAX_RANK), count = 1;
    int bits = qc_st_dtype_bits(dtype->text);
    *t = (qc_st_tensor){.name = entry->key, .dtype = dtype->text, .shape = dims, .offset_bytes = offset};
    for (const qc_json *d = shape->first; d; d = d->next) {
        if (!d->is_integer || d->integer < 0 || d->integer > MAX_BYTES)
            return false;
        dims[t->rank++] = d->integer;
        count *= d->integer;
        if (count > MAX_BYTES)
            return false;
    }
    t->size_bytes = (uint64_t)count * (uint64_t)bits / 8;
    return bits > 0 && offset + t->size_bytes <= MAX_BYTES;
}

static void put_values(const qc_json *values, const qc_st_tensor *t, uint8_t *bytes)
{
    const size_t elem_bytes = (size_t)qc_st_dtype_bits(t->dtype) / 8;
    uint64_t at = t->offset_bytes, end = at + t->size_bytes;
    for (const qc_json *v = values && values->kind == QC_JSON_ARRAY ? values->first : NULL; v; v = v->next) {
        if (!v->is_integer || at + elem_bytes > end)
            return;
        for (size_t i = 0; i < elem_bytes && i < 8; i++)
            bytes[at + i] = (uint8_t)((uint64_t)v->integer >> (8 * i));
        at += elem_bytes;
    }
}

static void read_tensors(qc_arena *arena, const qc_json *tensors, qc_st_set *set, uint8_t *bytes)
{
    uint64_t offset = 0;
    set->tensors = QC_NEW_ARRAY(arena, qc_st_tensor, MAX_TENSORS);
    qc_map_init(&set->by_name, arena);
    for (const qc_json *e = tensors && tensors->kind == QC_JSON_OBJECT ? tensors->first : NULL; e;
         e = e->next) {
        qc_st_tensor *t = &set->tensors[set->tensor_count];
        if (set->tensor_count == MAX_TENSORS)
            return;
        if (!read_tensor(arena, e, offset, t))
            continue;
        put_values(qc_json_at(e, 2), t, bytes);
        offset += t->size_bytes;
        qc_map_set(&set->by_name, t->name, t);
        set->tensor_count++;
    }
}

/* Every weight that fits is read to its last row, in pieces that begin anywhere. */
static void decode(qc_diag *diag, check_model *model, const check_module *module, const check_group *group)
{
    check_weight w;
    check_problems problems = {0};
    check_weight_fit(model, module, group, &w, &problems);
    if (problems.count || check_weight_load(diag, model, &w) != QC_OK)
        return;
    for (int64_t first = 0, rows = 1; first < w.rows; first += rows, rows = rows % 5 + 1) {
        check_rows buffers;
        int64_t n = w.rows - first < rows ? w.rows - first : rows;
        void *memory = malloc(check_rows_bytes(&w, n));
        float *values = malloc((size_t)(n * w.columns) * sizeof *values);
        demand(memory && values, "memory");
        check_rows_init(&buffers, &w, n, memory);
        demand(check_weight_rows(diag, model, &w, QC_BF16, first, n, &buffers, values) == QC_OK,
            "rows of what fits");
        free(memory);
        free(values);
    }
}

static void judge(qc_diag *diag, qc_arena *arena, const qc_json *root, const qc_st_set *set)
{
    check_model model;
    check_problems problems = {0};
    check_verdict verdict = {.target = NULL};
    check_model_open(diag, arena, "input", set, qc_json_get(root, "config"), &model);
    check_rules(&model, &problems);
    check_vllm(&model, &verdict);
    for (size_t i = 0; i < model.module_count; i++)
        for (size_t g = 0; g < model.group_count; g++)
            if (model.groups[g].weights.present)
                decode(diag, &model, &model.modules[i], &model.groups[g]);
    check_model_close(&model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[MAX_BYTES];
    qc_arena arena;
    qc_diag diag;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, NULL, NULL);
    const qc_json *root = qc_json_parse(&diag, &arena, "input", (const char *)data, size);
    int fd = root ? memfd_create("input", MFD_CLOEXEC) : -1;
    if (fd >= 0) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)(i * 7 + i / 256);
        qc_st_file file = {.name = "input", .path = "input", .fd = fd, .size_bytes = sizeof bytes};
        qc_st_set set = {.files = &file, .file_count = 1};
        read_tensors(&arena, qc_json_get(root, "tensors"), &set, bytes);
        demand(write(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes, "a file in memory");
        judge(&diag, &arena, root, &set);
        close(fd);
    }
    qc_arena_fini(&arena);
    return 0;
}
