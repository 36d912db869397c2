/* SPDX-License-Identifier: Apache-2.0 */
/* The timer wheel on a real loop. The difficulty under test: laziness (arming later is a store)
 * must never fire early, and callbacks may do anything to any timer. Times are short, bounds are
 * loose upwards, for a loaded machine is late; they are exact downwards. */
#include "base/clock.h"
#include "base/heap.h"
#include "base/wheel.h"
#include <check.h>
#include <stdlib.h>

struct probe {
    struct kg_timer timer;
    int64_t fired_ms; /* 0: not yet */
    int fires;
    struct probe *other;
    void (*then)(struct probe *p);
};

static uv_loop_t loop;
static struct kg_wheel wheel;
static bool wheel_closed;

static int64_t now(void)
{
    return (int64_t)uv_now(&loop);
}

static void on_fire(struct kg_timer *t)
{
    struct probe *p = KG_CONTAINER_OF(t, struct probe, timer);

    ck_assert(t->due_ms == KG_NEVER); /* disarmed before the call */
    p->fired_ms = now();
    p->fires++;
    if (p->then)
        p->then(p);
}

static void probe_init(struct probe *p)
{
    *p = (struct probe){.fires = 0};
    kg_timer_init(&p->timer, on_fire);
}

static void on_closed(uv_handle_t *h)
{
    ck_assert_ptr_eq(h->data, &wheel);
    wheel_closed = true;
}

static void open_wheel(void)
{
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    ck_assert_int_eq(kg_wheel_open(&wheel, &loop), 0);
    wheel_closed = false;
}

static void close_wheel(void)
{
    if (!uv_is_closing((uv_handle_t *)&wheel.uv))
        kg_wheel_close(&wheel, on_closed);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert(wheel_closed);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

static int64_t
    timers_run; /* expiries of the wheel's uv timer, counted by a prepare handle's turns */

static void on_turn(uv_prepare_t *h)
{
    (void)h;
    timers_run++;
}

START_TEST(fires_at_its_time)
{
    static const int64_t delays[] = {0, 1, 63, 64, 65, 128, 200, 300};
    struct probe p[8];
    const int64_t start = now();

    for (size_t i = 0; i < 8; i++) {
        probe_init(&p[i]);
        kg_timer_arm(&wheel, &p[i].timer, start + delays[i]);
    }
    ck_assert_uint_eq(wheel.armed, 8);
    uv_run(&loop, UV_RUN_DEFAULT);
    for (size_t i = 0; i < 8; i++) {
        ck_assert_int_eq(p[i].fires, 1);
        ck_assert_int_ge(p[i].fired_ms, start + delays[i]);
        ck_assert_int_le(p[i].fired_ms, start + delays[i] + KG_WHEEL_SLOT_MS + 100);
    }
    ck_assert_uint_eq(wheel.armed, 0);
}
END_TEST

START_TEST(idle_wheel_keeps_nothing_alive)
{
    struct probe p;

    probe_init(&p);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0); /* returns at once */
    kg_timer_arm(&wheel, &p.timer, now() + 10000);
    ck_assert(uv_is_active((uv_handle_t *)&wheel.uv));
    kg_timer_disarm(&wheel, &p.timer);
    ck_assert(!uv_is_active((uv_handle_t *)&wheel.uv));
    kg_timer_disarm(&wheel, &p.timer);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(p.fires, 0);
}
END_TEST

START_TEST(later_is_only_a_store)
{
    struct probe p;
    struct kg_list *next;
    const int64_t start = now();
    int64_t slot_ms;

    probe_init(&p);
    kg_timer_arm(&wheel, &p.timer, start + 50);
    next = p.timer.link.next;
    slot_ms = p.timer.slot_ms;
    for (int64_t due = start + 51; due < start + 60000; due += 97) {
        kg_timer_arm(&wheel, &p.timer, due);
        ck_assert_int_eq(p.timer.due_ms, due);
        ck_assert_ptr_eq(p.timer.link.next, next); /* it sits where it sat */
        ck_assert_int_eq(p.timer.slot_ms, slot_ms);
    }
    ck_assert_uint_eq(wheel.armed, 1);
    kg_timer_arm(&wheel, &p.timer, start + 250);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(p.fires, 1);
    ck_assert_int_ge(p.fired_ms, start + 250); /* not when the slot it sat in came up */
}
END_TEST

