/* SPDX-License-Identifier: Apache-2.0 */
/* Fronts that keep leases exactly as the real gate client does, and clients that come, hold and
 * leave. The difficulty: messages take time, cross, and keep their order per direction. */
#include "sim.h"
#include <stdlib.h>

#define FROZEN_MS 60000 /* a front's own time limit for a worker that does not answer */

/* --- channels --- */

static void hear(struct world *w, struct sim_front *f, const struct message *m);
static void control_hears(struct world *w, struct sim_front *f, const struct message *m);

static struct message *pop(struct channel *c)
{
    struct kg_list *first = kg_list_first(&c->queue);

    if (!first)
        return NULL;
    kg_list_remove(first);
    return KG_LIST_ENTRY(first, struct message, link);
}

static void run_to_control(struct world *w, struct task *t)
{
    struct sim_front *f = t->what;
    struct message *m;

    if (t->number != f->generation || !(m = pop(&f->to_control)))
        return;
    control_hears(w, f, m);
    free(m);
}

static void run_to_front(struct world *w, struct task *t)
{
    struct sim_front *f = t->what;
    struct message *m;

    if (t->number != f->generation || !(m = pop(&f->to_front)))
        return;
    if (f->up)
        hear(w, f, m);
    free(m);
}

static void push(struct world *w, struct sim_front *f, bool to_control, const struct message *m)
{
    struct channel *c = to_control ? &f->to_control : &f->to_front;
    struct message *copy = malloc(sizeof *copy);
    int64_t at_ms = w->now_ms + sim_between(w, 0, 3);

    SIM_ASSERT(w, copy != NULL);
    if (!w->calm && sim_permille(w, 5))
        at_ms += sim_between(w, 10, 200);
    if (at_ms < c->last_ms)
        at_ms = c->last_ms;
    c->last_ms = at_ms;
    *copy = *m;
    kg_list_push_back(&c->queue, &copy->link);
    sim_later(w, at_ms - w->now_ms, to_control ? run_to_control : run_to_front, f, f->generation);
}

static void drain(struct channel *c)
{
    struct message *m;

    while ((m = pop(c)) != NULL)
        free(m);
    c->last_ms = 0;
}

/* --- leases --- */

static struct lease *lease_find(struct sim_front *f, uint64_t instance)
{
    KG_LIST_EACH(it, &f->leases)
    {
        struct lease *l = KG_LIST_ENTRY(it, struct lease, link);
        if (l->instance == instance)
            return l;
    }
    return NULL;
}

static struct lease *lease_get(struct world *w, struct sim_front *f, const struct message *m)
{
    struct lease *l = lease_find(f, m->instance);

    if (l)
        return l;
    l = calloc(1, sizeof *l);
    SIM_ASSERT(w, l != NULL);
    l->instance = m->instance;
    l->service = m->service;
    l->address = m->address;
    l->linger_due_ms = KG_NEVER;
    kg_list_push_back(&f->leases, &l->link);
    return l;
}

static struct lease *lease_with_slot(struct sim_front *f, uint32_t service)
{
    struct lease *best = NULL;

    KG_LIST_EACH(it, &f->leases)
    {
        struct lease *l = KG_LIST_ENTRY(it, struct lease, link);
        if (l->service == service && l->slots > l->busy && (!best || l->busy < best->busy))
            best = l;
    }
    return best;
}

static void tell_slots(struct world *w, struct sim_front *f, struct lease *l, unsigned slots,
                       bool recalled)
{
    struct message m = {.kind = SAY_RETURN,
                        .instance = l->instance,
                        .slots = slots,
                        .recalled = recalled,
                        .used_ms = l->used_ms};

    l->slots -= slots;
    SIM_ASSERT(w, l->slots >= l->busy);
    if (f->hostile && l->slots == 0)
        m.slots += (unsigned)sim_between(w, 0, 5); /* over-return of nothing */
    push(w, f, true, &m);
}

static void tell_return(struct world *w, struct sim_front *f, struct lease *l, unsigned slots)
{
    if (slots > 0)
        tell_slots(w, f, l, slots, false);
}

