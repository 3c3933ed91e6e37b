/* SPDX-License-Identifier: MIT
 *
 * yaml_tree.h - YAML as PyYAML's safe loader reads it, into a tree that keeps line numbers.
 *
 * One document. Plain scalars get the types of YAML 1.1 as that loader resolves them (`1e-3` is a string there).
 * Anchors, aliases and merge keys are followed; an alias shares the node, so text cannot grow. Refused, with the line:
 * keys that are no strings, a key that is given twice (the loader takes the last one silently), an anchor inside of
 * itself, tags that make other things than nulls, bools, numbers, strings, lists and maps. Two tags that
 * llm-compressor writes into its own recipe.yaml, and a safe loader refuses, are read for what they hold:
 * `!!python/tuple` as a list, an enumeration of compressed-tensors as its word.
 */
#ifndef QC_FRONTENDS_RECIPE_YAML_TREE_H
#define QC_FRONTENDS_RECIPE_YAML_TREE_H

#include "ir/support/json.h"

typedef enum qc_yaml_kind {
    QC_YAML_NULL,
    QC_YAML_BOOL,
    QC_YAML_INT,
    QC_YAML_FLOAT,
    QC_YAML_STRING,
    QC_YAML_DATE, /* a timestamp, which no recipe means */
    QC_YAML_LIST,
    QC_YAML_MAP,
} qc_yaml_kind;

typedef struct qc_yaml qc_yaml;

typedef struct qc_yaml_entry {
    const char *key; /* of a map; NULL in a list */
    uint32_t line;   /* where the key stands; in a list that of the value */
    const qc_yaml *value;
} qc_yaml_entry;

struct qc_yaml {
    qc_yaml_kind kind;
    uint32_t line; /* where it starts, from 1 */
    bool boolean;
    int64_t integer;
    double number;    /* of INT too */
    const char *text; /* of scalars: as written, NUL-terminated, holds no other NUL */
    QC_VEC(qc_yaml_entry) entries;
};

/* The document in text[length], whose first line is number `first_line` of `where`. NULL after an error, reported at
 * `where:LINE`. An empty text is a null. */
const qc_yaml *qc_yaml_parse(
    qc_diag *diag, qc_arena *arena, const char *where, uint32_t first_line, const char *text, size_t length);
/* The same tree from JSON. NULL, with an error, for what a qc_yaml cannot hold: integers beyond 64 bits, NULs. */
const qc_yaml *qc_yaml_from_json(qc_diag *diag, qc_arena *arena, const char *where, const qc_json *json);

/* "a string", "a list". */
const char *qc_yaml_kind_name(const qc_yaml *node);
const qc_yaml_entry *qc_yaml_find(const qc_yaml *map, const char *key);

/* yaml_scalar.c: sets kind and value of the plain scalar node->text. False when it reads as an integer that 64 bits do
 * not hold, or as a number without digits. */
bool qc_yaml_resolve(qc_yaml *node);

#endif
