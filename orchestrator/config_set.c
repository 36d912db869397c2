/* SPDX-License-Identifier: Apache-2.0 */
/* Sets a key from a JSON value, whatever its type. The difficulty: a wrong value must neither
 * become a default nor stop the reading, for all errors are told in one run. */
#include "base/heap.h"
#include "orchestrator/config_priv.h"
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct setting { /* one key being set */
    void *field;
    const struct config_key *key;
    const struct config_source *from;
    const struct config_path *at;
};

#define FAIL(s, ...) config_error((s)->from, (s)->at, __VA_ARGS__)

void config_strings_add(struct config_strings *s, const char *text)
{
    char **items = realloc(s->items, (s->count + 1) * sizeof *items);

    KG_ASSERT(items); /* only at start-up and on an operator's reload */
    s->items = items;
    KG_ASSERT(s->items[s->count] = strdup(text));
    s->count++;
}

void config_strings_fini(struct config_strings *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->items[i]);
    free(s->items);
    *s = (struct config_strings){0};
}

static void set_text(const struct setting *s, const struct json *v)
{
    const char *text = json_string(v, NULL);
    char **field = s->field;

    if (!text)
        FAIL(s, "must be a string");
    else if ((int64_t)strlen(text) < s->key->min || (int64_t)strlen(text) > s->key->max)
        FAIL(s, "must have %" PRId64 " to %" PRId64 " bytes", s->key->min, s->key->max);
    else {
        free(*field);
        KG_ASSERT(*field = strdup(text));
    }
}

static bool to_bool(const struct setting *s, const struct json *v, bool *out)
{
    const char *text = s->from->from_text ? json_string(v, NULL) : NULL;

    if (json_type(v) == JSON_BOOL)
        *out = json_bool(v, false);
    else if (text && (strcmp(text, "true") == 0 || text[0] == '\0'))
        *out = true;
    else if (text && strcmp(text, "false") == 0)
        *out = false;
    else {
        FAIL(s, "must be true or false");
        return false;
    }
    return true;
}

static bool to_number(const struct setting *s, const struct json *v, double *out)
{
    const char *text = s->from->from_text ? json_string(v, NULL) : NULL;
    char *end;

    if (json_type(v) == JSON_NUMBER) {
        *out = json_number(v, 0);
        return true;
    }
    if (text && isdigit((unsigned char)text[0])) {
        *out = strtod(text, &end);
        if (*end == '\0')
            return true;
    }
    FAIL(s, "must be a number");
    return false;
}

/* Within the key's limits, which are in the same unit. */
static bool in_range(const struct setting *s, int64_t v)
{
    char low[24], high[24];

    if (v >= s->key->min && v <= s->key->max)
        return true;
    if (s->key->type == CONFIG_DURATION) {
        kg_duration_format(s->key->min, low);
        kg_duration_format(s->key->max, high);
    } else if (s->key->type == CONFIG_SIZE) {
        kg_size_format(s->key->min, low);
        kg_size_format(s->key->max, high);
    } else {
        double unit = s->key->type == CONFIG_CPUS ? 1e9 : 1;
        snprintf(low, sizeof low, "%g", (double)s->key->min / unit);
        snprintf(high, sizeof high, "%.10g", (double)s->key->max / unit);
    }
    FAIL(s, "must be from %s to %s", low, high);
    return false;
}

static void set_number(const struct setting *s, const struct json *v)
{
    double number, unit = s->key->type == CONFIG_CPUS ? 1e9 : 1;

    if (!to_number(s, v, &number))
        return;
    if (fabs(number * unit) > 9e15 || (unit == 1 && number != floor(number))) {
        FAIL(s, "must be a whole number");
        return;
    }
    if (!in_range(s, (int64_t)llround(number * unit)))
        return;
    if (s->key->type == CONFIG_INTEGER)
        *(int *)s->field = (int)number;
    else
        *(int64_t *)s->field = (int64_t)llround(number * unit);
}

static void set_with_unit(const struct setting *s, const struct json *v)
{
    const char *text = json_string(v, NULL);
    bool duration = s->key->type == CONFIG_DURATION;
    int64_t value;

    if (text && (duration ? kg_duration_parse : kg_size_parse)(kg_str_of(text), &value) == 0) {
        if (in_range(s, value))
            *(int64_t *)s->field = value;
    } else if (duration) {
        FAIL(s, "must be a duration such as \"250ms\", \"30s\", \"5m\" or \"1h\"");
    } else {
        FAIL(s, "must be a size such as \"64KiB\" or \"512MiB\"");
    }
}

