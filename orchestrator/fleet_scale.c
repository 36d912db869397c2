/* SPDX-License-Identifier: Apache-2.0 */
/* How many instances of a service there should be: for those who wait, kept ready, kept in reserve,
 * and fewer again. The difficulty: what waits, what starts and what is only lent are all in motion,
 * so nothing is remembered of them; each look counts anew. */
#include "orchestrator/fleet_priv.h"
#include <stdio.h>
#include <stdlib.h>

/* --- counting --- */

struct fleet_census fleet_count(const struct fleet_service *s)
{
    struct fleet_census c = {0};

    KG_LIST_EACH(it, &s->instances)
    {
        enum instance_state state = KG_LIST_ENTRY(it, struct fleet_instance, in_service)->state;
        c.starting += instance_is_provisioning(state);
        c.serving += instance_serves(state);
        c.paused += state == INSTANCE_PAUSED;
        c.stopped += state == INSTANCE_STOPPED;
        c.draining += state == INSTANCE_DRAINING;
    }
    return c;
}

static unsigned current(struct fleet_census c)
{
    return c.starting + c.serving;
}

/* Monitors are none for whom anything is made. */
static size_t wanting(const struct fleet_service *s)
{
    return s->waiting - s->waiting_quietly;
}

static bool has_room(const struct fleet_service *s, struct fleet_census c)
{
    return current(c) + c.paused < (unsigned)s->config->max_instances;
}

unsigned fleet_least(const struct fleet_service *s)
{
    unsigned least = s->config && !s->asleep ? (unsigned)s->config->min_instances : 0;

    return (s->needed > 0 || s->foreseen) && least == 0 ? 1 : least;
}

/* What nobody waits for is made only while the engine can make it. */
static bool may_prepare(const struct fleet *f, const struct fleet_service *s)
{
    return f->engine_up && f->listed && !f->stopping && s->strays == 0 && s->retry_ms <= f->now_ms;
}

/* --- needs --- */

static bool needs_ready(const struct fleet_service *s)
{
    for (size_t n = 0; n < s->need_count; n++)
        if (fleet_count(s->needs[n]).serving == 0)
            return false;
    return true;
}

/* A need whose rest is not over: there is no use in waiting for it. */
static const struct fleet_service *need_that_rests(const struct fleet *f,
                                                   const struct fleet_service *s)
{
    for (size_t n = 0; n < s->need_count; n++) {
        struct fleet_census c = fleet_count(s->needs[n]);
        if (current(c) + c.paused == 0 && fleet_backoff_left(f, s->needs[n]) > 0)
            return s->needs[n];
    }
    return NULL;
}

void fleet_needed_until_now(struct fleet *f, struct fleet_service *need)
{
    KG_LIST_EACH(it, &need->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (i->state == INSTANCE_READY)
            reaper_touch(&f->reaper, &i->idle, f->now_ms);
    }
    fleet_tell_clock(f);
}

bool fleet_may_be_needed(const struct fleet_service *s)
{
    for (size_t n = 0; n < s->needed_by_count; n++)
        if (s->needed_by[n]->strays > 0)
            return true;
    return false;
}

/* What a service in use needs is kept, and its idle clock begins when it is needed no more. */
static void hold_needs(struct fleet *f, struct fleet_service *s)
{
    struct fleet_census c = fleet_count(s);
    bool active = s->config && !f->stopping &&
                  (wanting(s) > 0 || fleet_has_waker(s) || s->renews ||
                   current(c) + c.draining > 0 || fleet_least(s) > 0);

    if (active == s->active)
        return;
    s->active = active;
    if (s->need_count > 0)
        fleet_tell_clock(f); /* what is needed is in use */
    for (size_t n = 0; n < s->need_count; n++) {
        struct fleet_service *need = s->needs[n];
        need->needed += active ? 1 : (unsigned)-1;
        if (!active)
            fleet_needed_until_now(f, need);
        fleet_attend(f, need);
    }
}