static void run_linger(struct world *w, struct task *t)
{
    struct sim_front *f = t->what;
    struct lease *l = t->other == f->generation ? lease_find(f, t->number) : NULL;

    if (!l || l->linger_due_ms > w->now_ms)
        return;
    l->linger_due_ms = KG_NEVER;
    if (l->busy == 0)
        tell_return(w, f, l, l->slots);
}

static void arm_linger(struct world *w, struct sim_front *f, struct lease *l)
{
    struct task *t = sim_later(w, l->linger_ms, run_linger, f, l->instance);

    t->other = f->generation;
    l->linger_due_ms = w->now_ms + l->linger_ms;
}

/* --- exchanges --- */

static void client_free(struct client *c)
{
    kg_list_remove(&c->link);
    kg_list_remove(&c->waiting);
    free(c);
}

static void serve_waiters(struct world *w, struct sim_front *f, uint32_t service);

static void tell_ticket(struct world *w, struct sim_front *f, enum message_kind kind,
                        uint64_t ticket)
{
    struct message m = {.kind = kind, .ticket = ticket};

    push(w, f, true, &m);
}

static void tell_suspect(struct world *w, struct sim_front *f, uint64_t instance)
{
    struct message m = {.kind = SAY_SUSPECT, .instance = instance};

    push(w, f, true, &m);
}

static void release(struct world *w, struct sim_front *f, struct client *c)
{
    struct lease *l = lease_find(f, c->instance);

    if (!l)
        return; /* gone: its slots are nobody's */
    SIM_ASSERT(w, l->busy > 0);
    l->busy--;
    if (!c->quiet)
        l->used_ms = w->now_ms;
    if (l->owed > 0) {
        l->owed--;
        tell_return(w, f, l, 1);
        if (l->busy == 0 && l->slots > 0)
            arm_linger(w, f, l);
        return;
    }
    if (!c->quiet)
        arm_linger(w, f, l);
    serve_waiters(w, f, l->service);
    if (c->quiet && l->busy == 0 && l->linger_due_ms == KG_NEVER)
        tell_return(w, f, l, l->slots);
}

static void leave_container(struct world *w, struct client *c)
{
    if (!c->container)
        return;
    if (c->counted && c->front)
        c->container->exchanges--;
    else if (c->counted)
        c->container->old_exchanges--;
    if (!c->quiet && c->counted)
        c->container->used_ms = w->now_ms;
    c->container = NULL;
}

static void exchange_end(struct world *w, struct client *c, bool broken)
{
    struct sim_front *f = c->front;
    uint64_t instance = c->instance;

    leave_container(w, c);
    if (broken)
        w->counts->broken++;
    else
        w->counts->served++;
    kg_list_remove(&c->link);
    if (f) {
        if (broken && !sim_chance(w, 20))
            tell_suspect(w, f, instance);
        release(w, f, c);
    }
    kg_list_remove(&c->waiting);
    free(c);
}

static struct client *client_find(struct kg_list *all, uint64_t number)
{
    KG_LIST_EACH(it, all)
    {
        struct client *c = KG_LIST_ENTRY(it, struct client, link);
        if (c->number == number)
            return c;
    }
    return NULL;
}

static void run_exchange_end(struct world *w, struct task *t)
{
    struct client *c = client_find(&w->fronts[t->other].clients, t->number);

    if (!c)
        c = client_find(&w->old_fronts, t->number);
    if (!c || c->state != CLIENT_SERVED)
        return;
    if (c->container && c->container->c.state == ENGINE_PAUSED &&
        w->now_ms - c->since_ms < FROZEN_MS) /* it answers when it is thawed */
        sim_later(w, 20, run_exchange_end, NULL, t->number)->other = t->other;
    else
        exchange_end(w, c, false);
}

static void run_exchange_break(struct world *w, struct task *t)
{
    struct client *c = client_find(&w->fronts[t->other].clients, t->number);

    if (c && c->state == CLIENT_SERVED)
        exchange_end(w, c, true);
}

