/* SPDX-License-Identifier: Apache-2.0 */
/* What habits learn, and the plans that follow. The difficulty under test: to decide soundly with
 * little known, with clocks that are set, and with records that anything may have been written
 * into. */
#include "base/clock.h"
#include "base/limits.h"
#include "reaper/habit.h"
#include <check.h>
#include <stdlib.h>

#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define MONDAY INT64_C(1767571200000) /* 2026-01-05, midnight */

static struct habits all;
static struct habit h;
static int64_t end_ms; /* of the last use */
static const struct habit_goal usual = {.idle_min_ms = MINUTE, .idle_max_ms = HOUR, .goal = 0.5};

static void setup(void)
{
    habits_init(&all);
    habit_init(&h);
    end_ms = 0;
}

static void use(int64_t start_ms, int64_t takes_ms)
{
    if (end_ms)
        habit_arrival(&all, &h, start_ms, start_ms - end_ms);
    end_ms = start_ms + takes_ms;
}

static struct habit_plan plan_at(const struct habit_goal *goal, int64_t idle_ms)
{
    struct habit_plan plan;

    habit_plan(&all, &h, goal, end_ms + idle_ms, idle_ms, &plan);
    ck_assert_int_ge(plan.keep_ms, goal->idle_min_ms);
    ck_assert_int_le(plan.keep_ms, goal->idle_max_ms);
    ck_assert_uint_gt(strlen(plan.why), 0);
    if (plan.pause_ms != KG_NEVER) {
        ck_assert(goal->pause);
        ck_assert_int_ge(plan.pause_ms, goal->idle_min_ms);
        ck_assert_int_lt(plan.pause_ms, plan.keep_ms);
    }
    if (plan.wake_after_ms != KG_NEVER) {
        ck_assert_int_gt(plan.wake_after_ms, plan.keep_ms);
        ck_assert_int_ge(plan.wake_keep_ms, goal->idle_min_ms);
        ck_assert_int_le(plan.wake_keep_ms, goal->idle_max_ms);
    }
    return plan;
}

/* What follows when nobody comes: asked at the end of use, and again when that is due. */
static struct habit_plan plan_removal(const struct habit_goal *goal)
{
    int64_t idle_ms = plan_at(goal, 0).keep_ms;

    habit_idle(&all, &h, end_ms + idle_ms, idle_ms);
    return plan_at(goal, idle_ms);
}

static unsigned random_below(unsigned n)
{
    static uint32_t state = 1;

    state = state * 1664525u + 1013904223u;
    return (state >> 8) % n;
}

/* --- the fallback and the bounds --- */

START_TEST(five_minutes_while_it_knows_too_little)
{
    struct habit_plan plan;

    use(MONDAY, SECOND);
    plan = plan_at(&usual, 0);
    ck_assert_int_eq(plan.keep_ms, 5 * MINUTE);
    ck_assert_int_eq(plan.wake_after_ms, KG_NEVER);
    ck_assert_ptr_nonnull(strstr(plan.why, "five minutes"));
    use(MONDAY + 7 * MINUTE, SECOND);
    ck_assert_int_eq(plan_removal(&usual).keep_ms, 5 * MINUTE);
    for (int i = 0; i < 50; i++) /* within a minute: many, and yet nothing to learn from */
        use(end_ms + 200, 10);
    ck_assert_uint_eq(h.known, 51);
    ck_assert_int_eq(plan_at(&usual, 0).keep_ms, 5 * MINUTE);
}
END_TEST

START_TEST(the_fallback_keeps_the_bounds_too)
{
    const struct habit_goal low = {.idle_min_ms = 0, .idle_max_ms = 2 * SECOND, .goal = 0.5};
    const struct habit_goal high = {.idle_min_ms = HOUR, .idle_max_ms = HOUR, .goal = 0.5};

    use(MONDAY, SECOND);
    ck_assert_int_eq(plan_at(&low, 0).keep_ms, 2 * SECOND);
    ck_assert_int_eq(plan_at(&high, 0).keep_ms, HOUR);
}
END_TEST

START_TEST(others_help_who_is_new)
{
    struct habit own;

    for (int i = 0; i < 200; i++)
        use(MONDAY + i * 20 * MINUTE, SECOND);
    own = h;
    habit_init(&h);
    use(end_ms + 20 * MINUTE, SECOND);
    habit_init(&h);
    ck_assert_ptr_null(strstr(plan_at(&usual, 0).why, "too little"));
    h = own;
}
END_TEST