static void attend_dependents(struct fleet *f, struct fleet_service *s)
{
    for (size_t n = 0; n < s->needed_by_count; n++)
        if (s->needed_by[n]->waiting > 0 || fleet_has_waker(s->needed_by[n]) ||
            s->needed_by[n]->renews || fleet_least(s->needed_by[n]) > 0)
            fleet_attend(f, s->needed_by[n]);
}

static void refuse_hopeless(struct fleet *f, struct fleet_service *s, unsigned reason,
                            int64_t retry_after_ms, const char *detail, uint64_t walk)
{
    char words[FLEET_DETAIL_BYTES];

    if (s->walk == walk || current(fleet_count(s)) > 0)
        return;
    s->walk = walk;
    s->renews = false;
    fleet_refuse_waiting(s, reason, retry_after_ms, detail);
    fleet_wakers_done(f, s, reason, retry_after_ms, detail);
    fleet_attend(f, s);
    for (size_t n = 0; n < s->needed_by_count; n++) {
        snprintf(words, sizeof words, "service %s needs %s: %.100s", s->needed_by[n]->name, s->name,
                 detail);
        refuse_hopeless(f, s->needed_by[n], reason, retry_after_ms, words, walk);
    }
}

void fleet_refuse_hopeless(struct fleet *f, struct fleet_service *s, unsigned reason,
                           int64_t retry_after_ms, const char *detail)
{
    refuse_hopeless(f, s, reason, retry_after_ms, detail, ++f->walks);
}

/* --- making --- */

static enum instance_event demand_event(const struct fleet_service *s)
{
    return s->config->pull == CONFIG_PULL_ALWAYS ? INSTANCE_ON_DEMAND_PULL : INSTANCE_ON_DEMAND;
}

/* As old as the pause in use that it is meant to end, or as can be: 0 is no time. */
static int64_t clock_of_wake(const struct fleet_service *s)
{
    return s->used_ms > 0 ? s->used_ms : 1;
}

struct fleet_instance *fleet_succeed(struct fleet *f, struct fleet_service *s)
{
    struct fleet_instance *i = fleet_instance_new(f, s, s->name, NULL);

    if (!i) {
        s->retry_ms = f->now_ms + FLEET_NO_MEMORY_MS;
        fleet_refuse_hopeless(f, s, PROXY_OVERLOADED, 0, "too many instances");
        return NULL;
    }
    i->deadline_ms = f->now_ms + s->config->start_timeout_ms;
    i->deadline_ms = kg_earliest(i->deadline_ms, s->inherited_deadline_ms);
    s->inherited_deadline_ms = KG_NEVER;
    i->provisioned = true;
    if (s->foreseen)
        i->clock_ms = clock_of_wake(s);
    fleet_step(i, demand_event(s), NULL);
    return i;
}

/* The one that was used last, of those in that state. */
static struct fleet_instance *latest(const struct fleet_service *s, enum instance_state state)
{
    struct fleet_instance *best = NULL;

    KG_LIST_EACH(it, &s->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (i->state == state && (!best || i->idle.used_ms > best->idle.used_ms))
            best = i;
    }
    return best;
}

static void restart(struct fleet_instance *i)
{
    fleet_instance_reborn(i);
    i->deadline_ms = i->fleet->now_ms + i->service->config->start_timeout_ms;
    if (i->service->foreseen)
        i->clock_ms = clock_of_wake(i->service);
    fleet_step(i, demand_event(i->service), NULL);
}

/* What sleeps is woken; else the youngest is asked that is going away, for the table says what
 * demand does there; else another one is made. */
static void raise_demand(struct fleet *f, struct fleet_service *s, struct fleet_census c)
{
    struct fleet_instance *paused = latest(s, INSTANCE_PAUSED);
    struct fleet_instance *stopped = latest(s, INSTANCE_STOPPED);

    if (paused) {
        paused->deadline_ms = f->now_ms + s->config->start_timeout_ms;
        fleet_step(paused, demand_event(s), NULL);
        return;
    }
    if (!has_room(s, c))
        return;
    if (stopped) {
        restart(stopped);
        return;
    }
    for (struct kg_list *it = s->instances.prev; it != &s->instances; it = it->prev) {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (i->stray || instance_is_current(i->state))
            continue;
        fleet_step(i, demand_event(s), NULL);
        return;
    }
    fleet_succeed(f, s);
}

