/* SPDX-License-Identifier: Apache-2.0 */
/* What is parked against what is wanted and what exists. The difficulty: a sandbox without a worker
 * in the list may be one that is just being joined, or one that a last run's late create will
 * join. */
#include "orchestrator/parking.h"
#include "orchestrator/parking_priv.h"
#include <stdlib.h>

int64_t parking_now(const struct parking *p)
{
    return p->params.clock ? p->params.clock() : kg_clock_mono_ms();
}

bool parking_is_on(const struct parking *p)
{
    const struct engine_parking_ops *e = p->params.sandboxes;

    return p->cap > 0 && !p->off && !p->stopped && p->up && e->usable(e->self);
}

/* --- does it gain anything? --------------------------------------------------------------- */

uint64_t parking_start_began(struct parking *p)
{
    p->starts++;
    p->alone = p->starts_running++ == 0 ? p->starts : 0;
    return p->starts;
}

void parking_start_ended(struct parking *p, uint64_t number, int64_t began_ms, bool good,
                         struct parking_gain_ring *ring)
{
    KG_ASSERT(p->starts_running > 0);
    p->starts_running--;
    if (p->alone != number)
        return;
    p->alone = 0;
    if (!good)
        return;
    parking_gain_note(ring, parking_now(p) - began_ms);
    if (parking_is_on(p) && parking_gain_is_poor(&p->gain))
        parking_switch_off(p, "workers start no faster with them on this engine");
}

void parking_switch_off(struct parking *p, const char *why)
{
    if (p->off)
        return;
    p->off = true;
    KG_LOG(KG_LOG_INFO, "sandboxes-off", KG_F("why", why),
           KG_FN("joined_ms", parking_gain_median(&p->gain.joined)),
           KG_FN("own_ms", parking_gain_median(&p->gain.own)));
}

/* --- how many ----------------------------------------------------------------------------- */

static unsigned target(const struct parking *p, int64_t now_ms)
{
    unsigned want = parking_is_on(p) ? parking_demand_want(&p->demand, now_ms) : 0;

    return want < p->cap ? want : p->cap;
}

static unsigned making(const struct parking *p)
{
    return p->counts[SANDBOX_MAKING] + p->counts[SANDBOX_STARTING] + p->counts[SANDBOX_ASKING];
}

static unsigned parked(const struct parking *p)
{
    return p->counts[SANDBOX_PARKED] + p->counts[SANDBOX_FOUND];
}

static bool has_turn(const struct parking *p)
{
    return making(p) + p->removing < SANDBOXES_AT_ONCE;
}

static bool is_leaving(const struct parking *p)
{
    return p->counts[SANDBOX_LEAVING] > 0 && p->removing < SANDBOXES_AT_ONCE;
}

/* Never while a worker is being started: it would be started later for it. */
static bool has_room(const struct parking *p, int64_t now_ms)
{
    return p->listed && p->starting == 0 && has_turn(p) &&
           parked(p) + making(p) < target(p, now_ms);
}

static bool is_too_many(const struct parking *p, int64_t now_ms)
{
    return p->counts[SANDBOX_PARKED] > target(p, now_ms);
}

int64_t parking_due_ms(const struct parking *p)
{
    const struct kg_heap_node *first = kg_heap_first(&p->timers);
    int64_t now_ms = parking_now(p), due_ms = KG_NEVER;

    if (!p->up)
        return KG_NEVER;
    if (first)
        due_ms = first->due_ms;
    if (has_room(p, now_ms))
        due_ms = kg_earliest(due_ms, p->refill_ms > now_ms ? p->refill_ms : now_ms);
    if (is_too_many(p, now_ms) || is_leaving(p))
        due_ms = now_ms;
    else if (p->counts[SANDBOX_PARKED] > 0)
        due_ms = kg_earliest(due_ms, parking_demand_due_ms(&p->demand, now_ms));
    return due_ms;
}

void parking_tick(struct parking *p, int64_t now_ms)
{
    struct kg_heap_node *first;

    while (p->up && (first = kg_heap_first(&p->timers)) != NULL && first->due_ms <= now_ms)
        parking_on_time(KG_CONTAINER_OF(first, struct sandbox, timer));
    while (p->up && is_too_many(p, now_ms))
        parking_end(KG_LIST_ENTRY(kg_list_first(&p->stages[SANDBOX_PARKED]), struct sandbox, link));
    while (p->up && is_leaving(p))
        parking_remove(
            KG_LIST_ENTRY(kg_list_first(&p->stages[SANDBOX_LEAVING]), struct sandbox, link));
    while (p->refill_ms <= now_ms && has_room(p, now_ms))
        parking_make(p);
}

/* --- what the engine tells ---------------------------------------------------------------- */

