/* SPDX-License-Identifier: MIT
 *
 * fused.c - an expert's part of a tensor that holds all experts of a layer, for a baseline whose experts are stored so while
 * those of the checkpoint are stored one by one.
 *
 *   experts.gate_up_proj       [E, 2 inner, hidden], or transposed [E, hidden, 2 inner]; gate before up, or by turns
 *   experts.down_proj          [E, hidden, inner], or transposed [E, inner, hidden]
 *   experts.gate_up_proj_bias  [E, 2 inner], experts.down_proj_bias [E, hidden]
 *
 * Shapes tell which way the matrices lie: of the two projections at least one is not square in its two readings. Whether gate and
 * up lie by turns is asked of the architecture that config.json names.
 */
#include <stdlib.h>
#include <string.h>

#include "frontends/hf/hf.h"
#include "runtime/check/quant.h"

/* The name of an expert's tensor, taken apart. */
typedef struct expert_name {
    const char *experts; /* "model.layers.0.mlp.experts" */
    int64_t number;
    bool down, up, bias;
} expert_name;

static bool take_apart(qc_arena *arena, const char *name, expert_name *out)
{
    static const struct {
        const char *name;
        bool down, up, bias;
    } parts[] = {{"gate_proj.weight", false, false, false}, {"up_proj.weight", false, true, false},
        {"down_proj.weight", true, false, false}, {"gate_proj.bias", false, false, true},
        {"up_proj.bias", false, true, true}, {"down_proj.bias", true, false, true}};
    static const char word[] = ".experts.";
    const char *at = strstr(name, word);
    char *end;
    if (!at || at[sizeof word - 1] < '0' || at[sizeof word - 1] > '9')
        return false;
    out->experts = qc_arena_strndup(arena, name, (size_t)(at - name) + sizeof word - 2);
    out->number = strtoll(at + sizeof word - 1, &end, 10);
    for (size_t i = 0; *end == '.' && i < sizeof parts / sizeof *parts; i++)
        if (strcmp(end + 1, parts[i].name) == 0) {
            out->down = parts[i].down;
            out->up = parts[i].up;
            out->bias = parts[i].bias;
            return true;
        }
    return false;
}

static const qc_st_tensor *fused(const check_model *m, const expert_name *n, const char *short_name, int rank)
{
    const qc_st_tensor *t = qc_st_find(m->set, qc_arena_printf(m->arena, "%s.%s", n->experts, short_name));
    return t && t->rank == rank && n->number < t->shape[0] ? t : NULL;
}

static bool is_by_turns(const check_model *m)
{
    const qc_json *type = qc_json_get(m->config, "model_type");
    return type && type->kind == QC_JSON_STRING && qc_hf_experts_by_turns(type->text);
}

static bool is_bias_name(const char *name)
{
    return qc_ends_with(name, "_bias");
}

bool check_is_fused(const check_model *whole, const qc_st_tensor *t)
{
    static const char *const names[] = {".experts.gate_up_proj", ".experts.down_proj",
        ".experts.gate_up_proj_bias", ".experts.down_proj_bias"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!qc_ends_with(t->name, names[i]))
            continue;
        const size_t length = strlen(t->name) - strlen(names[i]) + strlen(".experts");
        const char *first = qc_arena_printf(whole->arena, "%.*s.0.down_proj.%s", (int)length, t->name,
            is_bias_name(t->name) ? "bias" : "weight");
        return qc_st_find(whole->set, first) ||
               qc_st_find(whole->set, qc_arena_printf(whole->arena, "%s_packed", first));
    }
    return false;
}

/* Do both matrices of a layer have the shapes that these sizes give? */
static bool lie(
    const qc_st_tensor *gate_up, const qc_st_tensor *down, int64_t hidden, int64_t inner, bool transposed)
{
    const int64_t rows = transposed ? hidden : 2 * inner, columns = transposed ? 2 * inner : hidden;
    return gate_up->shape[1] == rows && gate_up->shape[2] == columns &&
           down->shape[1] == (transposed ? inner : hidden) && down->shape[2] == (transposed ? hidden : inner);
}

bool check_weight_of_expert(
    const check_model *m, const char *name, int64_t rows, int64_t columns, check_weight *w)
{
    expert_name n;
    if (!take_apart(m->arena, name, &n))
        return false;
    const qc_st_tensor *gate_up = fused(m, &n, n.bias ? "gate_up_proj_bias" : "gate_up_proj", n.bias ? 2 : 3),
                       *down = fused(m, &n, n.bias ? "down_proj_bias" : "down_proj", n.bias ? 2 : 3);
    const qc_st_tensor *t = n.down ? down : gate_up;
    const bool turns = is_by_turns(m);
    if (!gate_up || !down || !check_is_plain(t->dtype) || (n.bias && rows != 1))
        return false;
    *w = (check_weight){.storage = CHECK_PLAIN,
        .code = qc_dtype_from_safetensors_name(t->dtype),
        .codes = t,
        .rows = rows,
        .columns = columns,
        .part = true,
        .row_step = 1,
        .column_step = 1};
    if (n.bias) {
        w->column_step = n.down || !turns ? 1 : 2;
        w->first_elem = n.number * t->shape[1] + (n.up ? (turns ? 1 : columns) : 0);
        return t->shape[1] == (n.down ? columns : 2 * columns);
    }
    const int64_t hidden = n.down ? rows : columns, inner = n.down ? columns : rows;
    const bool transposed = lie(gate_up, down, hidden, inner, true);
    if (!transposed && !lie(gate_up, down, hidden, inner, false))
        return false;
    const int64_t step =
        n.down || !turns ? 1 : 2; /* from a row of the expert to the next, in rows of the tensor */
    const int64_t first = n.up ? (turns ? 1 : inner) : 0;
    w->row_step = transposed ? step : step * t->shape[2];
    w->column_step = transposed ? t->shape[2] : 1;
    w->first_elem = n.number * t->shape[1] * t->shape[2] + (transposed ? first : first * t->shape[2]);
    return true;
}
