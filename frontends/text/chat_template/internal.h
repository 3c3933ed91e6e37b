/* SPDX-License-Identifier: MIT
 *
 * internal.h - what the files chat_template*.c share: tokens, the tree, values, one rendering.
 *
 * A template is read once into a tree that never changes. A rendering walks the tree; its values live in an arena
 * of its own. Values have Python's meaning, because templates are written against Jinja, which is Python.
 */
#ifndef QC_TEXT_CHAT_TEMPLATE_INTERNAL_H
#define QC_TEXT_CHAT_TEMPLATE_INTERNAL_H

#include "frontends/text/chat_template/chat_template.h"

enum {
    QC_CHAT_TEMPLATE_LIMIT_BYTES = 4 << 20,
    QC_CHAT_TEXT_LIMIT_BYTES = 64 << 20, /* of one string value, and of the output */
    QC_CHAT_RANGE_LIMIT = 100000,        /* items of a range: the sandbox's own limit */
    QC_CHAT_PARSE_DEPTH = 100,           /* of expressions and blocks in each other */
    QC_CHAT_RUN_DEPTH = 600,             /* of evaluations in each other, macros included */
    QC_CHAT_VALUE_DEPTH = 300,           /* of lists in lists, when they are printed or compared */
    QC_CHAT_ARGUMENTS = 8,               /* most parameters of a built-in */
};

/* ---- values -------------------------------------------------------------------------------------------- */

typedef enum qc_chat_kind {
    QC_CHAT_UNDEFINED,
    QC_CHAT_NONE,
    QC_CHAT_BOOL,
    QC_CHAT_INT,
    QC_CHAT_BIG, /* an integer of the data beyond 64 bits: may be printed and compared for equality */
    QC_CHAT_FLOAT,
    QC_CHAT_STRING,
    QC_CHAT_LIST,
    QC_CHAT_DICT,
    QC_CHAT_NAMESPACE,
    QC_CHAT_LOOP,
    QC_CHAT_CALLABLE,
} qc_chat_kind;

/* What Python would have where we have a list. */
typedef enum qc_chat_flavor {
    QC_CHAT_PLAIN,
    QC_CHAT_TUPLE,
    QC_CHAT_RANGE,
    QC_CHAT_KEYS, /* dict views: a length, but no subscripts */
    QC_CHAT_VALUES,
    QC_CHAT_ITEMS,
    QC_CHAT_ITERATOR, /* always true, without a length, used up by reading */
} qc_chat_flavor;

typedef struct qc_chat_list qc_chat_list;
typedef struct qc_chat_dict qc_chat_dict;
typedef struct qc_chat_loop qc_chat_loop;
typedef struct qc_chat_callable qc_chat_callable;
typedef struct qc_chat_node qc_chat_node;
typedef struct qc_chat_run qc_chat_run;

typedef struct qc_chat_value {
    qc_chat_kind kind;
    bool safe; /* string: marked by `safe` (Markup), so + escapes the other side */
    union {
        size_t length;  /* string, big: bytes */
        const char *of; /* undefined: type of the object that lacks it; NULL: a variable */
    };
    union {
        bool boolean;
        int64_t integer;
        double number;
        const char *text; /* string: UTF-8, no NUL behind it; big: digits; undefined: name */
        qc_chat_list *list;
        qc_chat_dict *dict; /* namespace too */
        qc_chat_loop *loop;
        const qc_chat_callable *callable;
    };
} qc_chat_value;

struct qc_chat_list {
    qc_chat_value *items;
    size_t count, capacity;
    qc_chat_flavor flavor;
    size_t position;   /* iterator: items used up */
    int64_t bounds[3]; /* range: start, stop, step as it prints; step 0: a part of one */
};

/* In order of insertion. Keys are few: found by walking. */
struct qc_chat_dict {
    qc_chat_value *keys, *values;
    size_t count, capacity;
};

/* The variables of one body: a template, a turn of a loop, a call of a macro. Names are interned. */
typedef struct qc_chat_scope {
    struct qc_chat_scope *outer;
    struct qc_chat_variable {
        const char *name;
        qc_chat_value value;
    } * items;
    size_t count, capacity;
} qc_chat_scope;

struct qc_chat_loop {
    const qc_chat_value *items;
    size_t count, index, depth;
    qc_chat_list *changed; /* arguments of the last loop.changed() */
};

/* ---- calls --------------------------------------------------------------------------------------------- */

typedef struct qc_chat_call {
    const qc_chat_node *at; /* for errors */
    const char *name;
    qc_chat_value *args;
    size_t count;
    const char **keys; /* of keyword arguments */
    qc_chat_value *named;
    size_t named_count;
} qc_chat_call;

