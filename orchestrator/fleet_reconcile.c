/* SPDX-License-Identifier: Apache-2.0 */
/* What exists against what should: events, lists, containers found that we do not know.
 * The difficulty: events are hints, a list is older than it arrives, labels are claims; before an
 * unknown container is adopted or removed it is looked at on its own. */
#include "orchestrator/fleet_priv.h"
#include <stdlib.h>

/* --- is it ours? --- */

/* kipgate-SERVICE-SUFFIX, with the service that its label names. */
static bool name_is_ours(const char *name, const char *label)
{
    struct kg_str rest = kg_str_of(name), prefix = KG_STR(FLEET_NAME_PREFIX);
    size_t label_n = strlen(label);

    if (label_n == 0 || !kg_str_has_prefix(rest, prefix))
        return false;
    name += prefix.n;
    if (strncmp(name, label, label_n) != 0 || name[label_n] != '-')
        return false;
    name += label_n + 1;
    return strlen(name) == FLEET_SUFFIX_DIGITS &&
           strspn(name, "0123456789abcdef") == FLEET_SUFFIX_DIGITS;
}

static void tell_foreign(struct fleet *f, const struct engine_container *c)
{
    if (c->id[0] == '\0' || kg_map_get(&f->foreign, kg_str_of(c->id)) ||
        f->foreign.count >= FLEET_MAX_FOREIGN || kg_map_set(&f->foreign, kg_str_of(c->id), f) != 0)
        return;
    KG_LOG(KG_LOG_WARN, "container-foreign", KG_F("container", c->name), KG_F("id", c->id),
           KG_F("service", c->service),
           KG_F("why", c->sealed ? "it has our owner label, but not our name"
                                 : "it has our owner label, but we did not make it so"));
}

/* --- strays --- */

bool fleet_stray(struct fleet *f, const struct engine_container *c)
{
    struct fleet_service *s = kg_map_get(&f->service_names, kg_str_of(c->service));
    struct fleet_instance *i;

    if (strcmp(c->owner, f->owner) != 0)
        return true;
    if (c->id[0] == '\0' || !c->sealed || !name_is_ours(c->name, c->service)) {
        tell_foreign(f, c);
        return true;
    }
    i = fleet_instance_new(f, s ? s : &f->orphans, c->service, c->name);
    if (!i)
        return false; /* the next list finds it again */
    i->stray = true;
    i->service->strays++;
    fleet_instance_is(i, c);
    fleet_step(i, INSTANCE_ON_DOUBT, NULL);
    return true;
}

/* The last run's clock, once. An instance that was in use then has none: it begins when ready. */
static int64_t recall(struct fleet *f, const char *name)
{
    int64_t *clock = kg_map_remove(&f->remembered, kg_str_of(name)), at_ms = KG_NEVER;

    if (clock)
        at_ms = *clock;
    free(clock);
    return at_ms;
}

static bool is_up(const struct engine_container *c)
{
    return c->state == ENGINE_RUNNING || c->state == ENGINE_PAUSED || c->state == ENGINE_RESTARTING;
}

/* Makes way where only a plan is lost: nothing was asked of the engine yet. Then, is there room? */
static bool make_way(struct fleet_service *s)
{
    struct fleet_census c;

    KG_LIST_EACH(it, &s->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (i->state != INSTANCE_PULLING && (i->state != INSTANCE_CREATING || i->made))
            continue;
        fleet_unwanted(i, "one was found");
        break;
    }
    c = fleet_count(s);
    return c.starting + c.serving + c.paused < (unsigned)s->config->max_instances;
}

/* As what it may be taken over; REMOVING's LEFTOVER where it may not. */
static enum instance_event wanted_as(const struct fleet_instance *i,
                                     const struct engine_container *c)
{
    const struct fleet_service *s = i->service;

    if (!i->wanted || !s->config || strcmp(c->spec, s->config->spec) != 0 || i->fleet->removing)
        return INSTANCE_ON_LEFTOVER;
    if (c->state == ENGINE_RUNNING && c->address_length > 0)
        return INSTANCE_ON_ADOPTED;
    if (c->state == ENGINE_PAUSED && c->address_length > 0)
        return INSTANCE_ON_ADOPTED_PAUSED;
    if (c->state == ENGINE_EXITED && s->config->on_idle == CONFIG_ON_IDLE_STOP)
        return INSTANCE_ON_ADOPTED_STOPPED;
    return INSTANCE_ON_LEFTOVER;
}

/* The last run told the engine to end it, and that order may still be carried out. One that is only
 * due is adopted, for it may have to stay, or be asked for first. */
static bool is_ending(const struct fleet_instance *i)
{
    return i->clock_ms <= 0;
}