START_TEST(earlier_moves)
{
    struct probe p;
    const int64_t start = now();

    probe_init(&p);
    kg_timer_arm(&wheel, &p.timer, start + 60000);
    kg_timer_arm(&wheel, &p.timer, start + 5000);
    kg_timer_arm(&wheel, &p.timer, start + 100);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(p.fires, 1);
    ck_assert_int_ge(p.fired_ms, start + 100);
    ck_assert_int_le(p.fired_ms, start + 100 + KG_WHEEL_SLOT_MS + 100);
}
END_TEST

START_TEST(beyond_the_span_is_parked)
{
    static const int64_t far[] = {KG_WHEEL_SLOTS * KG_WHEEL_SLOT_MS - 1,
                                  KG_WHEEL_SLOTS * KG_WHEEL_SLOT_MS,
                                  KG_WHEEL_SLOTS * KG_WHEEL_SLOT_MS + 1, 3600000, KG_NEVER - 1};
    struct probe p[5];
    const int64_t start = now();

    for (size_t i = 0; i < 5; i++) {
        probe_init(&p[i]);
        kg_timer_arm(&wheel, &p[i].timer, far[i] == KG_NEVER - 1 ? far[i] : start + far[i]);
        ck_assert_int_gt(p[i].timer.slot_ms, start);
        ck_assert_int_le(p[i].timer.slot_ms, start + KG_WHEEL_SLOTS * KG_WHEEL_SLOT_MS);
    }
    for (size_t i = 0; i < 5; i++)
        kg_timer_disarm(&wheel, &p[i].timer);
}
END_TEST

/* Pretends that the wheel slept: its slots came up long ago, in terms of the loop's clock. */
static void shift_into_past(int64_t slots)
{
    wheel.now_slot -= slots;
    wheel.wake_slot -= slots;
}

START_TEST(a_parked_timer_is_placed_again)
{
    struct probe p;
    const int64_t start = now();

    probe_init(&p);
    /* Seen from a wheel that stands 250 slots back, due in 400 ms is beyond the span. */
    kg_timer_arm(&wheel, &p.timer, start + 60000);
    kg_timer_disarm(&wheel, &p.timer);
    wheel.armed = 1; /* so that arming does not let the wheel catch up first */
    shift_into_past(KG_WHEEL_SLOTS - 3);
    kg_timer_arm(&wheel, &p.timer, start + 400);
    wheel.armed = 1;
    ck_assert_int_lt(p.timer.slot_ms, start + 400);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(p.fires, 1);
    ck_assert_int_ge(p.fired_ms, start + 400);
}
END_TEST

START_TEST(a_long_stall_is_caught_up)
{
    struct probe p[3];
    const int64_t start = now();

    for (int i = 0; i < 3; i++) {
        probe_init(&p[i]);
        kg_timer_arm(&wheel, &p[i].timer, start + 70 * (i + 1));
    }
    wheel.now_slot -= 10 * KG_WHEEL_SLOTS; /* far more than once around */
    uv_run(&loop, UV_RUN_DEFAULT);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(p[i].fires, 1);
        ck_assert_int_ge(p[i].fired_ms, start + 70 * (i + 1));
    }
}
END_TEST

static void arm_again(struct probe *p)
{
    if (p->fires < 5)
        kg_timer_arm(&wheel, &p->timer, now());
}

START_TEST(rearming_itself_at_once_ends)
{
    struct probe p;
    const int64_t start = now();

    probe_init(&p);
    p.then = arm_again;
    kg_timer_arm(&wheel, &p.timer, start - 1000);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(p.fires, 5);
    /* One slot later each time, never again and again within one call. */
    ck_assert_int_ge(p.fired_ms, start + 3 * KG_WHEEL_SLOT_MS);
}
END_TEST

static void disarm_other(struct probe *p)
{
    kg_timer_disarm(&wheel, &p->other->timer);
}

static void postpone_other(struct probe *p)
{
    kg_timer_arm(&wheel, &p->other->timer, now() + 150);
}

START_TEST(callback_disarms_one_that_is_due_too)
{
    struct probe a, b;

    probe_init(&a);
    probe_init(&b);
    a.then = disarm_other;
    a.other = &b;
    kg_timer_arm(&wheel, &a.timer, now() + 10);
    kg_timer_arm(&wheel, &b.timer, now() + 10);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(a.fires, 1);
    ck_assert_int_eq(b.fires, 0);
    ck_assert_uint_eq(wheel.armed, 0);
}
END_TEST

START_TEST(callback_postpones_one_that_is_due_too)
{
    struct probe a, b;

    probe_init(&a);
    probe_init(&b);
    a.then = postpone_other;
    a.other = &b;
    kg_timer_arm(&wheel, &a.timer, now() + 10);
    kg_timer_arm(&wheel, &b.timer, now() + 10);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(b.fires, 1);
    ck_assert_int_ge(b.fired_ms, a.fired_ms + 150);
}
END_TEST

