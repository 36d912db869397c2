/* SPDX-License-Identifier: Apache-2.0 */
/* Services: which there are, under which number, and what a new configuration changes for them.
 * The difficulty: a change is all or nothing, so all memory is had before anything is touched. */
#include "orchestrator/fleet_priv.h"
#include <stdio.h>
#include <stdlib.h>

/* --- numbers --- */

static bool is_unused(const struct fleet_service *s)
{
    return !s->config && !s->named && kg_list_empty(&s->instances) && s->waiting == 0 &&
           kg_list_empty(&s->callers) && kg_list_empty(&s->attention);
}

/* A front may still ask by a number that is gone: the longest gone is given again, and only when
 * all are used up. */
static struct fleet_service *recycle(struct fleet *f)
{
    struct fleet_service *oldest = NULL;

    for (uint32_t id = 0; id < f->service_count; id++) {
        struct fleet_service *s = f->services[id];
        if (is_unused(s) && (!oldest || s->gone_ms < oldest->gone_ms))
            oldest = s;
    }
    if (oldest)
        kg_map_remove(&f->service_names, kg_str_of(oldest->name));
    return oldest;
}

/* Without memory it has the name of a number that is not used: none that the map could give, or
 * that could be another's later. */
static int name_service(struct fleet *f, struct fleet_service *s, const char *name)
{
    uint32_t id = s->id;
    int rc;

    fleet_service_init(s);
    s->id = id;
    snprintf(s->name, sizeof s->name, "%s", name);
    s->gone_ms = f->now_ms;
    rc = kg_map_set(&f->service_names, kg_str_of(s->name), s);
    if (rc != 0)
        snprintf(s->name, sizeof s->name, "/");
    return rc;
}

static int service_new(struct fleet *f, const char *name)
{
    struct fleet_service *s;

    if (f->service_count == KG_MAX_SERVICES) {
        s = recycle(f);
        return s ? name_service(f, s, name) : KG_ELIMIT;
    }
    s = malloc(sizeof *s);
    if (!s)
        return KG_ENOMEM;
    s->id = f->service_count;
    if (name_service(f, s, name) != 0) {
        free(s);
        return KG_ENOMEM;
    }
    f->services[f->service_count++] = s;
    return 0;
}

int fleet_reserve_service(struct fleet *f, const char *name, uint32_t id)
{
    if (id >= KG_MAX_SERVICES || id < f->service_count ||
        kg_map_get(&f->service_names, kg_str_of(name)))
        return KG_EINVAL;
    while (f->service_count < id) { /* numbers that are not used now */
        char none[2 * sizeof id + 2];
        snprintf(none, sizeof none, "/%x", f->service_count);
        if (service_new(f, none) != 0)
            return KG_ENOMEM;
    }
    return service_new(f, name);
}

void fleet_each_service(const struct fleet *f,
                        void (*each)(void *arg, const char *name, uint32_t id), void *arg)
{
    for (uint32_t id = 0; id < f->service_count; id++)
        if (f->services[id]->name[0] != '/') /* a number that is not used */
            each(arg, f->services[id]->name, id);
}

/* Containers that were found before their service was known are its own from now on. */
static void take_orphans(struct fleet *f, struct fleet_service *s)
{
    KG_LIST_EACH_SAFE(it, &f->orphans.instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (strcmp(i->label, s->name) != 0)
            continue;
        kg_list_remove(&i->in_service);
        kg_list_push_back(&s->instances, &i->in_service);
        i->service = s;
        f->orphans.strays -= i->stray;
        s->strays += i->stray;
        f->orphans.out -= i->out;
        s->out += i->out;
    }
}

/* --- changes --- */

static void drain_all(struct fleet_service *s, const char *why)
{
    KG_LIST_EACH_SAFE(it, &s->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (!i->stray)
            fleet_unwanted(i, why);
    }
}

/* A start begins anew with each change, and its time too: changes that come faster than a worker
 * starts must not keep those who wait for ever, here or at what needs this. Who came later waits
 * for the start that comes now. */
