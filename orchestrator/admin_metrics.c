/* SPDX-License-Identifier: Apache-2.0 */
/* Prometheus text. The difficulty: fronts write their pages while they are read, so sums may be a
 * moment old, but never go back: counters of a front that died stay in its page. */
#include "orchestrator/admin_priv.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_VIEWS 64
#define NAME(metric) "kipgate_" metric

/* Calls `each` for every configured service with its id. */
static void each_service(struct admin *a, struct kg_buf *out,
                         void (*each)(struct admin *a, struct kg_buf *out, const char *name,
                                      uint32_t id))
{
    const struct config *c = a->params.config(a->params.self);

    for (size_t i = 0; i < c->service_count; i++) {
        int id = fleet_service_id(a->params.fleet, c->services[i]->name);
        if (id >= 0)
            each(a, out, c->services[i]->name, (uint32_t)id);
    }
}

static const struct proxy_stats *page(const struct admin *a, size_t front)
{
    return a->params.stats(a->params.self, front);
}

uint64_t admin_exchanges(const struct admin *a, uint32_t service)
{
    const struct proxy_stats *p;
    uint64_t sum = 0;

    for (size_t i = 0; (p = page(a, i)) != NULL; i++)
        sum += p->services[service].exchanges;
    return sum;
}

static void put(struct kg_buf *out, const char *metric, uint64_t value, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void put(struct kg_buf *out, const char *metric, uint64_t value, const char *format, ...)
{
    char labels[256];
    va_list args;

    va_start(args, format);
    vsnprintf(labels, sizeof labels, format, args);
    va_end(args);
    kg_metrics_u64(out, metric, labels, value);
}

static void put_requests(struct admin *a, struct kg_buf *out, const char *name, uint32_t id)
{
    const struct proxy_stats *p;

    for (unsigned code = 0; code < PROXY_STATUS_COUNT; code++) {
        uint64_t sum = 0;
        for (size_t i = 0; (p = page(a, i)) != NULL; i++)
            sum += p->services[id].requests[code];
        if (sum > 0)
            put(out, NAME("requests_total"), sum, "service=\"%s\",code=\"%u\"", name,
                code + PROXY_STATUS_MIN);
    }
}

static void put_duration(struct admin *a, struct kg_buf *out, const char *name, uint32_t id)
{
    struct kg_histogram sum = {0};
    const struct proxy_stats *p;
    char labels[128];

    for (size_t i = 0; (p = page(a, i)) != NULL; i++)
        kg_histogram_merge(&sum, &p->services[id].duration);
    snprintf(labels, sizeof labels, "service=\"%s\"", name);
    kg_metrics_histogram(out, NAME("request_duration_seconds"), labels, &sum);
}

static void put_cold(struct admin *a, struct kg_buf *out, const char *name, uint32_t id)
{
    put(out, NAME("cold_starts_total"), a->counts[id].cold_success,
        "service=\"%s\",result=\"success\"", name);
    put(out, NAME("cold_starts_total"), a->counts[id].cold_failure,
        "service=\"%s\",result=\"failure\"", name);
}

static void put_phases(struct admin *a, struct kg_buf *out, const char *name, uint32_t id)
{
    static const char *const phases[FLEET_PHASES] = {"pull", "create", "start", "ready", "total"};
    char labels[160];

    for (int i = 0; i < FLEET_PHASES; i++) {
        snprintf(labels, sizeof labels, "service=\"%s\",phase=\"%s\"", name, phases[i]);
        kg_metrics_histogram(out, NAME("cold_start_seconds"), labels, &a->counts[id].phases[i]);
    }
}

static void put_instances(struct admin *a, struct kg_buf *out, const char *name, uint32_t id)
{
    struct fleet_view views[MAX_VIEWS];
    size_t n = fleet_view(a->params.fleet, id, views, MAX_VIEWS, 0);

    n = n < MAX_VIEWS ? n : MAX_VIEWS;
    for (size_t i = 0; i < n; i++) {
        uint64_t same = 0;
        size_t first = 0;
        while (strcmp(views[first].state, views[i].state) != 0)
            first++;
        for (size_t k = i; k < n; k++)
            same += strcmp(views[k].state, views[i].state) == 0;
        if (first == i)
            put(out, NAME("instances"), same, "service=\"%s\",state=\"%s\"", name, views[i].state);
    }
    if (n == 0)
        put(out, NAME("instances"), 0, "service=\"%s\",state=\"ready\"", name);
}

static void put_exchanges(struct admin *a, struct kg_buf *out, const char *name, uint32_t id)
{
    put(out, NAME("exchanges"), admin_exchanges(a, id), "service=\"%s\"", name);
}

static void put_waiting(struct admin *a, struct kg_buf *out, const char *name, uint32_t id)
{
    put(out, NAME("waiting"), fleet_waiting(a->params.fleet, id), "service=\"%s\"", name);
}

static void put_refused(struct admin *a, struct kg_buf *out, const char *name, uint32_t id)
{
    const struct proxy_stats *p;

    for (unsigned reason = 1; reason < PROXY_REASON_MAX; reason++) {
        const struct proxy_reason_row *row = orch_reason_row(reason);
        uint64_t sum = 0;
        for (size_t i = 0; row && (p = page(a, i)) != NULL; i++)
            sum += p->services[id].refused[reason];
        if (sum > 0)
            put(out, NAME("refused_total"), sum, "service=\"%s\",reason=\"%s\"", name, row->name);
    }
}

/* Refusals before a service was known have an empty one. */
static void put_refused_early(struct admin *a, struct kg_buf *out)
{
    const struct proxy_stats *p;

    for (unsigned reason = 1; reason < PROXY_REASON_MAX; reason++) {
        const struct proxy_reason_row *row = orch_reason_row(reason);
        uint64_t sum = 0;
        for (size_t i = 0; row && (p = page(a, i)) != NULL; i++)
            sum += p->refused[reason];
        if (sum > 0)
            put(out, NAME("refused_total"), sum, "service=\"\",reason=\"%s\"", row->name);
    }
}

static void put_reaped(struct admin *a, struct kg_buf *out, const char *name, uint32_t id)
{
    put(out, NAME("reaped_total"), a->counts[id].reaped, "service=\"%s\",action=\"remove\"", name);
}

static void put_engine(struct admin *a, struct kg_buf *out)
{
    const struct kg_histogram *h;
    const char *op;
    char labels[64];

    kg_metrics_help(out, NAME("engine_up"), "gauge", "1 while the engine answers.");
    kg_metrics_u64(out, NAME("engine_up"), "", engine_is_up(a->params.engine));
    kg_metrics_help(out, NAME("engine_call_seconds"), "histogram", "Time of engine calls.");
    for (size_t i = 0; (h = engine_call_times(a->params.engine, i, &op)) != NULL; i++) {
        snprintf(labels, sizeof labels, "op=\"%s\"", op);
        kg_metrics_histogram(out, NAME("engine_call_seconds"), labels, h);
    }
}

void admin_metrics(struct admin *a, struct kg_buf *out, int64_t now_ms)
{
    static const struct {
        const char *name, *type, *help;
        void (*each)(struct admin *a, struct kg_buf *out, const char *name, uint32_t id);
    } families[] = {
        {NAME("requests_total"), "counter", "Answers by status code.", put_requests},
        {NAME("request_duration_seconds"), "histogram", "From head to end.", put_duration},
        {NAME("cold_starts_total"), "counter", "Provisionings by result.", put_cold},
        {NAME("cold_start_seconds"), "histogram", "Provisionings by phase.", put_phases},
        {NAME("instances"), "gauge", "Instances by state.", put_instances},
        {NAME("exchanges"), "gauge", "Exchanges under way.", put_exchanges},
        {NAME("waiting"), "gauge", "Requests that wait for an instance.", put_waiting},
        {NAME("refused_total"), "counter", "Answers of Kipgate's own by reason.", put_refused},
        {NAME("reaped_total"), "counter", "Instances ended for idleness.", put_reaped},
    };

    (void)now_ms;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        kg_metrics_help(out, families[i].name, families[i].type, families[i].help);
        each_service(a, out, families[i].each);
        if (families[i].each == put_refused)
            put_refused_early(a, out);
    }
    put_engine(a, out);
    kg_metrics_help(out, NAME("build_info"), "gauge", "The version that runs.");
    kg_metrics_u64(out, NAME("build_info"), "version=\"" KIPGATE_VERSION "\"", 1);
}
