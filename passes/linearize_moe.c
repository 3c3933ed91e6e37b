/* SPDX-License-Identifier: MIT
 *
 * linearize_moe.c - experts that the source stores as one tensor become Linear modules, one by one, which is what
 * recipes name, what scales belong to and what loaders of quantized checkpoints read. The graph computes the same
 * before and after: a bank [E, out, in] is the weight of `expert_linear` either way; the tree gets the modules, and the
 * op says which of them it stands for.
 *
 * Which projection an op is, the graph says: down_proj gives what `expert_combine` adds up; of two others gate_proj is
 * the one whose result an activation sees before it meets the other; one alone is up_proj. Modules are named and ordered
 * as those are that recipes speak of.
 */
#include <string.h>

#include "passes/experts.h"
#include "passes/internal.h"
#include "passes/quant.h"

void qc_pass_linearize_moe(qc_registry *registry);

/* What is not linearized yet, of one module of experts. */
typedef struct layer {
    qc_node *node;
    qc_op *gate, *up, *down;
} layer;

typedef QC_VEC(layer) layer_list;

/* ---- which projection ---------------------------------------------------------------------------------- */

#define ACTIVATIONS "silu|sigmoid|gelu_tanh|tanh|exp"

/* What the experts give, behind elementwise ops. */
static qc_step step_to_combine(const qc_op *reader, size_t slot)
{
    if (qc_op_is(reader, "expert_combine"))
        return slot == 0 ? QC_STEP_FOUND : QC_STEP_STOP;
    return qc_op_is_elementwise(reader) ? QC_STEP_ON : QC_STEP_STOP;
}

/* An activation before the product with what the other projection gives. Factors of its own are no such product. */
static qc_step step_to_activation(const qc_op *reader, size_t slot)
{
    if (qc_quant_one_of(qc_op_name(reader), ACTIVATIONS))
        return QC_STEP_FOUND;
    int64_t count = 0;
    const qc_value *other = qc_op_is(reader, "mul") ? qc_op_operand(reader, 1 - slot) : NULL;
    bool factor = !other || (qc_type_static_count(qc_value_type(other), &count) && count == 1);
    return qc_op_is_elementwise(reader) && factor ? QC_STEP_ON : QC_STEP_STOP;
}

static bool is_activated(const qc_op *op)
{
    return qc_value_leads_to(qc_op_result(op, 0), step_to_activation);
}

static layer *layer_of(qc_pass_ctx *pc, layer_list *layers, qc_op *op)
{
    qc_node *node = qc_op_node(op);
    for (size_t i = layers->count; i > 0; i--)
        if (layers->items[i - 1].node == node)
            return &layers->items[i - 1];
    layer new = {.node = node};
    QC_PUSH(pc->arena, layers, new);
    return &layers->items[layers->count - 1];
}

/* Gate and up in the order of the graph as yet. */
static qc_status add_op(qc_pass_ctx *pc, layer_list *layers, qc_op *op)
{
    if (!qc_op_node(op)) {
        qc_pass_fail(pc, op, "experts that belong to no module cannot become modules");
        return QC_ERROR;
    }
    layer *l = layer_of(pc, layers, op);
    bool down = qc_value_leads_to(qc_op_result(op, 0), step_to_combine);
    qc_op **place = down ? &l->down : !l->gate ? &l->gate : &l->up;
    if (!*place) {
        *place = op;
        return QC_OK;
    }
    qc_pass_fail(pc, op,
        "these experts are neither gate_proj, up_proj and down_proj nor up_proj and down_proj: they stay one "
        "tensor, so ignore them");
    return QC_ERROR;
}

static qc_status tell_apart(qc_pass_ctx *pc, layer *l)
{
    if (!l->down || !l->gate) {
        qc_pass_fail(pc, l->down ? l->down : l->gate, "the %s of these experts is missing",
            l->down ? "up_proj" : "down_proj");
        return QC_ERROR;
    }
    if (!l->up) {
        l->up = l->gate;
        l->gate = NULL;
        return QC_OK;
    }
    bool first = is_activated(l->gate), second = is_activated(l->up);
    if (first == second) {
        qc_pass_fail(pc, l->gate, "which of these is gate_proj the graph does not say: %s has an activation",
            first ? "each" : "neither");
        return QC_ERROR;
    }
    if (second) {
        qc_op *gate = l->up;
        l->up = l->gate;
        l->gate = gate;
    }
    return QC_OK;
}

