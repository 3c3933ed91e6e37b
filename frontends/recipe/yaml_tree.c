/* SPDX-License-Identifier: MIT
 *
 * yaml_tree.c - see yaml_tree.h: libyaml's events composed into a tree, by recursive descent over bounded depth.
 *
 * Merge keys as the YAML merge type says and PyYAML does: keys of the map itself win, then those of the maps merged in,
 * an earlier one before a later one.
 */
#include "frontends/recipe/yaml_tree.h"

#include <yaml.h>

enum { MAX_DEPTH = 64, MAX_MERGED_ENTRIES = 65536 };

typedef struct composer {
    qc_diag *diag;
    qc_arena *arena;
    const char *where;
    uint32_t first_line;
    yaml_parser_t parser;
    qc_map anchors; /* -> qc_yaml *; an unfinished one has line 0 */
    size_t merged;
} composer;

static const qc_yaml *fail(composer *c, uint32_t line, const char *format, ...) QC_PRINTF(3, 4);

static const qc_yaml *fail(composer *c, uint32_t line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *what = qc_arena_vprintf(c->arena, format, args);
    va_end(args);
    qc_error(c->diag, qc_arena_printf(c->arena, "%s:%u", c->where, line), "%s", what);
    return NULL;
}

static uint32_t line_of(const composer *c, const yaml_mark_t *mark)
{
    return c->first_line + (uint32_t)mark->line;
}

/* False after an error. */
static bool next_event(composer *c, yaml_event_t *event)
{
    if (yaml_parser_parse(&c->parser, event))
        return true;
    const yaml_parser_t *p = &c->parser;
    if (p->error == YAML_MEMORY_ERROR)
        fail(c, c->first_line, "out of memory");
    else if (p->error == YAML_READER_ERROR)
        fail(c, c->first_line + (uint32_t)p->mark.line, "no YAML: %s (byte %zu)",
            p->problem ? p->problem : "unreadable", p->problem_offset);
    else
        fail(c, line_of(c, &p->problem_mark), "no YAML: %s%s%s", p->context ? p->context : "",
            p->context ? ", " : "", p->problem ? p->problem : "unreadable");
    return false;
}

const char *qc_yaml_kind_name(const qc_yaml *node)
{
    static const char *const names[] = {
        "null", "a bool", "an integer", "a number", "a string", "a date", "a list", "a map"};
    return names[node->kind];
}

const qc_yaml_entry *qc_yaml_find(const qc_yaml *map, const char *key)
{
    for (size_t i = 0; map->kind == QC_YAML_MAP && i < map->entries.count; i++)
        if (strcmp(map->entries.items[i].key, key) == 0)
            return &map->entries.items[i];
    return NULL;
}

/* ---- nodes --------------------------------------------------------------------------------------------- */

static const qc_yaml *compose(composer *c, yaml_event_t *event, int depth);

static qc_yaml *new_node(composer *c, const yaml_char_t *anchor)
{
    qc_yaml *node = QC_NEW(c->arena, qc_yaml);
    node->text = "";
    if (anchor)
        qc_map_set(&c->anchors, (const char *)anchor, node);
    return node;
}

/* "int" of "tag:yaml.org,2002:int"; the whole tag when it is another one. */
static const char *short_tag(const yaml_char_t *tag)
{
    static const char prefix[] = "tag:yaml.org,2002:";
    const char *text = (const char *)tag;
    return qc_starts_with(text, prefix) ? text + sizeof prefix - 1 : text;
}

static const qc_yaml *scalar(composer *c, yaml_event_t *event)
{
    uint32_t line = line_of(c, &event->start_mark);
    const char *tag = event->data.scalar.tag ? short_tag(event->data.scalar.tag) : NULL;
    const char *text = (const char *)event->data.scalar.value;
    qc_yaml *node = new_node(c, event->data.scalar.anchor);
    node->kind = QC_YAML_STRING;
    node->text = qc_arena_strndup(c->arena, text, event->data.scalar.length);
    if (strlen(node->text) != event->data.scalar.length)
        return fail(c, line, "a NUL character in a string");
    bool plain = !tag && event->data.scalar.plain_implicit;
    bool typed =
        tag && (!strcmp(tag, "int") || !strcmp(tag, "float") || !strcmp(tag, "bool") || !strcmp(tag, "null"));
    if (tag && !typed && strcmp(tag, "str") != 0 && strcmp(tag, "!") != 0)
        return fail(c, line, "the tag '%s' is not read", tag);
    if ((plain || typed) && !qc_yaml_resolve(node))
        return fail(c, line, "'%s' is no integer of 64 bits", node->text);
    if (typed && !strcmp(tag, "float") && node->kind == QC_YAML_INT)
        node->kind = QC_YAML_FLOAT;
    static const char *const of_kind[] = {"null", "bool", "int", "float"};
    if (typed && (node->kind > QC_YAML_FLOAT || strcmp(of_kind[node->kind], tag) != 0))
        return fail(c, line, "'%s' is not what its tag '%s' says", node->text, tag);
    node->line = line;
    return node;
}

