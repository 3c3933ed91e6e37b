/* SPDX-License-Identifier: MIT
 *
 * lower_kv_cache.c - caches get a layout: `cache_append` becomes `cache_write`, in pages (PagedAttention, Kwon
 * et al., 2023). What is stored and read does not change.
 */
#include "passes/lower.h"

void qc_pass_lower_kv_cache(qc_registry *registry);

enum { MOST_PAGE_TOKENS = 65536 };

static bool write_in_place_of(qc_pass_ctx *pc, qc_op *append)
{
    qc_value *old = qc_op_result(append, 0);
    qc_builder *b = qc_builder_before(append);
    qc_builder_set_node(b, qc_op_node(append)); /* the state is named by its module */
    qc_make(b, "cache_write");
    qc_lower_copy(b, append);
    qc_make_attr_word(b, "layout", qc_pass_option_text(pc, "layout"));
    qc_make_attr_int(b, "page", qc_pass_option_int(pc, "page"));
    qc_make_type(b, qc_value_type(old));
    qc_value *all = qc_make_end(b, qc_value_hint(old));
    if (!qc_builder_ok(b))
        return false;
    qc_value_replace_all_uses(old, all);
    qc_op_erase(append);
    return true;
}

/* A cache_write that is there already gets the layout that was asked for in so many words, and else keeps its. */
static bool set_layout(qc_pass_ctx *pc, qc_op *write)
{
    static const char *const options[] = {"layout", "page"};
    bool changed = false;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        const qc_attr *wanted = qc_pass_option_attr(pc, options[i]);
        if (!qc_pass_option_given(pc, options[i]) || qc_attr_equal(qc_op_attr(write, options[i]), wanted))
            continue;
        qc_op_set_attr(write, options[i], wanted);
        changed = true;
    }
    return changed;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    qc_pass_result result = QC_PASS_UNCHANGED;
    int64_t page = qc_pass_option_int(pc, "page");
    if (page < 1 || page > MOST_PAGE_TOKENS)
        return qc_pass_fail(
            pc, NULL, "a page holds 1 to %d tokens, not %lld", (int)MOST_PAGE_TOKENS, (long long)page);
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func), *next; op; op = next) {
            next = qc_op_next(op);
            if (qc_op_is(op, "cache_append")) {
                if (!write_in_place_of(pc, op))
                    return QC_PASS_FAILED;
            } else if (!qc_op_is(op, "cache_write") || !set_layout(pc, op)) {
                continue;
            }
            qc_pass_count(pc, "caches laid out in pages", 1);
            result = QC_PASS_CHANGED;
        }
    return result;
}

void qc_pass_lower_kv_cache(qc_registry *registry)
{
    qc_pass *pass = qc_registry_add(
        registry, "lower-kv-cache", "Lay caches out in pages: cache_append becomes cache_write", run);
    qc_pass_set_licence(pass, QC_LICENCE_EXACT);
    qc_pass_set_description(pass,
        "A page holds `page` tokens of all heads, `[page, heads, d]` (nhd) or `[heads, page, d]` (hnd). "
        "Codes of 4 bits take half a\nbyte each. The executor runs the passes `lower-quant`, "
        "`lower-kv-cache` and `lower-attention` itself, in any order of\nthe three the result is "
        "the same; what they made is executed, and no checkpoint is written of it.");
    qc_pass_add_option(pass, "layout", QC_OPTION_WORD, "nhd", "nhd|hnd", "order within a page");
    qc_pass_add_option(pass, "page", QC_OPTION_INT, "16", NULL, "tokens of a page");
}