/* What was asked before is asked again at once. */
static void hurry(struct parking *p, enum sandbox_stage stage)
{
    KG_LIST_EACH(it, &p->stages[stage])
    {
        struct sandbox *sb = KG_LIST_ENTRY(it, struct sandbox, link);
        if (sb->operation == 0)
            kg_heap_set(&p->timers, &sb->timer, parking_now(p));
    }
}

void parking_engine_state(struct parking *p, bool up)
{
    p->up = up;
    p->listed = false;
    if (!up)
        return;
    p->off = false; /* it may be another one by now */
    p->gain = (struct parking_gain){0};
    p->refusals = p->failures = p->different = 0;
    p->refill_ms = 0;
    hurry(p, SANDBOX_ASKING);
    hurry(p, SANDBOX_ENDING);
}

/* I7: a label alone is a claim. */
static bool has_our_name(const struct engine_container *c)
{
    struct kg_str name = kg_str_of(c->name), prefix = KG_STR(SANDBOX_PREFIX);

    return kg_str_has_prefix(name, prefix) && name.n == prefix.n + SANDBOX_SUFFIX_DIGITS &&
           strspn(c->name + prefix.n, "0123456789abcdef") == SANDBOX_SUFFIX_DIGITS;
}

/* A last run's make, carried out after our first list: nobody would ever start it. (Before that
 * list, it may be one that runs, and of which the engine only repeats that it was made.) */
static void made_late(struct parking *p, const struct engine_container *c)
{
    struct sandbox *sb = NULL;

    if (p->listed && c->sealed && strcmp(c->owner, p->params.owner) == 0 && has_our_name(c) &&
        !parking_find(p, c->name))
        sb = parking_know(p, c);
    if (sb)
        parking_end(sb);
}

bool parking_event(struct parking *p, const struct engine_event *event)
{
    const struct engine_container *c = &event->container;
    bool ended = event->kind == ENGINE_EVENT_DIE || event->kind == ENGINE_EVENT_DESTROY;
    struct sandbox *sb = parking_find(p, c->id);

    if (sb && ended)
        parking_lost(sb);
    else if (!sb && event->kind == ENGINE_EVENT_DESTROY)
        parking_worker_gone(p, c->id);
    else if (!sb && event->kind == ENGINE_EVENT_CREATE && c->is_sandbox)
        made_late(p, c);
    return sb != NULL || c->is_sandbox;
}

void parking_disconnected(struct parking *p, const struct engine_container *worker)
{
    struct engine_event event = {.kind = ENGINE_EVENT_DISCONNECT, .container = *worker};

    kg_str_copy(event.container.owner, sizeof event.container.owner, kg_str_of(p->params.owner));
    p->params.on_event(p->params.arg, &event);
}

static bool runs(const struct engine_container *c)
{
    return c->state == ENGINE_RUNNING || c->state == ENGINE_PAUSED;
}

/* What is not known is a last run's, or a create's whose answer did not come. */
static void list_sandbox(struct parking *p, const struct engine_container *c, int64_t began_ms)
{
    struct sandbox *sb = parking_find(p, c->id);

    if (!sb && c->sealed)
        sb = parking_find(p, c->name);
    if (!sb && (!c->sealed || !has_our_name(c)))
        return;
    if (!sb) {
        sb = parking_know(p, c);
        if (sb)
            sb->seen = p->lists;
        if (sb && !runs(c))
            parking_end(sb);
        return;
    }
    sb->seen = p->lists;
    if (!runs(c) && sb->stage_ms < began_ms)
        parking_lost(sb);
}

static void list_worker(struct parking *p, const struct engine_container *c)
{
    struct sandbox *sb = parking_find(p, c->sandbox);

    if (sb && (sb->stage == SANDBOX_PARKED || sb->stage == SANDBOX_FOUND))
        parking_assign(sb, c->name, c->id);
    if (!sb && c->sandbox[0] && runs(c))
        parking_disconnected(p, c);
    if (!sb) /* an engine whose list does not say whose network it is */
        sb = kg_map_get(&p->workers, kg_str_of(c->id));
    if (!sb)
        sb = kg_map_get(&p->workers, kg_str_of(c->name));
    if (sb)
        sb->used = p->lists;
}

static bool list_counts(const struct sandbox *sb, int64_t began_ms)
{
    return sb->operation == 0 && sb->stage_ms < began_ms;
}