static const qc_yaml *alias(composer *c, yaml_event_t *event)
{
    const char *name = (const char *)event->data.alias.anchor;
    const qc_yaml *node = qc_map_get(&c->anchors, name);
    uint32_t line = line_of(c, &event->start_mark);
    if (!node)
        return fail(c, line, "the alias *%s has no anchor before it", name);
    if (node->line == 0)
        return fail(c, line, "the anchor &%s is inside of itself", name);
    return node;
}

static const qc_yaml *sequence(composer *c, yaml_event_t *event, int depth)
{
    static const char enumeration[] = "python/object/apply:compressed_tensors.quantization.";
    uint32_t line = line_of(c, &event->start_mark);
    const char *tag = event->data.sequence_start.tag ? short_tag(event->data.sequence_start.tag) : "seq";
    bool is_word = qc_starts_with(tag, enumeration);
    if (!is_word && strcmp(tag, "seq") != 0 && strcmp(tag, "!") != 0 && strcmp(tag, "python/tuple") != 0)
        return fail(c, line, "the tag '%s' is not read", tag);
    qc_yaml *node = new_node(c, event->data.sequence_start.anchor);
    node->kind = QC_YAML_LIST;
    for (;;) {
        yaml_event_t item;
        if (!next_event(c, &item))
            return NULL;
        if (item.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&item);
            break;
        }
        const qc_yaml *value = compose(c, &item, depth + 1);
        if (!value)
            return NULL;
        QC_PUSH(c->arena, &node->entries, (qc_yaml_entry){NULL, value->line, value});
    }
    if (is_word) {
        if (node->entries.count != 1 || node->entries.items[0].value->kind != QC_YAML_STRING)
            return fail(c, line, "an enumeration of compressed-tensors holds one word");
        *node = *node->entries.items[0].value;
    }
    node->line = line;
    return node;
}

/* Adds the entries of `from` that `node` does not have; `seen` holds the keys of `node`. */
static bool merge(composer *c, qc_yaml *node, qc_map *seen, const qc_yaml *from, uint32_t line)
{
    if (from->kind == QC_YAML_LIST) {
        for (size_t i = 0; i < from->entries.count; i++)
            if (from->entries.items[i].value->kind != QC_YAML_MAP)
                return fail(c, line, "'<<' merges maps, not %s",
                           qc_yaml_kind_name(from->entries.items[i].value)),
                       false;
            else if (!merge(c, node, seen, from->entries.items[i].value, line))
                return false;
        return true;
    }
    if (from->kind != QC_YAML_MAP)
        return fail(c, line, "'<<' merges maps, not %s", qc_yaml_kind_name(from)), false;
    c->merged += from->entries.count + 1;
    if (c->merged > MAX_MERGED_ENTRIES)
        return fail(c, line, "more than %d entries are merged by '<<'", MAX_MERGED_ENTRIES), false;
    for (size_t i = 0; i < from->entries.count; i++)
        if (qc_map_set(seen, from->entries.items[i].key, node))
            QC_PUSH(c->arena, &node->entries, from->entries.items[i]);
    return true;
}

/* The key that `event` begins, which is consumed; NULL after an error. *is_merge: a plain `<<`. */
static const char *map_key(composer *c, yaml_event_t *event, bool *is_merge)
{
    uint32_t line = line_of(c, &event->start_mark);
    if (event->type != YAML_SCALAR_EVENT && event->type != YAML_ALIAS_EVENT) {
        yaml_event_delete(event);
        return fail(c, line, "a key is a string, not a list or a map"), NULL;
    }
    *is_merge = event->type == YAML_SCALAR_EVENT && event->data.scalar.plain_implicit &&
                strcmp((const char *)event->data.scalar.value, "<<") == 0;
    const qc_yaml *key = compose(c, event, 0);
    if (!key)
        return NULL;
    if (key->kind != QC_YAML_STRING)
        return fail(c, line, "a key is a string, not %s ('%s')", qc_yaml_kind_name(key), key->text), NULL;
    return key->text;
}

static const qc_yaml *mapping(composer *c, yaml_event_t *event, int depth)
{
    uint32_t line = line_of(c, &event->start_mark);
    const char *tag = event->data.mapping_start.tag ? short_tag(event->data.mapping_start.tag) : "map";
    if (strcmp(tag, "map") != 0 && strcmp(tag, "!") != 0)
        return fail(c, line, "the tag '%s' is not read", tag);
    qc_yaml *node = new_node(c, event->data.mapping_start.anchor);
    const qc_yaml *merged = NULL;
    qc_map seen;
    qc_map_init(&seen, c->arena);
    node->kind = QC_YAML_MAP;
    for (;;) {
        yaml_event_t item;
        bool is_merge;
        if (!next_event(c, &item))
            return NULL;
        if (item.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&item);
            break;
        }
        uint32_t key_line = line_of(c, &item.start_mark);
        const char *key = map_key(c, &item, &is_merge);
        if (!key)
            return NULL;
        if (is_merge ? merged != NULL : !qc_map_set(&seen, key, node))
            return fail(c, key_line, "'%s' is given twice", key);
        const qc_yaml *value = next_event(c, &item) ? compose(c, &item, depth + 1) : NULL;
        if (!value)
            return NULL;
        if (is_merge)
            merged = value;
        else
            QC_PUSH(c->arena, &node->entries, (qc_yaml_entry){key, key_line, value});
    }
    if (merged && !merge(c, node, &seen, merged, line))
        return NULL;
    node->line = line;
    return node;
}

