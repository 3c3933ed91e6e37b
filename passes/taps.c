/* SPDX-License-Identifier: MIT
 *
 * taps.c - the names under which values are observed: after the module where the codes go, and behind that what else
 * made the values what they are, so that kept statistics never pass for those of another model. Rotations are seen in
 * the graph where they run (R3 before attention) and in the transform symbols where they are folded into weights; a
 * centered embedding by its op `center`.
 */
#include <string.h>

#include "ir/support/str.h"
#include "passes/experts.h"
#include "passes/internal.h"
#include "passes/quant.h"

static bool list_matches(const qc_attr *list, const qc_node *node)
{
    for (size_t i = 0; i < qc_attr_count(list); i++)
        if (qc_node_matches(node, qc_attr_as_text(qc_attr_item(list, i))))
            return true;
    return false;
}

/* Does the transform apply to the module at this place? */
static bool applies(const qc_symbol *transform, const qc_node *node, const char *location)
{
    const qc_attr *uses = qc_attr_find(qc_symbol_fields(transform), "apply");
    for (size_t i = 0; i < qc_attr_count(uses); i++) {
        const qc_attr *use = qc_attr_item(uses, i);
        if (strcmp(qc_attr_as_text(qc_attr_find(use, "location")), location) == 0 &&
            list_matches(qc_attr_find(use, "targets"), node) &&
            !list_matches(qc_attr_find(use, "ignore"), node))
            return true;
    }
    return false;
}

/* "@R3", and "(random_hadamard, size=4)" where the matrix is not the Hadamard matrix of the whole dimension. */
static void add_name(qc_str *out, const char *name, const char *matrix, bool whole, int64_t size)
{
    qc_str_addf(out, "@%s", name);
    if (strcmp(matrix, "hadamard") == 0 && whole)
        return;
    qc_str_addf(out, "(%s", matrix);
    if (!whole)
        qc_str_addf(out, ", size=%lld", (long long)size);
    qc_str_add_char(out, ')');
}

/* The transforms that are folded into the weights or run before the module: `into` its input, else its output. */
static void add_transforms(qc_str *out, const qc_module *module, const qc_node *node, bool input)
{
    for (const qc_symbol *s = qc_module_first_symbol(module); s; s = qc_symbol_next(s)) {
        if (strcmp(qc_symbol_kind(s), "transform") != 0)
            continue;
        bool folded = applies(s, node, input ? "weight_input" : "weight_output");
        bool runs = applies(s, node, input ? "input" : "output");
        /* What is folded into an output and taken back as the model runs leaves no trace. */
        if (input ? !(folded || runs) : folded == runs)
            continue;
        const qc_attr *fields = qc_symbol_fields(s);
        add_name(out, qc_symbol_name(s), qc_attr_as_text(qc_attr_find(fields, "type")),
            !qc_attr_as_bool(qc_attr_find(fields, "block")), qc_attr_as_int(qc_attr_find(fields, "size")));
    }
}

/* A value that the Hadamard matrix of a whole head rotates, or another one. */
static void add_rotation(qc_str *out, const qc_value *x)
{
    const qc_op *op = qc_value_op(x);
    int64_t whole, size;
    if (!op || !qc_op_is(op, "hadamard"))
        return;
    size = qc_attr_as_int(qc_op_attr(op, "size"));
    bool all = qc_dim_as_int(qc_type_dim(qc_value_type(x), -1), &whole) && whole == size;
    add_name(out, "R3", qc_attr_as_text(qc_op_attr(op, "matrix")), all, size);
}

/* The linear whose heads x is; NULL when it is none. *turned: a rotation runs behind it. */
static const qc_op *linear_of(const qc_value *x, bool *turned)
{
    const qc_op *op = qc_value_op(x);
    *turned = false;
    while (op) {
        const qc_value *scaled = qc_quant_scaled(op);
        *turned = *turned || qc_op_is(op, "hadamard");
        if (!scaled && !qc_quant_one_of(qc_op_name(op), "split_heads|hadamard|rope|rmsnorm|cast"))
            break;
        op = qc_value_op(scaled ? scaled : qc_op_operand(op, 0));
    }
    return op && qc_op_is(op, "linear") ? op : NULL;
}

