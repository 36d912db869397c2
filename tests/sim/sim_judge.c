/* SPDX-License-Identifier: Apache-2.0 */
/* The judges: I1 to I9 from what can be seen outside the fleet. The difficulty: to be strict
 * without blaming the fleet for what it could not know yet. */
#include "sim.h"
#include <stdio.h>
#include <stdlib.h>

#define KNOWS_MS 300       /* a front may use a dead address so long after control knew */
#define ASKED_MS 1000      /* a look takes that long at most */
#define WAIT_LAST_MS 90000 /* no request waits longer than this without a disturbance */
#define HEALTHY_MS 3000
#define LATE_MS 2000
#define FROZEN_LAST_MS 3000 /* a claim's wait, a look and a resume */
#define UNSAVED_MS                                                                                 \
    1500               /* a lease that lingers, its return, and the delay before clocks are saved */
#define IMAGE_MS 10000 /* a pull takes this long at most, then its failure is told */

/* --- what the observer is told --- */

static bool is_current(const char *state)
{
    return strcmp(state, "pulling") == 0 || strcmp(state, "creating") == 0 ||
           strcmp(state, "starting") == 0 || strcmp(state, "probing") == 0 ||
           strcmp(state, "ready") == 0 || strcmp(state, "resuming") == 0;
}

static struct note *note_of(struct world *w, uint64_t instance)
{
    struct note *n = kg_map_get(&w->notes, KG_U64_KEY(instance));

    if (n)
        return n;
    n = calloc(1, sizeof *n);
    SIM_ASSERT(w, n && kg_map_set(&w->notes, KG_U64_KEY(instance), n) == 0);
    return n;
}

static struct note *note_named(struct world *w, const char *name)
{
    size_t at = 0;
    struct kg_str key;
    void *value;

    while (kg_map_next(&w->notes, &at, &key, &value))
        if (strcmp(((const struct note *)value)->name, name) == 0)
            return value;
    return NULL;
}

static int state_of(const char *name)
{
    for (int state = 0; state < INSTANCE_STATE_COUNT; state++)
        if (strcmp(instance_state_name((enum instance_state)state), name) == 0)
            return state;
    return 0;
}

/* I2: never more at once, on their way or ready, than there may be. */
static void judge_single(struct world *w, int service)
{
    size_t at = 0, current = 0;
    struct kg_str key;
    void *value;

    while (kg_map_next(&w->notes, &at, &key, &value)) {
        const struct note *n = value;
        current += n->service == service && n->current;
    }
    SIM_ASSERT(w, current <= (size_t)w->most_instances[service]);
    if (current > w->counts->most_at_once)
        w->counts->most_at_once = current;
}

/* Idle counts from the end of the last exchange, and never less than the idle timeout. */
static void judge_reap(struct world *w, const struct note *n, bool pauses)
{
    const struct container *c = engine_named(w, n->name);
    int64_t least_ms;

    if (!c || c->by_hand || n->service < 0)
        return;
    SIM_ASSERT(w, c->exchanges == 0 && c->old_exchanges == 0);
    least_ms = w->services[n->service].idle_timeout_ms;
    if (pauses && w->services[n->service].pause_after_ms >= 0)
        least_ms = w->services[n->service].pause_after_ms;
    if (w->services[n->service].idle_auto) { /* a wake's instance is as old as the pause in use */
        SIM_ASSERT(w, pauses || c->used_ms + w->services[n->service].idle_min_ms <= w->now_ms);
        return;
    }
    SIM_ASSERT(w, c->used_ms + least_ms <= w->now_ms);
    SIM_ASSERT(w, c->ready_ms + least_ms <= w->now_ms || c->begun_before);
}