/* A front that holds slots of it serves by it: it is ready, or was resuming for those. */
static void take_claims(struct fleet_instance *i, enum instance_event as)
{
    if (as == INSTANCE_ON_ADOPTED && i->died) {
        i->answered = true; /* when it is known to live */
        return;
    }
    if (as == INSTANCE_ON_ADOPTED_STOPPED)
        fleet_claims_refuse(i->fleet, i->name); /* of its former life */
    else
        fleet_claims_bind(i); /* before others are served: what is held counts */
    if (as == INSTANCE_ON_ADOPTED_PAUSED)
        fleet_step(i, INSTANCE_ON_DEMAND, "a front has requests for it");
    else if (as == INSTANCE_ON_ADOPTED)
        fleet_step(i, INSTANCE_ON_PROBED, "a front is served by it");
}

static void adopt(struct fleet_instance *i, enum instance_event as)
{
    struct fleet *f = i->fleet;

    i->deadline_ms = f->now_ms + i->service->config->start_timeout_ms;
    fleet_step(i, as, NULL);
    if (i->died) /* said while it was looked at: before that look, or after it? */
        fleet_step(i, INSTANCE_ON_DOUBT, NULL);
    if (fleet_is_claimed(f, i->name)) {
        take_claims(i, as);
    } else if (as == INSTANCE_ON_ADOPTED_PAUSED && i->held) {
        fleet_step(i, INSTANCE_ON_DEMAND, "a front of the last run may wait for it");
    } else if (as == INSTANCE_ON_ADOPTED_PAUSED) {
        if (f->paused_memory_bytes >= 0)
            i->todo = FLEET_CALL_WEIGH;
        fleet_pump(i);
        fleet_arm(i);
    }
}

static void settle_stray(struct fleet_instance *i, const struct engine_container *c)
{
    struct fleet *f = i->fleet;
    enum instance_event as;

    memcpy(i->spec, c->spec, sizeof i->spec);
    i->container.address = c->address;
    i->container.address_length = c->address_length;
    i->epoch = f->epoch;
    i->woken = i->rested = true; /* the engine repeats its last news, perhaps of a former life */
    i->frozen = c->state == ENGINE_PAUSED;
    i->held = f->hold && is_up(c);
    if (i->held)
        reaper_hold(&f->reaper, &i->idle);
    i->clock_ms = recall(f, i->name);
    if (i->clock_ms > 0 && i->clock_ms != KG_NEVER)
        i->clock_ms = fleet_claims_clock(f, i->name, i->clock_ms);
    as = fleet_sleepers_claim(i->service, i->id) ? INSTANCE_ON_LEFTOVER : wanted_as(i, c);
    if (as != INSTANCE_ON_LEFTOVER && !is_ending(i) && make_way(i->service)) {
        adopt(i, as);
        return;
    }
    i->wanted = false;
    if (is_up(c))
        fleet_claims_bind(i); /* what is open on it may end */
    else
        fleet_claims_refuse(f, i->name);
    fleet_step(i, is_up(c) ? INSTANCE_ON_SURPLUS : INSTANCE_ON_LEFTOVER, NULL);
    if (i->out > 0)
        fleet_recall_all(i);
    if (c->state == ENGINE_PAUSED && (i->out > 0 || i->held)) {
        i->todo = FLEET_CALL_UNPAUSE; /* what is open on it waits for that; who ordered it died */
        fleet_pump(i);
        fleet_arm(i);
    }
    fleet_check_emptied(i);
}

void fleet_stray_found(struct fleet_instance *i, const struct engine_container *c)
{
    struct fleet_service *s = i->service;
    bool ours = c->sealed && strcmp(c->owner, i->fleet->owner) == 0 &&
                strcmp(c->service, i->label) == 0 && strcmp(c->id, i->container.id) == 0 &&
                name_is_ours(c->name, i->label);

    /* Also of what has stopped: a claim of its former life must not meet its next one. */
    if (ours && (is_up(c) || c->state == ENGINE_EXITED) && fleet_claims_pending(i->fleet)) {
        i->todo_ms = i->fleet->now_ms + FLEET_CLAIMS_LOOK_MS;
        fleet_step(i, INSTANCE_ON_UNKNOWN, NULL);
        return;
    }
    if (ours && c->state == ENGINE_RUNNING && c->address_length == 0 &&
        i->tries < FLEET_ADDRESS_TRIES) {
        fleet_ask_again(i);
        return;
    }
    fleet_no_stray(i);
    i->is = c->state;
    if (ours) {
        settle_stray(i, c);
    } else {
        tell_foreign(i->fleet, c);
        fleet_step(i, INSTANCE_ON_FOREIGN, NULL);
    }
    fleet_attend(i->fleet, s); /* it may make what it waited to make */
}

/* --- events --- */

static bool in_use(const struct fleet_instance *i)
{
    return i->state == INSTANCE_READY || i->state == INSTANCE_DRAINING;
}