/* The node that `event` begins, which is consumed. */
static const qc_yaml *compose(composer *c, yaml_event_t *event, int depth)
{
    const qc_yaml *node;
    if (depth > MAX_DEPTH)
        node = fail(c, line_of(c, &event->start_mark), "nested more than %d deep", MAX_DEPTH);
    else if (event->type == YAML_ALIAS_EVENT)
        node = alias(c, event);
    else if (event->type == YAML_SCALAR_EVENT)
        node = scalar(c, event);
    else if (event->type == YAML_SEQUENCE_START_EVENT)
        node = sequence(c, event, depth);
    else
        node = mapping(c, event, depth);
    yaml_event_delete(event);
    return node;
}

/* ---- documents ----------------------------------------------------------------------------------------- */

static const qc_yaml *compose_stream(composer *c)
{
    yaml_event_t event;
    const qc_yaml *root = NULL;
    if (!next_event(c, &event)) /* the start of the stream */
        return NULL;
    yaml_event_delete(&event);
    for (;;) {
        if (!next_event(c, &event))
            return NULL;
        yaml_event_type_t type = event.type;
        uint32_t line = line_of(c, &event.start_mark);
        if (type == YAML_DOCUMENT_START_EVENT) {
            yaml_event_delete(&event);
            if (root)
                return fail(c, line, "a second document: a recipe is one");
            if (!next_event(c, &event) || !(root = compose(c, &event, 0)))
                return NULL;
            continue;
        }
        yaml_event_delete(&event);
        if (type == YAML_STREAM_END_EVENT)
            break;
    }
    if (!root) {
        qc_yaml *null = QC_NEW(c->arena, qc_yaml);
        null->text = "";
        null->line = c->first_line;
        root = null;
    }
    return root;
}

const qc_yaml *qc_yaml_parse(
    qc_diag *diag, qc_arena *arena, const char *where, uint32_t first_line, const char *text, size_t length)
{
    composer c = {.diag = diag, .arena = arena, .where = where, .first_line = first_line};
    qc_map_init(&c.anchors, arena);
    if (!yaml_parser_initialize(&c.parser))
        return fail(&c, first_line, "out of memory");
    yaml_parser_set_encoding(&c.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&c.parser, (const unsigned char *)text, length);
    const qc_yaml *root = compose_stream(&c);
    yaml_parser_delete(&c.parser);
    return root;
}

static const qc_yaml *from_json(
    qc_diag *diag, qc_arena *arena, const char *where, const qc_json *json, int depth)
{
    static const qc_yaml_kind kinds[] = {
        [QC_JSON_NULL] = QC_YAML_NULL,
        [QC_JSON_BOOL] = QC_YAML_BOOL,
        [QC_JSON_NUMBER] = QC_YAML_FLOAT,
        [QC_JSON_STRING] = QC_YAML_STRING,
        [QC_JSON_ARRAY] = QC_YAML_LIST,
        [QC_JSON_OBJECT] = QC_YAML_MAP,
    };
    const char *place = qc_arena_printf(arena, "%s:%u", where, json->line);
    qc_yaml *node = QC_NEW(arena, qc_yaml);
    node->kind = kinds[json->kind];
    node->line = json->line;
    node->text = json->text ? json->text : "";
    node->boolean = json->boolean;
    node->number = json->number;
    if (json->is_integer) {
        node->kind = QC_YAML_INT;
        node->integer = json->integer;
    } else if (json->kind == QC_JSON_NUMBER && !strpbrk(json->text, ".eE")) {
        return qc_error(diag, place, "'%s' is no integer of 64 bits", json->text), NULL;
    }
    if (depth > MAX_DEPTH)
        return qc_error(diag, place, "nested more than %d deep", MAX_DEPTH), NULL;
    if (json->kind == QC_JSON_STRING && strlen(json->text) != json->length)
        return qc_error(diag, place, "a NUL character in a string"), NULL;
    for (const qc_json *item = json->first; item; item = item->next) {
        if (item->key && strlen(item->key) != item->key_length)
            return qc_error(diag, place, "a NUL character in a key"), NULL;
        const qc_yaml *value = from_json(diag, arena, where, item, depth + 1);
        if (!value)
            return NULL;
        QC_PUSH(arena, &node->entries, (qc_yaml_entry){item->key, item->line, value});
    }
    return node;
}

const qc_yaml *qc_yaml_from_json(qc_diag *diag, qc_arena *arena, const char *where, const qc_json *json)
{
    return from_json(diag, arena, where, json, 0);
}
