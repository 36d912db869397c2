/* SPDX-License-Identifier: Apache-2.0 */
/* The admin API's entrance, answers and event stream. The difficulty: an asker may leave before its
 * answer, and is then forgotten everywhere at once. */
#include "base/clock.h"
#include "orchestrator/admin_priv.h"
#include <stdio.h>
#include <stdlib.h>

#define PROBLEM_TYPE "application/problem+json"
#define JSON_TYPE "application/json"
#define MAX_DETAIL_BYTES (256 * 1024) /* thousands of errors of a configuration */

void admin_answer_text(struct admin *a, uint64_t request, int status, const char *type,
                       struct kg_str text)
{
    const struct proxy_local_answer answer = {
        .status = status, .type = type, .body = text, .last = true};

    a->params.reply(a->params.self, request, &answer);
}

void admin_answer_json(struct admin *a, uint64_t request, int status, struct json *n)
{
    struct kg_buf b;

    kg_buf_init(&b, KG_MAX_CONFIG_BYTES);
    if (json_print(n, true, &b) == 0)
        kg_buf_puts(&b, "\n");
    json_free(n);
    if (b.error)
        admin_problem(a, request, 500, "out-of-memory", "Out of memory", "");
    else
        admin_answer_text(a, request, status, JSON_TYPE, kg_buf_str(&b));
    kg_buf_fini(&b);
}

/* --- problems ------------------------------------------------------------------------------ */

struct refusal {
    int status;
    const char *name, *title, *detail; /* detail "": the title */
    const char *allow;                 /* NULL: it is no 405 */
    int64_t retry_after_ms;
};

static void put_problem(struct kg_buf *b, uint64_t request, const struct refusal *p)
{
    struct kg_str words = kg_str_of(p->detail && *p->detail ? p->detail : p->title);

    if (words.n > MAX_DETAIL_BYTES)
        words.n = MAX_DETAIL_BYTES;
    kg_buf_printf(b, "{\"type\":\"urn:kipgate:%s\",\"title\":\"%s\",\"status\":%d,\"detail\":\"",
                  p->name, p->title, p->status);
    kg_json_escape(b, words);
    kg_buf_printf(b, "\",\"instance\":\"%llu\"}\n", (unsigned long long)request);
}

/* Every asker gets an answer, also where there is no memory for its words. */
static void tell(struct admin *a, uint64_t request, const struct refusal *p)
{
    const struct kg_str exhausted =
        KG_STR("{\"type\":\"urn:kipgate:out-of-memory\",\"title\":\"Out of memory\","
               "\"status\":500,\"detail\":\"Out of memory\"}\n");
    struct proxy_local_answer answer = {.status = p->status,
                                        .type = PROBLEM_TYPE,
                                        .allow = p->allow,
                                        .retry_after_ms = p->retry_after_ms,
                                        .last = true};
    struct kg_buf b;

    kg_buf_init(&b, KG_MAX_CONFIG_BYTES);
    put_problem(&b, request, p);
    answer.body = kg_buf_str(&b);
    if (b.error)
        answer = (struct proxy_local_answer){
            .status = 500, .type = PROBLEM_TYPE, .body = exhausted, .last = true};
    a->params.reply(a->params.self, request, &answer);
    kg_buf_fini(&b);
}

void admin_problem(struct admin *a, uint64_t request, int status, const char *name,
                   const char *title, const char *detail)
{
    const struct refusal p = {.status = status, .name = name, .title = title, .detail = detail};

    tell(a, request, &p);
}

void admin_refuse(struct admin *a, uint64_t request, unsigned reason, int64_t retry_after_ms,
                  const char *detail)
{
    const struct proxy_reason_row *row = orch_reason_row(reason);
    const struct refusal p = {.status = row->status,
                              .name = row->name,
                              .title = row->title,
                              .detail = detail,
                              .retry_after_ms = retry_after_ms};

    tell(a, request, &p);
}

void admin_not_allowed(struct admin *a, uint64_t request, const char *allowed)
{
    char detail[64];
    const struct refusal p = {.status = 405,
                              .name = "method-not-allowed",
                              .title = "The method is not allowed here",
                              .detail = detail,
                              .allow = allowed};

    snprintf(detail, sizeof detail, "allowed: %s", allowed);
    tell(a, request, &p);
}

static bool is(struct kg_str s, const char *word)
{
    return kg_str_eq(s, kg_str_of(word));
}

/* --- health -------------------------------------------------------------------------------- */

static void get_healthz(struct admin *a, const struct admin_request *r, int64_t now_ms)
{
    (void)now_ms;
    admin_answer_text(a, r->id, 200, JSON_TYPE, KG_STR("{\"status\":\"ok\"}\n"));
}

