/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine says a container is, turned into the events of the table.
 * The difficulty: the same finding means success, failure or the engine's own restart, depending on
 * what we were about to do; and a name alone proves nothing. */
#include "orchestrator/fleet_priv.h"
#include <stdio.h>

#define KILLED (128 + 9)

/* --- provisioning --- */

/* The engine went away since it was started, and took the worker along: nobody's fault. */
static bool lost_with_engine(const struct fleet_instance *i)
{
    return i->epoch != i->fleet->epoch && i->state != INSTANCE_CREATING;
}

/* Adopted, not used by this run yet: the last run may have ordered its end in its last moment. */
static bool is_inherited(const struct fleet_instance *i)
{
    return i->state == INSTANCE_PROBING && !i->provisioned;
}

static const char *excuse_of(const struct fleet_instance *i)
{
    if (lost_with_engine(i))
        return "lost with the engine";
    return is_inherited(i) ? "ended, perhaps by the last run's order" : NULL;
}

void fleet_lost(struct fleet_instance *i, const char *why)
{
    i->service->inherited_deadline_ms = i->deadline_ms;
    fleet_step(i, INSTANCE_ON_UNWANTED, why);
}

static void ended_early(struct fleet_instance *i, const struct engine_container *c)
{
    const char *excuse = excuse_of(i);
    char words[80];

    if (excuse) {
        fleet_lost(i, excuse);
        return;
    }
    if (c->exit_code == KILLED && !c->oom_killed && !i->oom && i->asked_why < FLEET_WHY_TRIES) {
        /* That it was for want of memory may be told a moment later, or never. */
        i->todo_ms = i->fleet->now_ms + (FLEET_WHY_MS << i->asked_why++);
        fleet_step(i, INSTANCE_ON_UNKNOWN, NULL);
        return;
    }
    if (c->oom_killed || i->oom)
        snprintf(words, sizeof words, "killed: out of memory");
    else
        snprintf(words, sizeof words, "exit code %d%s", c->exit_code,
                 c->exit_code == KILLED ? " (killed, perhaps out of memory)" : "");
    fleet_fail(i, ORCH_INSTANCE_EXITED, true, words, NULL);
}

static bool has_address(const struct engine_container *c)
{
    return c->address.ss_family != 0 && c->address_length > 0;
}

static void note_address(struct fleet_instance *i, const struct engine_container *c)
{
    i->container.address = c->address;
    i->container.address_length = c->address_length;
}

/* The look was made after the hint that it had died, so that hint was wrong. Where no look was
 * asked for then, while it was being created, one is now. */
static void runs(struct fleet_instance *i)
{
    bool creating = i->state == INSTANCE_CREATING;

    i->died = i->died && (creating || i->todo == FLEET_CALL_LOOK);
    fleet_step(i, INSTANCE_ON_RUNNING, NULL);
    if (i->died && creating)
        fleet_step(i, INSTANCE_ON_DOUBT, NULL);
    if (i->state != INSTANCE_PROBING || !i->answered || i->died)
        return;
    fleet_claims_bind(i); /* found while it was said to have died */
    fleet_step(i, INSTANCE_ON_PROBED, NULL);
}

static void found_provisioning(struct fleet_instance *i, const struct engine_container *c)
{
    switch (c->state) {
    case ENGINE_CREATED:
        if (i->state == INSTANCE_PROBING)
            ended_early(i, c);
        else
            fleet_step(i, INSTANCE_ON_MADE, NULL);
        break;
    case ENGINE_RUNNING:
        if (i->state != INSTANCE_PROBING && !has_address(c)) {
            fleet_ask_again(i); /* the engine gives it one any moment */
            break;
        }
        if (i->state != INSTANCE_PROBING)
            note_address(i, c);
        if (i->state == INSTANCE_CREATING)
            i->epoch = i->fleet->epoch;
        runs(i);
        break;
    case ENGINE_PAUSED:
    case ENGINE_RESTARTING:
        if (is_inherited(i))
            fleet_lost(i, "paused or restarted, perhaps by the last run's order");
        else
            fleet_fail(i, ORCH_INSTANCE_EXITED, true, "somebody paused or restarted it", NULL);
        break;
    case ENGINE_EXITED:
        if (i->restarted && i->state == INSTANCE_STARTING) {
            fleet_step(i, INSTANCE_ON_MADE, NULL); /* that was its former life */
            break;
        }
        ended_early(i, c);
        break;
    case ENGINE_REMOVING:
    case ENGINE_DEAD:
    case ENGINE_NONE:
        ended_early(i, c);
        break;
    }
}