static void on_changed(void *self, const struct fleet_change *c)
{
    struct world *w = self;
    struct note *n = note_of(w, c->instance);
    struct container *at = engine_named(w, c->name);

    sim_say(w, "%s #%llu %s: %s -> %s (%s)", c->service, (unsigned long long)c->instance, c->name,
            c->from, c->to, c->why);
    SIM_ASSERT(w, c->ms >= 0 && c->why && c->why[0]);
    if (at && strcmp(c->from, "absent") == 0) /* news of its death may be of a former life */
        at->lived_before = strcmp(c->to, "creating") != 0 && strcmp(c->to, "pulling") != 0;
    if (at && strcmp(c->from, "stopped") == 0)
        at->lived_before = true;
    n->service = strncmp(c->service, "svc-", 4) == 0 ? c->service[4] - '0' : -1;
    snprintf(n->name, sizeof n->name, "%s", c->name);
    n->state_ms = w->now_ms;
    n->current = is_current(c->to);
    n->ready = strcmp(c->to, "ready") == 0 || strcmp(c->to, "resuming") == 0;
    w->counts->paused += strcmp(c->to, "paused") == 0;
    w->counts->stopped += strcmp(c->to, "stopped") == 0;
    if (at && strcmp(c->from, "draining") == 0 && at->c.state == ENGINE_PAUSED)
        at->by_hand = true; /* the same, on its way out */
    if (at && strcmp(c->from, "resuming") == 0 && strcmp(c->to, "removing") == 0)
        at->by_hand = true; /* given up, and it may resume yet: its exchanges are lost anyway */
    if (n->ready && strcmp(c->from, "probing") == 0)
        SIM_ASSERT(w, !at || at->told_ms == 0); /* what is said to have died is not used */
    if (n->ready && at && at->ready_ms == 0)
        at->ready_ms = w->now_ms;
    if (strcmp(c->from, "absent") == 0 && strcmp(c->to, "probing") == 0)
        w->counts->adopted++;
    if (n->current && n->service >= 0)
        judge_single(w, n->service);
    if (n->ready && n->service >= 0)
        w->rest_until_ms[n->service] = 0;
    if (n->current && strcmp(c->from, "absent") == 0 && strcmp(c->to, "probing") != 0)
        SIM_ASSERT(w, w->now_ms >= w->rest_until_ms[n->service]);
    if (strcmp(c->why, "idle") == 0)
        judge_reap(w, n, strcmp(c->to, "paused") == 0);
    w->counts->moves[state_of(c->from)][state_of(c->to)]++;
}

static void on_cold_start(void *self, uint32_t service, bool success, const char *result,
                          const int64_t phase_ms[FLEET_PHASES])
{
    struct world *w = self;

    SIM_ASSERT(w, sim_index(w, service) >= 0 && result[0] && phase_ms[FLEET_TOTAL] >= 0);
    for (int n = 0; n < FLEET_PHASES; n++)
        SIM_ASSERT(w, phase_ms[n] >= -1 && phase_ms[n] <= phase_ms[FLEET_TOTAL]);
    w->counts->cold_ok += success;
    w->counts->cold_failed += !success;
}

static void on_reaped(void *self, uint32_t service, const char *action)
{
    struct world *w = self;

    SIM_ASSERT(w, sim_index(w, service) >= 0 && action[0]);
    w->counts->reaped += strcmp(action, "remove") == 0;
}

static void on_resumed(void *self, uint32_t service)
{
    struct world *w = self;

    SIM_ASSERT(w, sim_index(w, service) >= 0);
    w->counts->resumed++;
}

static void on_clock_changed(void *self)
{
    control_save_clocks(self);
}

static void on_ends(void *self, const char *name)
{
    control_note_end(self, name);
}

struct fleet_observer judge_observer(struct world *w)
{
    return (struct fleet_observer){.self = w,
                                   .changed = on_changed,
                                   .cold_start = on_cold_start,
                                   .reaped = on_reaped,
                                   .resumed = on_resumed,
                                   .ending = on_ends,
                                   .clock_changed = on_clock_changed};
}

/* --- tickets: I4, I5, I6 --- */

static void ticket_end(struct world *w, struct ticket *t)
{
    kg_map_remove(&w->tickets_open[t->front], KG_U64_KEY(t->number));
    kg_list_remove(&t->link);
    if (t->service < SIM_SERVICES)
        w->open[t->service]--;
    free(t);
}

void judge_asked(struct world *w, int front, uint64_t ticket, int service)
{
    struct ticket *t;

    if (kg_map_get(&w->tickets_open[front], KG_U64_KEY(ticket)))
        return; /* said twice by a hostile front */
    t = calloc(1, sizeof *t);
    SIM_ASSERT(w, t && kg_map_set(&w->tickets_open[front], KG_U64_KEY(ticket), t) == 0);
    *t = (struct ticket){
        .number = ticket, .front = front, .service = service, .since_ms = w->now_ms};
    kg_list_push_back(&w->tickets_old, &t->link);
    if (service < SIM_SERVICES)
        w->open[service]++;
}

