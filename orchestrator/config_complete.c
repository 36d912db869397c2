/* SPDX-License-Identifier: Apache-2.0 */
/* What can be judged only once all layers are in: what is missing, what contradicts, which routes
 * are equal, and the defaults that depend on where we run. The difficulty: each fault still needs
 * the place where somebody can mend it. */
#include "orchestrator/config_priv.h"
#include "orchestrator/digest.h"
#include "proxy/route.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SPEC_FORMAT 1 /* raised when the same configuration shall mean another container */
#define DEFAULT_IDLE_MIN_MS 60000
#define DEFAULT_IDLE_MAX_MS 3600000
#define DEFAULT_IDLE_GOAL 0.5
#define DEFAULT_ENGINE "unix:///var/run/docker.sock"
#define DEFAULT_STATE_DIR "/var/lib/kipgate"
#define MAX_STATE_DIR_BYTES 200 /* as of the key */
#define MAX_CERTIFICATES_DIR_BYTES 480

/* --- one service --------------------------------------------------------------------------- */

/* The member of the highest layer that has the key, and that layer; NULL: none has. */
static const struct json *member_given(const struct config_draft *d, const char *key,
                                       const struct config_source **source)
{
    for (size_t i = sizeof d->options / sizeof *d->options; i > 0; i--) {
        const struct json *found =
            d->options[i - 1] ? json_get(d->options[i - 1]->root, key) : NULL;
        *source = d->options[i - 1];
        if (found)
            return found;
    }
    *source = d->source;
    return d->source ? json_get(d->node, key) : NULL;
}

static bool is_given(const struct config_draft *d, const char *key)
{
    const struct config_source *source;

    return member_given(d, key, &source) != NULL;
}

void config_fail_key(struct config_loading *l, const struct config_draft *d, const char *key,
                     const char *words)
{
    const struct config_source *source;
    const struct json *member = member_given(d, key, &source);

    if (!d->source)
        config_fail_plain(l->errors, "service %s: %s: %s", d->service->name, key, words);
    else if (member)
        config_fail(l->errors, source, member, true, NULL, "%s", words);
    else
        config_fail(l->errors, d->source, d->node, true, key, "%s", words);
}

void config_fail_item(struct config_loading *l, const struct config_draft *d, const char *key,
                      size_t index, size_t count, const char *words)
{
    const struct config_source *source;
    const struct json *list = member_given(d, key, &source), *item;

    item = json_count(list) == count ? json_first(list) : NULL; /* else some of it is wrong */
    for (; item && index > 0; index--)
        item = json_next(item);
    if (!d->source)
        config_fail_plain(l->errors, "service %s: %s: %s", d->service->name, key, words);
    else
        config_fail(l->errors, source,
                    item   ? item
                    : list ? list
                           : d->node,
                    false, list ? NULL : key, "%s", words);
}

static void check_caps(struct config_loading *l, const struct config_draft *d)
{
    const struct config_strings *add = &d->service->cap_add, *drop = &d->service->cap_drop;
    char words[128];

    for (size_t i = 0; i < add->count; i++)
        for (size_t j = 0; j < drop->count; j++)
            if (strcmp(add->items[i], drop->items[j]) == 0) {
                snprintf(words, sizeof words, "%s is in cap_drop too", add->items[i]);
                config_fail_key(l, d, "cap_add", words);
            }
}

/* A key that asks "auto" for what "auto" was not told to do. */
static void need_auto(struct config_loading *l, const struct config_draft *d, const char *key,
                      bool given)
{
    if (given)
        config_fail_key(l, d, key, "needs an idle_timeout of \"auto\"");
}

/* What auto may choose, and what holds until it knows enough. A default gives way to what is said.
 */
