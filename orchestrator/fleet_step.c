/* SPDX-License-Identifier: Apache-2.0 */
/* The table at work: the one setter of an instance's state, the effects, the deadlines.
 * The difficulty: an effect may tell fronts and free the instance; nothing here relies on it after.
 */
#include "orchestrator/fleet_priv.h"
#include <stdio.h>

/* --- the setter --- */

static void count_phase(struct fleet_instance *i, int64_t spent_ms)
{
    static const enum fleet_phase phases[INSTANCE_STATE_COUNT] = {
        [INSTANCE_PULLING] = FLEET_PULL,
        [INSTANCE_CREATING] = FLEET_CREATE,
        [INSTANCE_STARTING] = FLEET_START,
        [INSTANCE_PROBING] = FLEET_READY,
    };
    int64_t *phase = &i->phase_ms[phases[i->state]];

    *phase = (*phase < 0 ? 0 : *phase) + spent_ms;
}

static void tell_cold_start(struct fleet_instance *i, enum instance_state next)
{
    const struct fleet_observer *o = &i->fleet->observer;
    const struct proxy_reason_row *row = orch_reason_row(i->fail_reason);
    bool success = next == INSTANCE_READY;

    if (success)
        i->service->start_ms = i->fleet->now_ms - i->born_ms;
    i->phase_ms[FLEET_TOTAL] = i->fleet->now_ms - i->born_ms;
    if (o->cold_start)
        o->cold_start(o->self, i->service->id, success,
                      success          ? "ok"
                      : i->fail_reason ? row->name
                                       : "unwanted",
                      i->phase_ms);
}

static void tell_change(const struct fleet_instance *i, enum instance_state next, const char *why,
                        int64_t spent_ms)
{
    const struct fleet_observer *o = &i->fleet->observer;
    const struct fleet_change change = {.service = i->label,
                                        .instance = i->id,
                                        .name = i->name,
                                        .from = instance_state_name(i->state),
                                        .to = instance_state_name(next),
                                        .why = why,
                                        .ms = spent_ms};

    if (o->changed)
        o->changed(o->self, &change);
}

/* States in which nothing but use keeps it: there its idle clock runs. */
static bool is_idling(enum instance_state state)
{
    return state == INSTANCE_READY || state == INSTANCE_PAUSED;
}

/* Its clock is kept while it may come back to use. */
static bool is_watched(const struct fleet_instance *i, enum instance_state state)
{
    return instance_is_current(state) || instance_is_asleep(state) ||
           (state == INSTANCE_STOPPING && i->keep);
}

static void keep_clock(struct fleet_instance *i, enum instance_state from, enum instance_state to)
{
    struct fleet *f = i->fleet;

    if (!is_watched(i, to)) {
        reaper_forget(&f->reaper, &i->idle);
    } else if (is_idling(to) && !is_idling(from)) {
        /* Resumed: it is in use already, or was until now. Else it begins, adopted ones earlier. */
        reaper_unhold(&f->reaper, &i->idle,
                      from == INSTANCE_RESUMING ? i->idle.used_ms
                                                : kg_earliest(i->clock_ms, f->now_ms));
    } else if (is_idling(from) && !is_idling(to)) {
        reaper_hold(&f->reaper, &i->idle);
    }
    if (is_idling(to))
        fleet_retime(i);
    if (f->observer.clock_changed)
        f->observer.clock_changed(f->observer.self);
}

static void note_serving(struct fleet_instance *i, enum instance_state from, enum instance_state to)
{
    const struct fleet_observer *o = &i->fleet->observer;

    if (instance_serves(to) != i->ready) {
        i->ready = !i->ready;
        i->ready_ms = i->fleet->now_ms;
        i->warmth = from == INSTANCE_PAUSED ? PROXY_PAUSED : PROXY_COLD;
    }
    if (to == INSTANCE_RESUMING || (from == INSTANCE_PAUSED && instance_serves(to)))
        fleet_thaw(i);
    if (from == INSTANCE_RESUMING && to == INSTANCE_READY && o->resumed)
        o->resumed(o->self, i->service->id);
}

