/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits for an instance, and what their waiting sets off. The difficulty: each ticket gets one
 * answer, and waiting is only ever allowed in a state that ends. */
#include "orchestrator/fleet_priv.h"
#include <stdio.h>
#include <stdlib.h>

/* --- waiters --- */

void fleet_waiter_end(struct fleet_waiter *w)
{
    struct fleet_service *s = w->service;
    struct fleet *f = w->fleet;
    struct fleet_front *front = &f->fronts[w->front];

    KG_ASSERT(s->waiting > 0 && s->waiting_from[w->front] > 0 && front->waiting > 0);
    kg_list_remove(&w->in_service);
    kg_list_remove(&w->in_front);
    kg_map_remove(&front->tickets, KG_U64_KEY(w->ticket));
    s->waiting--;
    s->waiting_quietly -= w->quiet;
    s->waiting_from[w->front]--;
    front->waiting--;
    if (s->waiting == 0)
        s->unserved_ms = KG_NEVER;
    if (s->waiting == 0 && s->need_count > 0)
        fleet_attend(f, s); /* what it needs may be needed no more */
    free(w);
}

static bool waiter_new(struct fleet *f, struct fleet_service *s, int front, uint64_t ticket,
                       bool quiet)
{
    struct fleet_waiter *w = calloc(1, sizeof *w);

    if (!w || kg_map_set(&f->fronts[front].tickets, KG_U64_KEY(ticket), w) != 0) {
        free(w);
        return false;
    }
    w->fleet = f;
    w->service = s;
    w->front = front;
    w->ticket = ticket;
    w->quiet = quiet;
    w->since_ms = f->now_ms;
    kg_list_push_back(&s->waiters, &w->in_service);
    kg_list_push_back(&f->fronts[front].waiters, &w->in_front);
    s->waiting++;
    s->waiting_quietly += quiet;
    s->waiting_from[front]++;
    f->fronts[front].waiting++;
    return true;
}

/* --- refusals --- */

static void refuse(struct fleet *f, int front, uint64_t ticket, unsigned reason,
                   int64_t retry_after_ms, const char *detail)
{
    f->door.refuse(f->door.self, front, ticket, reason, retry_after_ms, detail);
}

void fleet_refuse_since(struct fleet_service *s, int64_t since_ms, unsigned reason,
                        int64_t retry_after_ms, const char *detail)
{
    struct kg_list *first;

    while ((first = kg_list_first(&s->waiters)) != NULL) {
        struct fleet_waiter *w = KG_LIST_ENTRY(first, struct fleet_waiter, in_service);
        struct fleet *f = w->fleet;
        int front = w->front;
        uint64_t ticket = w->ticket;
        if (w->since_ms > since_ms)
            return; /* and so did all behind it */
        fleet_waiter_end(w);
        refuse(f, front, ticket, reason, retry_after_ms, detail);
    }
}

void fleet_refuse_waiting(struct fleet_service *s, unsigned reason, int64_t retry_after_ms,
                          const char *detail)
{
    fleet_refuse_since(s, KG_NEVER, reason, retry_after_ms, detail);
}

int64_t fleet_backoff_left(const struct fleet *f, const struct fleet_service *s)
{
    return s->backoff_until_ms > f->now_ms ? s->backoff_until_ms - f->now_ms : 0;
}

/* Whether so many are more than may wait, the latest of them at this front. */
static bool is_full(const struct fleet_service *s, int front, size_t waiting, size_t cap)
{
    return waiting > cap && waiting > cap + fleet_slots_elsewhere(s, front);
}

int64_t fleet_engine_away_ms(const struct fleet *f)
{
    return f->engine_up ? KG_NEVER : f->engine_down_ms + FLEET_ENGINE_GRACE_MS + 1;
}

static bool engine_is_away(const struct fleet *f)
{
    return fleet_engine_away_ms(f) <= f->now_ms;
}

