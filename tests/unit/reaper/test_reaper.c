/* SPDX-License-Identifier: Apache-2.0 */
/* The reaper under a virtual clock. The difficulty under test: use that begins in the instant of
 * expiry, told in every order, and what `expire` itself does to entries. */
#include "base/clock.h"
#include "base/err.h"
#include "reaper/reaper.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES 32

/* What the callee answers, and what it was asked. */
static struct {
    struct reaper *reaper;
    struct reaper_entry *entry[ENTRIES * 8];
    int64_t now_ms;
    int asked;
    enum {
        TAKE,
        REFUSE,
        REFUSE_AND_HOLD,
        REFUSE_AND_TOUCH,
        USE_SHORTLY,
        FORGET_AND_FREE,
        WATCH_ANEW
    } answer;
} script;

static struct reaper r;

static bool expire(void *arg, struct reaper_entry *e)
{
    ck_assert_ptr_eq(arg, &script);
    ck_assert(e->watched && e->holds == 0 && e->node.place == 0);
    ck_assert_int_le(e->used_ms + e->idle_timeout_ms, script.now_ms);
    ck_assert_int_eq(reaper_entry_due_ms(e), e->used_ms + e->idle_timeout_ms);
    script.entry[script.asked++] = e;
    switch (script.answer) {
    case TAKE:
        return true;
    case REFUSE:
        return false;
    case REFUSE_AND_HOLD:
        reaper_hold(&r, e);
        return false;
    case REFUSE_AND_TOUCH:
        reaper_touch(&r, e, script.now_ms);
        return false;
    case USE_SHORTLY:
        reaper_hold(&r, e);
        reaper_unhold(&r, e, script.now_ms);
        return false;
    case FORGET_AND_FREE:
        reaper_forget(&r, e);
        free(e);
        return true;
    case WATCH_ANEW:
        reaper_forget(&r, e);
        ck_assert_int_eq(reaper_watch(&r, e, 0, 0), 0);
        return false;
    }
    return true;
}

static void tick(int64_t now_ms)
{
    script.now_ms = now_ms;
    reaper_tick(&r, now_ms);
}

static void setup(void)
{
    memset(&script, 0, sizeof script);
    reaper_init(&r, expire, &script);
}

static void teardown(void)
{
    reaper_fini(&r);
}

START_TEST(due_at_n_minus_1_n_n_plus_1)
{
    struct reaper_entry e = {.holds = 0};

    ck_assert(reaper_due_ms(&r) == KG_NEVER);
    ck_assert(reaper_entry_due_ms(&e) == KG_NEVER);
    tick(1000000);
    for (int64_t late = 0; late <= 1; late++) {
        ck_assert_int_eq(reaper_watch(&r, &e, 1000, 300), 0);
        ck_assert_int_eq(reaper_due_ms(&r), 1300);
        ck_assert_int_eq(reaper_entry_due_ms(&e), 1300);
        tick(1299);
        ck_assert_int_eq(script.asked, (int)late);
        tick(1300 + late);
        ck_assert_int_eq(script.asked, (int)late + 1);
        ck_assert(!e.watched);
        ck_assert(reaper_entry_due_ms(&e) == KG_NEVER);
        ck_assert(reaper_due_ms(&r) == KG_NEVER);
    }
}
END_TEST

START_TEST(all_that_are_due_in_order)
{
    struct reaper_entry e[5] = {{.holds = 0}};

    for (int i = 0; i < 5; i++)
        reaper_watch(&r, &e[i], 100 - 10 * i, 0);
    tick(80);
    ck_assert_int_eq(script.asked, 3);
    for (int i = 0; i < 3; i++)
        ck_assert_ptr_eq(script.entry[i], &e[4 - i]);
    ck_assert_int_eq(reaper_due_ms(&r), 90);
    reaper_forget(&r, &e[0]);
    reaper_forget(&r, &e[0]);
    tick(1000);
    ck_assert_int_eq(script.asked, 4);
}
END_TEST

START_TEST(held_over_its_time)
{
    struct reaper_entry e = {.holds = 0};

    reaper_watch(&r, &e, 0, 100);
    reaper_hold(&r, &e);
    reaper_hold(&r, &e);
    ck_assert(reaper_entry_due_ms(&e) == KG_NEVER && reaper_due_ms(&r) == KG_NEVER);
    tick(5000);
    reaper_unhold(&r, &e, 4000);
    tick(6000);
    ck_assert_int_eq(script.asked, 0); /* one use is still under way */
    reaper_unhold(&r, &e, 3000);       /* told late: the latest end counts */
    ck_assert_int_eq(e.used_ms, 4000);
    ck_assert_int_eq(reaper_due_ms(&r), 4100);
    tick(4099);
    ck_assert_int_eq(script.asked, 0);
    tick(4100);
    ck_assert_int_eq(script.asked, 1);
}
END_TEST