static void get_readyz(struct admin *a, const struct admin_request *r, int64_t now_ms)
{
    (void)now_ms;
    if (a->params.draining(a->params.self))
        admin_problem(a, r->id, 503, "draining", "Kipgate is going down", "");
    else if (!engine_is_up(a->params.engine))
        admin_problem(a, r->id, 503, "engine-unavailable", "The engine does not answer",
                      engine_down_why(a->params.engine));
    else if (!a->params.listening(a->params.self))
        admin_problem(a, r->id, 503, "not-listening", "Not all fronts are up", "");
    else
        admin_answer_text(a, r->id, 200, JSON_TYPE, KG_STR("{\"status\":\"ready\"}\n"));
}

static void get_metrics(struct admin *a, const struct admin_request *r, int64_t now_ms)
{
    struct kg_buf b;

    kg_buf_init(&b, 64 * 1024 * 1024);
    admin_metrics(a, &b, now_ms);
    if (b.error)
        admin_problem(a, r->id, 500, "out-of-memory", "Out of memory", "");
    else
        admin_answer_text(a, r->id, 200, "text/plain; version=0.0.4", kg_buf_str(&b));
    kg_buf_fini(&b);
}

static void post_reload(struct admin *a, const struct admin_request *r, int64_t now_ms)
{
    struct config_errors errors = {0};

    (void)now_ms;
    kg_buf_init(&errors.text, KG_MAX_CONFIG_BYTES);
    if (a->params.reload(a->params.self, &errors) == 0)
        admin_answer_text(a, r->id, 200, JSON_TYPE, KG_STR("{}\n"));
    else
        admin_problem(a, r->id, 400, "bad-configuration", "The configuration is not valid",
                      errors.text.data ? errors.text.data : "");
    config_errors_fini(&errors);
}

/* --- who waits ----------------------------------------------------------------------------- */

/* Fronts have a limit of connections, but one may have been taken over. */
struct admin_asker *admin_asker_new(struct admin *a, uint64_t request, struct kg_list *list)
{
    bool room = a->asker_count < KG_MAX_ASKERS;
    struct admin_asker *k = room ? calloc(1, sizeof *k) : NULL;

    if (!room)
        admin_problem(a, request, 503, "overloaded", "Too many wait for answers already", "");
    else if (!k)
        admin_problem(a, request, 500, "out-of-memory", "Out of memory", "");
    if (!k)
        return NULL;
    k->admin = a;
    k->request = request;
    kg_list_push_back(list, &k->link);
    a->asker_count++;
    return k;
}

void admin_asker_free(struct admin_asker *k)
{
    k->admin->asker_count--;
    kg_list_remove(&k->link);
    free(k);
}

/* --- events -------------------------------------------------------------------------------- */

/* False: it has left. */
static bool tell_follower(struct admin *a, uint64_t request, struct kg_str text)
{
    const struct proxy_local_answer piece = {
        .status = 200, .type = "text/event-stream", .body = text};

    return a->params.reply(a->params.self, request, &piece);
}

static void get_events(struct admin *a, const struct admin_request *r, int64_t now_ms)
{
    (void)now_ms;
    if (admin_asker_new(a, r->id, &a->followers))
        tell_follower(a, r->id, KG_STR(": following\n\n"));
}

static void tell_followers(struct admin *a, const char *event, struct json *data)
{
    struct kg_buf b;

    kg_buf_init(&b, 64 * 1024);
    kg_buf_printf(&b, "event: %s\ndata: ", event);
    json_print(data, false, &b);
    kg_buf_puts(&b, "\n\n");
    json_free(data);
    KG_LIST_EACH_SAFE(it, &a->followers)
    {
        struct admin_asker *f = KG_LIST_ENTRY(it, struct admin_asker, link);
        if (!b.error && !tell_follower(a, f->request, kg_buf_str(&b)))
            admin_asker_free(f);
    }
    kg_buf_fini(&b);
}

static struct json *new_event(const char *event)
{
    struct json *n = json_new_object();
    char time[25];

    kg_clock_format(kg_clock_wall_ms(), time);
    json_set_string(n, "time", time);
    json_set_string(n, "event", event);
    return n;
}

void admin_changed(struct admin *a, const struct fleet_change *change)
{
    struct json *n;

    if (kg_list_empty(&a->followers))
        return;
    n = new_event("state");
    json_set_string(n, "service", change->service);
    json_set_string(n, "instance", change->name);
    json_set_string(n, "from", change->from);
    json_set_string(n, "to", change->to);
    json_set_string(n, "why", change->why);
    json_set_number(n, "ms", (double)change->ms);
    tell_followers(a, "state", n);
}

void admin_event(struct admin *a, const char *event, const char *service, const char *detail)
{
    struct json *n;

    if (kg_list_empty(&a->followers))
        return;
    n = new_event(event);
    if (service)
        json_set_string(n, "service", service);
    json_set_string(n, "detail", detail ? detail : "");
    tell_followers(a, event, n);
}