/* More than is there or starting; what fronts may still give back counts as there. */
static bool wants_more(const struct fleet *f, const struct fleet_service *s, struct fleet_census c)
{
    bool waker = fleet_has_waker(s);

    if (f->stopping || s->retry_ms > f->now_ms || !needs_ready(s))
        return false;
    if (fleet_backoff_left(f, s) > 0 && c.paused == 0 && !(waker && current(c) == 0))
        return false;
    if (current(c) < fleet_least(s) && (s->needed > 0 || may_prepare(f, s)))
        return true;
    if (current(c) == 0)
        return wanting(s) > 0 || waker || s->renews;
    return wanting(s) > (size_t)c.starting * (size_t)s->config->concurrency &&
           fleet_recall_pending(s) <= f->now_ms;
}

static void meet_demand(struct fleet *f, struct fleet_service *s)
{
    struct fleet_census c = fleet_count(s), before;

    do {
        before = c;
        if (!wants_more(f, s, c))
            return;
        raise_demand(f, s, c);
        c = fleet_count(s);
    } while (current(c) > current(before));
}

/* --- spares --- */

static unsigned spares_coming(const struct fleet_service *s)
{
    unsigned count = 0;

    KG_LIST_EACH(it, &s->instances)
    {
        const struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        count += i->spare && instance_is_current(i->state);
    }
    return count;
}

static bool may_freeze(const struct fleet_instance *i)
{
    return i->state == INSTANCE_READY && i->out == 0 && !i->held && !i->unpausable;
}

static void freeze_spares(struct fleet_service *s)
{
    KG_LIST_EACH_SAFE(it, &s->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (!i->spare || !may_freeze(i) || fleet_count(s).serving <= fleet_least(s))
            continue;
        i->spare = false;
        fleet_step(i, INSTANCE_ON_IDLE_PAUSE, "kept as a spare");
    }
}

static void keep_spares(struct fleet *f, struct fleet_service *s)
{
    unsigned spares = s->asleep ? 0 : (unsigned)s->config->spares;

    freeze_spares(s);
    if (!may_prepare(f, s) || fleet_backoff_left(f, s) > 0 || !needs_ready(s))
        return;
    for (;;) {
        struct fleet_census c = fleet_count(s);
        struct fleet_instance *i;
        if (fleet_spares_there(s) + spares_coming(s) >= spares || !has_room(s, c))
            return;
        i = latest(s, INSTANCE_STOPPED);
        if (i)
            restart(i);
        else if ((i = fleet_succeed(f, s)) == NULL)
            return;
        i->spare = true;
    }
}

/* --- fewer again --- */

static int64_t part_ms(const struct fleet_service *s)
{
    int64_t ms = s->config->idle_timeout_ms / FLEET_PEAKS;

    return ms > FLEET_PEAK_LEAST_MS ? ms : FLEET_PEAK_LEAST_MS;
}

void fleet_peak_note(const struct fleet *f, struct fleet_service *s)
{
    if (s->peak_until_ms != KG_NEVER && s->out > s->peaks[0] &&
        fleet_recall_pending(s) <= f->now_ms)
        s->peaks[0] = s->out;
}

/* A new part of the window begins: what is only lent comes back, so that what is used is seen. */
static void next_part(struct fleet *f, struct fleet_service *s)
{
    for (int part = FLEET_PEAKS - 1; part > 0; part--)
        s->peaks[part] = s->peaks[part - 1];
    s->peaks[0] = 0;
    s->peak_until_ms = f->now_ms + part_ms(s);
    KG_LIST_EACH(it, &s->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (i->state == INSTANCE_READY)
            fleet_recall_all(i);
    }
    fleet_peak_note(f, s);
}

