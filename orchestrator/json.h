/* SPDX-License-Identifier: Apache-2.0 */
/* cJSON's home: everybody else reads and writes JSON through these few words.
 * The difficulty: depth and size come from peers and are capped before anything is built. */
#ifndef ORCHESTRATOR_JSON_H
#define ORCHESTRATOR_JSON_H

#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>

struct json; /* a node; a tree is freed by json_free(root) */
enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* One whole document and nothing but blanks behind it. NULL with *err (offset of the fault in
 * *at, may be NULL). Depth over `max_depth` or size over `max_bytes` is refused unparsed. */
struct json *json_parse(struct kg_str text, size_t max_bytes, unsigned max_depth, size_t *at,
                        struct kg_err *err);
void json_free(struct json *root);

enum json_type json_type(const struct json *n);
const struct json *json_get(const struct json *object,
                            const char *key); /* NULL when absent; exact case */
const struct json *json_path(const struct json *object,
                             const char *dotted);    /* "State.Health.Status" */
const struct json *json_first(const struct json *n); /* first child of an array or object */
const struct json *json_next(const struct json *child);
const char *json_key(const struct json *child); /* of a member */
size_t json_count(const struct json *n);
/* Defaults when the node is NULL or of another type. */
const char *json_string(const struct json *n, const char *otherwise);
double json_number(const struct json *n, double otherwise);
bool json_bool(const struct json *n, bool otherwise);

/* Building. All take ownership of what is added; NULL in gives NULL out, so a failed allocation is
 * found once, when printing. */
struct json *json_new_object(void);
struct json *json_new_array(void);
void json_set(struct json *object, const char *key, struct json *value);
void json_set_string(struct json *object, const char *key, const char *value);
void json_set_number(struct json *object, const char *key, double value);
void json_set_bool(struct json *object, const char *key, bool value);
void json_push(struct json *array, struct json *value);
void json_push_string(struct json *array, const char *value);
/* Appends the text to out; pretty = indented. 0 or KG_ENOMEM / KG_ELIMIT. */
int json_print(const struct json *n, bool pretty, struct kg_buf *out);

#endif
