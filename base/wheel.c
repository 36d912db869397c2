/* SPDX-License-Identifier: Apache-2.0 */
/* A hashed timer wheel. The difficulty: arming later than the slot a timer sits in only stores the
 * new time; the timer is moved on when its slot comes up, so a busy connection costs nothing. */
#include "base/wheel.h"
#include "base/clock.h"
#include "base/err.h"

static int64_t slot_of(int64_t ms)
{
    return ms / KG_WHEEL_SLOT_MS;
}

static void run_slots(struct kg_wheel *w, int64_t upto);

static void on_tick(uv_timer_t *uv)
{
    struct kg_wheel *w = uv->data;
    int64_t now = (int64_t)uv_now(uv->loop);

    run_slots(w, slot_of(now) - 1); /* a slot is due once all its milliseconds are over */
    if (w->armed == 0)
        uv_timer_stop(uv);
}

int kg_wheel_open(struct kg_wheel *w, uv_loop_t *loop)
{
    *w = (struct kg_wheel){0};
    for (size_t i = 0; i < KG_WHEEL_SLOTS; i++)
        kg_list_init(&w->slots[i]);
    w->uv.data = w;
    return uv_timer_init(loop, &w->uv) == 0 ? 0 : KG_EIO;
}

void kg_wheel_close(struct kg_wheel *w, uv_close_cb on_closed)
{
    uv_close((uv_handle_t *)&w->uv, on_closed);
}

void kg_timer_init(struct kg_timer *t, kg_timer_fire *fire)
{
    *t = (struct kg_timer){.due_ms = KG_NEVER, .fire = fire};
    kg_list_init(&t->link);
}

static void place(struct kg_wheel *w, struct kg_timer *t)
{
    int64_t slot = slot_of(t->due_ms);

    if (slot <= w->now_slot)
        slot = w->now_slot + 1;
    if (slot >= w->now_slot + KG_WHEEL_SLOTS) /* beyond the span: looked at again on the way */
        slot = w->now_slot + KG_WHEEL_SLOTS - 1;
    t->slot_ms = slot * KG_WHEEL_SLOT_MS;
    kg_list_push_back(&w->slots[slot % KG_WHEEL_SLOTS], &t->link);
}

/* Stopped while nothing is armed, the wheel catches up with the clock before it goes on. */
static void start(struct kg_wheel *w)
{
    int64_t now = (int64_t)uv_now(w->uv.loop);

    w->now_slot = slot_of(now) - 1;
    uv_timer_start(&w->uv, on_tick, KG_WHEEL_SLOT_MS - (uint64_t)(now % KG_WHEEL_SLOT_MS),
                   KG_WHEEL_SLOT_MS);
}

void kg_timer_arm(struct kg_wheel *w, struct kg_timer *t, int64_t due_ms)
{
    if (due_ms == KG_NEVER) {
        kg_timer_disarm(w, t);
        return;
    }
    if (t->due_ms != KG_NEVER) {
        t->due_ms = due_ms;
        if (due_ms >= t->slot_ms)
            return;
        kg_list_remove(&t->link);
        place(w, t);
        return;
    }
    if (w->armed++ == 0)
        start(w);
    t->due_ms = due_ms;
    place(w, t);
}

void kg_timer_disarm(struct kg_wheel *w, struct kg_timer *t)
{
    if (t->due_ms == KG_NEVER)
        return;
    kg_list_remove(&t->link);
    t->due_ms = KG_NEVER;
    KG_ASSERT(w->armed > 0);
    w->armed--;
}

/* Those of one slot are first moved to a list of this call, for a callback may arm into the slot.
 */
static void run_slot(struct kg_wheel *w, int64_t slot)
{
    struct kg_list *from = &w->slots[slot % KG_WHEEL_SLOTS], due, *first;

    kg_list_init(&due);
    while ((first = kg_list_first(from)) != NULL) {
        kg_list_remove(first);
        kg_list_push_back(&due, first);
    }
    while ((first = kg_list_first(&due)) != NULL) {
        struct kg_timer *t = KG_LIST_ENTRY(first, struct kg_timer, link);
        kg_list_remove(first);
        if (slot_of(t->due_ms) > slot) {
            place(w, t);
            continue;
        }
        t->due_ms = KG_NEVER;
        w->armed--;
        t->fire(t);
    }
}

static void run_slots(struct kg_wheel *w, int64_t upto)
{
    if (upto - w->now_slot > KG_WHEEL_SLOTS) /* slept long: once around meets every timer */
        w->now_slot = upto - KG_WHEEL_SLOTS;
    while (w->now_slot < upto)
        run_slot(w, ++w->now_slot);
}