static unsigned needed_lately(const struct fleet_service *s)
{
    unsigned most = 0, each = (unsigned)s->config->concurrency;

    for (int part = 0; part < FLEET_PEAKS; part++)
        if (s->peaks[part] > most)
            most = s->peaks[part];
    return most / each + (most % each != 0);
}

bool fleet_one_is_going(const struct fleet_service *s)
{
    KG_LIST_EACH(it, &s->instances)
    {
        const struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (i->state >= INSTANCE_DRAINING && i->state <= INSTANCE_REMOVING)
            return true;
    }
    return false;
}

/* The youngest that is idle; when all are in use the youngest. */
static struct fleet_instance *to_retire(const struct fleet_service *s)
{
    struct fleet_instance *youngest = NULL;

    for (struct kg_list *it = s->instances.prev; it != &s->instances; it = it->prev) {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (i->state != INSTANCE_READY || i->held || fleet_is_warm_spare(i))
            continue;
        if (i->out == 0)
            return i;
        if (!youngest)
            youngest = i;
    }
    return youngest;
}

static unsigned warm_spares(const struct fleet_service *s)
{
    unsigned count = 0;

    KG_LIST_EACH(it, &s->instances)
    count += fleet_is_warm_spare(KG_LIST_ENTRY(it, struct fleet_instance, in_service));
    return count;
}

static void retire(struct fleet *f, struct fleet_service *s)
{
    static const char why[] = "more than was needed lately";
    unsigned serving = fleet_count(s).serving - warm_spares(s);
    struct fleet_instance *i;

    if (serving < 2 || serving <= fleet_least(s)) {
        s->peak_until_ms = KG_NEVER;
        return;
    }
    if (s->peak_until_ms == KG_NEVER) {
        s->peak_until_ms = f->now_ms + part_ms(s);
        for (int part = 0; part < FLEET_PEAKS; part++)
            s->peaks[part] = UINT_MAX;
    } else if (s->peak_until_ms <= f->now_ms) {
        next_part(f, s);
    }
    s->peak_until_ms = kg_earliest(s->peak_until_ms, f->now_ms + part_ms(s)); /* by a reload */
    if (serving <= needed_lately(s) || s->waiting > 0 || fleet_one_is_going(s) || !f->engine_up)
        return;
    i = to_retire(s);
    if (!i || (i->out == 0 && fleet_keep_idle(i, why)))
        return;
    i->reaped = true;
    fleet_unwanted(i, why);
}

/* --- the whole --- */

static void refuse_stuck(struct fleet *f, struct fleet_service *s, unsigned reason,
                         int64_t retry_after_ms, const char *words)
{
    char detail[FLEET_DETAIL_BYTES];

    snprintf(detail, sizeof detail, "service %s: %.160s", s->name, words);
    fleet_refuse_hopeless(f, s, reason, retry_after_ms, detail);
}

static void refuse_for_need(struct fleet *f, struct fleet_service *s,
                            const struct fleet_service *need)
{
    char words[160];

    snprintf(words, sizeof words, "needs %s: %.80s", need->name, need->cause);
    refuse_stuck(f, s, ORCH_BACKING_OFF, fleet_backoff_left(f, need), words);
}

/* Those who wait for nothing that is on its way. */
static void refuse_who_cannot(struct fleet *f, struct fleet_service *s)
{
    const struct fleet_service *need = need_that_rests(f, s);

    if (current(fleet_count(s)) > 0 || (wanting(s) == 0 && !fleet_has_waker(s)))
        return;
    if (f->stopping)
        refuse_stuck(f, s, PROXY_DRAINING, 0, "Kipgate is going down");
    else if (fleet_backoff_left(f, s) > 0 && !fleet_has_waker(s))
        refuse_stuck(f, s, ORCH_BACKING_OFF, fleet_backoff_left(f, s), s->cause);
    else if (need)
        refuse_for_need(f, s, need);
    else if (needs_ready(s))
        refuse_stuck(f, s, PROXY_OVERLOADED, 0, "too many instances");
}

