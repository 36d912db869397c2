/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration as text: effective values, the spec that is hashed, the help, the schema.
 * The difficulty: what is printed must read back as the same configuration. */
#include "orchestrator/config_priv.h"
#include <ctype.h>
#include <stdio.h>

static struct json *list_json(const struct config_strings *s)
{
    struct json *array = json_new_array();

    for (size_t i = 0; i < s->count; i++)
        json_push_string(array, s->items[i]);
    return array;
}

static struct json *routes_json(const struct config_service *s)
{
    struct json *array = json_new_array();
    char route[KG_MAX_ROUTE_BYTES * 2];

    for (size_t i = 0; i < s->route_count; i++) {
        const struct config_route *r = &s->routes[i];
        bool bare = r->host[0] && strcmp(r->prefix, "/") == 0;
        snprintf(route, sizeof route, "%s%s", r->host, bare ? "" : r->prefix);
        json_push_string(array, route);
    }
    return array;
}

static struct json *quiet_json(const struct config_service *s)
{
    struct json *array = json_new_array();

    for (unsigned i = 0; i < s->quiet_count; i++) {
        struct json *q = json_new_object();
        if (s->quiet[i].path[0])
            json_set_string(q, "path", s->quiet[i].path);
        if (s->quiet[i].method[0])
            json_set_string(q, "method", s->quiet[i].method);
        if (s->quiet[i].user_agent[0])
            json_set_string(q, "user_agent", s->quiet[i].user_agent);
        json_push(array, q);
    }
    return array;
}

static void put_health(struct json *out, const char *key, const struct proxy_health *h)
{
    struct json *n;
    char status[16];

    if (!h->path[0])
        return;
    n = json_new_object();
    snprintf(status, sizeof status, "%u-%u", h->status_min, h->status_max);
    json_set_string(n, "path", h->path);
    json_set_string(n, "status", status);
    json_set(out, key, n);
}

static void put_choice(struct json *out, const struct config_key *key, int chosen)
{
    const char *at = key->choices;
    char word[32];

    for (; chosen > 0; chosen--)
        at = strchr(at, '|') + 1;
    kg_str_copy(word, sizeof word, (struct kg_str){at, strcspn(at, "|")});
    json_set_string(out, key->name, word);
}

static void put_scalar(struct json *out, const struct config_key *key, const void *field)
{
    int64_t wide = 0;
    char text[24];

    if (key->type == CONFIG_INTEGER)
        wide = *(const int *)field;
    else
        memcpy(&wide, field, sizeof wide);
    if (key->type == CONFIG_DURATION) {
        kg_duration_format(wide, text);
        json_set_string(out, key->name, text);
    } else if (key->type == CONFIG_SIZE) {
        bool unset = wide < 0 || (wide == 0 && key->min > 0);
        kg_size_format(unset ? 0 : wide, text);
        if (!unset)
            json_set_string(out, key->name, text);
    } else if (wide != 0 || key->otherwise || key->min <= 0) {
        json_set_number(out, key->name,
                        key->type == CONFIG_CPUS ? (double)wide / 1e9 : (double)wide);
    }
}

static void put_key(struct json *out, const struct config_key *key, const void *object)
{
    const void *field = (const char *)object + key->offset;
    const char *text;

    switch (key->type) {
    case CONFIG_TEXT:
        text = *(char *const *)field;
        if (text)
            json_set_string(out, key->name, text);
        break;
    case CONFIG_BOOLEAN:
        json_set_bool(out, key->name, *(const bool *)field);
        break;
    case CONFIG_MAYBE:
        if (*(const enum config_tristate *)field != CONFIG_UNSET)
            json_set_bool(out, key->name, *(const enum config_tristate *)field == CONFIG_TRUE);
        break;
    case CONFIG_CHOICE:
        put_choice(out, key, *(const int *)field);
        break;
    case CONFIG_LIST:
        if (((const struct config_strings *)field)->count > 0)
            json_set(out, key->name, list_json(field));
        break;
    case CONFIG_ROUTES:
        json_set(out, key->name, routes_json(object));
        break;
    case CONFIG_HEALTH:
        put_health(out, key->name, field);
        break;
    case CONFIG_QUIET:
        if (((const struct config_service *)object)->quiet_count > 0)
            json_set(out, key->name, quiet_json(object));
        break;
    case CONFIG_SERVICES:
        break; /* put by who knows them */
    default:
        put_scalar(out, key, field);
    }
}

struct json *config_service_to_json(const struct config_service *s, bool spec_only)
{
    struct json *out = json_new_object();

    for (const struct config_key *k = config_service_keys; k->name; k++)
        if (k->spec || !spec_only)
            put_key(out, k, s);
    return out;
}

struct json *config_to_json(const struct config *c)
{
    struct json *out = json_new_object(), *services = json_new_object();

    for (const struct config_key *k = config_top_keys; k->name; k++)
        put_key(out, k, c);
    for (size_t i = 0; i < c->service_count; i++)
        json_set(services, c->services[i]->name, config_service_to_json(c->services[i], false));
    json_set(out, "services", services);
    return out;
}

void config_print(const struct config *c, struct kg_buf *out)
{
    struct json *n = config_to_json(c);

    json_print(n, true, out);
    kg_buf_puts(out, "\n");
    json_free(n);
}

void config_print_service(const struct config_service *s, struct kg_buf *out)
{
    struct json *n = config_service_to_json(s, false);

    json_print(n, true, out);
    json_free(n);
}

