/* SPDX-License-Identifier: MIT
 *
 * test_check_experts.c - what is said of many experts: their tokens, as whole numbers, and one line for those of a layer
 * that are alike.
 */
#include "tests/unit/check_pair.h"

#include "runtime/check/expert_usage.h"
#include "runtime/check/merge.h"

static const char *line_of(qc_arena *arena, const int64_t *routed, size_t experts)
{
    qc_stats stats;
    qc_expert_usage usage;
    qc_stats_init(&stats, arena);
    qc_stats_record *r = qc_stats_add(&stats, "model.layers.0.mlp.experts", QC_STATS_TOKENS, 0, experts);
    memcpy(r->routed, routed, experts * sizeof *routed);
    qc_expert_usage_take(arena, &stats, &usage);
    CHECK_INT(usage.count, 1);
    return qc_expert_usage_line(arena, &usage.layers[0]);
}

static void test_tokens(void)
{
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    CHECK_STR(line_of(&arena, (const int64_t[]){14162, 36151, 19683, 8736}, 4),
        "model.layers.0.mlp.experts: 4 experts, chosen by 19683 tokens each on average, from 8736 (expert 3) "
        "to 36151 (expert 1)");
    CHECK_STR(line_of(&arena, (const int64_t[]){0, 3, 0, 4}, 4),
        "model.layers.0.mlp.experts: 4 experts, chosen by 1.8 tokens each on average, from 0 (expert 0) to 4 "
        "(expert 3); never chosen: 0, 2");
    CHECK_STR(line_of(&arena, (const int64_t[]){INT64_C(3000000000), INT64_C(5000000000)}, 2),
        "model.layers.0.mlp.experts: 2 experts, chosen by 4000000000 tokens each on average, from 3000000000 "
        "(expert 0) to 5000000000 (expert 1)");
    qc_arena_fini(&arena);
}

static const char *merged(qc_arena *arena, const char *const *names, size_t count, size_t *lines)
{
    check_merge m;
    check_merge_init(&m, arena, false);
    for (size_t i = 0; i < count; i++)
        check_merge_add(&m, names[i], "");
    *lines = m.lines.count;
    return check_merged_name(arena, m.lines.items[0]);
}

static void test_names(void)
{
    qc_arena arena;
    size_t lines;
    qc_arena_init(&arena, NULL);
    CHECK_STR(
        merged(&arena, (const char *const[]){"a.experts.2.w", "a.experts.0.w", "a.experts.1.w"}, 3, &lines),
        "a.experts.{0-2}.w");
    CHECK_INT(lines, 1);
    CHECK_STR(
        merged(&arena, (const char *const[]){"a.experts.10.w", "a.experts.3.w", "a.experts.9.w"}, 3, &lines),
        "a.experts.{3, 9-10}.w");
    CHECK_STR(merged(&arena, (const char *const[]){"experts.7.w says 1", "experts.7.v says 1"}, 2, &lines),
        "experts.7.w says 1");
    CHECK_INT(lines, 2);
    const char *const many[] = {"x.experts.0.w", "x.experts.2.w", "x.experts.4.w", "x.experts.6.w",
        "x.experts.8.w", "x.experts.10.w", "x.experts.12.w", "x.experts.14.w"};
    CHECK_STR(merged(&arena, many, 8, &lines), "x.experts.{0, 2, 4, 6, 8, 10 and 2 more}.w");
    /* no experts: another word, no number, no part behind it, a number that is none of ours, another layer */
    static const char *const others[][2] = {
        {"a.myexperts.0.w", "a.myexperts.1.w"},
        {"a.experts.gate_up_proj", "a.experts.down_proj"},
        {"a.experts.0", "a.experts.1"},
        {"a.experts.1111111111.w", "a.experts.2222222222.w"},
        {"a.0.experts.0.w", "a.1.experts.1.w"},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        CHECK_STR(merged(&arena, others[i], 2, &lines), others[i][0]);
        CHECK_INT(lines, 2);
    }
    qc_arena_fini(&arena);
}

