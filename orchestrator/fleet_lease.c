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

/* The oldest of those with the fewest out, so that the youngest are the first to be idle. */
struct fleet_instance *fleet_free_slot(const struct fleet_service *s)
{
    struct fleet_instance *best = NULL;

    KG_LIST_EACH(it, &s->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (instance_serves(i->state) && free_slots(i) > 0 && (!best || i->out < best->out))
            best = i;
    }
    return best;
}

void fleet_tell_clock(const struct fleet *f)
{
    if (f->observer.clock_changed)
        f->observer.clock_changed(f->observer.self);
}

/* --- lending --- */

/* More than one only while nobody else waits, and no front beyond its share of all slots. Where
 * there may be several instances what is out must be what is used, so that their number is right.
 */
static unsigned grant_size(const struct fleet_instance *i, int front, bool others_wait)
{
    unsigned share = (unsigned)i->service->config->concurrency / (unsigned)i->fleet->fronts_up;
    unsigned held = i->leases[front].slots, left = free_slots(i);

    if (others_wait || share <= held + 1 || i->service->config->max_instances > 1)
        return 1;
    return share - held < left ? share - held : left;
}

/* A spare that was ready first is used: another one that starts is then the one too many. */
static void pass_on_spare(struct fleet_instance *i)
{
    i->spare = false;
    KG_LIST_EACH(it, &i->service->instances)
    {
        struct fleet_instance *other = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (other->spare || !instance_is_provisioning(other->state))
            continue;
        other->spare = true;
        return;
    }
}

void fleet_used_by_hand(struct fleet_instance *i)
{
    reaper_touch(&i->fleet->reaper, &i->idle, i->fleet->now_ms);
    if (i->spare)
        pass_on_spare(i);
    fleet_tell_clock(i->fleet);
}

/* It was not frozen when it was to be; the next pause may be granted. */
static void pause_again(struct fleet_instance *i)
{
    i->unpausable = false;
    fleet_retime(i);
    fleet_attend(i->fleet, i->service); /* it may have been there as a spare */
}

void fleet_lend(struct fleet_instance *i, int front, unsigned slots)
{
    struct fleet *f = i->fleet;

    if (i->out == 0) {
        reaper_hold(&f->reaper, &i->idle);
        fleet_tell_clock(f);
    }
    if (i->unpausable)
        pause_again(i);
    if (i->spare)
        pass_on_spare(i);
    i->out += slots;
    i->service->out += slots;
    fleet_peak_note(i->fleet, i->service);
    if (i->allowed < i->out)
        i->allowed = i->out;
    i->leases[front].slots += slots;
    i->leases[front].told = true;
}

void fleet_grant(struct fleet_instance *i, int front, uint64_t ticket, enum proxy_warmth warmth,
                 bool others_wait)
{
    struct fleet *f = i->fleet;
    unsigned slots = grant_size(i, front, others_wait);
    bool thawed = i->leases[front].thawed;

    KG_ASSERT(instance_serves(i->state) && slots <= free_slots(i));
    fleet_lend(i, front, slots);
    if (i->allowed < (unsigned)i->service->config->concurrency)
        i->allowed = (unsigned)i->service->config->concurrency;
    i->leases[front].thawed = false;
    f->door.grant(f->door.self, front, ticket, i->service->id, i->id, slots, warmth, thawed,
                  &i->container, fleet_linger_ms(i->service));
}

void fleet_thaw(struct fleet_instance *i)
{
    for (int front = 0; front < i->fleet->front_limit; front++)
        i->leases[front].thawed = i->leases[front].told;
}

static void recall_for_waiters(struct fleet_service *s);

/* Who waited since before it served waited for it; others only for a slot. */
static enum proxy_warmth warmth_of(const struct fleet_instance *i, const struct fleet_waiter *w)
{
    return i->ready_ms >= w->since_ms ? i->warmth : PROXY_WARM;
}

void fleet_serve(struct fleet_service *s)
{
    struct fleet_instance *i;

    while (s->waiting > 0 && (i = fleet_free_slot(s)) != NULL) {
        struct fleet_waiter *w =
            KG_LIST_ENTRY(kg_list_first(&s->waiters), struct fleet_waiter, in_service);
        int front = w->front;
        uint64_t ticket = w->ticket;
        enum proxy_warmth warmth = warmth_of(i, w);
        if (!w->quiet)
            fleet_use_begins(i->fleet, s);
        fleet_waiter_end(w);
        fleet_grant(i, front, ticket, warmth, s->waiting > 0);
    }
    recall_for_waiters(s);
}

/* --- recalling --- */

/* One that has not answered in time has none. */
static bool may_have_free(const struct fleet *f, const struct fleet_lease *l)
{
    return l->asked_ms == 0 || l->asked_ms + FLEET_RECALL_MS > f->now_ms;
}

static void recall(struct fleet_instance *i, int front)
{
    struct fleet_lease *l = &i->leases[front];

    if (l->slots <= l->owed)
        return; /* all of it is on its way back already */
    l->owed = l->slots;
    if (!may_have_free(i->fleet, l))
        l->asked = 0; /* those before are not waited for any more */
    l->asked++;
    l->asked_ms = i->fleet->now_ms;
    i->fleet->door.recall(i->fleet->door.self, front, i->id);
}