static void exchange_begin(struct world *w, struct client *c, struct lease *l)
{
    struct container *at = engine_at(w, &l->address);
    struct task *t;

    SIM_ASSERT(w, l->slots > l->busy);
    l->busy++;
    sim_say(w, "front %d: client %llu at #%llu, %u of %u slots", c->front->index,
            (unsigned long long)c->number, (unsigned long long)l->instance, l->busy, l->slots);
    kg_list_remove(&c->waiting);
    c->state = CLIENT_SERVED;
    c->instance = l->instance;
    if (at && engine_accepts(w, at)) {
        c->container = at;
        c->counted = judge_exchange(w, at, l->instance, l->service) && !c->front->hostile;
        if (c->counted)
            at->exchanges++;
        SIM_ASSERT(w, !c->counted || at->exchanges <= w->most[l->service]);
        t = sim_later(w, c->hold_ms, run_exchange_end, NULL, c->number);
    } else {
        t = sim_later(w, sim_between(w, 0, 2), run_exchange_break, NULL, c->number);
    }
    t->other = (uint64_t)c->front->index;
}

/* All connections of a worker that died break, of old fronts' too. */
static void break_in(struct world *w, struct kg_list *clients, struct container *at)
{
    KG_LIST_EACH_SAFE(it, clients)
    {
        struct client *c = KG_LIST_ENTRY(it, struct client, link);
        struct task *t;
        if (c->container != at)
            continue;
        leave_container(w, c);
        if (!c->front) {
            client_free(c);
            continue;
        }
        t = sim_later(w, sim_between(w, 0, 2), run_exchange_break, NULL, c->number);
        t->other = (uint64_t)c->front->index;
    }
}

void container_breaks(struct world *w, struct container *at)
{
    for (int n = 0; n < SIM_FRONTS; n++)
        break_in(w, &w->fronts[n].clients, at);
    break_in(w, &w->old_fronts, at);
    SIM_ASSERT(w, at->exchanges == 0 && at->old_exchanges == 0);
}

static void serve_waiters(struct world *w, struct sim_front *f, uint32_t service)
{
    struct kg_list *waiters = &f->waiters[service];
    struct lease *l;

    while (!kg_list_empty(waiters) && (l = lease_with_slot(f, service)) != NULL) {
        struct client *c = KG_LIST_ENTRY(kg_list_first(waiters), struct client, waiting);
        tell_ticket(w, f, SAY_WITHDRAW, c->ticket);
        exchange_begin(w, c, l);
    }
}

/* --- clients --- */

static void run_leave(struct world *w, struct task *t)
{
    struct sim_front *f = &w->fronts[t->other];
    struct client *c = client_find(&f->clients, t->number);

    if (!c || c->state != CLIENT_WAITS)
        return;
    w->counts->left++;
    tell_ticket(w, f, SAY_WITHDRAW, c->ticket);
    client_free(c);
}

static void acquire(struct world *w, struct sim_front *f, struct client *c)
{
    struct lease *l =
        kg_list_empty(&f->waiters[c->service]) ? lease_with_slot(f, c->service) : NULL;
    struct message m = {.kind = SAY_ACQUIRE, .service = c->service, .quiet = c->quiet};

    if (l) {
        exchange_begin(w, c, l);
        return;
    }
    c->ticket = ++w->tickets;
    m.ticket = c->ticket;
    kg_list_push_back(&f->waiters[c->service], &c->waiting);
    push(w, f, true, &m);
    if (f->hostile && sim_chance(w, 20))
        push(w, f, true, &m);
    if (!w->calm && sim_chance(w, 10)) {
        struct task *t = sim_later(w, sim_between(w, 1, 400), run_leave, NULL, c->number);
        t->other = (uint64_t)f->index;
    }
}

