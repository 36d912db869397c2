/* SPDX-License-Identifier: Apache-2.0 */
/* The fleet's beginning and end, its clock, and what every public call begins and ends with.
 * The difficulty: one change leads to others; they are done one after the other, not nested. */
#include "orchestrator/fleet_priv.h"
#include <stdio.h>
#include <stdlib.h>

/* --- public calls --- */

static void empty_graves(struct fleet *f)
{
    KG_LIST_EACH_SAFE(it, &f->graves)
    free(KG_LIST_ENTRY(it, struct fleet_instance, in_fleet));
    kg_list_init(&f->graves);
}

/* Time never goes back, whoever tells it: a loop's cached time may lag behind the clock. */
void fleet_enter(struct fleet *f, int64_t now_ms)
{
    empty_graves(f);
    if (now_ms > f->now_ms)
        f->now_ms = now_ms;
}

void fleet_attend(struct fleet *f, struct fleet_service *s)
{
    if (kg_list_empty(&s->attention))
        kg_list_push_back(&f->attention, &s->attention);
}

/* Who waits to start does so last: it may be one that is about to be ended. */
void fleet_leave(struct fleet *f)
{
    struct kg_list *first;

    while ((first = kg_list_first(&f->attention)) != NULL) {
        kg_list_remove(first);
        fleet_settle(f, KG_LIST_ENTRY(first, struct fleet_service, attention));
    }
    fleet_start_next(f);
}

/* --- time --- */

int64_t fleet_due_ms(const struct fleet *f)
{
    const struct kg_heap_node *first = kg_heap_first(&f->timers);
    const struct kg_heap_node *service = kg_heap_first(&f->service_timers);
    int64_t due_ms =
        kg_earliest(first ? first->due_ms : KG_NEVER, service ? service->due_ms : KG_NEVER);

    if (!kg_list_empty(&f->finished))
        return f->now_ms;
    /* Nothing is reaped while the engine is away: what is due waits. */
    return f->engine_up ? kg_earliest(due_ms, reaper_due_ms(&f->reaper)) : due_ms;
}

static void tick_timers(struct fleet *f)
{
    struct kg_heap_node *first;

    while ((first = kg_heap_first(&f->service_timers)) != NULL && first->due_ms <= f->now_ms) {
        kg_heap_remove(&f->service_timers, first);
        fleet_attend(f, KG_CONTAINER_OF(first, struct fleet_service, timer));
    }
    while ((first = kg_heap_first(&f->timers)) != NULL && first->due_ms <= f->now_ms) {
        kg_heap_remove(&f->timers, first);
        fleet_on_time(KG_CONTAINER_OF(first, struct fleet_instance, timer));
    }
}

void fleet_tick(struct fleet *f, int64_t now_ms)
{
    fleet_enter(f, now_ms);
    tick_timers(f);
    if (f->engine_up)
        reaper_tick(&f->reaper, f->now_ms);
    fleet_leave(f);
    fleet_tell_finished(f);
}

/* --- life --- */

static int64_t system_clock(void *arg)
{
    (void)arg;
    return kg_clock_mono_ms();
}

void fleet_service_init(struct fleet_service *s)
{
    *s = (struct fleet_service){.inherited_deadline_ms = KG_NEVER,
                                .unserved_ms = KG_NEVER,
                                .peak_until_ms = KG_NEVER,
                                .used_ms = KG_NEVER,
                                .wake_ms = KG_NEVER};
    habit_init(&s->habit);
    kg_list_init(&s->instances);
    kg_list_init(&s->waiters);
    kg_list_init(&s->callers);
    kg_list_init(&s->attention);
}

static int64_t system_wall(void *arg)
{
    (void)arg;
    return kg_clock_wall_ms();
}

static void init(struct fleet *f)
{
    habits_init(&f->habits);
    kg_list_init(&f->instances);
    kg_list_init(&f->graves);
    kg_list_init(&f->attention);
    kg_list_init(&f->finished);
    kg_list_init(&f->start_queue);
    kg_list_init(&f->claims);
    kg_map_init(&f->service_names);
    kg_map_init(&f->by_id);
    kg_map_init(&f->by_name);
    kg_map_init(&f->by_container);
    kg_map_init(&f->remembered);
    kg_map_init(&f->foreign);
    kg_heap_init(&f->timers);
    kg_heap_init(&f->service_timers);
    reaper_init(&f->reaper, fleet_expire, f);
    fleet_service_init(&f->orphans);
    f->orphans.id = UINT32_MAX;
    for (int front = 0; front < KG_MAX_FRONTS; front++) {
        kg_map_init(&f->fronts[front].tickets);
        kg_list_init(&f->fronts[front].waiters);
    }
}

struct fleet *fleet_new(const struct fleet_params *params, int64_t now_ms)
{
    struct fleet *f = calloc(1, sizeof *f);

    KG_ASSERT(params->max_starts > 0);
    if (!f)
        return NULL;
    init(f);
    f->engine = *params->engine;
    f->door = params->fronts;
    f->observer = params->observer;
    f->clock = params->now_ms ? params->now_ms : system_clock;
    f->wall = params->wall_ms ? params->wall_ms : system_wall;
    f->clock_arg = params->now_arg;
    f->random = params->seed;
    f->last_instance = params->numbers;
    f->max_starts = params->max_starts;
    f->paused_memory_bytes = -1;
    f->now_ms = f->engine_down_ms = now_ms;
    snprintf(f->owner, sizeof f->owner, "%s", params->owner);
    return f;
}

static void service_free(struct fleet_service *s)
{
    KG_LIST_EACH_SAFE(it, &s->waiters)
    free(KG_LIST_ENTRY(it, struct fleet_waiter, in_service));
    fleet_callers_free(&s->callers);
    free(s->needs);
    free(s->needed_by);
}

static void fini_maps(struct fleet *f)
{
    fleet_forget_remembered(f);
    kg_map_fini(&f->service_names);
    kg_map_fini(&f->by_id);
    kg_map_fini(&f->by_name);
    kg_map_fini(&f->by_container);
    kg_map_fini(&f->foreign);
    for (int front = 0; front < KG_MAX_FRONTS; front++)
        kg_map_fini(&f->fronts[front].tickets);
}

void fleet_free(struct fleet *f)
{
    if (!f)
        return;
    for (uint32_t id = 0; id < f->service_count; id++) {
        service_free(f->services[id]);
        free(f->services[id]);
    }
    fleet_callers_free(&f->finished);
    fleet_claims_forget(f, -1);
    empty_graves(f);
    KG_LIST_EACH_SAFE(it, &f->instances)
    free(KG_LIST_ENTRY(it, struct fleet_instance, in_fleet));
    fini_maps(f);
    reaper_fini(&f->reaper);
    kg_heap_fini(&f->timers);
    kg_heap_fini(&f->service_timers);
    free(f);
}