/* A filter, test, method or function; `subject` is what it is applied to (undefined for functions). */
typedef qc_status (*qc_chat_function)(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result);

typedef struct qc_chat_builtin {
    const char *name;
    qc_chat_function run; /* NULL: known, and not supported */
} qc_chat_builtin;

struct qc_chat_callable {
    const qc_chat_builtin *builtin; /* NULL: a macro */
    const char *type;               /* of the subject, for methods */
    qc_chat_value subject;
    const qc_chat_node *macro;
    qc_chat_scope *scope; /* where the macro was defined */
};

/* NULL when there is none. A filter or test with run == NULL is one of Jinja's that is not supported. */
const qc_chat_builtin *qc_chat_filter_find(const char *name, size_t length);
const qc_chat_builtin *qc_chat_test_find(const char *name, size_t length);
const qc_chat_builtin *qc_chat_function_find(const char *name, size_t length);
const qc_chat_builtin *qc_chat_builtin_find(
    const qc_chat_builtin *table, size_t count, const char *name, size_t length);
/* The method or attribute `name` of a value that is no dict item; *found false when Python has none. */
qc_status qc_chat_attribute(qc_chat_run *run, const qc_chat_node *at, qc_chat_value subject, const char *name,
    size_t length, bool *found, qc_chat_value *result);

/* Distributes the arguments over `parameters` (names with blanks between); values[] holds the defaults. The
 * first `required` must be given. */
qc_status qc_chat_bind(qc_chat_run *run, const qc_chat_call *call, const char *parameters, size_t required,
    qc_chat_value *values);

/* ---- the tree ------------------------------------------------------------------------------------------ */

typedef enum qc_chat_token_kind {
    QC_CHAT_T_END,
    QC_CHAT_T_DATA,
    QC_CHAT_T_BLOCK_BEGIN,
    QC_CHAT_T_BLOCK_END,
    QC_CHAT_T_PRINT_BEGIN,
    QC_CHAT_T_PRINT_END,
    QC_CHAT_T_NAME,
    QC_CHAT_T_STRING,
    QC_CHAT_T_INTEGER,
    QC_CHAT_T_FLOAT,
    QC_CHAT_T_OPERATOR, /* text is the operator */
} qc_chat_token_kind;

typedef struct qc_chat_token {
    qc_chat_token_kind kind;
    uint32_t line;
    const char *text; /* of names interned, of strings without quotes and escapes */
    size_t length;
    int64_t integer;
    double number;
} qc_chat_token;

typedef QC_VEC(qc_chat_token) qc_chat_tokens;

typedef enum qc_chat_node_kind {
    /* expressions */
    QC_CHAT_CONSTANT,
    QC_CHAT_NAME,
    QC_CHAT_MAKE_LIST,  /* items */
    QC_CHAT_MAKE_TUPLE, /* items */
    QC_CHAT_MAKE_DICT,  /* items: key, value, key, value ... */
    QC_CHAT_GET_ATTRIBUTE,
    QC_CHAT_GET_ITEM,     /* first[second] */
    QC_CHAT_GET_SLICE,    /* first[items[0]:items[1]:items[2]], NULL where left out */
    QC_CHAT_CALL,         /* first(items) */
    QC_CHAT_FILTER,       /* first | builtin(items) */
    QC_CHAT_TEST,         /* first is builtin(items) */
    QC_CHAT_BLOCK_VALUE,  /* what the filters of a block are applied to */
    QC_CHAT_KEYWORD,      /* an argument name=first */
    QC_CHAT_SPREAD,       /* an argument *first */
    QC_CHAT_SPREAD_NAMED, /* an argument **first */
    QC_CHAT_NOT,
    QC_CHAT_AND,
    QC_CHAT_OR,
    QC_CHAT_UNARY,     /* op first */
    QC_CHAT_BINARY,    /* first op second */
    QC_CHAT_CONCAT,    /* items joined by ~ */
    QC_CHAT_COMPARE,   /* first, then items: COMPARE nodes with op and first */
    QC_CHAT_CONDITION, /* second if first else third */
    /* targets */
    QC_CHAT_NAMESPACE_ITEM, /* name.text */
    /* statements */
    QC_CHAT_DATA,
    QC_CHAT_PRINT,        /* items */
    QC_CHAT_SET,          /* first = second */
    QC_CHAT_SET_BLOCK,    /* first = output of items, through the filters `second` */
    QC_CHAT_FILTER_BLOCK, /* output of items through the filters `second` */
    QC_CHAT_IF,           /* first; items; others: an IF of an elif, or the else */
    QC_CHAT_FOR,          /* first in second if third; items; others: else */
    QC_CHAT_MACRO,        /* name; others: parameters, NAME nodes with a default in first; items */
    QC_CHAT_WITH,         /* others: SET nodes; items */
    QC_CHAT_GENERATION,   /* items */
    QC_CHAT_BREAK,
    QC_CHAT_CONTINUE,
} qc_chat_node_kind;