static bool is_going(enum instance_state state)
{
    return state == INSTANCE_STOPPING || state == INSTANCE_REMOVING;
}

/* Before the engine is told, and before fronts are: they keep no account of it from then on. */
static void tell_ending(const struct fleet_instance *i)
{
    const struct fleet_observer *o = &i->fleet->observer;

    if (o->ending && is_going(i->state))
        o->ending(o->self, i->name);
}

/* I8: nobody else writes `state`. */
static void set_state(struct fleet_instance *i, enum instance_state next, const char *why)
{
    int64_t spent_ms = i->fleet->now_ms - i->state_ms;
    enum instance_state from = i->state;
    bool provisioned = i->provisioned && instance_is_provisioning(i->state);

    tell_change(i, next, why, spent_ms);
    if (provisioned)
        count_phase(i, spent_ms);
    if (provisioned && !instance_is_provisioning(next))
        tell_cold_start(i, next);
    i->state = next;
    i->state_ms = i->fleet->now_ms;
    i->tries = i->nowhere = 0;
    tell_ending(i);
    if (next == INSTANCE_STOPPED) {
        i->keep = true;            /* also when somebody else starts it */
        i->todo = FLEET_CALL_NONE; /* found so: what was to be done for it is done */
    }
    note_serving(i, from, next);
    keep_clock(i, from, next);
    fleet_attend(i->fleet, i->service);
    fleet_start_release(i);
}

/* --- effects --- */

static void serve(struct fleet_instance *i)
{
    struct fleet *f = i->fleet;
    struct fleet_service *s = i->service;

    i->probe_front = -1;
    s->failures = s->taken = 0;
    s->backoff_until_ms = 0;
    if (fleet_has_waker(s))
        fleet_used_by_hand(i);
    fleet_wakers_done(f, s, 0, 0, "");
    fleet_serve(s);
}

static void refuse(struct fleet_instance *i)
{
    int64_t left_ms = fleet_backoff_left(i->fleet, i->service);

    fleet_refuse_hopeless(i->fleet, i->service, i->fail_reason,
                          left_ms > 0 ? left_ms : FLEET_ENGINE_RETRY_MS, i->detail);
}

static void rest(struct fleet_instance *i)
{
    fleet_instance_forget_container(i);
    fleet_instance_unname(i);
    i->made = false;
    i->todo = FLEET_CALL_NONE;
}

/* A new name costs memory; without it the old one is tried again, and found taken again. */
static void rename_it(struct fleet_instance *i)
{
    i->made = false;
    if (fleet_instance_rename(i) != 0)
        i->todo_ms = i->fleet->now_ms + FLEET_NO_MEMORY_MS;
}

static void do_effect(struct fleet_instance *i, enum instance_effect_bit bit)
{
    switch (bit) {
    case INSTANCE_BIT_CANCEL:
        fleet_call_cancel(i);
        break;
    case INSTANCE_BIT_VOID:
        fleet_void(i);
        break;
    case INSTANCE_BIT_RECALL:
        fleet_recall_all(i);
        break;
    case INSTANCE_BIT_RENAME:
        rename_it(i);
        break;
    case INSTANCE_BIT_PULL:
        i->todo = FLEET_CALL_PULL;
        break;
    case INSTANCE_BIT_CREATE:
        i->todo = FLEET_CALL_CREATE;
        break;
    case INSTANCE_BIT_START:
        i->todo = FLEET_CALL_START;
        break;
    case INSTANCE_BIT_LOOK:
        i->todo = FLEET_CALL_LOOK;
        break;
    case INSTANCE_BIT_STOP:
        i->todo = FLEET_CALL_STOP;
        break;
    case INSTANCE_BIT_REMOVE:
        i->todo = FLEET_CALL_REMOVE;
        break;
    case INSTANCE_BIT_PAUSE:
        i->todo = FLEET_CALL_PAUSE;
        break;
    case INSTANCE_BIT_UNPAUSE:
        i->todo = FLEET_CALL_UNPAUSE;
        break;
    case INSTANCE_BIT_PROBE:
        fleet_probe(i);
        break;
    case INSTANCE_BIT_SERVE:
        serve(i);
        break;
    case INSTANCE_BIT_REFUSE:
        refuse(i);
        break;
    case INSTANCE_BIT_REST:
        rest(i);
        break;
    case INSTANCE_BIT_SUCCEED:
        (void)fleet_succeed(i->fleet, i->service);
        break;
    case INSTANCE_BIT_FREE:
        fleet_instance_bury(i);
        break;
    case INSTANCE_EFFECT_COUNT:
        break;
    }
}