void judge_withdrawn(struct world *w, int front, uint64_t ticket)
{
    struct ticket *t = kg_map_get(&w->tickets_open[front], KG_U64_KEY(ticket));

    if (t)
        ticket_end(w, t);
}

void judge_answered(struct world *w, int front, uint64_t ticket)
{
    struct ticket *t = kg_map_get(&w->tickets_open[front], KG_U64_KEY(ticket));

    SIM_ASSERT(w, t && "an answer to a ticket that is not open");
    ticket_end(w, t);
}

bool judge_serves(const struct world *w, uint64_t instance, int service)
{
    const struct note *n = kg_map_get(&w->notes, KG_U64_KEY(instance));

    return n && n->ready && n->service == service;
}

/* Some of what is out is not lent again when it comes back. */
static bool is_overlent(const struct world *w, uint32_t id)
{
    struct fleet_view views[16];
    size_t count = fleet_view(w->fleet, id, views, 16, w->now_ms);

    for (size_t n = 0; n < count && n < 16; n++)
        if (views[n].slots_out > (unsigned)fleet_service(w->fleet, id)->concurrency)
            return true;
    return false;
}

/* Full is a queue in which as many wait as may, and as slots are idle elsewhere. */
static void judge_full(struct world *w, int front, int service)
{
    uint32_t id = (uint32_t)w->ids[service];
    size_t idle = fronts_idle_slots(w, service, w->places[front]);

    sim_say(w, "queue-full: %zu wait, %zu slots idle elsewhere", fleet_waiting(w->fleet, id), idle);
    SIM_ASSERT(w, is_overlent(w, id) || fleet_waiting(w->fleet, id) >=
                                            (size_t)fleet_service(w->fleet, id)->queue + idle);
}

/* Nothing serves, and it is known what there is. */
static void judge_asleep(struct world *w, int service)
{
    size_t at = 0;
    struct kg_str key;
    void *value;

    SIM_ASSERT(w, w->listed || !w->engine.up || w->now_ms <= w->engine.away_ms || w->calm);
    while (kg_map_next(&w->notes, &at, &key, &value))
        SIM_ASSERT(w, !((const struct note *)value)->ready ||
                          ((const struct note *)value)->service != service);
}

/* An image is said to be missing only where the engine said so (or a pull went wrong). After what
 * is the service's fault nothing is made until the Retry-After that was told. */
void judge_refused(struct world *w, int front, uint64_t ticket, unsigned reason, int64_t retry_ms)
{
    const struct ticket *t = kg_map_get(&w->tickets_open[front], KG_U64_KEY(ticket));

    if (t && reason == ORCH_IMAGE_UNAVAILABLE && w->services[t->service].needs.count == 0)
        SIM_ASSERT(w, w->engine.no_image_ms[t->service] + IMAGE_MS > w->now_ms);
    if (t && (reason == ORCH_IMAGE_UNAVAILABLE || reason == ORCH_INSTANCE_EXITED) &&
        w->services[t->service].needs.count == 0)
        w->rest_until_ms[t->service] = w->now_ms + retry_ms;
    if (t && reason == ORCH_QUEUE_FULL)
        judge_full(w, front, (int)t->service);
    if (t && reason == ORCH_ASLEEP)
        judge_asleep(w, (int)t->service);
    judge_answered(w, front, ticket);
}

void judge_no_rest(struct world *w)
{
    memset(w->rest_until_ms, 0, sizeof w->rest_until_ms);
}

void judge_front_down(struct world *w, int front)
{
    KG_LIST_EACH_SAFE(it, &w->tickets_old)
    {
        struct ticket *t = KG_LIST_ENTRY(it, struct ticket, link);
        if (t->front == front)
            ticket_end(w, t);
    }
}

