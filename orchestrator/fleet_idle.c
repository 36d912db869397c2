/* SPDX-License-Identifier: Apache-2.0 */
/* What idleness leads to: warm, then paused, then stopped or removed; and what goes first when the
 * paused ones hold too much memory. The difficulty: an instance that is due may be one that must
 * stay, and whether it must can change without its own clock being touched. */
#include "orchestrator/fleet_priv.h"

/* --- stages --- */

struct stages { /* of idleness; KG_NEVER: does not come */
    int64_t pause_ms, end_ms;
};

static struct stages stages_of(const struct fleet_service *s)
{
    const struct config_service *c = s->config;
    struct stages at = {c->pause_after_ms < 0 ? KG_NEVER : c->pause_after_ms, c->idle_timeout_ms};

    if (c->idle_auto && s->planned) {
        at.end_ms = s->plan.keep_ms;
        at.pause_ms = c->pause_after_ms < 0 ? s->plan.pause_ms : c->pause_after_ms;
    }
    if (c->on_idle != CONFIG_ON_IDLE_PAUSE)
        return at;
    at.pause_ms = kg_earliest(at.pause_ms, at.end_ms);
    at.end_ms = KG_NEVER;
    return at;
}

static bool will_pause(const struct fleet_instance *i)
{
    return i->state == INSTANCE_READY && !i->unpausable;
}

void fleet_retime(struct fleet_instance *i)
{
    struct stages at = stages_of(i->service);

    if (will_pause(i))
        at.end_ms = kg_earliest(at.pause_ms, at.end_ms);
    reaper_set_timeout(&i->fleet->reaper, &i->idle, at.end_ms);
}

int64_t fleet_linger_ms(const struct fleet_service *s)
{
    struct stages at = stages_of(s);
    int64_t quarter_ms = kg_earliest(at.pause_ms, at.end_ms) / 4;

    return quarter_ms < KG_LEASE_LINGER_MS ? quarter_ms : KG_LEASE_LINGER_MS;
}

/* --- what must stay --- */

static unsigned spares_of(const struct fleet_service *s)
{
    return s->config && !s->asleep ? (unsigned)s->config->spares : 0;
}

static bool is_warm(const struct fleet_instance *i)
{
    return i->state == INSTANCE_READY && i->unpausable && i->out == 0;
}

unsigned fleet_spares_there(const struct fleet_service *s)
{
    struct fleet_census c = fleet_count(s);
    unsigned least = fleet_least(s), beyond = c.serving > least ? c.serving - least : 0;
    unsigned warm = 0;

    KG_LIST_EACH(it, &s->instances)
    warm += is_warm(KG_LIST_ENTRY(it, struct fleet_instance, in_service));
    return c.paused + (warm < beyond ? warm : beyond);
}

bool fleet_is_warm_spare(const struct fleet_instance *i)
{
    return is_warm(i) && fleet_spares_there(i->service) <= spares_of(i->service);
}

bool fleet_must_stay(const struct fleet_instance *i)
{
    struct fleet_census c = fleet_count(i->service);

    if (i->state == INSTANCE_READY) /* several go one at a time */
        return fleet_is_warm_spare(i) || c.serving <= fleet_least(i->service) ||
               fleet_may_be_needed(i->service) || (c.serving > 1 && fleet_one_is_going(i->service));
    return i->state == INSTANCE_PAUSED && c.paused <= spares_of(i->service);
}

static void keep(struct fleet_instance *i)
{
    i->service->kept = true;
    reaper_set_timeout(&i->fleet->reaper, &i->idle, KG_NEVER);
}

/* Whether it may go is asked again after any change of its service. */
void fleet_retime_kept(struct fleet_service *s)
{
    if (!s->kept)
        return;
    s->kept = false;
    KG_LIST_EACH(it, &s->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (i->idle.idle_timeout_ms == KG_NEVER && fleet_must_stay(i))
            s->kept = true;
        else if (i->state == INSTANCE_READY || i->state == INSTANCE_PAUSED)
            fleet_retime(i);
    }
}

/* --- the reaper's verb --- */

static void tell_reaped(const struct fleet_instance *i, const char *action)
{
    const struct fleet_observer *o = &i->fleet->observer;

    if (o->reaped)
        o->reaped(o->self, i->service->id, action);
}

static void pause_it(struct fleet_instance *i, const char *why)
{
    tell_reaped(i, "pause");
    fleet_step(i, INSTANCE_ON_IDLE_PAUSE, why);
}

/* True: the entry is not watched any more. */
static bool end(struct fleet_instance *i, const char *why)
{
    i->service->crashes = 0;
    if (i->service->config->on_idle == CONFIG_ON_IDLE_STOP) {
        i->keep = true;
        tell_reaped(i, "stop");
        fleet_step(i, INSTANCE_ON_IDLE_STOP, why);
        return false;
    }
    i->reaped = true;
    fleet_step(i, INSTANCE_ON_IDLE, why);
    return true;
}