static void set_choice(const struct setting *s, const struct json *v)
{
    struct kg_str text = kg_str_of(json_string(v, "")), left = kg_str_of(s->key->choices);
    int i = 0;

    for (;; i++) {
        const char *bar = memchr(left.p, '|', left.n);
        size_t n = bar ? (size_t)(bar - left.p) : left.n;
        if (kg_str_eq(text, (struct kg_str){left.p, n})) {
            *(int *)s->field = i;
            return;
        }
        if (!bar)
            break;
        left = (struct kg_str){bar + 1, left.n - n - 1};
    }
    FAIL(s, "must be one of %s", s->key->choices);
}

/* "labels" and "env" may also be written as an object. */
static void add_members(struct config_strings *list, const struct setting *s, const struct json *v)
{
    struct kg_buf pair;

    for (const struct json *m = json_first(v); m; m = json_next(m)) {
        kg_buf_init(&pair, 128 * 1024);
        if (json_type(m) != JSON_STRING)
            FAIL(s, "%s must be a string", json_key(m));
        else if (kg_buf_printf(&pair, "%s=%s", json_key(m), json_string(m, "")) == 0)
            config_strings_add(list, pair.data);
        kg_buf_fini(&pair);
    }
}

static void set_list(const struct setting *s, const struct json *v)
{
    struct config_strings list = {0}, *field = s->field;
    bool pairs = strcmp(s->key->name, "env") == 0 || strcmp(s->key->name, "labels") == 0;

    if (json_type(v) == JSON_OBJECT && pairs)
        add_members(&list, s, v);
    else if (json_type(v) == JSON_ARRAY)
        for (const struct json *i = json_first(v); i; i = json_next(i)) {
            if (json_type(i) == JSON_STRING)
                config_strings_add(&list, json_string(i, ""));
            else
                FAIL(s, "must be a list of strings");
        }
    else
        FAIL(s, "must be a list of strings");
    if ((int64_t)list.count < s->key->min || (int64_t)list.count > s->key->max)
        FAIL(s, "must have %" PRId64 " to %" PRId64 " entries", s->key->min, s->key->max);
    for (size_t i = 0; pairs && i < list.count; i++) {
        if (!strchr(list.items[i], '=') || list.items[i][0] == '=')
            FAIL(s, "\"%.60s\" is not NAME=value", list.items[i]);
        else if (strncmp(list.items[i], "io.kipgate.", 11) == 0)
            FAIL(s, "labels that begin with io.kipgate. are Kipgate's own");
    }
    config_strings_fini(field);
    *field = list;
}