/* What was blocked may go on: strays are settled, the engine is back. */
static void pump(struct fleet_service *s)
{
    KG_LIST_EACH_SAFE(it, &s->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (!instance_is_provisioning(i->state))
            continue;
        fleet_pump(i);
        fleet_arm(i);
    }
}

/* The youngest that may be had without: what sleeps before what serves. */
static struct fleet_instance *superfluous(const struct fleet_service *s)
{
    struct fleet_instance *found = NULL;

    for (struct kg_list *it = s->instances.prev; it != &s->instances; it = it->prev) {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (i->state == INSTANCE_STOPPED)
            return i;
        if (i->state == INSTANCE_PAUSED && (!found || found->state != INSTANCE_PAUSED))
            found = i;
        if (!found && instance_is_current(i->state))
            found = i;
    }
    return found;
}

/* The cap was lowered, what was stopped found its place taken, or is not to be kept any more. */
static void drop_surplus(struct fleet_service *s)
{
    bool keeps = s->config->on_idle == CONFIG_ON_IDLE_STOP;

    for (;;) {
        struct fleet_census c = fleet_count(s);
        if (current(c) + c.paused + c.stopped <= (unsigned)s->config->max_instances &&
            (c.stopped == 0 || keeps))
            return;
        fleet_unwanted(superfluous(s), "there may not be so many");
    }
}

static void arm(struct fleet *f, struct fleet_service *s)
{
    int64_t due_ms = kg_earliest(s->peak_until_ms, fleet_foresee_due_ms(s));
    int64_t recall_ms = fleet_recall_pending(s);

    if (fleet_backoff_left(f, s) > 0 && (fleet_least(s) > 0 || s->config->spares > 0))
        due_ms = kg_earliest(due_ms, s->backoff_until_ms);
    if (s->retry_ms > f->now_ms)
        due_ms = kg_earliest(due_ms, s->retry_ms);
    if (s->waiting > 0 && recall_ms > f->now_ms)
        due_ms = kg_earliest(due_ms, recall_ms);
    if (s->waiting_quietly > 0 && fleet_engine_away_ms(f) > f->now_ms)
        due_ms = kg_earliest(due_ms, fleet_engine_away_ms(f));
    if (due_ms == KG_NEVER)
        kg_heap_remove(&f->service_timers, &s->timer);
    else /* room was reserved when the service was configured */
        KG_ASSERT(kg_heap_set(&f->service_timers, &s->timer, due_ms) == 0);
}

/* Pulls have their own time. */
static void note_unserved(struct fleet *f, struct fleet_service *s)
{
    bool served = wanting(s) == 0 || fleet_count(s).serving > 0;

    KG_LIST_EACH(it, &s->instances)
    served |= KG_LIST_ENTRY(it, struct fleet_instance, in_service)->state == INSTANCE_PULLING;
    s->unserved_ms = served ? KG_NEVER : kg_earliest(s->unserved_ms, f->now_ms);
}

void fleet_settle(struct fleet *f, struct fleet_service *s)
{
    if (s->waiting == 0 && !fleet_has_waker(s))
        s->inherited_deadline_ms = KG_NEVER;
    if (!s->config) {
        s->peak_until_ms = KG_NEVER;
        hold_needs(f, s);
        if (s->waiting > 0 || fleet_has_waker(s))
            refuse_stuck(f, s, PROXY_NO_ROUTE, 0, "it is no longer configured");
        kg_heap_remove(&f->service_timers, &s->timer);
        return;
    }
    fleet_foresee(f, s);
    drop_surplus(s);
    pump(s);
    fleet_serve(s);
    fleet_refuse_surplus(f, s);
    hold_needs(f, s);
    meet_demand(f, s);
    s->renews &= current(fleet_count(s)) == 0;
    refuse_who_cannot(f, s);
    keep_spares(f, s);
    retire(f, s);
    fleet_retime_kept(s);
    hold_needs(f, s);
    attend_dependents(f, s);
    note_unserved(f, s);
    arm(f, s);
}