static void judge_tickets(struct world *w)
{
    const struct ticket *oldest;
    int64_t since_ms;

    for (uint32_t s = 0; s < SIM_SERVICES; s++) {
        SIM_ASSERT(w, w->open[s] ==
                          (w->ids[s] < 0 ? 0 : fleet_waiting(w->fleet, (uint32_t)w->ids[s])));
        SIM_ASSERT(w, w->open[s] <= w->most_waiting[s] + /* those for slots elsewhere: */
                                        (size_t)w->most[s] * (size_t)w->most_instances[s]);
    }
    if (kg_list_empty(&w->tickets_old))
        return;
    oldest = KG_LIST_ENTRY(kg_list_first(&w->tickets_old), const struct ticket, link);
    since_ms = oldest->since_ms;
    if (since_ms < w->disturbed_ms)
        since_ms = w->disturbed_ms;
    SIM_ASSERT(w, w->now_ms - since_ms <= WAIT_LAST_MS);
}

/* --- exchanges and what is done to containers: I1, I7, I9 --- */

/* News of its death may be of a former life: the engine is asked. */
static bool is_being_asked(const struct world *w, const struct container *c)
{
    return c->lived_before && (w->now_ms < w->engine.fault_ms || w->now_ms - c->told_ms < ASKED_MS);
}

void judge_granted(struct world *w, int service, uint64_t instance)
{
    const struct note *n = note_of(w, instance);
    const struct container *c = engine_named(w, n->name);

    SIM_ASSERT(w, n->ready && n->service == service);
    SIM_ASSERT(w, !c || c->by_hand || c->told_ms == 0 || is_being_asked(w, c));
}

/* What a front holds of a former life of it would lead to nobody, or to somebody else. */
void judge_renamed(struct world *w, const struct sockaddr_storage *held, uint64_t instance)
{
    const struct container *c = engine_named(w, note_of(w, instance)->name);
    bool up = c && (c->c.state == ENGINE_RUNNING || c->c.state == ENGINE_PAUSED);

    SIM_ASSERT(w, !up || c->by_hand || memcmp(held, &c->c.address, sizeof *held) == 0);
}

bool judge_exchange(struct world *w, struct container *c, const char *name, int service)
{
    const struct container *own = engine_named(w, name);

    if (own == c) {
        SIM_ASSERT(w, (c->service == service || service == SIM_SERVICES) &&
                          "an answer of another service");
        return true;
    }
    if (own && !own->by_hand && own->told_ms != 0)
        SIM_ASSERT(w, w->now_ms - own->told_ms < KNOWS_MS || is_being_asked(w, own)); /* D8 */
    return false;
}

/* Where nothing goes wrong but that control dies, nobody is the worse for it. */
void judge_client(struct world *w, const struct client *c, unsigned reason)
{
    if (!w->only_crashes || w->calm || c->service == SIM_SERVICES)
        return;
    SIM_ASSERT(w, reason != 0 && "an exchange broke that need not have");
    if (reason == ORCH_QUEUE_FULL || (reason == ORCH_ASLEEP && c->waiter.quiet) ||
        (reason == PROXY_DRAINING && c->front->draining))
        return;
    sim_say(w, "client %llu is refused: %s", (unsigned long long)c->number,
            orch_reason_row(reason)->name);
    sim_fail(w, "a request was refused that need not have been");
}

void judge_stop(struct world *w, const struct container *c)
{
    bool up = c->c.state == ENGINE_RUNNING; /* frozen ones that would not resume have to go */
    const struct note *n = note_named(w, c->made_name);

    SIM_ASSERT(w, c->ours && strcmp(c->c.owner, SIM_OWNER) == 0);
    sim_say(w, "%s ends by order, %d exchanges", c->c.name, c->exchanges);
    if (!up || c->by_hand || c->told_ms != 0)
        return;
    SIM_ASSERT(w, c->exchanges == 0);
    SIM_ASSERT(w, c->old_exchanges == 0);
    SIM_ASSERT(w, (!n || !n->ready) && "what is ready is ended by an order of before");
}

static bool is_known(struct world *w, const char *name)
{
    return note_named(w, name) != NULL;
}

/* I1: nothing is asked to freeze that is in use, or is said to serve. */
void judge_pause(struct world *w, const char *id)
{
    const struct container *c = engine_find(w, id);
    const struct note *n = c ? note_named(w, c->made_name) : NULL;

    if (!c)
        return;
    SIM_ASSERT(w, n && !n->ready && "what is ready is frozen");
    if (c->by_hand)
        return;
    SIM_ASSERT(w, c->ours && strcmp(c->c.owner, SIM_OWNER) == 0);
    SIM_ASSERT(w, c->exchanges == 0 && c->old_exchanges == 0);
}

