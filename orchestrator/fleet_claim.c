/* SPDX-License-Identifier: Apache-2.0 */
/* What fronts hold of a former control: slots of instances that this one has yet to find.
 * The difficulty: a claim names a container, which may be found later, found unfit, or never. */
#include "orchestrator/fleet_priv.h"
#include <stdlib.h>

struct fleet_claim {
    struct kg_list link; /* fleet.claims */
    int front;
    uint64_t known_as; /* the instance's number under the former control */
    unsigned slots;
    int64_t used_ms;
    char name[ENGINE_NAME_BYTES];
};

static void end(struct fleet_claim *c)
{
    kg_list_remove(&c->link);
    free(c);
}

/* The front learns that there is nothing to hold on to. */
static void refuse(struct fleet *f, struct fleet_claim *c)
{
    f->door.gone(f->door.self, c->front, c->known_as);
    end(c);
}

/* From here on the slots are lent by us. */
static void bind_it(struct fleet_instance *i, struct fleet_claim *c)
{
    struct fleet *f = i->fleet;

    fleet_lend(i, c->front, c->slots);
    fleet_use_begins(f, i->service);
    if (c->used_ms > 0 && c->used_ms <= f->now_ms)
        reaper_touch(&f->reaper, &i->idle, c->used_ms);
    f->door.renamed(f->door.self, c->front, c->known_as, i->id,
                    i->service->config ? fleet_linger_ms(i->service) : 0);
    end(c);
}

bool fleet_is_claimed(const struct fleet *f, const char *name)
{
    KG_LIST_EACH(it, &f->claims)
    {
        if (strcmp(KG_LIST_ENTRY(it, struct fleet_claim, link)->name, name) == 0)
            return true;
    }
    return false;
}

int64_t fleet_claims_clock(const struct fleet *f, const char *name, int64_t saved_ms)
{
    int64_t clock_ms = saved_ms;

    KG_LIST_EACH(it, &f->claims)
    {
        const struct fleet_claim *c = KG_LIST_ENTRY(it, struct fleet_claim, link);
        if (strcmp(c->name, name) == 0 && c->used_ms <= f->now_ms && c->used_ms > clock_ms)
            clock_ms = c->used_ms;
    }
    return clock_ms;
}

void fleet_claims_bind(struct fleet_instance *i)
{
    KG_LIST_EACH_SAFE(it, &i->fleet->claims)
    {
        struct fleet_claim *c = KG_LIST_ENTRY(it, struct fleet_claim, link);
        if (strcmp(c->name, i->name) == 0)
            bind_it(i, c);
    }
}

void fleet_claims_refuse(struct fleet *f, const char *name)
{
    KG_LIST_EACH_SAFE(it, &f->claims)
    {
        struct fleet_claim *c = KG_LIST_ENTRY(it, struct fleet_claim, link);
        if (name ? strcmp(c->name, name) == 0 : !kg_map_get(&f->by_name, kg_str_of(c->name)))
            refuse(f, c);
    }
}

bool fleet_claims_pending(const struct fleet *f)
{
    for (int front = 0; front < f->front_limit; front++)
        if (f->fronts[front].claims_until_ms > f->now_ms)
            return true;
    return false;
}

void fleet_claims_begin(struct fleet *f, int front, int64_t now_ms)
{
    KG_ASSERT(front >= 0 && front < KG_MAX_FRONTS && f->fronts[front].up);
    fleet_enter(f, now_ms);
    f->fronts[front].claims_until_ms = f->now_ms + FLEET_CLAIMS_MS;
    fleet_leave(f);
}

/* What was found meanwhile can be judged. */
static void told(struct fleet *f, int front)
{
    if (f->fronts[front].claims_until_ms == 0)
        return;
    f->fronts[front].claims_until_ms = 0;
    if (!fleet_claims_pending(f))
        fleet_pump_all(f);
}