/* "/prefix", "host", "host/prefix", "*.host", with the host in lower case. */
static bool parse_route(const struct setting *s, const char *text, struct config_route *r)
{
    size_t n = strcspn(text, "/");
    const char *name = strncmp(text, "*.", 2) == 0 ? text + 2 : text;
    size_t ok = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");

    if (!text[0] || strlen(text) > KG_MAX_ROUTE_BYTES || n > 253 ||
        (n > 0 && (name + ok != text + n || ok == 0))) {
        FAIL(s, "\"%.80s\" is not /prefix, host.name, host.name/prefix or *.host.name", text);
        return false;
    }
    if (strpbrk(text + n, "?# \\%") || strstr(text + n, "//") || strstr(text + n, "/.")) {
        FAIL(s, "\"%.80s\": a prefix is a plain path", text);
        return false;
    }
    KG_ASSERT(r->host = strndup(text, n));
    KG_ASSERT(r->prefix = strdup(text[n] ? text + n : "/"));
    for (char *p = r->host; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    for (n = strlen(r->prefix); n > 1 && r->prefix[n - 1] == '/'; n--)
        r->prefix[n - 1] = '\0';
    return true;
}

static void free_routes(struct config_service *s)
{
    for (size_t i = 0; i < s->route_count; i++) {
        free(s->routes[i].host);
        free(s->routes[i].prefix);
    }
    free(s->routes);
    s->routes = NULL;
    s->route_count = 0;
}

static void set_routes(const struct setting *s, const struct json *v)
{
    struct config_service *service = KG_CONTAINER_OF(s->field, struct config_service, routes);
    struct config_strings list = {0};
    struct setting as_list = {&list, s->key, s->from, s->at};

    set_list(&as_list, v);
    free_routes(service);
    KG_ASSERT(service->routes = calloc(list.count + 1, sizeof *service->routes));
    for (size_t i = 0; i < list.count; i++)
        service->route_count +=
            parse_route(s, list.items[i], &service->routes[service->route_count]);
    config_strings_fini(&list);
}

static void set_health(const struct setting *s, const struct json *v)
{
    struct proxy_health *h = s->field;
    const char *path = json_string(json_type(v) == JSON_STRING ? v : json_get(v, "path"), "");
    const char *status = json_string(json_get(v, "status"), "200-399");
    unsigned low, high;
    int used = 0;

    for (const struct json *m = json_type(v) == JSON_OBJECT ? json_first(v) : NULL; m;
         m = json_next(m))
        if (strcmp(json_key(m), "path") != 0 && strcmp(json_key(m), "status") != 0)
            FAIL(s, "unknown key %.40s", json_key(m));
    if (path[0] != '/' || strpbrk(path, " \t\r\n") ||
        !kg_str_copy(h->path, sizeof h->path, kg_str_of(path)))
        FAIL(s, "path must begin with / and have at most %d bytes", KG_MAX_HEALTH_PATH_BYTES);
    if (sscanf(status, "%3u%n", &low, &used) == 1 && status[used] == '\0')
        high = low;
    else if (sscanf(status, "%3u-%3u%n", &low, &high, &used) != 2 || status[used] != '\0')
        low = 0;
    if (low < 100 || high > 599 || low > high) {
        FAIL(s, "status must be like \"200-399\" or \"204\"");
        return;
    }
    h->status_min = (uint16_t)low;
    h->status_max = (uint16_t)high;
}

static void set_pattern(const struct setting *s, const struct json *v, const char *key, char *out,
                        size_t cap)
{
    const char *text = json_string(json_get(v, key), json_get(v, key) ? NULL : "");

    if (!text || !kg_str_copy(out, cap, kg_str_of(text)))
        FAIL(s, "%s must be a string of at most %zu bytes", key, cap - 1);
}

static void set_quiet(const struct setting *s, const struct json *v)
{
    struct config_service *service = KG_CONTAINER_OF((struct proxy_quiet(*)[KG_MAX_QUIET])s->field,
                                                     struct config_service, quiet);

    service->quiet_count = 0;
    if (json_type(v) != JSON_ARRAY || json_count(v) > KG_MAX_QUIET) {
        FAIL(s, "must be a list of at most %d patterns", KG_MAX_QUIET);
        return;
    }
    for (const struct json *i = json_first(v); i; i = json_next(i)) {
        struct proxy_quiet *q = &service->quiet[service->quiet_count++];
        *q = (struct proxy_quiet){0};
        set_pattern(s, i, "path", q->path, sizeof q->path);
        set_pattern(s, i, "method", q->method, sizeof q->method);
        set_pattern(s, i, "user_agent", q->user_agent, sizeof q->user_agent);
        if (!q->path[0] && !q->method[0] && !q->user_agent[0])
            FAIL(s, "a pattern without path, method and user_agent would match everything");
    }
}

bool config_name_ok(const char *name)
{
    size_t n = strlen(name);

    return n >= 1 && n <= KG_MAX_NAME_BYTES && name[0] != '-' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

static void set_services(const struct setting *s, const struct json *v)
{
    struct config *c = KG_CONTAINER_OF(s->field, struct config, services);

    if (json_type(v) != JSON_OBJECT) {
        FAIL(s, "must be an object of services");
        return;
    }
    for (const struct json *m = json_first(v); m; m = json_next(m)) {
        struct config_path at = config_under(s->at, json_key(m));
        struct config_service *service;
        if (!config_name_ok(json_key(m))) {
            config_error(s->from, &at, "a name is [a-z0-9][a-z0-9-]{0,%d}", KG_MAX_NAME_BYTES - 1);
            continue;
        }
        service = config_service_new(json_key(m));
        if (json_type(m) == JSON_OBJECT)
            config_read_object(service, config_service_keys, m, s->from, &at);
        else
            config_error(s->from, &at, "must be an object");
        config_add_service(c, service);
    }
}

void config_set(void *object, const struct config_key *key, const struct json *value,
                const struct config_source *from, const struct config_path *at)
{
    static void (*const setters[])(const struct setting *, const struct json *) = {
        [CONFIG_TEXT] = set_text,          [CONFIG_INTEGER] = set_number,
        [CONFIG_COUNT] = set_number,       [CONFIG_CPUS] = set_number,
        [CONFIG_DURATION] = set_with_unit, [CONFIG_SIZE] = set_with_unit,
        [CONFIG_CHOICE] = set_choice,      [CONFIG_LIST] = set_list,
        [CONFIG_ROUTES] = set_routes,      [CONFIG_HEALTH] = set_health,
        [CONFIG_QUIET] = set_quiet,        [CONFIG_SERVICES] = set_services,
    };
    struct setting s = {(char *)object + key->offset, key, from, at};
    bool yes;

    if (key->type == CONFIG_BOOLEAN || key->type == CONFIG_MAYBE) {
        if (!to_bool(&s, value, &yes))
            return;
        if (key->type == CONFIG_BOOLEAN)
            *(bool *)s.field = yes;
        else
            *(enum config_tristate *)s.field = yes ? CONFIG_TRUE : CONFIG_FALSE;
        return;
    }
    setters[key->type](&s, value);
}

/* How unlike two keys are: changes needed, counted up to a few. */
static unsigned unlike(const char *a, const char *b)
{
    unsigned best;

    if (!*a || !*b)
        return (unsigned)(strlen(a) + strlen(b));
    if (*a == *b)
        return unlike(a + 1, b + 1);
    best = unlike(a + 1, b + 1);
    if (strlen(a) > strlen(b) && unlike(a + 1, b) < best)
        best = unlike(a + 1, b);
    else if (strlen(b) > strlen(a) && unlike(a, b + 1) < best)
        best = unlike(a, b + 1);
    return best + 1;
}

static const char *nearest(const struct config_key *table, const char *name)
{
    const char *best = NULL;
    unsigned least = 3;

    for (; table->name && strlen(name) < 24; table++)
        if (labs((long)strlen(name) - (long)strlen(table->name)) < 3 &&
            unlike(name, table->name) < least) {
            least = unlike(name, table->name);
            best = table->name;
        }
    return best;
}

static unsigned earlier_twins(const struct json *n, const struct json *member)
{
    unsigned twins = 0;

    for (const struct json *m = json_first(n); m && m != member; m = json_next(m))
        twins += strcmp(json_key(m), json_key(member)) == 0;
    return twins;
}

void config_read_object(void *object, const struct config_key *table, const struct json *n,
                        const struct config_source *from, const struct config_path *at)
{
    for (const struct json *m = json_first(n); m; m = json_next(m)) {
        struct config_path here = config_under(at, json_key(m));
        const struct config_key *key = config_key_find(table, json_key(m));
        const char *near = key ? NULL : nearest(table, json_key(m));
        here.occurrence = earlier_twins(n, m);
        if (here.occurrence > 0)
            config_error(from, &here, "stands here a second time");
        else if (!key)
            config_error(from, &here, "unknown key%s%s%s", near ? ", did you mean " : "",
                         near ? near : "", near ? "?" : "");
        else
            config_set(object, key, m, from, &here);
    }
}

void config_set_defaults(void *object, const struct config_key *table)
{
    struct config_errors errors = {0};
    struct config_source from = {.name = "default", .errors = &errors};
    struct config_path at = {.count = 0};

    for (; table->name; table++) {
        struct json *v;
        if (!table->otherwise)
            continue;
        v = json_parse(kg_str_of(table->otherwise), 1024, 4, NULL, NULL);
        config_set(object, table, v, &from, &at);
        json_free(v);
    }
    KG_ASSERT(errors.count == 0);
}

struct config_service *config_service_new(const char *name)
{
    struct config_service *s = calloc(1, sizeof *s);

    KG_ASSERT(s);
    kg_str_copy(s->name, sizeof s->name, kg_str_of(name));
    s->max_body_bytes = -1;
    s->read_only = s->init = CONFIG_UNSET;
    s->health = (struct proxy_health){.status_min = 200, .status_max = 399};
    config_set_defaults(s, config_service_keys);
    return s;
}

void config_service_free(struct config_service *s)
{
    struct config_strings *lists[] = {&s->command,  &s->entrypoint, &s->env,
                                      &s->labels,   &s->volumes,    &s->cap_add,
                                      &s->cap_drop, &s->tmpfs,      &s->devices};

    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        config_strings_fini(lists[i]);
    free_routes(s);
    free(s->image);
    free(s->user);
    free(s->socket);
    free(s->runtime);
    free(s);
}

void config_add_service(struct config *c, struct config_service *s)
{
    struct config_service **all;
    size_t at = 0;

    while (at < c->service_count && strcmp(c->services[at]->name, s->name) < 0)
        at++;
    if (at < c->service_count && strcmp(c->services[at]->name, s->name) == 0) {
        config_service_free(c->services[at]);
        c->services[at] = s;
        return;
    }
    all = realloc(c->services, (c->service_count + 1) * sizeof *all);
    KG_ASSERT(all);
    c->services = all;
    memmove(all + at + 1, all + at, (c->service_count - at) * sizeof *all);
    all[at] = s;
    c->service_count++;
}
