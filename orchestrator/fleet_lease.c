/* SPDX-License-Identifier: Apache-2.0 */
/* Slots: lent to fronts, recalled, returned, and never more of them than the service allows.
 * The difficulty: messages cross, so slots are only ever added and subtracted, and a front is
 * believed only as far as what was lent to it. */
#include "orchestrator/fleet_priv.h"

static unsigned free_slots(const struct fleet_instance *i)
{
    unsigned concurrency = (unsigned)i->service->config->concurrency;

    return concurrency > i->out ? concurrency - i->out : 0;
}

struct fleet_instance *fleet_free_slot(const struct fleet_service *s)
{
    return s->current && s->current->state == INSTANCE_READY && free_slots(s->current) > 0
               ? s->current
               : NULL;
}

static void tell_clock(const struct fleet *f)
{
    if (f->observer.clock_changed)
        f->observer.clock_changed(f->observer.self);
}

/* --- lending --- */

/* More than one only while nobody else waits, and no front beyond its share of all slots. */
static unsigned grant_size(const struct fleet_instance *i, int front, bool others_wait)
{
    unsigned share = (unsigned)i->service->config->concurrency / (unsigned)i->fleet->fronts_up;
    unsigned held = i->leases[front].slots, left = free_slots(i);

    if (others_wait || share <= held + 1)
        return 1;
    return share - held < left ? share - held : left;
}

void fleet_grant(struct fleet_instance *i, int front, uint64_t ticket, enum proxy_warmth warmth,
                 bool others_wait)
{
    struct fleet *f = i->fleet;
    struct fleet_lease *l = &i->leases[front];
    int64_t linger_ms = i->service->config->idle_timeout_ms / 4;
    unsigned slots = grant_size(i, front, others_wait);

    KG_ASSERT(i->state == INSTANCE_READY && slots <= free_slots(i));
    if (i->out == 0) {
        reaper_hold(&f->reaper, &i->idle);
        tell_clock(f);
    }
    i->out += slots;
    if (i->allowed < (unsigned)i->service->config->concurrency)
        i->allowed = (unsigned)i->service->config->concurrency;
    l->slots += slots;
    l->told = true;
    f->door.grant(f->door.self, front, ticket, i->service->id, i->id, slots, warmth, &i->container,
                  linger_ms < KG_LEASE_LINGER_MS ? linger_ms : KG_LEASE_LINGER_MS);
}

void fleet_serve(struct fleet_service *s)
{
    struct fleet_instance *i;

    while (s->waiting > 0 && (i = fleet_free_slot(s)) != NULL) {
        struct fleet_waiter *w =
            KG_LIST_ENTRY(kg_list_first(&s->waiters), struct fleet_waiter, in_service);
        int front = w->front;
        uint64_t ticket = w->ticket;
        enum proxy_warmth warmth = w->cold ? PROXY_COLD : PROXY_WARM;
        fleet_waiter_end(w);
        fleet_grant(i, front, ticket, warmth, s->waiting > 0);
    }
    fleet_recall_for_waiters(s);
}

/* --- recalling --- */

static void recall(struct fleet_instance *i, int front)
{
    struct fleet_lease *l = &i->leases[front];

    if (l->slots <= l->owed)
        return; /* all of it is on its way back already */
    l->owed = l->slots;
    i->fleet->door.recall(i->fleet->door.self, front, i->id);
}

void fleet_recall_all(struct fleet_instance *i)
{
    for (int front = 0; front < i->fleet->front_limit; front++)
        recall(i, front);
}

/* A front serves its own waiters from its own slots; slots are recalled for those of others. */
void fleet_recall_for_waiters(struct fleet_service *s)
{
    struct fleet_instance *i = s->current;

    if (s->waiting == 0 || !i || i->state != INSTANCE_READY)
        return;
    for (int front = 0; front < i->fleet->front_limit; front++)
        if (s->waiting > s->waiting_from[front])
            recall(i, front);
}

/* --- taking back --- */

