/* SPDX-License-Identifier: Apache-2.0 */
/* What no single key can know: defaults that depend on the machine or on other keys, and
 * contradictions. The difficulty: everything wrong is told at the place where it was written. */
#include "orchestrator/config_priv.h"
#include "orchestrator/digest.h"
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct config_path service_at(const struct config_service *s, const char *key)
{
    struct config_path at = {.parts = {"services", s->name}, .count = 2};

    return key ? config_under(&at, key) : at;
}

/* --- the machine's defaults
 * ----------------------------------------------------------------------------- */

static char *copy(const char *text)
{
    char *c = strdup(text);

    KG_ASSERT(c);
    return c;
}

static char *default_state_dir(void)
{
    const char *systemd = getenv("STATE_DIRECTORY"), *xdg = getenv("XDG_STATE_HOME"),
               *home = getenv("HOME");
    struct kg_buf b;

    if (systemd && systemd[0])
        return copy(systemd);
    if (geteuid() == 0 || access("/var/lib/kipgate", W_OK) == 0)
        return copy("/var/lib/kipgate");
    kg_buf_init(&b, 4096);
    if (xdg && xdg[0])
        kg_buf_printf(&b, "%s/kipgate", xdg);
    else
        kg_buf_printf(&b, "%s/.local/state/kipgate", home && home[0] ? home : "/tmp");
    return kg_buf_take(&b);
}

static void fill_machine(struct config *c)
{
    const char *host = getenv("DOCKER_HOST"), *verify = getenv("DOCKER_TLS_VERIFY"),
               *certs = getenv("DOCKER_CERT_PATH");
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    cores = cores < 1 ? 1 : cores > KG_MAX_FRONTS ? KG_MAX_FRONTS : cores;
    if (!c->engine)
        c->engine = copy(host && host[0] ? host : "unix:///var/run/docker.sock");
    c->engine_tls = verify && verify[0];
    if (certs && certs[0] && !c->engine_cert_path)
        c->engine_cert_path = copy(certs);
    if (!c->state_dir)
        c->state_dir = default_state_dir();
    if (c->fronts == 0)
        c->fronts = (int)cores;
    if (c->max_starts == 0)
        c->max_starts = (int)(2 * cores);
}

/* --- services
 * ------------------------------------------------------------------------------------------- */

static void add_route(struct config_service *s, const char *prefix)
{
    KG_ASSERT(s->routes = calloc(1, sizeof *s->routes));
    s->routes[0] = (struct config_route){copy(""), copy(prefix)};
    s->route_count = 1;
}

static void set_spec(struct config_service *s)
{
    struct json *n = config_service_to_json(s, true);
    struct kg_buf text;

    kg_buf_init(&text, KG_MAX_CONFIG_BYTES);
    json_print(n, false, &text);
    KG_ASSERT(!text.error);
    digest_sha256_hex(kg_buf_str(&text), s->spec);
    kg_buf_fini(&text);
    json_free(n);
}

static void check_service(struct config *c, struct config_service *s,
                          const struct config_source *from)
{
    struct config_path at = service_at(s, NULL), socket_at = service_at(s, "socket");

    if (!s->image)
        config_error(from, &at, "image is required");
    if (s->socket && s->port)
        config_error(from, &socket_at, "a worker listens on a port or on a socket, not on both");
    if (s->socket && (s->socket[0] != '/' || strrchr(s->socket, '/') == s->socket))
        config_error(from, &socket_at, "must be an absolute path below a directory of its own");
    if (s->route_count == 0 && c->service_count == 1)
        add_route(s, "/");
    else if (s->route_count == 0)
        config_error(from, &at, "routes are required when there are several services");
    set_spec(s);
}

static int by_name(const void *a, const void *b)
{
    const struct config_service *x = *(struct config_service *const *)a,
                                *y = *(struct config_service *const *)b;

    return strcmp(x->name, y->name);
}

struct claimed {
    const struct config_route *route;
    const struct config_service *service;
};

static int by_claim(const void *a, const void *b)
{
    const struct claimed *x = a, *y = b;
    int rc = strcmp(x->route->host, y->route->host);

    return rc ? rc : strcmp(x->route->prefix, y->route->prefix);
}

static void check_routes(struct config *c, const struct config_source *from)
{
    struct claimed *all;
    size_t n = 0, total = 0;

    for (size_t i = 0; i < c->service_count; i++)
        total += c->services[i]->route_count;
    if (total > KG_MAX_ROUTES) {
        struct config_path at = {.parts = {"services"}, .count = 1};
        config_error(from, &at, "more than %d routes", KG_MAX_ROUTES);
        return;
    }
    KG_ASSERT(all = calloc(total + 1, sizeof *all));
    for (size_t i = 0; i < c->service_count; i++)
        for (size_t k = 0; k < c->services[i]->route_count; k++)
            all[n++] = (struct claimed){&c->services[i]->routes[k], c->services[i]};
    qsort(all, n, sizeof *all, by_claim);
    for (size_t i = 1; i < n; i++)
        if (by_claim(&all[i - 1], &all[i]) == 0) {
            struct config_path at = service_at(all[i].service, "routes");
            config_error(from, &at, "%s%s is a route of service %s already", all[i].route->host,
                         all[i].route->prefix, all[i - 1].service->name);
        }
    free(all);
}

void config_complete(struct config *c, const struct config_source *from)
{
    struct config_path top = {.count = 0}, at;

    fill_machine(c);
    at = config_under(&top, "engine");
    if (strncmp(c->engine, "unix:///", 8) != 0 && strncmp(c->engine, "tcp://", 6) != 0)
        config_error(from, &at, "\"%.100s\" is neither unix:///path nor tcp://host:port",
                     c->engine);
    if (c->service_count == 0 && strcmp(c->admin, "off") == 0)
        config_error(from, &top, "no service, and no admin API to add one: give --image or a file");
    if (c->service_count > KG_MAX_SERVICES)
        config_error(from, &top, "more than %d services", KG_MAX_SERVICES);
    qsort(c->services, c->service_count, sizeof *c->services, by_name);
    for (size_t i = 0; i < c->service_count; i++)
        check_service(c, c->services[i], from);
    check_routes(c, from);
}
