/* SPDX-License-Identifier: Apache-2.0 */
/* The timer wheel. The difficulty: callbacks may arm, disarm or free any timer, and the wheel's own
 * idea of "now" stands still while nothing is due. */
#include "base/wheel.h"
#include "base/clock.h"
#include "base/err.h"

/* Farthest slot ahead of now_slot. What is due later is parked there and moved on when it comes up.
 */
#define SPAN (KG_WHEEL_SLOTS - 1)

static void on_wake(uv_timer_t *uv);

static int64_t loop_now(const struct kg_wheel *w)
{
    return (int64_t)uv_now(w->uv.loop);
}

static struct kg_list *slot_list(struct kg_wheel *w, int64_t slot)
{
    return &w->slots[slot % KG_WHEEL_SLOTS];
}

int kg_wheel_open(struct kg_wheel *w, uv_loop_t *loop)
{
    if (uv_timer_init(loop, &w->uv) != 0)
        return KG_EIO;
    w->uv.data = w;
    for (size_t i = 0; i < KG_WHEEL_SLOTS; i++)
        kg_list_init(&w->slots[i]);
    w->now_slot = loop_now(w) / KG_WHEEL_SLOT_MS;
    w->wake_slot = KG_NEVER;
    w->armed = 0;
    return 0;
}

static void unlink_timer(struct kg_wheel *w, struct kg_timer *t)
{
    kg_list_remove(&t->link);
    t->due_ms = KG_NEVER;
    w->armed--;
}

static void empty_list(struct kg_wheel *w, struct kg_list *l)
{
    while (!kg_list_empty(l))
        unlink_timer(w, KG_LIST_ENTRY(kg_list_first(l), struct kg_timer, link));
}

void kg_wheel_close(struct kg_wheel *w, uv_close_cb on_closed)
{
    for (size_t i = 0; i < KG_WHEEL_SLOTS; i++)
        empty_list(w, &w->slots[i]);
    uv_close((uv_handle_t *)&w->uv, on_closed);
}

void kg_timer_init(struct kg_timer *t, kg_timer_fire *fire)
{
    kg_list_init(&t->link);
    t->due_ms = KG_NEVER;
    t->slot_ms = 0;
    t->fire = fire;
}

/* The slot that a deadline belongs into: the first that comes up at or after it, never one that has
 * been run, never one beyond the span. */
static int64_t slot_for(const struct kg_wheel *w, int64_t due_ms)
{
    if (due_ms > (w->now_slot + SPAN) * KG_WHEEL_SLOT_MS)
        return w->now_slot + SPAN;
    if (due_ms <= w->now_slot * KG_WHEEL_SLOT_MS)
        return w->now_slot + 1;
    return (due_ms + KG_WHEEL_SLOT_MS - 1) / KG_WHEEL_SLOT_MS;
}

static void wake_at(struct kg_wheel *w, int64_t slot)
{
    const int64_t delay = slot * KG_WHEEL_SLOT_MS - loop_now(w);

    w->wake_slot = slot;
    KG_ASSERT(uv_timer_start(&w->uv, on_wake, delay > 0 ? (uint64_t)delay : 0, 0) == 0);
}

static void put_in_slot(struct kg_wheel *w, struct kg_timer *t, int64_t slot)
{
    t->slot_ms = slot * KG_WHEEL_SLOT_MS;
    kg_list_push_back(slot_list(w, slot), &t->link);
    if (slot < w->wake_slot)
        wake_at(w, slot);
}

void kg_timer_arm(struct kg_wheel *w, struct kg_timer *t, int64_t due_ms)
{
    int64_t slot;

    if (due_ms == KG_NEVER) {
        kg_timer_disarm(w, t);
        return;
    }
    if (w->armed == 0) { /* the wheel stood still meanwhile */
        if (uv_is_closing((uv_handle_t *)&w->uv))
            return; /* in the last moments of a front nobody needs its timeouts */
        w->now_slot = loop_now(w) / KG_WHEEL_SLOT_MS;
    }
    slot = slot_for(w, due_ms);
    if (t->due_ms == KG_NEVER) {
        w->armed++;
        put_in_slot(w, t, slot);
    } else if (slot * KG_WHEEL_SLOT_MS < t->slot_ms) {
        kg_list_remove(&t->link);
        put_in_slot(w, t, slot);
    }
    t->due_ms = due_ms;
}

void kg_timer_disarm(struct kg_wheel *w, struct kg_timer *t)
{
    if (t->due_ms == KG_NEVER)
        return;
    unlink_timer(w, t);
    if (w->armed == 0 && !uv_is_closing((uv_handle_t *)&w->uv)) {
        uv_timer_stop(&w->uv);
        w->wake_slot = KG_NEVER;
    }
}

static void move_all(struct kg_list *into, struct kg_list *from)
{
    if (kg_list_empty(from))
        return;
    from->next->prev = into->prev;
    into->prev->next = from->next;
    from->prev->next = into;
    into->prev = from->prev;
    kg_list_init(from);
}

/* Moves the content of all slots that have come up to `due`, and the wheel's now with it. */
static void collect(struct kg_wheel *w, struct kg_list *due)
{
    const int64_t now_slot = loop_now(w) / KG_WHEEL_SLOT_MS;

    if (now_slot - w->now_slot > KG_WHEEL_SLOTS) /* after a long stall every slot has, once */
        w->now_slot = now_slot - KG_WHEEL_SLOTS;
    while (w->now_slot < now_slot)
        move_all(due, slot_list(w, ++w->now_slot));
}

static void wake_at_next(struct kg_wheel *w)
{
    w->wake_slot = KG_NEVER;
    for (int64_t slot = w->now_slot + 1; w->armed > 0 && slot <= w->now_slot + SPAN; slot++) {
        if (!kg_list_empty(slot_list(w, slot))) {
            wake_at(w, slot);
            return;
        }
    }
}

static void on_wake(uv_timer_t *uv)
{
    struct kg_wheel *w = uv->data;
    struct kg_list due;

    kg_list_init(&due);
    collect(w, &due);
    w->wake_slot = w->now_slot; /* so that arming below does not touch the uv timer each time */
    while (!kg_list_empty(&due)) {
        struct kg_timer *t = KG_LIST_ENTRY(kg_list_first(&due), struct kg_timer, link);

        if (uv_is_closing((uv_handle_t *)uv)) {
            empty_list(w, &due);
            return;
        }
        if (t->due_ms > loop_now(w)) { /* re-armed since, or parked: move it on */
            kg_list_remove(&t->link);
            put_in_slot(w, t, slot_for(w, t->due_ms));
            continue;
        }
        unlink_timer(w, t);
        t->fire(t);
    }
    if (!uv_is_closing((uv_handle_t *)uv))
        wake_at_next(w);
}