/* A number that was given to another service begins anew. */
static struct admin_service_counts *counts_of(struct admin *a, uint32_t service)
{
    const struct config_service *s = fleet_service(a->params.fleet, service);
    struct admin_service_counts *c;

    KG_ASSERT(service < KG_MAX_SERVICES);
    c = &a->counts[service];
    if (s && strcmp(s->name, c->name) != 0) {
        struct proxy_service_stats *before = c->name[0] ? admin_counted(a, service) : NULL;
        free(c->before);
        *c = (struct admin_service_counts){.before = before};
        kg_str_copy(c->name, sizeof c->name, kg_str_of(s->name));
    }
    return c;
}

void admin_configured(struct admin *a)
{
    const struct config *c = a->params.config(a->params.self);

    for (size_t i = 0; i < c->service_count; i++) {
        int id = fleet_service_id(a->params.fleet, c->services[i]->name);
        if (id >= 0)
            counts_of(a, (uint32_t)id);
    }
}

void admin_cold_start(struct admin *a, uint32_t service, bool success, const char *result,
                      const int64_t phase_ms[FLEET_PHASES])
{
    static const char *const members[FLEET_PHASES] = {"pull_ms", "create_ms", "start_ms",
                                                      "ready_ms", "total_ms"};
    struct admin_service_counts *c = counts_of(a, service);
    struct json *n;

    admin_tally_add(c->results, ADMIN_MAX_RESULTS, result);
    for (int i = 0; i < FLEET_PHASES; i++)
        if (phase_ms[i] >= 0)
            kg_histogram_add_us(&c->phases[i], phase_ms[i] * 1000);
    if (kg_list_empty(&a->followers))
        return;
    n = new_event("cold-start");
    json_set_string(n, "service", c->name);
    json_set_bool(n, "success", success);
    json_set_string(n, "result", result);
    for (int i = 0; i < FLEET_PHASES; i++)
        if (phase_ms[i] >= 0)
            json_set_number(n, members[i], (double)phase_ms[i]);
    tell_followers(a, "cold-start", n);
}

void admin_reaped(struct admin *a, uint32_t service, const char *action)
{
    struct admin_service_counts *c = counts_of(a, service);

    admin_tally_add(c->actions, ADMIN_MAX_ACTIONS, action);
    admin_event(a, "reap", c->name, action);
}

void admin_resumed(struct admin *a, uint32_t service)
{
    counts_of(a, service)->resumes++;
}

/* --- entrance ------------------------------------------------------------------------------ */

void admin_request(struct admin *a, const struct admin_request *r, int64_t now_ms)
{
    static const struct {
        const char *path, *method, *allowed;
        void (*handle)(struct admin *a, const struct admin_request *r, int64_t now_ms);
    } routes[] = {
        {"/healthz", "GET", "GET, HEAD", get_healthz}, {"/readyz", "GET", "GET, HEAD", get_readyz},
        {"/metrics", "GET", "GET, HEAD", get_metrics}, {"/v1/events", "GET", "GET", get_events},
        {"/v1/reload", "POST", "POST", post_reload},
    };

    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!is(r->path, routes[i].path))
            continue;
        if (is(r->method, routes[i].method) ||
            (is(r->method, "HEAD") && strstr(routes[i].allowed, "HEAD")))
            routes[i].handle(a, r, now_ms);
        else
            admin_not_allowed(a, r->id, routes[i].allowed);
        return;
    }
    if (!admin_services(a, r, now_ms))
        admin_problem(a, r->id, 404, "not-found", "There is no such resource", "");
}

static void drop(struct kg_list *list, uint64_t request, struct fleet *fleet)
{
    KG_LIST_EACH_SAFE(it, list)
    {
        struct admin_asker *f = KG_LIST_ENTRY(it, struct admin_asker, link);
        if (request != 0 && f->request != request)
            continue;
        fleet_forget_caller(fleet, f);
        admin_asker_free(f);
    }
}

void admin_gone(struct admin *a, uint64_t request)
{
    drop(&a->askers, request, a->params.fleet);
    drop(&a->followers, request, a->params.fleet);
}

struct admin *admin_new(const struct admin_params *params)
{
    struct admin *a = calloc(1, sizeof *a);

    if (!a || !(a->counts = calloc(KG_MAX_SERVICES, sizeof *a->counts))) {
        free(a);
        return NULL;
    }
    a->params = *params;
    kg_list_init(&a->askers);
    kg_list_init(&a->followers);
    return a;
}

void admin_free(struct admin *a)
{
    drop(&a->askers, 0, a->params.fleet);
    drop(&a->followers, 0, a->params.fleet);
    for (size_t i = 0; i < KG_MAX_SERVICES; i++)
        free(a->counts[i].before);
    free(a->counts);
    free(a);
}
