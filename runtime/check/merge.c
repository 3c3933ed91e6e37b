/* SPDX-License-Identifier: MIT
 *
 * merge.c - see merge.h. Lines are found by the name without the number of the expert.
 */
#include "runtime/check/merge.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS_LISTED = 6, DIGITS_MAX = 9 };

/* Where the number of an expert begins, and its length; NULL where the name has none. */
static const char *find_expert(const char *name, size_t *length)
{
    static const char before[] = "experts.";
    for (const char *at = strstr(name, before); at; at = strstr(at + 1, before)) {
        const char *number = at + sizeof before - 1;
        *length = strspn(number, "0123456789");
        if ((at == name || at[-1] == '.') && *length && *length <= DIGITS_MAX && number[*length] == '.')
            return number;
    }
    return NULL;
}

void check_merge_init(check_merge *merge, qc_arena *arena, bool apart)
{
    *merge = (check_merge){.arena = arena, .apart = apart};
    qc_map_init(&merge->by_key, arena);
}

static check_merged *begin_line(check_merge *merge, const char *name)
{
    check_merged *line = QC_NEW(merge->arena, check_merged);
    *line = (check_merged){.name = name, .first = merge->items};
    QC_PUSH(merge->arena, &merge->lines, line);
    return line;
}

check_merged *check_merge_add(check_merge *merge, const char *name, const char *alike)
{
    size_t length = 0;
    const char *number = merge->apart ? NULL : find_expert(name, &length);
    check_merged *line;
    if (!number) {
        line = begin_line(merge, name);
    } else {
        const char *key =
            qc_arena_printf(merge->arena, "%.*s{}%s\n%s", (int)(number - name), name, number + length, alike);
        qc_map_entry *entry = qc_map_add_n(&merge->by_key, key, strlen(key));
        if (!entry->value) {
            check_merged *begun = begin_line(merge, name);
            begun->at = (size_t)(number - name);
            entry->value = begun;
        }
        line = entry->value;
        QC_PUSH(merge->arena, &line->experts, strtoll(number, NULL, 10));
    }
    QC_PUSH(merge->arena, &merge->line_of, line);
    line->last = merge->items++;
    line->count++;
    return line;
}

static int ascending(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* "0-5, 7" */
static const char *list_experts(qc_arena *arena, const check_merged *line)
{
    const size_t count = line->experts.count;
    int64_t *sorted = QC_NEW_ARRAY(arena, int64_t, count);
    memcpy(sorted, line->experts.items, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, ascending);
    const char *text = "";
    size_t runs = 0;
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && sorted[end] <= sorted[end - 1] + 1;)
            end++;
        if (runs++ == RUNS_LISTED)
            return qc_arena_printf(arena, "%s and %zu more", text, count - i);
        text = qc_arena_printf(arena, "%s%s%" PRId64, text, *text ? ", " : "", sorted[i]);
        if (sorted[end - 1] > sorted[i])
            text = qc_arena_printf(arena, "%s-%" PRId64, text, sorted[end - 1]);
    }
    return text;
}

const char *check_merged_name(qc_arena *arena, const check_merged *line)
{
    if (line->experts.count < 2)
        return line->name;
    size_t length = strspn(line->name + line->at, "0123456789");
    return qc_arena_printf(arena, "%.*s{%s}%s", (int)line->at, line->name, list_experts(arena, line),
        line->name + line->at + length);
}