START_TEST(touch_only_moves_later)
{
    struct reaper_entry e = {.holds = 0};

    reaper_watch(&r, &e, 1000, 100);
    reaper_touch(&r, &e, 500);
    ck_assert_int_eq(reaper_due_ms(&r), 1100);
    reaper_touch(&r, &e, 1001);
    ck_assert_int_eq(reaper_due_ms(&r), 1101);
    reaper_hold(&r, &e);
    reaper_touch(&r, &e, 2000);
    ck_assert(reaper_due_ms(&r) == KG_NEVER);
    reaper_unhold(&r, &e, 1500);
    ck_assert_int_eq(reaper_due_ms(&r), 2100);
}
END_TEST

START_TEST(timeouts_change_while_the_clock_is_kept)
{
    struct reaper_entry e = {.holds = 0};

    reaper_watch(&r, &e, 1000, 100);
    reaper_set_timeout(&r, &e, 5000);
    ck_assert_int_eq(reaper_due_ms(&r), 6000);
    reaper_set_timeout(&r, &e, 50); /* shorter: due at once when that is over */
    ck_assert_int_eq(reaper_due_ms(&r), 1050);
    reaper_hold(&r, &e);
    reaper_set_timeout(&r, &e, 10);
    ck_assert(reaper_due_ms(&r) == KG_NEVER);
    reaper_unhold(&r, &e, 2000);
    ck_assert_int_eq(reaper_due_ms(&r), 2010);
    reaper_set_timeout(&r, &e, KG_NEVER); /* no overflow: never */
    ck_assert(reaper_due_ms(&r) == KG_NEVER);
    tick(KG_NEVER - 1);
    ck_assert_int_eq(script.asked, 0);
    reaper_set_timeout(&r, &e, 0);
    tick(2000);
    ck_assert_int_eq(script.asked, 1);
}
END_TEST

START_TEST(refused_without_a_use_is_asked_again_later)
{
    struct reaper_entry e = {.holds = 0};

    script.answer = REFUSE;
    reaper_watch(&r, &e, 0, 100);
    tick(150);
    ck_assert_int_eq(script.asked, 1); /* once a tick, not for ever */
    ck_assert_int_eq(reaper_due_ms(&r), 151);
    ck_assert_int_eq(reaper_entry_due_ms(&e), 151);
    tick(150);
    ck_assert_int_eq(script.asked, 1);
    script.answer = TAKE;
    tick(151);
    ck_assert_int_eq(script.asked, 2);
    ck_assert(!e.watched);
}
END_TEST

START_TEST(refused_because_a_use_began)
{
    struct reaper_entry e = {.holds = 0};

    script.answer = REFUSE_AND_HOLD;
    reaper_watch(&r, &e, 0, 100);
    tick(100);
    ck_assert(e.watched && e.holds == 1);
    ck_assert(reaper_due_ms(&r) == KG_NEVER);
    reaper_unhold(&r, &e, 500);
    ck_assert_int_eq(reaper_due_ms(&r), 600);
}
END_TEST

START_TEST(refused_because_of_a_late_report)
{
    struct reaper_entry e[2] = {{.holds = 0}};

    script.answer = REFUSE_AND_TOUCH;
    reaper_watch(&r, &e[0], 0, 100);
    tick(100);
    ck_assert_int_eq(reaper_due_ms(&r), 200);
    reaper_forget(&r, &e[0]);
    script.answer = USE_SHORTLY;
    reaper_watch(&r, &e[1], 0, 100);
    tick(300);
    ck_assert_int_eq(reaper_due_ms(&r), 400);
    ck_assert_int_eq(script.asked, 2);
}
END_TEST

START_TEST(use_told_after_the_refusal)
{
    struct reaper_entry e = {.holds = 0};

    script.answer = REFUSE;
    reaper_watch(&r, &e, 0, 100);
    tick(100);
    reaper_touch(&r, &e, 90);
    ck_assert_int_eq(reaper_due_ms(&r), 190);
    reaper_hold(&r, &e);
    tick(10000);
    ck_assert_int_eq(script.asked, 1);
}
END_TEST