/* Anything at all, in any order: bounds hold (plan_at checks), and nothing overflows. */
START_TEST(bounds_hold_whatever_comes)
{
    static const int64_t odd[] = {INT64_MIN,     -1,       0, 1, MINUTE, DAY, MONDAY,
                                  INT64_MAX / 2, INT64_MAX};
    struct habit_plan plan;

    for (int i = 0; i < 600; i++) {
        const struct habit_goal goal = {
            .idle_min_ms = random_below(2) ? 0 : (int64_t)random_below(7200) * SECOND,
            .idle_max_ms = 2 * HOUR + (int64_t)random_below(200) * HOUR,
            .start_ms = random_below(100000),
            .goal = random_below(11) / 10.0,
            .pause = random_below(2),
        };
        use(end_ms + random_below(1u << random_below(23)), random_below(5 * 60000));
        plan_at(&goal, random_below(2) ? 0 : (int64_t)random_below(100000) * SECOND);
        if (random_below(50) == 0)
            habit_arrival(&all, &h, odd[random_below(9)], odd[random_below(9)]);
        if (random_below(50) == 0)
            habit_idle(&all, &h, odd[random_below(9)], odd[random_below(9)]);
    }
    for (int i = 0; i < 81; i++) {
        habit_plan(&all, &h, &usual, odd[i / 9], odd[i % 9], &plan);
        ck_assert(plan.keep_ms >= MINUTE && plan.keep_ms <= HOUR);
    }
}
END_TEST

/* --- what is learnt --- */

/* Used every 15 minutes from some second on: soon it is kept for little and there shortly before.
 */
START_TEST(a_timer_is_learnt_and_woken_for)
{
    for (int i = 0; i < 20; i++)
        use(MONDAY + 37 * SECOND + i * 15 * MINUTE + random_below(2000), 400);
    ck_assert_int_le(plan_at(&usual, 0).keep_ms, 3 * MINUTE);
    struct habit_plan plan = plan_removal(&usual);
    ck_assert_int_gt(plan.wake_after_ms, 13 * MINUTE);
    ck_assert_int_lt(plan.wake_after_ms, 15 * MINUTE - 4 * SECOND);
    ck_assert_int_gt(plan.wake_after_ms + plan.wake_keep_ms, 15 * MINUTE);
}
END_TEST

START_TEST(what_starts_slowly_is_woken_earlier)
{
    struct habit_goal slow = usual;

    slow.start_ms = 20 * SECOND;
    for (int i = 0; i < 20; i++)
        use(MONDAY + i * 15 * MINUTE, 400);
    ck_assert_int_eq(plan_removal(&usual).wake_after_ms - plan_removal(&slow).wake_after_ms,
                     40 * SECOND);
}
END_TEST

START_TEST(a_daily_job_is_woken_for)
{
    for (int day = 0; day < 6; day++)
        use(MONDAY + day * DAY + 3 * HOUR + 7 * SECOND, 20 * SECOND);
    struct habit_plan plan = plan_removal(&usual);
    ck_assert_int_lt(plan.wake_after_ms, DAY - 20 * SECOND);
    ck_assert_int_gt(plan.wake_after_ms, DAY - 10 * MINUTE);
}
END_TEST

/* Nine to five, Monday to Friday: there about nine, gone at night; from Friday until Monday. */
START_TEST(office_hours_are_learnt)
{
    for (int day = 0; day < 26; day++) {
        const int64_t midnight = MONDAY + day * DAY;

        for (int64_t at = midnight + 9 * HOUR + random_below(4 * 60000);
             day % 7 < 5 && at < midnight + 17 * HOUR; at += MINUTE + random_below(5 * 60000))
            use(at, 2 * SECOND);
        if (day < 21 || day % 7 >= 5)
            continue;
        struct habit_plan plan = plan_removal(&usual);
        const int64_t nine = midnight + 9 * HOUR + (day % 7 < 4 ? 1 : 3) * DAY;
        ck_assert_int_lt(plan.keep_ms, 30 * MINUTE);
        ck_assert_int_gt(end_ms + plan.wake_after_ms, nine - 15 * MINUTE);
        ck_assert_int_lt(end_ms + plan.wake_after_ms, nine + 5 * MINUTE);
    }
}
END_TEST

