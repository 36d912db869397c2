/* SPDX-License-Identifier: Apache-2.0 */
/* Instances as records: made with all the memory their life needs, named before they exist at the
 * engine, buried when they are gone. The difficulty: whatever can fail fails here, at the start. */
#include "orchestrator/fleet_priv.h"
#include <stdio.h>
#include <stdlib.h>

static uint64_t next_random(struct fleet *f)
{
    uint64_t z = (f->random += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A name that no instance of ours has; that no container has it is the engine's to say. */
static void make_name(struct fleet *f, const char *label, char out[ENGINE_NAME_BYTES])
{
    do {
        snprintf(out, ENGINE_NAME_BYTES, FLEET_NAME_PREFIX "%s-%010llx", label,
                 (unsigned long long)(next_random(f) & 0xffffffffffu));
    } while (kg_map_get(&f->by_name, kg_str_of(out)));
}

static int index_it(struct fleet_instance *i)
{
    struct fleet *f = i->fleet;
    int rc = kg_heap_reserve(&f->timers, f->instance_count + 1);

    if (rc == 0)
        rc = kg_map_set(&f->by_id, KG_U64_KEY(i->id), i);
    if (rc == 0)
        rc = kg_map_set(&f->by_name, kg_str_of(i->name), i);
    if (rc == 0)
        rc = reaper_watch(&f->reaper, &i->idle, 0, 0);
    if (rc != 0) {
        kg_map_remove(&f->by_id, KG_U64_KEY(i->id));
        kg_map_remove(&f->by_name, kg_str_of(i->name));
    }
    return rc;
}

static void begin_provisioning(struct fleet_instance *i)
{
    i->born_ms = i->fleet->now_ms;
    i->deadline_ms = i->clock_ms = KG_NEVER;
    i->epoch = i->fleet->epoch;
    i->probe_front = -1;
    for (int phase = 0; phase < FLEET_PHASES; phase++)
        i->phase_ms[phase] = -1;
}

void fleet_instance_reborn(struct fleet_instance *i)
{
    KG_ASSERT(i->state == INSTANCE_STOPPED && i->out == 0);
    begin_provisioning(i);
    i->provisioned = i->restarted = i->woken = true;
    i->start_cut = i->keep = i->recreated = i->oom = i->died = i->answered = i->blamed = false;
    i->unpausable = false;
    i->pulled = false; /* its image may have gone meanwhile, and its container */
    i->pull_until_ms = 0;
    i->asked_why = i->fail_reason = 0;
}

static void fill(struct fleet_instance *i, struct fleet_service *s, const char *label)
{
    struct fleet *f = i->fleet;

    i->service = s;
    kg_list_init(&i->in_queue);
    snprintf(i->label, sizeof i->label, "%s", label);
    if (s->config)
        snprintf(i->spec, sizeof i->spec, "%s", s->config->spec);
    i->wanted = true;
    i->is = ENGINE_NONE;
    i->wanted_ms = i->state_ms = i->ready_ms = f->now_ms;
    begin_provisioning(i);
}

struct fleet_instance *fleet_instance_new(struct fleet *f, struct fleet_service *s,
                                          const char *label, const char *name)
{
    struct fleet_instance *i;

    if (f->instance_count >= KG_MAX_INSTANCES || !(i = calloc(1, sizeof *i)))
        return NULL;
    i->fleet = f;
    i->id = f->last_instance + 1;
    fill(i, s, label);
    if (name)
        snprintf(i->name, sizeof i->name, "%s", name);
    else
        make_name(f, label, i->name);
    if (index_it(i) != 0) {
        free(i);
        return NULL;
    }
    reaper_hold(&f->reaper, &i->idle); /* until it is ready */
    f->last_instance++;
    f->instance_count++;
    kg_list_push_back(&f->instances, &i->in_fleet);
    kg_list_push_back(&s->instances, &i->in_service);
    return i;
}

int fleet_instance_rename(struct fleet_instance *i)
{
    struct fleet *f = i->fleet;
    char name[ENGINE_NAME_BYTES];
    int rc;

    make_name(f, i->label, name);
    rc = kg_map_set(&f->by_name, kg_str_of(name), i);
    if (rc != 0)
        return rc;
    kg_map_remove(&f->by_name, kg_str_of(i->name));
    memcpy(i->name, name, sizeof i->name);
    return 0;
}

/* Without memory for the index its events are found by name only, and the list finds the rest. */
void fleet_instance_is(struct fleet_instance *i, const struct engine_container *c)
{
    fleet_instance_forget_container(i);
    snprintf(i->container.id, sizeof i->container.id, "%s", c->id);
    memcpy(i->container.name, i->name, sizeof i->container.name);
    i->made = true;
    kg_map_set(&i->fleet->by_container, kg_str_of(i->container.id), i);
}

void fleet_instance_forget_container(struct fleet_instance *i)
{
    struct kg_str id = kg_str_of(i->container.id);

    if (id.n > 0 && kg_map_get(&i->fleet->by_container, id) == i)
        kg_map_remove(&i->fleet->by_container, id);
    i->container = (struct engine_container){0};
    i->woken = i->restarted = i->rested = i->frozen = false; /* another one has no former life */
}

void fleet_instance_unname(struct fleet_instance *i)
{
    if (kg_map_get(&i->fleet->by_name, kg_str_of(i->name)) == i)
        kg_map_remove(&i->fleet->by_name, kg_str_of(i->name));
}

static void tell_end(struct fleet_instance *i)
{
    const struct fleet_observer *o = &i->fleet->observer;

    if (i->reaped && o->reaped)
        o->reaped(o->self, i->service->id, "remove");
    if (o->clock_changed)
        o->clock_changed(o->self);
}

/* What it needs may have waited to be told whether it is needed. */
void fleet_no_stray(struct fleet_instance *i)
{
    struct fleet_service *s = i->service;

    i->stray = false;
    s->strays--;
    for (size_t n = 0; n < s->need_count; n++)
        fleet_attend(i->fleet, s->needs[n]);
}

/* Out of all lists and maps; the memory stays until the next public call. */
void fleet_instance_bury(struct fleet_instance *i)
{
    struct fleet *f = i->fleet;

    KG_ASSERT(i->call == FLEET_CALL_NONE && i->state == INSTANCE_ABSENT && i->out == 0);
    fleet_start_release(i);
    fleet_instance_forget_container(i);
    fleet_instance_unname(i);
    kg_map_remove(&f->by_id, KG_U64_KEY(i->id));
    kg_heap_remove(&f->timers, &i->timer);
    reaper_forget(&f->reaper, &i->idle);
    kg_list_remove(&i->in_service);
    kg_list_remove(&i->in_fleet);
    kg_list_push_back(&f->graves, &i->in_fleet);
    f->instance_count--;
    if (i->stray)
        fleet_no_stray(i);
    fleet_claims_refuse(f, i->name);
    tell_end(i);
    fleet_sleepers_look(f, i->service);
    fleet_attend(f, i->service);
}

struct fleet_instance *fleet_instance_find(const struct fleet *f, uint64_t id)
{
    return kg_map_get(&f->by_id, KG_U64_KEY(id));
}