/* ---- modules ------------------------------------------------------------------------------------------- */

/* The classes that stand in the place of Transformers' where experts are linearized for quantization. */
static const struct {
    const char *source, *experts, *expert;
} classes[] = {
    {"GptOssExperts", "GptOssLinearExperts", "GptOssExpertMLP"},
    {"Llama4TextExperts", "Llama4LinearExperts", "ExpertMLPWithGate"},
    {"", "LinearExperts2D", "ExpertMLPWithGate"},
};

static qc_node *add_linear(
    qc_pass_ctx *pc, qc_module *module, qc_node *after, const char *expert, const char *name, qc_op *op)
{
    if (!op)
        return after;
    qc_node *node =
        qc_module_insert_node(module, after, qc_arena_printf(pc->arena, "%s.%s", expert, name), "Linear");
    qc_node_add_tensor(node, "weight");
    if (qc_op_operand_named(op, "bias"))
        qc_node_add_tensor(node, "bias");
    return node;
}

static void name_op(qc_pass_ctx *pc, qc_op *op, const char *name)
{
    if (op)
        qc_op_set_attr(
            op, "module", qc_attr_string(qc_pass_ctx_get(pc), qc_arena_printf(pc->arena, "{e}.%s", name)));
}

static qc_status linearize(qc_pass_ctx *pc, qc_module *module, layer *l)
{
    size_t row = 0;
    int64_t experts = qc_linear_experts(l->down);
    const char *path = qc_node_path(l->node);
    qc_node *after = l->node;
    if (experts < 1) {
        qc_pass_fail(pc, l->down, "how many experts there are is not known");
        return QC_ERROR;
    }
    if (qc_module_find_node(module, qc_arena_printf(pc->arena, "%s.0", path))) {
        qc_pass_fail(pc, l->down, "the tree has modules of single experts, and the graph does not name them");
        return QC_ERROR;
    }
    while (classes[row].source[0] && strcmp(classes[row].source, qc_node_class(l->node)) != 0)
        row++;
    for (int64_t e = 0; e < experts; e++) {
        const char *expert = qc_arena_printf(pc->arena, "%s.%lld", path, (long long)e);
        after = qc_module_insert_node(
            module, after, expert, l->gate ? classes[row].expert : "ExpertMLPWithoutGate");
        after = add_linear(pc, module, after, expert, "up_proj", l->up);
        after = add_linear(pc, module, after, expert, "gate_proj", l->gate);
        after = add_linear(pc, module, after, expert, "down_proj", l->down);
    }
    qc_node_replace(l->node, classes[row].experts);
    name_op(pc, l->gate, "gate_proj");
    name_op(pc, l->up, "up_proj");
    name_op(pc, l->down, "down_proj");
    qc_pass_count(pc, "experts made modules", experts);
    return QC_OK;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    layer_list layers = {0};
    for (qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            if (qc_linear_is_fused(op) && add_op(pc, &layers, op) != QC_OK)
                return QC_PASS_FAILED;
    for (size_t i = 0; i < layers.count; i++)
        if (tell_apart(pc, &layers.items[i]) != QC_OK)
            return QC_PASS_FAILED;
    for (size_t i = 0; i < layers.count; i++)
        if (linearize(pc, module, &layers.items[i]) != QC_OK)
            return QC_PASS_FAILED;
    return layers.count > 0 ? QC_PASS_CHANGED : QC_PASS_UNCHANGED;
}

void qc_pass_linearize_moe(qc_registry *registry)
{
    qc_pass *pass = qc_registry_add(
        registry, "linearize-moe", "Make Linear modules of experts that are stored as one tensor", run);
    qc_pass_set_licence(pass, QC_LICENCE_EXACT);
    qc_pass_set_description(pass,
        "Experts that the source stores as one tensor (Llama 4, gpt-oss) become `<experts>.N.gate_proj`, "
        "`up_proj` and `down_proj`,\nthe modules that recipes name and quantized checkpoints store. The "
        "graph stays, but for the names; which projection is which it says\nitself. `qc-opt` puts the pass "
        "before those that change weights of experts.");
}