START_TEST(what_nobody_comes_back_to_is_not_woken_for)
{
    for (int i = 0; i < 30; i++)
        use(MONDAY + i * (2 + random_below(3)) * MINUTE / 2, SECOND);
    habit_idle(&all, &h, end_ms + 9 * DAY, 9 * DAY);
    ck_assert_int_eq(plan_at(&usual, 9 * DAY).wake_after_ms, KG_NEVER);
    ck_assert_int_le(plan_at(&usual, 9 * DAY).keep_ms, 9 * DAY);
}
END_TEST

/* Nothing is to be kept: neither until the minute is over, nor again later, though it is known
 * when.
 */
START_TEST(what_may_not_be_kept_is_not_woken_for)
{
    const struct habit_goal none = {.goal = 0.5};

    for (int i = 0; i < 20; i++)
        use(MONDAY + i * 15 * MINUTE, 60 * SECOND); /* ends with the minute */
    ck_assert_int_eq(plan_at(&none, 0).keep_ms, 0);
    ck_assert_int_eq(plan_at(&none, 0).wake_after_ms, KG_NEVER);
    ck_assert_int_ne(plan_removal(&usual).wake_after_ms, KG_NEVER);
}
END_TEST

START_TEST(a_plan_says_which_bound_it_met)
{
    for (int i = 0; i < 20; i++)
        use(MONDAY + i * 15 * MINUTE, MINUTE);
    ck_assert_ptr_nonnull(strstr(plan_at(&usual, 0).why, "at least idle_min"));
    const struct habit_goal short_one = {.idle_min_ms = 0, .idle_max_ms = SECOND, .goal = 1};
    ck_assert_ptr_nonnull(strstr(plan_at(&short_one, 0).why, "at most idle_max"));
}
END_TEST

START_TEST(a_chance_is_one_at_any_time)
{
    for (int i = 0; i < 20; i++)
        use(MONDAY + i * 15 * MINUTE, SECOND);
    for (int64_t after = 0; after < 100; after++) {
        float chance = habit_chance(&all, &h, end_ms / MINUTE, end_ms / MINUTE + after);
        ck_assert(chance >= 0 && chance <= 1);
    }
}
END_TEST

/* --- the goal, and freezing --- */

START_TEST(a_higher_goal_keeps_for_longer)
{
    struct habit_goal goal = {.idle_min_ms = 0, .idle_max_ms = 8 * HOUR};
    int64_t before_ms = -1, first_ms = 0;

    for (int64_t i = 0, at = MONDAY; i < 300; i++, at += MINUTE + random_below(40 * 60000))
        use(at, SECOND);
    for (int i = 0; i <= 10; i++) {
        goal.goal = i / 10.0;
        int64_t keep_ms = plan_at(&goal, 0).keep_ms;
        ck_assert_int_ge(keep_ms, before_ms);
        before_ms = keep_ms;
        first_ms = i == 0 ? keep_ms : first_ms;
    }
    ck_assert_int_gt(before_ms, first_ms);
}
END_TEST

START_TEST(frozen_it_is_kept_for_longer)
{
    const struct habit_goal running = {.idle_max_ms = 8 * HOUR, .goal = 0.5};
    struct habit_goal pausing = running;

    pausing.pause = true;
    for (int64_t i = 0, at = MONDAY; i < 100; i++, at += MINUTE + random_below(12 * 60000))
        use(at, SECOND);
    struct habit_plan with = plan_at(&pausing, 0), without = plan_at(&running, 0);
    ck_assert_int_eq(without.pause_ms, KG_NEVER);
    ck_assert_int_eq(with.pause_ms, without.keep_ms);
    ck_assert_int_gt(with.keep_ms, without.keep_ms);
}
END_TEST

/* --- clocks --- */

START_TEST(a_clock_that_is_set_does_not_spoil_it)
{
    for (int i = 0; i < 20; i++)
        use(MONDAY + i * 15 * MINUTE, 400);
    habit_arrival(&all, &h, SECOND, 15 * MINUTE);             /* back to 1970 */
    habit_arrival(&all, &h, MONDAY + 400 * DAY, 15 * MINUTE); /* and far ahead */
    end_ms = MONDAY + 400 * DAY + 400;
    for (int i = 1; i < 8; i++)
        use(MONDAY + 400 * DAY + i * 15 * MINUTE, 400);
    struct habit_plan plan = plan_removal(&usual);
    ck_assert_int_gt(plan.wake_after_ms, 10 * MINUTE);
    ck_assert_int_lt(plan.wake_after_ms, 15 * MINUTE);
}
END_TEST