START_TEST(callee_forgets_and_frees)
{
    struct reaper_entry *e = calloc(1, sizeof *e), other = {.holds = 0};

    script.answer = FORGET_AND_FREE;
    reaper_watch(&r, e, 0, 100);
    reaper_watch(&r, &other, 0, 200);
    tick(100);
    ck_assert_int_eq(script.asked, 1);
    ck_assert_int_eq(reaper_due_ms(&r), 200);
    script.answer = TAKE;
    tick(200);
    ck_assert_uint_eq(r.watched, 0);
}
END_TEST

START_TEST(watching_anew_inside_expire_ends)
{
    struct reaper_entry e = {.holds = 0};

    script.answer = WATCH_ANEW;
    reaper_watch(&r, &e, 0, 0);
    tick(100);
    ck_assert_int_eq(script.asked, 1); /* the new watch waits for the next tick */
    ck_assert_int_eq(reaper_due_ms(&r), 0);
}
END_TEST

START_TEST(telling_of_what_is_not_watched_has_no_effect)
{
    struct reaper_entry e = {.holds = 0};

    reaper_hold(&r, &e);
    reaper_touch(&r, &e, 10);
    reaper_set_timeout(&r, &e, 10);
    reaper_forget(&r, &e);
    ck_assert(reaper_due_ms(&r) == KG_NEVER);
    reaper_watch(&r, &e, 0, 100);
    reaper_hold(&r, &e);
    reaper_forget(&r, &e);
    reaper_unhold(&r, &e, 50); /* the use outlived the watch */
    ck_assert(reaper_due_ms(&r) == KG_NEVER);
    reaper_watch(&r, &e, 0, 100); /* and left no trace */
    ck_assert_int_eq(reaper_due_ms(&r), 100);
}
END_TEST

START_TEST(held_entries_keep_their_room)
{
    static struct reaper_entry e[1000];

    for (int i = 0; i < 1000; i++) {
        ck_assert_int_eq(reaper_watch(&r, &e[i], i, 10), 0);
        reaper_hold(&r, &e[i]);
    }
    ck_assert_uint_ge(r.heap.cap, 1000); /* so that unhold, which returns nothing, cannot fail */
    for (int i = 0; i < 1000; i++)
        reaper_unhold(&r, &e[i], 0);
    ck_assert_uint_eq(r.heap.count, 1000);
    for (int i = 0; i < 1000; i++)
        reaper_forget(&r, &e[i]);
}
END_TEST

START_TEST(no_memory_means_not_watched)
{
    struct reaper_entry e = {.holds = 0};

    r.watched = SIZE_MAX - 1; /* more than any memory has room for */
    ck_assert_int_eq(reaper_watch(&r, &e, 0, 100), KG_ENOMEM);
    ck_assert(!e.watched && reaper_due_ms(&r) == KG_NEVER);
    ck_assert(r.watched == SIZE_MAX - 1);
}
END_TEST

/* --- ten thousand random operations against a model that knows no heap --------------------- */

struct model {
    bool watched;
    unsigned holds;
    int64_t used_ms, timeout_ms, not_before_ms;
};

static struct model models[ENTRIES];
static struct reaper_entry entries[ENTRIES];
static bool refusing;
static uint64_t seed;

static int64_t dice(int64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (int64_t)(seed % (uint64_t)below);
}

static int64_t model_due(const struct model *m)
{
    const int64_t due = m->used_ms + m->timeout_ms;

    if (!m->watched || m->holds > 0)
        return KG_NEVER;
    return due > m->not_before_ms ? due : m->not_before_ms;
}

static bool model_expire(void *arg, struct reaper_entry *e)
{
    struct model *m = &models[e - entries];

    (void)arg;
    ck_assert_int_le(model_due(m), script.now_ms);
    script.asked++;
    if (refusing)
        m->not_before_ms = script.now_ms + 1;
    else
        m->watched = false;
    return !refusing;
}

static void random_use(struct reaper_entry *e, struct model *m)
{
    const int64_t when = script.now_ms - dice(50);

    if (dice(2) || m->holds == 0) {
        reaper_hold(&r, e);
        m->holds++;
    } else {
        reaper_unhold(&r, e, when);
        m->holds--;
        m->not_before_ms = 0;
        m->used_ms = when > m->used_ms ? when : m->used_ms;
    }
}

static void random_change(struct reaper_entry *e, struct model *m)
{
    const int64_t when = script.now_ms - dice(50), timeout = dice(200);

    switch (dice(4)) {
    case 0:
        reaper_forget(&r, e);
        m->watched = false;
        return;
    case 1:
        reaper_set_timeout(&r, e, timeout);
        m->timeout_ms = timeout;
        m->not_before_ms = 0;
        return;
    default:
        reaper_touch(&r, e, when);
        if (when > m->used_ms) {
            m->used_ms = when;
            m->not_before_ms = 0;
        }
    }
}

