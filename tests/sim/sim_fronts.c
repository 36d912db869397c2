/* SPDX-License-Identifier: Apache-2.0 */
/* Fronts come, die, lose their control and meet another; their channels. The difficulty: what was
 * written before a death is read after it, what was not is lost, and a front may live through
 * several controls. */
#include "orchestrator/attach.h"
#include "sim.h"
#include <stdlib.h>

#define LATE_MS 60 /* what was asked of it meanwhile may be taken for not answered so long */

/* --- channels --- */

static struct message *pop(struct channel *c)
{
    struct kg_list *first = kg_list_first(&c->queue);

    if (!first)
        return NULL;
    kg_list_remove(first);
    return KG_LIST_ENTRY(first, struct message, link);
}

static void drop(struct channel *c)
{
    struct message *m;

    while ((m = pop(c)) != NULL)
        free(m);
}

static struct sim_front *of_task(struct world *w, const struct task *t)
{
    KG_LIST_EACH(it, &w->fronts)
    {
        struct sim_front *f = KG_LIST_ENTRY(it, struct sim_front, link);
        if (f->number == t->number)
            return f->run == t->other ? f : NULL;
    }
    return NULL;
}

static void front_down(struct world *w, struct sim_front *f);

static void say_message(struct world *w, const struct sim_front *f, const struct message *m,
                        const char *way)
{
    static const char *const names[MESSAGE_COUNT] = {
#define NAME(type, body, open_ended, from_control) [MESSAGE_##type] = #type,
        MESSAGES(NAME)
#undef NAME
    };
    const struct message_instance *i = (const void *)m->bytes;
    const struct message_return *r = (const void *)m->bytes;

    if (m->n == 0)
        sim_say(w, "front %d %s the end", f->index, way);
    else if (m->n < sizeof i->head)
        sim_say(w, "front %d %s to go", f->index, way);
    else if (i->head.type == MESSAGE_RETURN || i->head.type == MESSAGE_CLAIM)
        sim_say(w, "front %d %s %s of #%llu: %u", f->index, way, names[i->head.type],
                (unsigned long long)i->instance, r->slots);
    else if (i->head.size >= sizeof *i)
        sim_say(w, "front %d %s %s #%llu", f->index, way, names[i->head.type],
                (unsigned long long)i->instance);
}

static void run_to_control(struct world *w, struct task *t)
{
    struct sim_front *f = of_task(w, t);
    struct message *m = f ? pop(&f->to_control) : NULL;

    if (!m)
        return;
    say_message(w, f, m, "says");
    if (m->n == 0)
        front_down(w, f);
    else if (f->heard)
        talk_hears(w, f, m->bytes, m->n);
    free(m);
}

static void run_to_front(struct world *w, struct task *t)
{
    struct sim_front *f = of_task(w, t);
    struct message *m = f ? pop(&f->to_front) : NULL;

    if (m && f->up) {
        say_message(w, f, m, "hears");
        front_hears(w, f, m->bytes, m->n);
    }
    free(m);
}

static void push(struct world *w, struct sim_front *f, struct channel *c, const void *bytes,
                 size_t n)
{
    struct message *m = malloc(sizeof *m + n);
    int64_t at_ms = w->now_ms + sim_between(w, 0, 3);

    SIM_ASSERT(w, m != NULL);
    if (!w->calm && sim_permille(w, 5))
        at_ms += sim_between(w, 10, 200);
    if (at_ms < c->last_ms)
        at_ms = c->last_ms;
    if (at_ms > w->now_ms + 3)
        f->late_until_ms = at_ms + LATE_MS;
    c->last_ms = at_ms;
    m->n = n;
    if (n > 0)
        memcpy(m->bytes, bytes, n);
    kg_list_push_back(&c->queue, &m->link);
    sim_later(w, at_ms - w->now_ms, c == &f->to_control ? run_to_control : run_to_front, NULL,
              f->number)
        ->other = f->run;
}

void push_to_front(struct world *w, struct sim_front *f, const void *bytes, size_t n)
{
    push(w, f, &f->to_front, bytes, n);
}

void push_to_control(struct world *w, struct sim_front *f, const void *bytes, size_t n)
{
    push(w, f, &f->to_control, bytes, n);
}

/* --- coming and going --- */

void front_free(struct world *w, struct sim_front *f)
{
    front_breaks(w, f);
    drop(&f->to_control);
    drop(&f->to_front);
    kg_list_remove(&f->link);
    if (w->places[f->index] == f)
        w->places[f->index] = NULL;
    free(f);
}

static void run_start(struct world *w, struct task *t)
{
    struct sim_front *f;

    if (t->other != w->fleet_generation || w->places[t->number] || talk_is_up(w, (int)t->number))
        return;
    f = front_new(w, (int)t->number);
    f->hostile = !w->calm && t->number == 0 && w->hostile;
    f->connected = f->heard = true;
    f->to_front.last_ms = w->now_ms + sim_between(w, 1, 50);
    w->places[f->index] = f;
    talk_up(w, f, false);
}

void front_starts_later(struct world *w, int index, int64_t delay_ms)
{
    sim_later(w, delay_ms, run_start, NULL, (uint64_t)index)->other = w->fleet_generation;
}