/* --- in use --- */

/* Did it end by itself, soon after it was ready, as its forerunners did? Then the service rests. */
static void count_crash(struct fleet_instance *i)
{
    struct fleet *f = i->fleet;
    struct fleet_service *s = i->service;
    char words[80];

    if (i->state != INSTANCE_READY || lost_with_engine(i))
        return;
    s->crashes = f->now_ms - i->ready_ms < FLEET_CRASH_MS ? s->crashes + 1 : 1;
    s->exit_ms = f->now_ms;
    if (s->crashes < FLEET_CRASHES)
        return;
    snprintf(words, sizeof words, "ended %u times in a row soon after it was ready", s->crashes);
    fleet_rest(i, s->crashes - FLEET_CRASHES + 1, words);
}

void fleet_ended(struct fleet_instance *i, enum instance_event event, const char *why)
{
    count_crash(i);
    fleet_step(i, event, why);
}

/* Compared as it was noted: the engine client zeroes what an address does not use. */
static bool has_moved(const struct fleet_instance *i, const struct engine_container *c)
{
    return has_address(c) && i->container.address_length > 0 &&
           (c->address_length != i->container.address_length ||
            memcmp(&c->address, &i->container.address, c->address_length) != 0);
}

/* We froze it, and it is to run: that order is not carried out yet, or the one before it late. */
static bool is_to_resume(const struct fleet_instance *i)
{
    return (i->state == INSTANCE_DRAINING && i->frozen) ||
           (i->rested && i->fleet->now_ms - i->ready_ms < FLEET_FREEZER_MS);
}

static void found_in_use(struct fleet_instance *i, const struct engine_container *c)
{
    bool runs = c->state == ENGINE_RUNNING;

    if (c->state == ENGINE_PAUSED && is_to_resume(i)) {
        if (i->state == INSTANCE_READY)
            i->deadline_ms = i->fleet->now_ms + i->service->config->start_timeout_ms;
        fleet_step(i, INSTANCE_ON_FROZEN, NULL);
    } else if (c->state == ENGINE_PAUSED || c->state == ENGINE_RESTARTING ||
               (runs && has_moved(i, c)))
        fleet_step(i, INSTANCE_ON_UNUSABLE, NULL);
    else if (runs)
        fleet_step(i, INSTANCE_ON_RUNNING, NULL);
    else
        fleet_ended(i, INSTANCE_ON_ENDED, NULL);
}

/* Not running is what it should be, or nearly so. */
static void found_frozen(struct fleet_instance *i, const struct engine_container *c)
{
    if (c->state == ENGINE_PAUSED)
        fleet_step(i, INSTANCE_ON_UNUSABLE, NULL);
    else if (c->state == ENGINE_RUNNING && !has_moved(i, c))
        fleet_step(i, INSTANCE_ON_RUNNING, NULL);
    else
        fleet_step(i, INSTANCE_ON_ENDED, NULL);
}

