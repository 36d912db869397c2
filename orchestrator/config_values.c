/* SPDX-License-Identifier: Apache-2.0 */
/* Makes, copies and frees configurations, driven by the records of the keys. The difficulty: what
 * is owned follows from a key's type alone, so that a new key cannot be forgotten here. */
#include "orchestrator/certificates.h"
#include "orchestrator/config_priv.h"
#include <stdlib.h>

/* --- lists --------------------------------------------------------------------------------- */

bool config_strings_add(struct config_strings *s, const char *text, size_t n)
{
    char **more = realloc(s->items, (s->count + 1) * sizeof *more);

    if (!more)
        return false;
    s->items = more;
    s->items[s->count] = strndup(text, n);
    return s->items[s->count] && ++s->count;
}

bool config_strings_have(const struct config_strings *s, const char *text)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->items[i], text) == 0)
            return true;
    return false;
}

void config_strings_free(struct config_strings *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->items[i]);
    free(s->items);
    *s = (struct config_strings){NULL, 0};
}

bool config_routes_add(struct config_service *s, struct config_route r)
{
    struct config_route *more = realloc(s->routes, (s->route_count + 1) * sizeof *more);

    if (!more || !r.host || !r.prefix) {
        s->routes = more ? more : s->routes;
        free(r.host);
        free(r.prefix);
        return false;
    }
    s->routes = more;
    s->routes[s->route_count++] = r;
    return true;
}

void config_routes_free(struct config_service *s)
{
    for (size_t i = 0; i < s->route_count; i++) {
        free(s->routes[i].host);
        free(s->routes[i].prefix);
    }
    free(s->routes);
    s->routes = NULL;
    s->route_count = 0;
}

/* --- by type ------------------------------------------------------------------------------- */

static bool copy_strings(struct config_strings *to, const struct config_strings *from)
{
    *to = (struct config_strings){NULL, 0};
    for (size_t i = 0; i < from->count; i++)
        if (!config_strings_add(to, from->items[i], strlen(from->items[i])))
            return false;
    return true;
}

static bool copy_routes(struct config_service *to, const struct config_service *from)
{
    to->routes = NULL;
    to->route_count = 0;
    for (size_t i = 0; i < from->route_count; i++) {
        struct config_route r = {strdup(from->routes[i].host), strdup(from->routes[i].prefix)};
        if (!config_routes_add(to, r))
            return false;
    }
    return true;
}

static bool copy_string(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return !from || *to;
}

/* Gives *to, a plain copy of *from, its own of all that is owned. On failure all of it can be
 * freed: what was not reached yet is empty. */
static bool own_fields(const struct config_key *keys, void *to, const void *from)
{
    bool good = true;

    CONFIG_EACH_KEY(k, keys)
    {
        void *t = (char *)to + k->offset;
        const void *f = (const char *)from + k->offset;
        if (k->type == CONFIG_STRING)
            good &= copy_string(t, *(char *const *)f);
        else if (k->type == CONFIG_STRINGS || k->type == CONFIG_PAIRS)
            good &= copy_strings(t, f);
        else if (k->type == CONFIG_ROUTES)
            good &= copy_routes(to, from);
        else if (k->type == CONFIG_CERTIFICATES)
            good &= config_certificates_copy(t, f);
    }
    return good;
}

static void free_fields(const struct config_key *keys, void *of)
{
    CONFIG_EACH_KEY(k, keys)
    {
        void *at = (char *)of + k->offset;
        if (k->type == CONFIG_STRING)
            free(*(char **)at);
        else if (k->type == CONFIG_STRINGS || k->type == CONFIG_PAIRS)
            config_strings_free(at);
        else if (k->type == CONFIG_ROUTES)
            config_routes_free(of);
        else if (k->type == CONFIG_CERTIFICATES)
            config_certificates_free(at);
    }
}

/* The defaults are parsed like everything else; only memory can fail here. */
static bool set_defaults(const struct config_key *keys, void *into)
{
    struct json *object = json_new_object();
    struct config_source source = {.kind = CONFIG_FROM_DEFAULTS, .root = object};
    struct config_errors errors = {0};
    bool good = object != NULL;

    kg_buf_init(&errors.text, 4096);
    CONFIG_EACH_KEY(k, keys)
    {
        const struct json *value;
        if (!good || !k->def)
            continue;
        config_text_set(object, k, &k->def, 1);
        value = json_get(object, k->name);
        good = value && config_parse_value(k, into, value, &source, &errors);
    }
    config_errors_fini(&errors);
    json_free(object);
    return good;
}

/* --- services ------------------------------------------------------------------------------ */

struct config_service *config_service_new(const char *name)
{
    struct config_service *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->read_only = s->init = CONFIG_UNSET;
    s->idle_goal = -1;
    s->health.status_min = 200;
    s->health.status_max = 399;
    kg_str_copy(s->name, sizeof s->name, kg_str_of(name));
    if (set_defaults(config_service_keys, s))
        return s;
    config_service_free(s);
    return NULL;
}

void config_service_free(struct config_service *s)
{
    if (!s)
        return;
    free_fields(config_service_keys, s);
    free(s);
}

static struct config_service *service_copy(const struct config_service *s)
{
    struct config_service *copy = malloc(sizeof *copy);

    if (!copy)
        return NULL;
    *copy = *s;
    if (own_fields(config_service_keys, copy, s))
        return copy;
    config_service_free(copy);
    return NULL;
}

/* --- configurations ------------------------------------------------------------------------ */

struct config *config_new(void)
{
    struct config *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->log_format = CONFIG_FORMAT_UNSET;
    if (set_defaults(config_top_keys, c))
        return c;
    config_free(c);
    return NULL;
}

void config_free(struct config *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->service_count; i++)
        config_service_free(c->services[i]);
    free(c->services);
    free(c->engine_cert_path);
    certificates_unref(c->loaded);
    free_fields(config_top_keys, c);
    free(c);
}

struct config *config_copy(const struct config *c)
{
    struct config *copy = malloc(sizeof *copy);
    bool good;

    if (!copy)
        return NULL;
    *copy = *c;
    certificates_ref(copy->loaded);
    copy->service_count = 0;
    copy->services = calloc(c->service_count + 1, sizeof *copy->services);
    good = copy_string(&copy->engine_cert_path, c->engine_cert_path);
    good &= own_fields(config_top_keys, copy, c) && copy->services;
    for (size_t i = 0; good && i < c->service_count; i++) {
        copy->services[i] = service_copy(c->services[i]);
        good = copy->services[i] && ++copy->service_count;
    }
    if (good)
        return copy;
    config_free(copy);
    return NULL;
}

const struct config_service *config_find(const struct config *c, const char *name)
{
    size_t low = 0, high = c->service_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(c->services[middle]->name, name);
        if (order == 0)
            return c->services[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