/* --- saving --- */

static struct kg_buf saved, saved_all;

static void learn_and_save(void)
{
    for (int64_t i = 0, at = MONDAY; i < 300; i++, at += MINUTE + random_below(40 * 60000))
        use(at, SECOND);
    kg_buf_init(&saved, 64 * 1024);
    kg_buf_init(&saved_all, 64 * 1024);
    habit_save(&h, &saved);
    habits_save(&all, &saved_all);
    ck_assert(!saved.error && !saved_all.error);
}

/* As much as a record can hold, of what repeats least. */
START_TEST(a_full_record_fits)
{
    struct kg_buf one, shared;

    for (int i = 0; i < 30000; i++)
        use(end_ms + 1 + random_below(1u << (10 + random_below(20))), random_below(60000));
    kg_buf_init(&one, KG_MAX_HABIT_BYTES);
    kg_buf_init(&shared, KG_MAX_HABIT_BYTES);
    habit_save(&h, &one);
    habits_save(&all, &shared);
    ck_assert(!one.error && !shared.error);
    ck_assert_uint_gt(one.len, 1000);
    kg_buf_fini(&one);
    kg_buf_fini(&shared);
}
END_TEST

static void forget_saved(void)
{
    kg_buf_fini(&saved);
    kg_buf_fini(&saved_all);
}

static void check_printable(const struct kg_buf *b)
{
    for (size_t i = 0; i < b->len; i++)
        ck_assert(b->data[i] >= ' ' && b->data[i] <= '~');
}

START_TEST(what_was_learnt_is_saved_and_loaded)
{
    struct habit_plan before, after;
    int64_t at_ms;

    learn_and_save();
    check_printable(&saved);
    check_printable(&saved_all);
    before = plan_removal(&usual);
    at_ms = end_ms;
    setup();
    ck_assert_int_eq(habits_load(&all, kg_buf_str(&saved_all)), 0);
    ck_assert_int_eq(habit_load(&h, kg_buf_str(&saved)), 0);
    ck_assert_uint_eq(h.known, 299);
    end_ms = at_ms;
    after = plan_removal(&usual);
    ck_assert_int_eq(after.keep_ms, before.keep_ms);
    ck_assert_int_eq(after.wake_after_ms, before.wake_after_ms);
    ck_assert_int_eq(after.wake_keep_ms, before.wake_keep_ms);
    ck_assert_str_eq(after.why, before.why);
    forget_saved();
}
END_TEST

static int load_either(const char *text, size_t n)
{
    const struct habit old = h;
    const struct kg_str s = {text, n};
    int rc = habit_load(&h, s), rc_all;

    if (rc != 0) {
        ck_assert_int_eq(rc, -3);
        ck_assert_mem_eq(&h, &old, sizeof h);
    }
    rc_all = habits_load(&all, s);
    return rc == 0 || rc_all == 0 ? 0 : rc;
}

START_TEST(garbage_is_refused_and_changes_nothing)
{
    char *text;

    learn_and_save();
    ck_assert_int_ne(load_either("", 0), 0);
    ck_assert_int_ne(load_either("habit1", 6), 0);
    ck_assert_int_ne(load_either("habit0 5", 8), 0);
    ck_assert_int_ne(load_either("habit1 0123456789abcdef zff", 27), 0);
    ck_assert_int_ne(load_either("habit1 0123456789abcdef z00z00z00", 33), 0);
    ck_assert_int_ne(load_either("habit1 0123456789abcdef \0\0\0\0", 28), 0);
    for (size_t n = 0; n < saved.len; n++) /* cut anywhere */
        ck_assert_int_ne(load_either(saved.data, n), 0);
    text = malloc(saved.len + 1);
    for (size_t i = 0; i < saved.len; i++) { /* any byte changed */
        memcpy(text, saved.data, saved.len);
        text[i] = (char)(text[i] ^ (1 << random_below(8)));
        ck_assert_int_ne(load_either(text, saved.len), 0);
    }
    memcpy(text, saved.data, saved.len);
    text[saved.len] = '0'; /* more than there should be */
    ck_assert_int_ne(load_either(text, saved.len + 1), 0);
    free(text);
    ck_assert_int_eq(load_either(saved.data, saved.len), 0);
    ck_assert_int_eq(load_either(saved_all.data, saved_all.len), 0);
    forget_saved();
}
END_TEST