/* Death is believed at once where requests go; elsewhere the look that follows knows more. */
static void on_event(struct fleet_instance *i, const struct engine_event *event)
{
    bool died = event->kind == ENGINE_EVENT_DIE;
    bool ours = i->state == INSTANCE_PAUSED || i->state == INSTANCE_RESUMING;

    switch (event->kind) {
    case ENGINE_EVENT_OOM:
        i->oom = true;
        break;
    case ENGINE_EVENT_DIE:
    case ENGINE_EVENT_DESTROY:
        if (((in_use(i) || ours) && i->woken) || (i->state == INSTANCE_STOPPED && !died))
            fleet_step(i, INSTANCE_ON_DOUBT, NULL);
        else if (in_use(i))
            fleet_ended(i, INSTANCE_ON_DIED, died ? NULL : "removed by somebody else");
        else {
            i->died = true;
            fleet_step(i, INSTANCE_ON_DIED, NULL);
        }
        break;
    case ENGINE_EVENT_PAUSE:
        if (in_use(i) && !i->rested)
            fleet_step(i, INSTANCE_ON_UNUSABLE, NULL);
        else if (!ours)
            fleet_step(i, INSTANCE_ON_DOUBT, NULL);
        break;
    case ENGINE_EVENT_UNPAUSE:
        if (i->state == INSTANCE_PAUSED)
            fleet_step(i, INSTANCE_ON_DOUBT, NULL);
        break;
    case ENGINE_EVENT_START:
        if (i->state == INSTANCE_STOPPED)
            fleet_step(i, INSTANCE_ON_DOUBT, NULL);
        break;
    case ENGINE_EVENT_DISCONNECT:
        if (in_use(i))
            fleet_step(i, INSTANCE_ON_UNUSABLE, NULL);
        else
            fleet_step(i, INSTANCE_ON_DOUBT, NULL);
        break;
    case ENGINE_EVENT_CREATE:
    case ENGINE_EVENT_RENAME: /* still ours, by its id */
        break;
    }
}

/* By id; by name only what says that it is ours, and only while we do not know its id. */
static struct fleet_instance *known(const struct fleet *f, const struct engine_container *c)
{
    struct fleet_instance *i = kg_map_get(&f->by_container, kg_str_of(c->id));

    if (i || !c->sealed || strcmp(c->owner, f->owner) != 0)
        return i;
    i = kg_map_get(&f->by_name, kg_str_of(c->name));
    return i && i->container.id[0] == '\0' ? i : NULL;
}

void fleet_engine_event(struct fleet *f, const struct engine_event *event, int64_t now_ms)
{
    struct fleet_instance *i;

    fleet_enter(f, now_ms);
    i = known(f, &event->container);
    if (i)
        on_event(i, event);
    else if ((event->kind == ENGINE_EVENT_CREATE || event->kind == ENGINE_EVENT_START) &&
             !kg_map_get(&f->by_name, kg_str_of(event->container.name)))
        fleet_stray(f, &event->container);
    fleet_leave(f);
}

void fleet_suspect(struct fleet *f, int front, uint64_t instance, int64_t now_ms)
{
    struct fleet_instance *i;

    fleet_enter(f, now_ms);
    KG_ASSERT(front >= 0 && front < KG_MAX_FRONTS);
    i = fleet_instance_find(f, instance);
    if (i && in_use(i) && i->leases[front].told)
        fleet_step(i, INSTANCE_ON_DOUBT, NULL);
    fleet_leave(f);
}

/* --- the list --- */

/* Only of what nothing is being asked about, and only when the list is younger than our view. */
static bool list_counts(const struct fleet_instance *i, int64_t began_ms)
{
    return i->call == FLEET_CALL_NONE && i->is_ms < began_ms && i->state_ms < began_ms &&
           (in_use(i) || i->state == INSTANCE_PROBING || instance_is_asleep(i->state));
}

static bool is_as_expected(const struct fleet_instance *i, const struct engine_container *c)
{
    return c->state == (i->state == INSTANCE_PAUSED    ? ENGINE_PAUSED
                        : i->state == INSTANCE_STOPPED ? ENGINE_EXITED
                                                       : ENGINE_RUNNING);
}

static void listed_known(struct fleet_instance *i, const struct engine_container *c,
                         int64_t began_ms)
{
    if (!list_counts(i, began_ms))
        return;
    if (c->state == ENGINE_RUNNING && in_use(i))
        fleet_found(i, c);
    else if (!is_as_expected(i, c))
        fleet_step(i, INSTANCE_ON_DOUBT, NULL); /* a look tells how it ended */
    i->is_ms = i->fleet->now_ms;
}