static void complete_auto(struct config_loading *l, const struct config_draft *d)
{
    struct config_service *s = d->service;
    char words[80], text[24];

    if (!s->idle_min_ms)
        s->idle_min_ms = s->idle_max_ms && s->idle_max_ms < DEFAULT_IDLE_MIN_MS
                             ? s->idle_max_ms
                             : DEFAULT_IDLE_MIN_MS;
    if (!s->idle_max_ms)
        s->idle_max_ms =
            s->idle_min_ms > DEFAULT_IDLE_MAX_MS ? s->idle_min_ms : DEFAULT_IDLE_MAX_MS;
    s->idle_goal = s->idle_goal >= 0 ? s->idle_goal : DEFAULT_IDLE_GOAL;
    if (s->idle_min_ms > s->idle_max_ms) {
        kg_duration_format(s->idle_max_ms, text);
        snprintf(words, sizeof words, "is above idle_max, which is %s", text);
        config_fail_key(l, d, "idle_min", words);
    }
    if (s->idle_timeout_ms < s->idle_min_ms)
        s->idle_timeout_ms = s->idle_min_ms;
    if (s->idle_timeout_ms > s->idle_max_ms)
        s->idle_timeout_ms = s->idle_max_ms;
}

static void complete_idle(struct config_loading *l, const struct config_draft *d)
{
    struct config_service *s = d->service;
    int64_t most_ms;
    char words[80], text[24];

    if (s->idle_auto) {
        complete_auto(l, d);
    } else {
        need_auto(l, d, "idle_min", s->idle_min_ms != 0);
        need_auto(l, d, "idle_max", s->idle_max_ms != 0);
        need_auto(l, d, "idle_goal", s->idle_goal >= 0);
    }
    most_ms = s->idle_auto ? s->idle_max_ms : s->idle_timeout_ms;
    if (s->pause_after_ms < most_ms)
        return;
    kg_duration_format(most_ms, text);
    snprintf(words, sizeof words, "never comes: %s, which is %s, is not longer",
             s->idle_auto ? "idle_max" : "idle_timeout", text);
    config_fail_key(l, d, "pause_after", words);
}

static void check_scale(struct config_loading *l, const struct config_draft *d)
{
    const struct config_service *s = d->service;
    char words[80];

    if (s->min_instances > s->max_instances) {
        snprintf(words, sizeof words, "is above max_instances, which is %d", s->max_instances);
        config_fail_key(l, d, "min_instances", words);
    } else if (s->min_instances + s->spares > s->max_instances) {
        snprintf(words, sizeof words,
                 "have no room: min_instances %d + spares %d > max_instances %d", s->min_instances,
                 s->spares, s->max_instances);
        config_fail_key(l, d, "spares", words);
    }
}

static void check_service(struct config_loading *l, const struct config_draft *d)
{
    const struct config_service *s = d->service;

    if (!s->image && !is_given(d, "image"))
        config_fail_key(l, d, "image", "is required");
    if (s->socket && s->port)
        config_fail_key(l, d, "socket", "cannot be used together with port");
    check_caps(l, d);
    complete_idle(l, d);
    check_scale(l, d);
}

bool config_make_spec(struct config_service *s)
{
    struct json *spec = config_spec_json(s);
    struct kg_buf text;
    int rc;

    kg_buf_init(&text, KG_MAX_CONFIG_BYTES);
    json_set_number(spec, "format", SPEC_FORMAT);
    if (s->group[0]) /* the network that it is on */
        json_set_string(spec, "group", s->group);
    rc = json_print(spec, false, &text);
    if (rc == 0)
        digest_sha256_hex(kg_buf_str(&text), s->spec);
    kg_buf_fini(&text);
    json_free(spec);
    return rc == 0;
}

/* --- routes -------------------------------------------------------------------------------- */

/* A service without routes is told, unless its routes were there and wrong. One that other services
 * need may have none; so may one that they needed when it came, or it could never be left alone. */
static void default_routes(struct config_loading *l, const struct config_draft *d)
{
    if (d->service->route_count > 0 || d->needed || !d->source || is_given(d, "routes"))
        return;
    if (l->count > 1)
        config_fail_key(l, d, "routes",
                        "are required of a service that is neither the only one nor needed by "
                        "another");
    else if (!config_routes_add(d->service, (struct config_route){strdup(""), strdup("/")}))
        config_fail_plain(l->errors, "out of memory");
}

static const struct config_draft *owner_of_route(const struct config_loading *l,
                                                 const struct config_route *r)
{
    for (size_t i = 0; i < l->count; i++)
        for (size_t j = 0; j < l->drafts[i].service->route_count; j++) {
            const struct config_route *other = &l->drafts[i].service->routes[j];
            if (other != r && strcmp(other->host, r->host) == 0 &&
                strcmp(other->prefix, r->prefix) == 0)
                return &l->drafts[i];
        }
    return NULL;
}