void fleet_recall_all(struct fleet_instance *i)
{
    for (int front = 0; front < i->fleet->front_limit; front++)
        recall(i, front);
}

/* A front serves its own waiters from its own slots; slots are recalled for those of others. */
static void recall_for_waiters(struct fleet_service *s)
{
    if (s->waiting == 0)
        return;
    KG_LIST_EACH(it, &s->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        for (int front = 0; instance_serves(i->state) && front < i->fleet->front_limit; front++)
            if (s->waiting > s->waiting_from[front])
                recall(i, front);
    }
}

int64_t fleet_recall_pending(const struct fleet_service *s)
{
    int64_t until_ms = 0;

    KG_LIST_EACH(it, &s->instances)
    {
        const struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        for (int front = 0; instance_serves(i->state) && front < i->fleet->front_limit; front++)
            if (i->leases[front].asked_ms != 0 &&
                i->leases[front].asked_ms + FLEET_RECALL_MS > until_ms)
                until_ms = i->leases[front].asked_ms + FLEET_RECALL_MS;
    }
    return until_ms;
}

/* Those that are out beyond the concurrency, which was higher or claimed to be, are not lent again.
 */
static unsigned lent_elsewhere(const struct fleet_instance *i, int front)
{
    unsigned concurrency = (unsigned)i->service->config->concurrency, count = 0;
    unsigned over = i->out > concurrency ? i->out - concurrency : 0;

    for (int other = 0; other < i->fleet->front_limit; other++) {
        const struct fleet_lease *l = &i->leases[other];
        if (other != front && may_have_free(i->fleet, l))
            count += l->asked_ms != 0 ? l->slots : l->slots - l->owed;
    }
    return count > over ? count - over : 0;
}

size_t fleet_slots_elsewhere(const struct fleet_service *s, int front)
{
    size_t count = 0;

    KG_LIST_EACH(it, &s->instances)
    {
        const struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (instance_serves(i->state))
            count += lent_elsewhere(i, front);
    }
    return count;
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
    i->service->out -= slots;
    if (i->idle.watched && used_ms > 0)
        reaper_touch(&f->reaper, &i->idle, used_ms);
    if (i->out > 0)
        return;
    i->allowed = 0;
    if (i->idle.watched)
        reaper_unhold(&f->reaper, &i->idle, i->idle.used_ms);
    if (i->service->out == 0 && (i->service->in_use || used_ms > 0)) /* not by monitors alone */
        fleet_use_ended(f, i->service, used_ms > i->idle.used_ms ? used_ms : i->idle.used_ms);
    fleet_tell_clock(f);
}

/* What was lent between two recalls is told by the answer to the second. */
static void note_answer(struct fleet_lease *l)
{
    if (l->asked > 0 && --l->asked == 0)
        l->asked_ms = 0;
}

/* Slots came back, or it is known that none are free: those who wait get them, or another
 * instance; a drained one may go. */
static void after_return(struct fleet_instance *i)
{
    fleet_peak_note(i->fleet, i->service);
    if (i->service->waiting > 0 || i->service->peak_until_ms != KG_NEVER)
        fleet_attend(i->fleet, i->service);
    fleet_check_emptied(i);
}

void fleet_return(struct fleet *f, int front, uint64_t instance, unsigned slots, int64_t used_ms,
                  bool recalled, int64_t now_ms)
{
    struct fleet_instance *i;

    KG_ASSERT(front >= 0 && front < KG_MAX_FRONTS);
    fleet_enter(f, now_ms);
    i = fleet_instance_find(f, instance);
    if (i) {
        if (slots > i->leases[front].slots)
            slots = i->leases[front].slots;
        if (recalled)
            note_answer(&i->leases[front]);
        if (slots > 0)
            take_back(i, front, slots, used_ms);
        if (slots > 0 || recalled)
            after_return(i);
    }
    fleet_leave(f);
}

/* The front is gone, and with it what ran over its slots: used until now. */
void fleet_lease_void(struct fleet_instance *i, int front)
{
    struct fleet_lease *l = &i->leases[front];
    unsigned slots = l->slots;
    bool asked = l->asked_ms != 0;

    if (slots > 0)
        take_back(i, front, slots, i->fleet->now_ms);
    *l = (struct fleet_lease){0};
    if (i->probe_front == front) {
        i->probe_front = -1;
        fleet_probe(i);
    }
    if (slots > 0 || asked)
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
    if (i->out > 0 && (i->service->out -= i->out) == 0 && i->service->in_use)
        fleet_use_ended(f, i->service, f->now_ms);
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
    i->answered = i->reprobed = false;
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
        if (i->reprobed) /* messages cross */
            f->door.probe_stop(f->door.self, front, instance);
        if (i->died)
            i->answered = true; /* who answered there may be somebody else by now */
        else
            fleet_step(i, INSTANCE_ON_PROBED, NULL);
    }
    fleet_leave(f);
}
