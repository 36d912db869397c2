/* SPDX-License-Identifier: Apache-2.0 */
/* What stands behind a flag or in a variable becomes the JSON that a file would hold, so that one
 * parser judges all. The difficulty: "[" begins a list, but also the address "[::1]:80". */
#include "orchestrator/config_priv.h"
#include <errno.h>
#include <stdlib.h>

/* A list, or an object, written out as JSON. */
static struct json *written_out(const char *text)
{
    size_t at, second = 1 + strspn(text + (*text != '\0'), " \t\r\n");

    if (*text != '{' && !(*text == '[' && text[second] && strchr("\"{[]", text[second])))
        return NULL;
    if (config_locate_fault(kg_str_of(text), &at))
        return NULL;
    return json_parse(kg_str_of(text), KG_MAX_CONFIG_BYTES, CONFIG_MAX_JSON_DEPTH, NULL, NULL);
}

/* A text that is no number stays a string: the parser then says what was wanted. */
static void set_number(struct json *object, const struct config_key *k, const char *text)
{
    struct kg_str s = kg_str_of(text);
    char *end = NULL;
    double n;

    if (!*text || text[strspn(text, "0123456789.")] != '\0') {
        json_set_string(object, k->name, text);
        return;
    }
    n = strtod(text, &end);
    if (s.p + s.n == end)
        json_set_number(object, k->name, n);
    else
        json_set_string(object, k->name, text);
}

static void set_bool(struct json *object, const struct config_key *k, const char *text)
{
    if (strcmp(text, "true") == 0 || strcmp(text, "1") == 0)
        json_set_bool(object, k->name, true);
    else if (strcmp(text, "false") == 0 || strcmp(text, "0") == 0)
        json_set_bool(object, k->name, false);
    else
        json_set_string(object, k->name, text);
}

static void set_health(struct json *object, const struct config_key *k, const char *text)
{
    struct json *health = written_out(text);

    if (!health && *text == '/') {
        health = json_new_object();
        json_set_string(health, "path", text);
    }
    if (health)
        json_set(object, k->name, health);
    else
        json_set_string(object, k->name, text);
}

/* One text that is a whole list (or object of pairs) is taken as such. */
static void set_list(struct json *object, const struct config_key *k, const char *const *texts,
                     size_t count)
{
    struct json *list = count == 1 ? written_out(texts[0]) : NULL;

    if (list && (json_type(list) == JSON_ARRAY || k->type == CONFIG_PAIRS)) {
        json_set(object, k->name, list);
        return;
    }
    json_free(list);
    list = json_new_array();
    for (size_t i = 0; i < count; i++) {
        bool objects = k->type == CONFIG_QUIET || k->type == CONFIG_CERTIFICATES;
        struct json *item = objects ? written_out(texts[i]) : NULL;
        if (!item && k->type == CONFIG_CERTIFICATES)
            item = config_certificate_text(texts[i]);
        if (item)
            json_push(list, item);
        else
            json_push_string(list, texts[i]);
    }
    json_set(object, k->name, list);
}

void config_text_set(struct json *object, const struct config_key *k, const char *const *texts,
                     size_t count)
{
    const char *last = texts[count - 1];

    if (config_key_is_list(k))
        set_list(object, k, texts, count);
    else if (k->type == CONFIG_INT || k->type == CONFIG_INT64 || k->type == CONFIG_CPUS ||
             k->type == CONFIG_SHARE)
        set_number(object, k, last);
    else if (k->type == CONFIG_BOOL || k->type == CONFIG_TRISTATE)
        set_bool(object, k, last);
    else if (k->type == CONFIG_HEALTH)
        set_health(object, k, last);
    else
        json_set_string(object, k->name, last);
}