void client_comes(struct world *w)
{
    struct sim_front *f = &w->fronts[sim_between(w, 0, SIM_FRONTS - 1)];
    struct client *c;

    if (!f->up || !f->attached)
        return;
    c = calloc(1, sizeof *c);
    SIM_ASSERT(w, c != NULL);
    kg_list_init(&c->waiting);
    kg_list_push_back(&f->clients, &c->link);
    c->front = f;
    c->number = ++w->clients;
    c->service = (uint32_t)sim_between(w, 0, sim_chance(w, 2) ? SIM_SERVICES : SIM_SERVICES - 1);
    c->quiet = sim_chance(w, 10);
    c->since_ms = w->now_ms;
    c->hold_ms = sim_chance(w, 80) ? sim_between(w, 0, 60) : sim_between(w, 100, 4000);
    w->counts->clients++;
    acquire(w, f, c);
}

/* --- what a front hears --- */

static struct client *waiter_of(struct sim_front *f, uint64_t ticket)
{
    KG_LIST_EACH(it, &f->clients)
    {
        struct client *c = KG_LIST_ENTRY(it, struct client, link);
        if (c->state == CLIENT_WAITS && c->ticket == ticket)
            return c;
    }
    return NULL;
}

static void on_grant(struct world *w, struct sim_front *f, const struct message *m)
{
    struct lease *l = lease_get(w, f, m);
    struct client *c = waiter_of(f, m->ticket);

    w->counts->granted++;
    l->slots += m->slots;
    l->linger_ms = m->linger_ms;
    if (!c || !c->quiet)
        arm_linger(w, f, l);
    if (c && l->slots > l->busy)
        exchange_begin(w, c, l);
    serve_waiters(w, f, m->service);
}

static void run_probe(struct world *w, struct task *t)
{
    struct sim_front *f = t->what;
    struct lease *l = t->other == f->generation ? lease_find(f, t->number) : NULL;
    struct container *at;
    struct message m = {.kind = SAY_PROBED, .instance = t->number};

    if (!l || !l->probing)
        return;
    at = engine_at(w, &l->address);
    if (!at || !engine_listens(w, at)) {
        struct task *again = sim_later(w, sim_between(w, 1, 40), run_probe, f, t->number);
        again->other = f->generation;
        return;
    }
    l->probing = false;
    push(w, f, true, &m);
}

static void on_probe(struct world *w, struct sim_front *f, const struct message *m)
{
    struct lease *l = lease_get(w, f, m);
    struct task *t;

    l->probing = true;
    t = sim_later(w, 0, run_probe, f, m->instance);
    t->other = f->generation;
}

static void on_gone(struct lease *l)
{
    kg_list_remove(&l->link);
    free(l);
}

static void on_refuse(struct world *w, struct sim_front *f, const struct message *m)
{
    struct client *c = waiter_of(f, m->ticket);

    SIM_ASSERT(w, orch_reason_row(m->reason) != NULL);
    w->counts->refused[m->reason]++;
    if (c)
        client_free(c);
}

static void hear(struct world *w, struct sim_front *f, const struct message *m)
{
    struct lease *l = lease_find(f, m->instance);

    if (m->kind == HEAR_GRANT) {
        on_grant(w, f, m);
    } else if (m->kind == HEAR_REFUSE) {
        on_refuse(w, f, m);
    } else if (m->kind == HEAR_PROBE) {
        on_probe(w, f, m);
    } else if (l && m->kind == HEAR_RECALL) {
        l->owed = l->busy;
        tell_slots(w, f, l, l->slots - l->busy, true);
    } else if (l && m->kind == HEAR_PROBE_STOP) {
        l->probing = false;
    } else if (l && m->kind == HEAR_GONE) {
        on_gone(l);
    }
}

/* --- what control hears --- */

