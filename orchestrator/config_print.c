/* SPDX-License-Identifier: Apache-2.0 */
/* The effective configuration back into JSON, in the shapes that a file has. The difficulty: what
 * is printed must be taken back as exactly the same, so what is unset stays away. */
#include "orchestrator/config_priv.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

/* --- one value ----------------------------------------------------------------------------- */

static void print_strings(struct json *object, const char *key, const struct config_strings *s)
{
    struct json *list;

    if (s->count == 0)
        return;
    list = json_new_array();
    for (size_t i = 0; i < s->count; i++)
        json_push_string(list, s->items[i]);
    json_set(object, key, list);
}

static void print_text(struct json *object, const char *key, const char *word, size_t n)
{
    char text[32];

    if (word && kg_str_copy(text, sizeof text, (struct kg_str){word, n}))
        json_set_string(object, key, text);
}

/* True when the value is one that a word stands for, and was printed so. */
static bool print_none(struct json *object, const struct config_key *k, const void *of, int64_t n)
{
    int64_t index = n - k->none_value;
    const char *word;
    size_t length = 0;

    if (k->none_flag ? !*(const bool *)((const char *)of + k->none_flag)
                     : index < 0 || index > INT_MAX)
        return false;
    word = config_none(k, k->none_flag ? 0 : (int)index, &length);
    print_text(object, k->name, word, length);
    return word != NULL;
}

static void print_quantity(struct json *object, const struct config_key *k, int64_t n)
{
    char text[24];

    if (n < k->min) /* it is unset */
        return;
    if (k->type == CONFIG_DURATION)
        kg_duration_format(n, text);
    else
        kg_size_format(n, text);
    if (k->type == CONFIG_CPUS)
        json_set_number(object, k->name, (double)n / 1e9);
    else
        json_set_string(object, k->name, text);
}

static void print_word(struct json *object, const struct config_key *k, int index)
{
    size_t n = 0;
    const char *word = config_choice(k, index, &n);

    print_text(object, k->name, word, n);
}

static void print_number(struct json *object, const struct config_key *k, int64_t n)
{
    if (n >= k->min) /* else it is unset */
        json_set_number(object, k->name, (double)n);
}

static void print_routes(struct json *object, const struct config_service *s)
{
    struct json *list;
    struct kg_buf text;

    if (s->route_count == 0)
        return;
    list = json_new_array();
    kg_buf_init(&text, KG_MAX_CONFIG_BYTES);
    for (size_t i = 0; i < s->route_count; i++) {
        const struct config_route *r = &s->routes[i];
        kg_buf_clear(&text);
        kg_buf_printf(&text, "%s%s", r->host, *r->host && !r->prefix[1] ? "" : r->prefix);
        json_push_string(list, text.data ? text.data : "");
    }
    json_set(object, "routes", list);
    kg_buf_fini(&text);
}

static void print_health(struct json *object, const char *key, const struct proxy_health *h)
{
    struct json *health;
    char range[16];

    if (!h->path[0])
        return;
    health = json_new_object();
    snprintf(range, sizeof range, h->status_min == h->status_max ? "%u" : "%u-%u",
             (unsigned)h->status_min, (unsigned)h->status_max);
    json_set_string(health, "path", h->path);
    json_set_string(health, "status", range);
    json_set(object, key, health);
}

static void print_quiet(struct json *object, const struct config_service *s)
{
    struct json *list;

    if (s->quiet_count == 0)
        return;
    list = json_new_array();
    for (unsigned i = 0; i < s->quiet_count; i++) {
        const struct proxy_quiet *q = &s->quiet[i];
        struct json *one = json_new_object();
        if (q->path[0])
            json_set_string(one, "path", q->path);
        if (q->method[0])
            json_set_string(one, "method", q->method);
        if (q->user_agent[0])
            json_set_string(one, "user_agent", q->user_agent);
        json_push(list, one);
    }
    json_set(object, "quiet", list);
}

/* The three kinds of numbers, in their units or as the word that stands for one. */
static void print_numeric(struct json *object, const struct config_key *k, const void *of)
{
    const void *at = (const char *)of + k->offset;
    int64_t n = k->type == CONFIG_INT ? *(const int *)at : *(const int64_t *)at;

    if (print_none(object, k, of, n))
        return;
    if (k->type == CONFIG_INT || k->type == CONFIG_INT64)
        print_number(object, k, n);
    else
        print_quantity(object, k, n);
}

static bool is_numeric(const struct config_key *k)
{
    return k->type == CONFIG_INT || k->type == CONFIG_INT64 || k->type == CONFIG_DURATION ||
           k->type == CONFIG_SIZE || k->type == CONFIG_CPUS;
}