static void fail_route(struct config_loading *l, const struct config_draft *d, size_t index,
                       const char *words)
{
    const struct config_route *r = &d->service->routes[index];
    struct kg_buf text;

    kg_buf_init(&text, KG_MAX_ROUTE_BYTES + 200);
    kg_buf_printf(&text, "the route %s%s %s", r->host, r->prefix, words);
    config_fail_item(l, d, "routes", index, d->service->route_count, text.data ? text.data : words);
    kg_buf_fini(&text);
}

/* Services that were there before come first, so that the new one is told. */
static void check_routes_of(struct config_loading *l, struct route_table *t, bool old)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct config_draft *d = &l->drafts[i], *other;
        for (size_t j = 0; (d->source == NULL) == old && j < d->service->route_count; j++) {
            const struct config_route *r = &d->service->routes[j];
            int rc = route_table_add(t, kg_str_of(r->host), kg_str_of(r->prefix), (uint32_t)i);
            char words[KG_MAX_NAME_BYTES + 64] = "is one more than there may be";
            if (rc == 0)
                continue;
            if (rc == KG_ENOMEM)
                kg_str_copy(words, sizeof words, KG_STR("found no memory"));
            if (rc == KG_ECONFLICT) {
                other = owner_of_route(l, r);
                snprintf(words, sizeof words, "is a route of service %s too",
                         other ? other->service->name : "?");
            }
            fail_route(l, d, j, words);
        }
    }
}

static void check_routes(struct config_loading *l)
{
    struct route_table *t = route_table_new();

    if (!t) {
        config_fail_plain(l->errors, "out of memory");
        return;
    }
    for (size_t i = 0; i < l->count; i++)
        default_routes(l, &l->drafts[i]);
    check_routes_of(l, t, true);
    check_routes_of(l, t, false);
    route_table_free(t);
}

/* --- all services -------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const struct config_service *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static bool move_services(struct config_loading *l)
{
    struct config *c = l->c;
    bool good = true;

    c->services = calloc(l->count + 1, sizeof *c->services);
    if (!c->services)
        return false;
    for (size_t i = 0; i < l->count; i++) {
        c->services[c->service_count++] = l->drafts[i].service;
        good &= config_make_spec(l->drafts[i].service);
    }
    l->count = 0;
    qsort(c->services, c->service_count, sizeof(struct config_service *), by_name);
    return good;
}

void config_complete(struct config_loading *l)
{
    for (size_t i = 0; i < l->count; i++)
        check_service(l, &l->drafts[i]);
    config_check_needs(l);
    check_routes(l);
    if (l->errors->count == 0 && !move_services(l))
        config_fail_plain(l->errors, "out of memory");
}

/* --- the rest ------------------------------------------------------------------------------ */

static const char *variable(const char *name)
{
    const char *value = getenv(name);

    return value && *value ? value : NULL;
}

static bool has_certificates(const char *dir)
{
    static const char *const names[] = {"ca.pem", "cert.pem", "key.pem"};
    char path[MAX_CERTIFICATES_DIR_BYTES + 16];
    bool all = true;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        all &= access(path, F_OK) == 0;
    }
    return all;
}

/* Where docker's own client looks for them when it is not told; NULL: they are not there. */
static char *usual_certificates(void)
{
    const char *config = variable("DOCKER_CONFIG"), *home = variable("HOME");
    char dir[MAX_CERTIFICATES_DIR_BYTES];
    int n = config ? snprintf(dir, sizeof dir, "%s", config)
                   : snprintf(dir, sizeof dir, "%s/.docker", home ? home : "");

    return n > 0 && (size_t)n < sizeof dir && has_certificates(dir) ? strdup(dir) : NULL;
}

static void default_engine(struct config_loading *l)
{
    const char *host = variable("DOCKER_HOST"), *certs = variable("DOCKER_CERT_PATH");
    const char *words = host && !l->c->engine ? config_check_engine(host) : NULL;

    l->c->engine_tls = variable("DOCKER_TLS_VERIFY") != NULL;
    l->c->engine_cert_path = certs ? strdup(certs) : l->c->engine_tls ? usual_certificates() : NULL;
    if (words)
        config_fail_plain(l->errors, "environment:DOCKER_HOST: \"%.200s\" %s", host, words);
    else if (!l->c->engine)
        l->c->engine = strdup(host ? host : DEFAULT_ENGINE);
}