static void control_hears(struct world *w, struct sim_front *f, const struct message *m)
{
    uint32_t id = m->service < SIM_SERVICES ? (uint32_t)w->ids[m->service] : m->service;

    if (!f->attached)
        return;
    switch (m->kind) {
    case SAY_ACQUIRE:
        judge_asked(w, f->index, m->ticket, m->service);
        fleet_acquire(w->fleet, f->index, m->ticket, id, m->quiet, w->now_ms);
        break;
    case SAY_WITHDRAW:
        judge_withdrawn(w, f->index, m->ticket);
        fleet_withdraw(w->fleet, f->index, m->ticket, w->now_ms);
        break;
    case SAY_RETURN:
        fleet_return(w->fleet, f->index, m->instance, m->slots, m->used_ms, m->recalled, w->now_ms);
        break;
    case SAY_PROBED:
        fleet_probed(w->fleet, f->index, m->instance, w->now_ms);
        break;
    case SAY_SUSPECT:
        fleet_suspect(w->fleet, f->index, m->instance, w->now_ms);
        break;
    default:
        sim_fail(w, "a front does not say this");
    }
}

/* A front that was taken over: whatever it says, only its own clients may suffer. */
void front_lies(struct world *w)
{
    for (int n = 0; n < SIM_FRONTS; n++) {
        struct sim_front *f = &w->fronts[n];
        struct message m = {.instance = (uint64_t)sim_between(w, 0, 40),
                            .ticket = (uint64_t)sim_between(w, 1, (int64_t)w->tickets + 5),
                            .slots = (unsigned)sim_between(w, 1, 10),
                            .used_ms = w->now_ms + 1000000};
        struct lease *l = lease_find(f, m.instance);
        if (!f->hostile || !f->up)
            continue;
        m.kind = sim_chance(w, 50) ? SAY_SUSPECT : SAY_RETURN;
        if (m.kind == SAY_RETURN && l)
            m.kind = SAY_SUSPECT; /* what it really has it keeps: the judge counts on it */
        push(w, f, true, &m);
    }
}

/* --- the door --- */

static struct sim_front *front_of(void *self, int front)
{
    struct world *w = self;

    SIM_ASSERT(w, front >= 0 && front < SIM_FRONTS && w->fronts[front].attached);
    return &w->fronts[front];
}

static void door_grant(void *self, int front, uint64_t ticket, uint32_t service, uint64_t instance,
                       unsigned slots, enum proxy_warmth warmth,
                       const struct engine_container *where, int64_t linger_ms)
{
    struct message m = {.kind = HEAR_GRANT,
                        .ticket = ticket,
                        .service = (uint32_t)sim_index(self, service),
                        .instance = instance,
                        .slots = slots,
                        .linger_ms = linger_ms,
                        .address = where->address};
    struct world *w = self;

    SIM_ASSERT(w, slots > 0 && where->address_length > 0 && linger_ms >= 0);
    SIM_ASSERT(w, warmth <= PROXY_PAUSED);
    judge_answered(w, front, ticket);
    judge_granted(w, m.service, instance);
    push(w, front_of(self, front), false, &m);
}

static void door_refuse(void *self, int front, uint64_t ticket, unsigned reason,
                        int64_t retry_after_ms, const char *detail)
{
    struct message m = {.kind = HEAR_REFUSE, .ticket = ticket, .reason = reason};
    struct world *w = self;

    SIM_ASSERT(w, retry_after_ms >= 0 && retry_after_ms <= KG_BACKOFF_LAST_MS && detail[0]);
    SIM_ASSERT(w, reason != ORCH_BACKING_OFF || retry_after_ms > 0);
    judge_refused(w, front, ticket, reason, retry_after_ms);
    push(w, front_of(self, front), false, &m);
}

static void door_instance(void *self, int front, enum message_kind kind, uint64_t instance)
{
    struct message m = {.kind = kind, .instance = instance};

    push(self, front_of(self, front), false, &m);
}

static void door_recall(void *self, int front, uint64_t instance)
{
    door_instance(self, front, HEAR_RECALL, instance);
}

static void door_probe(void *self, int front, uint64_t instance, const struct config_service *s,
                       const struct engine_container *where)
{
    struct world *w = self;
    struct message m = {.kind = HEAR_PROBE,
                        .instance = instance,
                        .address = where->address,
                        .service = (uint32_t)(s->name[4] - '0')};

    SIM_ASSERT(w, where->address_length > 0);
    push(w, front_of(self, front), false, &m);
}