static void refuse_starved(struct fleet *f, struct fleet_service *s, const char *what,
                           uint64_t walk)
{
    int64_t since_ms = s->config ? f->now_ms - s->config->start_timeout_ms : INT64_MIN;
    struct fleet_census c = fleet_count(s);
    char detail[FLEET_DETAIL_BYTES];

    if (s->walk == walk || c.starting + c.serving > 0)
        return;
    s->walk = walk;
    snprintf(detail, sizeof detail,
             "service %s: not ready in time: %s changed before it had started", s->name, what);
    if (s->unserved_ms <= since_ms)
        fleet_refuse_since(s, since_ms, ORCH_START_TIMEOUT, 0, detail);
    for (size_t n = 0; n < s->needed_by_count; n++)
        refuse_starved(f, s->needed_by[n], "what it needs", walk);
}

/* What was in use is replaced before it is asked for; what was idle is not. */
static void respec(struct fleet *f, struct fleet_service *s)
{
    s->renews |= s->out > 0;
    s->asleep = false;
    s->failures = s->crashes = 0;
    s->backoff_until_ms = 0;
    s->cause[0] = '\0';
    drain_all(s, "its configuration changed");
    refuse_starved(f, s, "its configuration", ++f->walks);
    fleet_attend(f, s);
}

static void retime(struct fleet_service *s)
{
    KG_LIST_EACH(it, &s->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (i->state == INSTANCE_READY || i->state == INSTANCE_PAUSED)
            fleet_retime(i);
        if (i->out > (unsigned)s->config->concurrency)
            fleet_recall_all(i);
    }
}

static bool is_same_health(const struct proxy_health *a, const struct proxy_health *b)
{
    return strcmp(a->path, b->path) == 0 && a->status_min == b->status_min &&
           a->status_max == b->status_max;
}

/* A probe that is under way goes on with what is asked now. */
static void reprobe(const struct fleet *f, const struct fleet_service *s)
{
    KG_LIST_EACH(it, &s->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (i->state != INSTANCE_PROBING || i->probe_front < 0)
            continue;
        i->reprobed = true;
        f->door.probe(f->door.self, i->probe_front, i->id, s->config, &i->container);
    }
}

static void update(struct fleet *f, struct fleet_service *s, const struct config_service *config)
{
    bool same = s->config && strcmp(s->config->spec, config->spec) == 0;
    bool came_back = !s->config;
    bool asks_else = same && !is_same_health(&s->config->health, &config->health);

    s->config = config;
    s->waiting_cap = s->waiting;
    fleet_replan(f, s);
    if (same)
        retime(s);
    else if (!came_back)
        respec(f, s);
    if (asks_else)
        reprobe(f, s);
    fleet_attend(f, s); /* more slots, more instances, other needs */
}

static void drop(struct fleet *f, struct fleet_service *s)
{
    s->config = NULL;
    s->renews = s->planned = s->foreseen = false;
    s->gone_ms = f->now_ms;
    s->asleep = false;
    s->failures = s->crashes = 0;
    s->backoff_until_ms = 0;
    drain_all(s, "its service is gone");
    fleet_attend(f, s);
}

/* --- needs --- */

struct ties { /* of one service, to be */
    struct fleet_service **needs, **needed_by;
    size_t need_count, needed_by_count;
};

static struct fleet_service *named(const struct fleet *f, const char *name)
{
    return kg_map_get(&f->service_names, kg_str_of(name));
}