static void sweep(struct parking *p, int64_t began_ms)
{
    static const enum sandbox_stage at_rest[] = {SANDBOX_FOUND, SANDBOX_PARKED, SANDBOX_TAKEN};

    for (size_t i = 0; i < sizeof at_rest / sizeof *at_rest; i++) {
        KG_LIST_EACH_SAFE(it, &p->stages[at_rest[i]])
        {
            struct sandbox *sb = KG_LIST_ENTRY(it, struct sandbox, link);
            if (!list_counts(sb, began_ms))
                continue;
            if (sb->seen != p->lists)
                parking_lost(sb); /* its removal finds out that there is none */
            else if (sb->stage == SANDBOX_TAKEN && sb->used != p->lists &&
                     !parking_errand_creates(p, sb->worker))
                parking_end(sb);
            else if (sb->stage == SANDBOX_FOUND && began_ms - sb->stage_ms >= SANDBOX_DOUBT_MS)
                parking_look(sb);
        }
    }
}

static size_t without_sandboxes(const struct engine_container *all, size_t count,
                                struct engine_container *rest)
{
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
        if (!all[i].is_sandbox)
            rest[n++] = all[i];
    return n;
}

bool parking_list(struct parking *p, const struct engine_container *all, size_t count,
                  int64_t began_ms)
{
    struct engine_container *rest = malloc((count ? count : 1) * sizeof *rest);
    bool whole;

    if (!rest)
        return false;
    p->lists++;
    for (size_t i = 0; i < count; i++)
        if (all[i].is_sandbox)
            list_sandbox(p, &all[i], began_ms);
    for (size_t i = 0; i < count; i++)
        if (!all[i].is_sandbox)
            list_worker(p, &all[i]);
    sweep(p, began_ms);
    p->listed = true;
    count = without_sandboxes(all, count, rest);
    whole = p->params.on_list(p->params.arg, rest, count, began_ms);
    free(rest);
    return whole;
}

/* --- doors -------------------------------------------------------------------------------- */

struct parking *parking_new(const struct parking_params *params)
{
    struct parking *p = calloc(1, sizeof *p);

    if (!p)
        return NULL;
    p->params = *params;
    for (size_t i = 0; i < SANDBOX_STAGES; i++)
        kg_list_init(&p->stages[i]);
    kg_heap_init(&p->timers);
    kg_map_init(&p->sandboxes);
    kg_map_init(&p->workers);
    parking_errands_init(p);
    return p;
}

void parking_free(struct parking *p)
{
    if (!p)
        return;
    parking_errands_free(p);
    for (size_t i = 0; i < SANDBOX_STAGES; i++)
        KG_LIST_EACH_SAFE(it, &p->stages[i])
        {
            struct sandbox *sb = KG_LIST_ENTRY(it, struct sandbox, link);
            sb->operation = 0; /* the engine is gone */
            parking_sandbox_free(sb);
        }
    kg_heap_fini(&p->timers);
    kg_map_fini(&p->sandboxes);
    kg_map_fini(&p->workers);
    free(p);
}

const struct engine_ops *parking_ops(struct parking *p)
{
    return &p->ops;
}

/* Those of a group find each other on a network of theirs, where no sandbox is. */
bool parking_may_serve(const struct config_service *s)
{
    return !s->runtime && !s->group[0]; /* another runtime may bring a network of its own kind */
}

void parking_configure(struct parking *p, const struct config *c)
{
    parking_errands_forget_services(p);
    p->cap = c->sandboxes < 0 ? KG_SANDBOX_MAX : (unsigned)c->sandboxes;
    for (size_t i = 0; i < c->service_count; i++)
        if (parking_may_serve(c->services[i]))
            parking_demand_seed(&p->demand, parking_now(p)); /* for the first one to come */
}

void parking_stop(struct parking *p)
{
    static const enum sandbox_stage unused[] = {SANDBOX_MAKING, SANDBOX_STARTING, SANDBOX_ASKING,
                                                SANDBOX_PARKED};

    p->stopped = true;
    for (size_t i = 0; i < sizeof unused / sizeof *unused; i++)
        KG_LIST_EACH_SAFE(it, &p->stages[unused[i]])
    parking_end(KG_LIST_ENTRY(it, struct sandbox, link));
}

void parking_clear(struct parking *p)
{
    KG_LIST_EACH_SAFE(it, &p->stages[SANDBOX_FOUND])
    parking_end(KG_LIST_ENTRY(it, struct sandbox, link));
}

bool parking_quiet(const struct parking *p)
{
    return !p->up || making(p) + p->counts[SANDBOX_LEAVING] + p->counts[SANDBOX_ENDING] == 0;
}

void parking_view(const struct parking *p, struct parking_view *v)
{
    *v = (struct parking_view){.parked = parked(p),
                               .making = making(p),
                               .taken = p->counts[SANDBOX_TAKEN],
                               .wanted = target(p, parking_now(p)),
                               .joined = p->joined,
                               .own = p->own,
                               .joined_ms = parking_gain_median(&p->gain.joined),
                               .own_ms = parking_gain_median(&p->gain.own),
                               .off = p->off};
}
