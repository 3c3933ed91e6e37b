/* SPDX-License-Identifier: MIT
 *
 * unite.c - see unite.h. Expressions are numbered as in value numbering (Cocke and Schwartz, "Programming languages and
 * their compilers", 1970): the number of an operation is that of the text of its name, attributes and operands' numbers.
 * Attributes are interned, so their addresses stand for them.
 */
#include "runtime/compare/unite.h"

#include <stdint.h>
#include <string.h>

#include "ir/support/str.h"
#include "qc/build.h"
#include "runtime/compare/source.h"

struct qc_unite {
    qc_arena *arena;
    qc_numbering *numbering;
    qc_module *module;
    qc_map values;  /* number -> the first value of it */
    qc_map records; /* what is recorded -> its tap */
    qc_map taps;    /* names that are taken */
    qc_map symbols; /* address of fields -> name */
};

/* ---- numbers ------------------------------------------------------------------------------------------- */

typedef struct numbers {
    qc_numbering *numbering;
    qc_map of_values; /* address -> number */
    qc_str text;
} numbers;

void qc_numbering_init(qc_numbering *numbering, qc_arena *arena)
{
    qc_map_init(&numbering->expressions, arena);
}

static size_t number_of(const numbers *n, const qc_value *value)
{
    return (size_t)(uintptr_t)qc_map_get_n(&n->of_values, (const char *)&value, sizeof value);
}

static void set_number(numbers *n, const qc_value *value, size_t number)
{
    qc_map_set_n(&n->of_values, (const char *)&value, sizeof value, (void *)(uintptr_t)number);
}

/* The number of the text that was written. */
static size_t take_number(numbers *n)
{
    qc_map *known = &n->numbering->expressions;
    qc_map_entry *entry = qc_map_add_n(known, n->text.data, n->text.length);
    if (!entry->value)
        entry->value = (void *)(uintptr_t)known->count;
    return (size_t)(uintptr_t)entry->value;
}

static void add_attrs(qc_str *text, const qc_op *op, const char *const *without)
{
    for (size_t i = 0; i < qc_op_attr_count(op); i++) {
        const char *name = qc_op_attr_name(op, i);
        bool left_out = false;
        for (size_t k = 0; without[k]; k++)
            left_out |= strcmp(name, without[k]) == 0;
        if (!left_out)
            qc_str_addf(text, " %p", (const void *)qc_op_attr(op, name));
    }
}

/* q and k as they are before codes, and before what they are rotated by alike. */
static void add_attention(numbers *n, const qc_op *op)
{
    static const char *const of_codes[] = {
        "q_group", "k_group", "v_group", "probs_codes", "probs_scale", NULL};
    qc_source q = qc_source_find(qc_op_operand_named(op, "q")),
              k = qc_source_find(qc_op_operand_named(op, "k"));
    qc_str_add(&n->text, "attention");
    add_attrs(&n->text, op, of_codes);
    if (qc_source_same_rotations(&q, &k))
        qc_str_addf(&n->text, " %zu %zu %d", number_of(n, q.value), number_of(n, k.value), k.cache != NULL);
    else
        qc_str_addf(&n->text, " rotated %zu %zu", number_of(n, qc_op_operand_named(op, "q")),
            number_of(n, qc_op_operand_named(op, "k")));
    qc_str_addf(&n->text, " %zu", number_of(n, qc_op_operand_named(op, "v")));
}

static void add_expression(numbers *n, const qc_op *op)
{
    static const char *const tap[] = {"tap", NULL}, *const none[] = {NULL};
    bool effect = qc_op_has_effect(op);
    qc_str_add(&n->text, qc_op_name(op));
    if (effect && qc_op_node(op))
        qc_str_addf(&n->text, " @%s", qc_node_path(qc_op_node(op)));
    add_attrs(&n->text, op, qc_op_is(op, "observe") ? tap : none);
    for (size_t i = 0; i < qc_op_operand_count(op); i++) {
        const qc_value *operand = qc_op_operand(op, i);
        qc_str_addf(&n->text, " %zu", operand ? number_of(n, operand) : 0);
    }
}

static void number_op(numbers *n, const qc_op *op)
{
    for (size_t i = 0; i < qc_op_result_count(op); i++) {
        const qc_value *result = qc_op_result(op, i);
        if (qc_op_is(op, "quantize") || qc_op_is(op, "dequantize")) {
            set_number(n, result, number_of(n, qc_op_operand(op, 0)));
            continue;
        }
        qc_str_clear(&n->text);
        if (qc_op_is_attention(op)) {
            add_attention(n, op);
        } else {
            add_expression(n, op);
            /* A result type that cannot be inferred is part of what the op says; a cache's depends on codes. */
            if (qc_op_is_typed(op) && !qc_op_has_effect(op))
                qc_str_addf(&n->text, " : %p", (const void *)qc_value_type(result));
        }
        qc_str_addf(&n->text, " #%zu", i);
        set_number(n, result, take_number(n));
    }
}