static void door_probe_stop(void *self, int front, uint64_t instance)
{
    door_instance(self, front, HEAR_PROBE_STOP, instance);
}

static void door_gone(void *self, int front, uint64_t instance)
{
    door_instance(self, front, HEAR_GONE, instance);
}

/* Fronts of the simulator end with their control: they claim nothing. */
static void door_renamed(void *self, int front, uint64_t known_as, uint64_t instance,
                         int64_t linger_ms)
{
    (void)front;
    (void)known_as;
    (void)instance;
    (void)linger_ms;
    SIM_ASSERT((struct world *)self, false);
}

struct fleet_fronts fronts_door_of(struct world *w)
{
    return (struct fleet_fronts){w,          door_grant,      door_refuse, door_recall,
                                 door_probe, door_probe_stop, door_gone,   door_renamed};
}

/* --- life --- */

void front_attach(struct world *w, struct sim_front *f)
{
    f->generation++;
    drain(&f->to_control);
    drain(&f->to_front);
    f->up = f->attached = true;
    fleet_front_up(w->fleet, f->index, w->now_ms);
}

/* Everything of it is gone at once. With `outlive` its exchanges go on, heard of by nobody. */
static void forget(struct world *w, struct sim_front *f, bool outlive)
{
    KG_LIST_EACH_SAFE(it, &f->clients)
    {
        struct client *c = KG_LIST_ENTRY(it, struct client, link);
        if (outlive && c->container) {
            kg_list_remove(&c->link);
            c->container->exchanges -= c->counted;
            c->container->old_exchanges += c->counted;
            c->front = NULL;
            kg_list_push_back(&w->old_fronts, &c->link);
            w->counts->old_fronts++;
            continue;
        }
        leave_container(w, c);
        client_free(c);
    }
    KG_LIST_EACH_SAFE(it, &f->leases)
    free(KG_LIST_ENTRY(it, struct lease, link));
    kg_list_init(&f->leases);
    drain(&f->to_control);
    drain(&f->to_front);
    f->generation++;
    f->up = false;
}

static void run_front_down(struct world *w, struct task *t)
{
    struct sim_front *f = t->what;

    if (t->number != f->generation || f->up)
        return;
    judge_front_down(w, f->index);
    fleet_front_down(w->fleet, f->index, w->now_ms);
    f->attached = false;
}

static void run_front_up(struct world *w, struct task *t)
{
    struct sim_front *f = t->what;

    if (t->number == f->generation && !f->up && !f->attached)
        front_attach(w, f);
}

void front_dies(struct world *w, struct sim_front *f)
{
    int64_t heard_ms = sim_between(w, 0, 20);

    if (!f->up)
        return;
    w->counts->front_deaths++;
    forget(w, f, false);
    sim_later(w, heard_ms, run_front_down, f, f->generation);
    sim_later(w, heard_ms + sim_between(w, 1, 1500), run_front_up, f, f->generation);
}

void front_end(struct world *w, struct sim_front *f)
{
    forget(w, f, false);
    f->attached = false;
}

void fronts_outlive(struct world *w)
{
    for (int n = 0; n < SIM_FRONTS; n++) {
        forget(w, &w->fronts[n], true);
        w->fronts[n].attached = false;
    }
}

void fronts_begin(struct world *w)
{
    kg_list_init(&w->old_fronts);
    for (int n = 0; n < SIM_FRONTS; n++) {
        struct sim_front *f = &w->fronts[n];
        f->index = n;
        kg_list_init(&f->to_control.queue);
        kg_list_init(&f->to_front.queue);
        kg_list_init(&f->leases);
        kg_list_init(&f->clients);
        for (int s = 0; s <= SIM_SERVICES; s++)
            kg_list_init(&f->waiters[s]);
    }
}

void world_drop_fronts(struct world *w)
{
    for (int n = 0; n < SIM_FRONTS; n++)
        front_end(w, &w->fronts[n]);
    KG_LIST_EACH_SAFE(it, &w->old_fronts)
    client_free(KG_LIST_ENTRY(it, struct client, link));
}
