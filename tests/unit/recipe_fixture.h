/* SPDX-License-Identifier: MIT
 *
 * recipe_fixture.h - a context that keeps what is said, and a recipe read in it: for tests of frontends/recipe.
 */
#ifndef QC_TESTS_RECIPE_FIXTURE_H
#define QC_TESTS_RECIPE_FIXTURE_H

#include <string.h>

#include "frontends/recipe/recipe.h"
#include "ir/ctx.h"
#include "messages.h"

typedef struct fixture {
    messages said;
    qc_arena arena;
    qc_ctx *ctx;
    qc_recipe recipe;
} fixture;

static void setup(fixture *f)
{
    memset(f, 0, sizeof *f);
    qc_arena_init(&f->arena, NULL);
    f->ctx = qc_ctx_create(NULL, keep_message, &f->said);
}

static void teardown(fixture *f)
{
    qc_ctx_destroy(f->ctx);
    qc_arena_fini(&f->arena);
}

#endif
