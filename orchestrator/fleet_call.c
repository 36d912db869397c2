/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's verbs, one in flight per instance, and their answers turned into events.
 * The difficulty: an answer that did not come says nothing of what happened, and one that came may
 * find the instance in a later state than the question left it in. */
#include "orchestrator/fleet_priv.h"
#include <stdio.h>

static void on_answer(void *arg, const struct engine_answer *answer);

static void call_ended(struct fleet_instance *i)
{
    KG_ASSERT(i->call != FLEET_CALL_NONE && i->fleet->calls > 0);
    i->call = FLEET_CALL_NONE;
    i->operation = 0;
    i->fleet->calls--;
}

static void give_up_call(struct fleet_instance *i)
{
    i->fleet->engine.cancel(i->fleet->engine.self, i->operation);
    call_ended(i);
}

/* --- starts in flight --- */

static bool start_take(struct fleet_instance *i)
{
    struct fleet *f = i->fleet;

    if (i->start_slot)
        return true;
    if (f->starts < f->max_starts &&
        (kg_list_empty(&f->start_queue) || kg_list_first(&f->start_queue) == &i->in_queue)) {
        kg_list_remove(&i->in_queue);
        i->start_slot = true;
        f->starts++;
        return true;
    }
    if (kg_list_empty(&i->in_queue))
        kg_list_push_back(&f->start_queue, &i->in_queue);
    return false;
}

void fleet_start_next(struct fleet *f)
{
    struct kg_list *first;

    while (f->starts < f->max_starts && (first = kg_list_first(&f->start_queue)) != NULL) {
        struct fleet_instance *i = KG_LIST_ENTRY(first, struct fleet_instance, in_queue);
        start_take(i);
        fleet_pump(i);
        fleet_arm(i);
    }
}

/* Held from the create until the start is answered, also when the instance has gone on. */
void fleet_start_release(struct fleet_instance *i)
{
    bool starting = i->state == INSTANCE_CREATING || i->state == INSTANCE_STARTING ||
                    i->call == FLEET_CALL_CREATE || i->call == FLEET_CALL_START;

    if (starting)
        return;
    kg_list_remove(&i->in_queue);
    if (!i->start_slot)
        return;
    i->start_slot = false;
    KG_ASSERT(i->fleet->starts > 0);
    i->fleet->starts--;
}

/* --- questions --- */

/* Nothing is made before the first list: what it would make may be there already. */
bool fleet_call_blocked(const struct fleet_instance *i)
{
    const struct fleet *f = i->fleet;

    if (!f->engine_up)
        return true;
    if (i->todo == FLEET_CALL_START)
        return !kg_list_empty(&i->in_queue);
    if (i->todo != FLEET_CALL_CREATE)
        return false;
    return !f->listed || i->service->strays > 0 || !kg_list_empty(&i->in_queue);
}

int64_t fleet_call_not_before(const struct fleet_instance *i)
{
    bool gentle =
        i->todo == FLEET_CALL_LOOK && (i->state == INSTANCE_READY || i->state == INSTANCE_DRAINING);

    return gentle && i->look_after_ms > i->todo_ms ? i->look_after_ms : i->todo_ms;
}

static int64_t call_limit_ms(const struct fleet_instance *i, enum fleet_call call)
{
    if (call == FLEET_CALL_PULL)
        return i->service->config->pull_timeout_ms + FLEET_CALL_SLACK_MS;
    if (call == FLEET_CALL_START)
        return KG_ENGINE_START_TIMEOUT_MS + FLEET_CALL_SLACK_MS;
    return KG_ENGINE_CALL_TIMEOUT_MS + KG_STOP_GRACE_MS + FLEET_CALL_SLACK_MS;
}