static const uint16_t w[4] = {0x3f80, 0x4000, 0x0000, 0xbf80}; /* 1, 2, 0, -1 */
static const uint16_t other[4] = {0x3f81, 0x4000, 0x0000, 0xbf80};
static const uint16_t third[4] = {0x3f82, 0x4000, 0x0000, 0xbf80};

#define EXPERT(e, name, ...)                                                                                 \
    {                                                                                                        \
        "l.experts." #e "." name ".weight", "BF16", 2, __VA_ARGS__                                           \
    }

static void test_listing(void)
{
    BEGIN();
    const item items[] = {
        EXPERT(0, "up_proj", {2, 2}, w),
        EXPERT(1, "up_proj", {2, 2}, w),
        EXPERT(2, "up_proj", {1, 4}, w),
        EXPERT(3, "up_proj", {2, 2}, w),
        EXPERT(0, "down_proj", {2, 2}, w),
    };
    write_checkpoint(p, p->a, items, 5, "{}");
    CHECK_INT(
        qc_check_list(&p->diag, &p->arena, p->a, &(qc_check_list_options){0}, &p->out, &p->count), QC_OK);
    CHECK(printed(p, "l.experts.{0-1, 3}.up_proj.weight  BF16      3 x [2, 2]        24\n"));
    CHECK(printed(p, "l.experts.2.up_proj.weight         BF16      [1, 4]            8\n"));
    CHECK(printed(p, "l.experts.0.down_proj.weight       BF16      [2, 2]            8\n"));
    CHECK(printed(p, "5 tensors in 1 file, 40 bytes: BF16 40\n"));
    qc_str_clear(&p->out);
    CHECK_INT(qc_check_list(&p->diag, &p->arena, p->a, &(qc_check_list_options){.every_expert = true},
                  &p->out, &p->count),
        QC_OK);
    CHECK(printed(p, "l.experts.3.up_proj.weight    BF16      [2, 2]            8\n"));
    CHECK(!strchr(p->out.data, '{'));
    end(p);
}

static void test_diff(void)
{
    BEGIN();
    const item a[] = {EXPERT(0, "up_proj", {2, 2}, w), EXPERT(1, "up_proj", {2, 2}, w),
        EXPERT(0, "down_proj", {2, 2}, w), EXPERT(1, "down_proj", {2, 2}, w), EXPERT(0, "w", {2, 2}, w),
        EXPERT(1, "w", {2, 2}, w)};
    const item b[] = {EXPERT(0, "up_proj", {2, 2}, other), EXPERT(1, "up_proj", {2, 2}, other),
        EXPERT(0, "down_proj", {2, 2}, other), EXPERT(1, "down_proj", {2, 2}, third)};
    write_checkpoint(p, p->a, a, 6, "{}");
    write_checkpoint(p, p->b, b, 4, NULL);
    write_text(p, p->b, "config.json", "{}");
    qc_check_diff_options options = {.tensors = true};
    CHECK_INT(qc_check_diff(&p->diag, &p->arena, p->a, p->b, &options, &p->out, &p->count), QC_OK);
    CHECK_INT(p->count, 6);
    CHECK(printed(p,
        "tensor l.experts.{0-1}.up_proj.weight: 1 of 4 elements differ, by at most 1 ulp; first at "
        "[0, 0]: 1 != 1.0078125\n"));
    CHECK(printed(p,
        "tensor l.experts.{0-1}.down_proj.weight: 1 of 4 elements differ, by at most 1 ulp; first at "
        "[0, 0]: 1 != 1.0078125 (expert 0; the others by other numbers)\n"));
    CHECK(printed(p, "tensor l.experts.{0-1}.w.weight: only in "));
    CHECK(printed(p, "6 differences\n"));
    qc_str_clear(&p->out);
    options.every_expert = true;
    CHECK_INT(qc_check_diff(&p->diag, &p->arena, p->a, p->b, &options, &p->out, &p->count), QC_OK);
    CHECK(printed(p, "tensor l.experts.1.down_proj.weight: 1 of 4 elements differ, by at most 2 ulp"));
    CHECK(!strchr(p->out.data, '{'));
    end(p);
}

int main(void)
{
    RUN(test_tokens);
    RUN(test_names);
    RUN(test_listing);
    RUN(test_diff);
    return check_done();
}