typedef enum qc_chat_operator {
    QC_CHAT_ADD,
    QC_CHAT_SUB,
    QC_CHAT_MUL,
    QC_CHAT_DIV,
    QC_CHAT_FLOORDIV,
    QC_CHAT_MOD,
    QC_CHAT_POW,
    QC_CHAT_EQ,
    QC_CHAT_NE,
    QC_CHAT_LT,
    QC_CHAT_LE,
    QC_CHAT_GT,
    QC_CHAT_GE,
    QC_CHAT_IN,
    QC_CHAT_NOT_IN,
} qc_chat_operator;

typedef QC_VEC(qc_chat_node *) qc_chat_nodes;

struct qc_chat_node {
    qc_chat_node_kind kind;
    qc_chat_operator op;
    uint32_t line;
    const char *name; /* interned */
    size_t name_length;
    qc_chat_value value; /* constant, data; namespace item: the attribute's name */
    const qc_chat_builtin *builtin;
    bool uses_loop;  /* for: the body reads `loop` */
    bool has_macros; /* for: the body defines some, which keep the scope of their turn */
    qc_chat_node *first, *second, *third;
    qc_chat_nodes items, others;
};

struct qc_chat_template {
    qc_arena *arena;
    const char *where; /* file, and member where it is one */
    bool in_member;    /* of a JSON file: lines are counted in the text of the member */
    qc_map names;      /* interned */
    const char *loop;  /* the name `loop` */
    qc_chat_nodes body;
    struct qc_chat_special {
        const char *name;
        qc_chat_value value;
    } * tokens;
    size_t token_count, token_capacity;
};

/* The copy of a name that all nodes share. */
const char *qc_chat_intern(qc_chat_template *template, const char *name, size_t length);
/* `FILE:LINE`, in the arena of `diag`. */
const char *qc_chat_place(const qc_chat_template *template, qc_diag *diag, uint32_t line);

qc_status qc_chat_lex(
    qc_diag *diag, qc_chat_template *template, const char *text, size_t length, qc_chat_tokens *tokens);

typedef struct qc_chat_parser {
    qc_diag *diag;
    qc_chat_template *template;
    qc_arena *arena;
    const qc_chat_token *at; /* the last one is END, so looking one ahead of any other is fine */
    unsigned depth;
    unsigned loops; /* around the current statement, in the same macro */
    bool in_macro;
    bool macro_seen;
    bool loop_read; /* `loop`, since this was last cleared */
} qc_chat_parser;

/* All parser functions return NULL after an error. */
qc_chat_node *qc_chat_parse_expression(qc_chat_parser *p);
/* a, b: a tuple; alone the expression itself. `in` or `recursive` end it where `until` names them. */
qc_chat_node *qc_chat_parse_tuple(qc_chat_parser *p, bool conditions, bool parenthesised, const char *until);
/* The target of an assignment. */
qc_chat_node *qc_chat_parse_target(qc_chat_parser *p, bool tuples, bool namespaces, const char *until);
/* `| filter(...)` and further ones, on `subject`; `inside`: the first has no bar. */
qc_chat_node *qc_chat_parse_filters(qc_chat_parser *p, qc_chat_node *subject, bool inside);
qc_chat_node *qc_chat_node_new(qc_chat_parser *p, qc_chat_node_kind kind, uint32_t line);
qc_status qc_chat_parse_error(qc_chat_parser *p, uint32_t line, const char *format, ...) QC_PRINTF(3, 4);
bool qc_chat_at_name(const qc_chat_parser *p, const char *name);
bool qc_chat_at_operator(const qc_chat_parser *p, const char *text);
bool qc_chat_skip_name(qc_chat_parser *p, const char *name);
bool qc_chat_skip_operator(qc_chat_parser *p, const char *text);
qc_status qc_chat_expect_operator(qc_chat_parser *p, const char *text);
/* What a token is called in errors. */
const char *qc_chat_token_text(const qc_chat_parser *p, const qc_chat_token *token);
qc_status qc_chat_parse_body(qc_diag *diag, qc_chat_template *template, const qc_chat_tokens *tokens);