static void print_value(struct json *object, const struct config_key *k, const void *of)
{
    const void *at = (const char *)of + k->offset;

    if (k->type == CONFIG_STRING && *(char *const *)at)
        json_set_string(object, k->name, *(char *const *)at);
    else if (k->type == CONFIG_STRINGS || k->type == CONFIG_PAIRS)
        print_strings(object, k->name, at);
    else if (is_numeric(k))
        print_numeric(object, k, of);
    else if (k->type == CONFIG_SHARE && *(const double *)at >= 0)
        json_set_number(object, k->name, *(const double *)at);
    else if (k->type == CONFIG_BOOL)
        json_set_bool(object, k->name, *(const bool *)at);
    else if (k->type == CONFIG_TRISTATE && *(const enum config_tristate *)at != CONFIG_UNSET)
        json_set_bool(object, k->name, *(const enum config_tristate *)at == CONFIG_TRUE);
    else if (k->type == CONFIG_WORD)
        print_word(object, k, *(const int *)at);
    else if (k->type == CONFIG_ROUTES)
        print_routes(object, of);
    else if (k->type == CONFIG_HEALTH)
        print_health(object, k->name, at);
    else if (k->type == CONFIG_QUIET)
        print_quiet(object, of);
    else if (k->type == CONFIG_CERTIFICATES)
        config_certificates_print(object, k->name, at);
}

/* --- whole objects ------------------------------------------------------------------------- */

struct json *config_service_json(const struct config_service *s)
{
    struct json *object = json_new_object();

    CONFIG_EACH_KEY(k, config_service_keys)
    print_value(object, k, s);
    return object;
}

struct json *config_json(const struct config *c)
{
    struct json *object = json_new_object(), *services = json_new_object();

    CONFIG_EACH_KEY(k, config_top_keys)
    print_value(object, k, c);
    for (size_t i = 0; i < c->service_count; i++)
        json_set(services, c->services[i]->name, config_service_json(c->services[i]));
    json_set(object, "services", services);
    return object;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What a container is created with, but for keys of that flag. The order of labels means nothing to
 * the engine. */
static struct json *spec_json(const struct config_service *s, unsigned without)
{
    struct json *object = json_new_object();
    struct config_service sorted = *s;