bool judge_knows(struct world *w, const struct container *c)
{
    return w->fleet && is_known(w, c->made_name);
}

void judge_create_asked(struct world *w, const char *name)
{
    struct note *n = note_named(w, name);

    if (n)
        n->asked_for = w->configuring;
}

/* What a change ends is not made in the course of it. */
void judge_configured(struct world *w)
{
    size_t at = 0;
    struct kg_str key;
    void *value;

    while (kg_map_next(&w->notes, &at, &key, &value)) {
        struct note *n = value;
        SIM_ASSERT(w, !n->asked_for || n->current);
        n->asked_for = false;
    }
}

/* I10: nothing is made while what it would be runs already, unseen since the last run. */
void judge_create(struct world *w, int service, const char *spec)
{
    for (size_t n = 0; n < w->engine.count; n++) {
        const struct container *c = &w->engine.containers[n];
        if (c->ours && !c->by_hand && c->service == service && c->c.state == ENGINE_RUNNING &&
            strcmp(c->c.spec, spec) == 0)
            SIM_ASSERT(w, is_known(w, c->c.name));
    }
}

/* --- always --- */

/* No more is out than there are slots, whoever lent them; a front that was taken over may say that
 * it holds as many as there could ever be, once. */
static void judge_lent(struct world *w)
{
    for (uint32_t s = 0; s < SIM_SERVICES; s++) {
        struct fleet_view views[16];
        size_t count =
            w->ids[s] < 0 ? 0 : fleet_view(w->fleet, (uint32_t)w->ids[s], views, 16, w->now_ms);
        unsigned most = (unsigned)w->most[s];
        if (w->hostile)
            most = KG_MAX_CONCURRENCY + (SIM_FRONTS - 1) * most;
        for (size_t n = 0; n < count && n < 16; n++)
            SIM_ASSERT(w, views[n].slots_out <= most);
    }
}

/* Healthy engine: what is due is gone within a second. */
static void judge_overdue(struct world *w)
{
    bool healthy = w->engine.up && w->now_ms - w->engine.fault_ms > HEALTHY_MS;

    for (uint32_t s = 0; s < SIM_SERVICES; s++) {
        struct fleet_view views[16];
        size_t count =
            w->ids[s] < 0 ? 0 : fleet_view(w->fleet, (uint32_t)w->ids[s], views, 16, w->now_ms);
        bool overdue = false;
        for (size_t n = 0; n < count && n < 16; n++)
            overdue |= strcmp(views[n].state, "ready") == 0 && views[n].reap_in_ms == 0;
        if (!overdue || !healthy)
            w->overdue_since_ms[s] = KG_NEVER;
        else if (w->overdue_since_ms[s] == KG_NEVER)
            w->overdue_since_ms[s] = w->now_ms;
        else
            SIM_ASSERT(w, w->now_ms - w->overdue_since_ms[s] <= 1000);
    }
}

static bool is_needed(const struct world *w, int service)
{
    return service + 1 < SIM_SERVICES && w->services[service + 1].needs.count > 0;
}

/* Idle clocks go on over a crash: what nobody uses ends when that is due by its last use, whatever
 * control thinks of it. Only where nothing else may have kept it. */