void fleet_claims_end(struct fleet *f, int front, int64_t now_ms)
{
    KG_ASSERT(front >= 0 && front < KG_MAX_FRONTS);
    fleet_enter(f, now_ms);
    told(f, front);
    fleet_leave(f);
}

/* It may have been used after clocks were saved last. */
static void note_use(struct fleet *f, const char *name, int64_t used_ms)
{
    struct fleet_instance *i = kg_map_get(&f->by_name, kg_str_of(name));
    int64_t *clock = kg_map_get(&f->remembered, kg_str_of(name));

    if (used_ms > f->now_ms)
        used_ms = f->now_ms;
    if (clock && *clock > 0 && *clock < used_ms)
        *clock = used_ms;
    if (i)
        reaper_touch(&f->reaper, &i->idle, used_ms);
    fleet_tell_clock(f);
}

void fleet_claims_forget(struct fleet *f, int front)
{
    if (front >= 0)
        told(f, front);
    KG_LIST_EACH_SAFE(it, &f->claims)
    {
        struct fleet_claim *c = KG_LIST_ENTRY(it, struct fleet_claim, link);
        if (front >= 0 && c->front != front)
            continue;
        if (front >= 0)
            note_use(f, c->name, f->now_ms); /* with the front ends what it had open there */
        end(c);
    }
}

/* Known and fit to be lent: found before the front came, for whatever reason. What this run has
 * started, perhaps again, nobody holds of a former one. */
static bool can_be_bound(const struct fleet_instance *i)
{
    return i && !i->stray && !i->provisioned &&
           ((i->state == INSTANCE_PROBING && !i->died) || instance_serves(i->state));
}

/* As what is found claimed: it is ready, and others that wait have its slots recalled. */
static void bind_late(struct fleet_instance *i, struct fleet_claim *c)
{
    bind_it(i, c);
    if (i->state == INSTANCE_PROBING)
        fleet_step(i, INSTANCE_ON_PROBED, "a front is served by it");
    fleet_attend(i->fleet, i->service);
}

/* Each container once, and no more of it than could ever be lent: a front may have been taken over.
 */
static bool may_claim(const struct fleet *f, int front, const char *name, unsigned slots,
                      const struct fleet_instance *i)
{
    size_t count = 0;

    if (!f->fronts[front].up || slots == 0 || slots > KG_MAX_CONCURRENCY ||
        (i && i->leases[front].slots > 0))
        return false;
    KG_LIST_EACH(it, &f->claims)
    {
        const struct fleet_claim *c = KG_LIST_ENTRY(it, struct fleet_claim, link);
        if (c->front == front && (strcmp(c->name, name) == 0 || ++count == KG_MAX_INSTANCES))
            return false;
    }
    return true;
}

void fleet_claim(struct fleet *f, int front, uint64_t known_as, const char *name, unsigned slots,
                 int64_t used_ms, int64_t now_ms)
{
    struct fleet_claim *c;
    struct fleet_instance *i;

    KG_ASSERT(front >= 0 && front < KG_MAX_FRONTS);
    fleet_enter(f, now_ms);
    i = kg_map_get(&f->by_name, kg_str_of(name));
    if (slots == 0 && f->fronts[front].up)
        note_use(f, name, used_ms); /* it holds nothing of it any more */
    c = may_claim(f, front, name, slots, i) && (i || !f->listed) ? calloc(1, sizeof *c) : NULL;
    if (!c) {
        f->door.gone(f->door.self, front, known_as);
        fleet_leave(f);
        return;
    }
    *c = (struct fleet_claim){
        .front = front, .known_as = known_as, .slots = slots, .used_ms = used_ms};
    kg_str_copy(c->name, sizeof c->name, kg_str_of(name));
    kg_list_push_back(&f->claims, &c->link);
    fleet_tell_clock(f); /* it is in use */
    if (can_be_bound(i))
        bind_late(i, c);
    else if (i && !i->stray)
        refuse(f, c);
    fleet_leave(f);
}