static void found_going(struct fleet_instance *i, const struct engine_container *c)
{
    static const enum instance_event events[] = {
        [ENGINE_CREATED] = INSTANCE_ON_MADE,    [ENGINE_RUNNING] = INSTANCE_ON_RUNNING,
        [ENGINE_PAUSED] = INSTANCE_ON_UNUSABLE, [ENGINE_RESTARTING] = INSTANCE_ON_UNUSABLE,
        [ENGINE_REMOVING] = INSTANCE_ON_ENDED,  [ENGINE_EXITED] = INSTANCE_ON_ENDED,
        [ENGINE_DEAD] = INSTANCE_ON_ENDED,
    };

    if (i->keep && i->state == INSTANCE_STOPPING && c->state == ENGINE_EXITED)
        fleet_step(i, INSTANCE_ON_KEPT, NULL);
    else
        fleet_step(i, events[c->state], NULL);
}

/* Looked at before what is to be done next: alive is then all that it can tell. */
static bool is_overtaken(const struct fleet_instance *i, const struct engine_container *c)
{
    bool alive = c->state == ENGINE_RUNNING || c->state == ENGINE_PAUSED;

    return alive && (i->todo == FLEET_CALL_PAUSE || i->todo == FLEET_CALL_UNPAUSE ||
                     i->todo == FLEET_CALL_START);
}

/* --- the door --- */

/* I7: what a container of our name claims, checked against what we know. */
static bool is_ours(const struct fleet_instance *i, const struct engine_container *c)
{
    return c->id[0] && c->sealed && strcmp(c->owner, i->fleet->owner) == 0 &&
           strcmp(c->service, i->label) == 0 && strcmp(c->spec, i->spec) == 0;
}

void fleet_found(struct fleet_instance *i, const struct engine_container *c)
{
    if (i->state == INSTANCE_ABSENT) {
        fleet_stray_found(i, c);
        return;
    }
    if (i->container.id[0] == '\0' && !is_ours(i, c)) {
        if (i->state == INSTANCE_CREATING)
            fleet_step(i, INSTANCE_ON_FOREIGN, NULL);
        else
            fleet_found_nothing(i);
        return;
    }
    if (i->container.id[0] == '\0') {
        fleet_instance_is(i, c);
    } else if (strcmp(i->container.id, c->id) != 0) {
        fleet_ask_again(i); /* not what was asked about: no answer at all */
        return;
    }
    i->is = c->state;
    i->frozen = i->frozen && c->state != ENGINE_RUNNING;
    if (is_overtaken(i, c)) {
        fleet_pump(i);
        fleet_arm(i);
        return;
    }
    if (instance_is_provisioning(i->state))
        found_provisioning(i, c);
    else if (i->state == INSTANCE_READY || i->state == INSTANCE_DRAINING)
        found_in_use(i, c);
    else if (i->state == INSTANCE_PAUSED || i->state == INSTANCE_RESUMING)
        found_frozen(i, c);
    else
        found_going(i, c);
}

static void vanished(struct fleet_instance *i)
{
    if (i->state == INSTANCE_STARTING && (!i->recreated || lost_with_engine(i))) {
        i->recreated = true;
        fleet_step(i, INSTANCE_ON_NONE, NULL);
    } else if (excuse_of(i)) {
        i->made = true; /* the removal finds out that it is not */
        fleet_lost(i, excuse_of(i));
    } else {
        fleet_fail(i, ORCH_INSTANCE_EXITED, true, "its container vanished", NULL);
    }
}

/* There is no container. */
void fleet_found_nothing(struct fleet_instance *i)
{
    i->is = ENGINE_NONE;
    if (i->state != INSTANCE_PROBING)
        fleet_instance_forget_container(i);
    i->made = false;
    if (i->state == INSTANCE_READY)
        count_crash(i);
    if (i->state == INSTANCE_STARTING || i->state == INSTANCE_PROBING)
        vanished(i);
    else if (i->blamed && i->state == INSTANCE_REMOVING)
        fleet_step(i, INSTANCE_ON_NONE_BLAMED, NULL);
    else
        fleet_step(i, INSTANCE_ON_NONE, NULL);
}