bool fleet_may_be_awake(const struct fleet *f, const struct fleet_service *s)
{
    bool unknown = (!f->listed || s->strays > 0) && !engine_is_away(f);

    if (f->stopping)
        return false;
    KG_LIST_EACH(it, &s->instances)
    {
        const struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        unknown |= i->state == INSTANCE_PROBING && !i->provisioned;
    }
    return unknown;
}

/* Why a request may not wait; 0: it may. */
static unsigned why_not(const struct fleet *f, const struct fleet_service *s, int front, bool quiet)
{
    struct fleet_census c = fleet_count(s);
    bool none = c.starting + c.serving == 0;

    if (quiet && c.serving == 0 && !fleet_may_be_awake(f, s))
        return ORCH_ASLEEP;
    if (f->stopping && (none || f->removing))
        return PROXY_DRAINING;
    if (none && c.paused == 0 && fleet_backoff_left(f, s) > 0)
        return ORCH_BACKING_OFF;
    if (is_full(s, front, s->waiting + 1, (size_t)s->config->queue))
        return ORCH_QUEUE_FULL;
    if (f->fronts[front].waiting >= KG_MAX_WAITING_PER_FRONT)
        return PROXY_OVERLOADED;
    return none && engine_is_away(f) ? ORCH_ENGINE_UNAVAILABLE : 0;
}

static void refuse_arrival(struct fleet *f, const struct fleet_service *s, int front,
                           uint64_t ticket, unsigned reason)
{
    char detail[FLEET_DETAIL_BYTES];
    int64_t retry_ms = 0;

    if (reason == ORCH_BACKING_OFF) {
        retry_ms = fleet_backoff_left(f, s);
        snprintf(detail, sizeof detail, "service %s failed recently: %.160s", s->name, s->cause);
    } else if (reason == ORCH_QUEUE_FULL) {
        snprintf(detail, sizeof detail, "service %s: %zu requests wait already", s->name,
                 s->waiting);
    } else if (reason == ORCH_ENGINE_UNAVAILABLE) {
        retry_ms = FLEET_ENGINE_RETRY_MS;
        snprintf(detail, sizeof detail, "service %s: the engine does not answer", s->name);
    } else {
        snprintf(detail, sizeof detail, "service %s: %s", s->name,
                 reason == ORCH_ASLEEP      ? "no instance is ready"
                 : reason == PROXY_DRAINING ? "Kipgate is going down"
                                            : "too many requests wait");
    }
    refuse(f, front, ticket, reason, retry_ms, detail);
}

/* It waited, and does so no more. */
static void turn_away(struct fleet_waiter *w, unsigned reason)
{
    struct fleet *f = w->fleet;
    struct fleet_service *s = w->service;
    int front = w->front;
    uint64_t ticket = w->ticket;

    fleet_waiter_end(w);
    refuse_arrival(f, s, front, ticket, reason);
}

static void refuse_quiet(const struct fleet_service *s)
{
    KG_LIST_EACH_SAFE(it, &s->waiters)
    {
        struct fleet_waiter *w = KG_LIST_ENTRY(it, struct fleet_waiter, in_service);
        if (w->quiet)
            turn_away(w, ORCH_ASLEEP);
    }
}

void fleet_refuse_surplus(const struct fleet *f, struct fleet_service *s)
{
    size_t cap = (size_t)s->config->queue;

    if (s->waiting_quietly > 0 && fleet_count(s).serving == 0 && !fleet_may_be_awake(f, s))
        refuse_quiet(s);
    if (s->waiting_cap > s->waiting)
        s->waiting_cap = s->waiting;
    if (cap < s->waiting_cap)
        cap = s->waiting_cap;
    while (s->waiting > 0) { /* the latest first */
        struct fleet_waiter *w = KG_LIST_ENTRY(s->waiters.prev, struct fleet_waiter, in_service);
        if (!is_full(s, w->front, s->waiting, cap))
            return;
        turn_away(w, ORCH_QUEUE_FULL);
    }
}