static void print_loosened(const struct config_service *s, struct kg_buf *out)
{
    bool strict = s->profile == CONFIG_PROFILE_STRICT;

    for (size_t i = 0; i < s->cap_add.count; i++)
        kg_buf_printf(out, "service %s: cap_add %s\n", s->name, s->cap_add.items[i]);
    for (size_t i = 0; i < s->devices.count; i++)
        kg_buf_printf(out, "service %s: devices %s\n", s->name, s->devices.items[i]);
    for (size_t i = 0; i < s->volumes.count; i++)
        kg_buf_printf(out, "service %s: volumes %s\n", s->name, s->volumes.items[i]);
    if (strict && s->read_only == CONFIG_FALSE)
        kg_buf_printf(out, "service %s: read_only false\n", s->name);
    if (s->init == CONFIG_FALSE)
        kg_buf_printf(out, "service %s: init false\n", s->name);
    if (strict && s->user && (strcmp(s->user, "0") == 0 || strncmp(s->user, "root", 4) == 0))
        kg_buf_printf(out, "service %s: user %s\n", s->name, s->user);
    if (s->runtime)
        kg_buf_printf(out, "service %s: runtime %s\n", s->name, s->runtime);
}

void config_print_loosened(const struct config *c, struct kg_buf *out)
{
    for (size_t i = 0; i < c->service_count; i++)
        print_loosened(c->services[i], out);
}

/* --- help and schema
 * -------------------------------------------------------------------------------------- */

static const char *placeholder(const struct config_key *k)
{
    static const char *const words[] = {
        [CONFIG_TEXT] = "TEXT",         [CONFIG_BOOLEAN] = "",         [CONFIG_MAYBE] = "[=false]",
        [CONFIG_INTEGER] = "N",         [CONFIG_COUNT] = "N",          [CONFIG_CPUS] = "CPUS",
        [CONFIG_DURATION] = "DURATION", [CONFIG_SIZE] = "SIZE",        [CONFIG_CHOICE] = "",
        [CONFIG_LIST] = "ITEM ...",     [CONFIG_ROUTES] = "ROUTE ...", [CONFIG_HEALTH] = "PATH",
        [CONFIG_QUIET] = "JSON",        [CONFIG_SERVICES] = "",
    };

    return k->choices ? k->choices : words[k->type];
}

static void help_table(const struct config_key *table, struct kg_buf *out)
{
    char flag[64], left[80];

    for (; table->name; table++) {
        if (table->type == CONFIG_SERVICES)
            continue;
        kg_str_copy(flag, sizeof flag, kg_str_of(table->name));
        for (char *p = flag; *p; p++)
            *p = *p == '_' ? '-' : *p;
        snprintf(left, sizeof left, "--%s %s", flag, placeholder(table));
        kg_buf_printf(out, strlen(left) > 29 ? "  %s\n  %-29s %s" : "  %-29s %.0s%s", left, "",
                      table->words);
        if (table->otherwise)
            kg_buf_printf(out, " (%s)", table->otherwise);
        kg_buf_puts(out, "\n");
    }
}

void config_print_help(struct kg_buf *out)
{
    kg_buf_puts(out, "Options (each also as a key of the file, and as KIPGATE_SOME_KEY):\n"
                     "  --config FILE                 JSON configuration\n");
    help_table(config_top_keys, out);
    kg_buf_puts(out, "\nOne service by options:\n"
                     "  --name NAME                   of the service (the image's)\n");
    help_table(config_service_keys, out);
}

static struct json *key_schema(const struct config_key *k)
{
    static const char *const types[] = {
        [CONFIG_TEXT] = "string",     [CONFIG_BOOLEAN] = "boolean", [CONFIG_MAYBE] = "boolean",
        [CONFIG_INTEGER] = "integer", [CONFIG_COUNT] = "integer",   [CONFIG_CPUS] = "number",
        [CONFIG_DURATION] = "string", [CONFIG_SIZE] = "string",     [CONFIG_CHOICE] = "string",
        [CONFIG_LIST] = "array",      [CONFIG_ROUTES] = "array",    [CONFIG_HEALTH] = "object",
        [CONFIG_QUIET] = "array",     [CONFIG_SERVICES] = "object",
    };
    struct json *n = json_new_object();
    bool pairs = strcmp(k->name, "env") == 0 || strcmp(k->name, "labels") == 0;

    if (!pairs) /* those may be an object, too */
        json_set_string(n, "type", types[k->type]);
    json_set_string(n, "description", k->words);
    if (k->type == CONFIG_INTEGER || k->type == CONFIG_COUNT) {
        json_set_number(n, "minimum", (double)k->min);
        json_set_number(n, "maximum", (double)k->max);
    }
    if (k->otherwise)
        json_set(n, "default", json_parse(kg_str_of(k->otherwise), 1024, 4, NULL, NULL));
    return n;
}

static struct json *table_schema(const struct config_key *table)
{
    struct json *out = json_new_object(), *properties = json_new_object();

    for (; table->name; table++)
        if (table->type != CONFIG_SERVICES)
            json_set(properties, table->name, key_schema(table));
    json_set_string(out, "type", "object");
    json_set_bool(out, "additionalProperties", false);
    json_set(out, "properties", properties);
    return out;
}

void config_print_schema(struct kg_buf *out)
{
    struct json *root = table_schema(config_top_keys), *services = json_new_object();

    json_set_string(services, "type", "object");
    json_set(services, "additionalProperties", table_schema(config_service_keys));
    json_set((struct json *)(void *)json_get(root, "properties"), "services", services);
    json_print(root, true, out);
    kg_buf_puts(out, "\n");
    json_free(root);
}