static void judge_late(struct world *w)
{
    bool healthy = w->engine.up && w->now_ms - w->engine.fault_ms > HEALTHY_MS && w->listed;

    for (size_t n = 0; healthy && !w->holding && !w->hostile && n < w->engine.count; n++) {
        const struct container *c = &w->engine.containers[n];
        const struct config_service *s = c->service >= 0 ? &w->services[c->service] : NULL;
        int64_t due_ms = kg_earliest(c->used_ms, KG_NEVER);
        if (!c->ours || c->by_hand || c->ordered_down || c->c.state != ENGINE_RUNNING ||
            c->ready_ms == 0 || c->exchanges + c->old_exchanges > 0 || s->idle_auto ||
            s->min_instances > 0 || s->spares > 0 || s->max_instances > 1 ||
            s->pause_after_ms >= 0 || s->on_idle != CONFIG_ON_IDLE_REMOVE ||
            is_needed(w, c->service) || w->most_instances[c->service] > 1)
            continue;
        due_ms = c->ready_ms > due_ms ? c->ready_ms : due_ms;
        due_ms = c->kept_ms > due_ms ? c->kept_ms : due_ms;
        due_ms = w->kept_ms > due_ms ? w->kept_ms : due_ms;
        due_ms += s->idle_timeout_ms;
        if (w->attached_ms + KG_LEASE_LINGER_MS > due_ms)
            due_ms = w->attached_ms + KG_LEASE_LINGER_MS;
        if (w->listed_ms > due_ms)
            due_ms = w->listed_ms;
        if (w->now_ms > due_ms + LATE_MS)
            sim_say(w, "%s was used at %lld and due at %lld", c->c.name, (long long)c->used_ms,
                    (long long)due_ms);
        SIM_ASSERT(w, w->now_ms <= due_ms + LATE_MS && "its idle clock did not go on");
    }
}

/* A crash in the second after a use, or after it became ready, may find that not saved yet. */
void judge_crash(struct world *w)
{
    if (w->now_ms - w->front_died_ms < UNSAVED_MS || w->now_ms - w->attached_ms < UNSAVED_MS)
        judge_unknown(w); /* both who knew are dead, or the one who had just been told */
    for (size_t n = 0; n < w->engine.count; n++) {
        struct container *c = &w->engine.containers[n];
        c->begun_before |= c->lived_before && c->ready_ms == 0;
        c->lived_before = true;
        c->told_ms = 0;  /* whoever was told is dead, */
        c->fault_ms = 0; /* and so is who waits for an answer */
        if (c->exchanges > 0 || w->now_ms - c->used_ms < UNSAVED_MS ||
            w->now_ms - c->ready_ms < UNSAVED_MS)
            c->kept_ms = KG_NEVER / 2; /* until it is used again */
    }
}

/* A front died that no control hears of: nobody knows what it had used last. */
void judge_unknown(struct world *w)
{
    bool again = w->now_ms - w->attached_ms < UNSAVED_MS; /* a crash soon after another */
    int64_t since_ms = (w->fleet && !again ? w->now_ms : w->died_ms) - UNSAVED_MS;

    for (size_t n = 0; n < w->engine.count; n++) {
        struct container *c = &w->engine.containers[n];
        if (c->exchanges == 0 && c->used_ms <= since_ms)
            continue;
        c->used_ms = 0;
        c->kept_ms = KG_NEVER / 2;
    }
}

/* Whoever asked is answered at some time, whoever control was and is. */
static void judge_clients(struct world *w)
{
    KG_LIST_EACH(it, &w->fronts)
    {
        const struct sim_front *f = KG_LIST_ENTRY(it, struct sim_front, link);
        KG_LIST_EACH(at, &f->clients)
        {
            const struct client *c = KG_LIST_ENTRY(at, struct client, link);
            int64_t since_ms = c->since_ms > w->disturbed_ms ? c->since_ms : w->disturbed_ms;
            SIM_ASSERT(w, c->state != CLIENT_WAITS || f->hostile ||
                              w->now_ms - since_ms <= WAIT_LAST_MS);
        }
    }
}

/* The list is the truth: what it did not have running is not ready a while later. */
static void judge_listed(struct world *w)
{
    size_t at = 0;
    struct kg_str key;
    void *value;

    if (!w->engine.up || w->now_ms - w->engine.fault_ms < HEALTHY_MS ||
        w->now_ms - w->engine.list_told_ms < HEALTHY_MS)
        return;
    while (kg_map_next(&w->notes, &at, &key, &value)) {
        const struct note *n = value;
        const struct container *c = n->ready ? engine_named(w, n->name) : NULL;
        bool ended = c && (c->c.state == ENGINE_EXITED || c->c.state == ENGINE_NONE) &&
                     n->state_ms < w->engine.list_began_ms;
        if (ended && c->ended_ms < w->engine.list_began_ms)
            sim_say(w, "%s ended at %lld", n->name, (long long)c->ended_ms);
        SIM_ASSERT(w, !ended || c->ended_ms >= w->engine.list_began_ms);
    }
}

