/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/services: what is configured and what is. The difficulty: names come from a path, and wake
 * and sleep answer when the engine is done. */
#include "base/clock.h"
#include "orchestrator/admin_priv.h"
#include "orchestrator/config_priv.h"
#include <stdio.h>
#include <stdlib.h>

static void set_seconds(struct json *n, const char *key, int64_t ms)
{
    if (ms >= 0 && ms != KG_NEVER)
        json_set_number(n, key, (double)ms / 1000);
    else
        json_set(n, key, json_parse(KG_STR("null"), 4, 1, NULL, NULL));
}

static struct json *instance_json(const struct fleet_view *v, uint64_t exchanges)
{
    struct json *n = json_new_object();

    json_set_string(n, "id", v->container_id ? v->container_id : "");
    json_set_string(n, "name", v->name);
    json_set_string(n, "state", v->state);
    json_set_string(n, "address", v->address);
    json_set_number(n, "exchanges", (double)exchanges);
    json_set_number(n, "idle_seconds", (double)v->idle_ms / 1000);
    set_seconds(n, "reap_in_seconds", v->reap_in_ms);
    json_set_bool(n, "current_spec", v->current_spec);
    return n;
}

/* What "auto" decided, and why. */
static void set_idle(struct json *n, const struct admin *a, uint32_t id, int64_t now_ms)
{
    struct fleet_habit_view v;
    struct json *idle;

    if (!fleet_habit_view(a->params.fleet, id, now_ms, &v))
        return;
    idle = json_new_object();
    json_set_number(idle, "keep_seconds", (double)v.keep_ms / 1000);
    set_seconds(idle, "pause_seconds", v.pause_ms);
    set_seconds(idle, "wake_in_seconds", v.wake_in_ms);
    json_set_number(idle, "known", v.known);
    json_set_string(idle, "reason", v.why);
    json_set(n, "idle", idle);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* A front counts exchanges per service. One that drains has as many as slots of it are out; those
 * that are left are the other one's, or, where there may be several, each has as many as slots of
 * it are out, or fewer. */
static uint64_t exchanges_of(const struct fleet_view *v, const struct config_service *s,
                             uint64_t all, uint64_t draining)
{
    if (v->drains)
        return least(v->slots_out, all);
    all -= least(draining, all);
    return v->slots_out == 0 ? 0 : s->max_instances > 1 ? least(v->slots_out, all) : all;
}

static struct json *views_json(const struct config_service *s, const struct fleet_view *views,
                               size_t count, uint64_t all)
{
    struct json *instances = json_new_array();
    uint64_t draining = 0;

    for (size_t i = 0; i < count; i++)
        draining += views[i].drains ? views[i].slots_out : 0;
    for (size_t i = 0; i < count; i++)
        json_push(instances, instance_json(&views[i], exchanges_of(&views[i], s, all, draining)));
    return instances;
}

/* NULL: there was no memory for them. */
static struct json *instances_json(const struct admin *a, const struct config_service *s,
                                   uint32_t id, int64_t now_ms)
{
    size_t count = fleet_view(a->params.fleet, id, NULL, 0, now_ms);
    struct fleet_view *views = calloc(count + 1, sizeof *views);
    struct json *instances = NULL;

    if (views) {
        fleet_view(a->params.fleet, id, views, count, now_ms);
        instances = views_json(s, views, count, count > 0 ? admin_exchanges(a, id) : 0);
    }
    free(views);
    return instances;
}

static struct json *service_json(const struct admin *a, const struct config_service *s,
                                 int64_t now_ms)
{
    uint32_t id = (uint32_t)fleet_service_id(a->params.fleet, s->name);
    struct json *n = json_new_object();

    json_set_string(n, "name", s->name);
    json_set(n, "config", config_service_json(s));
    json_set(n, "instances", instances_json(a, s, id, now_ms));
    set_idle(n, a, id, now_ms);
    json_set_number(n, "waiting", (double)fleet_waiting(a->params.fleet, id));
    return n;
}

static void get_all(struct admin *a, const struct admin_request *r, int64_t now_ms)
{
    const struct config *c = a->params.config(a->params.self);
    struct json *all = json_new_array();

    for (size_t i = 0; i < c->service_count; i++)
        json_push(all, service_json(a, c->services[i], now_ms));
    admin_answer_json(a, r->id, 200, all);
}

static void no_service(struct admin *a, uint64_t request, const char *name)
{
    char detail[300];

    snprintf(detail, sizeof detail, "there is no service \"%s\"", name);
    admin_problem(a, request, 404, "not-found", "There is no such service", detail);
}

static void put_in_force(struct admin *a, uint64_t request, struct config *next, const char *name,
                         int status, struct config_errors *errors, int64_t now_ms)
{
    const struct config_service *s;

    if (!next || a->params.apply(a->params.self, next, errors) != 0) {
        admin_problem(a, request, 400, "bad-configuration", "The configuration is not valid",
                      errors->text.data ? errors->text.data : "");
        return;
    }
    s = config_find(a->params.config(a->params.self), name);
    admin_answer_json(a, request, status, s ? service_json(a, s, now_ms) : json_new_object());
}

/* Fronts hand on what comes here, and one may have been taken over: what reaches out of a container
 * (the host's files and devices, capabilities) is the configuration file's to give. */
static bool is_looser(struct admin *a, uint64_t request, const struct config *next)
{
    struct kg_buf more;
    bool looser;

    kg_buf_init(&more, KG_MAX_CONFIG_BYTES);
    if (next)
        config_print_looser(next, a->params.config(a->params.self), &more);
    looser = more.len > 0 || more.error;
    if (looser)
        admin_problem(a, request, 403, "only-by-file",
                      "What is looser than the profile comes from the configuration file",
                      more.data ? more.data : "");
    kg_buf_fini(&more);
    return looser;
}

static void put_one(struct admin *a, const struct admin_request *r, const char *name,
                    int64_t now_ms)
{
    const struct config *base = a->params.config(a->params.self);
    struct config_errors errors = {0};
    struct config *next;
    int status = config_find(base, name) ? 200 : 201;
    char at[300];

    snprintf(at, sizeof at, "PUT /v1/services/%s", name);
    next = config_with_service(base, name, r->body, at, &errors);
    if (is_looser(a, r->id, next))
        config_free(next);
    else
        put_in_force(a, r->id, next, name, status, &errors, now_ms);
    config_errors_fini(&errors);
}

static void delete_one(struct admin *a, const struct admin_request *r, const char *name,
                       int64_t now_ms)
{
    const struct config *base = a->params.config(a->params.self);
    struct config_errors errors = {0};

    if (!config_find(base, name)) {
        no_service(a, r->id, name);
        return;
    }
    put_in_force(a, r->id, config_without_service(base, name, &errors), name, 200, &errors, now_ms);
    config_errors_fini(&errors);
}

/* --- wake and sleep ------------------------------------------------------------------------ */

static void on_done(void *arg, unsigned reason, int64_t retry_after_ms, const char *detail)
{
    struct admin_asker *k = arg;
    struct admin *a = k->admin;

    if (reason == 0)
        admin_answer_text(a, k->request, 200, "application/json", KG_STR("{}\n"));
    else
        admin_refuse(a, k->request, reason, retry_after_ms, detail);
    admin_asker_free(k);
}

static void wake_or_sleep(struct admin *a, const struct admin_request *r, const char *name,
                          bool wake, int64_t now_ms)
{
    int id = fleet_service_id(a->params.fleet, name);
    struct admin_asker *k;

    if (id < 0) {
        no_service(a, r->id, name);
        return;
    }
    k = admin_asker_new(a, r->id, &a->askers);
    if (!k)
        return;
    (wake ? fleet_wake : fleet_sleep)(a->params.fleet, (uint32_t)id, on_done, k, now_ms);
}

/* --- paths --------------------------------------------------------------------------------- */

static bool is(struct kg_str s, const char *word)
{
    return kg_str_eq(s, kg_str_of(word));
}

static void one_service(struct admin *a, const struct admin_request *r, const char *name,
                        int64_t now_ms)
{
    const struct config_service *s = config_find(a->params.config(a->params.self), name);

    if (is(r->method, "PUT"))
        put_one(a, r, name, now_ms);
    else if (is(r->method, "DELETE"))
        delete_one(a, r, name, now_ms);
    else if (!is(r->method, "GET") && !is(r->method, "HEAD"))
        admin_not_allowed(a, r->id, "GET, HEAD, PUT, DELETE");
    else if (!s)
        no_service(a, r->id, name);
    else
        admin_answer_json(a, r->id, 200, service_json(a, s, now_ms));
}

bool admin_services(struct admin *a, const struct admin_request *r, int64_t now_ms)
{
    struct kg_str prefix = KG_STR("/v1/services"), rest, verb = {NULL, 0};
    char name[256];
    const char *slash;

    if (!kg_str_has_prefix(r->path, prefix))
        return false;
    rest = (struct kg_str){r->path.p + prefix.n, r->path.n - prefix.n};
    if (rest.n == 0) {
        if (is(r->method, "GET") || is(r->method, "HEAD"))
            get_all(a, r, now_ms);
        else
            admin_not_allowed(a, r->id, "GET, HEAD");
        return true;
    }
    if (rest.p[0] != '/')
        return false;
    rest = (struct kg_str){rest.p + 1, rest.n - 1};
    slash = memchr(rest.p, '/', rest.n);
    if (slash) {
        verb = (struct kg_str){slash + 1, rest.n - (size_t)(slash + 1 - rest.p)};
        rest.n = (size_t)(slash - rest.p);
    }
    if (!kg_str_copy(name, sizeof name, rest))
        return false;
    if (!slash)
        one_service(a, r, name, now_ms);
    else if (!is(verb, "wake") && !is(verb, "sleep"))
        return false;
    else if (!is(r->method, "POST"))
        admin_not_allowed(a, r->id, "POST");
    else
        wake_or_sleep(a, r, name, is(verb, "wake"), now_ms);
    return true;
}
