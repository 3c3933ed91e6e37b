/* SPDX-License-Identifier: MIT
 *
 * check_pair.h - two small checkpoints on disk, for the tests of qc-check.
 */
#ifndef QC_TESTS_CHECK_PAIR_H
#define QC_TESTS_CHECK_PAIR_H

#include "tests/unit/check.h"

#include <sys/stat.h>
#include <unistd.h>

#include "ir/support/io.h"
#include "ir/support/json.h"
#include "ir/support/safetensors.h"
#include "runtime/check/check.h"
#include "tests/unit/messages.h"
#include "tests/unit/shard.h"

/* Two checkpoints of a few tensors, a/ and b/, in a directory of their own. */
typedef struct pair {
    qc_arena arena;
    qc_diag diag;
    messages m;
    char directory[32];
    const char *a, *b;
    qc_str out;
    size_t count; /* problems or differences */
} pair;

/* A tensor to write. */
typedef struct item {
    const char *name, *dtype;
    int rank;
    int64_t shape[3];
    const void *bytes;
} item;

static void write_checkpoint(
    pair *p, const char *directory, const item *items, size_t count, const char *config)
{
    qc_st_out outs[32];
    for (size_t i = 0; i < count; i++)
        outs[i] = (qc_st_out){.name = items[i].name,
            .dtype = items[i].dtype,
            .rank = items[i].rank,
            .shape = items[i].shape,
            .user = (void *)(uintptr_t)items[i].bytes};
    mkdir(directory, 0777);
    CHECK(write_shard(&p->diag, &p->arena, directory, outs, count));
    if (config)
        CHECK_INT(qc_write_file(
                      &p->diag, qc_path_join(&p->arena, directory, "config.json"), config, strlen(config)),
            QC_OK);
}

static void write_text(pair *p, const char *directory, const char *name, const char *text)
{
    CHECK_INT(qc_write_file(&p->diag, qc_path_join(&p->arena, directory, name), text, strlen(text)), QC_OK);
}

static pair *begin(void)
{
    pair *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    snprintf(p->directory, sizeof p->directory, "qc-test-check-XXXXXX");
    if (!mkdtemp(p->directory)) {
        free(p);
        return NULL;
    }
    qc_arena_init(&p->arena, NULL);
    qc_diag_init(&p->diag, &p->arena, keep_message, &p->m);
    qc_str_init(&p->out, &p->arena);
    p->a = qc_path_join(&p->arena, p->directory, "a");
    p->b = qc_path_join(&p->arena, p->directory, "b");
    return p;
}

static void end(pair *p)
{
    CHECK_INT(qc_remove_tree(&p->diag, p->directory), QC_OK);
    qc_str_fini(&p->out);
    qc_arena_fini(&p->arena);
    free(p);
}

#define BEGIN()                                                                                              \
    pair *p = begin();                                                                                       \
    if (!p)                                                                                                  \
    SKIP("no directory can be made here")

static bool printed(const pair *p, const char *line)
{
    bool found = strstr(p->out.data, line) != NULL;
    if (!found)
        printf("# printed '%s', expected '%s'\n", p->out.data, line);
    return found;
}

#endif