    sorted.labels.items = calloc(s->labels.count + 1, sizeof *sorted.labels.items);
    if (!sorted.labels.items) {
        json_free(object);
        return NULL;
    }
    for (size_t i = 0; i < s->labels.count; i++)
        sorted.labels.items[i] = s->labels.items[i];
    qsort(sorted.labels.items, s->labels.count, sizeof(char *), by_text);
    CONFIG_EACH_KEY(k, config_service_keys)
    if (k->flags & CONFIG_IN_SPEC && !(k->flags & without))
        print_value(object, k, &sorted);
    free(sorted.labels.items);
    return object;
}

struct json *config_spec_json(const struct config_service *s)
{
    return spec_json(s, 0);
}

static void print_tree(struct json *tree, struct kg_buf *out)
{
    if (json_print(tree, true, out) == 0)
        kg_buf_puts(out, "\n");
    json_free(tree);
}

void config_print(const struct config *c, struct kg_buf *out)
{
    print_tree(config_json(c), out);
}

void config_print_service(const struct config_service *s, struct kg_buf *out)
{
    print_tree(config_service_json(s), out);
}

/* --- what is looser than it might be ----------------------------------------------------- */

/* Of Docker's own capabilities, what the default profile leaves. */
static bool default_profile_has(const char *cap)
{
    static const char *const caps[] = {"CHOWN",  "DAC_OVERRIDE", "FSETID",  "FOWNER",
                                       "SETGID", "SETUID",       "SETPCAP", "NET_BIND_SERVICE",
                                       "KILL",   "SYS_CHROOT",   NULL};

    for (size_t i = 0; caps[i]; i++)
        if (strcmp(caps[i], cap) == 0)
            return true;
    return false;
}

static void loosened_list(const struct config_service *s, const char *key,
                          const struct config_strings *list, struct kg_buf *out)
{
    for (size_t i = 0; i < list->count; i++)
        kg_buf_printf(out, "service %s: %s %s\n", s->name, key, list->items[i]);
}

static bool is_root(const char *user)
{
    size_t n = strcspn(user, ":");

    return n > 0 && (strspn(user, "0") >= n || (n == 4 && strncmp(user, "root", n) == 0));
}

static void loosened_service(const struct config_service *s, struct kg_buf *out)
{
    bool strict = s->profile == CONFIG_PROFILE_STRICT;

    for (size_t i = 0; i < s->cap_add.count; i++)
        if (strict || !default_profile_has(s->cap_add.items[i]))
            kg_buf_printf(out, "service %s: cap_add %s\n", s->name, s->cap_add.items[i]);
    loosened_list(s, "devices", &s->devices, out);
    loosened_list(s, "volumes", &s->volumes, out);
    if (s->init == CONFIG_FALSE)
        kg_buf_printf(out, "service %s: init false\n", s->name);
    if (strict && s->read_only == CONFIG_FALSE)
        kg_buf_printf(out, "service %s: read_only false\n", s->name);
    if (strict && s->user && is_root(s->user))
        kg_buf_printf(out, "service %s: user %s\n", s->name, s->user);
}

bool config_admin_is_exposed(const struct config *c)
{
    const char *a = c->admin;

    return a && strcmp(a, "off") != 0 && strncmp(a, "unix:", 5) != 0 &&
           strncmp(a, "127.", 4) != 0 && strncmp(a, "[::1]:", 6) != 0 &&
           strncmp(a, "localhost:", 10) != 0;
}

void config_print_loosened(const struct config *c, struct kg_buf *out)
{
    if (config_admin_is_exposed(c))
        kg_buf_printf(
            out, "admin %s: workers and others may reach it, and it asks nobody who they are\n",
            c->admin);
    for (size_t i = 0; i < c->service_count; i++)
        loosened_service(c->services[i], out);
}

static bool has_line(struct kg_str text, struct kg_str line)
{
    while (text.n >= line.n) {
        const char *end = memchr(text.p, '\n', text.n);
        if (!end || memcmp(text.p, line.p, line.n) == 0)
            return end;
        text = (struct kg_str){end + 1, text.n - (size_t)(end + 1 - text.p)};
    }
    return false;
}

static bool has_grants(const struct config_service *s)
{
    struct kg_buf grants;
    bool any;

    kg_buf_init(&grants, KG_MAX_CONFIG_BYTES);
    loosened_service(s, &grants);
    any = grants.len > 0 || grants.error || s->runtime;
    kg_buf_fini(&grants);
    return any;
}

/* Made alike, but for what may change. What is not known to be the same is not. */
static bool is_made_alike(const struct config_service *a, const struct config_service *b)
{
    struct json *one = spec_json(a, CONFIG_HARMLESS), *other = spec_json(b, CONFIG_HARMLESS);
    struct kg_buf this, that;
    bool alike;

    kg_buf_init(&this, KG_MAX_CONFIG_BYTES);
    kg_buf_init(&that, KG_MAX_CONFIG_BYTES);
    alike = json_print(one, false, &this) == 0 && json_print(other, false, &that) == 0 &&
            kg_str_eq(kg_buf_str(&this), kg_buf_str(&that));
    kg_buf_fini(&this);
    kg_buf_fini(&that);
    json_free(one);
    json_free(other);
    return alike;
}

static void print_harmless(struct kg_buf *out)
{
    CONFIG_EACH_KEY(k, config_service_keys)
    if (k->flags & CONFIG_HARMLESS)
        kg_buf_printf(out, " %s,", k->name);
}

/* What was given to one image, command or environment is not another's: another command beside the
 * same volumes is the host's data in the hand of whoever changed it. A runtime may give what no
 * list of ours names. */
static void regranted_service(const struct config_service *s, const struct config_service *before,
                              struct kg_buf *out)
{
    const char *runtime = before && before->runtime ? before->runtime : "";

    if (before && has_grants(s) && !is_made_alike(s, before)) {
        kg_buf_printf(out, "service %s: something else is to be run with what was given to it;",
                      s->name);
        print_harmless(out);
        kg_buf_puts(out, " and what is no setting of a container may change\n");
    }
    if (s->runtime && strcmp(s->runtime, runtime) != 0)
        kg_buf_printf(out, "service %s: runtime %s\n", s->name, s->runtime);
}

void config_print_looser(const struct config *c, const struct config *than, struct kg_buf *out)
{
    struct kg_buf now, before;
    struct kg_str text;

    kg_buf_init(&now, KG_MAX_CONFIG_BYTES);
    kg_buf_init(&before, KG_MAX_CONFIG_BYTES);
    config_print_loosened(c, &now);
    config_print_loosened(than, &before);
    text = kg_buf_str(&now);
    if (now.error || before.error)
        text = KG_STR("it is not known what: out of memory\n");
    for (const char *end; (end = memchr(text.p, '\n', text.n)) != NULL; text.p = end + 1) {
        struct kg_str line = {text.p, (size_t)(end + 1 - text.p)};
        if (!has_line(kg_buf_str(&before), line))
            kg_buf_append(out, line.p, line.n);
        text.n -= line.n;
    }
    for (size_t i = 0; i < c->service_count; i++)
        regranted_service(c->services[i], config_find(than, c->services[i]->name), out);
    kg_buf_fini(&now);
    kg_buf_fini(&before);
}