void fleet_step(struct fleet_instance *i, enum instance_event event, const char *why)
{
    const struct instance_cell *cell = instance_cell(i->state, event);

    KG_ASSERT(cell->kind == INSTANCE_GOES || cell->kind == INSTANCE_STAYS);
    if (event != INSTANCE_ON_UNKNOWN)
        i->todo_ms = 0;
    if (event == INSTANCE_ON_RUNNING && !is_going(i->state)) /* there it is a failure */
        i->tries = 0;
    if (cell->kind == INSTANCE_GOES)
        set_state(i, cell->next, why ? why : cell->why);
    for (int bit = 0; bit < INSTANCE_EFFECT_COUNT; bit++)
        if (cell->effects & 1u << bit)
            do_effect(i, (enum instance_effect_bit)bit);
    if (cell->effects & INSTANCE_DOES_FREE)
        return;
    fleet_pump(i);
    fleet_arm(i);
}

/* --- steps with words --- */

void fleet_rest(struct fleet_instance *i, unsigned times, const char *words)
{
    struct fleet_service *s = i->service;
    int64_t pause_ms = KG_BACKOFF_LAST_MS;

    if (times < 16 && KG_BACKOFF_FIRST_MS << (times - 1) < KG_BACKOFF_LAST_MS)
        pause_ms = KG_BACKOFF_FIRST_MS << (times - 1);
    s->backoff_until_ms = i->fleet->now_ms + pause_ms;
    i->blamed = true;
    snprintf(s->cause, sizeof s->cause, "%s", words);
}

void fleet_fail(struct fleet_instance *i, unsigned reason, bool blame, const char *words,
                const char *why)
{
    struct fleet_service *s = i->service;
    bool early = i->state == INSTANCE_PULLING || i->state == INSTANCE_CREATING;

    KG_ASSERT(instance_is_provisioning(i->state));
    if (!why || !why[0])
        why = words;
    i->fail_reason = reason;
    snprintf(i->detail, sizeof i->detail, "service %s: %s", i->label, words);
    if (blame) {
        if (reason == ORCH_INSTANCE_EXITED)
            s->exit_ms = i->fleet->now_ms;
        s->failures += fleet_backoff_left(i->fleet, s) == 0; /* those made together fail as one */
        fleet_rest(i, s->failures > 0 ? s->failures : 1, words);
    }
    if (i->made)
        fleet_step(i, INSTANCE_ON_FAILED, why);
    else if (blame || !early)
        fleet_step(i, INSTANCE_ON_FAILED_EMPTY, why);
    else
        fleet_step(i, INSTANCE_ON_GIVEN_UP, why);
}

void fleet_check_emptied(struct fleet_instance *i)
{
    if (i->state == INSTANCE_DRAINING && i->out == 0 && !i->held)
        fleet_step(i, INSTANCE_ON_EMPTIED, NULL);
}

void fleet_not_kept(struct fleet_instance *i)
{
    i->keep = false;
    if (i->state == INSTANCE_STOPPING)
        reaper_forget(&i->fleet->reaper, &i->idle);
}