static void number_module(numbers *n, qc_arena *arena, qc_numbering *numbering, const qc_func *func)
{
    n->numbering = numbering;
    qc_map_init(&n->of_values, arena);
    qc_str_init(&n->text, arena);
    for (size_t i = 0; func && i < qc_func_argument_count(func); i++) {
        qc_str_clear(&n->text);
        qc_str_addf(&n->text, "argument %zu", i);
        set_number(n, qc_func_argument(func, i), take_number(n));
    }
    for (const qc_op *op = func ? qc_func_first_op(func) : NULL; op; op = qc_op_next(op))
        number_op(n, op);
}

static void offer(qc_unite *u, size_t number, qc_value *value)
{
    qc_map_entry *entry = qc_map_add_n(&u->values, (const char *)&number, sizeof number);
    if (!entry->value)
        entry->value = value;
}

static qc_value *offered(const qc_unite *u, size_t number)
{
    return qc_map_get_n(&u->values, (const char *)&number, sizeof number);
}

/* ---- records ------------------------------------------------------------------------------------------- */

static const char *word(const qc_op *op, const char *name)
{
    return qc_attr_as_text(qc_op_attr(op, name));
}

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(text, *words) == 0)
            return true;
    return false;
}

static const qc_attr *fields_of(const qc_op *op)
{
    const qc_symbol *symbol = qc_module_find_symbol(qc_func_module(qc_op_func(op)), word(op, "scheme"));
    return symbol ? qc_symbol_fields(symbol) : NULL;
}

/* What an observe of the value of this number records. */
static const char *record_key(qc_arena *arena, const qc_op *observe, size_t number)
{
    static const char *const as_they_are[] = {"static_minmax", "memoryless_minmax", "minmax", NULL};
    const char *observer = word(observe, "observer"), *granularity = word(observe, "granularity");
    if (is_one_of(observer, as_they_are))
        return qc_arena_printf(arena, "%zu minmax", number); /* of heads, and of their channels */
    const qc_attr *fields = qc_op_attr_given(observe, "scheme") ? fields_of(observe) : NULL;
    return qc_arena_printf(arena, "%zu %s %s %p %p %p", number, observer, granularity,
        (const void *)qc_op_attr(observe, "args"), (const void *)qc_attr_find(fields, word(observe, "arg")),
        (const void *)qc_attr_find(fields, "arith"));
}

/* The name of a tap that is free, `tap` if it can be had. */
static const char *free_tap(const qc_unite *u, const char *tap)
{
    const char *name = tap;
    for (size_t i = 2; qc_map_find_n(&u->taps, name, strlen(name)); i++)
        name = qc_arena_printf(u->arena, "%s#%zu", tap, i);
    return name;
}

static void keep_record(qc_unite *u, const char *key, const char *tap)
{
    qc_map_set(&u->records, key, qc_arena_strdup(u->arena, tap));
    qc_map_set(&u->taps, tap, u);
}

/* ---- making -------------------------------------------------------------------------------------------- */

qc_unite *qc_unite_create(qc_arena *arena, qc_numbering *numbering, const qc_module *base)
{
    qc_unite *u = QC_NEW(arena, qc_unite);
    numbers n;
    u->arena = arena;
    u->numbering = numbering;
    u->module = qc_module_clone(base);
    qc_map_init(&u->values, arena);
    qc_map_init(&u->records, arena);
    qc_map_init(&u->taps, arena);
    qc_map_init(&u->symbols, arena);
    const qc_func *func = qc_module_func(u->module, "main");
    number_module(&n, arena, numbering, func);
    for (size_t i = 0; func && i < qc_func_argument_count(func); i++)
        offer(u, number_of(&n, qc_func_argument(func, i)), qc_func_argument(func, i));
    for (const qc_op *op = func ? qc_func_first_op(func) : NULL; op; op = qc_op_next(op)) {
        for (size_t i = 0; i < qc_op_result_count(op); i++)
            offer(u, number_of(&n, qc_op_result(op, i)), qc_op_result(op, i));
        if (qc_op_is(op, "observe"))
            keep_record(u, record_key(arena, op, number_of(&n, qc_op_operand(op, 0))), word(op, "tap"));
    }
    qc_str_fini(&n.text);
    return u;
}

qc_module *qc_unite_module(const qc_unite *unite)
{
    return unite->module;
}