static uint64_t ask(struct fleet_instance *i)
{
    const struct engine_ops *e = &i->fleet->engine;
    const struct config_service *config = i->service->config;
    const char *id = i->container.id;

    switch (i->call) {
    case FLEET_CALL_PULL:
        return e->pull(e->self, config, on_answer, i);
    case FLEET_CALL_CREATE:
        return e->create(e->self, config, i->name, on_answer, i);
    case FLEET_CALL_START:
        return e->start(e->self, id, on_answer, i);
    case FLEET_CALL_LOOK:
        return e->inspect(e->self, config, id[0] ? id : i->name, on_answer, i);
    case FLEET_CALL_STOP:
        KG_ASSERT(id[0] != '\0'); /* I7: an id is known only of what is ours */
        return e->stop(e->self, id, KG_STOP_GRACE_MS, on_answer, i);
    case FLEET_CALL_REMOVE:
        KG_ASSERT(id[0] != '\0');
        return e->remove(e->self, id, on_answer, i);
    case FLEET_CALL_PAUSE:
        KG_ASSERT(id[0] != '\0');
        return e->pause(e->self, id, on_answer, i);
    case FLEET_CALL_UNPAUSE:
        KG_ASSERT(id[0] != '\0');
        return e->unpause(e->self, id, on_answer, i);
    case FLEET_CALL_WEIGH:
        return e->weigh(e->self, id, on_answer, i);
    case FLEET_CALL_NONE:
        break;
    }
    return 0;
}

static void note_asked(struct fleet_instance *i)
{
    struct fleet *f = i->fleet;

    if (i->call == FLEET_CALL_CREATE)
        i->made = true;
    if (i->call == FLEET_CALL_START)
        i->epoch = f->epoch;
    if (i->call == FLEET_CALL_PAUSE)
        i->rested = i->frozen = true;
    if (i->call != FLEET_CALL_PULL)
        return;
    if (i->pull_until_ms == 0)
        i->pull_until_ms = f->now_ms + i->service->config->pull_timeout_ms;
    i->deadline_ms = i->pull_until_ms;
}

/* Is it the engine's turn, but for the cap on starts? */
static bool start_is_next(const struct fleet_instance *i)
{
    const struct fleet *f = i->fleet;

    if (i->todo == FLEET_CALL_START)
        return f->engine_up;
    return i->todo == FLEET_CALL_CREATE && f->engine_up && f->listed && i->service->strays == 0;
}

void fleet_pump(struct fleet_instance *i)
{
    struct fleet *f = i->fleet;

    if (i->todo == FLEET_CALL_NONE)
        return;
    if (i->call == FLEET_CALL_WEIGH && i->todo != FLEET_CALL_WEIGH)
        give_up_call(i);
    if (i->call != FLEET_CALL_NONE || (start_is_next(i) && !start_take(i)))
        return;
    if (fleet_call_blocked(i) || fleet_call_not_before(i) > f->now_ms)
        return;
    i->call = i->todo;
    i->operation = ask(i);
    if (i->operation == 0) {
        i->call = FLEET_CALL_NONE;
        i->todo_ms = f->now_ms + FLEET_NO_MEMORY_MS;
        return;
    }
    note_asked(i);
    f->calls++;
    i->todo = FLEET_CALL_NONE;
    i->call_due_ms = f->now_ms + call_limit_ms(i, i->call);
}

void fleet_pump_all(struct fleet *f)
{
    KG_LIST_EACH_SAFE(it, &f->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_fleet);
        i->todo_ms = 0;
        fleet_pump(i);
        fleet_arm(i);
    }
}

void fleet_call_cancel(struct fleet_instance *i)
{
    i->todo = FLEET_CALL_NONE;
    if (i->call != FLEET_CALL_NONE)
        give_up_call(i);
}

void fleet_ask_again(struct fleet_instance *i)
{
    int64_t pause_ms = 0;

    if (++i->tries > 1)
        pause_ms = i->tries > 9 ? FLEET_RETRY_LAST_MS : 10 << (i->tries - 2);
    i->todo_ms = i->fleet->now_ms + pause_ms;
    fleet_step(i, INSTANCE_ON_UNKNOWN, NULL);
}

/* --- answers --- */

static bool is_unknown(int code)
{
    return code != 0 && code != KG_ENOTFOUND && code != KG_ECONFLICT && code != KG_EINVAL &&
           code != KG_EIO;
}

static void image_unavailable(struct fleet_instance *i, const char *words)
{
    char text[FLEET_DETAIL_BYTES];

    i->made = false;
    snprintf(text, sizeof text, "image %.80s: %.150s", i->service->config->image,
             words[0] ? words : "not present");
    fleet_fail(i, ORCH_IMAGE_UNAVAILABLE, true, text, NULL);
}

