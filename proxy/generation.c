/* SPDX-License-Identifier: Apache-2.0 */
/* Generations of services and routes.
 * The difficulty: an exchange keeps the generation it began with until its end. */
#include "base/err.h"
#include "proxy/http1.h"
#include "proxy/proxy_priv.h"
#include "proxy/route.h"
#include <stdlib.h>

struct generation {
    size_t refs;
    struct route_table *routes;
    struct proxy_service *services[KG_MAX_SERVICES]; /* by id */
};

static struct generation *generation_new(void)
{
    struct generation *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->refs = 1;
    c->routes = route_table_new();
    if (c->routes)
        return c;
    free(c);
    return NULL;
}

struct generation *generation_ref(struct generation *c)
{
    c->refs++;
    return c;
}

void generation_unref(struct generation *c)
{
    if (!c || --c->refs > 0)
        return;
    for (size_t i = 0; i < KG_MAX_SERVICES; i++)
        free(c->services[i]);
    route_table_free(c->routes);
    free(c);
}

/* --- telling a generation ------------------------------------------------------------------ */

int proxy_config_begin(struct proxy *p)
{
    generation_unref(p->next); /* one that was begun and never committed */
    p->next = generation_new();
    return p->next ? 0 : KG_ENOMEM;
}

/* What is not whole is never committed: requests for what is missing would be told that there is no
 * such route. */
static int out_of_memory(struct proxy *p)
{
    generation_unref(p->next);
    p->next = NULL;
    return KG_ENOMEM;
}

int proxy_config_service(struct proxy *p, const struct proxy_service *s)
{
    struct generation *c = p->next;

    if (!c)
        return KG_ENOMEM;
    if (s->id >= KG_MAX_SERVICES || s->quiet_count > KG_MAX_QUIET)
        return KG_ELIMIT;
    if (!c->services[s->id])
        c->services[s->id] = malloc(sizeof *s);
    if (!c->services[s->id])
        return out_of_memory(p);
    *c->services[s->id] = *s;
    return 0;
}

int proxy_config_route(struct proxy *p, struct kg_str host, struct kg_str prefix, uint32_t service)
{
    int rc;

    if (!p->next)
        return KG_ENOMEM;
    if (service >= KG_MAX_SERVICES)
        return KG_ELIMIT;
    rc = route_table_add(p->next->routes, host, prefix, service);
    return rc == KG_ENOMEM ? out_of_memory(p) : rc;
}

int proxy_config_commit(struct proxy *p)
{
    if (!p->next)
        return KG_ENOMEM;
    generation_unref(p->current);
    p->current = p->next;
    p->next = NULL;
    return 0;
}

const struct proxy_service *generation_service(const struct generation *c, uint32_t service)
{
    return c && service < KG_MAX_SERVICES ? c->services[service] : NULL;
}

const char *proxy_service_name(const struct proxy *p, uint32_t service)
{
    const struct proxy_service *s = generation_service(p->current, service);

    return s ? s->name : "?";
}

/* --- asking it ----------------------------------------------------------------------------- */

const struct proxy_service *generation_find(const struct generation *c, const struct http1_head *h,
                                            struct route_match *match)
{
    if (!c || !route_table_find(c->routes, target_host(&h->target), h->target.path, match))
        return NULL;
    return c->services[match->service];
}

static bool matches(const char *pattern, struct kg_str text)
{
    return *pattern == '\0' || kg_glob(kg_str_of(pattern), text);
}

bool generation_is_quiet(const struct proxy_service *s, const struct http1_head *h)
{
    for (unsigned i = 0; i < s->quiet_count; i++) {
        const struct proxy_quiet *q = &s->quiet[i];
        if (*q->method && !kg_str_eq(kg_str_of(q->method), h->method))
            continue;
        if (matches(q->path, h->target.path) &&
            matches(q->user_agent, http1_value(h, FIELD_USER_AGENT)))
            return true;
    }
    return false;
}
