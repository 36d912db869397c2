/* SPDX-License-Identifier: Apache-2.0 */
/* By hand: wake, sleep, stop. The difficulty: who asked may leave, and may ask again from inside
 * the answer, so answers are kept and given by the next tick, at its very end. */
#include "orchestrator/fleet_priv.h"
#include <stdio.h>
#include <stdlib.h>

static struct fleet_caller *caller_of(struct kg_list *link)
{
    return KG_LIST_ENTRY(link, struct fleet_caller, link);
}

static void finish(struct fleet *f, struct fleet_caller *c, unsigned reason, int64_t retry_after_ms,
                   const char *detail)
{
    c->reason = reason;
    c->retry_after_ms = retry_after_ms;
    snprintf(c->detail, sizeof c->detail, "%s", detail);
    kg_list_remove(&c->link);
    kg_list_push_back(&f->finished, &c->link);
}

static struct fleet_caller *caller_new(struct fleet *f, enum fleet_caller_kind kind,
                                       fleet_done *done, void *arg)
{
    struct fleet_caller *c = calloc(1, sizeof *c);

    if (!c) { /* the one answer that cannot wait: there is nothing to keep it in */
        done(arg, PROXY_OVERLOADED, 0, "out of memory");
        return NULL;
    }
    c->kind = kind;
    c->done = done;
    c->arg = arg;
    c->last = f->last_instance;
    kg_list_init(&c->link);
    return c;
}

bool fleet_has_waker(const struct fleet_service *s)
{
    KG_LIST_EACH(it, &s->callers)
    if (caller_of(it)->kind == FLEET_WAKES)
        return true;
    return false;
}

void fleet_wakers_done(struct fleet *f, struct fleet_service *s, unsigned reason,
                       int64_t retry_after_ms, const char *detail)
{
    KG_LIST_EACH_SAFE(it, &s->callers)
    if (caller_of(it)->kind == FLEET_WAKES)
        finish(f, caller_of(it), reason, retry_after_ms, detail);
}

static bool is_gone(const struct fleet_service *s, uint64_t last)
{
    KG_LIST_EACH(it, &s->instances)
    if (KG_LIST_ENTRY(it, struct fleet_instance, in_service)->id <= last)
        return false;
    return true;
}

void fleet_sleepers_look(struct fleet *f, struct fleet_service *s)
{
    if (!f->listed || s->strays > 0)
        return; /* what there is, is not known yet */
    KG_LIST_EACH_SAFE(it, &s->callers)
    {
        struct fleet_caller *c = caller_of(it);
        if (c->kind == FLEET_SLEEPS && is_gone(s, c->last))
            finish(f, c, 0, 0, "");
    }
}

bool fleet_sleepers_claim(struct fleet_service *s, uint64_t found)
{
    bool any = false;

    KG_LIST_EACH(it, &s->callers)
    {
        struct fleet_caller *c = caller_of(it);
        if (c->kind != FLEET_SLEEPS)
            continue;
        any = true;
        if (c->last < found)
            c->last = found;
    }
    return any;
}

/* Each may call back into the fleet, so the list is looked at anew each time. */
void fleet_tell_finished(struct fleet *f)
{
    struct kg_list *first;

    while ((first = kg_list_first(&f->finished)) != NULL) {
        struct fleet_caller *c = caller_of(first);
        kg_list_remove(&c->link);
        c->done(c->arg, c->reason, c->retry_after_ms, c->detail);
        free(c);
    }
}

void fleet_callers_free(struct kg_list *callers)
{
    KG_LIST_EACH_SAFE(it, callers)
    free(caller_of(it));
    kg_list_init(callers);
}

static void forget_in(struct kg_list *callers, const void *arg)
{
    KG_LIST_EACH_SAFE(it, callers)
    {
        struct fleet_caller *c = caller_of(it);
        if (c->arg != arg)
            continue;
        kg_list_remove(&c->link);
        free(c);
    }
}

void fleet_forget_caller(struct fleet *f, void *arg)
{
    fleet_enter(f, f->now_ms);
    forget_in(&f->finished, arg);
    for (uint32_t id = 0; id < f->service_count; id++) {
        forget_in(&f->services[id]->callers, arg);
        if (f->services[id]->need_count > 0)
            fleet_attend(f, f->services[id]);
    }
    fleet_leave(f);
}

/* --- wake and sleep --- */

static struct fleet_service *configured(const struct fleet *f, uint32_t id)
{
    struct fleet_service *s = id < f->service_count ? f->services[id] : NULL;

    return s && s->config ? s : NULL;
}

/* A wake counts as use: who asks for it by hand means to use it. */
static void wake(struct fleet *f, struct fleet_service *s, struct fleet_caller *c)
{
    bool ready = false;

    s->asleep = false;
    KG_LIST_EACH(it, &s->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        if (!instance_serves(i->state)) /* what resumes does: nothing more is told of it */
            continue;
        ready = true;
        fleet_used_by_hand(i);
    }
    if (f->stopping) {
        finish(f, c, PROXY_DRAINING, 0, "Kipgate is going down");
    } else if (ready) {
        finish(f, c, 0, 0, "");
    } else {
        kg_list_push_back(&s->callers, &c->link);
        fleet_attend(f, s);
    }
}

void fleet_wake(struct fleet *f, uint32_t service, fleet_done *done, void *arg, int64_t now_ms)
{
    struct fleet_service *s = configured(f, service);
    struct fleet_caller *c;

    fleet_enter(f, now_ms);
    c = caller_new(f, FLEET_WAKES, done, arg);
    if (c && s)
        wake(f, s, c);
    else if (c)
        finish(f, c, PROXY_NO_ROUTE, 0, "there is no such service");
    fleet_leave(f);
}

static void end_all(struct fleet_service *s, const char *why)
{
    KG_LIST_EACH_SAFE(it, &s->instances)
    {
        struct fleet_instance *i = KG_LIST_ENTRY(it, struct fleet_instance, in_service);
        fleet_unwanted(i, why);
    }
}

void fleet_sleep(struct fleet *f, uint32_t service, fleet_done *done, void *arg, int64_t now_ms)
{
    struct fleet_service *s = configured(f, service);
    struct fleet_caller *c;

    fleet_enter(f, now_ms);
    c = caller_new(f, FLEET_SLEEPS, done, arg);
    if (c && s) {
        kg_list_push_back(&s->callers, &c->link);
        s->renews = s->foreseen = false;
        s->asleep = s->waiting == s->waiting_quietly; /* else there is demand already */
        end_all(s, "sent to sleep");
        fleet_sleepers_look(f, s);
    } else if (c) {
        finish(f, c, PROXY_NO_ROUTE, 0, "there is no such service");
    }
    fleet_leave(f);
}

/* --- going down --- */

void fleet_stop(struct fleet *f, bool remove, int64_t now_ms)
{
    fleet_enter(f, now_ms);
    f->stopping = true;
    f->removing = f->removing || remove;
    for (uint32_t id = 0; id < f->service_count; id++) {
        if (f->removing)
            end_all(f->services[id], "Kipgate is going down");
        fleet_attend(f, f->services[id]);
    }
    fleet_leave(f);
}

bool fleet_empty(const struct fleet *f)
{
    return f->instance_count == 0;
}

bool fleet_quiet(const struct fleet *f)
{
    return f->calls == 0 && (!f->removing || f->instance_count == 0);
}