static void on_pulled(struct fleet_instance *i, const struct engine_answer *a)
{
    if (a->code == 0) {
        i->pulled = true;
        i->deadline_ms = i->fleet->now_ms + i->service->config->start_timeout_ms;
        fleet_step(i, INSTANCE_ON_PULLED, NULL);
    } else if (a->code == KG_ECLOSED) {
        i->deadline_ms =
            kg_earliest(i->pull_until_ms, i->fleet->now_ms + i->service->config->start_timeout_ms);
        fleet_ask_again(i);
    } else {
        image_unavailable(i, a->words[0] ? a->words : "the pull failed");
    }
}

/* The engine's answer is a plain no: nothing was made. */
static void not_created(struct fleet_instance *i, const struct engine_answer *a)
{
    const struct config_service *config = i->service->config;
    bool ours = a->status == 0 && a->words[0]; /* the words: the engine was not even asked */

    i->made = false;
    if (i->state == INSTANCE_REMOVING)
        fleet_found_nothing(i);
    else if (a->code == KG_EINVAL)
        fleet_fail(i, ORCH_INSTANCE_EXITED, true,
                   ours ? a->words : "the engine refuses these settings", a->words);
    else if (config->pull == CONFIG_PULL_NEVER || i->pulled)
        image_unavailable(i, a->words);
    else
        fleet_step(i, INSTANCE_ON_NO_IMAGE, NULL);
}

static void on_created(struct fleet_instance *i, const struct engine_answer *a)
{
    if (a->code == 0 && a->container.id[0]) {
        fleet_instance_is(i, &a->container);
        i->is = ENGINE_CREATED;
        fleet_step(i, INSTANCE_ON_CREATED, NULL);
    } else if (a->code == KG_ENOTFOUND || a->code == KG_EINVAL) {
        not_created(i, a);
    } else if (a->code == KG_ECONFLICT) {
        fleet_step(i, INSTANCE_ON_NAME_TAKEN, NULL);
    } else if (a->code == KG_EIO && i->state == INSTANCE_CREATING) {
        fleet_fail(i, ORCH_ENGINE_UNAVAILABLE, true, "the engine could not make the container",
                   a->words);
    } else {
        fleet_ask_again(i);
    }
}

static void on_started(struct fleet_instance *i, const struct engine_answer *a)
{
    i->restarted = i->restarted && a->code != 0;
    i->start_cut |= is_unknown(a->code);
    if (a->code == 0 || i->state == INSTANCE_REMOVING) {
        fleet_step(i, INSTANCE_ON_STARTED, NULL);
    } else if (a->code == KG_ENOTFOUND) {
        fleet_found_nothing(i);
    } else if (a->code == KG_EINVAL) {
        fleet_fail(i, ORCH_INSTANCE_EXITED, true, "its command cannot be run", a->words);
    } else if (a->code == KG_EAGAIN && ++i->service->taken < FLEET_ADDRESSES) {
        fleet_lost(i, "its address is taken");
    } else if (a->code == KG_EAGAIN) {
        fleet_fail(i, ORCH_ENGINE_UNAVAILABLE, true, "no address is free for it", a->words);
    } else if (a->code == KG_EIO && i->start_cut) {
        fleet_lost(i, "what a start that was cut off left is in the way");
    } else if (a->code == KG_EIO) {
        fleet_fail(i, ORCH_ENGINE_UNAVAILABLE, true, "the engine could not start the container",
                   a->words);
    } else {
        fleet_ask_again(i);
    }
}

/* Somebody took it off its network: it runs, and nobody gets through to it. Of a service that is
 * gone the engine client cannot tell where it listens. */
static bool is_cut_off(const struct fleet_instance *i, const struct engine_container *c)
{
    return i->service->config && (i->state == INSTANCE_READY || i->state == INSTANCE_DRAINING) &&
           strcmp(c->id, i->container.id) == 0 && c->state == ENGINE_RUNNING &&
           c->address_length == 0 && i->container.address_length > 0;
}

static void on_looked(struct fleet_instance *i, const struct engine_answer *a)
{
    bool cut_off = a->code == 0 && is_cut_off(i, &a->container);

    i->look_after_ms = i->fleet->now_ms + FLEET_LOOK_GAP_MS;
    i->nowhere = cut_off ? i->nowhere + 1 : 0;
    if (cut_off && i->nowhere <= FLEET_ADDRESS_TRIES)
        fleet_ask_again(i); /* an engine may forget to say it */
    else if (cut_off)
        fleet_step(i, INSTANCE_ON_UNUSABLE, "it is on no network any more");
    else if (a->code == 0 && a->container.state != ENGINE_NONE)
        fleet_found(i, &a->container);
    else if (a->code == 0 || a->code == KG_ENOTFOUND)
        fleet_found_nothing(i);
    else
        fleet_ask_again(i);
}