/* Room for both ways of every need; the second way is counted first. */
static bool ties_fill(const struct fleet *f, const struct config *c, struct ties *ties)
{
    for (size_t n = 0; n < c->service_count; n++)
        for (size_t k = 0; k < c->services[n]->needs.count; k++)
            ties[named(f, c->services[n]->needs.items[k])->id].needed_by_count++;
    for (size_t n = 0; n < c->service_count; n++) {
        struct ties *t = &ties[named(f, c->services[n]->name)->id];
        size_t count = c->services[n]->needs.count;
        t->needs = count ? calloc(count, sizeof(void *)) : NULL;
        t->needed_by = t->needed_by_count ? calloc(t->needed_by_count, sizeof(void *)) : NULL;
        if ((count && !t->needs) || (t->needed_by_count && !t->needed_by))
            return false;
        t->needed_by_count = 0;
    }
    for (size_t n = 0; n < c->service_count; n++) {
        struct fleet_service *s = named(f, c->services[n]->name);
        for (size_t k = 0; k < c->services[n]->needs.count; k++) {
            struct fleet_service *need = named(f, c->services[n]->needs.items[k]);
            ties[s->id].needs[ties[s->id].need_count++] = need;
            ties[need->id].needed_by[ties[need->id].needed_by_count++] = s;
        }
    }
    return true;
}

static void ties_swap(struct fleet *f, struct ties *ties)
{
    for (uint32_t id = 0; id < f->service_count; id++) {
        struct fleet_service *s = f->services[id];
        struct ties old = {s->needs, s->needed_by, 0, 0};
        if (s->needed > 0) /* perhaps not any more */
            fleet_needed_until_now(f, s);
        s->needs = ties[id].needs;
        s->needed_by = ties[id].needed_by;
        s->need_count = ties[id].need_count;
        s->needed_by_count = ties[id].needed_by_count;
        s->needed = 0;
        s->active = false; /* counted anew when it is settled */
        ties[id] = old;
    }
}

static void ties_free(const struct fleet *f, struct ties *ties)
{
    for (uint32_t id = 0; id < f->service_count; id++) {
        free(ties[id].needs);
        free(ties[id].needed_by);
    }
    free(ties);
}

static int tie(struct fleet *f, const struct config *c)
{
    struct ties *ties = calloc(f->service_count + 1, sizeof *ties);
    bool done = ties && ties_fill(f, c, ties);

    if (done)
        ties_swap(f, ties);
    if (ties)
        ties_free(f, ties);
    return done ? 0 : KG_ENOMEM;
}

/* Those that are known first: new ones must not be given their numbers. */
static int name_all(struct fleet *f, const struct config *c)
{
    struct fleet_service *s;

    for (uint32_t id = 0; id < f->service_count; id++)
        f->services[id]->named = false;
    for (size_t n = 0; n < c->service_count; n++)
        if ((s = named(f, c->services[n]->name)) != NULL)
            s->named = true;
    for (size_t n = 0; n < c->service_count; n++) {
        const char *name = c->services[n]->name;
        int rc = named(f, name) ? 0 : service_new(f, name);
        if (rc != 0)
            return rc; /* services made by now are not configured: as if they were not there */
        named(f, name)->named = true;
    }
    return 0;
}

int fleet_configure(struct fleet *f, const struct config *c, int64_t now_ms)
{
    int rc;

    fleet_enter(f, now_ms);
    rc = name_all(f, c);
    if (rc == 0)
        rc = kg_heap_reserve(&f->service_timers, f->service_count) == 0 ? tie(f, c) : KG_ENOMEM;
    if (rc != 0)
        return rc;
    f->paused_memory_bytes = c->paused_memory_bytes;
    for (size_t n = 0; n < c->service_count; n++) {
        struct fleet_service *s = named(f, c->services[n]->name);
        take_orphans(f, s);
        update(f, s, c->services[n]);
    }
    for (uint32_t id = 0; id < f->service_count; id++)
        if (f->services[id]->config && !f->services[id]->named)
            drop(f, f->services[id]);
    fleet_cap_changed(f);
    fleet_leave(f);
    return 0;
}

int fleet_service_id(const struct fleet *f, const char *name)
{
    const struct fleet_service *s = kg_map_get(&f->service_names, kg_str_of(name));

    return s && s->config ? (int)s->id : -1;
}

const struct config_service *fleet_service(const struct fleet *f, uint32_t id)
{
    return id < f->service_count ? f->services[id]->config : NULL;
}
