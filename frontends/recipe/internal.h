/* SPDX-License-Identifier: MIT
 *
 * internal.h - the parts of the recipe reader and what they hand each other.
 *
 *   yaml*.c     text                   -> tree with lines
 *   fields.c    values of fields, as pydantic takes them; errors with lines and near names
 *   args.c      QuantizationArgs, as compressed-tensors 0.19 checks them
 *   modifier.c  QuantizationModifier, as llm-compressor 0.14 checks it
 *   transform.c SpinQuantModifier and QuIPModifier: all of it
 *   expand.c    modifier               -> passes
 *   text.c      modifier               -> recipe.yaml
 *   recipe.c    file, stages, modifiers in order
 */
#ifndef QC_FRONTENDS_RECIPE_INTERNAL_H
#define QC_FRONTENDS_RECIPE_INTERNAL_H

#include "frontends/recipe/recipe.h"
#include "frontends/recipe/text.h"
#include "frontends/recipe/yaml_tree.h"

typedef struct recipe_reader {
    qc_ctx *ctx;
    qc_diag *diag; /* of ctx */
    qc_arena *arena;
    const char *where;      /* the file's name */
    const char *needs_data; /* the first thing that asks for calibration data, or NULL */
} recipe_reader;

typedef QC_VEC(const char *) recipe_names;

/* ---- fields.c ------------------------------------------------------------------------------------------ */

/* "FILE:LINE", in the arena. */
const char *recipe_place(recipe_reader *r, uint32_t line);
qc_status recipe_fail(recipe_reader *r, uint32_t line, const char *format, ...) QC_PRINTF(3, 4);
/* "KEY is WANTED, not a list". */
qc_status recipe_wrong_kind(recipe_reader *r, const qc_yaml_entry *entry, const char *wanted);
/* "WHAT 'NAME' is not known, nearest is 'X'". */
qc_status recipe_unknown(recipe_reader *r, uint32_t line, const char *what, const char *name,
    const char *const *known, size_t count);
/* Integers; also 8.0 and '8', which pydantic takes for 8. */
qc_status recipe_int(recipe_reader *r, const qc_yaml_entry *entry, int64_t *value);
/* Bools; also 0, 1 and the words that pydantic takes for them. */
qc_status recipe_bool(recipe_reader *r, const qc_yaml_entry *entry, bool *value);
qc_status recipe_string(recipe_reader *r, const qc_yaml_entry *entry, const char **value);
/* A list of strings; a string alone where `single` says so. */
qc_status recipe_strings(recipe_reader *r, const qc_yaml_entry *entry, bool single, recipe_names *values);
/* The same of patterns: those behind re: must compile. */
qc_status recipe_patterns(recipe_reader *r, const qc_yaml_entry *entry, bool single, recipe_names *values);
/* The text in the spelling that is in the table: index of the word, ignoring case; -1 when there is none. */
int recipe_word(const char *text, const char *const *words, size_t count);

/* ---- args.c -------------------------------------------------------------------------------------------- */

/* QuantizationArgs; `value` is a map. `what` names them in errors: "weights". */
qc_status recipe_args_read(
    recipe_reader *r, const char *what, const qc_yaml_entry *entry, qc_recipe_args *args);
/* Is the observer one that exists; its name must also be one that qc has. */
qc_status recipe_observer(recipe_reader *r, const qc_yaml_entry *entry, const char **observer);

/* ---- modifier.c ---------------------------------------------------------------------------------------- */

typedef struct recipe_group {
    const char *name;
    uint32_t line;
    const char *preset; /* upper case, as passes/schemes.def has it; NULL: the parts are written out */
    const char *written_preset; /* as the recipe spells it */
    recipe_names targets;
    qc_recipe_args weights, input; /* not of a preset */
    const char *format;            /* NULL: by the parts */
} recipe_group;

/* A SpinQuantModifier or a QuIPModifier. */
typedef struct recipe_transform {
    const char *name; /* "SpinQuantModifier" */
    bool quip;
    recipe_names rotations; /* as llm-compressor spells them, in the order given */
    const char *type;       /* "hadamard", "random-hadamard" */
    bool f32;               /* precision */
    uint32_t precision_line;
    int64_t block_size;                /* 0: null */
    int64_t head_dim;                  /* of a transform_config that was given; 0: the model's */
    recipe_names targets, ignore;      /* of QuIP */
    bool single_target, single_ignore; /* given as a string */
    const qc_yaml_entry *config;       /* transform_config, or NULL */
} recipe_transform;

/* A QuantizationModifier, unless `transform` is there. */
typedef struct recipe_modifier {
    recipe_transform *transform;
    const char *stage, *group; /* without _stage and _modifiers */
    uint32_t line;
    recipe_names targets, ignore;
    bool has_groups, has_scheme, scheme_is_map;
    QC_VEC(recipe_group) groups; /* of config_groups or of scheme */
    qc_recipe_args kv;
    const char *weight_observer, *input_observer, *output_observer; /* NULL: not overridden */
    bool observer_map;                                              /* they were given as `observer` */
    bool bypass_divisibility_checks, requires_calibration_data;
    const qc_yaml_entry *numbers[4]; /* index, start, end, update; NULL: null */
} recipe_modifier;

qc_status recipe_modifier_read(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m);
/* The fields that every modifier has. */
qc_status recipe_base_field(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m);

/* ---- transform.c --------------------------------------------------------------------------------------- */

/* How a recorded recipe refers to `transform` symbols, which the exporter writes out: "transform_config: [R1, R2]". */
#define QC_RECIPE_TRANSFORMS "transform_config: ["

qc_status recipe_transform_read(recipe_reader *r, const qc_yaml_entry *entry, recipe_modifier *m);
/* All rotations that such a modifier can have, in the order of their application; those that it has. */
const char *const *recipe_transform_names(const recipe_transform *t, size_t *count);
bool recipe_transform_has(const recipe_transform *t, const char *rotation);
/* Appends its passes, each behind a comma. */
void recipe_transform_expand(const recipe_transform *t, qc_str *out);
void recipe_transform_text(const recipe_modifier *m, qc_str *out);

/* ---- expand.c, text.c ---------------------------------------------------------------------------------- */

/* Appends the passes of the modifier, each behind a comma. */
qc_status recipe_expand(recipe_reader *r, const recipe_modifier *m, qc_str *out);
/* The fields of the modifier as llm-compressor saves them, indented by four. */
void recipe_modifier_text(const recipe_modifier *m, qc_str *out);
/* index, start, end and update where they are given. */
void recipe_numbers_text(const recipe_modifier *m, qc_str *out);

#endif