/* --- from fronts --- */

static void wait_for_it(struct fleet *f, struct fleet_service *s, int front, uint64_t ticket,
                        bool quiet)
{
    if (!waiter_new(f, s, front, ticket, quiet)) {
        refuse(f, front, ticket, PROXY_OVERLOADED, 0, "out of memory");
        return;
    }
    s->asleep &= quiet;
    fleet_attend(f, s);
}

static void acquire(struct fleet *f, int front, uint64_t ticket, uint32_t id, bool quiet)
{
    struct fleet_service *s = id < f->service_count ? f->services[id] : NULL;
    struct fleet_instance *i;
    unsigned reason;

    if (!s || !s->config) {
        refuse(f, front, ticket, PROXY_NO_ROUTE, 0, "there is no such service");
        return;
    }
    i = s->waiting == 0 ? fleet_free_slot(s) : NULL;
    reason = i ? 0 : why_not(f, s, front, quiet);
    if (i && !quiet)
        fleet_use_begins(f, s);
    if (i)
        fleet_grant(i, front, ticket, PROXY_WARM, false);
    else if (reason)
        refuse_arrival(f, s, front, ticket, reason);
    else
        wait_for_it(f, s, front, ticket, quiet);
}

/* A ticket that waits already, or comes from a front that is not up, is a lie and goes unheard. */
void fleet_acquire(struct fleet *f, int front, uint64_t ticket, uint32_t service, bool quiet,
                   int64_t now_ms)
{
    KG_ASSERT(front >= 0 && front < KG_MAX_FRONTS);
    fleet_enter(f, now_ms);
    if (f->fronts[front].up && !kg_map_get(&f->fronts[front].tickets, KG_U64_KEY(ticket)))
        acquire(f, front, ticket, service, quiet);
    fleet_leave(f);
}

void fleet_withdraw(struct fleet *f, int front, uint64_t ticket, int64_t now_ms)
{
    struct fleet_waiter *w;

    KG_ASSERT(front >= 0 && front < KG_MAX_FRONTS);
    fleet_enter(f, now_ms);
    w = kg_map_get(&f->fronts[front].tickets, KG_U64_KEY(ticket));
    if (w)
        fleet_waiter_end(w);
    fleet_leave(f);
}

/* --- fronts come and go --- */

static void front_void(struct fleet *f, int front)
{
    struct kg_list *first;

    while ((first = kg_list_first(&f->fronts[front].waiters)) != NULL)
        fleet_waiter_end(KG_LIST_ENTRY(first, struct fleet_waiter, in_front));
    KG_LIST_EACH_SAFE(it, &f->instances)
    fleet_lease_void(KG_LIST_ENTRY(it, struct fleet_instance, in_fleet), front);
}

void fleet_front_down(struct fleet *f, int front, int64_t now_ms)
{
    KG_ASSERT(front >= 0 && front < KG_MAX_FRONTS);
    fleet_enter(f, now_ms);
    if (f->fronts[front].up) {
        f->fronts[front].up = false;
        f->fronts_up--;
        fleet_claims_forget(f, front);
        front_void(f, front);
    }
    fleet_leave(f);
}

void fleet_front_up(struct fleet *f, int front, int64_t now_ms)
{
    KG_ASSERT(front >= 0 && front < KG_MAX_FRONTS);
    fleet_front_down(f, front, now_ms); /* a new process has no part in what the old one held */
    fleet_enter(f, now_ms);
    f->fronts[front].up = true;
    f->fronts_up++;
    if (front >= f->front_limit)
        f->front_limit = front + 1;
    KG_LIST_EACH_SAFE(it, &f->instances)
    fleet_probe(KG_LIST_ENTRY(it, struct fleet_instance, in_fleet));
    fleet_leave(f);
}