/* ---- one rendering ------------------------------------------------------------------------------------- */

/* Text that grows in the arena of the rendering. Too long a text raises run->full, which the next step reports. */
typedef struct qc_chat_text {
    char *data;
    size_t length, capacity;
} qc_chat_text;

/* What a statement asks of the loop around it. */
typedef enum qc_chat_flow { QC_CHAT_GO_ON, QC_CHAT_GO_OUT, QC_CHAT_GO_NEXT } qc_chat_flow;

struct qc_chat_run {
    const qc_chat_template *template;
    const qc_chat_options *options;
    qc_diag *diag;
    const char *where;
    qc_arena arena;
    uint64_t steps_left;
    size_t max_memory_bytes;
    unsigned depth;
    bool full;
    bool failed; /* reported; nothing further is */
    qc_chat_flow flow;
    qc_chat_scope *scope;
    qc_chat_text *out;
    qc_chat_value block_value;
};

/* Reports `WHERE: TEMPLATE:LINE: WHAT` in one line; always QC_ERROR. */
qc_status qc_chat_fail(qc_chat_run *run, const qc_chat_node *at, const char *format, ...)
    QC_PRINTF(3, 4) QC_COLD;
/* Counts work; an error when a limit is reached. */
qc_status qc_chat_step(qc_chat_run *run, const qc_chat_node *at, size_t cost);
void qc_chat_text_add(qc_chat_run *run, qc_chat_text *out, const char *text, size_t length);
void qc_chat_text_addz(qc_chat_run *run, qc_chat_text *out, const char *text);
qc_chat_value qc_chat_text_value(const qc_chat_text *text);

qc_status qc_chat_eval(qc_chat_run *run, const qc_chat_node *node, qc_chat_value *result);
/* Text and statements, written to run->out; they stop where run->flow leaves the body. */
qc_status qc_chat_run_body(qc_chat_run *run, const qc_chat_nodes *body);
qc_status qc_chat_call_value(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value callee, qc_chat_value *result);
/* Variables of run->scope; open_scope makes an empty one inside `outer` and returns the one before. */
qc_chat_value *qc_chat_find_variable(const qc_chat_scope *scope, const char *name);
void qc_chat_set_variable(qc_chat_run *run, const char *name, qc_chat_value value);
qc_chat_scope *qc_chat_open_scope(qc_chat_run *run, qc_chat_scope *outer);
/* x[key] as a template's subscript: item, else attribute, else undefined. */
qc_status qc_chat_get_item(qc_chat_run *run, const qc_chat_node *at, qc_chat_value subject, qc_chat_value key,
    qc_chat_value *result);
qc_status qc_chat_get_slice(qc_chat_run *run, const qc_chat_node *at, qc_chat_value subject,
    const qc_chat_value bounds[3], qc_chat_value *result);
qc_status qc_chat_binary(qc_chat_run *run, const qc_chat_node *at, qc_chat_operator op, qc_chat_value left,
    qc_chat_value right, qc_chat_value *result);
/* left % right for a string: Python's formatting, of %s %r %d %i %f %%. */
qc_status qc_chat_format_percent(qc_chat_run *run, const qc_chat_node *at, qc_chat_value format,
    const qc_chat_value *args, size_t count, qc_chat_value *result);

/* ---- values: constructors and Python's questions ------------------------------------------------------- */

qc_chat_value qc_chat_none(void);
qc_chat_value qc_chat_bool(bool value);
qc_chat_value qc_chat_int(int64_t value);
qc_chat_value qc_chat_float(double value);
qc_chat_value qc_chat_string(const char *text, size_t length);
qc_chat_value qc_chat_stringz(const char *text);
qc_chat_value qc_chat_missing(const char *name); /* an undefined variable */
qc_chat_list *qc_chat_list_new(qc_chat_run *run, qc_chat_flavor flavor, size_t capacity);
qc_chat_value qc_chat_list_value(qc_chat_list *list);
void qc_chat_push(qc_chat_run *run, qc_chat_list *list, qc_chat_value value);
qc_chat_dict *qc_chat_dict_new(qc_chat_run *run);
qc_chat_value *qc_chat_dict_find(qc_chat_run *run, const qc_chat_dict *dict, qc_chat_value key);
void qc_chat_dict_set(qc_chat_run *run, qc_chat_dict *dict, qc_chat_value key, qc_chat_value value);
qc_chat_value qc_chat_from_json(qc_chat_run *run, const qc_json *json);

