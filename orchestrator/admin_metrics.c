/* SPDX-License-Identifier: Apache-2.0 */
/* Prometheus text. The difficulty: fronts write their pages while they are read, so sums may be a
 * moment old, but never go back: counters of a front that died stay in its page. */
#include "orchestrator/admin_priv.h"
#include "orchestrator/certificates.h"
#include "orchestrator/parking.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

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

/* Another process writes it meanwhile. */
static uint64_t load(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

struct proxy_service_stats *admin_counted(const struct admin *a, uint32_t service)
{
    struct proxy_service_stats *sum = calloc(1, sizeof *sum);
    const struct proxy_stats *p;

    for (size_t i = 0; sum && (p = page(a, i)) != NULL; i++) {
        const struct proxy_service_stats *s = &p->services[service];
        for (size_t n = 0; n < PROXY_STATUS_COUNT; n++)
            sum->requests[n] += load(&s->requests[n]);
        for (size_t n = 0; n < PROXY_REASON_MAX; n++)
            sum->refused[n] += load(&s->refused[n]);
        kg_histogram_merge(&sum->duration, &s->duration);
    }
    return sum;
}

/* By all fronts, since the id is this service's. `at`: the counter's place. */
static uint64_t counted(const struct admin *a, uint32_t id, size_t at)
{
    const char *before = (const char *)a->counts[id].before;
    const struct proxy_stats *p;
    uint64_t sum = 0;

    for (size_t i = 0; (p = page(a, i)) != NULL; i++)
        sum += load((const uint64_t *)(const void *)((const char *)&p->services[id] + at));
    return before ? sum - *(const uint64_t *)(const void *)(before + at) : sum;
}

uint64_t admin_exchanges(const struct admin *a, uint32_t service)
{
    const struct proxy_stats *p;
    uint64_t sum = 0;

    for (size_t i = 0; (p = page(a, i)) != NULL; i++)
        sum += load(&p->services[service].exchanges);
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
    const size_t at = offsetof(struct proxy_service_stats, requests);

    for (unsigned code = 0; code < PROXY_STATUS_COUNT; code++) {
        uint64_t sum = counted(a, id, at + code * sizeof sum);
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
    if (a->counts[id].before)
        kg_histogram_less(&sum, &a->counts[id].before->duration);
    snprintf(labels, sizeof labels, "service=\"%s\"", name);
    kg_metrics_histogram(out, NAME("request_duration_seconds"), labels, &sum);
}

/* The names of a service are labels as they are: no byte of them needs escaping. `first` is there
 * from the start, so that a rate can be told from its first change. */
static void put_tallies(struct kg_buf *out, const char *metric, const char *name, const char *label,
                        const char *first, const struct admin_tally *t, size_t cap)
{
    bool told = false;

    for (size_t i = 0; i < cap && t[i].word[0]; i++) {
        put(out, metric, t[i].count, "service=\"%s\",%s=\"%s\"", name, label, t[i].word);
        told |= strcmp(t[i].word, first) == 0;
    }
    if (!told)
        put(out, metric, 0, "service=\"%s\",%s=\"%s\"", name, label, first);
}

void admin_tally_add(struct admin_tally *tallies, size_t cap, const char *word)
{
    size_t i = 0;

    while (i + 1 < cap && tallies[i].word[0] && strcmp(tallies[i].word, word) != 0)
        i++;
    if (i + 1 == cap)
        word = "other";
    kg_str_copy(tallies[i].word, sizeof tallies[i].word, kg_str_of(word));
    tallies[i].count++;
}

/* What happened to a service of this name: NULL when nothing did yet. */
static const struct admin_service_counts *counts(const struct admin *a, const char *name,
                                                 uint32_t id)
{
    return strcmp(a->counts[id].name, name) == 0 ? &a->counts[id] : NULL;
}

static void put_cold(struct admin *a, struct kg_buf *out, const char *name, uint32_t id)
{
    const struct admin_service_counts *c = counts(a, name, id);

    put_tallies(out, NAME("cold_starts_total"), name, "result", "ok", c ? c->results : NULL,
                c ? ADMIN_MAX_RESULTS : 0);
}

static void put_phases(struct admin *a, struct kg_buf *out, const char *name, uint32_t id)
{
    static const char *const phases[FLEET_PHASES] = {"pull", "create", "start", "ready", "total"};
    const struct admin_service_counts *c = counts(a, name, id);
    char labels[160];

    for (int i = 0; c && i < FLEET_PHASES; i++) {
        if (c->phases[i].count == 0)
            continue;
        snprintf(labels, sizeof labels, "service=\"%s\",phase=\"%s\"", name, phases[i]);
        kg_metrics_histogram(out, NAME("cold_start_seconds"), labels, &c->phases[i]);
    }
}

static void put_instances(struct admin *a, struct kg_buf *out, const char *name, uint32_t id)
{
    size_t counts[INSTANCE_STATE_COUNT];

    fleet_count_states(a->params.fleet, id, counts);
    for (int state = 0; state < INSTANCE_STATE_COUNT; state++)
        if (counts[state] > 0 || state == INSTANCE_READY)
            put(out, NAME("instances"), counts[state], "service=\"%s\",state=\"%s\"", name,
                instance_state_name((enum instance_state)state));
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
    const size_t at = offsetof(struct proxy_service_stats, refused);

    for (unsigned reason = 1; reason < PROXY_REASON_MAX; reason++) {
        const struct proxy_reason_row *row = orch_reason_row(reason);
        uint64_t sum = row ? counted(a, id, at + reason * sizeof sum) : 0;
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
            sum += load(&p->refused[reason]);
        if (sum > 0)
            put(out, NAME("refused_total"), sum, "service=\"\",reason=\"%s\"", row->name);
    }
}

static void put_reaped(struct admin *a, struct kg_buf *out, const char *name, uint32_t id)
{
    const struct admin_service_counts *c = counts(a, name, id);

    put_tallies(out, NAME("reaped_total"), name, "action", "remove", c ? c->actions : NULL,
                c ? ADMIN_MAX_ACTIONS : 0);
}

static void put_resumes(struct admin *a, struct kg_buf *out, const char *name, uint32_t id)
{
    const struct admin_service_counts *c = counts(a, name, id);

    put(out, NAME("resumes_total"), c ? c->resumes : 0, "service=\"%s\"", name);
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

static void put_sandboxes(struct admin *a, struct kg_buf *out)
{
    struct parking_view v;

    if (!a->params.parking)
        return;
    parking_view(a->params.parking, &v);
    kg_metrics_help(out, NAME("sandboxes"), "gauge", "Network namespaces made ahead of starts.");
    kg_metrics_u64(out, NAME("sandboxes"), "state=\"parked\"", v.parked);
    kg_metrics_u64(out, NAME("sandboxes"), "state=\"making\"", v.making);
    kg_metrics_u64(out, NAME("sandboxes"), "state=\"taken\"", v.taken);
    kg_metrics_help(out, NAME("sandboxes_off"), "gauge", "1 where they gain nothing.");
    kg_metrics_u64(out, NAME("sandboxes_off"), "", v.off);
    kg_metrics_help(out, NAME("starts_total"), "counter", "Starts, and whose network they used.");
    kg_metrics_u64(out, NAME("starts_total"), "network=\"sandbox\"", v.joined);
    kg_metrics_u64(out, NAME("starts_total"), "network=\"own\"", v.own);
}

/* Names come out of certificates: what a label cannot hold as it is stays out of it. */
static void put_expiry(struct kg_buf *out, size_t index, const struct tls_facts *f)
{
    char name[sizeof f->name];
    size_t n = 0;

    for (const char *p = f->name; *p; p++)
        if (*p > ' ' && *p < 0x7f && *p != '"' && *p != '\\')
            name[n++] = *p;
    name[n] = '\0';
    put(out, NAME("certificate_not_after_seconds"), (uint64_t)f->not_after_s,
        "certificate=\"%zu\",name=\"%.200s\"", index, name);
}

static void put_tls(struct admin *a, struct kg_buf *out)
{
    static const char *const results[] = {"full", "resumed", "failed"};
    const struct config *c = a->params.config(a->params.self);
    const struct proxy_stats *p;
    uint64_t sums[3] = {0};

    if (!c->loaded)
        return;
    for (size_t i = 0; (p = page(a, i)) != NULL; i++) {
        sums[0] += load(&p->tls_full);
        sums[1] += load(&p->tls_resumed);
        sums[2] += load(&p->tls_failed);
    }
    kg_metrics_help(out, NAME("tls_handshakes_total"), "counter", "TLS handshakes by result.");
    for (size_t i = 0; i < 3; i++)
        put(out, NAME("tls_handshakes_total"), sums[i], "result=\"%s\"", results[i]);
    kg_metrics_help(out, NAME("certificate_not_after_seconds"), "gauge",
                    "When a certificate expires, in seconds since 1970.");
    for (size_t i = 0; i < certificates_material(c->loaded)->count; i++)
        put_expiry(out, i, certificates_facts(c->loaded, i));
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
        {NAME("resumes_total"), "counter", "Paused instances that were resumed.", put_resumes},
        {NAME("instances"), "gauge", "Instances by state.", put_instances},
        {NAME("exchanges"), "gauge", "Exchanges under way.", put_exchanges},
        {NAME("waiting"), "gauge", "Requests that wait for an instance.", put_waiting},
        {NAME("refused_total"), "counter", "Answers of Kipgate's own by reason.", put_refused},
        {NAME("reaped_total"), "counter", "What idleness led to.", put_reaped},
    };

    (void)now_ms;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        kg_metrics_help(out, families[i].name, families[i].type, families[i].help);
        each_service(a, out, families[i].each);
        if (families[i].each == put_refused)
            put_refused_early(a, out);
    }
    put_engine(a, out);
    put_sandboxes(a, out);
    put_tls(a, out);
    kg_metrics_help(out, NAME("build_info"), "gauge", "The version that runs.");
    kg_metrics_u64(out, NAME("build_info"), "version=\"" KIPGATE_VERSION "\"", 1);
}