static void random_step(void)
{
    const size_t i = (size_t)dice(ENTRIES);
    struct reaper_entry *e = &entries[i];
    struct model *m = &models[i];

    if (!m->watched) {
        *m = (struct model){true, 0, script.now_ms - dice(100), dice(200), 0};
        ck_assert_int_eq(reaper_watch(&r, e, m->used_ms, m->timeout_ms), 0);
    } else if (dice(2)) {
        random_use(e, m);
    } else {
        random_change(e, m);
    }
}

static void tick_and_compare(void)
{
    int64_t earliest = KG_NEVER;
    int due = 0;

    refusing = dice(4) == 0;
    for (int i = 0; i < ENTRIES; i++)
        due += model_due(&models[i]) <= script.now_ms;
    script.asked = 0;
    reaper_tick(&r, script.now_ms);
    ck_assert_int_eq(script.asked, due);
    for (int i = 0; i < ENTRIES; i++) {
        const int64_t model = model_due(&models[i]);

        ck_assert(entries[i].watched == models[i].watched);
        ck_assert(reaper_entry_due_ms(&entries[i]) == model);
        earliest = kg_earliest(earliest, model);
    }
    ck_assert(reaper_due_ms(&r) == earliest);
}

START_TEST(random_against_naive)
{
    int asked = 0;

    reaper_fini(&r);
    reaper_init(&r, model_expire, NULL);
    seed = 0x9e3779b97f4a7c15u;
    script.now_ms = 1000;
    for (int step = 0; step < 10000; step++) {
        random_step();
        if (dice(3) == 0)
            script.now_ms += dice(20);
        tick_and_compare();
        asked += script.asked;
    }
    ck_assert_int_gt(asked, 500); /* the dice did reach what is tested */
}
END_TEST

/* --- what it is worth --- */

START_TEST(worth_is_start_saved_per_byte_and_idle_time)
{
    const double plain = reaper_worth(60000, 1 << 20, 500);

    ck_assert_double_gt(plain, 0);
    ck_assert_double_lt(reaper_worth(60001, 1 << 20, 500), plain); /* longer idle */
    ck_assert_double_lt(reaper_worth(60000, (1 << 20) + 1, 500), plain);
    ck_assert_double_lt(reaper_worth(60000, 1 << 20, 499), plain);
    ck_assert_double_eq_tol(reaper_worth(60000, 2 << 20, 1001), plain, plain * 1e-12);
    ck_assert_double_eq_tol(reaper_worth(121000, 1 << 20, 1001), plain, plain * 1e-12);
    ck_assert_double_eq_tol(reaper_worth(0, 1, 999), 1, 1e-12);
}
END_TEST

START_TEST(worth_at_the_ends_of_its_range)
{
    const int64_t year_ms = (int64_t)365 * 24 * 3600 * 1000;

    ck_assert_double_gt(reaper_worth(0, 1, 0), 0); /* a start not known is one that is cheap */
    ck_assert_double_eq(reaper_worth(0, 0, 500), 0);
    ck_assert_double_eq(reaper_worth(0, -1, 500), 0);
    ck_assert_double_gt(reaper_worth(year_ms, (int64_t)1 << 50, 0), 0);
    ck_assert_double_lt(reaper_worth(year_ms, (int64_t)1 << 50, 0),
                        reaper_worth(year_ms - 1, (int64_t)1 << 50, 0));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("reaper");
    TCase *t = tcase_create("all");
    SRunner *runner = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, due_at_n_minus_1_n_n_plus_1);
    tcase_add_test(t, all_that_are_due_in_order);
    tcase_add_test(t, held_over_its_time);
    tcase_add_test(t, touch_only_moves_later);
    tcase_add_test(t, timeouts_change_while_the_clock_is_kept);
    tcase_add_test(t, refused_without_a_use_is_asked_again_later);
    tcase_add_test(t, refused_because_a_use_began);
    tcase_add_test(t, refused_because_of_a_late_report);
    tcase_add_test(t, use_told_after_the_refusal);
    tcase_add_test(t, callee_forgets_and_frees);
    tcase_add_test(t, watching_anew_inside_expire_ends);
    tcase_add_test(t, telling_of_what_is_not_watched_has_no_effect);
    tcase_add_test(t, held_entries_keep_their_room);
    tcase_add_test(t, no_memory_means_not_watched);
    tcase_add_test(t, random_against_naive);
    tcase_add_test(t, worth_is_start_saved_per_byte_and_idle_time);
    tcase_add_test(t, worth_at_the_ends_of_its_range);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
