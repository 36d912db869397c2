/* SPDX-License-Identifier: Apache-2.0 */
/* The invariants, asserted over everything the fleet holds. The difficulty: it must find what the
 * code that keeps them got wrong, so it counts anew and trusts no counter. */
#include "orchestrator/fleet_priv.h"

static void check_leases(const struct fleet_instance *i)
{
    unsigned out = 0;

    for (int front = 0; front < KG_MAX_FRONTS; front++) {
        const struct fleet_lease *l = &i->leases[front];
        KG_ASSERT(l->owed <= l->slots);
        KG_ASSERT(l->slots == 0 || (l->told && i->fleet->fronts[front].up));
        out += l->slots;
    }
    KG_ASSERT(out == i->out && i->out <= i->allowed); /* I4, and the concurrency is exact */
    KG_ASSERT(out == 0 || instance_serves(i->state) || i->state == INSTANCE_DRAINING); /* I1 */
}

static void check_idle(const struct fleet_instance *i)
{
    bool idling = i->state == INSTANCE_READY || i->state == INSTANCE_PAUSED;
    bool kept = instance_is_asleep(i->state) || (i->state == INSTANCE_STOPPING && i->keep);
    unsigned holds = (i->out > 0) + !idling + i->held;

    KG_ASSERT(i->ready == instance_serves(i->state));
    KG_ASSERT(i->idle.watched == (i->stray || kept || instance_is_current(i->state)));
    KG_ASSERT(!i->idle.watched || i->idle.holds == holds); /* I1: in use is never due */
    KG_ASSERT(i->idle.used_ms <= i->fleet->now_ms);
}

static void check_call(const struct fleet_instance *i)
{
    bool asked = i->call != FLEET_CALL_NONE;

    KG_ASSERT(asked == (i->operation != 0)); /* I3 */
    KG_ASSERT(!asked || (i->timer.place != 0 && i->timer.due_ms <= i->call_due_ms));
    KG_ASSERT(i->call != FLEET_CALL_PULL || i->state == INSTANCE_PULLING);
    KG_ASSERT(i->call != FLEET_CALL_CREATE || i->made);
    KG_ASSERT((i->todo != FLEET_CALL_STOP && i->todo != FLEET_CALL_REMOVE) ||
              i->container.id[0] != '\0'); /* I7 */
    KG_ASSERT(i->todo == FLEET_CALL_NONE || asked || fleet_call_blocked(i) ||
              i->timer.place != 0); /* nothing is forgotten */
    if (i->state == INSTANCE_STOPPING || i->state == INSTANCE_REMOVING)
        KG_ASSERT(asked || i->todo != FLEET_CALL_NONE);
    if (i->state == INSTANCE_BACKOFF)
        KG_ASSERT(!asked && i->todo == FLEET_CALL_NONE && !i->made);
}

static void check_life(const struct fleet_instance *i)
{
    const struct fleet *f = i->fleet;
    bool current = instance_is_current(i->state) || instance_is_asleep(i->state);

    KG_ASSERT(kg_map_get(&f->by_id, KG_U64_KEY(i->id)) == i && i->id <= f->last_instance);
    KG_ASSERT(!current || (i->wanted && i->service->config));
    KG_ASSERT(!current || strcmp(i->spec, i->service->config->spec) == 0);
    KG_ASSERT((i->state == INSTANCE_ABSENT) == i->stray);
    KG_ASSERT(!instance_is_provisioning(i->state) ||
              (i->deadline_ms != KG_NEVER && i->timer.place != 0)); /* I5: it ends */
    KG_ASSERT(i->state != INSTANCE_BACKOFF || i->timer.place != 0);
    KG_ASSERT(i->state != INSTANCE_RESUMING || i->timer.place != 0);
    KG_ASSERT(kg_list_empty(&i->in_queue) ||
              ((i->state == INSTANCE_CREATING || i->restarted) && !i->start_slot));
}