/* `used_ms` is the front's word: it may lie, but not into the future. */
static void take_back(struct fleet_instance *i, int front, unsigned slots, int64_t used_ms)
{
    struct fleet *f = i->fleet;
    struct fleet_lease *l = &i->leases[front];

    if (used_ms > f->now_ms)
        used_ms = f->now_ms;
    l->slots -= slots;
    l->owed -= l->owed < slots ? l->owed : slots;
    i->out -= slots;
    if (i->idle.watched && used_ms > 0)
        reaper_touch(&f->reaper, &i->idle, used_ms);
    if (i->out > 0)
        return;
    i->allowed = 0;
    if (i->idle.watched)
        reaper_unhold(&f->reaper, &i->idle, i->idle.used_ms);
    tell_clock(f);
}

/* Slots came back: those who wait get them, or a drained instance may go. */
static void after_return(struct fleet_instance *i)
{
    if (i->state == INSTANCE_READY)
        fleet_serve(i->service);
    else
        fleet_check_emptied(i);
}

void fleet_return(struct fleet *f, int front, uint64_t instance, unsigned slots, int64_t used_ms,
                  int64_t now_ms)
{
    struct fleet_instance *i;

    KG_ASSERT(front >= 0 && front < KG_MAX_FRONTS);
    fleet_enter(f, now_ms);
    i = fleet_instance_find(f, instance);
    if (i) {
        if (slots > i->leases[front].slots)
            slots = i->leases[front].slots;
        if (slots > 0) {
            take_back(i, front, slots, used_ms);
            after_return(i);
        }
    }
    fleet_leave(f);
}

/* The front is gone, and with it what ran over its slots: used until now. */
void fleet_lease_void(struct fleet_instance *i, int front)
{
    struct fleet_lease *l = &i->leases[front];
    unsigned slots = l->slots;

    if (slots > 0)
        take_back(i, front, slots, i->fleet->now_ms);
    *l = (struct fleet_lease){0};
    if (i->probe_front == front) {
        i->probe_front = -1;
        fleet_probe(i);
    }
    if (slots > 0)
        after_return(i);
}

/* No front may use it any more; what they still return is not counted. */
void fleet_void(struct fleet_instance *i)
{
    struct fleet *f = i->fleet;

    if (i->probe_front >= 0)
        f->door.probe_stop(f->door.self, i->probe_front, i->id);
    i->probe_front = -1;
    for (int front = 0; front < f->front_limit; front++) {
        if (i->leases[front].told)
            f->door.gone(f->door.self, front, i->id);
        i->leases[front] = (struct fleet_lease){0};
    }
    i->out = i->allowed = 0;
}

/* --- probes --- */

/* Best from a front where requests wait: its connection carries the first of them. */
void fleet_probe(struct fleet_instance *i)
{
    struct fleet *f = i->fleet;
    const struct fleet_service *s = i->service;
    int chosen = -1;

    if (i->state != INSTANCE_PROBING || i->probe_front >= 0)
        return;
    for (int front = 0; front < f->front_limit; front++)
        if (f->fronts[front].up && (chosen < 0 || s->waiting_from[front] > s->waiting_from[chosen]))
            chosen = front;
    if (chosen < 0)
        return; /* the next front that comes up is asked */
    i->probe_front = chosen;
    i->answered = false;
    i->leases[chosen].told = true;
    f->door.probe(f->door.self, chosen, i->id, s->config, &i->container);
}

void fleet_probed(struct fleet *f, int front, uint64_t instance, int64_t now_ms)
{
    struct fleet_instance *i;

    KG_ASSERT(front >= 0 && front < KG_MAX_FRONTS);
    fleet_enter(f, now_ms);
    i = fleet_instance_find(f, instance);
    if (i && i->state == INSTANCE_PROBING && i->probe_front == front) {
        if (i->died)
            i->answered = true; /* who answered there may be somebody else by now */
        else
            fleet_step(i, INSTANCE_ON_PROBED, NULL);
    }
    fleet_leave(f);
}