static void free_both(struct probe *p)
{
    kg_timer_disarm(&wheel, &p->other->timer);
    free(p->other);
    free(p);
}

START_TEST(callback_frees_itself_and_another)
{
    struct probe *a = malloc(sizeof *a), *b = malloc(sizeof *b);

    probe_init(a);
    probe_init(b);
    a->then = free_both;
    a->other = b;
    kg_timer_arm(&wheel, &a->timer, now() + 10);
    kg_timer_arm(&wheel, &b->timer, now() + 10);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_uint_eq(wheel.armed, 0);
}
END_TEST

static void close_all(struct probe *p)
{
    (void)p;
    kg_wheel_close(&wheel, on_closed);
}

START_TEST(callback_closes_the_wheel)
{
    struct probe p[4];

    for (int i = 0; i < 4; i++) {
        probe_init(&p[i]);
        p[i].then = close_all;
        kg_timer_arm(&wheel, &p[i].timer, now() + (i < 2 ? 10 : 1000)); /* two due, two to come */
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(p[0].fires, 1);
    for (int i = 1; i < 4; i++) {
        ck_assert_int_eq(p[i].fires, 0);
        ck_assert(p[i].timer.due_ms == KG_NEVER);
        kg_timer_disarm(&wheel, &p[i].timer); /* late cleaners do no harm */
        kg_timer_arm(&wheel, &p[i].timer, now());
        ck_assert(p[i].timer.due_ms == KG_NEVER);
    }
}
END_TEST

START_TEST(arming_with_never_disarms)
{
    struct probe p;

    probe_init(&p);
    kg_timer_arm(&wheel, &p.timer, KG_NEVER);
    ck_assert_uint_eq(wheel.armed, 0);
    kg_timer_arm(&wheel, &p.timer, now() + 10);
    kg_timer_arm(&wheel, &p.timer, KG_NEVER);
    ck_assert_uint_eq(wheel.armed, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(p.fires, 0);
}
END_TEST

START_TEST(sleeps_while_nothing_is_due)
{
    static uv_prepare_t turns; /* closed by the loop's last turn, in the teardown */
    struct probe p;

    uv_prepare_init(&loop, &turns);
    uv_prepare_start(&turns, on_turn);
    uv_unref((uv_handle_t *)&turns);
    timers_run = 0;
    probe_init(&p);
    kg_timer_arm(&wheel, &p.timer, now() + 10 * KG_WHEEL_SLOT_MS);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(p.fires, 1);
    ck_assert_int_le(timers_run, 4); /* a wheel that ticks would have turned the loop ten times */
    uv_close((uv_handle_t *)&turns, NULL);
}
END_TEST

START_TEST(random_arms_never_fire_early)
{
    struct probe p[50];
    int64_t due[50];
    uint64_t x = 1234567;

    for (int i = 0; i < 50; i++)
        probe_init(&p[i]);
    for (int step = 0; step < 2000; step++) {
        const size_t i = (x = x * 6364136223846793005u + 1442695040888963407u) >> 33 & 31;

        due[i] = now() + (int64_t)(x >> 40) % 400;
        p[i].fires = 0;
        kg_timer_arm(&wheel, &p[i].timer, due[i]);
        if (step % 50 == 0)
            uv_run(&loop, UV_RUN_ONCE);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    for (size_t i = 0; i < 32; i++) {
        ck_assert_int_eq(p[i].fires, 1);
        ck_assert_int_ge(p[i].fired_ms, due[i]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("wheel");
    TCase *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, open_wheel, close_wheel);
    tcase_add_test(t, fires_at_its_time);
    tcase_add_test(t, idle_wheel_keeps_nothing_alive);
    tcase_add_test(t, later_is_only_a_store);
    tcase_add_test(t, earlier_moves);
    tcase_add_test(t, beyond_the_span_is_parked);
    tcase_add_test(t, a_parked_timer_is_placed_again);
    tcase_add_test(t, a_long_stall_is_caught_up);
    tcase_add_test(t, rearming_itself_at_once_ends);
    tcase_add_test(t, callback_disarms_one_that_is_due_too);
    tcase_add_test(t, callback_postpones_one_that_is_due_too);
    tcase_add_test(t, callback_frees_itself_and_another);
    tcase_add_test(t, callback_closes_the_wheel);
    tcase_add_test(t, arming_with_never_disarms);
    tcase_add_test(t, sleeps_while_nothing_is_due);
    tcase_add_test(t, random_arms_never_fire_early);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