/* What is open on a frozen worker goes on soon, also on one that nobody wants. */
static void judge_frozen(struct world *w)
{
    bool healthy = w->engine.up && w->now_ms > w->engine.away_ms && w->listed;

    for (size_t n = 0; n < w->engine.count; n++) {
        struct container *c = &w->engine.containers[n];
        if (!healthy || c->by_hand || w->now_ms < c->fault_ms || c->c.state != ENGINE_PAUSED ||
            c->exchanges + c->old_exchanges == 0)
            c->frozen_ms = KG_NEVER;
        else if (c->frozen_ms == KG_NEVER)
            c->frozen_ms = w->now_ms;
        else
            SIM_ASSERT(w, w->now_ms - c->frozen_ms <= FROZEN_LAST_MS && "left frozen in use");
    }
}

void judge_now(struct world *w)
{
    fleet_check(w->fleet);
    judge_tickets(w);
    judge_overdue(w); /* each time: what is due for an instant now and then is not overdue, */
    judge_frozen(w);  /* nor is what is frozen and resumed again and again left so */
    if (++w->looks % 16 != 0)
        return;
    judge_lent(w);
    judge_listed(w);
    judge_late(w);
    judge_clients(w);
}

static void judge_empty(struct world *w, uint32_t service)
{
    struct fleet_view views[16];
    size_t count = fleet_view(w->fleet, service, views, 16, w->now_ms);

    for (size_t n = 0; n < count && n < 16; n++)
        sim_say(w, "left: %s %s slots out %u", views[n].name, views[n].state, views[n].slots_out);
    SIM_ASSERT(w, count == 0);
}

/* What a front holds it can give back: what it claimed was answered. */
static void judge_fronts(struct world *w)
{
    KG_LIST_EACH(it, &w->fronts)
    {
        const struct sim_front *f = KG_LIST_ENTRY(it, struct sim_front, link);
        sim_say(w, "front %d%s at the end: %s%s%s", f->index, f->hostile ? " (hostile)" : "",
                f->draining ? "drains " : "", f->heard ? "" : "unheard ",
                kg_list_empty(&f->workers) ? "" : "has workers");
        SIM_ASSERT(w, f->hostile || kg_list_empty(&f->clients));
        SIM_ASSERT(w, f->hostile || kg_list_empty(&f->workers));
    }
}

/* Nothing waits, nothing of ours is left, nothing foreign is missing. */
void judge_rest(struct world *w)
{
    judge_fronts(w);
    SIM_ASSERT(w, kg_list_empty(&w->tickets_old));
    SIM_ASSERT(w, !fronts_old_live(w) && !w->holding);
    for (uint32_t s = 0; s < SIM_SERVICES; s++)
        judge_empty(w, (uint32_t)w->ids[s]);
    SIM_ASSERT(w, fleet_quiet(w->fleet) && w->open_callers == 0);
    for (size_t n = 0; n < w->engine.count; n++) {
        const struct container *c = &w->engine.containers[n];
        if (c->c.state != ENGINE_NONE)
            sim_say(w, "left: %s%s", c->c.name, c->ours ? ", ours" : "");
        if (c->c.state == ENGINE_NONE)
            SIM_ASSERT(w, c->ours || c->by_hand);
        else
            SIM_ASSERT(w, !c->ours || strncmp(c->c.name, "renamed-", 8) == 0);
    }
}

/* --- life --- */

void judge_begin(struct world *w)
{
    kg_map_init(&w->notes);
    kg_list_init(&w->tickets_old);
    for (int n = 0; n < SIM_FRONTS; n++)
        kg_map_init(&w->tickets_open[n]);
}

void judge_forget(struct world *w)
{
    size_t at = 0;
    struct kg_str key;
    void *value;

    while (kg_map_next(&w->notes, &at, &key, &value))
        free(value);
    kg_map_fini(&w->notes);
    judge_no_rest(w);
    for (int n = 0; n < SIM_FRONTS; n++)
        judge_front_down(w, n);
    for (int s = 0; s < SIM_SERVICES; s++)
        w->overdue_since_ms[s] = KG_NEVER;
}

void judge_end(struct world *w)
{
    judge_forget(w);
    for (int n = 0; n < SIM_FRONTS; n++)
        kg_map_fini(&w->tickets_open[n]);
}