bool fleet_keep_idle(struct fleet_instance *i, const char *why)
{
    const struct fleet_service *s = i->service;
    bool freezes =
        s->config->on_idle == CONFIG_ON_IDLE_PAUSE || fleet_spares_there(s) < spares_of(s);

    if (will_pause(i) && freezes)
        pause_it(i, why);
    else if (s->config->on_idle == CONFIG_ON_IDLE_STOP)
        (void)end(i, why);
    else
        return false;
    return true;
}

/* Of several the youngest idle one goes, and the older one stays in its place: as long unused as
 * that one was. */
static struct fleet_instance *younger_idle(const struct fleet_instance *i)
{
    const struct kg_list *end = &i->service->instances;

    for (struct kg_list *it = end->prev; it != &i->in_service; it = it->prev) {
        struct fleet_instance *j = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (j->state == INSTANCE_READY && j->out == 0 && !j->held && !j->spare &&
            !fleet_is_warm_spare(j))
            return j;
    }
    return NULL;
}

static bool end_one(struct fleet_instance *i)
{
    struct fleet_instance *younger = i->state == INSTANCE_READY ? younger_idle(i) : NULL;

    if (!younger)
        return end(i, NULL);
    reaper_touch(&i->fleet->reaper, &i->idle, younger->idle.used_ms);
    end(younger, "more than was needed lately");
    return false;
}

/* The reaper asks in the instant of expiry; it holds what is in use, so this is the second look. */
bool fleet_expire(void *arg, struct reaper_entry *entry)
{
    struct fleet_instance *i = KG_CONTAINER_OF(entry, struct fleet_instance, idle);
    const struct fleet_service *s = i->service;
    struct stages at = stages_of(s);
    int64_t idle_ms = i->fleet->now_ms - entry->used_ms;

    (void)arg;
    if (i->out > 0 || i->held || (i->state != INSTANCE_READY && i->state != INSTANCE_PAUSED))
        return false;
    if (at.end_ms <= idle_ms) { /* "auto" thinks again, and looks for when it is to be woken */
        fleet_use_missed(i->fleet, i->service);
        at = stages_of(s);
    }
    if (fleet_must_stay(i))
        keep(i);
    else if (will_pause(i) && at.pause_ms <= idle_ms && idle_ms < at.end_ms)
        pause_it(i, NULL);
    else if (will_pause(i) && fleet_spares_there(s) < spares_of(s))
        pause_it(i, NULL);
    else if (at.end_ms <= idle_ms)
        return end_one(i);
    else
        fleet_retime(i);
    return false;
}

/* --- the memory of the paused --- */

static int64_t memory_of(const struct fleet_instance *i)
{
    int64_t limit = i->service->config ? i->service->config->memory_bytes : 0;

    return i->memory_bytes > 0 ? i->memory_bytes : limit;
}

static double worth(const struct fleet_instance *i)
{
    return reaper_worth(i->fleet->now_ms - i->idle.used_ms, memory_of(i), i->service->start_ms);
}

/* Spares were asked for by number: so many, the most valuable, are neither counted nor taken. */
static bool is_pressed(const struct fleet_instance *i)
{
    unsigned spares = spares_of(i->service), better = 0;
    bool behind = false; /* of those alike the first are worth more */

    if (i->state != INSTANCE_PAUSED || spares == 0)
        return i->state == INSTANCE_PAUSED;
    KG_LIST_EACH(it, &i->service->instances)
    {
        const struct fleet_instance *j = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        behind |= j == i;
        if (j != i && j->state == INSTANCE_PAUSED)
            better += worth(j) > worth(i) || (worth(j) == worth(i) && !behind);
    }
    return better >= spares;
}

static void relieve(struct fleet *f)
{
    for (;;) {
        struct fleet_instance *least = NULL;
        int64_t total = 0;
        KG_LIST_EACH(it, &f->instances)
        {
            struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_fleet);
            if (!is_pressed(i))
                continue;
            total += memory_of(i);
            if (i->call != FLEET_CALL_PAUSE && (!least || worth(i) < worth(least)))
                least = i;
        }
        if (total <= f->paused_memory_bytes || !least)
            return;
        end(least, "the paused hold too much memory");
    }
}

/* What sleeps without ever having been weighed is weighed now. */
void fleet_cap_changed(struct fleet *f)
{
    if (f->paused_memory_bytes < 0)
        return;
    KG_LIST_EACH(it, &f->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_fleet);
        if (i->state != INSTANCE_PAUSED || i->memory_bytes > 0 || i->todo != FLEET_CALL_NONE ||
            i->call != FLEET_CALL_NONE)
            continue;
        i->todo = FLEET_CALL_WEIGH;
        fleet_pump(i);
        fleet_arm(i);
    }
    relieve(f);
}

void fleet_weighed(struct fleet_instance *i, int64_t memory_bytes)
{
    i->memory_bytes = memory_bytes > 0 ? memory_bytes : 0;
    if (i->fleet->paused_memory_bytes >= 0 && i->state == INSTANCE_PAUSED)
        relieve(i->fleet);
}