size_t qc_unite_observer_count(const qc_unite *unite)
{
    return unite->records.count;
}

/* ---- taking a recipe ----------------------------------------------------------------------------------- */

/* Operations that may be made anew for an observer. */
static bool feeds_observers(const qc_op *op)
{
    static const char *const names[] = {"hadamard", "split_heads", NULL};
    return op && is_one_of(qc_op_name(op), names);
}

static bool can_place(const qc_unite *u, const numbers *n, const qc_value *value)
{
    if (offered(u, number_of(n, value)))
        return true;
    const qc_op *op = qc_value_op(value);
    return feeds_observers(op) && can_place(u, n, qc_op_operand(op, 0));
}

static qc_builder *builder_behind(qc_unite *u, const qc_value *value)
{
    qc_op *op = qc_value_op(value);
    return op ? qc_builder_after(op) : qc_builder_before(qc_func_first_op(qc_module_func(u->module, "main")));
}

static void copy_attrs(qc_builder *b, const qc_op *op)
{
    for (size_t i = 0; i < qc_op_attr_count(op); i++) {
        const char *name = qc_op_attr_name(op, i);
        if (qc_op_attr_given(op, name))
            qc_make_attr(b, name, qc_op_attr(op, name));
    }
}

/* The value of the united module that the recipe's is; NULL after a diagnostic. */
static qc_value *place(qc_unite *u, const numbers *n, const qc_value *value)
{
    qc_value *found = offered(u, number_of(n, value));
    if (found)
        return found;
    const qc_op *op = qc_value_op(value);
    qc_value *x = place(u, n, qc_op_operand(op, 0));
    if (!x)
        return NULL;
    qc_builder *b = builder_behind(u, x);
    qc_make(b, qc_op_name(op));
    qc_make_operand(b, qc_op_operand_name(op, 0), x);
    copy_attrs(b, op);
    qc_value *made = qc_make_end(b, qc_value_hint(value));
    if (!qc_builder_ok(b))
        return NULL;
    offer(u, number_of(n, value), made);
    return made;
}

/* The scheme of a search, in the united module. */
static const char *place_scheme(qc_unite *u, const qc_op *observe)
{
    const qc_attr *fields = fields_of(observe);
    const char *name = qc_map_get_n(&u->symbols, (const char *)&fields, sizeof fields);
    if (name)
        return name;
    for (size_t i = u->symbols.count;; i++) {
        name = qc_arena_printf(u->arena, "observed_%zu", i);
        if (!qc_module_find_symbol(u->module, name))
            break;
    }
    qc_module_add_symbol(u->module, "scheme", name, fields);
    qc_map_set_n(&u->symbols, (const char *)&fields, sizeof fields, (void *)(uintptr_t)name);
    return name;
}

static qc_status place_observe(qc_unite *u, const numbers *n, qc_op *observe)
{
    qc_ctx *ctx = qc_module_ctx(u->module);
    const qc_value *value = qc_op_operand(observe, 0);
    const char *key = record_key(u->arena, observe, number_of(n, value)), *tap = qc_map_get(&u->records, key);
    if (!tap) {
        qc_value *x = place(u, n, value);
        if (!x)
            return QC_ERROR;
        tap = free_tap(u, word(observe, "tap"));
        qc_builder *b = builder_behind(u, x);
        qc_make(b, "observe");
        qc_make_operand(b, "x", x);
        copy_attrs(b, observe);
        qc_make_attr_string(b, "tap", tap);
        if (qc_op_attr_given(observe, "scheme"))
            qc_make_attr_symbol(b, "scheme", place_scheme(u, observe));
        qc_make_end(b, "stat");
        if (!qc_builder_ok(b))
            return QC_ERROR;
        keep_record(u, key, tap);
    }
    qc_op_set_attr(observe, "tap", qc_attr_string(ctx, tap));
    return QC_OK;
}

qc_status qc_unite_take(qc_unite *u, qc_module *recipe, bool *fits)
{
    const qc_func *func = qc_module_func(recipe, "main");
    numbers n;
    qc_status status = QC_OK;
    number_module(&n, u->arena, u->numbering, func);
    *fits = true;
    for (const qc_op *op = func ? qc_func_first_op(func) : NULL; op && *fits; op = qc_op_next(op))
        if (qc_op_is(op, "observe"))
            *fits = can_place(u, &n, qc_op_operand(op, 0));
    for (qc_op *op = *fits && func ? qc_func_first_op(func) : NULL; op && status == QC_OK;
         op = qc_op_next(op))
        if (qc_op_is(op, "observe"))
            status = place_observe(u, &n, op);
    qc_str_fini(&n.text);
    return status;
}