/* R3 of queries or keys, where it is in the weight: of the linear's rows in blocks of a head, d columns. */
static void add_folded_rotation(qc_str *out, const qc_op *linear, const qc_value *x)
{
    const qc_op *op = qc_value_op(qc_plain_value(qc_op_operand_named(linear, "w")));
    int64_t whole = 0;
    while (op && (qc_op_is(op, "mul") ||
                     (qc_op_is(op, "hadamard") && qc_attr_as_int(qc_op_attr(op, "axis")) == -1)))
        op = qc_value_op(qc_op_operand(op, 0));
    if (!op || !qc_op_is(op, "hadamard"))
        return;
    int64_t size = qc_attr_as_int(qc_op_attr(op, "size"));
    qc_dim_as_int(qc_type_dim(qc_value_type(x), -1), &whole);
    add_name(out, "R3", qc_attr_as_text(qc_op_attr(op, "matrix")), whole == size, size);
}

/* "@centered" where the embedding's rows were: all that comes behind it has other values. */
static void add_centering(qc_str *out, const qc_module *module)
{
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op)) {
            if (!qc_op_is(op, "center"))
                continue;
            qc_str_add(out, "@centered");
            return;
        }
}

static const char *finish(qc_pass_ctx *pc, qc_str *text)
{
    const char *tap = qc_arena_strdup(pc->arena, text->data);
    qc_str_fini(text);
    return tap;
}

static void start(qc_pass_ctx *pc, qc_str *text, const qc_op *op, const char *what)
{
    const char *path = qc_op_node(op) ? qc_node_path(qc_op_node(op)) : "";
    qc_str_init(text, pc->arena);
    qc_str_addf(text, "%s%s%s", path, path[0] ? "." : "", what);
}

const char *qc_quant_attention_tap(
    qc_pass_ctx *pc, const qc_op *op, const char *part, const qc_value *x, const char *suffix)
{
    qc_str text;
    bool turned;
    const qc_op *linear = linear_of(x, &turned);
    start(pc, &text, op, part);
    add_centering(&text, pc->module);
    if (linear && qc_op_node(linear))
        add_transforms(&text, pc->module, qc_op_node(linear), false);
    if (linear && !turned && (strcmp(part, "q") == 0 || strcmp(part, "k") == 0))
        add_folded_rotation(&text, linear, x);
    add_rotation(&text, x);
    qc_str_add(&text, suffix);
    return finish(pc, &text);
}

/* Is x normed by a weight that was folded into those who read it? */
static bool is_folded(const qc_value *x)
{
    const qc_op *op = qc_value_op(x), *weight;
    while (op && (qc_quant_one_of(qc_op_name(op), "hadamard|expert_gather|cast") || qc_quant_scaled(op)))
        op = qc_value_op(qc_quant_scaled(op) ? qc_quant_scaled(op) : qc_op_operand(op, 0));
    const qc_value *w = op && qc_op_is(op, "rmsnorm") ? qc_op_operand_named(op, "w") : NULL;
    weight = w ? qc_value_op(w) : NULL;
    return weight && qc_op_is(weight, "fill");
}

/* The modules of the experts of a layer have one tap, with {e} in the place of the number; transforms are those of the
 * first, and of all. */
const char *qc_quant_input_tap(qc_pass_ctx *pc, const qc_op *op, const qc_value *x)
{
    qc_str text;
    const char *path = qc_linear_path(pc->arena, op);
    const qc_node *node = qc_linear_node_count(op) ? qc_linear_node(op, 0) : NULL;
    qc_str_init(&text, pc->arena);
    qc_str_addf(&text, "%s%sinput", path, path[0] ? "." : "");
    add_centering(&text, pc->module);
    qc_str_add(&text, is_folded(x) ? "@normed" : "");
    if (node)
        add_transforms(&text, pc->module, node, true);
    return finish(pc, &text);
}