static void on_removed(struct fleet_instance *i, const struct engine_answer *a)
{
    if (a->code == 0 || a->code == KG_ENOTFOUND)
        fleet_found_nothing(i);
    else
        fleet_ask_again(i);
}

static void on_stopped(struct fleet_instance *i, const struct engine_answer *a)
{
    if (is_unknown(a->code)) {
        fleet_not_kept(i); /* the order may be carried out yet, in a later life */
        fleet_ask_again(i);
    } else if (i->keep && a->code == 0)
        fleet_step(i, INSTANCE_ON_KEPT, NULL);
    else /* a plain no leaves it to the removal by force */
        fleet_step(i, INSTANCE_ON_STOPPED, NULL);
}

static void on_paused(struct fleet_instance *i, const struct engine_answer *a)
{
    if (a->code == 0) {
        fleet_step(i, INSTANCE_ON_FROZEN, NULL);
        if (i->state == INSTANCE_PAUSED && i->fleet->paused_memory_bytes >= 0)
            i->todo = FLEET_CALL_WEIGH;
        fleet_pump(i);
        fleet_arm(i);
    } else if (a->code == KG_ENOTFOUND) {
        fleet_found_nothing(i);
    } else if (is_unknown(a->code) && i->state == INSTANCE_PAUSED) {
        /* It may be frozen yet, at any time: nobody is to be served by it. */
        fleet_step(i, INSTANCE_ON_IDLE, "what became of its pause is not known");
    } else if (is_unknown(a->code)) {
        fleet_ask_again(i);
    } else {
        i->unpausable = true;
        KG_LOG(KG_LOG_WARN, "cannot-pause", KG_F("container", i->name), KG_F("why", a->words));
        fleet_step(i, INSTANCE_ON_NOT_FROZEN, NULL);
        if (i->state == INSTANCE_READY)
            fleet_step(i, INSTANCE_ON_DOUBT, "does it run at all?");
    }
}

static void on_unpaused(struct fleet_instance *i, const struct engine_answer *a)
{
    i->frozen = i->frozen && a->code != 0;
    if (a->code == 0)
        fleet_step(i, INSTANCE_ON_THAWED, NULL);
    else if (a->code == KG_ENOTFOUND)
        fleet_found_nothing(i);
    else
        fleet_ask_again(i);
}

static void answered(struct fleet_instance *i, enum fleet_call call, const struct engine_answer *a)
{
    i->unanswered = is_unknown(a->code);
    if (!i->unanswered)
        i->is_ms = i->fleet->now_ms;
    switch (call) {
    case FLEET_CALL_PULL:
        on_pulled(i, a);
        break;
    case FLEET_CALL_CREATE:
        on_created(i, a);
        break;
    case FLEET_CALL_START:
        on_started(i, a);
        break;
    case FLEET_CALL_LOOK:
        on_looked(i, a);
        break;
    case FLEET_CALL_STOP:
        on_stopped(i, a);
        break;
    case FLEET_CALL_PAUSE:
        on_paused(i, a);
        break;
    case FLEET_CALL_UNPAUSE:
        on_unpaused(i, a);
        break;
    case FLEET_CALL_WEIGH:
        fleet_weighed(i, a->code == 0 ? a->memory_bytes : -1);
        fleet_arm(i);
        break;
    case FLEET_CALL_REMOVE:
        on_removed(i, a);
        break;
    case FLEET_CALL_NONE:
        break;
    }
}

static void on_answer(void *arg, const struct engine_answer *answer)
{
    struct fleet_instance *i = arg;
    struct fleet *f = i->fleet;
    enum fleet_call call = i->call;

    fleet_enter(f, f->clock(f->clock_arg));
    call_ended(i);
    answered(i, call, answer);
    fleet_start_release(i);
    fleet_leave(f);
}

void fleet_call_late(struct fleet_instance *i)
{
    const struct engine_answer none = {.code = KG_ETIMEOUT};
    enum fleet_call call = i->call;

    give_up_call(i);
    answered(i, call, &none);
    fleet_start_release(i);
}