/* What the list does not have is looked at too: it may say why. */
static void not_listed(struct fleet *f, int64_t began_ms)
{
    KG_LIST_EACH_SAFE(it, &f->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_fleet);
        if (list_counts(i, began_ms))
            fleet_step(i, INSTANCE_ON_DOUBT, NULL);
    }
}

/* The engine can be asked (again): what waited for that, and what is to be kept ready. */
static void go_on(struct fleet *f)
{
    fleet_pump_all(f);
    for (uint32_t id = 0; id < f->service_count; id++) {
        fleet_sleepers_look(f, f->services[id]);
        if (f->services[id]->config)
            fleet_attend(f, f->services[id]);
    }
}

/* False: no memory to know it. */
static bool listed(struct fleet *f, const struct engine_container *c, int64_t began_ms)
{
    struct fleet_instance *i = known(f, c);

    if (i)
        listed_known(i, c, began_ms);
    else if (!kg_map_get(&f->by_name, kg_str_of(c->name)))
        return fleet_stray(f, c);
    return true;
}

bool fleet_engine_list(struct fleet *f, const struct engine_container *all, size_t count,
                       int64_t began_ms, int64_t now_ms)
{
    bool first = !f->listed, whole = true;

    fleet_enter(f, now_ms);
    for (size_t n = 0; n < count; n++)
        whole &= listed(f, &all[n], began_ms);
    not_listed(f, began_ms);
    if (!whole) { /* what is not known yet would be made a second time */
        fleet_leave(f);
        return false;
    }
    if (first)
        fleet_claims_refuse(f, NULL);
    f->listed = true;
    if (first)
        go_on(f);
    fleet_leave(f);
    return true;
}

/* --- the engine itself --- */

/* An engine that goes ends its containers first: what just exited is not held against a service. */
static void forgive(struct fleet *f)
{
    for (uint32_t id = 0; id < f->service_count; id++) {
        struct fleet_service *s = f->services[id];
        if (s->exit_ms == 0 || f->now_ms - s->exit_ms > FLEET_ENGINE_GOING_MS)
            continue;
        s->exit_ms = 0;
        s->failures = s->crashes = 0;
        s->backoff_until_ms = 0;
        KG_LIST_EACH(it, &s->instances)
        fleet_arm(KG_LIST_ENTRY(it, struct fleet_instance, in_service));
    }
}

void fleet_engine_state(struct fleet *f, bool up, const char *why, int64_t now_ms)
{
    (void)why;
    fleet_enter(f, now_ms);
    if (f->engine_up && !up) {
        f->epoch++;
        f->engine_down_ms = f->now_ms;
        forgive(f);
    }
    f->engine_up = up;
    go_on(f);
    fleet_leave(f);
}

/* --- restart --- */

int fleet_remember(struct fleet *f, const char *name, int64_t used_ms)
{
    int64_t *clock = malloc(sizeof *clock);

    if (!clock)
        return KG_ENOMEM;
    *clock = used_ms;
    free(kg_map_remove(&f->remembered, kg_str_of(name)));
    if (kg_map_set(&f->remembered, kg_str_of(name), clock) == 0)
        return 0;
    free(clock);
    return KG_ENOMEM;
}

void fleet_forget_remembered(struct fleet *f)
{
    size_t at = 0;
    struct kg_str key;
    void *clock;

    while (kg_map_next(&f->remembered, &at, &key, &clock))
        free(clock);
    kg_map_fini(&f->remembered);
}

static void let_go(struct fleet_instance *i)
{
    struct fleet *f = i->fleet;

    i->held = false;
    if (!is_ending(i))
        i->clock_ms = KG_NEVER; /* they may have used it until now */
    if (i->idle.watched)
        reaper_unhold(&f->reaper, &i->idle, f->now_ms);
    fleet_attend(f, i->service);
    if (i->state == INSTANCE_PROBING) {
        i->deadline_ms = f->now_ms + i->service->config->start_timeout_ms;
        fleet_arm(i);
    }
    fleet_check_emptied(i);
}

/* The same of what is not found yet. What was being ended goes on to be. */
static void touch_remembered(struct fleet *f)
{
    size_t at = 0;
    struct kg_str name;
    void *clock;

    while (kg_map_next(&f->remembered, &at, &name, &clock)) {
        int64_t *used_ms = clock;
        if (*used_ms > 0 && *used_ms < f->now_ms)
            *used_ms = f->now_ms;
    }
}

void fleet_hold_adopted(struct fleet *f, bool hold, int64_t now_ms)
{
    fleet_enter(f, now_ms);
    if (f->hold && !hold)
        touch_remembered(f);
    f->hold = hold;
    fleet_tell_clock(f);
    KG_LIST_EACH_SAFE(it, &f->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_fleet);
        if (i->held && !hold)
            let_go(i);
    }
    fleet_leave(f);
}