/* Control has read all that it had written. */
static void front_down(struct world *w, struct sim_front *f)
{
    int index = f->index;

    w->kept_ms = w->now_ms; /* what it held counts as used until now */
    front_free(w, f);
    talk_down(w, index);
    front_starts_later(w, index, sim_between(w, 1, w->only_crashes ? 50 : 1500));
}

void front_dies(struct world *w, struct sim_front *f)
{
    if (!f || !f->up)
        return;
    w->counts->front_deaths++;
    w->front_died_ms = w->now_ms;
    sim_say(w, "front %d dies", f->index);
    if (w->places[f->index] == f)
        w->places[f->index] = NULL;
    if (!f->heard) {
        judge_unknown(w);
        front_free(w, f);
        judge_unknown(w);
        return;
    }
    front_breaks(w, f);
    drop(&f->to_front);
    f->to_control.last_ms =
        kg_earliest(f->to_control.last_ms, w->now_ms + 20); /* it is read at last */
    push_to_control(w, f, NULL, 0);
}

/* The one that control hears there; it may be dead, and its last words be on their way. */
static struct sim_front *heard_at(struct world *w, int index)
{
    KG_LIST_EACH(it, &w->fronts)
    {
        struct sim_front *f = KG_LIST_ENTRY(it, struct sim_front, link);
        if (f->index == index && f->heard)
            return f;
    }
    return NULL;
}

void front_is_killed(struct world *w, int index)
{
    struct sim_front *f = heard_at(w, index);

    w->counts->distrusted++;
    SIM_ASSERT(w, f && f->hostile && "an honest front is distrusted");
    front_free(w, f);
    front_starts_later(w, index, sim_between(w, 1, 100));
}

bool fronts_old_live(const struct world *w)
{
    KG_LIST_EACH(it, &w->fronts)
    {
        if (KG_LIST_ENTRY(it, struct sim_front, link)->draining)
            return true;
    }
    return false;
}

/* --- control comes and goes --- */

/* The newest that were said were not written any more. */
static void lose_some(struct world *w, struct channel *c)
{
    int64_t n = sim_chance(w, 50) ? 0 : sim_between(w, 0, 8);

    while (n-- > 0 && !kg_list_empty(&c->queue)) {
        struct message *m = KG_LIST_ENTRY(c->queue.prev, struct message, link);
        kg_list_remove(&m->link);
        free(m);
    }
}

void fronts_lose_control(struct world *w)
{
    KG_LIST_EACH_SAFE(it, &w->fronts)
    {
        struct sim_front *f = KG_LIST_ENTRY(it, struct sim_front, link);
        if (!f->up) {
            front_free(w, f);
            judge_unknown(w);
            continue;
        }
        if (!f->heard)
            continue;
        f->heard = false;
        drop(&f->to_control);
        lose_some(w, &f->to_front);
        push_to_front(w, f, NULL, 0);
        if (sim_often(w, TRAIT_FRONT_DIES_TOO))
            front_dies(w, f);
    }
}

/* All that was written, and then the end. */
static void hear_the_rest(struct world *w, struct sim_front *f)
{
    struct message *m;

    while ((m = pop(&f->to_front)) != NULL) {
        front_hears(w, f, m->bytes, m->n);
        free(m);
    }
}

static bool hello(struct world *w, struct sim_front *f)
{
    struct message_hello m;

    MESSAGE_INIT(&m, HELLO);
    m.front = f->index;
    m.listeners = 1;
    m.set_up = f->set_up;
    return (w->only_crashes || !sim_often(w, TRAIT_SENT_OFF)) && talk_accepts(w, f, &m);
}

/* What the front's own process does when a control connects: orchestrator/front.c. */
static void meet(struct world *w, struct sim_front *f)
{
    bool taken;

    hear_the_rest(w, f);
    if (!f->away)
        return; /* it is at its end */
    taken = hello(w, f);
    SIM_ASSERT(w, !taken || f->set_up == w->set_up); /* else it listens where nobody wants it to */
    drop(&f->to_control);                            /* said to nobody */
    f->run++;
    f->to_control.last_ms = f->to_front.last_ms = 0;
    f->connected = true;
    f->heard = taken;
    f->away = false;
    sim_cancel(w, f->alone);
    f->alone = NULL;
    if (!w->calm && sim_often(w, TRAIT_SLOW_CLAIMS)) /* a slow one: the engine's list comes first */
        f->to_control.last_ms = w->now_ms + sim_between(w, 1, 400);
    if (taken && f->hostile)
        front_claims_falsely(w, f);
    gate_client_attached(f->gate);
    if (taken) {
        w->counts->attached++;
        w->attached_ms = w->now_ms;
        talk_up(w, f, true);
        return;
    }
    w->counts->sent_off++;
    drop(&f->to_control);
    front_hears(w, f, ATTACH_SENT_OFF, sizeof ATTACH_SENT_OFF - 1);
}

void fronts_meet_control(struct world *w)
{
    for (int n = 0; n < SIM_FRONTS; n++) {
        struct sim_front *f = w->places[n];
        if (f)
            meet(w, f);
        if (!w->places[n])
            front_starts_later(w, n, sim_between(w, 0, 100));
    }
}

/* --- all --- */

void fronts_begin(struct world *w)
{
    kg_list_init(&w->fronts);
}

void fronts_end(struct world *w)
{
    KG_LIST_EACH_SAFE(it, &w->fronts)
    front_free(w, KG_LIST_ENTRY(it, struct sim_front, link));
}