/* The directory that systemd made, root's own, or the user's. */
static void default_state_dir(struct config_loading *l)
{
    const char *given = variable("STATE_DIRECTORY"), *state = variable("XDG_STATE_HOME");
    const char *home = variable("HOME");
    struct kg_buf dir;

    if (l->c->state_dir)
        return;
    kg_buf_init(&dir, 4096);
    if (given)
        kg_buf_append(&dir, given, strcspn(given, ":")); /* the first of several */
    else if (geteuid() == 0 || access(DEFAULT_STATE_DIR, W_OK) == 0)
        kg_buf_puts(&dir, DEFAULT_STATE_DIR);
    else if (state)
        kg_buf_printf(&dir, "%s/kipgate", state);
    else if (home)
        kg_buf_printf(&dir, "%s/.local/state/kipgate", home);
    if (dir.error == KG_ENOMEM)
        config_fail_plain(l->errors, "out of memory");
    else if (dir.len == 0 || dir.len > MAX_STATE_DIR_BYTES || config_check_state_dir(dir.data))
        config_fail_plain(l->errors, "state_dir: no directory is known: set --state-dir");
    else
        l->c->state_dir = kg_buf_take(&dir);
    kg_buf_fini(&dir);
}

/* Counted once: where their number changes while we run, a reload asks for no other defaults. */
static int cores(void)
{
    static long n;
    cpu_set_t set;

    if (n == 0)
        n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                        : sysconf(_SC_NPROCESSORS_ONLN);

    return n < 1 ? 1 : n > KG_MAX_FRONTS ? KG_MAX_FRONTS : (int)n;
}

static void fail_listener(struct config_loading *l, size_t index, const char *at, const char *words)
{
    struct kg_buf text;

    kg_buf_init(&text, 4096);
    kg_buf_printf(&text, "%s %s", at, words);
    config_fail_top(l, "listen", (int64_t)index, NULL, text.data ? text.data : words);
    kg_buf_fini(&text);
}

static void fail_admin(struct config_loading *l, size_t index, const char *at)
{
    struct kg_buf text;

    if (!config_top_given(l, "admin")) {
        fail_listener(l, index, at, "is the address of admin too");
        return;
    }
    kg_buf_init(&text, 4096);
    kg_buf_printf(&text, "%s is an address of listen too", at);
    config_fail_top(l, "admin", -1, NULL, text.data ? text.data : "is an address of listen too");
    kg_buf_fini(&text);
}

/* Two listeners on one address: the second would fail to start. */
static void check_listeners(struct config_loading *l)
{
    const struct config_strings *listen = &l->c->listen;
    bool secure;

    for (size_t i = 0; i < listen->count; i++) {
        const char *at = config_listen_address(listen->items[i], &secure),
                   *colon = strrchr(at, ':');
        if (colon && strcmp(colon, ":0") == 0)
            continue;
        if (l->c->admin && strcmp(at, l->c->admin) == 0)
            fail_admin(l, i, at);
        for (size_t j = 0; j < i; j++)
            if (strcmp(at, config_listen_address(listen->items[j], &secure)) == 0)
                fail_listener(l, i, at, "comes twice");
    }
}

void config_complete_top(struct config_loading *l, bool file_read)
{
    struct config *c = l->c;

    default_engine(l);
    default_state_dir(l);
    if (c->fronts == 0)
        c->fronts = cores();
    if (c->max_starts == 0)
        c->max_starts = 2 * cores();
    if (c->log_format == CONFIG_FORMAT_UNSET)
        c->log_format = isatty(STDERR_FILENO) ? KG_LOG_TEXT : KG_LOG_JSON;
    check_listeners(l);
    if (l->count == 0 && !file_read)
        config_fail_plain(l->errors, "services: none: name an image (--image IMAGE --port N) or a "
                                     "file (--config FILE)");
    else if (l->count == 0 && c->admin && strcmp(c->admin, "off") == 0)
        config_fail_top(l, "admin", -1, NULL,
                        "is off, and there are no services: none could ever come");
    if (!c->engine && l->errors->count == 0)
        config_fail_plain(l->errors, "out of memory");
}
