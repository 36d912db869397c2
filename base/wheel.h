/* SPDX-License-Identifier: Apache-2.0 */
/* Coarse timers for many connections: a hashed wheel with 64 ms slots and one uv timer.
 * The difficulty: the hot path re-arms per request, so arming is a store when the new deadline is
 * later than the slot the node already sits in (lazy: it is moved on when its slot comes up). */
#ifndef KG_BASE_WHEEL_H
#define KG_BASE_WHEEL_H

#include "base/list.h"
#include <uv.h>

#define KG_WHEEL_SLOTS 256
#define KG_WHEEL_SLOT_MS 64

struct kg_timer;
typedef void
kg_timer_fire(struct kg_timer *t); /* disarmed before the call; may re-arm or free itself */
struct kg_timer {
    struct kg_list link;
    int64_t due_ms;  /* KG_NEVER: disarmed */
    int64_t slot_ms; /* when the slot it sits in comes up */
    kg_timer_fire *fire;
};
struct kg_wheel {
    uv_timer_t uv;
    struct kg_list slots[KG_WHEEL_SLOTS];
    int64_t now_slot;  /* index since time 0 of the last slot run */
    int64_t wake_slot; /* the one the uv timer is set to; KG_NEVER: stopped */
    size_t armed;
};

int kg_wheel_open(struct kg_wheel *w, uv_loop_t *loop);
/* Disarms all timers; arming one from now on has no effect. */
void kg_wheel_close(struct kg_wheel *w, uv_close_cb on_closed); /* uv handle's data is the wheel */
void kg_timer_init(struct kg_timer *t, kg_timer_fire *fire);
/* Fires at due_ms or up to one slot later. now_ms is uv_now(loop). Arming an armed timer moves it.
 */
void kg_timer_arm(struct kg_wheel *w, struct kg_timer *t, int64_t due_ms);
void kg_timer_disarm(struct kg_wheel *w, struct kg_timer *t);

#endif