void fleet_unwanted(struct fleet_instance *i, const char *why)
{
    if (i->wanted) {
        i->wanted = false;
        i->wanted_ms = i->fleet->now_ms;
    }
    fleet_not_kept(i);
    if (i->state == INSTANCE_PROBING)
        fleet_claims_bind(i); /* what waited to be known as alive: it may end its exchanges */
    if (i->state == INSTANCE_PULLING || (i->state == INSTANCE_CREATING && !i->made))
        fleet_step(i, INSTANCE_ON_UNWANTED_EMPTY, why);
    else if (i->state == INSTANCE_PROBING && (i->held || i->out > 0))
        fleet_step(i, INSTANCE_ON_SURPLUS, why);
    else
        fleet_step(i, INSTANCE_ON_UNWANTED, why);
    fleet_check_emptied(i);
}

/* --- time --- */

void fleet_arm(struct fleet_instance *i)
{
    struct fleet *f = i->fleet;
    int64_t due_ms = KG_NEVER;

    if (i->call != FLEET_CALL_NONE)
        due_ms = i->call_due_ms;
    else if (i->todo != FLEET_CALL_NONE && !fleet_call_blocked(i))
        due_ms = fleet_call_not_before(i);
    if (instance_is_provisioning(i->state) || i->state == INSTANCE_RESUMING)
        due_ms = kg_earliest(due_ms, i->deadline_ms);
    if (i->state == INSTANCE_BACKOFF)
        due_ms = kg_earliest(due_ms, i->service->backoff_until_ms);
    if (due_ms == KG_NEVER)
        kg_heap_remove(&f->timers, &i->timer);
    else /* room was reserved when the instance was made */
        KG_ASSERT(kg_heap_set(&f->timers, &i->timer, due_ms) == 0);
}

static void pulled_late(struct fleet_instance *i)
{
    if (i->call == FLEET_CALL_PULL)
        fleet_fail(i, ORCH_IMAGE_UNAVAILABLE, true, "the image was not pulled in time", NULL);
    else
        fleet_fail(i, ORCH_ENGINE_UNAVAILABLE, false, "the engine does not answer", NULL);
}

/* The worker is to blame only for what it was given the chance to do. */
static void made_late(struct fleet_instance *i)
{
    bool unknown = !i->made && (!i->fleet->listed || i->service->strays > 0);
    bool unanswered =
        !i->fleet->engine_up || i->call != FLEET_CALL_NONE || i->unanswered || unknown;

    if (unanswered)
        fleet_fail(i, ORCH_ENGINE_UNAVAILABLE, false, "the engine does not answer", NULL);
    else if (i->made)
        fleet_fail(i, ORCH_START_TIMEOUT, true, "the container did not start in time", NULL);
    else
        fleet_fail(i, ORCH_START_TIMEOUT, false, "other starts took all the time", NULL);
}

static void late(struct fleet_instance *i)
{
    if (i->state == INSTANCE_RESUMING)
        fleet_step(i, INSTANCE_ON_DIED, "did not resume in time");
    else if (i->state == INSTANCE_PULLING)
        pulled_late(i);
    else if (i->state != INSTANCE_PROBING)
        made_late(i);
    else if (i->held || fleet_is_claimed(i->fleet, i->name))
        /* Old fronts may be served by it yet; those who wait get another one. */
        fleet_unwanted(i, "not ready in time, but held");
    else if (i->probe_front < 0)
        fleet_fail(i, ORCH_START_TIMEOUT, false, "no front to reach the worker from", NULL);
    else
        fleet_fail(i, ORCH_START_TIMEOUT, true,
                   i->service->config->health.path[0]
                       ? "not ready in time: its health check was never answered as it should be"
                       : "not ready in time: the worker never answered",
                   NULL);
}

void fleet_on_time(struct fleet_instance *i)
{
    int64_t now_ms = i->fleet->now_ms;

    if (i->call != FLEET_CALL_NONE && i->call_due_ms <= now_ms)
        fleet_call_late(i);
    else if ((instance_is_provisioning(i->state) || i->state == INSTANCE_RESUMING) &&
             i->deadline_ms <= now_ms)
        late(i);
    else if (i->state == INSTANCE_BACKOFF && i->service->backoff_until_ms <= now_ms)
        fleet_step(i, INSTANCE_ON_RESTED, NULL);
    else {
        fleet_pump(i);
        fleet_arm(i);
    }
}
