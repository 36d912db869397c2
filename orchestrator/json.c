/* SPDX-License-Identifier: Apache-2.0 */
/* cJSON behind our own words: struct json is a cJSON node under another name.
 * The difficulty: cJSON recurses, so depth is counted over the text before it sees it. */
#include "orchestrator/json.h"
#include <cjson/cJSON.h>
#include <stdlib.h>

static const cJSON *in(const struct json *n)
{
    return (const cJSON *)(const void *)n;
}

static struct json *out(cJSON *n)
{
    return (struct json *)(void *)n;
}

/* Deepest nesting of brackets outside strings. */
static unsigned depth_of(struct kg_str text)
{
    unsigned depth = 0, deepest = 0;
    bool in_string = false;

    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == '{' || c == '['))
            deepest = ++depth > deepest ? depth : deepest;
        else if (!in_string && (c == '}' || c == ']') && depth > 0)
            depth--;
    }
    return deepest;
}

static const char *after_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n'))
        p++;
    return p;
}

struct json *json_parse(struct kg_str text, size_t max_bytes, unsigned max_depth, size_t *at,
                        struct kg_err *err)
{
    const char *end = NULL;
    cJSON *root;

    if (at)
        *at = 0;
    if (text.n > max_bytes || depth_of(text) > max_depth) {
        kg_fail(err, KG_ELIMIT, "JSON is too large or too deep");
        return NULL;
    }
    root = cJSON_ParseWithLengthOpts(text.p, text.n, &end, 0);
    if (root && after_blanks(end, text.p + text.n) == text.p + text.n)
        return out(root);
    if (at && end && end >= text.p && end <= text.p + text.n)
        *at = (size_t)(end - text.p);
    kg_fail(err, KG_EINVAL, root ? "text behind the JSON document" : "not valid JSON");
    cJSON_Delete(root);
    return NULL;
}

void json_free(struct json *root)
{
    cJSON_Delete((cJSON *)(void *)root);
}

enum json_type json_type(const struct json *n)
{
    if (cJSON_IsBool(in(n)))
        return JSON_BOOL;
    if (cJSON_IsNumber(in(n)))
        return JSON_NUMBER;
    if (cJSON_IsString(in(n)))
        return JSON_STRING;
    if (cJSON_IsArray(in(n)))
        return JSON_ARRAY;
    return cJSON_IsObject(in(n)) ? JSON_OBJECT : JSON_NULL;
}

const struct json *json_get(const struct json *object, const char *key)
{
    return out(cJSON_GetObjectItemCaseSensitive(in(object), key));
}

const struct json *json_path(const struct json *object, const char *dotted)
{
    char key[64];

    while (object && *dotted) {
        size_t n = strcspn(dotted, ".");
        if (!kg_str_copy(key, sizeof key, (struct kg_str){dotted, n}))
            return NULL;
        object = json_get(object, key);
        dotted += n + (dotted[n] == '.');
    }
    return object;
}

const struct json *json_first(const struct json *n)
{
    return n ? out(in(n)->child) : NULL;
}

const struct json *json_next(const struct json *child)
{
    return child ? out(in(child)->next) : NULL;
}

const char *json_key(const struct json *child)
{
    return child && in(child)->string ? in(child)->string : "";
}

size_t json_count(const struct json *n)
{
    return n ? (size_t)cJSON_GetArraySize(in(n)) : 0;
}

const char *json_string(const struct json *n, const char *otherwise)
{
    return cJSON_IsString(in(n)) ? in(n)->valuestring : otherwise;
}

double json_number(const struct json *n, double otherwise)
{
    return cJSON_IsNumber(in(n)) ? in(n)->valuedouble : otherwise;
}

bool json_bool(const struct json *n, bool otherwise)
{
    return cJSON_IsBool(in(n)) ? cJSON_IsTrue(in(n)) : otherwise;
}

struct json *json_new_object(void)
{
    return out(cJSON_CreateObject());
}

struct json *json_new_array(void)
{
    return out(cJSON_CreateArray());
}

/* A value that could not be made, or not be added, leaves a mark that json_print refuses: the
 * object would otherwise be sent without it. */
static void spoil(struct json *n)
{
    if (n)
        ((cJSON *)(void *)n)->type |= cJSON_Invalid | (1 << 20);
}

static bool spoiled(const cJSON *n)
{
    for (; n; n = n->next)
        if ((n->type & (1 << 20)) || spoiled(n->child))
            return true;
    return false;
}

void json_set(struct json *object, const char *key, struct json *value)
{
    cJSON *v = (cJSON *)(void *)value;

    if (object && v && cJSON_AddItemToObject((cJSON *)(void *)object, key, v))
        return;
    cJSON_Delete(v);
    spoil(object);
}

void json_set_string(struct json *object, const char *key, const char *value)
{
    json_set(object, key, out(cJSON_CreateString(value)));
}

void json_set_number(struct json *object, const char *key, double value)
{
    json_set(object, key, out(cJSON_CreateNumber(value)));
}

void json_set_bool(struct json *object, const char *key, bool value)
{
    json_set(object, key, out(cJSON_CreateBool(value)));
}

void json_push(struct json *array, struct json *value)
{
    cJSON *v = (cJSON *)(void *)value;

    if (array && v && cJSON_AddItemToArray((cJSON *)(void *)array, v))
        return;
    cJSON_Delete(v);
    spoil(array);
}

void json_push_string(struct json *array, const char *value)
{
    json_push(array, out(cJSON_CreateString(value)));
}

int json_print(const struct json *n, bool pretty, struct kg_buf *to)
{
    char *text = NULL;
    int rc;

    if (n && !spoiled(in(n)))
        text = pretty ? cJSON_Print(in(n)) : cJSON_PrintUnformatted(in(n));
    if (!text)
        return to->error = KG_ENOMEM;
    rc = kg_buf_puts(to, text);
    cJSON_free(text);
    return rc;
}