/* Two zeros are written as such: in a run they would be shorter than what is written of them. */
START_TEST(a_record_has_one_form)
{
    struct habit odd = h;
    struct kg_buf text;
    char *zeros;

    odd.gap[0] = odd.gap[2] = 0x0101;
    odd.gap[1] = 0;
    kg_buf_init(&text, 64 * 1024);
    habit_save(&odd, &text);
    ck_assert_int_eq(habit_load(&h, kg_buf_str(&text)), 0);
    kg_buf_append(&text, "", 1);
    zeros = strstr(text.data, "010100000101");
    ck_assert_ptr_nonnull(zeros);
    memcpy(zeros + 4, "z02", 3);
    memmove(zeros + 7, zeros + 8, strlen(zeros + 8) + 1);
    ck_assert_int_ne(habit_load(&h, kg_str_of(text.data)), 0);
    kg_buf_fini(&text);
}
END_TEST

/* A right sum over numbers that habit.c could not have written. */
START_TEST(impossible_records_are_refused)
{
    static struct habits bad_all, loaded_all;
    struct habit bad = h, loaded = h;
    struct kg_buf text;

    kg_buf_init(&text, 64 * 1024);
    for (int i = 0; i < 4; i++) {
        bad = h;
        bad.first = i == 0 ? -1 : h.first;
        bad.next = i == 1 ? h.first - 1 : i == 2 ? HABIT_LAST_MINUTE + INT64_C(1) : h.next;
        bad.form = i == 3 ? HABIT_FORM + 1 : HABIT_FORM;
        kg_buf_clear(&text);
        habit_save(&bad, &text);
        ck_assert_int_ne(habit_load(&loaded, kg_buf_str(&text)), 0);
    }
    for (int i = 0; i < 6; i++) {
        habits_init(&bad_all);
        float *place[] = {&bad_all.weight[0][0],      &bad_all.cell[1][2].chance,
                          &bad_all.cell[4][0].seen,   &bad_all.weight[7][5],
                          &bad_all.cell[2][3].chance, &bad_all.cell[0][1].seen};
        *place[i] = i > 3 ? 1000 : i % 2 ? strtof("nan", NULL) : -1000;
        kg_buf_clear(&text);
        habits_save(&bad_all, &text);
        ck_assert_int_ne(habits_load(&loaded_all, kg_buf_str(&text)), 0);
    }
    habits_init(&bad_all);
    bad_all.form++;
    kg_buf_clear(&text);
    habits_save(&bad_all, &text);
    ck_assert_int_ne(habits_load(&loaded_all, kg_buf_str(&text)), 0);
    kg_buf_fini(&text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("habit");
    TCase *t = tcase_create("habit");
    SRunner *runner;
    int failed;

    tcase_add_checked_fixture(t, setup, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, five_minutes_while_it_knows_too_little);
    tcase_add_test(t, the_fallback_keeps_the_bounds_too);
    tcase_add_test(t, others_help_who_is_new);
    tcase_add_test(t, bounds_hold_whatever_comes);
    tcase_add_test(t, a_timer_is_learnt_and_woken_for);
    tcase_add_test(t, what_starts_slowly_is_woken_earlier);
    tcase_add_test(t, a_daily_job_is_woken_for);
    tcase_add_test(t, office_hours_are_learnt);
    tcase_add_test(t, what_nobody_comes_back_to_is_not_woken_for);
    tcase_add_test(t, what_may_not_be_kept_is_not_woken_for);
    tcase_add_test(t, a_plan_says_which_bound_it_met);
    tcase_add_test(t, a_chance_is_one_at_any_time);
    tcase_add_test(t, a_higher_goal_keeps_for_longer);
    tcase_add_test(t, frozen_it_is_kept_for_longer);
    tcase_add_test(t, a_clock_that_is_set_does_not_spoil_it);
    tcase_add_test(t, what_was_learnt_is_saved_and_loaded);
    tcase_add_test(t, a_full_record_fits);
    tcase_add_test(t, garbage_is_refused_and_changes_nothing);
    tcase_add_test(t, a_record_has_one_form);
    tcase_add_test(t, impossible_records_are_refused);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