static size_t check_instances(const struct fleet *f)
{
    size_t count = 0, calls = 0;
    int starts = 0;

    KG_LIST_EACH(it, &f->instances)
    {
        const struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_fleet);
        check_leases(i);
        check_idle(i);
        check_call(i);
        check_life(i);
        count++;
        calls += i->call != FLEET_CALL_NONE;
        starts += i->start_slot;
    }
    KG_ASSERT(count == f->instance_count && count == f->by_id.count && calls == f->calls);
    KG_ASSERT(starts == f->starts && starts <= f->max_starts);
    KG_ASSERT(kg_list_empty(&f->start_queue) || f->starts == f->max_starts);
    return count;
}

/* I5: those who wait wait for a start (their own or that of a need), or for a slot while none is
 * free; I2: no more instances than there may be. */
static void check_waiting(const struct fleet *f, const struct fleet_service *s)
{
    struct fleet_census c = fleet_count(s);
    bool for_need = false;

    for (size_t n = 0; n < s->need_count; n++)
        for_need |= fleet_count(s->needs[n]).serving == 0;
    if (s->config)
        KG_ASSERT(c.starting + c.serving + c.paused <= (unsigned)s->config->max_instances);
    if (s->waiting == 0)
        return;
    KG_ASSERT(s->config && (c.starting > 0 || s->out > 0 || for_need ||
                            (s->waiting == s->waiting_quietly && fleet_may_be_awake(f, s))));
    KG_ASSERT(!fleet_free_slot(s));
    KG_LIST_EACH(it, &s->instances)
    {
        const struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        for (int front = 0; instance_serves(i->state) && front < f->front_limit; front++)
            KG_ASSERT(s->waiting == s->waiting_from[front] ||
                      i->leases[front].owed == i->leases[front].slots);
    }
}

static size_t check_service(const struct fleet *f, const struct fleet_service *s)
{
    size_t waiting = 0, quiet = 0, instances = 0, from[KG_MAX_FRONTS] = {0};
    unsigned strays = 0, out = 0;

    KG_LIST_EACH(it, &s->waiters)
    {
        const struct fleet_waiter *w = KG_LIST_ENTRY(it, struct fleet_waiter, in_service);
        KG_ASSERT(w->service == s && f->fronts[w->front].up);
        KG_ASSERT(kg_map_get(&f->fronts[w->front].tickets, KG_U64_KEY(w->ticket)) == w); /* I4 */
        from[w->front]++;
        quiet += w->quiet;
        waiting++;
    }
    for (int front = 0; front < KG_MAX_FRONTS; front++)
        KG_ASSERT(from[front] == s->waiting_from[front]);
    KG_ASSERT(waiting == s->waiting);
    KG_ASSERT(quiet == s->waiting_quietly);
    /* I6; a cap that was lowered refuses nobody after the fact */
    KG_ASSERT(waiting == 0 || waiting <= (size_t)s->config->queue + s->out ||
              waiting <= s->waiting_cap + s->out);
    KG_LIST_EACH(it, &s->instances)
    {
        strays += KG_LIST_ENTRY(it, struct fleet_instance, in_service)->stray;
        out += KG_LIST_ENTRY(it, struct fleet_instance, in_service)->out;
        instances++;
    }
    KG_ASSERT(strays == s->strays && out == s->out && kg_list_empty(&s->attention));
    check_waiting(f, s);
    return instances;
}

void fleet_check(const struct fleet *f)
{
    size_t instances = check_service(f, &f->orphans), waiting = 0, tickets = 0;

    for (uint32_t id = 0; id < f->service_count; id++) {
        KG_ASSERT(f->services[id]->id == id);
        instances += check_service(f, f->services[id]);
        waiting += f->services[id]->waiting;
    }
    KG_ASSERT(instances == check_instances(f));
    for (int front = 0; front < KG_MAX_FRONTS; front++) {
        KG_ASSERT(f->fronts[front].tickets.count == f->fronts[front].waiting);
        tickets += f->fronts[front].waiting;
    }
    KG_ASSERT(tickets == waiting && kg_list_empty(&f->attention));
}