const char *qc_chat_type_name(qc_chat_value value); /* Python's: str, NoneType ... */
bool qc_chat_truth(qc_chat_value value);
bool qc_chat_is_text(qc_chat_value value, const char *text);
bool qc_chat_is_integer(qc_chat_value value, int64_t *integer); /* bool too */
bool qc_chat_is_number(qc_chat_value value, double *number);    /* bool, int, float */
bool qc_chat_is_hashable(qc_chat_value value);
qc_status qc_chat_equal(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_value a, qc_chat_value b, bool *equal);
/* a < b: -1, 0, 1 as strcmp; an error where Python has no order. */
qc_status qc_chat_order(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_value a, qc_chat_value b, int *order);
qc_status qc_chat_contains(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_value value, qc_chat_value in, bool *found);
/* len(value). */
qc_status qc_chat_length(qc_chat_run *run, const qc_chat_node *at, qc_chat_value value, size_t *length);
/* The items of an iterable (characters of a string, keys of a dict); uses up an iterator. */
qc_status qc_chat_items(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_value value, qc_chat_value **items, size_t *count);
/* str(value) and repr(value), appended. */
qc_status qc_chat_add_str(qc_chat_run *run, const qc_chat_node *at, qc_chat_value value, qc_chat_text *out);
qc_status qc_chat_add_repr(qc_chat_run *run, const qc_chat_node *at, qc_chat_value value, qc_chat_text *out);
/* str(value) as a string value. */
qc_status qc_chat_to_string(qc_chat_run *run, const qc_chat_node *at, qc_chat_value *value);
/* An undefined value is an error that says which. */
qc_status qc_chat_defined(qc_chat_run *run, const qc_chat_node *at, qc_chat_value value);
qc_status qc_chat_filter_tojson(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result);

/* ---- text as Python's str ------------------------------------------------------------------------------ */

size_t qc_chat_characters(const char *text, size_t length);
/* Byte offset of character `index`, which is at most their number. */
size_t qc_chat_offset(const char *text, size_t length, size_t index);
bool qc_chat_is_space(uint32_t code); /* str.isspace */
bool qc_chat_is_printable(uint32_t code);
/* str.strip: `chars` NULL for white space. */
qc_chat_value qc_chat_strip(qc_chat_value text, const qc_chat_value *chars, bool left, bool right);
typedef enum qc_chat_case { QC_CHAT_UPPER, QC_CHAT_LOWER, QC_CHAT_TITLE } qc_chat_case;
/* text[begin, end) of the whole string in another case; what stands around decides about the final sigma. */
void qc_chat_add_case(
    qc_chat_run *run, qc_chat_text *out, qc_chat_value text, size_t begin, size_t end, qc_chat_case to);
qc_chat_value qc_chat_to_case(qc_chat_run *run, qc_chat_value text, qc_chat_case to);
/* str.capitalize. */
qc_chat_value qc_chat_capitalize(qc_chat_run *run, qc_chat_value text);
/* str.replace; count < 0: all. */
qc_chat_value qc_chat_replace(
    qc_chat_run *run, qc_chat_value text, qc_chat_value old, qc_chat_value with, int64_t count);
/* Offset of the first (last) occurrence in [from, length], SIZE_MAX when there is none. */
size_t qc_chat_find(qc_chat_value text, qc_chat_value what, size_t from);
size_t qc_chat_find_last(qc_chat_value text, qc_chat_value what);
/* str.split and str.rsplit; separator NULL: runs of white space. */
qc_chat_list *qc_chat_split(
    qc_chat_run *run, qc_chat_value text, const qc_chat_value *separator, int64_t most);
qc_chat_list *qc_chat_rsplit(
    qc_chat_run *run, qc_chat_value text, const qc_chat_value *separator, int64_t most);
qc_chat_list *qc_chat_split_lines(qc_chat_run *run, qc_chat_value text, bool keep_ends);
/* Does every character (and at least one) have the property, and so on: str.isdigit and its kin. */
typedef enum qc_chat_property {
    QC_CHAT_ALPHA,
    QC_CHAT_DIGIT,
    QC_CHAT_ALNUM,
    QC_CHAT_SPACE,
    QC_CHAT_IS_UPPER,
    QC_CHAT_IS_LOWER,
} qc_chat_property;
bool qc_chat_has(qc_chat_value text, qc_chat_property property);
/* & < > " ' as HTML, what Markup does to plain text. */
qc_chat_value qc_chat_escape(qc_chat_run *run, qc_chat_value text);
/* int(text, base) of Python; false when it is none or beyond 64 bits. */
bool qc_chat_parse_int(qc_chat_value text, int base, int64_t *value);
bool qc_chat_parse_float(qc_chat_value text, double *value);

#endif
